/* SPDX-License-Identifier: MIT */
/* /sim/: how the node behaves, and what it has seen. */
#include <stdio.h>
#include <string.h>

#include "simnode/sim_impl.h"

static void put_settings(const struct simnode *node, struct json_writer *w)
{
	const struct simnode_options *options = &node->options;
	char text[64];

	json_pair_string(w, "name", node->name);
	json_pair_int(w, "slots", options->slots);
	json_pair_int(w, "tps", options->tps);
	json_pair_int(w, "ttft_ms", options->ttft_ms);
	json_pair_int(w, "tokens", options->tokens);
	json_pair_int(w, "token_bytes", options->token_bytes);
	json_pair_int(w, "answer_bytes", options->answer_bytes);
	json_pair_bool(w, "stamp", options->stamp);
	json_pair_int(w, "status", options->status);
	json_pair_string(w, "fail", sim_fail_text(options, text));
	json_pair_int(w, "fail_times", options->fail_times);
}

void sim_get_stats(struct sim_service *service, struct exchange *exchange)
{
	const struct simnode *node = service->node;
	struct buf out = {0};
	struct json_writer w = {.out = &out};
	char key[80];

	json_begin(&w, '{');
	put_settings(node, &w);
	sim_put_tallies(node, &w);
	json_pair_int(&w, "connections", (int64_t)node->connections);
	json_pair_int(&w, "open", node->open);
	json_name(&w, "paths");
	json_begin(&w, '{');
	for (size_t i = 0; sim_route_name(i, key); i++) {
		if (node->hits[i] && !strstr(key, " /sim/stats"))
			json_pair_int(&w, key, (int64_t)node->hits[i]);
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
		int64_t least, most;
	} numbers[] = {
		{"slots", &options->slots, 1, UINT32_MAX},
		{"tps", &options->tps, 1, UINT32_MAX},
		{"ttft_ms", &options->ttft_ms, 0, UINT32_MAX},
		{"tokens", &options->tokens, 1, UINT32_MAX},
		{"token_bytes", &options->token_bytes, 0, SIM_TOKEN_BYTES_MAX},
		{"answer_bytes", &options->answer_bytes, 0, SIM_ANSWER_BYTES_MAX},
		{"load_ms", &options->load_ms, 0, UINT32_MAX},
		{"fail_times", &options->fail_times, 0, UINT32_MAX},
	};
	int64_t number;

	if (!json_integer(member, &number) || number < 0 || number > UINT32_MAX)
		return false;
	if (!strcmp(json_key(member), "status") && (!number || (number >= 400 && number <= 599))) {
		options->status = (int)number;
		return true;
	}
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (strcmp(json_key(member), numbers[i].name) != 0 || number < numbers[i].least ||
		    number > numbers[i].most)
			continue;
		*numbers[i].into = (uint32_t)number;
		return true;
	}
	return false;
}

static bool set_member(const struct json *member, struct simnode_options *options)
{
	const char *text = json_string(member);

	if (!strcmp(json_key(member), "fail") && text)
		return !simnode_fail_parse(options, text);
	if (!strcmp(json_key(member), "stamp") && json_bool(member, &options->stamp))
		return true;
	return set_number(member, options);
}

void sim_post_set(struct sim_service *service, struct exchange *exchange)
{
	struct simnode *node = service->node;
	struct simnode_options options = node->options;
	struct json_error error;
	size_t len;
	const char *body = exchange_body(exchange, &len);
	struct json *request = json_parse(body, len, 0, &error);
	bool good = request && json_type(request) == JSON_OBJECT;

	for (const struct json *member = json_first(request); good && member;
	     member = json_next(member))
		good = set_member(member, &options);
	if (good && json_get(request, "load_ms"))
		node->started_at_ms = uv_now(node->loop);
	json_free(request);
	if (!good) {
		sim_error(service, exchange, 400,
			  "expected slots, tps, ttft_ms, tokens, token_bytes, answer_bytes, stamp, "
			  "load_ms, status, fail (" SIM_FAIL_HOW "), fail_times");
		return;
	}
	node->options = options;
	sim_jobs_wake(node);
	sim_get_stats(service, exchange);
}

void sim_post_reset(struct sim_service *service, struct exchange *exchange)
{
	sim_forget(service->node);
	sim_get_stats(service, exchange);
}
