/* SPDX-License-Identifier: MIT */
/* The plan on the control socket: written by the controller, read by followers. Reading trusts
 * nothing. */
#include <stdlib.h>

#include "base/json.h"
#include "core/plan.h"
#include "core/reading.h"

static const char *const state_names[] = {
	[MG_NODE_FREE] = "free",   [MG_NODE_UP] = "up",	    [MG_NODE_DOWN] = "down",
	[MG_NODE_DRAIN] = "drain", [MG_NODE_GONE] = "gone",
};
static const char *const affinity_names[] = {
	[MG_AFFINITY_NONE] = "none",
	[MG_AFFINITY_CLIENT] = "client",
};

/* --- writing --- */

static void write_endpoint(struct json_writer *w, const struct plan_endpoint *endpoint)
{
	char text[ADDR_TEXT_MAX];

	json_begin(w, '{');
	json_pair_string(w, "node", endpoint->node);
	json_pair_string(w, "service", endpoint->service);
	json_pair_string(w, "address", addr_format(&endpoint->addr, text));
	json_pair_int(w, "port", endpoint->port);
	json_pair_string(w, "engine", engine_name(endpoint->engine));
	json_pair_string(w, "state", state_names[endpoint->state]);
	json_pair_int(w, "weight", endpoint->weight);
	json_pair_int(w, "capacity", endpoint->capacity);
	json_pair_int(w, "idle_ms", endpoint->idle_ms);
	json_end(w, '}');
}

static void write_tier(struct json_writer *w, const struct plan_tier *tier)
{
	json_begin(w, '{');
	json_pair_string(w, "persona", tier->persona);
	json_name(w, "endpoints");
	json_begin(w, '[');
	for (size_t i = 0; i < tier->n_endpoints; i++)
		json_put_int(w, tier->endpoints[i]);
	json_end(w, ']');
	json_end(w, '}');
}

static void write_row(struct json_writer *w, const struct plan_row *row)
{
	json_begin(w, '{');
	json_pair_string(w, "persona", row->persona);
	json_pair_string(w, "service", row->service);
	json_pair_int(w, "port", row->port);
	json_pair_string(w, "affinity", affinity_names[row->affinity]);
	json_name(w, "tiers");
	json_begin(w, '[');
	for (size_t t = 0; t < row->n_tiers; t++)
		write_tier(w, &row->tiers[t]);
	json_end(w, ']');
	json_end(w, '}');
}

void plan_write(const struct plan *plan, struct buf *out)
{
	struct json_writer w = {.out = out};

	json_begin(&w, '{');
	json_pair_int(&w, "version", (int64_t)plan->version);
	json_pair_int(&w, "queue_ms", plan->queue_ms);
	json_name(&w, "endpoints");
	json_begin(&w, '[');
	for (size_t i = 0; i < plan->n_endpoints; i++)
		write_endpoint(&w, &plan->endpoints[i]);
	json_end(&w, ']');
	json_name(&w, "rows");
	json_begin(&w, '[');
	for (size_t i = 0; i < plan->n_rows; i++)
		write_row(&w, &plan->rows[i]);
	json_end(&w, ']');
	json_end(&w, '}');
}

/* --- reading --- */

static int read_engine(const struct reading *r, const struct json *object, enum engine *engine)
{
	const char *words[ENGINE_COUNT];
	int found;

	for (unsigned i = 0; i < ENGINE_COUNT; i++)
		words[i] = engine_name((enum engine)i);
	found = reading_word(r, object, "engine", words, ENGINE_COUNT);
	*engine = found < 0 ? ENGINE_TCP : (enum engine)found;
	return found < 0 ? -1 : 0;
}

static int read_endpoint(const struct reading *r, const struct json *object,
			 struct plan_endpoint *endpoint)
{
	const char *address = json_string(json_get(object, "address"));
	int state;

