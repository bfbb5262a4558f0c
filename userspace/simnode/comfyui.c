/* SPDX-License-Identifier: MIT */
/*
 * ComfyUI: a queue in which one prompt after the other takes the time of one answer (ttft, then
 * tokens), its history, uploads, and the websocket. All of it is known to this node only, as with
 * the real one.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/http1.h"
#include "simnode/form.h"
#include "simnode/sim_impl.h"

#define PROMPTS_MAX 64
#define UPLOADS_MAX 8

struct prompt {
	char id[64];
	uint64_t number; /* 0: none */
	uint64_t from_ms, until_ms;
};

struct upload {
	char name[128];
	struct buf data;
};

struct sim_comfyui {
	struct prompt prompts[PROMPTS_MAX]; /* number n is at n % PROMPTS_MAX */
	uint64_t last_prompt;
	struct upload uploads[UPLOADS_MAX];
	unsigned next_upload;
};

static struct sim_comfyui *state_of(struct simnode *node)
{
	if (!node->comfyui)
		node->comfyui = calloc(1, sizeof(*node->comfyui));
	return node->comfyui;
}

void sim_comfyui_free(struct sim_comfyui *comfyui)
{
	for (unsigned i = 0; comfyui && i < UPLOADS_MAX; i++)
		buf_fini(&comfyui->uploads[i].data);
	free(comfyui);
}

/* --- prompts -------------------------------------------------------------------------------- */

bool sim_comfyui_good(struct sim_job *job)
{
	struct json_error error;
	size_t len;
	const char *body = exchange_body(job->exchange, &len);
	struct json *request = json_parse(body, len, 0, &error);
	bool good = json_get(request, "prompt") != NULL;

	if (!request)
		sim_error(job->service, job->exchange, 400, "%s", error.text);
	else if (!good)
		sim_error(job->service, job->exchange, 400, "No prompt provided");
	json_free(request);
	return good;
}

/* One that no other node gives. */
static void put_id(const struct simnode *node, uint64_t number, char id[64])
{
	uint64_t a = sim_hash(node->name, strlen(node->name)) + number,
		 b = sim_hash((const char *)&a, sizeof(a));

	snprintf(id, 64, "%08" PRIx32 "-%04x-4%03x-8%03x-%012" PRIx64, (uint32_t)a,
		 (unsigned)(a >> 32 & 0xffff), (unsigned)(a >> 48 & 0xfff), (unsigned)(b & 0xfff),
		 b >> 16);
}

static void read_id(struct sim_job *job, char id[64])
{
	struct json_error error;
	size_t len;
	const char *body = exchange_body(job->exchange, &len), *given;
	struct json *request = json_parse(body, len, 0, &error);

	given = json_string(json_get(request, "prompt_id"));
	if (given)
		snprintf(id, 64, "%s", given);
	json_free(request);
}

static struct prompt *add_prompt(struct sim_job *job)
{
	struct simnode *node = job->service->node;
	struct sim_comfyui *state = state_of(node);
	uint64_t now = uv_now(node->loop), before = 0;
	struct prompt *prompt;

	if (!state)
		return NULL;
	before = state->prompts[state->last_prompt % PROMPTS_MAX].until_ms;
	prompt = &state->prompts[++state->last_prompt % PROMPTS_MAX];
	*prompt = (struct prompt){.number = state->last_prompt,
				  .from_ms = before > now ? before : now};
	prompt->until_ms = prompt->from_ms + node->options.ttft_ms +
			   (uint64_t)node->options.tokens * 1000 / node->options.tps;
	put_id(node, prompt->number, prompt->id);
	read_id(job, prompt->id);
	return prompt;
}

static const char *put_prompt(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};
	const struct prompt *prompt = add_prompt(job);

	(void)text;
	json_begin(&w, '{');
	json_pair_string(&w, "prompt_id", prompt ? prompt->id : "");
	json_pair_int(&w, "number", prompt ? (int64_t)prompt->number : 0);
	json_name(&w, "node_errors");
	json_begin(&w, '{');
	json_end(&w, '}');
	json_end(&w, '}');
	return "application/json";
}

const struct sim_dialect sim_prompt = {.whole = put_prompt};

/* Calls `put` for each prompt of which it is so, in order. */
enum when { PENDING, RUNNING, DONE };

static bool is_when(const struct prompt *prompt, uint64_t now, enum when when)
{
	if (!prompt->number)
		return false;
	if (when == PENDING)
		return now < prompt->from_ms;
	return when == DONE ? now >= prompt->until_ms
			    : now >= prompt->from_ms && now < prompt->until_ms;
}

