/* SPDX-License-Identifier: MIT */
#include "proxy/view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/choose.h"

void view_fini(struct view *view)
{
	plan_free(view->plan);
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

int view_set_plan(struct view *view, struct plan *plan, size_t **moved)
{
	struct view fresh = {
		.plan = plan,
		.nodes = calloc(plan->n_endpoints + 1, sizeof(*fresh.nodes)),
		.live = calloc(plan->n_endpoints + 1, sizeof(*fresh.live)),
		.skip = calloc(plan->n_endpoints + 1, sizeof(*fresh.skip)),
	};

	*moved = view->plan ? view_moves(view->plan, plan) : NULL;
	if (!fresh.nodes || !fresh.live || !fresh.skip || (view->plan && !*moved)) {
		fresh.plan = NULL;
		view_fini(&fresh);
		free(*moved);
		*moved = NULL;
		return -ENOMEM;
	}
	for (size_t i = 0; i < plan->n_endpoints; i++)
		plan_fill_node(&plan->endpoints[i], &fresh.nodes[choose_slot(i)]);
	if (view->plan)
		view_carry(&fresh, view, *moved);
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
	if (view_knows(view, endpoint))
		view->live[endpoint].suspect_until_ms = now_ms + VIEW_SUSPECT_MS;
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

/* Marks the members of the row that are under suspicion, or takes the marks off. */
static void view_mark_suspects(struct view *view, const struct plan_row *row, uint64_t now_ms,
			       bool skip)
{
	for (size_t t = 0; t < row->n_tiers; t++) {
		const struct plan_tier *tier = &row->tiers[t];

		for (size_t i = 0; i < tier->n_endpoints; i++) {
			if (view->live[tier->endpoints[i]].suspect_until_ms > now_ms)
				view->skip[tier->endpoints[i]] = skip;
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

enum view_answer view_pick(struct view *view, const struct plan_row *row, uint32_t hash,
			   uint64_t now_ms, const size_t *tried, size_t n_tried, size_t *endpoint)
{
	enum view_answer answer = VIEW_TAKEN;

	view_mark_suspects(view, row, now_ms, true);
	view_mark(view, tried, n_tried, true);
	*endpoint = choose_except(view->plan, row, view->nodes, hash, view->skip, NULL);
	view_mark_suspects(view, row, now_ms, false);
	view_mark(view, tried, n_tried, true); /* some were suspects as well */
	if (*endpoint == CHOOSE_NONE)
		*endpoint = choose_except(view->plan, row, view->nodes, hash, view->skip, NULL);
	if (*endpoint == CHOOSE_NONE)
		answer = view_full(view, row) ? VIEW_FULL : VIEW_NOBODY;
	view_mark(view, tried, n_tried, false);
	return answer;
}
