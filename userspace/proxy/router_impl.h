/* SPDX-License-Identifier: MIT */
/*
 * Inside the router. Data flows one way: downstream (a client) → request → attempt → upstream (a
 * node), and the answer back. Who may call whom: downstream and request each other; request calls
 * attempt and answer; attempt calls upstream, and request_failed() and its like when it is over.
 */
#ifndef PROXY_ROUTER_IMPL_H
#define PROXY_ROUTER_IMPL_H

#include <sys/queue.h>
#include <time.h>

#include "core/tally.h"
#include "net/http1.h"
#include "net/listen.h"
#include "proxy/dialect.h"
#include "proxy/events.h"
#include "proxy/outbox.h"
#include "proxy/router.h"
#include "proxy/scan.h"
#include "proxy/upstream.h"
#include "proxy/wait.h"

#define ROUTER_SCRATCH	   65536
#define ROUTER_FIRST_READ  16384
#define ROUTER_UNSENT_MAX  65536 /* of answers: then nodes, and more questions, have to wait */
#define ROUTER_PENDING_MAX 65536 /* pipelined bytes behind a request */
#define ROUTER_HOLD_MAX	   65536 /* of a stream whose first event is not there yet */
#define ROUTER_BODIES_MAX  ((size_t)1 << 30) /* request bodies held, all together */
#define ROUTER_DRAIN_MAX   65536   /* bytes of a refused body that are read to keep a connection */
#define ROUTER_RESERVE_MAX 1048576 /* bytes for which a body's length is believed in advance */
#define ROUTER_LOAD_MS	   150	   /* so old may be what the kernel counts */
#define ROUTER_CROWD	   256	   /* requests at once; fewer leave nothing worth giving back */
#define ROUTER_LINGER_MS   5000	   /* for a client that has been refused and still sends */
#define ROUTER_LINGER_MAX  ((size_t)256 << 20) /* bytes of it that are thrown away */
#define ROUTER_STALL_MS	   60000 /* a client that takes no byte of what waits for it */
#define ROUTER_BODY_MS	   10000 /* windows in which a body has to grow by */
#define ROUTER_BODY_MIN	   1024	 /* bytes */
#define ROUTER_SILENT_MS   3000	 /* of a node that is down: then its streams are cut */
#define ROUTER_RETRY_AFTER "Retry-After: 2\r\n"
#define ROUTER_ID_MAX	   64

/*
 * RECEIVING  the head is there, the body is coming         wait: router->body
 * ASKING     the kernel's counts of now are on their way   in router->asking
 * QUEUED     no room                                       in router->queue, wait: router->queueing
 * TRYING     a node is asked; nothing went to the client   in router->running, wait: first byte
 * RELAYING   the answer is on its way to the client        in router->running
 * TUNNEL     upgraded: bytes both ways                     in router->running
 * DONE       answered; the client's connection goes on or is being closed
 */
enum request_state {
	REQUEST_RECEIVING,
	REQUEST_ASKING,
	REQUEST_QUEUED,
	REQUEST_TRYING,
	REQUEST_RELAYING,
	REQUEST_TUNNEL,
	REQUEST_DONE,
};

enum attempt_how {		      /* how an attempt failed */
		   ATTEMPT_UNREACHED, /* no connection: nothing was written */
		   ATTEMPT_LOCAL,     /* no socket, no memory here */
		   ATTEMPT_BROKE,     /* reset, closed, not HTTP */
		   ATTEMPT_STALE,     /* the same on a kept connection, before any answer */
		   ATTEMPT_LIMIT,     /* 429 */
		   ATTEMPT_BUSY,      /* 503, or a stream that begins with an error */
		   ATTEMPT_GATEWAY,   /* 502, 504 */
		   ATTEMPT_LATE,      /* no first byte in time */
		   ATTEMPT_DOWN,      /* silent, and its probes fail */
		   ATTEMPT_HOW_COUNT,
};

struct refused { /* to be said when the rest of the body has been thrown away */
	enum refusal why;
	char fields[64];
	char text[320];
};

struct request { /* from the end of its head to the end of its answer */
	struct downstream *down;
	struct router *router;
	TAILQ_ENTRY(request) turn; /* asking, queue or running */
	struct waiter wait;
	enum request_state state;
	const struct path *path;
	const struct http1_head *head; /* the parser's; gone (NULL) once an answer is under way */
	bool is_head, http10;	       /* of the client */
	bool opaque;		       /* on a persona port */
	bool streamed;		       /* its body goes on as it comes; no second attempt then */
	bool body_complete;
	bool upgrade; /* asks for a websocket, and may */
	char id[ROUTER_ID_MAX + 1];

