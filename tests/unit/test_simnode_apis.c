/* SPDX-License-Identifier: MIT */
/* The simulated node's APIs beyond plain chat: tools, vectors, forms, ComfyUI, websockets. */
#include "sim_rig.h"

#include "simnode/encode.h"
#include "simnode/form.h"

#define TOOLS \
	"\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"weather\",\"parameters\":{}}}" \
	",{\"type\":\"function\",\"function\":{\"name\":\"other\"}}]"

static void test_simnode_apis__tools(void **state)
{
	static const struct row rows[] = {
		{"Ollama", "ollama", "POST", "/api/chat",
		 "{\"model\":\"a\",\"stream\":false,\"messages\":[{}]," TOOLS "}", 200,
		 "\"message\":{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{"
		 "\"function\":{\"name\":\"weather\",\"arguments\":{}}}]},\"done\":true,\"done_"
		 "reason\":\"stop\"",
		 "other"},
		{"Ollama, streamed: in one line", "ollama", "POST", "/api/chat",
		 "{\"model\":\"a\",\"messages\":[{}]," TOOLS "}", 200,
		 "\"tool_calls\":[{\"function\":{\"name\":\"weather\",\"arguments\":{}}}]},"
		 "\"done\":false}\n{",
		 "n1"},
		{"and not in its last", "ollama", "POST", "/api/chat",
		 "{\"model\":\"a\",\"messages\":[{}]," TOOLS "}", 200,
		 "\"content\":\"\"},\"done\":true", "word"},
		{"OpenAI", "openai", "POST", "/v1/chat/completions",
		 "{\"model\":\"a\",\"messages\":[{}]," TOOLS "}", 200,
		 "\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":"
		 "\"call_1\",\"type\":\"function\",\"function\":{\"name\":\"weather\","
		 "\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_calls\"}",
		 "index\":0,\"id"},
		{"OpenAI, streamed", "openai", "POST", "/v1/chat/completions",
		 "{\"model\":\"a\",\"stream\":true,\"messages\":[{}]," TOOLS "}", 200,
		 "\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\"type\":\"function\","
		 "\"function\":{\"name\":\"weather\",\"arguments\":\"{}\"}}]},\"finish_reason\":"
		 "null}",
		 "says"},
		{"its end", "openai", "POST", "/v1/chat/completions",
		 "{\"model\":\"a\",\"stream\":true,\"messages\":[{}]," TOOLS "}", 200,
		 "\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n", "says"},
		{"no tools", "openai", "POST", "/v1/chat/completions",
		 "{\"model\":\"a\",\"messages\":[{}],\"tools\":[]}", 200, "n1 says", "tool_calls"},
		{"responses", "openai", "POST", "/v1/responses",
		 "{\"model\":\"a\",\"input\":\"x\",\"tools\":[{\"type\":\"function\",\"name\":"
		 "\"weather\"}]}",
		 200,
		 "{\"id\":\"fc_1\",\"type\":\"function_call\",\"status\":\"completed\",\"call_id\":"
		 "\"call_1\",\"name\":\"weather\",\"arguments\":\"{}\"}",
		 "output_text"},
		{"messages", "openai", "POST", "/v1/messages",
		 "{\"model\":\"a\",\"max_tokens\":9,\"messages\":[],\"tools\":[{\"name\":"
		 "\"weather\"}]}",
		 200,
		 "{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"weather\",\"input\":{}}],"
		 "\"stop_reason\":\"tool_use\"",
		 "n1 says"},
	};
	struct simnode_options options = fast();

	(void)state;
	try_rows(rows, sizeof(rows) / sizeof(rows[0]), &options);
}

