/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "control/status.h"
#include "megalith/version.h"

static void names_put(struct json_writer *w, const char *key, const struct names *names)
{
	json_name(w, key);
	if (!names->list) {
		json_put_null(w);
		return;
	}
	json_begin(w, '[');
	for (size_t i = 0; i < names->n; i++)
		json_put_string(w, names->list[i]);
	json_end(w, ']');
}

static const char *state_name(enum mg_state state)
{
	switch (state) {
	case MG_NODE_UP:
		return "up";
	case MG_NODE_DRAIN:
		return "drain";
	default:
		return "down";
	}
}

static void service_put(struct json_writer *w, const struct state *state, size_t endpoint)
{
	const struct plan_endpoint *planned = &state->plan->endpoints[endpoint];
	const struct score *score = &state->scores[endpoint];
	uint32_t relayed = state->relayed[endpoint];
	struct datapath_counts counts;

	state_counts(state, endpoint, &counts);
	json_name(w, planned->service);
	json_begin(w, '{');
	json_pair_string(w, "engine", engine_name(planned->engine));
	json_pair_int(w, "port", planned->port);
	json_pair_string(w, "state", state_name(planned->state));
	json_pair_bool(w, "up", score->up);
	json_pair_int(w, "connections", (int64_t)counts.connections + relayed);
	json_pair_int(w, "busy", (int64_t)counts.busy + counts.embryos + relayed);
	json_pair_int(w, "relayed", relayed);
	json_pair_int(w, "capacity", planned->capacity);
	json_pair_int(w, "rtt_us", score->rtt_us);
	json_pair_int(w, "ttfb_ms", score->ttfb_ms);
	names_put(w, "models", &state->known[endpoint].models);
	names_put(w, "loaded", &state->known[endpoint].loaded);
	json_pair_string(w, "reason", probe_reason_word(score->reason));
	json_end(w, '}');
}

/* A node is up when one of its services is: what it can still do is used. */
static const char *node_state(const struct state *state, const struct model_node *node)
{
	const struct override *override = state_override(state, node->name);

	if (override && override->drain)
		return "drain";
	for (size_t i = 0; i < node->n_services; i++)
		if (state->scores[node->first_endpoint + i].up)
			return "up";
	return "down";
}

static void node_put(struct json_writer *w, const struct state *state,
		     const struct model_node *node)
{
	const struct override *override = state_override(state, node->name);
	bool weighted = override && override->weight >= 0;
	char text[ADDR_TEXT_MAX];

	json_begin(w, '{');
	json_pair_string(w, "name", node->name);
	json_pair_string(w, "address", addr_format(&node->address, text));
	json_pair_string(w, "state", node_state(state, node));
	json_pair_int(w, "weight", weighted ? override->weight : (int64_t)node->weight);
	json_pair_int(w, "configured_weight", node->weight);
	json_name(w, "services");
	json_begin(w, '{');
	for (size_t i = 0; i < node->n_services; i++)
		service_put(w, state, node->first_endpoint + i);
	json_end(w, '}');
	json_end(w, '}');
}

static void persona_put(struct json_writer *w, const struct model *model,
			const struct model_persona *persona)
{
	json_begin(w, '{');
	json_pair_string(w, "name", persona->name);
	json_name(w, "listen");
	json_begin(w, '{');
	for (size_t i = 0; i < persona->n_listeners; i++)
		json_pair_int(w, persona->listeners[i].service, persona->listeners[i].port);
	json_end(w, '}');
	json_name(w, "nodes");
	json_begin(w, '[');
	for (size_t i = 0; i < persona->n_nodes; i++)
		json_put_string(w, model->nodes[persona->nodes[i]].name);
	json_end(w, ']');
	json_name(w, "cascade");
	json_begin(w, '[');
	for (size_t i = 0; i < persona->n_cascade; i++)
		json_put_string(w, model->personas[persona->cascade[i]].name);
	json_end(w, ']');
	json_pair_string(w, "affinity",
			 persona->affinity == MG_AFFINITY_CLIENT ? "client" : "none");
	json_end(w, '}');
}

