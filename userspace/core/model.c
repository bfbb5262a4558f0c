/* SPDX-License-Identifier: MIT */
#include "core/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	uint16_t port;
} engines[ENGINE_COUNT] = {
	[ENGINE_OLLAMA] = {"ollama", 11434}, [ENGINE_LLAMACPP] = {"llamacpp", 8080},
	[ENGINE_VLLM] = {"vllm", 8000},	     [ENGINE_SGLANG] = {"sglang", 30000},
	[ENGINE_OPENAI] = {"openai", 8000},  [ENGINE_COMFYUI] = {"comfyui", 8188},
	[ENGINE_IMMICH] = {"immich", 3003},  [ENGINE_WYOMING] = {"wyoming", 10300},
	[ENGINE_HTTP] = {"http", 80},	     [ENGINE_TCP] = {"tcp", 0},
};

static const char *const datapath_modes[] = {
	[DATAPATH_AUTO] = "auto",
	[DATAPATH_XDP] = "xdp",
	[DATAPATH_TC] = "tc",
	[DATAPATH_NONE] = "none",
};

const char *engine_name(enum engine engine)
{
	return (unsigned)engine < ENGINE_COUNT ? engines[engine].name : "unknown";
}

uint16_t engine_port(enum engine engine)
{
	return (unsigned)engine < ENGINE_COUNT ? engines[engine].port : 0;
}

const char *datapath_mode_name(enum datapath_mode mode)
{
	return datapath_modes[mode];
}

int datapath_mode_parse(enum datapath_mode *mode, const char *text)
{
	for (unsigned i = 0; i <= DATAPATH_NONE; i++) {
		if (strcmp(text, datapath_modes[i]) != 0)
			continue;
		*mode = (enum datapath_mode)i;
		return 0;
	}
	return -EINVAL;
}

static void free_strings(char **strings, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(strings[i]);
	free(strings);
}

static void free_node(struct model_node *node)
{
	for (size_t i = 0; i < node->n_services; i++)
		free_strings(node->services[i].pins, node->services[i].n_pins);
	free(node->services);
}

static void free_persona(struct model_persona *persona)
{
	free(persona->nodes);
	free(persona->listeners);
	free(persona->cascade);
}

static void free_alias(struct model_alias *alias)
{
	for (size_t i = 0; i < alias->n_targets; i++)
		free(alias->targets[i].model);
	free(alias->targets);
	free(alias->name);
}

void model_free(struct model *model)
{
	if (!model)
		return;
	for (size_t i = 0; i < model->n_nodes; i++)
		free_node(&model->nodes[i]);
	for (size_t i = 0; i < model->n_personas; i++)
		free_persona(&model->personas[i]);
	for (size_t i = 0; i < model->n_aliases; i++)
		free_alias(&model->aliases[i]);
	free_strings(model->gateway.interfaces, model->gateway.n_interfaces);
	free(model->gateway.addresses);
	free(model->router.keys_file);
	free(model->nodes);
	free(model->personas);
	free(model->aliases);
	free(model->endpoints);
	free(model);
}

int model_find_node(const struct model *model, const char *name)
{
	for (size_t i = 0; i < model->n_nodes; i++) {
		if (strcmp(model->nodes[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}

int model_find_persona(const struct model *model, const char *name)
{
	for (size_t i = 0; i < model->n_personas; i++) {
		if (strcmp(model->personas[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}

int model_find_service(const struct model_node *node, const char *name)
{
	for (size_t i = 0; i < node->n_services; i++) {
		if (strcmp(node->services[i].name, name) == 0)
			return (int)i;
	}
	return -1;
}
