/* SPDX-License-Identifier: MIT */
/* What the router is told beside the plan. */
#include "base/json.h"
#include "core/catalog.h"
#include "farm.h"

/* Endpoints: 0 a/llm, 1 a/voice, 2 b/llm, 3 c/llm. */
static const char farm[] =
	"{\"gateway\": {\"datapath\": \"none\"},"
	"\"router\": {\"listen\": \"[::1]:4500\", \"keys_file\": \"/etc/keys\", \"max_body_mb\": "
	"4096,"
	"  \"queue_ms\": 1, \"queue_length\": 2, \"first_byte_timeout_ms\": 3, \"head_max_kb\": "
	"1024,"
	"  \"head_fields_max\": 8, \"head_timeout_ms\": 4, \"idle_timeout_ms\": 5},"
	"\"nodes\": {"
	"\"a\": {\"address\": \"10.0.0.1\", \"services\": {\"llm\": \"ollama\", \"voice\": "
	"\"wyoming\"}},"
	"\"b\": {\"address\": \"10.0.0.2\", \"services\": {\"llm\": \"vllm\"}},"
	"\"c\": {\"address\": \"10.0.0.3\", \"services\": {\"llm\": \"ollama\"}}},"
	"\"personas\": {"
	"\"p\": {\"nodes\": [\"a\", \"b\"], \"listen\": {\"llm\": 9001}},"
	"\"q\": {\"nodes\": [\"c\"], \"listen\": {\"llm\": 9002}}},"
	"\"models\": {\"z\": {\"targets\": [{\"persona\": \"q\", \"model\": \"r1:latest\"},"
	"  {\"persona\": \"p\"}], \"affinity\": \"session\"}, \"a\": \"z\"}}";

#define ENDPOINTS 4

static struct catalog *build(const struct catalog_known *known)
{
	struct model *model = farm_load(farm);
	struct catalog *catalog;

	assert_int_equal(model->n_endpoints, ENDPOINTS);
	catalog = catalog_build(model, known);
	assert_non_null(catalog);
	model_free(model); /* the catalog does not need it any more */
	return catalog;
}

/* b has told that it has r1 (twice) and qwen, a that it has qwen and holds it, c nothing yet. */
static struct catalog *example(void)
{
	char qwen[] = "qwen", r1[] = "r1:latest", about_a[] = "{\"size\":1}",
	     about_b[] = "{\"n\":[2]}";
	char running[] = "{\"expires_at\":\"soon\"}";
	char *a[] = {qwen}, *about_of_a[] = {about_a}, *running_a[] = {running};
	char *b[] = {r1, qwen, r1}, *about_of_b[] = {NULL, about_b, about_a};
	const struct catalog_known known[ENDPOINTS] = {
		[0] = {true, a, about_of_a, 1, a, running_a, 1},
		[2] = {true, b, about_of_b, 3, NULL, NULL, 0},
	};

	return build(known);
}

static void test_catalog__has_the_settings(void **state)
{
	struct catalog *catalog = example();
	const struct catalog_settings *s = &catalog->settings;
	char text[ADDR_TEXT_MAX];

	(void)state;
	assert_string_equal(addr_format_port(&s->address, s->port, text), "[::1]:4500");
	assert_true(s->keys_required);
	assert_int_equal(s->max_body, UINT64_C(4096) << 20);
	assert_int_equal(s->queue_ms, 1);
	assert_int_equal(s->queue_length, 2);
	assert_int_equal(s->first_byte_timeout_ms, 3);
	assert_int_equal(s->head_max, 1024 << 10);
	assert_int_equal(s->fields_max, 8);
	assert_int_equal(s->head_timeout_ms, 4);
	assert_int_equal(s->idle_timeout_ms, 5);
	catalog_free(catalog);
	catalog_free(NULL);
}

static void test_catalog__has_the_aliases_in_their_order(void **state)
{
	struct catalog *catalog = example();

	(void)state;
	assert_int_equal(catalog->n_aliases, 2);
	assert_string_equal(catalog->aliases[0].name, "z");
	assert_string_equal(catalog->aliases[1].name, "a");
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(catalog->aliases[i].n_targets, 2);
		assert_string_equal(catalog->aliases[i].targets[0].persona, "q");
		assert_string_equal(catalog->aliases[i].targets[0].model, "r1:latest");
		assert_string_equal(catalog->aliases[i].targets[1].persona, "p");
		assert_null(catalog->aliases[i].targets[1].model);
		assert_true(catalog->aliases[i].session);
	}
	catalog_free(catalog);
}

