// SPDX-License-Identifier: (GPL-2.0-only OR MIT)
/*
 * The programs as they are, wrapped for timing: a run changes its packet, so each round first
 * writes it anew, for the next of `bench_flows` connections. The bench takes the cost of that
 * writing, measured alone, off again.
 */
#include "../../bpf/megalith.bpf.c"

const volatile __u32 bench_flows = 1;
const volatile __u8 bench_gateway[16];
const volatile __u16 bench_port_be;
__u32 bench_round = 0;

enum { BENCH_KNOWN, BENCH_SYN };

/* Client number n: address and port that no other number has. */
static __always_inline void bench_client(__u8 addr[16], __u16 *port_be, __u32 n)
{
	__u32 *words = (__u32 *)addr;

	words[3] = bpf_htonl(0x0a640000u | (n >> 8 & 0xffff));
	*port_be = bpf_htons((__u16)(1024 + (n & 0xff) + (n >> 24 << 8)));
}

static __always_inline int bench_write(struct pkt *pkt, int kind)
{
	struct ethhdr *eth = pkt->data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);
	__u8 addr[16] = {0};
	__u32 n = bench_round++;

	if ((void *)(tcp + 1) > pkt->data_end)
		return -1;
	if (kind ==
	    BENCH_KNOWN) /* another connection each time, in no order the CPU could foresee */
		n = n * 40503u % bench_flows;
	__builtin_memcpy(eth->h_dest, "\x02\x00\x00\x00\x00\x01", 6);
	__builtin_memcpy(eth->h_source, "\x02\x00\x00\x00\x00\x02", 6);
	bench_client(addr, &tcp->source, n);
	ip->saddr = ((__u32 *)addr)[3];
	ip->daddr = ((const volatile __u32 *)bench_gateway)[3];
	ip->ttl = 64;
	tcp->dest = bench_port_be;
	return 0;
}

#define BENCH(name, section, type, which, kind, call) \
	SEC(section) int name(type *ctx) \
	{ \
		struct mg_tuple key = {0}; \
		struct pkt pkt = {.ctx = ctx, .hook = which, .key = &key}; \
\
		if (!pkt_open(&pkt) || bench_write(&pkt, kind)) \
			return -1; \
		return call; \
	}

/* The least a packet can cost: the link-layer addresses change places and it goes out. */
static __always_inline int bench_floor(struct pkt *pkt)
{
	struct ethhdr *eth = pkt->data;
	__u8 mac[6];

	if ((void *)(eth + 1) > pkt->data_end)
		return -1;
	__builtin_memcpy(mac, eth->h_dest, 6);
	__builtin_memcpy(eth->h_dest, eth->h_source, 6);
	__builtin_memcpy(eth->h_source, mac, 6);
	return pkt_out(pkt, pkt->ifindex);
}

/* One hash lookup and the rewrite, nothing else: no stamp, no counter, no node. */
static __always_inline int bench_nat(struct pkt *pkt)
{
	if (pkt_parse(pkt) != PARSED_TCP)
		return -1;
	pkt->flow = bpf_map_lookup_elem(&mg_flows, pkt->key);
	if (!pkt->flow)
		return -1;
	pkt->hop = &pkt->flow->hop;
	if (nat_rewrite(pkt))
		return -1;
	return pkt_out(pkt, pkt->ifindex);
}

SEC("xdp") int empty_xdp(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_TX;
}

SEC("tc") int empty_tc(struct __sk_buff *ctx)
{
	return (int)bpf_redirect(ctx->ifindex, 0);
}

BENCH(write_xdp, "xdp", struct xdp_md, HOOK_XDP, BENCH_KNOWN, XDP_TX)
BENCH(floor_xdp, "xdp", struct xdp_md, HOOK_XDP, BENCH_KNOWN, bench_floor(&pkt))
BENCH(nat_xdp, "xdp", struct xdp_md, HOOK_XDP, BENCH_KNOWN, bench_nat(&pkt))
BENCH(known_xdp, "xdp", struct xdp_md, HOOK_XDP, BENCH_KNOWN, carry_out(&pkt, steer(&pkt)))
BENCH(syn_xdp, "xdp", struct xdp_md, HOOK_XDP, BENCH_SYN, carry_out(&pkt, steer(&pkt)))
BENCH(write_tc, "tc", struct __sk_buff, HOOK_TC, BENCH_KNOWN, (int)bpf_redirect(pkt.ifindex, 0))
BENCH(floor_tc, "tc", struct __sk_buff, HOOK_TC, BENCH_KNOWN, bench_floor(&pkt))
BENCH(nat_tc, "tc", struct __sk_buff, HOOK_TC, BENCH_KNOWN, bench_nat(&pkt))
BENCH(known_tc, "tc", struct __sk_buff, HOOK_TC, BENCH_KNOWN, carry_out(&pkt, steer(&pkt)))
BENCH(syn_tc, "tc", struct __sk_buff, HOOK_TC, BENCH_SYN, carry_out(&pkt, steer(&pkt)))
