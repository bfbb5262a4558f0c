/* SPDX-License-Identifier: MIT */
/* OpenAI's chat, completions and embeddings: events, or one object. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "simnode/encode.h"
#include "simnode/sim_impl.h"

static const char *finish_reason(const struct sim_job *job)
{
	if (job->tool)
		return "tool_calls";
	return job->by_request ? "length" : "stop";
}

static void put_usage(struct json_writer *w, uint64_t prompt, uint64_t answer)
{
	json_name(w, "usage");
	json_begin(w, '{');
	json_pair_int(w, "prompt_tokens", (int64_t)prompt);
	if (answer)
		json_pair_int(w, "completion_tokens", (int64_t)answer);
	json_pair_int(w, "total_tokens", (int64_t)(prompt + answer));
	json_end(w, '}');
}

static void put_head(struct sim_job *job, struct json_writer *w, bool chunk)
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

static void put_tool(const struct sim_job *job, struct json_writer *w, bool chunk)
{
	char id[48];

	snprintf(id, sizeof(id), "call_%" PRIu64, job->number);
	json_name(w, "tool_calls");
	json_begin(w, '[');
	json_begin(w, '{');
	if (chunk)
		json_pair_int(w, "index", 0);
	json_pair_string(w, "id", id);
	json_pair_string(w, "type", "function");
	json_name(w, "function");
	json_begin(w, '{');
	json_pair_string(w, "name", job->tool);
	json_pair_string(w, "arguments", "{}");
	json_end(w, '}');
	json_end(w, '}');
	json_end(w, ']');
}

enum part { ROLE, TEXT, TOOL, END, WHOLE };

static void put_message(struct sim_job *job, struct json_writer *w, enum part part,
			const char *text)
{
	bool whole = part == WHOLE;

	json_name(w, whole ? "message" : "delta");
	json_begin(w, '{');
	if (part == ROLE || whole)
		json_pair_string(w, "role", "assistant");
	if (whole && job->tool)
		text = NULL;
	if (part == ROLE || part == TEXT || whole)
		json_pair_string(w, "content", text);
	if (part == TOOL || (whole && job->tool))
		put_tool(job, w, !whole);
	json_end(w, '}');
}

static void put_choice(struct sim_job *job, struct json_writer *w, enum part part, const char *text)
{
	json_begin(w, '{');
	json_pair_int(w, "index", 0);
	if (job->kind == SIM_V1_CHAT)
		put_message(job, w, part, text);
	else
		json_pair_string(w, "text", text);
	json_pair_string(w, "finish_reason",
			 part == END || part == WHOLE ? finish_reason(job) : NULL);
	json_end(w, '}');
}

static void put_event(struct sim_job *job, struct buf *out, enum part part, const char *text)
{
	struct json_writer w = {.out = out};

	buf_puts(out, "data: ");
	put_head(job, &w, true);
	put_choice(job, &w, part, text);
	json_end(&w, ']');
	json_end(&w, '}');
	buf_puts(out, "\n\n");
}

static void put_begin(struct sim_job *job, struct buf *out)
{
	if (job->kind == SIM_V1_CHAT)
		put_event(job, out, ROLE, "");
}

static void put_token(struct sim_job *job, struct buf *out, const char *text)
{
	put_event(job, out, job->tool ? TOOL : TEXT, text);
}

static void put_end(struct sim_job *job, struct buf *out)
{
	struct json_writer w = {.out = out};

	put_event(job, out, END, "");
	if (job->usage) {
		buf_puts(out, "data: ");
		put_head(job, &w, true);
		json_end(&w, ']');
		put_usage(&w, 1, job->total);
		json_end(&w, '}');
		buf_puts(out, "\n\n");
	}
	buf_puts(out, "data: [DONE]\n\n");
}

static const char *put_whole(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};

	put_head(job, &w, false);
	put_choice(job, &w, WHOLE, text);
	json_end(&w, ']');
	put_usage(&w, 1, job->total);
	json_end(&w, '}');
	return "application/json";
}

const struct sim_dialect sim_openai = {
	.begin = put_begin, .token = put_token, .end = put_end, .whole = put_whole};

/* --- embeddings ----------------------------------------------------------------------------- */

/* Floats as the wire has them: 32 bits, little endian. */
static void put_base64(struct json_writer *w)
{
	uint8_t bytes[4 * SIM_VECTOR_SIZE];
	struct buf text = {0};

	for (unsigned i = 0; i < sizeof(bytes); i++) {
		float number = sim_vector_at(i / 4);
		uint32_t bits;

		memcpy(&bits, &number, sizeof(bits));
		bytes[i] = (uint8_t)(bits >> 8 * (i % 4));
	}
	encode_base64(&text, bytes, sizeof(bytes));
	json_put_string(w, text.data);
	buf_fini(&text);
}

static void put_vector(struct json_writer *w, bool base64)
{
	if (base64)
		put_base64(w);
	else
		sim_put_vector(w);
}

static const char *put_embeds(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};

	(void)text;
	json_begin(&w, '{');
	json_pair_string(&w, "object", "list");
	json_name(&w, "data");
	json_begin(&w, '[');
	for (size_t i = 0; i < job->inputs; i++) {
		json_begin(&w, '{');
		json_pair_string(&w, "object", "embedding");
		json_pair_int(&w, "index", (int64_t)i);
		json_name(&w, "embedding");
		put_vector(&w, job->base64);
		json_end(&w, '}');
	}
	json_end(&w, ']');
	json_pair_string(&w, "model", job->model);
	put_usage(&w, job->inputs, 0);
	json_end(&w, '}');
	return "application/json";
}

const struct sim_dialect sim_openai_embeds = {.whole = put_embeds};
