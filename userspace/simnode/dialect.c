/* SPDX-License-Identifier: MIT */
/* Which dialect an inference is answered in, what is said, and the way to the peer. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "net/http1.h"
#include "simnode/sim_impl.h"

#define NDJSON "application/x-ndjson"
#define SSE    "text/event-stream; charset=utf-8"

static const struct {
	const struct sim_dialect *dialect;
	const char *stream; /* NULL: does not */
} kinds[] = {
	[SIM_GENERATE] = {&sim_ollama, NDJSON},
	[SIM_CHAT] = {&sim_ollama, NDJSON},
	[SIM_EMBED] = {&sim_ollama_embeds, NULL},
	[SIM_EMBEDDINGS] = {&sim_ollama_embeds, NULL},
	[SIM_V1_CHAT] = {&sim_openai, SSE},
	[SIM_V1_COMPLETIONS] = {&sim_openai, SSE},
	[SIM_V1_EMBEDDINGS] = {&sim_openai_embeds, NULL},
	[SIM_V1_RESPONSES] = {&sim_responses, SSE},
	[SIM_V1_MESSAGES] = {&sim_anthropic, SSE},
	[SIM_V1_TRANSCRIPTION] = {&sim_transcription, SSE},
	[SIM_V1_SPEECH] = {&sim_speech, NULL},
	[SIM_V1_IMAGES] = {&sim_images, NULL},
	[SIM_PROMPT] = {&sim_prompt, NULL},
	[SIM_OTHER] = {&sim_other, NULL},
};

bool sim_kind_streams(enum sim_kind kind)
{
	return kinds[kind].stream != NULL;
}

/* --- what is said --------------------------------------------------------------------------- */

static void fill(struct buf *out, size_t from, size_t bytes)
{
	static const char more[] = " and so on and on";
	char block[4096];

	if (out->len - from >= bytes)
		return;
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = more[i % (sizeof(more) - 1)];
	while (out->len - from < bytes && !buf_failed(out)) {
		size_t left = bytes - (out->len - from);

		buf_add(out, block, left < sizeof(block) ? left : sizeof(block));
	}
}

/* Token n (from 0): "NAME says hello word-3 word-4 ..." */
static void put_token(const struct simnode *node, struct buf *out, uint64_t n)
{
	size_t from = out->len;

	if (n == 0)
		buf_puts(out, node->name);
	else if (n <= 2)
		buf_puts(out, n == 1 ? " says" : " hello");
	else
		buf_printf(out, " word-%" PRIu64, n);
	fill(out, from, node->options.token_bytes);
	if (node->options.stamp)
		buf_printf(out, "@%" PRIu64, uv_hrtime() / 1000);
}

void sim_put_token_event(struct sim_job *job, struct buf *out)
{
	struct buf text = {0};

	if (!job->tool)
		put_token(job->service->node, &text, job->sent);
	kinds[job->kind].dialect->token(job, out, text.data ? text.data : "");
	buf_fini(&text);
}

const char *sim_put_whole(struct sim_job *job, struct buf *out)
{
	const struct simnode *node = job->service->node;
	struct buf text = {0};
	const char *type;

	for (uint64_t i = 0; i < job->total && !job->tool && !buf_failed(&text); i++)
		put_token(node, &text, i);
	if (!job->load && !job->tool)
		fill(&text, 0, node->options.answer_bytes);
	type = kinds[job->kind].dialect->whole(job, out, text.data ? text.data : "");
	buf_fini(&text);
	return type;
}

/* --- the way out ---------------------------------------------------------------------------- */

void sim_put_raw_head(const struct sim_job *job, struct buf *out, size_t from, const char *type,
		      int64_t length)
{
	struct buf head = {0};

	buf_printf(&head, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\n%s", type,
		   job->service->node->fields);
	if (length < 0)
		buf_puts(&head, "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n");
	else
		buf_printf(&head, "Content-Length: %" PRId64 "\r\n\r\n", length);
	if (!buf_failed(&head))
		buf_add(out, head.data + from, head.len - from);
	buf_fini(&head);
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

/* Sends what was put together; a line or an event goes out at once. */
static size_t flush(struct sim_job *job, struct buf *out)
{
	size_t left = 0;
	struct buf chunk = {0};

	if (job->by_hand && out->len) {
		buf_printf(&chunk, "%zx\r\n", out->len);
		buf_add(&chunk, out->data, out->len);
		buf_puts(&chunk, "\r\n");
		left = buf_failed(&chunk)
			       ? 0
			       : exchange_write_raw(job->exchange, chunk.data, chunk.len);
		buf_fini(&chunk);
	} else if (!buf_failed(out)) {
		left = exchange_write(job->exchange, out->data, out->len);
	}
	buf_fini(out);
	return left;
}

void sim_answer_head(struct sim_job *job)
{
	struct simnode *node = job->service->node;
	const char *type = job->stream ? kinds[job->kind].stream : "application/json";
	struct buf out = {0};

	if (job->by_hand) {
		sim_put_raw_head(job, &out, job->by_hand, type, -1);
		exchange_write_raw(job->exchange, out.data, buf_failed(&out) ? 0 : out.len);
	} else {
		buf_printf(&out, "%sCache-Control: no-cache\r\n", node->fields);
		exchange_begin(job->exchange, 200, type,
			       buf_failed(&out) ? node->fields : out.data);
	}
	buf_fini(&out);
}

void sim_stream_begin(struct sim_job *job)
{
	const struct sim_dialect *dialect = kinds[job->kind].dialect;
	struct buf out = {0};

	sim_answer_head(job);
	if (dialect->begin)
		dialect->begin(job, &out);
	flush(job, &out);
}

size_t sim_stream_token(struct sim_job *job)
{
	struct buf out = {0};

	sim_put_token_event(job, &out);
	return flush(job, &out);
}

void sim_stream_end(struct sim_job *job)
{
	static const char last[] = "0\r\n\r\n";
	struct buf out = {0};

	kinds[job->kind].dialect->end(job, &out);
	flush(job, &out);
	if (job->by_hand)
		exchange_write_raw(job->exchange, last, sizeof(last) - 1);
	exchange_end(job->exchange);
}

static void answer_by_hand(struct sim_job *job, const struct buf *body, const char *type)
{
	struct buf out = {0};

	sim_put_raw_head(job, &out, job->by_hand, type, (int64_t)body->len);
	buf_add(&out, body->data, body->len);
	if (buf_failed(&out) || buf_failed(body)) {
		exchange_abort(job->exchange);
	} else {
		exchange_write_raw(job->exchange, out.data, out.len);
		exchange_end(job->exchange);
	}
	buf_fini(&out);
}

void sim_whole_answer(struct sim_job *job)
{
	struct simnode *node = job->service->node;
	struct buf body = {0};
	const char *type = sim_put_whole(job, &body);

	if (job->by_hand)
		answer_by_hand(job, &body, type);
	else if (buf_failed(&body))
		exchange_answer(job->exchange, 500, NULL, NULL, 0, node->fields);
	else
		exchange_answer(job->exchange, 200, type, body.data, body.len, node->fields);
	buf_fini(&body);
}
