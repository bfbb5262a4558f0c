/* SPDX-License-Identifier: MIT */
/*
 * The plan: for every persona listener, which endpoints may take a connection. Computed by a pure
 * function from configuration, observations and the operator's overrides; published whole. The
 * kernel and the proxy are its two readers.
 */
#ifndef CORE_PLAN_H
#define CORE_PLAN_H

#include "core/model.h"
#include "core/score.h"

struct override { /* of a node, by the operator; survives restarts */
	char node[MG_NAME_MAX];
	bool drain;
	int32_t weight; /* -1: as configured */
};

struct plan_endpoint { /* same index as model.endpoints */
	char node[MG_NAME_MAX];
	char service[MG_NAME_MAX];
	struct addr addr;
	uint16_t port;
	enum engine engine;
	enum mg_state state; /* UP, DOWN or DRAIN */
	uint32_t weight;
	uint32_t capacity;
	uint32_t idle_ms;
};

struct plan_tier {
	char persona[MG_NAME_MAX];
	uint32_t *endpoints; /* every member, eligible or not: for explain, personas and fallback */
	size_t n_endpoints;
};

struct plan_row { /* one persona listener */
	char persona[MG_NAME_MAX];
	char service[MG_NAME_MAX];
	uint16_t port;
	enum mg_affinity affinity;
	struct plan_tier
		*tiers; /* the persona itself first, then its cascade; no endpoint in two tiers */
	size_t n_tiers;
};

struct plan {
	uint64_t version;
	uint32_t queue_ms;
	struct plan_endpoint *endpoints;
	size_t n_endpoints;
	struct plan_row *rows;
	size_t n_rows;
};

/* NULL with errno on lack of memory. `health` has model->n_endpoints entries. */
struct plan *plan_build(const struct model *model, const struct score *health,
			const struct override *overrides, size_t n_overrides, uint64_t version);
void plan_free(struct plan *plan);

/* What the two readers choose with: may this endpoint take a connection, all counts aside? */
bool plan_eligible(const struct plan_endpoint *endpoint);

/*
 * Writes the row as the kernel's pick reads it: name, tiers, counts and slots of the *eligible*
 * endpoints. `slots[i]` is the slot of plan endpoint i, 0 = not reachable by this reader (left
 * out); `slots` NULL: the slot of endpoint i is i + 1. `list` takes up to MG_ROW_MAX slots;
 * row->node is filled when they fit in MG_ROW_INLINE. row->more is left 0. Returns the number of
 * candidates.
 */
size_t plan_fill_row(const struct plan *plan, const struct plan_row *from, const uint16_t *slots,
		     struct mg_row *row, uint16_t list[MG_ROW_MAX]);

/* Fills what the controller knows of an mg_node (name, addr, port, state, weight, capacity,
 * idle_ms). */
void plan_fill_node(const struct plan_endpoint *from, struct mg_node *node);

/* JSON of the plan for followers (control API), and back. NULL with *error text on a bad document.
 */
void plan_write(const struct plan *plan, struct buf *out);
struct json;
struct plan *plan_read(const struct json *document, char error[256]);

#endif
