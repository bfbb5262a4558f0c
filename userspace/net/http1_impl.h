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
	uint64_t left; /* of the chunk */
	enum chunk_state state;
	uint16_t digits;	       /* of the size */
	uint16_t ext_len, trailer_len; /* of the whole message */
};

struct http1 {
	const struct http1_events *events;
	void *arg;
	const char *error;
	size_t consumed;
	enum http1_state state;
	int stopped; /* what a callback returned to stop */
	int error_status;
	bool responses;
	bool no_body; /* the next final response answers a HEAD */
	bool feeding, freed;
	bool begun;	/* some bytes of the message in `text` have arrived */
	bool completed; /* llhttp has seen the end of the message */

	bool line_seen;			  /* the start line is complete */
	bool bodiless;			  /* whatever the fields say */
	bool odd;			  /* some field is not written as "name: value" */
	bool says_close, says_keep_alive; /* in Connection */
	uint8_t blank_lines, hosts;	  /* 2: or more */

	/* The head as received; names and values are cut out of it in place, once llhttp has seen
	 * it. The method is at its start. */
	char *text;
	struct http1_field *fields;
	uint32_t text_cap, text_len, line_at;
	uint32_t fields_cap;
	uint32_t head_max, fields_max;
	uint32_t fields_at; /* in text: behind the start line */
	uint32_t target_at, target_len, authority_at,
		authority_len; /* in text; authority_at 0: none */
	struct http1_head head;

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
 * bodiless), and asks llhttp. 0, or a failure. */
int http1_judge_head(struct http1 *parser);
/* Is `token` in the comma-separated list? Without case. */
bool http1_list_has(const char *list, size_t len, const char *token);

/*
 * http1_chunk.c: goes through chunked framing. Returns how many bytes from `data` on belong
 * together for llhttp (sizes, data, ends of lines), then *skip bytes that it must not see
 * (extensions, trailers). -1: *why.
 */
long http1_chunk_scan(struct chunk_guard *guard, const char *data, size_t len, size_t *skip,
		      const char **why);

#endif
