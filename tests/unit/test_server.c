/* SPDX-License-Identifier: MIT */
/* net/server against clients that behave, and peers that do not. */
#include <errno.h>
#include <sys/resource.h>

#include "net_rig.h"

static void test_server__answers(void **state)
{
	static const struct {
		const char *sentence, *method, *target, *body;
		int status;
		const char *answer;
	} rows[] = {
		{"a path", "GET", "/hello", NULL, 200, "/hello"},
		{"a path is decoded, its query cut off", "GET", "/a%20%c3%a4?b=c", NULL, 200,
		 "/a \xc3\xa4"},
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
		    (rows[i / 2].answer &&
		     strcmp(rows[i / 2].answer, outcome.body.data ? outcome.body.data : "") != 0))
			fail_msg("%s: %d %s", rows[i / 2].sentence, outcome.result.status,
				 outcome.body.data);
		assert_int_equal(outcome.result.reason,
				 rows[i / 2].status / 100 == 2 ? PROBE_OK : PROBE_STATUS);
		buf_fini(&outcome.body);
	}
	rig_free(rig);
}

static void test_server__streams_pieces_as_they_come(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome outcome =
		ask(rig, (struct client_request){.target = "/stream", .on_data = on_data});

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
		{"two requests at once, answered in order",
		 "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n"
		 "Connection: close\r\n\r\n",
		 "HTTP/1.1 200 ", "\r\n\r\n/2", 2},
		{"a stream, and a request behind it",
		 "GET /stream HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n"
		 "Connection: close\r\n\r\n",
		 "HTTP/1.1 200 ", "\r\n\r\n/2", 2},
		{"garbage behind a request", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\x01",
		 "HTTP/1.1 200 ", "{\"error\":\"Bad Request\"}\n", 1},
		{"HTTP/1.0: no chunks, and the end of the connection",
		 "GET /stream HTTP/1.0\r\n\r\n", "HTTP/1.1 200 ", "\r\n\r\npiece\npiece\npiece\n",
		 1},
		{"a body said to be too large is not read",
		 "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1073741824\r\n\r\nabc",
		 "HTTP/1.1 413 ", "}\n", 0},
		{"an expectation is met",
		 "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
		 "Connection: close\r\n\r\nab",
		 "HTTP/1.1 100 ", "\r\n\r\nab", 1},
		{"or not, for a body too large",
		 "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2000\r\n"
		 "Expect: 100-continue\r\n\r\n",
		 "HTTP/1.1 413 ", "}\n", 0},
		{"an unknown expectation",
		 "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: tea\r\n\r\n",
		 "HTTP/1.1 417 ", "}\n", 0},
		{"both framings",
		 "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: "
		 "chunked\r\n\r\n",
		 "HTTP/1.1 400 ", "}\n", 0},
		{"a coding nobody knows",
		 "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
		 "HTTP/1.1 501 ", "}\n", 0},
		{"another version", "GET / HTTP/3.0\r\n\r\n", "HTTP/1.1 505 ", "}\n", 0},
		{"CONNECT", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 501 ", "}\n", 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig *rig = rig_new(0, 0, 0);
		struct outcome outcome =
			ask(rig, (struct client_request){.raw = true,
							 .body = rows[i].sent,
							 .body_len = strlen(rows[i].sent)});
		size_t last = strlen(rows[i].last);

		if (strncmp(outcome.body.data, rows[i].first_line, strlen(rows[i].first_line)) !=
			    0 ||
		    outcome.body.len < last ||
		    strcmp(outcome.body.data + outcome.body.len - last, rows[i].last) != 0 ||
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
		buf_printf(&text, "GET /%u HTTP/1.1\r\nHost: a\r\n%s\r\n", i,
			   i == 4999 ? "Connection: close\r\n" : "");
	outcome = ask(
		rig, (struct client_request){.raw = true, .body = text.data, .body_len = text.len});
	assert_int_equal(rig->requests, 5000);
	assert_non_null(strstr(outcome.body.data, "\r\n\r\n/4999"));
	buf_fini(&text);
	buf_fini(&outcome.body);
	rig_free(rig);
}

static void answer_held(uv_prepare_t *prepare)
{
	struct rig *rig = prepare->data;

	if (!rig->held)
		return;
	exchange_answer(rig->held, 200, NULL, "held", 4, NULL);
	rig->held = NULL;
}

/* A request that is read after an answer has ended, but before what waits behind it was looked at.
 */
static void test_server__requests_keep_their_order(void **state)
{
	static const char first[] = "GET /hold HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHo";
	static const char second[] =
		"st: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
	struct rig *rig = rig_new(0, 0, 0);
	int fd = connect_to(rig);
	uv_prepare_t prepare;
	struct buf answer = {0};
	char piece[1000];
	ssize_t n;

	(void)state;
	assert_int_equal(write(fd, first, sizeof(first) - 1), sizeof(first) - 1);
	wait_count(rig, &rig->requests, 1);
	assert_int_equal(write(fd, second, sizeof(second) - 1), sizeof(second) - 1);
	uv_prepare_init(&rig->loop, &prepare);
	prepare.data = rig;
	uv_prepare_start(&prepare, answer_held);
	do {
		uv_run(&rig->loop, UV_RUN_NOWAIT);
		n = recv(fd, piece, sizeof(piece), 0);
		if (n > 0)
			buf_add(&answer, piece, (size_t)n);
	} while (n > 0 || (n < 0 && errno == EAGAIN));
	assert_int_equal(rig->requests, 3);
	assert_non_null(strstr(answer.data, "\r\n\r\nheldHTTP/1.1 200 "));
	assert_non_null(strstr(answer.data, "\r\n\r\n/2HTTP/1.1 200 "));
	assert_non_null(strstr(answer.data, "\r\n\r\n/3"));
	buf_fini(&answer);
	close(fd);
	uv_close((uv_handle_t *)&prepare, NULL);
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
	outcome = ask(
		rig, (struct client_request){.raw = true, .body = text.data, .body_len = text.len});
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
		{"half a body", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
		 "HTTP/1.1 408 "},
		{"an idle peer", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 "},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig *rig = rig_new(0, 30, 30);
		struct outcome outcome =
			ask(rig, (struct client_request){.raw = true,
							 .body = rows[i].sent,
							 .body_len = strlen(rows[i].sent)});
		const char *answer = outcome.body.data ? outcome.body.data : "";

		if (strncmp(answer, rows[i].answer, strlen(rows[i].answer)) != 0 ||
		    (!*rows[i].answer && *answer))
			fail_msg("%s: %s", rows[i].sentence, answer);
		expect(&outcome, PROBE_OK, 0, NULL);
		rig_free(rig);
	}
}

/* A peer that sends a byte now and then does not stretch the deadline, which counts from the first.
 */
static struct {
	int fd;
	unsigned sent;
} drip;

static void on_drip(uv_timer_t *timer)
{
	(void)timer;
	if (write(drip.fd, "a", 1) == 1)
		drip.sent++;
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

	client = start(rig, (struct client_request){.target = "/stream", .on_data = on_data},
		       &outcome);
	wait_count(rig, &outcome.pieces, 1);
	client_cancel(client);
	wait_count(rig, &rig->abandoned, 2);
	assert_false(outcome.done);
	buf_fini(&outcome.body);
	rig_free(rig);
}

/* Writing to a peer that has reset its connection: told from the loop, never from within
 * exchange_write(). */
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
	static const char request[] =
		"GET /big HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
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
	outcome =
		ask(rig, (struct client_request){
				 .raw = true, .body = "GET /cut HTTP/1.0\r\n\r\n", .body_len = 21});
	assert_int_equal(outcome.result.reason, PROBE_RESET); /* else it would look like the end */
	buf_fini(&outcome.body);
	assert_int_equal(rig->abandoned, 0);
	rig_free(rig);
}

