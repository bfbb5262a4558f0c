/* SPDX-License-Identifier: MIT */
/* The "models" of the configuration: aliases that clients send to the router, each a list of
 * targets, an object with such a list, or another alias. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "core/config_read.h"

#define ALIAS_NAME_MAX 255
#define WAY_MAX	       8 /* names of a circle that are shown */
#define NOWHERE	       SIZE_MAX

struct target_reading {
	int persona;
	char *model;
};

static void read_target_persona(struct config *c, const struct at *at, const struct config_key *key,
				void *into)
{
	struct target_reading *target = into;

	(void)key;
	target->persona = config_persona(c, at);
}

static const struct config_key target_keys[] = {
	{.name = "persona", .read = read_target_persona, .needed = "the name of a persona"},
	{"model", config_read_text, offsetof(struct target_reading, model), 0, 0, NULL},
};

static void read_target(struct config *c, const struct at *at, struct model_alias *alias)
{
	struct target_reading target = {.persona = -1};

	if (!config_type(c, at, JSON_OBJECT, "an object: persona, model"))
		return;
	config_object(c, at, target_keys, CONFIG_COUNT(target_keys), &target);
	alias->targets[alias->n_targets].persona =
		target.persona < 0 ? 0 : (uint32_t)target.persona;
	alias->targets[alias->n_targets].model = target.model;
	alias->n_targets++;
}

static void read_targets(struct config *c, const struct at *at, struct model_alias *alias)
{
	size_t i = 0;

	if (!config_type(c, at, JSON_ARRAY, "an array of targets"))
		return;
	if (!json_first(at->value)) {
		config_bad(c, at, "is empty, needed: at least one target");
		return;
	}
	alias->targets = config_alloc(c, json_count(at->value), sizeof(*alias->targets));
	if (!alias->targets)
		return;
	for (const struct json *v = json_first(at->value); v; v = json_next(v)) {
		struct at here = at_index(at, i++, v);

		read_target(c, &here, alias);
	}
}

/* --- an alias with its options --- */

static void read_alias_targets(struct config *c, const struct at *at, const struct config_key *key,
			       void *into)
{
	(void)key;
	read_targets(c, at, into);
}

static void read_alias_affinity(struct config *c, const struct at *at, const struct config_key *key,
				void *into)
{
	struct model_alias *alias = into;
	char *text = config_string(c, at, "session, none");

	(void)key;
	if (!text)
		return;
	if (strcmp(text, "session") == 0)
		alias->session = true;
	else if (strcmp(text, "none") != 0)
		config_bad(c, at, "\"%.64s\" is no affinity, allowed: session, none", text);
	free(text);
}

static const struct config_key alias_keys[] = {
	{.name = "targets", .read = read_alias_targets, .needed = "an array of targets"},
	{.name = "affinity", .read = read_alias_affinity},
};

/* What stands behind an alias, unless it is another alias. */
static void read_alias_value(struct config *c, const struct at *at, struct model_alias *alias)
{
	enum json_type type = json_type(at->value);

	if (type == JSON_ARRAY)
		read_targets(c, at, alias);
	else if (type == JSON_OBJECT)
		config_object(c, at, alias_keys, CONFIG_COUNT(alias_keys), alias);
	else
		config_bad(c, at,
			   "is %s, allowed: an array of targets, an object: targets, affinity, or"
			   " the name of another alias",
			   json_type_name(type));
}

/* "x" and "x:latest" are one name to clients: only one of them can be an alias. */
static void check_latest(struct config *c, const struct at *at)
{
	static const char suffix[] = ":latest";
	size_t len = strlen(at->key), cut = sizeof(suffix) - 1;
	char name[ALIAS_NAME_MAX + 1];

	if (len <= cut || strcmp(at->key + len - cut, suffix) != 0)
		return;
	memcpy(name, at->key, len - cut);
	name[len - cut] = '\0';
	if (json_get(at->up->value, name))
		config_bad(c, at, "is the same as \"%.64s\", allowed: one of them", name);
}

static bool alias_name_ok(const char *name)
{
	size_t len = strlen(name);

	for (const char *p = name; *p; p++) {
		if (iscntrl((unsigned char)*p))
			return false;
	}
	return len && len <= ALIAS_NAME_MAX;
}

static void read_alias(struct config *c, const struct at *at, struct model_alias *alias)
{
	size_t size = strlen(at->key) + 1;

	if (json_repeated(at->value))
		config_bad(c, at, "is given twice, allowed: once");
	alias->name = config_alloc(c, size, 1);
	if (alias->name)
		memcpy(alias->name, at->key, size);
	if (alias_name_ok(at->key))
		check_latest(c, at);
	else
		config_bad(c, at, "bad alias, allowed: 1..%d bytes without control characters",
			   ALIAS_NAME_MAX);
	if (json_type(at->value) != JSON_STRING)
		read_alias_value(c, at, alias);
}

