/* SPDX-License-Identifier: MIT */
/* Probes against small real servers on loopback: what each engine says, each way it can fail, and
 * when it is asked. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "net/server.h"
#include "probe/probe.h"

#define ENDPOINTS_MAX 16

struct answer { /* to GET path; body NULL: no answer at all */
	const char *path;
	int status;
	const char *body;
};

struct world {
	uv_loop_t loop;
	struct server *server;
	struct model model;
	struct model_node node;
	struct model_service services[ENDPOINTS_MAX];
	struct model_endpoint endpoints[ENDPOINTS_MAX];
	struct prober *prober;
	uv_timer_t guard; /* no test waits for ever */
	const struct answer *answers;
	/* seen by the server */
	unsigned requests, pending, pending_max;
	uint64_t asked_ms[64]; /* time of each request */
	char asked[64][32];    /* its path */
	/* seen by the caller */
	unsigned results, wanted;
	uint64_t noted_ms[64];
	size_t noted_endpoint[64];
	struct probe_result last;
	char models[256], loaded[256]; /* "a b", "-" when NULL */
	char about[256], running[256]; /* the entries of these */
};

static void on_guard(uv_timer_t *timer)
{
	(void)timer;
	fail_msg("the probe did not end in time");
}

static void on_request(void *arg, struct exchange *exchange)
{
	struct world *world = arg;
	const char *path = exchange_path(exchange);
	unsigned i = world->requests++ % 64;

	world->asked_ms[i] = uv_now(&world->loop);
	snprintf(world->asked[i], sizeof(world->asked[i]), "%s", path);
	for (const struct answer *at = world->answers; at && at->path; at++) {
		if (strcmp(at->path, path) != 0)
			continue;
		if (at->body) {
			exchange_answer(exchange, at->status, "text/plain", at->body,
					strlen(at->body), NULL);
			return;
		}
		if (++world->pending > world->pending_max)
			world->pending_max = world->pending;
		return;
	}
	exchange_answer(exchange, 404, "text/plain", "", 0, NULL);
}

static void on_abandoned(void *arg, struct exchange *exchange)
{
	struct world *world = arg;

	(void)exchange;
	world->pending--;
}

static void names_join(char text[256], char *const *names, size_t n)
{
	snprintf(text, 256, "%s", names ? "" : "-");
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(text);

		snprintf(text + len, 256 - len, "%s%s", i ? " " : "", names[i] ? names[i] : "-");
	}
}

static void on_result(void *arg, size_t endpoint, const struct probe_result *result)
{
	struct world *world = arg;
	unsigned i = world->results++ % 64;

	world->noted_ms[i] = uv_now(&world->loop);
	world->noted_endpoint[i] = endpoint;
	world->last = *result;
	names_join(world->models, result->models.list, result->models.n);
	names_join(world->loaded, result->loaded.list, result->loaded.n);
	names_join(world->about, result->models.entries, result->models.n);
	names_join(world->running, result->loaded.entries, result->loaded.n);
	if (world->results >= world->wanted)
		uv_stop(&world->loop);
}

static void model_fill(struct world *world, enum engine engine, uint16_t port, size_t n)
{
	assert_int_equal(addr_parse(&world->node.address, "127.0.0.1"), 0);
	world->node.services = world->services;
	world->node.n_services = n;
	world->model.nodes = &world->node;
	world->model.n_nodes = 1;
	world->model.endpoints = world->endpoints;
	world->model.n_endpoints = n;
	world->model.probe.interval_ms = 30;
	world->model.probe.timeout_ms = 5000;
	for (size_t i = 0; i < n; i++) {
		world->services[i].engine = engine;
		world->services[i].port = port;
		world->endpoints[i] = (struct model_endpoint){0, (uint32_t)i};
	}
}

static struct world *world_new(enum engine engine, const struct answer *answers)
{
	struct world *world = calloc(1, sizeof(*world));
	struct server_options options = {.max_body = 1024,
					 .on_request = on_request,
					 .on_abandoned = on_abandoned,
					 .arg = world};
	struct addr loopback;
	uint16_t port = 0;

