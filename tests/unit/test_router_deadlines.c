/* SPDX-License-Identifier: MIT */
/*
 * The router's deadlines that are too long for a test over HTTP, and that nobody can configure: the
 * lines in which they wait are made short here. Clients are plain sockets; what they ask needs no
 * node.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "core/plan.h"
#include "core/score.h"
#include "farm.h"
#include "proxy/router_impl.h"

#define DEADLINE_MS 5000
#define WINDOW_MS   300
#define FLOOD	    (8u << 20)
#define STACK	    (128u << 10)
#define SMALL	    4096 /* what kernels shall buffer, so that little fills them */

static const char farm[] =
	"{\"gateway\": {\"datapath\": \"none\"}, \"router\": {\"listen\": \"127.0.0.1:%u\"},"
	"\"nodes\": {\"a\": {\"address\": \"10.0.0.1\", \"services\": {\"llm\": \"ollama\"}}},"
	"\"personas\": {\"p\": {\"nodes\": [\"a\"], \"listen\": {\"llm\": 9001}}},"
	"\"models\": {\"first\": [{\"persona\": \"p\"}], \"second\": \"first\"}}";

struct rig {
	uv_loop_t loop;
	uv_timer_t wake; /* so that a turn of the loop ends */
	struct view view;
	struct router *router;
	int listening;
	uint16_t port;
};

/* ---- the loop ---- */

static void on_wake(uv_timer_t *timer)
{
	(void)timer;
}

static void on_busy(void *arg)
{
	(void)arg;
}

static const struct router_events events = {.on_busy = on_busy};

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

/* ---- clients ---- */

static int listen_on(uint16_t *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fd, 16), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

/* Little fits between the two: the router's side is accepted here. */
static int connect_client(struct rig *rig)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(rig->port),
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int client = socket(AF_INET, SOCK_STREAM, 0), size = SMALL, fd;

	setsockopt(client, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
	fd = accept(rig->listening, NULL, NULL);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	fcntl(fd, F_SETFL, O_NONBLOCK);
	fcntl(client, F_SETFL, O_NONBLOCK);
	router_take(rig->router, 0, fd);
	return client;
}

