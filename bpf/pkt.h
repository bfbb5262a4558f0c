/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * A TCP segment at either hook. Everything in which XDP and TC differ is in this file: how the
 * frame is opened, how its TCP checksum is mended, how it leaves. `hook` is a constant where these
 * functions are inlined, so the compiler keeps one branch of each.
 */
#ifndef BPF_PKT_H
#define BPF_PKT_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "count.h"

enum hook { HOOK_XDP, HOOK_TC };

enum { /* TCP flag bits, byte 13 of the header (RFC 9293 §3.1) */
       TCP_FIN = 0x01,
       TCP_SYN = 0x02,
       TCP_RST = 0x04,
       TCP_ACK = 0x10,
};

struct pkt {
	void *ctx;
	enum hook hook;
	__u32 ifindex; /* where it came in */
	void *data, *data_end;
	struct mg_tuple *key; /* apart from the rest: a map lookup takes its address, and what has
			       * an address given away is no constant to the compiler any more */
	__u32 l4;	      /* offset of the TCP header: 34 or 54 */
	__u32 bytes;	      /* IP length */
	__u32 payload;	      /* TCP payload, bytes */
	__u32 seq, ack;
	__u8 v6;
	__u8 flags; /* TCP_* */
	__u8 ttl;
	/* the decision */
	enum mg_reason reason;
	const struct mg_flow *flow;
	const struct mg_hop *hop;
};

/* What becomes of a segment. Steps decide, filling the decision in struct pkt; the end of the story
 * carries it out. */
enum act {
	ACT_PASS,  /* not ours: untouched and uncounted */
	ACT_LEAVE, /* left to the kernel, for pkt->reason */
	ACT_SEND,  /* rewritten as pkt->flow says and sent by pkt->hop */
	ACT_DROP,
};

static __always_inline enum act pkt_leave(struct pkt *pkt, enum mg_reason reason)
{
	pkt->reason = reason;
	return ACT_LEAVE;
}

static __always_inline enum act pkt_drop(struct pkt *pkt, enum mg_reason reason)
{
	pkt->reason = reason;
	return ACT_DROP;
}

static __always_inline enum act pkt_send(struct pkt *pkt, const struct mg_flow *flow,
					 const struct mg_hop *hop, enum mg_reason reason)
{
	pkt->flow = flow;
	pkt->hop = hop;
	pkt->reason = reason;
	return ACT_SEND;
}

/* Points data and data_end at the frame; TC: with the headers in the linear part. Frame's length,
 * or 0. */
static __always_inline __u32 pkt_open(struct pkt *pkt)
{
	const __u32 headers = ETH_HLEN + sizeof(struct ipv6hdr) + sizeof(struct tcphdr);

	if (pkt->hook == HOOK_XDP) {
		struct xdp_md *xdp = pkt->ctx;

		pkt->data = (void *)(long)xdp->data;
		pkt->data_end = (void *)(long)xdp->data_end;
		pkt->ifindex = xdp->ingress_ifindex;
		return (__u32)(pkt->data_end - pkt->data);
	} else {
		struct __sk_buff *skb = pkt->ctx;

		if (skb->vlan_present) /* the tag was taken off the frame, but it is not untagged */
			return 0;
		pkt->data = (void *)(long)skb->data;
		pkt->data_end = (void *)(long)skb->data_end;
		pkt->ifindex = skb->ifindex;
		if (pkt->data + headers > pkt->data_end &&
		    skb->len > (__u32)(pkt->data_end - pkt->data)) {
			if (bpf_skb_pull_data(skb, skb->len < headers ? skb->len : headers))
				return 0;
			pkt->data = (void *)(long)skb->data;
			pkt->data_end = (void *)(long)skb->data_end;
		}
		return skb->len;
	}
}

static __always_inline void pkt_v4_addr(__u8 to[16], __u32 addr_be)
{
	__u32 *words = (__u32 *)to;

	words[0] = 0;
	words[1] = 0;
	words[2] = bpf_htonl(0xffff);
	words[3] = addr_be;
}

/* The results of parsing: it may be ours, or it is passed on for a reason (or none: not TCP at
 * all). */
enum parsed { PARSED_TCP, PARSED_OTHER, PARSED_BAD, PARSED_FRAGMENT, PARSED_OPTIONS };

static __always_inline enum parsed pkt_parse_v4(struct pkt *pkt, __u32 frame)
{
	struct iphdr *ip = pkt->data + ETH_HLEN;

	if ((void *)(ip + 1) > pkt->data_end)
		return PARSED_BAD;
	if (ip->protocol != IPPROTO_TCP)
		return PARSED_OTHER;
	if (ip->version != 4 || ip->ihl < 5)
		return PARSED_BAD;
	if (ip->frag_off & bpf_htons(0x3fff)) /* more fragments, or an offset */
		return PARSED_FRAGMENT;
	if (ip->ihl != 5)
		return PARSED_OPTIONS;
	pkt->l4 = ETH_HLEN + sizeof(*ip);
	pkt->bytes = bpf_ntohs(ip->tot_len);
	if (pkt->hook == HOOK_TC && !pkt->bytes) /* BIG TCP: longer than the field can say */
		pkt->bytes = frame - ETH_HLEN;
	pkt->ttl = ip->ttl;
	pkt_v4_addr(pkt->key->saddr, ip->saddr);
	pkt_v4_addr(pkt->key->daddr, ip->daddr);
	return PARSED_TCP;
}

