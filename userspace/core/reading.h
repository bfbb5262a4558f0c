/* SPDX-License-Identifier: MIT */
/*
 * Reading documents of the control socket (plan, catalog, keys): members of a type and within
 * limits, or one line that says which is not. Each reader returns 0 (or as said), or -1 with the
 * error written. Private to core/.
 */
#ifndef CORE_READING_H
#define CORE_READING_H

#include "base/json.h"
#include "megalith/abi.h"

#define READING_ERROR_MAX 256

struct reading {
	const char *what;   /* the document's name, for the error */
	size_t n_endpoints; /* indices of endpoints are below this */
	char *error;	    /* READING_ERROR_MAX bytes */
};

/* Writes "WHAT, line N: ..."; -1. */
int reading_refuse(const struct reading *r, const struct json *where, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int reading_memory(const struct reading *r, const struct json *where); /* out of memory; -1 */

int reading_u64(const struct reading *r, const struct json *object, const char *key, int64_t max,
		uint64_t *out);
int reading_u32(const struct reading *r, const struct json *object, const char *key, int64_t max,
		uint32_t *out);
int reading_port(const struct reading *r, const struct json *object, uint16_t *out);
int reading_bool(const struct reading *r, const struct json *object, const char *key, bool *out);
int reading_name(const struct reading *r, const struct json *object, const char *key,
		 char out[MG_NAME_MAX]);
/* Index of a word among `n`. */
int reading_word(const struct reading *r, const struct json *object, const char *key,
		 const char *const *words, size_t n);
/* An array member with at most `max` elements; returns their number. */
long reading_array(const struct reading *r, const struct json *object, const char *key, size_t max,
		   const struct json **first);
/* An array of indices of endpoints, the caller's also after a failure. */
int reading_indices(const struct reading *r, const struct json *object, const char *key, size_t max,
		    uint32_t **out, size_t *n_out);

#endif
