/* SPDX-License-Identifier: MIT */
/*
 * Strict JSON on top of cJSON, for configuration and control; never for a client's body. What
 * cJSON lets through is refused here, before or after it: duplicate keys (also escaped ones),
 * trailing text, NUL inside strings, invalid UTF-8, numbers that are not finite, nesting deeper
 * than 32. Keys are compared with case. Comments // and slash-star are allowed when asked for. The
 * only user of cJSON.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct json; /* a value inside a document */

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

#define JSON_COMMENTS 1u /* allow // and slash-star comments */
#define JSON_DUPLICATES \
	2u /* do not refuse duplicate keys: the caller asks json_repeated() of each member */

struct json_error {
	unsigned line;	/* 1-based */
	char text[256]; /* what is wrong, without place */
};

/* NULL with *error filled. Free with json_free (the root only). Every value knows its line. */
struct json *json_parse(const char *text, size_t len, unsigned flags, struct json_error *error);
void json_free(struct json *root);

enum json_type json_type(const struct json *value);
const char *json_type_name(enum json_type type); /* "a string", "an object", ... */
unsigned json_line(const struct json *root, const struct json *value); /* 0 if unknown */

const struct json *json_get(const struct json *object,
			    const char *key);	 /* NULL: absent or no object */
const char *json_key(const struct json *member); /* name of an object's member */
bool json_repeated(const struct json *member);	 /* an earlier member has the same name */
const struct json *json_first(const struct json *container); /* array or object; NULL if empty */
const struct json *json_next(const struct json *value);
size_t json_count(const struct json *container);

const char *json_string(const struct json *value); /* NULL if not a string */
bool json_integer(const struct json *value,
		  int64_t *number); /* false: not a whole number within ±2^53 */
bool json_number(const struct json *value, double *number);
bool json_bool(const struct json *value, bool *truth);

/*
 * Writer: appends to a buf; commas and escapes are its business. Example:
 *	struct json_writer w = {.out = &buf};
 *	json_begin(&w, '{'); json_name(&w, "up"); json_put_bool(&w, true); json_end(&w, '}');
 * `pretty` indents by two spaces. Invalid UTF-8 in a string is written as U+FFFD.
 */
struct json_writer {
	struct buf *out;
	bool pretty;
	/* private */
	unsigned depth;
	bool after_value, after_name;
};

void json_begin(struct json_writer *w, char bracket);
void json_end(struct json_writer *w, char bracket);
void json_name(struct json_writer *w, const char *name);
void json_put_string(struct json_writer *w, const char *text); /* NULL writes null */
void json_put_int(struct json_writer *w, int64_t number);
void json_put_double(struct json_writer *w, double number);
void json_put_bool(struct json_writer *w, bool truth);
void json_put_null(struct json_writer *w);
/* name and value in one call */
void json_pair_string(struct json_writer *w, const char *name, const char *text);
void json_pair_int(struct json_writer *w, const char *name, int64_t number);
void json_pair_bool(struct json_writer *w, const char *name, bool truth);
/* A text that is one JSON value already: as it is, unchecked. */
void json_put_text(struct json_writer *w, const char *text);
/* Copies a parsed value. */
void json_put_value(struct json_writer *w, const struct json *value);

#endif
