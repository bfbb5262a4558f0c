/* SPDX-License-Identifier: MIT */
/*
 * For test_server.c, test_listen.c and test_client.c: a server and clients in one loop, over
 * loopback and a unix socket. Nothing sleeps: each test runs the loop until what it waits for is
 * there, or 10 s are over.
 */
#ifndef TESTS_NET_RIG_H
#define TESTS_NET_RIG_H

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/addr.h"
#include "net/client.h"
#include "net/server.h"

#define BIG (8u << 20)

struct rig {
	uv_loop_t loop;
	uv_timer_t watchdog, tick;
	struct server *server;
	struct addr loopback;
	uint16_t port;
	char folder[64], path[96];
	struct exchange *held; /* by /hold and /stream */
	unsigned requests, abandoned, ticks, upgraded;
	int upgraded_fd; /* by /upgrade, with what came behind it */
	struct buf behind;
	void (*after_upgrade)(struct rig *rig); /* once it is asked for; may be NULL */
	char *big;
};

/* What a client came back with. */
struct outcome {
	bool done;
	unsigned pieces;
	struct client_result result;
	struct buf body;       /* copied, or collected */
	size_t stop_at;	       /* on_data says stop at so many bytes */
	struct client *cancel; /* on_data cancels it */
};

static inline void on_tick(uv_timer_t *timer)
{
	struct rig *rig = timer->data;

	exchange_write(rig->held, "piece\n", 6);
	if (++rig->ticks < 3)
		return;
	uv_timer_stop(timer);
	exchange_end(rig->held);
	rig->held = NULL;
}

static inline void on_upgraded(void *arg, int fd, const char *data, size_t len)
{
	struct rig *rig = arg;

	rig->upgraded++;
	rig->upgraded_fd = fd;
	buf_add(&rig->behind, data, len);
}

/* An answer framed by the test itself. */
static inline void answer_raw(struct exchange *exchange)
{
	static const char raw[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nraw";

	exchange_write_raw(exchange, raw, sizeof(raw) - 1);
	exchange_end(exchange);
}

static inline void on_request(void *arg, struct exchange *exchange)
{
	struct rig *rig = arg;
	const char *path = exchange_path(exchange), *value = exchange_query(exchange, "x");
	size_t len;
	const char *body = exchange_body(exchange, &len);

	rig->requests++;
	if (!strcmp(path, "/echo")) {
		exchange_answer(exchange, 200, "text/plain", body, len, "X-Extra: 1\r\n");
	} else if (!strcmp(path, "/big")) {
		exchange_answer(exchange, 200, "text/plain", rig->big, BIG, NULL);
	} else if (!strcmp(path, "/hold")) {
		rig->held = exchange;
	} else if (!strcmp(path, "/stream")) {
		rig->held = exchange;
		exchange_begin(exchange, 200, "application/x-ndjson", NULL);
		uv_timer_start(&rig->tick, on_tick, 1, 1);
	} else if (!strcmp(path, "/cut")) {
		exchange_begin(exchange, 200, "text/plain", NULL);
		exchange_write(exchange, "half", 4);
		exchange_abort(exchange);
	} else if (!strcmp(path, "/reset")) {
		exchange_begin(exchange, 200, "text/plain", NULL);
		exchange_write(exchange, "half", 4);
		exchange_reset(exchange);
	} else if (!strcmp(path, "/raw")) {
		answer_raw(exchange);
	} else if (!strcmp(path, "/upgrade")) {
		exchange_upgrade(exchange, "Upgrade: test\r\n", on_upgraded, rig);
		if (rig->after_upgrade)
			rig->after_upgrade(rig);
	} else if (!strcmp(path, "/query")) {
		exchange_answer(exchange, value ? 200 : 404, "text/plain", value,
				value ? strlen(value) : 0, NULL);
	} else if (!strcmp(path, "/empty")) {
		exchange_answer(exchange, 204, NULL, NULL, 0, NULL);
	} else {
		exchange_answer(exchange, 200, "text/plain", path, strlen(path), NULL);
	}
}

static inline void on_abandoned(void *arg, struct exchange *exchange)
{
	struct rig *rig = arg;

	rig->abandoned++;
	if (exchange == rig->held) {
		rig->held = NULL;
		uv_timer_stop(&rig->tick);
	}
}

static inline void on_watchdog(uv_timer_t *timer)
{
	(void)timer;
	fail_msg("what the test waits for does not come");
}

static inline struct rig *rig_new(unsigned max_peers, uint64_t head_timeout_ms,
				  uint64_t idle_timeout_ms)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct server_options options = {
		.max_body = 1000,
		.max_peers = max_peers,
		.head_timeout_ms = head_timeout_ms,
		.idle_timeout_ms = idle_timeout_ms,
		.on_request = on_request,
		.on_abandoned = on_abandoned,
		.arg = rig,
	};

	assert_non_null(rig);
	uv_loop_init(&rig->loop);
	uv_timer_init(&rig->loop, &rig->watchdog);
	uv_timer_init(&rig->loop, &rig->tick);
	rig->tick.data = rig;
	rig->watchdog.data = rig;
	uv_timer_start(&rig->watchdog, on_watchdog, 10000, 0);
	rig->big = malloc(BIG);
	memset(rig->big, 'b', BIG);
	addr_parse(&rig->loopback, "127.0.0.1");
	rig->server = server_new(&rig->loop, &options);
	assert_non_null(rig->server);
	assert_int_equal(server_listen_tcp(rig->server, &rig->loopback, &rig->port), 0);
	assert_int_not_equal(rig->port, 0);
	snprintf(rig->folder, sizeof(rig->folder), "/tmp/test-server-XXXXXX");
	assert_non_null(mkdtemp(rig->folder));
	snprintf(rig->path, sizeof(rig->path), "%s/sock", rig->folder);
	assert_int_equal(server_listen_unix(rig->server, rig->path, 0600, -1), 0);
	return rig;
}

