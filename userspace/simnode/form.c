/* SPDX-License-Identifier: MIT */
#include "simnode/form.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BOUNDARY_MAX 70 /* RFC 2046 5.1.1 */

static const char kind[] = "multipart/form-data";

bool form_is(const char *content_type)
{
	return content_type && !strncasecmp(content_type, kind, sizeof(kind) - 1);
}

/* "\r\n--BOUNDARY"; its length, 0: none. */
static size_t delimiter_of(const char *content_type, char text[BOUNDARY_MAX + 5])
{
	const char *at = strstr(content_type, "boundary=");
	size_t len;

	if (!at)
		return 0;
	at += strlen("boundary=");
	if (*at == '"')
		len = strcspn(++at, "\"");
	else
		len = strcspn(at, "; \t");
	if (!len || len > BOUNDARY_MAX)
		return 0;
	return (size_t)snprintf(text, BOUNDARY_MAX + 5, "\r\n--%.*s", (int)len, at);
}

static const char *find(const char *text, size_t len, const char *what, size_t what_len)
{
	const char *end = text + len;

	for (const char *at = text; (size_t)(end - at) >= what_len; at++) {
		at = memchr(at, what[0], (size_t)(end - at) - what_len + 1);
		if (!at)
			return NULL;
		if (!memcmp(at, what, what_len))
			return at;
	}
	return NULL;
}

/* name="..." within one part's head. */
static const char *parameter(const char *head, size_t len, const char *name, size_t *value_len)
{
	const char *at = find(head, len, name, strlen(name)), *end;

	if (!at)
		return NULL;
	at += strlen(name);
	end = memchr(at, '"', len - (size_t)(at - head));
	*value_len = end ? (size_t)(end - at) : 0;
	return end ? at : NULL;
}

static void read_part(const char *text, size_t len, struct form_part *part)
{
	const char *end = find(text, len, "\r\n\r\n", 4);
	size_t head = end ? (size_t)(end - text) : len;

	*part = (struct form_part){.data = end ? end + 4 : text + len};
	part->len = len - (size_t)(part->data - text);
	part->name = parameter(text, head, " name=\"", &part->name_len);
	part->filename = parameter(text, head, "filename=\"", &part->filename_len);
}

bool form_find(const char *content_type, const char *body, size_t len, const char *name,
	       struct form_part *part)
{
	char delimiter[BOUNDARY_MAX + 5];
	size_t n = form_is(content_type) ? delimiter_of(content_type, delimiter) : 0;
	const char *at = n ? find(body, len, delimiter + 2, n - 2) : NULL, *next;

	if (!at)
		return false;
	at += n - 2;
	while ((next = find(at, len - (size_t)(at - body), delimiter, n))) {
		read_part(at, (size_t)(next - at), part);
		if (part->name && part->name_len == strlen(name) &&
		    !memcmp(part->name, name, part->name_len))
			return true;
		at = next + n;
	}
	return false;
}
