/* SPDX-License-Identifier: MIT */
/*
 * megalithctl against a control server of the test, which runs in a thread: what is printed, what
 * was asked, and the exit code.
 */
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/lock.h"
#include "ctl/ctl.h"
#include "net/server.h"

#define STATUS \
	"{\"version\":\"0.1.0\",\"pid\":42,\"config\":\"/etc/megalith/" \
	"megalith.json\",\"plan_version\":7," \
	"\"uptime_ms\":93784000," \
	"\"datapath\":{\"mode\":\"tc\",\"interfaces\":[{\"name\":\"eth0\",\"mode\":\"tc\"," \
	"\"note\":\"veth\"}]," \
	"\"adopted\":true,\"addresses\":[\"192.168.1.10\"],\"flows\":3,\"embryos\":1,\"max_" \
	"flows\":1000}," \
	"\"nodes\":[" \
	"{\"name\":\"halo-1\",\"address\":\"10.0.25.21\",\"state\":\"up\",\"weight\":100," \
	"\"configured_weight\":100," \
	"\"services\":{\"llm\":{\"engine\":\"ollama\",\"port\":11434,\"state\":\"up\",\"up\":" \
	"true,\"connections\":3," \
	"\"busy\":2,\"relayed\":0,\"capacity\":4,\"rtt_us\":350,\"ttfb_ms\":12,\"models\":[" \
	"\"llama3:70b\"]," \
	"\"loaded\":[],\"reason\":\"ok\"}}}," \
	"{\"name\":\"halo-2\",\"address\":\"10.0.25.22\",\"state\":\"down\",\"weight\":50," \
	"\"configured_weight\":100," \
	"\"services\":{\"llm\":{\"engine\":\"ollama\",\"port\":11434,\"state\":\"down\",\"up\":" \
	"false," \
	"\"connections\":0,\"busy\":0,\"relayed\":0,\"capacity\":4,\"rtt_us\":0,\"ttfb_ms\":0," \
	"\"models\":null," \
	"\"loaded\":null,\"reason\":\"refused\"}}}]," \
	"\"personas\":[{\"name\":\"fat-brain\",\"listen\":{\"llm\":11502},\"nodes\":[\"halo-1\"," \
	"\"halo-2\"]," \
	"\"cascade\":[\"swarm\"],\"affinity\":\"none\"}]," \
	"\"counters\":{},\"proxy\":{\"followers\":1}}"

struct canned { /* what the server says to a request; the first that matches */
	const char *method, *target;
	int status;
	const char *body;
	const char *next; /* the body from the second time on; NULL: the same */
};

