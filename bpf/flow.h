/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The life of a connection in the tables: its two halves, their shared state, its place in the
 * counts of its node. The MG_TO_NODE half owns the state; the other repeats its flags.
 */
#ifndef BPF_FLOW_H
#define BPF_FLOW_H

#include "nat.h"

static __always_inline struct mg_node *flow_node(__u32 slot)
{
	return bpf_map_lookup_elem(&mg_nodes, &slot);
}

/* The tuple under which the packets of the other direction arrive. */
static __always_inline void flow_peer_key(const struct mg_flow *flow, struct mg_tuple *key)
{
	__builtin_memcpy(key->saddr, flow->out.daddr, 16);
	__builtin_memcpy(key->daddr, flow->out.saddr, 16);
	key->sport_be = flow->out.dport_be;
	key->dport_be = flow->out.sport_be;
}

/* From the owner under `key`, the half for the node's packets, and the tuple they arrive with. */
static __always_inline void flow_invert(const struct mg_tuple *key, const struct mg_flow *owner,
					struct mg_tuple *peer_key, struct mg_flow *peer)
{
	*peer = *owner;
	peer->half = MG_TO_CLIENT;
	peer->flags &= MG_FIN_CLIENT | MG_FIN_NODE | MG_RESET;
	flow_peer_key(owner, peer_key);
	__builtin_memcpy(peer->out.saddr, key->daddr, 16);
	__builtin_memcpy(peer->out.daddr, key->saddr, 16);
	peer->out.sport_be = key->dport_be;
	peer->out.dport_be = key->sport_be;
	nat_prepare(peer_key, peer);
}

static __always_inline int flow_closed(__u32 flags)
{
	const __u32 both = MG_FIN_CLIENT | MG_FIN_NODE;

	return (flags & MG_RESET) || (flags & both) == both;
}

/* Gives the connection's place on its node back, once. */
static __always_inline void flow_end(struct mg_flow *owner)
{
	__u32 before = __sync_fetch_and_or(&owner->flags, MG_ENDED);
	struct mg_node *node = flow_node(owner->slot);

	if ((before & MG_ENDED) || !node || node->generation != owner->generation)
		return;
	count_down(&node->connections);
	if (before & MG_BUSY)
		count_down(&node->busy);
}

/* Takes both halves out. `key` is the tuple that `flow` was found under. */
static __always_inline void flow_delete(const struct mg_tuple *key, struct mg_flow *flow)
{
	struct mg_tuple peer_key;
	struct mg_flow *owner = flow;

	flow_peer_key(flow, &peer_key);
	if (flow->half == MG_TO_CLIENT)
		owner = bpf_map_lookup_elem(&mg_flows, &peer_key);
	if (owner)
		flow_end(owner);
	bpf_map_delete_elem(&mg_flows, &peer_key);
	bpf_map_delete_elem(&mg_flows, key);
}

/* A FIN or RST passed: both halves learn it, and a closed connection gives its place back. */
static __always_inline void flow_note_end(struct pkt *pkt, struct mg_flow *flow)
{
	__u32 flag = flow->half == MG_TO_NODE ? MG_FIN_CLIENT : MG_FIN_NODE;
	struct mg_flow *peer, *owner;
	struct mg_tuple peer_key;
	__u32 flags;

	if (pkt->flags & TCP_RST)
		flag = MG_RESET;
	flags = __sync_fetch_and_or(&flow->flags, flag) | flag;
	flow_peer_key(flow, &peer_key);
	peer = bpf_map_lookup_elem(&mg_flows, &peer_key);
	if (peer)
		flags |= __sync_fetch_and_or(&peer->flags, flag);
	owner = flow->half == MG_TO_NODE ? flow : peer;
	if (owner && flow_closed(flags))
		flow_end(owner);
}

/* The client's payload makes the connection busy until the sweep sees the answer fall silent. */
static __always_inline void flow_note_busy(struct mg_flow *flow, struct mg_node *node)
{
	if (flow->flags & (MG_BUSY | MG_ENDED))
		return;
	if (!(__sync_fetch_and_or(&flow->flags, MG_BUSY) & MG_BUSY))
		__sync_fetch_and_add(&node->busy, 1);
}

static __always_inline int mac_equal(const __u8 *a, const __u8 *b)
{
	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]) |
		 (a[5] ^ b[5]));
}

/* Where the segment came from is the way back. 0: the frame is too short to say. */
static __always_inline int flow_way_back(struct pkt *pkt, struct mg_hop *hop)
{
	struct ethhdr *eth = pkt->data;

	if ((void *)(eth + 1) > pkt->data_end)
		return 0;
	__builtin_memcpy(hop->dst_mac, eth->h_source, 6);
	__builtin_memcpy(hop->src_mac, eth->h_dest, 6);
	hop->ifindex = pkt->ifindex;
	return 1;
}

/* The client is reached another way than before (a new MAC, another interface): both halves learn
 * it. */
static __always_inline void flow_follow_client(struct pkt *pkt, struct mg_flow *owner)
{
	struct ethhdr *eth = pkt->data;
	struct mg_tuple peer_key;
	struct mg_flow *peer;

	if ((void *)(eth + 1) > pkt->data_end)
		return;
	if (pkt->ifindex == owner->hop.ifindex && mac_equal(eth->h_source, owner->hop.dst_mac))
		return;
	if (!flow_way_back(pkt, &owner->hop))
		return;
	flow_peer_key(owner, &peer_key);
	peer = bpf_map_lookup_elem(&mg_flows, &peer_key);
	if (peer)
		peer->hop = owner->hop;
}

/*
 * Puts the completed handshake s->owner.flow into the flow table: the owner first, so that the
 * sweep never sees a half without its owner. 0, or -1 when the table is full (nothing is left in it
 * then).
 */
static __always_inline int flow_insert(const struct mg_tuple *key, struct mg_scratch *s)
{
	if (bpf_map_update_elem(&mg_flows, key, &s->owner.flow, BPF_NOEXIST))
		return -1;
	flow_invert(key, &s->owner.flow, &s->peer_key, &s->peer.flow);
	if (bpf_map_update_elem(&mg_flows, &s->peer_key, &s->peer.flow, BPF_NOEXIST)) {
		bpf_map_delete_elem(&mg_flows, key);
		return -1;
	}
	return 0;
}

#endif
