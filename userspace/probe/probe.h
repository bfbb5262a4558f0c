/* SPDX-License-Identifier: MIT */
/*
 * Asks every endpoint how it is, each interval_ms with jitter, the first round spread over one
 * interval; at most one probe of an endpoint at a time. What to ask is a matter of the engine: one
 * small file each (engine_*.c). Owns nothing but its timers; results go to the caller.
 */
#ifndef PROBE_PROBE_H
#define PROBE_PROBE_H

#include <uv.h>

#include "core/model.h"
#include "core/score.h"

#define PROBE_NAMES_MAX 1024 /* models of an endpoint that are remembered */
#define PROBE_NAME_MAX	256  /* bytes of a model's name, with its NUL */

struct probe_names { /* of models */
	/* NULL: not asked this time, nothing new, or the engine does not say; empty is not NULL */
	char **list;
	char **entries; /* what the engine says of each, one line of JSON; an element may be NULL */
	size_t n;
};

struct probe_result { /* valid during the call */
	enum probe_reason reason;
	uint32_t rtt_us, ttfb_ms;
	struct probe_names models, loaded; /* that the node has, and has in memory */
	int status;			   /* HTTP status, 0 if none */
};

struct prober;

typedef void (*probe_note)(void *arg, size_t endpoint, const struct probe_result *result);

/* Starts probing the endpoints of `model` (not kept). NULL with errno. */
struct prober *prober_new(uv_loop_t *loop, const struct model *model, probe_note note, void *arg);
/*
 * Asks this endpoint at once, in the next turn of the loop; a question under way is dropped, its
 * answer may be older than what is asked for. Not from within `note`.
 */
void probe_now(struct prober *prober, size_t endpoint);
/* Stops; no more results after it returns. The memory goes when the loop has closed the handles. */
void prober_free(struct prober *prober);

#endif