static void interfaces_put(struct json_writer *w, const struct datapath *dp)
{
	const struct datapath_interface *list = NULL;
	size_t n = dp ? datapath_interfaces(dp, &list) : 0;

	json_name(w, "interfaces");
	json_begin(w, '[');
	for (size_t i = 0; i < n; i++) {
		json_begin(w, '{');
		json_pair_string(w, "name", list[i].name);
		json_pair_string(w, "mode", datapath_mode_name(list[i].mode));
		json_pair_string(w, "note", list[i].note);
		json_end(w, '}');
	}
	json_end(w, ']');
}

static void addresses_put(struct json_writer *w, const struct datapath *dp)
{
	const struct addr *list = NULL;
	size_t n = dp ? datapath_addresses(dp, &list) : 0;
	char text[ADDR_TEXT_MAX];

	json_name(w, "addresses");
	json_begin(w, '[');
	for (size_t i = 0; i < n; i++)
		json_put_string(w, addr_format(&list[i], text));
	json_end(w, ']');
}

static void datapath_put(struct json_writer *w, const struct state *state)
{
	const struct datapath *dp = state->datapath;
	enum datapath_mode mode = dp ? datapath_mode_of(dp) : DATAPATH_NONE;
	int64_t flows = 0, embryos = 0;

	for (size_t i = 0; i < state->plan->n_endpoints; i++) {
		struct datapath_counts counts;

		state_counts(state, i, &counts);
		flows += counts.connections;
		embryos += counts.embryos;
	}
	json_name(w, "datapath");
	json_begin(w, '{');
	json_pair_string(w, "mode", datapath_mode_name(mode));
	interfaces_put(w, dp);
	json_pair_bool(w, "adopted", dp && datapath_adopted(dp));
	addresses_put(w, dp);
	json_pair_int(w, "flows", flows);
	json_pair_int(w, "embryos", embryos);
	json_pair_int(w, "max_flows", dp ? state->model->gateway.max_flows : 0);
	json_end(w, '}');
}

static void counters_put(struct json_writer *w, const struct datapath *dp)
{
	static const char *const names[MG_R_COUNT] = {
#define X(name, metric, text) [MG_R_##name] = metric,
		MG_REASONS(X)
#undef X
	};

	json_name(w, "counters");
	json_begin(w, '{');
	for (size_t i = 0; i < MG_R_COUNT; i++)
		json_pair_int(w, names[i],
			      dp ? (int64_t)datapath_counter(dp, (enum mg_reason)i) : 0);
	json_end(w, '}');
}

static void router_put(struct json_writer *w, const struct state *state)
{
	const struct model *model = state->model;
	char text[ADDR_TEXT_MAX];
	struct tally sum;

	state_tally_sum(state, &sum);
	json_name(w, "router");
	json_begin(w, '{');
	json_pair_string(w, "listen",
			 addr_format_port(&model->router.address, model->router.port, text));
	json_pair_bool(w, "keys", model->router.keys_file != NULL);
	json_pair_int(w, "aliases", (int64_t)model->n_aliases);
	json_pair_int(w, "requests", (int64_t)tally_requests(&sum));
	json_pair_int(w, "queued", (int64_t)sum.queued);
	json_end(w, '}');
	tally_fini(&sum);
}