/* All that comes until the connection ends; 0 or its errno. */
static int read_all(struct rig *rig, int fd, struct buf *text)
{
	char piece[1000];
	ssize_t n;

	do {
		uv_run(&rig->loop, UV_RUN_NOWAIT);
		n = recv(fd, piece, sizeof(piece), 0);
		buf_add(text, piece, n > 0 ? (size_t)n : 0);
	} while (n > 0 || (n < 0 && errno == EAGAIN));
	return n < 0 ? errno : 0;
}

static void test_server__reset_answers(void **state)
{
	static const char request[] = "GET /reset HTTP/1.1\r\nHost: a\r\n\r\n";
	struct rig *rig = rig_new(0, 0, 0);
	struct buf text = {0};
	int fd = connect_to(rig);

	(void)state;
	assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
	assert_int_equal(read_all(rig, fd, &text), ECONNRESET);
	assert_int_equal(rig->abandoned, 0);
	close(fd);
	buf_fini(&text);
	rig_free(rig);
}

static void test_server__raw_answers_keep_the_connection(void **state)
{
	static const char requests[] =
		"GET /raw HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n"
		"Connection: close\r\n\r\n";
	struct rig *rig = rig_new(0, 0, 0);
	struct buf text = {0};
	int fd = connect_to(rig);

	(void)state;
	assert_int_equal(write(fd, requests, sizeof(requests) - 1), sizeof(requests) - 1);
	assert_int_equal(read_all(rig, fd, &text), 0);
	assert_non_null(strstr(text.data, "\r\n\r\nrawHTTP/1.1 200 OK\r\n"));
	assert_non_null(strstr(text.data, "\r\n\r\n/2"));
	close(fd);
	buf_fini(&text);
	rig_free(rig);
}

