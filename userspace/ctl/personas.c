/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <string.h>

#include "ctl/ask.h"
#include "ctl/ctl.h"
#include "ctl/farm.h"
#include "ctl/views.h"

int view_table(const struct ctl *ctl, struct table *table)
{
	int error = table_print(table, ctl->out, ctl->colour);

	table_fini(table);
	return error ? ctl_fail(ctl, CTL_FAILED, "out of memory") : CTL_DONE;
}

struct load { /* of the members of a persona that are up, for one service */
	int64_t busy, capacity;
	bool unlimited;
};

static struct load load_of(const struct json *status, const struct json *persona,
			   const char *service)
{
	const struct json *item = json_first(json_get(persona, "nodes"));
	struct load load = {0};

	for (; item; item = json_next(item)) {
		const char *name = json_string(item);
		const struct json *what =
			name ? json_get(json_get(farm_node(status, name), "services"), service)
			     : NULL;
		int64_t capacity = number_of(what, "capacity", 0);

		if (!what)
			continue;
		load.busy += number_of(what, "busy", 0);
		if (!truth_of(what, "up"))
			continue;
		load.capacity += capacity;
		load.unlimited |= capacity == 0;
	}
	return load;
}

static void add_listener(struct table *table, const struct json *status, const struct json *persona,
			 const struct json *listener, bool first)
{
	const char *service = json_key(listener);
	struct load load = load_of(status, persona, service);
	struct buf members = {0}, cascade = {0};
	char text[FARM_TEXT_MAX];
	enum table_style style;
	int64_t port = 0;

	json_integer(listener, &port);
	buf_puts(&members, "");
	style = farm_members(status, persona, service, &members);
	farm_list(json_get(persona, "cascade"), " ", &cascade);
	table_add(table, TABLE_BOLD, "%s", first ? text_of(persona, "name", "?") : "");
	table_add(table, TABLE_PLAIN, "%s", service);
	table_add(table, TABLE_PLAIN, "%" PRId64, port);
	table_add(table, TABLE_PLAIN, "%s",
		  farm_load(text, load.busy, load.unlimited ? 0 : load.capacity));
	table_add(table, style, "%s", members.len ? members.data : "none");
	table_add(table, TABLE_DIM, "%s", cascade.len ? cascade.data : "");
	table->failed |= buf_failed(&members) || buf_failed(&cascade);
	buf_fini(&members);
	buf_fini(&cascade);
}

int view_personas(const struct ctl *ctl, const struct json *status)
{
	static const char *const titles[] = {"PERSONA", "SERVICE", ">PORT",
					     ">BUSY",	"NODES",   "CASCADE"};
	const struct json *persona = json_first(json_get(status, "personas"));
	struct table table;

	if (!persona) {
		fputs("no personas are configured\n", ctl->out);
		return CTL_DONE;
	}
	table_init(&table, titles, sizeof(titles) / sizeof(titles[0]));
	for (; persona; persona = json_next(persona)) {
		const struct json *listener = json_first(json_get(persona, "listen"));
		bool first = true;

		for (; listener; listener = json_next(listener), first = false)
			add_listener(&table, status, persona, listener, first);
	}
	return view_table(ctl, &table);
}

int ctl_personas(struct ctl *ctl)
{
	struct answer answer;
	int code = ask(ctl, "GET", "/v1/status", NULL, &answer);

	if (code == CTL_DONE && ctl->json)
		code = print_json(ctl, json_get(answer.root, "personas"));
	else if (code == CTL_DONE)
		code = view_personas(ctl, answer.root);
	answer_fini(&answer);
	return code;
}
