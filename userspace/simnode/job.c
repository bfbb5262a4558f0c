/* SPDX-License-Identifier: MIT */
/* Inferences: slots and the queue before them, and the clock by which tokens come. */
#include <stdlib.h>
#include <string.h>

#include "simnode/sim_impl.h"

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
	if (!service->first_waiting)
		service->first_waiting = job;
}

static void list_remove(struct sim_service *service, struct sim_job *job)
{
	*(job->prev ? &job->prev->next : &service->jobs) = job->next;
	*(job->next ? &job->next->prev : &service->last_job) = job->prev;
	if (service->first_waiting == job)
		service->first_waiting = job->next;
}

static void job_free(struct sim_job *job)
{
	buf_fini(&job->said);
	free(job->model);
	free(job->tool);
	free(job);
}

static void on_closed(uv_handle_t *handle)
{
	struct sim_job *job = handle->data;

	sim_release(job->service->node);
	job_free(job);
}

void sim_job_wait(struct sim_job *job, uint64_t ms)
{
	uv_timer_start(&job->timer, on_timer, ms, 0);
}

static void begin(struct sim_job *job)
{
	struct simnode *node = job->service->node;

	sim_count(job, SIM_BEGUN);
	job->running = true;
	job->service->running++;
	job->taken_at_ms = uv_now(node->loop);
	if (job->fault.how != SIM_FAIL_HANG)
		sim_job_wait(job, job->kind == SIM_PROMPT ? 0 : node->options.ttft_ms);
}

/* Fills free slots from the queue, in order. */
static void fill_slots(struct sim_service *service)
{
	const struct simnode_options *options = &service->node->options;

	while (service->first_waiting && service->running < options->slots) {
		struct sim_job *job = service->first_waiting;

		service->first_waiting = job->next;
		begin(job);
	}
}

void sim_jobs_wake(struct simnode *node)
{
	for (struct sim_service *service = node->services; service; service = service->next)
		fill_slots(service);
}

void sim_job_over(struct sim_job *job, enum sim_event event)
{
	struct sim_service *service = job->service;

	sim_count(job, event);
	list_remove(service, job);
	if (job->running)
		service->running--;
	uv_close((uv_handle_t *)&job->timer, on_closed);
	if (!service->node->closing)
		fill_slots(service);
}

static void finish(struct sim_job *job)
{
	struct sim_model *model = sim_model_find(job->service->node, job->model);

	if (model)
		model->loaded = !job->unload;
	if (job->stream)
		sim_stream_end(job);
	else
		sim_whole_answer(job);
	sim_job_over(job, SIM_FINISHED);
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
		if (sim_fault_due(job))
			return;
		unwritten = sim_stream_token(job);
		job->sent++;
	}
	if (job->sent < job->total)
		sim_job_wait(job,
			     unwritten < UNWRITTEN_MAX ? wait_for(job, job->sent, now) : RETRY_MS);
	else if (!sim_fault_due(job))
		finish(job);
}

/* Tokens that pass before the answer is given, or the fault happens. */
static uint64_t goal(const struct sim_job *job)
{
	bool early = job->fault.how > SIM_FAIL_TRUNCATE && job->fault.n < job->total;

	return early ? job->fault.n : job->total;
}

static void answer_at_end(struct sim_job *job, uint64_t now)
{
	uint64_t n = goal(job), wait = n ? wait_for(job, n - 1, now) : 0;

	job->sent = due(job, now);
	if (wait)
		sim_job_wait(job, wait);
	else if (!sim_fault_due(job))
		finish(job);
}

static void on_timer(uv_timer_t *timer)
{
	struct sim_job *job = timer->data;
	uint64_t now = uv_now(job->service->node->loop);

	if (!job->first_at_ms) {
		job->first_at_ms = now ? now : 1;
		if (sim_fault_first(job))
			return;
	}
	if (job->stream)
		stream_some(job, now);
	else
		answer_at_end(job, now);
}

static void enqueue(struct sim_job *job)
{
	struct simnode *node = job->service->node;

	uv_timer_init(node->loop, &job->timer);
	job->timer.data = job;
	node->references++;
	exchange_set_data(job->exchange, job);
	sim_count(job, SIM_QUEUED);
	list_add(job->service, job);
	fill_slots(job->service);
}

void sim_job_start(struct sim_service *service, struct exchange *exchange, enum sim_kind kind)
{
	struct simnode *node = service->node;
	uint64_t record = sim_saw_inference(node, exchange);
	struct sim_fault fault = sim_fault_take(node);
	struct sim_job *job;

	if (fault.how == SIM_FAIL_STATUS) {
		sim_error(service, exchange, (int)fault.n, "simulated failure of %s", node->name);
		return;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		sim_error(service, exchange, 500, "out of memory");
		return;
	}
	*job = (struct sim_job){.service = service,
				.exchange = exchange,
				.kind = kind,
				.fault = fault,
				.number = node->tally.requests,
				.record = record};
	if (sim_job_read(job))
		enqueue(job);
	else
		job_free(job);
}