static const struct canned canned[] = {
	{"GET", "/v1/status", 200, STATUS, NULL},
	{"GET", "/v1/flows", 200,
	 "{\"flows\":[{\"client\":\"10.0.0.5:40000\",\"listener\":\"192.168.1.10:11502\",\"node\":"
	 "\"halo-1\","
	 "\"service\":\"llm\",\"persona\":\"fat-brain\",\"node_address\":\"10.0.25.21:11434\","
	 "\"snat\":\"10.0.25.1:20000\",\"state\":\"open\",\"busy\":true,\"idle_ms\":2500}],"
	 "\"total\":1}",
	 NULL},
	{"GET", "/v1/flows?node=halo-1&persona=fat-brain", 200, "{\"flows\":[],\"total\":0}", NULL},
	{"POST", "/v1/nodes/halo-1/weight", 200, "{\"node\":\"halo-1\",\"weight\":50}", NULL},
	{"POST", "/v1/nodes/halo-1/drain", 200,
	 "{\"node\":\"halo-1\",\"drain\":true,\"connections\":3}", NULL},
	{"POST", "/v1/nodes/halo-2/drain", 200,
	 "{\"node\":\"halo-2\",\"drain\":true,\"connections\":1}", NULL},
	{"POST", "/v1/nodes/halo-1/undrain", 200,
	 "{\"node\":\"halo-1\",\"drain\":false,\"connections\":3,\"note\":\"not saved\"}", NULL},
	{"POST", "/v1/nodes/hallo-1/drain", 404, "{\"error\":\"no node is called hallo-1\"}", NULL},
	{"GET", "/v1/names", 200,
	 "{\"nodes\":[\"halo-1\",\"halo-2\"],\"personas\":[\"fat-brain\"],\"services\":[\"llm\"]}",
	 NULL},
	{"GET", "/v1/explain?target=fat-brain", 200,
	 "{\"target\":\"fat-brain\",\"candidates\":["
	 "{\"node\":\"halo-1\",\"persona\":\"fat-brain\",\"service\":\"llm\",\"verdict\":\"taken\","
	 "\"reason\":\"least busy\",\"busy\":2,\"capacity\":4,\"connections\":3,\"weight\":100},"
	 "{\"node\":\"halo-2\",\"persona\":\"fat-brain\",\"service\":\"llm\",\"verdict\":"
	 "\"passed\","
	 "\"reason\":\"down: connection "
	 "refused\",\"busy\":0,\"capacity\":4,\"connections\":0,\"weight\":50}],"
	 "\"taken\":{\"node\":\"halo-1\",\"persona\":\"fat-brain\",\"service\":\"llm\"}}",
	 NULL},
	{"GET", "/v1/explain?target=fat-brain%2Fllm&client=10.0.0.5", 200,
	 "{\"target\":\"fat-brain/llm\",\"candidates\":[],\"taken\":null}", NULL},
	{"GET", "/v1/explain?target=skinny", 404,
	 "{\"error\":\"nothing is called skinny; personas: fat-brain\"}", NULL},
	{"POST", "/v1/reload", 200, "{\"plan_version\":8}",
	 "{\"error\":\"the configuration has errors: the old one stays\",\"errors\":[\"f:3: "
	 "/nodes: bad\"]}"},
	{"POST", "/v1/detach", 200, "{\"detached\":true}", NULL},
};

#define CANNED (sizeof(canned) / sizeof(canned[0]))

struct rig {
	char dir[64], control[128];
	uv_thread_t thread;
	uv_loop_t loop;
	uv_async_t end;
	struct server *server;
	/* under the lock */
	uv_mutex_t lock;
	unsigned asked[CANNED];
	struct buf bodies; /* of the requests */
	/* of the last run */
	char *out, *err;
};

static void on_request(void *arg, struct exchange *exchange)
{
	struct rig *rig = arg;
	const struct http1_head *head = exchange_head(exchange);
	const char *body;
	size_t len, i = 0;

	while (i < CANNED &&
	       (strcmp(canned[i].method, head->method) || strcmp(canned[i].target, head->target)))
		i++;
	if (i == CANNED) {
		exchange_answer(exchange, 404, "application/json", "{\"error\":\"not expected\"}",
				24, NULL);
		return;
	}
	body = exchange_body(exchange, &len);
	uv_mutex_lock(&rig->lock);
	buf_add(&rig->bodies, body, len);
	if (rig->asked[i]++ && canned[i].next)
		exchange_answer(exchange, 409, "application/json", canned[i].next,
				strlen(canned[i].next), NULL);
	else
		exchange_answer(exchange, canned[i].status, "application/json", canned[i].body,
				strlen(canned[i].body), NULL);
	uv_mutex_unlock(&rig->lock);
}

static void on_end(uv_async_t *async)
{
	struct rig *rig = async->data;

	server_free(rig->server);
	uv_close((uv_handle_t *)async, NULL);
}

static void serve(void *arg)
{
	struct rig *rig = arg;

	uv_run(&rig->loop, UV_RUN_DEFAULT);
	uv_loop_close(&rig->loop);
}

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	const struct server_options options = {
		.max_body = 65536, .on_request = on_request, .arg = rig};

	snprintf(rig->dir, sizeof(rig->dir), "/tmp/test_ctl.XXXXXX");
	assert_non_null(mkdtemp(rig->dir));
	snprintf(rig->control, sizeof(rig->control), "%s/control.sock", rig->dir);
	uv_loop_init(&rig->loop);
	uv_mutex_init(&rig->lock);
	uv_async_init(&rig->loop, &rig->end, on_end);
	rig->end.data = rig;
	rig->server = server_new(&rig->loop, &options);
	assert_int_equal(server_listen_unix(rig->server, rig->control, 0600, -1), 0);
	assert_int_equal(uv_thread_create(&rig->thread, serve, rig), 0);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	uv_async_send(&rig->end);
	uv_thread_join(&rig->thread);
	uv_mutex_destroy(&rig->lock);
	unlink(rig->control);
	rmdir(rig->dir);
	buf_fini(&rig->bodies);
	free(rig->out);
	free(rig->err);
	free(rig);
	return 0;
}

