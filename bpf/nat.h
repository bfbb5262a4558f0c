/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The rewrite of a segment, all of it decided when its connection was made. */
#ifndef BPF_NAT_H
#define BPF_NAT_H

#include "pkt.h"

/* One's-complement difference of `words` 32-bit words (bpf_csum_diff() is not for SEC("syscall")).
 */
static __always_inline __u32 nat_diff(const __u32 *from, const __u32 *to, int words)
{
	__u64 sum = 0;

	for (int i = 0; i < words; i++)
		sum += (__u64)(__u32)~from[i] + to[i];
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (__u32)sum;
}

/* Fills the constant sums of a rewrite from `key` to flow->out. */
static __always_inline void nat_prepare(const struct mg_tuple *key, struct mg_flow *flow)
{
	const __u32 *from = (const __u32 *)key, *to = (const __u32 *)&flow->out;

	flow->addr_diff = nat_diff(from, to, 8);
	flow->port_diff = nat_diff(from + 8, to + 8, 1);
}

static __always_inline int nat_v4(struct pkt *pkt, const struct mg_flow *flow)
{
	struct iphdr *ip = pkt->data + ETH_HLEN;

	if ((void *)(ip + 1) > pkt->data_end)
		return -1;
	ip->saddr = ((const __u32 *)flow->out.saddr)[3];
	ip->daddr = ((const __u32 *)flow->out.daddr)[3];
	ip->ttl--;
	/* the addresses, and 0x0100 less in the word of TTL and protocol */
	ip->check = csum_add_diff(csum_add_diff(ip->check, flow->addr_diff), bpf_htons(0xfeff));
	return 0;
}

static __always_inline int nat_v6(struct pkt *pkt, const struct mg_flow *flow)
{
	struct ipv6hdr *ip = pkt->data + ETH_HLEN;

	if ((void *)(ip + 1) > pkt->data_end)
		return -1;
	__builtin_memcpy(&ip->saddr, flow->out.saddr, 16);
	__builtin_memcpy(&ip->daddr, flow->out.daddr, 16);
	ip->hop_limit--;
	return 0;
}

/* Rewrites the segment as pkt->flow says. 0, or -1: a header is out of reach, the segment is half
 * changed. */
static __always_inline int nat_rewrite(struct pkt *pkt)
{
	const struct mg_flow *flow = pkt->flow;
	struct tcphdr *tcp = pkt_tcp(pkt);
	struct ethhdr *eth = pkt->data;

	if (!tcp || (void *)(eth + 1) > pkt->data_end)
		return -1;
	tcp->source = flow->out.sport_be;
	tcp->dest = flow->out.dport_be;
	__builtin_memcpy(eth->h_dest, pkt->hop->dst_mac, 6);
	__builtin_memcpy(eth->h_source, pkt->hop->src_mac, 6);
	if (pkt->v6 ? nat_v6(pkt, flow) : nat_v4(pkt, flow))
		return -1;
	return pkt_l4_csum(pkt, flow->addr_diff, flow->port_diff);
}

#endif
