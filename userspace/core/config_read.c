/* SPDX-License-Identifier: MIT */
#include "core/config_read.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 12 /* names in a message; the rest is counted */

/* --- places and errors --- */

struct at at_key(const struct at *up, const char *key)
{
	const struct json *member = json_get(up->value, key);

	return (struct at){.up = up, .key = key, .value = member ? member : up->value};
}

struct at at_member(const struct at *up, const struct json *member)
{
	return (struct at){.up = up, .key = json_key(member), .value = member};
}

struct at at_index(const struct at *up, size_t index, const struct json *element)
{
	return (struct at){.up = up, .index = index, .value = element};
}

/* RFC 6901. The chain is as deep as the configuration's tables: recursion is bounded. */
static void put_path(struct buf *out, const struct at *at)
{
	if (!at->up)
		return;
	put_path(out, at->up);
	buf_puts(out, "/");
	if (!at->key) {
		buf_printf(out, "%zu", at->index);
		return;
	}
	for (const char *c = at->key; *c; c++) {
		if (*c == '~' || *c == '/')
			buf_puts(out, *c == '~' ? "~0" : "~1");
		else
			buf_add(out, c, 1);
	}
}

/* A message is one line whatever the configuration holds. */
static char *one_line(const char *text)
{
	struct buf out = {0};

	for (const char *c = text; *c; c++) {
		if (iscntrl((unsigned char)*c))
			buf_printf(&out, "\\x%02x", (unsigned char)*c);
		else
			buf_add(&out, c, 1);
	}
	return buf_steal(&out);
}

static void note_error(struct config *c, unsigned line, const char *text)
{
	struct config_error *errors = realloc(c->errors, (c->n_errors + 1) * sizeof(*c->errors));

	if (!errors) {
		c->no_memory = true;
		return;
	}
	c->errors = errors;
	errors[c->n_errors].line = line;
	errors[c->n_errors].order = c->n_errors;
	errors[c->n_errors].text = one_line(text);
	c->n_errors++;
}

void config_bad(struct config *c, const struct at *at, const char *format, ...)
{
	struct buf text = {0};
	va_list args;

	put_path(&text, at);
	buf_puts(&text, at->up ? ": " : "/: ");
	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	if (buf_failed(&text))
		c->no_memory = true;
	else
		note_error(c, json_line(c->root, at->value), text.data);
	buf_fini(&text);
}

static int compare_errors(const void *a, const void *b)
{
	const struct config_error *left = a, *right = b;

	if (left->line != right->line)
		return left->line < right->line ? -1 : 1;
	return (left->order > right->order) - (left->order < right->order);
}

void config_print_errors(struct config *c, struct buf *out)
{
	if (c->n_errors)
		qsort(c->errors, c->n_errors, sizeof(*c->errors), compare_errors);
	for (size_t i = 0; i < c->n_errors; i++) {
		if (c->errors[i].text)
			buf_printf(out, "%s:%u: %s\n", c->file, c->errors[i].line,
				   c->errors[i].text);
		free(c->errors[i].text);
	}
	if (c->no_memory)
		buf_printf(out, "%s:1: /: out of memory\n", c->file);
	free(c->errors);
	c->errors = NULL;
	c->n_errors = 0;
}

void *config_alloc(struct config *c, size_t n, size_t size)
{
	void *memory = calloc(n ? n : 1, size);

	if (!memory)
		c->no_memory = true;
	return memory;
}

const char *config_grouped(size_t number, char text[GROUPED_MAX])
{
	char digits[GROUPED_MAX];
	int n = snprintf(digits, sizeof(digits), "%zu", number);
	size_t to = 0;

	for (int from = 0; from < n; from++) {
		if (from && (n - from) % 3 == 0)
			text[to++] = ',';
		text[to++] = digits[from];
	}
	text[to] = '\0';
	return text;
}

char *config_list(size_t n, const char *(*name)(const void *names, size_t i), const void *names)
{
	struct buf out = {0};

	for (size_t i = 0; i < n && i < LIST_MAX; i++)
		buf_printf(&out, "%s%s", i ? ", " : "", name(names, i));
	if (n > LIST_MAX)
		buf_printf(&out, " and %zu more", n - LIST_MAX);
	if (!n)
		buf_puts(&out, "none");
	return buf_steal(&out);
}

/* --- values --- */

bool config_type(struct config *c, const struct at *at, enum json_type type, const char *allowed)
{
	enum json_type is = json_type(at->value);

	if (is == type)
		return true;
	config_bad(c, at, "is %s, allowed: %s", json_type_name(is), allowed);
	return false;
}

/* Length of NAME in "NAME}"; 0: no such thing. */
static size_t variable_length(const char *text)
{
	static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
	size_t n;

	if (!*text || !strchr(first, *text))
		return 0;
	n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789");
	return text[n] == '}' ? n : 0;
}

