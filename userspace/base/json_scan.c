/* SPDX-License-Identifier: MIT */
#include "base/json_scan.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define DIGITS_MAX 60 /* cJSON cuts numbers at 63 characters */

enum want {
	WANT_VALUE,
	WANT_ITEM_OR_END, /* just after [ */
	WANT_KEY,
	WANT_KEY_OR_END, /* just after { */
	WANT_COLON,
	WANT_COMMA_OR_END,
	WANT_END,
	WANT_FAILED,
};

int json_scan_fail(struct json_scan *s, const char *format, ...)
{
	va_list args;

	s->error->line = s->line;
	va_start(args, format);
	vsnprintf(s->error->text, sizeof(s->error->text), format, args);
	va_end(args);
	return -1;
}

static int fail_at_char(struct json_scan *s, const char *expected)
{
	unsigned char c = (unsigned char)s->text[s->at];

	if (s->at >= s->len)
		return json_scan_fail(s, "the text ends where %s is expected", expected);
	if (c == '/' && !(s->flags & JSON_COMMENTS))
		return json_scan_fail(s, "comments are not allowed here, expected %s", expected);
	if (c < 0x21 || c > 0x7e)
		return json_scan_fail(s, "unexpected byte 0x%02x, expected %s", c, expected);
	return json_scan_fail(s, "unexpected '%c', expected %s", c, expected);
}

/* --- before the scan: bytes and comments --- */

static int check_bytes(struct json_scan *s)
{
	size_t n;

	for (s->at = 0; s->at < s->len; s->at += n) {
		n = utf8_sequence(s->text + s->at, s->len - s->at);
		if (!n)
			return json_scan_fail(s, "byte 0x%02x is not UTF-8",
					      (unsigned char)s->text[s->at]);
		if (!s->text[s->at])
			return json_scan_fail(s, "NUL byte in the text");
		if (s->text[s->at] == '\n')
			s->line++;
	}
	return 0;
}

/* Length of the string that starts at `at`, quotes included, as far as it goes; escapes are not
 * looked into. */
static size_t string_extent(const struct json_scan *s, size_t at)
{
	size_t end = at + 1;

	while (end < s->len && s->text[end] != '"' && s->text[end] != '\n')
		end += s->text[end] == '\\' ? 2 : 1;
	if (end >= s->len)
		return s->len - at;
	return end + (s->text[end] == '"') - at;
}

/* Length of the comment that starts at `at`; 0: none does; SIZE_MAX: it does not end. */
static size_t comment_extent(const struct json_scan *s, size_t at)
{
	const char *end;

	if (strncmp(s->text + at, "//", 2) == 0)
		return strcspn(s->text + at, "\n");
	if (strncmp(s->text + at, "/*", 2) != 0)
		return 0;
	end = strstr(s->text + at + 2, "*/");
	return end ? (size_t)(end + 2 - (s->text + at)) : SIZE_MAX;
}

static void blank(struct json_scan *s, size_t from, size_t n)
{
	for (char *c = s->text + from; n; c++, n--) {
		if (*c != '\n' && *c != '\r')
			*c = ' ';
	}
}

static int blank_comments(struct json_scan *s)
{
	size_t n;

	s->line = 1;
	for (s->at = 0; s->at < s->len; s->at += n) {
		n = 1;
		if (s->text[s->at] == '\n')
			s->line++;
		if (s->text[s->at] == '"')
			n = string_extent(s, s->at);
		if (s->text[s->at] != '/')
			continue;
		n = comment_extent(s, s->at);
		if (n == SIZE_MAX)
			return json_scan_fail(s, "comment without end");
		for (size_t i = 0; i < n; i++)
			s->line += s->text[s->at + i] == '\n';
		blank(s, s->at, n);
		n += !n; /* a lone slash is for the scan to refuse */
	}
	return 0;
}

/* --- the scan --- */

static char peek(const struct json_scan *s)
{
	return s->text[s->at]; /* NUL at the end */
}

static void skip_space(struct json_scan *s)
{
	for (;; s->at++) {
		if (peek(s) == '\n')
			s->line++;
		else if (peek(s) != ' ' && peek(s) != '\t' && peek(s) != '\r')
			return;
	}
}

static int note_line(struct json_scan *s)
{
	size_t cap = s->cap_lines ? s->cap_lines * 2 : 64;
	int *lines = s->lines;

	if (s->n_lines == s->cap_lines) {
		lines = realloc(lines, cap * sizeof(*lines));
		if (!lines)
			return json_scan_fail(s, "out of memory");
		s->lines = lines;
		s->cap_lines = cap;
	}
	lines[s->n_lines++] = (int)(s->member_line ? s->member_line : s->line);
	s->member_line = 0;
	return 0;
}

/* Four hexadecimal digits after \u; -1: they are not. */
static long scan_hex4(const struct json_scan *s, size_t at)
{
	static const char digits[] = "0123456789abcdef";
	long code = 0;

	for (size_t i = 0; i < 4; i++) {
		char c = s->text[at + i];
		const char *digit;

		if (c >= 'A' && c <= 'F')
			c = (char)(c - 'A' + 'a');
		digit = c ? strchr(digits, c) : NULL;
		if (!digit)
			return -1;
		code = code * 16 + (digit - digits);
	}
	return code;
}

