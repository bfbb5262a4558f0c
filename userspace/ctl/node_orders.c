/* SPDX-License-Identifier: MIT */
/* What an operator orders a node: weight, drain, undrain. */
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "ctl/ask.h"
#include "ctl/ctl.h"
#include "ctl/farm.h"

#define WAIT_POLL_MS 250

/* "did you mean": the names there are, asked only when one is wrong. */
static void suggest(const struct ctl *ctl, const char *wrong)
{
	const char *names[MG_NODES_MAX + 1] = {0};
	struct answer answer;
	const char *nearest;
	size_t n = 0;

	if (ask_quietly(ctl, "GET", "/v1/names", NULL, &answer) == CTL_DONE) {
		const struct json *item = json_first(json_get(answer.root, "nodes"));

		for (; item && n < MG_NODES_MAX; item = json_next(item)) {
			if (json_string(item))
				names[n++] = json_string(item);
		}
		nearest = ctl_nearest(wrong, names);
		if (nearest)
			ctl_fail(ctl, CTL_FAILED, "did you mean '%s'?", nearest);
	}
	answer_fini(&answer);
}

/* POST /v1/nodes/NODE/ORDER. */
static int order(const struct ctl *ctl, const char *what, const char *body, struct answer *answer)
{
	const char *node = ctl->args[0];
	struct buf target = {0};
	int code = CTL_FAILED;

	memset(answer, 0, sizeof(*answer));
	if (!node[0] || strlen(node) >= MG_NAME_MAX)
		return ctl_fail(ctl, CTL_USAGE, "'%s' is no node's name", node);
	target_escape(&target, "/v1/nodes/", node);
	buf_printf(&target, "/%s", what);
	if (buf_failed(&target))
		ctl_fail(ctl, CTL_FAILED, "out of memory");
	else
		code = ask(ctl, "POST", target.data, body, answer);
	buf_fini(&target);
	if (code == CTL_FAILED && answer->status == 404)
		suggest(ctl, node);
	return code;
}

static void print_note(const struct ctl *ctl, const struct answer *answer)
{
	const char *note = text_of(answer->root, "note", NULL);

	if (note)
		ctl_fail(ctl, CTL_DONE, "%s", note);
}

int ctl_weight(struct ctl *ctl)
{
	struct answer answer;
	struct buf body = {0};
	int64_t weight;
	int code;

	if (!ctl_number(ctl->args[1], 0, 1000, &weight))
		return ctl_fail(ctl, CTL_USAGE,
				"weight '%s': a whole number from 0 to 1000 is expected",
				ctl->args[1]);
	buf_printf(&body, "{\"weight\":%" PRId64 "}", weight);
	code = order(ctl, "weight", body.data, &answer);
	buf_fini(&body);
	if (code == CTL_DONE && ctl->json)
		code = print_json(ctl, answer.root);
	else if (code == CTL_DONE)
		fprintf(ctl->out, "%s: weight %" PRId64 "%s\n", ctl->args[0],
			number_of(answer.root, "weight", weight),
			weight ? "" : ", no new connections");
	if (code == CTL_DONE)
		print_note(ctl, &answer);
	answer_fini(&answer);
	return code;
}

static const char *plural(int64_t n)
{
	return n == 1 ? "" : "s";
}

/* -1 and *code when it cannot be known. */
static int64_t connections_now(const struct ctl *ctl, int *code)
{
	struct answer answer;
	const struct json *node;
	int64_t connections = -1;

	*code = ask(ctl, "GET", "/v1/status", NULL, &answer);
	if (*code == CTL_DONE) {
		node = farm_node(answer.root, ctl->args[0]);
		connections =
			node ? farm_connections(node) : 0; /* it left the configuration meanwhile */
	}
	answer_fini(&answer);
	return connections;
}

static void show_progress(const struct ctl *ctl, int64_t left, uint64_t passed_ms)
{
	char text[FARM_TEXT_MAX];

	if (!ctl->out_is_terminal || ctl->json)
		return;
	fprintf(ctl->out, "\r%s: %" PRId64 " connection%s left, %s \033[K", ctl->args[0], left,
		plural(left), farm_duration(text, (int64_t)passed_ms));
	fflush(ctl->out);
}

static void pause_ms(long ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&time, NULL);
}

/* Until no connection is left, or the deadline. *left is what is left. */
static int wait_drained(const struct ctl *ctl, int64_t *left)
{
	uint64_t begin = uv_hrtime() / 1000000, passed_ms = 0;
	uint64_t limit_ms = ctl->wait_s < 0 ? UINT64_MAX : (uint64_t)ctl->wait_s * 1000;
	int code = CTL_DONE;

	while (*left > 0 && passed_ms < limit_ms && code == CTL_DONE) {
		show_progress(ctl, *left, passed_ms);
		pause_ms(limit_ms - passed_ms < WAIT_POLL_MS ? (long)(limit_ms - passed_ms)
							     : WAIT_POLL_MS);
		*left = connections_now(ctl, &code);
		passed_ms = uv_hrtime() / 1000000 - begin;
	}
	if (ctl->out_is_terminal && !ctl->json)
		fputs("\r\033[K", ctl->out);
	return code;
}

static int print_drained(const struct ctl *ctl, int64_t left)
{
	bool late = ctl->wait && left > 0;

	if (ctl->json)
		fprintf(ctl->out,
			"{\n  \"node\": \"%s\",\n  \"drain\": true,\n  \"connections\": %" PRId64
			"\n}\n",
			ctl->args[0], left);
	else if (left == 0)
		fprintf(ctl->out, "%s: drained, no connection is left\n", ctl->args[0]);
	else if (!late)
		fprintf(ctl->out, "%s: draining, %" PRId64 " connection%s left\n", ctl->args[0],
			left, plural(left));
	if (late)
		return ctl_fail(ctl, CTL_FAILED,
				"%s: %" PRId64 " connection%s left after %" PRId64 " s",
				ctl->args[0], left, plural(left), ctl->wait_s);
	return CTL_DONE;
}

int ctl_drain(struct ctl *ctl)
{
	struct answer answer;
	int code = order(ctl, "drain", NULL, &answer);
	int64_t left = number_of(answer.root, "connections", 0);

	if (code == CTL_DONE)
		print_note(ctl, &answer);
	answer_fini(&answer);
	if (code == CTL_DONE && ctl->wait)
		code = wait_drained(ctl, &left);
	return code == CTL_DONE ? print_drained(ctl, left) : code;
}

int ctl_undrain(struct ctl *ctl)
{
	struct answer answer;
	int code = order(ctl, "undrain", NULL, &answer);

	if (code == CTL_DONE && ctl->json)
		code = print_json(ctl, answer.root);
	else if (code == CTL_DONE)
		fprintf(ctl->out, "%s: takes new connections again\n", ctl->args[0]);
	if (code == CTL_DONE)
		print_note(ctl, &answer);
	answer_fini(&answer);
	return code;
}
