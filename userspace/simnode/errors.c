/* SPDX-License-Identifier: MIT */
/* Errors, as each engine puts them. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "net/http1.h"
#include "simnode/sim_impl.h"

enum shape { OLLAMA, OLLAMA_V1, OPENAI, LLAMACPP, VLLM, SGLANG, ANTHROPIC, COMFYUI, IMMICH };

static enum shape shape_of(const struct sim_service *service, const char *path)
{
	bool v1 = !strncmp(path, "/v1/", 4);

	if (!strncmp(path, "/v1/messages", 12))
		return ANTHROPIC;
	if (service->routes & SIM_OLLAMA)
		return v1 ? OLLAMA_V1 : OLLAMA;
	if (service->routes & SIM_LLAMACPP)
		return LLAMACPP;
	if (service->routes & SIM_VLLM)
		return VLLM;
	if (service->routes & SIM_SGLANG)
		return SGLANG;
	if (service->routes & SIM_COMFYUI)
		return COMFYUI;
	return service->routes & SIM_IMMICH ? IMMICH : OPENAI;
}

struct kind {
	int status;
	const char *ollama, *openai, *code, *llamacpp, *vllm, *anthropic;
};

/* What each calls it. The last two rows: any other below 500, any other. */
static const struct kind kinds[] = {
	{400, "invalid_request_error", "invalid_request_error", NULL, "invalid_request_error",
	 "BadRequestError", "invalid_request_error"},
	{401, "api_error", "invalid_request_error", "invalid_api_key", "authentication_error",
	 "AuthenticationError", "authentication_error"},
	{403, "api_error", "invalid_request_error", NULL, "permission_error", "Forbidden",
	 "permission_error"},
	{404, "not_found_error", "invalid_request_error", "model_not_found", "not_found_error",
	 "NotFoundError", "not_found_error"},
	{413, "api_error", "invalid_request_error", "request_too_large", "invalid_request_error",
	 "BadRequestError", "request_too_large"},
	{429, "api_error", "rate_limit_error", "rate_limit_exceeded", "server_error",
	 "RateLimitError", "rate_limit_error"},
	{500, "api_error", "server_error", NULL, "server_error", "InternalServerError",
	 "api_error"},
	{501, "api_error", "server_error", NULL, "not_supported_error", "NotImplementedError",
	 "api_error"},
	{503, "api_error", "server_error", NULL, "unavailable_error", "ServiceUnavailableError",
	 "overloaded_error"},
	{529, "api_error", "server_error", NULL, "server_error", "ServiceUnavailableError",
	 "overloaded_error"},
	{0, "api_error", "invalid_request_error", NULL, "invalid_request_error", "BadRequestError",
	 "invalid_request_error"},
	{0, "api_error", "server_error", NULL, "server_error", "InternalServerError", "api_error"},
};

static const struct kind *kind_of(int status)
{
	const struct kind *last = &kinds[sizeof(kinds) / sizeof(kinds[0]) - 1];

	for (const struct kind *kind = kinds; kind < last; kind++) {
		if (kind->status == status)
			return kind;
	}
	return status < 500 ? last - 1 : last;
}

static void put_code(struct json_writer *w, const char *code)
{
	json_name(w, "param");
	json_put_null(w);
	json_pair_string(w, "code", code);
}

static void put_number(struct json_writer *w, int status)
{
	json_name(w, "param");
	json_put_null(w);
	json_pair_int(w, "code", status);
}

static void put_comfyui(struct json_writer *w, const char *text)
{
	json_pair_string(w, "type", "simulated");
	json_pair_string(w, "message", text);
	json_pair_string(w, "details", "");
	json_name(w, "extra_info");
	json_begin(w, '{');
	json_end(w, '}');
}

