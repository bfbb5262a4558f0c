/* SPDX-License-Identifier: MIT */
/*
 * Which slot of mg_nodes belongs to whom. An owner is known by name ("node/service"), address and
 * port; it keeps its slot as long as it is configured or has a connection, across publishes and
 * restarts of the controller: what the array says is all there is to know. Works on the array
 * alone, no system call; tests give it plain memory.
 *
 * A slot's life: FREE → given (generation + 1) → UP, DOWN, DRAIN as the plan says → GONE (left the
 * plan) → FREE once two sweeps in a row found nothing on it.
 */
#ifndef DATAPATH_SLOTS_H
#define DATAPATH_SLOTS_H

#include "core/plan.h"

struct slots {
	struct mg_node *nodes; /* MG_SLOTS of them, shared with the kernel; not owned */
	uint32_t top;	       /* used slots are in [1, top) */
	uint32_t used;
	uint8_t *quiet;	 /* by slot: sweeps in a row that found a GONE slot empty */
	uint16_t *index; /* hash of owners → slot; rebuilt at each assignment */
};

/* Takes the array as it is. 0 or -ENOMEM. */
int slots_init(struct slots *slots, struct mg_node *nodes);
void slots_fini(struct slots *slots);

/*
 * Gives each endpoint of the plan its slot (slot_of[endpoint]) and writes what the plan says of it.
 * `given` is called for each slot that changes hands, before it is in use. 0; -ENOSPC: nothing was
 * changed.
 */
int slots_assign(struct slots *slots, const struct plan *plan, uint16_t *slot_of,
		 void (*given)(uint32_t slot, void *arg), void *arg);

/* Marks as GONE what is in use and in none of slot_of[0..n). Call when no row names them any more.
 * 0 or -ENOMEM. */
int slots_retire(struct slots *slots, const uint16_t *slot_of, size_t n);

/* After a sweep: frees GONE slots that are empty. Returns how many. */
size_t slots_release(struct slots *slots);

/* Writes the way to the node (and our address towards it) so that no packet sees half of it. */
void slots_set_hop(struct mg_node *node, const struct mg_hop *hop, const uint8_t snat[16]);

#endif
