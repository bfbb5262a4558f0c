/* SPDX-License-Identifier: MIT */
/*
 * HTTP/1.1 messages (RFC 9112), parsed incrementally by llhttp behind a strict guard: bytes in,
 * callbacks out. The guard refuses what llhttp 8 lets through (bare CR, bare LF, obs-fold, no or
 * two Host, chunked on HTTP/1.0, both Transfer-Encoding and Content-Length, more than one
 * Content-Length, other transfer codings, odd chunk lines), so verdicts do not depend on the
 * version: in millions of mutated messages llhttp refused nothing that the guard had let through;
 * if it does, the message is refused. Chunk extensions and trailers are checked, bounded and
 * dropped. Does no I/O. Head ≤ HTTP1_HEAD_MAX bytes, ≤ HTTP1_FIELDS_MAX fields, unless
 * http1_limit() says otherwise.
 */
#ifndef NET_HTTP1_H
#define NET_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP1_HEAD_MAX	 65536
#define HTTP1_FIELDS_MAX 100

struct http1_field {
	const char *name, *value; /* NUL-terminated; name in lower case */
	uint32_t name_len, value_len;
};

struct http1_head {	    /* valid until the next message begins */
	const char *method; /* requests: "GET" */
	const char *target; /* requests: "/v1/plan?follow=1", or "*"; an absolute URI is taken
			     * apart: its path here, its authority in the field "host" */
	int status;	    /* responses */
	bool http10;
	bool keep_alive;
	bool chunked;
	int64_t content_length; /* -1: not given */
	const struct http1_field *fields;
	size_t n_fields;
};

/* Value of the first field of that name (lower case), or NULL. */
const char *http1_field(const struct http1_head *head, const char *name);
/* Is `token` among the comma-separated ones of all fields of that name? Without case:
 * ("connection", "upgrade"). */
bool http1_has_token(const struct http1_head *head, const char *name, const char *token);
/* "Not Found" */
const char *http1_reason(int status);

/* What on_complete returns to have http1_feed() stop behind this message. */
#define HTTP1_PAUSE (-11)

struct http1_events {
	/* Each returns 0 to go on, anything else to stop: http1_feed() returns -ECANCELED. */
	int (*on_head)(void *arg, const struct http1_head *head);
	/* Decoded; may come in any pieces. */
	int (*on_body)(void *arg, const char *data, size_t len);
	/* Interim answers (1xx but 101) are messages of their own. After 101 all bytes are on_body
	 * until the close. */
	int (*on_complete)(void *arg);
};

struct http1; /* one connection's parser, one direction */

/* `events` must outlive the parser. NULL with errno. */
struct http1 *http1_new(bool responses, const struct http1_events *events, void *arg);
/* Also from within a callback, which then returns non-zero; http1_feed() returns -ECANCELED. NULL
 * is allowed. */
void http1_free(struct http1 *parser);

/* Other limits than the defaults, for the heads from now on; a start line may take all of
 * `head_max`. */
void http1_limit(struct http1 *parser, size_t head_max, size_t fields_max);
/* Frees the memory of the last head, which is gone then, while its body streams or behind its end:
 * what is left is one small struct. Does nothing while a head is arriving. */
void http1_trim(struct http1 *parser);

/*
 * Feeds received bytes. 0: all consumed; -EBADMSG: not HTTP, or ambiguous; -E2BIG: head too large;
 * -ECANCELED: a callback said stop; -ENOMEM. After an error the connection is of no more use.
 * Messages may follow one another. -EAGAIN: on_complete returned HTTP1_PAUSE; http1_consumed()
 * bytes were taken, feed the rest later.
 */
int http1_feed(struct http1 *parser, const char *data, size_t len);
size_t http1_consumed(const struct http1 *parser); /* by the last http1_feed() */
/* Nothing of the next message has arrived yet. */
bool http1_idle(const struct http1 *parser);
/* The peer closed. 0: between messages, or a response that ends with the connection; -EPIPE: cut
 * short. */
int http1_eof(struct http1 *parser);
const char *http1_error(const struct http1 *parser); /* why, for the log; "" before any error */
/* What to answer such a request: 400, 414, 431, 501, 503 or 505. */
int http1_error_status(const struct http1 *parser);
/* The next response answers a HEAD: has no body whatever it says. */
void http1_expect_no_body(struct http1 *parser);

#endif
