/* SPDX-License-Identifier: MIT */
/* Following the controller: a control server of the test in the same loop, on a unix socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "base/log.h"
#include "net/server.h"
#include "proxy/follow.h"

#define DEADLINE_MS 5000

struct rig {
	uv_loop_t loop;
	uv_timer_t wake;
	char dir[64], control[128];
	struct server *server;
	struct follow *follow;
	struct exchange *stream; /* of the follower, when it has come */
	unsigned streams;
	unsigned plans, loads, reports;
	uint64_t version; /* of the last plan */
	size_t aliases;	  /* of its catalog */
	unsigned keys;	  /* lines that had some */
	bool admits;	  /* the last ones take "sk-example" */
	uint32_t pairs[2][2];
	size_t n_pairs;
	struct buf report; /* body of the last one */
	bool tells;	   /* answers bring counts */
	bool silent;	   /* reports get no answer */
	uint32_t served;
};

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
		while (!(condition) && turn(rig, begin_)) \
			; \
		if (!(condition)) \
			fail_msg("not within %d ms: %s", DEADLINE_MS, #condition); \
	} while (0)

static void let(struct rig *rig, uint64_t ms)
{
	uint64_t begin = uv_now(&rig->loop);

	while (uv_now(&rig->loop) - begin < ms)
		uv_run(&rig->loop, UV_RUN_ONCE);
}

/* ---- the controller ---- */

static void on_request(void *arg, struct exchange *exchange)
{
	struct rig *rig = arg;
	const char *path = exchange_path(exchange), *body;
	size_t len;

	if (strcmp(path, "/v1/plan") == 0) {
		assert_string_equal(exchange_query(exchange, "follow"), "1");
		assert_int_equal(strtol(exchange_query(exchange, "pid"), NULL, 10), getpid());
		rig->streams++;
		rig->stream = exchange;
		exchange_begin(exchange, 200, "application/x-ndjson", NULL);
		return;
	}
	assert_string_equal(path, "/v1/load");
	assert_string_equal(exchange_head(exchange)->method, "POST");
	body = exchange_body(exchange, &len);
	buf_clear(&rig->report);
	buf_add(&rig->report, body, len);
	rig->reports++;
	if (rig->silent)
		return;
	if (rig->tells)
		exchange_answer(exchange, 200, "application/json", "{\"load\":[[5,6]]}", 16, NULL);
	else
		exchange_answer(exchange, 200, "application/json", "{}", 2, NULL);
}

static void on_abandoned(void *arg, struct exchange *exchange)
{
	struct rig *rig = arg;

	if (exchange == rig->stream)
		rig->stream = NULL;
}

static void controller_start(struct rig *rig)
{
	const struct server_options options = {
		.max_body = 65536,
		.on_request = on_request,
		.on_abandoned = on_abandoned,
		.arg = rig,
	};

	rig->server = server_new(&rig->loop, &options);
	assert_int_equal(server_listen_unix(rig->server, rig->control, 0600, -1), 0);
}

static void controller_end(struct rig *rig)
{
	rig->stream = NULL;
	server_free(rig->server);
	rig->server = NULL;
}

static void tell(struct rig *rig, const char *text)
{
	exchange_write(rig->stream, text, strlen(text));
}

/* ---- the follower ---- */

static void on_plan(void *arg, struct plan *plan, struct catalog *catalog, struct keys *keys)
{
	struct rig *rig = arg;

	assert_non_null(catalog);
	rig->plans++;
	rig->version = plan->version;
	rig->aliases = catalog->n_aliases;
	rig->keys += keys != NULL;
	rig->admits = keys_accept(keys, "sk-example", 10);
	plan_free(plan);
	catalog_free(catalog);
	keys_free(keys);
}

static void on_load(void *arg, const uint32_t (*pairs)[2], size_t count)
{
	struct rig *rig = arg;

	rig->loads++;
	rig->n_pairs = count;
	memcpy(rig->pairs, pairs, (count < 2 ? count : 2) * sizeof(*pairs));
}

static bool on_report(void *arg, struct buf *body)
{
	const struct rig *rig = arg;

	if (!rig->plans)
		return false;
	buf_puts(body, "{\"busy\":[1]}");
	return true;
}

static void on_fresh(void *arg, uint32_t ticket)
{
	struct rig *rig = arg;

	rig->served = ticket;
}

