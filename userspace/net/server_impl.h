/* SPDX-License-Identifier: MIT */
/* The inside of net/server: shared by server.c (listeners, peers) and exchange.c (requests and
 * answers). */
#ifndef NET_SERVER_IMPL_H
#define NET_SERVER_IMPL_H

#include "net/listen.h"
#include "net/server.h"

#define SERVER_READ_SIZE 65536

/*
 * A peer is in one of these states, and its one timer means:
 *	FRESH      connected, nothing received yet     head_timeout, from accept
 *	RECEIVING  some of a request has arrived       head_timeout, from accept or its first byte
 *	ANSWERING  exchange is with the server's owner no byte has left for head_timeout
 *	IDLE       kept alive                          idle_timeout
 *	UPGRADING  answered 101, to be handed over     0
 *	LEAVING    last answer queued, not yet closed  flushing: as ANSWERING; then LINGER_MS
 *	CLOSED     handles are closing                 -
 */
enum peer_state {
	PEER_FRESH,
	PEER_RECEIVING,
	PEER_ANSWERING,
	PEER_IDLE,
	PEER_UPGRADING,
	PEER_LEAVING,
	PEER_CLOSED
};

struct query_pair {
	const char *name, *value; /* in exchange->decoded */
};

struct exchange {
	struct peer *peer;
	const struct http1_head
		*head; /* the parser's: nothing is fed to it while an answer is due */
	struct buf body;
	char *decoded; /* path and query pairs, NUL-terminated each */
	struct query_pair *pairs;
	size_t n_pairs;
	void *data;
	exchange_upgraded on_upgraded;
	void *upgraded_arg;
	bool bodiless; /* the answer to a HEAD, or 204, 304 */
	bool chunked, keep_alive, begun;
};

struct peer {
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} socket;
	uv_timer_t timer;
	uv_shutdown_t shutdown;
	struct server *server;
	struct peer *prev, *next; /* in server->peers; those that became idle last are last */
	struct http1 *parser;
	struct exchange *exchange; /* NULL but in RECEIVING and ANSWERING */
	struct buf pending;	   /* received behind the request that is being answered */
	enum peer_state state;
	unsigned open_handles;
	int refusal;	      /* status to refuse the request with, found while parsing it */
	bool running;	      /* in peer_run(): the next request will be seen to */
	bool broken;	      /* writing failed; the timer will tell the owner */
	bool eof;	      /* the peer sends no more */
	bool flushed;	      /* LEAVING: all written */
	uint64_t queued;      /* bytes ever to be written */
	uint64_t sent_before; /* of them, gone when the timer was set */
	size_t discarded;     /* LEAVING: bytes thrown away */
};

struct server {
	uv_loop_t *loop;
	struct server_options options;
	struct server_door *doors; /* listeners */
	struct peer *peers, *last_peer;
	unsigned n_peers, n_idle; /* not CLOSED; IDLE */
	unsigned n_unfreed;	  /* peers whose handles are not closed yet */
	bool paused, closing;
	char read_buffer[SERVER_READ_SIZE]; /* what is read is used up before the next read */
};

/* server.c */
void peer_write(struct peer *peer, uv_buf_t *bufs, unsigned n);
/* The answer is complete: on to the next request, or leave. */
void peer_answered(struct peer *peer, bool keep_alive);
void peer_close(struct peer *peer, bool reset);
/* Nothing more is read; the loop hands the connection over as peer->exchange says. */
void peer_upgrade(struct peer *peer);

/* exchange.c */
struct exchange *exchange_new(struct peer *peer, const struct http1_head *head);
void exchange_free(struct exchange *exchange);
/* The request is complete: decodes its target. 0, or -EBADMSG, -ENOMEM. */
int exchange_decode(struct exchange *exchange);
/* Head of an answer: status line and fields, up to the blank line. */
void exchange_head_lines(struct buf *out, int status, const char *content_type);

#endif
