/* SPDX-License-Identifier: MIT */
/*
 * Connections to nodes over loopback: the node is a plain socket of the test. Waits are for
 * conditions, with a deadline; where only time would tell, the pool is told another time.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "farm.h"
#include "proxy/outbox.h"
#include "proxy/upstream.h"

#define DEADLINE_MS 5000
#define SCRATCH	    65536

enum hook { HOOK_NONE, ON_CONNECTED, ON_HEAD, ON_BODY, ON_TURN, ON_COMPLETE, ON_END, ON_DRAINED };

struct rig {
	uv_loop_t loop;
	uv_timer_t wake; /* so that a turn of the loop ends */
	struct upstream_pool *pool;
	char *scratch;
	int listener;
	uint16_t port;
	struct addr address;
};

struct asking { /* one who takes an upstream */
	struct upstream *up;
	unsigned connected, heads, interim, turns, completes, ends, drained;
	int status;
	struct buf body;
	enum upstream_end why;
	enum hook drop; /* in this callback it lets go */
	bool reset;
	bool pause; /* in on_body */
	bool alive; /* an event behind the end would be wrong */
};

/* ---- the loop ---- */

static void on_wake(uv_timer_t *timer)
{
	(void)timer;
}

static bool turn(struct rig *rig, uint64_t begin)
{
	uv_run(&rig->loop, UV_RUN_ONCE);
	return uv_now(&rig->loop) - begin < DEADLINE_MS;
}

#define UNTIL(rig, condition) \
	do { \
		uint64_t begin_ = uv_now(&(rig)->loop); \
		bool done_; \
		while (!(done_ = (condition)) && turn(rig, begin_)) \
			; \
		if (!done_) \
			fail_msg("not within %d ms: %s", DEADLINE_MS, #condition); \
	} while (0)

/* The loop gets some turns to do a thing that must not happen. */
static void let(struct rig *rig)
{
	for (unsigned i = 0; i < 10; i++)
		uv_run(&rig->loop, UV_RUN_ONCE);
}

/* ---- what the pool tells ---- */

static int let_go(struct asking *asking, enum hook hook)
{
	assert_true(asking->alive);
	if (asking->drop != hook)
		return 0;
	upstream_drop(asking->up, asking->reset);
	asking->alive = false;
	return -1;
}

static void on_connected(void *arg)
{
	struct asking *asking = arg;

	asking->connected++;
	let_go(asking, ON_CONNECTED);
}

static int on_head(void *arg, const struct http1_head *head)
{
	struct asking *asking = arg;

	asking->status = head->status;
	if (head->status < 200 && head->status != 101)
		asking->interim++;
	else
		asking->heads++;
	return let_go(asking, ON_HEAD);
}

static int on_body(void *arg, const char *data, size_t len)
{
	struct asking *asking = arg;

	buf_add(&asking->body, data, len);
	if (asking->pause)
		upstream_pause(asking->up, true);
	return let_go(asking, ON_BODY);
}

static void on_turn(void *arg)
{
	struct asking *asking = arg;

	asking->turns++;
	let_go(asking, ON_TURN);
}

static void on_complete(void *arg)
{
	struct asking *asking = arg;

	assert_true(asking->alive);
	asking->completes++;
	asking->alive = false;
}

static void on_end(void *arg, enum upstream_end why)
{
	struct asking *asking = arg;

	assert_true(asking->alive);
	asking->ends++;
	asking->why = why;
	asking->alive = false;
}

static void on_drained(void *arg)
{
	struct asking *asking = arg;

	asking->drained++;
	let_go(asking, ON_DRAINED);
}

static const struct upstream_events events = {
	.on_connected = on_connected,
	.on_head = on_head,
	.on_body = on_body,
	.on_turn = on_turn,
	.on_complete = on_complete,
	.on_end = on_end,
	.on_drained = on_drained,
};

/* ---- sockets ---- */

static int set_up(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	struct rig *rig = calloc(1, sizeof(*rig));

	signal(SIGPIPE, SIG_IGN);
	uv_loop_init(&rig->loop);
	uv_timer_init(&rig->loop, &rig->wake);
	uv_timer_start(&rig->wake, on_wake, 1, 1);
	rig->listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(rig->listener, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(rig->listener, 64), 0);
	assert_int_equal(getsockname(rig->listener, (struct sockaddr *)&address, &len), 0);
	fcntl(rig->listener, F_SETFL, O_NONBLOCK);
	rig->port = ntohs(address.sin_port);
	addr_parse(&rig->address, "127.0.0.1");
	rig->scratch = malloc(SCRATCH);
	rig->pool = upstream_pool_new(&rig->loop, rig->scratch, SCRATCH, &events);
	*state = rig;
	return rig->pool ? 0 : -1;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	upstream_pool_free(rig->pool);
	uv_close((uv_handle_t *)&rig->wake, NULL);
	uv_run(&rig->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&rig->loop), 0); /* no handle was forgotten */
	if (rig->listener >= 0)
		close(rig->listener);
	free(rig->scratch);
	free(rig);
	return 0;
}

