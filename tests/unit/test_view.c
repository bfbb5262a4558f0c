/* SPDX-License-Identifier: MIT */
/* The proxy's view of the farm: who takes a request, and what a new plan changes. */
#include <unistd.h>

#include "base/json.h"
#include "core/choose.h"
#include "farm.h"
#include "proxy/view.h"

#define NODES 8

/* Endpoints in the order of `nodes`; row 0 has them all in tier 0 but for the last `behind`, which
 * are in tier 1. */
static struct plan *plan_of(const char *const *nodes, size_t behind)
{
	struct plan *plan = calloc(1, sizeof(*plan));
	struct plan_row *row;
	size_t n = 0;

	while (nodes[n])
		n++;
	plan->version = 7;
	plan->n_endpoints = n;
	plan->endpoints = calloc(n + 1, sizeof(*plan->endpoints));
	plan->rows = calloc(1, sizeof(*plan->rows));
	plan->n_rows = 1;
	row = plan->rows;
	row->port = 9000;
	row->n_tiers = 2;
	row->tiers = calloc(2, sizeof(*row->tiers));
	snprintf(row->persona, sizeof(row->persona), "p");
	snprintf(row->tiers[0].persona, sizeof(row->tiers[0].persona), "p");
	snprintf(row->tiers[1].persona, sizeof(row->tiers[1].persona), "q");
	for (size_t t = 0; t < 2; t++)
		row->tiers[t].endpoints = calloc(n + 1, sizeof(uint32_t));
	for (size_t i = 0; i < n; i++) {
		struct plan_endpoint *endpoint = &plan->endpoints[i];
		struct plan_tier *tier = &row->tiers[i + behind >= n];

		snprintf(endpoint->node, sizeof(endpoint->node), "%s", nodes[i]);
		snprintf(endpoint->service, sizeof(endpoint->service), "llm");
		addr_parse(&endpoint->addr, "10.0.0.1");
		endpoint->port = (uint16_t)(8000 + nodes[i][0]);
		endpoint->engine = ENGINE_OLLAMA;
		endpoint->state = MG_NODE_UP;
		endpoint->weight = 100;
		endpoint->capacity = 2;
		tier->endpoints[tier->n_endpoints++] = (uint32_t)i;
	}
	return plan;
}

static void set(struct view *view, struct plan *plan)
{
	size_t *moved;

	assert_int_equal(view_set_plan(view, plan, NULL, NULL, &moved), 0);
	free(moved);
}

static const char *const abc[] = {"a", "b", "c", NULL};
static const char *const all[] = {"a", "b", "c", "d", "e", "f", "g", "h", NULL};

static struct view_ask ask_of(const struct view *view)
{
	return (struct view_ask){.row = &view->plan->rows[0], .now_ms = 10000};
}

/* No mark is left behind, whatever the answer. */
static void check_scratch(const struct view *view)
{
	for (size_t i = 0; i < view->plan->n_endpoints; i++)
		assert_false(view->skip[i]);
}

static void expect(struct view *view, const struct view_ask *ask, enum view_answer answer,
		   size_t endpoint)
{
	size_t found = 99;

	assert_int_equal(view_pick(view, ask, &found), answer);
	if (answer == VIEW_TAKEN)
		assert_int_equal(found, endpoint);
	else
		assert_int_equal(found, CHOOSE_NONE);
	check_scratch(view);
}

static void busy(struct view *view, size_t endpoint, unsigned n)
{
	while (n--)
		view_count_busy(view, endpoint, 1);
}

/* ---- who takes it ---- */

static void test_view__the_least_loaded_takes_it(void **state)
{
	struct view view = {0};
	struct view_ask ask;
	size_t tried[] = {2, VIEW_GONE, 77};

	(void)state;
	set(&view, plan_of(abc, 1));
	ask = ask_of(&view);
	busy(&view, 0, 1);
	expect(&view, &ask, VIEW_TAKEN, 1);
	view_set_load(&view, 1, 1, 5); /* as busy, and more connections */
	expect(&view, &ask, VIEW_TAKEN, 0);
	busy(&view, 0, 1);
	expect(&view, &ask, VIEW_TAKEN, 1);
	view_set_load(&view, 1, 2, 5);
	expect(&view, &ask, VIEW_TAKEN, 2); /* the cascade */
	ask.tried = tried;
	ask.n_tried = 3;
	expect(&view, &ask, VIEW_FULL, 0);
	view_count_busy(&view, 0, -1);
	expect(&view, &ask, VIEW_TAKEN, 0);
	view_fini(&view);
}

