/* SPDX-License-Identifier: MIT */
/* Faults: what the node does instead of answering well. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simnode/sim_impl.h"

#define MISSING_BYTES 64 /* of what a truncated answer promises */
#define SLOW_HEAD_LEN 24 /* in the middle of the name of the first field */

static const struct {
	const char *name; /* with '=' where a number follows */
	enum sim_fail fail;
	uint32_t least, most;
} fails[] = {
	{"none", SIM_FAIL_NONE, 0, 0},
	{"hang", SIM_FAIL_HANG, 0, 0},
	{"hang-head", SIM_FAIL_HANG_HEAD, 0, 0},
	{"close", SIM_FAIL_CLOSE, 0, 0},
	{"reset", SIM_FAIL_RESET, 0, 0},
	{"status=", SIM_FAIL_STATUS, 400, 599},
	{"sse-error", SIM_FAIL_SSE_ERROR, 0, 0},
	{"slow-head=", SIM_FAIL_SLOW_HEAD, 0, 86400000},
	{"truncate", SIM_FAIL_TRUNCATE, 0, 0},
	{"cut=", SIM_FAIL_CUT, 0, UINT32_MAX},
	{"reset-after=", SIM_FAIL_RESET_AFTER, 0, UINT32_MAX},
	{"end=", SIM_FAIL_END, 0, UINT32_MAX},
	{"error-after=", SIM_FAIL_ERROR_AFTER, 0, UINT32_MAX},
	{"bad-chunk=", SIM_FAIL_BAD_CHUNK, 0, UINT32_MAX},
};

#define N_FAILS (sizeof(fails) / sizeof(fails[0]))

static int parse_number(const char *text, size_t i, uint32_t *number)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : ULLONG_MAX;
	if (value == ULLONG_MAX || errno || *end || value < fails[i].least || value > fails[i].most)
		return -EINVAL;
	*number = (uint32_t)value;
	return 0;
}

int simnode_fail_parse(struct simnode_options *options, const char *text)
{
	for (size_t i = 0; i < N_FAILS; i++) {
		size_t len = strlen(fails[i].name);
		bool numbered = fails[i].name[len - 1] == '=';
		uint32_t number = 0;

		if (numbered ? strncmp(text, fails[i].name, len) : strcmp(text, fails[i].name))
			continue;
		if (numbered && parse_number(text + len, i, &number))
			return -EINVAL;
		options->fail = fails[i].fail;
		options->fail_n = number;
		return 0;
	}
	return -EINVAL;
}

const char *sim_fail_text(const struct simnode_options *options, char text[64])
{
	const char *name = fails[options->fail].name;

	_Static_assert(N_FAILS == SIM_FAIL_BAD_CHUNK + 1, "a row for each");
	if (name[strlen(name) - 1] == '=')
		snprintf(text, 64, "%s%" PRIu32, name, options->fail_n);
	else
		snprintf(text, 64, "%s", name);
	return text;
}

struct sim_fault sim_fault_take(struct simnode *node)
{
	struct simnode_options *options = &node->options;
	struct sim_fault fault = {.how = options->fail, .n = options->fail_n};

	if (options->status)
		fault = (struct sim_fault){.how = SIM_FAIL_STATUS, .n = (uint32_t)options->status};
	if (fault.how != SIM_FAIL_NONE && options->fail_times && !--options->fail_times) {
		options->fail = SIM_FAIL_NONE;
		options->status = 0;
	}
	return fault;
}

/* The rest of the head comes when the clock says so, and the tokens from then on. */
static void begin_head(struct sim_job *job)
{
	struct buf head = {0};

	sim_put_raw_head(job, &head, 0, "", 0);
	if (!buf_failed(&head))
		exchange_write_raw(job->exchange, head.data, SLOW_HEAD_LEN);
	buf_fini(&head);
	job->by_hand = SLOW_HEAD_LEN;
	job->first_at_ms += job->fault.n;
	sim_job_wait(job, job->fault.n);
}

static void answer_error_first(struct sim_job *job)
{
	static const char text[] = "The request queue is full.";
	struct buf out = {0};

	if (!job->stream) {
		sim_error(job->service, job->exchange, 503, "%s", text);
		return;
	}
	sim_answer_head(job);
	sim_put_stream_error(job, &out, 503, text);
	exchange_write(job->exchange, out.data, buf_failed(&out) ? 0 : out.len);
	buf_fini(&out);
	exchange_end(job->exchange);
}