static inline void rig_free(struct rig *rig)
{
	server_free(rig->server);
	uv_close((uv_handle_t *)&rig->watchdog, NULL);
	uv_close((uv_handle_t *)&rig->tick, NULL);
	uv_run(&rig->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&rig->loop), 0); /* no handle is left */
	assert_int_equal(access(rig->path, F_OK), -1);	/* and no socket */
	rmdir(rig->folder);
	free(rig->big);
	free(rig);
}

static inline int on_data(void *arg, const char *data, size_t len)
{
	struct outcome *outcome = arg;

	outcome->pieces++;
	buf_add(&outcome->body, data, len);
	if (outcome->cancel) {
		client_cancel(outcome->cancel);
		outcome->cancel = NULL;
	}
	return outcome->stop_at && outcome->body.len >= outcome->stop_at;
}

static inline void on_done(void *arg, const struct client_result *result)
{
	struct outcome *outcome = arg;

	assert_false(outcome->done);
	outcome->done = true;
	outcome->result = *result;
	if (result->body)
		buf_add(&outcome->body, result->body, result->body_len);
}

static inline struct client *start(struct rig *rig, struct client_request request,
				   struct outcome *outcome)
{
	struct client *client;

	if (!request.unix_path && !request.address)
		request.address = &rig->loopback;
	if (!request.port)
		request.port = rig->port;
	if (!request.method)
		request.method = "GET";
	if (!request.target)
		request.target = "/";
	request.on_done = on_done;
	request.arg = outcome;
	client = client_start(&rig->loop, &request);
	assert_non_null(client);
	assert_false(outcome->done);
	return client;
}

static inline void wait_for(struct rig *rig, const bool *flag)
{
	while (!*flag)
		uv_run(&rig->loop, UV_RUN_ONCE);
}

static inline void wait_count(struct rig *rig, const unsigned *count, unsigned n)
{
	while (*count < n)
		uv_run(&rig->loop, UV_RUN_ONCE);
}

/* One request from start to end. */
static inline struct outcome ask(struct rig *rig, struct client_request request)
{
	struct outcome outcome = {0};

	start(rig, request, &outcome);
	wait_for(rig, &outcome.done);
	return outcome;
}

static inline void expect(struct outcome *outcome, enum probe_reason reason, int status,
			  const char *body)
{
	assert_string_equal(probe_reason_word(outcome->result.reason), probe_reason_word(reason));
	assert_int_equal(outcome->result.status, status);
	if (body)
		assert_string_equal(outcome->body.data ? outcome->body.data : "", body);
	buf_fini(&outcome->body);
}

static inline int connect_to(struct rig *rig)
{
	struct sockaddr_storage where;
	socklen_t len = addr_to_sockaddr(&rig->loopback, rig->port, &where);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&where, len), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

#endif
