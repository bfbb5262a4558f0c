/* SPDX-License-Identifier: MIT */
/*
 * A small HTTP/1.1 client on libuv: one request, one connection, one deadline. For probes, for the
 * CLI and for followers of the plan. Every way to fail has its reason (core/score.h).
 */
#ifndef NET_CLIENT_H
#define NET_CLIENT_H

#include <uv.h>

#include "base/addr.h"
#include "core/score.h"
#include "net/http1.h"

struct client_result;

struct client_request {
	const char *unix_path;	    /* either a unix socket ... */
	const struct addr *address; /* ... or an address with */
	uint16_t port;
	const char *method, *target;
	const char *body; /* NULL: none; sent as application/json */
	size_t body_len;
	uint64_t timeout_ms; /* whole exchange; 0 = none (streams) */
	size_t max_answer;   /* decoded body bytes; more is PROBE_TOO_LARGE; 0 = no limit */
	/*
	 * No HTTP: sends `body` as it is (maybe empty); on_data gets raw bytes. When the peer ends
	 * the connection that is PROBE_OK without on_data, PROBE_CLOSED with it (it would have said
	 * stop).
	 */
	bool raw;
	bool connect_only; /* success as soon as connected */
	/*
	 * Streams: called with each piece; the body is then not collected. Return non-zero to stop
	 * (reason OK). May call client_cancel().
	 */
	int (*on_data)(void *arg, const char *data, size_t len);
	/* Called once, always, and not from within client_start(). Then the request is gone. */
	void (*on_done)(void *arg, const struct client_result *result);
	void *arg;
};

struct client_result {
	enum probe_reason reason; /* OK, STATUS (not 2xx), or why there is no whole answer */
	int status;		  /* 0: no head */
	const char *body;	  /* NUL-terminated, when on_data is NULL; valid during the call */
	size_t body_len;
	uint32_t rtt_us;  /* connect */
	uint32_t ttfb_ms; /* request sent → first byte of the answer */
};

struct client; /* a request in progress */

/*
 * NULL with errno: out of memory, or EINVAL for a method or target with a space or control
 * character in it. Everything else that fails is told to on_done. Strings of `request` are copied.
 */
struct client *client_start(uv_loop_t *loop, const struct client_request *request);
/* Ends it at once; on_done is not called. */
void client_cancel(struct client *client);

#endif
