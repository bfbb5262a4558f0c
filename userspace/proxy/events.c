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
		       line_begins(line, len, "data:{\"type\":\"response.completed\"");
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
	if (has_error(line, len, "data:{\"error\":") ||
	    line_begins(line, len, "data:{\"type\":\"error\"") ||
	    line_begins(line, len, "event:error"))
		first_is(events, EVENTS_ERROR);
	if (line_begins(line, len, "data:"))
		events->has_data = true;
}

static void ndjson_line_end(struct events *events)
{
	if (!events->prefix_len)
		return;
	if (has_error(events->prefix, events->prefix_len, "{\"error\":"))
		first_is(events, EVENTS_ERROR);
	else
		first_is(events, EVENTS_REAL);
	events->done = events->line_done;
	events->line_done = false;
	events->tail_len = 0;
}

static bool find(const char *data, size_t len, const char *mark)
{
	size_t n = strlen(mark);

	for (const char *at = data; len >= n;) {
		const char *hit = memchr(at, mark[0], len - n + 1);

		if (!hit)
			return false;
		if (!memcmp(hit, mark, n))
			return true;
		len -= (size_t)(hit + 1 - at);
		at = hit + 1;
	}
	return false;
}

static bool has_done(const char *data, size_t len)
{
	return find(data, len, "\"done\":true") || find(data, len, "\"done\": true");
}

/*
 * The mark can stand anywhere in the last line (a long "context" may follow). Inside a string its
 * quotes would be escaped, so it is found only where it is a member.
 */
static void ndjson_piece(struct events *events, const char *data, size_t len)
{
	char seam[2 * sizeof(events->tail)];
	size_t keep = sizeof(events->tail), n = len < keep ? len : keep;

	if (events->line_done)
		return;
	memcpy(seam, events->tail, events->tail_len);
	memcpy(seam + events->tail_len, data, n);
	events->line_done = has_done(seam, events->tail_len + n) || has_done(data, len);
	if (len >= keep) {
		memcpy(events->tail, data + len - keep, keep);
		events->tail_len = keep;
		return;
	}
	n = events->tail_len + len < keep ? events->tail_len : keep - len;
	memmove(events->tail, events->tail + events->tail_len - n, n);
	memcpy(events->tail + n, data, len);
	events->tail_len = n + len;
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

/* The last line of NDJSON may lack its end. */
bool events_whole(const struct events *events)
{
	if (events->kind == EVENTS_NONE || events->end == STREAM_ANY)
		return true;
	return events->done ||
	       (events->kind == EVENTS_NDJSON && events->line_begun && events->line_done);
}
