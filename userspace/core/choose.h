/* SPDX-License-Identifier: MIT */
/*
 * Which endpoint takes a connection, for readers of the plan in userspace (proxy, explain): pick.h
 * over a plan row. Pure. Owns nothing, remembers nothing: affinity is the caller's memory, checked
 * with choose_judge().
 *
 * `nodes` is the caller's view of the endpoints: plan->n_endpoints + 1 entries, that of endpoint i
 * at nodes[choose_slot(i)], nodes[0] nobody. Each is filled by plan_fill_node() and then given its
 * live counts: busy, connections, embryos, relayed (pick.h adds busy + embryos + relayed).
 */
#ifndef CORE_CHOOSE_H
#define CORE_CHOOSE_H

#include "core/plan.h"

#define CHOOSE_NONE SIZE_MAX

static inline uint32_t choose_slot(size_t endpoint)
{
	return (uint32_t)endpoint + 1;
}

/* Why an endpoint may or may not take a connection: enum pick_verdict of pick.h, by names of our
 * own. */
enum choose_verdict {
	CHOOSE_OK = 0,
	CHOOSE_NOBODY,
	CHOOSE_DOWN,
	CHOOSE_DRAINING,
	CHOOSE_WEIGHT_ZERO,
	CHOOSE_FULL,
	CHOOSE_NO_HOP, /* kernel only: no link-layer address known */
};

/* May this endpoint take a connection now? (To stay with a remembered node: affinity, retries.) */
enum choose_verdict choose_judge(const struct mg_node *nodes, size_t endpoint);

/*
 * Endpoint that takes the next connection of `row`; CHOOSE_NONE when nobody may. *tier (may be
 * NULL): 0 the persona itself, more: cascaded. `hash` spreads ties: any well-mixed number, such as
 * a keyed hash of the client.
 */
size_t choose(const struct plan *plan, const struct plan_row *row, const struct mg_node *nodes,
	      uint32_t hash, size_t *tier);

/* The same, without the endpoints i for which skip[i] is set (plan->n_endpoints entries; NULL:
 * none): retries. */
size_t choose_except(const struct plan *plan, const struct plan_row *row,
		     const struct mg_node *nodes, uint32_t hash, const bool *skip, size_t *tier);

/* As the kernel would: endpoints without hop.ifindex are passed over too. */
size_t choose_hop(const struct plan *plan, const struct plan_row *row, const struct mg_node *nodes,
		  uint32_t hash, size_t *tier);

#endif
