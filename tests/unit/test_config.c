/* SPDX-License-Identifier: MIT */
/*
 * Configurations. What is refused is data: each config/NAME.json with exactly the lines of
 * config/NAME.errors, one test each. What is taken is below, value by value.
 */
#include <dirent.h>

#include "base/json.h"
#include "farm.h"

#define CASES_MAX 256

/* --- refused --- */

static void load_case(const char *name, struct buf *errors)
{
	struct buf text = {0};
	char path[512], file[512];
	struct model *model;

	snprintf(path, sizeof(path), "config/%s.json", name);
	snprintf(file, sizeof(file), "%s.json", name);
	farm_read(path, &text);
	model = model_load(file, text.data ? text.data : "", text.len, farm_env, errors);
	if (model)
		fail_msg("%s is taken", file);
	buf_fini(&text);
}

static void test_config__refuses(void **state)
{
	struct buf errors = {0}, expected = {0};
	char path[512];

	load_case(*state, &errors);
	snprintf(path, sizeof(path), "config/%s.errors", (const char *)*state);
	farm_read(path, &expected);
	assert_true(expected.len > 0);
	assert_string_equal(errors.data, expected.data);
	buf_fini(&errors);
	buf_fini(&expected);
}

struct limit {
	const char *sentence;
	unsigned nodes, personas, persona_nodes;
	const char *error; /* NULL: taken */
};

static const struct limit limits[] = {
	{"all limits reached", 1024, 64, 256, NULL},
	{"a node too many", 1025, 1, 1,
	 "test.json:2: /nodes: 1,025 nodes: at most 1,024 are allowed\n"},
	{"a persona too many", 1, 65, 1,
	 "test.json:3: /personas: 65 personas: at most 64 are allowed\n"},
	{"a node of a persona too many", 300, 1, 257,
	 "test.json:3: /personas/p0/nodes: 257 nodes: at most 256 are allowed\n"},
};

static void build_farm(const struct limit *limit, struct buf *out)
{
	buf_puts(out, "{ \"gateway\": { \"datapath\": \"none\" },\n\"nodes\": {");
	for (unsigned i = 0; i < limit->nodes; i++)
		buf_printf(out,
			   "%s\"n%u\": {\"address\": \"10.0.%u.%u\", \"services\": "
			   "{\"llm\":\"vllm\"}}",
			   i ? "," : "", i, i / 250, i % 250 + 1);
	buf_puts(out, "},\n\"personas\": {");
	for (unsigned p = 0; p < limit->personas; p++) {
		buf_printf(out, "%s\"p%u\": {\"listen\":{\"llm\":%u}, \"nodes\":[", p ? "," : "", p,
			   9000 + p);
		for (unsigned i = 0; i < limit->persona_nodes; i++)
			buf_printf(out, "%s\"n%u\"", i ? "," : "", i);
		buf_puts(out, "] }");
	}
	buf_puts(out, "} }");
}

static void test_config__has_limits(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(limits); i++) {
		struct buf text = {0}, errors = {0};
		struct model *model;

		build_farm(&limits[i], &text);
		model = model_load("test.json", text.data, text.len, farm_env, &errors);
		if (!model != !!limits[i].error)
			fail_msg("%s: %s", limits[i].sentence, errors.data ? errors.data : "taken");
		if (limits[i].error)
			assert_string_equal(errors.data, limits[i].error);
		model_free(model);
		buf_fini(&text);
		buf_fini(&errors);
	}
}

/* --- taken --- */

#define NODES	    "\"nodes\": {\"a\": {\"address\": \"10.0.0.1\", \"services\": {\"llm\": \"ollama\"}}}"
#define PERSONAS    "\"personas\": {\"p\": {\"nodes\": [\"a\"], \"listen\": {\"llm\": 9001}}}"
#define NO_DATAPATH "\"gateway\": {\"datapath\": \"none\"}"

