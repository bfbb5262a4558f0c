/* SPDX-License-Identifier: MIT */
/*
 * The fallback listener: takes, on every persona port of the plan, the connections that no kernel
 * steers (no room, no datapath, sockets of the gateway itself), chooses a node as the kernel would,
 * and relays. Nobody up: reset at once. All full: a place in the queue, first come first served,
 * for queue_ms at most. Owns listeners, relays and view.
 */
#ifndef PROXY_FALLBACK_H
#define PROXY_FALLBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "core/plan.h"

#define FALLBACK_QUEUE_MAX  256
#define FALLBACK_CONNECT_MS 1000

/* Why a client was refused. X(NAME, "what happened") */
#define FALLBACK_REFUSALS(X) \
	X(NOBODY, "no node takes connections") \
	X(UNREACHABLE, "every node refused or did not answer") \
	X(QUEUE_FULL, "no room, and the queue is full") \
	X(QUEUE_TIMEOUT, "no room within queue_ms") \
	X(NO_PERSONA, "the port left the plan") \
	X(LOCAL, "out of sockets or memory here") \
	X(STOPPING, "stopping")

enum fallback_refusal {
#define X(name, text) FALLBACK_##name,
	FALLBACK_REFUSALS(X)
#undef X
		FALLBACK_REFUSAL_COUNT
};

struct fallback_counts {
	uint64_t accepted, relayed, complete, client_broke, node_broke;
	uint64_t left;	  /* clients that left the queue */
	uint64_t retried; /* attempts after one that failed */
	uint64_t refused[FALLBACK_REFUSAL_COUNT];
	size_t open, busy, queued; /* now */
	size_t listeners;
};

struct fallback;

struct fallback_events {
	/* fallback_report() would say something new. */
	void (*on_busy)(void *arg);
	/*
	 * Get the kernel's counts of now: fallback_load(), then fallback_fresh() with the ticket
	 * that is returned. 0: not possible. NULL: never.
	 */
	uint32_t (*refresh)(void *arg);
};

/*
 * `max_relays`: above it peers wait in the backlog (each relay takes two descriptors). NULL with
 * errno.
 */
struct fallback *fallback_new(uv_loop_t *loop, size_t max_relays,
			      const struct fallback_events *events, void *arg);

/* Follows a new plan: opens and closes ports by difference, relays go on. Takes `plan`, also when
 * it fails. 0 or -errno. */
int fallback_plan(struct fallback *fallback, struct plan *plan);

/* What the kernel counts: pairs[i] = {busy, connections} of endpoint i of the last plan. */
void fallback_load(struct fallback *fallback, const uint32_t (*pairs)[2], size_t count);

/* The counts are of the time when `ticket` was given, or later. */
void fallback_fresh(struct fallback *fallback, uint32_t ticket);

/* The body of POST /v1/load; false before the first plan. */
bool fallback_report(const struct fallback *fallback, struct buf *out);

const struct fallback_counts *fallback_counts(const struct fallback *fallback);

/* No new connections; those that wait are refused, those that run go on. */
void fallback_stop(struct fallback *fallback);

/* Resets what is left; the memory goes when the loop has closed the handles. */
void fallback_free(struct fallback *fallback);

#endif
