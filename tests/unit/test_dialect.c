/* SPDX-License-Identifier: MIT */
/* Paths, methods and errors of the dialects. */
#include "base/json.h"
#include "farm.h"
#include "proxy/dialect.h"

static const struct {
	const char *target;
	enum path_kind kind;
	enum dialect dialect;
	enum stream_end end;
	const char *text; /* as the node knows it */
} paths[] = {
	{"/v1/chat/completions", PATH_INFER, DIALECT_OPENAI, STREAM_DONE, "/v1/chat/completions"},
	{"/chat/completions", PATH_INFER, DIALECT_OPENAI, STREAM_DONE, "/v1/chat/completions"},
	{"/v1/chat/completions?api-version=1", PATH_INFER, DIALECT_OPENAI, STREAM_DONE,
	 "/v1/chat/completions"},
	{"/chat/completions?", PATH_INFER, DIALECT_OPENAI, STREAM_DONE, "/v1/chat/completions"},
	{"/v1/completions", PATH_INFER, DIALECT_OPENAI, STREAM_DONE, "/v1/completions"},
	{"/completions", PATH_INFER, DIALECT_OPENAI, STREAM_DONE, "/v1/completions"},
	{"/v1/embeddings", PATH_INFER, DIALECT_OPENAI, STREAM_ANY, "/v1/embeddings"},
	{"/embeddings", PATH_INFER, DIALECT_OPENAI, STREAM_ANY, "/v1/embeddings"},
	{"/v1/responses", PATH_INFER, DIALECT_OPENAI, STREAM_RESPONSE, "/v1/responses"},
	{"/v1/messages", PATH_INFER, DIALECT_ANTHROPIC, STREAM_MESSAGE_STOP, "/v1/messages"},
	{"/messages?beta=true", PATH_INFER, DIALECT_ANTHROPIC, STREAM_MESSAGE_STOP, "/v1/messages"},
	{"/v1/audio/speech", PATH_INFER, DIALECT_OPENAI, STREAM_ANY, "/v1/audio/speech"},
	{"/v1/images/generations", PATH_INFER, DIALECT_OPENAI, STREAM_ANY,
	 "/v1/images/generations"},
	{"/audio/transcriptions", PATH_INFER_FORM, DIALECT_OPENAI, STREAM_ANY,
	 "/v1/audio/transcriptions"},
	{"/api/chat", PATH_INFER, DIALECT_OLLAMA, STREAM_DONE, "/api/chat"},
	{"/api/generate?x", PATH_INFER, DIALECT_OLLAMA, STREAM_DONE, "/api/generate"},
	{"/api/embed", PATH_INFER, DIALECT_OLLAMA, STREAM_ANY, "/api/embed"},
	{"/api/embeddings", PATH_INFER, DIALECT_OLLAMA, STREAM_ANY, "/api/embeddings"},
	{"/api/show", PATH_SHOW, DIALECT_OLLAMA, STREAM_ANY, "/api/show"},
	{"/api/version", PATH_VERSION, DIALECT_OLLAMA, STREAM_ANY, "/api/version"},
	{"/api/tags", PATH_TAGS, DIALECT_OLLAMA, STREAM_ANY, "/api/tags"},
	{"/api/ps", PATH_PS, DIALECT_OLLAMA, STREAM_ANY, "/api/ps"},
	{"/api/pull", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY, NULL},
	{"/api/push", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY, NULL},
	{"/api/create", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY, NULL},
	{"/api/copy", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY, NULL},
	{"/api/delete", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY, NULL},
	{"/api/blobs/sha256:00", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY, NULL},
	{"/v1/models", PATH_MODELS, DIALECT_OPENAI, STREAM_ANY, "/v1/models"},
	{"/models?x=y", PATH_MODELS, DIALECT_OPENAI, STREAM_ANY, "/v1/models"},
	{"/v1/models/llama3:70b", PATH_MODEL, DIALECT_OPENAI, STREAM_ANY, NULL},
	{"/models/p/llama3", PATH_MODEL, DIALECT_OPENAI, STREAM_ANY, NULL},
	{"/", PATH_HELLO, DIALECT_OLLAMA, STREAM_ANY, NULL},
	{"/?x", PATH_HELLO, DIALECT_OLLAMA, STREAM_ANY, NULL},
	{"/health", PATH_HEALTH, DIALECT_OPENAI, STREAM_ANY, NULL},
	{"/health/liveliness", PATH_HEALTH, DIALECT_OPENAI, STREAM_ANY, NULL},
	{"/health/liveness", PATH_HEALTH, DIALECT_OPENAI, STREAM_ANY, NULL},
	{"/health/readiness", PATH_READY, DIALECT_OPENAI, STREAM_ANY, NULL},
	{"/metrics", PATH_METRICS, DIALECT_OPENAI, STREAM_ANY, NULL},
	/* nobody's: the answer is in the dialect that is likely */
	{"/api/unheard", PATH_UNKNOWN, DIALECT_OLLAMA, STREAM_ANY, ""},
	{"/api/", PATH_UNKNOWN, DIALECT_OLLAMA, STREAM_ANY, ""},
	{"/api", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"/v1/unheard", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"/v1/", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"/v1", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"/v1/api/chat", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"i/chat", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"/chat", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"/v1/v1/chat/completions", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"/v1/chat/completions/", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"/v1/chat/completion", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"/V1/chat/completions", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"//v1/chat/completions", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"/v1/messages/count_tokens", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"*", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
	{"?", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY, ""},
};

static void test_dialect__knows_its_paths(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(paths); i++) {
		const struct path *path = path_find(paths[i].target);

		if (path->kind != paths[i].kind || path->dialect != paths[i].dialect ||
		    path->end != paths[i].end)
			fail_msg("%s: kind %d, dialect %d, end %d", paths[i].target,
				 (int)path->kind, (int)path->dialect, (int)path->end);
		if (paths[i].text)
			assert_string_equal(path->text, paths[i].text);
	}
}

