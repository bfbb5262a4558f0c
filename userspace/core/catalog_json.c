/* SPDX-License-Identifier: MIT */
/* The catalog on the control socket: written by the controller, read by followers. Reading trusts
 * nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/catalog.h"
#include "core/reading.h"

#define BODY_MAX   ((int64_t)4096 << 20)
#define HOUR_MS	   3600000
#define LENGTH_MAX 65536
#define ITEMS_MAX  ((size_t)1 << 20) /* of a list that only the line's length limits */

/* --- writing --- */

static void write_settings(struct json_writer *w, const struct catalog_settings *settings)
{
	char text[ADDR_TEXT_MAX];

	json_begin(w, '{');
	json_pair_string(w, "address", addr_format(&settings->address, text));
	json_pair_int(w, "port", settings->port);
	json_pair_bool(w, "keys_required", settings->keys_required);
	json_pair_int(w, "max_body", (int64_t)settings->max_body);
	json_pair_int(w, "queue_ms", settings->queue_ms);
	json_pair_int(w, "queue_length", settings->queue_length);
	json_pair_int(w, "first_byte_timeout_ms", settings->first_byte_timeout_ms);
	json_pair_int(w, "head_max", settings->head_max);
	json_pair_int(w, "fields_max", settings->fields_max);
	json_pair_int(w, "head_timeout_ms", settings->head_timeout_ms);
	json_pair_int(w, "idle_timeout_ms", settings->idle_timeout_ms);
	json_end(w, '}');
}

static void write_alias(struct json_writer *w, const struct catalog_alias *alias)
{
	json_begin(w, '{');
	json_pair_string(w, "name", alias->name);
	json_pair_bool(w, "session", alias->session);
	json_name(w, "targets");
	json_begin(w, '[');
	for (size_t i = 0; i < alias->n_targets; i++) {
		json_begin(w, '{');
		json_pair_string(w, "persona", alias->targets[i].persona);
		json_pair_string(w, "model", alias->targets[i].model);
		json_end(w, '}');
	}
	json_end(w, ']');
	json_end(w, '}');
}

static void write_text(struct json_writer *w, const char *name, const char *text)
{
	json_name(w, name);
	if (text)
		json_put_text(w, text);
	else
		json_put_null(w);
}

static void write_indices(struct json_writer *w, const char *name, const uint32_t *list, size_t n)
{
	json_name(w, name);
	json_begin(w, '[');
	for (size_t i = 0; i < n; i++)
		json_put_int(w, list[i]);
	json_end(w, ']');
}

static void write_model(struct json_writer *w, const struct catalog_model *model)
{
	json_begin(w, '{');
	json_pair_string(w, "name", model->name);
	write_text(w, "about", model->about);
	write_text(w, "running", model->running);
	write_indices(w, "has", model->has, model->n_has);
	write_indices(w, "loaded", model->loaded, model->n_loaded);
	json_end(w, '}');
}

void catalog_write(const struct catalog *catalog, struct buf *out)
{
	struct json_writer w = {.out = out};

	json_begin(&w, '{');
	json_name(&w, "settings");
	write_settings(&w, &catalog->settings);
	json_name(&w, "aliases");
	json_begin(&w, '[');
	for (size_t i = 0; i < catalog->n_aliases; i++)
		write_alias(&w, &catalog->aliases[i]);
	json_end(&w, ']');
	json_name(&w, "models");
	json_begin(&w, '[');
	for (size_t i = 0; i < catalog->n_models; i++)
		write_model(&w, &catalog->models[i]);
	json_end(&w, ']');
	json_name(&w, "said");
	json_begin(&w, '[');
	for (size_t i = 0; i < catalog->n_endpoints; i++)
		json_put_bool(&w, catalog->said[i]);
	json_end(&w, ']');
	json_end(&w, '}');
}

/* --- reading: each reader returns 0, or -1 with the error written --- */

static int read_limits(const struct reading *r, const struct json *object,
		       struct catalog_settings *settings)
{
	if (reading_u64(r, object, "max_body", BODY_MAX, &settings->max_body) ||
	    reading_u32(r, object, "queue_ms", HOUR_MS, &settings->queue_ms) ||
	    reading_u32(r, object, "queue_length", LENGTH_MAX, &settings->queue_length) ||
	    reading_u32(r, object, "first_byte_timeout_ms", HOUR_MS,
			&settings->first_byte_timeout_ms) ||
	    reading_u32(r, object, "head_max", 1024 << 10, &settings->head_max) ||
	    reading_u32(r, object, "fields_max", 1000, &settings->fields_max) ||
	    reading_u32(r, object, "head_timeout_ms", HOUR_MS, &settings->head_timeout_ms) ||
	    reading_u32(r, object, "idle_timeout_ms", HOUR_MS, &settings->idle_timeout_ms))
		return -1;
	return 0;
}

static int read_settings(const struct reading *r, const struct json *document,
			 struct catalog_settings *settings)
{
	const struct json *object = json_get(document, "settings");
	const char *address = json_string(json_get(object, "address"));

	if (!address || addr_parse(&settings->address, address))
		return reading_refuse(r, document, "\"address\" is no address");
	if (reading_port(r, object, &settings->port) ||
	    reading_bool(r, object, "keys_required", &settings->keys_required))
		return -1;
	return read_limits(r, object, settings);
}

static int read_copy(const struct reading *r, const struct json *where, const char *text,
		     char **out)
{
	*out = strdup(text);
	return *out ? 0 : reading_memory(r, where);
}

