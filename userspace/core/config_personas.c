/* SPDX-License-Identifier: MIT */
/* The "personas" of the configuration. */
#include <stdlib.h>
#include <string.h>

#include "core/config_read.h"

static const char *persona_name_at(const void *names, size_t i)
{
	return ((const struct model_persona *)names)[i].name;
}

int config_persona(struct config *c, const struct at *at)
{
	char *name = config_string(c, at, "the name of a persona");
	struct model *model = c->model;
	char *allowed;
	int found = -1;

	if (!name)
		return -1;
	found = model_find_persona(model, name);
	if (found < 0 && model->n_personas) {
		allowed = config_list(model->n_personas, persona_name_at, model->personas);
		config_bad(c, at, "unknown persona \"%.64s\", allowed: %s", name,
			   allowed ? allowed : "");
		free(allowed);
	}
	free(name);
	return found;
}

struct indices { /* being read from an array of names */
	const char *what;
	size_t max;
	int self; /* the one that may not be named; -1: all may */
	int (*find)(struct config *c, const struct at *at);
	uint32_t *list;
	size_t n;
};

static void add_index(struct config *c, const struct at *at, struct indices *to)
{
	int index = to->find(c, at);

	if (index < 0)
		return;
	if (index == to->self)
		config_bad(c, at, "is this one itself, allowed: other %s", to->what);
	for (size_t i = 0; i < to->n; i++) {
		if (to->list[i] == (uint32_t)index) {
			config_bad(c, at, "is given twice, allowed: once");
			return;
		}
	}
	to->list[to->n++] = (uint32_t)index;
}

static void read_indices(struct config *c, const struct at *at, struct indices *to)
{
	char is[GROUPED_MAX], most[GROUPED_MAX];
	size_t n = json_count(at->value), i = 0;

	if (n > to->max)
		config_bad(c, at, "%s %s: at most %s are allowed", config_grouped(n, is), to->what,
			   config_grouped(to->max, most));
	to->list = config_alloc(c, n, sizeof(*to->list));
	if (!to->list)
		return;
	for (const struct json *v = json_first(at->value); v; v = json_next(v)) {
		struct at here = at_index(at, i++, v);

		add_index(c, &here, to);
	}
}

static void read_persona_nodes(struct config *c, const struct at *at, const struct config_key *key,
			       void *into)
{
	struct indices nodes = {"nodes", MG_PERSONA_NODES_MAX, -1, config_node, NULL, 0};
	struct model_persona *persona = into;

	if (!config_type(c, at, JSON_ARRAY, key->needed))
		return;
	if (!json_first(at->value))
		config_bad(c, at, "is empty, needed: at least one");
	read_indices(c, at, &nodes);
	persona->nodes = nodes.list;
	persona->n_nodes = nodes.n;
}

static void read_cascade(struct config *c, const struct at *at, const struct config_key *key,
			 void *into)
{
	struct indices personas = {"personas", MG_TIERS_MAX - 1, -1, config_persona, NULL, 0};
	struct model_persona *persona = into;

	(void)key;
	if (!config_type(c, at, JSON_ARRAY, "an array of the names of personas"))
		return;
	personas.self = (int)(persona - c->model->personas);
	read_indices(c, at, &personas);
	persona->cascade = personas.list;
	persona->n_cascade = personas.n;
}

static void read_listener(struct config *c, const struct at *at, struct model_persona *persona)
{
	struct model_listener *listener = &persona->listeners[persona->n_listeners];
	int64_t port;

	if (json_repeated(at->value))
		config_bad(c, at, "is given twice, allowed: once");
	if (!config_name(c, at, at->key, listener->service) ||
	    !config_number(c, at, 1, 65535, &port))
		return;
	listener->port = (uint16_t)port;
	persona->n_listeners++;
}

static void read_persona_listen(struct config *c, const struct at *at, const struct config_key *key,
				void *into)
{
	size_t n = config_count_named(c, at, "services", SIZE_MAX);
	struct model_persona *persona = into;

	(void)key;
	persona->listeners = config_alloc(c, n, sizeof(*persona->listeners));
	if (!n || !persona->listeners)
		return;
	for (const struct json *m = json_first(at->value); m; m = json_next(m)) {
		struct at here = at_member(at, m);

		read_listener(c, &here, persona);
	}
}

static void read_affinity(struct config *c, const struct at *at, const struct config_key *key,
			  void *into)
{
	struct model_persona *persona = into;
	char *text = config_string(c, at, "client, none");

	(void)key;
	if (!text)
		return;
	if (strcmp(text, "client") == 0)
		persona->affinity = MG_AFFINITY_CLIENT;
	else if (strcmp(text, "none") != 0)
		config_bad(c, at, "\"%.64s\" is no affinity, allowed: client, none", text);
	free(text);
}

static const struct config_key persona_keys[] = {
	{.name = "nodes", .read = read_persona_nodes, .needed = "an array of the names of nodes"},
	{.name = "listen", .read = read_persona_listen, .needed = "an object: service and port"},
	{.name = "cascade", .read = read_cascade},
	{.name = "affinity", .read = read_affinity},
};

static void read_persona(struct config *c, const struct at *at, struct model_persona *persona)
{
	if (json_repeated(at->value))
		config_bad(c, at, "is given twice, allowed: once");
	if (config_type(c, at, JSON_OBJECT, "an object"))
		config_object(c, at, persona_keys, CONFIG_COUNT(persona_keys), persona);
}

/* Names first: a persona may cascade to one that comes later. */
void config_read_personas(struct config *c, const struct at *at, const struct config_key *key,
			  void *into)
{
	size_t n = config_count_named(c, at, "personas", MG_PERSONAS_MAX), i = 0;
	struct model *model = into;

	(void)key;
	if (!n)
		return;
	model->personas = config_alloc(c, n, sizeof(*model->personas));
	if (!model->personas)
		return;
	for (const struct json *m = json_first(at->value); m; m = json_next(m)) {
		struct at here = at_member(at, m);

		config_name(c, &here, here.key, model->personas[model->n_personas++].name);
	}
	for (const struct json *m = json_first(at->value); m; m = json_next(m)) {
		struct at here = at_member(at, m);

		read_persona(c, &here, &model->personas[i++]);
	}
}