static void test_catalog__knows_who_has_which_model(void **state)
{
	struct catalog *catalog = example();
	const struct catalog_model *qwen = &catalog->models[0], *r1 = &catalog->models[1];

	(void)state;
	assert_int_equal(catalog->n_models, 2); /* in order, each once */
	assert_string_equal(qwen->name, "qwen");
	assert_int_equal(qwen->n_has, 2);
	assert_int_equal(qwen->has[0], 0);
	assert_int_equal(qwen->has[1], 2);
	assert_int_equal(qwen->n_loaded, 1);
	assert_int_equal(qwen->loaded[0], 0);
	assert_string_equal(qwen->about, "{\"size\":1}"); /* the first node's that tells one */
	assert_string_equal(qwen->running, "{\"expires_at\":\"soon\"}");
	assert_string_equal(r1->name, "r1:latest");
	assert_int_equal(r1->n_has, 1);
	assert_int_equal(r1->n_loaded, 0);
	assert_string_equal(r1->about, "{\"size\":1}");
	assert_null(r1->running);
	catalog_free(catalog);
}

static void test_catalog__knows_who_has_told(void **state)
{
	struct catalog *catalog = example();

	(void)state;
	assert_int_equal(catalog->n_endpoints, ENDPOINTS);
	assert_true(catalog->said[0]);
	assert_false(catalog->said[1]);
	assert_true(catalog->said[2]);
	assert_false(catalog->said[3]);
	catalog_free(catalog);
}

/* The names of one endpoint are all in, or it counts as one that has not told. */
static void test_catalog__stays_a_line_that_can_be_read(void **state)
{
	enum { N = CATALOG_NAMES_MAX / 100 / 2 }; /* two such endpoints are too many */
	char **names = calloc(N, sizeof(*names)), **texts = calloc(N, sizeof(*texts));
	struct catalog_known known[ENDPOINTS] = {{0}};
	struct catalog *catalog, *back;
	struct buf out = {0};
	struct json_error bad;
	struct json *json;
	char error[256];

	(void)state;
	for (int i = 0; i < N; i++) {
		names[i] = malloc(100);
		texts[i] = malloc(CATALOG_TEXT_MAX);
		snprintf(names[i], 100, "%094d", i);
		snprintf(texts[i], CATALOG_TEXT_MAX, "{\"t\":\"%04000d\"}", i);
	}
	known[0] = (struct catalog_known){true, names, texts, N, names, texts, 1};
	known[2] = (struct catalog_known){true, names, texts, N, NULL, NULL, 0};
	known[3] = (struct catalog_known){true, names, texts, 1, NULL, NULL, 0};
	catalog = build(known);
	assert_true(catalog->said[0]);
	assert_false(catalog->said[2]);
	assert_true(catalog->said[3]);
	assert_int_equal(catalog->n_models, N);
	assert_non_null(catalog->models[0].about);
	assert_null(catalog->models[N - 1].about);
	catalog_write(catalog, &out);
	assert_true(out.len < CATALOG_NAMES_MAX + CATALOG_TEXTS_MAX + 64 * N);
	json = json_parse(out.data, out.len, 0, &bad);
	back = catalog_read(json, ENDPOINTS, error);
	assert_non_null(back);
	json_free(json);
	catalog_free(back);
	catalog_free(catalog);
	buf_fini(&out);
	for (int i = 0; i < N; i++) {
		free(names[i]);
		free(texts[i]);
	}
	free(names);
	free(texts);
}

static void test_catalog__leaves_out_names_that_nobody_could_send(void **state)
{
	char longest[CATALOG_NAME_MAX + 1], too_long[CATALOG_NAME_MAX + 2], control[] = "a\nb";
	char empty[] = "", good[] = "\"good\"";
	char *names[] = {too_long, longest, control, empty, good};
	const struct catalog_known known[ENDPOINTS] = {{true, names, NULL, 5, NULL, NULL, 0}};
	struct catalog *catalog;

	(void)state;
	memset(longest, 'x', sizeof(longest));
	memset(too_long, 'x', sizeof(too_long));
	longest[CATALOG_NAME_MAX] = '\0';
	too_long[CATALOG_NAME_MAX + 1] = '\0';
	catalog = build(known);
	assert_int_equal(catalog->n_models, 2);
	assert_string_equal(catalog->models[0].name, "\"good\"");
	assert_string_equal(catalog->models[1].name, longest);
	catalog_free(catalog);
}

