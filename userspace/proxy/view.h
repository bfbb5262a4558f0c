/* SPDX-License-Identifier: MIT */
/*
 * What the proxy knows of the farm: the last plan, what the kernel counts on each endpoint, what
 * the proxy itself holds there, and which endpoints have just refused it. Answers one question: who
 * takes this connection? Pure: time is an argument. Owns the plan.
 */
#ifndef PROXY_VIEW_H
#define PROXY_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/plan.h"

/* How long an endpoint that did not take a connection is the last to be asked. */
#define VIEW_SUSPECT_MS 2000
#define VIEW_GONE	SIZE_MAX /* an endpoint that is in the plan no more */

struct view_live {
	uint32_t kernel; /* connections that the kernel steers to it */
	uint32_t open;	 /* connections that we relay to it */
	uint64_t suspect_until_ms;
};

struct view {
	struct plan *plan;	/* NULL before the first */
	struct mg_node *nodes;	/* as choose() wants them, counts included */
	struct view_live *live; /* by endpoint */
	bool *skip;		/* scratch of view_pick(), all false in between */
};

enum view_answer {
	VIEW_TAKEN,
	VIEW_FULL,   /* nobody now, but somebody who is up has no room: worth waiting */
	VIEW_NOBODY, /* nobody is up */
};

void view_fini(struct view *view);

/*
 * Takes over `plan`. *moved (to be freed; NULL if there was no plan): for each endpoint of the old
 * plan its index in the new one, or VIEW_GONE. Counts go along. 0; or -ENOMEM: the old plan stays,
 * `plan` is still the caller's.
 */
int view_set_plan(struct view *view, struct plan *plan, size_t **moved);

/* The row that a port of the gateway belongs to; NULL: none. */
const struct plan_row *view_row(const struct view *view, uint16_t port);

/* What the kernel counts. An endpoint out of range is ignored. */
void view_set_load(struct view *view, size_t endpoint, uint32_t busy, uint32_t connections);

/* Our own connections; `by` is 1 or -1. VIEW_GONE is allowed and ignored. */
void view_count_open(struct view *view, size_t endpoint, int by);
void view_count_busy(struct view *view, size_t endpoint, int by);

/* It did not take a connection at `now_ms`. */
void view_suspect(struct view *view, size_t endpoint, uint64_t now_ms);
/* It took one. */
void view_trust(struct view *view, size_t endpoint);

/*
 * Who takes a connection of `row`: never one of tried[n_tried] (VIEW_GONE is allowed there), one
 * under suspicion only when there is nobody else. `hash` spreads ties.
 */
enum view_answer view_pick(struct view *view, const struct plan_row *row, uint32_t hash,
			   uint64_t now_ms, const size_t *tried, size_t n_tried, size_t *endpoint);

#endif
