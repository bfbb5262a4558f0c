/* SPDX-License-Identifier: MIT */
/*
 * The whole proxy: follows the controller's plan, and serves by it: the fallback listener on every
 * persona port, the HTTP router on its own. Owns the view that both choose by.
 */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct proxy;

/*
 * `control`: path of the controller's socket; `max_peers`: clients of each kind at once (each takes
 * two descriptors). NULL with errno.
 */
struct proxy *proxy_new(uv_loop_t *loop, const char *control, size_t max_peers);
/* Nobody new is served; what runs goes on. */
void proxy_stop(struct proxy *proxy);
bool proxy_busy(const struct proxy *proxy); /* does anything run that is worth waiting for? */
/* Cuts what is left, and says in the log what was done. */
void proxy_end(struct proxy *proxy);
/* When the loop has nothing left to do: the last peers look at the view until then. */
void proxy_free(struct proxy *proxy);

#endif
