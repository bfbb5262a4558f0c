/* SPDX-License-Identifier: MIT */
#include "proxy/view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "core/choose.h"

void view_fini(struct view *view)
{
	routes_fini(&view->routes);
	plan_free(view->plan);
	catalog_free(view->catalog);
	keys_free(view->keys);
	free(view->ids);
	free(view->nodes);
	free(view->live);
	free(view->skip);
	memset(view, 0, sizeof(*view));
}

/* Order of names; the address is compared apart, since a node of another address is another node.
 */
static int view_compare(const void *a, const void *b)
{
	const struct plan_endpoint *left = *(const struct plan_endpoint *const *)a;
	const struct plan_endpoint *right = *(const struct plan_endpoint *const *)b;
	int order = strcmp(left->node, right->node);

	return order ? order : strcmp(left->service, right->service);
}

static size_t view_find(const struct plan *plan, const struct plan_endpoint **sorted,
			const struct plan_endpoint *wanted)
{
	const struct plan_endpoint **found;

	found = bsearch(&wanted, sorted, plan->n_endpoints, sizeof(*sorted), view_compare);
	if (!found || (*found)->port != wanted->port || !addr_equal(&(*found)->addr, &wanted->addr))
		return VIEW_GONE;
	return (size_t)(*found - plan->endpoints);
}

/* For each endpoint of `from` its index in `to`. NULL on lack of memory. */
static size_t *view_moves(const struct plan *from, const struct plan *to)
{
	const struct plan_endpoint **sorted = malloc((to->n_endpoints + 1) * sizeof(*sorted));
	size_t *moved = malloc((from->n_endpoints + 1) * sizeof(*moved));

	if (!sorted || !moved) {
		free(sorted);
		free(moved);
		return NULL;
	}
	for (size_t i = 0; i < to->n_endpoints; i++)
		sorted[i] = &to->endpoints[i];
	qsort(sorted, to->n_endpoints, sizeof(*sorted), view_compare);
	for (size_t i = 0; i < from->n_endpoints; i++)
		moved[i] = view_find(to, sorted, &from->endpoints[i]);
	free(sorted);
	return moved;
}

static void view_carry(struct view *to, const struct view *from, const size_t *moved)
{
	for (size_t i = 0; i < from->plan->n_endpoints; i++) {
		const struct mg_node *old = &from->nodes[choose_slot(i)];
		struct mg_node *node;

		if (moved[i] == VIEW_GONE)
			continue;
		node = &to->nodes[choose_slot(moved[i])];
		node->busy = old->busy;
		node->connections = old->connections;
		node->relayed = old->relayed;
		to->live[moved[i]] = from->live[i];
	}
}

uint32_t view_hash(uint32_t seed, const void *data, size_t len)
{
	const unsigned char *bytes = data;
	uint32_t hash = seed;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ bytes[i]) * 0x01000193u;
	hash ^= hash >> 15;
	hash *= 0x2c1b3c6du;
	return hash ^ (hash >> 12);
}

static int view_alloc(struct view *view)
{
	size_t n = view->plan->n_endpoints + 1;

	view->nodes = calloc(n, sizeof(*view->nodes));
	view->live = calloc(n, sizeof(*view->live));
	view->skip = calloc(n, sizeof(*view->skip));
	view->ids = calloc(n, sizeof(*view->ids));
	if (!view->nodes || !view->live || !view->skip || !view->ids)
		return -ENOMEM;
	return view->catalog ? routes_init(&view->routes, view->plan, view->catalog) : 0;
}

static void view_fill(struct view *view)
{
	for (size_t i = 0; i < view->plan->n_endpoints; i++) {
		const struct plan_endpoint *from = &view->plan->endpoints[i];
		uint32_t id = view_hash(1, from->node, strlen(from->node));

		view->ids[i] = view_hash(id, from->service, strlen(from->service));
		plan_fill_node(from, &view->nodes[choose_slot(i)]);
	}
}

