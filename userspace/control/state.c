/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/state.h"
#include "core/choose.h"

static void names_fini(struct names *names)
{
	for (size_t i = 0; i < names->n; i++) {
		free(names->list[i]);
		free(names->texts[i]);
	}
	free(names->list);
	free(names->texts);
	*names = (struct names){0};
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **strings_sorted(char *const *list, size_t n)
{
	char **sorted = calloc(n + 1, sizeof(*sorted));

	if (!sorted)
		return NULL;
	if (n)
		memcpy(sorted, list, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), compare_strings);
	return sorted;
}

static bool lists_equal(char *const *a, char *const *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(a[i], b[i]) != 0)
			return false;
	return true;
}

/* In any order: Ollama lists first what was used last. */
static bool names_equal(const struct names *names, char *const *list, size_t n)
{
	char **old, **new;
	bool equal;

	if (!names->list || names->n != n)
		return false;
	if (lists_equal(names->list, list, n))
		return true;
	old = strings_sorted(names->list, n);
	new = strings_sorted(list, n);
	equal = old && new &&lists_equal(old, new, n);
	free(old);
	free(new);
	return equal;
}

static int names_copy(struct names *copy, char *const *list, char *const *texts, size_t n)
{
	copy->list = calloc(n + 1, sizeof(*copy->list));
	copy->texts = calloc(n + 1, sizeof(*copy->texts));
	if (!copy->list || !copy->texts)
		return -ENOMEM;
	for (; copy->n < n; copy->n++) {
		const char *text = texts ? texts[copy->n] : NULL;

		copy->list[copy->n] = strdup(list[copy->n]);
		copy->texts[copy->n] = text ? strdup(text) : NULL;
		if (!copy->list[copy->n] || (text && !copy->texts[copy->n])) {
			copy->n++;
			return -ENOMEM;
		}
	}
	return 0;
}

/* Replaces the names; on lack of memory the old ones stay. True: they are others now. */
static bool names_set(struct names *names, char *const *list, char *const *texts, size_t n)
{
	struct names copy = {0};
	bool equal;

	if (!list)
		return false;
	if (names_copy(&copy, list, texts, n)) {
		names_fini(&copy);
		return false;
	}
	equal = names_equal(names, list, n);
	names_fini(names);
	*names = copy;
	return !equal;
}

static void known_free(struct known_models *known, size_t n)
{
	for (size_t i = 0; known && i < n; i++) {
		names_fini(&known[i].models);
		names_fini(&known[i].loaded);
	}
	free(known);
}

static void relays_clear(struct state *state)
{
	for (size_t i = 0; i < STATE_RELAYS_MAX; i++) {
		free(state->relays[i].busy);
		state->relays[i] = (struct relay){0};
	}
}

void state_init(struct state *state)
{
	memset(state, 0, sizeof(*state));
}

#define NEW_ENDPOINT SIZE_MAX

/* Endpoint of `old` that is the same service at the same place. */
static size_t service_find(const struct model *old, int old_node, const struct model_node *node,
			   const struct model_service *service)
{
	const struct model_node *was = &old->nodes[old_node];
	int found = model_find_service(was, service->name);

	if (found < 0 || !addr_equal(&was->address, &node->address) ||
	    was->services[found].port != service->port)
		return NEW_ENDPOINT;
	return was->first_endpoint + (size_t)found;
}

/* For each endpoint of `model` what it was in `old` (may be NULL). */
static void endpoints_match(const struct model *old, const struct model *model, size_t *was)
{
	for (size_t n = 0; n < model->n_nodes; n++) {
		const struct model_node *node = &model->nodes[n];
		int old_node = old ? model_find_node(old, node->name) : -1;

		for (size_t s = 0; s < node->n_services; s++)
			was[node->first_endpoint + s] =
				old_node < 0
					? NEW_ENDPOINT
					: service_find(old, old_node, node, &node->services[s]);
	}
}

/* Health goes along into the new configuration; a new endpoint is not known yet. */
static void scores_carry(const struct state *state, const size_t *was, size_t n,
			 struct score *scores)
{
	for (size_t i = 0; i < n; i++) {
		if (was[i] == NEW_ENDPOINT)
			score_init(&scores[i]);
		else
			scores[i] = state->scores[was[i]];
	}
}

static void known_carry(struct state *state, const size_t *was, size_t n,
			struct known_models *known)
{
	for (size_t i = 0; i < n; i++) {
		if (was[i] == NEW_ENDPOINT)
			continue;
		known[i] = state->known[was[i]];
		state->known[was[i]] = (struct known_models){0};
	}
}

static void model_drop(struct state *state)
{
	relays_clear(state); /* their numbers are those of the old endpoints */
	plan_free(state->plan);
	free(state->scores);
	known_free(state->known, state->model ? state->model->n_endpoints : 0);
	free(state->relayed);
	model_free(state->model);
}

void state_fini(struct state *state)
{
	tally_fini(&state->past);
	for (size_t i = 0; i < STATE_RELAYS_MAX; i++)
		tally_fini(&state->tallies[i].tally);
	model_drop(state);
	free(state->overrides);
	memset(state, 0, sizeof(*state));
}

