/* SPDX-License-Identifier: MIT */
/*
 * What the proxy knows of the farm: the last plan, what the kernel counts on each endpoint, what
 * the proxy itself holds there, and which endpoints have just refused it. Answers one question: who
 * takes this connection, or this request? Pure: time is an argument. Owns the plan, and what came
 * with it.
 */
#ifndef PROXY_VIEW_H
#define PROXY_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "core/keys.h"
#include "core/plan.h"
#include "core/route.h"

/* How long an endpoint that did not take a connection is the last to be asked. */
#define VIEW_SUSPECT_MS 2000
/* How long it is worth waiting for one that is down by our own word: its probe is under way. */
#define VIEW_RETURN_MS 500
#define VIEW_GONE      SIZE_MAX /* an endpoint that is in the plan no more */

struct view_live {
	uint32_t kernel;	   /* connections that the kernel steers to it */
	uint32_t open;		   /* connections that we relay to it */
	uint64_t suspect_until_ms; /* it has failed us; 0 when it has taken a connection since */
	uint64_t return_until_ms;  /* the same, but that does not end it */
};

struct view {
	struct plan *plan;	 /* NULL before the first */
	struct catalog *catalog; /* NULL: there is no router */
	struct keys *keys;	 /* NULL: none, or we are not told */
	struct routes routes;	 /* of plan and catalog; only with a catalog */
	uint32_t *ids;		 /* by endpoint: the same after a reload, for sessions */
	struct mg_node *nodes;	 /* as choose() wants them, counts included */
	struct view_live *live;	 /* by endpoint */
	bool *skip;		 /* scratch of view_pick(), all false in between */
	uint64_t load_ms;	 /* when the kernel\'s counts were last heard of */
};

enum view_answer {
	VIEW_TAKEN,
	VIEW_FULL,   /* nobody now, but worth waiting: somebody has no room, or is being probed */
	VIEW_NOBODY, /* nobody is up */
};

void view_fini(struct view *view);

/*
 * Takes over `plan`, `catalog` and `keys` (the last two may be NULL). *moved (to be freed; NULL if
 * there was no plan): for each endpoint of the old plan its index in the new one, or VIEW_GONE.
 * Counts go along. 0; or -ENOMEM: the old plan stays, all three are still the caller's. Routes are
 * new then: who holds one finds it again by its name.
 */
int view_set_plan(struct view *view, struct plan *plan, struct catalog *catalog, struct keys *keys,
		  size_t **moved);

/* The row that a port of the gateway belongs to; NULL: none. */
const struct plan_row *view_row(const struct view *view, uint16_t port);

/* What the kernel counts; whoever tells it sets load_ms. An endpoint out of range is ignored. */
void view_set_load(struct view *view, size_t endpoint, uint32_t busy, uint32_t connections);

/* Our own connections; `by` is 1 or -1. VIEW_GONE is allowed and ignored. */
void view_count_open(struct view *view, size_t endpoint, int by);
void view_count_busy(struct view *view, size_t endpoint, int by);

/* It did not take a connection at `now_ms`. */
void view_suspect(struct view *view, size_t endpoint, uint64_t now_ms);
/* It took one. */
void view_trust(struct view *view, size_t endpoint);

struct view_ask {
	const struct plan_row *row;
	uint32_t hash;	  /* spreads ties; of a session: always the same */
	uint32_t engines; /* ROUTE_ENGINE bits; 0: all */
	bool sticky;	  /* the node that the hash belongs to, while it may take one */
	uint64_t now_ms;
	const size_t *tried; /* never one of these (VIEW_GONE is allowed there) */
	size_t n_tried;
};

/*
 * Who takes it: one under suspicion only when there is nobody else. The choice is pick.h's, but for
 * sticky ones: in the first tier that has somebody with room, the highest hash of session and node
 * (rendezvous hashing: a node that leaves moves only its own sessions).
 */
enum view_answer view_pick(struct view *view, const struct view_ask *ask, size_t *endpoint);

/* The first persona whose own the endpoint is, also where only others cascade to it; "" when it is
 * nobody's. */
const char *view_persona(const struct view *view, size_t endpoint);

/* Numbers that a client cannot aim at: `seed` is secret. */
uint32_t view_hash(uint32_t seed, const void *data, size_t len);

/* What POST /v1/load says of us, without its brackets: "pid", "plan_version", "busy". False before
 * the first plan. */
bool view_report(const struct view *view, struct json_writer *w);

#endif
