/* SPDX-License-Identifier: MIT */
/*
 * The fallback listener over loopback: clients and nodes are plain sockets of the test, the plan is
 * made by hand. Waits are for conditions, with a deadline; the only measured times are the
 * product's own.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "core/choose.h"
#include "base/json.h"
#include "proxy/fallback.h"
#include "proxy/view.h"

#define DEADLINE_MS 5000
#define NODES	    3

struct rig {
	uv_loop_t loop;
	uv_timer_t wake; /* so that a turn of the loop ends */
	struct view view;
	struct fallback *fallback;
	uint16_t port;	 /* the persona's */
	int node[NODES]; /* listening sockets */
	uint16_t node_port[NODES];
	struct plan *plan; /* the one in force, not ours any more */
	unsigned changes;
	bool fresh; /* the kernel can be asked */
	uint32_t ticket;
};

/* ---- sockets ---- */

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static int listen_on(uint16_t *port, int backlog)
{
	struct sockaddr_in address = loopback(*port);
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	*port = ntohs(address.sin_port);
	return fd;
}

/* Below those that the kernel gives to clients: nobody takes it before we do. */
static uint16_t free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	uint16_t port;
	int fd, error;

	do {
		port = (uint16_t)(10000 + (uv_hrtime() / 1000 * 7919 + (uint64_t)getpid()) % 20000);
		address.sin_port = htons(port);
		fd = socket(AF_INET, SOCK_STREAM, 0);
		error = bind(fd, (struct sockaddr *)&address, sizeof(address));
		close(fd);
	} while (error);
	return port;
}