	assert_non_null(world);
	assert_int_equal(uv_loop_init(&world->loop), 0);
	world->answers = answers;
	world->server = server_new(&world->loop, &options);
	assert_non_null(world->server);
	assert_int_equal(addr_parse(&loopback, "127.0.0.1"), 0);
	assert_int_equal(server_listen_tcp(world->server, &loopback, &port), 0);
	model_fill(world, engine, port, 1);
	uv_timer_init(&world->loop, &world->guard);
	uv_timer_start(&world->guard, on_guard, 10000, 0);
	return world;
}

/* Probes until there are so many results. */
static void world_run(struct world *world, unsigned results)
{
	world->wanted = world->results + results;
	if (!world->prober)
		world->prober = prober_new(&world->loop, &world->model, on_result, world);
	assert_non_null(world->prober);
	uv_run(&world->loop, UV_RUN_DEFAULT);
}

static void world_free(struct world *world)
{
	prober_free(world->prober);
	server_free(world->server);
	uv_close((uv_handle_t *)&world->guard, NULL);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	free(world);
}

/* --- what the answers mean: rows --- */

#define OLLAMA_TAGS \
	"{\"models\":[{\"name\":\"llama3:70b\",\"size\":1},{\"name\":\"cloud\",\"remote_host\":" \
	"\"x\"}," \
	"{\"name\":\"\"},{\"name\":\"phi3.5:latest\"}]}"