int view_set_plan(struct view *view, struct plan *plan, struct catalog *catalog, struct keys *keys,
		  size_t **moved)
{
	struct view fresh = {.plan = plan, .catalog = catalog, .keys = keys};
	int error = view_alloc(&fresh);

	*moved = NULL;
	if (!error && view->plan) {
		*moved = view_moves(view->plan, plan);
		error = *moved ? 0 : -ENOMEM;
	}
	if (error) {
		fresh.plan = NULL;
		fresh.catalog = NULL;
		fresh.keys = NULL;
		view_fini(&fresh);
		return error;
	}
	view_fill(&fresh);
	if (view->plan)
		view_carry(&fresh, view, *moved);
	fresh.load_ms = view->load_ms;
	view_fini(view);
	*view = fresh;
	return 0;
}

const struct plan_row *view_row(const struct view *view, uint16_t port)
{
	for (size_t i = 0; view->plan && i < view->plan->n_rows; i++) {
		if (view->plan->rows[i].port == port)
			return &view->plan->rows[i];
	}
	return NULL;
}

static void view_recount(struct view *view, size_t endpoint)
{
	const struct view_live *live = &view->live[endpoint];

	view->nodes[choose_slot(endpoint)].connections = live->kernel + live->open;
}

static bool view_knows(const struct view *view, size_t endpoint)
{
	return view->plan && endpoint < view->plan->n_endpoints;
}

void view_set_load(struct view *view, size_t endpoint, uint32_t busy, uint32_t connections)
{
	if (!view_knows(view, endpoint))
		return;
	view->nodes[choose_slot(endpoint)].busy = busy;
	view->live[endpoint].kernel = connections;
	view_recount(view, endpoint);
}

void view_count_open(struct view *view, size_t endpoint, int by)
{
	if (!view_knows(view, endpoint))
		return;
	view->live[endpoint].open += (uint32_t)by;
	view_recount(view, endpoint);
}

void view_count_busy(struct view *view, size_t endpoint, int by)
{
	if (view_knows(view, endpoint))
		view->nodes[choose_slot(endpoint)].relayed += (uint32_t)by;
}

void view_suspect(struct view *view, size_t endpoint, uint64_t now_ms)
{
	if (!view_knows(view, endpoint))
		return;
	view->live[endpoint].suspect_until_ms = now_ms + VIEW_SUSPECT_MS;
	view->live[endpoint].return_until_ms = now_ms + VIEW_RETURN_MS;
}

void view_trust(struct view *view, size_t endpoint)
{
	if (view_knows(view, endpoint))
		view->live[endpoint].suspect_until_ms = 0;
}

static void view_mark(struct view *view, const size_t *tried, size_t n_tried, bool skip)
{
	for (size_t i = 0; i < n_tried; i++) {
		if (view_knows(view, tried[i]))
			view->skip[tried[i]] = skip;
	}
}

/* Marks the members of the row that are not to be asked, or takes all marks off. */
static void view_mark_row(struct view *view, const struct view_ask *ask, bool suspects, bool skip)
{
	const struct plan_row *row = ask->row;

	for (size_t t = 0; t < row->n_tiers; t++) {
		const struct plan_tier *tier = &row->tiers[t];

		for (size_t i = 0; i < tier->n_endpoints; i++) {
			uint32_t endpoint = tier->endpoints[i];
			enum engine engine = view->plan->endpoints[endpoint].engine;

			if (!skip || (ask->engines && !(ask->engines & ROUTE_ENGINE(engine))) ||
			    (suspects && view->live[endpoint].suspect_until_ms > ask->now_ms))
				view->skip[endpoint] = skip;
		}
	}
}

