/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * Handshakes: the choice of a node and of a port for a new SYN, and what passes until the client
 * has acknowledged the node's SYN-ACK. Embryos live in a small LRU of their own.
 */
#ifndef BPF_EMBRYO_H
#define BPF_EMBRYO_H

#include "flow.h"

static inline __attribute__((always_inline)) const struct mg_node *pick_node(const void *nodes,
									     __u32 slot)
{
	(void)nodes;
	return flow_node(slot);
}

#define PORT_TRIES 8

/* Slot and tier of the choice in one word, 0 = none. Global, so that the verifier looks at it once.
 */
__attribute__((noinline)) __u32 embryo_pick(const struct mg_row *row, __u32 hash, __u32 avoid)
{
	struct mg_scratch *s = scratch();
	struct mg_long_row *list;
	struct pick pick;
	__u32 more;

	if (!row || !s)
		return 0;
	more = row->more;
	if (!more) {
		pick = pick_row(row, row->node, MG_ROW_INLINE, NULL, hash, 1, avoid, &s->walk);
		return pick.slot | pick.tier << 16;
	}
	list = bpf_map_lookup_elem(&mg_rows, &more);
	if (!list)
		return 0;
	pick = pick_row(row, list->node, MG_ROW_MAX, NULL, hash, 1, avoid, &s->walk);
	return pick.slot | pick.tier << 16;
}

static __always_inline void embryo_delete(const struct mg_tuple *key, struct mg_embryo *embryo)
{
	struct mg_node *node = flow_node(embryo->flow.slot);
	struct mg_tuple peer_key;

	flow_peer_key(&embryo->flow, &peer_key);
	if (node && node->generation == embryo->flow.generation)
		count_down(&node->embryos);
	bpf_map_delete_elem(&mg_embryos, &peer_key);
	bpf_map_delete_elem(&mg_embryos, key);
}

/*
 * Gives the connection s->owner a source port towards its node and enters both halves. Ports go
 * round in a keyed order, so the one used longest ago comes next. 0, -1 no port, -2 the table
 * refuses.
 */
static __always_inline int embryo_insert(const struct mg_tuple *key, struct mg_scratch *s,
					 struct mg_node *node)
{
	struct mg_flow *flow = &s->owner.flow;

	for (int i = 0; i < PORT_TRIES; i++) {
		__u32 n = __sync_fetch_and_add(&node->ports, 1) % snat_count;

		n = (n * snat_stride + (hash_key ^ flow->slot) % snat_count) % snat_count;
		flow->out.sport_be = bpf_htons((__u16)(snat_first + n));
		flow_peer_key(flow, &s->peer_key);
		if (bpf_map_lookup_elem(&mg_flows, &s->peer_key))
			continue;
		nat_prepare(key, flow);
		s->peer = s->owner;
		flow_invert(key, flow, &s->peer_key, &s->peer.flow);
		if (bpf_map_update_elem(&mg_embryos, &s->peer_key, &s->peer, BPF_NOEXIST))
			continue;
		if (!bpf_map_update_elem(&mg_embryos, key, &s->owner, BPF_NOEXIST))
			return 0;
		bpf_map_delete_elem(&mg_embryos, &s->peer_key);
		return -2;
	}
	return -1;
}

static __always_inline int addr_is_v4(const __u8 addr[16])
{
	const __u32 *words = (const __u32 *)addr;

	return !words[0] && !words[1] && words[2] == bpf_htonl(0xffff);
}

/* Fills s->owner for a connection to `node`, all but the source port. */
static __always_inline int embryo_fill(struct pkt *pkt, struct mg_scratch *s,
				       const struct mg_row *row, const struct mg_node *node,
				       __u32 slot)
{
	struct mg_flow *flow = &s->owner.flow;
	__u32 now = (__u32)bpf_jiffies64();

	__builtin_memset(&s->owner, 0, sizeof(s->owner));
	__builtin_memcpy(flow->out.saddr, node->snat, 16);
	__builtin_memcpy(flow->out.daddr, node->addr, 16);
	flow->out.dport_be = node->port_be;
	flow->slot = slot;
	flow->generation = node->generation;
	flow->listener = (__u16)row->listener;
	flow->v6 = pkt->v6;
	flow->seen = now;
	flow->data = now;
	s->owner.client_isn = pkt->seq;
	s->owner.born = now;
	return flow_way_back(pkt, &flow->hop);
}

/* The SYN went out long ago and the node has not said a word: it may be dead, and no probe has
 * noticed yet. */
static __always_inline int embryo_overdue(const struct mg_embryo *embryo)
{
	return embryo->answer == MG_AWAITED &&
	       (__u32)bpf_jiffies64() - embryo->born >= syn_patience;
}

/* The SYN once more, to the same node. */
static __always_inline enum act embryo_again(struct pkt *pkt, struct mg_embryo *embryo)
{
	struct mg_node *node = flow_node(embryo->flow.slot);

	if (!node || node->generation != embryo->flow.generation)
		return pkt_leave(pkt, MG_R_STALE_NODE);
	return pkt_send(pkt, &embryo->flow, &node->hop, MG_R_SYN_AGAIN);
}

/*
 * A new SYN to a persona's listener, or (`old`) one sent again because its node does not answer:
 * another node then, if there is one. What cannot be steered goes up, to the fallback listener.
 */
static __always_inline enum act embryo_new(struct pkt *pkt, const struct mg_row *row,
					   struct mg_embryo *old)
{
	__u32 avoid = old ? old->flow.slot : 0;
	__u32 picked = embryo_pick(row, pick_hash(pkt->key, hash_key), avoid),
	      slot = picked & 0xffff;
	struct mg_node *node = flow_node(slot);
	struct mg_scratch *s = scratch();
	int refused;

