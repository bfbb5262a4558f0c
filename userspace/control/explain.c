/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "control/explain.h"
#include "core/catalog.h"
#include "core/choose.h"
#include "core/explain.h"

struct asked { /* one set of candidates to look at; the first with a taker wins */
	const struct plan_row *row;
	struct plan_row *made; /* the row, when it is no listener's; owned */
	const char *model;     /* only nodes that have it; NULL: any */
};

struct question {
	const struct state *state;
	struct asked *asked;
	size_t n_asked, max_asked;
	struct mg_node *nodes;
	uint32_t hash;
	bool hops, no_memory;
};

/* FNV-1a; the kernel's hash is keyed with a secret, so ties may fall otherwise there. */
static uint32_t client_hash(const struct addr *client)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; client && i < sizeof(client->bytes); i++)
		hash = (hash ^ client->bytes[i]) * 16777619u;
	return hash;
}

static bool has_model(const struct state *state, size_t endpoint, const char *model)
{
	const struct names *models = &state->known[endpoint].models;

	for (size_t i = 0; i < models->n; i++)
		if (catalog_name_equal(models->list[i], model))
			return true;
	return false;
}

/* A node that has never said what it has may have it. */
static bool lacks_model(const struct state *state, size_t endpoint, const char *model)
{
	return model && state->known[endpoint].models.list && !has_model(state, endpoint, model);
}

/* Of those the router can ask for a model. */
static bool speaks_models(const struct plan *plan, size_t endpoint)
{
	return plan->endpoints[endpoint].engine <= ENGINE_OPENAI;
}

static bool is_persona(const char *name, const char *persona, size_t len)
{
	return strlen(name) == len && memcmp(name, persona, len) == 0;
}

/* --- rows that are no listener's: what the router chooses from for a model --- */

static void made_free(struct plan_row *row)
{
	for (size_t t = 0; row && row->tiers && t < row->n_tiers; t++)
		free(row->tiers[t].endpoints);
	if (row)
		free(row->tiers);
	free(row);
}

static struct plan_row *made_new(const struct plan *plan, size_t n_tiers)
{
	struct plan_row *row = calloc(1, sizeof(*row));

	if (!row)
		return NULL;
	row->tiers = calloc(n_tiers, sizeof(*row->tiers));
	row->n_tiers = n_tiers;
	for (size_t t = 0; row->tiers && t < n_tiers; t++) {
		row->tiers[t].endpoints = calloc(plan->n_endpoints + 1, sizeof(uint32_t));
		if (!row->tiers[t].endpoints)
			goto fail;
	}
	if (row->tiers)
		return row;
fail:
	made_free(row);
	return NULL;
}

/* The endpoints of `from` that can be asked for models, each once in a row. */
static void made_add(const struct plan *plan, struct plan_tier *to, const struct plan_tier *from,
		     bool *seen)
{
	for (size_t i = 0; i < from->n_endpoints; i++) {
		uint32_t endpoint = from->endpoints[i];

		if (seen[endpoint] || !speaks_models(plan, endpoint))
			continue;
		seen[endpoint] = true;
		to->endpoints[to->n_endpoints++] = endpoint;
	}
}

/* One level of the persona, over all its listeners. False: it does not go so deep. */
static bool made_level(const struct plan *plan, struct plan_tier *to, const char *persona,
		       size_t len, size_t level, bool *seen)
{
	bool any = false;

	for (size_t i = 0; i < plan->n_rows; i++) {
		const struct plan_row *from = &plan->rows[i];

		if (!is_persona(from->persona, persona, len) || level >= from->n_tiers)
			continue;
		memcpy(to->persona, from->tiers[level].persona, sizeof(to->persona));
		made_add(plan, to, &from->tiers[level], seen);
		any = true;
	}
	return any;
}

/* A persona's own endpoints, then those of each persona it cascades to. */
static struct plan_row *made_persona(const struct plan *plan, const char *persona, size_t len)
{
	struct plan_row *row = made_new(plan, MG_TIERS_MAX);
	bool *seen = calloc(plan->n_endpoints + 1, sizeof(*seen));
	size_t level = 0;

