/* SPDX-License-Identifier: MIT */
#include "base/json.h"
#include "core/plan.h"
#include "farm.h"

/* Endpoints: 0 a/llm, 1 a/voice, 2 b/llm, 3 c/llm, 4 c/voice, 5 d/voice. */
#define NODES \
	"\"nodes\": {" \
	"\"a\": {\"address\": \"10.0.0.1\", \"weight\": 50, \"services\": {" \
	"  \"llm\": {\"engine\": \"ollama\", \"capacity\": 2, \"idle_ms\": 7}, \"voice\": " \
	"\"wyoming\"}}," \
	"\"b\": {\"address\": \"fd00::2\", \"services\": {\"llm\": {\"engine\": \"vllm\", " \
	"\"port\": 81}}}," \
	"\"c\": {\"address\": \"10.0.0.3\", \"services\": {\"llm\": \"ollama\", \"voice\": " \
	"\"wyoming\"}}," \
	"\"d\": {\"address\": \"10.0.0.4\", \"services\": {\"voice\": \"wyoming\"}}}"

static const char farm[] =
	"{\"gateway\": {\"datapath\": \"none\"}, \"router\": {\"queue_ms\": 77}," NODES
	",\"personas\": {"
	"\"p\": {\"nodes\": [\"b\", \"a\"], \"listen\": {\"llm\": 9001, \"voice\": 9002},"
	"  \"cascade\": [\"q\", \"r\"]},"
	"\"q\": {\"nodes\": [\"a\", \"c\"], \"listen\": {\"llm\": 9003}, \"affinity\": \"client\","
	"  \"cascade\": [\"s\"]},"
	"\"r\": {\"nodes\": [\"d\", \"c\"], \"listen\": {\"llm\": 9004}},"
	"\"s\": {\"nodes\": [\"d\"], \"listen\": {\"voice\": 9005}}}}";

#define ENDPOINTS 6

static void all_up(struct score health[ENDPOINTS])
{
	for (size_t i = 0; i < ENDPOINTS; i++) {
		score_init(&health[i]);
		score_note(&health[i], PROBE_OK, 1, 1, 1, 1);
	}
}

static struct plan *build(const struct override *overrides, size_t n, const size_t *down)
{
	struct model *model = farm_load(farm);
	struct score health[ENDPOINTS];
	struct plan *plan;

	assert_int_equal(model->n_endpoints, ENDPOINTS);
	all_up(health);
	if (down)
		score_note(&health[*down], PROBE_REFUSED, 0, 0, 1, 1);
	plan = plan_build(model, health, overrides, n, 42);
	assert_non_null(plan);
	model_free(model); /* the plan does not need it any more */
	return plan;
}

/* "p: 2 0 | q: 3" */
static void describe(const struct plan_row *row, char out[256])
{
	struct buf buf = {0};

	for (size_t t = 0; t < row->n_tiers; t++) {
		buf_printf(&buf, "%s%s:", t ? " | " : "", row->tiers[t].persona);
		for (size_t i = 0; i < row->tiers[t].n_endpoints; i++)
			buf_printf(&buf, " %u", row->tiers[t].endpoints[i]);
	}
	snprintf(out, 256, "%s", buf.data);
	buf_fini(&buf);
}

static void test_plan__has_a_row_for_each_listener(void **state)
{
	static const struct {
		const char *persona, *service;
		uint16_t port;
		enum mg_affinity affinity;
		const char *tiers;
	} rows[] = {
		/* a is in p and q: once. r's c is q's already, its d has no llm: an empty tier. */
		{"p", "llm", 9001, MG_AFFINITY_NONE, "p: 2 0 | q: 3 | r:"},
		{"p", "voice", 9002, MG_AFFINITY_NONE, "p: 1 | q: 4 | r: 5"},
		/* s has no llm. And p's cascade to q does not reach q's own cascade, s. */
		{"q", "llm", 9003, MG_AFFINITY_CLIENT, "q: 0 3 | s:"},
		{"r", "llm", 9004, MG_AFFINITY_NONE, "r: 3"},
		{"s", "voice", 9005, MG_AFFINITY_NONE, "s: 5"},
	};
	struct plan *plan = build(NULL, 0, NULL);
	char tiers[256];

	(void)state;
	assert_int_equal(plan->version, 42);
	assert_int_equal(plan->queue_ms, 77);
	assert_int_equal(plan->n_rows, COUNT(rows));
	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_string_equal(plan->rows[i].persona, rows[i].persona);
		assert_string_equal(plan->rows[i].service, rows[i].service);
		assert_int_equal(plan->rows[i].port, rows[i].port);
		assert_int_equal(plan->rows[i].affinity, rows[i].affinity);
		describe(&plan->rows[i], tiers);
		assert_string_equal(tiers, rows[i].tiers);
	}
	plan_free(plan);
}

