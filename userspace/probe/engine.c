/* SPDX-License-Identifier: MIT */
/* Which table asks which engine, and the list of models that several of them answer. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "core/catalog.h"
#include "probe/engine.h"

const struct probe_engine *probe_engine_of(enum engine engine)
{
	static const struct probe_engine *const engines[ENGINE_COUNT] = {
		[ENGINE_OLLAMA] = &probe_engine_ollama, [ENGINE_LLAMACPP] = &probe_engine_llamacpp,
		[ENGINE_VLLM] = &probe_engine_health,	[ENGINE_SGLANG] = &probe_engine_health,
		[ENGINE_OPENAI] = &probe_engine_openai, [ENGINE_COMFYUI] = &probe_engine_comfyui,
		[ENGINE_IMMICH] = &probe_engine_immich, [ENGINE_WYOMING] = &probe_engine_wyoming,
		[ENGINE_HTTP] = &probe_engine_http,	[ENGINE_TCP] = &probe_engine_tcp,
	};

	return engine < ENGINE_COUNT ? engines[engine] : &probe_engine_tcp;
}

void probe_names_free(struct probe_names *names)
{
	for (size_t i = 0; i < names->n; i++) {
		free(names->list[i]);
		free(names->entries[i]);
	}
	free(names->list);
	free(names->entries);
	*names = (struct probe_names){0};
}

static bool sendable(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len >= PROBE_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
			return false;
	return true;
}

/* The entry as one line; *line stays NULL when it is longer or deeper than anybody passes on. */
static bool entry_copy(const struct json *entry, char **line)
{
	struct buf text = {0};
	struct json_writer w = {.out = &text};

	json_put_value(&w, entry);
	*line = buf_steal(&text);
	if (!*line)
		return false;
	if (catalog_text_fits(*line))
		return true;
	free(*line);
	*line = NULL;
	return true;
}

static enum probe_reason names_copy(const struct json *list, const char *name, const char *except,
				    struct probe_names *names)
{
	size_t max = json_count(list);

	max = max < PROBE_NAMES_MAX ? max : PROBE_NAMES_MAX;
	names->list = calloc(max + 1, sizeof(*names->list)); /* never NULL: see probe.h */
	names->entries = calloc(max + 1, sizeof(*names->entries));
	if (!names->list || !names->entries)
		return PROBE_LOCAL;
	for (const struct json *item = json_first(list); item; item = json_next(item)) {
		const char *text = json_string(json_get(item, name));

		if (!text)
			return PROBE_BAD_ANSWER;
		if (!sendable(text) || (except && json_get(item, except)) || names->n == max)
			continue;
		names->list[names->n] = strdup(text);
		if (!names->list[names->n] || !entry_copy(item, &names->entries[names->n++]))
			return PROBE_LOCAL;
	}
	return PROBE_OK;
}

enum probe_reason probe_names_read(const struct client_result *result, const char *list,
				   const char *name, const char *except, struct probe_names *names)
{
	struct json_error error;
	struct json *root = json_parse(result->body, result->body_len, 0, &error);
	const struct json *array = json_get(root, list);
	enum probe_reason reason = PROBE_BAD_ANSWER;

	probe_names_free(names);
	if (!root)
		return PROBE_BAD_JSON;
	if (array && json_type(array) == JSON_ARRAY)
		reason = names_copy(array, name, except, names);
	if (reason != PROBE_OK)
		probe_names_free(names);
	json_free(root);
	return reason;
}
