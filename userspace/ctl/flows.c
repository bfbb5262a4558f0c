/* SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "ctl/ask.h"
#include "ctl/ctl.h"
#include "ctl/farm.h"
#include "ctl/views.h"

static void add_flow(struct table *table, const struct json *flow)
{
	char idle[FARM_TEXT_MAX];
	const char *node = text_of(flow, "node", NULL);
	bool busy = truth_of(flow, "busy");

	table_add(table, TABLE_PLAIN, "%s", text_of(flow, "client", "?"));
	table_add(table, TABLE_PLAIN, "%s", text_of(flow, "listener", "?"));
	table_add(table, TABLE_PLAIN, "%s", text_of(flow, "persona", "-"));
	if (node)
		table_add(table, TABLE_BOLD, "%s/%s", node, text_of(flow, "service", "?"));
	else /* it left the configuration; its connections end in peace */
		table_add(table, TABLE_DIM, "-");
	table_add(table, TABLE_PLAIN, "%s", text_of(flow, "node_address", "?"));
	table_add(table, TABLE_PLAIN, "%s", text_of(flow, "snat", "?"));
	table_add(table, busy ? TABLE_GOOD : TABLE_PLAIN, "%s%s", text_of(flow, "state", "?"),
		  busy ? ", busy" : "");
	table_add(table, TABLE_PLAIN, "%s", farm_duration(idle, number_of(flow, "idle_ms", 0)));
}

static int view_flows(const struct ctl *ctl, const struct json *document)
{
	static const char *const titles[] = {"CLIENT",	"LISTENER", "PERSONA", "NODE",
					     "ADDRESS", "SNAT",	    "STATE",   ">IDLE"};
	const struct json *flows = json_get(document, "flows");
	const struct json *flow = json_first(flows);
	int64_t total = number_of(document, "total", 0);
	struct table table;
	int code;

	if (!flow) {
		fputs("no connections in the kernel's table\n", ctl->out);
		return CTL_DONE;
	}
	table_init(&table, titles, sizeof(titles) / sizeof(titles[0]));
	for (; flow; flow = json_next(flow))
		add_flow(&table, flow);
	code = view_table(ctl, &table);
	if ((int64_t)json_count(flows) < total)
		fprintf(ctl->out,
			"%zu of %" PRId64 " connections; choose with --node or --persona\n",
			json_count(flows), total);
	else
		fprintf(ctl->out, "%" PRId64 " connection%s\n", total, total == 1 ? "" : "s");
	return code;
}

int ctl_flows(struct ctl *ctl)
{
	struct buf target = {0};
	struct answer answer = {0};
	bool printed = false;
	int code;

	buf_puts(&target, "/v1/flows");
	target_add(&target, "node", ctl->node);
	target_add(&target, "persona", ctl->persona);
	if (buf_failed(&target))
		code = ctl_fail(ctl, CTL_FAILED, "out of memory");
	else
		code = ask_document(ctl, target.data, &answer, &printed);
	if (code == CTL_DONE && !printed)
		code = view_flows(ctl, answer.root);
	answer_fini(&answer);
	buf_fini(&target);
	return code;
}
