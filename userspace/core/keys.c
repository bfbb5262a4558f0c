/* SPDX-License-Identifier: MIT */
#include "core/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "base/wipe.h"
#include "core/reading.h"

#define SALT_LEN sizeof(((struct keys *)0)->salt)

static void digest_make(const uint8_t *salt, const void *key, size_t len,
			uint8_t digest[SHA256_LEN])
{
	struct sha256 sha;

	sha256_init(&sha);
	sha256_add(&sha, salt, SALT_LEN);
	sha256_add(&sha, key, len);
	sha256_end(&sha, digest);
}

static struct keys *keys_new(size_t max)
{
	struct keys *keys = calloc(1, sizeof(*keys));

	if (!keys)
		return NULL;
	keys->digests = calloc(max + 1, sizeof(*keys->digests));
	if (!keys->digests) {
		free(keys);
		return NULL;
	}
	return keys;
}

void keys_free(struct keys *keys)
{
	if (!keys)
		return;
	wipe(keys->digests, keys->n * sizeof(*keys->digests));
	free(keys->digests);
	wipe(keys, sizeof(*keys));
	free(keys);
}

/* --- the file --- */

struct line { /* a line's key, without the white space around it */
	const char *text;
	size_t len;
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The next line of *text, which goes past it. Empty: there is no key in it. */
static struct line line_next(const char **text, const char *end)
{
	const char *stop = memchr(*text, '\n', (size_t)(end - *text));
	struct line line = {.text = *text};

	if (!stop)
		stop = end;
	*text = stop < end ? stop + 1 : end;
	while (line.text < stop && is_space(*line.text))
		line.text++;
	while (stop > line.text && is_space(stop[-1]))
		stop--;
	if (line.text < stop && *line.text != '#')
		line.len = (size_t)(stop - line.text);
	return line;
}

/* What is wrong with a key and what is allowed, which says nothing of the key; NULL: nothing. */
static const char *key_trouble(const struct line *key)
{
	if (key->len < KEYS_LEN_MIN)
		return "the key is too short, allowed: 8..512 characters";
	if (key->len > KEYS_LEN_MAX)
		return "the key is too long, allowed: 8..512 characters";
	for (size_t i = 0; i < key->len; i++)
		if (key->text[i] <= ' ' || key->text[i] > '~') /* else no client could send it */
			return "the key has a character that is not allowed, allowed: printable "
			       "ASCII without white space";
	return NULL;
}

static size_t keys_count(const char *text, const char *end)
{
	size_t n = 0;

	while (text < end)
		n += line_next(&text, end).len > 0;
	return n;
}

/* 0, or the number of the line that *error is about. */
static unsigned keys_take(struct keys *keys, const char *text, const char *end, const char **error)
{
	for (unsigned number = 1; text < end; number++) {
		struct line key = line_next(&text, end);

		if (!key.len)
			continue;
		*error = keys->n == KEYS_MAX ? "one key too many, allowed: 4096 keys"
					     : key_trouble(&key);
		if (*error)
			return number;
		digest_make(keys->salt, key.text, key.len, keys->digests[keys->n++]);
	}
	*error = "there is no key, needed: at least one";
	return keys->n ? 0 : 1;
}

struct keys *keys_parse(const char *text, size_t len, const uint8_t salt[16], char error[256])
{
	size_t n = len ? keys_count(text, text + len) : 0;
	struct keys *keys = keys_new(n < KEYS_MAX ? n : KEYS_MAX);
	const char *what = "out of memory";
	unsigned line = 1;

	if (keys) {
		memcpy(keys->salt, salt, SALT_LEN);
		line = keys_take(keys, text, len ? text + len : text, &what);
	}
	if (!line)
		return keys;
	snprintf(error, 256, "line %u: %s", line, what);
	keys_free(keys);
	return NULL;
}

/* --- comparison --- */

/* 1 when they are equal, else 0; by arithmetic alone, so that the time is the same. */
static uint32_t digests_equal(const uint8_t *a, const uint8_t *b)
{
	uint32_t differ = 0;

	for (size_t i = 0; i < SHA256_LEN; i++)
		differ |= (uint32_t)(a[i] ^ b[i]);
	return (differ - 1) >> 31;
}

bool keys_accept(const struct keys *keys, const char *key, size_t len)
{
	uint8_t digest[SHA256_LEN];
	volatile uint32_t found = 0; /* volatile: all are looked at, whatever is optimised */

	if (!keys)
		return false;
	digest_make(keys->salt, key, len, digest);
	for (size_t i = 0; i < keys->n; i++)
		found |= digests_equal(keys->digests[i], digest);
	wipe(digest, sizeof(digest));
	return found != 0;
}

/* --- for followers --- */

static void hex_write(struct json_writer *w, const uint8_t *bytes, size_t n)
{
	char text[2 * SHA256_LEN + 1];

	for (size_t i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	json_put_string(w, text);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_read(const struct json *value, uint8_t *bytes, size_t n)
{
	const char *text = json_string(value);

	if (!text || strlen(text) != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

void keys_write(const struct keys *keys, struct json_writer *w)
{
	json_begin(w, '{');
	json_name(w, "salt");
	hex_write(w, keys->salt, SALT_LEN);
	json_name(w, "digests");
	json_begin(w, '[');
	for (size_t i = 0; i < keys->n; i++)
		hex_write(w, keys->digests[i], SHA256_LEN);
	json_end(w, ']');
	json_end(w, '}');
}

struct keys *keys_read(const struct json *document, char error[256])
{
	struct reading r = {.what = "keys", .error = error};
	const struct json *digest = NULL;
	long n = reading_array(&r, document, "digests", KEYS_MAX, &digest);
	struct keys *keys;

	if (n < 0)
		return NULL;
	keys = keys_new((size_t)n);
	if (!keys) {
		reading_memory(&r, document);
		return NULL;
	}
	if (!hex_read(json_get(document, "salt"), keys->salt, SALT_LEN)) {
		reading_refuse(&r, document, "\"salt\" is not 32 digits of hex");
		goto fail;
	}
	for (; digest; digest = json_next(digest)) {
		if (!hex_read(digest, keys->digests[keys->n++], SHA256_LEN)) {
			reading_refuse(&r, digest, "a digest is not 64 digits of hex");
			goto fail;
		}
	}
	return keys;
fail:
	keys_free(keys);
	return NULL;
}