static int connect_to(uint16_t port)
{
	struct sockaddr_in address = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void reset(int fd)
{
	struct linger none = {.l_onoff = 1, .l_linger = 0};

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	close(fd);
}

/* ---- the loop ---- */

static void on_wake(uv_timer_t *timer)
{
	(void)timer;
}

static void on_busy(void *arg)
{
	struct rig *rig = arg;

	rig->changes++;
}

static uint32_t refresh(void *arg)
{
	struct rig *rig = arg;

	return rig->fresh ? ++rig->ticket : 0;
}

static const struct fallback_events events = {.on_busy = on_busy, .refresh = refresh};

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

/* The loop gets the time to do a thing that must not happen. */
static void let(struct rig *rig, uint64_t ms)
{
	uint64_t begin = uv_now(&rig->loop);

	while (uv_now(&rig->loop) - begin < ms)
		uv_run(&rig->loop, UV_RUN_ONCE);
}

static int take(struct rig *rig, size_t node)
{
	int fd = -1;

	UNTIL(rig, (fd = accept(rig->node[node], NULL, NULL)) >= 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static bool nobody_came(struct rig *rig, size_t node)
{
	return accept(rig->node[node], NULL, NULL) == -1 && errno == EAGAIN;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void hear(struct rig *rig, int fd, const char *text)
{
	char heard[256];
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

/* What recv() says when it has something to say: 0 for an end, -errno. */
static int end_of(struct rig *rig, int fd)
{
	char byte;
	ssize_t n = -1;

	UNTIL(rig, (n = recv(fd, &byte, 1, 0)) >= 0 || errno != EAGAIN);
	return n < 0 ? -errno : (int)n;
}

static const struct fallback_counts *counts(const struct rig *rig)
{
	return fallback_counts(rig->fallback);
}

/* ---- the plan ---- */

static struct plan *plan_of(const struct rig *rig, size_t n)
{
	struct plan *plan = calloc(1, sizeof(*plan));

	plan->version = 7;
	plan->queue_ms = 3000;
	plan->n_endpoints = n;
	plan->endpoints = calloc(n + 1, sizeof(*plan->endpoints));
	for (size_t i = 0; i < n; i++) {
		struct plan_endpoint *endpoint = &plan->endpoints[i];

		snprintf(endpoint->node, sizeof(endpoint->node), "node-%zu", i);
		snprintf(endpoint->service, sizeof(endpoint->service), "llm");
		addr_parse(&endpoint->addr, "127.0.0.1");
		endpoint->port = rig->node_port[i];
		endpoint->engine = ENGINE_TCP;
		endpoint->state = MG_NODE_UP;
		endpoint->weight = 100;
		endpoint->idle_ms = 60000;
	}
	plan->n_rows = 1;
	plan->rows = calloc(1, sizeof(*plan->rows));
	snprintf(plan->rows[0].persona, sizeof(plan->rows[0].persona), "cruncher");
	snprintf(plan->rows[0].service, sizeof(plan->rows[0].service), "llm");
	plan->rows[0].port = rig->port;
	plan->rows[0].n_tiers = 1;
	plan->rows[0].tiers = calloc(1, sizeof(*plan->rows[0].tiers));
	plan->rows[0].tiers[0].n_endpoints = n;
	plan->rows[0].tiers[0].endpoints = calloc(n + 1, sizeof(uint32_t));
	for (size_t i = 0; i < n; i++)
		plan->rows[0].tiers[0].endpoints[i] = (uint32_t)i;
	return plan;
}

static void set_plan(struct rig *rig, struct plan *plan)
{
	size_t *moved;

	rig->plan = plan;
	assert_int_equal(view_set_plan(&rig->view, plan, NULL, NULL, &moved), 0);
	fallback_moved(rig->fallback, moved);
	free(moved);
}

/* What the kernel counts: busy and connections of each endpoint. */
static void set_load(struct rig *rig, const uint32_t (*pairs)[2], size_t n)
{
	for (size_t i = 0; i < n; i++)
		view_set_load(&rig->view, i, pairs[i][0], pairs[i][1]);
	fallback_room(rig->fallback);
}

/* What would be reported to the controller. False: nothing. */
static bool report(const struct rig *rig, struct buf *out)
{
	struct json_writer w = {.out = out};
	bool some;

	json_begin(&w, '{');
	some = view_report(&rig->view, &w);
	json_end(&w, '}');
	return some;
}

static int set_up_with(void **state, size_t max_relays)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	signal(SIGPIPE, SIG_IGN);
	log_init("test", LOG_ERROR);
	uv_loop_init(&rig->loop);
	uv_timer_init(&rig->loop, &rig->wake);
	uv_timer_start(&rig->wake, on_wake, 1, 1);
	for (size_t i = 0; i < NODES; i++)
		rig->node[i] = listen_on(&rig->node_port[i], 512);
	rig->port = free_port();
	rig->fallback = fallback_new(&rig->loop, &rig->view, max_relays, &events, rig);
	*state = rig;
	return rig->fallback ? 0 : -1;
}

static int set_up(void **state)
{
	return set_up_with(state, 1000);
}

static int set_up_one(void **state)
{
	return set_up_with(state, 1);
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	fallback_free(rig->fallback);
	uv_close((uv_handle_t *)&rig->wake, NULL);
	uv_run(&rig->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&rig->loop), 0); /* no handle was forgotten */
	view_fini(&rig->view);
	for (size_t i = 0; i < NODES; i++)
		close(rig->node[i]);
	free(rig);
	return 0;
}

/* ---- bytes ---- */

static void test_relay__half_close_goes_through(void **state)
{
	struct rig *rig = *state;
	int client, node;

	set_plan(rig, plan_of(rig, 1));
	client = connect_to(rig->port);
	say(client, "ask");
	shutdown(client, SHUT_WR);
	node = take(rig, 0);
	hear(rig, node, "ask");
	assert_int_equal(end_of(rig, node), 0);
	say(node, "answer after the end of the question");
	hear(rig, client, "answer after the end of the question");
	close(node);
	assert_int_equal(end_of(rig, client), 0);
	close(client);
	UNTIL(rig, counts(rig)->open == 0);
	assert_int_equal(counts(rig)->complete, 1);
	assert_int_equal(counts(rig)->relayed, 1);
}

static void test_relay__end_of_the_node_goes_through(void **state)
{
	struct rig *rig = *state;
	int client, node;

	set_plan(rig, plan_of(rig, 1));
	client = connect_to(rig->port);
	node = take(rig, 0);
	say(node, "hello");
	shutdown(node, SHUT_WR);
	hear(rig, client, "hello");
	assert_int_equal(end_of(rig, client), 0);
	say(client, "still here");
	hear(rig, node, "still here");
	close(client);
	assert_int_equal(end_of(rig, node), 0);
	close(node);
	UNTIL(rig, counts(rig)->open == 0);
}

static void test_relay__reset_of_the_node_reaches_the_client(void **state)
{
	struct rig *rig = *state;
	int client, node;

	set_plan(rig, plan_of(rig, 1));
	client = connect_to(rig->port);
	node = take(rig, 0);
	say(node, "half an ans");
	hear(rig, client, "half an ans");
	reset(node);
	assert_int_equal(end_of(rig, client), -ECONNRESET);
	close(client);
	UNTIL(rig, counts(rig)->open == 0);
	assert_int_equal(counts(rig)->node_broke, 1);
}

/* libuv reports both at once as a clean end. */
static void test_relay__data_and_reset_in_one_event_are_no_clean_end(void **state)
{
	struct rig *rig = *state;
	int client, node, end;

	set_plan(rig, plan_of(rig, 1));
	client = connect_to(rig->port);
	node = take(rig, 0);
	UNTIL(rig, counts(rig)->relayed == 1);
	say(node, "half an ans");
	reset(node);
	do
		end = end_of(rig, client); /* some of the data may come through */
	while (end > 0);
	assert_int_equal(end, -ECONNRESET);
	close(client);
	UNTIL(rig, counts(rig)->open == 0);
	assert_int_equal(counts(rig)->node_broke, 1);
}

static void test_relay__reset_reaches_a_client_that_has_half_closed(void **state)
{
	struct rig *rig = *state;
	int client, node;

	set_plan(rig, plan_of(rig, 1));
	client = connect_to(rig->port);
	shutdown(client, SHUT_WR);
	node = take(rig, 0);
	assert_int_equal(end_of(rig, node), 0);
	say(node, "half an ans");
	hear(rig, client, "half an ans");
	reset(node);
	assert_int_equal(end_of(rig, client), -ECONNRESET);
	close(client);
	UNTIL(rig, counts(rig)->open == 0);
}

static int error_of(int fd)
{
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	return error;
}

static void test_relay__reset_reaches_a_side_that_was_told_the_end(void **state)
{
	struct rig *rig = *state;
	int client, node;

	set_plan(rig, plan_of(rig, 1));
	client = connect_to(rig->port);
	node = take(rig, 0);
	shutdown(node, SHUT_WR);
	assert_int_equal(end_of(rig, client), 0);
	reset(node);
	say(client, "is there anybody?"); /* shows the relay that the node has gone */
	UNTIL(rig, error_of(client) == EPIPE);
	close(client);
	UNTIL(rig, counts(rig)->open == 0);
	assert_int_equal(counts(rig)->node_broke, 1);
}

static void test_relay__reset_of_the_client_reaches_the_node(void **state)
{
	struct rig *rig = *state;
	int client, node;

	set_plan(rig, plan_of(rig, 1));
	client = connect_to(rig->port);
	say(client, "ask");
	node = take(rig, 0);
	hear(rig, node, "ask");
	reset(client);
	assert_int_equal(end_of(rig, node), -ECONNRESET);
	close(node);
	UNTIL(rig, counts(rig)->open == 0);
	assert_int_equal(counts(rig)->client_broke, 1);
}

/* Sends until nothing more goes for a while; bytes are their position. */
static size_t pour(struct rig *rig, int fd, size_t from, size_t max)
{
	unsigned stuck = 0;
	char piece[4096];

	while (from < max && stuck < 50) {
		ssize_t n;

		for (size_t i = 0; i < sizeof(piece); i++)
			piece[i] = (char)((from + i) % 251);
		n = send(fd, piece, max - from < sizeof(piece) ? max - from : sizeof(piece),
			 MSG_NOSIGNAL);
		if (n > 0) {
			from += (size_t)n;
			stuck = 0;
			continue;
		}
		stuck++;
		uv_run(&rig->loop, UV_RUN_ONCE);
	}
	return from;
}

static size_t drain_and_check(int fd, size_t at)
{
	char piece[4096];
	ssize_t n;

	while ((n = recv(fd, piece, sizeof(piece), 0)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal((unsigned char)piece[i], (at + (size_t)i) % 251);
		at += (size_t)n;
	}
	return at;
}

static void test_relay__slow_client_holds_the_node_back(void **state)
{
	const size_t much = 64u << 20; /* more than all sockets on the way hold */
	struct rig *rig = *state;
	size_t sent, got = 0;
	int client, node;

	set_plan(rig, plan_of(rig, 1));
	client = connect_to(rig->port);
	node = take(rig, 0);
	sent = pour(rig, node, 0, much);
	assert_true(sent < much);
	UNTIL(rig, (got = drain_and_check(client, got)) == sent); /* not one byte lost or changed */
	say(client, "go on");
	hear(rig, node, "go on");
	close(client);
	close(node);
	UNTIL(rig, counts(rig)->open == 0);
}

static void test_relay__what_a_slow_client_has_not_read_yet_comes_before_the_end(void **state)
{
	struct rig *rig = *state;
	size_t sent, got = 0;
	int client, node;

	set_plan(rig, plan_of(rig, 1));
	client = connect_to(rig->port);
	node = take(rig, 0);
	sent = pour(rig, node, 0, 64u << 20);
	shutdown(node, SHUT_WR);
	UNTIL(rig, (got = drain_and_check(client, got)) == sent);
	assert_int_equal(end_of(rig, client), 0);
	close(client);
	close(node);
	UNTIL(rig, counts(rig)->open == 0);
}

/* ---- which node ---- */

static void test_relay__nobody_up_is_refused_at_once(void **state)
{
	struct rig *rig = *state;
	struct plan *plan = plan_of(rig, 2);
	uint64_t begin;
	int client;

	plan->endpoints[0].state = MG_NODE_DOWN;
	plan->endpoints[1].state = MG_NODE_DRAIN;
	set_plan(rig, plan);
	begin = uv_hrtime();
	client = connect_to(rig->port);
	assert_int_equal(end_of(rig, client), -ECONNRESET);
	assert_true(uv_hrtime() - begin < 200u * 1000000);
	assert_int_equal(counts(rig)->refused[FALLBACK_NOBODY], 1);
	close(client);
}

static void test_relay__prefers_the_idle_node(void **state)
{
	struct rig *rig = *state;
	uint32_t kernel[2][2] = {{2, 2}, {0, 0}};
	int client, node;

	set_plan(rig, plan_of(rig, 2));
	set_load(rig, (const uint32_t(*)[2])kernel, 2);
	client = connect_to(rig->port);
	node = take(rig, 1);
	close(client);
	close(node);
}

static void test_relay__a_node_that_refuses_is_passed_over(void **state)
{
	struct rig *rig = *state;
	struct plan *plan = plan_of(rig, 2);
	int client, node, other, second;

	plan->endpoints[0].weight = 1000; /* would be the first choice each time */
	close(rig->node[0]);
	rig->node[0] = -1;
	set_plan(rig, plan);
	client = connect_to(rig->port);
	say(client, "ask");
	node = take(rig, 1);
	hear(rig, node, "ask");
	assert_int_equal(counts(rig)->retried, 1);
	second = connect_to(rig->port); /* by now it is known */
	other = take(rig, 1);
	assert_int_equal(counts(rig)->retried, 1);
	close(client);
	close(second);
	close(node);
	close(other);
}

static void test_relay__a_node_that_does_not_answer_is_passed_over(void **state)
{
	struct rig *rig = *state;
	struct plan *plan = plan_of(rig, 2);
	uint16_t port = 0;
	int deaf = listen_on(&port, 0), filler[8], client, node;
	struct sockaddr_in address = loopback(port);

	for (size_t i = 0; i < 8; i++) { /* its backlog is full: SYNs get no answer */
		filler[i] = socket(AF_INET, SOCK_STREAM, 0);
		fcntl(filler[i], F_SETFL, O_NONBLOCK);
		connect(filler[i], (struct sockaddr *)&address, sizeof(address));
	}
	plan->endpoints[0].port = port;
	plan->endpoints[0].weight = 1000;
	set_plan(rig, plan);
	client = connect_to(rig->port);
	say(client, "ask");
	shutdown(client, SHUT_WR); /* all of it comes before there is a node */
	node = take(rig, 1);
	hear(rig, node, "ask");
	assert_int_equal(end_of(rig, node), 0);
	assert_int_equal(counts(rig)->retried, 1);
	for (size_t i = 0; i < 8; i++)
		close(filler[i]);
	close(deaf);
	close(client);
	close(node);
}

static void test_relay__every_node_refuses(void **state)
{
	struct rig *rig = *state;
	int client;

	for (size_t i = 0; i < 2; i++) {
		close(rig->node[i]);
		rig->node[i] = -1;
	}
	set_plan(rig, plan_of(rig, 2));
	client = connect_to(rig->port);
	assert_int_equal(end_of(rig, client), -ECONNRESET);
	assert_int_equal(counts(rig)->refused[FALLBACK_UNREACHABLE], 1);
	close(client);
}

static void test_view__never_the_same_node_twice(void **state)
{
	struct rig *rig = *state;
	struct plan *plan = plan_of(rig, 2);
	struct view_ask ask = {.row = &plan->rows[0], .hash = 1, .now_ms = 1500};
	struct view view = {0};
	size_t *moved, endpoint, tried[] = {0, VIEW_GONE};

	plan->endpoints[0].weight = 1000;
	assert_int_equal(view_set_plan(&view, plan, NULL, NULL, &moved), 0);
	view_suspect(&view, 0, 1000);
	assert_int_equal(view_pick(&view, &ask, &endpoint), VIEW_TAKEN);
	assert_int_equal(endpoint, 1); /* under suspicion */
	ask.now_ms = 5000;
	assert_int_equal(view_pick(&view, &ask, &endpoint), VIEW_TAKEN);
	assert_int_equal(endpoint, 0); /* no more */
	ask.tried = tried;
	ask.n_tried = 2;
	assert_int_equal(view_pick(&view, &ask, &endpoint), VIEW_TAKEN);
	assert_int_equal(endpoint, 1); /* but not for the one that has tried it */
	view_suspect(&view, 0, 5000);
	view_suspect(&view, 1, 5000);
	ask.n_tried = 0;
	assert_int_equal(view_pick(&view, &ask, &endpoint), VIEW_TAKEN);
	assert_int_equal(endpoint, 0); /* nobody else */
	tried[1] = 1;
	ask.n_tried = 2;
	assert_int_equal(view_pick(&view, &ask, &endpoint), VIEW_NOBODY);
	view_fini(&view);
}

/* ---- room ---- */

/* One node with room for one; a client holds it. */
static void fill(struct rig *rig, uint32_t idle_ms, uint32_t queue_ms, int *client, int *node)
{
	struct plan *plan = plan_of(rig, 1);

	plan->endpoints[0].capacity = 1;
	plan->endpoints[0].idle_ms = idle_ms;
	plan->queue_ms = queue_ms;
	set_plan(rig, plan);
	*client = connect_to(rig->port);
	say(*client, "first");
	*node = take(rig, 0);
	hear(rig, *node, "first");
}

static void test_queue__waits_for_room_in_order(void **state)
{
	struct rig *rig = *state;
	int first, second, third, node, next;

	fill(rig, 60000, 3000, &first, &node);
	second = connect_to(rig->port);
	say(second, "second");
	UNTIL(rig, counts(rig)->queued == 1);
	third = connect_to(rig->port);
	say(third, "third");
	UNTIL(rig, counts(rig)->queued == 2);
	assert_true(nobody_came(rig, 0));
	close(first);
	close(node);
	next = take(rig, 0);
	hear(rig, next, "second");
	assert_int_equal(counts(rig)->queued, 1);
	close(second);
	close(next);
	next = take(rig, 0);
	hear(rig, next, "third");
	close(third);
	close(next);
	UNTIL(rig, counts(rig)->open == 0);
}

static void test_queue__a_place_is_given_up_after_queue_ms(void **state)
{
	struct rig *rig = *state;
	int first, second, node;
	uint64_t begin;

	fill(rig, 60000, 300, &first, &node);
	begin = uv_hrtime();
	second = connect_to(rig->port);
	assert_int_equal(end_of(rig, second), -ECONNRESET);
	assert_true(uv_hrtime() - begin >= 250u * 1000000);
	assert_int_equal(counts(rig)->refused[FALLBACK_QUEUE_TIMEOUT], 1);
	close(first);
	close(second);
	close(node);
}

static void test_queue__who_leaves_frees_the_place(void **state)
{
	struct rig *rig = *state;
	int first, second, third, node;

	fill(rig, 60000, 3000, &first, &node);
	second = connect_to(rig->port);
	third = connect_to(rig->port);
	UNTIL(rig, counts(rig)->queued == 2);
	say(second, "and a question");
	close(second); /* an end */
	UNTIL(rig, counts(rig)->queued == 1);
	reset(third);
	UNTIL(rig, counts(rig)->queued == 0);
	assert_int_equal(counts(rig)->left, 2);
	close(first);
	close(node);
	UNTIL(rig, counts(rig)->open == 0);
	assert_true(nobody_came(rig, 0));
}

static void test_queue__is_bounded(void **state)
{
	struct rig *rig = *state;
	int waiting[FALLBACK_QUEUE_MAX], first, last, node;

	fill(rig, 60000, 3000, &first, &node);
	for (size_t i = 0; i < FALLBACK_QUEUE_MAX; i++)
		waiting[i] = connect_to(rig->port);
	UNTIL(rig, counts(rig)->queued == FALLBACK_QUEUE_MAX);
	last = connect_to(rig->port);
	assert_int_equal(end_of(rig, last), -ECONNRESET);
	assert_int_equal(counts(rig)->refused[FALLBACK_QUEUE_FULL], 1);
	for (size_t i = 0; i < FALLBACK_QUEUE_MAX; i++)
		close(waiting[i]);
	close(first);
	close(last);
	close(node);
}

static void test_queue__nobody_left_up_ends_the_wait(void **state)
{
	struct rig *rig = *state;
	struct plan *plan;
	int first, second, node;

	fill(rig, 60000, 3000, &first, &node);
	second = connect_to(rig->port);
	UNTIL(rig, counts(rig)->queued == 1);
	plan = plan_of(rig, 1);
	plan->endpoints[0].state = MG_NODE_DOWN;
	set_plan(rig, plan);
	assert_int_equal(end_of(rig, second), -ECONNRESET);
	assert_int_equal(counts(rig)->refused[FALLBACK_NOBODY], 1);
	say(first, ", and on"); /* who is there stays there */
	hear(rig, node, ", and on");
	close(first);
	close(second);
	close(node);
}

static void test_queue__counts_of_the_kernel_are_room_too(void **state)
{
	struct rig *rig = *state;
	struct plan *plan = plan_of(rig, 1);
	uint32_t kernel[1][2] = {{2, 2}};
	int client, node;

	plan->endpoints[0].capacity = 2;
	set_plan(rig, plan);
	set_load(rig, (const uint32_t(*)[2])kernel, 1);
	client = connect_to(rig->port);
	UNTIL(rig, counts(rig)->queued == 1);
	kernel[0][0] = 1;
	set_load(rig, (const uint32_t(*)[2])kernel, 1);
	node = take(rig, 0);
	close(client);
	close(node);
}

static void test_queue__the_kernel_is_asked_before_a_node_is_chosen(void **state)
{
	struct rig *rig = *state;
	struct plan *plan = plan_of(rig, 1);
	uint32_t kernel[1][2] = {{1, 1}};
	int first, second, node;

	plan->endpoints[0].capacity = 1;
	set_plan(rig, plan);
	rig->fresh = true;
	first = connect_to(rig->port); /* as far as we know there is room */
	UNTIL(rig, rig->ticket == 1);
	second = connect_to(rig->port);
	UNTIL(rig, rig->ticket == 2);
	let(rig, 50);
	assert_true(nobody_came(rig, 0));
	set_load(rig, (const uint32_t(*)[2])kernel, 1);
	fallback_fresh(rig->fallback, 1);
	assert_int_equal(counts(rig)->queued, 1); /* there is none; the second has asked later */
	fallback_fresh(rig->fallback, 2);
	assert_int_equal(counts(rig)->queued, 2);
	UNTIL(rig, rig->ticket > 2); /* and is asked again while they wait */
	kernel[0][0] = 0;
	set_load(rig, (const uint32_t(*)[2])kernel, 1);
	node = take(rig, 0);
	close(first);
	close(second);
	close(node);
}

/* ---- busy ---- */

static void test_busy__ends_when_the_answer_has_been_silent(void **state)
{
	struct rig *rig = *state;
	int first, second, node, next;

	fill(rig, 150, 3000, &first, &node);
	second = connect_to(rig->port);
	UNTIL(rig, counts(rig)->queued == 1);
	let(rig, 400); /* the node thinks: much longer than idle_ms */
	assert_int_equal(counts(rig)->busy, 1);
	assert_int_equal(counts(rig)->queued, 1);
	say(node, "answer");
	hear(rig, first, "answer");
	next = take(rig, 0); /* the connection is open still, its place is not taken */
	UNTIL(rig, counts(rig)->busy == 0);
	assert_int_equal(counts(rig)->open, 2);
	say(first, "another question");
	UNTIL(rig, counts(rig)->busy == 1);
	close(first);
	close(second);
	close(node);
	close(next);
}

static void test_busy__connections_that_are_idle_do_not_fill_a_node(void **state)
{
	struct rig *rig = *state;
	struct plan *plan = plan_of(rig, 1);
	int client[5], node[5];

	plan->endpoints[0].capacity = 1;
	plan->endpoints[0].idle_ms = 100;
	set_plan(rig, plan);
	for (size_t i = 0; i < 5; i++) {
		client[i] = connect_to(rig->port);
		node[i] = take(rig, 0);
		UNTIL(rig, counts(rig)->busy == 0);
	}
	for (size_t i = 0; i < 5; i++) {
		close(client[i]);
		close(node[i]);
	}
}

static void test_busy__is_reported_by_endpoint(void **state)
{
	struct rig *rig = *state;
	uint32_t kernel[2][2] = {{5, 5}, {0, 0}};
	struct buf body = {0};
	unsigned before;
	char expected[128];
	int client, node;

	assert_false(report(rig, &body));
	buf_clear(&body);
	set_plan(rig, plan_of(rig, 2));
	set_load(rig, (const uint32_t(*)[2])kernel, 2);
	before = rig->changes;
	client = connect_to(rig->port);
	say(client, "ask");
	node = take(rig, 1);
	hear(rig, node, "ask");
	assert_true(rig->changes > before);
	assert_true(report(rig, &body));
	snprintf(expected, sizeof(expected), "{\"pid\":%d,\"plan_version\":7,\"busy\":[0,1]}",
		 (int)getpid());
	assert_string_equal(body.data, expected);
	buf_fini(&body);
	close(client);
	close(node);
}

/* ---- changes ---- */

static void test_plan__ports_follow_and_connections_stay(void **state)
{
	struct rig *rig = *state;
	uint16_t old_port = rig->port;
	struct sockaddr_in address = loopback(old_port);
	int client, node, fd;

	set_plan(rig, plan_of(rig, 1));
	client = connect_to(old_port);
	node = take(rig, 0);
	rig->port = free_port();
	set_plan(rig, plan_of(rig, 1));
	assert_int_equal(counts(rig)->listeners, 1);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	say(client, "still");
	hear(rig, node, "still");
	fd = connect_to(rig->port);
	close(take(rig, 0));
	close(fd);
	close(client);
	close(node);
}

static void test_plan__counts_go_with_their_node(void **state)
{
	struct rig *rig = *state;
	struct plan *plan;
	struct plan_endpoint swap;
	struct buf body = {0};
	int first, second, node;

	fill(rig, 60000, 3000, &first, &node);
	plan = plan_of(rig, 2); /* the node that is held is now the second endpoint */
	plan->endpoints[0].capacity = 1;
	swap = plan->endpoints[0];
	plan->endpoints[0] = plan->endpoints[1];
	plan->endpoints[1] = swap;
	set_plan(rig, plan);
	assert_true(report(rig, &body));
	assert_non_null(strstr(body.data, "[0,1]"));
	buf_fini(&body);
	second = connect_to(rig->port);
	close(take(rig, 1));
	close(first);
	close(node);
	UNTIL(rig, counts(rig)->busy == 0);
	assert_true(report(rig, &body));
	assert_non_null(strstr(body.data, "[0,0]"));
	buf_fini(&body);
	close(second);
}

static void test_plan__a_node_that_left_keeps_its_connections(void **state)
{
	struct rig *rig = *state;
	struct buf body = {0};
	struct plan *plan;
	int first, node;

	fill(rig, 60000, 3000, &first, &node);
	plan = plan_of(rig, 1);
	plan->endpoints[0].port = rig->node_port[1]; /* same name, another place: another node */
	set_plan(rig, plan);
	assert_true(report(rig, &body));
	assert_non_null(strstr(body.data, "[0]"));
	buf_fini(&body);
	say(node, "answer");
	hear(rig, first, "answer");
	close(first);
	close(node);
	UNTIL(rig, counts(rig)->open == 0);
	assert_int_equal(counts(rig)->busy, 0);
}

static void test_limit__above_it_clients_wait_to_be_accepted(void **state)
{
	struct rig *rig = *state;
	int first, second, node;

	set_plan(rig, plan_of(rig, 1));
	first = connect_to(rig->port);
	node = take(rig, 0);
	second = connect_to(rig->port);
	let(rig, 100);
	assert_int_equal(counts(rig)->accepted, 1);
	close(first);
	close(node);
	node = take(rig, 0);
	assert_int_equal(counts(rig)->accepted, 2);
	close(second);
	close(node);
}

static void test_port__taken_by_another_is_tried_again(void **state)
{
	struct rig *rig = *state;
	int holder = listen_on(&rig->port, 1), client, node;

	set_plan(rig, plan_of(rig, 1));
	assert_int_equal(counts(rig)->listeners, 0);
	close(holder);
	UNTIL(rig, counts(rig)->listeners == 1);
	client = connect_to(rig->port);
	node = take(rig, 0);
	close(client);
	close(node);
}

static void test_stop__running_ones_go_on_and_waiting_ones_are_refused(void **state)
{
	struct rig *rig = *state;
	struct sockaddr_in address = loopback(rig->port);
	int first, second, node, fd;

	fill(rig, 60000, 3000, &first, &node);
	second = connect_to(rig->port);
	UNTIL(rig, counts(rig)->queued == 1);
	fallback_stop(rig->fallback);
	assert_int_equal(counts(rig)->refused[FALLBACK_STOPPING], 1);
	assert_int_equal(end_of(rig, second), -ECONNRESET);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), -1);
	say(node, "answer");
	hear(rig, first, "answer");
	close(fd);
	close(first);
	close(second);
	close(node);
}

static void test_stop__what_is_left_at_the_end_is_reset(void **state)
{
	struct rig *rig = *state;
	int client, node;

	set_plan(rig, plan_of(rig, 1));
	client = connect_to(rig->port);
	node = take(rig, 0);
	say(node, "half an ans");
	hear(rig, client, "half an ans");
	fallback_free(rig->fallback);
	rig->fallback = NULL;
	assert_int_equal(end_of(rig, client), -ECONNRESET);
	assert_int_equal(end_of(rig, node), -ECONNRESET);
	close(client);
	close(node);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_relay__half_close_goes_through),
		TEST(test_relay__end_of_the_node_goes_through),
		TEST(test_relay__reset_of_the_node_reaches_the_client),
		TEST(test_relay__data_and_reset_in_one_event_are_no_clean_end),
		TEST(test_relay__reset_reaches_a_client_that_has_half_closed),
		TEST(test_relay__reset_reaches_a_side_that_was_told_the_end),
		TEST(test_relay__reset_of_the_client_reaches_the_node),
		TEST(test_relay__slow_client_holds_the_node_back),
		TEST(test_relay__what_a_slow_client_has_not_read_yet_comes_before_the_end),
		TEST(test_relay__nobody_up_is_refused_at_once),
		TEST(test_relay__prefers_the_idle_node),
		TEST(test_relay__a_node_that_refuses_is_passed_over),
		TEST(test_relay__a_node_that_does_not_answer_is_passed_over),
		TEST(test_relay__every_node_refuses),
		TEST(test_view__never_the_same_node_twice),
		TEST(test_queue__waits_for_room_in_order),
		TEST(test_queue__a_place_is_given_up_after_queue_ms),
		TEST(test_queue__who_leaves_frees_the_place),
		TEST(test_queue__is_bounded),
		TEST(test_queue__nobody_left_up_ends_the_wait),
		TEST(test_queue__counts_of_the_kernel_are_room_too),
		TEST(test_queue__the_kernel_is_asked_before_a_node_is_chosen),
		TEST(test_busy__ends_when_the_answer_has_been_silent),
		TEST(test_busy__connections_that_are_idle_do_not_fill_a_node),
		TEST(test_busy__is_reported_by_endpoint),
		TEST(test_plan__ports_follow_and_connections_stay),
		TEST(test_plan__counts_go_with_their_node),
		TEST(test_plan__a_node_that_left_keeps_its_connections),
		cmocka_unit_test_setup_teardown(test_limit__above_it_clients_wait_to_be_accepted,
						set_up_one, tear_down),
		TEST(test_port__taken_by_another_is_tried_again),
		TEST(test_stop__running_ones_go_on_and_waiting_ones_are_refused),
		TEST(test_stop__what_is_left_at_the_end_is_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
