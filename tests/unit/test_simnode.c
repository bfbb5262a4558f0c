/* SPDX-License-Identifier: MIT */
/* The simulated node, asked through net/client as a gateway or an app would. */
#include "sim_rig.h"

static void test_simnode__dialects(void **state)
{
	static const struct row rows[] = {
		{"the root of Ollama", "ollama", "GET", "/", NULL, 200, "Ollama is running", NULL},
		{"HEAD too", "ollama", "HEAD", "/", NULL, 200, NULL, "Ollama"},
		{"version", "ollama", "GET", "/api/version", NULL, 200, "{\"version\":\"", NULL},
		{"tags have a tag", "ollama", "GET", "/api/tags", NULL, 200,
		 "{\"name\":\"a:latest\",\"model\":\"a:latest\"", NULL},
		{"tags list what is not loaded", "ollama", "GET", "/api/tags", NULL, 200,
		 "\"b:7b\"", NULL},
		{"each model has its own digest", "ollama", "GET", "/api/tags", NULL, 200,
		 "\"digest\":\"", "0000000000000000"},
		{"ps does not", "ollama", "GET", "/api/ps", NULL, 200, "\"a:latest\"", "b:7b"},
		{"show", "ollama", "POST", "/api/show", "{\"model\":\"a\"}", 200,
		 "\"capabilities\"", NULL},
		{"show of nothing", "ollama", "POST", "/api/show", "{\"model\":\"x\"}", 404,
		 "{\"error\":\"model 'x' not found\"}", NULL},
		{"generate streams", "ollama", "POST", "/api/generate",
		 "{\"model\":\"a:latest\",\"prompt\":\"p\"}", 200,
		 "\"response\":\"n1\",\"done\":false}\n", NULL},
		{"its last line", "ollama", "POST", "/api/generate",
		 "{\"model\":\"a\",\"prompt\":\"p\"}", 200,
		 "\"done\":true,\"done_reason\":\"stop\"", NULL},
		{"generate at once", "ollama", "POST", "/api/generate",
		 "{\"model\":\"a\",\"prompt\":\"p\",\"stream\":false}", 200,
		 "\"response\":\"n1 says hello word-3\",\"done\":true", "\"done\":false"},
		{"so many tokens", "ollama", "POST", "/api/generate",
		 "{\"model\":\"a\",\"prompt\":\"p\",\"stream\":false,\"options\":{\"num_predict\":"
		 "2}}",
		 200, "\"response\":\"n1 says\",\"done\":true,\"done_reason\":\"length\"", NULL},
		{"an empty prompt loads", "ollama", "POST", "/api/generate", "{\"model\":\"b:7b\"}",
		 200, "\"done_reason\":\"load\"", NULL},
		{"or unloads", "ollama", "POST", "/api/chat", "{\"model\":\"a\",\"keep_alive\":0}",
		 200, "\"done_reason\":\"unload\"", NULL},
		{"chat", "ollama", "POST", "/api/chat", "{\"model\":\"a\",\"messages\":[{}]}", 200,
		 "\"message\":{\"role\":\"assistant\",\"content\":\"n1\"},\"done\":false}\n", NULL},
		{"embed", "ollama", "POST", "/api/embed",
		 "{\"model\":\"a\",\"input\":[\"x\",\"y\"]}", 200, "],[", NULL},
		{"the old embeddings", "ollama", "POST", "/api/embeddings",
		 "{\"model\":\"a\",\"prompt\":\"x\"}", 200, "{\"embedding\":[", NULL},
		{"an unknown model", "ollama", "POST", "/api/chat",
		 "{\"model\":\"x\",\"messages\":[{}]}", 404, "{\"error\":\"model 'x' not found\"}",
		 NULL},
		{"a tag that differs", "ollama", "POST", "/api/chat",
		 "{\"model\":\"b\",\"messages\":[{}]}", 404, "not found", NULL},
		{"no model", "ollama", "POST", "/api/chat", "{}", 400, "{\"error\":", NULL},
		{"no JSON", "ollama", "POST", "/api/chat", "{", 400, "{\"error\":", NULL},
		{"an array", "ollama", "POST", "/api/chat", "[]", 400, "{\"error\":", NULL},
		{"nothing", "ollama", "POST", "/api/chat", NULL, 400, "{\"error\":", NULL},
		{"an unknown path", "ollama", "GET", "/x", NULL, 404, NULL, NULL},
		{"another method", "ollama", "GET", "/api/chat", NULL, 405, NULL, NULL},
		{"Ollama has no /health", "ollama", "GET", "/health", NULL, 404, NULL, NULL},
		{"its /v1 does", "ollama", "GET", "/v1/models", NULL, 200,
		 "{\"object\":\"list\",\"data\":[{\"id\":\"a\"", NULL},
		{"one model", "openai", "GET", "/v1/models/b%3A7b", NULL, 200, "{\"id\":\"b:7b\"",
		 NULL},
		{"no such model", "openai", "GET", "/v1/models/x", NULL, 404,
		 "{\"error\":{\"message\":\"model 'x' not found\"", NULL},
		{"chat completions at once", "vllm", "POST", "/v1/chat/completions",
		 "{\"model\":\"a\",\"messages\":[]}", 200,
		 "\"message\":{\"role\":\"assistant\",\"content\":\"n1 says hello "
		 "word-3\"},\"finish_reason\":\"stop\"}],\"usage\":",
		 NULL},
		{"chat completions streamed", "vllm", "POST", "/v1/chat/completions",
		 "{\"model\":\"a\",\"messages\":[],\"stream\":true}", 200, "\n\ndata: [DONE]\n\n",
		 "usage"},
		{"with usage", "vllm", "POST", "/v1/chat/completions",
		 "{\"model\":\"a\",\"messages\":[],\"stream\":true,\"stream_options\":{\"include_"
		 "usage\":true}}",
		 200, "\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":4",
		 NULL},
		{"completions", "vllm", "POST", "/v1/completions",
		 "{\"model\":\"a\",\"prompt\":\"x\",\"max_tokens\":1}", 200,
		 "\"text\":\"n1\",\"finish_reason\":\"length\"", NULL},
		{"embeddings", "vllm", "POST", "/v1/embeddings",
		 "{\"model\":\"a\",\"input\":\"x\"}", 200, "\"object\":\"embedding\",\"index\":0",
		 NULL},
		{"an unknown model in the other dialect", "vllm", "POST", "/v1/completions",
		 "{\"model\":\"x\"}", 404,
		 "{\"error\":{\"message\":\"model 'x' not "
		 "found\",\"type\":\"NotFoundError\",\"param\":null,\"code\":404}}",
		 NULL},
		{"health of llama.cpp", "llamacpp", "GET", "/health", NULL, 200,
		 "{\"status\":\"ok\"}", NULL},
		{"health of vLLM is empty", "vllm", "GET", "/health", NULL, 200, NULL, "ok"},
		{"vLLM has no /api", "vllm", "GET", "/api/tags", NULL, 404, NULL, NULL},
		{"ComfyUI's queue", "comfyui", "GET", "/prompt", NULL, 200,
		 "{\"exec_info\":{\"queue_remaining\":0}}", NULL},
		{"Immich", "immich", "GET", "/ping", NULL, 200, "pong", NULL},
		{"Immich predicts", "immich", "POST", "/predict", "--multipart", 200,
		 "\"text\":\"n1 says", NULL},
		{"any HTTP", "http", "GET", "/whatever", NULL, 200, "n1", NULL},
	};
	struct simnode_options options = fast();

	(void)state;
	try_rows(rows, sizeof(rows) / sizeof(rows[0]), &options);
}