static int fake_detach(const char *bpf_dir, struct datapath_error *error)
{
	if (strstr(bpf_dir, "bad")) {
		snprintf(error->text, sizeof(error->text), "%s: not ours", bpf_dir);
		return -1;
	}
	return 0;
}

/* Runs `megalithctl` with the words (NULL-terminated) behind `terminal`. */
static int run_words(struct rig *rig, bool terminal, char *const *words)
{
	char *argv[16];
	size_t out_len, err_len;
	struct ctl setup = {.out_is_terminal = terminal, .detach = fake_detach};
	int argc = 0, code;

	free(rig->out);
	free(rig->err);
	setup.out = open_memstream(&rig->out, &out_len);
	setup.err = open_memstream(&rig->err, &err_len);
	argv[argc++] = strdup("megalithctl");
	for (; *words; words++)
		argv[argc++] = *words;
	argv[argc] = NULL;
	code = ctl_main(&setup, argc, argv);
	fclose(setup.out);
	fclose(setup.err);
	for (int i = 0; i < argc; i++) /* getopt_long() may have moved it */
		if (argv[i] && strcmp(argv[i], "megalithctl") == 0)
			free(argv[i]);
	return code;
}

#define RUN(rig, ...) \
	run_words(rig, false, \
		  (char *[]){(char *)(uintptr_t) "--control", rig->control, __VA_ARGS__ NULL})
#define W(text) (char *)(uintptr_t)text,

/* ---- reading ---- */

static void test_ctl__status_is_the_default(void **state)
{
	struct rig *rig = *state;
	char *first;

	assert_int_equal(RUN(rig, W("status")), 0);
	first = strdup(rig->out);
	assert_int_equal(RUN(rig, ), 0);
	assert_string_equal(rig->out, first);
	assert_string_equal(rig->err, "");
	free(first);
	assert_string_equal(
		rig->out,
		"megalith   0.1.0, up 1d 2h, plan 7, pid 42\n"
		"config     /etc/megalith/megalith.json\n"
		"datapath   tc, 3 of 1000 connections, 1 handshake, adopted\n"
		"           eth0: tc (veth)\n"
		"addresses  192.168.1.10\n"
		"proxy      1 following the plan\n"
		"\n"
		"PERSONA    SERVICE   PORT  BUSY  NODES                CASCADE\n"
		"fat-brain  llm      11502   2/4  halo-1 halo-2(down)  swarm\n"
		"\n"
		"NODE    ADDRESS     STATE    WEIGHT  SERVICE  BUSY  CONNS      RTT   TTFB\n"
		"halo-1  10.0.25.21  up          100  llm       2/4      3  0.35 ms  12 ms\n"
		"halo-2  10.0.25.22  down   50 (100)  llm       0/4      0        -      -  "
		"connection refused\n");
}

static void test_ctl__json_is_the_document_as_it_is(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("flows") W("--json")), 0);
	assert_string_equal(
		rig->out,
		"{\n  \"flows\": [\n    {\n      \"client\": \"10.0.0.5:40000\",\n"
		"      \"listener\": \"192.168.1.10:11502\",\n      \"node\": \"halo-1\",\n"
		"      \"service\": \"llm\",\n      \"persona\": \"fat-brain\",\n"
		"      \"node_address\": \"10.0.25.21:11434\",\n      \"snat\": "
		"\"10.0.25.1:20000\",\n"
		"      \"state\": \"open\",\n      \"busy\": true,\n      \"idle_ms\": 2500\n    "
		"}\n  ],\n"
		"  \"total\": 1\n}\n");
	assert_int_equal(RUN(rig, W("--json") W("nodes")), 0);
	assert_true(strncmp(rig->out, "[\n  {\n    \"name\": \"halo-1\",", 27) == 0);
}