static const struct follow_events events = {
	.on_plan = on_plan,
	.on_load = on_load,
	.on_fresh = on_fresh,
	.on_report = on_report,
};

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	log_init("test", LOG_ERROR);
	snprintf(rig->dir, sizeof(rig->dir), "/tmp/test_follow.XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	snprintf(rig->control, sizeof(rig->control), "%s/control.sock", rig->dir);
	uv_loop_init(&rig->loop);
	uv_timer_init(&rig->loop, &rig->wake);
	uv_timer_start(&rig->wake, on_wake, 5, 5);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	follow_free(rig->follow);
	if (rig->server)
		controller_end(rig);
	uv_close((uv_handle_t *)&rig->wake, NULL);
	uv_run(&rig->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&rig->loop), 0);
	unlink(rig->control);
	rmdir(rig->dir);
	buf_fini(&rig->report);
	free(rig);
	return 0;
}

#define PLAN_PART(version) \
	"\"plan\":{\"version\":" #version ",\"queue_ms\":100,\"endpoints\":[],\"rows\":[]}"
#define CATALOG \
	"\"catalog\":{\"settings\":{\"address\":\"127.0.0.1\",\"port\":4000,\"keys_required\":" \
	"false," \
	"\"max_body\":1,\"queue_ms\":1,\"queue_length\":1,\"first_byte_timeout_ms\":1,\"head_" \
	"max\":1," \
	"\"fields_max\":8,\"head_timeout_ms\":1,\"idle_timeout_ms\":1},\"aliases\":[{\"name\":" \
	"\"a\"," \
	"\"session\":false,\"targets\":[{\"persona\":\"p\",\"model\":null}]}],\"models\":[]," \
	"\"said\":[]}"
/* (head -c 16 /dev/zero; printf sk-example) | sha256sum */
#define KEYS \
	"\"keys\":{\"salt\":\"00000000000000000000000000000000\",\"digests\":[" \
	"\"7e86af9dea00536ad280cd07f88610a74b9be6c0f789bf16e400d164cc52163d\"]}"
#define PLAN(version) "{" PLAN_PART(version) "," CATALOG "}\n"

static void start(struct rig *rig)
{
	controller_start(rig);
	rig->follow = follow_new(&rig->loop, rig->control, &events, rig);
	assert_non_null(rig->follow);
	UNTIL(rig, rig->stream);
}

static void test_follow__plans_and_loads_in_any_pieces(void **state)
{
	struct rig *rig = *state;

	start(rig);
	tell(rig, "{\"plan\":{\"version\":1,\"queue_ms\":100,\"endp");
	let(rig, 30);
	assert_int_equal(rig->plans, 0);
	tell(rig, "oints\":[],\"rows\":[]}," CATALOG "}\n" PLAN(2) "{\"load\":[[1,2],[3,4]]}\n");
	UNTIL(rig, rig->loads == 1);
	assert_int_equal(rig->plans, 2);
	assert_int_equal(rig->version, 2);
	assert_int_equal(rig->n_pairs, 2);
	assert_int_equal(rig->pairs[0][0], 1);
	assert_int_equal(rig->pairs[1][1], 4);
	assert_int_equal(rig->streams, 1);
}

static void test_follow__lines_of_a_kind_to_come_are_ignored(void **state)
{
	struct rig *rig = *state;

	start(rig);
	tell(rig, "{\"weather\":\"fine\"}\n" PLAN(3));
	UNTIL(rig, rig->plans == 1);
	assert_int_equal(rig->streams, 1);
}

static void test_follow__catalog_and_keys_come_with_the_plan(void **state)
{
	struct rig *rig = *state;

	start(rig);
	tell(rig, PLAN(1));
	UNTIL(rig, rig->plans == 1);
	assert_int_equal(rig->aliases, 1);
	assert_int_equal(rig->keys, 0);
	tell(rig, "{" PLAN_PART(2) "," CATALOG "," KEYS "}\n");
	UNTIL(rig, rig->plans == 2);
	assert_int_equal(rig->keys, 1);
	assert_true(rig->admits);
}

static void test_follow__garbage_ends_the_stream_and_another_is_tried(void **state)
{
	static const char *const garbage[] = {
		"no json\n",
		"{\"plan\":{\"version\":1}}\n",
		"{" PLAN_PART(1) "}\n", /* no catalog */
		"{" PLAN_PART(1) ",\"catalog\":{}}\n",
		"{" PLAN_PART(1) "," CATALOG ",\"keys\":null}\n",
		"{" PLAN_PART(1) "," CATALOG ",\"keys\":{\"salt\":\"\",\"digests\":[]}}\n",
		"{\"load\":[[1]]}\n",
		"{\"load\":[[-1,0]]}\n",
	};
	struct rig *rig = *state;

	start(rig);
	for (unsigned i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		UNTIL(rig, rig->stream);
		tell(rig, garbage[i]);
		UNTIL(rig, rig->streams == i + 2);
	}
	assert_int_equal(rig->plans + rig->loads, 0);
}

