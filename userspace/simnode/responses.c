/* SPDX-License-Identifier: MIT */
/* OpenAI's /v1/responses: numbered, named events; each end says again what its deltas said. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "simnode/sim_impl.h"

static void put_id(const struct sim_job *job, struct json_writer *w, const char *name,
		   const char *prefix)
{
	char id[48];

	snprintf(id, sizeof(id), "%s_%" PRIu64, prefix, job->number);
	json_pair_string(w, name, id);
}

static void put_empty(struct json_writer *w, const char *name, char bracket)
{
	json_name(w, name);
	json_begin(w, bracket);
	json_end(w, bracket);
}

static void put_part(struct json_writer *w, const char *text)
{
	json_begin(w, '{');
	json_pair_string(w, "type", "output_text");
	json_pair_string(w, "text", text);
	put_empty(w, "annotations", '[');
	json_end(w, '}');
}

/* NULL text: not complete yet. */
static void put_item(const struct sim_job *job, struct json_writer *w, const char *text)
{
	json_begin(w, '{');
	put_id(job, w, "id", job->tool ? "fc" : "msg");
	json_pair_string(w, "type", job->tool ? "function_call" : "message");
	json_pair_string(w, "status", text ? "completed" : "in_progress");
	if (job->tool) {
		put_id(job, w, "call_id", "call");
		json_pair_string(w, "name", job->tool);
		json_pair_string(w, "arguments", text ? "{}" : "");
	} else {
		json_pair_string(w, "role", "assistant");
		json_name(w, "content");
		json_begin(w, '[');
		if (text)
			put_part(w, text);
		json_end(w, ']');
	}
	json_end(w, '}');
}

static void put_usage(const struct sim_job *job, struct json_writer *w)
{
	json_name(w, "usage");
	json_begin(w, '{');
	json_pair_int(w, "input_tokens", 1);
	json_name(w, "input_tokens_details");
	json_begin(w, '{');
	json_pair_int(w, "cached_tokens", 0);
	json_end(w, '}');
	json_pair_int(w, "output_tokens", (int64_t)job->total);
	json_name(w, "output_tokens_details");
	json_begin(w, '{');
	json_pair_int(w, "reasoning_tokens", 0);
	json_end(w, '}');
	json_pair_int(w, "total_tokens", (int64_t)job->total + 1);
	json_end(w, '}');
}

static void put_response(const struct sim_job *job, struct json_writer *w, const char *text)
{
	bool cut = text && job->by_request && !job->tool;

	json_begin(w, '{');
	put_id(job, w, "id", "resp");
	json_pair_string(w, "object", "response");
	json_pair_int(w, "created_at", (int64_t)time(NULL));
	json_pair_string(w, "status", !text ? "in_progress" : cut ? "incomplete" : "completed");
	json_pair_string(w, "error", NULL);
	json_name(w, "incomplete_details");
	if (cut) {
		json_begin(w, '{');
		json_pair_string(w, "reason", "max_output_tokens");
		json_end(w, '}');
	} else {
		json_put_null(w);
	}
	json_pair_string(w, "instructions", NULL);
	json_pair_string(w, "model", job->model);
	json_name(w, "output");
	json_begin(w, '[');
	if (text)
		put_item(job, w, text);
	json_end(w, ']');
	json_pair_bool(w, "parallel_tool_calls", true);
	json_pair_string(w, "tool_choice", "auto");
	put_empty(w, "tools", '[');
	put_empty(w, "metadata", '{');
	if (text)
		put_usage(job, w);
	json_end(w, '}');
}

static void begin_event(struct sim_job *job, struct json_writer *w, const char *type)
{
	buf_printf(w->out, "event: %s\ndata: ", type);
	json_begin(w, '{');
	json_pair_string(w, "type", type);
	json_pair_int(w, "sequence_number", (int64_t)job->events++);
}

static void end_event(struct json_writer *w)
{
	json_end(w, '}');
	buf_puts(w->out, "\n\n");
}

static void put_response_event(struct sim_job *job, struct buf *out, const char *type,
			       const char *text)
{
	struct json_writer w = {.out = out};

	begin_event(job, &w, type);
	json_name(&w, "response");
	put_response(job, &w, text);
	end_event(&w);
}

static void put_item_event(struct sim_job *job, struct buf *out, const char *type, const char *text)
{
	struct json_writer w = {.out = out};

	begin_event(job, &w, type);
	json_pair_int(&w, "output_index", 0);
	json_name(&w, "item");
	put_item(job, &w, text);
	end_event(&w);
}

/* Within an item: `name` (delta, text, part, arguments) is the text. */
static void put_piece_event(struct sim_job *job, struct buf *out, const char *type,
			    const char *name, const char *text)
{
	struct json_writer w = {.out = out};

	begin_event(job, &w, type);
	put_id(job, &w, "item_id", job->tool ? "fc" : "msg");
	json_pair_int(&w, "output_index", 0);
	if (!job->tool)
		json_pair_int(&w, "content_index", 0);
	if (!strcmp(name, "part")) {
		json_name(&w, name);
		put_part(&w, text);
	} else {
		json_pair_string(&w, name, text);
	}
	end_event(&w);
}

static void put_begin(struct sim_job *job, struct buf *out)
{
	put_response_event(job, out, "response.created", NULL);
	put_response_event(job, out, "response.in_progress", NULL);
	put_item_event(job, out, "response.output_item.added", NULL);
	if (!job->tool)
		put_piece_event(job, out, "response.content_part.added", "part", "");
}

static void put_token(struct sim_job *job, struct buf *out, const char *text)
{
	if (job->tool) {
		put_piece_event(job, out, "response.function_call_arguments.delta", "delta", "{}");
		return;
	}
	buf_puts(&job->said, text);
	put_piece_event(job, out, "response.output_text.delta", "delta", text);
}

static void put_end(struct sim_job *job, struct buf *out)
{
	const char *text = job->said.data ? job->said.data : "";

	if (job->tool) {
		put_piece_event(job, out, "response.function_call_arguments.done", "arguments",
				"{}");
	} else {
		put_piece_event(job, out, "response.output_text.done", "text", text);
		put_piece_event(job, out, "response.content_part.done", "part", text);
	}
	put_item_event(job, out, "response.output_item.done", text);
	put_response_event(
		job, out,
		job->by_request && !job->tool ? "response.incomplete" : "response.completed", text);
}

static const char *put_whole(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};

	put_response(job, &w, text);
	return "application/json";
}

const struct sim_dialect sim_responses = {
	.begin = put_begin, .token = put_token, .end = put_end, .whole = put_whole};