#define DEEP_8	"{\"a\":[{\"a\":[{\"a\":[{\"a\":["
#define CLOSE_8 "]}]}]}]}"

static const struct {
	const char *text;
	bool fits;
} texts[] = {
	{"{}", true},
	{"{\"a\":{\"b\":[1,{}]},\"c\":\"}]{[\"}", true},
	{"{\"a\":\"\\\"}\"}", true},
	{DEEP_8 DEEP_8 "1" CLOSE_8 CLOSE_8, true},
	{DEEP_8 DEEP_8 "[]" CLOSE_8 CLOSE_8, false},
	{"", false},
	{"null", false},
	{"[]", false},
	{"{", false},
	{"}", false},
	{"{}{}", false},
	{"{} ", false},
	{"{\"a\":\"b}", false},
	{"{\"a\":\"\\", false},
	{"{\n}", false},
	{"{\"a\":1}]", false},
};

static void test_catalog__entries_fit_into_the_line(void **state)
{
	char text[CATALOG_TEXT_MAX + 2];

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++)
		if (catalog_text_fits(texts[i].text) != texts[i].fits)
			fail_msg("%s", texts[i].text);
	memset(text, ' ', sizeof(text));
	text[0] = '{';
	text[CATALOG_TEXT_MAX - 1] = '}';
	text[CATALOG_TEXT_MAX] = '\0';
	assert_true(catalog_text_fits(text));
	text[CATALOG_TEXT_MAX - 1] = ' ';
	text[CATALOG_TEXT_MAX] = '}';
	text[CATALOG_TEXT_MAX + 1] = '\0';
	assert_false(catalog_text_fits(text));
	memset(text + 2, '\\', CATALOG_TEXT_MAX - 2); /* an escape must not jump over the end */
	text[1] = '"';
	text[CATALOG_TEXT_MAX] = '\0';
	assert_false(catalog_text_fits(text));
}

/* What does not fit is left out, the model stays. */
static void test_catalog__goes_without_an_entry_that_does_not_fit(void **state)
{
	char name[] = "m", bad[] = "{\n}";
	char *names[] = {name}, *abouts[] = {bad};
	const struct catalog_known known[ENDPOINTS] = {{true, names, abouts, 1, names, abouts, 1}};
	struct catalog *catalog = build(known);

	(void)state;
	assert_int_equal(catalog->n_models, 1);
	assert_null(catalog->models[0].about);
	assert_null(catalog->models[0].running);
	assert_int_equal(catalog->models[0].n_loaded, 1);
	catalog_free(catalog);
}

static void test_catalog__comes_back_from_json_as_it_was(void **state)
{
	struct catalog *catalog = example(), *back;
	struct buf out = {0}, again = {0};
	struct json_error bad;
	struct json *json;
	char error[256] = "";

	(void)state;
	catalog_write(catalog, &out);
	assert_null(strchr(out.data, '\n')); /* one line of the stream */
	json = json_parse(out.data, out.len, 0, &bad);
	assert_non_null(json);
	back = catalog_read(json, ENDPOINTS, error);
	if (!back)
		fail_msg("%s", error);
	catalog_write(back, &again);
	assert_string_equal(out.data, again.data);
	assert_int_equal(back->n_models, 2);
	assert_memory_equal(back->said, catalog->said, ENDPOINTS * sizeof(bool));
	json_free(json);
	catalog_free(back);
	catalog_free(catalog);
	buf_fini(&out);
	buf_fini(&again);
}

#define GOOD \
	"{\"settings\":{\"address\":\"127.0.0.1\",\"port\":4000,\"keys_required\":false," \
	"\"max_body\":1,\"queue_ms\":1,\"queue_length\":1,\"first_byte_timeout_ms\":1,\"head_" \
	"max\":1," \
	"\"fields_max\":8,\"head_timeout_ms\":1,\"idle_timeout_ms\":1}," \
	"\"aliases\":[{\"name\":\"x\",\"session\":true,\"targets\":[{\"persona\":\"p\",\"model\":" \
	"null}]}]," \
	"\"models\":[{\"name\":\"m\",\"about\":{\"a\":1},\"running\":null,\"has\":[0,2]," \
	"\"loaded\":[2]}," \
	"{\"name\":\"n\",\"about\":null,\"running\":null,\"has\":[],\"loaded\":[]}]," \
	"\"said\":[true,false,true]}"
