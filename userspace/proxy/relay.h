/* SPDX-License-Identifier: MIT */
/*
 * One TCP connection carried on to a node: two sockets, bytes both ways, nothing else. Half-closes
 * are passed on; a side that resets or breaks makes the other side be reset, so a stream that was
 * cut never looks complete. A side that reads slowly stops the reading of the other: at most
 * RELAY_PENDING_MAX bytes wait in each direction, and a relay with nothing waiting holds no buffer
 * at all. Which node, and whether to wait, is the owner's business.
 */
#ifndef PROXY_RELAY_H
#define PROXY_RELAY_H

#include <stdbool.h>
#include <uv.h>

#include "base/addr.h"
#include "base/buf.h"

#define RELAY_PENDING_MAX 65536

/*
 * WAITING     the client is here, no node yet; what it sends is kept       relay_connect() is
 * allowed CONNECTING  to the node FAILED      the attempt's socket is being closed; on_connected
 * follows OPEN        bytes flow CLOSED      on_end has been called, on_closed will be
 */
enum relay_state { RELAY_WAITING, RELAY_CONNECTING, RELAY_FAILED, RELAY_OPEN, RELAY_CLOSED };

enum relay_how {		 /* how it ended */
		 RELAY_COMPLETE, /* both sides closed, all bytes delivered */
		 RELAY_CLIENT_BROKE,
		 RELAY_NODE_BROKE,
		 RELAY_DROPPED, /* by relay_reset() */
};

enum relay_seen {
	RELAY_CLIENT_DATA,
	RELAY_NODE_DATA,
	RELAY_CLIENT_EOF, /* it sends no more, and may well be reading */
	RELAY_NODE_EOF,
};

struct relay;

struct relay_events {
	/* Result of relay_connect(): 0, or -errno and the relay is WAITING again. Not from within
	 * relay_connect(). */
	void (*on_connected)(struct relay *relay, int status);
	/* Before the bytes are passed on. May call relay_reset(). */
	void (*on_seen)(struct relay *relay, enum relay_seen what);
	void (*on_end)(struct relay *relay, enum relay_how how); /* exactly once */
	void (*on_closed)(struct relay *relay); /* the last call: the memory is the owner's again */
};

struct relay_side {
	uv_tcp_t tcp;
	struct relay *relay;
	struct buf pending; /* read here, not yet taken by the other side */
	bool handle;	    /* tcp is initialised and not closed */
	bool eof;	    /* its peer sends no more */
	bool writing;	    /* `pending` is with the other side's write queue */
	bool finished;	    /* the eof has been passed on */
	uv_write_t write;
	uv_shutdown_t shutdown;
};

struct relay {
	const struct relay_events *events;
	char *scratch; /* RELAY_PENDING_MAX bytes, shared by all relays of the loop */
	enum relay_state state;
	int failure;	  /* of the attempt, while FAILED */
	unsigned handles; /* not closed yet */
	struct relay_side client, node;
	uv_connect_t connect;
};

/*
 * Starts with an accepted socket, which it owns from now on. `relay` is zeroed memory of the
 * owner's. 0, or -errno: then the socket is closed, and on_closed alone follows.
 */
int relay_start(struct relay *relay, uv_loop_t *loop, int fd, char *scratch,
		const struct relay_events *events);
void relay_connect(struct relay *relay, const struct addr *addr, uint16_t port);
/* Gives the attempt up: on_connected follows with `status`. Only while CONNECTING. */
void relay_give_up(struct relay *relay, int status);
/* Resets both sides. Nothing when it is CLOSED already. */
void relay_reset(struct relay *relay);

#endif