static void test_simnode__failures(void **state)
{
	static const struct row loading[] = {
		{"loading", "llamacpp", "GET", "/health", NULL, 503,
		 "{\"error\":{\"code\":503,\"message\":\"Loading "
		 "model\",\"type\":\"unavailable_error\"}}",
		 NULL},
		{"inferences too", "llamacpp", "POST", "/v1/completions", "{\"model\":\"a\"}", 503,
		 "Loading", NULL},
		{"the process is up", "ollama", "GET", "/", NULL, 200, NULL, NULL},
	};
	static const struct row status[] = {
		{"a status", "ollama", "POST", "/api/chat", "{\"model\":\"a\"}", 429,
		 "{\"error\":\"", NULL},
		{"lists still work", "ollama", "GET", "/api/tags", NULL, 200, NULL, NULL},
	};
	static const struct row sse_error[] = {
		{"an error as the first event", "sglang", "POST", "/v1/completions",
		 "{\"model\":\"a\",\"stream\":true}", 200,
		 "data: {\"error\":{\"object\":\"error\",\"message\":\"The request queue is "
		 "full.\"",
		 "[DONE]"},
	};
	struct simnode_options options = fast();

	(void)state;
	options.load_ms = 60000;
	try_rows(loading, 3, &options);
	options = fast();
	options.status = 429;
	try_rows(status, 2, &options);
	options = fast();
	assert_int_equal(simnode_fail_parse(&options, "sse-error"), 0);
	try_rows(sse_error, 1, &options);
}

static void test_simnode__cut_and_closed_answers(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "ollama");
	struct outcome outcome;

	(void)state;
	set(rig, "{\"fail\":\"cut=2\"}");
	outcome = ask(rig, "POST", "/api/generate", "{\"model\":\"a\",\"prompt\":\"p\"}");
	assert_int_equal(outcome.reason, PROBE_CLOSED);
	assert_int_equal(outcome.status, 200);
	assert_int_equal(count_of(outcome.body.data, "\n"), 2);
	buf_fini(&outcome.body);
	set(rig, "{\"fail\":\"close\"}");
	outcome = ask(rig, "POST", "/api/generate", "{\"model\":\"a\",\"prompt\":\"p\"}");
	assert_int_equal(outcome.reason, PROBE_CLOSED);
	assert_int_equal(outcome.status, 0);
	set(rig, "{\"fail\":\"none\"}");
	outcome = ask(rig, "POST", "/api/generate", "{\"model\":\"a\",\"prompt\":\"p\"}");
	assert_int_equal(outcome.reason, PROBE_OK);
	assert_int_equal(stat_of(rig, "active"), 0);
	buf_fini(&outcome.body);
	rig_free(rig);
}

static void test_simnode__refuses_bad_settings(void **state)
{
	static const char *const bad[] = {"{\"slots\":0}",
					  "{\"tps\":0}",
					  "{\"status\":200}",
					  "{\"fail\":\"x\"}",
					  "{\"fail_times\":-1}",
					  "{\"token_bytes\":16777217}",
					  "{\"stamp\":1}",
					  "{\"fail\":\"cut=\"}",
					  "{\"fail\":\"cut=1x\"}",
					  "{\"x\":1}",
					  "[1]",
					  "",
					  "{\"slots\":\"1\"}"};
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "ollama");

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct outcome outcome = ask(rig, "POST", "/sim/set", bad[i]);

		if (outcome.status != 400)
			fail_msg("%s: %d", bad[i], outcome.status);
		buf_fini(&outcome.body);
	}
	rig_free(rig);
}

/* 1 ms to the first token, then 20 a second: 5 tokens take 200 ms, and come one by one. */
static void test_simnode__tokens_keep_time(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig;
	struct outcome outcome;

	(void)state;
	options.tps = 20;
	rig = rig_new(&options, "ollama");
	outcome = ask(rig, "POST", "/api/generate",
		      "{\"model\":\"a\",\"prompt\":\"p\",\"options\":{\"num_predict\":5}}");
	assert_in_range((outcome.done_at - outcome.first_at) / 1000000, 150, 5000);
	assert_int_equal(count_of(outcome.body.data, "\n"), 6);
	assert_in_range(outcome.pieces, 4, 6);
	buf_fini(&outcome.body);
	rig_free(rig);
}

static void test_simnode__slots_and_queue(void **state)
{
	static const char chat[] =
		"{\"model\":\"a\",\"messages\":[{}],\"options\":{\"num_predict\":1000000}}";
	struct simnode_options options = fast();
	struct outcome first, second, third, fourth;
	struct rig *rig;

	(void)state;
	options.tps = 100;
	options.slots = 2;
	rig = rig_new(&options, "ollama");
	start(rig, &first, "POST", "/api/chat", chat);
	wait_stat(rig, "active", 1);
	start(rig, &second, "POST", "/api/chat", chat);
	wait_stat(rig, "active", 2);
	start(rig, &third, "POST", "/api/chat", chat);
	wait_stat(rig, "waiting", 1);
	start(rig, &fourth, "POST", "/api/chat",
	      "{\"model\":\"a\",\"messages\":[{}],\"options\":{\"num_predict\":1}}");
	wait_stat(rig, "waiting", 2);
	assert_int_equal(third.pieces, 0); /* not even a head */
	client_cancel(third.client);	   /* leaves the queue */
	wait_stat(rig, "waiting", 1);
	assert_int_equal(stat_of(rig, "active"), 2);
	assert_false(fourth.done);
	client_cancel(first.client); /* frees its slot */
	wait_for(&fourth);
	assert_int_equal(fourth.reason, PROBE_OK);
	client_cancel(second.client);
	wait_stat(rig, "active", 0);
	assert_int_equal(stat_of(rig, "aborted"), 3);
	assert_int_equal(stat_of(rig, "max_active"), 2);
	assert_int_equal(stat_of(rig, "requests"), 4);
	assert_int_equal(stat_of(rig, "finished"), 1);
	buf_fini(&first.body);
	buf_fini(&second.body);
	buf_fini(&third.body);
	buf_fini(&fourth.body);
	rig_free(rig);
}

static void test_simnode__queue_keeps_order(void **state)
{
	struct simnode_options options = fast();
	struct outcome outcomes[8];
	struct rig *rig;

	(void)state;
	options.slots = 1;
	options.ttft_ms = 5;
	rig = rig_new(&options, "ollama");
	for (size_t i = 0; i < 8; i++) {
		start(rig, &outcomes[i], "POST", "/api/chat",
		      "{\"model\":\"a\",\"messages\":[{}],\"stream\":false}");
		wait_stat(rig, "requests", (int64_t)i + 1);
	}
	for (size_t i = 0; i < 8; i++) {
		wait_for(&outcomes[i]);
		assert_int_equal(outcomes[i].reason, PROBE_OK);
		assert_true(!i || outcomes[i].done_at > outcomes[i - 1].done_at);
		buf_fini(&outcomes[i].body);
	}
	assert_int_equal(stat_of(rig, "max_active"), 1);
	rig_free(rig);
}

static void test_simnode__hanging_and_freed(void **state)
{
	struct simnode_options options = fast();
	struct outcome outcome;
	struct rig *rig;

	(void)state;
	options.fail = SIM_FAIL_HANG;
	rig = rig_new(&options, "ollama");
	start(rig, &outcome, "POST", "/api/chat", "{\"model\":\"a\",\"messages\":[{}]}");
	wait_stat(rig, "active", 1);
	simnode_free(rig->node); /* with a job under way */
	rig->node = NULL;
	wait_for(&outcome);
	assert_int_equal(outcome.reason, PROBE_CLOSED);
	rig_free(rig);
}

static void test_simnode__any_model_without_a_list(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig;
	struct outcome outcome;

	(void)state;
	options.n_models = 0;
	rig = rig_new(&options, "ollama");
	outcome = ask(rig, "POST", "/api/chat", "{\"model\":\"whatever\",\"messages\":[{}]}");
	assert_int_equal(outcome.status, 200);
	buf_fini(&outcome.body);
	rig_free(rig);
}

/* Sends until nothing more is taken, then reads it all back: the node holds back instead of
 * growing. */
static void test_simnode__echo_holds_back(void **state)
{
	static char block[65536], back[65536];
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "tcp");
	size_t sent = 0, received = 0;
	unsigned refused = 0;
	int fd = connect_to(rig);
	ssize_t n;

	(void)state;
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)(i % 251);
	while (refused < 50 && sent < 256u << 20) {
		n = send(fd, block + sent % sizeof(block), sizeof(block) - sent % sizeof(block), 0);
		sent += n > 0 ? (size_t)n : 0;
		refused = n > 0 ? 0 : refused + 1;
		uv_run(&rig->loop, UV_RUN_NOWAIT);
	}
	assert_in_range(sent, 1, 128u << 20); /* what the kernel's buffers take, and a little */
	shutdown(fd, SHUT_WR);
	do {
		uv_run(&rig->loop, UV_RUN_NOWAIT);
		n = recv(fd, back, sizeof(back), 0);
		for (ssize_t i = 0; i < n; i++, received++) {
			const char *banner = "n1\n";
			char want = received < 3 ? banner[received]
						 : block[(received - 3) % sizeof(block)];

			if (back[i] != want)
				fail_msg("byte %zu differs", received);
		}
	} while (n > 0 || (n < 0 && errno == EAGAIN));
	assert_int_equal(n, 0); /* its end comes after the last byte */
	assert_int_equal(received, sent + 3);
	close(fd);
	rig_free(rig);
}

static void test_simnode__stream_freed_while_open(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "tcp");
	int fd = connect_to(rig);
	char text[8];

	(void)state;
	while (recv(fd, text, sizeof(text), 0) < 0)
		uv_run(&rig->loop, UV_RUN_NOWAIT);
	simnode_free(rig->node);
	rig->node = NULL;
	while (recv(fd, text, sizeof(text), 0) != 0)
		uv_run(&rig->loop, UV_RUN_NOWAIT);
	close(fd);
	rig_free(rig);
}

static void test_simnode__wyoming(void **state)
{
	static const struct {
		const char *sentence, *sent;
		bool good;
		const char *has;
	} rows[] = {
		{"describe", "{\"type\":\"describe\"}\n", true,
		 "{\"type\":\"info\",\"data\":{\"asr\":[{\"name\":\"n1\""},
		{"data and payload are passed over",
		 "{\"type\":\"audio-start\",\"data_length\":2}\n{}{\"type\":\"audio-chunk\","
		 "\"payload_length\":4}\n{\"a\n{\"type\":\"audio-stop\"}\n",
		 true, "{\"type\":\"transcript\",\"data\":{\"text\":\"n1 heard 4 bytes\"}}\n"},
		{"synthesize", "{\"type\":\"synthesize\"}\n", true,
		 "\"payload_length\":8}\n\1\1\1\1\1\1\1\1{\"type\":\"audio-stop\"}\n"},
		{"an event it does not know", "{\"type\":\"ping\"}\n", true, ""},
		{"half an event", "{\"type\":", true, ""},
		{"no JSON", "GET / HTTP/1.1\r\n", false, ""},
		{"no type", "{}\n", false, ""},
		{"a length that is none", "{\"type\":\"x\",\"payload_length\":-1}\n", false, ""},
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct sim_wyoming events = {.line = {0}};
		struct buf out = {0};
		size_t len = strlen(rows[i / 2].sent), step = i % 2 ? 1 : len;
		bool good = true;

		for (size_t at = 0; at < len && good; at += step)
			good = sim_wyoming_feed(&events, "n1", rows[i / 2].sent + at, step, &out);
		if (good != rows[i / 2].good || !strstr(out.data ? out.data : "", rows[i / 2].has))
			fail_msg("%s: %s", rows[i / 2].sentence, out.data);
		buf_fini(&out);
		buf_fini(&events.line);
	}
}

static void test_simnode__engines(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "any");
	uint16_t port = 0;

	(void)state;
	assert_int_equal(simnode_serve(rig->node, "x", &rig->loopback, &port), -EINVAL);
	port = rig->port;
	assert_int_equal(simnode_serve(rig->node, "tcp", &rig->loopback, &port), -EADDRINUSE);
	assert_int_equal(simnode_serve(rig->node, "http", &rig->loopback, &port), -EADDRINUSE);
	assert_int_equal(simnode_default_port("ollama"), 11434);
	assert_int_equal(simnode_default_port("tcp"), 0);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_simnode__dialects),
		cmocka_unit_test(test_simnode__failures),
		cmocka_unit_test(test_simnode__cut_and_closed_answers),
		cmocka_unit_test(test_simnode__refuses_bad_settings),
		cmocka_unit_test(test_simnode__tokens_keep_time),
		cmocka_unit_test(test_simnode__slots_and_queue),
		cmocka_unit_test(test_simnode__queue_keeps_order),
		cmocka_unit_test(test_simnode__hanging_and_freed),
		cmocka_unit_test(test_simnode__any_model_without_a_list),
		cmocka_unit_test(test_simnode__echo_holds_back),
		cmocka_unit_test(test_simnode__stream_freed_while_open),
		cmocka_unit_test(test_simnode__wyoming),
		cmocka_unit_test(test_simnode__engines),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