static __always_inline enum parsed pkt_parse_v6(struct pkt *pkt, __u32 frame)
{
	struct ipv6hdr *ip = pkt->data + ETH_HLEN;

	if ((void *)(ip + 1) > pkt->data_end)
		return PARSED_BAD;
	switch (ip->nexthdr) {
	case IPPROTO_TCP:
		break;
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
	case IPPROTO_AH:
		return PARSED_OPTIONS;
	case IPPROTO_FRAGMENT:
		return PARSED_FRAGMENT;
	default:
		return PARSED_OTHER;
	}
	if (ip->version != 6)
		return PARSED_BAD;
	pkt->v6 = 1;
	pkt->l4 = ETH_HLEN + sizeof(*ip);
	pkt->bytes = bpf_ntohs(ip->payload_len) + (__u32)sizeof(*ip);
	if (pkt->hook == HOOK_TC && !ip->payload_len)
		pkt->bytes = frame - ETH_HLEN;
	pkt->ttl = ip->hop_limit;
	__builtin_memcpy(pkt->key->saddr, &ip->saddr, 16);
	__builtin_memcpy(pkt->key->daddr, &ip->daddr, 16);
	return PARSED_TCP;
}

static __always_inline struct tcphdr *pkt_tcp(struct pkt *pkt)
{
	struct tcphdr *tcp = pkt->data + (pkt->v6 ? ETH_HLEN + sizeof(struct ipv6hdr)
						  : ETH_HLEN + sizeof(struct iphdr));

	return (void *)(tcp + 1) > pkt->data_end ? NULL : tcp;
}

static __always_inline enum parsed pkt_parse(struct pkt *pkt)
{
	__u32 frame = pkt_open(pkt);
	struct ethhdr *eth = pkt->data;
	enum parsed parsed;
	struct tcphdr *tcp;
	__u32 headers;

	if (!frame || (void *)(eth + 1) > pkt->data_end)
		return PARSED_OTHER;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		parsed = pkt_parse_v4(pkt, frame);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		parsed = pkt_parse_v6(pkt, frame);
	else
		return PARSED_OTHER;
	if (parsed != PARSED_TCP)
		return parsed;
	tcp = pkt_tcp(pkt);
	if (!tcp)
		return PARSED_BAD;
	headers = pkt->l4 - ETH_HLEN + tcp->doff * 4;
	if (tcp->doff < 5 || headers > pkt->bytes || pkt->bytes > frame - ETH_HLEN)
		return PARSED_BAD;
	pkt->payload = pkt->bytes - headers;
	pkt->flags = ((__u8 *)tcp)[13];
	pkt->seq = bpf_ntohl(tcp->seq);
	pkt->ack = bpf_ntohl(tcp->ack_seq);
	pkt->key->sport_be = tcp->source;
	pkt->key->dport_be = tcp->dest;
	return PARSED_TCP;
}

/* RFC 1624 eqn. 3: HC' = ~(~HC + diff). */
static __always_inline __u16 csum_add_diff(__u16 check, __u32 diff)
{
	__u64 sum = (__u64)(__u16)~check + diff;

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

/*
 * Mends the TCP checksum. TC leaves it to the kernel, which knows a checksum that is not finished
 * yet (CHECKSUM_PARTIAL): there only the addresses count. Ends the validity of data pointers on TC.
 */
static __always_inline int pkt_l4_csum(struct pkt *pkt, __u32 addr_diff, __u32 port_diff)
{
	__u32 at = pkt->l4 + __builtin_offsetof(struct tcphdr, check);

	if (pkt->hook == HOOK_XDP) {
		struct tcphdr *tcp = pkt_tcp(pkt);

		if (!tcp)
			return -1;
		tcp->check = csum_add_diff(csum_add_diff(tcp->check, addr_diff), port_diff);
		return 0;
	}
	if (bpf_l4_csum_replace(pkt->ctx, at, 0, addr_diff, BPF_F_PSEUDO_HDR))
		return -1;
	return (int)bpf_l4_csum_replace(pkt->ctx, at, 0, port_diff, 0);
}

static __always_inline int pkt_verdict(struct pkt *pkt, enum act act)
{
	if (act == ACT_DROP)
		return pkt->hook == HOOK_XDP ? XDP_DROP : TC_ACT_SHOT;
	return pkt->hook == HOOK_XDP ? XDP_PASS : TC_ACT_OK;
}

static __always_inline int pkt_out(struct pkt *pkt, __u32 ifindex)
{
	if (pkt->hook == HOOK_TC)
		return (int)bpf_redirect(ifindex, 0);
	if (ifindex == pkt->ifindex)
		return XDP_TX;
	return (int)bpf_redirect_map(&mg_tx, ifindex, XDP_DROP);
}

#endif
