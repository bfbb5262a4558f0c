/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "control/metrics.h"

static const char *const counters[MG_R_COUNT] = {
#define X(name, metric, text) [MG_R_##name] = metric,
	MG_REASONS(X)
#undef X
};

/* The segment ended here; all others went on, or to the kernel. */
static bool is_drop(enum mg_reason reason)
{
	return reason == MG_R_TTL || reason == MG_R_NO_HOP || reason == MG_R_REWRITE_FAILED;
}

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* NAME="VALUE", with the escapes of the text format. */
static void label(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '\n') {
			buf_puts(out, "\\n");
			continue;
		}
		if (*value == '\\' || *value == '"')
			buf_puts(out, "\\");
		buf_add(out, value, 1);
	}
	buf_puts(out, "\"");
}

static void endpoint_labels(struct buf *out, const char *name, const struct plan_endpoint *of)
{
	buf_printf(out, "%s{", name);
	label(out, "node", of->node);
	buf_puts(out, ",");
	label(out, "service", of->service);
}

/* The state, with everything that is asked of the datapath asked once. */
struct view {
	const struct state *state;
	const struct plan *plan;
	struct datapath_counts *counts; /* by endpoint */
	const char **personas; /* by endpoint: whose it is; "" when nobody's or of several */
};

static uint64_t value_up(const struct view *view, size_t i)
{
	return view->state->scores[i].up;
}

static uint64_t value_connections(const struct view *view, size_t i)
{
	return (uint64_t)view->counts[i].connections + view->state->relayed[i];
}

static uint64_t value_busy(const struct view *view, size_t i)
{
	const struct datapath_counts *counts = &view->counts[i];

	return (uint64_t)counts->busy + counts->embryos + view->state->relayed[i];
}

static uint64_t value_capacity(const struct view *view, size_t i)
{
	return view->plan->endpoints[i].capacity;
}

/* One sample an endpoint. */
static void gauges(const struct view *view, struct buf *out, const char *name, const char *help,
		   uint64_t (*value)(const struct view *view, size_t endpoint))
{
	family(out, name, "gauge", help);
	for (size_t i = 0; i < view->plan->n_endpoints; i++) {
		endpoint_labels(out, name, &view->plan->endpoints[i]);
		buf_printf(out, "} %" PRIu64 "\n", value(view, i));
	}
}

static void connections_total(const struct view *view, struct buf *out)
{
	static const char name[] = "megalith_connections_total";

	family(out, name, "counter",
	       "Connections steered to a node; persona is the node's own, empty when it has "
	       "several.");
	for (size_t i = 0; i < view->plan->n_endpoints; i++) {
		endpoint_labels(out, name, &view->plan->endpoints[i]);
		buf_puts(out, ",");
		label(out, "persona", view->personas[i]);
		buf_printf(out, "} %" PRIu64 "\n", view->counts[i].connects);
	}
}

/* A node's services together: the label is the node. */
static void bytes_total(const struct view *view, struct buf *out)
{
	static const char *const directions[2] = {"to_node", "to_client"};
	const struct model *model = view->state->model;

	family(out, "megalith_bytes_total", "counter", "Bytes (IP length) of steered packets.");
	for (size_t n = 0; n < 2 * model->n_nodes; n++) {
		const struct model_node *node = &model->nodes[n / 2];
		uint64_t sum = 0;

		for (size_t s = 0; s < node->n_services; s++)
			sum += view->counts[node->first_endpoint + s].bytes[n % 2];
		buf_printf(out, "megalith_bytes_total{direction=\"%s\",", directions[n % 2]);
		label(out, "node", node->name);
		buf_printf(out, "} %" PRIu64 "\n", sum);
	}
}

static uint64_t counter_of(const struct state *state, enum mg_reason reason)
{
	return state->datapath ? datapath_counter(state->datapath, reason) : 0;
}