	struct buf body;
	size_t dropped;		    /* bytes of it that nobody wants */
	size_t body_before;	    /* RECEIVING: its length when the window began */
	struct refused *refused;    /* NULL: not, or said already */
	struct scan *scan;	    /* while it is being received */
	size_t model_at, model_len; /* what is replaced in the body: with quotes, but for forms */
	bool form;		    /* the model is a form's field: no quotes */
	char model[SCAN_NAME_MAX + 1];

	struct route *route; /* NULL: opaque. Found again when the plan changes */
	size_t target;	     /* of the route, that is being tried */
	uint32_t hash;
	uint32_t ticket;     /* ASKING */
	struct tried *tried; /* NULL: none yet */
	size_t n_tried;
	unsigned attempts;
	unsigned failed[ATTEMPT_HOW_COUNT]; /* how often, by how */
	char why[120];			    /* the last one, for the client */
	bool fresh;			    /* no kept connection any more: one was too old */

	struct upstream *up;
	size_t endpoint;   /* VIEW_GONE: none, or it left the plan */
	bool counted;	   /* it holds a place there */
	char *asked;	   /* the model's name for this node; NULL: as in `model` */
	struct buf out;	   /* head and the model's name, as sent to the node */
	uint64_t heard_ms; /* the node's last bytes */
	struct events events;
	struct buf answer; /* the head for the client, until it goes */
	struct buf hold;   /* of a stream: what came before its first event, or in half a line */
	int status;	   /* of the node's answer */
	bool node_chunked; /* the answer goes on in chunks */
	bool bodiless;	   /* it has no body */
	bool to_close;	   /* the answer ends with the connection */
	bool up_paused, down_paused;
	bool head_sent; /* to the node */
	bool has_body;
	bool waited;				      /* in the queue, or for another node */
	char persona[MG_NAME_MAX], node[MG_NAME_MAX]; /* of the attempt, for headers and counters */
	uint64_t begun_us;			      /* the whole request was there */
};

struct tried {		 /* an endpoint that did not answer it */
	size_t endpoint; /* VIEW_GONE is allowed */
	size_t target;	 /* for which it was asked */
	bool dead;	 /* it is of no use for other models either */
	bool stale;	 /* only its kept connection was: when there is nobody else, once more */
};
#define TRIED_MAX 16 /* attempts of one request */

enum down_state {
	DOWN_HEAD,    /* waiting for a head, or in one; wait: router->heads or router->idle */
	DOWN_REQUEST, /* a request is being dealt with */
	DOWN_CLOSING, /* what is to be written is written, then it is closed */
	DOWN_LINGER,  /* written and shut down; what still comes is thrown away */
	DOWN_CLOSED,
};

struct downstream { /* a client's connection */
	uv_tcp_t tcp;
	struct router *router;
	TAILQ_ENTRY(downstream) all;
	struct waiter wait;
	struct outbox out;
	struct http1 *parser;
	struct request *request; /* NULL between requests */
	struct buf pending;	 /* came behind the request that is being dealt with */
	size_t unsent_before;	 /* when the stall window began */
	size_t discarded;
	enum down_state state;
	uint16_t port; /* of a persona; 0: the router's own */
	bool feeding;  /* in http1_feed() */
	bool running;  /* in down_run() */
	bool keep_alive;
	bool eof, reading;
	bool served;	/* at least one request: what follows is keep-alive */
	bool linger;	/* the client may still be sending what we will not read */
	bool end_reset; /* DOWN_CLOSING: closed with RST, so that it does not look whole */
	struct addr peer;
};

TAILQ_HEAD(down_list, downstream);
TAILQ_HEAD(request_list, request);

struct router {
	uv_loop_t *loop;
	struct view *view;
	const struct router_events *events;
	void *arg;
	size_t max_clients;
	struct listener *listener;
	struct addr address; /* where it listens, or last tried */
	uint16_t port;
	int listen_error;
	struct upstream_pool *pool;
	struct down_list downs;
	struct request_list asking, queue, running;
	bool turning;					     /* in router_turns() */
	struct wait_line heads, idle, stalls, lingers;	     /* of downstreams */
	struct wait_line queueing, first_bytes, late_bodies; /* of requests */
	struct tally tally;
	uv_timer_t tick, second;
	unsigned timers; /* not closed yet */
	size_t n_downs, n_requests, held_bytes;
	size_t most_requests; /* since memory was last given back */
	uint64_t ids;
	time_t date_s; /* of the text */
	char date[40]; /* as in the field "date" */
	uint32_t seed;
	bool paused, stopping, freeing;
	char scratch[ROUTER_SCRATCH];	 /* what clients send */
	char up_scratch[ROUTER_SCRATCH]; /* what nodes send */
};

