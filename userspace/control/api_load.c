/* SPDX-License-Identifier: MIT */
/* POST /v1/load: what a proxy holds, and what it saw fail; the answer is what the others hold. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "control/api_impl.h"
#include "control/follow.h"

static bool busy_read(const struct json *array, uint32_t *busy, size_t n)
{
	size_t i = 0;

	for (const struct json *item = json_first(array); item; item = json_next(item)) {
		int64_t number;

		if (i == n || !json_integer(item, &number) || number < 0 || number > UINT32_MAX)
			return false;
		busy[i++] = (uint32_t)number;
	}
	return i == n;
}

#define MARKS_MAX 4096

/* Pairs of an endpoint and what was seen. */
static bool mark_read(const struct json *pair, size_t n, size_t *endpoint, enum probe_reason *why)
{
	const struct json *first = json_type(pair) == JSON_ARRAY ? json_first(pair) : NULL;
	const struct json *second = first ? json_next(first) : NULL;
	int64_t index;

	if (!second || json_next(second) || !json_integer(first, &index) || index < 0 ||
	    (uint64_t)index >= n)
		return false;
	*endpoint = (size_t)index;
	return json_string(second) && mark_parse(why, json_string(second)) == 0;
}

static bool marks_ok(const struct json *array, size_t n)
{
	enum probe_reason why;
	size_t endpoint;

	if (json_type(array) != JSON_ARRAY || json_count(array) > MARKS_MAX)
		return false;
	for (const struct json *pair = json_first(array); pair; pair = json_next(pair))
		if (!mark_read(pair, n, &endpoint, &why))
			return false;
	return true;
}

static void marks_take(const struct request *request, const struct json *array, int64_t pid)
{
	size_t n = request->control->state.model->n_endpoints, endpoint;
	enum probe_reason why;

	for (const struct json *pair = json_first(array); pair; pair = json_next(pair))
		if (mark_read(pair, n, &endpoint, &why))
			control_mark(request->control, endpoint, why, pid);
}

/* Counts that a proxy has to know before it chooses: not when it is alone and there is no kernel
 * that steers. */
static bool has_others(const struct state *state, int64_t pid)
{
	if (state->datapath)
		return true;
	for (size_t i = 0; i < STATE_RELAYS_MAX; i++)
		if (state->relays[i].busy && state->relays[i].pid != pid)
			return true;
	return false;
}

static void load_answer(const struct request *request, int64_t pid)
{
	const struct state *state = &request->control->state;
	struct buf out = {0};
	struct json_writer w = {.out = &out};

	json_begin(&w, '{');
	json_pair_int(&w, "plan_version", (int64_t)state->version);
	if (has_others(state, pid))
		follow_load_write(state, pid, &w);
	json_end(&w, '}');
	buf_puts(&out, "\n");
	api_answer_json(request, &out);
}

/* Refuses what is wrong, all of it before anything is taken. */
static bool load_ok(const struct request *request, const struct json *root, uint32_t *busy,
		    size_t n, struct tally *tally)
{
	const struct json *array = json_get(root, "busy"), *marks = json_get(root, "marks");
	const struct json *http = json_get(root, "http");

	if (!array || json_type(array) != JSON_ARRAY || !busy_read(array, busy, n))
		api_refuse(request, 400, "busy: must be %zu whole numbers, one for each endpoint",
			   n);
	else if (marks && !marks_ok(marks, n))
		api_refuse(request, 400,
			   "marks: must be at most %d pairs of an endpoint and refused, reset, "
			   "closed or timeout",
			   MARKS_MAX);
	else if (marks && !api_is_proxy(request) && !api_may_write(request))
		api_refuse(request, 403, "marks: this user may not mark anything");
	else if (http && tally_read(tally, http))
		api_refuse(request, 400, "http: must be what a router counts");
	else
		return true;
	return false;
}

/* Its plan has the endpoints we have: their numbers mean the same to both. */
static void load_take(const struct request *request, const struct json *root, int64_t pid)
{
	struct state *state = &request->control->state;
	size_t n = state->model->n_endpoints;
	uint32_t *busy = calloc(n + 1, sizeof(*busy));
	int err = busy ? 0 : -ENOMEM;
	struct tally tally = {0};

	if (busy && !load_ok(request, root, busy, n, &tally))
		goto out;
	if (!err)
		err = state_relay_note(state, pid, busy, uv_now(request->control->loop));
	if (err == -ENOSPC) {
		api_refuse(request, 409, "%d proxies say what they hold already", STATE_RELAYS_MAX);
	} else if (err) {
		api_refuse(request, 500, "%s", strerror(-err));
	} else {
		marks_take(request, json_get(root, "marks"), pid);
		if (json_get(root, "http"))
			state_tally_set(state, pid, &tally, uv_now(request->control->loop));
		load_answer(request, pid);
	}
out:
	tally_fini(&tally);
	free(busy);
}

void api_post_load(struct request *request)
{
	static const char *const keys[] = {"pid", "plan_version", "busy", "marks", "http", NULL};
	const struct state *state = &request->control->state;
	struct json *root = api_body_read(request, keys);
	int64_t pid, version;

	if (!root)
		return;
	if (!api_integer_in(root, "pid", 1, INT64_MAX, &pid))
		api_refuse(request, 400, "pid: must be a whole number above 0");
	else if (!api_integer_in(root, "plan_version", 0, INT64_MAX, &version))
		api_refuse(request, 400, "plan_version: must be a whole number");
	else if ((uint64_t)version < state->model_version || (uint64_t)version > state->version)
		api_refuse(request, 409,
			   "plan_version: there are other endpoints since plan %" PRIu64,
			   state->model_version);
	else
		load_take(request, root, pid);
	json_free(root);
}
