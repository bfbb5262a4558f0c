/* SPDX-License-Identifier: MIT */
/* What an inference asks for: JSON, or a form. */
#include <stdlib.h>
#include <string.h>

#include "net/http1.h"
#include "simnode/form.h"
#include "simnode/sim_impl.h"

#define TOKENS_MAX 100000000
#define IMAGES_MAX 16

static void read_tokens(struct sim_job *job, const struct json *request)
{
	static const char *const names[] = {"max_completion_tokens", "max_tokens",
					    "max_output_tokens"};
	const struct json *value = json_get(json_get(request, "options"), "num_predict");
	int64_t number;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !value; i++)
		value = json_get(request, names[i]);
	job->total = job->service->node->options.tokens;
	if (!value || !json_integer(value, &number) || number < 1 || number > TOKENS_MAX)
		return;
	/* Anthropic's must be given: it is a limit, not a wish. */
	if (job->kind == SIM_V1_MESSAGES && (uint64_t)number > job->total)
		return;
	job->by_request = true;
	job->total = (uint64_t)number;
}

static bool is_empty_prompt(enum sim_kind kind, const struct json *request)
{
	const char *prompt = json_string(json_get(request, "prompt"));

	if (kind == SIM_GENERATE)
		return (!prompt || !*prompt) && !json_count(json_get(request, "images"));
	return kind == SIM_CHAT && !json_count(json_get(request, "messages"));
}

/* The first function offered: {"function": {"name"}}, or {"name"}. */
static void read_tools(struct sim_job *job, const struct json *request)
{
	const struct json *tool = json_first(json_get(request, "tools")),
			  *function = json_get(tool, "function");
	const char *name = json_string(json_get(function ? function : tool, "name"));

	if (!name || (job->kind != SIM_CHAT && job->kind != SIM_V1_CHAT &&
		      job->kind != SIM_V1_RESPONSES && job->kind != SIM_V1_MESSAGES))
		return;
	job->tool = strdup(name);
	job->total = 1;
}

static void read_counts(struct sim_job *job, const struct json *request)
{
	const struct json *input = json_get(request, "input");
	int64_t images = 1;

	job->inputs = input && json_type(input) == JSON_ARRAY ? json_count(input) : 1;
	if (job->kind == SIM_EMBED || job->kind == SIM_EMBEDDINGS || job->kind == SIM_V1_EMBEDDINGS)
		job->total = 1;
	if (job->kind != SIM_V1_IMAGES)
		return;
	if (json_get(request, "n"))
		json_integer(json_get(request, "n"), &images);
	job->inputs = images >= 1 && images <= IMAGES_MAX ? (size_t)images : 1;
}

static void read_json(struct sim_job *job, const struct json *request)
{
	const struct json *stream = json_get(request, "stream");
	const char *encoding = json_string(json_get(request, "encoding_format"));
	int64_t keep_alive = -1;

	job->stream = job->kind == SIM_GENERATE || job->kind == SIM_CHAT;
	if (stream)
		json_bool(stream, &job->stream);
	json_bool(json_get(json_get(request, "stream_options"), "include_usage"), &job->usage);
	job->base64 = encoding && !strcmp(encoding, "base64");
	if (json_get(request, "keep_alive"))
		json_integer(json_get(request, "keep_alive"), &keep_alive);
	job->unload = keep_alive == 0;
	job->load = is_empty_prompt(job->kind, request);
	read_tokens(job, request);
	read_counts(job, request);
	read_tools(job, request);
	if (job->load) {
		job->stream = false;
		job->total = 0;
	}
}

static bool is_text(const struct form_part *part, const char *text)
{
	return part->len == strlen(text) && !memcmp(part->data, text, part->len);
}

static void read_form(struct sim_job *job, const char *type, const char *body, size_t len)
{
	struct form_part part;

	job->total = job->service->node->options.tokens;
	job->inputs = 1;
	if (form_find(type, body, len, "model", &part))
		job->model = strndup(part.data, part.len);
	if (form_find(type, body, len, "file", &part) || form_find(type, body, len, "image", &part))
		job->file_bytes = part.len;
	if (form_find(type, body, len, "response_format", &part))
		job->plain = is_text(&part, "text");
	if (form_find(type, body, len, "stream", &part))
		job->stream = is_text(&part, "true");
}

static bool refuse(struct sim_job *job, int status, const char *why)
{
	sim_error(job->service, job->exchange, status, "%s", why);
	return false;
}

static bool read_body(struct sim_job *job)
{
	const char *type = http1_field(exchange_head(job->exchange), "content-type"), *model;
	struct json_error error;
	struct json *request;
	size_t len;
	const char *body = exchange_body(job->exchange, &len);

	if (form_is(type)) {
		read_form(job, type, body, len);
		return true;
	}
	request = json_parse(body, len, 0, &error);
	if (!request)
		return refuse(job, 400, error.text);
	model = json_string(json_get(request, "model"));
	job->model = model ? strdup(model) : NULL;
	read_json(job, request);
	json_free(request);
	return true;
}

bool sim_job_read(struct sim_job *job)
{
	if (job->kind == SIM_OTHER || job->kind == SIM_PROMPT) { /* for no model */
		job->model = strdup("");
		job->total = job->kind == SIM_OTHER ? job->service->node->options.tokens : 0;
		if (!job->model)
			return refuse(job, 500, "out of memory");
		return job->kind == SIM_OTHER || sim_comfyui_good(job);
	}
	if (!read_body(job))
		return false;
	if (!job->model || !*job->model)
		return refuse(job, 400, "model is required");
	if (!sim_kind_streams(job->kind))
		job->stream = false;
	if (sim_model_known(job->service->node, job->model))
		return true;
	sim_error(job->service, job->exchange, 404, "model '%s' not found", job->model);
	return false;
}