static void test_simnode_apis__more_of_openai(void **state)
{
	static const struct row rows[] = {
		{"vectors in base64", "openai", "POST", "/v1/embeddings",
		 "{\"model\":\"a\",\"input\":[\"x\",\"y\"],\"encoding_format\":\"base64\"}", 200,
		 /* 1/16 ... 8/16 as floats, little endian */
		 "{\"object\":\"embedding\",\"index\":1,\"embedding\":"
		 "\"AACAPQAAAD4AAEA+AACAPgAAoD4AAMA+AADgPgAAAD8=\"}]",
		 NULL},
		{"vectors in numbers", "openai", "POST", "/v1/embeddings",
		 "{\"model\":\"a\",\"input\":\"x\",\"encoding_format\":\"float\"}", 200,
		 "\"embedding\":[0.0625,0.125,0.1875,0.25,0.3125,0.375,0.4375,0.5]}],\"model\":"
		 "\"a\",\"usage\":{\"prompt_tokens\":1,\"total_tokens\":1}}",
		 NULL},
		{"a response", "openai", "POST", "/v1/responses",
		 "{\"model\":\"a\",\"input\":\"x\"}", 200,
		 "\"output\":[{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"completed\","
		 "\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"n1 says "
		 "hello word-3\",\"annotations\":[]}]}]",
		 "in_progress"},
		{"a response that is cut", "openai", "POST", "/v1/responses",
		 "{\"model\":\"a\",\"input\":\"x\",\"max_output_tokens\":2}", 200,
		 "\"status\":\"incomplete\",\"error\":null,\"incomplete_details\":{\"reason\":"
		 "\"max_output_tokens\"}",
		 NULL},
		{"a response streamed begins", "openai", "POST", "/v1/responses",
		 "{\"model\":\"a\",\"input\":\"x\",\"stream\":true}", 200,
		 "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_"
		 "number\":0,\"response\":{\"id\":\"resp_1\"",
		 "[DONE]"},
		{"goes on", "openai", "POST", "/v1/responses",
		 "{\"model\":\"a\",\"input\":\"x\",\"stream\":true}", 200,
		 "event: response.output_text.delta\ndata: {\"type\":\"response.output_text."
		 "delta\",\"sequence_number\":5,\"item_id\":\"msg_1\",\"output_index\":0,"
		 "\"content_index\":0,\"delta\":\" says\"}\n\n",
		 NULL},
		{"says all again", "openai", "POST", "/v1/responses",
		 "{\"model\":\"a\",\"input\":\"x\",\"stream\":true}", 200,
		 "\"content_index\":0,\"text\":\"n1 says hello word-3\"}\n\n", NULL},
		{"and is complete", "openai", "POST", "/v1/responses",
		 "{\"model\":\"a\",\"input\":\"x\",\"stream\":true}", 200,
		 "event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_"
		 "number\":11,",
		 "incomplete\","},
		{"images", "openai", "POST", "/v1/images/generations",
		 "{\"model\":\"a\",\"prompt\":\"x\",\"n\":2}", 200,
		 "{\"b64_json\":\"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAACklEQVR4nGMAAQ"
		 "AABQABDQottAAAAABJRU5ErkJggg==\",\"revised_prompt\":\"n1\"},{",
		 NULL},
		{"images of an unknown model", "openai", "POST", "/v1/images/generations",
		 "{\"model\":\"x\",\"prompt\":\"x\"}", 404, "model_not_found", NULL},
		{"a form is expected to have a model", "openai", "POST", "/v1/audio/transcriptions",
		 "{\"file\":\"x\"}", 400, "model is required", NULL},
		{"the context of a generation", "ollama", "POST", "/api/generate",
		 "{\"model\":\"a\",\"prompt\":\"x\"}", 200, "\"context\":[1,2,3]", NULL},
		{"images alone are a prompt", "ollama", "POST", "/api/generate",
		 "{\"model\":\"a\",\"images\":[\"AAAA\"]}", 200, "\"response\":\"n1\"", "\"load\""},
		{"loaded models", "ollama", "GET", "/api/ps", NULL, 200,
		 "\"expires_at\":\"2318-01-01T00:00:00Z\",\"size_vram\":4096", NULL},
	};
	struct simnode_options options = fast();

	(void)state;
	try_rows(rows, sizeof(rows) / sizeof(rows[0]), &options);
}