int state_model_set(struct state *state, struct model *model)
{
	size_t n = model->n_endpoints;
	struct score *scores = calloc(n + 1, sizeof(*scores));
	struct known_models *known = calloc(n + 1, sizeof(*known));
	uint32_t *relayed = calloc(n + 1, sizeof(*relayed));
	size_t *was = calloc(n + 1, sizeof(*was));
	struct plan *plan = NULL;

	if (scores && known && relayed && was) {
		endpoints_match(state->model, model, was);
		scores_carry(state, was, n, scores);
		plan = plan_build(model, scores, state->overrides, state->n_overrides,
				  state->version + 1);
	}
	if (!plan) {
		free(scores);
		free(known);
		free(relayed);
		free(was);
		return -ENOMEM;
	}
	known_carry(state, was, n, known);
	free(was);
	model_drop(state);
	state->model = model;
	state->scores = scores;
	state->known = known;
	state->relayed = relayed;
	state->plan = plan;
	state->model_version = ++state->version;
	state->datapath_current = false;
	return 0;
}

int state_plan_make(struct state *state)
{
	struct plan *plan = plan_build(state->model, state->scores, state->overrides,
				       state->n_overrides, state->version + 1);

	if (!plan)
		return -ENOMEM;
	plan_free(state->plan);
	state->plan = plan;
	state->version++;
	return 0;
}

unsigned state_note(struct state *state, size_t endpoint, const struct observation *seen)
{
	const struct model *model = state->model;
	struct known_models *known;
	unsigned changes = 0;

	if (endpoint >= model->n_endpoints)
		return 0;
	known = &state->known[endpoint];
	if (names_set(&known->models, seen->models, seen->about, seen->n_models))
		changes |= STATE_MODELS;
	if (names_set(&known->loaded, seen->loaded, seen->running, seen->n_loaded))
		changes |= STATE_MODELS;
	if (score_note(&state->scores[endpoint], seen->reason, seen->rtt_us, seen->ttfb_ms,
		       model->probe.rise, model->probe.fall))
		changes |= STATE_TURNED;
	return changes;
}

bool state_mark(struct state *state, size_t endpoint, enum probe_reason why, uint64_t now_ms)
{
	const struct model *model = state->model;

	if (endpoint >= model->n_endpoints)
		return false;
	return score_suspect(&state->scores[endpoint], why, model->probe.rise, now_ms,
			     (uint64_t)STATE_MARK_INTERVALS * model->probe.interval_ms);
}

bool state_all_known(const struct state *state)
{
	for (size_t i = 0; i < state->model->n_endpoints; i++)
		if (!state->scores[i].known)
			return false;
	return true;
}

static struct override *override_find(const struct state *state, const char *node)
{
	for (size_t i = 0; i < state->n_overrides; i++)
		if (strcmp(state->overrides[i].node, node) == 0)
			return &state->overrides[i];
	return NULL;
}

const struct override *state_override(const struct state *state, const char *node)
{
	return override_find(state, node);
}