static const struct row {
	const char *why;
	enum engine engine;
	struct answer answers[3];
	enum probe_reason reason;
	const char *models, *loaded;
	unsigned rounds; /* the result of the last is looked at; 0: of the first */
} rows[] = {
	{"any port that accepts is a healthy tcp service",
	 ENGINE_TCP,
	 {{0}},
	 PROBE_OK,
	 "-",
	 "-",
	 0},
	{"http: 200", ENGINE_HTTP, {{"/", 200, "hello"}}, PROBE_OK, "-", "-", 0},
	{"http: a login page's 401 is an answer",
	 ENGINE_HTTP,
	 {{"/", 401, ""}},
	 PROBE_OK,
	 "-",
	 "-",
	 0},
	{"http: a redirect is an answer", ENGINE_HTTP, {{"/", 302, ""}}, PROBE_OK, "-", "-", 0},
	{"http: 499 is the last that is fine",
	 ENGINE_HTTP,
	 {{"/", 499, ""}},
	 PROBE_OK,
	 "-",
	 "-",
	 0},
	{"http: 500 is a failure", ENGINE_HTTP, {{"/", 500, ""}}, PROBE_STATUS, "-", "-", 0},

	{"ollama: its models, without the stubs of a cloud and empty names",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, OLLAMA_TAGS}},
	 PROBE_OK,
	 "llama3:70b phi3.5:latest",
	 "-",
	 0},
	{"ollama: no model at all is no fault, and known",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, "{\"models\":[]}"}},
	 PROBE_OK,
	 "",
	 "-",
	 0},
	{"ollama: the second round asks what is loaded",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, OLLAMA_TAGS}, {"/api/ps", 200, "{\"models\":[{\"name\":\"a:1\"}]}"}},
	 PROBE_OK,
	 "-",
	 "a:1",
	 2},
	{"ollama: the third round asks for its models again, which says nothing new",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, OLLAMA_TAGS}, {"/api/ps", 200, "{\"models\":[]}"}},
	 PROBE_OK,
	 "-",
	 "-",
	 3},
	{"ollama: what is said again is told again in the end",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, OLLAMA_TAGS}, {"/api/ps", 200, "{\"models\":[]}"}},
	 PROBE_OK,
	 "llama3:70b phi3.5:latest",
	 "-",
	 65},
	{"ollama: the same nonsense stays nonsense",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, "{\"models\":7}"}, {"/api/ps", 200, "{\"models\":[]}"}},
	 PROBE_BAD_ANSWER,
	 "-",
	 "-",
	 3},
	{"openai: the same list again",
	 ENGINE_OPENAI,
	 {{"/v1/models", 200, "{\"data\":[{\"id\":\"gpt\"}]}"}},
	 PROBE_OK,
	 "-",
	 "-",
	 3},
	{"ollama: 500", ENGINE_OLLAMA, {{"/api/tags", 500, "{}"}}, PROBE_STATUS, "-", "-", 0},
	{"ollama: not JSON",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, "Ollama is running"}},
	 PROBE_BAD_JSON,
	 "-",
	 "-",
	 0},
	{"ollama: an empty answer",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, ""}},
	 PROBE_BAD_JSON,
	 "-",
	 "-",
	 0},
	{"ollama: JSON of somebody else",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, "{\"data\":[]}"}},
	 PROBE_BAD_ANSWER,
	 "-",
	 "-",
	 0},
	{"ollama: a list that is none",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, "{\"models\":null}"}},
	 PROBE_BAD_ANSWER,
	 "-",
	 "-",
	 0},
	{"ollama: a model without a name",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, "{\"models\":[{\"name\":\"a\"},{\"name\":7}]}"}},
	 PROBE_BAD_ANSWER,
	 "-",
	 "-",
	 0},
	{"ollama: an array instead of the object",
	 ENGINE_OLLAMA,
	 {{"/api/tags", 200, "[1]"}},
	 PROBE_BAD_ANSWER,
	 "-",
	 "-",
	 0},

	{"openai: its models",
	 ENGINE_OPENAI,
	 {{"/v1/models", 200, "{\"object\":\"list\",\"data\":[{\"id\":\"gpt\"}]}"}},
	 PROBE_OK,
	 "gpt",
	 "-",
	 0},
	{"openai: the list needs a key",
	 ENGINE_OPENAI,
	 {{"/v1/models", 401, "{}"}},
	 PROBE_STATUS,
	 "-",
	 "-",
	 0},
	{"openai: no list",
	 ENGINE_OPENAI,
	 {{"/v1/models", 200, "{}"}},
	 PROBE_BAD_ANSWER,
	 "-",
	 "-",
	 0},
	{"vllm: health and models",
	 ENGINE_VLLM,
	 {{"/health", 200, ""}, {"/v1/models", 200, "{\"data\":[{\"id\":\"q\"}]}"}},
	 PROBE_OK,
	 "q",
	 "-",
	 0},
	{"vllm: healthy though the list needs a key",
	 ENGINE_VLLM,
	 {{"/health", 200, ""}, {"/v1/models", 401, ""}},
	 PROBE_OK,
	 "-",
	 "-",
	 0},
	{"vllm: a dead engine",
	 ENGINE_VLLM,
	 {{"/health", 503, ""}, {"/v1/models", 200, "{\"data\":[]}"}},
	 PROBE_STATUS,
	 "-",
	 "-",
	 0},
	{"vllm: the list is not asked for each round",
	 ENGINE_VLLM,
	 {{"/health", 200, ""}, {"/v1/models", 200, "{\"data\":[{\"id\":\"q\"}]}"}},
	 PROBE_OK,
	 "-",
	 "-",
	 2},
	{"sglang: health and models",
	 ENGINE_SGLANG,
	 {{"/health", 200, ""}, {"/v1/models", 200, "{\"data\":[{\"id\":\"s\"}]}"}},
	 PROBE_OK,
	 "s",
	 "-",
	 0},
	{"llama.cpp: ready",
	 ENGINE_LLAMACPP,
	 {{"/health", 200, "{\"status\":\"ok\"}"},
	  {"/v1/models", 200, "{\"data\":[{\"id\":\"/m.gguf\"}]}"}},
	 PROBE_OK,
	 "/m.gguf",
	 "-",
	 0},
	{"llama.cpp: reads its weights",
	 ENGINE_LLAMACPP,
	 {{"/health", 503, "{\"error\":{\"code\":503,\"message\":\"Loading model\"}}"}},
	 PROBE_LOADING,
	 "-",
	 "-",
	 0},
	{"llama.cpp: another status",
	 ENGINE_LLAMACPP,
	 {{"/health", 500, ""}},
	 PROBE_STATUS,
	 "-",
	 "-",
	 0},

	{"comfyui: its queue",
	 ENGINE_COMFYUI,
	 {{"/prompt", 200, "{\"exec_info\":{\"queue_remaining\":0}}"}},
	 PROBE_OK,
	 "-",
	 "-",
	 0},
	{"comfyui: no queue",
	 ENGINE_COMFYUI,
	 {{"/prompt", 200, "{\"exec_info\":{}}"}},
	 PROBE_BAD_ANSWER,
	 "-",
	 "-",
	 0},
	{"comfyui: a web page",
	 ENGINE_COMFYUI,
	 {{"/prompt", 200, "<html>"}},
	 PROBE_BAD_JSON,
	 "-",
	 "-",
	 0},
	{"comfyui: another server", ENGINE_COMFYUI, {{0}}, PROBE_STATUS, "-", "-", 0},
	{"immich: pong", ENGINE_IMMICH, {{"/ping", 200, "pong"}}, PROBE_OK, "-", "-", 0},
	{"immich: pong and a newline",
	 ENGINE_IMMICH,
	 {{"/ping", 200, "pong\n"}},
	 PROBE_OK,
	 "-",
	 "-",
	 0},
	{"immich: something else",
	 ENGINE_IMMICH,
	 {{"/ping", 200, "ping"}},
	 PROBE_BAD_ANSWER,
	 "-",
	 "-",
	 0},
	{"immich: more than pong",
	 ENGINE_IMMICH,
	 {{"/ping", 200, "pongo"}},
	 PROBE_BAD_ANSWER,
	 "-",
	 "-",
	 0},
	{"immich: an error", ENGINE_IMMICH, {{"/ping", 422, "pong"}}, PROBE_STATUS, "-", "-", 0},
};

