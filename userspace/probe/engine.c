/* SPDX-License-Identifier: MIT */
/* Which table asks which engine, and the list of models that several of them answer. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
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

void probe_names_free(char ***names, size_t *n_names)
{
	for (size_t i = 0; i < *n_names; i++)
		free((*names)[i]);
	free(*names);
	*names = NULL;
	*n_names = 0;
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

static enum probe_reason names_copy(const struct json *list, const char *name, const char *except,
				    char ***names, size_t *n_names)
{
	size_t max = json_count(list);

	max = max < PROBE_NAMES_MAX ? max : PROBE_NAMES_MAX;
	*names = calloc(max + 1, sizeof(**names)); /* never NULL: empty is not "not asked" */
	if (!*names)
		return PROBE_LOCAL;
	for (const struct json *item = json_first(list); item; item = json_next(item)) {
		const char *text = json_string(json_get(item, name));

		if (!text)
			return PROBE_BAD_ANSWER;
		if (!sendable(text) || (except && json_get(item, except)) || *n_names == max)
			continue;
		(*names)[*n_names] = strdup(text);
		if (!(*names)[*n_names])
			return PROBE_LOCAL;
		(*n_names)++;
	}
	return PROBE_OK;
}

enum probe_reason probe_names_read(const struct client_result *result, const char *list,
				   const char *name, const char *except, char ***names,
				   size_t *n_names)
{
	struct json_error error;
	struct json *root = json_parse(result->body, result->body_len, 0, &error);
	const struct json *array = json_get(root, list);
	enum probe_reason reason = PROBE_BAD_ANSWER;

	probe_names_free(names, n_names);
	if (!root)
		return PROBE_BAD_JSON;
	if (array && json_type(array) == JSON_ARRAY)
		reason = names_copy(array, name, except, names, n_names);
	if (reason != PROBE_OK)
		probe_names_free(names, n_names);
	json_free(root);
	return reason;
}
