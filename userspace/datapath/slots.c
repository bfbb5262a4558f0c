/* SPDX-License-Identifier: MIT */
#include "datapath/slots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INDEX_SIZE   65536 /* a power of two, twice MG_SLOTS */
#define QUIET_ENOUGH 2

_Static_assert(INDEX_SIZE >= 2 * MG_SLOTS, "the index is never more than half full");
_Static_assert(MG_SLOTS - 1 <= UINT16_MAX, "a slot fits in a row");

/* Fields change under the kernel's eyes: each store is whole. */
#define STORE(field, value)	 __atomic_store_n(&(field), (value), __ATOMIC_RELAXED)
#define STORE_LAST(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)

typedef uint64_t __attribute__((may_alias)) hop_half; /* struct mg_hop is two of them */

static uint32_t mix(uint32_t hash, const void *data, size_t len) /* FNV-1a */
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * 16777619u;
	return hash;
}

static uint32_t owner_hash(const struct mg_node *node)
{
	uint32_t hash = mix(2166136261u, node->name, strnlen(node->name, sizeof(node->name)));

	hash = mix(hash, node->addr, sizeof(node->addr));
	return mix(hash, &node->port_be, sizeof(node->port_be));
}

static bool same_owner(const struct mg_node *a, const struct mg_node *b)
{
	return strncmp(a->name, b->name, sizeof(a->name)) == 0 &&
	       memcmp(a->addr, b->addr, sizeof(a->addr)) == 0 && a->port_be == b->port_be;
}

/* Slot of the owner; 0, and where it would be entered. */
static uint16_t index_find(const struct slots *slots, const struct mg_node *owner, uint32_t *place)
{
	uint32_t at = owner_hash(owner) & (INDEX_SIZE - 1);

	while (slots->index[at] && !same_owner(&slots->nodes[slots->index[at]], owner))
		at = (at + 1) & (INDEX_SIZE - 1);
	*place = at;
	return slots->index[at];
}

static void index_build(struct slots *slots)
{
	uint32_t place;

	memset(slots->index, 0, INDEX_SIZE * sizeof(*slots->index));
	for (uint32_t slot = 1; slot < slots->top; slot++) {
		if (slots->nodes[slot].state == MG_NODE_FREE)
			continue;
		if (!index_find(slots, &slots->nodes[slot], &place))
			slots->index[place] = (uint16_t)slot;
	}
}

int slots_init(struct slots *slots, struct mg_node *nodes)
{
	memset(slots, 0, sizeof(*slots));
	slots->nodes = nodes;
	slots->top = 1;
	slots->quiet = calloc(MG_SLOTS, sizeof(*slots->quiet));
	slots->index = calloc(INDEX_SIZE, sizeof(*slots->index));
	if (!slots->quiet || !slots->index) {
		slots_fini(slots);
		return -ENOMEM;
	}
	for (uint32_t slot = 1; slot < MG_SLOTS; slot++) {
		if (nodes[slot].state == MG_NODE_FREE)
			continue;
		slots->used++;
		slots->top = slot + 1;
	}
	return 0;
}

void slots_fini(struct slots *slots)
{
	free(slots->quiet);
	free(slots->index);
	slots->quiet = NULL;
	slots->index = NULL;
}

void slots_set_hop(struct mg_node *node, const struct mg_hop *hop, const uint8_t snat[16])
{
	hop_half want[2], *now = (hop_half *)&node->hop;
	bool snat_changes = memcmp(node->snat, snat, sizeof(node->snat)) != 0;

	memcpy(want, hop, sizeof(want));
	if (snat_changes &&
	    node->hop.ifindex) { /* nobody picks the node while its two halves differ */
		STORE(node->hop.ifindex, 0);
		__atomic_thread_fence(__ATOMIC_RELEASE);
	}
	if (snat_changes)
		memcpy(node->snat, snat, sizeof(node->snat));
	if (!hop->ifindex) { /* first not to be chosen, then the rest */
		if (now[1] != want[1])
			STORE_LAST(now[1], want[1]);
		return;
	}
	if (now[0] != want[0])
		STORE_LAST(now[0], want[0]);
	if (now[1] != want[1])
		STORE_LAST(now[1], want[1]);
}

