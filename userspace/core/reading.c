/* SPDX-License-Identifier: MIT */
#include "core/reading.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int reading_refuse(const struct reading *r, const struct json *where, const char *format, ...)
{
	char what[READING_ERROR_MAX - 64];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	snprintf(r->error, READING_ERROR_MAX, "%.16s, line %u: %s", r->what, json_line(NULL, where),
		 what);
	return -1;
}

int reading_memory(const struct reading *r, const struct json *where)
{
	return reading_refuse(r, where, "out of memory");
}

int reading_u64(const struct reading *r, const struct json *object, const char *key, int64_t max,
		uint64_t *out)
{
	int64_t number;

	if (!json_integer(json_get(object, key), &number) || number < 0 || number > max)
		return reading_refuse(r, object, "\"%s\" is no number in 0..%lld", key,
				      (long long)max);
	*out = (uint64_t)number;
	return 0;
}

int reading_u32(const struct reading *r, const struct json *object, const char *key, int64_t max,
		uint32_t *out)
{
	uint64_t number;

	if (reading_u64(r, object, key, max, &number))
		return -1;
	*out = (uint32_t)number;
	return 0;
}

int reading_port(const struct reading *r, const struct json *object, uint16_t *out)
{
	uint32_t port;

	if (reading_u32(r, object, "port", UINT16_MAX, &port))
		return -1;
	*out = (uint16_t)port;
	return port ? 0 : reading_refuse(r, object, "\"port\" is 0");
}

int reading_bool(const struct reading *r, const struct json *object, const char *key, bool *out)
{
	if (json_bool(json_get(object, key), out))
		return 0;
	return reading_refuse(r, object, "\"%s\" is neither true nor false", key);
}

int reading_name(const struct reading *r, const struct json *object, const char *key,
		 char out[MG_NAME_MAX])
{
	const char *text = json_string(json_get(object, key));

	if (!text || !*text || strlen(text) >= MG_NAME_MAX)
		return reading_refuse(r, object, "\"%s\" is no name", key);
	memcpy(out, text, strlen(text) + 1);
	return 0;
}

int reading_word(const struct reading *r, const struct json *object, const char *key,
		 const char *const *words, size_t n)
{
	const char *text = json_string(json_get(object, key));

	for (size_t i = 0; text && i < n; i++) {
		if (strcmp(words[i], text) == 0)
			return (int)i;
	}
	return reading_refuse(r, object, "\"%s\" is not known", key);
}

long reading_array(const struct reading *r, const struct json *object, const char *key, size_t max,
		   const struct json **first)
{
	const struct json *array = json_get(object, key);
	size_t n;

	if (array && json_type(array) == JSON_ARRAY) {
		n = json_count(array);
		*first = json_first(array);
		if (n <= max)
			return (long)n;
	}
	return reading_refuse(r, object, "\"%s\" is no array of at most %zu", key, max);
}

int reading_indices(const struct reading *r, const struct json *object, const char *key, size_t max,
		    uint32_t **out, size_t *n_out)
{
	const struct json *v = NULL;
	long n = reading_array(r, object, key, max, &v);
	int64_t index;

	if (n < 0)
		return -1;
	*out = calloc((size_t)n + 1, sizeof(**out));
	if (!*out)
		return reading_memory(r, object);
	for (; v; v = json_next(v)) {
		if (!json_integer(v, &index) || index < 0 || (uint64_t)index >= r->n_endpoints)
			return reading_refuse(r, v, "no index of an endpoint");
		(*out)[(*n_out)++] = (uint32_t)index;
	}
	return 0;
}
