/* SPDX-License-Identifier: MIT */
/* core/choose and core/explain: the same choice, and its reasons. */
#include "core/explain.h"
#include "farm.h"

/* Endpoints 0..5 are the llm of nodes a..f, address 10.0.0.1..6. */
static const char farm[] =
	"{\"gateway\": {\"datapath\": \"none\"}, \"nodes\": {"
	"\"a\": {\"address\": \"10.0.0.1\", \"services\": {\"llm\": {\"engine\": \"vllm\", "
	"\"capacity\": 2}}},"
	"\"b\": {\"address\": \"10.0.0.2\", \"services\": {\"llm\": {\"engine\": \"vllm\", "
	"\"capacity\": 2}}},"
	"\"c\": {\"address\": \"10.0.0.3\", \"services\": {\"llm\": {\"engine\": \"vllm\", "
	"\"capacity\": 4}}},"
	"\"d\": {\"address\": \"10.0.0.4\", \"services\": {\"llm\": {\"engine\": \"vllm\", "
	"\"capacity\": 4}}},"
	"\"e\": {\"address\": \"10.0.0.5\", \"weight\": 0, \"services\": {\"llm\": \"vllm\"}},"
	"\"f\": {\"address\": \"10.0.0.6\", \"services\": {\"llm\": \"vllm\"}}},"
	"\"personas\": {"
	"\"p\": {\"nodes\": [\"a\", \"b\"], \"listen\": {\"llm\": 9001}, \"cascade\": [\"q\"]},"
	"\"q\": {\"nodes\": [\"c\", \"d\"], \"listen\": {\"llm\": 9002}},"
	"\"r\": {\"nodes\": [\"e\", \"f\", \"d\"], \"listen\": {\"llm\": 9003}}}}";

#define ENDPOINTS 6
enum { A, B, C, D, E, F };

struct world {
	struct model *model;
	struct plan *plan;
	struct score health[ENDPOINTS];
	struct mg_node nodes[ENDPOINTS + 1];
};

static void replan(struct world *w, const struct override *overrides, size_t n)
{
	plan_free(w->plan);
	w->plan = plan_build(w->model, w->health, overrides, n, 1);
	assert_non_null(w->plan);
	for (size_t i = 0; i < ENDPOINTS; i++)
		plan_fill_node(&w->plan->endpoints[i], &w->nodes[choose_slot(i)]);
}

static int set_up(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->model = farm_load(farm);
	for (size_t i = 0; i < ENDPOINTS; i++) {
		score_init(&w->health[i]);
		score_note(&w->health[i], PROBE_OK, 1, 1, 1, 1);
	}
	replan(w, NULL, 0);
	*state = w;
	return 0;
}

static int tear_down(void **state)
{
	struct world *w = *state;

	plan_free(w->plan);
	model_free(w->model);
	free(w);
	return 0;
}

static size_t choose_p(struct world *w, size_t *tier)
{
	return choose(w->plan, &w->plan->rows[0], w->nodes, 12345, tier);
}

static void test_choose__takes_the_less_loaded_node(void **state)
{
	struct world *w = *state;
	size_t tier = 9;

	w->nodes[choose_slot(A)].busy = 1;
	assert_int_equal(choose_p(w, &tier), B);
	assert_int_equal(tier, 0);
	w->nodes[choose_slot(B)].relayed = 1;
	w->nodes[choose_slot(B)].connections = 1;
	assert_int_equal(choose_p(w, NULL), A);
}

static void test_choose__cascades_when_full_and_says_so(void **state)
{
	struct world *w = *state;
	size_t tier = 9;

	w->nodes[choose_slot(A)].busy = 2;
	w->nodes[choose_slot(B)].embryos = 2;
	w->nodes[choose_slot(C)].busy = 1;
	assert_int_equal(choose_p(w, &tier), D);
	assert_int_equal(tier, 1);
	w->nodes[choose_slot(C)].busy = 4;
	w->nodes[choose_slot(D)].busy = 4;
	assert_int_equal(choose_p(w, &tier), CHOOSE_NONE);
}

