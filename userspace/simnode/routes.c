/* SPDX-License-Identifier: MIT */
/* Which path is answered how, by which engines. */
#include <stdio.h>
#include <string.h>

#include "simnode/sim_impl.h"

#define V1  SIM_OPENAI
#define ALL (~0u)

typedef void route_function(struct sim_service *service, struct exchange *exchange);

static void answer_text(struct sim_service *service, struct exchange *exchange, const char *text)
{
	exchange_answer(exchange, 200, "text/plain; charset=utf-8", text, strlen(text),
			service->node->fields);
}

static void get_root(struct sim_service *service, struct exchange *exchange)
{
	if (service->routes & SIM_IMMICH)
		exchange_answer(exchange, 200, "application/json", "{\"message\":\"Immich ML\"}",
				23, service->node->fields);
	else
		answer_text(service, exchange,
			    service->routes & SIM_OLLAMA ? "Ollama is running"
							 : service->node->name);
}

static void get_version(struct sim_service *service, struct exchange *exchange)
{
	static const char text[] = "{\"version\":\"0.12.0\"}";

	exchange_answer(exchange, 200, "application/json", text, sizeof(text) - 1,
			service->node->fields);
}

static void get_tags(struct sim_service *service, struct exchange *exchange)
{
	struct buf out = {0};

	sim_list_tags(service->node, &(struct json_writer){.out = &out}, false);
	sim_answer_json(service->node, exchange, 200, &out);
}

static void get_ps(struct sim_service *service, struct exchange *exchange)
{
	struct buf out = {0};

	sim_list_tags(service->node, &(struct json_writer){.out = &out}, true);
	sim_answer_json(service->node, exchange, 200, &out);
}

static void get_models(struct sim_service *service, struct exchange *exchange)
{
	struct buf out = {0};

	sim_list_v1(service->node, &(struct json_writer){.out = &out});
	sim_answer_json(service->node, exchange, 200, &out);
}

static void get_model(struct sim_service *service, struct exchange *exchange)
{
	const char *name = exchange_path(exchange) + strlen("/v1/models/");
	struct buf out = {0};
	struct json_writer w = {.out = &out};

	if (!sim_model_known(service->node, name)) {
		sim_error(service, exchange, 404, "model '%s' not found", name);
		return;
	}
	json_begin(&w, '{');
	json_pair_string(&w, "id", name);
	json_pair_string(&w, "object", "model");
	json_pair_string(&w, "owned_by", "library");
	json_end(&w, '}');
	sim_answer_json(service->node, exchange, 200, &out);
}

static void post_show(struct sim_service *service, struct exchange *exchange)
{
	static const char text[] =
		"{\"modelfile\":\"\",\"parameters\":\"\",\"template\":\"\",\"details\":{\"format\":"
		"\"gguf\","
		"\"family\":\"simulated\"},\"model_info\":{},\"capabilities\":[\"completion\","
		"\"tools\"]}";
	struct json_error error;
	size_t len;
	const char *body = exchange_body(exchange, &len), *name;
	struct json *request = json_parse(body, len, 0, &error);

	name = json_string(json_get(request, "model"));
	if (!name)
		name = json_string(json_get(request, "name"));
	if (!name)
		sim_error(service, exchange, 400, "model is required");
	else if (!sim_model_known(service->node, name))
		sim_error(service, exchange, 404, "model '%s' not found", name);
	else
		exchange_answer(exchange, 200, "application/json", text, sizeof(text) - 1,
				service->node->fields);
	json_free(request);
}

static void get_health(struct sim_service *service, struct exchange *exchange)
{
	bool llama = service->routes & SIM_LLAMACPP;

	exchange_answer(exchange, 200, llama ? "application/json" : NULL, "{\"status\":\"ok\"}",
			llama ? 15 : 0, service->node->fields);
}

static void post_nothing(struct sim_service *service, struct exchange *exchange)
{
	exchange_answer(exchange, 200, NULL, NULL, 0, service->node->fields);
}

static void get_ping(struct sim_service *service, struct exchange *exchange)
{
	answer_text(service, exchange, "pong");
}

#define NO_JOB (-1)