	if (!row || !seen) {
		made_free(row);
		free(seen);
		return NULL;
	}
	while (level < MG_TIERS_MAX &&
	       made_level(plan, &row->tiers[level], persona, len, level, seen))
		level++;
	for (size_t t = level; t < MG_TIERS_MAX; t++)
		free(row->tiers[t].endpoints);
	row->n_tiers = level;
	free(seen);
	return row;
}

/* Whoever has the model, in whatever persona. */
static struct plan_row *made_model(const struct state *state, const char *model)
{
	const struct plan *plan = state->plan;
	struct plan_row *row = made_new(plan, 1);
	bool *seen = calloc(plan->n_endpoints + 1, sizeof(*seen));
	struct plan_tier *to;

	if (!row || !seen) {
		made_free(row);
		free(seen);
		return NULL;
	}
	for (size_t i = 0; i < plan->n_endpoints; i++)
		seen[i] = !has_model(state, i, model);
	to = row->tiers;
	for (size_t t = 0; t < MG_TIERS_MAX; t++)
		for (size_t i = 0; i < plan->n_rows; i++)
			if (t < plan->rows[i].n_tiers)
				made_add(plan, to, &plan->rows[i].tiers[t], seen);
	free(seen);
	return row;
}

/* --- what is asked --- */

static void ask(struct question *question, const struct plan_row *row, struct plan_row *made,
		const char *model)
{
	if (question->n_asked < question->max_asked)
		question->asked[question->n_asked++] = (struct asked){row, made, model};
	else
		made_free(made);
}

/* Rows of the persona: the one of `service`, or its first (NULL). */
static void ask_persona(struct question *question, const char *persona, size_t persona_len,
			const char *service)
{
	const struct plan *plan = question->state->plan;

	for (size_t i = 0; i < plan->n_rows && question->n_asked == 0; i++) {
		const struct plan_row *row = &plan->rows[i];

		if (!is_persona(row->persona, persona, persona_len))
			continue;
		if (!service || strcmp(row->service, service) == 0)
			ask(question, row, NULL, NULL);
	}
}

/*
 * Of "PERSONA/MODEL" the persona's cascade only helps out: when nobody of its own has the model or
 * may have it, the router knows no such name, and only its own are worth showing.
 */
static void keep_own(const struct question *question, struct plan_row *row, const char *model)
{
	for (size_t i = 0; i < row->tiers[0].n_endpoints; i++) {
		if (!lacks_model(question->state, row->tiers[0].endpoints[i], model))
			return;
	}
	while (row->n_tiers > 1)
		free(row->tiers[--row->n_tiers].endpoints);
}

static void ask_model_of(struct question *question, const char *persona, size_t persona_len,
			 const char *model, bool of_alias)
{
	struct plan_row *row = made_persona(question->state->plan, persona, persona_len);

	if (!row) {
		question->no_memory = true;
		return;
	}
	if (!row->n_tiers) {
		made_free(row);
		return;
	}
	if (!of_alias)
		keep_own(question, row, model);
	ask(question, row, row, model);
}

/* False: there is none of that name. */
static bool ask_alias(struct question *question, const char *name)
{
	const struct model *model = question->state->model;

	for (size_t i = 0; i < model->n_aliases; i++) {
		const struct model_alias *alias = &model->aliases[i];

		if (!catalog_name_equal(alias->name, name))
			continue;
		for (size_t t = 0; t < alias->n_targets; t++) {
			const struct model_target *target = &alias->targets[t];
			const char *persona = model->personas[target->persona].name;

			ask_model_of(question, persona, strlen(persona),
				     target->model ? target->model : name, true);
		}
		return true;
	}
	return false;
}

static void ask_model(struct question *question, const char *model)
{
	struct plan_row *row = made_model(question->state, model);

	if (!row)
		question->no_memory = true;
	else if (row->tiers[0].n_endpoints)
		ask(question, row, row, model);
	else
		made_free(row);
}