#define N_GOOD 3

/* What is replaced in the good document, by what, and what catalog_read() says then. */
static const struct {
	const char *from, *to, *error;
} damages[] = {
	{"\"settings\"", "\"Settings\"", "\"address\" is no address"},
	{"127.0.0.1", "127.0.0", "\"address\" is no address"},
	{"\"port\":4000", "\"port\":0", "\"port\" is 0"},
	{"\"keys_required\":false", "\"keys_required\":0",
	 "\"keys_required\" is neither true nor false"},
	{"\"max_body\":1", "\"max_body\":4294967297", "\"max_body\" is no number in 0..4294967296"},
	{"\"queue_ms\":1", "\"queue_ms\":3600001", "\"queue_ms\" is no number in 0..3600000"},
	{"\"queue_length\":1", "\"queue_length\":65537",
	 "\"queue_length\" is no number in 0..65536"},
	{"\"first_byte_timeout_ms\":1", "\"first_byte_timeout_ms\":-1",
	 "\"first_byte_timeout_ms\" is no number in 0..3600000"},
	{"\"head_max\":1", "\"head_max\":1048577", "\"head_max\" is no number in 0..1048576"},
	{"\"fields_max\":8", "\"fields_max\":1001", "\"fields_max\" is no number in 0..1000"},
	{"\"head_timeout_ms\":1", "\"head_timeout_ms\":0.5",
	 "\"head_timeout_ms\" is no number in 0..3600000"},
	{"\"idle_timeout_ms\":1", "\"idle_timeout_ms\":\"1\"",
	 "\"idle_timeout_ms\" is no number in 0..3600000"},
	{"\"aliases\":[", "\"aliases\":1,\"b\":[", "\"aliases\" is no array of at most 1048576"},
	{"\"name\":\"x\"", "\"name\":\"\"", "\"name\" is no name of a model"},
	{"\"name\":\"x\"", "\"name\":\"\\u0007\"", "\"name\" has a control character"},
	{"\"session\":true", "\"session\":null", "\"session\" is neither true nor false"},
	{"[{\"persona\":\"p\",\"model\":null}]", "[]", "\"targets\" is empty"},
	{"[{\"persona\":\"p\",\"model\":null}]", "[1]", "\"persona\" is no name"},
	{"\"model\":null", "\"model\":1", "\"model\" is no name of a model"},
	{"\"model\":null", "\"model\":\"\"", "\"model\" is no name of a model"},
	{"\"models\":[", "\"models\":{},\"b\":[", "\"models\" is no array of at most 1048576"},
	{"\"name\":\"m\"", "\"name\":7", "\"name\" is no name of a model"},
	{"\"name\":\"m\"", "\"name\":\"n\"", "\"models\" is not in order"},
	{"\"name\":\"m\"", "\"name\":\"o\"", "\"models\" is not in order"},
	{"\"about\":{\"a\":1}", "\"about\":[]", "\"about\" is no object"},
	{"\"about\":{\"a\":1},", "", "\"about\" is no object"},
	{"\"about\":{\"a\":1}", "\"about\":" DEEP_8 DEEP_8 "[]" CLOSE_8 CLOSE_8,
	 "\"about\" is longer or deeper than allowed"},
	{"\"running\":null", "\"running\":\"\"", "\"running\" is no object"},
	{"[0,2]", "[0,3]", "no index of an endpoint"},
	{"[0,2]", "[-1,2]", "no index of an endpoint"},
	{"[0,2]", "[2,0]", "\"has\" does not ascend"},
	{"[0,2]", "[2,2]", "\"has\" does not ascend"},
	{"[0,2]", "[0,1,2,2]", "\"has\" is no array of at most 3"},
	{"\"loaded\":[2]", "\"loaded\":2", "\"loaded\" is no array of at most 3"},
	{"[true,false,true]", "[true,false]", "\"said\" has 2 of 3 endpoints"},
	{"[true,false,true]", "[true,false,true,true]", "\"said\" is no array of at most 3"},
	{"[true,false,true]", "[true,false,1]", "\"said\" is neither true nor false"},
};

