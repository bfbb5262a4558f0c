/* SPDX-License-Identifier: MIT */
#include "proxy/events.h"

#include <string.h>
#include <strings.h>

static bool type_is(const char *content_type, const char *wanted)
{
	size_t len = strlen(wanted);

	return !strncasecmp(content_type, wanted, len) &&
	       (!content_type[len] || strchr("; \t", content_type[len]));
}

void events_init(struct events *events, const char *content_type, enum stream_end end)
{
	memset(events, 0, sizeof(*events));
	events->end = end;
	if (content_type && type_is(content_type, "text/event-stream"))
		events->kind = EVENTS_SSE;
	else if (content_type && type_is(content_type, "application/x-ndjson"))
		events->kind = EVENTS_NDJSON;
}

/* Does the line begin like this, whatever blanks stand between? Pattern: no blanks. */
static bool line_begins(const char *line, size_t len, const char *pattern)
{
	size_t i = 0;

	for (; *pattern; i++) {
		if (i == len)
			return false;
		if (line[i] == *pattern)
			pattern++;
		else if (line[i] != ' ' && line[i] != '\t')
			return false;
	}
	return true;
}

static bool sse_is_end(const struct events *events)
{
	const char *line = events->prefix;
	size_t len = events->prefix_len;

	switch (events->end) {
	case STREAM_DONE:
		return line_begins(line, len, "data:[DONE]");
	case STREAM_MESSAGE_STOP:
		return line_begins(line, len, "event:message_stop") ||
		       line_begins(line, len, "data:{\"type\":\"message_stop\"");
	case STREAM_RESPONSE:
		return line_begins(line, len, "event:response.completed") ||
		       line_begins(line, len, "event:response.incomplete") ||
		       line_begins(line, len, "event:response.failed") ||
		       line_begins(line, len, "data:[DONE]") ||
		       line_begins(line, len, "data:{\"type\":\"response.completed\"") ||
		       line_begins(line, len, "data:{\"type\":\"response.incomplete\"") ||
		       line_begins(line, len, "data:{\"type\":\"response.failed\"");
	default:
		return false;
	}
}

/* "error": null is none. */
static bool has_error(const char *line, size_t len, const char *pattern)
{
	char with_null[32];
	size_t n = strlen(pattern);

	memcpy(with_null, pattern, n);
	memcpy(with_null + n, "null", 5);
	return line_begins(line, len, pattern) && !line_begins(line, len, with_null);
}

/* "error: {...}" is older llama.cpp's, "object":"error" older vLLM's: a [DONE] follows both. */
static bool sse_is_error(const char *line, size_t len)
{
	return has_error(line, len, "data:{\"error\":") ||
	       line_begins(line, len, "data:{\"type\":\"error\"") ||
	       line_begins(line, len, "data:{\"object\":\"error\"") ||
	       line_begins(line, len, "event:error") || line_begins(line, len, "error:");
}

static void first_is(struct events *events, enum events_first first)
{
	if (events->first == EVENTS_NOT_YET)
		events->first = first;
	if (first == EVENTS_ERROR)
		events->error = true;
}

static void sse_line_end(struct events *events)
{
	const char *line = events->prefix;
	size_t len = events->prefix_len;

	if (!len) { /* a blank line: the event is complete */
		if (events->has_data)
			first_is(events, EVENTS_REAL);
		events->has_data = false;
		events->event_begun = false;
		return;
	}
	if (line[0] == ':')
		return;
	events->event_begun = true;
	if (sse_is_end(events))
		events->done = true;
	if (sse_is_error(line, len))
		first_is(events, EVENTS_ERROR);
	if (line_begins(line, len, "data:"))
		events->has_data = true;
}

/* The member that marks the last line, its blanks left out; what it looks like in a string has
 * its quotes escaped. */
static const char done_mark[] = "\"done\":true";
#define MARK_LEN    (sizeof(done_mark) - 1)
#define MARK_QUOTED 5 /* of it, before the quote that closes the name */