/* At the backslash of an escape; goes past it. */
static int scan_escape(struct json_scan *s)
{
	char kind = s->text[s->at + 1];
	long code, low;

	if (kind != 'u') {
		if (!kind || !strchr("\"\\/bfnrt", kind))
			return json_scan_fail(s, "unknown escape in a string");
		s->at += 2;
		return 0;
	}
	code = scan_hex4(s, s->at + 2);
	if (code < 0)
		return json_scan_fail(s, "\\u without four hexadecimal digits");
	if (code == 0)
		return json_scan_fail(s, "\\u0000 in a string");
	s->at += 6;
	if (code < 0xd800 || code > 0xdfff)
		return 0;
	low = strncmp(s->text + s->at, "\\u", 2) == 0 ? scan_hex4(s, s->at + 2) : -1;
	if (code > 0xdbff || low < 0xdc00 || low > 0xdfff)
		return json_scan_fail(s, "\\u%04lx is half of a surrogate pair",
				      (unsigned long)code);
	s->at += 6;
	return 0;
}

static int scan_string(struct json_scan *s)
{
	s->at++;
	while (peek(s) != '"') {
		if (s->at >= s->len || peek(s) == '\n')
			return json_scan_fail(s, "string without end");
		if ((unsigned char)peek(s) < 0x20)
			return json_scan_fail(s, "control character 0x%02x in a string",
					      (unsigned)peek(s));
		if (peek(s) != '\\')
			s->at++;
		else if (scan_escape(s))
			return -1;
	}
	s->at++;
	return 0;
}

static size_t scan_digits(struct json_scan *s)
{
	size_t n = strspn(s->text + s->at, "0123456789");

	s->at += n;
	return n;
}

/* RFC 8259 §6 */
static int scan_number(struct json_scan *s)
{
	size_t start = s->at;

	s->at += peek(s) == '-';
	if (peek(s) == '0' && s->text[s->at + 1] >= '0' && s->text[s->at + 1] <= '9')
		return json_scan_fail(s, "number with a leading zero");
	if (!scan_digits(s))
		return fail_at_char(s, "a digit");
	if (peek(s) == '.') {
		s->at++;
		if (!scan_digits(s))
			return fail_at_char(s, "a digit");
	}
	if (peek(s) == 'e' || peek(s) == 'E') {
		s->at++;
		s->at += peek(s) == '+' || peek(s) == '-';
		if (!scan_digits(s))
			return fail_at_char(s, "a digit");
	}
	if (s->at - start > DIGITS_MAX)
		return json_scan_fail(s, "number longer than %d characters", DIGITS_MAX);
	return 0;
}

static int scan_literal(struct json_scan *s)
{
	static const char *const literals[] = {"true", "false", "null"};

	for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) {
		size_t n = strlen(literals[i]);

		if (strncmp(s->text + s->at, literals[i], n) != 0)
			continue;
		s->at += n;
		return 0;
	}
	return fail_at_char(s, "a value");
}

static enum want after_value(const struct json_scan *s)
{
	return s->depth ? WANT_COMMA_OR_END : WANT_END;
}

static enum want open_container(struct json_scan *s)
{
	char bracket = peek(s);

	if (s->depth == JSON_DEPTH_MAX) {
		json_scan_fail(s, "nested deeper than %d", JSON_DEPTH_MAX);
		return WANT_FAILED;
	}
	s->open[s->depth++] = bracket;
	s->at++;
	return bracket == '{' ? WANT_KEY_OR_END : WANT_ITEM_OR_END;
}

static enum want close_container(struct json_scan *s)
{
	s->depth--;
	s->at++;
	return after_value(s);
}

static enum want scan_value(struct json_scan *s)
{
	char c = peek(s);
	int err;

	if (note_line(s))
		return WANT_FAILED;
	if (c == '{' || c == '[')
		return open_container(s);
	if (c == '"')
		err = scan_string(s);
	else if (c == '-' || (c >= '0' && c <= '9'))
		err = scan_number(s);
	else
		err = scan_literal(s);
	return err ? WANT_FAILED : after_value(s);
}

static enum want scan_key(struct json_scan *s)
{
	if (peek(s) != '"') {
		fail_at_char(s, "a key in double quotes");
		return WANT_FAILED;
	}
	s->member_line = s->line;
	return scan_string(s) ? WANT_FAILED : WANT_COLON;
}

static enum want scan_colon(struct json_scan *s)
{
	if (peek(s) != ':') {
		fail_at_char(s, "':' after the key");
		return WANT_FAILED;
	}
	s->at++;
	return WANT_VALUE;
}

static enum want scan_comma(struct json_scan *s)
{
	bool object = s->open[s->depth - 1] == '{';

	if (peek(s) == (object ? '}' : ']'))
		return close_container(s);
	if (peek(s) != ',') {
		fail_at_char(s, object ? "',' or '}'" : "',' or ']'");
		return WANT_FAILED;
	}
	s->at++;
	return object ? WANT_KEY : WANT_VALUE;
}

static enum want scan_step(struct json_scan *s, enum want want)
{
	switch (want) {
	case WANT_ITEM_OR_END:
		return peek(s) == ']' ? close_container(s) : scan_value(s);
	case WANT_KEY_OR_END:
		return peek(s) == '}' ? close_container(s) : scan_key(s);
	case WANT_KEY:
		return scan_key(s);
	case WANT_COLON:
		return scan_colon(s);
	case WANT_COMMA_OR_END:
		return scan_comma(s);
	default:
		return scan_value(s);
	}
}

static int scan_document(struct json_scan *s)
{
	enum want want = WANT_VALUE;

	s->at = 0;
	s->line = 1;
	while (want != WANT_END) {
		skip_space(s);
		want = scan_step(s, want);
		if (want == WANT_FAILED)
			return -1;
	}
	skip_space(s);
	return s->at < s->len ? fail_at_char(s, "the end of the text") : 0;
}

int json_scan(struct json_scan *s)
{
	s->line = 1;
	if (check_bytes(s))
		return -1;
	if ((s->flags & JSON_COMMENTS) && blank_comments(s))
		return -1;
	return scan_document(s);
}