static void replace(const char *text, const char *from, const char *to, struct buf *out)
{
	const char *at = strstr(text, from);

	if (!at)
		fail_msg("nowhere: %s", from);
	buf_add(out, text, (size_t)(at - text));
	buf_puts(out, to);
	buf_puts(out, at + strlen(from));
}

static struct catalog *read(const char *text, char error[256])
{
	struct json_error bad;
	struct json *json = json_parse(text, strlen(text), 0, &bad);
	struct catalog *catalog;

	if (!json)
		fail_msg("%s: %s", bad.text, text);
	catalog = catalog_read(json, N_GOOD, error);
	json_free(json);
	return catalog;
}

static void test_catalog__trusts_no_document(void **state)
{
	char error[256] = "", expected[300];
	struct catalog *catalog = read(GOOD, error);

	(void)state;
	if (!catalog)
		fail_msg("%s", error);
	catalog_free(catalog);
	for (size_t i = 0; i < COUNT(damages); i++) {
		struct buf text = {0};

		replace(GOOD, damages[i].from, damages[i].to, &text);
		error[0] = '\0';
		if (read(text.data, error))
			fail_msg("taken: %s", damages[i].to);
		snprintf(expected, sizeof(expected), "catalog, line 1: %s", damages[i].error);
		assert_string_equal(error, expected);
		buf_fini(&text);
	}
	assert_null(catalog_read(NULL, 0, error));
	assert_string_equal(error, "catalog, line 0: \"address\" is no address");
}

static void test_catalog__ignores_what_a_later_version_adds(void **state)
{
	struct buf text = {0};
	char error[256];
	struct catalog *catalog;

	(void)state;
	replace(GOOD, "\"settings\":{", "\"weather\":[1],\"settings\":{\"x\":{},", &text);
	catalog = read(text.data, error);
	assert_non_null(catalog);
	catalog_free(catalog);
	buf_fini(&text);
}

static const struct {
	const char *a, *b;
	bool equal;
} names[] = {
	{"x", "x", true},
	{"x", "x:latest", true},
	{"library/x", "x", true},
	{"registry.ollama.ai/library/x", "x:latest", true},
	{"registry.ollama.ai/library/x:7b", "library/x:7b", true},
	{"registry.ollama.ai/me/x", "me/x:latest", true},
	{"x:7b", "x", false},
	{"x:7b", "x:7B", false},
	{"x", "X", false},
	{"x", "y", false},
	{"x:latest:latest", "x", false},
	{"me/x", "x", false},
	{"library/me/x", "me/x", false},      /* then library is a host */
	{"registry.ollama.ai/x", "x", false}, /* and this a namespace */
	{"hf.co/library/x", "x", false},
	{"library/", "", false},
	{"xlatest", "x", false},
	{"meta-llama/Llama-3", "meta-llama/Llama-3:latest", true},
	{"", "", true},
};

static void test_catalog__knows_names_of_the_same_model(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(names); i++)
		if (catalog_name_equal(names[i].a, names[i].b) != names[i].equal ||
		    catalog_name_equal(names[i].b, names[i].a) != names[i].equal)
			fail_msg("%s and %s", names[i].a, names[i].b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_catalog__has_the_settings),
		cmocka_unit_test(test_catalog__has_the_aliases_in_their_order),
		cmocka_unit_test(test_catalog__knows_who_has_which_model),
		cmocka_unit_test(test_catalog__knows_who_has_told),
		cmocka_unit_test(test_catalog__stays_a_line_that_can_be_read),
		cmocka_unit_test(test_catalog__leaves_out_names_that_nobody_could_send),
		cmocka_unit_test(test_catalog__entries_fit_into_the_line),
		cmocka_unit_test(test_catalog__goes_without_an_entry_that_does_not_fit),
		cmocka_unit_test(test_catalog__comes_back_from_json_as_it_was),
		cmocka_unit_test(test_catalog__trusts_no_document),
		cmocka_unit_test(test_catalog__ignores_what_a_later_version_adds),
		cmocka_unit_test(test_catalog__knows_names_of_the_same_model),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
