/* SPDX-License-Identifier: MIT */
/* Which path is answered how, by which engines. */
#include <inttypes.h>
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
		sim_error(service->node, exchange, true, 404, "model '%s' not found", name);
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
		"\"family\":\"simulated\"},\"model_info\":{},\"capabilities\":[\"completion\"]}";
	struct json_error error;
	size_t len;
	const char *body = exchange_body(exchange, &len), *name;
	struct json *request = json_parse(body, len, 0, &error);

	name = json_string(json_get(request, "model"));
	if (!name)
		name = json_string(json_get(request, "name"));
	if (!name)
		sim_error(service->node, exchange, false, 400, "model is required");
	else if (!sim_model_known(service->node, name))
		sim_error(service->node, exchange, false, 404, "model '%s' not found", name);
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

static void get_comfyui(struct sim_service *service, struct exchange *exchange)
{
	const struct sim_counts *counts = &service->node->counts;
	const char *path = exchange_path(exchange);
	struct buf out = {0};

	if (!strcmp(path, "/prompt"))
		buf_printf(&out, "{\"exec_info\":{\"queue_remaining\":%u}}",
			   counts->active + counts->waiting);
	else if (!strcmp(path, "/queue"))
		buf_puts(&out, "{\"queue_running\":[],\"queue_pending\":[]}");
	else
		buf_puts(&out, "{\"system\":{\"comfyui_version\":\"simulated\"},\"devices\":[]}");
	sim_answer_json(service->node, exchange, 200, &out);
}

static void post_prompt(struct sim_service *service, struct exchange *exchange)
{
	struct simnode *node = service->node;
	struct buf out = {0};

	node->counts.requests++;
	buf_printf(&out,
		   "{\"prompt_id\":\"%" PRIu64 "\",\"number\":%" PRIu64 ",\"node_errors\":{}}",
		   node->counts.requests, node->counts.requests);
	sim_answer_json(node, exchange, 200, &out);
}

static void get_ping(struct sim_service *service, struct exchange *exchange)
{
	answer_text(service, exchange, "pong");
}

static void get_stats(struct sim_service *service, struct exchange *exchange);
static void post_set(struct sim_service *service, struct exchange *exchange);

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
	{V1, "POST", "/v1/messages", SIM_OTHER, NULL, false},
	{V1, "POST", "/v1/responses", SIM_OTHER, NULL, false},
	{V1, "POST", "/v1/audio/*", SIM_OTHER, NULL, false},
	{V1, "POST", "/v1/images/*", SIM_OTHER, NULL, false},
	{SIM_HEALTH, "GET", "/health", NO_JOB, get_health, false},
	{SIM_LLAMACPP, "GET", "/v1/health", NO_JOB, get_health, false},
	{SIM_COMFYUI, "GET", "/prompt", NO_JOB, get_comfyui, false},
	{SIM_COMFYUI, "GET", "/queue", NO_JOB, get_comfyui, false},
	{SIM_COMFYUI, "GET", "/system_stats", NO_JOB, get_comfyui, false},
	{SIM_COMFYUI, "POST", "/prompt", NO_JOB, post_prompt, false},
	{SIM_IMMICH, "GET", "/ping", NO_JOB, get_ping, false},
	{SIM_IMMICH, "POST", "/predict", SIM_OTHER, NULL, false},
	{ALL, "GET", "/sim/stats", NO_JOB, get_stats, true},
	{ALL, "POST", "/sim/set", NO_JOB, post_set, true},
	{SIM_HTTP, "GET", "/*", NO_JOB, get_root, false},
	{SIM_HTTP, "POST", "/*", SIM_OTHER, NULL, false},
};

#define N_ROUTES (sizeof(routes) / sizeof(routes[0]))
_Static_assert(N_ROUTES <= SIM_ROUTES_MAX, "hits[] is too small");