/* On a persona port: only whole paths of inferences are understood. */
static void test_dialect__carries_the_rest_as_it_is(void **state)
{
	(void)state;
	assert_int_equal(path_find_opaque("/v1/chat/completions?x")->kind, PATH_INFER);
	assert_int_equal(path_find_opaque("/v1/audio/transcriptions")->kind, PATH_INFER_FORM);
	assert_int_equal(path_find_opaque("/api/chat")->dialect, DIALECT_OLLAMA);
	assert_int_equal(path_find_opaque("/v1/messages")->end, STREAM_MESSAGE_STOP);
	assert_int_equal(path_find_opaque("/chat/completions")->kind, PATH_OPAQUE);
	assert_int_equal(path_find_opaque("/v1/models")->kind, PATH_OPAQUE);
	assert_int_equal(path_find_opaque("/")->kind, PATH_OPAQUE);
	assert_int_equal(path_find_opaque("/metrics")->kind, PATH_OPAQUE);
	assert_int_equal(path_find_opaque("/prompt")->dialect, DIALECT_OPENAI);
	assert_int_equal(path_find_opaque("/api/pull")->kind, PATH_OPAQUE);
	assert_int_equal(path_find_opaque("/api/pull")->dialect, DIALECT_OLLAMA);
	assert_string_equal(path_find_opaque("/api/pull")->text, "");
}

static const struct {
	const char *target, *method, *allow;
	bool allowed;
} methods[] = {
	{"/v1/chat/completions", "POST", "POST", true},
	{"/v1/chat/completions", "GET", "POST", false},
	{"/v1/chat/completions", "HEAD", "POST", false},
	{"/v1/chat/completions", "post", "POST", false},
	{"/v1/audio/transcriptions", "POST", "POST", true},
	{"/v1/audio/transcriptions", "PUT", "POST", false},
	{"/api/show", "POST", "POST", true},
	{"/api/show", "GET", "POST", false},
	{"/api/tags", "GET", "GET, HEAD", true},
	{"/api/tags", "HEAD", "GET, HEAD", true},
	{"/api/tags", "POST", "GET, HEAD", false},
	{"/api/version", "HEAD", "GET, HEAD", true},
	{"/api/ps", "DELETE", "GET, HEAD", false},
	{"/", "HEAD", "GET, HEAD", true},
	{"/", "POST", "GET, HEAD", false},
	{"/health", "GET", "GET, HEAD", true},
	{"/metrics", "OPTIONS", "GET, HEAD", false},
	{"/v1/models", "GET", "GET, HEAD", true},
	{"/v1/models/x", "DELETE", "GET, HEAD", false},
	{"/api/delete", "DELETE", "", true}, /* 403 says more */
	{"/unknown", "PATCH", "", true},     /* and so does 404 */
};

static void test_dialect__knows_the_methods(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(methods); i++) {
		const char *allow = NULL;
		bool allowed = path_allows(path_find(methods[i].target), methods[i].method, &allow);

		if (allowed != methods[i].allowed || strcmp(allow, methods[i].allow) != 0)
			fail_msg("%s %s: %d, %s", methods[i].method, methods[i].target, allowed,
				 allow);
	}
}

static const char nasty[] = "a \"quoted\" \\ line\n\r\x01 \xc3\xa9 \xff </script>";
static const char as_read[] = "a \"quoted\" \\ line\n\r\x01 \xc3\xa9 \xef\xbf\xbd </script>";

static struct json *parse(const char *text, size_t len)
{
	struct json_error error;
	struct json *json = json_parse(text, len, 0, &error);

	if (!json)
		fail_msg("%s: %s", text, error.text);
	return json;
}

static const char *word(const struct json *object, const char *key)
{
	return json_string(json_get(object, key));
}

static const struct {
	int status;
	const char *type;
} anthropic[] = {
	{400, "invalid_request_error"},
	{401, "authentication_error"},
	{403, "permission_error"},
	{404, "not_found_error"},
	{405, "invalid_request_error"},
	{408, "invalid_request_error"},
	{413, "request_too_large"},
	{415, "invalid_request_error"},
	{417, "invalid_request_error"},
	{429, "rate_limit_error"},
	{502, "api_error"},
	{503, "overloaded_error"},
	{504, "api_error"},
};