static void test_config__has_the_defaults_of_the_contract(void **state)
{
	struct model *model =
		farm_load("{" NODES "," PERSONAS ",\"gateway\": {\"interfaces\": [\"eth0\"]}}");
	char text[ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(model->gateway.n_interfaces, 1);
	assert_string_equal(model->gateway.interfaces[0], "eth0");
	assert_int_equal(model->gateway.n_addresses, 0);
	assert_int_equal(model->gateway.datapath, DATAPATH_AUTO);
	assert_int_equal(model->gateway.snat_first, 20000);
	assert_int_equal(model->gateway.snat_last, 32767);
	assert_int_equal(model->gateway.max_flows, 262144);
	assert_string_equal(addr_format_port(&model->router.address, model->router.port, text),
			    "127.0.0.1:4000");
	assert_null(model->router.keys_file);
	assert_false(model->router.allow_anonymous);
	assert_int_equal(model->router.max_body_mb, 64);
	assert_int_equal(model->router.queue_ms, 10000);
	assert_int_equal(model->router.queue_length, 256);
	assert_int_equal(model->router.first_byte_timeout_ms, 120000);
	assert_int_equal(model->router.head_max_kb, 64);
	assert_int_equal(model->router.head_fields_max, 100);
	assert_int_equal(model->router.head_timeout_ms, 10000);
	assert_int_equal(model->router.idle_timeout_ms, 60000);
	assert_string_equal(addr_format_port(&model->admin.address, model->admin.port, text),
			    "127.0.0.1:4001");
	assert_int_equal(model->probe.interval_ms, 1000);
	assert_int_equal(model->probe.timeout_ms, 500);
	assert_int_equal(model->probe.rise, 2);
	assert_int_equal(model->probe.fall, 3);
	assert_int_equal(model->nodes[0].weight, 100);
	assert_int_equal(model->nodes[0].services[0].capacity, 0);
	assert_int_equal(model->nodes[0].services[0].idle_ms, 3000);
	assert_int_equal(model->nodes[0].services[0].n_pins, 0);
	assert_int_equal(model->personas[0].affinity, MG_AFFINITY_NONE);
	assert_int_equal(model->n_aliases, 0);
	model_free(model);
}

static void test_config__reads_the_sections(void **state)
{
	struct model *model = farm_load(
		"{" NODES "," PERSONAS ",\n"
		"\"gateway\": {\"interfaces\": [\"eth0\", \"br-lan.7\"], \"datapath\": \"tc\",\n"
		"  \"addresses\": [\"192.168.1.10\", \"fd00::10\"], \"snat_ports\": "
		"\"10000-65535\",\n"
		"  \"max_flows\": 16},\n"
		"\"router\": {\"listen\": \"[::]:4500\", \"keys_file\": \"/etc/keys\",\n"
		"  \"max_body_mb\": 1, \"queue_ms\": 0, \"queue_length\": 0,\n"
		"  \"first_byte_timeout_ms\": 3600000, \"head_max_kb\": 1024, \"head_fields_max\": "
		"1000,\n"
		"  \"head_timeout_ms\": 1, \"idle_timeout_ms\": 3600000},\n"
		"\"admin\": {\"listen\": \"[::1]:4501\"},\n"
		"\"probe\": {\"interval_ms\": 10, \"timeout_ms\": 1, \"rise\": 1, \"fall\": 100}}");
	char text[ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(model->gateway.n_interfaces, 2);
	assert_string_equal(model->gateway.interfaces[1], "br-lan.7");
	assert_int_equal(model->gateway.datapath, DATAPATH_TC);
	assert_int_equal(model->gateway.n_addresses, 2);
	assert_string_equal(addr_format(&model->gateway.addresses[1], text), "fd00::10");
	assert_int_equal(model->gateway.snat_first, 10000);
	assert_int_equal(model->gateway.snat_last, 65535);
	assert_int_equal(model->gateway.max_flows, 16);
	assert_string_equal(addr_format_port(&model->router.address, model->router.port, text),
			    "[::]:4500");
	assert_string_equal(model->router.keys_file, "/etc/keys");
	assert_int_equal(model->router.max_body_mb, 1);
	assert_int_equal(model->router.queue_ms, 0);
	assert_int_equal(model->router.queue_length, 0);
	assert_int_equal(model->router.first_byte_timeout_ms, 3600000);
	assert_int_equal(model->router.head_max_kb, 1024);
	assert_int_equal(model->router.head_fields_max, 1000);
	assert_int_equal(model->router.head_timeout_ms, 1);
	assert_int_equal(model->router.idle_timeout_ms, 3600000);
	assert_string_equal(addr_format_port(&model->admin.address, model->admin.port, text),
			    "[::1]:4501");
	assert_int_equal(model->probe.interval_ms, 10);
	assert_int_equal(model->probe.timeout_ms, 1);
	assert_int_equal(model->probe.rise, 1);
	assert_int_equal(model->probe.fall, 100);
	model_free(model);
}

static void test_config__reads_a_node(void **state)
{
	struct model *model = farm_load(
		"{" NO_DATAPATH "," PERSONAS ", \"nodes\": {\n"
		"\"a\": {\"address\": \"fd00::1\", \"weight\": 0, \"services\": {\n"
		"  \"llm\": {\"engine\": \"ollama\", \"port\": 1, \"capacity\": 65535,\n"
		"    \"idle_ms\": 1, \"pin\": [\"x:latest\", \"y\"]},\n"
		"  \"voice\": \"wyoming\", \"raw\": {\"engine\": \"tcp\", \"port\": 65535}}},\n"
		"\"b\": {\"address\": \"${NODE_ADDRESS}\", \"weight\": 1000,\n"
		"  \"services\": {\"llm\": {\"engine\": \"sglang\"}}}}}");
	const struct model_node *a = &model->nodes[0], *b = &model->nodes[1];
	char text[ADDR_TEXT_MAX];

	(void)state;
	assert_int_equal(model->n_nodes, 2);
	assert_string_equal(a->name, "a");
	assert_string_equal(addr_format(&a->address, text), "fd00::1");
	assert_int_equal(a->weight, 0);
	assert_int_equal(a->n_services, 3);
	assert_string_equal(a->services[0].name, "llm");
	assert_int_equal(a->services[0].port, 1);
	assert_int_equal(a->services[0].capacity, 65535);
	assert_int_equal(a->services[0].idle_ms, 1);
	assert_int_equal(a->services[0].n_pins, 2);
	assert_string_equal(a->services[0].pins[1], "y");
	assert_int_equal(a->services[1].engine, ENGINE_WYOMING);
	assert_int_equal(a->services[1].port, 10300);
	assert_int_equal(a->services[2].engine, ENGINE_TCP);
	assert_int_equal(a->services[2].port, 65535);
	assert_string_equal(addr_format(&b->address, text), "10.9.8.7");
	assert_int_equal(b->weight, 1000);
	assert_int_equal(b->services[0].port, 30000);
	assert_int_equal(a->first_endpoint, 0);
	assert_int_equal(b->first_endpoint, 3);
	assert_int_equal(model->n_endpoints, 4);
	assert_int_equal(model->endpoints[2].service, 2);
	assert_int_equal(model->endpoints[3].node, 1);
	assert_int_equal(model_find_node(model, "b"), 1);
	assert_int_equal(model_find_node(model, "B"), -1);
	assert_int_equal(model_find_service(a, "raw"), 2);
	assert_int_equal(model_find_service(a, "image"), -1);
	model_free(model);
}

static void test_config__knows_every_engine_and_its_port(void **state)
{
	static const struct {
		const char *name;
		uint16_t port;
	} engines[] = {
		{"ollama", 11434}, {"llamacpp", 8080}, {"vllm", 8000},	 {"sglang", 30000},
		{"openai", 8000},  {"comfyui", 8188},  {"immich", 3003}, {"wyoming", 10300},
		{"http", 80},	   {"tcp", 0},
	};

	(void)state;
	assert_int_equal(COUNT(engines), ENGINE_COUNT);
	for (unsigned i = 0; i < ENGINE_COUNT; i++) {
		assert_string_equal(engine_name((enum engine)i), engines[i].name);
		assert_int_equal(engine_port((enum engine)i), engines[i].port);
	}
}

static void test_config__lets_a_persona_cascade_to_a_later_one(void **state)
{
	struct model *model = farm_load(
		"{" NO_DATAPATH "," NODES ", \"personas\": {\n"
		"\"p\": {\"nodes\": [\"a\"], \"listen\": {\"llm\": 9001}, \"cascade\": [\"r\", "
		"\"q\"],\n"
		"  \"affinity\": \"client\"},\n"
		"\"q\": {\"nodes\": [\"a\"], \"listen\": {\"llm\": 9002}, \"cascade\": [\"p\"]},\n"
		"\"r\": {\"nodes\": [\"a\"], \"listen\": {\"llm\": 9003}, \"cascade\": [],\n"
		"  \"affinity\": \"none\"}}}");
	const struct model_persona *p = &model->personas[0];

	(void)state;
	assert_int_equal(p->n_cascade, 2);
	assert_int_equal(p->cascade[0], 2);
	assert_int_equal(p->cascade[1], 1);
	assert_int_equal(p->affinity, MG_AFFINITY_CLIENT);
	assert_int_equal(p->listeners[0].port, 9001);
	assert_string_equal(p->listeners[0].service, "llm");
	assert_int_equal(model->personas[2].n_cascade, 0);
	assert_int_equal(model->personas[2].affinity, MG_AFFINITY_NONE);
	assert_int_equal(model_find_persona(model, "r"), 2);
	assert_int_equal(model_find_persona(model, "s"), -1);
	model_free(model);
}

static void test_config__resolves_aliases_of_aliases(void **state)
{
	struct model *model = farm_load(
		"{" NO_DATAPATH "," NODES "," PERSONAS ", \"models\": {\n"
		"\"gpt-4\": \"big\", \"big\": \"reasoning\",\n"
		"\"reasoning\": [{\"persona\": \"p\", \"model\": \"deepseek-r1:latest\"},\n"
		"  {\"persona\": \"p\"}]}}");

	(void)state;
	assert_int_equal(model->n_aliases, 3);
	assert_string_equal(model->aliases[0].name, "gpt-4");
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(model->aliases[i].n_targets, 2);
		assert_string_equal(model->aliases[i].targets[0].model, "deepseek-r1:latest");
		assert_null(model->aliases[i].targets[1].model);
		assert_false(model->aliases[i].session);
	}
	model_free(model);
}

static void test_config__reads_the_affinity_of_aliases(void **state)
{
	struct model *model = farm_load(
		"{" NO_DATAPATH "," NODES "," PERSONAS ", \"models\": {\n"
		"\"chat\": {\"targets\": [{\"persona\": \"p\", \"model\": \"m\"}], \"affinity\": "
		"\"session\"},\n"
		"\"gpt-4\": \"chat\",\n"
		"\"plain\": {\"targets\": [{\"persona\": \"p\"}]},\n"
		"\"none\": {\"affinity\": \"none\", \"targets\": [{\"persona\": \"p\"}]}}}");

	(void)state;
	assert_int_equal(model->n_aliases, 4);
	assert_true(model->aliases[0].session);
	assert_true(model->aliases[1].session); /* that of the alias it stands for */
	assert_string_equal(model->aliases[1].targets[0].model, "m");
	assert_false(model->aliases[2].session);
	assert_int_equal(model->aliases[2].n_targets, 1);
	assert_false(model->aliases[3].session);
	model_free(model);
}

/* Each of these looks like an error, and is none. */
static const struct {
	const char *sentence, *text;
} taken[] = {
	{"a port in snat_ports does no harm without a datapath",
	 "{" NO_DATAPATH "," NODES
	 ",\"personas\":{\"p\":{\"nodes\":[\"a\"],\"listen\":{\"llm\":20000}}}}"},
	{"router and admin share a port on two addresses",
	 "{" NO_DATAPATH "," NODES "," PERSONAS ",\"router\":{\"listen\":\"127.0.0.1:4001\"},"
	 "\"admin\":{\"listen\":\"127.0.0.2:4001\"}}"},
	{"all of IPv4 and one of IPv6 do not meet",
	 "{" NO_DATAPATH "," NODES "," PERSONAS ",\"router\":{\"listen\":\"0.0.0.0:4001\","
	 "\"allow_anonymous\":true},\"admin\":{\"listen\":\"[::1]:4001\"}}"},
	{"the router may be on loopback inside snat_ports",
	 "{\"gateway\":{\"interfaces\":[\"eth0\"]}," NODES "," PERSONAS
	 ",\"router\":{\"listen\":\"[::1]:20001\"}}"},
	{"keys open the router to others",
	 "{" NO_DATAPATH "," NODES "," PERSONAS
	 ",\"router\":{\"listen\":\"10.0.0.9:4000\",\"keys_file\":\"/k\"}}"},
	{"a node on the gateway, on a port of its own",
	 "{" NO_DATAPATH "," PERSONAS ",\"nodes\":{\"a\":{\"address\":\"127.0.0.1\","
	 "\"services\":{\"llm\":\"ollama\"}}}}"},
	{"a service that only the cascade has",
	 "{" NO_DATAPATH
	 ",\"nodes\":{\"a\":{\"address\":\"10.0.0.1\",\"services\":{\"llm\":\"vllm\"}},"
	 "\"b\":{\"address\":\"10.0.0.2\",\"services\":{\"voice\":\"wyoming\"}}},\"personas\":{"
	 "\"p\":{\"nodes\":[\"a\"],\"listen\":{\"voice\":9001},\"cascade\":[\"q\"]},"
	 "\"q\":{\"nodes\":[\"b\"],\"listen\":{\"voice\":9002}}}}"},
	{"two services on one port of a node",
	 "{" NO_DATAPATH "," PERSONAS ",\"nodes\":{\"a\":{\"address\":\"10.0.0.1\","
	 "\"services\":{\"llm\":\"ollama\",\"embed\":\"ollama\"}}}}"},
	{"a node in two personas, and one in none",
	 "{" NO_DATAPATH
	 ",\"nodes\":{\"a\":{\"address\":\"10.0.0.1\",\"services\":{\"llm\":\"vllm\"}},"
	 "\"b\":{\"address\":\"10.0.0.2\",\"services\":{\"llm\":\"vllm\"}}},\"personas\":{"
	 "\"p\":{\"nodes\":[\"a\"],\"listen\":{\"llm\":9001}},"
	 "\"q\":{\"nodes\":[\"a\"],\"listen\":{\"llm\":9002}}}}"},
	{"a name of 31 characters, and one of 1",
	 "{" NO_DATAPATH
	 ",\"nodes\":{\"abcdefghijklmnopqrstuvwxyz-1234\":{\"address\":\"10.0.0.1\","
	 "\"services\":{\"_\":\"vllm\"}}},\"personas\":{\".\":{"
	 "\"nodes\":[\"abcdefghijklmnopqrstuvwxyz-1234\"],\"listen\":{\"_\":9001}}}}"},
	{"comments everywhere", "/**/{//\n" NO_DATAPATH "/*,*/," NODES "//\n," PERSONAS "/**/}//"},
	{"a dollar alone is a dollar",
	 "{" NO_DATAPATH "," NODES "," PERSONAS ",\"router\":{\"keys_file\":\"/$HOME/$$\"}}"},
	{"a schema for the editor", "{\"$schema\":\"x\"," NO_DATAPATH "," NODES "," PERSONAS "}"},
	{"no aliases", "{" NO_DATAPATH "," NODES "," PERSONAS ",\"models\":{}}"},
};

static void test_config__takes_what_only_looks_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(taken); i++) {
		struct buf errors = {0};
		struct model *model = model_load("test.json", taken[i].text, strlen(taken[i].text),
						 farm_env, &errors);

		if (!model)
			fail_msg("%s: %s", taken[i].sentence, errors.data);
		model_free(model);
	}
}