/* What is inside of "error". */
static void put_inside(struct json_writer *w, enum shape shape, int status, const char *text)
{
	const struct kind *kind = kind_of(status);

	if (shape == COMFYUI) {
		put_comfyui(w, text);
		return;
	}
	if (shape == LLAMACPP)
		json_pair_int(w, "code", status);
	else if (shape == SGLANG)
		json_pair_string(w, "object", "error");
	if (shape == ANTHROPIC)
		json_pair_string(w, "type", kind->anthropic);
	json_pair_string(w, "message", text);
	if (shape == OLLAMA_V1)
		json_pair_string(w, "type", kind->ollama);
	else if (shape == LLAMACPP)
		json_pair_string(w, "type", kind->llamacpp);
	else if (shape == VLLM || shape == SGLANG)
		json_pair_string(w, "type", kind->vllm);
	else if (shape == OPENAI)
		json_pair_string(w, "type", kind->openai);
	if (shape == OPENAI || shape == OLLAMA_V1)
		put_code(w, shape == OPENAI ? kind->code : NULL);
	else if (shape == VLLM || shape == SGLANG)
		put_number(w, status);
}

static void put_error(struct json_writer *w, enum shape shape, int status, const char *text)
{
	json_begin(w, '{');
	if (shape == OLLAMA || shape == IMMICH) {
		json_pair_string(w, shape == OLLAMA ? "error" : "detail", text);
		json_end(w, '}');
		return;
	}
	if (shape == ANTHROPIC)
		json_pair_string(w, "type", "error");
	json_name(w, "error");
	json_begin(w, '{');
	put_inside(w, shape, status, text);
	json_end(w, '}');
	if (shape == COMFYUI) {
		json_name(w, "node_errors");
		json_begin(w, '{');
		json_end(w, '}');
	}
	json_end(w, '}');
}

/* SGLang has it bare where it is the whole answer. */
static void put_answer(struct json_writer *w, enum shape shape, int status, const char *text)
{
	if (shape != SGLANG) {
		put_error(w, shape, status, text);
		return;
	}
	json_begin(w, '{');
	put_inside(w, shape, status, text);
	json_end(w, '}');
}

void sim_error(struct sim_service *service, struct exchange *exchange, int status,
	       const char *format, ...)
{
	struct buf out = {0}, fields = {0};
	struct json_writer w = {.out = &out};
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	put_answer(&w, shape_of(service, exchange_path(exchange)), status, text);
	buf_puts(&fields, service->node->fields);
	if (status == 429)
		buf_puts(&fields, "Retry-After: 1\r\n");
	if (buf_failed(&out) || buf_failed(&fields))
		exchange_abort(exchange);
	else
		exchange_answer(exchange, status, "application/json", out.data, out.len,
				fields.data);
	buf_fini(&out);
	buf_fini(&fields);
}

static void put_response_error(struct sim_job *job, struct json_writer *w, const char *text)
{
	json_begin(w, '{');
	json_pair_string(w, "type", "error");
	json_pair_int(w, "sequence_number", (int64_t)job->events++);
	json_pair_string(w, "code", "server_error");
	json_pair_string(w, "message", text);
	json_name(w, "param");
	json_put_null(w);
	json_end(w, '}');
}

void sim_put_stream_error(struct sim_job *job, struct buf *out, int status, const char *text)
{
	enum shape shape = shape_of(job->service, exchange_path(job->exchange));
	struct json_writer w = {.out = out};

	if (job->kind == SIM_V1_RESPONSES || shape == ANTHROPIC)
		buf_puts(out, "event: error\n");
	if (shape != OLLAMA)
		buf_puts(out, "data: ");
	if (job->kind == SIM_V1_RESPONSES)
		put_response_error(job, &w, text);
	else
		put_error(&w, shape, status, text);
	buf_puts(out, shape == OLLAMA ? "\n" : "\n\n");
	if (shape == VLLM && job->kind != SIM_V1_RESPONSES) /* it says so even then */
		buf_puts(out, "data: [DONE]\n\n");
}