bool sim_fault_first(struct sim_job *job)
{
	switch (job->fault.how) {
	case SIM_FAIL_CLOSE:
		exchange_abort(job->exchange);
		break;
	case SIM_FAIL_RESET:
		exchange_reset(job->exchange);
		break;
	case SIM_FAIL_SSE_ERROR:
		answer_error_first(job);
		break;
	case SIM_FAIL_HANG_HEAD:
		sim_answer_head(job);
		return true;
	case SIM_FAIL_SLOW_HEAD:
		begin_head(job);
		return true;
	default:
		return false;
	}
	sim_job_over(job, SIM_FAILED);
	return true;
}

/* The size of a chunk, and half of what it says. */
static void cut_chunk(struct sim_job *job)
{
	struct buf event = {0}, out = {0};

	sim_put_token_event(job, &event);
	if (!exchange_head(job->exchange)->http10)
		buf_printf(&out, "%zx\r\n", event.len);
	buf_add(&out, event.data, event.len / 2);
	if (!buf_failed(&event) && !buf_failed(&out))
		exchange_write_raw(job->exchange, out.data, out.len);
	buf_fini(&event);
	buf_fini(&out);
	exchange_abort(job->exchange);
}

static void bad_chunk(struct sim_job *job)
{
	static const char garbage[] = "zz\r\nno size of a chunk\r\n";

	exchange_write_raw(job->exchange, garbage, sizeof(garbage) - 1);
	exchange_abort(job->exchange);
}

static void error_event(struct sim_job *job)
{
	struct buf out = {0};

	sim_put_stream_error(job, &out, 500, "the runner has terminated: simulated failure");
	exchange_write(job->exchange, out.data, buf_failed(&out) ? 0 : out.len);
	buf_fini(&out);
	exchange_end(job->exchange);
}

static void break_stream(struct sim_job *job)
{
	switch (job->fault.how) {
	case SIM_FAIL_RESET_AFTER:
		exchange_reset(job->exchange);
		break;
	case SIM_FAIL_END:
		exchange_end(job->exchange);
		break;
	case SIM_FAIL_ERROR_AFTER:
		error_event(job);
		break;
	case SIM_FAIL_BAD_CHUNK:
		bad_chunk(job);
		break;
	default:
		cut_chunk(job);
	}
}

static void truncate_whole(struct sim_job *job)
{
	struct buf body = {0}, out = {0};
	const char *type = sim_put_whole(job, &body);

	sim_put_raw_head(job, &out, 0, type, (int64_t)body.len + MISSING_BYTES);
	buf_add(&out, body.data, body.len);
	if (!buf_failed(&body) && !buf_failed(&out))
		exchange_write_raw(job->exchange, out.data, out.len);
	buf_fini(&body);
	buf_fini(&out);
	exchange_abort(job->exchange);
}

static void break_whole_chunks(struct sim_job *job)
{
	struct buf body = {0};

	sim_put_whole(job, &body);
	sim_answer_head(job);
	exchange_write(job->exchange, body.data, buf_failed(&body) ? 0 : body.len / 2);
	buf_fini(&body);
	bad_chunk(job);
}

/* What dies before the answer is whole has sent nothing of it. */
static void break_whole(struct sim_job *job)
{
	switch (job->fault.how) {
	case SIM_FAIL_TRUNCATE:
		truncate_whole(job);
		break;
	case SIM_FAIL_BAD_CHUNK:
		break_whole_chunks(job);
		break;
	case SIM_FAIL_RESET_AFTER:
		exchange_reset(job->exchange);
		break;
	case SIM_FAIL_CUT:
		exchange_abort(job->exchange);
		break;
	default:
		sim_error(job->service, job->exchange, 500,
			  "the runner has terminated: simulated failure");
	}
}

bool sim_fault_due(struct sim_job *job)
{
	uint64_t after = job->fault.how == SIM_FAIL_TRUNCATE ? job->total : job->fault.n;

	if (job->fault.how < SIM_FAIL_TRUNCATE || job->sent < after)
		return false;
	if (job->stream)
		break_stream(job);
	else
		break_whole(job);
	sim_job_over(job, SIM_FAILED);
	return true;
}
