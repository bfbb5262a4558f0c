/* SPDX-License-Identifier: MIT */
/* The HTTP side of the control socket: requests in, calls of control.h, documents out
 * (docs/control-api.md). */
#ifndef CONTROL_API_H
#define CONTROL_API_H

#include "net/server.h"

/* Callbacks of net/server.h; `arg` is the struct control. */
void api_request(void *arg, struct exchange *exchange);
void api_abandoned(void *arg, struct exchange *exchange);

#endif
