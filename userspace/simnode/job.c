/* SPDX-License-Identifier: MIT */
/* Inferences: what is asked, slots and the queue before them, and the clock by which tokens come.
 */
#include <stdlib.h>
#include <string.h>

#include "simnode/sim_impl.h"

#define TOKENS_MAX 100000000
#define UNWRITTEN_MAX \
	(1u << 20) /* of a client that does not read; no more tokens until it does \
		    */
#define RETRY_MS 20

static void on_timer(uv_timer_t *timer);

static void list_add(struct sim_service *service, struct sim_job *job)
{
	job->prev = service->last_job;
	*(job->prev ? &job->prev->next : &service->jobs) = job;
	service->last_job = job;
}

static void list_remove(struct sim_service *service, struct sim_job *job)
{
	*(job->prev ? &job->prev->next : &service->jobs) = job->next;
	*(job->next ? &job->next->prev : &service->last_job) = job->prev;
}

static void on_closed(uv_handle_t *handle)
{
	struct sim_job *job = handle->data;

	sim_release(job->service->node);
	free(job->model);
	free(job);
}

/* Fills free slots from the queue, in order. */
static void fill_slots(struct sim_service *service)
{
	struct simnode *node = service->node;
	struct sim_counts *counts = &node->counts;

	for (struct sim_job *job = service->jobs; job && service->running < node->options.slots;
	     job = job->next) {
		if (job->running)
			continue;
		job->running = true;
		service->running++;
		counts->waiting--;
		if (++counts->active > counts->max_active)
			counts->max_active = counts->active;
		job->taken_at_ms = uv_now(node->loop);
		if (node->options.fail != SIM_FAIL_HANG)
			uv_timer_start(&job->timer, on_timer, node->options.ttft_ms, 0);
	}
}

void sim_jobs_wake(struct simnode *node)
{
	for (struct sim_service *service = node->services; service; service = service->next)
		fill_slots(service);
}

void sim_job_drop(struct sim_job *job)
{
	struct sim_service *service = job->service;
	struct sim_counts *counts = &service->node->counts;

	list_remove(service, job);
	if (job->running) {
		service->running--;
		counts->active--;
	} else {
		counts->waiting--;
	}
	uv_close((uv_handle_t *)&job->timer, on_closed);
	if (!service->node->closing)
		fill_slots(service);
}

static void finish(struct sim_job *job)
{
	struct simnode *node = job->service->node;
	struct sim_model *model = sim_model_find(node, job->model);

	if (model)
		model->loaded = !job->unload;
	node->counts.finished++;
	if (job->stream)
		sim_stream_end(job);
	else
		sim_whole_answer(job);
	sim_job_drop(job);
}

/* True: the node misbehaves as it was told to, and the job is gone. */
static bool misbehave(struct sim_job *job)
{
	const struct simnode_options *options = &job->service->node->options;

	if (options->fail == SIM_FAIL_CLOSE)
		exchange_abort(job->exchange);
	else if (options->fail == SIM_FAIL_SSE_ERROR && job->stream)
		sim_stream_error(job);
	else if (options->fail == SIM_FAIL_CUT && job->sent >= options->fail_after)
		exchange_abort(job->exchange);
	else
		return false;
	sim_job_drop(job);
	return true;
}

/* Tokens that are due at `now`: the first at first_at_ms. */
static uint64_t due(const struct sim_job *job, uint64_t now)
{
	uint64_t n = 1 + (now - job->first_at_ms) * job->service->node->options.tps / 1000;

	return n < job->total ? n : job->total;
}

/* Milliseconds from now on until token n (from 0) is due, rounded up. */
static uint64_t wait_for(const struct sim_job *job, uint64_t n, uint64_t now)
{
	uint64_t tps = job->service->node->options.tps,
		 at = job->first_at_ms + (n * 1000 + tps - 1) / tps;

	return at > now ? at - now : 0;
}

static void stream_some(struct sim_job *job, uint64_t now)
{
	size_t unwritten = 0;
	uint64_t until = due(job, now);

	if (!job->begun) {
		job->begun = true;
		sim_stream_begin(job);
	}
	while (job->sent < until && unwritten < UNWRITTEN_MAX) {
		if (misbehave(job))
			return;
		unwritten = sim_stream_token(job);
		job->sent++;
	}
	if (job->sent == job->total)
		finish(job);
	else
		uv_timer_start(&job->timer, on_timer,
			       unwritten < UNWRITTEN_MAX ? wait_for(job, job->sent, now) : RETRY_MS,
			       0);
}

