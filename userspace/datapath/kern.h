/* SPDX-License-Identifier: MIT */
/*
 * What is ours in the kernel: programs, maps, pins, attachments. Implemented by bpf.c, the only
 *user of libbpf. Knows nothing of plans and nodes. What it makes outlives it, until kern_remove().
 *
 * Under <bpf-dir>/v1 (0700):
 *	mg_...		maps and programs, by name
 *	mg_meta		parameters (struct kern_meta); pinned last: without it the set is half made
 *	link_IFNAME	the XDP attachment
 *	tc_IFNAME	a note that IFNAME has our TC filter (it is the program pinned once more)
 *	clsact_IFNAME	a note that the qdisc that holds the filter is ours too
 * bpffs takes no dots in names, interfaces no colons: eth0.7 is noted as eth0:7.
 */
#ifndef DATAPATH_KERN_H
#define DATAPATH_KERN_H

#include "core/datapath.h"
#include "datapath/ports.h"

struct kern;

enum kern_map {
	KERN_SERVICES,
	KERN_ROWS,
	KERN_NODES,
	KERN_FLOWS,
	KERN_EMBRYOS,
	KERN_TX,
	KERN_COUNTERS,
	KERN_NODE_STATS,
	KERN_MAPS
};

struct kern_meta {     /* the one value of mg_meta; fixed when the set is made */
	uint32_t size; /* of this structure */
	uint32_t max_flows;
	uint16_t snat_first, snat_last, snat_stride, pad;
	uint32_t hash_key;
	uint64_t netns_cookie; /* network namespace the set works in */
	uint64_t netns_inode;
	struct ports others; /* reserved by others before us */
};

struct kern_options {
	const char *bpf_dir;
	uint16_t snat_first, snat_last;
	uint32_t max_flows;
};

/* Writes the error's line; returns -err. */
int kern_fail(struct datapath_error *error, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Loads and pins, or adopts what is pinned. NULL with *error; what a failed first load made is gone
 * then. */
struct kern *kern_open(const struct kern_options *options, struct datapath_error *error);
void kern_close(struct kern *kern);

/* Attachments off, reservation off, pins and directory gone. Needs no struct kern. 0 or -errno. */
int kern_remove(const char *bpf_dir, struct datapath_error *error);

bool kern_adopted(const struct kern *kern);
/* False: somebody removed the pins under us. */
bool kern_pinned(const struct kern *kern);
const struct kern_meta *kern_meta(const struct kern *kern);
struct mg_node *kern_nodes(const struct kern *kern); /* MG_SLOTS, shared with the programs */

/* Id of an XDP program on the interface that is not ours; 0: none. */
uint32_t kern_foreign_xdp(const struct kern *kern, const char *name, uint32_t ifindex);

/*
 * Puts our program on the interface, or in the place of an earlier one of ours. *made: there was
 * none before. 0 or -errno with *error.
 */
int kern_attach(struct kern *kern, const char *name, uint32_t ifindex, enum datapath_mode mode,
		bool *made, struct datapath_error *error);
bool kern_attached(const struct kern *kern, const char *name, uint32_t ifindex,
		   enum datapath_mode mode);
void kern_detach(struct kern *kern, const char *name, enum datapath_mode mode);

/* Takes off what is attached but not wanted. */
void kern_prune(struct kern *kern,
		bool (*wanted)(const char *name, enum datapath_mode mode, void *arg), void *arg);
/* Pins the programs that were just attached, in the place of those adopted. 0 or -errno with
 * *error. */
int kern_commit(struct kern *kern, struct datapath_error *error);
/* Makes mg_tx name exactly these interfaces. 0 or -errno. */
int kern_set_tx(struct kern *kern, const uint32_t *ifindex, size_t n);

/* Map access by key; sizes are the map's. 0 or -errno. A per-CPU value is kern_cpus() values of
 * 8-byte multiples. */
int kern_get(const struct kern *kern, enum kern_map map, const void *key, void *value);
int kern_put(struct kern *kern, enum kern_map map, const void *key, const void *value);
int kern_delete(struct kern *kern, enum kern_map map, const void *key);
/* Visits every entry of a hash until `visit` returns false. 0 or -errno. */
int kern_each(const struct kern *kern, enum kern_map map,
	      bool (*visit)(const void *key, const void *value, void *arg), void *arg);
size_t kern_cpus(const struct kern *kern);

int kern_sweep(struct kern *kern, struct mg_sweep *sweep);
/* Low 32 bits of jiffies, now. */
uint32_t kern_jiffies(const struct kern *kern);

/* Jiffies in a second. */
uint32_t kern_hz(void);

#endif
