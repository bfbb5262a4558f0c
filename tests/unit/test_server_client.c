/* SPDX-License-Identifier: MIT */
/*
 * net/server, net/listen and net/client against each other and against peers that misbehave, over loopback and over a
 * unix socket, in one loop. Nothing sleeps: each test runs the loop until what it waits for is there, or 10 s are over.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/addr.h"
#include "net/client.h"
#include "net/listen.h"
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
	unsigned requests, abandoned, ticks;
	char *big;
};

/* What a client came back with. */
struct outcome {
	bool done;
	unsigned pieces;
	struct client_result result;
	struct buf body; /* copied, or collected */
	size_t stop_at;	 /* on_data says stop at so many bytes */
	struct client *cancel; /* on_data cancels it */
};

static void on_tick(uv_timer_t *timer)
{
	struct rig *rig = timer->data;

	exchange_write(rig->held, "piece\n", 6);
	if (++rig->ticks < 3)
		return;
	uv_timer_stop(timer);
	exchange_end(rig->held);
	rig->held = NULL;
}

static void on_request(void *arg, struct exchange *exchange)
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
	} else if (!strcmp(path, "/query")) {
		exchange_answer(exchange, value ? 200 : 404, "text/plain", value, value ? strlen(value) : 0, NULL);
	} else if (!strcmp(path, "/empty")) {
		exchange_answer(exchange, 204, NULL, NULL, 0, NULL);
	} else {
		exchange_answer(exchange, 200, "text/plain", path, strlen(path), NULL);
	}
}

static void on_abandoned(void *arg, struct exchange *exchange)
{
	struct rig *rig = arg;

	rig->abandoned++;
	if (exchange == rig->held) {
		rig->held = NULL;
		uv_timer_stop(&rig->tick);
	}
}

static void on_watchdog(uv_timer_t *timer)
{
	(void)timer;
	fail_msg("what the test waits for does not come");
}

static struct rig *rig_new(unsigned max_peers, uint64_t head_timeout_ms, uint64_t idle_timeout_ms)
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

static void rig_free(struct rig *rig)
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

static int on_data(void *arg, const char *data, size_t len)
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

static void on_done(void *arg, const struct client_result *result)
{
	struct outcome *outcome = arg;

	assert_false(outcome->done);
	outcome->done = true;
	outcome->result = *result;
	if (result->body)
		buf_add(&outcome->body, result->body, result->body_len);
}

static struct client *start(struct rig *rig, struct client_request request, struct outcome *outcome)
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

static void wait_for(struct rig *rig, const bool *flag)
{
	while (!*flag)
		uv_run(&rig->loop, UV_RUN_ONCE);
}

static void wait_count(struct rig *rig, const unsigned *count, unsigned n)
{
	while (*count < n)
		uv_run(&rig->loop, UV_RUN_ONCE);
}

/* One request from start to end. */
static struct outcome ask(struct rig *rig, struct client_request request)
{
	struct outcome outcome = {0};

	start(rig, request, &outcome);
	wait_for(rig, &outcome.done);
	return outcome;
}

static void expect(struct outcome *outcome, enum probe_reason reason, int status, const char *body)
{
	assert_string_equal(probe_reason_word(outcome->result.reason), probe_reason_word(reason));
	assert_int_equal(outcome->result.status, status);
	if (body)
		assert_string_equal(outcome->body.data ? outcome->body.data : "", body);
	buf_fini(&outcome->body);
}

