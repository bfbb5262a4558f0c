/* SPDX-License-Identifier: MIT */
/*
 * For test_simnode*.c: a node and its clients in one loop, over loopback. Nothing sleeps: each test
 * runs the loop until what it waits for is there, or 20 s are over.
 */
#ifndef TESTS_SIM_RIG_H
#define TESTS_SIM_RIG_H

#include <errno.h>
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

#include "base/buf.h"
#include "net/client.h"
#include "simnode/sim_impl.h"
#include "simnode/simnode.h"

struct rig {
	uv_loop_t loop;
	uv_timer_t watchdog;
	struct simnode *node;
	struct addr loopback;
	uint16_t port;
};

struct outcome {
	struct rig *rig;
	struct client *client;
	bool done;
	unsigned pieces;
	uint64_t first_at, done_at; /* ns */
	enum probe_reason reason;
	int status;
	struct buf body;
};

static inline void on_watchdog(uv_timer_t *timer)
{
	(void)timer;
	fail_msg("what the test waits for does not come");
}

static inline struct rig *rig_new(const struct simnode_options *options, const char *engine)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	uv_loop_init(&rig->loop);
	uv_timer_init(&rig->loop, &rig->watchdog);
	uv_timer_start(&rig->watchdog, on_watchdog, 20000, 0);
	addr_parse(&rig->loopback, "127.0.0.1");
	rig->node = simnode_new(&rig->loop, options);
	assert_non_null(rig->node);
	assert_int_equal(simnode_serve(rig->node, engine, &rig->loopback, &rig->port), 0);
	return rig;
}

static inline void rig_free(struct rig *rig)
{
	simnode_free(rig->node);
	uv_close((uv_handle_t *)&rig->watchdog, NULL);
	uv_run(&rig->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&rig->loop), 0);
	free(rig);
}

/* A fast node called n1 with the models a and b:7b, a of them in memory. */
static inline struct simnode_options fast(void)
{
	static const char *const models[] = {"a", "b:7b"}, *const loaded[] = {"a:latest"};
	struct simnode_options options;

	simnode_defaults(&options);
	options.name = "n1";
	options.models = models;
	options.n_models = 2;
	options.loaded = loaded;
	options.n_loaded = 1;
	options.tps = 100000;
	options.ttft_ms = 1;
	options.tokens = 4;
	return options;
}

static inline int on_data(void *arg, const char *data, size_t len)
{
	struct outcome *outcome = arg;

	if (!outcome->pieces++)
		outcome->first_at = uv_hrtime();
	buf_add(&outcome->body, data, len);
	return 0;
}

static inline void on_done(void *arg, const struct client_result *result)
{
	struct outcome *outcome = arg;

	outcome->done = true;
	outcome->done_at = uv_hrtime();
	outcome->reason = result->reason;
	outcome->status = result->status;
}

static inline void start(struct rig *rig, struct outcome *outcome, const char *method,
			 const char *target, const char *body)
{
	struct client_request request = {
		.address = &rig->loopback,
		.port = rig->port,
		.method = method,
		.target = target,
		.body = body,
		.body_len = body ? strlen(body) : 0,
		.on_data = on_data,
		.on_done = on_done,
		.arg = outcome,
	};

	*outcome = (struct outcome){.rig = rig};
	outcome->client = client_start(&rig->loop, &request);
	assert_non_null(outcome->client);
}

static inline void wait_for(struct outcome *outcome)
{
	while (!outcome->done)
		uv_run(&outcome->rig->loop, UV_RUN_ONCE);
}

static inline struct outcome ask(struct rig *rig, const char *method, const char *target,
				 const char *body)
{
	struct outcome outcome;

	start(rig, &outcome, method, target, body);
	wait_for(&outcome);
	return outcome;
}

