/* SPDX-License-Identifier: MIT */
#include "core/route.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_SLOTS 256
#define NAMES_MAX   4096 /* spellings remembered; then they are forgotten, all at once */
#define GUESSED_MAX 4096 /* routes of PERSONA/MODEL: where a node has not said, any will do */

struct route_name {
	struct route *route;
	struct route_name *next;
	char text[];
};

int routes_init(struct routes *routes, const struct plan *plan, const struct catalog *catalog)
{
	*routes = (struct routes){.plan = plan, .catalog = catalog};
	routes->names = calloc(NAMES_SLOTS, sizeof(struct route_name *));
	return routes->names ? 0 : -ENOMEM;
}

static void row_fini(struct plan_row *row)
{
	for (size_t i = 0; i < row->n_tiers; i++)
		free(row->tiers[i].endpoints);
	free(row->tiers);
}

static void route_free(struct route *route)
{
	for (size_t i = 0; i < route->n_targets; i++) {
		row_fini(&route->targets[i].row);
		free(route->targets[i].model);
	}
	free(route->targets);
	free(route->name);
	free(route);
}

static void names_forget(struct routes *routes)
{
	for (size_t i = 0; routes->names && i < NAMES_SLOTS; i++) {
		while (routes->names[i]) {
			struct route_name *name = routes->names[i];

			routes->names[i] = name->next;
			free(name);
		}
	}
	routes->n_names = 0;
}

void routes_fini(struct routes *routes)
{
	while (routes->list) {
		struct route *route = routes->list;

		routes->list = route->next;
		route_free(route);
	}
	names_forget(routes);
	free(routes->names);
	memset(routes, 0, sizeof(*routes));
}

/* ---- which endpoints ---- */

static bool model_has(const struct catalog_model *model, uint32_t endpoint)
{
	size_t low = 0, high = model->n_has;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (model->has[middle] < endpoint)
			low = middle + 1;
		else
			high = middle;
	}
	return low < model->n_has && model->has[low] == endpoint;
}

/* The entry by which the endpoint has a model of that name, the one of that very spelling if there
 * are two; NULL: it has none. */
static const struct catalog_model *entry_of(const struct catalog *catalog, uint32_t endpoint,
					    const char *name)
{
	const struct catalog_model *found = NULL;

	for (size_t i = 0; i < catalog->n_models; i++) {
		const struct catalog_model *model = &catalog->models[i];

		if (!catalog_name_equal(model->name, name) || !model_has(model, endpoint))
			continue;
		if (!strcmp(model->name, name))
			return model;
		if (!found)
			found = model;
	}
	return found;
}

struct wanted { /* of an endpoint */
	const struct routes *routes;
	uint32_t engines;
	const char *model; /* NULL: any */
	bool known_only;   /* only one that says it has it */
};

static bool is_wanted(const struct wanted *wanted, uint32_t endpoint)
{
	const struct catalog *catalog = wanted->routes->catalog;

	if (!(wanted->engines & ROUTE_ENGINE(wanted->routes->plan->endpoints[endpoint].engine)))
		return false;
	if (!wanted->model)
		return true;
	if (!wanted->known_only && (endpoint >= catalog->n_endpoints || !catalog->said[endpoint]))
		return true;
	return entry_of(catalog, endpoint, wanted->model) != NULL;
}

static bool tier_holds(const struct plan_tier *tier, uint32_t endpoint)
{
	for (size_t i = 0; i < tier->n_endpoints; i++) {
		if (tier->endpoints[i] == endpoint)
			return true;
	}
	return false;
}

static bool row_holds(const struct plan_row *row, uint32_t endpoint)
{
	for (size_t i = 0; i < row->n_tiers; i++) {
		if (tier_holds(&row->tiers[i], endpoint))
			return true;
	}
	return false;
}