/* At "${"; returns what comes after it, NULL when it was reported as wrong. */
static const char *expand_variable(struct config *c, const struct at *at, const char *text,
				   struct buf *out)
{
	size_t n = variable_length(text + 2);
	char name[256];
	const char *value;

	if (!n || n >= sizeof(name)) {
		config_bad(c, at, "\"%.64s\" is no variable, allowed: ${NAME} with A-Z a-z 0-9 _",
			   text);
		return NULL;
	}
	memcpy(name, text + 2, n);
	name[n] = '\0';
	value = c->getenv_ ? c->getenv_(name) : NULL;
	if (!value) {
		config_bad(c, at, "${%s} is not set in the environment, needed: a value there",
			   name);
		return NULL;
	}
	buf_puts(out, value);
	return text + 2 + n + 1;
}

static bool expand(struct config *c, const struct at *at, const char *text, struct buf *out)
{
	while (*text) {
		if (strncmp(text, "${", 2) != 0) {
			buf_add(out, text++, 1);
			continue;
		}
		text = expand_variable(c, at, text, out);
		if (!text)
			return false;
	}
	return true;
}

/* Names end up in HTTP fields, logs and metrics: one line each. */
static const char *string_trouble(const char *text)
{
	if (!*text)
		return "is empty";
	for (; *text; text++) {
		if (iscntrl((unsigned char)*text))
			return "has a control character";
	}
	return NULL;
}

char *config_string(struct config *c, const struct at *at, const char *allowed)
{
	struct buf out = {0};
	const char *trouble;
	char *text;

	if (!config_type(c, at, JSON_STRING, allowed))
		return NULL;
	if (!expand(c, at, json_string(at->value), &out)) {
		buf_fini(&out);
		return NULL;
	}
	text = buf_steal(&out);
	if (!text) {
		c->no_memory = true;
		return NULL;
	}
	trouble = string_trouble(text);
	if (!trouble)
		return text;
	config_bad(c, at, "%s, allowed: %s", trouble, allowed);
	free(text);
	return NULL;
}

bool config_number(struct config *c, const struct at *at, int64_t min, int64_t max, int64_t *out)
{
	struct buf shown = {0};
	struct json_writer w = {.out = &shown};
	char allowed[64];
	double exact;
	int64_t number;

	snprintf(allowed, sizeof(allowed), "a whole number %" PRId64 "..%" PRId64, min, max);
	if (!config_type(c, at, JSON_NUMBER, allowed))
		return false;
	json_number(at->value, &exact);
	if (json_integer(at->value, &number) && number >= min && number <= max) {
		*out = number;
		return true;
	}
	json_put_double(&w, exact);
	config_bad(c, at, "is %s, allowed: %s", shown.data ? shown.data : "", allowed);
	buf_fini(&shown);
	return false;
}

/* Why a well-formed address is of no use as one to connect to; NULL: it is. */
static const char *address_trouble(const struct addr *addr)
{
	const uint8_t *b = addr->bytes;

	if (addr_is_any(addr))
		return "is the unspecified address";
	if (addr_is_v4(addr))
		return b[12] >= 224 ? "is a multicast, broadcast or reserved address" : NULL;
	if (b[0] == 0xff)
		return "is a multicast address";
	return b[0] == 0xfe && (b[1] & 0xc0) == 0x80 ? "is a link-local address" : NULL;
}

bool config_address(struct config *c, const struct at *at, struct addr *out)
{
	static const char allowed[] = "an IPv4 or IPv6 address of one machine";
	char *text = config_string(c, at, allowed);
	const char *trouble = "is no address";
	struct addr addr;

	if (!text)
		return false;
	if (addr_parse(&addr, text) == 0)
		trouble = address_trouble(&addr);
	if (trouble)
		config_bad(c, at, "\"%.64s\" %s, allowed: %s", text, trouble, allowed);
	else
		*out = addr;
	free(text);
	return !trouble;
}

bool config_listen(struct config *c, const struct at *at, struct addr *addr, uint16_t *port)
{
	static const char allowed[] = "ADDRESS:PORT, as 127.0.0.1:4000 or [::1]:4000";
	char *text = config_string(c, at, allowed);
	struct addr parsed;
	uint16_t number;
	bool good;

	if (!text)
		return false;
	good = addr_parse_port(&parsed, &number, text) == 0 &&
	       (addr_is_any(&parsed) || !address_trouble(&parsed));
	if (good) {
		*addr = parsed;
		*port = number;
	} else {
		config_bad(c, at, "\"%.64s\" is nothing to listen on, allowed: %s", text, allowed);
	}
	free(text);
	return good;
}

bool config_name(struct config *c, const struct at *at, const char *name, char out[MG_NAME_MAX])
{
	size_t len = strlen(name);

	if (!len || len >= MG_NAME_MAX ||
	    strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") !=
		    len) {
		config_bad(c, at, "bad name, allowed: 1..%d characters of A-Z a-z 0-9 . _ -",
			   MG_NAME_MAX - 1);
		return false;
	}
	memcpy(out, name, len + 1);
	return true;
}