static int take(struct rig *rig)
{
	int fd = -1;

	UNTIL(rig, (fd = accept(rig->listener, NULL, NULL)) >= 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void hear(struct rig *rig, int fd, const char *text)
{
	char heard[512];
	size_t len = 0;

	UNTIL(rig, ({
		      ssize_t n = recv(fd, heard + len, sizeof(heard) - 1 - len, 0);
		      if (n > 0)
			      len += (size_t)n;
		      len >= strlen(text);
	      }));
	heard[len] = '\0';
	assert_string_equal(heard, text);
}

/* All that comes until the end: 0, or -errno. */
static int drain(struct rig *rig, int fd, size_t *total)
{
	static char heard[65536];
	ssize_t n = -1;

	UNTIL(rig, ({
		      while ((n = recv(fd, heard, sizeof(heard), 0)) > 0)
			      *total += (size_t)n;
		      n == 0 || errno != EAGAIN;
	      }));
	return n < 0 ? -errno : 0;
}

static void reset(int fd)
{
	struct linger none = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(fd);
}

/* ---- asking ---- */

static void begin(struct rig *rig, struct asking *asking, bool fresh)
{
	asking->alive = true;
	asking->up = upstream_take(rig->pool, &rig->address, rig->port, fresh, asking);
	assert_non_null(asking->up);
}

static void send_text(struct asking *asking, char *text, bool bodiless)
{
	uv_buf_t part = uv_buf_init(text, (unsigned)strlen(text));

	upstream_send(asking->up, &part, 1, bodiless);
}

static char question[] = "GET / HTTP/1.1\r\nhost: n\r\n\r\n";

/* A request is sent on a new connection; returns the node's end of it. */
static int ask_new(struct rig *rig, struct asking *asking)
{
	int node;

	begin(rig, asking, true);
	assert_false(upstream_ready(asking->up));
	UNTIL(rig, asking->connected);
	assert_false(upstream_reused(asking->up));
	send_text(asking, question, false);
	assert_true(upstream_sent(asking->up));
	node = take(rig);
	hear(rig, node, question);
	return node;
}

static void ask_kept(struct rig *rig, struct asking *asking, int node)
{
	begin(rig, asking, false);
	assert_true(upstream_ready(asking->up));
	assert_true(upstream_reused(asking->up));
	send_text(asking, question, false);
	hear(rig, node, question);
}

static void expect_body(struct asking *asking, const char *body)
{
	assert_string_equal(asking->body.data ? asking->body.data : "", body);
	buf_fini(&asking->body);
}

/* A kept connection, freshly answered on. */
static int keep_one(struct rig *rig)
{
	struct asking asking = {0};
	int node = ask_new(rig, &asking);

	say(node, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
	UNTIL(rig, asking.completes);
	expect_body(&asking, "ok");
	assert_int_equal(upstream_pool_open(rig->pool), 1);
	return node;
}

/* ---- connecting ---- */

static void test_upstream__refused(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};

	close(rig->listener);
	rig->listener = -1;
	begin(rig, &asking, false);
	assert_int_equal(asking.ends, 0); /* not from within the call */
	UNTIL(rig, asking.ends);
	assert_int_equal(asking.why, UPSTREAM_REFUSED);
	assert_int_equal(asking.connected, 0);
	UNTIL(rig, !upstream_pool_open(rig->pool));
}

/* The backlog is full, so the SYN is not answered. */
static void test_upstream__a_connection_that_takes_too_long(void **state)
{
	struct rig *rig = *state;
	struct asking asking[8] = {{0}};
	size_t waiting = 0;

	assert_int_equal(listen(rig->listener, 0), 0);
	for (size_t i = 0; i < COUNT(asking); i++)
		begin(rig, &asking[i], true);
	UNTIL(rig, asking[0].connected);
	let(rig);
	for (size_t i = 0; i < COUNT(asking); i++)
		waiting += !asking[i].connected;
	if (!waiting)
		skip(); /* this system takes more than it was told */
	upstream_pool_tick(rig->pool, uv_now(&rig->loop) + UPSTREAM_CONNECT_MS / 2);
	for (size_t i = 0; i < COUNT(asking); i++)
		assert_int_equal(asking[i].ends, 0);
	upstream_pool_tick(rig->pool, uv_now(&rig->loop) + UPSTREAM_CONNECT_MS + 1);
	for (size_t i = 0; i < COUNT(asking); i++) {
		assert_int_equal(asking[i].ends, !asking[i].connected);
		if (asking[i].ends)
			assert_int_equal(asking[i].why, UPSTREAM_UNREACHABLE);
		else
			upstream_drop(asking[i].up, false);
	}
	UNTIL(rig, !upstream_pool_open(rig->pool));
}

static void test_upstream__an_address_without_a_way(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};

	addr_parse(&rig->address, "255.255.255.255"); /* connect() itself refuses */
	begin(rig, &asking, false);
	assert_int_equal(asking.ends, 0);
	assert_false(upstream_ready(asking.up));
	UNTIL(rig, asking.ends);
	assert_int_equal(asking.connected, 0);
	assert_true(asking.why == UPSTREAM_UNREACHABLE || asking.why == UPSTREAM_LOCAL);
	begin(rig, &asking, false);
	upstream_drop(asking.up, false); /* before it is told */
	asking.alive = false;
	UNTIL(rig, !upstream_pool_open(rig->pool));
	assert_int_equal(asking.ends, 1);
}

static void test_upstream__dropped_while_it_connects(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};

	begin(rig, &asking, false);
	upstream_drop(asking.up, false);
	asking.alive = false;
	UNTIL(rig, !upstream_pool_open(rig->pool));
	assert_int_equal(asking.connected + asking.ends, 0);
}

