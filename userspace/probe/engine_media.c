/* SPDX-License-Identifier: MIT */
/* Images, photos, voice: ComfyUI, Immich's machine learning, Wyoming. */
#include <ctype.h>
#include <string.h>

#include "base/json.h"
#include "probe/engine.h"

/* GET /prompt is the small one; /queue holds whole prompts. */
static enum probe_reason judge_comfyui(const struct client_result *result,
				       struct probe_result *into)
{
	struct json_error error;
	struct json *root;
	const struct json *info;
	int64_t remaining;
	enum probe_reason reason;

	(void)into;
	if (result->reason != PROBE_OK)
		return result->reason;
	root = json_parse(result->body, result->body_len, 0, &error);
	if (!root)
		return PROBE_BAD_JSON;
	info = json_get(json_get(root, "exec_info"), "queue_remaining");
	reason = info && json_integer(info, &remaining) ? PROBE_OK : PROBE_BAD_ANSWER;
	json_free(root);
	return reason;
}

static enum probe_reason judge_immich(const struct client_result *result, struct probe_result *into)
{
	size_t len = result->body_len;

	(void)into;
	if (result->reason != PROBE_OK)
		return result->reason;
	while (len > 0 && isspace((unsigned char)result->body[len - 1]))
		len--;
	return len == 4 && memcmp(result->body, "pong", 4) == 0 ? PROBE_OK : PROBE_BAD_ANSWER;
}

/* One event is a line of JSON, perhaps followed by data and payload, which are not waited for. */
static enum probe_reason judge_wyoming(const struct client_result *result,
				       struct probe_result *into)
{
	const char *end = result->body ? memchr(result->body, '\n', result->body_len) : NULL;
	struct json_error error;
	struct json *root;
	const char *type;
	enum probe_reason reason;

	(void)into;
	if (!end)
		return PROBE_CLOSED;
	root = json_parse(result->body, (size_t)(end - result->body), 0, &error);
	if (!root)
		return PROBE_BAD_JSON;
	type = json_string(json_get(root, "type"));
	reason = type && strcmp(type, "info") == 0 ? PROBE_OK : PROBE_BAD_ANSWER;
	json_free(root);
	return reason;
}

static const struct probe_ask comfyui[] = {{.target = "/prompt", .judge = judge_comfyui}};
static const struct probe_ask immich[] = {{.target = "/ping", .judge = judge_immich}};
static const struct probe_ask wyoming[] = {
	{.send = "{\"type\":\"describe\"}\n", .judge = judge_wyoming}};

const struct probe_engine probe_engine_comfyui = {comfyui, 1};
const struct probe_engine probe_engine_immich = {immich, 1};
const struct probe_engine probe_engine_wyoming = {wyoming, 1};