/* --- aliases of aliases --- */

static const char *alias_name_at(const void *names, size_t i)
{
	const char *name = ((const struct model_alias *)names)[i].name;

	return name ? name : "";
}

static size_t find_alias(const struct model *model, const char *name)
{
	for (size_t i = 0; i < model->n_aliases; i++) {
		if (model->aliases[i].name && strcmp(model->aliases[i].name, name) == 0)
			return i;
	}
	return NOWHERE;
}

/* Where a string points to; NOWHERE for what is no string, or was reported. */
static size_t read_reference(struct config *c, const struct at *at)
{
	size_t found = NOWHERE;
	char *name, *allowed;

	if (json_type(at->value) != JSON_STRING)
		return NOWHERE;
	name = config_string(c, at, "the name of an alias");
	if (!name)
		return NOWHERE;
	found = find_alias(c->model, name);
	if (found == NOWHERE) {
		allowed = config_list(c->model->n_aliases, alias_name_at, c->model->aliases);
		config_bad(c, at, "unknown alias \"%.64s\", allowed: %s", name,
			   allowed ? allowed : "");
		free(allowed);
	}
	free(name);
	return found;
}

/* Did the way from `start` come by alias `i` within `steps`? */
static bool came_by(const size_t *next, size_t start, size_t steps, size_t i)
{
	for (; steps; steps--, start = next[start]) {
		if (start == i)
			return true;
	}
	return false;
}

static void bad_cycle(struct config *c, const struct at *at, const size_t *next, size_t start)
{
	struct buf way = {0};
	size_t i = start, steps = 0;

	for (; steps < WAY_MAX && !came_by(next, start, steps, i); steps++) {
		buf_printf(&way, "%.64s -> ", alias_name_at(c->model->aliases, i));
		i = next[i];
	}
	buf_printf(&way, "%.64s", steps < WAY_MAX ? alias_name_at(c->model->aliases, i) : "...");
	config_bad(c, at, "goes round in a circle (%s), allowed: an alias that ends at targets",
		   way.data ? way.data : "");
	buf_fini(&way);
}

static void copy_alias(struct config *c, struct model_alias *to, const struct model_alias *from)
{
	to->session = from->session;
	to->targets = config_alloc(c, from->n_targets, sizeof(*to->targets));
	if (!to->targets)
		return;
	for (size_t i = 0; i < from->n_targets; i++) {
		const char *model = from->targets[i].model;
		size_t size = model ? strlen(model) + 1 : 0;

		to->targets[i].persona = from->targets[i].persona;
		to->targets[i].model = model ? config_alloc(c, size, 1) : NULL;
		if (to->targets[i].model)
			memcpy(to->targets[i].model, model, size);
		to->n_targets++;
	}
}

/* Follows the references of alias `i`: to its end, or round in a circle. */
static void resolve(struct config *c, const struct at *at, const size_t *next, size_t i)
{
	struct model *model = c->model;
	size_t end = i, steps = 0;

	while (next[end] != NOWHERE && steps <= model->n_aliases) {
		end = next[end];
		steps++;
	}
	if (next[end] != NOWHERE)
		bad_cycle(c, at, next, i);
	else if (end != i)
		copy_alias(c, &model->aliases[i], &model->aliases[end]);
}

static void resolve_references(struct config *c, const struct at *at)
{
	size_t *next = config_alloc(c, c->model->n_aliases, sizeof(*next)), i = 0;

	if (!next)
		return;
	for (const struct json *m = json_first(at->value); m; m = json_next(m)) {
		struct at here = at_member(at, m);

		next[i++] = read_reference(c, &here);
	}
	i = 0;
	for (const struct json *m = json_first(at->value); m; m = json_next(m)) {
		struct at here = at_member(at, m);

		resolve(c, &here, next, i++);
	}
	free(next);
}

void config_read_models(struct config *c, const struct at *at, const struct config_key *key,
			void *into)
{
	struct model *model = into;

	(void)key;
	if (!config_type(c, at, JSON_OBJECT, "an object of aliases"))
		return;
	model->aliases = config_alloc(c, json_count(at->value), sizeof(*model->aliases));
	if (!model->aliases)
		return;
	for (const struct json *m = json_first(at->value); m; m = json_next(m)) {
		struct at here = at_member(at, m);

		read_alias(c, &here, &model->aliases[model->n_aliases++]);
	}
	resolve_references(c, at);
}
