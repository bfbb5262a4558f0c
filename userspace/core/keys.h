/* SPDX-License-Identifier: MIT */
/*
 * The keys that clients may use, as salted SHA-256 digests: the text is read once, by the
 * controller, and forgotten; what travels and stays in memory cannot be turned back into a key.
 * Comparison takes the same time whatever is wrong. Pure.
 */
#ifndef CORE_KEYS_H
#define CORE_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"

#define KEYS_MAX     4096
#define KEYS_LEN_MAX 512 /* bytes of a key */
#define KEYS_LEN_MIN 8

struct keys {
	uint8_t salt[16];
	uint8_t (*digests)[32];
	size_t n;
};

/*
 * One key a line; blank lines and lines that begin with # are skipped, white space around a key is
 * cut. NULL with *error "line N: what is wrong, what is allowed" (never with any part of a key).
 * The caller wipes `text`.
 */
struct keys *keys_parse(const char *text, size_t len, const uint8_t salt[16], char error[256]);
void keys_free(struct keys *keys); /* NULL is allowed */
/* Is it one of them? Looks at all of them, always. NULL keys: nobody's. */
bool keys_accept(const struct keys *keys, const char *key, size_t len);
/* For followers: {"salt": HEX, "digests": [HEX, ...]}, and back (NULL with *error). */
void keys_write(const struct keys *keys, struct json_writer *w);
struct keys *keys_read(const struct json *document, char error[256]);

#endif
