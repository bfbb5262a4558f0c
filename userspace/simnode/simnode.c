/* SPDX-License-Identifier: MIT */
#include "simnode/simnode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "simnode/sim_impl.h"

#define MAX_BODY	(256u << 20)
#define MAX_PEERS	100000
#define IDLE_TIMEOUT_MS 600000
#define HEAD_TIMEOUT_MS 600000 /* a gateway may be as slow as it likes, to send and to read */

static const struct {
	const char *name;
	uint16_t port;
	unsigned routes;
} engines[] = {
	{"any", 0, SIM_OLLAMA | SIM_OPENAI | SIM_HEALTH | SIM_LLAMACPP},
	{"ollama", 11434, SIM_OLLAMA | SIM_OPENAI},
	{"llamacpp", 8080, SIM_OPENAI | SIM_HEALTH | SIM_LLAMACPP},
	{"vllm", 8000, SIM_OPENAI | SIM_HEALTH | SIM_VLLM},
	{"sglang", 30000, SIM_OPENAI | SIM_HEALTH | SIM_SGLANG},
	{"openai", 8000, SIM_OPENAI},
	{"comfyui", 8188, SIM_COMFYUI},
	{"immich", 3003, SIM_IMMICH},
	{"wyoming", 10300, SIM_WYOMING},
	{"http", 80, SIM_HTTP},
	{"tcp", 0, SIM_TCP},
};

#define N_ENGINES (sizeof(engines) / sizeof(engines[0]))

static size_t engine_find(const char *name)
{
	size_t i = 0;

	while (i < N_ENGINES && strcmp(engines[i].name, name) != 0)
		i++;
	return i;
}

uint16_t simnode_default_port(const char *engine)
{
	size_t i = engine_find(engine);

	return i < N_ENGINES ? engines[i].port : 0;
}

void simnode_defaults(struct simnode_options *options)
{
	*options = (struct simnode_options){
		.name = "simnode",
		.slots = 4,
		.tps = 50,
		.ttft_ms = 20,
		.tokens = 16,
	};
}

static void destroy(struct simnode *node)
{
	for (size_t i = 0; i < node->n_models; i++)
		free(node->models[i].name);
	free(node->models);
	free(node->name);
	free(node->fields);
	buf_fini(&node->seen.text);
	sim_comfyui_free(node->comfyui);
	while (node->services) {
		struct sim_service *service = node->services;

		node->services = service->next;
		free(service);
	}
	free(node);
}

void sim_release(struct simnode *node)
{
	if (!--node->references)
		destroy(node);
}

static bool is_loaded(const struct simnode_options *options, const char *name)
{
	for (size_t i = 0; options->loaded && i < options->n_loaded; i++) {
		if (sim_name_equal(options->loaded[i], name))
			return true;
	}
	return !options->loaded;
}

static int copy_models(struct simnode *node, const struct simnode_options *options)
{
	node->models = calloc(options->n_models + 1, sizeof(*node->models));
	if (!node->models)
		return -ENOMEM;
	for (size_t i = 0; i < options->n_models; i++) {
		struct sim_model *model = &node->models[i];

		model->name = strdup(options->models[i]);
		if (!model->name)
			return -ENOMEM;
		model->loaded = is_loaded(options, model->name);
		node->n_models++;
	}
	return 0;
}

struct simnode *simnode_new(uv_loop_t *loop, const struct simnode_options *options)
{
	struct simnode *node = calloc(1, sizeof(*node));
	struct buf fields = {0};

	if (!node)
		return NULL;
	node->loop = loop;
	node->references = 1;
	node->options = *options;
	node->started_at_ms = uv_now(loop);
	for (size_t i = 0; i < sizeof(node->filler); i++)
		node->filler[i] = " and so on and on"[i % 17];
	node->name = strdup(options->name);
	buf_printf(&fields, "x-simnode: %s\r\n", options->name);
	node->fields = buf_steal(&fields);
	if (!node->name || !node->fields || copy_models(node, options)) {
		destroy(node);
		errno = ENOMEM;
		return NULL;
	}
	return node;
}

static int serve_http(struct sim_service *service, const struct addr *address, uint16_t *port)
{
	struct server_options options = {
		.max_body = MAX_BODY,
		.max_peers = MAX_PEERS,
		.head_timeout_ms = HEAD_TIMEOUT_MS,
		.idle_timeout_ms = IDLE_TIMEOUT_MS,
		.on_request = sim_on_request,
		.on_abandoned = sim_on_abandoned,
		.arg = service,
	};
	int error;

	service->server = server_new(service->node->loop, &options);
	if (!service->server)
		return -ENOMEM;
	error = server_listen_tcp(service->server, address, port);
	if (error)
		server_free(service->server);
	return error;
}

int simnode_serve(struct simnode *node, const char *engine, const struct addr *address,
		  uint16_t *port)
{
	size_t i = engine_find(engine);
	struct sim_service *service;
	int error;

	if (i == N_ENGINES)
		return -EINVAL;
	service = calloc(1, sizeof(*service));
	if (!service)
		return -ENOMEM;
	service->node = node;
	service->routes = engines[i].routes;
	if (service->routes & (SIM_TCP | SIM_WYOMING))
		error = listener_tcp(&service->listener, node->loop, address, port, 0,
				     sim_on_connection, service);
	else
		error = serve_http(service, address, port);
	if (error) {
		free(service);
		return error;
	}
	service->next = node->services;
	node->services = service;
	return 0;
}

void simnode_free(struct simnode *node)
{
	if (!node)
		return;
	node->closing = true;
	for (struct sim_service *service = node->services; service; service = service->next) {
		server_free(service->server);
		listener_free(service->listener);
	}
	sim_streams_close(node);
	sim_release(node);
}
