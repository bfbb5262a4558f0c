/* SPDX-License-Identifier: MIT */
/*
 * Reads tests/http/{requests,responses}.cases, whose first lines say how they are written. Any
 * mistake in them fails the test. tests/http/cases.py reads the same.
 */
#ifndef TESTS_HTTP1_CASES_H
#define TESTS_HTTP1_CASES_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"

#define CASES_MAX 400
#define LETS_MAX  16

struct http1_case {
	char *title; /* "[name] sentence" */
	struct buf bytes, seen;
	int error;    /* of http1_feed(); 0: taken */
	int status;   /* http1_error_status() of a refusal */
	int eof;      /* of http1_eof() behind it, when taken */
	bool no_body; /* answers a HEAD */
	bool any;     /* what is seen before the refusal does not matter */
};

struct http1_let {
	char *name;
	struct buf text;
};

struct http1_cases {
	const char *path;
	unsigned line;
	struct http1_case list[CASES_MAX];
	size_t n;
	struct http1_let lets[LETS_MAX];
	size_t n_lets;
};

static void cases_decode(struct http1_cases *cases, const char *text, size_t len, struct buf *out);

#define cases_fail(cases, why) fail_msg("%s:%u: %s", (cases)->path, (cases)->line, why)

/* "(NAME)" */
static size_t cases_let(struct http1_cases *cases, const char *text, size_t len, struct buf *out)
{
	const char *end = memchr(text, ')', len);
	size_t name = end ? (size_t)(end - text) - 1 : 0;

	for (size_t i = 0; i < cases->n_lets; i++) {
		if (strlen(cases->lets[i].name) != name ||
		    memcmp(cases->lets[i].name, text + 1, name) != 0)
			continue;
		buf_add(out, cases->lets[i].text.data, cases->lets[i].text.len);
		return name + 2;
	}
	cases_fail(cases, "no such name");
	return len;
}

/* "{N TEXT}" */
static size_t cases_repeat(struct http1_cases *cases, const char *text, size_t len, struct buf *out)
{
	const char *end = memchr(text, '}', len), *space = memchr(text, ' ', len);
	struct buf once = {0};
	long times;

	if (!end || !space || space > end)
		cases_fail(cases, "not {N TEXT}");
	times = strtol(text + 1, NULL, 10);
	cases_decode(cases, space + 1, (size_t)(end - space) - 1, &once);
	for (long i = 0; i < times; i++)
		buf_add(out, once.data, once.len);
	buf_fini(&once);
	return (size_t)(end - text) + 1;
}

/* What stands behind a backslash; returns its length. */
static size_t cases_escape(struct http1_cases *cases, const char *text, size_t len, struct buf *out)
{
	static const char letters[] = "rnt\\0", bytes[] = "\r\n\t\\\0";
	const char *letter = len ? memchr(letters, *text, 5) : NULL;

	if (letter) {
		buf_add(out, &bytes[letter - letters], 1);
		return 1;
	}
	if (len >= 3 && *text == 'x') {
		char hex[] = {text[1], text[2], '\0'}, *end;
		char byte = (char)strtol(hex, &end, 16);

		if (*end)
			cases_fail(cases, "not \\xNN");
		buf_add(out, &byte, 1);
		return 3;
	}
	if (len && *text == '(')
		return cases_let(cases, text, len, out);
	if (len && *text == '{')
		return cases_repeat(cases, text, len, out);
	cases_fail(cases, "unknown escape");
	return len;
}

static void cases_decode(struct http1_cases *cases, const char *text, size_t len, struct buf *out)
{
	while (len) {
		const char *slash = memchr(text, '\\', len);
		size_t plain = slash ? (size_t)(slash - text) : len, taken;

		buf_add(out, text, plain);
		text += plain;
		len -= plain;
		if (!len)
			break;
		taken = 1 + cases_escape(cases, text + 1, len - 1, out);
		text += taken;
		len -= taken;
	}
}

static void cases_verdict(struct http1_cases *cases, struct http1_case *one, const char *word)
{
	if (!strcmp(word, "taken"))
		return;
	if (!strcmp(word, "cut")) {
		one->eof = -EPIPE;
		return;
	}
	one->status = (int)strtol(word, NULL, 10);
	if (one->status < 400 || one->status > 599)
		cases_fail(cases, "no verdict");
	one->error = one->status == 431 || one->status == 414 ? -E2BIG : -EBADMSG;
}

static void cases_let_line(struct http1_cases *cases, const char *line)
{
	struct http1_let *let = &cases->lets[cases->n_lets];
	size_t name = strcspn(line, " ");

	if (cases->n_lets == LETS_MAX || strncmp(line + name, " = ", 3) != 0)
		cases_fail(cases, "not let NAME = TEXT");
	let->name = strndup(line, name);
	cases_decode(cases, line + name + 3, strlen(line + name + 3), &let->text);
	cases->n_lets++;
}

static void cases_line(struct http1_cases *cases, const char *line)
{
	struct http1_case *one = cases->n ? &cases->list[cases->n - 1] : NULL;

	if (!*line || *line == '#')
		return;
	if (!strncmp(line, "let ", 4)) {
		cases_let_line(cases, line + 4);
	} else if (*line == '[' && cases->n < CASES_MAX) {
		cases->list[cases->n++].title = strdup(line);
	} else if (!one || line[1] != ' ') {
		cases_fail(cases, "no such line");
	} else if (*line == '>') {
		cases_decode(cases, line + 2, strlen(line + 2), &one->bytes);
	} else if (*line == '=') {
		cases_verdict(cases, one, line + 2);
	} else if (!strcmp(line, "~ *")) {
		one->any = true;
	} else if (*line == '~') {
		cases_decode(cases, line + 2, strlen(line + 2), &one->seen);
	} else if (!strcmp(line, "+ head")) {
		one->no_body = true;
	} else if (strcmp(line, "+ parser") != 0) {
		cases_fail(cases, "no such line");
	}
}

static struct http1_cases *cases_read(const char *path)
{
	struct http1_cases *cases = calloc(1, sizeof(*cases));
	FILE *file = fopen(path, "r");
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;

	assert_non_null(cases);
	cases->path = path;
	if (!file)
		fail_msg("%s: %s (run from the top of the tree)", path, strerror(errno));
	while ((len = getline(&line, &cap, file)) > 0) {
		cases->line++;
		if (line[len - 1] == '\n')
			line[len - 1] = '\0';
		cases_line(cases, line);
	}
	free(line);
	fclose(file);
	assert_true(cases->n > 0);
	return cases;
}

static void cases_free(struct http1_cases *cases)
{
	for (size_t i = 0; i < cases->n; i++) {
		free(cases->list[i].title);
		buf_fini(&cases->list[i].bytes);
		buf_fini(&cases->list[i].seen);
	}
	for (size_t i = 0; i < cases->n_lets; i++) {
		free(cases->lets[i].name);
		buf_fini(&cases->lets[i].text);
	}
	free(cases);
}

#endif
