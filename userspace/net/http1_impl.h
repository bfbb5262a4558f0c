/* SPDX-License-Identifier: MIT */
/* The inside of net/http1: shared by http1.c (messages), http1_head.c and http1_chunk.c (the
 * guard). */
#ifndef NET_HTTP1_IMPL_H
#define NET_HTTP1_IMPL_H

#include <llhttp.h>

#include "net/http1.h"

enum http1_state {
	HTTP1_HEAD,  /* collecting the head, or waiting for one */
	HTTP1_SIZED, /* `left` bytes of body to come */
	HTTP1_CHUNKS,
	HTTP1_TO_EOF, /* a response that ends with the connection */
	HTTP1_RAW,    /* behind a 101: no HTTP any more */
	HTTP1_OVER,   /* the last message of the connection is complete */
	HTTP1_FAILED,
};

enum chunk_state {
	CHUNK_SIZE,
	CHUNK_EXT_FIRST, /* right behind a ';' */
	CHUNK_EXT,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_TRAILER, /* at the start of a line behind the last chunk */
	CHUNK_TRAILER_NAME,
	CHUNK_TRAILER_VALUE,
	CHUNK_TRAILER_LF,
	CHUNK_LAST_LF,
	CHUNK_END,
};

struct chunk_guard {
	enum chunk_state state;
	uint64_t left;		     /* of the chunk */
	unsigned digits;	     /* of the size */
	size_t ext_len, trailer_len; /* of the whole message */
};

struct http1 {
	const struct http1_events *events;
	void *arg;
	bool responses;
	bool no_body; /* the next final response answers a HEAD */
	bool feeding, freed;
	bool begun;	/* some bytes of the message in `text` have arrived */
	bool completed; /* llhttp has seen the end of the message */
	enum http1_state state;
	int stopped; /* what a callback returned to stop */
	const char *error;
	int error_status;
	size_t consumed;
	size_t head_max, fields_max;

	/* The head as received; names and values are cut out of it in place, once llhttp has seen
	 * the line. */
	char *text;
	size_t text_cap, text_len, line_at;
	unsigned blank_lines, hosts;
	bool line_seen; /* the start line is complete */
	bool bodiless;	/* whatever the fields say */
	struct http1_field *fields;
	size_t fields_cap;
	struct http1_head head;
	size_t method_at, target_at, authority_at,
		authority_len; /* in text; authority_at 0: none */

	uint64_t left;
	struct chunk_guard chunk;
	llhttp_t llhttp;
};

/* http1_error() where the guard has let something through that llhttp refuses: no test has seen it.
 */
#define HTTP1_LLHTTP_SAYS_NO "refused by llhttp"

/* Marks the parser as failed; returns `code`. */
int http1_fail(struct http1 *parser, int code, int status, const char *why);

/* Hands raw bytes to llhttp: 0, or a failure. */
int http1_second_opinion(struct http1 *parser, const char *data, size_t len);

/* http1_head.c: the line at parser->line_at, `len` bytes without its CRLF, is complete. 0, or a
 * failure. */
int http1_start_line(struct http1 *parser, size_t len);
int http1_field_line(struct http1 *parser, size_t len);
/* All lines are there: fills parser->head, decides how the message is framed (state, left,
 * bodiless). */
int http1_judge_head(struct http1 *parser);

/*
 * http1_chunk.c: goes through chunked framing. Returns how many bytes from `data` on belong
 * together for llhttp (sizes, data, ends of lines), then *skip bytes that it must not see
 * (extensions, trailers). -1: *why.
 */
long http1_chunk_scan(struct chunk_guard *guard, const char *data, size_t len, size_t *skip,
		      const char **why);

#endif
