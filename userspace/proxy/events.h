/* SPDX-License-Identifier: MIT */
/*
 * Watches an upstream's stream go by: server-sent events (WHATWG HTML §9.2) or lines of JSON. Says
 * when the first real event is there, whether it is an error, and, when the stream ends, whether it
 * was whole. Changes no byte. Pure, constant memory.
 */
#ifndef PROXY_EVENTS_H
#define PROXY_EVENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "proxy/dialect.h"

#define EVENTS_PREFIX 48 /* bytes of a line that are looked at to know what it is */

enum events_kind { EVENTS_NONE, EVENTS_SSE, EVENTS_NDJSON };

enum events_first {
	EVENTS_NOT_YET, /* comments, blank lines, a beginning */
	EVENTS_REAL,
	EVENTS_ERROR,
};

struct events {
	enum events_kind kind;
	enum stream_end end;
	enum events_first first;
	bool done;	  /* the mark of a whole stream has gone by */
	bool error;	  /* an error event has gone by */
	bool line_begun;  /* the last byte was not the end of a line */
	bool event_begun; /* SSE: lines without a blank one behind them */
	bool has_data;	  /* SSE: a field has been seen in this event, so it is no comment */
	char prefix[EVENTS_PREFIX]; /* of the line that is going by */
	size_t prefix_len;
	/* NDJSON, of the line that is going by: */
	size_t depth;	      /* brackets that are open */
	size_t mark_len;      /* bytes of the mark that have just gone by */
	bool quoted, escaped; /* in a string; behind a backslash in it */
	bool line_done;	      /* its member "done" is true */
};

/* `content_type`: of the answer; NULL is EVENTS_NONE. */
void events_init(struct events *events, const char *content_type, enum stream_end end);
void events_feed(struct events *events, const char *data, size_t len);
/* The upstream has ended it properly: was it whole, as far as one can tell? */
bool events_whole(const struct events *events);

#endif
