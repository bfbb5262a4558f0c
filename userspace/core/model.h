/* SPDX-License-Identifier: MIT */
/*
 * The configuration as data: what config.c makes of megalith.json (contract §2) and everybody
 * reads. Immutable after model_load(). Holds no state of the running system.
 *
 * Words: a node is a machine; a service is one thing it serves; an endpoint is one service of one
 * node (what the kernel calls a slot's owner); a listener is one gateway port of a persona.
 */
#ifndef CORE_MODEL_H
#define CORE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/buf.h"
#include "megalith/abi.h"

enum engine {
	ENGINE_OLLAMA,
	ENGINE_LLAMACPP,
	ENGINE_VLLM,
	ENGINE_SGLANG,
	ENGINE_OPENAI,
	ENGINE_COMFYUI,
	ENGINE_IMMICH,
	ENGINE_WYOMING,
	ENGINE_HTTP,
	ENGINE_TCP,
	ENGINE_COUNT,
};
const char *engine_name(enum engine engine);
uint16_t engine_port(enum engine engine); /* default port, 0 = must be given */

enum datapath_mode { DATAPATH_AUTO, DATAPATH_XDP, DATAPATH_TC, DATAPATH_NONE };
const char *datapath_mode_name(enum datapath_mode mode);
/* 0 or -EINVAL */
int datapath_mode_parse(enum datapath_mode *mode, const char *text);

struct model_service {
	char name[MG_NAME_MAX];
	enum engine engine;
	uint16_t port;
	uint32_t capacity; /* 0 = no limit */
	uint32_t idle_ms;
	char **pins; /* model names to keep loaded */
	size_t n_pins;
};

struct model_node {
	char name[MG_NAME_MAX];
	struct addr address;
	uint32_t weight;
	struct model_service *services;
	size_t n_services;
	size_t first_endpoint; /* endpoints of this node are [first_endpoint, first_endpoint +
				  n_services) */
};

struct model_listener {
	char service[MG_NAME_MAX];
	uint16_t port;
};

struct model_persona {
	char name[MG_NAME_MAX];
	uint32_t *nodes; /* indices into model.nodes */
	size_t n_nodes;
	struct model_listener *listeners;
	size_t n_listeners;
	uint32_t *cascade; /* indices into model.personas, in order */
	size_t n_cascade;
	enum mg_affinity affinity;
};

struct model_target {
	uint32_t persona; /* index */
	char *model;	  /* name on the node; NULL: as the client sent it */
};

struct model_alias {
	char *name;
	bool session; /* requests of one session stay on one node while it has room */
	struct model_target *targets; /* alias of an alias is already resolved */
	size_t n_targets;
};

struct model_endpoint {
	uint32_t node, service; /* indices */
};

struct model {
	struct {
		char **interfaces;
		size_t n_interfaces;
		struct addr *addresses; /* none: all addresses of the interfaces */
		size_t n_addresses;
		enum datapath_mode datapath;
		uint16_t snat_first, snat_last;
		uint32_t max_flows;
	} gateway;
	struct {
		struct addr address;
		uint16_t port;
		char *keys_file; /* NULL: none */
		bool allow_anonymous;
		uint32_t max_body_mb, queue_ms, queue_length, first_byte_timeout_ms;
		uint32_t head_max_kb, head_fields_max;	   /* of a message's head */
		uint32_t head_timeout_ms, idle_timeout_ms; /* client: whole head; kept alive */
	} router;
	struct {
		struct addr address;
		uint16_t port;
	} admin;
	struct {
		uint32_t interval_ms, timeout_ms, rise, fall;
	} probe;
	struct model_node *nodes;
	size_t n_nodes;
	struct model_persona *personas;
	size_t n_personas;
	struct model_alias *aliases;
	size_t n_aliases;
	struct model_endpoint *endpoints; /* all services of all nodes, by node */
	size_t n_endpoints;
};

/*
 * Text of a configuration → model. On failure NULL, and every error as a line
 * "FILE:LINE: /json/path: what is wrong, what is allowed" in *errors. `file` only names it.
 * `getenv_` resolves ${NAME} (getenv in programs; a table in tests).
 */
struct model *model_load(const char *file, const char *text, size_t len,
			 const char *(*getenv_)(const char *name), struct buf *errors);
void model_free(struct model *model);

/* Index, or -1. */
int model_find_node(const struct model *model, const char *name);
int model_find_persona(const struct model *model, const char *name);
int model_find_service(const struct model_node *node, const char *name);

#endif
