/* SPDX-License-Identifier: MIT */
#include "ctl/farm.h"

#include <inttypes.h>
#include <string.h>

#include "core/score.h"
#include "ctl/ask.h"

#define MEMBERS_BY_NAME 6 /* of more, only those that are not up are named */

const struct json *farm_node(const struct json *status, const char *name)
{
	const struct json *node = json_first(json_get(status, "nodes"));

	while (node && strcmp(text_of(node, "name", ""), name) != 0)
		node = json_next(node);
	return node;
}

int64_t farm_connections(const struct json *node)
{
	const struct json *service = json_first(json_get(node, "services"));
	int64_t connections = 0;

	for (; service; service = json_next(service))
		connections += number_of(service, "connections", 0);
	return connections;
}

enum table_style farm_state_style(const char *state)
{
	if (strcmp(state, "up") == 0)
		return TABLE_GOOD;
	return strcmp(state, "drain") == 0 ? TABLE_WARN : TABLE_BAD;
}

const char *farm_reason(const char *word)
{
	for (int i = 0; i < PROBE_REASON_COUNT; i++) {
		if (strcmp(probe_reason_word((enum probe_reason)i), word) == 0)
			return probe_reason_text((enum probe_reason)i);
	}
	return word;
}

const char *farm_load(char text[FARM_TEXT_MAX], int64_t busy, int64_t capacity)
{
	if (capacity > 0)
		snprintf(text, FARM_TEXT_MAX, "%" PRId64 "/%" PRId64, busy, capacity);
	else
		snprintf(text, FARM_TEXT_MAX, "%" PRId64, busy);
	return text;
}

const char *farm_duration(char text[FARM_TEXT_MAX], int64_t ms)
{
	int64_t s = ms / 1000;

	if (s >= 86400)
		snprintf(text, FARM_TEXT_MAX, "%" PRId64 "d %" PRId64 "h", s / 86400,
			 s / 3600 % 24);
	else if (s >= 3600)
		snprintf(text, FARM_TEXT_MAX, "%" PRId64 "h %" PRId64 "m", s / 3600, s / 60 % 60);
	else if (s >= 60)
		snprintf(text, FARM_TEXT_MAX, "%" PRId64 "m %" PRId64 "s", s / 60, s % 60);
	else
		snprintf(text, FARM_TEXT_MAX, "%" PRId64 "s", s);
	return text;
}

/* NULL: the node does not have the service. */
static const char *member_state(const struct json *status, const char *name, const char *service)
{
	const struct json *node = farm_node(status, name);
	const struct json *what = json_get(json_get(node, "services"), service);

	if (!what)
		return NULL;
	if (strcmp(text_of(node, "state", "down"), "drain") == 0)
		return "drain";
	return truth_of(what, "up") ? "up" : "down";
}

enum table_style farm_members(const struct json *status, const struct json *persona,
			      const char *service, struct buf *text)
{
	const struct json *names = json_get(persona, "nodes");
	bool brief = json_count(names) > MEMBERS_BY_NAME;
	size_t up = 0, all = 0;

	for (const struct json *item = json_first(names); item; item = json_next(item)) {
		const char *name = json_string(item);
		const char *state = name ? member_state(status, name, service) : NULL;
		bool is_up = state && strcmp(state, "up") == 0;

		if (!state)
			continue;
		all++;
		up += is_up;
		if (!is_up)
			buf_printf(text, "%s%s(%s)", text->len ? " " : "", name, state);
		else if (!brief)
			buf_printf(text, "%s%s", text->len ? " " : "", name);
	}
	if (brief)
		buf_printf(text, "%s%zu of %zu up", text->len ? " " : "", up, all);
	if (up == all && up)
		return TABLE_PLAIN;
	return up ? TABLE_WARN : TABLE_BAD;
}

void farm_list(const struct json *names, const char *between, struct buf *text)
{
	for (const struct json *item = json_first(names); item; item = json_next(item)) {
		const char *name = json_string(item);

		buf_printf(text, "%s%s", text->len ? between : "", name ? name : "?");
	}
}