static void test_ctl__colour_only_on_a_terminal_without_no_color(void **state)
{
	struct rig *rig = *state;
	char *const *words = (char *[]){(char *)(uintptr_t) "--control", rig->control, NULL};

	unsetenv("NO_COLOR");
	assert_int_equal(run_words(rig, true, words), 0);
	assert_non_null(strchr(rig->out, '\033'));
	assert_int_equal(run_words(rig, false, words), 0);
	assert_null(strchr(rig->out, '\033'));
	setenv("NO_COLOR", "1", 1);
	assert_int_equal(run_words(rig, true, words), 0);
	assert_null(strchr(rig->out, '\033'));
	unsetenv("NO_COLOR");
}

static void test_ctl__personas_and_nodes(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("personas")), 0);
	assert_string_equal(rig->out,
			    "PERSONA    SERVICE   PORT  BUSY  NODES                CASCADE\n"
			    "fat-brain  llm      11502   2/4  halo-1 halo-2(down)  swarm\n");
	assert_int_equal(RUN(rig, W("nodes")), 0);
	assert_string_equal(rig->out, "NODE    ADDRESS     STATE    WEIGHT  SERVICE  ENGINE   PORT "
				      " BUSY  CONNS      RTT   TTFB  MODELS\n"
				      "halo-1  10.0.25.21  up          100  llm      ollama  11434 "
				      "  2/4      3  0.35 ms  12 ms  llama3:70b\n"
				      "halo-2  10.0.25.22  down   50 (100)  llm      ollama  11434 "
				      "  0/4      0        -      -  "
				      "connection refused\n");
}

static void test_ctl__flows(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("flows")), 0);
	assert_string_equal(rig->out, "CLIENT          LISTENER            PERSONA    NODE        "
				      "ADDRESS           SNAT             STATE"
				      "       IDLE\n"
				      "10.0.0.5:40000  192.168.1.10:11502  fat-brain  halo-1/llm  "
				      "10.0.25.21:11434  10.0.25.1:20000  open,"
				      " busy    2s\n"
				      "1 connection\n");
	assert_int_equal(RUN(rig, W("flows") W("--node") W("halo-1") W("--persona=fat-brain")), 0);
	assert_string_equal(rig->out, "no connections in the kernel's table\n");
}

static void test_ctl__explain(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("explain") W("fat-brain")), 0);
	assert_string_equal(
		rig->out,
		"fat-brain: the next connection goes to halo-1 (fat-brain/llm)\n\n"
		"VERDICT  NODE    PERSONA        BUSY  CONNS  WEIGHT  REASON\n"
		"taken    halo-1  fat-brain/llm   2/4      3     100  least busy\n"
		"passed   halo-2  fat-brain/llm   0/4      0      50  down: connection refused\n");
	assert_int_equal(RUN(rig, W("explain") W("--client") W("10.0.0.5") W("fat-brain/llm")), 0);
	assert_non_null(strstr(rig->out, "nobody takes a connection now"));
	assert_int_equal(RUN(rig, W("explain") W("skinny")), 1);
	assert_string_equal(rig->err,
			    "megalithctl: nothing is called skinny; personas: fat-brain\n");
	assert_int_equal(RUN(rig, W("explain") W("fat-brain") W("--client") W("nobody")), 2);
}

static void test_ctl__names_for_completion(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("names") W("nodes")), 0);
	assert_string_equal(rig->out, "halo-1\nhalo-2\n");
	assert_int_equal(RUN(rig, W("names")), 0);
	assert_string_equal(rig->out, "halo-1\nhalo-2\nfat-brain\nllm\n");
}

/* ---- ordering ---- */