static void test_server__answers(void **state)
{
	static const struct {
		const char *sentence, *method, *target, *body;
		int status;
		const char *answer;
	} rows[] = {
		{"a path", "GET", "/hello", NULL, 200, "/hello"},
		{"a path is decoded, its query cut off", "GET", "/a%20%c3%a4?b=c", NULL, 200, "/a \xc3\xa4"},
		{"a bad escape", "GET", "/a%2", NULL, 400, NULL},
		{"an escaped NUL", "GET", "/a%00", NULL, 400, NULL},
		{"a body", "POST", "/echo", "hello", 200, "hello"},
		{"an empty body", "POST", "/echo", "", 200, ""},
		{"a query", "GET", "/query?a=1&x=b%26+c&d", NULL, 200, "b& c"},
		{"an empty value", "GET", "/query?x=", NULL, 200, ""},
		{"a name without value", "GET", "/query?x", NULL, 200, ""},
		{"no such name", "GET", "/query?xx=1", NULL, 404, ""},
		{"a bad escape in a query", "GET", "/query?x=%zz", NULL, 400, NULL},
		{"HEAD: no body", "HEAD", "/hello", NULL, 200, ""},
		{"204: no body", "GET", "/empty", NULL, 204, ""},
		{"a stream", "GET", "/stream", NULL, 200, "piece\npiece\npiece\n"},
		{"a stream to a HEAD", "HEAD", "/stream", NULL, 200, ""},
	};
	struct rig *rig = rig_new(0, 0, 0);

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct client_request request = {
			.unix_path = i % 2 ? rig->path : NULL,
			.method = rows[i / 2].method,
			.target = rows[i / 2].target,
			.body = rows[i / 2].body,
			.body_len = rows[i / 2].body ? strlen(rows[i / 2].body) : 0,
		};
		struct outcome outcome;

		rig->ticks = 0;
		outcome = ask(rig, request);
		if (outcome.result.status != rows[i / 2].status ||
		    (rows[i / 2].answer && strcmp(rows[i / 2].answer, outcome.body.data ? outcome.body.data : "") != 0))
			fail_msg("%s: %d %s", rows[i / 2].sentence, outcome.result.status, outcome.body.data);
		assert_int_equal(outcome.result.reason, rows[i / 2].status / 100 == 2 ? PROBE_OK : PROBE_STATUS);
		buf_fini(&outcome.body);
	}
	rig_free(rig);
}

static void test_server__streams_pieces_as_they_come(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome outcome = ask(rig, (struct client_request){.target = "/stream", .on_data = on_data});

	(void)state;
	assert_int_equal(outcome.pieces, 3);
	expect(&outcome, PROBE_OK, 200, "piece\npiece\npiece\n");
	rig_free(rig);
}

static void test_server__large_answer(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome outcome = ask(rig, (struct client_request){.target = "/big"});

	(void)state;
	assert_int_equal(outcome.body.len, BIG);
	assert_memory_equal(outcome.body.data, rig->big, BIG);
	expect(&outcome, PROBE_OK, 200, NULL);
	outcome = ask(rig, (struct client_request){.target = "/big", .max_answer = 100000});
	assert_in_range(outcome.body.len, 0, 100000);
	expect(&outcome, PROBE_TOO_LARGE, 200, NULL);
	rig_free(rig);
}