static void say(int fd, const char *text, size_t len)
{
	assert_int_equal(send(fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* -EAGAIN: nothing yet; 0: the end; another error; else so many bytes, a text. */
static ssize_t hear(int fd, char *text, size_t size)
{
	ssize_t len = recv(fd, text, size - 1, 0);

	if (len < 0)
		return -errno;
	text[len] = '\0';
	return len;
}

static struct downstream *down_of(struct rig *rig)
{
	return TAILQ_FIRST(&rig->router->downs);
}

static uint64_t stalled(const struct rig *rig)
{
	return router_tally(rig->router)->refusals[TALLY_STALLED];
}

/* ---- the rig ---- */

static void set_plan(struct rig *rig, uint16_t port)
{
	struct catalog_known known = {0};
	struct catalog *catalog;
	struct model *model;
	struct score health;
	char text[1024];
	size_t *moved;

	snprintf(text, sizeof(text), farm, port);
	model = farm_load(text);
	score_init(&health);
	catalog = catalog_build(model, &known);
	assert_int_equal(view_set_plan(&rig->view, plan_build(model, &health, NULL, 0, 1), catalog,
				       NULL, &moved),
			 0);
	router_moved(rig->router, moved);
	free(moved);
	model_free(model);
}

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	uint16_t port;

	signal(SIGPIPE, SIG_IGN);
	log_init("test", LOG_ERROR);
	uv_loop_init(&rig->loop);
	uv_timer_init(&rig->loop, &rig->wake);
	uv_timer_start(&rig->wake, on_wake, 1, 1);
	rig->listening = listen_on(&rig->port);
	close(listen_on(&port)); /* a free one for the router itself */
	rig->router = router_new(&rig->loop, &rig->view, 100, &events, rig);
	assert_non_null(rig->router);
	assert_int_equal(rig->router->stalls.ms, ROUTER_STALL_MS);
	assert_int_equal(rig->router->late_bodies.ms, ROUTER_BODY_MS);
	set_plan(rig, port);
	rig->router->stalls.ms = rig->router->late_bodies.ms = WINDOW_MS;
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	router_free(rig->router);
	uv_close((uv_handle_t *)&rig->wake, NULL);
	uv_run(&rig->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&rig->loop), 0); /* no handle was forgotten */
	view_fini(&rig->view);
	close(rig->listening);
	free(rig);
	return 0;
}

/* ---- slow bodies ---- */

static const char head[] = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
			   "Content-Length: 100000\r\n\r\n{";

static void test_router_deadlines__a_body_that_does_not_come_is_408(void **state)
{
	struct rig *rig = *state;
	int client = connect_client(rig);
	uint64_t begin = uv_now(&rig->loop);
	char text[2048];
	ssize_t len;

	say(client, head, sizeof(head) - 1);
	UNTIL(rig, (len = hear(client, text, sizeof(text))) != -EAGAIN);
	assert_true(len > 0);
	assert_non_null(strstr(text, "HTTP/1.1 408 "));
	assert_non_null(strstr(text, "\"code\":\"request_timeout\""));
	assert_non_null(strstr(text, "connection: close\r\n"));
	assert_true(uv_now(&rig->loop) - begin >= WINDOW_MS);
	UNTIL(rig, hear(client, text, sizeof(text)) == 0);
	close(client);
}

/* One byte of each window is not enough, however long it goes on. */
static void test_router_deadlines__a_body_that_drips_is_408(void **state)
{
	struct rig *rig = *state;
	int client = connect_client(rig);
	uint64_t begin = uv_now(&rig->loop), next = begin;
	char text[2048];
	ssize_t len;

	say(client, head, sizeof(head) - 1);
	UNTIL(rig, ({
		      if (uv_now(&rig->loop) >= next) {
			      say(client, " ", 1);
			      next = uv_now(&rig->loop) + WINDOW_MS / 10;
		      }
		      (len = hear(client, text, sizeof(text))) != -EAGAIN;
	      }));
	assert_true(len > 0);
	assert_non_null(strstr(text, "HTTP/1.1 408 "));
	assert_true(uv_now(&rig->loop) - begin < 2 * WINDOW_MS);
	close(client);
}

/* There is no limit for the whole: four windows, a KiB in each. */
static void test_router_deadlines__a_body_that_grows_may_take_its_time(void **state)
{
	struct rig *rig = *state;
	int client = connect_client(rig);
	uint64_t begin = uv_now(&rig->loop), next = begin;
	char blanks[ROUTER_BODY_MIN / 2 + 1], text[2048];

	memset(blanks, ' ', sizeof(blanks));
	say(client, head, sizeof(head) - 1);
	UNTIL(rig, ({
		      if (uv_now(&rig->loop) >= next) {
			      say(client, blanks, sizeof(blanks));
			      next = uv_now(&rig->loop) + WINDOW_MS / 4;
		      }
		      assert_int_equal(hear(client, text, sizeof(text)), -EAGAIN);
		      uv_now(&rig->loop) - begin > 4 * WINDOW_MS;
	      }));
	close(client);
	UNTIL(rig, !down_of(rig));
}

/* A body that is thrown away has to come as well: the refusal is not held for ever. */
static void test_router_deadlines__a_refused_body_that_does_not_come(void **state)
{
	static const char refused[] = "POST /nothing HTTP/1.1\r\nHost: x\r\n"
				      "Content-Length: 1000\r\n\r\n{";
	struct rig *rig = *state;
	int client = connect_client(rig);
	char text[2048];
	ssize_t len;

	say(client, refused, sizeof(refused) - 1);
	UNTIL(rig, (len = hear(client, text, sizeof(text))) != -EAGAIN);
	assert_true(len > 0);
	assert_true(strstr(text, "HTTP/1.1 404 ") || strstr(text, "HTTP/1.1 408 "));
	UNTIL(rig, hear(client, text, sizeof(text)) == 0);
	close(client);
}

/* ---- readers that have stopped ---- */

static const char models[] = "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n";

/* Asks, and takes no answer, until something waits for it in the router. How often. */
static unsigned fill(struct rig *rig, int client)
{
	unsigned asked = 0;

	UNTIL(rig, ({
		      say(client, models, sizeof(models) - 1);
		      asked++;
		      down_of(rig) && down_of(rig)->out.unsent > 0;
	      }));
	return asked;
}

static void test_router_deadlines__a_reader_that_has_stopped_is_reset(void **state)
{
	struct rig *rig = *state;
	int client = connect_client(rig);
	uint64_t begin = uv_now(&rig->loop);
	char text[256];
	ssize_t len;

	fill(rig, client);
	assert_int_equal(stalled(rig), 0);
	UNTIL(rig, !down_of(rig));
	assert_true(uv_now(&rig->loop) - begin >= WINDOW_MS);
	assert_int_equal(stalled(rig), 1);
	do /* what its kernel has, then no clean end */
		len = hear(client, text, sizeof(text));
	while (len > 0);
	assert_int_equal(len, -ECONNRESET);
	close(client);
}

/* It takes a little in each window, and so it may go on. */
static void test_router_deadlines__a_slow_reader_is_not(void **state)
{
	struct rig *rig = *state;
	int client = connect_client(rig);
	uint64_t begin = uv_now(&rig->loop), next = begin;
	char text[SMALL];

	fill(rig, client);
	UNTIL(rig, ({
		      send(client, models, sizeof(models) - 1, MSG_NOSIGNAL);
		      if (uv_now(&rig->loop) >= next) {
			      assert_true(hear(client, text, sizeof(text)) > 0);
			      next = uv_now(&rig->loop) + WINDOW_MS / 4;
		      }
		      assert_non_null(down_of(rig));
		      uv_now(&rig->loop) - begin > 4 * WINDOW_MS;
	      }));
	assert_true(down_of(rig)->out.unsent > 0);
	assert_int_equal(stalled(rig), 0);
	close(client);
	UNTIL(rig, !down_of(rig));
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	while ((text = strstr(text, what))) {
		n++;
		text++;
	}
	return n;
}

/* Who ends its sending while answers wait for it gets them all, and then a clean end. */
static void test_router_deadlines__what_is_owed_after_a_half_close_is_written(void **state)
{
	struct rig *rig = *state;
	int client = connect_client(rig);
	struct buf got = {0};
	char text[SMALL];
	unsigned asked;
	ssize_t len;

	asked = fill(rig, client);
	shutdown(client, SHUT_WR);
	UNTIL(rig, !down_of(rig) || down_of(rig)->eof);
	UNTIL(rig, ({
		      len = hear(client, text, sizeof(text));
		      if (len > 0)
			      buf_add(&got, text, (size_t)len);
		      len <= 0 && len != -EAGAIN;
	      }));
	assert_int_equal(len, 0);
	assert_true(asked > 1);
	assert_in_range(count(got.data, "HTTP/1.1 200 OK"), asked - 1, asked);
	assert_int_equal(count(got.data, "HTTP/1.1 200 OK"), count(got.data, "\"second\""));
	assert_int_equal(got.data[got.len - 1], '}');
	buf_fini(&got);
	close(client);
	UNTIL(rig, !down_of(rig));
}

/* Answers that wait are bounded, also those to many small questions sent at once. */
static void test_router_deadlines__who_does_not_read_is_not_read_either(void **state)
{
	static char many[200 * (sizeof(models) - 1)];
	struct rig *rig = *state;
	int client = connect_client(rig);
	size_t sent = 0, most = 0, at;
	ssize_t n = 0;

	for (at = 0; at < sizeof(many); at += sizeof(models) - 1)
		memcpy(many + at, models, sizeof(models) - 1);
	rig->router->stalls.ms = 60000;
	for (unsigned quiet = 0; sent < FLOOD && quiet<200; quiet = n> 0 ? 0 : quiet + 1) {
		at = sent % sizeof(many);
		n = send(client, many + at, sizeof(many) - at, MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		uv_run(&rig->loop, UV_RUN_ONCE);
		if (down_of(rig) && down_of(rig)->out.unsent > most)
			most = down_of(rig)->out.unsent;
	}
	print_message("%zu bytes asked, %zu of answers waited\n", sent, most);
	assert_true(sent < FLOOD);
	assert_true(most < 8 * ROUTER_UNSENT_MAX);
	rig->router->stalls.ms = WINDOW_MS;
	close(client);
	UNTIL(rig, !down_of(rig));
}

/* Many that came together are dealt with one after the other, not one inside the other: the stack
 * does not grow with what a client sends. */
static void test_router_deadlines__many_questions_need_no_stack(void **state)
{
	static const char question[] = "GET / HTTP/1.1\r\nHost:x\r\n\r\n";
	static char many[ROUTER_FIRST_READ];
	struct rig *rig = *state;
	int client = connect_client(rig);
	size_t len = 0, n = sizeof(question) - 1;
	struct rlimit before, small;
	struct buf got = {0};
	char text[SMALL];

	for (; len + n <= sizeof(many); len += n)
		memcpy(many + len, question, n);
	getrlimit(RLIMIT_STACK, &before);
	small = (struct rlimit){STACK, before.rlim_max};
	setrlimit(RLIMIT_STACK, &small);
	say(client, many, len);
	UNTIL(rig, ({
		      ssize_t heard = hear(client, text, sizeof(text));
		      if (heard > 0)
			      buf_add(&got, text, (size_t)heard);
		      got.len &&count(got.data, "Ollama is running") == len / n;
	      }));
	setrlimit(RLIMIT_STACK, &before);
	buf_fini(&got);
	close(client);
	UNTIL(rig, !down_of(rig));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(test_router_deadlines__##name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		CASE(a_body_that_does_not_come_is_408),
		CASE(a_body_that_drips_is_408),
		CASE(a_body_that_grows_may_take_its_time),
		CASE(a_refused_body_that_does_not_come),
		CASE(a_reader_that_has_stopped_is_reset),
		CASE(a_slow_reader_is_not),
		CASE(what_is_owed_after_a_half_close_is_written),
		CASE(who_does_not_read_is_not_read_either),
		CASE(many_questions_need_no_stack),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
