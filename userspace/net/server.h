/* SPDX-License-Identifier: MIT */
/*
 * A small HTTP/1.1 server on libuv, for the control socket, the admin port and the simulated node;
 * not for clients' traffic. Requests are handed over whole (body ≤ max_body). Every wait has a
 * deadline; a peer that is slow, silent, or sends garbage is closed and disturbs nobody.
 * Connections above max_peers wait in the backlog.
 */
#ifndef NET_SERVER_H
#define NET_SERVER_H

#include <uv.h>

#include "base/addr.h"
#include "base/buf.h"
#include "net/http1.h"

struct server;
struct exchange; /* one request and its answer */

struct server_options {
	size_t max_body;    /* bytes; larger: 413 */
	unsigned max_peers; /* 0: 1024 */
	/*
	 * 0: 10,000. From accept, or the first byte of a further request, to the whole request; and
	 * how long a peer may take nothing of what is to be written to it.
	 */
	uint64_t head_timeout_ms;
	uint64_t idle_timeout_ms; /* keep-alive; 0: 60,000 */
	/* The request is complete. Answer now or later, from the loop. */
	void (*on_request)(void *arg, struct exchange *exchange);
	/*
	 * The peer left before the answer was complete (it closed, or only its sending side, or
	 * reset, or stalled), or server_free() was called; the exchange is gone after this call.
	 * Never from within an exchange_ function. May be NULL.
	 */
	void (*on_abandoned)(void *arg, struct exchange *exchange);
	void *arg;
};

struct server *server_new(uv_loop_t *loop, const struct server_options *options);
/* 0 or -errno. `*port` 0 = any, written back. May be called several times. */
int server_listen_tcp(struct server *server, const struct addr *address, uint16_t *port);
/* A stale socket of that path is replaced, a living one or anything else is -EADDRINUSE. mode as
 * chmod. */
int server_listen_unix(struct server *server, const char *path, unsigned mode, int gid);
/* Closes listeners and peers; frees when the loop has closed the handles. */
void server_free(struct server *server);

const struct http1_head *exchange_head(const struct exchange *exchange);
/* Target without query, percent-decoded. */
const char *exchange_path(const struct exchange *exchange);
/* Decoded query parameter, "" for one without value, NULL if absent. */
const char *exchange_query(const struct exchange *exchange, const char *name);
const char *exchange_body(const struct exchange *exchange, size_t *len);
int exchange_fd(const struct exchange *exchange); /* for SO_PEERCRED */
void exchange_set_data(struct exchange *exchange, void *data);
void *exchange_data(const struct exchange *exchange);

/* A whole answer, which ends the exchange. `fields`: further lines, each ending in CRLF, or NULL.
 */
void exchange_answer(struct exchange *exchange, int status, const char *content_type,
		     const char *body, size_t len, const char *fields);
/* A streamed answer: begin, pieces (each flushed at once, one chunk), end. */
void exchange_begin(struct exchange *exchange, int status, const char *content_type,
		    const char *fields);
/* Returns bytes not yet written by the kernel: the caller may slow down, or exchange_abort(). */
size_t exchange_write(struct exchange *exchange, const char *data, size_t len);
void exchange_end(struct exchange *exchange);
/* Closes the connection without ending the answer: the peer sees it cut short. */
void exchange_abort(struct exchange *exchange);
/* The same with a reset (TCP): what the peer has not read yet may be lost to it. */
void exchange_reset(struct exchange *exchange);
/*
 * Bytes as they are, not framed: for who frames by himself, or breaks the framing on purpose. When
 * the whole answer was written so, exchange_end() adds nothing to it.
 */
size_t exchange_write_raw(struct exchange *exchange, const char *data, size_t len);

/*
 * The connection is the callee's: `fd` (close-on-exec, non-blocking), and the bytes that came
 * behind the request. The exchange is gone. Called from the loop.
 */
typedef void (*exchange_upgraded)(void *arg, int fd, const char *data, size_t len);
/*
 * Answers 101 (`fields`: the further lines, with Upgrade), then gives up the connection. If that
 * fails, or the server is freed before: on_abandoned instead.
 */
void exchange_upgrade(struct exchange *exchange, const char *fields, exchange_upgraded on_upgraded,
		      void *arg);

#endif
