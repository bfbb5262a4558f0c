// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * The story of a packet: parse → flow lookup → (miss: service lookup → pick → embryo) → rewrite →
 * out. One source for both hooks; what they do differently is in pkt.h. The sweep is in sweep.h.
 */
#include "embryo.h"
#include "sweep.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* A segment of a known connection: one hash lookup has brought us here, nothing else is looked up
 * by hash. */
static __always_inline enum act steer_known(struct pkt *pkt, struct mg_flow *flow,
					    struct mg_node *node)
{
	__u32 now = (__u32)bpf_jiffies64();

	if (pkt->flags & (TCP_FIN | TCP_RST))
		flow_note_end(pkt, flow);
	if (flow->seen != now)
		flow->seen = now;
	if (pkt->payload && flow->data != now)
		flow->data = now;
	if (flow->half == MG_TO_CLIENT)
		return pkt_send(pkt, flow, &flow->hop, MG_R_TO_CLIENT);
	if (pkt->payload)
		flow_note_busy(flow, node);
	flow_follow_client(pkt, flow);
	return pkt_send(pkt, flow, &node->hop, MG_R_TO_NODE);
}

/* No connection: a handshake, a new SYN, or nothing that we know. */
static __always_inline enum act steer_unknown(struct pkt *pkt)
{
	__u16 port = bpf_ntohs(pkt->key->dport_be);
	struct mg_service_key key = {.port_be = pkt->key->dport_be};
	struct mg_embryo *embryo;
	struct mg_row *row;

	if ((__u16)(port - snat_first) < snat_count) {
		embryo = bpf_map_lookup_elem(&mg_embryos, pkt->key);
		return embryo ? embryo_from_node(pkt, embryo) : pkt_leave(pkt, MG_R_UNKNOWN);
	}
	__builtin_memcpy(key.addr, pkt->key->daddr, 16);
	row = bpf_map_lookup_elem(&mg_services, &key);
	if (!row)
		return ACT_PASS;
	embryo = bpf_map_lookup_elem(&mg_embryos, pkt->key);
	if (embryo && (pkt->flags & TCP_SYN) && pkt->seq != embryo->client_isn) {
		embryo_delete(pkt->key, embryo); /* the client has begun anew */
		embryo = NULL;
	}
	if (embryo && !((pkt->flags & TCP_SYN) && embryo_overdue(embryo)))
		return embryo_from_client(pkt, embryo);
	if ((pkt->flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) != TCP_SYN)
		return pkt_leave(pkt, MG_R_UNKNOWN);
	return embryo_new(pkt, row, embryo);
}

static __always_inline enum act steer(struct pkt *pkt)
{
	struct mg_flow *flow;
	struct mg_node *node;

	switch (pkt_parse(pkt)) {
	case PARSED_TCP:
		break;
	case PARSED_BAD:
		return pkt_leave(pkt, MG_R_BAD_PACKET);
	case PARSED_FRAGMENT:
		return pkt_leave(pkt, MG_R_FRAGMENT);
	case PARSED_OPTIONS:
		return pkt_leave(pkt, MG_R_OPTIONS);
	default:
		return ACT_PASS;
	}
	flow = bpf_map_lookup_elem(&mg_flows, pkt->key);
	if (flow && (pkt->flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && flow_closed(flow->flags)) {
		flow_delete(pkt->key, flow);
		count(MG_R_SYN_REUSED);
		flow = NULL;
	}
	if (!flow)
		return steer_unknown(pkt);
	node = flow_node(flow->slot);
	if (node && node->generation == flow->generation)
		return steer_known(pkt, flow, node);
	flow_delete(pkt->key, flow);
	return pkt_leave(pkt, MG_R_STALE_NODE);
}

static __always_inline int carry_out(struct pkt *pkt, enum act act)
{
	if (act == ACT_SEND && !pkt->hop->ifindex)
		act = pkt_drop(pkt, MG_R_NO_HOP);
	if (act == ACT_SEND && pkt->ttl <= 1)
		act = pkt_drop(pkt, MG_R_TTL);
	if (act == ACT_SEND && nat_rewrite(pkt))
		act = pkt_drop(pkt, MG_R_REWRITE_FAILED);
	if (act != ACT_PASS)
		count(pkt->reason);
	if (act != ACT_SEND)
		return pkt_verdict(pkt, act);
	count_node(pkt->flow->slot, pkt->flow->half, pkt->bytes);
	return pkt_out(pkt, pkt->hop->ifindex);
}

SEC("xdp")
int mg_xdp(struct xdp_md *ctx)
{
	struct mg_tuple key = {0};
	struct pkt pkt = {.ctx = ctx, .hook = HOOK_XDP, .key = &key};

	return carry_out(&pkt, steer(&pkt));
}

SEC("tc")
int mg_tc(struct __sk_buff *ctx)
{
	struct mg_tuple key = {0};
	struct pkt pkt = {.ctx = ctx, .hook = HOOK_TC, .key = &key};

	return carry_out(&pkt, steer(&pkt));
}