static int tier_add(struct plan_tier *tier, uint32_t endpoint)
{
	size_t n = tier->n_endpoints;
	uint32_t *list;

	if (!(n & (n - 1))) { /* full at each power of two */
		list = realloc(tier->endpoints, (n ? 2 * n : 1) * sizeof(*list));
		if (!list)
			return -ENOMEM;
		tier->endpoints = list;
	}
	tier->endpoints[tier->n_endpoints++] = endpoint;
	return 0;
}

/* The tier of that persona, made when there is none yet. NULL: no memory, or no more fit. */
static struct plan_tier *tier_of(struct plan_row *row, const char *persona)
{
	struct plan_tier *tiers;

	for (size_t i = 0; i < row->n_tiers; i++) {
		if (!strcmp(row->tiers[i].persona, persona))
			return &row->tiers[i];
	}
	tiers = realloc(row->tiers, (row->n_tiers + 1) * sizeof(*tiers));
	if (!tiers)
		return NULL;
	row->tiers = tiers;
	tiers[row->n_tiers] = (struct plan_tier){.endpoints = NULL};
	memcpy(tiers[row->n_tiers].persona, persona, MG_NAME_MAX);
	return &tiers[row->n_tiers++];
}

static int add_tier(struct plan_row *row, const struct plan_tier *from, const char *persona,
		    const struct wanted *wanted)
{
	struct plan_tier *tier = NULL;

	for (size_t i = 0; i < from->n_endpoints; i++) {
		uint32_t endpoint = from->endpoints[i];

		if (!is_wanted(wanted, endpoint) || row_holds(row, endpoint))
			continue;
		if (!tier)
			tier = tier_of(row, persona);
		if (!tier || tier_add(tier, endpoint))
			return -ENOMEM;
	}
	return 0;
}

/* Adds what the listeners of one persona have: its own endpoints first, then its cascade. */
static int add_persona(struct plan_row *row, const char *persona, const struct wanted *wanted)
{
	const struct plan *plan = wanted->routes->plan;

	for (size_t t = 0; t < MG_TIERS_MAX; t++) {
		for (size_t i = 0; i < plan->n_rows; i++) {
			const struct plan_row *from = &plan->rows[i];

			if (t < from->n_tiers && !strcmp(from->persona, persona) &&
			    add_tier(row, &from->tiers[t], from->tiers[t].persona, wanted))
				return -ENOMEM;
		}
	}
	return 0;
}

/* All endpoints of all personas, in one tier: the least loaded takes it, whosever it is. */
static int add_everybody(struct plan_row *row, const struct wanted *wanted)
{
	const struct plan *plan = wanted->routes->plan;
	static const char nobody[MG_NAME_MAX];

	for (size_t t = 0; t < MG_TIERS_MAX; t++) {
		for (size_t i = 0; i < plan->n_rows; i++) {
			const struct plan_row *from = &plan->rows[i];

			if (t < from->n_tiers && add_tier(row, &from->tiers[t], nobody, wanted))
				return -ENOMEM;
		}
	}
	return 0;
}

/* ---- routes ---- */

/* NULL: no memory. */
static struct route *route_new(const char *name, size_t n_targets)
{
	struct route *route = calloc(1, sizeof(*route));

	if (!route)
		return NULL;
	route->name = strdup(name);
	route->targets = calloc(n_targets + 1, sizeof(*route->targets));
	if (route->name && route->targets)
		return route;
	route_free(route);
	return NULL;
}

static int set_target(struct route *route, const char *persona, const char *model,
		      const struct wanted *wanted)
{
	struct route_target *target = &route->targets[route->n_targets++];

	memcpy(target->row.persona, persona, strnlen(persona, MG_NAME_MAX - 1));
	if (model && !(target->model = strdup(model)))
		return -ENOMEM;
	return *persona ? add_persona(&target->row, persona, wanted)
			: add_everybody(&target->row, wanted);
}

