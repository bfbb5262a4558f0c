/* SPDX-License-Identifier: MIT */
/* When to ask: a timer an endpoint, started again at the end of each probe, so there is never more
 * than one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "probe/engine.h"

#define ANSWER_MAX ((size_t)1 << 20) /* bytes of an answer: a list of a thousand models */

#define ASKS_MAX 2  /* questions of an engine whose answers are remembered */
#define FORGET	 64 /* rounds; so that whoever lost what was told hears it again */

struct heard { /* a good answer; len 0: none */
	uint64_t hash;
	size_t len;
};

struct target { /* one endpoint */
	struct prober *prober;
	uv_timer_t timer;
	const struct probe_engine *engine;
	struct addr address;
	uint16_t port;
	unsigned round;
	size_t ask;	       /* being asked, in engine->asks; valid while client != NULL */
	struct client *client; /* NULL: no probe in progress */
	uint64_t started_ms;
	struct heard heard[ASKS_MAX];
	bool timed; /* rtt and ttfb of this probe are known */
	struct buf line;
	struct probe_result result;
};

struct prober {
	probe_note note;
	void *arg;
	uv_loop_t *loop;
	uint64_t interval_ms, timeout_ms;
	uint64_t random;
	bool stopped;
	size_t n_open; /* timers not yet closed by the loop */
	size_t n_targets;
	struct target targets[];
};

static void ask_next(struct target *target, size_t from);

/* xorshift64: jitter needs no secret. */
static uint64_t random_next(struct prober *prober)
{
	uint64_t x = prober->random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	prober->random = x;
	return x;
}

static void on_timer(uv_timer_t *timer)
{
	struct target *target = timer->data;

	target->started_ms = uv_now(target->prober->loop);
	target->timed = false;
	ask_next(target, 0);
}

/* From start to start: interval_ms ± 10 %, so that the probes of a farm do not fall into step. */
static void timer_arm(struct target *target)
{
	struct prober *prober = target->prober;
	uint64_t elapsed = uv_now(prober->loop) - target->started_ms;
	uint64_t spread = prober->interval_ms / 5;
	uint64_t wait = prober->interval_ms - spread / 2 + random_next(prober) % (spread + 1);

	uv_timer_start(&target->timer, on_timer, wait > elapsed ? wait - elapsed : 1, 0);
}

static void result_clear(struct target *target)
{
	probe_names_free(&target->result.models);
	probe_names_free(&target->result.loaded);
	memset(&target->result, 0, sizeof(target->result));
}

static void finish(struct target *target, enum probe_reason reason)
{
	struct probe_result *result = &target->result;

	result->reason = reason;
	target->round++;
	target->prober->note(target->prober->arg, (size_t)(target - target->prober->targets),
			     result);
	result_clear(target);
	if (!target->prober->stopped)
		timer_arm(target);
}

static int on_line(void *arg, const char *data, size_t len)
{
	struct target *target = arg;

	buf_add(&target->line, data, len);
	return memchr(data, '\n', len) || buf_failed(&target->line);
}

/* FNV-1a; whoever makes two lists of one hash only hides its own models. */
static struct heard heard_of(const struct client_result *answer)
{
	struct heard heard = {.hash = UINT64_C(14695981039346656037), .len = answer->body_len};

	for (size_t i = 0; i < answer->body_len; i++)
		heard.hash =
			(heard.hash ^ (unsigned char)answer->body[i]) * UINT64_C(1099511628211);
	return heard;
}

/* Most lists of models are the same for days; to read one again costs more than all the rest of a
 * probe. */
static enum probe_reason judge_steady(struct target *target, const struct client_result *answer)
{
	struct heard *last = &target->heard[target->ask], now = heard_of(answer);
	enum probe_reason reason;

	if (answer->reason == PROBE_OK && now.len && now.len == last->len &&
	    now.hash == last->hash && target->round % FORGET > 1)
		return PROBE_OK;
	reason = target->engine->asks[target->ask].judge(answer, &target->result);
	*last = reason == PROBE_OK ? now : (struct heard){0};
	return reason;
}

static enum probe_reason judge(struct target *target, const struct client_result *answer)
{
	const struct probe_ask *ask = &target->engine->asks[target->ask];
	struct client_result result = *answer;

	if (ask->send) {
		result.body = target->line.data;
		result.body_len = target->line.len;
	}
	if (buf_failed(&target->line))
		return PROBE_LOCAL;
	if (result.reason != PROBE_OK && result.reason != PROBE_STATUS)
		return result.reason;
	if (ask->steady && target->ask < ASKS_MAX)
		return judge_steady(target, &result);
	return ask->judge ? ask->judge(&result, &target->result) : result.reason;
}

