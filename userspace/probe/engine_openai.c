/* SPDX-License-Identifier: MIT */
/*
 * Engines that speak the OpenAI dialect. The list of models is the only thing they all have; vLLM,
 * SGLang and llama.cpp also have a cheap /health, which is asked each round, and the list only now
 * and then: it may need a key that the gateway does not have, which says nothing about the health.
 */
#include "probe/engine.h"

#define MODELS_PERIOD 10 /* rounds */

static enum probe_reason judge_models(const struct client_result *result, struct probe_result *into)
{
	if (result->reason != PROBE_OK)
		return result->reason;
	return probe_names_read(result, "data", "id", NULL, &into->models);
}

/* llama.cpp answers 503 while it reads the weights, which may take minutes: not a fault. */
static enum probe_reason judge_loading(const struct client_result *result,
				       struct probe_result *into)
{
	(void)into;
	return result->status == 503 ? PROBE_LOADING : result->reason;
}

static const struct probe_ask openai[] = {
	{.target = "/v1/models", .steady = true, .judge = judge_models}};

static const struct probe_ask health[] = {
	{.target = "/health"},
	{.target = "/v1/models", .period = MODELS_PERIOD, .optional = true, .judge = judge_models},
};

static const struct probe_ask llamacpp[] = {
	{.target = "/health", .judge = judge_loading},
	{.target = "/v1/models", .period = MODELS_PERIOD, .optional = true, .judge = judge_models},
};

const struct probe_engine probe_engine_openai = {openai, 1};
const struct probe_engine probe_engine_health = {health, 2};
const struct probe_engine probe_engine_llamacpp = {llamacpp, 2};