static void test_simnode_apis__messages(void **state)
{
	static const char *const events[] = {
		"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":",
		"event: content_block_start\n",
		"event: ping\ndata: {\"type\":\"ping\"}\n\n",
		"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
		"\"delta\":{\"type\":\"text_delta\",\"text\":\"n1\"}}\n\n",
		"\"text\":\" word-3\"}}\n\nevent: content_block_stop\n",
		"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_"
		"reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":4}}"
		"\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
	};
	static const struct row rows[] = {
		{"at once", "openai", "POST", "/v1/messages",
		 "{\"model\":\"a\",\"max_tokens\":100,\"messages\":[]}", 200,
		 "\"content\":[{\"type\":\"text\",\"text\":\"n1 says hello word-3\"}],\"stop_"
		 "reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":1,"
		 "\"output_tokens\":4}}",
		 NULL},
		{"cut", "openai", "POST", "/v1/messages",
		 "{\"model\":\"a\",\"max_tokens\":2,\"messages\":[]}", 200,
		 "\"text\":\"n1 says\"}],\"stop_reason\":\"max_tokens\"", NULL},
		{"unknown model", "openai", "POST", "/v1/messages", "{\"model\":\"x\"}", 404,
		 "{\"type\":\"error\",\"error\":{\"type\":\"not_found_error\",\"message\":\"model "
		 "'x' not found\"}}",
		 NULL},
	};
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "ollama");
	struct outcome outcome =
		ask(rig, "POST", "/v1/messages",
		    "{\"model\":\"a\",\"max_tokens\":100,\"messages\":[],\"stream\":true}");
	const char *at = outcome.body.data;

	(void)state;
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		at = strstr(at, events[i]);
		if (!at)
			fail_msg("%s: not in %s", events[i], outcome.body.data);
	}
	buf_fini(&outcome.body);
	rig_free(rig);
	try_rows(rows, sizeof(rows) / sizeof(rows[0]), &options);
}

/* --- forms ---------------------------------------------------------------------------------- */

#define PART "--b\r\nContent-Disposition: form-data; name="

static const char multipart[] = "Content-Type: multipart/form-data; boundary=b\r\n"
				"Connection: close\r\n";

