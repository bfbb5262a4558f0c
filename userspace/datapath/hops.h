/* SPDX-License-Identifier: MIT */
/*
 * Keeps the way to every node in mg_nodes right: interface, MACs and our address towards it. A way
 * is known when the route leaves by an interface that carries our programs, that link runs, and the
 * next hop's MAC has been seen.
 *
 * A neighbour entry that vanishes does not unlearn a MAC (`ip neigh flush` must not cut streams):
 * only another route, or the kernel's word that nobody answers, does.
 */
#ifndef DATAPATH_HOPS_H
#define DATAPATH_HOPS_H

#include "datapath/netlink.h"
#include "datapath/slots.h"

struct hop_target { /* one machine, for all its slots */
	struct addr addr;
	struct netlink_route route;
	bool asked;  /* the route has been looked up */
	bool routed; /* there is one */
	bool known;  /* mac is the next hop's */
	uint8_t mac[6];
};

struct hops {
	struct hop_target *targets; /* sorted by address */
	size_t n_targets;
	uint32_t *target_of; /* by slot, of those in use; MG_SLOTS of them */
};

struct hops_ports { /* the interfaces that carry our programs */
	uint32_t ifindex[64];
	size_t n;
};

int hops_init(struct hops *hops);
void hops_fini(struct hops *hops);

/* Call when slots changed hands. What is known of a machine is kept. 0 or -ENOMEM. */
int hops_bind(struct hops *hops, const struct slots *slots);

/*
 * Writes the hops. `changed`: NETLINK_... bits since the last call; anything but neighbours has the
 * routes looked up again. `tick`: also ask again for those who do not answer, and for those not
 * confirmed of late.
 */
void hops_apply(struct hops *hops, struct netlink *nl, const struct slots *slots,
		const struct hops_ports *ports, unsigned changed, bool tick);

#endif
