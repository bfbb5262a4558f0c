/* SPDX-License-Identifier: MIT */
/*
 * What the HTTP router needs beside the plan: its settings, the aliases, and which endpoint has
 * which model. Built by the controller from the configuration and what probes found; published in
 * the same line as the plan, so that endpoint numbers mean the same in both. Pure. Owns its
 * strings.
 */
#ifndef CORE_CATALOG_H
#define CORE_CATALOG_H

#include "core/model.h"

#define CATALOG_NAME_MAX 255  /* bytes of a model's name */
#define CATALOG_TEXT_MAX 4096 /* bytes of an engine's entry; a longer one is left out */
/* Levels of an entry, itself one: it is nested into lines that are read with a limit of their own.
 */
#define CATALOG_TEXT_DEPTH_MAX 16
/* Together, so that the line stays one that followers accept. Entries above it are left out; an
 * endpoint whose names do not fit counts as one that has not told its models. */
#define CATALOG_TEXTS_MAX ((size_t)4 << 20)
#define CATALOG_NAMES_MAX ((size_t)8 << 20)

struct catalog_settings {
	struct addr address; /* where the router listens */
	uint16_t port;
	bool keys_required; /* a keys_file is configured: without a good key 401 */
	uint64_t max_body;  /* bytes */
	uint32_t queue_ms, queue_length, first_byte_timeout_ms;
	uint32_t head_max, fields_max;		   /* of a message's head: bytes, fields */
	uint32_t head_timeout_ms, idle_timeout_ms; /* client: whole head; kept alive */
};

struct catalog_target {
	char persona[MG_NAME_MAX];
	char *model; /* name on the node; NULL: as the client sent it */
};

struct catalog_alias {
	char *name;
	bool session; /* requests of one session stay on one node while it has room */
	struct catalog_target *targets;
	size_t n_targets;
};

struct catalog_model { /* a model that some node has, by the name it has there */
	char *name;
	char *about; /* the node's own entry in its list of models, one line of JSON; NULL: none */
	char *running; /* the same of its list of loaded models (Ollama: /api/ps); NULL: none */
	uint32_t *has; /* endpoints, ascending */
	size_t n_has;
	uint32_t *loaded; /* those that have it in memory, ascending */
	size_t n_loaded;
};

struct catalog {
	struct catalog_settings settings;
	struct catalog_alias *aliases; /* in the order of the configuration */
	size_t n_aliases;
	struct catalog_model *models; /* sorted by name (strcmp) */
	size_t n_models;
	bool *said; /* by endpoint: the engine has told its models. One that has not may have any.
		     */
	size_t n_endpoints;
};

/* What is known of one endpoint's models; the arrays `about`, `running` may be NULL, and so may
 * their elements, which are JSON objects in one line, as json_put_value() writes them. */
struct catalog_known {
	bool said;
	char *const *models, *const *about;
	size_t n_models;
	char *const *loaded, *const *running;
	size_t n_loaded;
};

/*
 * `known` has model->n_endpoints entries. Of a model that several nodes have, the entries of the
 * first node that tells one are kept. NULL with errno on lack of memory.
 */
struct catalog *catalog_build(const struct model *model, const struct catalog_known *known);
void catalog_free(struct catalog *catalog); /* NULL is allowed */

/* May this be the entry of an engine: an object in one line, within the limits above? */
bool catalog_text_fits(const char *text);

/* JSON for followers, and back: reading trusts nothing. NULL with *error on a bad document. */
void catalog_write(const struct catalog *catalog, struct buf *out);
struct json;
struct catalog *catalog_read(const struct json *document, size_t n_endpoints, char error[256]);

/*
 * Are these names of the same model? "x" is "x:latest"; "library/x" and
 * "registry.ollama.ai/library/x" are "x" (Ollama's defaults, types/model/name.go). Case counts.
 */
bool catalog_name_equal(const char *a, const char *b);

#endif