void status_write(const struct state *state, const struct status_about *about, struct buf *out)
{
	const struct model *model = state->model;
	struct json_writer w = {.out = out};

	json_begin(&w, '{');
	json_pair_string(&w, "version", MEGALITH_VERSION);
	json_pair_int(&w, "pid", about->pid);
	json_pair_string(&w, "config", about->config);
	json_pair_int(&w, "plan_version", (int64_t)state->version);
	json_pair_int(&w, "uptime_ms", (int64_t)about->uptime_ms);
	datapath_put(&w, state);
	json_name(&w, "nodes");
	json_begin(&w, '[');
	for (size_t i = 0; i < model->n_nodes; i++)
		node_put(&w, state, &model->nodes[i]);
	json_end(&w, ']');
	json_name(&w, "personas");
	json_begin(&w, '[');
	for (size_t i = 0; i < model->n_personas; i++)
		persona_put(&w, model, &model->personas[i]);
	json_end(&w, ']');
	counters_put(&w, state->datapath);
	json_name(&w, "proxy");
	json_begin(&w, '{');
	json_pair_int(&w, "followers", (int64_t)about->followers);
	json_end(&w, '}');
	router_put(&w, state);
	json_end(&w, '}');
	buf_puts(out, "\n");
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Each name once, in alphabetical order. */
static void service_names_put(struct json_writer *w, const struct model *model)
{
	const char **names = calloc(model->n_endpoints + 1, sizeof(*names));

	json_begin(w, '[');
	for (size_t i = 0; names && i < model->n_endpoints; i++) {
		const struct model_endpoint *of = &model->endpoints[i];

		names[i] = model->nodes[of->node].services[of->service].name;
	}
	if (names)
		qsort(names, model->n_endpoints, sizeof(*names), compare_names);
	for (size_t i = 0; names && i < model->n_endpoints; i++)
		if (i == 0 || strcmp(names[i - 1], names[i]) != 0)
			json_put_string(w, names[i]);
	json_end(w, ']');
	free(names);
}

void status_names_write(const struct state *state, struct buf *out)
{
	const struct model *model = state->model;
	struct json_writer w = {.out = out};

	json_begin(&w, '{');
	json_name(&w, "nodes");
	json_begin(&w, '[');
	for (size_t i = 0; i < model->n_nodes; i++)
		json_put_string(&w, model->nodes[i].name);
	json_end(&w, ']');
	json_name(&w, "personas");
	json_begin(&w, '[');
	for (size_t i = 0; i < model->n_personas; i++)
		json_put_string(&w, model->personas[i].name);
	json_end(&w, ']');
	json_name(&w, "services");
	service_names_put(&w, model);
	json_end(&w, '}');
	buf_puts(out, "\n");
}

struct flows { /* a list being written */
	const struct state *state;
	struct json_writer w;
	const char *node, *persona;
	uint64_t total;
};

static const struct plan_row *flow_row(const struct plan *plan, uint16_t port)
{
	for (size_t i = 0; i < plan->n_rows; i++)
		if (plan->rows[i].port == port)
			return &plan->rows[i];
	return NULL;
}

static void flow_put(struct json_writer *w, const struct datapath_flow *flow,
		     const struct plan_endpoint *endpoint, const struct plan_row *row)
{
	const uint32_t closing = MG_FIN_CLIENT | MG_FIN_NODE | MG_RESET | MG_ENDED;
	char text[ADDR_TEXT_MAX];

	json_begin(w, '{');
	json_pair_string(w, "client", addr_format_port(&flow->client, flow->client_port, text));
	json_pair_string(w, "listener",
			 addr_format_port(&flow->listener_addr, flow->listener_port, text));
	json_pair_string(w, "node", endpoint ? endpoint->node : NULL);
	json_pair_string(w, "service", endpoint ? endpoint->service : NULL);
	json_pair_string(w, "persona", row ? row->persona : NULL);
	json_pair_string(w, "node_address",
			 addr_format_port(&flow->node_addr, flow->node_port, text));
	json_pair_string(w, "snat", addr_format_port(&flow->snat_addr, flow->snat_port, text));
	json_pair_string(w, "state", flow->flags & closing ? "closing" : "open");
	json_pair_bool(w, "busy", flow->flags & MG_BUSY);
	json_pair_int(w, "idle_ms", flow->idle_ms);
	json_end(w, '}');
}

static bool flow_visit(const struct datapath_flow *flow, void *arg)
{
	struct flows *flows = arg;
	const struct plan *plan = flows->state->plan;
	bool named = flows->state->datapath_current && flow->endpoint < plan->n_endpoints;
	const struct plan_endpoint *endpoint = named ? &plan->endpoints[flow->endpoint] : NULL;
	const struct plan_row *row = flow_row(plan, flow->listener_port);

	if (flows->node && (!endpoint || strcmp(endpoint->node, flows->node) != 0))
		return true;
	if (flows->persona && (!row || strcmp(row->persona, flows->persona) != 0))
		return true;
	if (flows->total++ < STATUS_FLOWS_MAX)
		flow_put(&flows->w, flow, endpoint, row);
	return true;
}

int status_flows_write(const struct state *state, const char *node, const char *persona,
		       struct buf *out)
{
	struct flows flows = {.state = state, .w.out = out, .node = node, .persona = persona};
	int err = 0;

	json_begin(&flows.w, '{');
	json_name(&flows.w, "flows");
	json_begin(&flows.w, '[');
	if (state->datapath)
		err = datapath_flows(state->datapath, flow_visit, &flows);
	json_end(&flows.w, ']');
	json_pair_int(&flows.w, "total", (int64_t)flows.total);
	json_end(&flows.w, '}');
	buf_puts(out, "\n");
	return err;
}
