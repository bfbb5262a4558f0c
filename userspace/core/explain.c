/* SPDX-License-Identifier: MIT */
#include "core/explain.h"

#include <inttypes.h>
#include <stdio.h>

const char *explain_verdict_name(enum explain_verdict verdict)
{
	static const char *const names[] = {"taken", "possible", "passed"};

	return names[verdict];
}

size_t explain_count(const struct plan_row *row)
{
	size_t n = 0;

	for (size_t t = 0; t < row->n_tiers; t++)
		n += row->tiers[t].n_endpoints;
	return n;
}

/* What all reasons are told from. */
struct telling {
	const struct plan_row *row;
	const struct mg_node *nodes;
	const struct score *health;
	bool hops;
	size_t taken, taken_tier; /* endpoint, or CHOOSE_NONE */
};

static uint32_t busy_of(const struct mg_node *node)
{
	return node->busy + node->embryos + node->relayed;
}

static void say_down(const struct telling *t, struct explain_candidate *c)
{
	const struct score *health = t->health ? &t->health[c->endpoint] : NULL;

	if (health && !health->up)
		snprintf(c->reason, sizeof(c->reason), "%s: %s",
			 health->suspect ? "down until it is probed, a proxy says" : "down",
			 probe_reason_text(health->reason));
	else
		snprintf(c->reason, sizeof(c->reason), "down");
}

static void say_passed(const struct telling *t, struct explain_candidate *c,
		       enum choose_verdict verdict)
{
	c->verdict = EXPLAIN_PASSED;
	switch (verdict) {
	case CHOOSE_DOWN:
		say_down(t, c);
		return;
	case CHOOSE_DRAINING:
		snprintf(c->reason, sizeof(c->reason), "draining: finishes what it has");
		return;
	case CHOOSE_WEIGHT_ZERO:
		snprintf(c->reason, sizeof(c->reason), "weight 0: no new connections");
		return;
	case CHOOSE_FULL:
		snprintf(c->reason, sizeof(c->reason), "full: %" PRIu32 " of %" PRIu32 " busy",
			 c->busy, c->capacity);
		return;
	case CHOOSE_NO_HOP:
		snprintf(c->reason, sizeof(c->reason), "its link-layer address is not known yet");
		return;
	default:
		snprintf(c->reason, sizeof(c->reason), "not in service");
	}
}

static void say_taken(const struct telling *t, struct explain_candidate *c)
{
	const char *persona = t->row->tiers[c->tier].persona;

	c->verdict = EXPLAIN_TAKEN;
	if (c->tier)
		snprintf(c->reason, sizeof(c->reason),
			 "cascade to %s: nobody before it has room; the lowest load there,"
			 " (busy %" PRIu32 " + 1) / weight %" PRIu32,
			 persona, c->busy, c->weight);
	else
		snprintf(c->reason, sizeof(c->reason),
			 "the lowest load, (busy %" PRIu32 " + 1) / weight %" PRIu32, c->busy,
			 c->weight);
}

/* Same tier as the one taken: what made the difference, in the order in which pick.h looks at it.
 */
static void say_beaten(const struct telling *t, struct explain_candidate *c)
{
	const struct mg_node *best = &t->nodes[choose_slot(t->taken)];
	uint64_t mine = ((uint64_t)c->busy + 1) * best->weight;
	uint64_t its = ((uint64_t)busy_of(best) + 1) * c->weight;

	if (mine > its)
		snprintf(c->reason, sizeof(c->reason),
			 "more load, (busy %" PRIu32 " + 1) / weight %" PRIu32, c->busy, c->weight);
	else if (mine == its && c->connections > best->connections)
		snprintf(c->reason, sizeof(c->reason),
			 "the same load, more connections: %" PRIu32 " to %" PRIu32, c->connections,
			 best->connections);
	else if (mine == its && c->connections == best->connections)
		snprintf(c->reason, sizeof(c->reason),
			 "the same load and connections: such ties are spread over the clients");
	else
		snprintf(c->reason, sizeof(c->reason),
			 "not drawn: of a large persona some are compared");
}

static void say_possible(const struct telling *t, struct explain_candidate *c)
{
	c->verdict = EXPLAIN_POSSIBLE;
	if (t->taken == CHOOSE_NONE)
		snprintf(c->reason, sizeof(c->reason), "too far down the list of candidates");
	else if (c->tier == t->taken_tier)
		say_beaten(t, c);
	else if (c->tier > t->taken_tier)
		snprintf(c->reason, sizeof(c->reason),
			 "cascade to %s: only when nobody before it has room",
			 t->row->tiers[c->tier].persona);
	else
		snprintf(c->reason, sizeof(c->reason), "too far down the list of candidates");
}

static void explain_candidate(const struct telling *t, struct explain_candidate *c)
{
	const struct mg_node *node = &t->nodes[choose_slot(c->endpoint)];
	enum choose_verdict verdict = choose_judge(t->nodes, c->endpoint);

	c->busy = busy_of(node);
	c->capacity = node->capacity;
	c->connections = node->connections;
	c->weight = node->weight;
	if (verdict == CHOOSE_OK && t->hops && !node->hop.ifindex)
		verdict = CHOOSE_NO_HOP;
	if (verdict != CHOOSE_OK)
		say_passed(t, c, verdict);
	else if (c->endpoint == t->taken)
		say_taken(t, c);
	else
		say_possible(t, c);
}

size_t explain_row(const struct plan *plan, const struct plan_row *row, const struct mg_node *nodes,
		   const struct score *health, uint32_t hash, bool hops,
		   struct explain_candidate *candidates)
{
	struct telling t = {.row = row, .nodes = nodes, .health = health, .hops = hops};
	size_t n = 0, taken = CHOOSE_NONE;

	t.taken = hops ? choose_hop(plan, row, nodes, hash, &t.taken_tier)
		       : choose(plan, row, nodes, hash, &t.taken_tier);
	for (size_t tier = 0; tier < row->n_tiers; tier++) {
		for (size_t i = 0; i < row->tiers[tier].n_endpoints; i++, n++) {
			candidates[n].endpoint = row->tiers[tier].endpoints[i];
			candidates[n].tier = tier;
			explain_candidate(&t, &candidates[n]);
			if (candidates[n].verdict == EXPLAIN_TAKEN)
				taken = n;
		}
	}
	return taken;
}