/* Is somebody up who only lacks room, and whom this connection has not tried? */
static bool view_full(const struct view *view, const struct plan_row *row)
{
	for (size_t t = 0; t < row->n_tiers; t++) {
		const struct plan_tier *tier = &row->tiers[t];

		for (size_t i = 0; i < tier->n_endpoints; i++) {
			if (!view->skip[tier->endpoints[i]] &&
			    choose_judge(view->nodes, tier->endpoints[i]) == CHOOSE_FULL)
				return true;
		}
	}
	return false;
}

/* Is somebody down only because we have just seen it fail? Its probe is under way. */
static bool view_returning(const struct view *view, const struct view_ask *ask)
{
	const struct plan_row *row = ask->row;

	for (size_t t = 0; t < row->n_tiers; t++) {
		for (size_t i = 0; i < row->tiers[t].n_endpoints; i++) {
			uint32_t endpoint = row->tiers[t].endpoints[i];

			if (!view->skip[endpoint] &&
			    choose_judge(view->nodes, endpoint) == CHOOSE_DOWN &&
			    view->live[endpoint].return_until_ms > ask->now_ms)
				return true;
		}
	}
	return false;
}

static size_t view_stick(const struct view *view, const struct plan_tier *tier, uint32_t hash)
{
	size_t best = CHOOSE_NONE;
	uint32_t best_score = 0;

	for (size_t i = 0; i < tier->n_endpoints; i++) {
		uint32_t endpoint = tier->endpoints[i];
		uint32_t score = view_hash(hash, &view->ids[endpoint], sizeof(uint32_t));

		if (view->skip[endpoint] || choose_judge(view->nodes, endpoint) != CHOOSE_OK ||
		    (best != CHOOSE_NONE && score <= best_score))
			continue;
		best = endpoint;
		best_score = score;
	}
	return best;
}

static size_t view_choose(const struct view *view, const struct view_ask *ask)
{
	size_t found = CHOOSE_NONE;

	if (!ask->sticky)
		return choose_except(view->plan, ask->row, view->nodes, ask->hash, view->skip,
				     NULL);
	for (size_t t = 0; t < ask->row->n_tiers && found == CHOOSE_NONE; t++)
		found = view_stick(view, &ask->row->tiers[t], ask->hash);
	return found;
}

enum view_answer view_pick(struct view *view, const struct view_ask *ask, size_t *endpoint)
{
	enum view_answer answer = VIEW_TAKEN;

	view_mark_row(view, ask, true, true);
	view_mark(view, ask->tried, ask->n_tried, true);
	*endpoint = view_choose(view, ask);
	if (*endpoint == CHOOSE_NONE) {
		view_mark_row(view, ask, false, false);
		view_mark_row(view, ask, false, true);
		view_mark(view, ask->tried, ask->n_tried, true);
		*endpoint = view_choose(view, ask);
	}
	if (*endpoint == CHOOSE_NONE)
		answer = view_full(view, ask->row) || view_returning(view, ask) ? VIEW_FULL
										: VIEW_NOBODY;
	view_mark(view, ask->tried, ask->n_tried, false);
	view_mark_row(view, ask, false, false);
	return answer;
}

const char *view_persona(const struct view *view, size_t endpoint)
{
	for (size_t t = 0; view->plan && t < MG_TIERS_MAX; t++) {
		for (size_t i = 0; i < view->plan->n_rows; i++) {
			const struct plan_row *row = &view->plan->rows[i];

			for (size_t k = 0; t < row->n_tiers && k < row->tiers[t].n_endpoints; k++) {
				if (row->tiers[t].endpoints[k] == endpoint)
					return row->tiers[t].persona;
			}
		}
	}
	return "";
}

bool view_report(const struct view *view, struct json_writer *w)
{
	if (!view->plan)
		return false;
	json_pair_int(w, "pid", getpid());
	json_pair_int(w, "plan_version", (int64_t)view->plan->version);
	json_name(w, "busy");
	json_begin(w, '[');
	for (size_t i = 0; i < view->plan->n_endpoints; i++)
		json_put_int(w, view->nodes[choose_slot(i)].relayed);
	json_end(w, ']');
	return true;
}
