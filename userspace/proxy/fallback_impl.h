/* SPDX-License-Identifier: MIT */
/*
 * Inside the fallback listener: ports (fallback_port.c), sessions and queue (fallback.c).
 */
#ifndef PROXY_FALLBACK_IMPL_H
#define PROXY_FALLBACK_IMPL_H

#include <sys/queue.h>

#include "net/listen.h"
#include "proxy/fallback.h"
#include "proxy/relay.h"

/*
 * Where a session stands, and in which list:
 * ASKING      the kernel's counts of now are on their way: in `asking`, relay WAITING
 * QUEUED      no room: in `queue`, relay WAITING
 * ACTIVE      connecting or retrying, or its node owes an answer or has just given one: in `active`
 * QUIET       open, nothing going on: in neither
 */
enum session_place { SESSION_QUIET, SESSION_ACTIVE, SESSION_ASKING, SESSION_QUEUED };

struct session { /* a client's connection, from accept to the close of both sockets */
	struct relay relay;
	struct fallback *fallback;
	TAILQ_ENTRY(session) all, turn;
	enum session_place place;
	uint16_t port; /* of the gateway, host order */
	uint32_t hash;
	uint32_t ticket; /* ASKING: what it waits for */
	size_t endpoint; /* in the plan; VIEW_GONE: none, or it left */
	uint32_t idle_ms;
	bool counted;	   /* as a connection of `endpoint` */
	bool busy;	   /* counted as busy there, too */
	bool owed;	   /* the client has spoken last */
	uint64_t since_ms; /* QUEUED: since it waits; connecting: since the attempt began; open:
			      node's last payload */
	size_t *tried;	   /* endpoints that did not take it; NULL when none */
	size_t n_tried;
};

struct port { /* a listening port */
	TAILQ_ENTRY(port) all;
	struct fallback *fallback;
	struct listener *listener; /* NULL: could not be opened, is tried again */
	uint16_t number;
	int error; /* already told to the operator */
};

TAILQ_HEAD(session_list, session);
TAILQ_HEAD(port_list, port);

struct fallback {
	uv_loop_t *loop;
	size_t max_relays;
	const struct fallback_events *events;
	void *arg;
	struct view *view;
	struct port_list ports;
	struct session_list sessions, active, asking, queue;
	struct fallback_counts counts, told; /* told: as of the last summary in the log */
	uv_timer_t tick;		     /* while anybody is active or queued */
	uv_timer_t chores;		     /* each second */
	unsigned handles;		     /* timers not closed yet */
	uint32_t seed;
	bool ticking, paused, stopping, freeing;
	char scratch[RELAY_PENDING_MAX];
};

/* fallback_port.c */
void port_follow_plan(
	struct fallback *fallback);	    /* opens what the view has, closes what it has not */
void port_retry(struct fallback *fallback); /* those that could not be opened */
void port_pause(struct fallback *fallback, bool pause);
void port_close_all(struct fallback *fallback);

/* fallback.c: a connection came in on `port` */
void session_accept(struct fallback *fallback, uint16_t port, int fd);

#endif