static void test_view__full_is_not_nobody(void **state)
{
	struct view view = {0};
	struct view_ask ask;
	size_t tried[] = {0, 1};

	(void)state;
	set(&view, plan_of(abc, 0));
	ask = ask_of(&view);
	for (size_t i = 0; i < 3; i++)
		busy(&view, i, 2);
	expect(&view, &ask, VIEW_FULL, 0);
	ask.tried = tried;
	ask.n_tried = 2;
	expect(&view, &ask, VIEW_FULL, 0);
	view.nodes[choose_slot(2)].state = MG_NODE_DRAIN;
	expect(&view, &ask, VIEW_NOBODY, 0); /* the other two have been tried */
	ask.n_tried = 0;
	expect(&view, &ask, VIEW_FULL, 0);
	view.nodes[choose_slot(0)].state = MG_NODE_DOWN;
	view.nodes[choose_slot(1)].weight = 0;
	expect(&view, &ask, VIEW_NOBODY, 0);
	view_fini(&view);
}

static void test_view__only_engines_that_were_asked_for(void **state)
{
	struct view view = {0};
	struct view_ask ask;

	(void)state;
	set(&view, plan_of(abc, 1));
	view.plan->endpoints[1].engine = ENGINE_VLLM;
	view.plan->endpoints[2].engine = ENGINE_LLAMACPP;
	ask = ask_of(&view);
	ask.engines = ROUTE_ENGINE(ENGINE_VLLM);
	expect(&view, &ask, VIEW_TAKEN, 1);
	view_suspect(&view, 1, ask.now_ms); /* the only one, suspect or not */
	expect(&view, &ask, VIEW_TAKEN, 1);
	ask.engines = ROUTE_ENGINE(ENGINE_LLAMACPP);
	expect(&view, &ask, VIEW_TAKEN, 2);
	ask.sticky = true;
	expect(&view, &ask, VIEW_TAKEN, 2);
	ask.engines = ROUTE_ENGINE(ENGINE_SGLANG);
	expect(&view, &ask, VIEW_NOBODY, 0);
	ask.engines = ROUTE_ENGINE(ENGINE_OLLAMA);
	busy(&view, 0, 2);
	expect(&view, &ask, VIEW_FULL, 0);
	ask.engines =
		ROUTE_ENGINE(ENGINE_SGLANG); /* who is full, but no such engine, is no reason */
	expect(&view, &ask, VIEW_NOBODY, 0);
	ask.engines = ROUTE_LLM;
	ask.sticky = false;
	view_trust(&view, 1);
	expect(&view, &ask, VIEW_TAKEN, 1);
	view_fini(&view);
}

/* ---- suspects ---- */

static void test_view__suspects_are_asked_last(void **state)
{
	struct view view = {0};
	struct view_ask ask;

	(void)state;
	set(&view, plan_of(abc, 1));
	ask = ask_of(&view);
	busy(&view, 1, 1);
	expect(&view, &ask, VIEW_TAKEN, 0);
	view_suspect(&view, 0, ask.now_ms);
	expect(&view, &ask, VIEW_TAKEN, 1);
	view_suspect(&view, 1, ask.now_ms);
	expect(&view, &ask, VIEW_TAKEN, 2); /* even the cascade before them */
	ask.sticky = true;
	expect(&view, &ask, VIEW_TAKEN, 2);
	ask.sticky = false;
	view_suspect(&view, 2, ask.now_ms);
	expect(&view, &ask, VIEW_TAKEN, 0); /* but they before nobody */
	view_trust(&view, 1);
	expect(&view, &ask, VIEW_TAKEN, 1);
	ask.now_ms += VIEW_SUSPECT_MS - 1;
	expect(&view, &ask, VIEW_TAKEN, 1);
	ask.now_ms += 1; /* it is over */
	expect(&view, &ask, VIEW_TAKEN, 0);
	view_suspect(&view, VIEW_GONE, ask.now_ms);
	view_trust(&view, VIEW_GONE);
	view_fini(&view);
}

