/* SPDX-License-Identifier: MIT */
/*
 * Follows the controller: GET /v1/plan?follow=1 on the control socket for plans and the counts of
 * others, POST /v1/load for what we hold (docs/control-api.md). Connects again with growing pauses
 * when the controller is gone; knows nothing of what is done with a plan.
 */
#ifndef PROXY_FOLLOW_H
#define PROXY_FOLLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "core/catalog.h"
#include "core/keys.h"
#include "core/plan.h"

struct follow;

struct follow_events {
	/* All three are the callee's; `keys` is NULL when none came. */
	void (*on_plan)(void *arg, struct plan *plan, struct catalog *catalog, struct keys *keys);
	/* pairs[i] = {busy, connections} of endpoint i that are not ours: what the kernel counts,
	 * and what other proxies hold. */
	void (*on_load)(void *arg, const uint32_t (*pairs)[2], size_t count);
	/* All follow_refresh() up to this ticket are served: the counts are of now, or cannot be
	 * had. */
	void (*on_fresh)(void *arg, uint32_t ticket);
	/* Writes the body of POST /v1/load; false: nothing to say. */
	bool (*on_report)(void *arg, struct buf *body);
};

/* `control` is the path of the socket. NULL with errno. */
struct follow *follow_new(uv_loop_t *loop, const char *control, const struct follow_events *events,
			  void *arg);
/* There is something new to report: it goes out now, or 100 ms after the last. */
void follow_touch(struct follow *follow);
/* The same, and it cannot wait: it goes out within some milliseconds. */
void follow_hurry(struct follow *follow);
/*
 * Asks for the kernel's counts of now, which come as on_load, and then on_fresh with the ticket
 * that is returned. 0: not possible, what is known is all there is. At most 200 questions a second;
 * many tickets share one.
 */
uint32_t follow_refresh(struct follow *follow);
/* Frees when the loop has closed the handles. NULL is allowed. */
void follow_free(struct follow *follow);

#endif