static void test_ctl__weight(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("weight") W("halo-1") W("50")), 0);
	assert_string_equal(rig->out, "halo-1: weight 50\n");
	assert_string_equal(rig->bodies.data, "{\"weight\":50}");
	assert_int_equal(RUN(rig, W("weight") W("halo-1") W("1001")), 2);
	assert_int_equal(RUN(rig, W("weight") W("halo-1") W("5x")), 2);
	assert_int_equal(RUN(rig, W("weight") W("halo-1") W("-5")), 2);
	assert_int_equal(RUN(rig, W("weight") W("halo-1")), 2);
	assert_string_equal(rig->bodies.data, "{\"weight\":50}"); /* nothing more was asked */
}

static void test_ctl__drain_and_undrain(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("drain") W("halo-1")), 0);
	assert_string_equal(rig->out, "halo-1: draining, 3 connections left\n");
	assert_int_equal(RUN(rig, W("undrain") W("halo-1")), 0);
	assert_string_equal(rig->out, "halo-1: takes new connections again\n");
	assert_string_equal(rig->err, "megalithctl: not saved\n");
}

static void test_ctl__drain_waits(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("drain") W("halo-2") W("--wait") W("5")),
			 0); /* the status has none on it */
	assert_string_equal(rig->out, "halo-2: drained, no connection is left\n");
	assert_int_equal(RUN(rig, W("drain") W("--wait") W("halo-2")), 0);
	assert_int_equal(RUN(rig, W("drain") W("halo-1") W("--wait=0")), 1);
	assert_string_equal(rig->err, "megalithctl: halo-1: 3 connections left after 0 s\n");
	assert_int_equal(RUN(rig, W("drain") W("--wait") W("1") W("halo-1")), 1);
	assert_string_equal(rig->err, "megalithctl: halo-1: 3 connections left after 1 s\n");
	assert_int_equal(RUN(rig, W("drain") W("halo-1") W("--wait=soon")), 2);
}

static void test_ctl__a_wrong_name_is_suggested_right(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("drain") W("hallo-1")), 1);
	assert_string_equal(
		rig->err,
		"megalithctl: no node is called hallo-1\nmegalithctl: did you mean 'halo-1'?\n");
}

static void test_ctl__reload(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("reload")), 0);
	assert_string_equal(rig->out, "reloaded, plan 8\n");
	assert_int_equal(RUN(rig, W("reload")), 2);
	assert_string_equal(rig->err,
			    "f:3: /nodes: bad\n"
			    "megalithctl: the configuration has errors: the old one stays\n");
}

static void test_ctl__detach_asks_a_controller_that_runs(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("detach")), 0);
	assert_string_equal(
		rig->out, "datapath taken off: tc from eth0; its pins are removed\n"
			  "megalithd goes on without it: megalith-proxy relays every connection\n");
}

static void test_ctl__detach_without_a_controller(void **state)
{
	struct rig *rig = *state;
	char bpf_dir[128], layout[160], pin[192];

	snprintf(bpf_dir, sizeof(bpf_dir), "%s/bpf", rig->dir);
	snprintf(layout, sizeof(layout), "%s/v%d", bpf_dir, MG_LAYOUT);
	snprintf(pin, sizeof(pin), "%s/mg_flows", layout);
	mkdir(bpf_dir, 0700);
	mkdir(layout, 0700);
	fclose(fopen(pin, "w"));
	if (geteuid() != 0) {
		assert_int_equal(
			run_words(rig, false, (char *[]){W("--run-dir=/nowhere") W("detach") NULL}),
			1);
		assert_non_null(strstr(rig->err, "needs root"));
	} else {
		assert_int_equal(
			run_words(rig, false,
				  (char *[]){W("--run-dir=/nowhere") W("--bpf-dir") bpf_dir,
					     W("detach") NULL}),
			0);
		assert_non_null(strstr(rig->out, "1 pin removed from"));
		assert_non_null(strstr(rig->out, "mg_flows"));
		assert_int_equal(run_words(rig, false,
					   (char *[]){W("--run-dir=/nowhere") W("--bpf-dir=/bad")
							      W("detach") NULL}),
				 1);
		assert_string_equal(rig->err, "megalithctl: /bad: not ours\n");
	}
	unlink(pin);
	rmdir(layout);
	rmdir(bpf_dir);
}