static struct route *build_alias(struct routes *routes, const struct catalog_alias *alias,
				 const char *sent)
{
	struct route *route = route_new(alias->name, alias->n_targets);

	if (!route)
		return NULL;
	route->session = alias->session;
	for (size_t i = 0; i < alias->n_targets; i++) {
		const struct catalog_target *from = &alias->targets[i];
		const struct wanted wanted = {
			.routes = routes,
			.engines = ROUTE_LLM,
			.model = from->model ? from->model : sent,
		};

		if (set_target(route, from->persona, from->model, &wanted)) {
			route_free(route);
			return NULL;
		}
	}
	return route;
}

/* `persona` empty: of whichever persona. */
static struct route *build_model(struct routes *routes, const char *name, const char *persona,
				 const char *model)
{
	const struct wanted wanted = {
		.routes = routes,
		.engines = ROUTE_LLM,
		.model = model,
		.known_only = !*persona,
	};
	struct route *route = route_new(name, 1);

	if (!route)
		return NULL;
	route->by_model = true;
	if (!set_target(route, persona, model, &wanted))
		return route;
	route_free(route);
	return NULL;
}

static const struct catalog_alias *find_alias(const struct catalog *catalog, const char *name)
{
	for (size_t i = 0; i < catalog->n_aliases; i++) {
		if (catalog_name_equal(catalog->aliases[i].name, name))
			return &catalog->aliases[i];
	}
	return NULL;
}

static const struct catalog_model *find_model(const struct catalog *catalog, const char *name)
{
	for (size_t i = 0; i < catalog->n_models; i++) {
		if (catalog->models[i].n_has && catalog_name_equal(catalog->models[i].name, name))
			return &catalog->models[i];
	}
	return NULL;
}

/* "PERSONA/MODEL": copies the persona; returns the model, or NULL when it is nothing of the kind.
 */
static const char *split_persona(const struct plan *plan, const char *name,
				 char persona[MG_NAME_MAX])
{
	const char *slash = strchr(name, '/');
	size_t len = slash ? (size_t)(slash - name) : 0;

	if (!len || len >= MG_NAME_MAX || !slash[1])
		return NULL;
	memset(persona, 0, MG_NAME_MAX);
	memcpy(persona, name, len);
	for (size_t i = 0; i < plan->n_rows; i++) {
		if (!strcmp(plan->rows[i].persona, persona))
			return slash + 1;
	}
	return NULL;
}

/* The route that `name` has already under another spelling; NULL: none. */
static struct route *find_built(const struct routes *routes, const char *name)
{
	for (struct route *route = routes->list; route; route = route->next) {
		if (*route->name && catalog_name_equal(route->name, name))
			return route;
	}
	return NULL;
}

static bool nobody_in(const struct route *route)
{
	for (size_t i = 0; i < route->n_targets; i++) {
		if (route->targets[i].row.n_tiers)
			return false;
	}
	return true;
}

/* "PERSONA/MODEL" wants it of that persona; whom that cascades to only helps out. */
static bool lacks_own(const struct route *route)
{
	const struct plan_row *row = &route->targets[0].row;

	return *row->persona && strcmp(row->tiers[0].persona, row->persona) != 0;
}

/* NULL with errno: ENOENT when nobody could ever answer. */
static struct route *if_useful(struct route *route)
{
	if (!route) {
		errno = ENOMEM;
		return NULL;
	}
	if (!nobody_in(route) && !lacks_own(route))
		return route;
	route_free(route);
	errno = ENOENT;
	return NULL;
}

/* "PERSONA/MODEL". A client may think of any number of them, so there is an end. */
static struct route *build_guessed(struct routes *routes, const char *name)
{
	char persona[MG_NAME_MAX];
	const char *model = split_persona(routes->plan, name, persona);
	struct route *route;

	if (!model) {
		errno = ENOENT;
		return NULL;
	}
	if (routes->n_guessed == GUESSED_MAX) {
		errno = ENOMEM;
		return NULL;
	}
	route = if_useful(build_model(routes, name, persona, model));
	if (route)
		routes->n_guessed++;
	return route;
}