/* Down by our own word: it may be back at once. */
static void test_view__waits_a_moment_for_one_that_we_marked(void **state)
{
	struct view view = {0};
	struct view_ask ask;
	size_t tried[] = {0};

	(void)state;
	set(&view, plan_of(abc, 0));
	ask = ask_of(&view);
	for (size_t i = 0; i < 3; i++)
		view.nodes[choose_slot(i)].state = MG_NODE_DOWN;
	expect(&view, &ask, VIEW_NOBODY, 0);
	view_suspect(&view, 0, ask.now_ms);
	expect(&view, &ask, VIEW_FULL, 0);
	ask.tried = tried;
	ask.n_tried = 1;
	expect(&view, &ask, VIEW_NOBODY, 0); /* it has failed this very request */
	ask.n_tried = 0;
	ask.engines = ROUTE_ENGINE(ENGINE_VLLM);
	expect(&view, &ask, VIEW_NOBODY, 0);
	ask.engines = 0;
	ask.now_ms += VIEW_RETURN_MS - 1;
	expect(&view, &ask, VIEW_FULL, 0);
	ask.now_ms += 1;
	expect(&view, &ask, VIEW_NOBODY, 0);
	view_suspect(&view, 0, ask.now_ms);
	view.nodes[choose_slot(0)].state = MG_NODE_DRAIN; /* that is no failure */
	expect(&view, &ask, VIEW_NOBODY, 0);
	view_fini(&view);
}

/* ---- sessions ---- */

#define SESSIONS 4000

static size_t stuck(struct view *view, uint32_t hash)
{
	struct view_ask ask = ask_of(view);
	size_t endpoint;

	ask.hash = hash;
	ask.sticky = true;
	assert_int_equal(view_pick(view, &ask, &endpoint), VIEW_TAKEN);
	return endpoint;
}

static uint32_t session(unsigned i)
{
	return view_hash(12345, &i, sizeof(i));
}

static void test_view__sessions_stay_and_are_spread(void **state)
{
	struct view view = {0};
	unsigned count[NODES] = {0};

	(void)state;
	set(&view, plan_of(all, 0));
	for (unsigned i = 0; i < SESSIONS; i++) {
		size_t first = stuck(&view, session(i));

		count[first]++;
		busy(&view, (first + 1) % NODES, 1); /* load does not matter, while there is room */
		assert_int_equal(stuck(&view, session(i)), first);
		view_count_busy(&view, (first + 1) % NODES, -1);
		busy(&view, first, 1);
		assert_int_equal(stuck(&view, session(i)), first);
		view_count_busy(&view, first, -1);
	}
	for (size_t i = 0; i < NODES; i++)
		assert_in_range(count[i], SESSIONS / NODES * 8 / 10, SESSIONS / NODES * 12 / 10);
	view_fini(&view);
}

/* Whoever was elsewhere stays there, when a node leaves and when one comes. */
static void test_view__only_sessions_of_the_one_that_left_move(void **state)
{
	static const char *const less[] = {"h", "g", "f", "e", "d", "c", "a", NULL}; /* and no b */
	struct view view = {0};
	char before[SESSIONS];
	unsigned moved = 0, to[256] = {0};

	(void)state;
	set(&view, plan_of(all, 0));
	for (unsigned i = 0; i < SESSIONS; i++)
		before[i] = all[stuck(&view, session(i))][0];
	set(&view, plan_of(less, 0)); /* other numbers too */
	for (unsigned i = 0; i < SESSIONS; i++) {
		char now = less[stuck(&view, session(i))][0];

		if (before[i] == 'b') {
			moved++;
			to[(unsigned char)now]++;
		} else {
			assert_int_equal(now, before[i]);
		}
	}
	assert_in_range(moved, SESSIONS / NODES * 8 / 10, SESSIONS / NODES * 12 / 10);
	for (size_t i = 0; less[i]; i++) /* and they do not all go to one */
		assert_in_range(to[(unsigned char)less[i][0]], 1, moved / 3);
	set(&view, plan_of(all, 0));
	for (unsigned i = 0; i < SESSIONS; i++)
		assert_int_equal(all[stuck(&view, session(i))][0], before[i]);
	view_fini(&view);
}

