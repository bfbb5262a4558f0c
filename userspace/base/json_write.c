/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

static void new_line(struct json_writer *w)
{
	if (!w->pretty)
		return;
	buf_puts(w->out, "\n");
	for (unsigned i = 0; i < w->depth; i++)
		buf_puts(w->out, "  ");
}

/* What stands before a value or a name. */
static void lead(struct json_writer *w)
{
	if (w->after_name) {
		w->after_name = false;
		return;
	}
	if (w->after_value)
		buf_puts(w->out, ",");
	if (w->depth)
		new_line(w);
}

void json_put_text(struct json_writer *w, const char *text)
{
	lead(w);
	buf_puts(w->out, text);
	w->after_value = true;
}

void json_begin(struct json_writer *w, char bracket)
{
	lead(w);
	buf_add(w->out, &bracket, 1);
	w->depth++;
	w->after_value = false;
}

void json_end(struct json_writer *w, char bracket)
{
	w->depth--;
	if (w->after_value)
		new_line(w);
	buf_puts(w->out, bracket == '{' || bracket == '}' ? "}" : "]");
	w->after_value = true;
}

static void quote_byte(struct buf *out, unsigned char c)
{
	static const char named[] = "\"\"\\\\\bb\ff\nn\rr\tt"; /* byte, letter of its escape */

	for (const char *pair = named; *pair; pair += 2) {
		if ((unsigned char)*pair == c) {
			buf_printf(out, "\\%c", pair[1]);
			return;
		}
	}
	if (c < 0x20 || c == 0x7f)
		buf_printf(out, "\\u%04x", c);
	else
		buf_add(out, &c, 1);
}

/* Do 8 bytes stand for themselves? Each term has a byte's top bit where one does not: above 0x7e,
 * below 0x20, quote, backslash. */
static bool plain_8(const char *text)
{
	const uint64_t each = 0x0101010101010101u;
	uint64_t x, quotes, backslashes, deletes;

	memcpy(&x, text, sizeof(x));
	quotes = x ^ each * '"';
	backslashes = x ^ each * '\\';
	deletes = x ^ each * 0x7f;
	return !((x | (x - each * 0x20) | (quotes - each) | (backslashes - each) |
		  (deletes - each)) &
		 each * 0x80);
}

/* How many bytes do: most of any text, so they go in one piece. */
static size_t plain_run(const char *text, size_t len)
{
	size_t n = 0;

	while (len - n >= 8 && plain_8(text + n))
		n += 8;
	while (n < len && (unsigned char)text[n] >= 0x20 && (unsigned char)text[n] < 0x7f &&
	       text[n] != '"' && text[n] != '\\')
		n++;
	return n;
}

static void quote(struct buf *out, const char *text)
{
	size_t left = strlen(text), n;

	buf_puts(out, "\"");
	for (; left; text += n, left -= n) {
		n = plain_run(text, left);
		if (n) {
			buf_add(out, text, n);
			continue;
		}
		n = utf8_sequence(text, left);
		if (n == 1)
			quote_byte(out, (unsigned char)*text);
		else if (n)
			buf_add(out, text, n);
		else
			buf_puts(out, "\xef\xbf\xbd"); /* U+FFFD */
		n += !n;
	}
	buf_puts(out, "\"");
}

void json_name(struct json_writer *w, const char *name)
{
	lead(w);
	quote(w->out, name);
	buf_puts(w->out, w->pretty ? ": " : ":");
	w->after_name = true;
	w->after_value = true;
}

void json_put_string(struct json_writer *w, const char *text)
{
	if (!text) {
		json_put_null(w);
		return;
	}
	lead(w);
	quote(w->out, text);
	w->after_value = true;
}

void json_put_int(struct json_writer *w, int64_t number)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, number);
	json_put_text(w, text);
}

/* The fewest digits that read back as the same number; JSON has no infinity: null. */
void json_put_double(struct json_writer *w, double number)
{
	char text[32];

	if (!isfinite(number)) {
		json_put_null(w);
		return;
	}
	for (int digits = 6; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, number);
		if (strtod(text, NULL) == number)
			break;
	}
	json_put_text(w, text);
}

void json_put_bool(struct json_writer *w, bool truth)
{
	json_put_text(w, truth ? "true" : "false");
}

void json_put_null(struct json_writer *w)
{
	json_put_text(w, "null");
}

void json_pair_string(struct json_writer *w, const char *name, const char *text)
{
	json_name(w, name);
	json_put_string(w, text);
}

void json_pair_int(struct json_writer *w, const char *name, int64_t number)
{
	json_name(w, name);
	json_put_int(w, number);
}

void json_pair_bool(struct json_writer *w, const char *name, bool truth)
{
	json_name(w, name);
	json_put_bool(w, truth);
}

static void put_number(struct json_writer *w, const struct json *value)
{
	double number = 0;
	int64_t whole;

	if (json_integer(value, &whole)) {
		json_put_int(w, whole);
		return;
	}
	json_number(value, &number);
	json_put_double(w, number);
}

static void put_container(struct json_writer *w, const struct json *value, char bracket)
{
	json_begin(w, bracket);
	for (const struct json *v = json_first(value); v; v = json_next(v)) {
		if (bracket == '{')
			json_name(w, json_key(v));
		json_put_value(w, v);
	}
	json_end(w, bracket);
}

/* Recursion is bounded by the depth json_parse() allows. */
void json_put_value(struct json_writer *w, const struct json *value)
{
	bool truth = false;

	switch (json_type(value)) {
	case JSON_BOOL:
		json_bool(value, &truth);
		json_put_bool(w, truth);
		break;
	case JSON_NUMBER:
		put_number(w, value);
		break;
	case JSON_STRING:
		json_put_string(w, json_string(value));
		break;
	case JSON_ARRAY:
		put_container(w, value, '[');
		break;
	case JSON_OBJECT:
		put_container(w, value, '{');
		break;
	default:
		json_put_null(w);
	}
}
