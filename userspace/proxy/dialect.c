/* SPDX-License-Identifier: MIT */
#include "proxy/dialect.h"

#include <string.h>

#include "base/json.h"

const struct refusal_about refusal_about[REFUSAL_COUNT] = {
#define X(name, status, type, code) {status, type, code},
	REFUSALS(X)
#undef X
};

static const struct path paths[] = {
	{"/v1/chat/completions", PATH_INFER, DIALECT_OPENAI, STREAM_DONE},
	{"/v1/completions", PATH_INFER, DIALECT_OPENAI, STREAM_DONE},
	{"/v1/embeddings", PATH_INFER, DIALECT_OPENAI, STREAM_ANY},
	{"/v1/responses", PATH_INFER, DIALECT_OPENAI, STREAM_RESPONSE},
	{"/v1/messages", PATH_INFER, DIALECT_ANTHROPIC, STREAM_MESSAGE_STOP},
	{"/v1/audio/speech", PATH_INFER, DIALECT_OPENAI, STREAM_ANY},
	{"/v1/images/generations", PATH_INFER, DIALECT_OPENAI, STREAM_ANY},
	{"/v1/audio/transcriptions", PATH_INFER_FORM, DIALECT_OPENAI, STREAM_ANY},
	{"/api/chat", PATH_INFER, DIALECT_OLLAMA, STREAM_DONE},
	{"/api/generate", PATH_INFER, DIALECT_OLLAMA, STREAM_DONE},
	{"/api/embed", PATH_INFER, DIALECT_OLLAMA, STREAM_ANY},
	{"/api/embeddings", PATH_INFER, DIALECT_OLLAMA, STREAM_ANY},
	{"/api/show", PATH_SHOW, DIALECT_OLLAMA, STREAM_ANY},
	{"/api/version", PATH_VERSION, DIALECT_OLLAMA, STREAM_ANY},
	{"/api/tags", PATH_TAGS, DIALECT_OLLAMA, STREAM_ANY},
	{"/api/ps", PATH_PS, DIALECT_OLLAMA, STREAM_ANY},
	{"/api/pull", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY},
	{"/api/push", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY},
	{"/api/create", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY},
	{"/api/copy", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY},
	{"/api/delete", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY},
	{"/v1/models", PATH_MODELS, DIALECT_OPENAI, STREAM_ANY},
	{"/", PATH_HELLO, DIALECT_OLLAMA, STREAM_ANY},
	{"/health", PATH_HEALTH, DIALECT_OPENAI, STREAM_ANY},
	{"/health/liveliness", PATH_HEALTH, DIALECT_OPENAI, STREAM_ANY},
	{"/health/liveness", PATH_HEALTH, DIALECT_OPENAI, STREAM_ANY},
	{"/health/readiness", PATH_READY, DIALECT_OPENAI, STREAM_ANY},
	{"/metrics", PATH_METRICS, DIALECT_OPENAI, STREAM_ANY},
};
#define N_PATHS (sizeof(paths) / sizeof(paths[0]))

/* These begin with a path and go on. */
static const struct path model_path = {"/v1/models/", PATH_MODEL, DIALECT_OPENAI, STREAM_ANY};
static const struct path blobs_path = {"/api/blobs/", PATH_FORBIDDEN, DIALECT_OLLAMA, STREAM_ANY};
static const struct path unknown_api = {"", PATH_UNKNOWN, DIALECT_OLLAMA, STREAM_ANY};
static const struct path unknown = {"", PATH_UNKNOWN, DIALECT_OPENAI, STREAM_ANY};
static const struct path opaque = {"", PATH_OPAQUE, DIALECT_OPENAI, STREAM_ANY};
static const struct path opaque_api = {"", PATH_OPAQUE, DIALECT_OLLAMA, STREAM_ANY};

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

/* `less`: bytes of the table's path that may be missing in front ("/v1"). */
static const struct path *find_exact(const char *target, size_t len, size_t less)
{
	for (size_t i = 0; i < N_PATHS; i++) {
		const char *text = paths[i].text;

		if (less && !begins(text, "/v1/"))
			continue;
		if (strlen(text) - less == len && !memcmp(text + less, target, len))
			return &paths[i];
	}
	return NULL;
}

