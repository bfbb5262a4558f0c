/* SPDX-License-Identifier: MIT */
#include "core/choose.h"

#include "megalith/pick.h"

struct view { /* what pick.h is shown */
	const struct mg_node *nodes;
	const bool *skip; /* by endpoint, or NULL */
};

static inline __attribute__((always_inline)) const struct mg_node *pick_node(const void *nodes,
									     __u32 slot)
{
	const struct view *view = nodes;

	if (!slot || (view->skip && view->skip[slot - 1]))
		return NULL;
	return &view->nodes[slot];
}

_Static_assert((int)CHOOSE_OK == (int)PICK_OK && (int)CHOOSE_NOBODY == (int)PICK_NOBODY &&
		       (int)CHOOSE_DOWN == (int)PICK_DOWN &&
		       (int)CHOOSE_DRAINING == (int)PICK_DRAINING &&
		       (int)CHOOSE_WEIGHT_ZERO == (int)PICK_WEIGHT_ZERO &&
		       (int)CHOOSE_FULL == (int)PICK_FULL && (int)CHOOSE_NO_HOP == (int)PICK_NO_HOP,
	       "the verdicts are those of pick.h");

enum choose_verdict choose_judge(const struct mg_node *nodes, size_t endpoint)
{
	return (enum choose_verdict)pick_judge(&nodes[choose_slot(endpoint)], 0);
}

static size_t choose_from(const struct plan *plan, const struct plan_row *row,
			  const struct view *view, uint32_t hash, int hops, size_t *tier)
{
	uint16_t list[MG_ROW_MAX];
	struct pick_walk walk;
	struct mg_row packed;
	struct pick pick;

	plan_fill_row(plan, row, NULL, &packed, list);
	pick = pick_row(&packed, list, MG_ROW_MAX, view, hash, hops, 0, &walk);
	if (!pick.slot)
		return CHOOSE_NONE;
	if (tier)
		*tier = pick.tier;
	return pick.slot - 1;
}

size_t choose(const struct plan *plan, const struct plan_row *row, const struct mg_node *nodes,
	      uint32_t hash, size_t *tier)
{
	return choose_except(plan, row, nodes, hash, NULL, tier);
}

size_t choose_except(const struct plan *plan, const struct plan_row *row,
		     const struct mg_node *nodes, uint32_t hash, const bool *skip, size_t *tier)
{
	const struct view view = {nodes, skip};

	return choose_from(plan, row, &view, hash, 0, tier);
}

size_t choose_hop(const struct plan *plan, const struct plan_row *row, const struct mg_node *nodes,
		  uint32_t hash, size_t *tier)
{
	const struct view view = {nodes, NULL};

	return choose_from(plan, row, &view, hash, 1, tier);
}