/* Raw bytes sent to the server; all that comes back until it closes. */
static void test_server__raw_requests(void **state)
{
	static const struct {
		const char *sentence, *sent, *first_line, *last;
		unsigned requests;
	} rows[] = {
		{"garbage", "\x01\x02\x03", "HTTP/1.1 400 ", "}\n", 0},
		{"text", "hello\r\n", "HTTP/1.1 400 ", "}\n", 0},
		{"two requests at once, answered in order", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n"
		 "Connection: close\r\n\r\n", "HTTP/1.1 200 ", "\r\n\r\n/2", 2},
		{"a stream, and a request behind it", "GET /stream HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n"
		 "Connection: close\r\n\r\n", "HTTP/1.1 200 ", "\r\n\r\n/2", 2},
		{"garbage behind a request", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\x01", "HTTP/1.1 200 ",
		 "{\"error\":\"Bad Request\"}\n", 1},
		{"HTTP/1.0: no chunks, and the end of the connection", "GET /stream HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ",
		 "\r\n\r\npiece\npiece\npiece\n", 1},
		{"a body said to be too large is not read", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\nabc",
		 "HTTP/1.1 413 ", "}\n", 0},
		{"an expectation is met", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
		 "Connection: close\r\n\r\nab", "HTTP/1.1 100 ", "\r\n\r\nab", 1},
		{"or not, for a body too large", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n"
		 "Expect: 100-continue\r\n\r\n", "HTTP/1.1 413 ", "}\n", 0},
		{"an unknown expectation", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: tea\r\n\r\n",
		 "HTTP/1.1 417 ", "}\n", 0},
		{"both framings", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
		 "HTTP/1.1 400 ", "}\n", 0},
		{"a coding nobody knows", "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501 ",
		 "}\n", 0},
		{"another version", "GET / HTTP/3.0\r\n\r\n", "HTTP/1.1 505 ", "}\n", 0},
		{"CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 501 ", "}\n", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig *rig = rig_new(0, 0, 0);
		struct outcome outcome = ask(rig, (struct client_request){
							  .raw = true, .body = rows[i].sent, .body_len = strlen(rows[i].sent)});
		size_t last = strlen(rows[i].last);

		if (strncmp(outcome.body.data, rows[i].first_line, strlen(rows[i].first_line)) != 0 ||
		    outcome.body.len < last || strcmp(outcome.body.data + outcome.body.len - last, rows[i].last) != 0 ||
		    rig->requests != rows[i].requests)
			fail_msg("%s: %u %s", rows[i].sentence, rig->requests, outcome.body.data);
		expect(&outcome, PROBE_OK, 0, NULL);
		rig_free(rig);
	}
}

static void test_server__many_pipelined_requests(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct buf text = {0};
	struct outcome outcome;

	(void)state;
	for (unsigned i = 0; i < 5000; i++)
		buf_printf(&text, "GET /%u HTTP/1.1\r\nHost: a\r\n%s\r\n", i, i == 4999 ? "Connection: close\r\n" : "");
	outcome = ask(rig, (struct client_request){.raw = true, .body = text.data, .body_len = text.len});
	assert_int_equal(rig->requests, 5000);
	assert_non_null(strstr(outcome.body.data, "\r\n\r\n/4999"));
	buf_fini(&text);
	buf_fini(&outcome.body);
	rig_free(rig);
}

static void test_server__endless_chunked_body_is_refused(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct buf text = {0};
	struct outcome outcome;

	(void)state;
	buf_puts(&text, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (unsigned i = 0; i < 200; i++)
		buf_puts(&text, "a\r\n0123456789\r\n");
	outcome = ask(rig, (struct client_request){.raw = true, .body = text.data, .body_len = text.len});
	assert_int_equal(strncmp(outcome.body.data, "HTTP/1.1 413 ", 13), 0);
	assert_int_equal(rig->requests, 0);
	buf_fini(&text);
	buf_fini(&outcome.body);
	rig_free(rig);
}

static void test_server__deadlines(void **state)
{
	static const struct {
		const char *sentence, *sent, *answer;
	} rows[] = {
		{"a silent peer is closed", "", ""},
		{"half a head", "GET / HT", "HTTP/1.1 408 "},
		{"half a body", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", "HTTP/1.1 408 "},
		{"an idle peer", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 "},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig *rig = rig_new(0, 30, 30);
		struct outcome outcome = ask(rig, (struct client_request){
							  .raw = true, .body = rows[i].sent, .body_len = strlen(rows[i].sent)});
		const char *answer = outcome.body.data ? outcome.body.data : "";

		if (strncmp(answer, rows[i].answer, strlen(rows[i].answer)) != 0 || (!*rows[i].answer && *answer))
			fail_msg("%s: %s", rows[i].sentence, answer);
		expect(&outcome, PROBE_OK, 0, NULL);
		rig_free(rig);
	}
}

/* A peer that sends a byte now and then does not stretch the deadline, which counts from the first. */
static struct {
	int fd;
	unsigned sent;
} drip;

static void on_drip(uv_timer_t *timer)
{
	(void)timer;
	if (send(drip.fd, "a", 1, MSG_NOSIGNAL) == 1)
		drip.sent++;
}

static int connect_to(struct rig *rig)
{
	struct sockaddr_storage where;
	socklen_t len = addr_to_sockaddr(&rig->loopback, rig->port, &where);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&where, len), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void test_server__dripping_peer(void **state)
{
	struct rig *rig = rig_new(0, 100, 100);
	char answer[512];
	ssize_t n;

	(void)state;
	drip.fd = connect_to(rig);
	uv_timer_start(&rig->tick, on_drip, 5, 5);
	do {
		uv_run(&rig->loop, UV_RUN_ONCE);
		n = recv(drip.fd, answer, sizeof(answer), 0);
	} while (n < 0 && errno == EAGAIN);
	assert_in_range(drip.sent, 1, 40);
	assert_true(n > 12);
	assert_memory_equal(answer, "HTTP/1.1 408", 12);
	close(drip.fd);
	rig_free(rig);
}

/* A peer that takes nothing of a large answer is closed; that is seen by the owner of a stream. */
static void test_server__stalled_reader(void **state)
{
	static const char request[] = "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n";
	struct rig *rig = rig_new(0, 50, 50);
	int fd = connect_to(rig);
	size_t left;

	(void)state;
	assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
	wait_count(rig, &rig->requests, 1);
	exchange_begin(rig->held, 200, "text/plain", NULL);
	for (unsigned i = 0; i < 4; i++)
		left = exchange_write(rig->held, rig->big, BIG);
	assert_true(left > BIG);
	wait_count(rig, &rig->abandoned, 1);
	close(fd);
	rig_free(rig);
}

static void test_server__peer_leaves(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome outcome = {0};
	struct client *client = start(rig, (struct client_request){.target = "/hold"}, &outcome);

	(void)state;
	wait_count(rig, &rig->requests, 1);
	client_cancel(client);
	wait_count(rig, &rig->abandoned, 1);
	assert_null(rig->held);

	client = start(rig, (struct client_request){.target = "/stream", .on_data = on_data}, &outcome);
	wait_count(rig, &outcome.pieces, 1);
	client_cancel(client);
	wait_count(rig, &rig->abandoned, 2);
	assert_false(outcome.done);
	buf_fini(&outcome.body);
	rig_free(rig);
}

/* Writing to a peer that has reset its connection: told from the loop, never from within exchange_write(). */
static void test_server__peer_resets(void **state)
{
	static const char request[] = "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n";
	struct linger linger = {.l_onoff = 1};
	struct rig *rig = rig_new(0, 0, 0);
	int fd = connect_to(rig);

	(void)state;
	assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
	wait_count(rig, &rig->requests, 1);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
	exchange_begin(rig->held, 200, "text/plain", NULL);
	exchange_write(rig->held, "a", 1);
	exchange_write(rig->held, "b", 1);
	assert_int_equal(rig->abandoned, 0);
	wait_count(rig, &rig->abandoned, 1);
	rig_free(rig);
}

/* printf ... | nc: the request and the end of the sending side arrive together. */
static void test_server__half_closing_peer_gets_its_answer(void **state)
{
	static const char request[] = "GET /big HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
	struct rig *rig = rig_new(0, 0, 0);
	int fd = connect_to(rig);
	static char buffer[65536];
	size_t total = 0;
	ssize_t n;

	(void)state;
	assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
	shutdown(fd, SHUT_WR);
	do {
		uv_run(&rig->loop, UV_RUN_NOWAIT);
		n = recv(fd, buffer, sizeof(buffer), 0);
		total += n > 0 ? (size_t)n : 0;
	} while (n > 0 || (n < 0 && errno == EAGAIN));
	assert_int_equal(n, 0);
	assert_true(total > BIG);
	assert_int_equal(rig->requests, 2);
	close(fd);
	rig_free(rig);
}

static void test_server__cut_answers(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome outcome = ask(rig, (struct client_request){.target = "/cut"});

	(void)state;
	expect(&outcome, PROBE_CLOSED, 200, "half");
	outcome = ask(rig, (struct client_request){.raw = true, .body = "GET /cut HTTP/1.0\r\n\r\n", .body_len = 21});
	assert_int_equal(outcome.result.reason, PROBE_RESET); /* else it would look like the end */
	buf_fini(&outcome.body);
	assert_int_equal(rig->abandoned, 0);
	rig_free(rig);
}

static void test_server__freed_with_everything_open(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome held = {0}, idle = {0};

	(void)state;
	start(rig, (struct client_request){.target = "/hold"}, &held);
	start(rig, (struct client_request){.raw = true}, &idle);
	wait_count(rig, &rig->requests, 1);
	server_free(rig->server);
	rig->server = NULL;
	assert_int_equal(rig->abandoned, 1);
	wait_for(rig, &held.done);
	wait_for(rig, &idle.done);
	expect(&held, PROBE_CLOSED, 0, "");
	rig_free(rig);
}

static void test_server__peers_above_the_limit_wait(void **state)
{
	struct rig *rig = rig_new(2, 0, 0);
	struct outcome first = {0}, second = {0}, third = {0};
	struct client *client = start(rig, (struct client_request){.target = "/hold"}, &first);

	(void)state;
	start(rig, (struct client_request){.target = "/hold"}, &second);
	wait_count(rig, &rig->requests, 2);
	start(rig, (struct client_request){.target = "/third"}, &third);
	for (unsigned i = 0; i < 20; i++)
		uv_run(&rig->loop, UV_RUN_NOWAIT);
	assert_int_equal(rig->requests, 2);
	client_cancel(client);
	wait_for(rig, &third.done);
	expect(&third, PROBE_OK, 200, "/third");
	exchange_answer(rig->held, 200, NULL, "x", 1, NULL);
	wait_for(rig, &second.done);
	expect(&second, PROBE_OK, 200, "x");
	rig_free(rig);
}

static void test_server__idle_peer_makes_room(void **state)
{
	static const char request[] = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
	struct rig *rig = rig_new(1, 0, 0);
	struct outcome outcome;
	int fd = connect_to(rig);

	(void)state;
	assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
	wait_count(rig, &rig->requests, 1);
	outcome = ask(rig, (struct client_request){.target = "/2"});
	expect(&outcome, PROBE_OK, 200, "/2");
	close(fd);
	rig_free(rig);
}

static void count_turn(uv_check_t *check)
{
	(*(unsigned *)check->data)++;
}

/* Out of descriptors: it neither spins nor stops for good. */
static void test_server__out_of_descriptors(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct rlimit before, none;
	unsigned turns = 0;
	uv_check_t check;
	char byte;
	int fd = connect_to(rig), lowest = dup(0);
	uint64_t until;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = (rlim_t)lowest; /* the next descriptor would be this one */
	close(lowest);
	uv_check_init(&rig->loop, &check);
	check.data = &turns;
	uv_check_start(&check, count_turn);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	until = uv_hrtime() + 250000000;
	uv_timer_start(&rig->tick, on_drip, 10, 10);
	drip.fd = -1;
	while (uv_hrtime() < until)
		uv_run(&rig->loop, UV_RUN_ONCE);
	uv_timer_stop(&rig->tick);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_in_range(turns, 1, 60);
	assert_int_equal(write(fd, "\x01", 1), 1);
	while (recv(fd, &byte, 1, 0) < 0 && errno == EAGAIN)
		uv_run(&rig->loop, UV_RUN_ONCE);
	assert_int_equal(byte, 'H');
	close(fd);
	uv_close((uv_handle_t *)&check, NULL);
	rig_free(rig);
}

static void test_listener__unix_path(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct sockaddr_un where = {.sun_family = AF_UNIX};
	struct outcome outcome;
	struct stat status;
	char path[128], *long_path = calloc(1, 300);
	int fd;

	(void)state;
	assert_int_equal(stat(rig->path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(server_listen_unix(rig->server, rig->path, 0600, -1), -EADDRINUSE);
	outcome = ask(rig, (struct client_request){.unix_path = rig->path, .target = "/a"});
	expect(&outcome, PROBE_OK, 200, "/a");

	snprintf(path, sizeof(path), "%s/stale", rig->folder);
	memcpy(where.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&where, sizeof(where)), 0);
	close(fd);
	umask(0777);
	assert_int_equal(server_listen_unix(rig->server, path, 0660, (int)getgid()), 0);
	umask(022);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0660);
	outcome = ask(rig, (struct client_request){.unix_path = path, .target = "/b"});
	expect(&outcome, PROBE_OK, 200, "/b");

	snprintf(path, sizeof(path), "%s/file", rig->folder);
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(server_listen_unix(rig->server, path, 0600, -1), -EADDRINUSE);
	unlink(path);
	assert_int_equal(symlink(rig->path, path), 0);
	assert_int_equal(server_listen_unix(rig->server, path, 0600, -1), -EADDRINUSE);
	unlink(path);
	memset(long_path, 'x', 299);
	assert_int_equal(server_listen_unix(rig->server, long_path, 0600, -1), -ENAMETOOLONG);
	assert_int_equal(server_listen_unix(rig->server, "/nonexistent/x", 0600, -1), -ENOENT);
	free(long_path);
	rig_free(rig);
}

/* What another process put at the path since is not removed. */
static void test_listener__leaves_a_successors_socket(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);

	(void)state;
	assert_int_equal(unlink(rig->path), 0);
	assert_int_equal(close(open(rig->path, O_CREAT | O_WRONLY, 0600)), 0);
	server_free(rig->server);
	rig->server = NULL;
	assert_int_equal(unlink(rig->path), 0);
	rig_free(rig);
}

static void test_listener__tcp_port_in_use(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	uint16_t port = rig->port;

	(void)state;
	assert_int_equal(server_listen_tcp(rig->server, &rig->loopback, &port), -EADDRINUSE);
	rig_free(rig);
}

/* A peer that says `text` to whoever connects, and that it says no more unless it is to hang. */
struct fake {
	const char *text;
	bool hang;
	int fd;
};

static void fake_accept(void *arg, int fd)
{
	struct fake *fake = arg;
	size_t len = strlen(fake->text);

	assert_int_equal(write(fd, fake->text, len), len);
	if (!fake->hang)
		shutdown(fd, SHUT_WR); /* closing would reset, with the request unread */
	if (fake->fd >= 0)
		close(fake->fd);
	fake->fd = fd;
}

static void test_client__judges_answers(void **state)
{
	static const struct {
		const char *sentence, *text;
		bool hang;
		enum probe_reason reason;
		int status;
		const char *body;
	} rows[] = {
		{"whole", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true, PROBE_OK, 200, "hi"},
		{"without a length", "HTTP/1.1 200 OK\r\n\r\nhi", false, PROBE_OK, 200, "hi"},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhi", false, PROBE_OK, 200, "hi"},
		{"interim answers first", "HTTP/1.1 103 E\r\n\r\nHTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n", true, PROBE_OK, 201, ""},
		{"bytes behind the answer are not looked at", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhi", true, PROBE_OK, 200, "h"},
		{"loading", "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", true, PROBE_STATUS, 503, "no"},
		{"a redirect", "HTTP/1.1 302 No\r\nContent-Length: 0\r\n\r\n", true, PROBE_STATUS, 302, ""},
		{"cut in the body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", false, PROBE_CLOSED, 200, "hi"},
		{"cut in the head", "HTTP/1.1 200 OK\r\nConte", false, PROBE_CLOSED, 0, ""},
		{"nothing", "", false, PROBE_CLOSED, 0, ""},
		{"no HTTP", "SSH-2.0\r\n", true, PROBE_BAD_HTTP, 0, ""},
		{"a switch nobody asked for", "HTTP/1.1 101 S\r\n\r\n", true, PROBE_BAD_HTTP, 0, ""},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", true, PROBE_BAD_HTTP, 0, ""},
		{"larger than allowed", "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n"
		 "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789+", true,
		 PROBE_TOO_LARGE, 200, NULL},
		{"silence", "", true, PROBE_ANSWER_TIMEOUT, 0, ""},
		{"half, then silence", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", true, PROBE_ANSWER_TIMEOUT, 200, "hi"},
	};
	struct rig *rig = rig_new(0, 0, 0);
	struct fake fake = {0};
	struct listener *listener;
	uint16_t port = 0;

	(void)state;
	assert_int_equal(listener_tcp(&listener, &rig->loop, &rig->loopback, &port, 0, fake_accept, &fake), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct outcome outcome;

		fake = (struct fake){.text = rows[i].text, .hang = rows[i].hang, .fd = -1};
		outcome = ask(rig, (struct client_request){.port = port, .timeout_ms = 150, .max_answer = 100});
		if (outcome.result.reason != rows[i].reason || outcome.result.status != rows[i].status ||
		    (rows[i].body && strcmp(rows[i].body, outcome.body.data ? outcome.body.data : "") != 0))
			fail_msg("%s: %s %d %s", rows[i].sentence, probe_reason_word(outcome.result.reason),
				 outcome.result.status, outcome.body.data);
		buf_fini(&outcome.body);
		close(fake.fd);
	}
	listener_free(listener);
	rig_free(rig);
}

static void test_client__cannot_connect(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome outcome;
	struct addr nowhere;
	uint16_t port = 0;
	struct listener *listener;
	char *long_path = calloc(1, 300);

	(void)state;
	memset(long_path, 'x', 299);
	assert_int_equal(listener_tcp(&listener, &rig->loop, &rig->loopback, &port, 0, fake_accept, NULL), 0);
	listener_free(listener);
	outcome = ask(rig, (struct client_request){.port = port});
	expect(&outcome, PROBE_REFUSED, 0, "");
	outcome = ask(rig, (struct client_request){.unix_path = "/nonexistent/sock"});
	expect(&outcome, PROBE_REFUSED, 0, "");
	outcome = ask(rig, (struct client_request){.unix_path = long_path});
	expect(&outcome, PROBE_UNREACHABLE, 0, "");
	addr_parse(&nowhere, "255.255.255.255");
	outcome = ask(rig, (struct client_request){.address = &nowhere});
	expect(&outcome, PROBE_UNREACHABLE, 0, "");
	free(long_path);
	rig_free(rig);
}

static void test_client__refuses_unclean_words(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct client_request request = {.address = &rig->loopback, .port = rig->port, .method = "GET", .target = "/ a"};

	(void)state;
	assert_null(client_start(&rig->loop, &request));
	assert_int_equal(errno, EINVAL);
	request.target = "/a\r\nX: y";
	assert_null(client_start(&rig->loop, &request));
	rig_free(rig);
}

static void test_client__connect_only(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome outcome = ask(rig, (struct client_request){.connect_only = true});

	(void)state;
	assert_true(outcome.result.rtt_us < 5000000);
	expect(&outcome, PROBE_OK, 0, "");
	assert_int_equal(rig->requests, 0);
	rig_free(rig);
}

static void test_client__raw(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct fake fake = {.text = "banner\n", .fd = -1};
	struct listener *listener;
	struct outcome outcome;
	uint16_t port = 0;

	(void)state;
	assert_int_equal(listener_tcp(&listener, &rig->loop, &rig->loopback, &port, 0, fake_accept, &fake), 0);
	outcome = ask(rig, (struct client_request){.port = port, .raw = true, .body = "x", .body_len = 1});
	expect(&outcome, PROBE_OK, 0, "banner\n"); /* all there was */
	outcome = ask(rig, (struct client_request){.port = port, .raw = true, .body = "x", .body_len = 1, .on_data = on_data});
	expect(&outcome, PROBE_CLOSED, 0, "banner\n"); /* on_data wanted more */
	outcome = (struct outcome){.stop_at = 3};
	start(rig, (struct client_request){.port = port, .raw = true, .body = "x", .body_len = 1, .on_data = on_data}, &outcome);
	wait_for(rig, &outcome.done);
	expect(&outcome, PROBE_OK, 0, "banner\n");
	close(fake.fd);
	listener_free(listener);
	rig_free(rig);
}

static void test_client__stops_and_cancels_from_on_data(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome stopped = {.stop_at = 1}, cancelled = {0};

	(void)state;
	start(rig, (struct client_request){.target = "/stream", .on_data = on_data}, &stopped);
	wait_for(rig, &stopped.done);
	expect(&stopped, PROBE_OK, 200, "piece\n");
	wait_count(rig, &rig->abandoned, 1);
	rig->ticks = 0;
	cancelled.cancel = start(rig, (struct client_request){.target = "/stream", .on_data = on_data}, &cancelled);
	wait_count(rig, &cancelled.pieces, 1);
	wait_count(rig, &rig->abandoned, 2);
	assert_false(cancelled.done);
	assert_int_equal(cancelled.pieces, 1);
	buf_fini(&cancelled.body);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server__answers),
		cmocka_unit_test(test_server__streams_pieces_as_they_come),
		cmocka_unit_test(test_server__large_answer),
		cmocka_unit_test(test_server__raw_requests),
		cmocka_unit_test(test_server__many_pipelined_requests),
		cmocka_unit_test(test_server__endless_chunked_body_is_refused),
		cmocka_unit_test(test_server__deadlines),
		cmocka_unit_test(test_server__dripping_peer),
		cmocka_unit_test(test_server__stalled_reader),
		cmocka_unit_test(test_server__peer_leaves),
		cmocka_unit_test(test_server__peer_resets),
		cmocka_unit_test(test_server__half_closing_peer_gets_its_answer),
		cmocka_unit_test(test_server__cut_answers),
		cmocka_unit_test(test_server__freed_with_everything_open),
		cmocka_unit_test(test_server__peers_above_the_limit_wait),
		cmocka_unit_test(test_server__idle_peer_makes_room),
		cmocka_unit_test(test_server__out_of_descriptors),
		cmocka_unit_test(test_listener__unix_path),
		cmocka_unit_test(test_listener__leaves_a_successors_socket),
		cmocka_unit_test(test_listener__tcp_port_in_use),
		cmocka_unit_test(test_client__judges_answers),
		cmocka_unit_test(test_client__cannot_connect),
		cmocka_unit_test(test_client__refuses_unclean_words),
		cmocka_unit_test(test_client__connect_only),
		cmocka_unit_test(test_client__raw),
		cmocka_unit_test(test_client__stops_and_cancels_from_on_data),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