static void test_config__takes_the_example_farm(void **state)
{
	struct buf text = {0};
	struct model *model;
	int alias = -1;

	(void)state;
	farm_read("../../config/megalith.json", &text);
	model = farm_load(text.data);
	assert_int_equal(model->n_nodes, 10);
	assert_int_equal(model->n_personas, 4);
	assert_int_equal(model->personas[0].n_cascade, 1);
	assert_string_equal(model->personas[model->personas[0].cascade[0]].name, "fat-brain");
	for (size_t i = 0; i < model->n_aliases; i++) {
		if (strcmp(model->aliases[i].name, "gpt-4-turbo") == 0)
			alias = (int)i;
	}
	assert_true(alias >= 0);
	assert_int_equal(model->aliases[alias].n_targets, 2);
	assert_string_equal(model->aliases[alias].targets[1].model, "llama3:70b");
	model_free(model);
	buf_fini(&text);
}

/* --- the schema --- */

/* A configuration with a key that nobody knows, and where the schema describes the object it is in.
 */
static const struct {
	const char *text, *path;
} schema_rows[] = {
	{"{\"?\": 1}", "properties"},
	{"{\"gateway\": {\"?\": 1}}", "properties gateway properties"},
	{"{\"router\": {\"?\": 1}}", "properties router properties"},
	{"{\"admin\": {\"?\": 1}}", "properties admin properties"},
	{"{\"probe\": {\"?\": 1}}", "properties probe properties"},
	{"{\"nodes\": {\"a\": {\"?\": 1}}}", "definitions node properties"},
	{"{\"nodes\": {\"a\": {\"services\": {\"s\": {\"?\": 1}}}}}",
	 "definitions service properties"},
	{"{\"personas\": {\"p\": {\"?\": 1}}}", "definitions persona properties"},
	{"{\"models\": {\"m\": [{\"?\": 1}]}}", "definitions target properties"},
};