static void test_choose__never_takes_who_may_not_be_taken(void **state)
{
	static const struct override drained = {"b", true, -1};
	struct world *w = *state;

	score_note(&w->health[A], PROBE_RESET, 0, 0, 1, 1);
	replan(w, &drained, 1);
	for (uint32_t hash = 0; hash < 100; hash++) {
		size_t taken =
			choose(w->plan, &w->plan->rows[0], w->nodes, hash * 2654435761u, NULL);

		assert_true(taken == C || taken == D);
		/* r is e (weight 0), f, d */
		taken = choose(w->plan, &w->plan->rows[2], w->nodes, hash * 2654435761u, NULL);
		assert_true(taken == F || taken == D);
	}
}

static void test_choose__leaves_out_who_has_been_tried(void **state)
{
	struct world *w = *state;
	const struct plan_row *row = &w->plan->rows[0];
	bool tried[ENDPOINTS] = {false};
	size_t order[ENDPOINTS], n = 0, tier;

	for (;;) {
		size_t taken = choose_except(w->plan, row, w->nodes, 7, tried, &tier);

		if (taken == CHOOSE_NONE)
			break;
		assert_false(tried[taken]);
		assert_int_equal(tier, n < 2 ? 0 : 1);
		tried[taken] = true;
		order[n++] = taken;
	}
	assert_int_equal(n, 4);
	assert_true(order[0] + order[1] == A + B && order[2] + order[3] == C + D);
}

static void test_choose__believes_the_view_it_is_given(void **state)
{
	struct world *w = *state;

	w->nodes[choose_slot(A)].state =
		MG_NODE_FREE; /* left out by the caller, though the plan has it */
	w->nodes[choose_slot(B)].state = MG_NODE_DOWN;
	w->nodes[choose_slot(C)].state = MG_NODE_GONE;
	assert_int_equal(choose_p(w, NULL), D);
}

static void test_choose__needs_a_hop_only_as_the_kernel(void **state)
{
	struct world *w = *state;
	const struct plan_row *row = &w->plan->rows[0];

	assert_int_equal(choose_hop(w->plan, row, w->nodes, 1, NULL), CHOOSE_NONE);
	w->nodes[choose_slot(C)].hop.ifindex = 3;
	assert_int_equal(choose_hop(w->plan, row, w->nodes, 1, NULL), C);
	assert_true(choose(w->plan, row, w->nodes, 1, NULL) <= B);
}

static void test_choose__judges_one_endpoint(void **state)
{
	struct world *w = *state;

	assert_int_equal(choose_judge(w->nodes, A), CHOOSE_OK);
	assert_int_equal(choose_judge(w->nodes, E), CHOOSE_WEIGHT_ZERO);
	w->nodes[choose_slot(A)].relayed = 2;
	assert_int_equal(choose_judge(w->nodes, A), CHOOSE_FULL);
	w->nodes[choose_slot(A)].state = MG_NODE_DRAIN;
	assert_int_equal(choose_judge(w->nodes, A), CHOOSE_DRAINING);
	w->nodes[choose_slot(A)].state = MG_NODE_DOWN;
	assert_int_equal(choose_judge(w->nodes, A), CHOOSE_DOWN);
	w->nodes[choose_slot(A)].state = MG_NODE_GONE;
	assert_int_equal(choose_judge(w->nodes, A), CHOOSE_NOBODY);
}

/* "a taken p: REASON" a line */
static void describe(struct world *w, size_t row, bool hops, struct buf *out)
{
	const struct plan_row *from = &w->plan->rows[row];
	struct explain_candidate candidates[ENDPOINTS];
	size_t n = explain_count(from), taken;

	assert_true(n <= ENDPOINTS);
	taken = explain_row(w->plan, from, w->nodes, w->health, 12345, hops, candidates);
	for (size_t i = 0; i < n; i++) {
		const struct explain_candidate *c = &candidates[i];

		buf_printf(out, "%s %s %s: %s\n", w->plan->endpoints[c->endpoint].node,
			   explain_verdict_name(c->verdict), from->tiers[c->tier].persona,
			   c->reason);
		assert_int_equal(c->verdict == EXPLAIN_TAKEN, i == taken);
	}
	if (taken == CHOOSE_NONE)
		buf_puts(out, "nobody\n");
}