static void test_follow__comes_back_when_the_controller_does(void **state)
{
	struct rig *rig = *state;

	start(rig);
	tell(rig, PLAN(4));
	UNTIL(rig, rig->plans == 1);
	controller_end(rig);
	let(rig, 300);
	controller_start(rig);
	UNTIL(rig, rig->stream);
	tell(rig, PLAN(5));
	UNTIL(rig, rig->plans == 2);
	assert_int_equal(rig->version, 5);
}

static void test_follow__starts_before_the_controller(void **state)
{
	struct rig *rig = *state;

	rig->follow = follow_new(&rig->loop, rig->control, &events, rig);
	let(rig, 150);
	controller_start(rig);
	UNTIL(rig, rig->stream);
	tell(rig, PLAN(6));
	UNTIL(rig, rig->plans == 1);
}

static void test_follow__reports_each_second_and_ten_times_at_most(void **state)
{
	struct rig *rig = *state;
	uint64_t begin;

	start(rig);
	let(rig, 50);
	assert_int_equal(rig->reports, 0); /* nothing to say before the first plan */
	tell(rig, PLAN(7));
	UNTIL(rig, rig->reports == 1);
	assert_string_equal(rig->report.data, "{\"busy\":[1]}");
	UNTIL(rig, rig->reports == 2); /* by itself */
	begin = uv_now(&rig->loop);
	while (rig->reports < 5 && turn(rig, begin))
		follow_touch(rig->follow);
	assert_true(uv_now(&rig->loop) - begin >= 250); /* 3 reports: 100 ms apart */
	assert_true(uv_now(&rig->loop) - begin < 900);
}

static void test_follow__what_cannot_wait_goes_out_at_once(void **state)
{
	struct rig *rig = *state;
	uint64_t begin;

	start(rig);
	tell(rig, PLAN(7));
	UNTIL(rig, rig->reports == 2);
	begin = uv_now(&rig->loop);
	follow_hurry(rig->follow);
	UNTIL(rig, rig->reports == 3);
	assert_true(uv_now(&rig->loop) - begin < 90); /* a touch would wait for 100 ms */
}

static void test_follow__counts_of_now_when_asked(void **state)
{
	struct rig *rig = *state;
	uint32_t first, second;
	unsigned reports;

	rig->tells = true;
	start(rig);
	assert_int_equal(follow_refresh(rig->follow), 0); /* it is not known to tell */
	tell(rig, PLAN(8));
	UNTIL(rig, rig->loads == 1);
	assert_int_equal(rig->pairs[0][1], 6);
	reports = rig->reports;
	first = follow_refresh(rig->follow);
	assert_true(first > 0);
	assert_int_equal(follow_refresh(rig->follow), first); /* one question for both */
	UNTIL(rig, rig->reports == reports + 1);
	second = follow_refresh(rig->follow); /* the question is under way: this is another */
	assert_int_equal(second, first + 1);
	UNTIL(rig, rig->served == first);
	UNTIL(rig, rig->served == second);
	assert_int_equal(rig->reports, reports + 2);
}

static void test_follow__nobody_waits_for_a_controller_that_is_stuck(void **state)
{
	struct rig *rig = *state;
	uint64_t begin;
	uint32_t ticket;

	rig->tells = true;
	start(rig);
	tell(rig, PLAN(9));
	UNTIL(rig, rig->loads == 1);
	rig->silent = true;
	begin = uv_now(&rig->loop);
	ticket = follow_refresh(rig->follow);
	UNTIL(rig, rig->served == ticket);
	assert_true(uv_now(&rig->loop) - begin < 600);
	assert_int_equal(follow_refresh(rig->follow), 0); /* not again */
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_follow__plans_and_loads_in_any_pieces),
		TEST(test_follow__lines_of_a_kind_to_come_are_ignored),
		TEST(test_follow__catalog_and_keys_come_with_the_plan),
		TEST(test_follow__garbage_ends_the_stream_and_another_is_tried),
		TEST(test_follow__comes_back_when_the_controller_does),
		TEST(test_follow__starts_before_the_controller),
		TEST(test_follow__what_cannot_wait_goes_out_at_once),
		TEST(test_follow__counts_of_now_when_asked),
		TEST(test_follow__nobody_waits_for_a_controller_that_is_stuck),
		TEST(test_follow__reports_each_second_and_ten_times_at_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
