/* SPDX-License-Identifier: MIT */
/* The "nodes" of the configuration. */
#include <stdlib.h>
#include <string.h>

#include "core/config_read.h"

static const char *engine_name_at(const void *names, size_t i)
{
	(void)names;
	return engine_name((enum engine)i);
}

static void set_engine(struct config *c, const struct at *at, struct model_service *service,
		       const char *text)
{
	char *allowed;

	for (unsigned i = 0; i < ENGINE_COUNT; i++) {
		if (strcmp(engine_name((enum engine)i), text) != 0)
			continue;
		service->engine = (enum engine)i;
		return;
	}
	allowed = config_list(ENGINE_COUNT, engine_name_at, NULL);
	config_bad(c, at, "unknown engine \"%.64s\", allowed: %s", text, allowed ? allowed : "");
	free(allowed);
}

static void read_engine(struct config *c, const struct at *at, const struct config_key *key,
			void *into)
{
	char *text = config_string(c, at, "the name of an engine");

	(void)key;
	if (text)
		set_engine(c, at, into, text);
	free(text);
}

static void read_pin(struct config *c, const struct at *at, const struct config_key *key,
		     void *into)
{
	struct model_service *service = into;

	(void)key;
	config_strings(c, at, "the name of a model", NULL, &service->pins, &service->n_pins);
}

#define SERVICE(field) offsetof(struct model_service, field)
static const struct config_key service_keys[] = {
	{.name = "engine", .read = read_engine, .needed = "the name of an engine"},
	{"port", config_read_u16, SERVICE(port), 1, 65535, NULL},
	{"capacity", config_read_u32, SERVICE(capacity), 0, 65535, NULL},
	{"idle_ms", config_read_u32, SERVICE(idle_ms), 1, CONFIG_HOUR_MS, NULL},
	{.name = "pin", .read = read_pin},
};

static bool has_models(enum engine engine)
{
	return engine <= ENGINE_OPENAI;
}

static void finish_service(struct config *c, const struct at *at, struct model_service *service)
{
	struct at port = at_key(at, "port"), pin = at_key(at, "pin");

	if (service->engine == ENGINE_COUNT)
		return; /* was reported */
	if (service->n_pins && !has_models(service->engine))
		config_bad(c, &pin,
			   "engine \"%s\" has no models to pin, allowed with: ollama,"
			   " llamacpp, vllm, sglang, openai",
			   engine_name(service->engine));
	if (service->port)
		return;
	service->port = engine_port(service->engine);
	if (!service->port && port.value == at->value)
		config_bad(c, &port,
			   "is missing, needed: the port, as engine \"%s\" has no default",
			   engine_name(service->engine));
}

/* {"engine": "ollama", ...}, or for short "ollama" */
static void read_service(struct config *c, const struct at *at, struct model_service *service)
{
	service->engine = ENGINE_COUNT;
	service->idle_ms = MG_IDLE_MS_DEFAULT;
	if (json_repeated(at->value))
		config_bad(c, at, "is given twice, allowed: once");
	config_name(c, at, at->key, service->name);
	if (json_type(at->value) == JSON_STRING)
		read_engine(c, at, NULL, service);
	else if (config_type(c, at, JSON_OBJECT, "the name of an engine, or an object"))
		config_object(c, at, service_keys, CONFIG_COUNT(service_keys), service);
	finish_service(c, at, service);
}

static void read_services(struct config *c, const struct at *at, const struct config_key *key,
			  void *into)
{
	size_t n = config_count_named(c, at, "services", MG_NODE_SERVICES_MAX);
	struct model_node *node = into;

	(void)key;
	if (!n)
		return;
	node->services = config_alloc(c, n, sizeof(*node->services));
	if (!node->services)
		return;
	for (const struct json *m = json_first(at->value); m; m = json_next(m)) {
		struct at here = at_member(at, m);

		read_service(c, &here, &node->services[node->n_services++]);
	}
}

#define NODE(field) offsetof(struct model_node, field)
static const struct config_key node_keys[] = {
	{"address", config_read_address, NODE(address), 0, 0, "the node's IPv4 or IPv6 address"},
	{"weight", config_read_u32, NODE(weight), 0, 1000, NULL},
	{.name = "services", .read = read_services, .needed = "an object of services"},
};

static void read_node(struct config *c, const struct at *at, struct model_node *node)
{
	node->weight = 100;
	if (json_repeated(at->value))
		config_bad(c, at, "is given twice, allowed: once");
	config_name(c, at, at->key, node->name);
	if (config_type(c, at, JSON_OBJECT, "an object"))
		config_object(c, at, node_keys, CONFIG_COUNT(node_keys), node);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(((const struct config_name *)a)->name, ((const struct config_name *)b)->name);
}

/* A persona may name 256 of 1,024 nodes, and there are 64: looked up in order, not one by one. */
static void index_nodes(struct config *c)
{
	struct model *model = c->model;

	c->nodes = config_alloc(c, model->n_nodes, sizeof(*c->nodes));
	if (!c->nodes)
		return;
	for (size_t i = 0; i < model->n_nodes; i++)
		c->nodes[i] = (struct config_name){model->nodes[i].name, (uint32_t)i};
	qsort(c->nodes, model->n_nodes, sizeof(*c->nodes), compare_names);
}

static void index_endpoints(struct config *c)
{
	struct model *model = c->model;
	size_t n = 0;

	for (size_t i = 0; i < model->n_nodes; i++) {
		model->nodes[i].first_endpoint = n;
		n += model->nodes[i].n_services;
	}
	model->endpoints = config_alloc(c, n, sizeof(*model->endpoints));
	if (!model->endpoints)
		return;
	for (size_t i = 0; i < model->n_nodes; i++) {
		for (size_t s = 0; s < model->nodes[i].n_services; s++)
			model->endpoints[model->n_endpoints++] =
				(struct model_endpoint){(uint32_t)i, (uint32_t)s};
	}
}

void config_read_nodes(struct config *c, const struct at *at, const struct config_key *key,
		       void *into)
{
	size_t n = config_count_named(c, at, "nodes", MG_NODES_MAX);
	struct model *model = into;

	(void)key;
	if (!n)
		return;
	model->nodes = config_alloc(c, n, sizeof(*model->nodes));
	if (!model->nodes)
		return;
	for (const struct json *m = json_first(at->value); m; m = json_next(m)) {
		struct at here = at_member(at, m);

		read_node(c, &here, &model->nodes[model->n_nodes++]);
	}
	index_nodes(c);
	index_endpoints(c);
}

static const char *node_name_at(const void *names, size_t i)
{
	return ((const struct model_node *)names)[i].name;
}

int config_node(struct config *c, const struct at *at)
{
	const struct config_name *found = NULL;
	struct model *model = c->model;
	struct config_name wanted;
	char *allowed, *name;

	name = config_string(c, at, "the name of a node");
	if (!name || !c->nodes)
		goto out; /* no nodes at all: was reported */
	wanted.name = name;
	found = bsearch(&wanted, c->nodes, model->n_nodes, sizeof(wanted), compare_names);
	if (found)
		goto out;
	allowed = config_list(model->n_nodes, node_name_at, model->nodes);
	config_bad(c, at, "unknown node \"%.64s\", allowed: %s", name, allowed ? allowed : "");
	free(allowed);
out:
	free(name);
	return found ? (int)found->index : -1;
}
