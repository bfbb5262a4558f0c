/* SPDX-License-Identifier: MIT */
/*
 * What a client's model name means: an ordered list of targets, each with the endpoints that may
 * serve it and the name to ask them for. Pure; a cache over one plan and its catalog, made anew
 * with each plan. Which endpoint of a target takes a request is choose.h's business.
 *
 * A name is, in this order: an alias; a model that some node has; PERSONA/MODEL. Of a target's
 * persona those endpoints count whose engine is one for language models and that have the model, or
 * have not said what they have; behind them, as further tiers, the same of the personas it cascades
 * to.
 */
#ifndef CORE_ROUTE_H
#define CORE_ROUTE_H

#include "core/catalog.h"
#include "core/plan.h"

/* Sets of engines, by enum engine. */
#define ROUTE_ENGINE(engine) (1u << (engine))
#define ROUTE_LLM \
	(ROUTE_ENGINE(ENGINE_OLLAMA) | ROUTE_ENGINE(ENGINE_LLAMACPP) | ROUTE_ENGINE(ENGINE_VLLM) | \
	 ROUTE_ENGINE(ENGINE_SGLANG) | ROUTE_ENGINE(ENGINE_OPENAI))

struct route_target {
	char *model;	     /* name to ask for; NULL: as the client sent it */
	struct plan_row row; /* persona and tiers; its other members mean nothing */
};

struct route {
	char *name;    /* what clients wait for in one line: the alias, or the model */
	bool session;  /* requests of one session stay together */
	bool by_model; /* no alias */
	struct route_target *targets;
	size_t n_targets;
	unsigned queued; /* the caller's: how many wait for it */
	struct route *next;
};

struct routes {
	const struct plan *plan; /* neither is owned */
	const struct catalog *catalog;
	struct route *list;
	struct route_name **names; /* what clients have sent → route */
	size_t n_names;
	size_t n_guessed; /* routes of PERSONA/MODEL */
};

/* Both must outlive it. 0 or -ENOMEM. */
int routes_init(struct routes *routes, const struct plan *plan, const struct catalog *catalog);
void routes_fini(struct routes *routes);

/* NULL with errno: ENOENT nobody knows the name; ENOMEM, also after thousands of PERSONA/MODEL. The
 * route lives until routes_fini(). */
struct route *routes_find(struct routes *routes, const char *name);

/* The route of every Ollama endpoint, for questions that any of them answers. NULL: ENOMEM. */
struct route *routes_any(struct routes *routes, uint32_t engines);

/*
 * The name by which to ask this endpoint: its own spelling, unless it is Ollama, which takes them
 * all. `sent`: what the client sent. Equal to `sent` when nothing has to be replaced.
 */
const char *route_spelling(const struct routes *routes, const struct route *route,
			   const struct route_target *target, uint32_t endpoint, const char *sent);

/* The persona that an endpoint of a row is taken for. "" when it is not in it. */
const char *route_persona(const struct plan_row *row, uint32_t endpoint);

/* Is an endpoint of this row, up or down, of one of these engines? */
bool route_speaks(const struct plan *plan, const struct plan_row *row, uint32_t engines);

/* Is the service of this row spoken in HTTP (else it is carried on as bytes)? */
bool route_is_http(const struct plan *plan, const struct plan_row *row);

#endif