static void test_probe__means_what_the_engine_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		struct world *world = world_new(row->engine, row->answers);

		world_run(world, row->rounds ? row->rounds : 1);
		if (world->last.reason != row->reason || strcmp(world->models, row->models) != 0 ||
		    strcmp(world->loaded, row->loaded) != 0)
			fail_msg("%s: %s, models \"%s\", loaded \"%s\"", row->why,
				 probe_reason_word(world->last.reason), world->models,
				 world->loaded);
		world_free(world);
	}
}

/* --- servers that misbehave --- */

enum then { STAY, CLOSE, DRIP };

struct crook { /* a listener that sends `text` to whoever has connected, then does what `then` says
		*/
	struct world *world;
	uv_tcp_t listener;
	const char *text;
	enum then then;
	uv_tcp_t peer;
	uv_timer_t timer;
	bool has_peer;
};

static void on_drip(uv_timer_t *timer)
{
	struct crook *crook = timer->data;
	char byte[] = "a";
	uv_buf_t out = {.base = byte, .len = 1};

	uv_try_write((uv_stream_t *)&crook->peer, &out, 1);
}

static void on_crook_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
	static char waste[4096];

	(void)handle;
	(void)size;
	*buf = (uv_buf_t){.base = waste, .len = sizeof(waste)};
}

static void peer_close(struct crook *crook)
{
	if (!crook->has_peer)
		return;
	crook->has_peer = false;
	uv_close((uv_handle_t *)&crook->peer, NULL);
	uv_timer_stop(&crook->timer);
}

static void on_crook_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct crook *crook = stream->data;

	(void)buf;
	if (n < 0 || crook->then == CLOSE)
		peer_close(crook);
}

static void on_crook(uv_stream_t *stream, int status)
{
	struct crook *crook = stream->data;
	uv_buf_t out = {.base = strdup(crook->text), .len = strlen(crook->text)};

	assert_int_equal(status, 0);
	assert_false(crook->has_peer);
	uv_tcp_init(stream->loop, &crook->peer);
	crook->peer.data = crook;
	assert_int_equal(uv_accept(stream, (uv_stream_t *)&crook->peer), 0);
	crook->has_peer = true;
	if (out.len)
		uv_try_write((uv_stream_t *)&crook->peer, &out, 1);
	free(out.base);
	uv_read_start((uv_stream_t *)&crook->peer, on_crook_alloc, on_crook_read);
	if (crook->then == DRIP)
		uv_timer_start(&crook->timer, on_drip, 10, 10);
}