/* What the target names: a persona's service; else as core/route.h has it. False: nothing. */
static bool understand(struct question *question, const char *target)
{
	const char *slash = strchr(target, '/');
	size_t len = slash ? (size_t)(slash - target) : strlen(target);

	ask_persona(question, target, len, slash ? slash + 1 : NULL);
	if (question->n_asked || ask_alias(question, target))
		return true;
	ask_model(question, target);
	if (!question->n_asked && slash && slash[1])
		ask_model_of(question, target, len, slash + 1, false);
	return question->n_asked > 0;
}

/* Whose the candidate is: of the tier, or for a model of any persona the first that has it. */
static const char *persona_of(const struct plan *plan, const struct asked *asked,
			      const struct explain_candidate *candidate)
{
	const struct plan_tier *tier = &asked->row->tiers[candidate->tier];

	if (*tier->persona)
		return tier->persona;
	for (size_t t = 0; t < MG_TIERS_MAX; t++)
		for (size_t i = 0; i < plan->n_rows; i++) {
			const struct plan_row *row = &plan->rows[i];

			for (size_t k = 0; t < row->n_tiers && k < row->tiers[t].n_endpoints; k++)
				if (row->tiers[t].endpoints[k] == candidate->endpoint)
					return row->tiers[t].persona;
		}
	return "";
}

static void candidate_put(struct json_writer *w, const struct question *question,
			  const struct asked *asked, const struct explain_candidate *candidate,
			  bool settled)
{
	const struct plan_endpoint *endpoint =
		&question->state->plan->endpoints[candidate->endpoint];
	bool lacks = lacks_model(question->state, candidate->endpoint, asked->model);
	bool late = settled && candidate->verdict == EXPLAIN_TAKEN;

	json_begin(w, '{');
	json_pair_string(w, "node", endpoint->node);
	json_pair_string(w, "persona", persona_of(question->state->plan, asked, candidate));
	json_pair_string(w, "service", endpoint->service);
	json_pair_string(w, "verdict",
			 explain_verdict_name(late ? EXPLAIN_POSSIBLE : candidate->verdict));
	if (lacks)
		json_pair_string(w, "reason", "does not have the model");
	else
		json_pair_string(w, "reason",
				 late ? "an earlier target takes it" : candidate->reason);
	json_pair_int(w, "busy", candidate->busy);
	json_pair_int(w, "capacity", candidate->capacity);
	json_pair_int(w, "connections", candidate->connections);
	json_pair_int(w, "weight", candidate->weight);
	json_end(w, '}');
}

struct taken {
	const struct plan_endpoint *endpoint; /* NULL: nobody yet */
	const char *persona;
};

/* One that the router would not look at. */
static void lacking_put(struct json_writer *w, const struct question *question,
			const struct asked *asked, size_t tier, uint32_t endpoint)
{
	const struct mg_node *node = &question->nodes[choose_slot(endpoint)];
	const struct explain_candidate candidate = {
		.endpoint = endpoint,
		.tier = tier,
		.verdict = EXPLAIN_PASSED,
		.busy = node->busy + node->embryos + node->relayed,
		.capacity = node->capacity,
		.connections = node->connections,
		.weight = node->weight,
	};

	candidate_put(w, question, asked, &candidate, false);
}

/* Those of the row that do not lack the model: among them the choice is made. NULL: no memory. */
static struct plan_row *row_having(const struct question *question, const struct asked *asked)
{
	struct plan_row *row = made_new(question->state->plan, asked->row->n_tiers);

	for (size_t t = 0; row && t < row->n_tiers; t++) {
		const struct plan_tier *from = &asked->row->tiers[t];
		struct plan_tier *to = &row->tiers[t];

		memcpy(to->persona, from->persona, sizeof(to->persona));
		for (size_t i = 0; i < from->n_endpoints; i++) {
			if (!lacks_model(question->state, from->endpoints[i], asked->model))
				to->endpoints[to->n_endpoints++] = from->endpoints[i];
		}
	}
	return row;
}