/* A process that holds the lock as a left megalith-proxy does; it is in the file when this returns.
 */
static pid_t proxy_leave(const char *path)
{
	int lock;
	pid_t pid;

	assert_int_equal(lock_take(path, &lock), 0);
	pid = fork();
	if (pid == 0) {
		alarm(20); /* of a test that fails, nothing is left */
		pause();
		_exit(0);
	}
	lock_write(path, pid, "0.0.1");
	close(lock);
	return pid;
}

static void test_ctl__detach_ends_a_proxy_that_was_left(void **state)
{
	struct rig *rig = *state;
	char run[96], lock[128], bpf[128], said[128];
	struct lock_holder holder;
	int status;
	pid_t proxy;

	if (geteuid() != 0)
		skip();
	snprintf(run, sizeof(run), "--run-dir=%s/run", rig->dir);
	snprintf(lock, sizeof(lock), "%s/run", rig->dir);
	mkdir(lock, 0700);
	snprintf(lock, sizeof(lock), "%s/run/megalith-proxy.lock", rig->dir);
	snprintf(bpf, sizeof(bpf), "--bpf-dir=%s/bad", rig->dir);
	proxy = proxy_leave(lock);

	/* the datapath stays, so the proxy does */
	assert_int_equal(run_words(rig, false, (char *[]){run, bpf, W("detach") NULL}), 1);
	assert_true(lock_held(lock, &holder));
	assert_int_equal(holder.pid, proxy);
	assert_string_equal(holder.note, "0.0.1");

	assert_int_equal(
		run_words(rig, false, (char *[]){run, W("--bpf-dir=/nowhere") W("detach") NULL}),
		0);
	snprintf(said, sizeof(said), "megalith-proxy (pid %ld) ended\n", (long)proxy);
	assert_non_null(strstr(rig->out, said));
	assert_int_equal(waitpid(proxy, &status, 0), proxy);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
	assert_int_equal(access(lock, F_OK), -1);

	/* who is named in a lock that nobody holds is somebody else by now */
	fclose(fopen(lock, "w"));
	lock_write(lock, getpid(), "0.0.1");
	assert_int_equal(
		run_words(rig, false, (char *[]){run, W("--bpf-dir=/nowhere") W("detach") NULL}),
		0);
	assert_null(strstr(rig->out, "megalith-proxy"));
	unlink(lock);
	*strrchr(lock, '/') = '\0';
	rmdir(lock);
}

/* ---- check ---- */

static const char good_config[] = "{ \"gateway\": { \"interfaces\": [\"eth0\"] },\n"
				  "  \"nodes\": { \"halo-1\": { \"address\": \"10.0.25.21\", "
				  "\"services\": { \"llm\": \"ollama\" } } },\n"
				  "  \"personas\": { \"fat-brain\": { \"nodes\": [\"halo-1\"], "
				  "\"listen\": { \"llm\": 11502 } } } }\n";

static void write_config(const struct rig *rig, char path[160], const char *text)
{
	FILE *file;

	snprintf(path, 160, "%s/megalith.json", rig->dir);
	file = fopen(path, "w");
	fputs(text, file);
	fclose(file);
}

static void test_ctl__check(void **state)
{
	struct rig *rig = *state;
	char path[160], expected[320];

	write_config(rig, path, good_config);
	assert_int_equal(RUN(rig, W("check") path, ), 0);
	snprintf(expected, sizeof(expected),
		 "%s: ok: 1 node, 1 service, 1 persona, 1 port, 0 model aliases\n", path);
	assert_string_equal(rig->out, expected);
	write_config(rig, path,
		     "{ \"gateway\": { \"interfaces\": [\"eth0\"], \"colour\": 1 },\n"
		     "  \"nodes\": { \"halo-1\": { \"address\": \"nowhere\" } } }\n");
	assert_int_equal(RUN(rig, W("check") path, ), 2);
	snprintf(expected, sizeof(expected), "%s:1: /gateway/colour:", path);
	assert_non_null(strstr(rig->err, expected));
	snprintf(expected, sizeof(expected), "%s:2: /nodes/halo-1/address:", path);
	assert_non_null(strstr(rig->err, expected));
	assert_int_equal(RUN(rig, W("check") W("--json") path, ), 2);
	assert_non_null(strstr(rig->out, "\"ok\": false"));
	unlink(path);
	assert_int_equal(RUN(rig, W("check") path, ), 2);
	assert_non_null(strstr(rig->err, "No such file"));
}