static void test_view__sessions_leave_who_may_not_take_them(void **state)
{
	struct view view = {0};
	size_t home, other;

	(void)state;
	set(&view, plan_of(abc, 1));
	home = stuck(&view, 1);
	assert_in_range(home, 0, 1); /* the first tier, while it can */
	busy(&view, home, 2);
	other = stuck(&view, 1);
	assert_int_equal(other, 1 - home);
	view.nodes[choose_slot(other)].state = MG_NODE_DRAIN;
	assert_int_equal(stuck(&view, 1), 2);
	view_count_busy(&view, home, -1);
	assert_int_equal(stuck(&view, 1), home);
	view_fini(&view);
}

/* ---- a new plan ---- */

static void test_view__ids_are_of_names(void **state)
{
	static const char *const turned[] = {"c", "x", "a", NULL};
	struct view view = {0};
	uint32_t a, b, c;

	(void)state;
	set(&view, plan_of(abc, 0));
	a = view.ids[0];
	b = view.ids[1];
	c = view.ids[2];
	assert_true(a != b && b != c && a != c);
	set(&view, plan_of(turned, 0));
	assert_int_equal(view.ids[0], c);
	assert_int_equal(view.ids[2], a);
	assert_true(view.ids[1] != b);
	view_fini(&view);
}

static void test_view__counts_go_along(void **state)
{
	static const char *const turned[] = {"c", "x", "a", NULL};
	struct view view = {0};
	struct view_ask ask;
	size_t *moved;

	(void)state;
	set(&view, plan_of(abc, 0));
	busy(&view, 0, 1);
	view_count_open(&view, 0, 1);
	view_count_open(&view, 0, 1);
	view_set_load(&view, 0, 1, 5);
	view_suspect(&view, 2, 10000);
	busy(&view, 1, 1);
	assert_int_equal(view_set_plan(&view, plan_of(turned, 0), NULL, NULL, &moved), 0);
	assert_int_equal(moved[0], 2);
	assert_int_equal(moved[1], VIEW_GONE);
	assert_int_equal(moved[2], 0);
	free(moved);
	assert_int_equal(view.nodes[choose_slot(2)].busy, 1);
	assert_int_equal(view.nodes[choose_slot(2)].relayed, 1);
	assert_int_equal(view.nodes[choose_slot(2)].connections, 7);
	view_count_open(&view, 2, -1);
	assert_int_equal(view.nodes[choose_slot(2)].connections, 6);
	assert_int_equal(view.nodes[choose_slot(1)].relayed, 0);
	ask = ask_of(&view);
	expect(&view, &ask, VIEW_TAKEN, 1); /* not c, which is suspect still */
	view_fini(&view);
}

/* The same name at another address or port is another endpoint. */
static void test_view__another_address_is_another_node(void **state)
{
	struct view view = {0};
	struct plan *plan = plan_of(abc, 0);
	size_t *moved;

	(void)state;
	set(&view, plan_of(abc, 0));
	busy(&view, 0, 1);
	busy(&view, 1, 1);
	addr_parse(&plan->endpoints[0].addr, "10.0.0.2");
	plan->endpoints[1].port++;
	snprintf(plan->endpoints[2].service, sizeof(plan->endpoints[2].service), "other");
	assert_int_equal(view_set_plan(&view, plan, NULL, NULL, &moved), 0);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(moved[i], VIEW_GONE);
		assert_int_equal(view.nodes[choose_slot(i)].relayed, 0);
	}
	free(moved);
	view_fini(&view);
}

static struct catalog *catalog_new(size_t n)
{
	struct catalog *catalog = calloc(1, sizeof(*catalog));

	catalog->said = calloc(n + 1, sizeof(*catalog->said));
	catalog->n_endpoints = n;
	catalog->settings.queue_length = 5;
	return catalog;
}

static struct keys *keys_new(const char *text)
{
	static const uint8_t salt[16] = {1};
	char error[256];

