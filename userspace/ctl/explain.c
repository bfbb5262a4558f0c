/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <string.h>

#include "base/addr.h"
#include "ctl/ask.h"
#include "ctl/ctl.h"
#include "ctl/farm.h"
#include "ctl/views.h"

static enum table_style verdict_style(const char *verdict)
{
	if (strcmp(verdict, "taken") == 0)
		return TABLE_GOOD;
	return strcmp(verdict, "possible") == 0 ? TABLE_PLAIN : TABLE_DIM;
}

static void add_candidate(struct table *table, const struct json *candidate)
{
	const char *verdict = text_of(candidate, "verdict", "?");
	char text[FARM_TEXT_MAX];

	table_add(table, verdict_style(verdict), "%s", verdict);
	table_add(table, TABLE_BOLD, "%s", text_of(candidate, "node", "?"));
	table_add(table, TABLE_PLAIN, "%s/%s", text_of(candidate, "persona", "?"),
		  text_of(candidate, "service", "?"));
	table_add(table, TABLE_PLAIN, "%s",
		  farm_load(text, number_of(candidate, "busy", 0),
			    number_of(candidate, "capacity", 0)));
	table_add(table, TABLE_PLAIN, "%" PRId64, number_of(candidate, "connections", 0));
	table_add(table, TABLE_PLAIN, "%" PRId64, number_of(candidate, "weight", 0));
	table_add(table, TABLE_PLAIN, "%s", text_of(candidate, "reason", ""));
}

static int view_explain(const struct ctl *ctl, const struct json *document)
{
	static const char *const titles[] = {"VERDICT", "NODE",	   "PERSONA", ">BUSY",
					     ">CONNS",	">WEIGHT", "REASON"};
	const struct json *taken = json_get(document, "taken");
	const struct json *candidate = json_first(json_get(document, "candidates"));
	const char *target = text_of(document, "target", ctl->args[0]);
	const char *node = text_of(taken, "node", NULL);
	struct table table;

	if (node)
		fprintf(ctl->out, "%s: the next connection goes to %s%s%s (%s/%s)\n", target,
			table_style_on(TABLE_GOOD, ctl->colour), node,
			table_style_off(TABLE_GOOD, ctl->colour), text_of(taken, "persona", "?"),
			text_of(taken, "service", "?"));
	else
		fprintf(ctl->out,
			"%s: %snobody%s takes a connection now: it waits for room, or is refused\n",
			target, table_style_on(TABLE_BAD, ctl->colour),
			table_style_off(TABLE_BAD, ctl->colour));
	if (!candidate)
		return CTL_DONE;
	fputc('\n', ctl->out);
	table_init(&table, titles, sizeof(titles) / sizeof(titles[0]));
	for (; candidate; candidate = json_next(candidate))
		add_candidate(&table, candidate);
	return view_table(ctl, &table);
}

int ctl_explain(struct ctl *ctl)
{
	struct buf target = {0};
	struct answer answer = {0};
	struct addr client;
	bool printed = false;
	int code;

	if (ctl->client && addr_parse(&client, ctl->client) < 0)
		return ctl_fail(ctl, CTL_USAGE, "--client '%s': an IP address is expected",
				ctl->client);
	buf_puts(&target, "/v1/explain");
	target_add(&target, "target", ctl->args[0]);
	target_add(&target, "client", ctl->client);
	if (buf_failed(&target))
		code = ctl_fail(ctl, CTL_FAILED, "out of memory");
	else
		code = ask_document(ctl, target.data, &answer, &printed);
	if (code == CTL_DONE && !printed)
		code = view_explain(ctl, answer.root);
	answer_fini(&answer);
	buf_fini(&target);
	return code;
}
