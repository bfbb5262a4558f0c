/* SPDX-License-Identifier: MIT */
#include "proxy/follow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "net/client.h"

#define FOLLOW_BACKOFF_MS	 100
#define FOLLOW_BACKOFF_MAX_MS	 2000
#define FOLLOW_SILENCE_MS	 5000	     /* the controller speaks each second */
#define FOLLOW_LINE_MAX		 (32u << 20) /* a plan at all its limits is about 10 MB */
#define FOLLOW_REPORT_MS	 1000
#define FOLLOW_REPORT_MIN_MS	 100
#define FOLLOW_REFRESH_MIN_MS	 5
#define FOLLOW_REPORT_TIMEOUT_MS 300
#define FOLLOW_ANSWER_MAX	 (4u << 20)

struct follow {
	uv_loop_t *loop;
	char *control;
	const struct follow_events *events;
	void *arg;
	struct client *stream; /* NULL: not connected, `timer` will */
	struct client *post;   /* a report under way */
	struct buf line;
	struct json_error fault; /* why the stream was given up by us */
	uint64_t backoff_ms;
	uint64_t heard_ms, reported_ms;
	bool told; /* the operator knows that the controller is gone */
	bool touched, hurry;
	bool tells;			/* the answers to our reports bring the kernel's counts */
	uint32_t ticket, asked, served; /* last one given, in the report under way, done */
	bool closing;
	uv_timer_t timer; /* reconnect, or watch for silence */
	uv_timer_t report;
	unsigned handles;
};

static void follow_connect(struct follow *follow);

/* ---- lines of the stream ---- */

static int follow_load(struct follow *follow, const struct json *load)
{
	size_t count = json_count(load), n = 0;
	uint32_t(*pairs)[2] = calloc(count + 1, sizeof(*pairs));
	int64_t busy, connections;

	snprintf(follow->fault.text, sizeof(follow->fault.text), "bad load line");
	if (!pairs)
		return -ENOMEM;
	for (const struct json *pair = json_first(load); pair; pair = json_next(pair)) {
		const struct json *first = json_first(pair);
		const struct json *second = first ? json_next(first) : NULL;

		if (!second || !json_integer(first, &busy) || !json_integer(second, &connections) ||
		    busy < 0 || connections < 0) {
			free(pairs);
			return -EBADMSG;
		}
		pairs[n][0] = busy > UINT32_MAX ? UINT32_MAX : (uint32_t)busy;
		pairs[n++][1] = connections > UINT32_MAX ? UINT32_MAX : (uint32_t)connections;
	}
	follow->events->on_load(follow->arg, (const uint32_t(*)[2])pairs, n);
	free(pairs);
	follow->fault.text[0] = '\0';
	return 0;
}

static void follow_heard(struct follow *follow)
{
	if (follow->told)
		log_info("%s: following the controller again", follow->control);
	follow->told = false;
	follow->backoff_ms = FOLLOW_BACKOFF_MS;
}

/* Plan, catalog and keys belong together: all of them are good, or none is taken. */
static int follow_plan(struct follow *follow, const struct json *line)
{
	const struct json *keys_from = json_get(line, "keys");
	struct plan *plan = plan_read(json_get(line, "plan"), follow->fault.text);
	struct catalog *catalog = NULL;
	struct keys *keys = NULL;

	if (plan)
		catalog = catalog_read(json_get(line, "catalog"), plan->n_endpoints,
				       follow->fault.text);
	if (catalog && keys_from)
		keys = keys_read(keys_from, follow->fault.text);
	if (!catalog || (keys_from && !keys)) {
		catalog_free(catalog);
		plan_free(plan);
		return -EBADMSG;
	}
	follow_heard(follow);
	follow->events->on_plan(follow->arg, plan, catalog, keys);
	return 0;
}

static int follow_line(struct follow *follow, const char *text, size_t len)
{
	struct json *document = json_parse(text, len, 0, &follow->fault);
	const struct json *load;
	int error = 0; /* of another kind: of a later version, ignored */

	if (!document)
		return -EBADMSG;
	load = json_get(document, "load");
	if (json_get(document, "plan"))
		error = follow_plan(follow, document);
	else if (load)
		error = follow_load(follow, load);
	json_free(document);
	return error;
}