static void candidates_put(struct json_writer *w, const struct question *question,
			   const struct asked *asked, const struct explain_candidate *candidate,
			   bool settled)
{
	for (size_t t = 0; t < asked->row->n_tiers; t++) {
		const struct plan_tier *tier = &asked->row->tiers[t];

		for (size_t i = 0; i < tier->n_endpoints; i++) {
			if (lacks_model(question->state, tier->endpoints[i], asked->model))
				lacking_put(w, question, asked, t, tier->endpoints[i]);
			else
				candidate_put(w, question, asked, candidate++, settled);
		}
	}
}

static int row_explain(struct json_writer *w, const struct question *question,
		       const struct asked *asked, struct taken *taken)
{
	const struct state *state = question->state;
	struct plan_row *row = row_having(question, asked);
	struct explain_candidate *candidates =
		row ? calloc(explain_count(row) + 1, sizeof(*candidates)) : NULL;
	bool settled = taken->endpoint != NULL;
	struct plan plan = *state->plan; /* of which the row is one */
	size_t best;

	if (!candidates) {
		made_free(row);
		return -ENOMEM;
	}
	plan.rows = row;
	plan.n_rows = 1;
	best = explain_row(&plan, row, question->nodes, state->scores, question->hash,
			   question->hops && !asked->model, candidates);
	candidates_put(w, question, asked, candidates, settled);
	if (!settled && best != CHOOSE_NONE) {
		taken->endpoint = &state->plan->endpoints[candidates[best].endpoint];
		taken->persona = persona_of(state->plan, asked, &candidates[best]);
	}
	free(candidates);
	made_free(row);
	return 0;
}

static int answer(struct question *question, const char *target, struct buf *out)
{
	struct json_writer w = {.out = out};
	struct taken taken = {0};
	int err = 0;

	json_begin(&w, '{');
	json_pair_string(&w, "target", target);
	json_name(&w, "candidates");
	json_begin(&w, '[');
	for (size_t i = 0; i < question->n_asked && !err; i++)
		err = row_explain(&w, question, &question->asked[i], &taken);
	json_end(&w, ']');
	json_name(&w, "taken");
	if (taken.endpoint) {
		json_begin(&w, '{');
		json_pair_string(&w, "node", taken.endpoint->node);
		json_pair_string(&w, "persona", taken.persona);
		json_pair_string(&w, "service", taken.endpoint->service);
		json_end(&w, '}');
	} else {
		json_put_null(&w);
	}
	json_end(&w, '}');
	buf_puts(out, "\n");
	return err;
}

static int personas_list(const struct model *model, const char *target, struct buf *error)
{
	buf_printf(error, "nothing is called %.100s; personas: ", target);
	for (size_t i = 0; i < model->n_personas; i++)
		buf_printf(error, "%s%s", i ? ", " : "", model->personas[i].name);
	if (model->n_personas == 0)
		buf_puts(error, "none");
	return -ENOENT;
}

/* As many as an alias has targets. */
static size_t asked_max(const struct state *state)
{
	size_t targets = 1;

	for (size_t i = 0; i < state->model->n_aliases; i++)
		if (state->model->aliases[i].n_targets > targets)
			targets = state->model->aliases[i].n_targets;
	return targets;
}

int explain_write(const struct state *state, const char *target, const struct addr *client,
		  struct buf *out, struct buf *error)
{
	enum datapath_mode mode =
		state->datapath ? datapath_mode_of(state->datapath) : DATAPATH_NONE;
	struct question question = {
		.state = state,
		.max_asked = asked_max(state),
		.hash = client_hash(client),
		.hops = mode != DATAPATH_NONE && state->datapath_current,
	};
	int err = -ENOMEM;

	question.asked = calloc(question.max_asked + 1, sizeof(*question.asked));
	question.nodes = calloc(state->plan->n_endpoints + 1, sizeof(*question.nodes));
	if (!question.asked || !question.nodes)
		goto out;
	state_view_fill(state, question.nodes);
	if (understand(&question, target))
		err = question.no_memory ? -ENOMEM : answer(&question, target, out);
	else if (!question.no_memory)
		err = personas_list(state->model, target, error);
out:
	for (size_t i = 0; i < question.n_asked; i++)
		made_free(question.asked[i].made);
	free(question.nodes);
	free(question.asked);
	return err;
}