/* A name of a model or an alias, which ends up in answers to clients. */
static int read_model_name(const struct reading *r, const struct json *object, const char *key,
			   size_t max, char **out)
{
	const char *text = json_string(json_get(object, key));
	size_t len = text ? strlen(text) : 0;

	if (!len || len > max)
		return reading_refuse(r, object, "\"%s\" is no name of a model", key);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
			return reading_refuse(r, object, "\"%s\" has a control character", key);
	return read_copy(r, object, text, out);
}

static int read_target(const struct reading *r, const struct json *object,
		       struct catalog_target *target)
{
	const struct json *model = json_get(object, "model");

	if (reading_name(r, object, "persona", target->persona))
		return -1;
	if (model && json_type(model) == JSON_NULL)
		return 0;
	return read_model_name(r, object, "model", SIZE_MAX, &target->model);
}

static int read_alias(const struct reading *r, const struct json *object,
		      struct catalog_alias *alias)
{
	const struct json *target = NULL;
	long n = reading_array(r, object, "targets", ITEMS_MAX, &target);

	if (n < 0 || read_model_name(r, object, "name", CATALOG_NAME_MAX, &alias->name) ||
	    reading_bool(r, object, "session", &alias->session))
		return -1;
	if (n == 0)
		return reading_refuse(r, object, "\"targets\" is empty");
	alias->targets = calloc((size_t)n, sizeof(*alias->targets));
	if (!alias->targets)
		return reading_memory(r, object);
	for (; target; target = json_next(target)) {
		if (read_target(r, target, &alias->targets[alias->n_targets++]))
			return -1;
	}
	return 0;
}

static int read_aliases(const struct reading *r, const struct json *document,
			struct catalog *catalog)
{
	const struct json *object = NULL;
	long n = reading_array(r, document, "aliases", ITEMS_MAX, &object);

	if (n < 0)
		return -1;
	catalog->aliases = calloc((size_t)n + 1, sizeof(*catalog->aliases));
	if (!catalog->aliases)
		return reading_memory(r, document);
	for (; object; object = json_next(object)) {
		if (read_alias(r, object, &catalog->aliases[catalog->n_aliases++]))
			return -1;
	}
	return 0;
}

/* An object, or null; kept as text. */
static int read_text(const struct reading *r, const struct json *object, const char *key,
		     char **out)
{
	const struct json *value = json_get(object, key);
	struct buf text = {0};
	struct json_writer w = {.out = &text};

	if (value && json_type(value) == JSON_NULL)
		return 0;
	if (!value || json_type(value) != JSON_OBJECT)
		return reading_refuse(r, object, "\"%s\" is no object", key);
	json_put_value(&w, value);
	*out = buf_steal(&text);
	if (!*out)
		return reading_memory(r, object);
	if (!catalog_text_fits(*out))
		return reading_refuse(r, object, "\"%s\" is longer or deeper than allowed", key);
	return 0;
}

static int read_endpoints(const struct reading *r, const struct json *object, const char *key,
			  uint32_t **list, size_t *n)
{
	if (reading_indices(r, object, key, r->n_endpoints, list, n))
		return -1;
	for (size_t i = 1; i < *n; i++) {
		if ((*list)[i - 1] >= (*list)[i])
			return reading_refuse(r, object, "\"%s\" does not ascend", key);
	}
	return 0;
}

static int read_model(const struct reading *r, const struct json *object,
		      struct catalog_model *model)
{
	if (read_model_name(r, object, "name", CATALOG_NAME_MAX, &model->name) ||
	    read_text(r, object, "about", &model->about) ||
	    read_text(r, object, "running", &model->running) ||
	    read_endpoints(r, object, "has", &model->has, &model->n_has) ||
	    read_endpoints(r, object, "loaded", &model->loaded, &model->n_loaded))
		return -1;
	return 0;
}

static int read_models(const struct reading *r, const struct json *document,
		       struct catalog *catalog)
{
	const struct json *object = NULL;
	long n = reading_array(r, document, "models", ITEMS_MAX, &object);

	if (n < 0)
		return -1;
	catalog->models = calloc((size_t)n + 1, sizeof(*catalog->models));
	if (!catalog->models)
		return reading_memory(r, document);
	for (; object; object = json_next(object)) {
		struct catalog_model *model = &catalog->models[catalog->n_models++];

		if (read_model(r, object, model))
			return -1;
		if (catalog->n_models > 1 && strcmp(model[-1].name, model->name) >= 0)
			return reading_refuse(r, object, "\"models\" is not in order");
	}
	return 0;
}

static int read_said(const struct reading *r, const struct json *document, struct catalog *catalog)
{
	const struct json *truth = NULL;
	long n = reading_array(r, document, "said", r->n_endpoints, &truth);

	if (n < 0)
		return -1;
	if ((size_t)n != r->n_endpoints)
		return reading_refuse(r, document, "\"said\" has %ld of %zu endpoints", n,
				      r->n_endpoints);
	catalog->said = calloc((size_t)n + 1, sizeof(*catalog->said));
	if (!catalog->said)
		return reading_memory(r, document);
	for (; truth; truth = json_next(truth)) {
		if (!json_bool(truth, &catalog->said[catalog->n_endpoints++]))
			return reading_refuse(r, truth, "\"said\" is neither true nor false");
	}
	return 0;
}

struct catalog *catalog_read(const struct json *document, size_t n_endpoints, char error[256])
{
	struct reading r = {.what = "catalog", .n_endpoints = n_endpoints, .error = error};
	struct catalog *catalog = calloc(1, sizeof(*catalog));

	if (!catalog) {
		reading_memory(&r, document);
		return NULL;
	}
	if (read_settings(&r, document, &catalog->settings) ||
	    read_aliases(&r, document, catalog) || read_models(&r, document, catalog) ||
	    read_said(&r, document, catalog)) {
		catalog_free(catalog);
		return NULL;
	}
	return catalog;
}