static void crook_init(struct crook *crook, struct world *world)
{
	struct sockaddr_storage any;
	int len = sizeof(any);
	struct addr loopback;
	uint16_t port;

	crook->world = world;
	assert_int_equal(addr_parse(&loopback, "127.0.0.1"), 0);
	addr_to_sockaddr(&loopback, 0, &any);
	uv_tcp_init(&world->loop, &crook->listener);
	uv_timer_init(&world->loop, &crook->timer);
	crook->listener.data = crook;
	crook->timer.data = crook;
	assert_int_equal(uv_tcp_bind(&crook->listener, (struct sockaddr *)&any, 0), 0);
	assert_int_equal(uv_listen((uv_stream_t *)&crook->listener, 8, on_crook), 0);
	uv_tcp_getsockname(&crook->listener, (struct sockaddr *)&any, &len);
	assert_int_equal(addr_from_sockaddr(&loopback, &port, (struct sockaddr *)&any), 0);
	world->services[0].port = port;
}

static const struct crook_row {
	const char *why;
	enum engine engine;
	const char *text;
	enum then then;
	uint32_t timeout_ms;
	enum probe_reason reason;
} crook_rows[] = {
	{"accepts and says nothing", ENGINE_OLLAMA, "", STAY, 60, PROBE_ANSWER_TIMEOUT},
	{"closes without a word", ENGINE_OLLAMA, "", CLOSE, 2000, PROBE_CLOSED},
	{"stops within the answer", ENGINE_OLLAMA,
	 "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{\"mod", CLOSE, 2000, PROBE_CLOSED},
	{"speaks something else", ENGINE_OLLAMA, "SSH-2.0-OpenSSH_9.2\r\n\r\n", STAY, 2000,
	 PROBE_BAD_HTTP},
	{"announces more than a megabyte", ENGINE_HTTP,
	 "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n", DRIP, 150, PROBE_ANSWER_TIMEOUT},
	{"a byte now and then does not move the deadline", ENGINE_HTTP,
	 "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", DRIP, 100, PROBE_ANSWER_TIMEOUT},
	{"wyoming: info", ENGINE_WYOMING,
	 "{\"type\":\"info\",\"version\":\"1.5\",\"data_length\":9}\n{\"asr\":[]}", STAY, 2000,
	 PROBE_OK},
	{"wyoming: info without its end", ENGINE_WYOMING, "{\"type\":\"info\"", STAY, 60,
	 PROBE_ANSWER_TIMEOUT},
	{"wyoming: another event", ENGINE_WYOMING, "{\"type\":\"error\"}\n", STAY, 2000,
	 PROBE_BAD_ANSWER},
	{"wyoming: not JSON", ENGINE_WYOMING, "hello\n", STAY, 2000, PROBE_BAD_JSON},
	{"wyoming: JSON, but no event", ENGINE_WYOMING, "[1]\n", STAY, 2000, PROBE_BAD_ANSWER},
	{"wyoming: closes within the line", ENGINE_WYOMING, "{\"type\":\"info\"", CLOSE, 2000,
	 PROBE_CLOSED},
	{"wyoming: closes", ENGINE_WYOMING, "", CLOSE, 2000, PROBE_CLOSED},
	{"tcp: accepts and says nothing", ENGINE_TCP, "", STAY, 2000, PROBE_OK},
};

static void test_probe__gives_each_failure_its_reason(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(crook_rows) / sizeof(crook_rows[0]); i++) {
		const struct crook_row *row = &crook_rows[i];
		struct world *world = world_new(row->engine, NULL);
		struct crook crook = {.text = row->text, .then = row->then};

		crook_init(&crook, world);
		world->model.probe.timeout_ms = row->timeout_ms;
		world->model.probe.interval_ms = 5000; /* one probe */
		world_run(world, 1);
		if (world->last.reason != row->reason)
			fail_msg("%s: %s", row->why, probe_reason_word(world->last.reason));
		peer_close(&crook);
		uv_close((uv_handle_t *)&crook.listener, NULL);
		uv_close((uv_handle_t *)&crook.timer, NULL);
		world_free(world);
	}
}

static void test_probe__says_refused(void **state)
{
	struct world *world = world_new(ENGINE_OLLAMA, NULL);

	(void)state;
	server_free(world->server); /* nobody listens on the port now */
	world->server = NULL;
	world_run(world, 1);
	assert_int_equal(world->last.reason, PROBE_REFUSED);
	assert_int_equal(world->last.status, 0);
	world_free(world);
}

