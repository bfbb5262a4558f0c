/* SPDX-License-Identifier: MIT */
/*
 * What the controller knows at this moment: configuration, health, the operator's overrides, what
 * the proxies hold, and the plan that follows from them. Owns all of it but the datapath. Does no
 * I/O: who changes it publishes it (control.c). Time is an argument.
 */
#ifndef CONTROL_STATE_H
#define CONTROL_STATE_H

#include "core/datapath.h"
#include "core/plan.h"
#include "core/score.h"
#include "core/tally.h"

#define STATE_RELAYS_MAX    64	 /* proxy processes */
#define STATE_RELAY_TTL_MS  3000 /* a proxy that has said nothing for so long holds nothing */
#define STATE_OVERRIDES_MAX 4096 /* also of nodes that left the configuration */

struct observation { /* what a probe found out; only read during the call */
	enum probe_reason reason;
	uint32_t rtt_us, ttfb_ms;
	char *const *models; /* NULL: not said this time */
	char *const *about;  /* of each, as in core/catalog.h; NULL: nothing */
	size_t n_models;
	char *const *loaded, *const *running; /* the same of those in memory */
	size_t n_loaded;
};

struct names { /* list NULL: the engine has never said */
	char **list;
	char **texts; /* what it says of each; an element may be NULL */
	size_t n;
};

struct known_models { /* of an endpoint */
	struct names models, loaded;
};

struct relay { /* one proxy process */
	int64_t pid;
	uint64_t seen_ms;
	uint32_t *busy; /* by endpoint; NULL: unused */
};

struct proxy_tally { /* what one proxy process has counted since it started */
	int64_t pid; /* 0: unused */
	uint64_t seen_ms;
	struct tally tally;
};

struct state {
	struct model *model;
	struct plan *plan;
	struct score *scores; /* by endpoint, as the next two */
	struct known_models *known;
	uint32_t *relayed; /* sum over the proxies */
	struct override *overrides;
	size_t n_overrides;
	struct relay relays[STATE_RELAYS_MAX];
	struct proxy_tally tallies[STATE_RELAYS_MAX];
	struct tally past;	   /* of proxies whose place was needed for another */
	uint64_t version;	   /* of the plan */
	uint64_t model_version;	   /* of the first plan made from this model */
	struct datapath *datapath; /* not owned; NULL: none */
	bool datapath_current;	   /* it has a plan of this model: endpoint numbers mean the same to
				      both */
};

void state_init(struct state *state);
void state_fini(struct state *state);

/*
 * Takes over `model` and makes its first plan. Health and models of endpoints that are still there
 * (same node, service, address and port) are kept. 0, or -ENOMEM: nothing has changed, the model
 * stays the caller's.
 */
int state_model_set(struct state *state, struct model *model);

/* Makes the plan anew, with the next version. 0 or -ENOMEM (the old plan stays). */
int state_plan_make(struct state *state);

/*
 * A probe's result. What changed by it, so that followers have to be told: the endpoint went up or
 * down; it has other models than before, or others in memory. The newest of what an engine says of
 * its models is kept, but is no change: some of it is another at each question.
 */
#define STATE_TURNED 1u
#define STATE_MODELS 2u
unsigned state_note(struct state *state, size_t endpoint, const struct observation *seen);

#define STATE_MARK_INTERVALS 2 /* of probes: so long no further mark of an endpoint is believed */

/* A proxy saw the endpoint fail. True: it is down by that, so the plan must be made anew. */
bool state_mark(struct state *state, size_t endpoint, enum probe_reason why, uint64_t now_ms);
bool state_all_known(const struct state *state); /* every endpoint has been probed once */

/* The operator's override of a node, NULL when there is none. */
const struct override *state_override(const struct state *state, const char *node);
/* Weight as configured takes the override back. 0, -ENOMEM or -ENOSPC. `node` exists in the model.
 */
int state_weight_set(struct state *state, const char *node, uint32_t weight);
int state_drain_set(struct state *state, const char *node, bool drain);

/* What a proxy says it holds: n_endpoints numbers, copied. 0, -ENOMEM, or -ENOSPC: too many
 * proxies. */
int state_relay_note(struct state *state, int64_t pid, const uint32_t *busy, uint64_t now_ms);
void state_relay_expire(struct state *state, uint64_t now_ms);
size_t state_relay_count(const struct state *state);
/* Of what the proxies hold there, the part that this one (0: nobody) does not hold itself. */
uint32_t state_relayed_by_others(const struct state *state, size_t endpoint, int64_t pid);

/* Takes over the rows of `tally`. What a proxy has counted stays counted when it is gone. */
void state_tally_set(struct state *state, int64_t pid, struct tally *tally, uint64_t now_ms);
/* The sum over all proxies, to be given to tally_fini(). */
void state_tally_sum(const struct state *state, struct tally *sum);

/* Counts of the datapath, zero where there is none. */
void state_counts(const struct state *state, size_t endpoint, struct datapath_counts *counts);
/* Established connections of a node, and what the proxies hold on it. */
uint64_t state_node_connections(const struct state *state, size_t node);
/* Fills plan->n_endpoints + 1 entries as core/choose.h wants them, with the live counts. */
void state_view_fill(const struct state *state, struct mg_node *nodes);

#endif