static int override_set(struct state *state, const struct override *wanted)
{
	struct override *found = override_find(state, wanted->node);
	struct override *grown;

	if (found && wanted->weight < 0 && !wanted->drain) {
		*found = state->overrides[--state->n_overrides];
		return 0;
	}
	if (found) {
		*found = *wanted;
		return 0;
	}
	if (wanted->weight < 0 && !wanted->drain)
		return 0;
	if (state->n_overrides >= STATE_OVERRIDES_MAX)
		return -ENOSPC;
	grown = realloc(state->overrides, (state->n_overrides + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	state->overrides = grown;
	grown[state->n_overrides++] = *wanted;
	return 0;
}

static struct override override_now(const struct state *state, const char *node)
{
	const struct override *found = override_find(state, node);
	struct override now = {.weight = -1};

	if (found)
		return *found;
	memcpy(now.node, node, strnlen(node, sizeof(now.node) - 1));
	return now;
}

int state_weight_set(struct state *state, const char *node, uint32_t weight)
{
	struct override wanted = override_now(state, node);
	int index = model_find_node(state->model, node);
	bool configured = index >= 0 && state->model->nodes[index].weight == weight;

	wanted.weight = configured ? -1 : (int32_t)weight;
	return override_set(state, &wanted);
}

int state_drain_set(struct state *state, const char *node, bool drain)
{
	struct override wanted = override_now(state, node);

	wanted.drain = drain;
	return override_set(state, &wanted);
}

static void relayed_sum(struct state *state)
{
	for (size_t i = 0; i < state->model->n_endpoints; i++) {
		uint32_t sum = 0;

		for (size_t r = 0; r < STATE_RELAYS_MAX; r++) {
			uint32_t busy = state->relays[r].busy ? state->relays[r].busy[i] : 0;

			sum = sum > UINT32_MAX - busy ? UINT32_MAX : sum + busy;
		}
		state->relayed[i] = sum;
		if (state->datapath && state->datapath_current)
			datapath_set_relayed(state->datapath, i, sum);
	}
}

static struct relay *relay_slot(struct state *state, int64_t pid)
{
	struct relay *unused = NULL;

	for (size_t i = 0; i < STATE_RELAYS_MAX; i++) {
		struct relay *relay = &state->relays[i];

		if (relay->busy && relay->pid == pid)
			return relay;
		if (!relay->busy && !unused)
			unused = relay;
	}
	return unused;
}

int state_relay_note(struct state *state, int64_t pid, const uint32_t *busy, uint64_t now_ms)
{
	struct relay *relay = relay_slot(state, pid);
	size_t n = state->model->n_endpoints;

	if (!relay)
		return -ENOSPC;
	if (!relay->busy) {
		relay->busy = calloc(n + 1, sizeof(*relay->busy));
		if (!relay->busy)
			return -ENOMEM;
	}
	relay->pid = pid;
	relay->seen_ms = now_ms;
	memcpy(relay->busy, busy, n * sizeof(*busy));
	relayed_sum(state);
	return 0;
}

/* The place of a proxy: its own, a free one, or that of whoever has been silent for longest. */
static struct proxy_tally *tally_slot(struct state *state, int64_t pid)
{
	struct proxy_tally *best = &state->tallies[0];

	for (size_t i = 0; i < STATE_RELAYS_MAX; i++) {
		struct proxy_tally *at = &state->tallies[i];

		if (at->pid == pid)
			return at;
		if (best->pid && (!at->pid || at->seen_ms < best->seen_ms))
			best = at;
	}
	return best;
}

void state_tally_set(struct state *state, int64_t pid, struct tally *tally, uint64_t now_ms)
{
	struct proxy_tally *slot = tally_slot(state, pid);

	if (slot->pid && slot->pid != pid) {
		slot->tally.queued = 0;
		tally_add(&state->past, &slot->tally);
	}
	tally_fini(&slot->tally);
	slot->pid = pid;
	slot->seen_ms = now_ms;
	slot->tally = *tally;
	memset(tally, 0, sizeof(*tally));
}

void state_tally_sum(const struct state *state, struct tally *sum)
{
	memset(sum, 0, sizeof(*sum));
	tally_add(sum, &state->past);
	for (size_t i = 0; i < STATE_RELAYS_MAX; i++)
		tally_add(sum, &state->tallies[i].tally);
}

static void tallies_expire(struct state *state, uint64_t now_ms)
{
	for (size_t i = 0; i < STATE_RELAYS_MAX; i++) {
		if (now_ms - state->tallies[i].seen_ms > STATE_RELAY_TTL_MS)
			state->tallies[i].tally.queued = 0; /* nobody waits at one that is gone */
	}
}

void state_relay_expire(struct state *state, uint64_t now_ms)
{
	bool changed = false;

	tallies_expire(state, now_ms);
	for (size_t i = 0; i < STATE_RELAYS_MAX; i++) {
		struct relay *relay = &state->relays[i];

		if (!relay->busy || now_ms - relay->seen_ms <= STATE_RELAY_TTL_MS)
			continue;
		free(relay->busy);
		*relay = (struct relay){0};
		changed = true;
	}
	if (changed)
		relayed_sum(state);
}

uint32_t state_relayed_by_others(const struct state *state, size_t endpoint, int64_t pid)
{
	uint32_t sum = 0;

	for (size_t r = 0; r < STATE_RELAYS_MAX; r++) {
		const struct relay *relay = &state->relays[r];
		uint32_t busy = relay->busy && relay->pid != pid ? relay->busy[endpoint] : 0;

		sum = sum > UINT32_MAX - busy ? UINT32_MAX : sum + busy;
	}
	return sum;
}

size_t state_relay_count(const struct state *state)
{
	size_t n = 0;

	for (size_t i = 0; i < STATE_RELAYS_MAX; i++)
		n += state->relays[i].busy != NULL;
	return n;
}

void state_counts(const struct state *state, size_t endpoint, struct datapath_counts *counts)
{
	memset(counts, 0, sizeof(*counts));
	if (state->datapath && state->datapath_current)
		datapath_counts(state->datapath, endpoint, counts);
}

uint64_t state_node_connections(const struct state *state, size_t node)
{
	const struct model_node *of = &state->model->nodes[node];
	uint64_t sum = 0;

	for (size_t i = 0; i < of->n_services; i++) {
		struct datapath_counts counts;

		state_counts(state, of->first_endpoint + i, &counts);
		sum += counts.connections + (uint64_t)state->relayed[of->first_endpoint + i];
	}
	return sum;
}

void state_view_fill(const struct state *state, struct mg_node *nodes)
{
	memset(&nodes[0], 0, sizeof(nodes[0]));
	for (size_t i = 0; i < state->plan->n_endpoints; i++) {
		struct mg_node *node = &nodes[choose_slot(i)];
		struct datapath_counts counts;

		memset(node, 0, sizeof(*node));
		plan_fill_node(&state->plan->endpoints[i], node);
		state_counts(state, i, &counts);
		node->connections = counts.connections;
		node->busy = counts.busy;
		node->embryos = counts.embryos;
		node->connects = counts.connects;
		node->relayed = state->relayed[i];
		node->hop.ifindex = counts.reachable;
	}
}