const struct path *path_find(const char *target)
{
	size_t len = strcspn(target, "?");
	const struct path *path = find_exact(target, len, 0);

	if (!path) /* as LiteLLM's clients ask */
		path = find_exact(target, len, 3);
	if (path)
		return path;
	if (begins(target, model_path.text) || begins(target, model_path.text + 3))
		return &model_path;
	if (begins(target, blobs_path.text))
		return &blobs_path;
	return begins(target, "/api/") ? &unknown_api : &unknown;
}

const struct path *path_find_opaque(const char *target)
{
	const struct path *path = find_exact(target, strcspn(target, "?"), 0);

	if (path && (path->kind == PATH_INFER || path->kind == PATH_INFER_FORM))
		return path;
	return begins(target, "/api/") ? &opaque_api : &opaque;
}

bool path_allows(const struct path *path, const char *method, const char **allow)
{
	bool get = !strcmp(method, "GET") || !strcmp(method, "HEAD");

	switch (path->kind) {
	case PATH_INFER:
	case PATH_INFER_FORM:
	case PATH_SHOW:
		*allow = "POST";
		return !strcmp(method, "POST");
	case PATH_FORBIDDEN:
	case PATH_UNKNOWN:
	case PATH_OPAQUE:
		*allow = "";
		return true;
	default:
		*allow = "GET, HEAD";
		return get;
	}
}

static void write_openai(struct json_writer *w, const struct refusal_about *about,
			 const char *message)
{
	json_begin(w, '{');
	json_name(w, "error");
	json_begin(w, '{');
	json_pair_string(w, "message", message);
	json_pair_string(w, "type", about->type);
	json_name(w, "param");
	json_put_null(w);
	json_pair_string(w, "code", about->code);
	json_end(w, '}');
	json_end(w, '}');
}

/* Anthropic's types of errors, by status. */
static const char *anthropic_type(int status)
{
	switch (status) {
	case 401:
		return "authentication_error";
	case 403:
		return "permission_error";
	case 404:
		return "not_found_error";
	case 413:
		return "request_too_large";
	case 429:
		return "rate_limit_error";
	case 503:
		return "overloaded_error";
	default:
		return status < 500 ? "invalid_request_error" : "api_error";
	}
}

static void write_anthropic(struct json_writer *w, const char *type, const char *message)
{
	json_begin(w, '{');
	json_pair_string(w, "type", "error");
	json_name(w, "error");
	json_begin(w, '{');
	json_pair_string(w, "type", type);
	json_pair_string(w, "message", message);
	json_end(w, '}');
	json_end(w, '}');
}

static void write_ollama(struct json_writer *w, const char *message)
{
	json_begin(w, '{');
	json_pair_string(w, "error", message);
	json_end(w, '}');
}

void dialect_error(struct buf *out, enum dialect dialect, enum refusal why, const char *message)
{
	const struct refusal_about *about = &refusal_about[why];
	struct json_writer w = {.out = out};

	if (dialect == DIALECT_OLLAMA)
		write_ollama(&w, message);
	else if (dialect == DIALECT_ANTHROPIC)
		write_anthropic(&w, anthropic_type(about->status), message);
	else
		write_openai(&w, about, message);
}

void dialect_stream_error(struct buf *out, enum dialect dialect, bool sse, const char *message)
{
	const struct refusal_about *about = &refusal_about[REFUSAL_UPSTREAM];
	struct json_writer w = {.out = out};

	if (!sse) {
		write_ollama(&w, message);
		buf_puts(out, "\n");
		return;
	}
	buf_puts(out, dialect == DIALECT_ANTHROPIC ? "event: error\ndata: " : "data: ");
	if (dialect == DIALECT_ANTHROPIC)
		write_anthropic(&w, "api_error", message);
	else
		write_openai(&w, about, message);
	buf_puts(out, "\n\n");
}