/* ---- kept connections ---- */

static void test_upstream__is_kept_when_its_answer_was_whole(void **state)
{
	struct rig *rig = *state;
	struct asking again = {0};
	int node = keep_one(rig);

	ask_kept(rig, &again, node);
	assert_int_equal(again.connected, 0);
	say(node, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n");
	UNTIL(rig, again.body.len == 2);
	assert_int_equal(again.completes, 0);
	UNTIL(rig, again.turns);
	say(node, "0\r\n\r\n");
	UNTIL(rig, again.completes);
	expect_body(&again, "ab");
	assert_int_equal(upstream_pool_open(rig->pool), 1);
	close(node);
	UNTIL(rig, !upstream_pool_open(rig->pool)); /* its end is seen while nobody uses it */
}

static void test_upstream__fresh_means_fresh(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};
	int kept = keep_one(rig), node = ask_new(rig, &asking);

	assert_int_equal(upstream_pool_open(rig->pool), 2);
	upstream_drop(asking.up, false);
	close(kept);
	close(node);
}

static void test_upstream__the_last_used_is_the_first_taken(void **state)
{
	struct rig *rig = *state;
	struct asking asking[3] = {{0}}, again[3] = {{0}};
	int node[3];

	for (size_t i = 0; i < 3; i++)
		node[i] = ask_new(rig, &asking[i]);
	for (size_t i = 0; i < 3; i++) {
		size_t which = (i + 1) % 3; /* 1, 2, 0 */

		say(node[which], "HTTP/1.1 204 No Content\r\n\r\n");
		UNTIL(rig, asking[which].completes);
	}
	ask_kept(rig, &again[0], node[0]);
	ask_kept(rig, &again[1], node[2]);
	ask_kept(rig, &again[2], node[1]);
	for (size_t i = 0; i < 3; i++) {
		upstream_drop(again[i].up, false);
		close(node[i]);
	}
}

/* Also where the table of places has both in one slot: 128 ports, or 97 and 1 of bytes, further. */
static void test_upstream__another_port_is_another_place(void **state)
{
	static const char *const others[] = {"127.0.0.2", "127.0.1.98"};
	static const uint16_t further[] = {1, 128};
	struct rig *rig = *state;
	struct asking asking = {0};
	int node = keep_one(rig);

	for (size_t i = 0; i < 2; i++) {
		uint16_t port = rig->port;

		rig->port ^= further[i];
		begin(rig, &asking, false);
		assert_false(upstream_ready(asking.up));
		upstream_drop(asking.up, false);
		rig->port = port;
	}
	for (size_t i = 0; i < 2; i++) {
		addr_parse(&rig->address, others[i]);
		begin(rig, &asking, false);
		assert_false(upstream_ready(asking.up));
		upstream_drop(asking.up, false);
	}
	close(node);
}

