/* SPDX-License-Identifier: MIT */
/* How the dialects put things: errors, tokens, streams and whole answers. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "simnode/sim_impl.h"

#define NDJSON	       "application/x-ndjson"
#define SSE	       "text/event-stream"
#define EMBEDDING_SIZE 8

bool sim_kind_v1(enum sim_kind kind)
{
	return kind >= SIM_V1_CHAT;
}

void sim_answer_json(struct simnode *node, struct exchange *exchange, int status, struct buf *json)
{
	if (buf_failed(json) || !json->data)
		exchange_answer(exchange, 500, NULL, NULL, 0, node->fields);
	else
		exchange_answer(exchange, status, "application/json", json->data, json->len,
				node->fields);
	buf_fini(json);
}

static const char *v1_type(int status)
{
	if (status == 400)
		return "invalid_request_error";
	return status == 404 ? "not_found_error" : "api_error";
}

static void put_v1_error(struct json_writer *w, int status, const char *text)
{
	json_begin(w, '{');
	json_name(w, "error");
	json_begin(w, '{');
	json_pair_string(w, "message", text);
	json_pair_string(w, "type", v1_type(status));
	json_name(w, "param");
	json_put_null(w);
	json_name(w, "code");
	json_put_null(w);
	json_end(w, '}');
	json_end(w, '}');
}

void sim_error(struct simnode *node, struct exchange *exchange, bool v1, int status,
	       const char *format, ...)
{
	struct buf out = {0};
	struct json_writer w = {.out = &out};
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (v1) {
		put_v1_error(&w, status, text);
	} else {
		json_begin(&w, '{');
		json_pair_string(&w, "error", text);
		json_end(&w, '}');
	}
	sim_answer_json(node, exchange, status, &out);
}

/* Token n (from 0): "NAME says hello word-3 word-4 ..." */
static void put_token(struct buf *out, const char *name, uint64_t n)
{
	if (n == 0)
		buf_puts(out, name);
	else if (n <= 2)
		buf_puts(out, n == 1 ? " says" : " hello");
	else
		buf_printf(out, " word-%" PRIu64, n);
}

static void put_now(struct json_writer *w)
{
	char text[40];
	time_t now = time(NULL);
	struct tm tm;

	if (!gmtime_r(&now, &tm) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm))
		text[0] = '\0';
	json_pair_string(w, "created_at", text);
}

static const char *finish_reason(const struct sim_job *job)
{
	return job->by_request ? "length" : "stop";
}

/* --- Ollama --------------------------------------------------------------------------------- */

static void put_counts(struct sim_job *job, struct json_writer *w)
{
	uint64_t now = uv_now(job->service->node->loop);

	json_pair_string(w, "done_reason",
			 job->unload ? "unload"
			 : job->load ? "load"
				     : finish_reason(job));
	json_pair_int(w, "total_duration", (int64_t)(now - job->taken_at_ms) * 1000000);
	json_pair_int(w, "load_duration", 1);
	if (job->load)
		return;
	json_pair_int(w, "prompt_eval_count", 1);
	json_pair_int(w, "prompt_eval_duration",
		      (int64_t)(job->first_at_ms - job->taken_at_ms) * 1000000);
	json_pair_int(w, "eval_count", (int64_t)job->total);
	json_pair_int(w, "eval_duration", (int64_t)(now - job->first_at_ms) * 1000000 + 1);
}

/* One line of a native answer, without its newline; a whole answer is one line that is done. */
static void put_native(struct sim_job *job, struct buf *out, const char *text, bool done)
{
	struct json_writer w = {.out = out};

	json_begin(&w, '{');
	json_pair_string(&w, "model", job->model);
	put_now(&w);
	if (job->kind == SIM_CHAT) {
		json_name(&w, "message");
		json_begin(&w, '{');
		json_pair_string(&w, "role", "assistant");
		json_pair_string(&w, "content", text);
		json_end(&w, '}');
	} else {
		json_pair_string(&w, "response", text);
	}
	json_pair_bool(&w, "done", done);
	if (done)
		put_counts(job, &w);
	json_end(&w, '}');
}

