/* SPDX-License-Identifier: MIT */
/* Any TCP service: it accepts a connection. Nothing is sent: unknown protocols log what they do not
 * know. */
#include "probe/engine.h"

static const struct probe_ask asks[] = {{.target = NULL, .send = NULL}};

const struct probe_engine probe_engine_tcp = {asks, 1};
