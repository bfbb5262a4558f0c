/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "control/explain.h"
#include "core/choose.h"
#include "core/explain.h"

struct asked { /* one listener to look at; the first with a taker wins */
	const struct plan_row *row;
	const char *model; /* only nodes that have it; NULL: any */
};

struct question {
	const struct state *state;
	struct asked *asked;
	size_t n_asked, max_asked;
	struct mg_node *nodes;
	uint32_t hash;
	bool hops;
};

/* FNV-1a; the kernel's hash is keyed with a secret, so ties may fall otherwise there. */
static uint32_t client_hash(const struct addr *client)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; client && i < sizeof(client->bytes); i++)
		hash = (hash ^ client->bytes[i]) * 16777619u;
	return hash;
}

/* "x" and "x:latest" are the same model. */
static bool same_model(const char *a, const char *b)
{
	static const char latest[] = ":latest";
	size_t n = strlen(a), m = strlen(b), l = sizeof(latest) - 1;

	if (n > l && strcmp(a + n - l, latest) == 0)
		n -= l;
	if (m > l && strcmp(b + m - l, latest) == 0)
		m -= l;
	return n == m && memcmp(a, b, n) == 0;
}

static bool has_model(const struct state *state, size_t endpoint, const char *model)
{
	const struct names *models = &state->known[endpoint].models;

	for (size_t i = 0; i < models->n; i++)
		if (same_model(models->list[i], model))
			return true;
	return false;
}

/* A node that has never said what it has may have it. */
static bool lacks_model(const struct state *state, size_t endpoint, const char *model)
{
	return model && state->known[endpoint].models.list && !has_model(state, endpoint, model);
}

/* Cascaded personas do not count: they have it on listeners of their own. */
static bool row_has_model(const struct state *state, const struct plan_row *row, const char *model)
{
	const struct plan_tier *own = row->tiers;

	for (size_t i = 0; row->n_tiers > 0 && i < own->n_endpoints; i++)
		if (has_model(state, own->endpoints[i], model))
			return true;
	return false;
}

static bool row_speaks_models(const struct plan *plan, const struct plan_row *row)
{
	enum engine engine;

	if (row->n_tiers == 0 || row->tiers[0].n_endpoints == 0)
		return false;
	engine = plan->endpoints[row->tiers[0].endpoints[0]].engine;
	return engine == ENGINE_OLLAMA || engine == ENGINE_LLAMACPP || engine == ENGINE_VLLM ||
	       engine == ENGINE_SGLANG || engine == ENGINE_OPENAI;
}

static void ask(struct question *question, const struct plan_row *row, const char *model)
{
	if (question->n_asked < question->max_asked)
		question->asked[question->n_asked++] = (struct asked){row, model};
}

/* Rows of the persona: the one of `service`, or its first (NULL). */
static void ask_persona(struct question *question, const char *persona, size_t persona_len,
			const char *service)
{
	const struct plan *plan = question->state->plan;

	for (size_t i = 0; i < plan->n_rows && question->n_asked == 0; i++) {
		const struct plan_row *row = &plan->rows[i];

		if (strlen(row->persona) != persona_len ||
		    memcmp(row->persona, persona, persona_len) != 0)
			continue;
		if (!service || strcmp(row->service, service) == 0)
			ask(question, row, NULL);
	}
}

static void ask_model_of(struct question *question, const char *persona, size_t persona_len,
			 const char *model)
{
	const struct plan *plan = question->state->plan;

	for (size_t i = 0; i < plan->n_rows; i++) {
		const struct plan_row *row = &plan->rows[i];

		if (strlen(row->persona) == persona_len &&
		    memcmp(row->persona, persona, persona_len) == 0 && row_speaks_models(plan, row))
			ask(question, row, model);
	}
}

static void ask_alias(struct question *question, const char *name)
{
	const struct model *model = question->state->model;

	for (size_t i = 0; i < model->n_aliases; i++) {
		const struct model_alias *alias = &model->aliases[i];

		if (!same_model(alias->name, name))
			continue;
		for (size_t t = 0; t < alias->n_targets; t++) {
			const struct model_target *target = &alias->targets[t];
			const char *persona = model->personas[target->persona].name;

			ask_model_of(question, persona, strlen(persona), target->model);
		}
		return;
	}
}

static void ask_model(struct question *question, const char *model)
{
	const struct plan *plan = question->state->plan;

	for (size_t i = 0; i < plan->n_rows; i++)
		if (row_has_model(question->state, &plan->rows[i], model))
			ask(question, &plan->rows[i], model);
}

/* What the target names, in the order of the header. False: nothing. */
static bool understand(struct question *question, const char *target)
{
	const char *slash = strchr(target, '/');
	size_t len = slash ? (size_t)(slash - target) : strlen(target);

	ask_persona(question, target, len, slash ? slash + 1 : NULL);
	if (!question->n_asked)
		ask_alias(question, target);
	if (!question->n_asked && slash)
		ask_model_of(question, target, len, slash + 1);
	if (!question->n_asked)
		ask_model(question, target);
	return question->n_asked > 0;
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
	json_pair_string(w, "persona", asked->row->tiers[candidate->tier].persona);
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

/* Nodes without the model are nobody for this row: the choice is made among the others. */
static void row_view(const struct question *question, const struct asked *asked)
{
	const struct plan *plan = question->state->plan;

	for (size_t i = 0; i < plan->n_endpoints; i++) {
		bool lacks = lacks_model(question->state, i, asked->model);

		question->nodes[choose_slot(i)].state =
			(uint8_t)(lacks ? MG_NODE_FREE : plan->endpoints[i].state);
	}
}

static int row_explain(struct json_writer *w, const struct question *question,
		       const struct asked *asked, struct taken *taken)
{
	const struct state *state = question->state;
	size_t n = explain_count(asked->row);
	struct explain_candidate *candidates = calloc(n + 1, sizeof(*candidates));
	bool settled = taken->endpoint != NULL;
	size_t best;

	if (!candidates)
		return -ENOMEM;
	row_view(question, asked);
	best = explain_row(state->plan, asked->row, question->nodes, state->scores, question->hash,
			   question->hops && !asked->model, candidates);
	for (size_t i = 0; i < n; i++)
		candidate_put(w, question, asked, &candidates[i], settled);
	if (!settled && best != CHOOSE_NONE) {
		taken->endpoint = &state->plan->endpoints[candidates[best].endpoint];
		taken->persona = asked->row->tiers[candidates[best].tier].persona;
	}
	free(candidates);
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

static void personas_list(const struct model *model, const char *target, struct buf *error)
{
	buf_printf(error, "nothing is called %.100s; personas: ", target);
	for (size_t i = 0; i < model->n_personas; i++)
		buf_printf(error, "%s%s", i ? ", " : "", model->personas[i].name);
	if (model->n_personas == 0)
		buf_puts(error, "none");
}

/* Every row once, or every row for each target of an alias. */
static size_t asked_max(const struct state *state)
{
	size_t targets = 1;

	for (size_t i = 0; i < state->model->n_aliases; i++)
		if (state->model->aliases[i].n_targets > targets)
			targets = state->model->aliases[i].n_targets;
	return state->plan->n_rows * targets;
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
	err = -ENOENT;
	if (understand(&question, target))
		err = answer(&question, target, out);
	else
		personas_list(state->model, target, error);
out:
	free(question.nodes);
	free(question.asked);
	return err;
}