/* --- OpenAI --------------------------------------------------------------------------------- */

static void put_usage(struct sim_job *job, struct json_writer *w)
{
	json_name(w, "usage");
	json_begin(w, '{');
	json_pair_int(w, "prompt_tokens", 1);
	json_pair_int(w, "completion_tokens", (int64_t)job->total);
	json_pair_int(w, "total_tokens", (int64_t)job->total + 1);
	json_end(w, '}');
}

static void put_v1_head(struct sim_job *job, struct json_writer *w, bool chunk)
{
	char id[48];
	bool chat = job->kind == SIM_V1_CHAT;

	snprintf(id, sizeof(id), "%s-%" PRIu64, chat ? "chatcmpl" : "cmpl", job->number);
	json_begin(w, '{');
	json_pair_string(w, "id", id);
	if (chat)
		json_pair_string(w, "object", chunk ? "chat.completion.chunk" : "chat.completion");
	else
		json_pair_string(w, "object", "text_completion");
	json_pair_int(w, "created", (int64_t)time(NULL));
	json_pair_string(w, "model", job->model);
	json_pair_string(w, "system_fingerprint", job->service->node->name);
	json_name(w, "choices");
	json_begin(w, '[');
}

/* NULL text: an empty delta. `role`: the first chunk of a chat. */
static void put_choice(struct sim_job *job, struct json_writer *w, const char *part,
		       const char *text, bool role, const char *finish)
{
	json_begin(w, '{');
	json_pair_int(w, "index", 0);
	if (job->kind == SIM_V1_CHAT) {
		json_name(w, part);
		json_begin(w, '{');
		if (role)
			json_pair_string(w, "role", "assistant");
		if (text)
			json_pair_string(w, "content", text);
		json_end(w, '}');
	} else {
		json_pair_string(w, "text", text ? text : "");
	}
	json_pair_string(w, "finish_reason", finish);
	json_end(w, '}');
}

static void put_event(struct sim_job *job, struct buf *out, const char *text, bool role,
		      const char *finish)
{
	struct json_writer w = {.out = out};

	buf_puts(out, "data: ");
	put_v1_head(job, &w, true);
	put_choice(job, &w, "delta", text, role, finish);
	json_end(&w, ']');
	json_end(&w, '}');
	buf_puts(out, "\n\n");
}

static void put_v1_whole(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};

	put_v1_head(job, &w, false);
	put_choice(job, &w, "message", text, true, finish_reason(job));
	json_end(&w, ']');
	put_usage(job, &w);
	json_end(&w, '}');
}

/* --- streams -------------------------------------------------------------------------------- */

/* Sends what was put together; a line or an event goes out at once. */
static size_t flush(struct sim_job *job, struct buf *out)
{
	size_t left = buf_failed(out) ? 0 : exchange_write(job->exchange, out->data, out->len);

	buf_fini(out);
	return left;
}

void sim_stream_begin(struct sim_job *job)
{
	struct simnode *node = job->service->node;
	struct buf out = {0}, fields = {0};

	buf_printf(&fields, "%sCache-Control: no-cache\r\n", node->fields);
	exchange_begin(job->exchange, 200, sim_kind_v1(job->kind) ? SSE : NDJSON,
		       buf_failed(&fields) ? node->fields : fields.data);
	buf_fini(&fields);
	if (job->kind != SIM_V1_CHAT)
		return;
	put_event(job, &out, "", true, NULL);
	flush(job, &out);
}

size_t sim_stream_token(struct sim_job *job)
{
	struct buf text = {0}, out = {0};

	put_token(&text, job->service->node->name, job->sent);
	if (sim_kind_v1(job->kind)) {
		put_event(job, &out, text.data, false, NULL);
	} else {
		put_native(job, &out, text.data, false);
		buf_puts(&out, "\n");
	}
	buf_fini(&text);
	return flush(job, &out);
}

