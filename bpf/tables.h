/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The maps, and what is fixed when the programs are loaded. What they hold: include/megalith/abi.h.
 */
#ifndef BPF_TABLES_H
#define BPF_TABLES_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include <megalith/abi.h>
#include <megalith/pick.h>

/* Set by the loader before it loads. */
const volatile __u16 snat_first = 20000; /* first port of the reserved range */
const volatile __u16 snat_count = 12768;
const volatile __u16 snat_stride =
	1; /* coprime to snat_count: the order in which ports are given out */
const volatile __u32 hash_key = 0;
const volatile __u32 syn_patience =
	125; /* jiffies: half a second, less than a client's first retransmission */

#define MG_EMBRYOS_MAX 65536 /* entries: two a handshake */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags,
	       BPF_F_NO_PREALLOC); /* an update replaces the row whole: it is never seen torn */
	__uint(max_entries, 65536);
	__type(key, struct mg_service_key);
	__type(value, struct mg_row);
} mg_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct mg_long_row);
} mg_rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, MG_SLOTS);
	__type(key, __u32);
	__type(value, struct mg_node);
} mg_nodes SEC(".maps");

/* Plain hash: an LRU would evict idle streams, and before it is full. The loader sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * 262144);
	__type(key, struct mg_tuple);
	__type(value, struct mg_flow);
} mg_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MG_EMBRYOS_MAX);
	__type(key, struct mg_tuple);
	__type(value, struct mg_embryo);
} mg_embryos SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MG_R_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} mg_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MG_SLOTS);
	__type(key, __u32);
	__type(value, struct mg_node_stats);
} mg_node_stats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} mg_tx SEC(".maps");

struct mg_counts {
	__u32 connections;
	__u32 busy;
	__u32 embryos;
};

struct mg_tally {		 /* of a slot, by the sweep */
	struct mg_counts before; /* what the slot said when the walk began */
	struct mg_counts found;	 /* what the walk found */
	__u32 unsettled;	 /* sweeps in a row in which it said another thing and moved */
	__u64 connects;		 /* before */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MG_SLOTS);
	__type(key, __u32);
	__type(value, struct mg_tally);
} mg_recount SEC(".maps");

/*
 * Room for what the stack (512 bytes) has none for. Both hooks run with bottom halves off, so a
 * packet has its CPU's entry to itself.
 */
struct mg_scratch {
	struct mg_embryo owner, peer;
	struct mg_tuple peer_key;
	struct pick_walk walk;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mg_scratch);
} mg_scratch SEC(".maps");

static __always_inline struct mg_scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&mg_scratch, &zero);
}

#endif
