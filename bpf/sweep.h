/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The sweep, run by the controller each second: walks both tables, removes what has expired, turns
 * busy into idle, mends half-lost pairs, and recounts every node. The packets' own counting is a
 * hint; this is the truth, but one of a moment that has passed: a slot that moved during the walk
 * is set right in a later sweep, when it holds still, or after SWEEP_PATIENCE of them. A walk
 * deletes only the entry it stands on.
 */
#ifndef BPF_SWEEP_H
#define BPF_SWEEP_H

#include "embryo.h"

#define SWEEP_PATIENCE 8

struct sweep_walk {
	struct mg_sweep *args; /* copy on our stack */
	__u32 now;
};

static __always_inline struct mg_tally *sweep_tally(__u32 slot)
{
	return bpf_map_lookup_elem(&mg_recount, &slot);
}

/* The later of the two halves' last packets is too long ago. */
static __always_inline int sweep_expired(const struct mg_flow *flow, const struct mg_flow *peer,
					 const struct sweep_walk *walk)
{
	__u32 limit = walk->args->established_ticks, silent = walk->now - flow->seen;

	if (peer && walk->now - peer->seen < silent)
		silent = walk->now - peer->seen;
	if (flow_closed(flow->flags))
		limit = walk->args->closed_ticks;
	return (int)silent >= 0 && silent > limit; /* negative: seen after the sweep began */
}

/* Busy ends when the node has answered the client's last payload and has been silent since. */
static __always_inline void sweep_busy(struct mg_flow *owner, const struct mg_flow *peer,
				       const struct sweep_walk *walk)
{
	struct mg_node *node = flow_node(owner->slot);
	__u32 silent = walk->now - peer->data;

	if (!(owner->flags & MG_BUSY) || !node || (int)(peer->data - owner->data) < 0)
		return;
	if ((int)silent <= 0 || (__u64)silent * 1000 <= (__u64)node->idle_ms * walk->args->hz)
		return;
	if (__sync_fetch_and_and(&owner->flags, ~MG_BUSY) & MG_ENDED)
		return;
	if (node->generation == owner->generation)
		count_down(&node->busy);
}

static __always_inline void sweep_owner(const struct mg_tuple *key, struct mg_flow *owner,
					struct sweep_walk *walk)
{
	struct mg_node *node = flow_node(owner->slot);
	struct mg_tuple peer_key;
	struct mg_flow *peer, half;
	struct mg_tally *tally;

	flow_peer_key(owner, &peer_key);
	peer = bpf_map_lookup_elem(&mg_flows, &peer_key);
	if (sweep_expired(owner, peer, walk)) {
		flow_end(owner);
		bpf_map_delete_elem(&mg_flows, key); /* the other half goes when it is visited */
		walk->args->expired++;
		count(MG_R_EXPIRED);
		return;
	}
	walk->args->flows++;
	if (peer) {
		sweep_busy(owner, peer, walk);
	} else { /* lost: make it again, or the node's answers go nowhere */
		flow_invert(key, owner, &peer_key, &half);
		bpf_map_update_elem(&mg_flows, &peer_key, &half, BPF_NOEXIST);
	}
	tally = sweep_tally(owner->slot);
	if (!tally || !node || node->generation != owner->generation || (owner->flags & MG_ENDED))
		return;
	tally->found.connections++;
	if (owner->flags & MG_BUSY)
		tally->found.busy++;
}

static long sweep_flow(void *map, struct mg_tuple *key, struct mg_flow *flow,
		       struct sweep_walk *walk)
{
	struct mg_tuple owner_key;

	(void)map;
	if (flow->half == MG_TO_NODE) {
		sweep_owner(key, flow, walk);
		return 0;
	}
	flow_peer_key(flow, &owner_key);
	if (!bpf_map_lookup_elem(&mg_flows, &owner_key))
		bpf_map_delete_elem(&mg_flows, key);
	return 0;
}

static __always_inline void sweep_embryo_expired(const struct mg_tuple *key,
						 const struct mg_embryo *embryo)
{
	struct mg_node *node = flow_node(embryo->flow.slot);

	if (embryo->flow.half == MG_TO_NODE) {
		count(MG_R_EMBRYO_EXPIRED);
		if (node && node->generation == embryo->flow.generation)
			count_down(&node->embryos);
	}
	bpf_map_delete_elem(&mg_embryos, key);
}

static long sweep_embryo(void *map, struct mg_tuple *key, struct mg_embryo *embryo,
			 struct sweep_walk *walk)
{
	__u32 slot = embryo->flow.slot, age = walk->now - embryo->born;
	struct mg_node *node = flow_node(slot);
	struct mg_tally *tally;

	(void)map;
	if ((int)age >= 0 && age > walk->args->embryo_ticks) {
		sweep_embryo_expired(key, embryo);
		return 0;
	}
	if (embryo->flow.half != MG_TO_NODE)
		return 0;
	walk->args->embryos++;
	tally = sweep_tally(slot);
	if (tally && node && node->generation == embryo->flow.generation)
		tally->found.embryos++;
	return 0;
}

static long sweep_begin(void *map, __u32 *slot, struct mg_node *node, struct sweep_walk *walk)
{
	struct mg_tally *tally;

	(void)map;
	(void)walk;
	if (node->state == MG_NODE_FREE)
		return 0;
	tally = sweep_tally(*slot);
	if (!tally)
		return 0;
	tally->before.connections = node->connections;
	tally->before.busy = node->busy;
	tally->before.embryos = node->embryos;
	tally->connects = node->connects;
	__builtin_memset(&tally->found, 0, sizeof(tally->found));
	return 0;
}

static __always_inline int counts_equal(const struct mg_counts *counts, const struct mg_node *node)
{
	return counts->connections == node->connections && counts->busy == node->busy &&
	       counts->embryos == node->embryos;
}

static long sweep_settle(void *map, __u32 *slot, struct mg_node *node, struct sweep_walk *walk)
{
	struct mg_tally *tally;
	int still;

	(void)map;
	(void)walk;
	if (node->state == MG_NODE_FREE)
		return 0;
	tally = sweep_tally(*slot);
	if (!tally || counts_equal(&tally->found, node)) {
		if (tally)
			tally->unsettled = 0;
		return 0;
	}
	still = counts_equal(&tally->before, node) && tally->connects == node->connects;
	if (!still && ++tally->unsettled < SWEEP_PATIENCE)
		return 0;
	tally->unsettled = 0;
	node->connections = tally->found.connections;
	node->busy = tally->found.busy;
	node->embryos = tally->found.embryos;
	return 0;
}

SEC("syscall")
int mg_sweep(struct mg_sweep *ctx)
{
	struct mg_sweep args = *ctx;
	struct sweep_walk walk = {.args = &args, .now = (__u32)bpf_jiffies64()};

	args.flows = 0;
	args.embryos = 0;
	args.expired = 0;
	bpf_for_each_map_elem(&mg_nodes, sweep_begin, &walk, 0);
	bpf_for_each_map_elem(&mg_flows, sweep_flow, &walk, 0);
	bpf_for_each_map_elem(&mg_embryos, sweep_embryo, &walk, 0);
	bpf_for_each_map_elem(&mg_nodes, sweep_settle, &walk, 0);
	*ctx = args;
	return 0;
}

#endif