/* "?: unknown key, allowed: KEYS", with the keys that the schema has there. */
static void expect_keys(const struct json *schema, char *path, struct buf *out)
{
	char *save = NULL;

	for (char *key = strtok_r(path, " ", &save); key; key = strtok_r(NULL, " ", &save))
		schema = json_get(schema, key);
	assert_non_null(schema);
	buf_puts(out, "/?: unknown key, allowed: ");
	for (const struct json *v = json_first(schema); v; v = json_next(v))
		buf_printf(out, "%s%s", json_key(v), json_next(v) ? ", " : "\n");
}

static void test_config__has_a_schema_with_the_same_keys(void **state)
{
	struct buf text = {0};
	struct json_error error;
	struct json *schema;

	(void)state;
	farm_read("../../config/megalith.schema.json", &text);
	schema = json_parse(text.data, text.len, 0, &error);
	assert_non_null(schema);
	for (size_t i = 0; i < COUNT(schema_rows); i++) {
		struct buf expected = {0}, errors = {0};
		char path[64];

		snprintf(path, sizeof(path), "%s", schema_rows[i].path);
		expect_keys(schema, path, &expected);
		assert_null(model_load("test.json", schema_rows[i].text,
				       strlen(schema_rows[i].text), farm_env, &errors));
		if (!strstr(errors.data, expected.data))
			fail_msg("schema: %s\nloader: %s", expected.data, errors.data);
		buf_fini(&expected);
		buf_fini(&errors);
	}
	json_free(schema);
	buf_fini(&text);
}