	if (!address || addr_parse(&endpoint->addr, address))
		return reading_refuse(r, object, "\"address\" is no address");
	if (reading_name(r, object, "node", endpoint->node) ||
	    reading_name(r, object, "service", endpoint->service) ||
	    reading_port(r, object, &endpoint->port) || read_engine(r, object, &endpoint->engine) ||
	    reading_u32(r, object, "weight", 1000, &endpoint->weight) ||
	    reading_u32(r, object, "capacity", UINT32_MAX, &endpoint->capacity) ||
	    reading_u32(r, object, "idle_ms", UINT32_MAX, &endpoint->idle_ms))
		return -1;
	state = reading_word(r, object, "state", state_names,
			     sizeof(state_names) / sizeof(state_names[0]));
	if (state < 0)
		return -1;
	endpoint->state = (enum mg_state)state;
	return 0;
}

static int read_endpoints(struct reading *r, const struct json *document, struct plan *plan)
{
	const struct json *object = NULL;
	long n = reading_array(r, document, "endpoints", MG_NODES_MAX * MG_NODE_SERVICES_MAX,
			       &object);

	if (n < 0)
		return -1;
	plan->endpoints = calloc((size_t)n + 1, sizeof(*plan->endpoints));
	if (!plan->endpoints)
		return reading_memory(r, document);
	for (; object; object = json_next(object)) {
		if (read_endpoint(r, object, &plan->endpoints[plan->n_endpoints++]))
			return -1;
	}
	r->n_endpoints = plan->n_endpoints;
	return 0;
}

static int read_tier(const struct reading *r, const struct json *object, struct plan_tier *tier)
{
	if (reading_name(r, object, "persona", tier->persona))
		return -1;
	return reading_indices(r, object, "endpoints", MG_ROW_MAX, &tier->endpoints,
			       &tier->n_endpoints);
}

static int read_row(const struct reading *r, const struct json *object, struct plan_row *row)
{
	const struct json *tier = NULL;
	long n = reading_array(r, object, "tiers", MG_TIERS_MAX, &tier);
	int affinity = reading_word(r, object, "affinity", affinity_names,
				    sizeof(affinity_names) / sizeof(affinity_names[0]));

	if (n < 0 || affinity < 0 || reading_name(r, object, "persona", row->persona) ||
	    reading_name(r, object, "service", row->service) || reading_port(r, object, &row->port))
		return -1;
	if (n == 0)
		return reading_refuse(r, object, "\"tiers\" is empty");
	row->affinity = (enum mg_affinity)affinity;
	row->tiers = calloc((size_t)n, sizeof(*row->tiers));
	if (!row->tiers)
		return reading_memory(r, object);
	for (; tier; tier = json_next(tier)) {
		if (read_tier(r, tier, &row->tiers[row->n_tiers++]))
			return -1;
	}
	return 0;
}

static int read_rows(const struct reading *r, const struct json *document, struct plan *plan)
{
	const struct json *object = NULL;
	long n = reading_array(r, document, "rows", UINT16_MAX, &object);

	if (n < 0)
		return -1;
	plan->rows = calloc((size_t)n + 1, sizeof(*plan->rows));
	if (!plan->rows)
		return reading_memory(r, document);
	for (; object; object = json_next(object)) {
		if (read_row(r, object, &plan->rows[plan->n_rows++]))
			return -1;
	}
	return 0;
}

struct plan *plan_read(const struct json *document, char error[256])
{
	struct plan *plan = calloc(1, sizeof(*plan));
	struct reading r = {.what = "plan", .error = error};

	if (!plan) {
		reading_memory(&r, document);
		return NULL;
	}
	if (reading_u64(&r, document, "version", INT64_C(1) << 53, &plan->version) ||
	    reading_u32(&r, document, "queue_ms", UINT32_MAX, &plan->queue_ms) ||
	    read_endpoints(&r, document, plan) || read_rows(&r, document, plan)) {
		plan_free(plan);
		return NULL;
	}
	return plan;
}