static void check_twice(struct config *c, const struct at *at, char **strings, size_t n,
			const char *text)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(strings[i], text) == 0) {
			config_bad(c, at, "\"%.64s\" is given twice, allowed: once", text);
			return;
		}
	}
}

/* One element of config_strings(); NULL: was reported. */
static char *read_element(struct config *c, const struct at *at, const char *allowed,
			  bool (*good)(const char *text))
{
	char *text = config_string(c, at, allowed);

	if (!text || !good || good(text))
		return text;
	config_bad(c, at, "is \"%.64s\", allowed: %s", text, allowed);
	free(text);
	return NULL;
}

bool config_strings(struct config *c, const struct at *at, const char *allowed,
		    bool (*good)(const char *text), char ***out, size_t *n_out)
{
	const struct json *element;
	char *text;

	if (json_type(at->value) != JSON_ARRAY) {
		config_bad(c, at, "is %s, allowed: an array, each element %s",
			   json_type_name(json_type(at->value)), allowed);
		return false;
	}
	element = json_first(at->value);
	if (!element) {
		config_bad(c, at, "is empty, needed: at least one element, %s", allowed);
		return false;
	}
	*out = config_alloc(c, json_count(at->value), sizeof(**out));
	if (!*out)
		return false;
	for (size_t i = 0; element; element = json_next(element), i++) {
		struct at here = at_index(at, i, element);

		text = read_element(c, &here, allowed, good);
		if (!text)
			continue;
		check_twice(c, &here, *out, *n_out, text);
		(*out)[(*n_out)++] = text;
	}
	return true;
}

/* --- objects --- */

size_t config_count_named(struct config *c, const struct at *at, const char *what, size_t max)
{
	char is[GROUPED_MAX], most[GROUPED_MAX];
	size_t n;

	if (!config_type(c, at, JSON_OBJECT, "an object with a name for each key"))
		return 0;
	n = json_count(at->value);
	if (!n)
		config_bad(c, at, "is empty, needed: at least one");
	if (n > max)
		config_bad(c, at, "%s %s: at most %s are allowed", config_grouped(n, is), what,
			   config_grouped(max, most));
	return n;
}

static const char *key_name(const void *keys, size_t i)
{
	return ((const struct config_key *)keys)[i].name;
}

static bool known_key(const struct config_key *keys, size_t n_keys, const char *name)
{
	for (size_t i = 0; i < n_keys; i++) {
		if (strcmp(keys[i].name, name) == 0)
			return true;
	}
	return false;
}

static void check_member(struct config *c, const struct at *at, const struct config_key *keys,
			 size_t n_keys)
{
	char *allowed;

	if (json_repeated(at->value))
		config_bad(c, at, "is given twice, allowed: once");
	if (known_key(keys, n_keys, at->key))
		return;
	allowed = config_list(n_keys, key_name, keys);
	config_bad(c, at, "unknown key, allowed: %s", allowed ? allowed : "");
	free(allowed);
}

void config_object(struct config *c, const struct at *at, const struct config_key *keys,
		   size_t n_keys, void *into)
{
	for (const struct json *m = json_first(at->value); m; m = json_next(m)) {
		struct at here = at_member(at, m);

		check_member(c, &here, keys, n_keys);
	}
	for (const struct config_key *key = keys; key < keys + n_keys; key++) {
		struct at here = at_key(at, key->name);

		if (here.value != at->value)
			key->read(c, &here, key, into);
		else if (key->needed)
			config_bad(c, &here, "is missing, needed: %s", key->needed);
	}
}

void config_read_u32(struct config *c, const struct at *at, const struct config_key *key,
		     void *into)
{
	int64_t number;

	if (config_number(c, at, key->min, key->max, &number))
		*(uint32_t *)(void *)((char *)into + key->offset) = (uint32_t)number;
}

void config_read_u16(struct config *c, const struct at *at, const struct config_key *key,
		     void *into)
{
	int64_t number;

	if (config_number(c, at, key->min, key->max, &number))
		*(uint16_t *)(void *)((char *)into + key->offset) = (uint16_t)number;
}

void config_read_bool(struct config *c, const struct at *at, const struct config_key *key,
		      void *into)
{
	bool truth;

	if (!config_type(c, at, JSON_BOOL, "true or false"))
		return;
	json_bool(at->value, &truth);
	*((bool *)(void *)((char *)into + key->offset)) = truth;
}

void config_read_text(struct config *c, const struct at *at, const struct config_key *key,
		      void *into)
{
	*(char **)(void *)((char *)into + key->offset) = config_string(c, at, CONFIG_TEXT);
}

void config_read_address(struct config *c, const struct at *at, const struct config_key *key,
			 void *into)
{
	config_address(c, at, (struct addr *)(void *)((char *)into + key->offset));
}

/* For keys that are not ours: any value will do. */
void config_read_any(struct config *c, const struct at *at, const struct config_key *key,
		     void *into)
{
	(void)c;
	(void)at;
	(void)key;
	(void)into;
}