static void on_timer(uv_timer_t *timer)
{
	struct sim_job *job = timer->data;
	uint64_t now = uv_now(job->service->node->loop), wait;

	if (!job->first_at_ms) {
		job->first_at_ms = now ? now : 1;
		if (job->service->node->options.fail != SIM_FAIL_CUT && misbehave(job))
			return;
	}
	if (job->stream) {
		stream_some(job, now);
		return;
	}
	wait = job->total ? wait_for(job, job->total - 1, now) : 0;
	job->sent = due(job, now);
	if (misbehave(job))
		return;
	if (wait)
		uv_timer_start(&job->timer, on_timer, wait, 0);
	else
		finish(job);
}

static uint64_t read_tokens(struct sim_job *job, const struct json *request,
			    const struct simnode_options *options)
{
	static const char *const names[] = {"max_completion_tokens", "max_tokens",
					    "max_output_tokens"};
	const struct json *value = json_get(json_get(request, "options"), "num_predict");
	int64_t number;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !value; i++)
		value = json_get(request, names[i]);
	if (!value || !json_integer(value, &number) || number < 1 || number > TOKENS_MAX)
		return options->tokens;
	job->by_request = true;
	return (uint64_t)number;
}

static bool is_empty_prompt(enum sim_kind kind, const struct json *request)
{
	const char *prompt = json_string(json_get(request, "prompt"));

	if (kind == SIM_GENERATE)
		return !prompt || !*prompt;
	return kind == SIM_CHAT && !json_count(json_get(request, "messages"));
}

static void read_request(struct sim_job *job, const struct json *request)
{
	const struct json *stream = json_get(request, "stream"),
			  *input = json_get(request, "input");
	bool embeds = job->kind == SIM_EMBED || job->kind == SIM_EMBEDDINGS ||
		      job->kind == SIM_V1_EMBEDDINGS;
	int64_t keep_alive = -1;

	job->stream = job->kind == SIM_GENERATE || job->kind == SIM_CHAT;
	if (stream)
		json_bool(stream, &job->stream);
	if (embeds || job->kind == SIM_OTHER)
		job->stream = false;
	json_bool(json_get(json_get(request, "stream_options"), "include_usage"), &job->usage);
	job->inputs = input && json_type(input) == JSON_ARRAY ? json_count(input) : 1;
	job->load = is_empty_prompt(job->kind, request);
	if (json_get(request, "keep_alive"))
		json_integer(json_get(request, "keep_alive"), &keep_alive);
	job->unload = keep_alive == 0;
	job->total = embeds ? 1 : read_tokens(job, request, &job->service->node->options);
	if (job->load) {
		job->stream = false;
		job->total = 0;
	}
}

static void enqueue(struct sim_job *job)
{
	struct simnode *node = job->service->node;

	job->number = node->counts.requests;
	uv_timer_init(node->loop, &job->timer);
	job->timer.data = job;
	node->references++;
	node->counts.waiting++;
	exchange_set_data(job->exchange, job);
	list_add(job->service, job);
	fill_slots(job->service);
}

/* NULL: answered with an error. */
static struct json *parse(struct simnode *node, struct exchange *exchange, enum sim_kind kind,
			  const char **model)
{
	struct json_error error;
	size_t len;
	const char *body = exchange_body(exchange, &len);
	struct json *request = json_parse(body, len, 0, &error);

	*model = request ? json_string(json_get(request, "model")) : NULL;
	if (*model && **model)
		return request;
	if (!request)
		sim_error(node, exchange, sim_kind_v1(kind), 400, "%s", error.text);
	else
		sim_error(node, exchange, sim_kind_v1(kind), 400, "model is required");
	json_free(request);
	return NULL;
}

void sim_job_start(struct sim_service *service, struct exchange *exchange, enum sim_kind kind)
{
	struct simnode *node = service->node;
	const char *model = "";
	struct json *request = NULL;
	struct sim_job *job;

	node->counts.requests++;
	if (node->options.status) {
		sim_error(node, exchange, sim_kind_v1(kind), node->options.status,
			  "simulated failure of %s", node->name);
		return;
	}
	if (kind != SIM_OTHER) {
		request = parse(node, exchange, kind, &model);
		if (!request)
			return;
	}
	if (*model && !sim_model_known(node, model)) {
		sim_error(node, exchange, sim_kind_v1(kind), 404, "model '%s' not found", model);
		json_free(request);
		return;
	}
	job = calloc(1, sizeof(*job));
	if (job) {
		*job = (struct sim_job){.service = service,
					.exchange = exchange,
					.kind = kind,
					.model = strdup(model)};
		read_request(job, request);
	}
	json_free(request);
	if (job && job->model) {
		enqueue(job);
		return;
	}
	free(job);
	sim_error(node, exchange, sim_kind_v1(kind), 500, "out of memory");
}