static void test_simnode_apis__forms(void **state)
{
	static const struct {
		const char *type, *body, *name;
		const char *data, *filename; /* NULL: none */
	} rows[] = {
		{"multipart/form-data; boundary=b", PART "\"a\"\r\n\r\n1\r\n--b--\r\n", "a", "1",
		 NULL},
		{"Multipart/Form-Data; boundary=\"b\"", PART "\"a\"\r\n\r\n1\r\n--b--\r\n", "a",
		 "1", NULL},
		{"multipart/form-data; boundary=b",
		 PART "\"a\"\r\n\r\n1\r\n" PART "\"f\"; filename=\"x.png\"\r\nContent-Type: "
		      "image/png\r\n\r\n\r\n-\r\n--\r\n--b--",
		 "f", "\r\n-\r\n--", "x.png"},
		{"multipart/form-data; boundary=b", PART "\"a\"\r\n\r\n\r\n--b--", "a", "", NULL},
		{"multipart/form-data; boundary=b", PART "\"a\"\r\n\r\n1\r\n--b--", "b", NULL,
		 NULL},
		{"multipart/form-data; boundary=b", PART "\"ab\"\r\n\r\n1\r\n--b--", "a", NULL,
		 NULL},
		{"multipart/form-data; boundary=b", PART "\"a\"\r\n\r\n1", "a", NULL, NULL},
		{"multipart/form-data; boundary=b", PART "\"a\r\n\r\n1\r\n--b--", "a", NULL, NULL},
		{"multipart/form-data; boundary=b", "", "a", NULL, NULL},
		{"multipart/form-data; boundary=c", PART "\"a\"\r\n\r\n1\r\n--b--", "a", NULL,
		 NULL},
		{"multipart/form-data", PART "\"a\"\r\n\r\n1\r\n--b--", "a", NULL, NULL},
		{"application/json; boundary=b", PART "\"a\"\r\n\r\n1\r\n--b--", "a", NULL, NULL},
		{NULL, PART "\"a\"\r\n\r\n1\r\n--b--", "a", NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct form_part part;
		bool found = form_find(rows[i].type, rows[i].body, strlen(rows[i].body),
				       rows[i].name, &part);

		if (found != (rows[i].data != NULL))
			fail_msg("row %zu", i);
		if (!found)
			continue;
		assert_int_equal(part.len, strlen(rows[i].data));
		assert_memory_equal(part.data, rows[i].data, part.len);
		assert_int_equal(!part.filename, !rows[i].filename);
		if (part.filename)
			assert_memory_equal(part.filename, rows[i].filename, part.filename_len);
	}
}

static struct seen post_form(struct rig *rig, const char *target, const char *body)
{
	int fd = post(rig, target, multipart, body);
	struct seen seen = read_all(rig, fd, NULL);

	close(fd);
	return seen;
}

static void test_simnode_apis__audio(void **state)
{
	static const struct {
		const char *body, *has;
	} rows[] = {
		{PART "\"file\"; filename=\"a.wav\"\r\n\r\n12345\r\n" PART
		      "\"model\"\r\n\r\na\r\n--b--\r\n",
		 "\r\n\r\n{\"text\":\"n1 heard 5 bytes\",\"bytes\":5,\"model\":\"a\"}"},
		{PART "\"model\"\r\n\r\na\r\n" PART "\"file\"; filename=\"a.wav\"\r\n\r\n12\r\n"
		      "\r\n" PART "\"response_format\"\r\n\r\ntext\r\n--b--\r\n",
		 "\r\n\r\nn1 heard 4 bytes\n"},
		{PART "\"model\"\r\n\r\na\r\n" PART "\"stream\"\r\n\r\ntrue\r\n--b--\r\n",
		 "data: {\"type\":\"transcript.text.done\",\"text\":\"n1 says hello word-3\"}\n\n"},
		{PART "\"model\"\r\n\r\nx\r\n--b--\r\n", "HTTP/1.1 404 "},
		{PART "\"file\"\r\n\r\na\r\n--b--\r\n", "HTTP/1.1 400 "},
	};
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "openai");
	struct outcome outcome;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct seen seen = post_form(rig, "/v1/audio/transcriptions", rows[i].body);

		if (!strstr(seen.text.data, rows[i].has))
			fail_msg("%s: %s", rows[i].has, seen.text.data);
		buf_fini(&seen.text);
	}
	outcome = ask(rig, "POST", "/v1/audio/speech",
		      "{\"model\":\"a\",\"input\":\"x\",\"voice\":\"v\"}");
	assert_int_equal(outcome.body.len, 4096);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal((unsigned char)outcome.body.data[i], i % 256);
	buf_fini(&outcome.body);
	rig_free(rig);
}

static void test_simnode_apis__large_bodies(void **state)
{
	const size_t len = 10u << 20;
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "ollama");
	struct buf body = {0};
	struct json *document;
	struct outcome outcome;
	char text[20];

	(void)state;
	buf_puts(&body, "{\"model\":\"a\",\"prompt\":\"p\",\"images\":[\"");
	for (size_t i = 0; i < len; i += 8)
		buf_add(&body, "iVBORw0K", 8);
	buf_puts(&body, "\"],\"stream\":false}");
	outcome = ask(rig, "POST", "/api/generate", body.data);
	assert_int_equal(outcome.status, 200);
	document = stats(rig);
	assert_int_equal(number_of(json_get(document, "last"), "body_bytes"), body.len);
	snprintf(text, sizeof(text), "%016llx", (unsigned long long)sim_hash(body.data, body.len));
	assert_string_equal(json_string(json_get(json_get(document, "last"), "body_fnv1a64")),
			    text);
	json_free(document);
	buf_fini(&outcome.body);
	buf_fini(&body);
	rig_free(rig);
}

/* --- encodings ------------------------------------------------------------------------------ */