	if (old && slot && __sync_val_compare_and_swap(&old->answer, MG_AWAITED, MG_GIVEN_AWAY))
		slot = 0; /* answered at this very moment */
	if (old && !slot)
		return embryo_again(pkt, old);
	if (!slot || !node || !s)
		return pkt_leave(pkt, MG_R_NO_ROOM);
	if (pkt->v6 ==
	    addr_is_v4(node->addr)) /* rows hold one family; a slot may have a new owner */
		return pkt_leave(pkt, MG_R_STALE_NODE);
	if (!embryo_fill(pkt, s, row, node, slot))
		return pkt_leave(pkt, MG_R_BAD_PACKET);
	if (old)
		embryo_delete(pkt->key, old);
	refused = embryo_insert(pkt->key, s, node);
	if (refused)
		return pkt_leave(pkt, refused == -1 ? MG_R_NO_PORT : MG_R_EMBRYOS_FULL);
	__sync_fetch_and_add(&node->embryos, 1);
	return pkt_send(pkt, &s->owner.flow, &node->hop,
			old	       ? MG_R_SYN_RESTEERED
			: picked >> 16 ? MG_R_SYN_CASCADED
				       : MG_R_SYN_STEERED);
}

/* The client acknowledges the node's SYN-ACK: from now on it is a connection. */
static __always_inline enum act embryo_promote(struct pkt *pkt, struct mg_embryo *embryo,
					       struct mg_scratch *s, struct mg_node *node)
{
	struct mg_flow *flow = &s->owner.flow;
	int full;

	flow->seen = (__u32)bpf_jiffies64();
	flow->data = flow->seen;
	flow->flags |= MG_BUSY; /* the handshake's place is kept for the first question */
	full = flow_insert(pkt->key, s);
	embryo_delete(pkt->key, embryo);
	if (full)
		return pkt_leave(pkt, MG_R_FLOWS_FULL);
	__sync_fetch_and_add(&node->connections, 1);
	__sync_fetch_and_add(&node->connects, 1);
	__sync_fetch_and_add(&node->busy, 1);
	return pkt_send(pkt, flow, &node->hop, MG_R_PROMOTED);
}

static __always_inline enum act embryo_from_client(struct pkt *pkt, struct mg_embryo *embryo)
{
	struct mg_node *node = flow_node(embryo->flow.slot);
	struct mg_scratch *s = scratch();
	enum mg_reason reason = MG_R_HANDSHAKE;

	if (!node || node->generation != embryo->flow.generation || !s) {
		embryo_delete(pkt->key, embryo);
		return pkt_leave(pkt, MG_R_STALE_NODE);
	}
	s->owner = *embryo; /* the entry may be another's once it is deleted */
	if (pkt->flags & TCP_SYN)
		reason = MG_R_SYN_AGAIN;
	else if (pkt->flags & TCP_RST)
		embryo_delete(pkt->key, embryo);
	else if ((pkt->flags & TCP_ACK) && embryo->answer == MG_ANSWERED &&
		 pkt->ack == embryo->node_isn + 1)
		return embryo_promote(pkt, embryo, s, node);
	return pkt_send(pkt, &s->owner.flow, &node->hop, reason);
}

/* The half under `node_key` is still the other half of `owner`: it was not given to another node
 * meanwhile. */
static __always_inline int embryo_pair(const struct mg_embryo *owner,
				       const struct mg_tuple *node_key)
{
	const __u32 *there = (const __u32 *)owner->flow.out.daddr;
	const __u32 *here = (const __u32 *)node_key->saddr;

	return owner->flow.out.sport_be == node_key->dport_be && there[0] == here[0] &&
	       there[1] == here[1] && there[2] == here[2] && there[3] == here[3];
}

/*
 * The node's SYN-ACK. When the first one was lost, the client and the node both send again after a
 * second, in the same tick, on two CPUs: either the SYN-ACK passes and the choice stands, or the
 * SYN goes to another node and the SYN-ACK does not pass. Looked at again afterwards: the entry may
 * have been given to another in between.
 */
static __always_inline int embryo_answered(struct pkt *pkt, struct mg_embryo *owner)
{
	if (!embryo_pair(owner, pkt->key) ||
	    __sync_val_compare_and_swap(&owner->answer, MG_AWAITED, MG_ANSWERED) == MG_GIVEN_AWAY)
		return 0;
	if (!embryo_pair(owner, pkt->key)) {
		owner->answer = MG_AWAITED;
		return 0;
	}
	owner->node_isn = pkt->seq;
	return 1;
}

static __always_inline enum act embryo_from_node(struct pkt *pkt, struct mg_embryo *embryo)
{
	struct mg_scratch *s = scratch();
	enum mg_reason reason = MG_R_HANDSHAKE;
	struct mg_embryo *owner;

	if (!s)
		return pkt_leave(pkt, MG_R_UNKNOWN);
	s->peer = *embryo;
	if ((pkt->flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK)) {
		flow_peer_key(&s->peer.flow, &s->peer_key);
		owner = bpf_map_lookup_elem(&mg_embryos, &s->peer_key);
		if (!owner || !embryo_answered(pkt, owner))
			return pkt_leave(pkt, MG_R_UNKNOWN);
		reason = MG_R_SYN_ANSWERED;
	} else if (pkt->flags & TCP_RST) {
		embryo_delete(pkt->key, embryo);
		reason = MG_R_REFUSED_BY_NODE;
	}
	return pkt_send(pkt, &s->peer.flow, &s->peer.flow.hop, reason);
}

#endif
