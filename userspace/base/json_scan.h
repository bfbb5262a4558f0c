/* SPDX-License-Identifier: MIT */
/*
 * The scan that decides what is JSON (RFC 8259) before cJSON sees the text: iterative, bounded, its
 * memory the caller's. Private to json*.c.
 */
#ifndef BASE_JSON_SCAN_H
#define BASE_JSON_SCAN_H

#include "base/json.h"

#define JSON_DEPTH_MAX 32

struct json_scan {
	char *text; /* writable, NUL behind its end; comments become spaces */
	size_t len, at;
	unsigned line, member_line;
	unsigned flags;
	char open[JSON_DEPTH_MAX];
	unsigned depth;
	int *lines; /* of each value, in document order; to be freed by the caller */
	size_t n_lines, cap_lines;
	struct json_error *error;
};

/* 0, or -1 with *scan->error filled. Needs text, len, flags and error. */
int json_scan(struct json_scan *scan);

/* Fills *scan->error with scan->line and the text; -1. */
int json_scan_fail(struct json_scan *scan, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif
