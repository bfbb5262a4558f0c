/* SPDX-License-Identifier: MIT */
/* How the simulated node fails, and what it tells about what it was asked. */
#include "sim_rig.h"

#define GENERATE   "{\"model\":\"a\",\"prompt\":\"p\"}"
#define GENERATE_1 "{\"model\":\"a\",\"prompt\":\"p\",\"stream\":false}"
#define CHAT	   "{\"model\":\"a\",\"messages\":[{}],\"stream\":true}"
#define CHAT_1	   "{\"model\":\"a\",\"messages\":[{}]}"
#define ENDLESS	   "{\"model\":\"a\",\"messages\":[{}],\"options\":{\"num_predict\":1000000}}"
#define LAST_CHUNK "\r\n0\r\n\r\n"
#define LINE	   "\"done\":false}\n"
#define EVENT	   "\"content\":\"n1\"},\"finish_reason\":null}]}\n\n"

static void set_fail(struct rig *rig, const char *fail)
{
	struct buf text = {0};

	buf_printf(&text, "{\"fail\":\"%s\"}", fail);
	set(rig, text.data);
	buf_fini(&text);
}

struct fault_row {
	const char *sentence, *engine, *fail, *target, *body;
	int error;	       /* how the connection ends; 0: in order */
	const char *has;       /* NULL: not one byte comes */
	const char *ends_with; /* NULL: within a line */
	const char *token;     /* is there so many times */
	unsigned tokens;
};

static bool ends_with(const struct buf *text, const char *end)
{
	size_t len = strlen(end);

	return text->len >= len && !strcmp(text->data + text->len - len, end);
}

static void try_fault(const struct fault_row *row)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, row->engine);
	struct seen seen;
	bool good;

	set_fail(rig, row->fail);
	set(rig, "{\"fail_times\":1}");
	seen = post_raw(rig, row->target, row->body);
	good = seen.error == row->error && !row->has == !seen.text.len;
	if (good && row->has)
		good = strstr(seen.text.data, row->has) && !strstr(seen.text.data, LAST_CHUNK) &&
		       (row->ends_with ? ends_with(&seen.text, row->ends_with)
				       : !ends_with(&seen.text, "\n")) &&
		       count_of(seen.text.data, row->token) == row->tokens;
	if (!good)
		fail_msg("%s: error %d, %s", row->sentence, seen.error, seen.text.data);
	assert_int_equal(stat_of(rig, "active"), 0);
	assert_int_equal(stat_of(rig, "failed"), 1);
	assert_int_equal(stat_of(rig, "finished"), 0);
	buf_fini(&seen.text);
	rig_free(rig);
}

/* The connection of each is ended by the node; what is kept alive has its own test. */
static void test_simnode_faults__connections_that_end(void **state)
{
	static const struct fault_row rows[] = {
		{"close", "ollama", "close", "/api/generate", GENERATE, 0, NULL, NULL, NULL, 0},
		{"reset", "ollama", "reset", "/api/generate", GENERATE, ECONNRESET, NULL, NULL,
		 NULL, 0},
		{"reset, not streamed", "vllm", "reset", "/v1/chat/completions", CHAT_1, ECONNRESET,
		 NULL, NULL, NULL, 0},
		{"cut within a chunk", "ollama", "cut=2", "/api/generate", GENERATE, 0,
		 "chunked\r\n", NULL, LINE, 2},
		{"cut after all tokens, before the last line", "ollama", "cut=4", "/api/generate",
		 GENERATE, 0, "chunked\r\n", NULL, LINE, 4},
		{"cut, events", "vllm", "cut=1", "/v1/chat/completions", CHAT, 0, "data: ", NULL,
		 EVENT, 1},
		{"cut before the first token", "vllm", "cut=0", "/v1/chat/completions", CHAT, 0,
		 "\"role\":\"assistant\"", NULL, EVENT, 0},
		{"cut, not streamed: nothing", "vllm", "cut=2", "/v1/chat/completions", CHAT_1, 0,
		 NULL, NULL, NULL, 0},
		{"reset after tokens", "vllm", "reset-after=1", "/v1/chat/completions", CHAT,
		 ECONNRESET, "data: ", "\n\n\r\n", EVENT, 1},
		{"reset after tokens, not streamed", "vllm", "reset-after=1",
		 "/v1/chat/completions", CHAT_1, ECONNRESET, NULL, NULL, NULL, 0},
		{"garbage for a chunk", "ollama", "bad-chunk=1", "/api/generate", GENERATE, 0,
		 "chunked\r\n", "\r\nzz\r\nno size of a chunk\r\n", LINE, 1},
		{"garbage for a chunk, not streamed", "vllm", "bad-chunk=1", "/v1/chat/completions",
		 CHAT_1, 0, "{\"id\":", "\r\nzz\r\nno size of a chunk\r\n", "finish_reason", 0},
		{"truncated", "vllm", "truncate", "/v1/chat/completions", CHAT_1, 0,
		 "Content-Length: ", "\"total_tokens\":5}}", "finish_reason", 1},
		{"truncated, streamed: as cut at its end", "ollama", "truncate", "/api/generate",
		 GENERATE, 0, "chunked\r\n", NULL, LINE, 4},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		try_fault(&rows[i]);
}

/* A client that counts misses the rest. */
static void test_simnode_faults__truncated_answers_are_short(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "ollama");
	struct outcome outcome;

	(void)state;
	set_fail(rig, "truncate");
	outcome = ask(rig, "POST", "/api/generate", GENERATE_1);
	assert_int_equal(outcome.status, 200);
	assert_int_equal(outcome.reason, PROBE_CLOSED);
	assert_true(ends_with(&outcome.body, "}"));
	buf_fini(&outcome.body);
	rig_free(rig);
}