static const struct {
	const char *why, *bytes;
} unasked[] = {
	{"an answer that nobody asked for", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"},
	{"one byte", "\n"},
	{"half a head", "HTTP/1.1 "},
};

static void test_upstream__bytes_on_a_kept_connection_close_it(void **state)
{
	struct rig *rig = *state;

	for (size_t i = 0; i < COUNT(unasked); i++) {
		int node = keep_one(rig);

		say(node, unasked[i].bytes);
		UNTIL(rig, !upstream_pool_open(rig->pool));
		close(node);
	}
}

static void test_upstream__a_reset_of_a_kept_connection_closes_it(void **state)
{
	struct rig *rig = *state;

	reset(keep_one(rig));
	UNTIL(rig, !upstream_pool_open(rig->pool));
}

static void test_upstream__is_not_kept_for_long(void **state)
{
	struct rig *rig = *state;
	int node = keep_one(rig);
	uint64_t now_ms = uv_now(&rig->loop);

	upstream_pool_tick(rig->pool, now_ms + UPSTREAM_IDLE_MS / 2);
	let(rig);
	assert_int_equal(upstream_pool_open(rig->pool), 1);
	upstream_pool_tick(rig->pool, now_ms + UPSTREAM_IDLE_MS + 1);
	UNTIL(rig, !upstream_pool_open(rig->pool));
	close(node);
}

/* One that is in use is nobody's idle one, however old. */
static void test_upstream__used_ones_have_no_limit(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0}, new = {0};
	int node = keep_one(rig), other;

	ask_kept(rig, &asking, node);
	other = ask_new(rig, &new);
	upstream_pool_tick(rig->pool, uv_now(&rig->loop) + 100 * (uint64_t)UPSTREAM_IDLE_MS);
	upstream_pool_flush(rig->pool);
	let(rig);
	assert_int_equal(upstream_pool_open(rig->pool), 2);
	say(node, "HTTP/1.1 204 No Content\r\n\r\n");
	say(other, "HTTP/1.1 204 No Content\r\n\r\n");
	UNTIL(rig, asking.completes && new.completes);
	assert_int_equal(upstream_pool_open(rig->pool), 2);
	upstream_pool_flush(rig->pool);
	UNTIL(rig, !upstream_pool_open(rig->pool));
	close(node);
	close(other);
}