static const struct route {
	unsigned routes;	   /* engines that have it */
	const char *method, *path; /* a path that ends in '*': all that begin so */
	int kind;		   /* of a job, or */
	route_function *function;
	bool while_loading;
} routes[] = {
	{SIM_OLLAMA | SIM_IMMICH | SIM_HTTP, "GET", "/", NO_JOB, get_root, true},
	{SIM_OLLAMA, "GET", "/api/version", NO_JOB, get_version, true},
	{SIM_OLLAMA, "GET", "/api/tags", NO_JOB, get_tags, false},
	{SIM_OLLAMA, "GET", "/api/ps", NO_JOB, get_ps, false},
	{SIM_OLLAMA, "POST", "/api/show", NO_JOB, post_show, false},
	{SIM_OLLAMA, "POST", "/api/generate", SIM_GENERATE, NULL, false},
	{SIM_OLLAMA, "POST", "/api/chat", SIM_CHAT, NULL, false},
	{SIM_OLLAMA, "POST", "/api/embed", SIM_EMBED, NULL, false},
	{SIM_OLLAMA, "POST", "/api/embeddings", SIM_EMBEDDINGS, NULL, false},
	{V1, "GET", "/v1/models", NO_JOB, get_models, false},
	{V1, "GET", "/v1/models/*", NO_JOB, get_model, false},
	{V1, "POST", "/v1/chat/completions", SIM_V1_CHAT, NULL, false},
	{V1, "POST", "/v1/completions", SIM_V1_COMPLETIONS, NULL, false},
	{V1, "POST", "/v1/embeddings", SIM_V1_EMBEDDINGS, NULL, false},
	{V1, "POST", "/v1/messages", SIM_V1_MESSAGES, NULL, false},
	{V1, "POST", "/v1/responses", SIM_V1_RESPONSES, NULL, false},
	{V1, "POST", "/v1/audio/transcriptions", SIM_V1_TRANSCRIPTION, NULL, false},
	{V1, "POST", "/v1/audio/translations", SIM_V1_TRANSCRIPTION, NULL, false},
	{V1, "POST", "/v1/audio/speech", SIM_V1_SPEECH, NULL, false},
	{V1, "POST", "/v1/images/generations", SIM_V1_IMAGES, NULL, false},
	{V1, "POST", "/v1/images/edits", SIM_V1_IMAGES, NULL, false},
	{SIM_HEALTH, "GET", "/health", NO_JOB, get_health, false},
	{SIM_LLAMACPP, "GET", "/v1/health", NO_JOB, get_health, false},
	{SIM_COMFYUI, "GET", "/prompt", NO_JOB, sim_get_comfyui, false},
	{SIM_COMFYUI, "GET", "/queue", NO_JOB, sim_get_comfyui, false},
	{SIM_COMFYUI, "GET", "/system_stats", NO_JOB, sim_get_comfyui, false},
	{SIM_COMFYUI, "POST", "/prompt", SIM_PROMPT, NULL, false},
	{SIM_COMFYUI, "GET", "/history", NO_JOB, sim_get_history, false},
	{SIM_COMFYUI, "GET", "/history/*", NO_JOB, sim_get_history, false},
	{SIM_COMFYUI, "GET", "/view", NO_JOB, sim_get_view, false},
	{SIM_COMFYUI, "POST", "/upload/image", NO_JOB, sim_post_upload, false},
	{SIM_COMFYUI, "POST", "/interrupt", NO_JOB, post_nothing, false},
	{SIM_COMFYUI, "POST", "/free", NO_JOB, post_nothing, false},
	{SIM_COMFYUI, "GET", "/ws", NO_JOB, sim_get_ws, false},
	{SIM_IMMICH, "GET", "/ping", NO_JOB, get_ping, false},
	{SIM_IMMICH, "POST", "/predict", SIM_OTHER, NULL, false},
	{ALL, "GET", "/sim/stats", NO_JOB, sim_get_stats, true},
	{ALL, "POST", "/sim/set", NO_JOB, sim_post_set, true},
	{ALL, "POST", "/sim/reset", NO_JOB, sim_post_reset, true},
	{SIM_HTTP, "GET", "/*", NO_JOB, get_root, false},
	{SIM_HTTP, "POST", "/*", SIM_OTHER, NULL, false},
};

#define N_ROUTES (sizeof(routes) / sizeof(routes[0]))
_Static_assert(N_ROUTES <= SIM_ROUTES_MAX, "hits[] is too small");

const char *sim_route_name(size_t i, char text[80])
{
	if (i >= N_ROUTES)
		return NULL;
	snprintf(text, 80, "%s %s", routes[i].method, routes[i].path);
	return text;
}

static bool path_fits(const char *pattern, const char *path)
{
	size_t len = strlen(pattern);

	if (pattern[len - 1] == '*')
		return !strncmp(pattern, path, len - 1);
	return !strcmp(pattern, path);
}

/* *known: some other method is allowed. */
static const struct route *route_find(const struct sim_service *service,
				      const struct exchange *exchange, bool *known)
{
	const char *method = exchange_head(exchange)->method, *path = exchange_path(exchange);

	if (!strcmp(method, "HEAD"))
		method = "GET";
	*known = false;
	for (size_t i = 0; i < N_ROUTES; i++) {
		if (!(routes[i].routes & service->routes) || !path_fits(routes[i].path, path))
			continue;
		if (!strcmp(routes[i].method, method))
			return &routes[i];
		*known = true;
	}
	return NULL;
}

void sim_on_request(void *arg, struct exchange *exchange)
{
	struct sim_service *service = arg;
	struct simnode *node = service->node;
	bool known;
	const struct route *route = route_find(service, exchange, &known);

	if (strncmp(exchange_path(exchange), "/sim/", 5) != 0)
		sim_saw_request(node, exchange);
	if (!route) {
		sim_error(service, exchange, known ? 405 : 404,
			  known ? "method not allowed" : "page not found");
		return;
	}
	node->hits[route - routes]++;
	if (!route->while_loading &&
	    uv_now(node->loop) - node->started_at_ms < node->options.load_ms)
		sim_error(service, exchange, 503, "Loading model");
	else if (route->function)
		route->function(service, exchange);
	else
		sim_job_start(service, exchange, (enum sim_kind)route->kind);
}

void sim_on_abandoned(void *service, struct exchange *exchange)
{
	struct sim_job *job = exchange_data(exchange);

	(void)service;
	if (job)
		sim_job_over(job, SIM_ABORTED);
}