/* --- the cases of the directory, in order --- */

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t list_cases(char *names[CASES_MAX])
{
	const char *root = getenv("MEGALITH_TESTS");
	char path[1024];
	struct dirent *entry;
	size_t n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/config", root ? root : "tests/unit");
	dir = opendir(path);
	while (dir && n < CASES_MAX && (entry = readdir(dir)) != NULL) {
		size_t len = strlen(entry->d_name);

		if (len > 5 && strcmp(entry->d_name + len - 5, ".json") == 0)
			names[n++] = strndup(entry->d_name, len - 5);
	}
	if (dir)
		closedir(dir);
	qsort(names, n, sizeof(*names), compare_names);
	return n;
}

int main(void)
{
	static const struct CMUnitTest fixed[] = {
		cmocka_unit_test(test_config__has_limits),
		cmocka_unit_test(test_config__has_the_defaults_of_the_contract),
		cmocka_unit_test(test_config__reads_the_sections),
		cmocka_unit_test(test_config__reads_a_node),
		cmocka_unit_test(test_config__knows_every_engine_and_its_port),
		cmocka_unit_test(test_config__lets_a_persona_cascade_to_a_later_one),
		cmocka_unit_test(test_config__resolves_aliases_of_aliases),
		cmocka_unit_test(test_config__reads_the_affinity_of_aliases),
		cmocka_unit_test(test_config__takes_what_only_looks_wrong),
		cmocka_unit_test(test_config__takes_the_example_farm),
		cmocka_unit_test(test_config__has_a_schema_with_the_same_keys),
	};
	struct CMUnitTest tests[CASES_MAX + COUNT(fixed)];
	char *names[CASES_MAX];
	size_t n = list_cases(names);
	int failed;

	if (n < 45) {
		fprintf(stderr, "only %zu cases found; is MEGALITH_TESTS right?\n", n);
		return 1;
	}
	memcpy(tests, fixed, sizeof(fixed));
	for (size_t i = 0; i < n; i++)
		tests[COUNT(fixed) + i] = (struct CMUnitTest){.name = names[i],
							      .test_func = test_config__refuses,
							      .initial_state = names[i]};
	failed = _cmocka_run_group_tests("config", tests, COUNT(fixed) + n, NULL, NULL);
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	return failed;
}
