/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Counters: per CPU, so no atomics. */
#ifndef BPF_COUNT_H
#define BPF_COUNT_H

#include "tables.h"

static __always_inline void count(enum mg_reason reason)
{
	__u32 key = reason;
	__u64 *value = bpf_map_lookup_elem(&mg_counters, &key);

	if (value)
		*value += 1;
}

static __always_inline void count_node(__u32 slot, enum mg_half half, __u32 bytes)
{
	struct mg_node_stats *stats = bpf_map_lookup_elem(&mg_node_stats, &slot);

	if (!stats)
		return;
	if (half == MG_TO_NODE) {
		stats->packets[0] += 1;
		stats->bytes[0] += bytes;
	} else {
		stats->packets[1] += 1;
		stats->bytes[1] += bytes;
	}
}

/* Takes one off a count that the sweep may just have set: never below zero. */
static __always_inline void count_down(__u32 *value)
{
	if (*value)
		__sync_fetch_and_add(value, -1);
}

#endif