/* Enters a new owner into a free slot. The kernel looks at it once `state` says so. */
static void slot_give(struct mg_node *node, const struct mg_node *owner)
{
	uint32_t generation = node->generation + 1;

	memset(&node->hop, 0, sizeof(node->hop));
	memcpy(node->name, owner->name, sizeof(node->name));
	memcpy(node->addr, owner->addr, sizeof(node->addr));
	memset(node->snat, 0, sizeof(node->snat));
	node->port_be = owner->port_be;
	node->generation = generation;
	node->weight = owner->weight;
	node->capacity = owner->capacity;
	node->idle_ms = owner->idle_ms;
	node->relayed = 0;
	node->connections = 0;
	node->busy = 0;
	node->embryos = 0;
	node->connects =
		0; /* `ports` goes on: the last used SNAT port is the last to be used again */
	STORE_LAST(node->state, owner->state);
}

static void slot_update(struct mg_node *node, const struct mg_node *owner)
{
	if (node->weight != owner->weight)
		STORE(node->weight, owner->weight);
	if (node->capacity != owner->capacity)
		STORE(node->capacity, owner->capacity);
	if (node->idle_ms != owner->idle_ms)
		STORE(node->idle_ms, owner->idle_ms);
	if (node->state != owner->state)
		STORE_LAST(node->state, owner->state);
}

static void owner_of(const struct plan_endpoint *endpoint, struct mg_node *owner)
{
	memset(owner, 0, sizeof(*owner));
	plan_fill_node(endpoint, owner);
}

/* Lowest free slot; there is one. */
static uint32_t slot_find_free(const struct slots *slots, uint32_t from)
{
	while (slots->nodes[from].state != MG_NODE_FREE)
		from++;
	return from;
}

int slots_assign(struct slots *slots, const struct plan *plan, uint16_t *slot_of,
		 void (*given)(uint32_t slot, void *arg), void *arg)
{
	uint32_t missing = 0, place, from = 1;
	struct mg_node owner;

	index_build(slots);
	for (size_t i = 0; i < plan->n_endpoints; i++) {
		owner_of(&plan->endpoints[i], &owner);
		slot_of[i] = index_find(slots, &owner, &place);
		missing += slot_of[i] == 0;
	}
	if (missing > MG_SLOTS - 1 - slots->used)
		return -ENOSPC;
	for (size_t i = 0; i < plan->n_endpoints; i++) {
		owner_of(&plan->endpoints[i], &owner);
		if (slot_of[i]) {
			slots->quiet[slot_of[i]] = 0;
			slot_update(&slots->nodes[slot_of[i]], &owner);
			continue;
		}
		from = slot_find_free(slots, from);
		given(from, arg);
		slot_give(&slots->nodes[from], &owner);
		slots->quiet[from] = 0;
		slots->used++;
		if (from >= slots->top)
			slots->top = from + 1;
		slot_of[i] = (uint16_t)from;
	}
	return 0;
}

int slots_retire(struct slots *slots, const uint16_t *slot_of, size_t n)
{
	uint8_t *claimed = calloc(slots->top, 1);

	if (!claimed)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		claimed[slot_of[i]] = 1;
	for (uint32_t slot = 1; slot < slots->top; slot++) {
		struct mg_node *node = &slots->nodes[slot];

		if (claimed[slot] || node->state == MG_NODE_FREE || node->state == MG_NODE_GONE)
			continue;
		STORE(node->relayed, 0);
		STORE_LAST(node->state, MG_NODE_GONE);
	}
	free(claimed);
	return 0;
}

size_t slots_release(struct slots *slots)
{
	size_t freed = 0;

	for (uint32_t slot = 1; slot < slots->top; slot++) {
		struct mg_node *node = &slots->nodes[slot];
		bool empty = node->connections == 0 && node->embryos == 0;

		if (node->state != MG_NODE_GONE || !empty) {
			slots->quiet[slot] = 0;
			continue;
		}
		if (++slots->quiet[slot] < QUIET_ENOUGH)
			continue;
		slots->quiet[slot] = 0;
		STORE_LAST(node->state, MG_NODE_FREE);
		slots->used--;
		freed++;
	}
	while (slots->top > 1 && slots->nodes[slots->top - 1].state == MG_NODE_FREE)
		slots->top--;
	return freed;
}
