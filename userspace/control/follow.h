/* SPDX-License-Identifier: MIT */
/* Proxies that follow the plan: a line at each change, a line of loads each second
 * (docs/control-api.md). */
#ifndef CONTROL_FOLLOW_H
#define CONTROL_FOLLOW_H

#include "control/control.h"
#include "net/server.h"

#define FOLLOW_UNREAD_MAX \
	((size_t)1 << 20) /* a follower that has more than this unread is dropped */

/*
 * The member "load": what there is on each endpoint that the proxy with this pid (0: nobody) does
 * not hold itself, so that it can add its own: the kernel's counts and the other proxies'.
 */
struct json_writer;
void follow_load_write(const struct state *state, int64_t pid, struct json_writer *w);

/* {"plan": ..., "catalog": ...} and a newline; with "keys" when `keys` is not NULL. */
struct keys;
void follow_plan_write(const struct state *state, const struct keys *keys, struct buf *out);

struct follow_about {
	bool trusted; /* this one is told the keys, too */
	int64_t pid;  /* of a proxy; 0: none */
};
void follow_begin(struct control *control, struct exchange *exchange,
		  const struct follow_about *about);
void follow_plan_send(struct control *control);
void follow_load_send(struct control *control);
/* The peer of an exchange has left; it may be a follower's. */
void follow_abandoned(struct control *control, struct exchange *exchange);
/* Ends all of them. */
void follow_end(struct control *control);

#endif