/* NULL with errno. */
static struct route *build(struct routes *routes, const char *name)
{
	const struct catalog_alias *alias = find_alias(routes->catalog, name);
	struct route *route = NULL;

	errno = ENOMEM;
	if (alias)
		return build_alias(routes, alias, name);
	errno = ENOENT;
	if (find_model(routes->catalog, name))
		route = if_useful(build_model(routes, name, "", name));
	return route || errno == ENOMEM ? route : build_guessed(routes, name);
}

static size_t slot_of_name(const char *name)
{
	uint32_t hash = 0x811c9dc5u;

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * 0x01000193u;
	return (hash ^ hash >> 16) % NAMES_SLOTS;
}

/* Not being able to remember is no failure. */
static void remember(struct routes *routes, const char *name, struct route *route)
{
	size_t size = strlen(name) + 1, slot = slot_of_name(name);
	struct route_name *entry;

	if (routes->n_names == NAMES_MAX)
		names_forget(routes);
	entry = malloc(sizeof(*entry) + size);
	if (!entry)
		return;
	memcpy(entry->text, name, size);
	entry->route = route;
	entry->next = routes->names[slot];
	routes->names[slot] = entry;
	routes->n_names++;
}

struct route *routes_find(struct routes *routes, const char *name)
{
	struct route *route;

	for (struct route_name *entry = routes->names[slot_of_name(name)]; entry;
	     entry = entry->next) {
		if (!strcmp(entry->text, name))
			return entry->route;
	}
	route = find_built(routes, name);
	if (!route) {
		route = build(routes, name);
		if (!route)
			return NULL;
		route->next = routes->list;
		routes->list = route;
	}
	remember(routes, name, route);
	return route;
}

struct route *routes_any(struct routes *routes, uint32_t engines)
{
	const struct wanted wanted = {.routes = routes, .engines = engines};
	struct route *route = routes->list;

	while (route && *route->name)
		route = route->next;
	if (route)
		return route;
	route = route_new("", 1);
	if (!route || set_target(route, "", NULL, &wanted)) {
		if (route)
			route_free(route);
		errno = ENOMEM;
		return NULL;
	}
	route->next = routes->list;
	routes->list = route;
	return route;
}

const char *route_spelling(const struct routes *routes, const struct route *route,
			   const struct route_target *target, uint32_t endpoint, const char *sent)
{
	const char *wanted = target->model ? target->model : sent;
	const struct catalog_model *own = entry_of(routes->catalog, endpoint, wanted);
	bool both = routes->plan->endpoints[endpoint].engine == ENGINE_OLLAMA;

	if (!own)
		return wanted;
	if (both && catalog_name_equal(own->name, sent))
		return sent; /* to Ollama both spellings are one name */
	return both && !route->by_model ? wanted : own->name;
}

const char *route_persona(const struct plan_row *row, uint32_t endpoint)
{
	for (size_t i = 0; i < row->n_tiers; i++) {
		if (tier_holds(&row->tiers[i], endpoint))
			return row->tiers[i].persona;
	}
	return "";
}

bool route_speaks(const struct plan *plan, const struct plan_row *row, uint32_t engines)
{
	for (size_t t = 0; t < row->n_tiers; t++) {
		for (size_t i = 0; i < row->tiers[t].n_endpoints; i++) {
			uint32_t endpoint = row->tiers[t].endpoints[i];

			if (engines & ROUTE_ENGINE(plan->endpoints[endpoint].engine))
				return true;
		}
	}
	return false;
}

bool route_is_http(const struct plan *plan, const struct plan_row *row)
{
	const uint32_t raw = ROUTE_ENGINE(ENGINE_TCP) | ROUTE_ENGINE(ENGINE_WYOMING);

	return row->n_tiers && row->tiers[0].n_endpoints && !route_speaks(plan, row, raw);
}