static void put_usage_event(struct sim_job *job, struct buf *out)
{
	struct json_writer w = {.out = out};

	buf_puts(out, "data: ");
	put_v1_head(job, &w, true);
	json_end(&w, ']');
	put_usage(job, &w);
	json_end(&w, '}');
	buf_puts(out, "\n\n");
}

void sim_stream_end(struct sim_job *job)
{
	struct buf out = {0};

	if (sim_kind_v1(job->kind)) {
		put_event(job, &out, NULL, false, finish_reason(job));
		if (job->usage)
			put_usage_event(job, &out);
		buf_puts(&out, "data: [DONE]\n\n");
	} else {
		put_native(job, &out, "", true);
		buf_puts(&out, "\n");
	}
	flush(job, &out);
	exchange_end(job->exchange);
}

void sim_stream_error(struct sim_job *job)
{
	struct simnode *node = job->service->node;
	bool v1 = sim_kind_v1(job->kind);
	struct buf out = {0};
	struct json_writer w = {.out = &out};

	exchange_begin(job->exchange, 200, v1 ? SSE : NDJSON, node->fields);
	if (v1)
		buf_puts(&out, "data: ");
	put_v1_error(&w, 503, "The request queue is full.");
	buf_puts(&out, v1 ? "\n\n" : "\n");
	flush(job, &out);
	exchange_end(job->exchange);
}

/* --- whole answers -------------------------------------------------------------------------- */

static void put_vector(struct json_writer *w)
{
	json_begin(w, '[');
	for (int i = 1; i <= EMBEDDING_SIZE; i++)
		json_put_double(w, i / 16.0);
	json_end(w, ']');
}

static void put_embeddings(struct sim_job *job, struct buf *out)
{
	struct json_writer w = {.out = out};

	json_begin(&w, '{');
	if (job->kind == SIM_EMBEDDINGS) {
		json_name(&w, "embedding");
		put_vector(&w);
		json_end(&w, '}');
		return;
	}
	json_pair_string(&w, "model", job->model);
	json_name(&w, job->kind == SIM_EMBED ? "embeddings" : "data");
	json_begin(&w, '[');
	for (size_t i = 0; i < job->inputs; i++) {
		if (job->kind == SIM_V1_EMBEDDINGS) {
			json_begin(&w, '{');
			json_pair_string(&w, "object", "embedding");
			json_pair_int(&w, "index", (int64_t)i);
			json_name(&w, "embedding");
		}
		put_vector(&w);
		if (job->kind == SIM_V1_EMBEDDINGS)
			json_end(&w, '}');
	}
	json_end(&w, ']');
	if (job->kind == SIM_V1_EMBEDDINGS) {
		json_pair_string(&w, "object", "list");
		put_usage(job, &w);
	}
	json_end(&w, '}');
}

static void put_other(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};

	json_begin(&w, '{');
	json_pair_string(&w, "node", job->service->node->name);
	json_pair_string(&w, "text", text);
	json_end(&w, '}');
}

void sim_whole_answer(struct sim_job *job)
{
	struct simnode *node = job->service->node;
	struct buf out = {0}, text = {0};

	for (uint64_t i = 0; i < job->total; i++)
		put_token(&text, node->name, i);
	switch (job->kind) {
	case SIM_GENERATE:
	case SIM_CHAT:
		put_native(job, &out, text.data ? text.data : "", true);
		break;
	case SIM_EMBED:
	case SIM_EMBEDDINGS:
	case SIM_V1_EMBEDDINGS:
		put_embeddings(job, &out);
		break;
	case SIM_V1_CHAT:
	case SIM_V1_COMPLETIONS:
		put_v1_whole(job, &out, text.data ? text.data : "");
		break;
	case SIM_OTHER:
		put_other(job, &out, text.data ? text.data : "");
		break;
	}
	buf_fini(&text);
	sim_answer_json(node, job->exchange, 200, &out);
}
