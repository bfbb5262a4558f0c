/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <string.h>

#include "ctl/ask.h"
#include "ctl/ctl.h"
#include "ctl/farm.h"
#include "ctl/views.h"

/* A time that was never measured is not shown as 0. */
static void add_time(struct table *table, int64_t us)
{
	if (us <= 0)
		table_add(table, TABLE_DIM, "-");
	else if (us < 10000 && us % 1000)
		table_add(table, TABLE_PLAIN, "%.2f ms", (double)us / 1000);
	else
		table_add(table, TABLE_PLAIN, "%" PRId64 " ms", us / 1000);
}

static void add_weight(struct table *table, const struct json *node)
{
	int64_t weight = number_of(node, "weight", 0);
	int64_t configured = number_of(node, "configured_weight", weight);

	if (weight == configured)
		table_add(table, weight ? TABLE_PLAIN : TABLE_WARN, "%" PRId64, weight);
	else
		table_add(table, TABLE_WARN, "%" PRId64 " (%" PRId64 ")", weight, configured);
}

static void add_node(struct table *table, const struct json *node)
{
	const char *state = text_of(node, "state", "?");

	table_add(table, TABLE_BOLD, "%s", text_of(node, "name", "?"));
	table_add(table, TABLE_PLAIN, "%s", text_of(node, "address", "?"));
	table_add(table, farm_state_style(state), "%s", state);
	add_weight(table, node);
}

static void add_models(struct table *table, const struct json *service)
{
	struct buf models = {0};

	farm_list(json_get(service, "models"), " ", &models);
	table_add(table, TABLE_PLAIN, "%s", models.len ? models.data : "");
	table->failed |= buf_failed(&models);
	buf_fini(&models);
}

static void add_service(struct table *table, const struct json *service, bool detail)
{
	int64_t busy = number_of(service, "busy", 0), capacity = number_of(service, "capacity", 0);
	bool up = truth_of(service, "up");
	char text[FARM_TEXT_MAX];

	table_add(table, up ? TABLE_PLAIN : TABLE_BAD, "%s", json_key(service));
	if (detail) {
		table_add(table, TABLE_PLAIN, "%s", text_of(service, "engine", "?"));
		table_add(table, TABLE_PLAIN, "%" PRId64, number_of(service, "port", 0));
	}
	table_add(table, capacity && busy >= capacity ? TABLE_WARN : TABLE_PLAIN, "%s",
		  farm_load(text, busy, capacity));
	table_add(table, TABLE_PLAIN, "%" PRId64, number_of(service, "connections", 0));
	add_time(table, number_of(service, "rtt_us", 0));
	add_time(table, number_of(service, "ttfb_ms", 0) * 1000);
	if (!up)
		table_add(table, TABLE_BAD, "%s", farm_reason(text_of(service, "reason", "?")));
	else if (detail)
		add_models(table, service);
	table_end_row(table);
}

static void add_services(struct table *table, const struct json *node, bool detail)
{
	const struct json *service = json_first(json_get(node, "services"));
	bool first = true;

	add_node(table, node);
	for (; service; service = json_next(service), first = false) {
		for (int i = 0; i < 4 && !first; i++)
			table_add(table, TABLE_PLAIN, "%s", "");
		add_service(table, service, detail);
	}
	table_end_row(table);
}

int view_nodes(const struct ctl *ctl, const struct json *status, bool detail)
{
	static const char *const brief[] = {"NODE",  "ADDRESS", "STATE", ">WEIGHT", "SERVICE",
					    ">BUSY", ">CONNS",	">RTT",	 ">TTFB",   ""};
	static const char *const full[] = {"NODE",    "ADDRESS", "STATE", ">WEIGHT",
					   "SERVICE", "ENGINE",	 ">PORT", ">BUSY",
					   ">CONNS",  ">RTT",	 ">TTFB", "MODELS"};
	const struct json *node = json_first(json_get(status, "nodes"));
	struct table table;

	if (!node) {
		fputs("no nodes are configured\n", ctl->out);
		return CTL_DONE;
	}
	if (detail)
		table_init(&table, full, sizeof(full) / sizeof(full[0]));
	else
		table_init(&table, brief, sizeof(brief) / sizeof(brief[0]));
	for (; node; node = json_next(node))
		add_services(&table, node, detail);
	return view_table(ctl, &table);
}

int ctl_nodes(struct ctl *ctl)
{
	struct answer answer;
	int code = ask(ctl, "GET", "/v1/status", NULL, &answer);

	if (code == CTL_DONE && ctl->json)
		code = print_json(ctl, json_get(answer.root, "nodes"));
	else if (code == CTL_DONE)
		code = view_nodes(ctl, answer.root, true);
	answer_fini(&answer);
	return code;
}
