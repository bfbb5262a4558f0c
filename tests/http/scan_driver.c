/* SPDX-License-Identifier: MIT */
/*
 * proxy/scan for test_scan_differential.py: bodies on stdin, each behind its length (four bytes,
 * big endian); a line for each on stdout: "-" and the error, or "+" and the values of model, name
 * and stream, with tabs between. A value: "absent", "other AT LEN" or "string AT LEN HEX".
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/scan.h"

#define BODY_MAX (1 << 20)

static void print_value(const struct scan_value *value)
{
	if (value->type == SCAN_ABSENT) {
		printf("\tabsent");
		return;
	}
	printf("\t%s %zu %zu", value->type == SCAN_STRING ? "string" : "other", value->at,
	       value->len);
	if (value->type != SCAN_STRING)
		return;
	putchar(' ');
	for (const char *c = value->text; *c; c++)
		printf("%02x", (unsigned char)*c);
}

static void scan(const char *body, size_t len)
{
	struct scan scan;

	scan_init(&scan);
	if (scan_feed(&scan, body, len) || scan_end(&scan)) {
		printf("-\t%s\n", scan.error);
		return;
	}
	putchar('+');
	print_value(&scan.model);
	print_value(&scan.name);
	printf("\t%s\n", !scan.stream_seen ? "absent" : scan.stream ? "true" : "false");
}

int main(void)
{
	unsigned char head[4];
	char *body = malloc(BODY_MAX);

	if (!body)
		return 1;
	while (fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
		size_t len = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 |
			     head[3];

		if (len > BODY_MAX || fread(body, 1, len, stdin) != len)
			return 1;
		scan(body, len);
	}
	free(body);
	return 0;
}
