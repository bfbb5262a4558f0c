/* SPDX-License-Identifier: MIT */
#include "ctl/ask.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "net/client.h"
#include "net/url.h"

#define ANSWER_MAX (64u << 20)

struct asking { /* what the callback leaves */
	struct answer *answer;
	enum probe_reason reason;
	bool bad_json;
};

static void ask_on_done(void *arg, const struct client_result *result)
{
	struct asking *asking = arg;
	struct json_error error;

	asking->reason = result->reason;
	if (result->reason != PROBE_OK && result->reason != PROBE_STATUS)
		return;
	asking->answer->status = result->status;
	asking->answer->root = json_parse(result->body, result->body_len, 0, &error);
	asking->bad_json = !asking->answer->root;
}

/* Nobody answered: why, and what to do about it. */
static int ask_unanswered(const struct ctl *ctl, enum probe_reason reason)
{
	if (access(ctl->control, F_OK) == -1 && errno != EACCES)
		return ctl_fail(ctl, CTL_NO_CONTROLLER,
				"%s: %s: megalithd is not running; start it with 'systemctl start "
				"megalithd', "
				"or say where it is with --run-dir",
				ctl->control, strerror(errno));
	if (access(ctl->control, W_OK) == -1)
		return ctl_fail(ctl, CTL_FAILED, "%s: %s: you are not in the socket's group",
				ctl->control, strerror(errno));
	if (reason == PROBE_REFUSED)
		return ctl_fail(ctl, CTL_NO_CONTROLLER,
				"%s: nobody answers: megalithd is not running; start it with "
				"'systemctl start megalithd'",
				ctl->control);
	return ctl_fail(ctl, CTL_FAILED, "%s: %s", ctl->control, probe_reason_text(reason));
}

/* The exchange itself. -ENOMEM when it could not even begin. */
static int exchange(const struct ctl *ctl, const char *method, const char *target, const char *body,
		    struct asking *asking)
{
	const struct client_request request = {
		.unix_path = ctl->control,
		.method = method,
		.target = target,
		.body = body,
		.body_len = body ? strlen(body) : 0,
		.timeout_ms = ASK_TIMEOUT_MS,
		.max_answer = ANSWER_MAX,
		.on_done = ask_on_done,
		.arg = asking,
	};
	uv_loop_t loop;

	if (ctl->verbose)
		fprintf(ctl->err, "megalithctl: %s: %s %s %s\n", ctl->control, method, target,
			body ? body : "");
	if (uv_loop_init(&loop) < 0)
		return -ENOMEM;
	client_start(&loop, &request);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	return 0;
}

bool ask_anybody(const struct ctl *ctl)
{
	struct answer answer = {0};
	struct asking asking = {.answer = &answer, .reason = PROBE_LOCAL};
	bool somebody = exchange(ctl, "GET", "/v1/names", NULL, &asking) == 0 && answer.status;

	answer_fini(&answer);
	return somebody;
}

int ask_quietly(const struct ctl *ctl, const char *method, const char *target, const char *body,
		struct answer *answer)
{
	struct asking asking = {.answer = answer, .reason = PROBE_LOCAL};

	memset(answer, 0, sizeof(*answer));
	if (exchange(ctl, method, target, body, &asking) < 0)
		return ctl_fail(ctl, CTL_FAILED, "out of descriptors or memory");
	if (asking.reason != PROBE_OK && asking.reason != PROBE_STATUS)
		return ask_unanswered(ctl, asking.reason);
	if (asking.bad_json && asking.reason == PROBE_OK)
		return ctl_fail(ctl, CTL_FAILED,
				"%s: the answer is not JSON: is it megalithd's socket?",
				ctl->control);
	return CTL_DONE;
}

int answer_refused(const struct ctl *ctl, const struct answer *answer)
{
	const char *error = text_of(answer->root, "error", NULL);
	int code = answer->status == 400 ? CTL_USAGE : CTL_FAILED;

	if (error)
		return ctl_fail(ctl, code, "%s", error);
	return ctl_fail(ctl, code, "the controller answered %d", answer->status);
}

int ask(const struct ctl *ctl, const char *method, const char *target, const char *body,
	struct answer *answer)
{
	int code = ask_quietly(ctl, method, target, body, answer);

	if (code == CTL_DONE && answer->status / 100 != 2)
		code = answer_refused(ctl, answer);
	return code;
}

void answer_fini(struct answer *answer)
{
	json_free(answer->root);
	answer->root = NULL;
}

int print_json(const struct ctl *ctl, const struct json *root)
{
	struct buf text = {0};
	struct json_writer w = {.out = &text, .pretty = true};
	int code = CTL_DONE;

	json_put_value(&w, root);
	if (buf_failed(&text))
		code = ctl_fail(ctl, CTL_FAILED, "out of memory");
	else
		fprintf(ctl->out, "%s\n", text.data);
	buf_fini(&text);
	return code;
}

int ask_document(const struct ctl *ctl, const char *target, struct answer *answer, bool *printed)
{
	int code = ask(ctl, "GET", target, NULL, answer);

	*printed = code == CTL_DONE && ctl->json;
	return *printed ? print_json(ctl, answer->root) : code;
}

void target_add(struct buf *target, const char *name, const char *value)
{
	if (!value)
		return;
	buf_printf(target, "%c%s=", target->data && strchr(target->data, '?') ? '&' : '?', name);
	url_encode(target, value);
}

const char *text_of(const struct json *object, const char *key, const char *otherwise)
{
	const struct json *value = object ? json_get(object, key) : NULL;
	const char *text = value ? json_string(value) : NULL;

	return text ? text : otherwise;
}

void target_escape(struct buf *target, const char *path, const char *name)
{
	buf_puts(target, path);
	url_encode(target, name);
}

int64_t number_of(const struct json *object, const char *key, int64_t otherwise)
{
	const struct json *value = object ? json_get(object, key) : NULL;
	int64_t number;

	return value && json_integer(value, &number) ? number : otherwise;
}

bool truth_of(const struct json *object, const char *key)
{
	const struct json *value = object ? json_get(object, key) : NULL;
	bool truth;

	return value && json_bool(value, &truth) && truth;
}
