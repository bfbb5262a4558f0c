/* SPDX-License-Identifier: MIT */
/*
 * Connections to nodes: one request at a time on each, kept for the next one when its answer was
 * whole. Sends a request, parses the answer, reports. Owns sockets, parsers and the idle ones;
 * knows neither plans nor cascades.
 */
#ifndef PROXY_UPSTREAM_H
#define PROXY_UPSTREAM_H

#include <stdbool.h>
#include <uv.h>

#include "base/addr.h"
#include "base/buf.h"
#include "net/http1.h"
#include "proxy/wait.h"

#define UPSTREAM_CONNECT_MS 1000
#define UPSTREAM_IDLE_MS    4000   /* uvicorn and cpp-httplib close after 5 s */
#define UPSTREAM_PARTS	    5	   /* pieces of a request: head, body before, name, body after */
#define UPSTREAM_UNSENT_MAX 262144 /* of a streamed request body, before its sender has to wait */

enum upstream_end { /* why there is no more to come */
		    UPSTREAM_REFUSED,
		    UPSTREAM_UNREACHABLE, /* no route, no answer to the SYN, ... */
		    UPSTREAM_LOCAL,	  /* no socket, port or memory here */
		    UPSTREAM_RESET,
		    UPSTREAM_CLOSED, /* before the answer was whole */
		    UPSTREAM_BAD,    /* not HTTP, or ambiguous */
};

struct upstream;

struct upstream_events { /* `arg` is of upstream_take(). Called from the loop only. */
	void (*on_connected)(void *arg);
	/* As in http1.h: interim answers come too, without on_complete. Whoever drops the upstream
	 * in one of these two returns non-zero. */
	int (*on_head)(void *arg, const struct http1_head *head);
	int (*on_body)(void *arg, const char *data, size_t len);
	/* All that was read has been handed over, and there is more to come. */
	void (*on_turn)(void *arg);
	/* The answer is whole; the upstream has gone back to the idle ones, or is closed. */
	void (*on_complete)(void *arg);
	/* It broke off; it is closed already. */
	void (*on_end)(void *arg, enum upstream_end why);
	/* Fewer than UPSTREAM_UNSENT_MAX bytes are unsent again. */
	void (*on_drained)(void *arg);
};

struct upstream_pool; /* all connections to nodes, used and idle */

/* `scratch` is for reading, shared by all of the loop. NULL with errno. */
struct upstream_pool *upstream_pool_new(uv_loop_t *loop, char *scratch, size_t scratch_len,
					const struct upstream_events *events);
/* Of the heads of answers, from now on. */
void upstream_pool_limit(struct upstream_pool *pool, size_t head_max, size_t fields_max);
/* Each tick: what is due to be closed. */
void upstream_pool_tick(struct upstream_pool *pool, uint64_t now_ms);
size_t upstream_pool_open(const struct upstream_pool *pool); /* connections, idle ones too */
/* Closes all idle ones: to a node that left, or at the end. */
void upstream_pool_flush(struct upstream_pool *pool);
/* No more are to be taken; frees when the loop has closed the handles. */
void upstream_pool_free(struct upstream_pool *pool);

/*
 * A connection to that address: a kept one unless `fresh`, else a new one. NULL: out of memory.
 */
struct upstream *upstream_take(struct upstream_pool *pool, const struct addr *addr, uint16_t port,
			       bool fresh, void *arg);
/* May a request be sent at once (a kept one)? Else on_connected or on_end follows. */
bool upstream_ready(const struct upstream *upstream);
/* Was it kept from an earlier request? One that breaks before any answer may be just too old. */
bool upstream_reused(const struct upstream *upstream);

/*
 * Sends a request: the pieces must stay until upstream_sent(), or until it is dropped. `bodiless`:
 * the answer has no body (HEAD). Once connected only.
 */
void upstream_send(struct upstream *upstream, const uv_buf_t *parts, unsigned n, bool bodiless);
bool upstream_sent(const struct upstream *upstream); /* all of it is out of our hands */
/* Is more of the request's body to come? An answer that comes before it ends the connection: what
 * is sent next on it would be taken for the rest of that body. */
void upstream_partial(struct upstream *upstream, bool partial);
/* More of a body that is streamed, or of a tunnel; copied when it cannot be written at once.
 * False: wait for on_drained before the next. */
bool upstream_write(struct upstream *upstream, const char *data, size_t len);
/* A tunnel: the client sends no more. */
void upstream_shutdown(struct upstream *upstream);
/* Reading: off while the client is slower. */
void upstream_pause(struct upstream *upstream, bool pause);
/* The memory of the head is not needed any more. */
void upstream_trim(struct upstream *upstream);
/* Lets go: it is closed (reset: with RST), no event follows. */
void upstream_drop(struct upstream *upstream, bool reset);

#endif