static void test_simnode_faults__answers_kept_alive(void **state)
{
	static const struct {
		const char *sentence, *engine, *fail, *target, *body;
		int status;
		const char *has, *last, *token;
		unsigned tokens;
	} rows[] = {
		{"ends without its last line", "ollama", "end=2", "/api/generate", GENERATE, 200,
		 "n1", LINE, LINE, 2},
		{"ends without [DONE]", "ollama", "end=1", "/v1/chat/completions", CHAT, 200,
		 "\"role\"", EVENT, "data:", 2},
		{"not streamed: 500", "ollama", "end=1", "/api/generate", GENERATE_1, 500,
		 "{\"error\":\"the runner", "}", "done", 0},
		{"a line with the error", "ollama", "error-after=1", "/api/generate", GENERATE, 200,
		 LINE "{\"error\":\"the runner has terminated: simulated failure\"}\n", "}\n", LINE,
		 1},
		{"an event with the error", "openai", "error-after=2", "/v1/chat/completions", CHAT,
		 200,
		 "\n\ndata: {\"error\":{\"message\":\"the runner has terminated: simulated "
		 "failure\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n",
		 "}}\n\n", "data:", 4},
		{"vLLM says [DONE] even so", "vllm", "error-after=0", "/v1/completions",
		 "{\"model\":\"a\",\"stream\":true}", 200,
		 "data: {\"error\":{\"message\":\"the runner has terminated: simulated "
		 "failure\",\"type\":\"InternalServerError\",\"param\":null,\"code\":500}}\n\n",
		 "}}\n\ndata: [DONE]\n\n", "data:", 2},
		{"Anthropic's", "ollama", "error-after=0", "/v1/messages",
		 "{\"model\":\"a\",\"stream\":true}", 200,
		 "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\","
		 "\"message\":\"the runner",
		 "}}\n\n", "message_stop", 0},
		{"/v1/responses'", "ollama", "error-after=0", "/v1/responses",
		 "{\"model\":\"a\",\"stream\":true}", 200,
		 "event: error\ndata: {\"type\":\"error\",\"sequence_number\":4,\"code\":"
		 "\"server_error\",",
		 "}\n\n", "response.completed", 0},
		{"the error first, as a line", "ollama", "sse-error", "/api/generate", GENERATE,
		 200, "{\"error\":\"The request queue is full.\"}\n", "}\n", LINE, 0},
		{"the error first, as an event", "sglang", "sse-error", "/v1/chat/completions",
		 CHAT, 200,
		 "data: {\"error\":{\"object\":\"error\",\"message\":\"The request queue is "
		 "full.\",\"type\":\"ServiceUnavailableError\",\"param\":null,\"code\":503}}\n\n",
		 "}}\n\n", "data:", 1},
		{"or a 503", "sglang", "sse-error", "/v1/chat/completions", CHAT_1, 503,
		 "{\"object\":\"error\",\"message\":\"The request queue is full.\",", "}",
		 "data:", 0},
		{"a head in two pieces, streamed", "ollama", "slow-head=20", "/api/generate",
		 GENERATE, 200, "\"done\":true", "}\n", LINE, 4},
		{"a head in two pieces", "vllm", "slow-head=20", "/v1/chat/completions", CHAT_1,
		 200, "{\"id\":", "}}", "n1 says hello word-3", 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct simnode_options options = fast();
		struct rig *rig = rig_new(&options, rows[i].engine);
		struct outcome outcome;

		set_fail(rig, rows[i].fail);
		outcome = ask(rig, "POST", rows[i].target, rows[i].body);
		if (outcome.status != rows[i].status || outcome.reason == PROBE_CLOSED ||
		    !outcome.body.data || !strstr(outcome.body.data, rows[i].has) ||
		    !ends_with(&outcome.body, rows[i].last) ||
		    count_of(outcome.body.data, rows[i].token) != rows[i].tokens)
			fail_msg("%s: %d %s", rows[i].sentence, outcome.status, outcome.body.data);
		assert_int_equal(stat_of(rig, "active"), 0);
		buf_fini(&outcome.body);
		rig_free(rig);
	}
}

/* The next request on the same connection is answered: the framing was right to its end. */
static void test_simnode_faults__connection_lives_on(void **state)
{
	static const char *const fails[] = {"end=1", "error-after=1", "sse-error", "slow-head=1",
					    "status=503"};
	static const char again[] = "GET /api/version HTTP/1.1\r\nHost: a\r\n\r\n";

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(fails) / sizeof(fails[0]); i++) {
		struct simnode_options options = fast();
		struct rig *rig = rig_new(&options, "ollama");
		struct seen seen;
		int fd;

		set_fail(rig, fails[i / 2]);
		fd = post(rig, "/api/generate", "", i % 2 ? GENERATE_1 : GENERATE);
		send_all(rig, fd, again, sizeof(again) - 1);
		seen = read_all(rig, fd, "{\"version\":");
		if (seen.error || !strstr(seen.text.data, "{\"version\":"))
			fail_msg("%s: %d %s", fails[i / 2], seen.error, seen.text.data);
		buf_fini(&seen.text);
		close(fd);
		rig_free(rig);
	}
}