static void get_stats(struct sim_service *service, struct exchange *exchange)
{
	const struct simnode *node = service->node;
	const struct sim_counts *counts = &node->counts;
	struct buf out = {0};
	struct json_writer w = {.out = &out};
	char key[80];

	json_begin(&w, '{');
	json_pair_string(&w, "name", node->name);
	json_pair_int(&w, "slots", node->options.slots);
	json_pair_int(&w, "requests", (int64_t)counts->requests);
	json_pair_int(&w, "finished", (int64_t)counts->finished);
	json_pair_int(&w, "aborted", (int64_t)counts->aborted);
	json_pair_int(&w, "active", counts->active);
	json_pair_int(&w, "max_active", counts->max_active);
	json_pair_int(&w, "waiting", counts->waiting);
	json_pair_int(&w, "connections", (int64_t)counts->connections);
	json_name(&w, "paths");
	json_begin(&w, '{');
	for (size_t i = 0; i < N_ROUTES; i++) {
		snprintf(key, sizeof(key), "%s %s", routes[i].method, routes[i].path);
		if (counts->hits[i] && strcmp(routes[i].path, "/sim/stats") != 0)
			json_pair_int(&w, key, (int64_t)counts->hits[i]);
	}
	json_end(&w, '}');
	json_end(&w, '}');
	sim_answer_json(service->node, exchange, 200, &out);
}

static bool set_number(const struct json *member, struct simnode_options *options)
{
	const struct {
		const char *name;
		uint32_t *into;
		int64_t least;
	} numbers[] = {
		{"slots", &options->slots, 1},
		{"tps", &options->tps, 1},
		{"ttft_ms", &options->ttft_ms, 0},
		{"tokens", &options->tokens, 1},
	};
	int64_t number;

	if (!json_integer(member, &number) || number < 0 || number > UINT32_MAX)
		return false;
	if (!strcmp(json_key(member), "status") && (!number || (number >= 400 && number <= 599))) {
		options->status = (int)number;
		return true;
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (strcmp(json_key(member), numbers[i].name) != 0 || number < numbers[i].least)
			continue;
		*numbers[i].into = (uint32_t)number;
		return true;
	}
	return false;
}

static void post_set(struct sim_service *service, struct exchange *exchange)
{
	struct simnode_options options = service->node->options;
	struct json_error error;
	size_t len;
	const char *body = exchange_body(exchange, &len);
	struct json *request = json_parse(body, len, 0, &error);
	bool good = request && json_type(request) == JSON_OBJECT;

	for (const struct json *member = json_first(request); good && member;
	     member = json_next(member)) {
		const char *text = json_string(member);

		if (!strcmp(json_key(member), "fail") && text)
			good = !simnode_fail_parse(&options, text);
		else
			good = set_number(member, &options);
	}
	json_free(request);
	if (good) {
		service->node->options = options;
		sim_jobs_wake(service->node);
		get_stats(service, exchange);
		return;
	}
	sim_error(service->node, exchange, false, 400,
		  "expected slots, tps, ttft_ms, tokens, status, fail "
		  "(none|hang|close|sse-error|cut=N)");
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
	bool known, v1 = !strncmp(exchange_path(exchange), "/v1/", 4) ||
			 !(service->routes & SIM_OLLAMA);
	const struct route *route = route_find(service, exchange, &known);

	if (!route) {
		sim_error(node, exchange, v1, known ? 405 : 404,
			  known ? "method not allowed" : "page not found");
		return;
	}
	node->counts.hits[route - routes]++;
	if (!route->while_loading &&
	    uv_now(node->loop) - node->started_at_ms < node->options.load_ms)
		sim_error(node, exchange, v1, 503, "Loading model");
	else if (route->function)
		route->function(service, exchange);
	else
		sim_job_start(service, exchange, (enum sim_kind)route->kind);
}

void sim_on_abandoned(void *arg, struct exchange *exchange)
{
	struct sim_service *service = arg;
	struct sim_job *job = exchange_data(exchange);

	if (!job)
		return;
	service->node->counts.aborted++;
	sim_job_drop(job);
}