static void test_probe__refuses_an_answer_over_a_megabyte(void **state)
{
	static char large[(1 << 20) + 100];
	const struct answer answers[] = {{"/", 200, large}, {0}};
	struct world *world = world_new(ENGINE_HTTP, answers);

	(void)state;
	memset(large, 'x', sizeof(large) - 1);
	world_run(world, 1);
	assert_int_equal(world->last.reason, PROBE_TOO_LARGE);
	world_free(world);
}

static void test_probe__limits_the_list_of_models(void **state)
{
	const struct answer answers[] = {{"/api/tags", 200, NULL}, {0}};
	struct answer filled[2];
	struct buf text = {0};
	struct world *world;

	(void)state;
	buf_puts(&text, "{\"models\":[");
	for (int i = 0; i < PROBE_NAMES_MAX + 5; i++)
		buf_printf(&text, "%s{\"name\":\"m%d\"}", i ? "," : "", i);
	buf_puts(&text, "]}");
	memcpy(filled, answers, sizeof(filled));
	filled[0].body = text.data;
	world = world_new(ENGINE_OLLAMA, filled);
	world_run(world, 1);
	assert_int_equal(world->last.reason, PROBE_OK);
	assert_int_equal(world->last.models.n, PROBE_NAMES_MAX);
	world_free(world);
	buf_fini(&text);
}

#define DEEP "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]" /* 16, and the entry is one itself */
#define SPACED \
	"{ \"name\" : \"b\",\n \"details\": {\"family\": \"x\\u00e9\"}, \"size\": 4683075271 }"
#define COMPACT "{\"name\":\"b\",\"details\":{\"family\":\"x\xc3\xa9\"},\"size\":4683075271}"

/* What the engine says of each of its models is kept beside the name, one line each. */
static void test_probe__keeps_the_entries_of_models(void **state)
{
	const struct answer answers[] = {
		{"/api/tags", 200,
		 "{\"models\":[{\"name\":\"a\",\"x\":" DEEP "},{\"name\":\"\"}," SPACED "]}"},
		{"/api/ps", 200, "{\"models\":[{\"name\":\"b\",\"expires_at\":\"soon\"}]}"},
		{0}};
	struct world *world = world_new(ENGINE_OLLAMA, answers);

	(void)state;
	world_run(world, 1);
	assert_string_equal(world->models, "a b");
	assert_string_equal(world->about, "- " COMPACT); /* too deep: the name stays */
	assert_string_equal(world->running, "-");
	world_run(world, 1);
	assert_string_equal(world->about, "-");
	assert_string_equal(world->running, "{\"name\":\"b\",\"expires_at\":\"soon\"}");
	world_free(world);
}

/* A list that differs in one byte is another list. */
static void test_probe__tells_what_has_changed(void **state)
{
	const struct answer one[] = {{"/v1/models", 200, "{\"data\":[{\"id\":\"gpt-1\"}]}"}, {0}};
	const struct answer two[] = {{"/v1/models", 200, "{\"data\":[{\"id\":\"gpt-2\"}]}"}, {0}};
	struct world *world = world_new(ENGINE_OPENAI, one);

	(void)state;
	world_run(world, 3);
	assert_string_equal(world->models, "-");
	world->answers = two;
	world_run(world, 1);
	assert_string_equal(world->models, "gpt-2");
	world->answers = one;
	world_run(world, 1);
	assert_string_equal(world->models, "gpt-1");
	world_free(world);
}

static void test_probe__goes_without_an_entry_that_is_too_long(void **state)
{
	struct answer answers[] = {{"/v1/models", 200, NULL}, {0}};
	struct buf text = {0};
	struct world *world;

	(void)state;
	buf_printf(&text, "{\"data\":[{\"id\":\"a\",\"x\":\"%05000d\"},{\"id\":\"b\"}]}", 0);
	answers[0].body = text.data;
	world = world_new(ENGINE_OPENAI, answers);
	world_run(world, 1);
	assert_string_equal(world->models, "a b");
	assert_string_equal(world->about, "- {\"id\":\"b\"}");
	world_free(world);
	buf_fini(&text);
}

static void test_probe__measures_connect_and_first_byte(void **state)
{
	const struct answer answers[] = {{"/", 200, "x"}, {0}};
	struct world *world = world_new(ENGINE_HTTP, answers);

	(void)state;
	world_run(world, 1);
	assert_true(world->last.rtt_us > 0);
	assert_int_equal(world->last.status, 200);
	world_free(world);
}

