/* SPDX-License-Identifier: MIT */
#include "core/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- building --- */

static const struct override *find_override(const struct override *overrides, size_t n,
					    const char *node)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(overrides[i].node, node) == 0)
			return &overrides[i];
	}
	return NULL;
}

/* A dead node is down also while it is drained: its connections have to be reset. */
static enum mg_state endpoint_state(const struct score *health, const struct override *override)
{
	if (!health->up)
		return MG_NODE_DOWN;
	return override && override->drain ? MG_NODE_DRAIN : MG_NODE_UP;
}

static void build_endpoint(struct plan_endpoint *endpoint, const struct model_node *node,
			   const struct model_service *service)
{
	memcpy(endpoint->node, node->name, sizeof(endpoint->node));
	memcpy(endpoint->service, service->name, sizeof(endpoint->service));
	endpoint->addr = node->address;
	endpoint->port = service->port;
	endpoint->engine = service->engine;
	endpoint->weight = node->weight;
	endpoint->capacity = service->capacity;
	endpoint->idle_ms = service->idle_ms;
}

static int build_endpoints(struct plan *plan, const struct model *model, const struct score *health,
			   const struct override *overrides, size_t n_overrides)
{
	size_t e = 0;

	plan->endpoints = calloc(model->n_endpoints + 1, sizeof(*plan->endpoints));
	if (!plan->endpoints)
		return -ENOMEM;
	plan->n_endpoints = model->n_endpoints;
	for (size_t i = 0; i < model->n_nodes; i++) {
		const struct model_node *node = &model->nodes[i];
		const struct override *override = find_override(overrides, n_overrides, node->name);

		for (size_t s = 0; s < node->n_services; s++, e++) {
			build_endpoint(&plan->endpoints[e], node, &node->services[s]);
			plan->endpoints[e].state = endpoint_state(&health[e], override);
			if (override && override->weight >= 0)
				plan->endpoints[e].weight = (uint32_t) override->weight;
		}
	}
	return 0;
}

/* `seen[e]` holds the number of the last row that took endpoint e: none is in two tiers of a row.
 */
static int build_tier(struct plan_tier *tier, const struct model *model,
		      const struct model_persona *persona, const char *service, size_t *seen,
		      size_t row)
{
	memcpy(tier->persona, persona->name, sizeof(tier->persona));
	tier->endpoints = calloc(persona->n_nodes + 1, sizeof(*tier->endpoints));
	if (!tier->endpoints)
		return -ENOMEM;
	for (size_t i = 0; i < persona->n_nodes; i++) {
		const struct model_node *node = &model->nodes[persona->nodes[i]];
		int s = model_find_service(node, service);
		size_t e = node->first_endpoint + (size_t)(s < 0 ? 0 : s);

		if (s < 0 || seen[e] == row)
			continue;
		seen[e] = row;
		tier->endpoints[tier->n_endpoints++] = (uint32_t)e;
	}
	return 0;
}

static int build_row(struct plan_row *row, const struct model *model,
		     const struct model_persona *persona, const struct model_listener *listener,
		     size_t *seen, size_t number)
{
	memcpy(row->persona, persona->name, sizeof(row->persona));
	memcpy(row->service, listener->service, sizeof(row->service));
	row->port = listener->port;
	row->affinity = persona->affinity;
	row->tiers = calloc(1 + persona->n_cascade, sizeof(*row->tiers));
	if (!row->tiers)
		return -ENOMEM;
	row->n_tiers = 1 + persona->n_cascade;
	for (size_t t = 0; t < row->n_tiers; t++) {
		const struct model_persona *member =
			t ? &model->personas[persona->cascade[t - 1]] : persona;

		if (build_tier(&row->tiers[t], model, member, listener->service, seen, number))
			return -ENOMEM;
	}
	return 0;
}

static int build_persona(struct plan *plan, const struct model *model,
			 const struct model_persona *persona, size_t *seen)
{
	for (size_t l = 0; l < persona->n_listeners; l++) {
		struct plan_row *row = &plan->rows[plan->n_rows++];

		if (build_row(row, model, persona, &persona->listeners[l], seen, plan->n_rows))
			return -ENOMEM;
	}
	return 0;
}