static int follow_on_data(void *arg, const char *data, size_t len)
{
	struct follow *follow = arg;
	size_t start = 0;
	const char *end;

	follow->heard_ms = uv_now(follow->loop);
	buf_add(&follow->line, data, len);
	if (buf_failed(&follow->line) || follow->line.len > FOLLOW_LINE_MAX) {
		snprintf(follow->fault.text, sizeof(follow->fault.text), "a line is too long");
		return -E2BIG;
	}
	while ((end = memchr(follow->line.data + start, '\n', follow->line.len - start))) {
		size_t line = (size_t)(end - follow->line.data) - start;

		if (line && follow_line(follow, follow->line.data + start, line) < 0)
			return -EBADMSG;
		if (follow->closing)
			return -ECANCELED;
		start += line + 1;
	}
	buf_consume(&follow->line, start);
	return 0;
}

/* ---- the connection ---- */

static void follow_on_timer(uv_timer_t *timer);

static void follow_later(struct follow *follow)
{
	uv_timer_start(&follow->timer, follow_on_timer, follow->backoff_ms, 0);
	follow->backoff_ms *= 2;
	if (follow->backoff_ms > FOLLOW_BACKOFF_MAX_MS)
		follow->backoff_ms = FOLLOW_BACKOFF_MAX_MS;
}

static void follow_lost(struct follow *follow, const char *why)
{
	if (!follow->told)
		log_warn("%s: %s; going on with the last plan, trying again", follow->control, why);
	follow->told = true;
	follow_later(follow);
}

static void follow_on_done(void *arg, const struct client_result *result)
{
	struct follow *follow = arg;
	const char *why = probe_reason_text(result->reason);

	follow->stream = NULL;
	if (follow->fault.text[0])
		why = follow->fault.text;
	else if (result->reason == PROBE_OK)
		why = "the controller ended the stream";
	follow_lost(follow, why);
}

static void follow_connect(struct follow *follow)
{
	char target[64];
	const struct client_request request = {
		.unix_path = follow->control,
		.method = "GET",
		.target = target,
		.on_data = follow_on_data,
		.on_done = follow_on_done,
		.arg = follow,
	};

	snprintf(target, sizeof(target), "/v1/plan?follow=1&pid=%ld", (long)uv_os_getpid());
	buf_clear(&follow->line);
	follow->fault.text[0] = '\0';
	follow->heard_ms = uv_now(follow->loop);
	follow->stream = client_start(follow->loop, &request);
	if (!follow->stream) {
		follow_lost(follow, strerror(errno));
		return;
	}
	uv_timer_start(&follow->timer, follow_on_timer, FOLLOW_SILENCE_MS, 0);
}

/* Not connected: time to try. Connected: has it fallen silent? */
static void follow_on_timer(uv_timer_t *timer)
{
	struct follow *follow = timer->data;
	uint64_t silent_ms = uv_now(follow->loop) - follow->heard_ms;

	if (!follow->stream) {
		follow_connect(follow);
	} else if (silent_ms < FOLLOW_SILENCE_MS) {
		uv_timer_start(timer, follow_on_timer, FOLLOW_SILENCE_MS - silent_ms, 0);
	} else {
		client_cancel(follow->stream);
		follow->stream = NULL;
		follow_lost(follow, "the controller is silent");
	}
}

/* ---- reports ---- */

static void follow_on_report(uv_timer_t *timer);

static void follow_plan_report(struct follow *follow)
{
	uint64_t period_ms = follow->touched ? FOLLOW_REPORT_MIN_MS : FOLLOW_REPORT_MS;
	uint64_t passed_ms = uv_now(follow->loop) - follow->reported_ms;

	if (follow->ticket != follow->served || follow->hurry)
		period_ms = FOLLOW_REFRESH_MIN_MS;
	uv_timer_start(&follow->report, follow_on_report,
		       passed_ms < period_ms ? period_ms - passed_ms : 0, 0);
}