/* A slow client stops the reading, and the answer ends in what has been read already. */
static void test_upstream__is_kept_with_its_eyes_open(void **state)
{
	struct rig *rig = *state;
	struct asking slow = {.pause = true}, next = {0};
	int node = ask_new(rig, &slow);

	say(node, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow");
	UNTIL(rig, slow.completes);
	expect_body(&slow, "slow");
	ask_kept(rig, &next, node);
	say(node, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext");
	UNTIL(rig, next.completes);
	expect_body(&next, "next");
	close(node);
	UNTIL(rig, !upstream_pool_open(rig->pool));
}

/* ---- what an answer is, and what becomes of its connection ---- */

static const struct answer {
	const char *why, *text;
	bool bodiless, eof; /* the node closes behind it */
	int status;
	const char *body;
	bool complete, kept;
	enum upstream_end end; /* when not complete */
} answers[] = {
	{"with a length", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", false, false, 200,
	 "abc", true, true, 0},
	{"in chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	 false, false, 200, "abc", true, true, 0},
	{"connection: close", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\na",
	 false, false, 200, "a", true, false, 0},
	{"HTTP/1.0", "HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", false, false, 200, "a", true,
	 false, 0},
	{"bytes behind it", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", false, false, 200,
	 "a", true, false, 0},
	{"an answer behind it",
	 "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 200 OK\r\ncontent-length: "
	 "1\r\n\r\nb",
	 false, false, 200, "a", true, false, 0},
	{"until the end", "HTTP/1.1 200 OK\r\n\r\nabc", false, true, 200, "abc", true, false, 0},
	{"the end right behind it", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", false, true,
	 200, "a", true, false, 0},
	{"to a HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", true, false, 200, "", true,
	 true, 0},
	{"to a HEAD, in chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", true,
	 false, 200, "", true, true, 0},
	{"to a HEAD, without a length", "HTTP/1.1 200 OK\r\n\r\n", true, false, 200, "", true, true,
	 0},
	{"to a HEAD, behind an interim one",
	 "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", true,
	 false, 200, "", true, true, 0},
	{"304 has no body", "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", false, false,
	 304, "", true, true, 0},
	{"behind two interim ones",
	 "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 "
	 "OK\r\ncontent-length: 1\r\n\r\na",
	 false, false, 200, "a", true, true, 0},
	{"an interim one says close",
	 "HTTP/1.1 103 E\r\nconnection: close\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: "
	 "1\r\n\r\na",
	 false, false, 200, "a", true, true, 0},
	{"nothing", "", false, true, 0, "", false, false, UPSTREAM_CLOSED},
	{"an interim one only", "HTTP/1.1 100 Continue\r\n\r\n", false, true, 100, "", false, false,
	 UPSTREAM_CLOSED},
	{"half a head", "HTTP/1.1 200 OK\r\ncont", false, true, 0, "", false, false,
	 UPSTREAM_CLOSED},
	{"a byte is missing", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", false, true, 200,
	 "ab", false, false, UPSTREAM_CLOSED},
	{"the last chunk is missing",
	 "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", false, true, 200, "ab",
	 false, false, UPSTREAM_CLOSED},
	{"half of the last chunk",
	 "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", false, true, 200,
	 "ab", false, false, UPSTREAM_CLOSED},
	{"a bad chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabX", false,
	 false, 200, "ab", false, false, UPSTREAM_BAD},
	{"a bad size of a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\n",
	 false, false, 200, "", false, false, UPSTREAM_BAD},
	{"no HTTP", "SSH-2.0-x\r\n\r\n", false, false, 0, "", false, false, UPSTREAM_BAD},
	{"two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na", false,
	 false, 0, "", false, false, UPSTREAM_BAD},
};

static void answer_as(struct rig *rig, const struct answer *row, bool by_byte)
{
	struct asking asking = {.alive = true};
	int node;

	begin(rig, &asking, true);
	UNTIL(rig, asking.connected);
	send_text(&asking, question, row->bodiless);
	node = take(rig);
	hear(rig, node, question);
	for (const char *at = row->text; by_byte && *at && asking.alive; at++) {
		send(node, at, 1, MSG_NOSIGNAL); /* it may have been closed already */
		uv_run(&rig->loop, UV_RUN_ONCE);
	}
	if (!by_byte)
		say(node, row->text);
	if (row->eof)
		shutdown(node, SHUT_WR);
	UNTIL(rig, !asking.alive);
	if (asking.status != row->status || asking.completes != row->complete ||
	    (!row->complete && asking.why != row->end))
		fail_msg("%s: status %d, complete %u, end %d", row->why, asking.status,
			 asking.completes, (int)asking.why);
	assert_int_equal(asking.heads, row->status >= 200);
	if (strcmp(asking.body.data ? asking.body.data : "", row->body) != 0)
		fail_msg("%s: %s", row->why, asking.body.data);
	buf_fini(&asking.body);
	/* What comes behind an answer may arrive later than it. */
	if (!row->kept)
		UNTIL(rig, !upstream_pool_open(rig->pool));
	let(rig);
	if (upstream_pool_open(rig->pool) != row->kept)
		fail_msg("%s: kept %d", row->why, !row->kept);
	upstream_pool_flush(rig->pool);
	UNTIL(rig, !upstream_pool_open(rig->pool));
	close(node);
}

static void test_upstream__answers(void **state)
{
	for (size_t i = 0; i < COUNT(answers); i++) {
		answer_as(*state, &answers[i], false);
		/* Bytes behind an answer that come later are bytes on a kept connection. */
		if (strstr(answers[i].why, "behind it") == NULL)
			answer_as(*state, &answers[i], true);
	}
}

static void test_upstream__resets_are_told_from_ends(void **state)
{
	static const char *const heard[] = {"", "HTTP/1.1 200 OK\r\n",
					    "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na",
					    "HTTP/1.1 200 OK\r\n\r\nuntil the end"};
	struct rig *rig = *state;

	for (size_t i = 0; i < COUNT(heard); i++) {
		struct asking asking = {0};
		int node = ask_new(rig, &asking);

		say(node, heard[i]);
		if (strstr(heard[i], "\r\n\r\n"))
			UNTIL(rig, asking.body.len);
		reset(node);
		UNTIL(rig, !asking.alive);
		assert_int_equal(asking.completes, 0);
		assert_int_equal(asking.why, UPSTREAM_RESET);
		buf_fini(&asking.body);
		UNTIL(rig, !upstream_pool_open(rig->pool));
	}
}

/* ---- bodies of requests ---- */

#define BIG (32u << 20)

static char *big(void)
{
	char *text = malloc(BIG + 1);

	memset(text, 'b', BIG);
	text[BIG] = '\0';
	return text;
}

static void connect_only(struct rig *rig, struct asking *asking, int *node)
{
	begin(rig, asking, true);
	UNTIL(rig, asking->connected);
	*node = take(rig);
}

static void test_upstream__pieces_go_in_order(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};
	char a[] = "head ", b[] = "", c[] = "before ", d[] = "name ", e[] = "behind";
	uv_buf_t parts[UPSTREAM_PARTS] = {uv_buf_init(a, 5), uv_buf_init(b, 0), uv_buf_init(c, 7),
					  uv_buf_init(d, 5), uv_buf_init(e, 6)};
	int node;

	connect_only(rig, &asking, &node);
	upstream_send(asking.up, parts, UPSTREAM_PARTS, false);
	hear(rig, node, "head before name behind");
	upstream_drop(asking.up, false);
	close(node);
}

/* More than the socket takes: it is lent until it is sent. */
static void test_upstream__a_large_request_is_sent_bit_by_bit(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};
	char *text = big();
	size_t total = 0;
	char piece[65536];
	int node;

	connect_only(rig, &asking, &node);
	send_text(&asking, text, false);
	assert_false(upstream_sent(asking.up));
	assert_int_equal(asking.drained, 0);
	UNTIL(rig, ({
		      ssize_t n;
		      while ((n = recv(node, piece, sizeof(piece), 0)) > 0)
			      total += (size_t)n;
		      total == BIG;
	      }));
	UNTIL(rig, asking.drained == 1);
	assert_true(upstream_sent(asking.up));
	free(text);
	say(node, "HTTP/1.1 204 No Content\r\n\r\n");
	UNTIL(rig, asking.completes);
	assert_int_equal(upstream_pool_open(rig->pool), 1);
	close(node);
}

/* The node has its reasons (413, 400); what it has not read it would take for a request. */
static void test_upstream__an_early_answer_ends_the_connection(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};
	char *text = big();
	int node;

	connect_only(rig, &asking, &node);
	send_text(&asking, text, false);
	assert_false(upstream_sent(asking.up));
	say(node, "HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig");
	UNTIL(rig, asking.completes);
	free(text); /* the bytes were lent until then, and no longer */
	expect_body(&asking, "big");
	UNTIL(rig, !upstream_pool_open(rig->pool));
	close(node);
}

