/* SPDX-License-Identifier: MIT */
/*
 * What the controller asks of a datapath. datapath/bpf.c is the real one (Linux); datapath/none.c
 * stands in where there is none. The caller owns the struct datapath; the *pinned* datapath
 * outlives it. All calls are made from one thread and do not block for longer than a system call.
 */
#ifndef CORE_DATAPATH_H
#define CORE_DATAPATH_H

#include "core/plan.h"

struct datapath;

struct datapath_error {
	char text[512]; /* one line, for the operator */
};

struct datapath_options {
	const char *bpf_dir;	 /* pins live in bpf_dir/v1 */
	enum datapath_mode mode; /* AUTO, XDP or TC; NONE gives a datapath that does nothing */
	char *const *interfaces;
	size_t n_interfaces;
	const struct addr *addresses; /* none: all addresses of the interfaces */
	size_t n_addresses;
	uint16_t snat_first, snat_last;
	uint32_t max_flows;
};

/* Opens: adopts what is pinned or loads, pins and attaches. NULL with *error; nothing left behind
 * then. */
struct datapath *datapath_open(const struct datapath_options *options,
			       struct datapath_error *error);

/*
 * After datapath_open() the process keeps only the rights that the calls below need (Linux: CAP_BPF
 * and CAP_NET_ADMIN, also out of the bounding set), for good. `keep_child_rights`: also those to
 * start a child as another user and to end it (CAP_SETUID, CAP_SETGID, CAP_KILL). Without any right
 * to drop: does nothing. 0, or -errno with *error.
 */
int datapath_drop_privileges(bool keep_child_rights, struct datapath_error *error);

/* Lets go of it; the pinned programs go on serving. */
void datapath_close(struct datapath *dp);

/* Takes the programs off, removes every pin and reservation under bpf_dir. Works without an open
 * datapath. 0 or -errno. */
int datapath_detach(const char *bpf_dir, struct datapath_error *error);

/*
 * Makes the maps say what the plan says: slots, rows, listener addresses. May be called at any
 * time; kill -9 inside it leaves a state that the next call mends. 0, or -errno with *error: the
 * old rows go on serving.
 */
int datapath_publish(struct datapath *dp, const struct plan *plan, struct datapath_error *error);

/* Expires, and sets the counts right. Call each second. */
int datapath_sweep(struct datapath *dp);

/* A descriptor that turns readable when links, addresses, routes or neighbours changed; -1: none.
 */
int datapath_events_fd(const struct datapath *dp);
/* Call when it is readable: rereads and applies hops. True: the gateway's addresses changed,
 * publish again. */
bool datapath_events(struct datapath *dp);

/* Busy connections that the local proxy holds, by plan endpoint: counted by the kernel's pick. */
void datapath_set_relayed(struct datapath *dp, size_t endpoint, uint32_t busy);

struct datapath_counts { /* of one plan endpoint */
	uint32_t connections, busy, embryos;
	uint64_t connects;
	uint64_t packets[2], bytes[2];
	bool reachable; /* the kernel knows a way to it */
};
void datapath_counts(const struct datapath *dp, size_t endpoint, struct datapath_counts *counts);

/* Value of a counter (enum mg_reason), summed over CPUs. */
uint64_t datapath_counter(const struct datapath *dp, enum mg_reason reason);

struct datapath_interface {
	const char *name;
	enum datapath_mode mode; /* XDP or TC */
	const char *note;	 /* why this mode under auto; NULL if none */
};
size_t datapath_interfaces(const struct datapath *dp, const struct datapath_interface **list);
enum datapath_mode datapath_mode_of(const struct datapath *dp); /* NONE, XDP, TC (mixed: TC) */
bool datapath_adopted(const struct datapath *dp); /* it was already serving when we came */

struct datapath_flow {
	struct addr client, listener_addr, node_addr, snat_addr;
	uint16_t client_port, listener_port, node_port, snat_port;
	size_t endpoint; /* plan endpoint; SIZE_MAX: of a node that left the configuration */
	uint32_t flags;	 /* enum mg_flow_flag */
	uint32_t idle_ms;
};
/* Calls `visit` for each connection until it returns false. 0 or -errno. */
int datapath_flows(const struct datapath *dp,
		   bool (*visit)(const struct datapath_flow *flow, void *arg), void *arg);

/* Addresses on which persona listeners are reached, as now in the maps. */
size_t datapath_addresses(const struct datapath *dp, const struct addr **list);

#endif