/* The document of /sim/stats; to be freed. */
static inline struct json *stats(struct rig *rig)
{
	struct outcome outcome = ask(rig, "GET", "/sim/stats", NULL);
	struct json_error error;
	struct json *document = json_parse(outcome.body.data, outcome.body.len, 0, &error);

	assert_non_null(document);
	buf_fini(&outcome.body);
	return document;
}

static inline int64_t number_of(const struct json *object, const char *name)
{
	int64_t number = -1;

	assert_true(json_integer(json_get(object, name), &number));
	return number;
}

/* One number of /sim/stats. */
static inline int64_t stat_of(struct rig *rig, const char *name)
{
	struct json *document = stats(rig);
	int64_t number = number_of(document, name);

	json_free(document);
	return number;
}

static inline void wait_stat(struct rig *rig, const char *name, int64_t number)
{
	while (stat_of(rig, name) != number)
		;
}

static inline void set(struct rig *rig, const char *settings)
{
	struct outcome outcome = ask(rig, "POST", "/sim/set", settings);

	assert_int_equal(outcome.status, 200);
	buf_fini(&outcome.body);
}

static inline unsigned count_of(const char *text, const char *what)
{
	unsigned n = 0;

	for (text = strstr(text, what); text; text = strstr(text + 1, what))
		n++;
	return n;
}

struct row {
	const char *sentence, *engine, *method, *target, *body;
	int status;
	const char *has, *has_not; /* NULL: nothing to look for */
};

static inline void try_rows(const struct row *rows, size_t n, const struct simnode_options *options)
{
	for (size_t i = 0; i < n; i++) {
		struct rig *rig = rig_new(options, rows[i].engine);
		struct outcome outcome = ask(rig, rows[i].method, rows[i].target, rows[i].body);
		const char *body = outcome.body.data ? outcome.body.data : "";

		if (outcome.status != rows[i].status ||
		    (rows[i].has && !strstr(body, rows[i].has)) ||
		    (rows[i].has_not && strstr(body, rows[i].has_not)))
			fail_msg("%s: %d %s", rows[i].sentence, outcome.status, body);
		buf_fini(&outcome.body);
		rig_free(rig);
	}
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

/* What a peer sees that sends raw bytes. */
struct seen {
	struct buf text;
	int error;	   /* 0: the end came; else errno */
	uint64_t first_at; /* ns */
};

/* Reads until the connection ends, or `until` (NULL: no such) is there. */
static inline struct seen read_all(struct rig *rig, int fd, const char *until)
{
	struct seen seen = {{0}, 0, 0};
	char block[4096];
	ssize_t n;

	do {
		uv_run(&rig->loop, UV_RUN_NOWAIT);
		n = recv(fd, block, sizeof(block), 0);
		if (n > 0) {
			seen.first_at = seen.first_at ? seen.first_at : uv_hrtime();
			buf_add(&seen.text, block, (size_t)n);
		}
		if (until && seen.text.data && strstr(seen.text.data, until))
			return seen;
	} while (n > 0 || (n < 0 && errno == EAGAIN));
	seen.error = n < 0 ? errno : 0;
	return seen;
}

static inline void send_all(struct rig *rig, int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, 0);

		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
		assert_true(n > 0 || errno == EAGAIN);
		uv_run(&rig->loop, UV_RUN_NOWAIT);
	}
}

/* Connected, with a POST on its way. `fields`: further lines, or "". */
static inline int post(struct rig *rig, const char *target, const char *fields, const char *body)
{
	struct buf request = {0};
	int fd = connect_to(rig);

	buf_printf(&request, "POST %s HTTP/1.1\r\nHost: a\r\n%sContent-Length: %zu\r\n\r\n%s",
		   target, fields, strlen(body), body);
	send_all(rig, fd, request.data, request.len);
	buf_fini(&request);
	return fd;
}

static inline struct seen post_raw(struct rig *rig, const char *target, const char *body)
{
	int fd = post(rig, target, "", body);
	struct seen seen = read_all(rig, fd, NULL);

	close(fd);
	return seen;
}

#endif