static void test_server__upgrades(void **state)
{
	static const char upgrade[] = "Connection: Upgrade\r\nUpgrade: test\r\n\r\n";
	static const char head[] =
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n";
	static const struct {
		const char *sentence, *before, *behind;
	} rows[] = {
		{"alone", "", ""},
		{"with bytes behind it", "", "GET /no HTTP/1.1\r\n\r\n"},
		{"behind another request", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n", "more"},
		{"behind a stream", "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n", "more"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct rig *rig = rig_new(0, 0, 0);
		struct buf sent = {0}, text = {0};
		int fd = connect_to(rig);

		buf_printf(&sent, "%sGET /upgrade HTTP/1.1\r\nHost: a\r\n%s%s", rows[i].before,
			   upgrade, rows[i].behind);
		assert_int_equal(write(fd, sent.data, sent.len), sent.len);
		wait_count(rig, &rig->upgraded, 1);
		assert_string_equal(rig->behind.data ? rig->behind.data : "", rows[i].behind);
		assert_int_equal(write(fd, "later", 5), 5);
		while (read(rig->upgraded_fd, (char[8]){0}, 8) < 0)
			assert_int_equal(errno, EAGAIN);
		assert_int_equal(write(rig->upgraded_fd, "hi", 2), 2);
		close(rig->upgraded_fd);
		assert_int_equal(read_all(rig, fd, &text), 0);
		if (!strstr(text.data, head) ||
		    strcmp(strstr(text.data, head) + sizeof(head) - 1, "hi"))
			fail_msg("%s: %s", rows[i].sentence, text.data);
		assert_int_equal(rig->abandoned, 0);
		close(fd);
		buf_fini(&rig->behind);
		buf_fini(&sent);
		buf_fini(&text);
		rig_free(rig);
	}
}

static void take_descriptors(struct rig *rig)
{
	struct rlimit limit;

	(void)rig;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void free_server(struct rig *rig)
{
	server_free(rig->server);
	rig->server = NULL;
}

/* There is no descriptor left for the owner, or the server goes first: it is told. */
static void test_server__upgrades_that_fail(void **state)
{
	static const char request[] = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
				      "Upgrade: test\r\n\r\n";
	struct rlimit before;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct rig *rig = rig_new(0, 0, 0);
		struct buf text = {0};
		int fd = connect_to(rig);

		rig->after_upgrade = i ? free_server : take_descriptors;
		assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
		wait_count(rig, &rig->abandoned, 1);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
		assert_int_equal(rig->upgraded, 0);
		read_all(rig, fd, &text);
		close(fd);
		buf_fini(&text);
		rig_free(rig);
	}
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
	char answer[512];

	(void)state;
	assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
	wait_count(rig, &rig->requests, 1);
	outcome = ask(rig, (struct client_request){.target = "/2"});
	expect(&outcome, PROBE_OK, 200, "/2");
	while (recv(fd, answer, sizeof(answer), 0) != 0) /* its answer, then the end */
		uv_run(&rig->loop, UV_RUN_NOWAIT);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_server__answers),
		cmocka_unit_test(test_server__streams_pieces_as_they_come),
		cmocka_unit_test(test_server__large_answer),
		cmocka_unit_test(test_server__raw_requests),
		cmocka_unit_test(test_server__many_pipelined_requests),
		cmocka_unit_test(test_server__requests_keep_their_order),
		cmocka_unit_test(test_server__endless_chunked_body_is_refused),
		cmocka_unit_test(test_server__deadlines),
		cmocka_unit_test(test_server__dripping_peer),
		cmocka_unit_test(test_server__stalled_reader),
		cmocka_unit_test(test_server__peer_leaves),
		cmocka_unit_test(test_server__peer_resets),
		cmocka_unit_test(test_server__half_closing_peer_gets_its_answer),
		cmocka_unit_test(test_server__cut_answers),
		cmocka_unit_test(test_server__reset_answers),
		cmocka_unit_test(test_server__raw_answers_keep_the_connection),
		cmocka_unit_test(test_server__upgrades),
		cmocka_unit_test(test_server__upgrades_that_fail),
		cmocka_unit_test(test_server__freed_with_everything_open),
		cmocka_unit_test(test_server__peers_above_the_limit_wait),
		cmocka_unit_test(test_server__idle_peer_makes_room),
		cmocka_unit_test(test_server__out_of_descriptors),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