static int build_rows(struct plan *plan, const struct model *model)
{
	size_t *seen = calloc(model->n_endpoints + 1, sizeof(*seen)), n = 0;
	int err = -ENOMEM;

	for (size_t p = 0; p < model->n_personas; p++)
		n += model->personas[p].n_listeners;
	plan->rows = calloc(n + 1, sizeof(*plan->rows));
	if (!plan->rows || !seen)
		goto out;
	err = 0;
	for (size_t p = 0; p < model->n_personas && !err; p++)
		err = build_persona(plan, model, &model->personas[p], seen);
out:
	free(seen);
	return err;
}

struct plan *plan_build(const struct model *model, const struct score *health,
			const struct override *overrides, size_t n_overrides, uint64_t version)
{
	struct plan *plan = calloc(1, sizeof(*plan));

	if (!plan)
		return NULL;
	plan->version = version;
	plan->queue_ms = model->router.queue_ms;
	if (build_endpoints(plan, model, health, overrides, n_overrides) ||
	    build_rows(plan, model)) {
		plan_free(plan);
		errno = ENOMEM;
		return NULL;
	}
	return plan;
}

static void free_row(struct plan_row *row)
{
	for (size_t t = 0; t < row->n_tiers; t++)
		free(row->tiers[t].endpoints);
	free(row->tiers);
}

void plan_free(struct plan *plan)
{
	if (!plan)
		return;
	for (size_t r = 0; r < plan->n_rows; r++)
		free_row(&plan->rows[r]);
	free(plan->rows);
	free(plan->endpoints);
	free(plan);
}

/* --- as the kernel reads it --- */

bool plan_eligible(const struct plan_endpoint *endpoint)
{
	return endpoint->state == MG_NODE_UP && endpoint->weight > 0;
}

static void join_name(char out[2 * MG_NAME_MAX], const char *first, const char *second)
{
	size_t n = strnlen(first, MG_NAME_MAX - 1), m = strnlen(second, MG_NAME_MAX - 1);

	memset(out, 0, 2 * MG_NAME_MAX);
	memcpy(out, first, n);
	out[n] = '/';
	memcpy(out + n + 1, second, m);
}

static uint32_t slot_of(const uint16_t *slots, uint32_t endpoint)
{
	return slots ? slots[endpoint] : endpoint + 1;
}

static size_t fill_tier(const struct plan *plan, const struct plan_tier *tier,
			const uint16_t *slots, uint16_t list[MG_ROW_MAX], size_t n)
{
	for (size_t i = 0; i < tier->n_endpoints && n < MG_ROW_MAX; i++) {
		uint32_t slot = slot_of(slots, tier->endpoints[i]);

		if (slot && plan_eligible(&plan->endpoints[tier->endpoints[i]]))
			list[n++] = (uint16_t)slot;
	}
	return n;
}

size_t plan_fill_row(const struct plan *plan, const struct plan_row *from, const uint16_t *slots,
		     struct mg_row *row, uint16_t list[MG_ROW_MAX])
{
	size_t n = 0, t;

	memset(row, 0, sizeof(*row));
	join_name(row->name, from->persona, from->service);
	row->listener = (uint32_t)(from - plan->rows);
	row->affinity = (uint8_t)from->affinity;
	for (t = 0; t < from->n_tiers && t < MG_TIERS_MAX; t++) {
		n = fill_tier(plan, &from->tiers[t], slots, list, n);
		row->tier_end[t] = (uint16_t)n;
	}
	row->tiers = (uint8_t)t;
	row->count = (uint16_t)n;
	if (n <= MG_ROW_INLINE)
		memcpy(row->node, list, n * sizeof(*list));
	return n;
}

void plan_fill_node(const struct plan_endpoint *from, struct mg_node *node)
{
	const uint8_t port[2] = {(uint8_t)(from->port >> 8), (uint8_t)from->port};

	join_name(node->name, from->node, from->service);
	memcpy(node->addr, from->addr.bytes, sizeof(node->addr));
	memcpy(&node->port_be, port, sizeof(port));
	node->state = (uint8_t)from->state;
	node->weight = from->weight;
	node->capacity = from->capacity;
	node->idle_ms = from->idle_ms;
}