/* The same when all that was there has been sent, and its sender still has more. */
static void test_upstream__an_answer_before_the_end_of_the_request(void **state)
{
	static const char early[] = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
	char text[] = "POST / HTTP/1.1\r\nhost: n\r\ncontent-length: 9\r\n\r\nhalf";
	struct rig *rig = *state;

	for (unsigned whole = 0; whole < 2; whole++) {
		struct asking asking = {0};
		int node;

		connect_only(rig, &asking, &node);
		upstream_partial(asking.up, true);
		send_text(&asking, text, false);
		hear(rig, node, text);
		if (whole) {
			upstream_write(asking.up, "whole", 5);
			upstream_partial(asking.up, false);
			hear(rig, node, "whole");
		}
		say(node, early);
		UNTIL(rig, asking.completes);
		expect_body(&asking, "ok");
		let(rig);
		assert_int_equal(upstream_pool_open(rig->pool), whole);
		close(node);
		UNTIL(rig, !upstream_pool_open(rig->pool));
	}
}

static void test_upstream__dropped_while_it_sends(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};
	char *text = big();
	int node;

	connect_only(rig, &asking, &node);
	send_text(&asking, text, false);
	assert_false(upstream_sent(asking.up));
	upstream_drop(asking.up, true);
	asking.alive = false;
	free(text);
	UNTIL(rig, !upstream_pool_open(rig->pool));
	assert_int_equal(asking.drained + asking.ends, 0);
	close(node);
}

static void test_upstream__a_node_that_dies_while_it_is_sent_to(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};
	char *text = big();
	int node;

	connect_only(rig, &asking, &node);
	send_text(&asking, text, false);
	assert_false(upstream_sent(asking.up));
	reset(node);
	UNTIL(rig, asking.ends);
	free(text);
	assert_int_equal(asking.why, UPSTREAM_RESET);
	assert_int_equal(asking.drained, 0);
}

/* A streamed body: its sender has to wait, and goes on when told. */
static void test_upstream__says_when_to_wait(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};
	char *text = big(), head[] = "POST / HTTP/1.1\r\nhost: n\r\n\r\n";
	size_t sent = strlen(head), total = 0;
	char piece[65536];
	int node;

	connect_only(rig, &asking, &node);
	send_text(&asking, head, false);
	for (unsigned i = 0; i < BIG / 65536; i++) {
		sent += 65536;
		if (!upstream_write(asking.up, text, 65536))
			break;
	}
	free(text); /* what waits is copied */
	assert_true(sent < BIG);
	assert_false(upstream_sent(asking.up));
	let(rig);
	assert_int_equal(asking.drained, 0);
	UNTIL(rig, ({
		      ssize_t n;
		      while ((n = recv(node, piece, sizeof(piece), 0)) > 0)
			      total += (size_t)n;
		      asking.drained;
	      }));
	assert_int_equal(asking.drained, 1);
	assert_true(upstream_write(asking.up, "last", 4));
	UNTIL(rig, ({
		      ssize_t n;
		      while ((n = recv(node, piece, sizeof(piece), 0)) > 0)
			      total += (size_t)n;
		      total == sent + 4;
	      }));
	assert_memory_equal(piece, "last", 4);
	upstream_drop(asking.up, false);
	close(node);
}

/* ---- tunnels ---- */

#define SWITCHING "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"

static void test_upstream__a_tunnel(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};
	size_t total = 0;
	int node = ask_new(rig, &asking);

	say(node, SWITCHING "first");
	UNTIL(rig, asking.body.len == 5);
	assert_int_equal(asking.heads, 1);
	assert_true(upstream_write(asking.up, "up", 2));
	hear(rig, node, "up");
	upstream_shutdown(asking.up);
	upstream_shutdown(asking.up); /* once */
	assert_int_equal(drain(rig, node, &total), 0);
	say(node, " more"); /* the other direction is open still */
	UNTIL(rig, asking.body.len == 10);
	expect_body(&asking, "first more");
	assert_int_equal(asking.completes, 0);
	close(node);
	UNTIL(rig, asking.completes);
	UNTIL(rig, !upstream_pool_open(rig->pool));
}

static void test_upstream__a_tunnel_ends_behind_what_was_written(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};
	size_t total = 0;
	char *text = big();
	int node = ask_new(rig, &asking);

	say(node, SWITCHING);
	UNTIL(rig, asking.heads);
	upstream_write(asking.up, text, BIG);
	free(text);
	upstream_shutdown(asking.up);
	assert_int_equal(drain(rig, node, &total), 0);
	assert_int_equal(total, BIG);
	close(node);
	UNTIL(rig, !asking.alive);
	assert_int_equal(asking.completes, 1);
}