/* router.c */
const struct catalog_settings *router_settings(const struct router *router);
void router_maybe_gone(struct router *router);
void router_turns(struct router *router); /* those who wait in the queue are asked in order */

/* downstream.c */
void down_accept(struct router *router, uint16_t port, int fd);
/* False: the client is gone (and so is its request). */
bool down_write(struct downstream *down, uv_buf_t *bufs, unsigned n);
/* The request is answered: on to the next, or close. `keep`: the framing allows another. */
void down_answered(struct downstream *down, bool keep);
/* What is queued is written, then it is closed. `reset`: the client must not take it for an end. */
void down_close_after(struct downstream *down, bool reset);
void down_close(struct downstream *down, bool reset); /* now */
void down_pause(struct downstream *down, bool pause);
void down_on_head_late(struct waiter *wait);
void down_on_idle_late(struct waiter *wait);
void down_on_stalled(struct waiter *wait);
void down_on_linger_late(struct waiter *wait);

/* intake.c */
/*
 * The head is there. 0; the request may be answered already (down->request is NULL then). Non-zero:
 * nothing more is to be read of it, the client is being closed.
 */
int request_begin(struct downstream *down, const struct http1_head *head);
int request_body(struct request *request, const char *data, size_t len); /* non-zero: stop */
/* Where the next bytes of its body may be read to; NULL: nowhere in particular. */
char *request_room(const struct request *request, size_t *len);
void request_received(struct request *request);	      /* its body is complete */
void request_refuse_unknown(struct request *request); /* by errno: ENOENT or ENOMEM */
void request_on_body_late(struct waiter *wait);

/* request.c */
void request_abandon(struct request *request); /* the client is gone; frees it */
void request_steer(struct request *request);   /* looks for a node, waits, or gives up */
/* The node did not answer it: another is asked, if that is allowed. */
void request_failed(struct request *request, enum attempt_how how, const char *why);
/* The answer is complete. */
void request_finish(struct request *request);
/* The answer breaks off here: the client must see that. */
void request_cut(struct request *request, const char *why);
void request_moved(struct request *request, const size_t *moved);
void request_place(struct request *request, enum request_state state); /* state and lists */
void request_release(struct request *request); /* its place at the node is free */
void request_on_queue_late(struct waiter *wait);

/* attempt.c */
extern const struct upstream_events attempt_events;
void attempt_begin(struct request *request, size_t endpoint);
/* A body that is streamed: its next bytes, its end. Non-zero: the client is gone. */
int attempt_body(struct request *request, const char *data, size_t len);
void attempt_body_end(struct request *request);
void attempt_on_late(struct waiter *wait);		     /* no first byte in time */
void attempt_tick(struct request *request, uint64_t now_ms); /* is its node dead? */
void attempt_drained(struct request *request); /* the client has taken what waited for it */
void attempt_drop(struct request *request);    /* the node's connection is closed */

/* forward.c: heads */
void forward_request(const struct request *request, struct buf *out, int64_t length);
void forward_response(const struct request *request, const struct http1_head *head,
		      struct buf *out);
void forward_status_line(struct buf *out, int status);
/* RFC 9110 §6.6.1: who makes an answer, or forwards one without a Date, adds it. */
void forward_date(struct router *router, struct buf *out);
/* The lines that every answer carries. */
void forward_marks(const struct request *request, struct buf *out);

/* answer.c. The first four end the request. */
void request_refuse(struct request *request, enum refusal why, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* `fields`: further lines of the head, each with its CRLF; NULL: none. Now; or, with a small body
 * still to come, when that has been thrown away, so that the connection can go on. */
void request_refuse_now(struct request *request, enum refusal why, const char *fields,
			const char *text);
void request_refuse_with(struct request *request, enum refusal why, const char *fields,
			 const char *text);
void answer_send(struct request *request, int status, const char *type, const char *fields,
		 const char *body, size_t len);
/* Answers a question that needs no node. False: it does. */
bool answer_own(struct request *request);

#endif