/* --- when --- */

static void test_probe__one_deadline_for_all_questions(void **state)
{
	/* the second question is never answered: the probe ends in time, healthy, for it was
	 * optional */
	const struct answer answers[] = {{"/health", 200, ""}, {"/v1/models", 200, NULL}, {0}};
	struct world *world = world_new(ENGINE_VLLM, answers);
	uint64_t start = uv_now(&world->loop);

	(void)state;
	world->model.probe.timeout_ms = 80;
	world->model.probe.interval_ms = 5000;
	world_run(world, 1);
	assert_int_equal(world->last.reason, PROBE_OK);
	assert_string_equal(world->models, "-");
	assert_in_range(world->noted_ms[0] - start, 75, 2000);
	world_free(world);
}

static void test_probe__asks_an_endpoint_once_at_a_time(void **state)
{
	const struct answer answers[] = {{"/", 200, NULL}, {0}};
	struct world *world = world_new(ENGINE_HTTP, answers);

	(void)state;
	world->model.probe.interval_ms = 10; /* five would overlap */
	world->model.probe.timeout_ms = 50;
	world_run(world, 4);
	assert_int_equal(world->last.reason, PROBE_ANSWER_TIMEOUT);
	assert_int_equal(world->pending_max, 1);
	world_free(world);
}

static void test_probe__keeps_the_interval_within_a_tenth(void **state)
{
	const struct answer answers[] = {{"/", 200, "x"}, {0}};
	struct world *world = world_new(ENGINE_HTTP, answers);
	uint64_t shortest = UINT64_MAX, longest = 0;

	(void)state;
	world->model.probe.interval_ms = 100;
	world_run(world, 11);
	for (unsigned i = 1; i < 11; i++) {
		uint64_t gap = world->noted_ms[i] - world->noted_ms[i - 1];

		shortest = gap < shortest ? gap : shortest;
		longest = gap > longest ? gap : longest;
	}
	assert_true(longest - shortest >= 4); /* of 20 that are drawn from */
	/* ten times 90 at least, less what a busy machine may hold back the first result by */
	assert_in_range(world->noted_ms[10] - world->noted_ms[0], 10 * 90 - 40, 9000);
	world_free(world);
}

static void test_probe__spreads_the_first_round(void **state)
{
	const struct answer answers[] = {{"/", 200, "x"}, {0}};
	struct world *world = world_new(ENGINE_HTTP, answers);
	uint64_t start = uv_now(&world->loop);

	(void)state;
	model_fill(world, ENGINE_HTTP, world->services[0].port, 8);
	world->model.probe.interval_ms = 160; /* one each 20 ms */
	world_run(world, 8);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(world->noted_endpoint[i], i);
		assert_true(world->noted_ms[i] - start >= 20 * i);
	}
	world_free(world);
}

static void test_probe__asks_at_once_when_told(void **state)
{
	const struct answer answers[] = {{"/", 200, "x"}, {0}};
	struct world *world = world_new(ENGINE_HTTP, answers);

	(void)state;
	model_fill(world, ENGINE_HTTP, world->services[0].port, 2);
	world->model.probe.interval_ms = 8000; /* the second endpoint would be asked after 4 s */
	world_run(world, 1);
	probe_now(world->prober, 1);
	probe_now(world->prober, 7); /* there is no such endpoint */
	assert_int_equal(world->results, 1);
	world_run(world, 1);
	assert_int_equal(world->noted_endpoint[1], 1);
	assert_in_range(world->noted_ms[1] - world->noted_ms[0], 0, 2000);
	world_free(world);
}

/* What was asked before does not count: the node may have failed since. */
static void test_probe__drops_the_question_under_way(void **state)
{
	const struct answer never[] = {{"/", 200, NULL}, {0}}, answers[] = {{"/", 200, "x"}, {0}};
	struct world *world = world_new(ENGINE_HTTP, never);

	(void)state;
	world->model.probe.interval_ms = 100;
	world->prober = prober_new(&world->loop, &world->model, on_result, world);
	while (!world->pending)
		uv_run(&world->loop, UV_RUN_ONCE);
	world->answers = answers;
	probe_now(world->prober, 0);
	world_run(world, 1);
	assert_int_equal(world->last.reason, PROBE_OK);
	assert_int_equal(world->requests, 2);
	world_run(world, 2); /* and on it goes */
	assert_int_equal(world->requests, 4);
	assert_int_equal(world->pending, 0);
	world_free(world);
}