/* ---- letting go ---- */

static const struct {
	const char *why;
	enum hook hook;
	bool reset;
} hooks[] = {
	{"connected", ON_CONNECTED, false}, {"head", ON_HEAD, false},
	{"head, reset", ON_HEAD, true},	    {"body", ON_BODY, false},
	{"body, reset", ON_BODY, true},	    {"turn", ON_TURN, false},
};

static void test_upstream__dropped_in_a_callback(void **state)
{
	struct rig *rig = *state;

	for (size_t i = 0; i < COUNT(hooks); i++) {
		struct asking asking = {.drop = hooks[i].hook, .reset = hooks[i].reset};
		size_t total = 0;
		int node;

		begin(rig, &asking, true);
		UNTIL(rig, asking.connected);
		node = take(rig);
		if (asking.alive) {
			send_text(&asking, question, false);
			hear(rig, node, question);
			say(node, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab");
		}
		UNTIL(rig, !asking.alive);
		if (drain(rig, node, &total) != (hooks[i].reset ? -ECONNRESET : 0))
			fail_msg("%s: closed otherwise", hooks[i].why);
		UNTIL(rig, !upstream_pool_open(rig->pool));
		assert_int_equal(asking.completes + asking.ends, 0);
		buf_fini(&asking.body);
		close(node);
	}
}

static void test_upstream__dropped_in_the_body_of_a_whole_answer(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {.drop = ON_BODY};
	int node = ask_new(rig, &asking);

	say(node, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
	UNTIL(rig, !asking.alive);
	UNTIL(rig, !upstream_pool_open(rig->pool)); /* nor kept */
	assert_int_equal(asking.completes, 0);
	buf_fini(&asking.body);
	close(node);
}

static void test_upstream__dropped_when_drained(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {.drop = ON_DRAINED};
	char *text = big();
	size_t total = 0;
	int node;

	connect_only(rig, &asking, &node);
	send_text(&asking, text, false);
	assert_int_equal(drain(rig, node, &total), 0);
	assert_int_equal(total, BIG);
	assert_int_equal(asking.drained, 1);
	free(text);
	UNTIL(rig, !upstream_pool_open(rig->pool));
	close(node);
}

static void test_upstream__pauses(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0};
	int node = ask_new(rig, &asking);

	say(node, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab");
	UNTIL(rig, asking.body.len == 2);
	upstream_pause(asking.up, true);
	upstream_trim(asking.up);
	say(node, "cd");
	let(rig);
	assert_int_equal(asking.body.len, 2);
	upstream_pause(asking.up, false);
	UNTIL(rig, asking.completes);
	expect_body(&asking, "abcd");
	close(node);
}

/* At the end of the router: those in use end when their users let go. */
static void test_upstream__the_pool_outlives_its_users(void **state)
{
	struct rig *rig = *state;
	struct asking asking = {0}, last = {0};
	int kept = keep_one(rig), node = ask_new(rig, &asking), other = ask_new(rig, &last);

	upstream_pool_free(rig->pool);
	let(rig);
	say(node, "HTTP/1.1 204 No Content\r\n\r\n");
	UNTIL(rig, asking.completes); /* and it is not kept */
	upstream_drop(last.up, false);
	rig->pool = NULL;
	close(kept);
	close(node);
	close(other);
}

/* ---- the outbox, on a pair of sockets ---- */

struct writer {
	uv_pipe_t pipe;
	struct outbox out;
	unsigned done;
	int status;
	int peer;
};

static void on_outbox_done(struct outbox *out, int status)
{
	struct writer *writer = (void *)((char *)out - offsetof(struct writer, out));

	writer->done++;
	writer->status = status;
}

static struct writer *writer_new(struct rig *rig)
{
	struct writer *writer = calloc(1, sizeof(*writer));
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	uv_pipe_init(&rig->loop, &writer->pipe, 0);
	assert_int_equal(uv_pipe_open(&writer->pipe, fds[0]), 0);
	writer->peer = fds[1];
	writer->out.stream = (uv_stream_t *)&writer->pipe;
	writer->out.on_done = on_outbox_done;
	return writer;
}

static void writer_free(struct rig *rig, struct writer *writer)
{
	outbox_fini(&writer->out);
	uv_close((uv_handle_t *)&writer->pipe, NULL);
	let(rig);
	if (writer->peer >= 0)
		close(writer->peer);
	free(writer);
}

static int put(struct writer *writer, const char *text, size_t len)
{
	uv_buf_t piece = {.len = len};

	memcpy(&piece.base, &text, sizeof(text));
	return outbox_write(&writer->out, &piece, 1);
}

static void test_outbox__writes_at_once_what_fits(void **state)
{
	struct writer *writer = writer_new(*state);

	assert_int_equal(put(writer, "abc", 3), 0);
	assert_int_equal(put(writer, "", 0), 0);
	assert_int_equal(writer->out.unsent, 0);
	hear(*state, writer->peer, "abc");
	assert_int_equal(writer->done, 0); /* nothing has waited */
	writer_free(*state, writer);
}

/* Pieces whose bytes count up, so that order and completeness show. */
static void test_outbox__keeps_the_order(void **state)
{
	struct writer *writer = writer_new(*state);
	enum { PIECE = 10007, N = 500 };
	unsigned char *piece = malloc(PIECE), heard[4096];
	size_t total = 0, written = 0;

	for (unsigned i = 0; i < N; i++) {
		for (size_t k = 0; k < PIECE; k++)
			piece[k] = (unsigned char)((written + k) % 251);
		assert_int_equal(put(writer, (char *)piece, PIECE), 0);
		written += PIECE;
	}
	memset(piece, 0, PIECE); /* copied where it waits */
	assert_true(writer->out.unsent > 0 && writer->out.unsent < written);
	UNTIL((struct rig *)*state, ({
		      ssize_t n;
		      while ((n = recv(writer->peer, heard, sizeof(heard), 0)) > 0) {
			      for (ssize_t k = 0; k < n; k++, total++)
				      assert_int_equal(heard[k], total % 251);
		      }
		      writer->done == 1;
	      }));
	assert_int_equal(writer->status, 0);
	assert_int_equal(writer->out.unsent, 0);
	assert_null(writer->out.flight);
	while (total < written) {
		ssize_t n = recv(writer->peer, heard, sizeof(heard), 0);

		assert_true(n > 0);
		total += (size_t)n;
	}
	assert_int_equal(total, written);
	free(piece);
	writer_free(*state, writer);
}

static void test_outbox__says_that_it_is_broken(void **state)
{
	struct writer *writer = writer_new(*state);
	char *text = big();

	assert_int_equal(put(writer, text, BIG), 0);
	assert_int_equal(put(writer, "behind", 6), 0);
	assert_true(writer->out.unsent > 6);
	close(writer->peer);
	writer->peer = -1;
	UNTIL((struct rig *)*state, writer->done);
	assert_int_equal(writer->done, 1);
	assert_true(writer->status < 0);
	assert_true(put(writer, "x", 1) < 0);
	free(text);
	writer_free(*state, writer);
}

static void test_outbox__is_closed_with_bytes_in_it(void **state)
{
	struct writer *writer = writer_new(*state);
	char *text = big();

	assert_int_equal(put(writer, text, BIG), 0);
	assert_int_equal(put(writer, "behind", 6), 0);
	free(text);
	outbox_fini(&writer->out);
	uv_close((uv_handle_t *)&writer->pipe, NULL);
	let(*state);
	assert_int_equal(writer->done, 0); /* nobody is there to be told */
	close(writer->peer);
	free(writer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_upstream__refused),
		TEST(test_upstream__a_connection_that_takes_too_long),
		TEST(test_upstream__an_address_without_a_way),
		TEST(test_upstream__dropped_while_it_connects),
		TEST(test_upstream__is_kept_when_its_answer_was_whole),
		TEST(test_upstream__fresh_means_fresh),
		TEST(test_upstream__the_last_used_is_the_first_taken),
		TEST(test_upstream__another_port_is_another_place),
		TEST(test_upstream__bytes_on_a_kept_connection_close_it),
		TEST(test_upstream__a_reset_of_a_kept_connection_closes_it),
		TEST(test_upstream__is_not_kept_for_long),
		TEST(test_upstream__used_ones_have_no_limit),
		TEST(test_upstream__is_kept_with_its_eyes_open),
		TEST(test_upstream__answers),
		TEST(test_upstream__resets_are_told_from_ends),
		TEST(test_upstream__pieces_go_in_order),
		TEST(test_upstream__a_large_request_is_sent_bit_by_bit),
		TEST(test_upstream__an_early_answer_ends_the_connection),
		TEST(test_upstream__an_answer_before_the_end_of_the_request),
		TEST(test_upstream__dropped_while_it_sends),
		TEST(test_upstream__a_node_that_dies_while_it_is_sent_to),
		TEST(test_upstream__says_when_to_wait),
		TEST(test_upstream__a_tunnel),
		TEST(test_upstream__a_tunnel_ends_behind_what_was_written),
		TEST(test_upstream__dropped_in_a_callback),
		TEST(test_upstream__dropped_in_the_body_of_a_whole_answer),
		TEST(test_upstream__dropped_when_drained),
		TEST(test_upstream__pauses),
		TEST(test_upstream__the_pool_outlives_its_users),
		TEST(test_outbox__writes_at_once_what_fits),
		TEST(test_outbox__keeps_the_order),
		TEST(test_outbox__says_that_it_is_broken),
		TEST(test_outbox__is_closed_with_bytes_in_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
