/* SPDX-License-Identifier: MIT */
/*
 * Which node takes a connection: the one piece of code that decides it, for the kernel, for the
 * proxy, for `megalithctl explain` and for the tests. Pure; contract §3.1.
 *
 * In each tier (the persona itself, then each persona it cascades to): among the candidates that
 * may take a connection, the lowest (busy + 1) / weight, then the fewest connections, then the
 * lowest keyed hash. Exact for tiers of up to PICK_DRAW candidates with room; of a larger tier
 * PICK_DRAW of them are drawn, from a place that `hash` decides. At most PICK_TIER candidates of a
 * tier and PICK_EXAMINE in all are looked at, so the cost of a SYN is bounded: PICK_TIER full ones
 * in a row are taken for a full tier.
 *
 * Who includes this defines pick_node() first: slot → entry of mg_nodes, NULL if there is none.
 */
#ifndef MEGALITH_PICK_H
#define MEGALITH_PICK_H

#include "abi.h"

#define PICK_DRAW    16
#define PICK_TIER    48
#define PICK_EXAMINE 100

static inline __attribute__((always_inline)) const struct mg_node *pick_node(const void *nodes,
									     __u32 slot);

enum pick_verdict { /* why a candidate may or may not take a connection */
		    PICK_OK = 0,
		    PICK_NOBODY, /* the slot is empty */
		    PICK_DOWN,
		    PICK_DRAINING,
		    PICK_WEIGHT_ZERO,
		    PICK_FULL,
		    PICK_NO_HOP, /* only where `hops` is asked for: the kernel needs a link-layer
				    address */
};

struct pick {
	__u32 slot; /* 0: none */
	__u32 tier; /* 0: the persona itself; more: cascaded */
};

static inline __attribute__((always_inline)) __u32 pick_busy(const struct mg_node *node)
{
	return node->busy + node->embryos + node->relayed;
}

static inline __attribute__((always_inline)) enum pick_verdict
pick_judge(const struct mg_node *node, int hops)
{
	if (!node || node->state == MG_NODE_FREE || node->state == MG_NODE_GONE)
		return PICK_NOBODY;
	if (node->state == MG_NODE_DRAIN)
		return PICK_DRAINING;
	if (node->state != MG_NODE_UP)
		return PICK_DOWN;
	if (node->weight == 0)
		return PICK_WEIGHT_ZERO;
	if (node->capacity && pick_busy(node) >= node->capacity)
		return PICK_FULL;
	if (hops && !node->hop.ifindex)
		return PICK_NO_HOP;
	return PICK_OK;
}

static inline __attribute__((always_inline)) __u32 pick_mix(__u32 hash, __u32 slot)
{
	__u32 h = hash ^ (slot * 0x9e3779b1u);

	h ^= h >> 16;
	h *= 0x85ebca6bu;
	h ^= h >> 13;
	return h;
}

/* What is compared, read once: the counts move under us. */
struct pick_score {
	__u64 load; /* busy + 1 */
	__u32 weight;
	__u32 connections;
	__u32 tie;
};

static inline __attribute__((always_inline)) int pick_better(const struct pick_score *a,
							     const struct pick_score *b)
{
	__u64 left = a->load * b->weight, right = b->load * a->weight;

	if (left != right)
		return left < right;
	if (a->connections != b->connections)
		return a->connections < b->connections;
	return a->tie < b->tie;
}

/* Keyed hash of a connection's addresses (the rounds of murmur3): nobody outside can choose his
 * node. */
static inline __attribute__((always_inline)) __u32 pick_hash(const struct mg_tuple *key, __u32 seed)
{
	const __u32 *words = (const __u32 *)(const void *)key;
	__u32 h = seed;

	for (__u32 i = 0; i < sizeof(*key) / sizeof(*words); i++) {
		__u32 k = words[i] * 0xcc9e2d51u;

		k = (k << 15 | k >> 17) * 0x1b873593u;
		h ^= k;
		h = (h << 13 | h >> 19) * 5 + 0xe6546b64u;
	}
	h ^= h >> 16;
	h *= 0x85ebca6bu;
	h ^= h >> 13;
	return h;
}

/*
 * Where a choice stands. In BPF it lies in a map: the verifier knows nothing of what is read back
 * from one, so all ways through the loop look the same to it and it follows one (held in registers,
 * 256 rounds cost it over a million steps). The caller gives the memory; its contents before and
 * after mean nothing.
 */
struct pick_walk {
	__u32 tier, start, step, drawn;
	struct pick_score best;
	struct pick found;
};

static inline __attribute__((always_inline)) void
pick_offer(struct pick_walk *walk, const struct mg_node *node, __u32 slot, __u32 hash)
{
	struct pick_score score = {
		.load = (__u64)pick_busy(node) + 1,
		.weight = node->weight,
		.connections = node->connections,
		.tie = pick_mix(hash, slot),
	};

	walk->drawn++;
	if (walk->found.slot && !pick_better(&score, &walk->best))
		return;
	walk->found.slot = slot;
	walk->found.tier = walk->tier;
	walk->best = score;
}

/*
 * Chooses among `row`. `list` is the candidate list (row->node, or the long row's), list_max its
 * length, a power of two (an index is masked with it: the verifier wants to see that). `hash` is a
 * keyed hash of the connection's addresses; `hops` as in pick_judge(); `avoid` a slot not to take
 * (0: none). Slot 0: nobody may take it.
 */
static inline __attribute__((always_inline)) struct pick
pick_row(const struct mg_row *row, const __u16 *list, __u32 list_max, const void *nodes, __u32 hash,
	 int hops, __u32 avoid, struct pick_walk *walk)
{
	*walk = (struct pick_walk){0};
	for (__u32 i = 0; i < PICK_EXAMINE && i < list_max + MG_TIERS_MAX; i++) {
		const struct mg_node *node;
		__u32 end, n, at;

		__asm__ volatile("" ::: "memory"); /* read *walk anew, see above */
		if (walk->tier >= row->tiers || walk->tier >= MG_TIERS_MAX)
			break;
		end = row->tier_end[walk->tier & (MG_TIERS_MAX - 1)];
		n = end - walk->start;
		if (walk->step >= n || walk->step == PICK_TIER || walk->drawn == PICK_DRAW) {
			if (walk->found.slot)
				break;
			walk->start = end;
			walk->tier++;
			walk->step = 0;
			continue;
		}
		at = hash % n + walk->step++;
		at = list[(walk->start + (at < n ? at : at - n)) & (list_max - 1)];
		node = pick_node(nodes, at);
		if (at != avoid && pick_judge(node, hops) == PICK_OK)
			pick_offer(walk, node, at, hash);
	}
	return walk->found;
}

#endif
