/* SPDX-License-Identifier: MIT */
/*
 * The fallback listener: takes, on every persona port of the plan, the connections that no kernel
 * steers (no room, no datapath, sockets of the gateway itself), chooses a node as the kernel would,
 * and relays. Nobody up: reset at once. All full: a place in the queue, first come first served,
 * for queue_ms at most. Connections to a service that speaks HTTP are handed on. Owns listeners and
 * relays; the view is its owner's.
 */
#ifndef PROXY_FALLBACK_H
#define PROXY_FALLBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "proxy/view.h"

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
	void (*on_busy)(void *arg); /* view_report() would say something new */
	/* A connection to a service that speaks HTTP: the callee's. NULL: all are relayed. */
	void (*on_http)(void *arg, uint16_t port, int fd);
	/*
	 * Get the kernel's counts of now: fallback_room(), then fallback_fresh() with the ticket
	 * that is returned. 0: not possible. NULL: never.
	 */
	uint32_t (*refresh)(void *arg);
};

/*
 * `max_relays`: above it peers wait in the backlog (each relay takes two descriptors). NULL with
 * errno.
 */
struct fallback *fallback_new(uv_loop_t *loop, struct view *view, size_t max_relays,
			      const struct fallback_events *events, void *arg);

/*
 * The view has a new plan (moved: as view_set_plan() gave it): opens and closes ports by
 * difference, relays go on.
 */
void fallback_moved(struct fallback *fallback, const size_t *moved);

/* There may be room: counts are lower, or nodes came up. */
void fallback_room(struct fallback *fallback);

/* The counts are of the time when `ticket` was given, or later. */
void fallback_fresh(struct fallback *fallback, uint32_t ticket);

const struct fallback_counts *fallback_counts(const struct fallback *fallback);

/* No new connections; those that wait are refused, those that run go on. */
void fallback_stop(struct fallback *fallback);

/* Resets what is left; the memory goes when the loop has closed the handles. */
void fallback_free(struct fallback *fallback);

#endif
