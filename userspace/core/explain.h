/* SPDX-License-Identifier: MIT */
/*
 * Why a node would be taken now, and each other one not: `megalithctl explain`. Pure; decides
 * nothing itself, asks choose.h, so it cannot disagree with the data paths.
 */
#ifndef CORE_EXPLAIN_H
#define CORE_EXPLAIN_H

#include "core/choose.h"

#define EXPLAIN_REASON_MAX 160

enum explain_verdict {
	EXPLAIN_TAKEN,	  /* the next connection goes there */
	EXPLAIN_POSSIBLE, /* could take it, another is better */
	EXPLAIN_PASSED,	  /* may not take one now */
};
const char *explain_verdict_name(enum explain_verdict verdict); /* "taken", "possible", "passed" */

struct explain_candidate {
	size_t endpoint; /* in the plan: node, service */
	size_t tier;	 /* row->tiers[tier].persona is the persona it is taken for */
	enum explain_verdict verdict;
	char reason[EXPLAIN_REASON_MAX]; /* one line, for the operator */
	uint32_t busy;			 /* busy + embryos + relayed, as compared */
	uint32_t capacity, connections, weight;
};

/* Number of candidates of a row: length of the array for explain_row(). */
size_t explain_count(const struct plan_row *row);

/*
 * Fills candidates[explain_count(row)], best tier first, in the order of the row. `nodes` and
 * `hash` as in choose(); `health`: plan->n_endpoints scores, for the reason a node is down, or
 * NULL; `hops`: judge as the kernel, which needs hop.ifindex. Returns the index of the candidate
 * taken, CHOOSE_NONE when nobody may.
 */
size_t explain_row(const struct plan *plan, const struct plan_row *row, const struct mg_node *nodes,
		   const struct score *health, uint32_t hash, bool hops,
		   struct explain_candidate *candidates);

#endif
