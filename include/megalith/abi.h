/* SPDX-License-Identifier: MIT */
/*
 * The border between kernel and userspace, written once: what the BPF maps hold. Included by bpf/,
 * by userspace/ and by the tests; nobody else describes these bytes.
 *
 * Conventions: no holes (static-asserted sizes); `_be` is stored big-endian; addresses are 16
 * bytes, IPv4 as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2), so that one table serves both families. A
 * change of any layout here raises MG_LAYOUT, which is part of the pin path.
 */
#ifndef MEGALITH_ABI_H
#define MEGALITH_ABI_H

#if __has_include(<linux/types.h>)
#include <linux/types.h>
#else
typedef __UINT8_TYPE__ __u8;
typedef __UINT16_TYPE__ __u16;
typedef __UINT32_TYPE__ __u32;
typedef __UINT64_TYPE__ __u64;
#endif

#define MG_LAYOUT 1 /* pins live in <bpf-dir>/v1 */

/* Limits (contract §2). */
#define MG_NODES_MAX	     1024 /* machines */
#define MG_PERSONAS_MAX	     64	  /* personas */
#define MG_PERSONA_NODES_MAX 256  /* machines in a persona */
#define MG_NODE_SERVICES_MAX 16	  /* services on a machine */
#define MG_TIERS_MAX	     8	  /* the persona itself and 7 personas it cascades to */
#define MG_ROW_MAX	     1024 /* candidates of one listener, all tiers together */
#define MG_ROW_INLINE	     32	  /* of them held in the row itself; a longer list is in mg_rows */
#define MG_NAME_MAX	     32	  /* name of a node, persona or service, with its NUL */
/* Entries of mg_nodes; slot 0 is nobody. Twice what there may be: the old finish while the new
 * begin. */
#define MG_SLOTS (2 * MG_NODES_MAX * MG_NODE_SERVICES_MAX)

#define MG_IDLE_MS_DEFAULT 3000

struct mg_tuple { /* the addresses of a TCP segment, as it arrives */
	__u8 saddr[16];
	__u8 daddr[16];
	__u16 sport_be;
	__u16 dport_be;
} __attribute__((aligned(4)));
_Static_assert(sizeof(struct mg_tuple) == 36, "keys have no holes");

/*
 * mg_nodes: array, slot → one service of one machine. Written by the controller through a shared
 * mapping, field by field; the counts at the end are written by BPF (and set right by the sweep).
 * `generation` rises each time a slot is given to somebody else: a flow whose generation is not
 * the slot's belongs to a node that is gone.
 */
enum mg_state {
	MG_NODE_FREE = 0, /* slot unused */
	MG_NODE_UP,	  /* takes connections */
	MG_NODE_DOWN,	  /* does not answer its probes */
	MG_NODE_DRAIN,	  /* finishes what it has */
	MG_NODE_GONE,	  /* left the configuration; finishes what it has */
};

struct mg_hop { /* how a frame reaches a machine; two aligned 8-byte stores change it */
	__u8 dst_mac[6];
	__u8 src_mac[6];
	__u32 ifindex; /* 0: no way known; the node cannot be chosen by the kernel */
} __attribute__((aligned(8)));

struct mg_node {
	char name[2 * MG_NAME_MAX]; /* "halo-1/llm" */
	__u8 addr[16];		    /* the machine's address */
	__u8 snat[16];		    /* the gateway's address towards it */
	__u16 port_be;
	__u8 state; /* enum mg_state */
	__u8 pad;
	__u32 generation;
	__u32 weight;	/* 0..1000; 0 = no new connections */
	__u32 capacity; /* busy connections at most; 0 = no limit */
	struct mg_hop hop;
	__u32 idle_ms; /* the node's silence after which a connection is no longer busy */
	__u32 relayed; /* busy connections that the local proxy holds on it */
	/* written by BPF */
	__u32 connections; /* established */
	__u32 busy;	   /* of them, waiting for or receiving an answer */
	__u32 embryos;	   /* handshakes in progress */
	__u32 ports;	   /* SNAT ports handed out so far */
	__u64 connects;	   /* connections steered here since the slot was given */
};
_Static_assert(sizeof(struct mg_node) == 160, "no holes");

/* mg_services: hash, address and port of a persona listener → the row of its candidates. */
struct mg_service_key {
	__u8 addr[16];
	__u16 port_be;
	__u16 zero;
};
_Static_assert(sizeof(struct mg_service_key) == 20, "keys have no holes");

struct mg_row {
	char name[2 * MG_NAME_MAX];   /* "cruncher/llm" */
	__u32 listener;		      /* index of the listener in the plan */
	__u32 more;		      /* 0, or key in mg_rows of the whole list */
	__u16 count;		      /* candidates in all tiers */
	__u8 tiers;		      /* used entries of tier_end */
	__u8 affinity;		      /* enum mg_affinity */
	__u16 tier_end[MG_TIERS_MAX]; /* tier t is [tier_end[t-1], tier_end[t]) of the list */
	__u16 node[MG_ROW_INLINE];    /* slots in mg_nodes, best tier first; valid when more == 0 */
};
_Static_assert(sizeof(struct mg_row) == 156, "no holes");

enum mg_affinity { MG_AFFINITY_NONE = 0, MG_AFFINITY_CLIENT = 1 };

/* mg_rows: hash, number → candidates of a listener that has more than MG_ROW_INLINE. */
struct mg_long_row {
	__u16 node[MG_ROW_MAX];
};

/*
 * mg_flows and mg_embryos: a connection is two entries, one for each direction, each under the
 * tuple that its packets arrive with. The entry holds the whole rewrite.
 */
enum mg_half {
	MG_TO_NODE = 0,	  /* packets from the client; this half owns the connection's state */
	MG_TO_CLIENT = 1, /* packets from the node */
};