static void test_simnode_apis__encodings(void **state)
{
	static const struct {
		const char *text, *base64, *sha1; /* RFC 4648 10; FIPS 180-4's examples */
	} rows[] = {
		{"", "", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="},
		{"f", "Zg==", NULL},
		{"fo", "Zm8=", NULL},
		{"foobar", "Zm9vYmFy", NULL},
		{"abc", "YWJj", "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", NULL,
		 "hJg+RBw70m66rkqh+VEp5eVGcPE="},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf out = {0};
		uint8_t digest[20];

		encode_base64(&out, rows[i].text, strlen(rows[i].text));
		if (rows[i].base64)
			assert_string_equal(out.data ? out.data : "", rows[i].base64);
		buf_clear(&out);
		encode_sha1(rows[i].text, strlen(rows[i].text), digest);
		encode_base64(&out, digest, sizeof(digest));
		if (rows[i].sha1)
			assert_string_equal(out.data, rows[i].sha1);
		buf_fini(&out);
	}
}

/* --- ComfyUI -------------------------------------------------------------------------------- */

/* A string of the answer. */
static void get_text(struct rig *rig, const char *method, const char *target, const char *body,
		     const char *name, char text[128])
{
	struct outcome outcome = ask(rig, method, target, body);
	struct json_error error;
	struct json *answer = json_parse(outcome.body.data, outcome.body.len, 0, &error);

	assert_non_null(json_string(json_get(answer, name)));
	snprintf(text, 128, "%s", json_string(json_get(answer, name)));
	json_free(answer);
	buf_fini(&outcome.body);
}

static void expect_answer(struct rig *rig, const char *target, int status, const char *has)
{
	struct outcome outcome = ask(rig, "GET", target, NULL);
	const char *body = outcome.body.data ? outcome.body.data : "";

	if (outcome.status != status || !strstr(body, has))
		fail_msg("%s: %d %s", target, outcome.status, body);
	buf_fini(&outcome.body);
}

static void test_simnode_apis__comfyui_queue(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig;
	struct outcome outcome;
	char first[128], target[200];

	(void)state;
	options.ttft_ms = 60000; /* each takes a minute */
	rig = rig_new(&options, "comfyui");
	get_text(rig, "POST", "/prompt", "{\"prompt\":{\"1\":{}},\"client_id\":\"c\"}", "prompt_id",
		 first);
	assert_int_equal(strlen(first), 36);
	outcome = ask(rig, "POST", "/prompt", "{\"prompt\":{},\"prompt_id\":\"mine\"}");
	assert_non_null(strstr(outcome.body.data, "{\"prompt_id\":\"mine\",\"number\":2,"));
	buf_fini(&outcome.body);
	expect_answer(rig, "/prompt", 200, "{\"exec_info\":{\"queue_remaining\":2}}");
	snprintf(target, sizeof(target), "{\"queue_running\":[[1,\"%s\",{},{},[]]]", first);
	expect_answer(rig, "/queue", 200, target);
	expect_answer(rig, "/queue", 200, "\"queue_pending\":[[2,\"mine\",{},{},[]]]}");
	expect_answer(rig, "/history", 200, "{}");
	expect_answer(rig, "/view?filename=n1_00001_.png", 404, "");
	outcome = ask(rig, "POST", "/prompt", "{\"client_id\":\"c\"}");
	assert_int_equal(outcome.status, 400);
	assert_non_null(strstr(outcome.body.data, "\"node_errors\":{}"));
	buf_fini(&outcome.body);
	rig_free(rig);
}

static void test_simnode_apis__comfyui_history(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig;
	char id[128], target[200];
	struct outcome outcome;

	(void)state;
	options.ttft_ms = 0;
	rig = rig_new(&options, "comfyui");
	for (unsigned i = 0; i < 70; i++) /* more than are remembered */
		get_text(rig, "POST", "/prompt", "{\"prompt\":{}}", "prompt_id", id);
	snprintf(target, sizeof(target), "/history/%s", id);
	expect_answer(rig, target, 200,
		      "\"images\":[{\"filename\":\"n1_00070_.png\",\"subfolder\":\"\",\"type\":"
		      "\"output\"}]");
	expect_answer(rig, "/history", 200, "n1_00007_.png");
	outcome = ask(rig, "GET", "/history", NULL);
	assert_int_equal(count_of(outcome.body.data, "n1_"), 64);
	buf_fini(&outcome.body);
	expect_answer(rig, "/history/none", 200, "{}");
	expect_answer(rig, "/view?filename=n1_00070_.png&type=output", 200, "\x89PNG\r\n");
	expect_answer(rig, "/view?filename=n1_00006_.png", 404, "");
	expect_answer(rig, "/view", 400, "");
	expect_answer(rig, "/prompt", 200, "{\"exec_info\":{\"queue_remaining\":0}}");
	expect_answer(rig, "/system_stats", 200, "\"vram_free\":");
	rig_free(rig);
}

static void test_simnode_apis__comfyui_uploads(void **state)
{
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "comfyui");
	struct seen seen =
		post_form(rig, "/upload/image",
			  PART "\"image\"; filename=\"in.png\"\r\n\r\npixels\r\n--b--\r\n");

	(void)state;
	assert_non_null(strstr(seen.text.data,
			       "{\"name\":\"in.png\",\"subfolder\":\"\",\"type\":\"input\"}"));
	buf_fini(&seen.text);
	expect_answer(rig, "/view?filename=in.png&type=input", 200, "pixels");
	expect_answer(rig, "/view?filename=out.png&type=input", 404, "");
	seen = post_form(rig, "/upload/image", PART "\"x\"\r\n\r\npixels\r\n--b--\r\n");
	assert_memory_equal(seen.text.data, "HTTP/1.1 400 ", 13);
	buf_fini(&seen.text);
	rig_free(rig);
}

