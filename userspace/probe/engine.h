/* SPDX-License-Identifier: MIT */
/*
 * What to ask an engine, and what its answer says: one table of questions an engine (engine_*.c).
 * The tables know neither timers nor sockets; probe.c asks.
 */
#ifndef PROBE_ENGINE_H
#define PROBE_ENGINE_H

#include "net/client.h"
#include "probe/probe.h"

struct probe_ask {
	const char *target; /* GET this; NULL: no HTTP */
	const char
		*send; /* no HTTP: bytes to send, the answer is one line; NULL: connecting is all */
	unsigned period; /* asked in rounds with round % period == phase; 0: in each */
	unsigned phase;
	bool optional; /* only tells more: says nothing about the health */
	bool steady;   /* a good answer that comes again says nothing new: it is not judged again */
	/*
	 * What the whole answer means; may add names to `into`. NULL: what the client says.
	 * result->reason is OK or STATUS: when there is no whole answer nobody asks.
	 */
	enum probe_reason (*judge)(const struct client_result *result, struct probe_result *into);
};

struct probe_engine {
	const struct probe_ask
		*asks; /* in this order; the first that is not optional and fails ends the probe */
	size_t n_asks;
};

extern const struct probe_engine probe_engine_tcp, probe_engine_http, probe_engine_ollama,
	probe_engine_openai, probe_engine_health, probe_engine_llamacpp, probe_engine_comfyui,
	probe_engine_immich, probe_engine_wyoming;

/* How each engine is asked. */
const struct probe_engine *probe_engine_of(enum engine engine);

/*
 * A list of models in an answer: {LIST: [{NAME: "..."}]} → *names (replaced), with the entries
 * themselves where they fit (core/catalog.h). Entries with a member `except` are left out; so are
 * names nobody could send (empty, too long, control characters). OK, BAD_JSON or BAD_ANSWER.
 */
enum probe_reason probe_names_read(const struct client_result *result, const char *list,
				   const char *name, const char *except, struct probe_names *names);
void probe_names_free(struct probe_names *names);

#endif