/* ---- usage ---- */

static void test_ctl__no_controller_is_3(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(
		run_words(rig, false, (char *[]){W("--run-dir") rig->dir, W("status") NULL}), 0);
	assert_int_equal(
		run_words(rig, false, (char *[]){W("--run-dir=/nowhere") W("status") NULL}), 3);
	assert_string_equal(rig->out, "");
	assert_non_null(strstr(rig->err, "/nowhere/control.sock"));
	assert_non_null(strstr(rig->err, "systemctl start"));
	assert_ptr_equal(strchr(rig->err, '\n'), rig->err + strlen(rig->err) - 1); /* one line */
}

static void test_ctl__unknown_commands_are_suggested(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("stauts")), 2);
	assert_string_equal(rig->err, "megalithctl: no command 'stauts'; did you mean 'status'?\n");
	assert_int_equal(RUN(rig, W("tsatsu")), 2);
	assert_non_null(strstr(rig->err, "'status'"));
	assert_int_equal(RUN(rig, W("undrian") W("x")), 2);
	assert_non_null(strstr(rig->err, "'undrain'"));
	assert_int_equal(RUN(rig, W("frobnicate")), 2);
	assert_null(strstr(rig->err, "did you mean"));
}

static void test_ctl__usage_errors_are_2(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("status") W("extra")), 2);
	assert_int_equal(RUN(rig, W("drain")), 2);
	assert_int_equal(RUN(rig, W("--nonsense")), 2);
	assert_int_equal(RUN(rig, W("status") W("--client") W("10.0.0.1")), 2);
	assert_non_null(strstr(rig->err, "--client is not an option of it"));
	assert_int_equal(RUN(rig, W("drain") W("halo-1") W("--reset-after") W("5")), 2);
}

static void test_ctl__help_of_everything(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(RUN(rig, W("-h")), 0);
	assert_non_null(strstr(rig->out, "  explain "));
	assert_null(strstr(rig->out, "names"));
	assert_int_equal(RUN(rig, W("drain") W("-h")), 0);
	assert_non_null(strstr(rig->out, "usage: megalithctl drain NODE [--wait [SECONDS]]\n"));
	assert_int_equal(RUN(rig, W("help") W("weight")), 0);
	assert_non_null(strstr(rig->out, "usage: megalithctl weight NODE 0..1000\n"));
	assert_int_equal(RUN(rig, W("--version")), 0);
	assert_true(strncmp(rig->out, "megalithctl ", 12) == 0);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ctl__status_is_the_default),
		TEST(test_ctl__json_is_the_document_as_it_is),
		TEST(test_ctl__colour_only_on_a_terminal_without_no_color),
		TEST(test_ctl__personas_and_nodes),
		TEST(test_ctl__flows),
		TEST(test_ctl__explain),
		TEST(test_ctl__names_for_completion),
		TEST(test_ctl__weight),
		TEST(test_ctl__drain_and_undrain),
		TEST(test_ctl__drain_waits),
		TEST(test_ctl__a_wrong_name_is_suggested_right),
		TEST(test_ctl__reload),
		TEST(test_ctl__detach_asks_a_controller_that_runs),
		TEST(test_ctl__detach_without_a_controller),
		TEST(test_ctl__detach_ends_a_proxy_that_was_left),
		TEST(test_ctl__check),
		TEST(test_ctl__no_controller_is_3),
		TEST(test_ctl__unknown_commands_are_suggested),
		TEST(test_ctl__usage_errors_are_2),
		TEST(test_ctl__help_of_everything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