static void test_simnode_faults__slow_head(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "ollama");
	struct seen first, rest;
	int fd;

	(void)state;
	set_fail(rig, "slow-head=60");
	fd = post(rig, "/api/generate", "", GENERATE);
	first = read_all(rig, fd, "OK\r\nConte");
	assert_string_equal(first.text.data, "HTTP/1.1 200 OK\r\nContent");
	rest = read_all(rig, fd, LAST_CHUNK);
	assert_memory_equal(rest.text.data, "-Type: application/x-ndjson\r\n", 29);
	assert_in_range((rest.first_at - first.first_at) / 1000000, 40, 5000);
	assert_int_equal(count_of(rest.text.data, LINE), 4);
	buf_fini(&first.text);
	buf_fini(&rest.text);
	close(fd);
	rig_free(rig);
}

/* Nothing more comes: asked by requests on other connections, each of which is a turn of the loop.
 */
static void expect_silence(struct rig *rig, int fd)
{
	char byte;

	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(stat_of(rig, "active"), 1);
	assert_int_equal(recv(fd, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

static void test_simnode_faults__hanging(void **state)
{
	static const struct {
		const char *fail, *body, *type;
	} rows[] = {
		{"hang", GENERATE, NULL},
		{"hang", GENERATE_1, NULL},
		{"hang-head", GENERATE, "\r\nContent-Type: application/x-ndjson\r\n"},
		{"hang-head", GENERATE_1, "\r\nContent-Type: application/json\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct simnode_options options = fast();
		struct rig *rig = rig_new(&options, "ollama");
		struct seen seen = {{0}, 0, 0};
		struct json *document;
		int fd;

		set_fail(rig, rows[i].fail);
		fd = post(rig, "/api/generate", "", rows[i].body);
		if (rows[i].type) {
			seen = read_all(rig, fd, "\r\n\r\n");
			assert_non_null(strstr(seen.text.data, rows[i].type));
			assert_true(ends_with(&seen.text, "\r\n\r\n"));
		} else {
			wait_stat(rig, "active", 1);
		}
		expect_silence(rig, fd);
		close(fd);
		wait_stat(rig, "aborted", 1);
		document = stats(rig);
		assert_int_equal(number_of(document, "active"), 0);
		assert_string_equal(json_string(json_get(document, "aborted_in")), "prompt");
		json_free(document);
		buf_fini(&seen.text);
		rig_free(rig);
	}
}

static void test_simnode_faults__so_many_times(void **state)
{
	static const struct {
		const char *settings;
		int statuses[3];
	} rows[] = {
		{"{\"fail\":\"status=502\",\"fail_times\":1}", {502, 200, 200}},
		{"{\"fail\":\"status=502\",\"fail_times\":2}", {502, 502, 200}},
		{"{\"fail\":\"status=502\",\"fail_times\":0}", {502, 502, 502}},
		{"{\"status\":504,\"fail_times\":2}", {504, 504, 200}},
		{"{\"fail\":\"close\",\"fail_times\":1}", {0, 200, 200}},
		{"{\"fail\":\"none\",\"fail_times\":1}", {200, 200, 200}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct simnode_options options = fast();
		struct rig *rig = rig_new(&options, "ollama");

		set(rig, rows[i].settings);
		for (unsigned j = 0; j < 3; j++) {
			struct outcome outcome = ask(rig, "POST", "/api/generate", GENERATE);

			if (outcome.status != rows[i].statuses[j])
				fail_msg("%s: %d", rows[i].settings, outcome.status);
			buf_fini(&outcome.body);
		}
		rig_free(rig);
	}
}

/* The body of each is compared as a whole. */
static void test_simnode_faults__statuses_in_each_shape(void **state)
{
	static const struct {
		const char *engine, *target;
		int status;
		const char *body;
	} rows[] = {
		{"ollama", "/api/chat", 429, "{\"error\":\"simulated failure of n1\"}"},
		{"ollama", "/v1/chat/completions", 500,
		 "{\"error\":{\"message\":\"simulated failure of n1\",\"type\":\"api_error\","
		 "\"param\":null,\"code\":null}}"},
		{"ollama", "/v1/chat/completions", 404,
		 "{\"error\":{\"message\":\"simulated failure of n1\",\"type\":\"not_found_error\","
		 "\"param\":null,\"code\":null}}"},
		{"openai", "/v1/chat/completions", 429,
		 "{\"error\":{\"message\":\"simulated failure of "
		 "n1\",\"type\":\"rate_limit_error\","
		 "\"param\":null,\"code\":\"rate_limit_exceeded\"}}"},
		{"openai", "/v1/chat/completions", 404,
		 "{\"error\":{\"message\":\"simulated failure of n1\",\"type\":"
		 "\"invalid_request_error\",\"param\":null,\"code\":\"model_not_found\"}}"},
		{"openai", "/v1/embeddings", 504,
		 "{\"error\":{\"message\":\"simulated failure of n1\",\"type\":\"server_error\","
		 "\"param\":null,\"code\":null}}"},
		{"llamacpp", "/v1/completions", 503,
		 "{\"error\":{\"code\":503,\"message\":\"simulated failure of n1\",\"type\":"
		 "\"unavailable_error\"}}"},
		{"vllm", "/v1/completions", 500,
		 "{\"error\":{\"message\":\"simulated failure of n1\",\"type\":"
		 "\"InternalServerError\",\"param\":null,\"code\":500}}"},
		{"sglang", "/v1/completions", 400,
		 "{\"object\":\"error\",\"message\":\"simulated failure of n1\",\"type\":"
		 "\"BadRequestError\",\"param\":null,\"code\":400}"},
		{"vllm", "/v1/messages", 503,
		 "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":"
		 "\"simulated failure of n1\"}}"},
		{"comfyui", "/prompt", 502,
		 "{\"error\":{\"type\":\"simulated\",\"message\":\"simulated failure of n1\","
		 "\"details\":\"\",\"extra_info\":{}},\"node_errors\":{}}"},
		{"immich", "/predict", 500, "{\"detail\":\"simulated failure of n1\"}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct simnode_options options = fast();
		struct rig *rig;
		struct seen seen;
		const char *body;
		int fd;

		options.status = rows[i].status;
		rig = rig_new(&options, rows[i].engine);
		fd = post(rig, rows[i].target, "Connection: close\r\n", CHAT);
		seen = read_all(rig, fd, NULL);
		body = strstr(seen.text.data, "\r\n\r\n") + 4;
		assert_int_equal(atoi(seen.text.data + 9), rows[i].status);
		assert_string_equal(body, rows[i].body);
		assert_int_equal(strstr(seen.text.data, "\r\nRetry-After: 1\r\n") != NULL,
				 rows[i].status == 429);
		buf_fini(&seen.text);
		close(fd);
		rig_free(rig);
	}
}

static void test_simnode_faults__how_is_parsed(void **state)
{
	static const struct {
		const char *text;
		int result;
		enum sim_fail fail;
		uint32_t n;
	} rows[] = {
		{"none", 0, SIM_FAIL_NONE, 0},
		{"hang", 0, SIM_FAIL_HANG, 0},
		{"hang-head", 0, SIM_FAIL_HANG_HEAD, 0},
		{"close", 0, SIM_FAIL_CLOSE, 0},
		{"reset", 0, SIM_FAIL_RESET, 0},
		{"status=429", 0, SIM_FAIL_STATUS, 429},
		{"sse-error", 0, SIM_FAIL_SSE_ERROR, 0},
		{"slow-head=5", 0, SIM_FAIL_SLOW_HEAD, 5},
		{"truncate", 0, SIM_FAIL_TRUNCATE, 0},
		{"cut=0", 0, SIM_FAIL_CUT, 0},
		{"reset-after=4294967295", 0, SIM_FAIL_RESET_AFTER, UINT32_MAX},
		{"end=3", 0, SIM_FAIL_END, 3},
		{"error-after=3", 0, SIM_FAIL_ERROR_AFTER, 3},
		{"bad-chunk=3", 0, SIM_FAIL_BAD_CHUNK, 3},
		{"", -EINVAL, 0, 0},
		{"cut", -EINVAL, 0, 0},
		{"cut=", -EINVAL, 0, 0},
		{"cut=-1", -EINVAL, 0, 0},
		{"cut=4294967296", -EINVAL, 0, 0},
		{"close=1", -EINVAL, 0, 0},
		{"status=399", -EINVAL, 0, 0},
		{"status=600", -EINVAL, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct simnode_options options = fast();
		char text[64];

		if (simnode_fail_parse(&options, rows[i].text) != rows[i].result ||
		    options.fail != rows[i].fail || options.fail_n != rows[i].n)
			fail_msg("%s", rows[i].text);
		if (!rows[i].result)
			assert_string_equal(sim_fail_text(&options, text), rows[i].text);
	}
}

/* --- what it tells -------------------------------------------------------------------------- */

static const struct json *id_of(const struct json *document, const char *id)
{
	return json_get(json_get(document, "ids"), id);
}

static void test_simnode_faults__counts_by_request_id(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "ollama");
	struct json *document;
	const struct json *one;
	struct seen seen;
	int fd[3];

	(void)state;
	set(rig, "{\"tps\":100,\"slots\":2}");
	for (unsigned i = 0; i < 3; i++) {
		fd[i] = post(rig, "/api/chat",
			     i ? "X-Request-Id: two\r\n" : "x-request-id: one\r\n", ENDLESS);
		wait_stat(rig, "requests", (int64_t)i + 1);
	}
	document = stats(rig);
	one = id_of(document, "two");
	assert_int_equal(number_of(one, "requests"), 2);
	assert_int_equal(number_of(one, "begun"), 1);
	assert_int_equal(number_of(one, "waiting"), 1);
	json_free(document);
	close(fd[0]);
	wait_stat(rig, "begun", 3);
	document = stats(rig);
	one = id_of(document, "one");
	assert_int_equal(number_of(one, "aborted"), 1);
	assert_int_equal(number_of(one, "active"), 0);
	assert_int_equal(number_of(one, "max_active"), 1);
	one = id_of(document, "two");
	assert_int_equal(number_of(one, "active"), 2);
	assert_int_equal(number_of(one, "max_active"), 2);
	assert_int_equal(number_of(one, "aborted"), 0);
	assert_null(json_get(one, "aborted_at_us"));
	assert_int_equal(number_of(document, "max_active"), 2);
	json_free(document);
	close(fd[1]);
	close(fd[2]);
	wait_stat(rig, "active", 0);
	set(rig, "{\"fail\":\"end=1\",\"fail_times\":1}");
	for (unsigned i = 0; i < 2; i++) {
		fd[0] = post(rig, "/api/generate", "x-request-id: three\r\nConnection: close\r\n",
			     GENERATE);
		seen = read_all(rig, fd[0], NULL);
		buf_fini(&seen.text);
		close(fd[0]);
	}
	document = stats(rig);
	one = id_of(document, "three");
	assert_int_equal(number_of(one, "failed"), 1);
	assert_int_equal(number_of(one, "finished"), 1);
	assert_int_equal(number_of(one, "begun"), 2);
	assert_int_equal(number_of(one, "max_active"), 1);
	assert_int_equal(number_of(one, "body_bytes"), strlen(GENERATE));
	json_free(document);
	rig_free(rig);
}

static void test_simnode_faults__remembers_64_ids(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "ollama");
	struct json *document;
	char fields[64];
	int first;

	(void)state;
	first = post(rig, "/api/chat", "x-request-id: first\r\n", ENDLESS);
	wait_stat(rig, "active", 1);
	for (unsigned i = 0; i < 70; i++) {
		struct seen seen;
		int fd;

		snprintf(fields, sizeof(fields), "x-request-id: r%u\r\nConnection: close\r\n", i);
		fd = post(rig, "/api/generate", fields, GENERATE_1);
		seen = read_all(rig, fd, NULL);
		buf_fini(&seen.text);
		close(fd);
	}
	document = stats(rig);
	assert_int_equal(json_count(json_get(document, "ids")), 64);
	assert_null(id_of(document, "r5"));
	assert_int_equal(number_of(id_of(document, "r6"), "finished"), 1);
	assert_int_equal(number_of(id_of(document, "r69"), "finished"), 1);
	assert_int_equal(number_of(document, "finished"), 70);
	json_free(document);
	/* It is counted, but not under whoever has the place of its record now. */
	close(first);
	wait_stat(rig, "aborted", 1);
	document = stats(rig);
	for (const struct json *id = json_first(json_get(document, "ids")); id; id = json_next(id))
		assert_int_equal(number_of(id, "aborted"), 0);
	json_free(document);
	rig_free(rig);
}

static void test_simnode_faults__tells_the_last_request(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "ollama");
	struct seen seen;
	struct json *document = stats(rig);
	const struct json *last, *field;
	int fd;

	(void)state;
	assert_int_equal(json_type(json_get(document, "last")), JSON_NULL);
	json_free(document);
	fd = post(rig, "/api/nothing?x=%20", "X-A: 1\r\nX-a: 2, 3\r\nConnection: close\r\n",
		  "foobar");
	seen = read_all(rig, fd, NULL);
	buf_fini(&seen.text);
	close(fd);
	document = stats(rig);
	last = json_get(document, "last");
	assert_string_equal(json_string(json_get(last, "method")), "POST");
	assert_string_equal(json_string(json_get(last, "target")), "/api/nothing?x=%20");
	assert_int_equal(number_of(last, "body_bytes"), 6);
	/* A test vector of the hash's authors. */
	assert_string_equal(json_string(json_get(last, "body_fnv1a64")), "85944171f73967e8");
	assert_int_equal(json_count(json_get(last, "fields")), 5);
	field = json_next(json_next(json_first(json_get(last, "fields"))));
	assert_string_equal(json_string(json_first(field)), "x-a");
	assert_string_equal(json_string(json_next(json_first(field))), "2, 3");
	json_free(document);
	rig_free(rig);
}

static void test_simnode_faults__forgets(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "ollama");
	struct outcome outcome;
	struct json *document;
	int fd;

	(void)state;
	set(rig, "{\"tps\":100}");
	fd = post(rig, "/api/chat", "x-request-id: r\r\n", ENDLESS);
	wait_stat(rig, "active", 1);
	outcome = ask(rig, "POST", "/api/chat", "{");
	buf_fini(&outcome.body);
	outcome = ask(rig, "POST", "/sim/reset", NULL);
	assert_int_equal(outcome.status, 200);
	buf_fini(&outcome.body);
	document = stats(rig);
	assert_int_equal(number_of(document, "requests"), 1);
	assert_int_equal(number_of(document, "active"), 1);
	assert_int_equal(json_count(json_get(document, "ids")), 0);
	assert_int_equal(json_type(json_get(document, "last")), JSON_NULL);
	json_free(document);
	close(fd);
	wait_stat(rig, "active", 0);
	assert_int_equal(stat_of(rig, "aborted"), 1);
	rig_free(rig);
}

/* In whatever phase a peer leaves: noticed at once, and the slot is free. */
static void test_simnode_faults__abort_is_noticed_in_every_phase(void **state)
{
	static const struct {
		const char *sentence, *settings, *body, *until, *phase;
		bool waiting;
		bool reset;
	} rows[] = {
		{"waiting for a slot", "{}", ENDLESS, NULL, "waiting", true, false},
		{"before the first token", "{\"ttft_ms\":60000}", ENDLESS, NULL, "prompt", false,
		 false},
		{"mid-stream", "{\"tps\":1}", ENDLESS, LINE, "tokens", false, false},
		{"mid-stream, by a reset", "{\"tps\":1}", ENDLESS, LINE, "tokens", false, true},
		{"not streamed", "{\"ttft_ms\":60000}", GENERATE_1, NULL, "prompt", false, false},
		{"not streamed, a token made", "{\"tps\":1}", GENERATE_1, NULL, "tokens", false,
		 false},
		{"hanging before the head", "{\"fail\":\"hang\"}", GENERATE, NULL, "prompt", false,
		 false},
		{"hanging behind the head", "{\"fail\":\"hang-head\"}", GENERATE, "\r\n\r\n",
		 "prompt", false, false},
		{"within a slow head", "{\"fail\":\"slow-head=60000\"}", GENERATE, "200 OK",
		 "prompt", false, true},
	};
	const struct linger now = {.l_onoff = 1, .l_linger = 0};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct simnode_options options = fast();
		struct rig *rig = rig_new(&options, "ollama");
		struct seen seen = {{0}, 0, 0};
		struct json *document;
		int64_t left_at;
		int first = -1, fd;

		set(rig, "{\"slots\":1,\"tps\":1}");
		if (rows[i].waiting) {
			first = post(rig, "/api/chat", "", ENDLESS);
			wait_stat(rig, "active", 1);
		}
		set(rig, rows[i].settings);
		fd = post(rig, strstr(rows[i].body, "messages") ? "/api/chat" : "/api/generate", "",
			  rows[i].body);
		wait_stat(rig, rows[i].waiting ? "waiting" : "active", 1);
		if (rows[i].until)
			seen = read_all(rig, fd, rows[i].until);
		else if (!strcmp(rows[i].phase, "tokens")) /* nothing tells but the clock */
			for (left_at = (int64_t)uv_hrtime() + 20000000;
			     (int64_t)uv_hrtime() < left_at;)
				uv_run(&rig->loop, UV_RUN_NOWAIT);
		if (rows[i].reset)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		left_at = (int64_t)(uv_hrtime() / 1000);
		close(fd);
		wait_stat(rig, "aborted", 1);
		document = stats(rig);
		if (strcmp(json_string(json_get(document, "aborted_in")), rows[i].phase) != 0)
			fail_msg("%s: %s", rows[i].sentence,
				 json_string(json_get(document, "aborted_in")));
		assert_in_range(number_of(document, "aborted_at_us") - left_at, 0, 50000);
		assert_true(number_of(document, "now_us") >= number_of(document, "aborted_at_us"));
		assert_int_equal(number_of(document, "active"), rows[i].waiting ? 1 : 0);
		assert_int_equal(number_of(document, "waiting"), 0);
		json_free(document);
		buf_fini(&seen.text);
		if (first >= 0)
			close(first);
		rig_free(rig);
	}
}

/* --- how much, and when --------------------------------------------------------------------- */

static void test_simnode_faults__sizes(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "ollama");
	struct outcome outcome;
	struct json_error error;
	struct json *answer;

	(void)state;
	set(rig, "{\"answer_bytes\":100000}");
	outcome = ask(rig, "POST", "/api/generate", GENERATE_1);
	answer = json_parse(outcome.body.data, outcome.body.len, 0, &error);
	assert_int_equal(strlen(json_string(json_get(answer, "response"))), 100000);
	assert_memory_equal(json_string(json_get(answer, "response")), "n1 says hello word-3", 20);
	json_free(answer);
	buf_fini(&outcome.body);
	set(rig, "{\"answer_bytes\":0,\"token_bytes\":1000}");
	outcome = ask(rig, "POST", "/api/generate", GENERATE_1);
	answer = json_parse(outcome.body.data, outcome.body.len, 0, &error);
	assert_int_equal(strlen(json_string(json_get(answer, "response"))), 4000);
	json_free(answer);
	buf_fini(&outcome.body);
	outcome = ask(rig, "POST", "/api/generate", GENERATE);
	assert_in_range(outcome.body.len, 4000, 6000);
	buf_fini(&outcome.body);
	rig_free(rig);
}

/* Behind the n-th '@': when that token was sent. */
static int64_t stamp_of(const char *text, unsigned n)
{
	for (; n; n--) {
		text = strchr(text, '@');
		assert_non_null(text);
		text++;
	}
	return strtoll(text, NULL, 10);
}

/* Two streams that began apart stay so: each goes by its own start. */
static void test_simnode_faults__each_stream_has_its_own_clock(void **state)
{
	static const char body[] =
		"{\"model\":\"a\",\"prompt\":\"p\",\"options\":{\"num_predict\":3}}";
	struct simnode_options options = fast();
	struct outcome a, b;
	struct rig *rig;
	int64_t apart, step;

	(void)state;
	options.tps = 10;
	options.stamp = true;
	rig = rig_new(&options, "ollama");
	start(rig, &a, "POST", "/api/generate", body);
	while (!a.first_at || uv_hrtime() - a.first_at < 50000000)
		uv_run(&rig->loop, UV_RUN_NOWAIT);
	start(rig, &b, "POST", "/api/generate", body);
	wait_for(&a);
	wait_for(&b);
	apart = stamp_of(b.body.data, 1) - stamp_of(a.body.data, 1);
	assert_in_range(apart, 45000, 95000);
	for (unsigned n = 2; n <= 3; n++) {
		step = stamp_of(b.body.data, n) - stamp_of(a.body.data, n);
		assert_in_range(step - apart + 20000, 0, 40000);
		assert_in_range(stamp_of(a.body.data, n) - stamp_of(a.body.data, n - 1), 80000,
				120000);
	}
	buf_fini(&a.body);
	buf_fini(&b.body);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_simnode_faults__connections_that_end),
		cmocka_unit_test(test_simnode_faults__truncated_answers_are_short),
		cmocka_unit_test(test_simnode_faults__answers_kept_alive),
		cmocka_unit_test(test_simnode_faults__connection_lives_on),
		cmocka_unit_test(test_simnode_faults__slow_head),
		cmocka_unit_test(test_simnode_faults__hanging),
		cmocka_unit_test(test_simnode_faults__so_many_times),
		cmocka_unit_test(test_simnode_faults__statuses_in_each_shape),
		cmocka_unit_test(test_simnode_faults__how_is_parsed),
		cmocka_unit_test(test_simnode_faults__counts_by_request_id),
		cmocka_unit_test(test_simnode_faults__remembers_64_ids),
		cmocka_unit_test(test_simnode_faults__tells_the_last_request),
		cmocka_unit_test(test_simnode_faults__forgets),
		cmocka_unit_test(test_simnode_faults__abort_is_noticed_in_every_phase),
		cmocka_unit_test(test_simnode_faults__sizes),
		cmocka_unit_test(test_simnode_faults__each_stream_has_its_own_clock),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