	return keys_parse(text, strlen(text), salt, error);
}

/* All three are of one plan: none outlives it, and routes are of the new one. */
static void test_view__catalog_and_keys_come_with_their_plan(void **state)
{
	struct view view = {0};
	size_t *moved;

	(void)state;
	assert_int_equal(
		view_set_plan(&view, plan_of(abc, 0), catalog_new(3), keys_new("12345678"), &moved),
		0);
	assert_null(moved); /* there was none before */
	assert_int_equal(view.catalog->settings.queue_length, 5);
	assert_true(keys_accept(view.keys, "12345678", 8));
	assert_non_null(routes_find(&view.routes, "p/m"));
	assert_int_equal(
		view_set_plan(&view, plan_of(all, 0), catalog_new(8), keys_new("abcdefgh"), &moved),
		0);
	free(moved);
	assert_ptr_equal(view.routes.plan, view.plan);
	assert_ptr_equal(view.routes.catalog, view.catalog);
	assert_null(view.routes.list);
	assert_false(keys_accept(view.keys, "12345678", 8));
	assert_true(keys_accept(view.keys, "abcdefgh", 8));
	set(&view, plan_of(abc, 0)); /* the router is gone */
	assert_null(view.catalog);
	assert_null(view.keys);
	assert_null(view.routes.list);
	view_fini(&view);
}

/* ---- small questions ---- */

static void test_view__rows_and_personas(void **state)
{
	static const char *const four[] = {"a", "b", "c", "d", NULL};
	struct view view = {0};

	(void)state;
	assert_null(view_row(&view, 9000));
	assert_string_equal(view_persona(&view, 0), "");
	set(&view, plan_of(four, 2));
	view.plan->rows[0].tiers[1].n_endpoints--; /* d is nobody's */
	assert_ptr_equal(view_row(&view, 9000), &view.plan->rows[0]);
	assert_null(view_row(&view, 9001));
	assert_string_equal(view_persona(&view, 1), "p");
	assert_string_equal(view_persona(&view, 2), "q"); /* only p's cascade leads there */
	assert_string_equal(view_persona(&view, 3), "");
	assert_string_equal(view_persona(&view, VIEW_GONE), "");
	view_fini(&view);
}

static void test_view__reports_what_it_holds(void **state)
{
	struct view view = {0};
	struct buf out = {0};
	struct json_writer w = {.out = &out};
	char expected[128];

	(void)state;
	json_begin(&w, '{');
	assert_false(view_report(&view, &w));
	set(&view, plan_of(abc, 0));
	busy(&view, 0, 2);
	busy(&view, 2, 1);
	view_count_busy(&view, 2, -1);
	view_count_busy(&view, VIEW_GONE, 1);
	view_set_load(&view, 1, 9, 9); /* the kernel's are not ours to tell */
	view_set_load(&view, 3, 9, 9);
	assert_true(view_report(&view, &w));
	json_end(&w, '}');
	snprintf(expected, sizeof(expected), "{\"pid\":%d,\"plan_version\":7,\"busy\":[2,0,0]}",
		 (int)getpid());
	assert_string_equal(out.data, expected);
	buf_fini(&out);
	view_fini(&view);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_view__the_least_loaded_takes_it),
		cmocka_unit_test(test_view__full_is_not_nobody),
		cmocka_unit_test(test_view__only_engines_that_were_asked_for),
		cmocka_unit_test(test_view__suspects_are_asked_last),
		cmocka_unit_test(test_view__waits_a_moment_for_one_that_we_marked),
		cmocka_unit_test(test_view__sessions_stay_and_are_spread),
		cmocka_unit_test(test_view__only_sessions_of_the_one_that_left_move),
		cmocka_unit_test(test_view__sessions_leave_who_may_not_take_them),
		cmocka_unit_test(test_view__ids_are_of_names),
		cmocka_unit_test(test_view__counts_go_along),
		cmocka_unit_test(test_view__another_address_is_another_node),
		cmocka_unit_test(test_view__catalog_and_keys_come_with_their_plan),
		cmocka_unit_test(test_view__rows_and_personas),
		cmocka_unit_test(test_view__reports_what_it_holds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
