/* SPDX-License-Identifier: MIT */
/*
 * Reading. A scan of our own goes over the whole text first and decides what is JSON (RFC 8259);
 * cJSON then builds the tree of a text it cannot trip over. The scan notes the line of every value
 * in document order, and a walk over the tree in the same order hands the lines to the values.
 *
 * The line lives in cJSON's `valueint`, which saturates and is of no other use here; negative: the
 * key is a repeated one.
 */
#include "base/json.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_scan.h"

#define TEXT_MAX  (64u << 20)	     /* lines and counts stay far below INT_MAX */
#define EXACT_MAX 9007199254740992.0 /* 2^53 */

struct member {
	cJSON *item;
	size_t order;
};

static int compare_members(const void *a, const void *b)
{
	const struct member *left = a, *right = b;
	int order = strcmp(left->item->string, right->item->string);

	return order ? order : (left->order > right->order) - (left->order < right->order);
}

static int mark_sorted(struct json_scan *s, struct member *members, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		cJSON *item = members[i].item;

		if (strcmp(members[i - 1].item->string, item->string) != 0)
			continue;
		s->line = (unsigned)item->valueint;
		item->valueint = -item->valueint;
		if (!(s->flags & JSON_DUPLICATES))
			return json_scan_fail(s, "key \"%.200s\" is given twice", item->string);
	}
	return 0;
}

/* Sorted, because a hostile object of n keys must not cost n². */
static int mark_repeated(struct json_scan *s, cJSON *object)
{
	size_t n = json_count((const struct json *)(const void *)object), i = 0;
	struct member *members;
	cJSON *item;
	int err;

	if (n < 2)
		return 0;
	members = calloc(n, sizeof(*members));
	if (!members)
		return json_scan_fail(s, "out of memory");
	cJSON_ArrayForEach(item, object)
	{
		members[i].item = item;
		members[i].order = i;
		i++;
	}
	qsort(members, n, sizeof(*members), compare_members);
	err = mark_sorted(s, members, n);
	free(members);
	return err;
}

/* Recursion is bounded by JSON_DEPTH_MAX. */
static int annotate(struct json_scan *s, cJSON *value, size_t *next)
{
	cJSON *child;

	if (*next == s->n_lines) /* the library saw a value that the scan did not */
		return json_scan_fail(s, "refused: read in two ways");
	value->valueint = s->lines[(*next)++];
	s->line = (unsigned)value->valueint;
	if (cJSON_IsNumber(value) && !isfinite(value->valuedouble))
		return json_scan_fail(s, "number too large");
	cJSON_ArrayForEach(child, value)
	{
		if (annotate(s, child, next))
			return -1;
	}
	return cJSON_IsObject(value) ? mark_repeated(s, value) : 0;
}

static cJSON *build(struct json_scan *s)
{
	cJSON *root = cJSON_ParseWithLengthOpts(s->text, s->len + 1, NULL, 1);
	size_t next = 0;

	if (!root) {
		s->line = 1;
		json_scan_fail(s, "out of memory, or refused by the JSON library");
		return NULL;
	}
	if (annotate(s, root, &next)) {
		cJSON_Delete(root);
		return NULL;
	}
	return root;
}

struct json *json_parse(const char *text, size_t len, unsigned flags, struct json_error *error)
{
	struct json_scan s = {.len = len, .line = 1, .flags = flags, .error = error};
	cJSON *root = NULL;

	if (len > TEXT_MAX) {
		json_scan_fail(&s, "text longer than %u bytes", TEXT_MAX);
		return NULL;
	}
	s.text = malloc(len + 1);
	if (!s.text) {
		json_scan_fail(&s, "out of memory");
		return NULL;
	}
	if (len)
		memcpy(s.text, text, len);
	s.text[len] = '\0';
	if (json_scan(&s) == 0)
		root = build(&s);
	free(s.lines);
	free(s.text);
	return (struct json *)(void *)root;
}

/* --- access --- */

static const cJSON *item_of(const struct json *value)
{
	return (const cJSON *)(const void *)value;
}

static const struct json *value_of(const cJSON *item)
{
	return (const struct json *)(const void *)item;
}

void json_free(struct json *root)
{
	cJSON_Delete((cJSON *)(void *)root);
}

enum json_type json_type(const struct json *value)
{
	const cJSON *item = item_of(value);

	if (cJSON_IsBool(item))
		return JSON_BOOL;
	if (cJSON_IsNumber(item))
		return JSON_NUMBER;
	if (cJSON_IsString(item))
		return JSON_STRING;
	if (cJSON_IsArray(item))
		return JSON_ARRAY;
	return cJSON_IsObject(item) ? JSON_OBJECT : JSON_NULL;
}

const char *json_type_name(enum json_type type)
{
	static const char *const names[] = {"null",	"true or false", "a number",
					    "a string", "an array",	 "an object"};

	return names[type];
}

unsigned json_line(const struct json *root, const struct json *value)
{
	(void)root; /* every value carries its own */
	return value ? (unsigned)abs(item_of(value)->valueint) : 0;
}

bool json_repeated(const struct json *member)
{
	return item_of(member)->valueint < 0;
}

const struct json *json_get(const struct json *object, const char *key)
{
	if (!object || !cJSON_IsObject(item_of(object)))
		return NULL;
	return value_of(cJSON_GetObjectItemCaseSensitive(item_of(object), key));
}

const char *json_key(const struct json *member)
{
	return item_of(member)->string;
}

const struct json *json_first(const struct json *container)
{
	return container ? value_of(item_of(container)->child) : NULL;
}

const struct json *json_next(const struct json *value)
{
	return value_of(item_of(value)->next);
}

size_t json_count(const struct json *container)
{
	size_t n = 0;

	for (const struct json *v = json_first(container); v; v = json_next(v))
		n++;
	return n;
}

const char *json_string(const struct json *value)
{
	return value && cJSON_IsString(item_of(value)) ? item_of(value)->valuestring : NULL;
}

bool json_number(const struct json *value, double *number)
{
	if (!value || !cJSON_IsNumber(item_of(value)))
		return false;
	*number = item_of(value)->valuedouble;
	return true;
}

bool json_integer(const struct json *value, int64_t *number)
{
	double exact;

	if (!json_number(value, &exact) || exact < -EXACT_MAX || exact > EXACT_MAX ||
	    exact != (double)(int64_t)exact)
		return false;
	*number = (int64_t)exact;
	return true;
}

bool json_bool(const struct json *value, bool *truth)
{
	if (!value || !cJSON_IsBool(item_of(value)))
		return false;
	*truth = cJSON_IsTrue(item_of(value));
	return true;
}
