/* SPDX-License-Identifier: MIT */
/*
 * Deadlines for thousands: everything that waits for the same time stands in one line, in the order
 * in which it is due, so starting and stopping cost nothing and no timer is set. Late by up to
 * WAIT_TICK_MS. Owns no memory of those who wait.
 */
#ifndef PROXY_WAIT_H
#define PROXY_WAIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define WAIT_TICK_MS 50

/* One who waits, for one thing at a time; zeroed memory. Not "wait": macOS has a union of that
 * name. */
struct waiter {
	TAILQ_ENTRY(waiter) entry;
	struct wait_line *line; /* NULL: does not wait */
	uint64_t due_ms;
};

struct wait_line {
	TAILQ_HEAD(wait_list, waiter) list;
	uint64_t ms;
	void (*on_late)(struct waiter *wait); /* it waits no more; may start it anew */
};

void wait_line_init(struct wait_line *line, uint64_t ms, void (*on_late)(struct waiter *wait));
/* From now on, whatever it waited for before. */
void wait_start(struct waiter *wait, struct wait_line *line, uint64_t now_ms);
void wait_stop(struct waiter *wait);
/* Calls on_late for all that are due. */
void wait_line_tick(struct wait_line *line, uint64_t now_ms);

#endif