enum mg_flow_flag {
	MG_FIN_CLIENT = 1 << 0, /* the client has closed its direction */
	MG_FIN_NODE = 1 << 1,
	MG_RESET = 1 << 2, /* either side sent RST */
	MG_BUSY = 1 << 3,  /* counted in mg_node.busy (MG_TO_NODE half only) */
	MG_ENDED = 1 << 4, /* taken out of mg_node.connections (MG_TO_NODE half only) */
};

struct mg_flow {
	struct mg_tuple out; /* addresses and ports after the rewrite */
	__u32 addr_diff;     /* one's-complement sum to add for the addresses (RFC 1624 eqn. 3) */
	__u32 port_diff;     /* the same for the ports */
	__u32 slot;	     /* in mg_nodes */
	__u32 generation;    /* of the slot when the connection was made */
	__u32 seen;	     /* low 32 bits of jiffies at this direction's last packet */
	__u32 data;	     /* the same at its last packet with payload */
	__u32 flags; /* enum mg_flow_flag; MG_BUSY and MG_ENDED in the MG_TO_NODE half only */
	__u8 half;   /* enum mg_half */
	__u8 v6;
	__u16 listener; /* index of the listener in the plan that made it */
	__u32 pad;
	struct mg_hop hop; /* way back to the client, as it last came; in both halves */
};
_Static_assert(sizeof(struct mg_flow) == 88, "no holes");

enum mg_answer { /* of the node to the SYN; leaves MG_AWAITED once, by one atomic exchange */
		 MG_AWAITED = 0,
		 MG_ANSWERED,	/* the SYN-ACK has passed: the choice stands */
		 MG_GIVEN_AWAY, /* another node was chosen: a SYN-ACK comes too late */
};

struct mg_embryo { /* a handshake in progress; LRU */
	struct mg_flow flow;
	__u32 client_isn; /* sequence number of the SYN */
	__u32 node_isn;	  /* of the SYN-ACK (MG_TO_NODE half) */
	__u32 answer;	  /* enum mg_answer (MG_TO_NODE half) */
	__u32 born;	  /* jiffies */
};
_Static_assert(sizeof(struct mg_embryo) == 104, "no holes");

/* mg_node_stats: per-CPU array by slot. Index 0 towards the node, 1 towards the client. */
struct mg_node_stats {
	__u64 packets[2];
	__u64 bytes[2]; /* IP length */
};

/*
 * mg_counters: per-CPU array by enum mg_reason. Every packet that is not passed untouched moves
 * one of them, and so does every decision about a SYN. X(NAME, "metric_name", "what happened")
 */
/* clang-format off */
#define MG_REASONS(X) \
	X(TO_NODE, "to_node", "segment of a known connection sent on to its node") \
	X(TO_CLIENT, "to_client", "segment of a known connection sent back to its client") \
	X(SYN_STEERED, "syn_steered", "SYN given to a node of the persona") \
	X(SYN_CASCADED, "syn_cascaded", "SYN given to a node of a persona that this one cascades to") \
	X(SYN_AGAIN, "syn_again", "SYN retransmitted: sent again to the node already chosen") \
	X(SYN_RESTEERED, "syn_resteered", "SYN retransmitted without an answer of its node: given to another") \
	X(SYN_REUSED, "syn_reused", "SYN on a closed connection's addresses: the old entry was dropped") \
	X(SYN_ANSWERED, "syn_answered", "SYN-ACK of a node sent back to its client") \
	X(PROMOTED, "promoted", "handshake completed: the connection is in the flow table") \
	X(HANDSHAKE, "handshake", "other segment of a handshake in progress sent on") \
	X(REFUSED_BY_NODE, "refused_by_node", "RST of a node in answer to a SYN sent back to the client") \
	X(NO_ROOM, "no_room", "no candidate up with room: SYN left to the fallback listener") \
	X(NO_PORT, "no_port", "no free SNAT port towards the node: SYN left to the fallback listener") \
	X(EMBRYOS_FULL, "embryos_full", "handshake table refused the entry: SYN left to the fallback listener") \
	X(FLOWS_FULL, "flows_full", "flow table full: the completed handshake is left to the kernel, which resets it") \
	X(STALE_NODE, "stale_node", "connection of a node that is gone: left to the kernel, which resets it") \
	X(UNKNOWN, "unknown", "segment to a persona port or SNAT port without a connection: left to the kernel") \
	X(TTL, "ttl", "hop limit reached: dropped") \
	X(NO_HOP, "no_hop", "node's link-layer address not known: dropped") \
	X(BAD_PACKET, "bad_packet", "header cut short or inconsistent: left to the kernel") \
	X(FRAGMENT, "fragment", "IP fragment: left to the kernel") \
	X(OPTIONS, "ip_options", "IP options or extension headers: left to the kernel") \
	X(REWRITE_FAILED, "rewrite_failed", "the kernel refused to change the packet: dropped") \
	X(EXPIRED, "expired", "idle or closed connection removed by the sweep") \
	X(EMBRYO_EXPIRED, "embryo_expired", "handshake that was never completed removed by the sweep")
/* clang-format on */

enum mg_reason {
#define X(name, metric, text) MG_R_##name,
	MG_REASONS(X)
#undef X
		MG_R_COUNT
};

/* Argument of the sweep program (SEC("syscall")), in and out. Times in jiffies. */
struct mg_sweep {
	__u32 hz;
	__u32 established_ticks; /* silence of both sides after which an open connection is
				    forgotten */
	__u32 closed_ticks;	 /* how long a closed one lingers */
	__u32 embryo_ticks;
	/* out */
	__u32 flows;   /* connections left */
	__u32 embryos; /* handshakes left */
	__u32 expired;
	__u32 pad;
};

#endif