static const struct prompt *next_prompt(struct simnode *node, enum when when, uint64_t *number)
{
	struct sim_comfyui *state = node->comfyui;
	uint64_t now = uv_now(node->loop);

	if (!state)
		return NULL;
	if (!*number && state->last_prompt > PROMPTS_MAX)
		*number = state->last_prompt - PROMPTS_MAX;
	while (++*number <= state->last_prompt) {
		const struct prompt *prompt = &state->prompts[*number % PROMPTS_MAX];

		if (is_when(prompt, now, when))
			return prompt;
	}
	return NULL;
}

static unsigned count_prompts(struct simnode *node, enum when when)
{
	unsigned n = 0;

	for (uint64_t number = 0; next_prompt(node, when, &number); n++)
		;
	return n;
}

unsigned sim_comfyui_queue(struct simnode *node)
{
	return count_prompts(node, PENDING) + count_prompts(node, RUNNING);
}

/* [number, id, graph, extra, outputs] */
static void put_entry(struct json_writer *w, const struct prompt *prompt)
{
	json_begin(w, '[');
	json_put_int(w, (int64_t)prompt->number);
	json_put_string(w, prompt->id);
	for (unsigned i = 0; i < 2; i++) {
		json_begin(w, '{');
		json_end(w, '}');
	}
	json_begin(w, '[');
	json_end(w, ']');
	json_end(w, ']');
}

static void put_queue(struct simnode *node, struct json_writer *w)
{
	const struct prompt *prompt;

	json_begin(w, '{');
	for (enum when when = RUNNING;; when = PENDING) {
		json_name(w, when == RUNNING ? "queue_running" : "queue_pending");
		json_begin(w, '[');
		for (uint64_t number = 0; (prompt = next_prompt(node, when, &number));)
			put_entry(w, prompt);
		json_end(w, ']');
		if (when == PENDING)
			break;
	}
	json_end(w, '}');
}

static void put_stats(const struct simnode *node, struct json_writer *w)
{
	static const char *const memory[] = {"vram_total", "vram_free", "torch_vram_total",
					     "torch_vram_free"};

	json_begin(w, '{');
	json_name(w, "system");
	json_begin(w, '{');
	json_pair_string(w, "os", "posix");
	json_pair_int(w, "ram_total", (int64_t)64 << 30);
	json_pair_int(w, "ram_free", (int64_t)32 << 30);
	json_pair_string(w, "comfyui_version", "0.3.0");
	json_end(w, '}');
	json_name(w, "devices");
	json_begin(w, '[');
	json_begin(w, '{');
	json_pair_string(w, "name", node->name);
	json_pair_string(w, "type", "simulated");
	json_pair_int(w, "index", 0);
	for (unsigned i = 0; i < 4; i++)
		json_pair_int(w, memory[i], (int64_t)8 << 30);
	json_end(w, '}');
	json_end(w, ']');
	json_end(w, '}');
}

void sim_get_comfyui(struct sim_service *service, struct exchange *exchange)
{
	struct simnode *node = service->node;
	const char *path = exchange_path(exchange);
	struct buf out = {0};
	struct json_writer w = {.out = &out};

	if (!strcmp(path, "/prompt"))
		buf_printf(&out, "{\"exec_info\":{\"queue_remaining\":%u}}",
			   sim_comfyui_queue(node));
	else if (!strcmp(path, "/queue"))
		put_queue(node, &w);
	else
		put_stats(node, &w);
	sim_answer_json(node, exchange, 200, &out);
}

/* What a prompt has made: one image. */
static void output_name(const struct simnode *node, const struct prompt *prompt, char name[128])
{
	snprintf(name, 128, "%s_%05" PRIu64 "_.png", node->name, prompt->number);
}

static void put_outputs(const struct simnode *node, const struct prompt *prompt,
			struct json_writer *w)
{
	char name[128];

	output_name(node, prompt, name);
	json_name(w, "outputs");
	json_begin(w, '{');
	json_name(w, "9");
	json_begin(w, '{');
	json_name(w, "images");
	json_begin(w, '[');
	json_begin(w, '{');
	json_pair_string(w, "filename", name);
	json_pair_string(w, "subfolder", "");
	json_pair_string(w, "type", "output");
	json_end(w, '}');
	json_end(w, ']');
	json_end(w, '}');
	json_end(w, '}');
}