/* --- websockets ----------------------------------------------------------------------------- */

static void test_simnode_apis__frames(void **state)
{
	/* Masked with 1234 ("\x31\x32\x33\x34"), or 0. */
#define M "1234"
#define Z "\0\0\0\0"
	static const struct {
		const char *sentence, *sent;
		size_t sent_len;
		const char *out;
		size_t out_len;
		enum sim_feed result;
	} rows[] = {
#define ROW(sentence, sent, out, result) \
	{sentence, sent, sizeof(sent) - 1, out, sizeof(out) - 1, result}
		ROW("text", "\x81\x82" M "YX", "\x81\x02hj", SIM_GO_ON),
		ROW("binary in two", "\x02\x81" Z "a\x80\x81" Z "b",
		    "\x02\x01"
		    "a\x80\x01"
		    "b",
		    SIM_GO_ON),
		ROW("empty", "\x81\x80" M, "\x81\0", SIM_GO_ON),
		ROW("ping", "\x89\x81" Z "p", "\x8a\x01p", SIM_GO_ON),
		ROW("pong is passed over", "\x8a\x81" Z "p\x81\x81" Z "a",
		    "\x81\x01"
		    "a",
		    SIM_GO_ON),
		ROW("close", "\x88\x82" Z "\x03\xe8", "\x88\x02\x03\xe8", SIM_END),
		ROW("close, and nothing behind it", "\x88\x80" Z "\x81\x80" Z, "\x88\0", SIM_END),
		ROW("not masked",
		    "\x81\x01"
		    "aaaaa",
		    "\x88\x02\x03\xea", SIM_END),
		ROW("a reserved bit", "\xc1\x80" M, "\x88\x02\x03\xea", SIM_END),
		ROW("a long ping", "\x89\xfe\x00\x7e" M, "\x88\x02\x03\xea", SIM_END),
		ROW("a length with its top bit", "\x81\xff\x80\0\0\0\0\0\0\0" M, "\x88\x02\x03\xea",
		    SIM_END),
		ROW("an extended length, half of it", "\x82\xfe\x01\x00" Z "abc",
		    "\x82\x7e\x01\x00"
		    "abc",
		    SIM_GO_ON),
		ROW("the longest", "\x82\xff\0\0\0\0\0\1\0\0" Z "a",
		    "\x82\x7f\0\0\0\0\0\1\0\0"
		    "a",
		    SIM_GO_ON),
	};

	(void)state;
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		struct sim_websocket frames = {.have = 0};
		struct buf out = {0};
		size_t len = rows[i / 2].sent_len, step = i % 2 ? 1 : len;
		enum sim_feed result = SIM_GO_ON;

		for (size_t at = 0; at < len && result == SIM_GO_ON; at += step)
			result = sim_websocket_feed(&frames, rows[i / 2].sent + at, step, &out);
		if (result != rows[i / 2].result || out.len != rows[i / 2].out_len ||
		    memcmp(out.data, rows[i / 2].out, out.len) != 0)
			fail_msg("%s: %d, %zu bytes", rows[i / 2].sentence, result, out.len);
		buf_fini(&out);
	}
}

