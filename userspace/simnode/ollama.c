/* SPDX-License-Identifier: MIT */
/* Ollama's own dialect: lines of JSON. */
#include <time.h>

#include "simnode/sim_impl.h"

static void put_now(struct json_writer *w)
{
	char text[40];
	time_t now = time(NULL);
	struct tm tm;

	if (!gmtime_r(&now, &tm) || !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm))
		text[0] = '\0';
	json_pair_string(w, "created_at", text);
}

static const char *done_reason(const struct sim_job *job)
{
	if (job->unload)
		return "unload";
	if (job->load)
		return "load";
	return job->by_request && !job->tool ? "length" : "stop";
}

static void put_counts(struct sim_job *job, struct json_writer *w)
{
	uint64_t now = uv_now(job->service->node->loop);

	json_pair_string(w, "done_reason", done_reason(job));
	if (job->kind == SIM_GENERATE && !job->load) {
		json_name(w, "context");
		json_begin(w, '[');
		for (int i = 1; i <= 3; i++)
			json_put_int(w, i);
		json_end(w, ']');
	}
	json_pair_int(w, "total_duration", (int64_t)(now - job->taken_at_ms) * 1000000 + 1);
	json_pair_int(w, "load_duration", 1);
	if (job->load)
		return;
	json_pair_int(w, "prompt_eval_count", 1);
	json_pair_int(w, "prompt_eval_duration",
		      (int64_t)(job->first_at_ms - job->taken_at_ms) * 1000000 + 1);
	json_pair_int(w, "eval_count", (int64_t)job->total);
	json_pair_int(w, "eval_duration", (int64_t)(now - job->first_at_ms) * 1000000 + 1);
}

static void put_tool(const struct sim_job *job, struct json_writer *w)
{
	json_name(w, "tool_calls");
	json_begin(w, '[');
	json_begin(w, '{');
	json_name(w, "function");
	json_begin(w, '{');
	json_pair_string(w, "name", job->tool);
	json_name(w, "arguments");
	json_begin(w, '{');
	json_end(w, '}');
	json_end(w, '}');
	json_end(w, '}');
	json_end(w, ']');
}

/* One line, without its newline; a whole answer is one line that is done. */
static void put_line(struct sim_job *job, struct buf *out, const char *text, bool tool, bool done)
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
		if (tool)
			put_tool(job, &w);
		json_end(&w, '}');
	} else {
		json_pair_string(&w, "response", text);
	}
	json_pair_bool(&w, "done", done);
	if (done)
		put_counts(job, &w);
	json_end(&w, '}');
}

static void put_token(struct sim_job *job, struct buf *out, const char *text)
{
	put_line(job, out, text, job->tool, false);
	buf_puts(out, "\n");
}

static void put_end(struct sim_job *job, struct buf *out)
{
	put_line(job, out, "", false, true);
	buf_puts(out, "\n");
}

static const char *put_whole(struct sim_job *job, struct buf *out, const char *text)
{
	put_line(job, out, text, job->tool, true);
	return "application/json; charset=utf-8";
}

const struct sim_dialect sim_ollama = {.token = put_token, .end = put_end, .whole = put_whole};

float sim_vector_at(unsigned i)
{
	return (float)(i + 1) / 16.0f;
}

void sim_put_vector(struct json_writer *w)
{
	json_begin(w, '[');
	for (unsigned i = 0; i < SIM_VECTOR_SIZE; i++)
		json_put_double(w, (double)sim_vector_at(i));
	json_end(w, ']');
}

static const char *put_embeds(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};

	(void)text;
	json_begin(&w, '{');
	if (job->kind == SIM_EMBEDDINGS) {
		json_name(&w, "embedding");
		sim_put_vector(&w);
	} else {
		json_pair_string(&w, "model", job->model);
		json_name(&w, "embeddings");
		json_begin(&w, '[');
		for (size_t i = 0; i < job->inputs; i++)
			sim_put_vector(&w);
		json_end(&w, ']');
		json_pair_int(&w, "total_duration", 2);
		json_pair_int(&w, "load_duration", 1);
		json_pair_int(&w, "prompt_eval_count", (int64_t)job->inputs);
	}
	json_end(&w, '}');
	return "application/json; charset=utf-8";
}

const struct sim_dialect sim_ollama_embeds = {.whole = put_embeds};