void sim_get_history(struct sim_service *service, struct exchange *exchange)
{
	struct simnode *node = service->node;
	const char *path = exchange_path(exchange), *id = path + strlen("/history");
	const struct prompt *prompt;
	struct buf out = {0};
	struct json_writer w = {.out = &out};

	json_begin(&w, '{');
	for (uint64_t number = 0; (prompt = next_prompt(node, DONE, &number));) {
		if (*id && strcmp(id + 1, prompt->id) != 0)
			continue;
		json_name(&w, prompt->id);
		json_begin(&w, '{');
		json_name(&w, "prompt");
		put_entry(&w, prompt);
		put_outputs(node, prompt, &w);
		json_name(&w, "status");
		json_begin(&w, '{');
		json_pair_string(&w, "status_str", "success");
		json_pair_bool(&w, "completed", true);
		json_end(&w, '}');
		json_end(&w, '}');
	}
	json_end(&w, '}');
	sim_answer_json(node, exchange, 200, &out);
}

/* --- files ---------------------------------------------------------------------------------- */

void sim_post_upload(struct sim_service *service, struct exchange *exchange)
{
	const char *type = http1_field(exchange_head(exchange), "content-type"), *body;
	struct sim_comfyui *state = state_of(service->node);
	struct buf out = {0};
	struct json_writer w = {.out = &out};
	struct form_part part;
	struct upload *upload;
	size_t len;

	body = exchange_body(exchange, &len);
	if (!state || !form_find(type, body, len, "image", &part) || !part.filename) {
		sim_error(service, exchange, 400, "no image");
		return;
	}
	upload = &state->uploads[state->next_upload++ % UPLOADS_MAX];
	snprintf(upload->name, sizeof(upload->name), "%.*s", (int)part.filename_len, part.filename);
	buf_clear(&upload->data);
	buf_add(&upload->data, part.data, part.len);
	json_begin(&w, '{');
	json_pair_string(&w, "name", upload->name);
	json_pair_string(&w, "subfolder", "");
	json_pair_string(&w, "type", "input");
	json_end(&w, '}');
	sim_answer_json(service->node, exchange, 200, &out);
}

static const struct buf *find_upload(const struct sim_comfyui *state, const char *name)
{
	for (unsigned i = 0; state && i < UPLOADS_MAX; i++) {
		if (state->uploads[i].data.len && !strcmp(state->uploads[i].name, name))
			return &state->uploads[i].data;
	}
	return NULL;
}

static bool is_output(struct simnode *node, const char *name)
{
	const struct prompt *prompt;
	char output[128];

	for (uint64_t number = 0; (prompt = next_prompt(node, DONE, &number));) {
		output_name(node, prompt, output);
		if (!strcmp(output, name))
			return true;
	}
	return false;
}

void sim_get_view(struct sim_service *service, struct exchange *exchange)
{
	struct simnode *node = service->node;
	const char *name = exchange_query(exchange, "filename");
	const struct buf *upload = name ? find_upload(node->comfyui, name) : NULL;

	if (upload)
		exchange_answer(exchange, 200, "image/png", upload->data, upload->len,
				node->fields);
	else if (name && is_output(node, name))
		exchange_answer(exchange, 200, "image/png", (const char *)sim_png, sizeof(sim_png),
				node->fields);
	else
		exchange_answer(exchange, name ? 404 : 400, NULL, NULL, 0, node->fields);
}

/* --- the websocket -------------------------------------------------------------------------- */

static void on_upgraded(void *arg, int fd, const char *data, size_t len)
{
	struct sim_service *service = arg;
	struct buf text = {0}, hello = {0};

	buf_printf(&text,
		   "{\"type\":\"status\",\"data\":{\"status\":{\"exec_info\":"
		   "{\"queue_remaining\":%u}},\"sid\":\"%s\"}}",
		   sim_comfyui_queue(service->node), service->node->name);
	sim_websocket_put_text(&hello, text.data ? text.data : "");
	sim_on_websocket(service, fd, &hello, data, len);
	buf_fini(&text);
	buf_fini(&hello);
}

void sim_get_ws(struct sim_service *service, struct exchange *exchange)
{
	const struct http1_head *head = exchange_head(exchange);
	const char *key = http1_field(head, "sec-websocket-key");
	struct buf fields = {0};

	if (!key || !http1_has_token(head, "upgrade", "websocket") ||
	    !http1_has_token(head, "connection", "upgrade")) {
		sim_error(service, exchange, 400, "expected a websocket");
		return;
	}
	buf_printf(&fields,
		   "Upgrade: websocket\r\n%sSec-WebSocket-Accept: ", service->node->fields);
	sim_websocket_accept(&fields, key);
	buf_puts(&fields, "\r\n");
	if (buf_failed(&fields))
		exchange_abort(exchange);
	else
		exchange_upgrade(exchange, fields.data, on_upgraded, service);
	buf_fini(&fields);
}