#define HANDSHAKE \
	"GET /ws?clientId=c HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: " \
	"websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " \
	"dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

/* The key and its answer are those of RFC 6455 1.3. */
static void test_simnode_apis__websocket(void **state)
{
	static const char sent[] = HANDSHAKE "\x81\x81" Z "a", later[] = "\x88\x80" Z;
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "comfyui");
	int fd = connect_to(rig);
	struct seen seen;

	(void)state;
	send_all(rig, fd, sent, sizeof(sent) - 1);
	seen = read_all(rig, fd,
			"\x81\x01"
			"a");
	assert_int_equal(seen.error, 0);
	assert_memory_equal(seen.text.data, "HTTP/1.1 101 Switching Protocols\r\n", 34);
	assert_non_null(strstr(seen.text.data,
			       "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
	assert_non_null(strstr(seen.text.data, "\r\n\r\n\x81"));
	assert_non_null(strstr(seen.text.data, "{\"type\":\"status\",\"data\":{\"status\":"));
	buf_fini(&seen.text);
	assert_int_equal(stat_of(rig, "open"), 1);
	send_all(rig, fd, later, sizeof(later) - 1);
	seen = read_all(rig, fd, NULL);
	assert_int_equal(seen.error, 0);
	assert_int_equal(seen.text.len, 2);
	assert_memory_equal(seen.text.data, "\x88\0", 2);
	buf_fini(&seen.text);
	close(fd);
	wait_stat(rig, "open", 0);
	assert_int_equal(stat_of(rig, "connections"), 1);
	rig_free(rig);
}

static void test_simnode_apis__websocket_that_is_none(void **state)
{
	static const struct row rows[] = {
		{"a plain GET", "comfyui", "GET", "/ws", NULL, 400, "expected a websocket", NULL},
		{"elsewhere", "ollama", "GET", "/ws", NULL, 404, NULL, NULL},
	};
	struct simnode_options options = fast();
	struct rig *rig = rig_new(&options, "comfyui");
	int fd = connect_to(rig);
	struct seen seen;

	(void)state;
	try_rows(rows, sizeof(rows) / sizeof(rows[0]), &options);
	send_all(rig, fd, HANDSHAKE, sizeof(HANDSHAKE) - 1);
	seen = read_all(rig, fd, "queue_remaining");
	buf_fini(&seen.text);
	simnode_free(rig->node); /* with it open */
	rig->node = NULL;
	seen = read_all(rig, fd, NULL);
	buf_fini(&seen.text);
	close(fd);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_simnode_apis__tools),
		cmocka_unit_test(test_simnode_apis__more_of_openai),
		cmocka_unit_test(test_simnode_apis__messages),
		cmocka_unit_test(test_simnode_apis__forms),
		cmocka_unit_test(test_simnode_apis__audio),
		cmocka_unit_test(test_simnode_apis__large_bodies),
		cmocka_unit_test(test_simnode_apis__encodings),
		cmocka_unit_test(test_simnode_apis__comfyui_queue),
		cmocka_unit_test(test_simnode_apis__comfyui_history),
		cmocka_unit_test(test_simnode_apis__comfyui_uploads),
		cmocka_unit_test(test_simnode_apis__frames),
		cmocka_unit_test(test_simnode_apis__websocket),
		cmocka_unit_test(test_simnode_apis__websocket_that_is_none),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