static const char *anthropic_of(int status)
{
	for (size_t i = 0; i < COUNT(anthropic); i++) {
		if (anthropic[i].status == status)
			return anthropic[i].type;
	}
	fail_msg("a status without a row: %d", status);
	return NULL;
}

static void check_openai(const struct json *document, const char *type, const char *code)
{
	const struct json *error = json_get(document, "error");

	assert_int_equal(json_count(document), 1);
	assert_int_equal(json_count(error), 4); /* the SDKs look for all four */
	assert_string_equal(word(error, "message"), as_read);
	assert_string_equal(word(error, "type"), type);
	assert_string_equal(word(error, "code"), code);
	assert_int_equal(json_type(json_get(error, "param")), JSON_NULL);
}

static void check_anthropic(const struct json *document, const char *type)
{
	const struct json *error = json_get(document, "error");

	assert_int_equal(json_count(document), 2);
	assert_string_equal(word(document, "type"), "error");
	assert_string_equal(word(error, "type"), type);
	assert_string_equal(word(error, "message"), as_read);
}

static void check_ollama(const struct json *document)
{
	assert_int_equal(json_count(document), 1);
	assert_string_equal(word(document, "error"), as_read);
}

static void test_dialect__errors_have_the_shape_of_the_dialect(void **state)
{
	(void)state;
	for (size_t why = 0; why < REFUSAL_COUNT; why++) {
		for (size_t dialect = 0; dialect <= DIALECT_ANTHROPIC; dialect++) {
			const struct refusal_about *about = &refusal_about[why];
			struct buf out = {0};
			struct json *json;

			dialect_error(&out, (enum dialect)dialect, (enum refusal)why, nasty);
			json = parse(out.data, out.len);
			if (dialect == DIALECT_OPENAI)
				check_openai(json, about->type, about->code);
			else if (dialect == DIALECT_OLLAMA)
				check_ollama(json);
			else
				check_anthropic(json, anthropic_of(about->status));
			json_free(json);
			buf_fini(&out);
		}
	}
}

static void test_dialect__refusals_are_what_clients_expect(void **state)
{
	(void)state;
	assert_int_equal(refusal_about[REFUSAL_UNKNOWN_MODEL].status, 404);
	assert_string_equal(refusal_about[REFUSAL_UNKNOWN_MODEL].code, "model_not_found");
	assert_int_equal(refusal_about[REFUSAL_BAD_KEY].status, 401);
	assert_string_equal(refusal_about[REFUSAL_BAD_KEY].code, "invalid_api_key");
	assert_int_equal(refusal_about[REFUSAL_FORBIDDEN].status, 403);
	assert_int_equal(refusal_about[REFUSAL_BUSY_EVERYWHERE].status, 429);
	assert_string_equal(refusal_about[REFUSAL_BUSY_EVERYWHERE].code, "rate_limit_exceeded");
	assert_int_equal(refusal_about[REFUSAL_TOO_LARGE].status, 413);
	for (size_t i = 0; i < REFUSAL_COUNT; i++) {
		const struct refusal_about *about = &refusal_about[i];

		/* what clients try again by themselves, and what they do not */
		assert_true((about->status >= 500) == !strcmp(about->type, "server_error"));
		assert_true(*about->code != '\0');
	}
}

/* Where an event begins, what its fields are, and that nothing is left open behind it. */
static void check_event(const struct buf *out, const char *before)
{
	size_t skip = strlen(before);

	assert_true(out->len > skip + 2);
	assert_memory_equal(out->data, before, skip);
	assert_string_equal(out->data + out->len - 2, "\n\n");
	assert_int_equal(strcspn(out->data + skip, "\n\r"), out->len - skip - 2); /* one line */
}

static void test_dialect__streams_break_off_with_an_event(void **state)
{
	struct buf out = {0};
	struct json *json;

	(void)state;
	dialect_stream_error(&out, DIALECT_OPENAI, true, nasty);
	check_event(&out, "data: ");
	json = parse(out.data + 6, out.len - 8);
	check_openai(json, "server_error", "upstream_failed");
	json_free(json);
	assert_null(strstr(out.data, "[DONE]"));
	buf_clear(&out);
	dialect_stream_error(&out, DIALECT_ANTHROPIC, true, nasty);
	check_event(&out, "event: error\ndata: ");
	json = parse(out.data + 19, out.len - 21);
	check_anthropic(json, "api_error");
	json_free(json);
	buf_clear(&out);
	dialect_stream_error(&out, DIALECT_OLLAMA, false, nasty);
	assert_int_equal(strcspn(out.data, "\n"), out.len - 1);
	json = parse(out.data, out.len - 1);
	check_ollama(json);
	json_free(json);
	buf_fini(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialect__knows_its_paths),
		cmocka_unit_test(test_dialect__carries_the_rest_as_it_is),
		cmocka_unit_test(test_dialect__knows_the_methods),
		cmocka_unit_test(test_dialect__errors_have_the_shape_of_the_dialect),
		cmocka_unit_test(test_dialect__refusals_are_what_clients_expect),
		cmocka_unit_test(test_dialect__streams_break_off_with_an_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
