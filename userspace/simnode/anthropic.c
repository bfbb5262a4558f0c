/* SPDX-License-Identifier: MIT */
/* Anthropic's /v1/messages: named events, or one object. */
#include <inttypes.h>
#include <stdio.h>

#include "simnode/sim_impl.h"

static const char *stop_reason(const struct sim_job *job)
{
	if (job->tool)
		return "tool_use";
	return job->by_request ? "max_tokens" : "end_turn";
}

/* NULL text: the begin of a stream. */
static void put_block(const struct sim_job *job, struct json_writer *w, const char *text)
{
	char id[48];

	json_begin(w, '{');
	json_pair_string(w, "type", job->tool ? "tool_use" : "text");
	if (job->tool) {
		snprintf(id, sizeof(id), "toolu_%" PRIu64, job->number);
		json_pair_string(w, "id", id);
		json_pair_string(w, "name", job->tool);
		json_name(w, "input");
		json_begin(w, '{');
		json_end(w, '}');
	} else {
		json_pair_string(w, "text", text ? text : "");
	}
	json_end(w, '}');
}

static void put_usage(struct json_writer *w, bool input, uint64_t output)
{
	json_name(w, "usage");
	json_begin(w, '{');
	if (input)
		json_pair_int(w, "input_tokens", 1);
	json_pair_int(w, "output_tokens", (int64_t)output);
	json_end(w, '}');
}

static void put_message(const struct sim_job *job, struct json_writer *w, const char *text)
{
	char id[48];

	snprintf(id, sizeof(id), "msg_%" PRIu64, job->number);
	json_begin(w, '{');
	json_pair_string(w, "id", id);
	json_pair_string(w, "type", "message");
	json_pair_string(w, "role", "assistant");
	json_pair_string(w, "model", job->model);
	json_name(w, "content");
	json_begin(w, '[');
	if (text)
		put_block(job, w, text);
	json_end(w, ']');
	json_pair_string(w, "stop_reason", text ? stop_reason(job) : NULL);
	json_pair_string(w, "stop_sequence", NULL);
	put_usage(w, true, text ? job->total : 1);
	json_end(w, '}');
}

static void begin_event(struct json_writer *w, const char *type)
{
	buf_printf(w->out, "event: %s\ndata: ", type);
	json_begin(w, '{');
	json_pair_string(w, "type", type);
}

static void end_event(struct json_writer *w)
{
	json_end(w, '}');
	buf_puts(w->out, "\n\n");
}

static void put_begin(struct sim_job *job, struct buf *out)
{
	struct json_writer start = {.out = out}, block = {.out = out}, ping = {.out = out};

	begin_event(&start, "message_start");
	json_name(&start, "message");
	put_message(job, &start, NULL);
	end_event(&start);
	begin_event(&block, "content_block_start");
	json_pair_int(&block, "index", 0);
	json_name(&block, "content_block");
	put_block(job, &block, NULL);
	end_event(&block);
	begin_event(&ping, "ping");
	end_event(&ping);
}

static void put_token(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};

	begin_event(&w, "content_block_delta");
	json_pair_int(&w, "index", 0);
	json_name(&w, "delta");
	json_begin(&w, '{');
	json_pair_string(&w, "type", job->tool ? "input_json_delta" : "text_delta");
	json_pair_string(&w, job->tool ? "partial_json" : "text", job->tool ? "{}" : text);
	json_end(&w, '}');
	end_event(&w);
}

static void put_end(struct sim_job *job, struct buf *out)
{
	struct json_writer block = {.out = out}, delta = {.out = out}, stop = {.out = out};

	begin_event(&block, "content_block_stop");
	json_pair_int(&block, "index", 0);
	end_event(&block);
	begin_event(&delta, "message_delta");
	json_name(&delta, "delta");
	json_begin(&delta, '{');
	json_pair_string(&delta, "stop_reason", stop_reason(job));
	json_pair_string(&delta, "stop_sequence", NULL);
	json_end(&delta, '}');
	put_usage(&delta, false, job->total);
	end_event(&delta);
	begin_event(&stop, "message_stop");
	end_event(&stop);
}

static const char *put_whole(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};

	put_message(job, &w, text);
	return "application/json";
}

const struct sim_dialect sim_anthropic = {
	.begin = put_begin, .token = put_token, .end = put_end, .whole = put_whole};