static void on_done(void *arg, const struct client_result *answer)
{
	struct target *target = arg;
	enum probe_reason reason = judge(target, answer);
	bool optional = target->engine->asks[target->ask].optional;

	target->client = NULL;
	buf_fini(&target->line);
	if (!target->timed) {
		target->result.rtt_us = answer->rtt_us;
		target->result.ttfb_ms = answer->ttfb_ms;
		target->result.status = answer->status;
		target->timed = true;
	}
	if (reason != PROBE_OK && !optional)
		finish(target, reason);
	else
		ask_next(target, target->ask + 1);
}

static bool is_due(const struct probe_ask *ask, unsigned round)
{
	return ask->period == 0 || round % ask->period == ask->phase;
}

/* The deadline is that of the whole probe, however many questions it has. */
static struct client *ask_start(struct target *target, const struct probe_ask *ask)
{
	struct prober *prober = target->prober;
	uint64_t elapsed = uv_now(prober->loop) - target->started_ms;
	struct client_request request = {
		.address = &target->address,
		.port = target->port,
		.method = "GET",
		.target = ask->target,
		.body = ask->send,
		.body_len = ask->send ? strlen(ask->send) : 0,
		.timeout_ms = prober->timeout_ms > elapsed ? prober->timeout_ms - elapsed : 1,
		.max_answer = ANSWER_MAX,
		.raw = ask->send != NULL,
		.connect_only = !ask->target && !ask->send,
		.on_data = ask->send ? on_line : NULL,
		.on_done = on_done,
		.arg = target,
	};

	return client_start(prober->loop, &request);
}

static void ask_next(struct target *target, size_t from)
{
	const struct probe_engine *engine = target->engine;

	while (from < engine->n_asks && !is_due(&engine->asks[from], target->round))
		from++;
	if (from == engine->n_asks) {
		finish(target, PROBE_OK);
		return;
	}
	target->ask = from;
	target->client = ask_start(target, &engine->asks[from]);
	if (!target->client)
		finish(target, PROBE_LOCAL);
}

static int target_init(struct prober *prober, size_t index, const struct model *model)
{
	struct target *target = &prober->targets[index];
	const struct model_endpoint *endpoint = &model->endpoints[index];
	const struct model_node *node = &model->nodes[endpoint->node];
	const struct model_service *service = &node->services[endpoint->service];
	int err = uv_timer_init(prober->loop, &target->timer);

	if (err)
		return err;
	prober->n_open++;
	target->prober = prober;
	target->timer.data = target;
	target->engine = probe_engine_of(service->engine);
	target->address = node->address;
	target->port = service->port;
	return uv_timer_start(&target->timer, on_timer,
			      prober->interval_ms * index / prober->n_targets, 0);
}

struct prober *prober_new(uv_loop_t *loop, const struct model *model, probe_note note, void *arg)
{
	size_t n = model->n_endpoints;
	struct prober *prober = calloc(1, sizeof(*prober) + n * sizeof(prober->targets[0]));

	if (!prober) {
		errno = ENOMEM;
		return NULL;
	}
	prober->loop = loop;
	prober->note = note;
	prober->arg = arg;
	prober->interval_ms = model->probe.interval_ms;
	prober->timeout_ms = model->probe.timeout_ms;
	prober->random = uv_hrtime() | 1;
	prober->n_targets = n;
	for (size_t i = 0; i < n; i++) {
		int err = target_init(prober, i, model);

		if (err) {
			prober_free(prober);
			errno = -err;
			return NULL;
		}
	}
	return prober;
}

/* No answer to what is being asked. */
static void ask_drop(struct target *target)
{
	if (target->client)
		client_cancel(target->client);
	target->client = NULL;
	buf_fini(&target->line);
	result_clear(target);
}

void probe_now(struct prober *prober, size_t endpoint)
{
	if (prober->stopped || endpoint >= prober->n_targets)
		return;
	ask_drop(&prober->targets[endpoint]);
	uv_timer_start(&prober->targets[endpoint].timer, on_timer, 0, 0);
}

static void on_close(uv_handle_t *handle)
{
	struct target *target = handle->data;
	struct prober *prober = target->prober;

	if (--prober->n_open == 0)
		free(prober);
}

void prober_free(struct prober *prober)
{
	size_t n;

	if (!prober)
		return;
	n = prober->n_open; /* the first n targets have a timer */
	prober->stopped = true;
	for (size_t i = 0; i < n; i++) {
		struct target *target = &prober->targets[i];

		ask_drop(target);
		uv_close((uv_handle_t *)&target->timer, on_close);
	}
	if (n == 0)
		free(prober);
}
