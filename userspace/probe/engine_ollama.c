/* SPDX-License-Identifier: MIT */
/*
 * Ollama: what it has (/api/tags) and what it holds in memory (/api/ps) in turn, so that each round
 * is one request. Either proves that it serves; neither loads a model or waits behind one.
 */
#include "probe/engine.h"

/* An entry with remote_host is a stub of somebody's cloud: private work must not go there. */
static enum probe_reason judge_tags(const struct client_result *result, struct probe_result *into)
{
	if (result->reason != PROBE_OK)
		return result->reason;
	return probe_names_read(result, "models", "name", "remote_host", &into->models);
}

static enum probe_reason judge_ps(const struct client_result *result, struct probe_result *into)
{
	if (result->reason != PROBE_OK)
		return result->reason;
	return probe_names_read(result, "models", "name", "remote_host", &into->loaded);
}

static const struct probe_ask asks[] = {
	{.target = "/api/tags", .period = 2, .phase = 0, .steady = true, .judge = judge_tags},
	{.target = "/api/ps", .period = 2, .phase = 1, .steady = true, .judge = judge_ps},
};

const struct probe_engine probe_engine_ollama = {asks, 2};