static void test_explain__tells_why_one_is_taken_and_the_others_not(void **state)
{
	struct world *w = *state;
	struct buf out = {0};

	w->nodes[choose_slot(A)].busy = 1;
	w->nodes[choose_slot(A)].connections = 3;
	score_note(&w->health[C], PROBE_REFUSED, 0, 0, 1, 1);
	replan(w, NULL, 0);
	describe(w, 0, false, &out);
	assert_string_equal(out.data,
			    "a possible p: more load, (busy 1 + 1) / weight 100\n"
			    "b taken p: the lowest load, (busy 0 + 1) / weight 100\n"
			    "c passed q: down: connection refused\n"
			    "d possible q: cascade to q: only when nobody before it has room\n");
	buf_fini(&out);
}

static void test_explain__tells_of_a_cascade(void **state)
{
	static const struct override drained = {"b", true, -1};
	struct world *w = *state;
	struct buf out = {0};

	w->nodes[choose_slot(A)].busy = 1;
	w->nodes[choose_slot(A)].embryos = 1;
	w->nodes[choose_slot(C)].connections = 1;
	replan(w, &drained, 1);
	describe(w, 0, false, &out);
	assert_string_equal(out.data,
			    "a passed p: full: 2 of 2 busy\n"
			    "b passed p: draining: finishes what it has\n"
			    "c possible q: the same load, more connections: 1 to 0\n"
			    "d taken q: cascade to q: nobody before it has room; the lowest load"
			    " there, (busy 0 + 1) / weight 100\n");
	buf_fini(&out);
}

static void test_explain__tells_that_nobody_has_room(void **state)
{
	struct world *w = *state;
	struct buf out = {0};

	w->nodes[choose_slot(C)].busy = 4;
	w->nodes[choose_slot(D)].busy = 5;
	describe(w, 1, false, &out);
	assert_string_equal(out.data, "c passed q: full: 4 of 4 busy\n"
				      "d passed q: full: 5 of 4 busy\nnobody\n");
	buf_fini(&out);
}

static void test_explain__tells_of_weights_ties_and_hops(void **state)
{
	struct world *w = *state;
	struct buf out = {0};

	w->nodes[choose_slot(D)].hop.ifindex = 1;
	describe(w, 2, true, &out);
	assert_string_equal(out.data, "e passed r: weight 0: no new connections\n"
				      "f passed r: its link-layer address is not known yet\n"
				      "d taken r: the lowest load, (busy 0 + 1) / weight 100\n");
	buf_clear(&out);
	describe(w, 1, false, &out);
	assert_non_null(strstr(out.data, "possible q: the same load and connections: such ties are"
					 " spread over the clients\n"));
	buf_fini(&out);
}

/* Whatever the counts: who is taken is who choose() takes, and nobody full or down is called
 * possible. */
static void test_explain__agrees_with_the_choice(void **state)
{
	struct world *w = *state;
	struct explain_candidate candidates[ENDPOINTS];
	unsigned random = 1;

	for (unsigned round = 0; round < 2000; round++) {
		const struct plan_row *row = &w->plan->rows[round % 3];
		size_t chosen, taken;

		for (size_t i = 0; i < ENDPOINTS; i++) {
			random = random * 1103515245u + 12345u;
			w->nodes[choose_slot(i)].busy = random >> 16 & 3;
			w->nodes[choose_slot(i)].connections = random >> 20 & 7;
		}
		chosen = choose(w->plan, row, w->nodes, random, NULL);
		taken = explain_row(w->plan, row, w->nodes, NULL, random, false, candidates);
		assert_int_equal(taken == CHOOSE_NONE, chosen == CHOOSE_NONE);
		assert_true(taken == CHOOSE_NONE || candidates[taken].endpoint == chosen);
		for (size_t i = 0; i < explain_count(row); i++)
			assert_int_equal(candidates[i].verdict == EXPLAIN_PASSED,
					 choose_judge(w->nodes, candidates[i].endpoint) !=
						 CHOOSE_OK);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_choose__takes_the_less_loaded_node),
		TEST(test_choose__cascades_when_full_and_says_so),
		TEST(test_choose__never_takes_who_may_not_be_taken),
		TEST(test_choose__leaves_out_who_has_been_tried),
		TEST(test_choose__believes_the_view_it_is_given),
		TEST(test_choose__needs_a_hop_only_as_the_kernel),
		TEST(test_choose__judges_one_endpoint),
		TEST(test_explain__tells_why_one_is_taken_and_the_others_not),
		TEST(test_explain__tells_of_a_cascade),
		TEST(test_explain__tells_that_nobody_has_room),
		TEST(test_explain__tells_of_weights_ties_and_hops),
		TEST(test_explain__agrees_with_the_choice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