/* Inside a string. The first quote of the mark has been seen when mark_len is not 0. */
static void mark_quoted(struct events *events, char c)
{
	bool on = events->mark_len && c == done_mark[events->mark_len];

	events->mark_len = on ? events->mark_len + 1 : 0;
	if (events->escaped)
		events->escaped = false;
	else if (c == '\\')
		events->escaped = true;
	else if (c == '"')
		events->quoted = false;
}

static void mark_bare(struct events *events, char c)
{
	bool blank = c == ' ' || c == '\t' || c == '\r';
	size_t at = events->mark_len;

	if (blank && (at == MARK_QUOTED + 1 || at == MARK_QUOTED + 2))
		return;
	events->mark_len = at > MARK_QUOTED && c == done_mark[at] ? at + 1 : 0;
	if (events->mark_len == MARK_LEN) {
		events->line_done = true;
		events->mark_len = 0;
	}
	if (c == '"') {
		events->quoted = true;
		events->mark_len = events->depth == 1;
	} else if (c == '{' || c == '[') {
		events->depth++;
	} else if ((c == '}' || c == ']') && events->depth) {
		events->depth--;
	}
}

/*
 * The mark can stand anywhere in the last line (a long "context" may follow), but only as a member
 * of the line itself: arguments of a tool call are objects of their own, and may say anything.
 */
static void ndjson_piece(struct events *events, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (events->quoted)
			mark_quoted(events, data[i]);
		else
			mark_bare(events, data[i]);
	}
}

static void ndjson_line_begin(struct events *events)
{
	events->line_done = false;
	events->quoted = false;
	events->escaped = false;
	events->mark_len = 0;
	events->depth = 0;
}

static bool line_is_blank(const struct events *events)
{
	for (size_t i = 0; i < events->prefix_len; i++) {
		if (!strchr(" \t\r", events->prefix[i]))
			return false;
	}
	return events->prefix_len < EVENTS_PREFIX;
}

static void ndjson_line_end(struct events *events)
{
	if (line_is_blank(events))
		return;
	if (has_error(events->prefix, events->prefix_len, "{\"error\":"))
		first_is(events, EVENTS_ERROR);
	else
		first_is(events, EVENTS_REAL);
	events->done = events->line_done;
}

static void line_piece(struct events *events, const char *data, size_t len)
{
	size_t room = EVENTS_PREFIX - events->prefix_len;

	memcpy(events->prefix + events->prefix_len, data, len < room ? len : room);
	events->prefix_len += len < room ? len : room;
	if (events->kind == EVENTS_NDJSON && events->end == STREAM_DONE)
		ndjson_piece(events, data, len);
	events->line_begun = true;
}

static void line_end(struct events *events)
{
	/* the CR of a CRLF */
	if (events->prefix_len && events->prefix_len < EVENTS_PREFIX &&
	    events->prefix[events->prefix_len - 1] == '\r')
		events->prefix_len--;
	if (events->kind == EVENTS_SSE)
		sse_line_end(events);
	else
		ndjson_line_end(events);
	ndjson_line_begin(events);
	events->prefix_len = 0;
	events->line_begun = false;
}

void events_feed(struct events *events, const char *data, size_t len)
{
	if (events->kind == EVENTS_NONE) {
		events->first = EVENTS_REAL;
		return;
	}
	while (len) {
		const char *end = memchr(data, '\n', len);
		size_t piece = end ? (size_t)(end - data) : len;

		if (piece)
			line_piece(events, data, piece);
		if (!end)
			return;
		line_end(events);
		data += piece + 1;
		len -= piece + 1;
	}
}

/* The last line may lack its end. */
bool events_whole(const struct events *events)
{
	if (events->kind == EVENTS_NONE || events->end == STREAM_ANY)
		return true;
	if (events->done)
		return true;
	return events->kind == EVENTS_SSE ? sse_is_end(events)
					  : events->line_done && !events->depth;
}