static void datapath_counters(const struct state *state, struct buf *out)
{
	family(out, "megalith_packets_total", "counter", "Segments of known connections sent on.");
	buf_printf(out, "megalith_packets_total{direction=\"to_node\"} %" PRIu64 "\n",
		   counter_of(state, MG_R_TO_NODE));
	buf_printf(out, "megalith_packets_total{direction=\"to_client\"} %" PRIu64 "\n",
		   counter_of(state, MG_R_TO_CLIENT));
	family(out, "megalith_drops_total", "counter", "Segments dropped by the datapath.");
	for (size_t i = 0; i < MG_R_COUNT; i++)
		if (is_drop((enum mg_reason)i))
			buf_printf(out, "megalith_drops_total{reason=\"%s\"} %" PRIu64 "\n",
				   counters[i], counter_of(state, (enum mg_reason)i));
	family(out, "megalith_datapath_total", "counter",
	       "Every decision of the datapath, by reason (megalithd(8) explains them).");
	for (size_t i = 0; i < MG_R_COUNT; i++)
		buf_printf(out, "megalith_datapath_total{reason=\"%s\"} %" PRIu64 "\n", counters[i],
			   counter_of(state, (enum mg_reason)i));
}

/* Reasons that never happened are left out: a farm of 1,024 nodes would have 15,000 lines of zeros.
 */
static void probe_failures(const struct state *state, struct buf *out)
{
	static const char name[] = "megalith_probe_failures_total";

	family(out, name, "counter", "Probes that failed, by reason.");
	for (size_t i = 0; i < state->plan->n_endpoints; i++)
		for (size_t r = 0; r < PROBE_REASON_COUNT; r++) {
			if (state->scores[i].failures[r] == 0)
				continue;
			endpoint_labels(out, name, &state->plan->endpoints[i]);
			buf_puts(out, ",");
			label(out, "reason", probe_reason_word((enum probe_reason)r));
			buf_printf(out, "} %" PRIu64 "\n", state->scores[i].failures[r]);
		}
}

static void marks(const struct state *state, struct buf *out)
{
	static const char name[] = "megalith_marks_total";

	family(out, name, "counter",
	       "Failures that proxies told of, by what they saw; not each takes the node out.");
	for (size_t i = 0; i < state->plan->n_endpoints; i++)
		for (size_t r = 0; r < PROBE_REASON_COUNT; r++) {
			if (state->scores[i].marks[r] == 0)
				continue;
			endpoint_labels(out, name, &state->plan->endpoints[i]);
			buf_puts(out, ",");
			label(out, "reason", mark_word((enum probe_reason)r));
			buf_printf(out, "} %" PRIu64 "\n", state->scores[i].marks[r]);
		}
}

/* What the proxies report. */
static void routers(const struct state *state, struct buf *out)
{
	struct tally sum;

	state_tally_sum(state, &sum);
	tally_write(&sum, out);
	tally_fini(&sum);
}

static void row_own(const struct plan_row *row, const char **personas)
{
	const struct plan_tier *own = row->tiers;

	for (size_t i = 0; row->n_tiers > 0 && i < own->n_endpoints; i++) {
		const char **persona = &personas[own->endpoints[i]];

		if (!*persona)
			*persona = row->persona;
		else if (strcmp(*persona, row->persona) != 0)
			*persona = "";
	}
}

static int view_init(struct view *view, const struct state *state)
{
	size_t n = state->plan->n_endpoints;

	*view = (struct view){.state = state, .plan = state->plan};
	view->counts = calloc(n + 1, sizeof(*view->counts));
	view->personas = calloc(n + 1, sizeof(*view->personas));
	if (!view->counts || !view->personas)
		return -1;
	for (size_t i = 0; i < view->plan->n_rows; i++)
		row_own(&view->plan->rows[i], view->personas);
	for (size_t i = 0; i < n; i++) {
		state_counts(state, i, &view->counts[i]);
		if (!view->personas[i])
			view->personas[i] = "";
	}
	return 0;
}

static void write_all(const struct view *view, struct buf *out)
{
	gauges(view, out, "megalith_node_up", "1 when the service answers its probes.", value_up);
	gauges(view, out, "megalith_node_connections",
	       "Connections now, with those the proxies relay.", value_connections);
	gauges(view, out, "megalith_node_busy",
	       "Busy connections now: handshakes, waiting for or receiving an answer, relayed.",
	       value_busy);
	gauges(view, out, "megalith_node_capacity", "Busy connections at most; 0 means no limit.",
	       value_capacity);
	connections_total(view, out);
	bytes_total(view, out);
	datapath_counters(view->state, out);
	probe_failures(view->state, out);
	marks(view->state, out);
	routers(view->state, out);
}

int metrics_write(const struct state *state, struct buf *out)
{
	struct view view;
	int err = view_init(&view, state) ? -ENOMEM : 0;

	if (!err)
		write_all(&view, out);
	free(view.counts);
	free(view.personas);
	return err;
}