static void test_probe__ollama_asks_one_question_a_round(void **state)
{
	const struct answer answers[] = {
		{"/api/tags", 200, "{\"models\":[]}"}, {"/api/ps", 200, "{\"models\":[]}"}, {0}};
	struct world *world = world_new(ENGINE_OLLAMA, answers);

	(void)state;
	world_run(world, 4);
	assert_int_equal(world->requests, 4);
	assert_string_equal(world->asked[0], "/api/tags");
	assert_string_equal(world->asked[1], "/api/ps");
	assert_string_equal(world->asked[2], "/api/tags");
	assert_string_equal(world->asked[3], "/api/ps");
	world_free(world);
}

static void on_soon(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

static void test_probe__says_nothing_after_it_is_freed(void **state)
{
	const struct answer answers[] = {{"/", 200, NULL}, {0}};
	struct world *world = world_new(ENGINE_HTTP, answers);

	(void)state;
	world->prober = prober_new(&world->loop, &world->model, on_result, world);
	assert_non_null(world->prober);
	while (world->requests == 0) /* in the middle of a probe */
		uv_run(&world->loop, UV_RUN_ONCE);
	prober_free(world->prober);
	world->prober = NULL;
	uv_timer_start(&world->guard, on_soon, 50, 0);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	assert_int_equal(world->results, 0);
	assert_int_equal(world->pending, 0); /* the server saw it leave */
	world_free(world);
}

static void on_result_free(void *arg, size_t endpoint, const struct probe_result *result)
{
	struct world *world = arg;

	(void)endpoint;
	(void)result;
	world->results++;
	prober_free(world->prober);
	world->prober = NULL;
}

static void test_probe__may_be_freed_by_its_caller(void **state)
{
	const struct answer answers[] = {{"/api/tags", 200, OLLAMA_TAGS}, {0}};
	struct world *world = world_new(ENGINE_OLLAMA, answers);

	(void)state;
	world->prober = prober_new(&world->loop, &world->model, on_result_free, world);
	assert_non_null(world->prober);
	while (world->results == 0)
		uv_run(&world->loop, UV_RUN_ONCE);
	assert_null(world->prober);
	world_free(world);
}

static void test_probe__no_endpoints_no_work(void **state)
{
	struct world *world = world_new(ENGINE_HTTP, NULL);

	(void)state;
	world->model.n_endpoints = 0;
	world->prober = prober_new(&world->loop, &world->model, on_result, world);
	assert_non_null(world->prober);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe__means_what_the_engine_says),
		cmocka_unit_test(test_probe__gives_each_failure_its_reason),
		cmocka_unit_test(test_probe__says_refused),
		cmocka_unit_test(test_probe__refuses_an_answer_over_a_megabyte),
		cmocka_unit_test(test_probe__limits_the_list_of_models),
		cmocka_unit_test(test_probe__keeps_the_entries_of_models),
		cmocka_unit_test(test_probe__tells_what_has_changed),
		cmocka_unit_test(test_probe__goes_without_an_entry_that_is_too_long),
		cmocka_unit_test(test_probe__measures_connect_and_first_byte),
		cmocka_unit_test(test_probe__one_deadline_for_all_questions),
		cmocka_unit_test(test_probe__asks_an_endpoint_once_at_a_time),
		cmocka_unit_test(test_probe__keeps_the_interval_within_a_tenth),
		cmocka_unit_test(test_probe__spreads_the_first_round),
		cmocka_unit_test(test_probe__asks_at_once_when_told),
		cmocka_unit_test(test_probe__drops_the_question_under_way),
		cmocka_unit_test(test_probe__ollama_asks_one_question_a_round),
		cmocka_unit_test(test_probe__says_nothing_after_it_is_freed),
		cmocka_unit_test(test_probe__may_be_freed_by_its_caller),
		cmocka_unit_test(test_probe__no_endpoints_no_work),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
