/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "base/json.h"
#include "base/log.h"
#include "control/follow.h"
#include "core/catalog.h"
#include "core/keys.h"

struct follower {
	struct exchange *exchange;
	struct follow_about about;
	size_t longest; /* line so far: the plan of a large farm alone is more than may be unread */
	struct follower *next;
};

static struct catalog *catalog_make(const struct state *state)
{
	size_t n = state->model->n_endpoints;
	struct catalog_known *known = calloc(n + 1, sizeof(*known));
	struct catalog *catalog = NULL;

	for (size_t i = 0; known && i < n; i++) {
		const struct known_models *of = &state->known[i];

		known[i] = (struct catalog_known){
			.said = of->models.list != NULL,
			.models = of->models.list,
			.about = of->models.texts,
			.n_models = of->models.n,
			.loaded = of->loaded.list,
			.running = of->loaded.texts,
			.n_loaded = of->loaded.n,
		};
	}
	if (known)
		catalog = catalog_build(state->model, known);
	free(known);
	return catalog;
}

void follow_plan_write(const struct state *state, const struct keys *keys, struct buf *out)
{
	struct catalog *catalog = catalog_make(state);
	struct json_writer w = {.out = out};

	if (!catalog) {
		out->failed = true;
		return;
	}
	buf_puts(out, "{\"plan\":");
	plan_write(state->plan, out);
	buf_puts(out, ",\"catalog\":");
	catalog_write(catalog, out);
	if (keys) {
		buf_puts(out, ",\"keys\":");
		keys_write(keys, &w);
	}
	buf_puts(out, "}\n");
	catalog_free(catalog);
}

void follow_load_write(const struct state *state, int64_t pid, struct json_writer *w)
{
	json_name(w, "load");
	json_begin(w, '[');
	for (size_t i = 0; i < state->plan->n_endpoints; i++) {
		int64_t others = state_relayed_by_others(state, i, pid);
		struct datapath_counts counts;

		state_counts(state, i, &counts);
		json_begin(w, '[');
		json_put_int(w, (int64_t)counts.busy + counts.embryos + others);
		json_put_int(w, (int64_t)counts.connections + others);
		json_end(w, ']');
	}
	json_end(w, ']');
}

/* Out of the list, and freed; the exchange is not touched. */
static void forget(struct control *control, struct follower *follower)
{
	struct follower **place = &control->followers;

	while (*place && *place != follower)
		place = &(*place)->next;
	if (!*place)
		return;
	*place = follower->next;
	control->n_followers--;
	free(follower);
}

static void send_one(struct control *control, struct follower *follower, const struct buf *line)
{
	struct exchange *exchange = follower->exchange;

	if (line->len > follower->longest)
		follower->longest = line->len;
	if (exchange_write(exchange, line->data, line->len) <=
	    FOLLOW_UNREAD_MAX + follower->longest)
		return;
	log_warn("a follower of the plan reads too slowly: dropped");
	exchange_set_data(exchange, NULL);
	forget(control, follower);
	exchange_abort(exchange);
}

enum audience { EVERYBODY, STRANGERS, TRUSTED };

static bool is_meant(const struct follower *follower, enum audience audience)
{
	return audience == EVERYBODY || follower->about.trusted == (audience == TRUSTED);
}

static void send_all(struct control *control, const struct buf *line, enum audience audience)
{
	struct follower *next;

	if (buf_failed(line))
		return; /* no memory now: the next line says it all again */
	for (struct follower *at = control->followers; at; at = next) {
		next = at->next;
		if (is_meant(at, audience))
			send_one(control, at, line);
	}
}

void follow_begin(struct control *control, struct exchange *exchange,
		  const struct follow_about *about)
{
	struct follower *follower = calloc(1, sizeof(*follower));
	struct buf line = {0};

	if (!control->held_until_ms)
		follow_plan_write(&control->state, about->trusted ? control->keys : NULL, &line);
	if (!follower || buf_failed(&line)) {
		free(follower);
		buf_fini(&line);
		exchange_abort(exchange);
		return;
	}
	follower->exchange = exchange;
	follower->about = *about;
	follower->next = control->followers;
	control->followers = follower;
	control->n_followers++;
	exchange_set_data(exchange, follower);
	exchange_begin(exchange, 200, "application/x-ndjson", "Cache-Control: no-store\r\n");
	if (line.len)
		send_one(control, follower, &line);
	buf_fini(&line);
}

static void plan_send(struct control *control, const struct keys *keys, enum audience audience)
{
	const struct follower *follower = control->followers;
	struct buf line = {0};

	while (follower && !is_meant(follower, audience))
		follower = follower->next;
	if (!follower)
		return;
	follow_plan_write(&control->state, keys, &line);
	send_all(control, &line, audience);
	buf_fini(&line);
}

void follow_plan_send(struct control *control)
{
	if (control->held_until_ms)
		return;
	if (!control->keys) {
		plan_send(control, NULL, EVERYBODY);
		return;
	}
	plan_send(control, control->keys, TRUSTED);
	plan_send(control, NULL, STRANGERS);
}

static void load_line_write(const struct state *state, int64_t pid, struct buf *line)
{
	struct json_writer w = {.out = line};

	json_begin(&w, '{');
	follow_load_write(state, pid, &w);
	json_end(&w, '}');
	buf_puts(line, "\n");
}

void follow_load_send(struct control *control)
{
	struct buf line = {0};
	struct follower *next;

	if (control->held_until_ms)
		return;
	for (struct follower *at = control->followers; at; at = next) {
		next = at->next;
		buf_clear(&line);
		load_line_write(&control->state, at->about.pid, &line);
		if (!buf_failed(&line))
			send_one(control, at, &line);
	}
	buf_fini(&line);
}

void follow_abandoned(struct control *control, struct exchange *exchange)
{
	struct follower *follower = exchange_data(exchange);

	if (follower)
		forget(control, follower);
}

void follow_end(struct control *control)
{
	while (control->followers) {
		struct follower *follower = control->followers;

		exchange_set_data(follower->exchange, NULL);
		exchange_end(follower->exchange);
		forget(control, follower);
	}
}