static void test_plan__has_the_endpoints_of_the_model(void **state)
{
	struct plan *plan = build(NULL, 0, NULL);
	const struct plan_endpoint *a = &plan->endpoints[0], *b = &plan->endpoints[2];
	char text[ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(plan->n_endpoints, ENDPOINTS);
	assert_string_equal(a->node, "a");
	assert_string_equal(a->service, "llm");
	assert_int_equal(a->weight, 50);
	assert_int_equal(a->capacity, 2);
	assert_int_equal(a->idle_ms, 7);
	assert_int_equal(a->state, MG_NODE_UP);
	assert_int_equal(b->engine, ENGINE_VLLM);
	assert_string_equal(addr_format_port(&b->addr, b->port, text), "[fd00::2]:81");
	assert_int_equal(b->capacity, 0);
	plan_free(plan);
}

static void test_plan__follows_health_and_overrides(void **state)
{
	static const struct override overrides[] = {
		{"a", true, -1}, {"b", false, 0}, {"c", true, 1000}, {"gone", true, 5}};
	const size_t down = 3; /* c/llm */
	struct plan *plan = build(overrides, COUNT(overrides), &down);
	const struct plan_endpoint *e = plan->endpoints;

	(void)state;
	assert_int_equal(e[0].state, MG_NODE_DRAIN);
	assert_int_equal(e[1].state, MG_NODE_DRAIN);
	assert_int_equal(e[0].weight, 50);
	assert_int_equal(e[2].state, MG_NODE_UP);
	assert_int_equal(e[2].weight, 0);
	assert_int_equal(e[3].state,
			 MG_NODE_DOWN); /* dead beats drained: its connections must go */
	assert_int_equal(e[4].state, MG_NODE_DRAIN);
	assert_int_equal(e[4].weight, 1000);
	assert_int_equal(e[5].state, MG_NODE_UP);
	assert_false(plan_eligible(&e[0]));
	assert_false(plan_eligible(&e[2]));
	assert_false(plan_eligible(&e[3]));
	assert_true(plan_eligible(&e[5]));
	plan_free(plan);
}

static void test_plan__an_endpoint_not_probed_yet_is_down(void **state)
{
	struct model *model = farm_load(farm);
	struct score health[ENDPOINTS];
	struct plan *plan;

	(void)state;
	for (size_t i = 0; i < ENDPOINTS; i++)
		score_init(&health[i]);
	plan = plan_build(model, health, NULL, 0, 1);
	assert_int_equal(plan->endpoints[0].state, MG_NODE_DOWN);
	plan_free(plan);
	model_free(model);
}

static void test_plan__fills_a_row_with_who_may_be_taken(void **state)
{
	static const struct override drained = {"a", true, -1};
	static const uint16_t slots[ENDPOINTS] = {11, 12, 0, 14, 15, 16};
	struct plan *plan = build(&drained, 1, NULL);
	uint16_t list[MG_ROW_MAX];
	struct mg_row row;

	(void)state;
	memset(&row, 0xff, sizeof(row));
	/* p/voice: "p: 1 | q: 4 | r: 5", and endpoint 1 is on a, which drains */
	assert_int_equal(plan_fill_row(plan, &plan->rows[1], slots, &row, list), 2);
	assert_string_equal(row.name, "p/voice");
	assert_int_equal(row.listener, 1);
	assert_int_equal(row.more, 0);
	assert_int_equal(row.count, 2);
	assert_int_equal(row.tiers, 3);
	assert_int_equal(row.tier_end[0], 0);
	assert_int_equal(row.tier_end[1], 1);
	assert_int_equal(row.tier_end[2], 2);
	assert_int_equal(row.node[0], 15);
	assert_int_equal(list[1], 16);
	/* p/llm: "p: 2 0 | q: 3 | r:"; endpoint 2 has no slot here */
	assert_int_equal(plan_fill_row(plan, &plan->rows[0], slots, &row, list), 1);
	assert_int_equal(list[0], 14);
	assert_int_equal(plan_fill_row(plan, &plan->rows[0], NULL, &row, list), 2);
	assert_int_equal(list[0], 3);
	assert_int_equal(list[1], 4);
	assert_int_equal(plan_fill_row(plan, &plan->rows[2], NULL, &row, list), 1);
	assert_int_equal(row.affinity, MG_AFFINITY_CLIENT);
	plan_free(plan);
}

static void test_plan__leaves_a_long_row_to_its_list(void **state)
{
	struct plan_endpoint endpoints[MG_ROW_INLINE + 1];
	uint32_t members[MG_ROW_INLINE + 1];
	struct plan_tier tier = {.persona = "p", .endpoints = members};
	struct plan_row from = {.persona = "p", .service = "s", .tiers = &tier, .n_tiers = 1};
	struct plan plan = {.endpoints = endpoints, .rows = &from, .n_rows = 1};
	uint16_t list[MG_ROW_MAX];
	struct mg_row row;

	(void)state;
	memset(endpoints, 0, sizeof(endpoints));
	for (uint32_t i = 0; i <= MG_ROW_INLINE; i++) {
		members[i] = i;
		endpoints[i].state = MG_NODE_UP;
		endpoints[i].weight = 1;
	}
	plan.n_endpoints = MG_ROW_INLINE + 1;
	tier.n_endpoints = MG_ROW_INLINE;
	assert_int_equal(plan_fill_row(&plan, &from, NULL, &row, list), MG_ROW_INLINE);
	assert_int_equal(row.node[MG_ROW_INLINE - 1], MG_ROW_INLINE);
	tier.n_endpoints = MG_ROW_INLINE + 1;
	assert_int_equal(plan_fill_row(&plan, &from, NULL, &row, list), MG_ROW_INLINE + 1);
	assert_int_equal(row.node[0], 0);
	assert_int_equal(list[MG_ROW_INLINE], MG_ROW_INLINE + 1);
}

static void test_plan__fills_a_node_and_keeps_its_counts(void **state)
{
	static const uint8_t port[2] = {0, 81};
	struct plan *plan = build(NULL, 0, NULL);
	struct mg_node node;

	(void)state;
	memset(&node, 0x11, sizeof(node));
	plan_fill_node(&plan->endpoints[2], &node);
	assert_string_equal(node.name, "b/llm");
	assert_memory_equal(node.addr, plan->endpoints[2].addr.bytes, 16);
	assert_memory_equal(&node.port_be, port, 2);
	assert_int_equal(node.state, MG_NODE_UP);
	assert_int_equal(node.weight, 100);
	assert_int_equal(node.capacity, 0);
	assert_int_equal(node.idle_ms, 3000);
	assert_int_equal(node.busy, 0x11111111);
	assert_int_equal(node.generation, 0x11111111);
	plan_free(plan);
}

static void test_plan__comes_back_from_json_as_it_was(void **state)
{
	static const struct override drained = {"c", true, -1};
	const size_t down = 0;
	struct plan *plan = build(&drained, 1, &down), *back;
	struct buf out = {0}, again = {0};
	struct json_error bad;
	struct json *json;
	char error[256];

	(void)state;
	plan_write(plan, &out);
	assert_null(strchr(out.data, '\n')); /* one line of the stream */
	json = json_parse(out.data, out.len, 0, &bad);
	assert_non_null(json);
	back = plan_read(json, error);
	assert_non_null(back);
	plan_write(back, &again);
	assert_string_equal(out.data, again.data);
	assert_memory_equal(back->endpoints, plan->endpoints, ENDPOINTS * sizeof(*plan->endpoints));
	assert_int_equal(back->n_rows, plan->n_rows);
	assert_int_equal(back->rows[2].affinity, MG_AFFINITY_CLIENT);
	json_free(json);
	plan_free(back);
	plan_free(plan);
	buf_fini(&out);
	buf_fini(&again);
}

#define GOOD_ENDPOINT \
	"{\"node\":\"a\",\"service\":\"s\",\"address\":\"10.0.0.1\",\"port\":80,\"engine\":" \
	"\"http\"," \
	"\"state\":\"up\",\"weight\":1,\"capacity\":0,\"idle_ms\":3000}"
#define GOOD_ROW \
	"{\"persona\":\"p\",\"service\":\"s\",\"port\":9001,\"affinity\":\"none\"," \
	"\"tiers\":[{\"persona\":\"p\",\"endpoints\":[0]}]}"
#define HEAD "{\"version\":1,\"queue_ms\":0,"

/* What is replaced in a good document, by what, and what plan_read() says then. */
static const struct {
	const char *from, *to, *error;
} damages[] = {
	{"\"version\":1,", "", "\"version\" is no number in 0..9007199254740992"},
	{"\"queue_ms\":0", "\"queue_ms\":-1", "\"queue_ms\" is no number in 0..4294967295"},
	{"\"node\":\"a\"", "\"node\":\"\"", "\"node\" is no name"},
	{"\"node\":\"a\"", "\"node\":\"abcdefghijklmnopqrstuvwxyz-12345\"", "\"node\" is no name"},
	{"10.0.0.1", "10.0.0", "\"address\" is no address"},
	{"\"port\":80,", "\"port\":0,", "\"port\" is 0"},
	{"\"port\":80,", "\"port\":65536,", "\"port\" is no number in 0..65535"},
	{"\"http\"", "\"gopher\"", "\"engine\" is not known"},
	{"\"up\"", "\"UP\"", "\"state\" is not known"},
	{"\"weight\":1", "\"weight\":1001", "\"weight\" is no number in 0..1000"},
	{"\"capacity\":0", "\"capacity\":0.5", "\"capacity\" is no number in 0..4294967295"},
	{"\"none\"", "\"some\"", "\"affinity\" is not known"},
	{"\"tiers\":[{\"persona\":\"p\",\"endpoints\":[0]}]", "\"tiers\":[]", "\"tiers\" is empty"},
	{"\"endpoints\":[0]", "\"endpoints\":[1]", "no index of an endpoint"},
	{"\"endpoints\":[0]", "\"endpoints\":[-1]", "no index of an endpoint"},
	{"\"endpoints\":[0]", "\"endpoints\":[\"a\"]", "no index of an endpoint"},
	{"\"endpoints\":[0]", "\"endpoints\":{}", "\"endpoints\" is no array of at most 1024"},
	{"\"rows\"", "\"Rows\"", "\"rows\" is no array of at most 65535"},
};

static void replace(const char *text, const char *from, const char *to, struct buf *out)
{
	const char *at = strstr(text, from);

	assert_non_null(at);
	buf_add(out, text, (size_t)(at - text));
	buf_puts(out, to);
	buf_puts(out, at + strlen(from));
}

static void test_plan__refuses_a_damaged_document(void **state)
{
	static const char good[] =
		HEAD "\"endpoints\":[" GOOD_ENDPOINT "],\"rows\":[" GOOD_ROW "]}";
	char error[256], expected[300];
	struct json_error bad;

	(void)state;
	for (size_t i = 0; i < COUNT(damages); i++) {
		struct buf text = {0};
		struct json *json;
		struct plan *plan;

		replace(good, damages[i].from, damages[i].to, &text);
		json = json_parse(text.data, text.len, 0, &bad);
		assert_non_null(json);
		plan = plan_read(json, error);
		if (plan)
			fail_msg("%s is taken", damages[i].to);
		snprintf(expected, sizeof(expected), "plan, line 1: %s", damages[i].error);
		assert_string_equal(error, expected);
		json_free(json);
		buf_fini(&text);
	}
}

static void test_plan__ignores_what_a_later_version_adds(void **state)
{
	static const char text[] =
		HEAD "\"new\":{},\"endpoints\":[" GOOD_ENDPOINT "],\"rows\":[" GOOD_ROW "]}";
	struct json_error bad;
	struct json *json = json_parse(text, sizeof(text) - 1, 0, &bad);
	char error[256];
	struct plan *plan = plan_read(json, error);

	(void)state;
	assert_non_null(plan);
	assert_int_equal(plan->n_rows, 1);
	plan_free(plan);
	json_free(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plan__has_a_row_for_each_listener),
		cmocka_unit_test(test_plan__has_the_endpoints_of_the_model),
		cmocka_unit_test(test_plan__follows_health_and_overrides),
		cmocka_unit_test(test_plan__an_endpoint_not_probed_yet_is_down),
		cmocka_unit_test(test_plan__fills_a_row_with_who_may_be_taken),
		cmocka_unit_test(test_plan__leaves_a_long_row_to_its_list),
		cmocka_unit_test(test_plan__fills_a_node_and_keeps_its_counts),
		cmocka_unit_test(test_plan__comes_back_from_json_as_it_was),
		cmocka_unit_test(test_plan__refuses_a_damaged_document),
		cmocka_unit_test(test_plan__ignores_what_a_later_version_adds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