/* Whoever waits for the counts that `asked` stands for need not wait any longer. */
static void follow_serve(struct follow *follow)
{
	if (follow->served == follow->asked)
		return;
	follow->served = follow->asked;
	follow->events->on_fresh(follow->arg, follow->served);
}

static void follow_answer(struct follow *follow, const struct client_result *result)
{
	struct json_error error;
	struct json *answer = json_parse(result->body, result->body_len, 0, &error);
	const struct json *load = json_get(answer, "load");

	follow->tells = load && follow_load(follow, load) == 0;
	json_free(answer);
}

static void follow_on_reported(void *arg, const struct client_result *result)
{
	struct follow *follow = arg;

	follow->post = NULL;
	follow->tells = false;
	if (result->reason == PROBE_OK)
		follow_answer(follow, result);
	else
		log_debug("%s: report not taken: %s", follow->control,
			  probe_reason_text(result->reason));
	follow_serve(follow);
	follow_plan_report(follow);
}

static void follow_on_report(uv_timer_t *timer)
{
	struct follow *follow = timer->data;
	struct client_request request = {
		.unix_path = follow->control,
		.method = "POST",
		.target = "/v1/load",
		.timeout_ms = FOLLOW_REPORT_TIMEOUT_MS,
		.max_answer = FOLLOW_ANSWER_MAX,
		.on_done = follow_on_reported,
		.arg = follow,
	};
	struct buf body = {0};

	follow->reported_ms = uv_now(follow->loop);
	follow->touched = false;
	follow->hurry = false;
	follow->asked = follow->ticket;
	if (follow->stream && follow->events->on_report(follow->arg, &body)) {
		request.body = body.data;
		request.body_len = body.len;
		follow->post = client_start(follow->loop, &request);
	}
	buf_fini(&body);
	if (follow->post)
		return;
	follow_serve(follow);
	follow_plan_report(follow);
}

void follow_touch(struct follow *follow)
{
	if (follow->touched || follow->closing)
		return;
	follow->touched = true;
	if (!follow->post)
		follow_plan_report(follow);
}

void follow_hurry(struct follow *follow)
{
	if (follow->hurry || follow->closing)
		return;
	follow->hurry = true;
	if (!follow->post)
		follow_plan_report(follow);
}

uint32_t follow_refresh(struct follow *follow)
{
	if (!follow->stream || !follow->tells || follow->closing)
		return 0;
	if (follow->ticket == follow->asked && ++follow->ticket == 0)
		follow->ticket++; /* 0 is nobody's */
	if (!follow->post)
		follow_plan_report(follow);
	return follow->ticket;
}

/* ---- life ---- */

struct follow *follow_new(uv_loop_t *loop, const char *control, const struct follow_events *events,
			  void *arg)
{
	struct follow *follow = calloc(1, sizeof(*follow));

	if (!follow)
		return NULL;
	follow->control = strdup(control);
	if (!follow->control) {
		free(follow);
		return NULL;
	}
	follow->loop = loop;
	follow->events = events;
	follow->arg = arg;
	follow->backoff_ms = FOLLOW_BACKOFF_MS;
	uv_timer_init(loop, &follow->timer);
	uv_timer_init(loop, &follow->report);
	follow->timer.data = follow;
	follow->report.data = follow;
	follow->handles = 2;
	follow_connect(follow);
	follow_plan_report(follow);
	return follow;
}

static void follow_on_closed(uv_handle_t *handle)
{
	struct follow *follow = handle->data;

	if (--follow->handles)
		return;
	buf_fini(&follow->line);
	free(follow->control);
	free(follow);
}

void follow_free(struct follow *follow)
{
	if (!follow || follow->closing)
		return;
	follow->closing = true;
	if (follow->stream)
		client_cancel(follow->stream);
	if (follow->post)
		client_cancel(follow->post);
	follow->stream = NULL;
	follow->post = NULL;
	uv_close((uv_handle_t *)&follow->timer, follow_on_closed);
	uv_close((uv_handle_t *)&follow->report, follow_on_closed);
}
