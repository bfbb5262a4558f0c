/* SPDX-License-Identifier: MIT */
/* The controller without a datapath, over its real socket: every request of docs/control-api.md,
 * good and bad. */
#include "control_world.h"

/* --- reading --- */

static void test_control__status_has_the_stable_keys(void **state)
{
	struct world *world = world_new();

	(void)state;
	all_up(world);
	note_down(world, GPU_VOICE, PROBE_CLOSED);
	note_down(world, GPU_VOICE, PROBE_CLOSED); /* fall 2 */
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "version"), "0.1.0");
	assert_int_equal(number_at(world, "pid"), getpid());
	assert_string_equal(text_at(world, "config"), world->config);
	assert_true(number_at(world, "plan_version") >= 1);
	assert_true(number_at(world, "uptime_ms") >= 0);
	assert_string_equal(text_at(world, "datapath.mode"), "none");
	assert_int_equal(json_count(find(world, "datapath.interfaces")), 0);
	assert_int_equal(json_count(find(world, "datapath.addresses")), 0);
	assert_false(truth_at(world, "datapath.adopted"));
	assert_int_equal(number_at(world, "datapath.flows"), 0);
	assert_int_equal(number_at(world, "datapath.embryos"), 0);
	assert_int_equal(number_at(world, "datapath.max_flows"), 0);
	assert_string_equal(text_at(world, "nodes.0.name"), "gpu");
	assert_string_equal(text_at(world, "nodes.0.address"), "127.0.0.1");
	assert_string_equal(text_at(world, "nodes.0.state"), "up");
	assert_int_equal(number_at(world, "nodes.0.weight"), 100);
	assert_string_equal(text_at(world, "nodes.0.services.llm.engine"), "ollama");
	assert_int_equal(number_at(world, "nodes.0.services.llm.port"), 11434);
	assert_true(truth_at(world, "nodes.0.services.llm.up"));
	assert_int_equal(number_at(world, "nodes.0.services.llm.connections"), 0);
	assert_int_equal(number_at(world, "nodes.0.services.llm.busy"), 0);
	assert_int_equal(number_at(world, "nodes.0.services.llm.capacity"), 2);
	assert_int_equal(number_at(world, "nodes.0.services.llm.rtt_us"), 250);
	assert_int_equal(number_at(world, "nodes.0.services.llm.ttfb_ms"), 3);
	assert_string_equal(text_at(world, "nodes.0.services.llm.models.0"), "r1:latest");
	assert_string_equal(text_at(world, "nodes.0.services.llm.reason"), "ok");
	assert_false(truth_at(world, "nodes.0.services.voice.up"));
	assert_string_equal(text_at(world, "nodes.0.services.voice.reason"), "closed");
	assert_int_equal(json_type(find(world, "nodes.0.services.voice.models")), JSON_NULL);
	assert_int_equal(number_at(world, "nodes.1.weight"), 50);
	assert_string_equal(text_at(world, "personas.0.name"), "cruncher");
	assert_int_equal(number_at(world, "personas.0.listen.voice"), 11510);
	assert_string_equal(text_at(world, "personas.0.nodes.0"), "gpu");
	assert_string_equal(text_at(world, "personas.0.cascade.0"), "brain");
	assert_int_equal(number_at(world, "counters.no_room"), 0);
	assert_int_equal(json_count(find(world, "counters")), MG_R_COUNT);
	assert_int_equal(number_at(world, "proxy.followers"), 0);
	world_free(world);
}

static void test_control__a_node_is_down_until_probed(void **state)
{
	struct world *world = world_new();

	(void)state;
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "nodes.1.state"), "down");
	assert_string_equal(text_at(world, "nodes.1.services.llm.reason"), "new");
	assert_int_equal(world->watched, 1);
	world_free(world);
}

static void test_control__keeps_models_that_were_not_said_again(void **state)
{
	struct world *world = world_new();

	(void)state;
	all_up(world);
	note_up(world, GPU_LLM, NULL, 0);
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "nodes.0.services.llm.models.0"), "r1:latest");
	world_free(world);
}

static void test_control__plan(void **state)
{
	struct world *world = world_new();

	(void)state;
	assert_int_equal(ask(world, "GET", "/v1/plan", NULL), 200);
	assert_int_equal(number_at(world, "plan.version"), 1);
	assert_int_equal(json_count(find(world, "plan.endpoints")), 3);
	assert_int_equal(ask(world, "GET", "/v1/plan?follow=0", NULL), 200);
	assert_int_equal(ask(world, "GET", "/v1/plan?follow=maybe", NULL), 400);
	world_free(world);
}

static void test_control__names(void **state)
{
	struct world *world = world_new();

	(void)state;
	assert_int_equal(ask(world, "GET", "/v1/names", NULL), 200);
	assert_string_equal(text_at(world, "nodes.1"), "halo");
	assert_string_equal(text_at(world, "personas.1"), "brain");
	assert_int_equal(json_count(find(world, "services")), 2); /* llm once, voice */
	world_free(world);
}

static void test_control__flows_without_a_datapath(void **state)
{
	struct world *world = world_new();

	(void)state;
	assert_int_equal(ask(world, "GET", "/v1/flows", NULL), 200);
	assert_int_equal(number_at(world, "total"), 0);
	assert_int_equal(json_count(find(world, "flows")), 0);
	assert_int_equal(ask(world, "GET", "/v1/flows?node=gpu&persona=brain", NULL), 200);
	assert_int_equal(ask(world, "GET", "/v1/flows?node=gp", NULL), 404);
	assert_int_equal(ask(world, "GET", "/v1/flows?persona=gpu", NULL), 404);
	world_free(world);
}

/* --- explain --- */

static void test_control__explain_names_the_taker_and_why_not_the_others(void **state)
{
	struct world *world = world_new();

	(void)state;
	all_up(world);
	control_publish(world->control);
	assert_int_equal(ask(world, "GET", "/v1/explain?target=cruncher&client=10.0.0.1", NULL),
			 200);
	assert_string_equal(text_at(world, "target"), "cruncher");
	assert_string_equal(text_at(world, "taken.node"), "gpu");
	assert_string_equal(text_at(world, "taken.persona"), "cruncher");
	assert_string_equal(text_at(world, "taken.service"), "llm");
	assert_int_equal(json_count(find(world, "candidates")), 2);
	assert_string_equal(text_at(world, "candidates.0.verdict"), "taken");
	assert_string_equal(text_at(world, "candidates.1.node"), "halo");
	assert_string_equal(text_at(world, "candidates.1.persona"), "brain");
	assert_int_equal(number_at(world, "candidates.1.capacity"), 4);
	assert_int_equal(number_at(world, "candidates.1.weight"), 50);
	assert_int_equal(number_at(world, "candidates.1.busy"), 0);
	assert_int_equal(number_at(world, "candidates.1.connections"), 0);

	assert_int_equal(ask(world, "POST", "/v1/nodes/gpu/drain", NULL), 200);
	assert_int_equal(ask(world, "GET", "/v1/explain?target=cruncher/llm", NULL), 200);
	assert_string_equal(text_at(world, "taken.node"), "halo");
	assert_string_equal(text_at(world, "candidates.0.verdict"), "passed");
	world_free(world);
}

static void test_control__explain_of_a_service(void **state)
{
	struct world *world = world_new();

	(void)state;
	all_up(world);
	control_publish(world->control);
	assert_int_equal(ask(world, "GET", "/v1/explain?target=cruncher/voice", NULL), 200);
	assert_string_equal(text_at(world, "taken.service"), "voice");
	note_down(world, GPU_VOICE, PROBE_REFUSED);
	note_down(world, GPU_VOICE, PROBE_REFUSED);
	control_publish(world->control);
	assert_int_equal(ask(world, "GET", "/v1/explain?target=cruncher/voice", NULL), 200);
	assert_int_equal(json_type(find(world, "taken")), JSON_NULL);
	assert_string_equal(text_at(world, "candidates.0.reason"), "down: connection refused");
	world_free(world);
}

static const struct {
	const char *why, *target, *node; /* NULL: nobody */
} explained[] = {
	{"an alias: its first target", "reasoning", "gpu"},
	{"an alias with the tag that some clients add", "reasoning:latest", "gpu"},
	{"a model that one node has", "llama3:70b", "halo"},
	{"a model without its tag", "r1", "gpu"},
	{"a persona and a model", "brain/llama3:70b", "halo"},
	{"a persona and a model it does not have", "brain/r1", NULL},
};

static void test_control__explain_of_models(void **state)
{
	struct world *world = world_new();
	char target[96];

	(void)state;
	all_up(world);
	control_publish(world->control);
	for (size_t i = 0; i < sizeof(explained) / sizeof(explained[0]); i++) {
		snprintf(target, sizeof(target), "/v1/explain?target=%s", explained[i].target);
		if (ask(world, "GET", target, NULL) != 200)
			fail_msg("%s: %s", explained[i].why, world->body);
		if (strcmp(text_at(world, "taken.node"),
			   explained[i].node ? explained[i].node : "(none)") != 0)
			fail_msg("%s: %s", explained[i].why, world->body);
	}
	/* the first target cannot: the second takes it */
	assert_int_equal(ask(world, "POST", "/v1/nodes/gpu/drain", NULL), 200);
	assert_int_equal(ask(world, "GET", "/v1/explain?target=reasoning", NULL), 200);
	assert_string_equal(text_at(world, "taken.node"), "halo");
	assert_string_equal(text_at(world, "taken.persona"), "brain");
	world_free(world);
}

static void test_control__explain_refuses_what_it_does_not_know(void **state)
{
	struct world *world = world_new();

	(void)state;
	assert_int_equal(ask(world, "GET", "/v1/explain?target=crunch", NULL), 404);
	assert_string_equal(text_at(world, "error"),
			    "nothing is called crunch; personas: cruncher, brain");
	assert_int_equal(ask(world, "GET", "/v1/explain?target=cruncher/image", NULL), 200);
	assert_int_equal(json_type(find(world, "taken")),
			 JSON_NULL); /* read as a model that nobody has */
	assert_int_equal(ask(world, "GET", "/v1/explain", NULL), 400);
	assert_int_equal(ask(world, "GET", "/v1/explain?target=", NULL), 400);
	assert_int_equal(ask(world, "GET", "/v1/explain?target=brain&client=me", NULL), 400);
	world_free(world);
}

/* --- changing --- */

static void test_control__weight(void **state)
{
	struct world *world = world_new();

	(void)state;
	assert_int_equal(ask(world, "POST", "/v1/nodes/gpu/weight", "{\"weight\": 7}"), 200);
	assert_string_equal(text_at(world, "node"), "gpu");
	assert_int_equal(number_at(world, "weight"), 7);
	assert_null(find(world, "note"));
	assert_int_equal(ask(world, "GET", "/v1/plan", NULL), 200);
	assert_int_equal(number_at(world, "plan.version"), 2); /* in force with the answer */
	assert_int_equal(number_at(world, "plan.endpoints.0.weight"), 7);
	assert_int_equal(number_at(world, "plan.endpoints.1.weight"), 7);
	assert_int_equal(number_at(world, "plan.endpoints.2.weight"), 50);
	/* as configured: no override any more */
	assert_int_equal(ask(world, "POST", "/v1/nodes/gpu/weight", "{\"weight\": 100}"), 200);
	assert_int_equal(number_at(world, "weight"), 100);
	assert_int_equal(world->control->state.n_overrides, 0);
	assert_int_equal(ask(world, "POST", "/v1/nodes/gpu/weight", "{\"weight\": 0}"), 200);
	assert_int_equal(number_at(world, "weight"), 0);
	assert_int_equal(ask(world, "POST", "/v1/nodes/gpu/weight", "{\"weight\": 1000}"), 200);
	world_free(world);
}

static void test_control__drain_wins_over_up_and_down(void **state)
{
	struct world *world = world_new();

	(void)state;
	all_up(world);
	assert_int_equal(ask(world, "POST", "/v1/nodes/halo/drain", NULL), 200);
	assert_string_equal(text_at(world, "node"), "halo");
	assert_true(truth_at(world, "drain"));
	assert_int_equal(number_at(world, "connections"), 0);
	note_down(world, HALO_LLM, PROBE_REFUSED);
	note_down(world, HALO_LLM, PROBE_REFUSED);
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "nodes.1.state"), "drain");
	assert_false(truth_at(world, "nodes.1.services.llm.up"));
	assert_int_equal(ask(world, "POST", "/v1/nodes/halo/undrain", "{}"), 200);
	assert_false(truth_at(world, "drain"));
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "nodes.1.state"), "down");
	world_free(world);
}

static const struct {
	const char *why, *method, *target, *body;
	int status;
} refused[] = {
	{"no such path", "GET", "/", NULL, 404},
	{"no such path below /v1", "GET", "/v1/nodes", NULL, 404},
	{"no such verb of a node", "POST", "/v1/nodes/gpu/kill", NULL, 404},
	{"no node in the path", "POST", "/v1/nodes//drain", NULL, 404},
	{"one path too deep", "POST", "/v1/nodes/gpu/drain/x", NULL, 404},
	{"a trailing slash", "GET", "/v1/status/", NULL, 404},
	{"wrong method: reading", "POST", "/v1/status", "{}", 405},
	{"wrong method: writing", "GET", "/v1/reload", NULL, 405},
	{"wrong method: a node", "DELETE", "/v1/nodes/gpu/drain", NULL, 405},
	{"unknown node", "POST", "/v1/nodes/nobody/weight", "{\"weight\":1}", 404},
	{"unknown node", "POST", "/v1/nodes/nobody/drain", NULL, 404},
	{"a name that begins with a node's name", "POST", "/v1/nodes/gpux/drain", NULL, 404},
	{"a name that is too long for any node", "POST",
	 "/v1/nodes/gpugpugpugpugpugpugpugpugpugpugpugpugpugpugpugpu/drain", NULL, 404},
	{"a path with an encoded slash", "POST", "/v1/nodes/a%2Fb/drain", NULL, 404},
	{"a NUL in the path", "POST", "/v1/nodes/gpu%00/drain", NULL, 400},
	{"no body", "POST", "/v1/nodes/gpu/weight", NULL, 400},
	{"no JSON", "POST", "/v1/nodes/gpu/weight", "weight=5", 400},
	{"half a JSON", "POST", "/v1/nodes/gpu/weight", "{\"weight\":5", 400},
	{"two JSONs", "POST", "/v1/nodes/gpu/weight", "{\"weight\":5}{}", 400},
	{"an array", "POST", "/v1/nodes/gpu/weight", "[5]", 400},
	{"a bare number", "POST", "/v1/nodes/gpu/weight", "5", 400},
	{"no weight", "POST", "/v1/nodes/gpu/weight", "{}", 400},
	{"a text", "POST", "/v1/nodes/gpu/weight", "{\"weight\":\"5\"}", 400},
	{"below 0", "POST", "/v1/nodes/gpu/weight", "{\"weight\":-1}", 400},
	{"above 1000", "POST", "/v1/nodes/gpu/weight", "{\"weight\":1001}", 400},
	{"a fraction", "POST", "/v1/nodes/gpu/weight", "{\"weight\":1.5}", 400},
	{"beyond 2^32", "POST", "/v1/nodes/gpu/weight", "{\"weight\":4294967297}", 400},
	{"null", "POST", "/v1/nodes/gpu/weight", "{\"weight\":null}", 400},
	{"given twice", "POST", "/v1/nodes/gpu/weight", "{\"weight\":5,\"weight\":6}", 400},
	{"an unknown key", "POST", "/v1/nodes/gpu/weight", "{\"weight\":5,\"wait\":6}", 400},
	{"a body where none belongs", "POST", "/v1/nodes/gpu/drain", "{\"wait\":5}", 400},
	{"a body where none belongs", "POST", "/v1/reload", "now", 400},
	{"a body where none belongs", "POST", "/v1/detach", "[]", 400},
	{"load: no numbers", "POST", "/v1/load", "{\"pid\":1,\"plan_version\":1}", 400},
	{"load: too few", "POST", "/v1/load", "{\"pid\":1,\"plan_version\":1,\"busy\":[0,0]}", 400},
	{"load: too many", "POST", "/v1/load",
	 "{\"pid\":1,\"plan_version\":1,\"busy\":[0,0,0,0,0,0,0,0]}", 400},
	{"load: below 0", "POST", "/v1/load", "{\"pid\":1,\"plan_version\":1,\"busy\":[0,0,-1]}",
	 400},
	{"load: beyond 2^32", "POST", "/v1/load",
	 "{\"pid\":1,\"plan_version\":1,\"busy\":[0,0,4294967296]}", 400},
	{"load: no pid", "POST", "/v1/load", "{\"plan_version\":1,\"busy\":[0,0,0]}", 400},
	{"load: pid 0", "POST", "/v1/load", "{\"pid\":0,\"plan_version\":1,\"busy\":[0,0,0]}", 400},
	{"load: no version", "POST", "/v1/load", "{\"pid\":1,\"busy\":[0,0,0]}", 400},
	{"load: of a plan to come", "POST", "/v1/load",
	 "{\"pid\":1,\"plan_version\":99,\"busy\":[0,0,0]}", 409},
	{"load: of a plan before ours", "POST", "/v1/load",
	 "{\"pid\":1,\"plan_version\":0,\"busy\":[0,0,0]}", 409},
};

static void test_control__refuses(void **state)
{
	struct world *world = world_new();

	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		int status = ask(world, refused[i].method, refused[i].target, refused[i].body);

		if (status != refused[i].status || !*text_at(world, "error") ||
		    !find(world, "error"))
			fail_msg("%s: %s %s: %d %s", refused[i].why, refused[i].method,
				 refused[i].target, status, world->body);
	}
	/* and nothing of it had an effect */
	assert_int_equal(world->control->state.version, 1);
	assert_int_equal(world->control->state.n_overrides, 0);
	assert_int_equal(access(world->state_file, F_OK), -1);
	world_free(world);
}

/* What an earlier controller left is taken off, too; where that cannot be, the answer says so. */
static void test_control__detach_without_a_datapath(void **state)
{
	struct world *world = world_new();
	int status = ask(world, "POST", "/v1/detach", NULL);

	(void)state;
	assert_true(status == 200 || status == 409);
	if (status == 200)
		assert_true(truth_at(world, "detached"));
	else
		assert_true(strlen(text_at(world, "error")) > 0);
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "datapath.mode"), "none");
	world_free(world);
}

static void test_control__refuses_a_body_that_is_too_large(void **state)
{
	struct world *world = world_new();
	size_t len = ((size_t)1 << 20) + 10;
	char *body = malloc(len + 1);

	(void)state;
	assert_non_null(body);
	memset(body, ' ', len);
	body[len] = '\0';
	assert_int_equal(ask(world, "POST", "/v1/load", body), 413);
	free(body);
	world_free(world);
}

/* --- loads --- */

static void test_control__counts_what_proxies_hold(void **state)
{
	struct world *world = world_new();
	uint64_t now;

	(void)state;
	assert_int_equal(
		ask(world, "POST", "/v1/load", "{\"pid\":7,\"plan_version\":1,\"busy\":[2,0,1]}"),
		200);
	assert_int_equal(
		ask(world, "POST", "/v1/load", "{\"pid\":8,\"plan_version\":1,\"busy\":[1,0,0]}"),
		200);
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_int_equal(number_at(world, "nodes.0.services.llm.busy"), 3);
	assert_int_equal(number_at(world, "nodes.0.services.llm.relayed"), 3);
	assert_int_equal(number_at(world, "nodes.1.services.llm.busy"), 1);
	/* the newest word of each proxy counts */
	assert_int_equal(
		ask(world, "POST", "/v1/load", "{\"pid\":7,\"plan_version\":1,\"busy\":[0,0,4]}"),
		200);
	assert_int_equal(world->control->state.relayed[GPU_LLM], 1);
	assert_int_equal(world->control->state.relayed[HALO_LLM], 4);
	/* 3 s without another, and it is forgotten */
	now = uv_now(&world->loop);
	state_relay_expire(&world->control->state, now + 2900);
	assert_int_equal(world->control->state.relayed[HALO_LLM], 4);
	state_relay_expire(&world->control->state, now + 4000);
	assert_int_equal(world->control->state.relayed[HALO_LLM], 0);
	assert_int_equal(world->control->state.relayed[GPU_LLM], 0);
	world_free(world);
}

static void test_control__relayed_work_fills_a_node(void **state)
{
	struct world *world = world_new();

	(void)state;
	all_up(world);
	control_publish(world->control);
	assert_int_equal(
		ask(world, "POST", "/v1/load", "{\"pid\":7,\"plan_version\":2,\"busy\":[2,0,0]}"),
		200);
	assert_int_equal(ask(world, "GET", "/v1/explain?target=cruncher", NULL), 200);
	assert_string_equal(text_at(world, "taken.node"), "halo"); /* capacity 2 is reached */
	assert_int_equal(number_at(world, "candidates.0.busy"), 2);
	world_free(world);
}

static void test_control__limits_the_number_of_proxies(void **state)
{
	struct world *world = world_new();
	char body[96];

	(void)state;
	for (int pid = 1; pid <= STATE_RELAYS_MAX + 1; pid++) {
		snprintf(body, sizeof(body), "{\"pid\":%d,\"plan_version\":1,\"busy\":[0,0,0]}",
			 pid);
		assert_int_equal(ask(world, "POST", "/v1/load", body),
				 pid <= STATE_RELAYS_MAX ? 200 : 409);
	}
	world_free(world);
}

/* --- followers --- */

/* A plan in which nobody has been probed yet would send the fallback's clients away. */
static void test_control__followers_hear_nothing_until_all_is_known(void **state)
{
	struct world *world = world_new();

	(void)state;
	follow(world);
	for (int i = 0; i < 100 && !world->control->n_followers; i++)
		uv_run(&world->loop, UV_RUN_ONCE);
	note_up(world, GPU_LLM, NULL, 0);
	for (int i = 0; i < 5; i++)
		uv_run(&world->loop, UV_RUN_NOWAIT);
	assert_int_equal(world->stream.len, 0);
	all_up(world);
	line_next(world);
	assert_string_equal(text_at(world, "plan.endpoints.0.state"), "up");
	assert_string_equal(text_at(world, "plan.endpoints.2.state"), "up");
	world_free(world);
}

static void test_control__followers_get_the_plan_in_the_end_when_a_probe_says_nothing(void **state)
{
	struct world *world = world_new();

	(void)state;
	follow(world);
	line_next(world); /* after an interval, a timeout, and a moment */
	assert_string_equal(text_at(world, "plan.endpoints.0.state"), "down");
	world_free(world);
}

static void test_control__followers_get_the_plan_at_once_and_at_each_change(void **state)
{
	struct world *world = world_new();
	int64_t version;

	(void)state;
	all_up(world);
	follow(world);
	line_next(world);
	version = number_at(world, "plan.version");
	assert_string_equal(text_at(world, "plan.endpoints.2.state"), "up");
	for (int i = 0; i < 3; i++) { /* changes in one turn of the loop: one plan */
		note_down(world, GPU_LLM, PROBE_REFUSED);
		note_down(world, HALO_LLM, PROBE_REFUSED);
	}
	line_next(world);
	assert_int_equal(number_at(world, "plan.version"), version + 1);
	assert_string_equal(text_at(world, "plan.endpoints.0.state"), "down");
	note_down(world, GPU_LLM, PROBE_REFUSED); /* no change: no plan */
	line_next(world);
	assert_non_null(find(world, "load"));
	assert_int_equal(json_count(find(world, "load")), 3);
	assert_int_equal(number_at(world, "load.2.0"), 0);
	assert_int_equal(number_at(world, "load.2.1"), 0);
	world_free(world);
}

static void test_control__one_plan_for_a_burst_of_changes(void **state)
{
	struct world *world = world_new();

	(void)state;
	for (int i = 0; i < 20; i++) { /* turns of the loop, each with a change */
		note_down(world, HALO_LLM, PROBE_REFUSED);
		note_down(world, HALO_LLM, PROBE_REFUSED);
		note_up(world, HALO_LLM, NULL, 0);
		note_up(world, HALO_LLM, NULL, 0);
		uv_run(&world->loop, UV_RUN_NOWAIT);
	}
	assert_true(world->control->state.version <= 3);
	while (uv_is_active((uv_handle_t *)&world->control->publish_timer))
		uv_run(&world->loop, UV_RUN_ONCE);
	assert_true(plan_eligible(&world->control->state.plan->endpoints[HALO_LLM]));
	world_free(world);
}

static void test_control__a_plan_of_megabytes_reaches_its_follower(void **state)
{
	struct world *world = world_new();
	struct buf text = {0};

	(void)state;
	buf_puts(&text, "{ \"gateway\": { \"interfaces\": [\"lo\"], \"datapath\": \"none\" }, "
			"\"nodes\": {");
	for (int i = 0; i < 1024; i++) {
		buf_printf(&text, "%s\"node%d\": { \"address\": \"10.1.%d.%d\", \"services\": {",
			   i ? "," : "", i, i / 250, i % 250 + 1);
		for (int k = 0; k < 16; k++)
			buf_printf(&text, "%s\"service%d\": { \"engine\": \"tcp\", \"port\": %d }",
				   k ? "," : "", k, 9000 + k);
		buf_puts(&text, "} }");
	}
	buf_puts(&text, "}, \"personas\": { \"p\": { \"nodes\": [\"node0\"], \"listen\": { "
			"\"service0\": 11501 } } } }");
	config_write(world, text.data);
	buf_fini(&text);
	assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 200);
	follow(world);
	do
		line_next(world);
	while (!find(world, "plan.endpoints"));
	assert_int_equal(json_count(find(world, "plan.endpoints")), 16384);
	assert_int_equal(world->control->n_followers, 1);
	world_free(world);
}

static void test_control__followers_are_counted_until_they_leave(void **state)
{
	struct world *world = world_new();

	(void)state;
	follow(world);
	line_next(world);
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_int_equal(number_at(world, "proxy.followers"), 1);
	client_cancel(world->follower);
	world->follower = NULL;
	for (int i = 0; i < 100 && world->control->n_followers; i++)
		uv_run(&world->loop, UV_RUN_ONCE);
	assert_int_equal(world->control->n_followers, 0);
	world_free(world);
}

static void test_control__followers_see_a_clean_end(void **state)
{
	struct world *world = world_new();

	(void)state;
	follow(world);
	line_next(world);
	control_end(world);
	while (!world->stream_ended)
		uv_run(&world->loop, UV_RUN_ONCE);
	assert_int_equal(world->reason, PROBE_OK);
	world_free(world);
}

static void test_control__drops_a_follower_that_does_not_read(void **state)
{
	static const char request[] = "GET /v1/plan?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n";
	struct world *world = world_new();
	int fd = raw_connect(world);
	unsigned plans = 0;

	(void)state;
	assert_int_equal(write(fd, request, sizeof(request) - 1), sizeof(request) - 1);
	while (world->control->n_followers == 0)
		uv_run(&world->loop, UV_RUN_ONCE);
	follow(world); /* one that reads is not disturbed */
	line_next(world);
	while (world->control->n_followers == 2 && plans++ < 20000) {
		control_publish(world->control);
		uv_run(&world->loop, UV_RUN_NOWAIT);
	}
	assert_int_equal(world->control->n_followers, 1);
	assert_true(plans > 500); /* a megabyte: not at the first hitch */
	assert_false(world->stream_ended);
	close(fd);
	world_free(world);
}

/* --- reload --- */

static void test_control__reload_keeps_what_is_known(void **state)
{
	struct world *world = world_new();

	(void)state;
	all_up(world);
	assert_int_equal(ask(world, "POST", "/v1/nodes/gpu/drain", NULL), 200);
	/* halo stays, gpu's voice leaves, a node comes before them */
	config_write(
		world,
		"{ \"gateway\": { \"interfaces\": [\"lo\"], \"datapath\": \"none\" },\n"
		"\"nodes\": { \"aaa\": { \"address\": \"127.0.0.9\", \"services\": { \"llm\": "
		"\"ollama\" } },\n"
		"\"gpu\": { \"address\": \"127.0.0.1\", \"services\": { \"llm\": \"ollama\" } },\n"
		"\"halo\": { \"address\": \"127.0.0.2\", \"services\": { \"llm\": \"ollama\" } } "
		"},\n"
		"\"personas\": { \"all\": { \"nodes\": [\"aaa\", \"gpu\", \"halo\"], \"listen\": { "
		"\"llm\": 11501 } } } }\n");
	assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 200);
	assert_int_equal(number_at(world, "plan_version"), (int64_t)world->control->state.version);
	assert_null(find(world, "note"));
	assert_int_equal(world->watched, 2);
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "nodes.0.state"), "down");
	assert_string_equal(text_at(world, "nodes.0.services.llm.reason"), "new");
	assert_string_equal(text_at(world, "nodes.1.state"), "drain");
	assert_true(truth_at(world, "nodes.1.services.llm.up"));
	assert_string_equal(text_at(world, "nodes.1.services.llm.models.0"), "r1:latest");
	assert_string_equal(text_at(world, "nodes.2.state"), "up");
	assert_string_equal(text_at(world, "nodes.2.services.llm.models.0"), "llama3:70b");
	world_free(world);
}

static void test_control__reload_forgets_an_endpoint_that_moved(void **state)
{
	struct world *world = world_new();

	(void)state;
	all_up(world);
	config_write(world, "{ \"gateway\": { \"interfaces\": [\"lo\"], \"datapath\": \"none\" },\n"
			    "\"nodes\": { \"gpu\": { \"address\": \"127.0.0.1\", \"services\": { "
			    "\"llm\": { \"engine\": \"ollama\", \"port\": 11435 } } },\n"
			    "\"halo\": { \"address\": \"127.0.0.3\", \"services\": { \"llm\": "
			    "\"ollama\" } } },\n"
			    "\"personas\": { \"all\": { \"nodes\": [\"gpu\", \"halo\"], "
			    "\"listen\": { \"llm\": 11501 } } } }\n");
	assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 200);
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "nodes.0.services.llm.reason"),
			    "new"); /* another port */
	assert_string_equal(text_at(world, "nodes.1.services.llm.reason"),
			    "new"); /* another address */
	world_free(world);
}

static void test_control__reload_with_errors_changes_nothing(void **state)
{
	struct world *world = world_new();
	char expected[128];
	uint64_t version;

	(void)state;
	all_up(world);
	control_publish(world->control);
	version = world->control->state.version;
	config_write(world, "{ \"gateway\": { \"interfaces\": [\"lo\"], \"datapath\": \"fast\" },\n"
			    "  \"nodse\": {} }\n");
	assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 409);
	assert_true(strlen(text_at(world, "error")) > 10);
	assert_true(json_count(find(world, "errors")) >= 2);
	snprintf(expected, sizeof(expected), "%s:1: /gateway/datapath: ", world->config);
	assert_memory_equal(text_at(world, "errors.0"), expected, strlen(expected));
	assert_int_equal(world->watched, 1);
	assert_int_equal(world->control->state.version, version);
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "nodes.0.state"), "up");

	assert_int_equal(unlink(world->config), 0);
	assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 409);
	assert_int_equal(json_count(find(world, "errors")), 1);
	world_free(world);
}

static void test_control__reload_says_what_waits_for_the_next_start(void **state)
{
	struct world *world = world_new();
	char text[sizeof(CONFIG) + 64];
	const char *rest = strstr(CONFIG, "},\n");

	(void)state;
	snprintf(text, sizeof(text),
		 "{ \"gateway\": { \"interfaces\": [\"lo\"], \"datapath\": \"tc\", \"max_flows\": "
		 "4096 %s",
		 rest);
	config_write(world, text);
	assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 200);
	assert_string_equal(text_at(world, "note"),
			    "at the next start: gateway datapath, max_flows");
	world_free(world);
}

static void test_control__reload_tells_proxies_that_numbers_have_changed(void **state)
{
	struct world *world = world_new();

	(void)state;
	assert_int_equal(
		ask(world, "POST", "/v1/load", "{\"pid\":7,\"plan_version\":1,\"busy\":[2,0,1]}"),
		200);
	assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 200);
	assert_int_equal(world->control->state.relayed[GPU_LLM], 0);
	/* what the first one held is forgotten, not only hidden until the next report */
	assert_int_equal(
		ask(world, "POST", "/v1/load", "{\"pid\":8,\"plan_version\":2,\"busy\":[0,0,0]}"),
		200);
	assert_int_equal(world->control->state.relayed[GPU_LLM], 0);
	assert_int_equal(
		ask(world, "POST", "/v1/load", "{\"pid\":7,\"plan_version\":1,\"busy\":[2,0,1]}"),
		409);
	assert_int_equal(
		ask(world, "POST", "/v1/load", "{\"pid\":7,\"plan_version\":2,\"busy\":[2,0,1]}"),
		200);
	world_free(world);
}

/* --- what survives --- */

static void restart(struct world *world)
{
	control_end(world);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	control_begin(world, (struct control_access){0});
}

static void test_control__weights_and_drains_survive_a_restart(void **state)
{
	struct world *world = world_new();
	struct stat st;

	(void)state;
	assert_int_equal(ask(world, "POST", "/v1/nodes/gpu/weight", "{\"weight\": 0}"), 200);
	assert_int_equal(ask(world, "POST", "/v1/nodes/halo/drain", NULL), 200);
	assert_int_equal(ask(world, "POST", "/v1/nodes/halo/weight", "{\"weight\": 900}"), 200);
	assert_int_equal(stat(world->state_file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	restart(world);
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_int_equal(number_at(world, "nodes.0.weight"), 0);
	assert_string_equal(text_at(world, "nodes.0.state"), "down");
	assert_int_equal(number_at(world, "nodes.1.weight"), 900);
	assert_string_equal(text_at(world, "nodes.1.state"), "drain");
	assert_int_equal(ask(world, "POST", "/v1/nodes/halo/undrain", NULL), 200);
	restart(world);
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "nodes.1.state"), "down");
	assert_int_equal(number_at(world, "nodes.1.weight"), 900);
	world_free(world);
}

static const char *const broken[] = {
	"",
	"{",
	"[]",
	"{\"version\": 1}",
	"{\"version\": 2, \"nodes\": {}}",
	"{\"nodes\": {}}",
	"{\"version\": 1, \"nodes\": []}",
	"{\"version\": 1, \"nodes\": {\"gpu\": 5}}",
	"{\"version\": 1, \"nodes\": {\"gpu\": {\"weight\": 1001}}}",
	"{\"version\": 1, \"nodes\": {\"gpu\": {\"weight\": -1}}}",
	"{\"version\": 1, \"nodes\": {\"gpu\": {\"drain\": 1}}}",
	"{\"version\": 1, \"nodes\": {\"gpu\": {\"other\": 1}}}",
	"{\"version\": 1, \"nodes\": {\"\": {\"drain\": true}}}",
	"{\"version\": 1, \"nodes\": {\"gpu\": {\"drain\": true}, \"halo\": 0}}",
};

static void test_control__a_broken_state_file_is_set_aside(void **state)
{
	struct world *world = world_new();
	char aside[160];
	struct stat st;

	(void)state;
	snprintf(aside, sizeof(aside), "%s.broken", world->state_file);
	assert_int_equal(mkdir(world->state_dir, 0700), 0);
	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		control_end(world);
		assert_int_equal(file_replace(world->state_file, broken[i], strlen(broken[i])), 0);
		control_begin(world, (struct control_access){0});
		if (world->control->state.n_overrides != 0)
			fail_msg("taken: %s", broken[i]);
		assert_int_equal(access(world->state_file, F_OK), -1);
		assert_int_equal(stat(aside, &st), 0);
		assert_int_equal(st.st_size, strlen(broken[i]));
		assert_int_equal(unlink(aside), 0);
	}
	assert_int_equal(ask(world, "POST", "/v1/nodes/gpu/drain", NULL), 200); /* goes on */
	assert_int_equal(access(world->state_file, F_OK), 0);
	world_free(world);
}

static void test_control__keeps_overrides_of_nodes_that_left(void **state)
{
	struct world *world = world_new();

	(void)state;
	assert_int_equal(ask(world, "POST", "/v1/nodes/gpu/drain", NULL), 200);
	config_write(world, "{ \"gateway\": { \"interfaces\": [\"lo\"], \"datapath\": \"none\" },\n"
			    "\"nodes\": { \"halo\": { \"address\": \"127.0.0.2\", \"services\": { "
			    "\"llm\": \"ollama\" } } },\n"
			    "\"personas\": { \"all\": { \"nodes\": [\"halo\"], \"listen\": { "
			    "\"llm\": 11501 } } } }\n");
	restart(world);
	assert_int_equal(ask(world, "POST", "/v1/nodes/halo/weight", "{\"weight\": 3}"), 200);
	config_write(world, CONFIG);
	restart(world);
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "nodes.0.state"), "drain");
	assert_int_equal(number_at(world, "nodes.1.weight"), 3);
	world_free(world);
}

static void test_control__what_cannot_be_saved_is_still_done_and_said(void **state)
{
	struct world *world = world_new();

	(void)state;
	/* a file in the folder's place: also root cannot write below it */
	assert_int_equal(file_replace(world->state_dir, "x", 1), 0);
	assert_int_equal(ask(world, "POST", "/v1/nodes/gpu/drain", NULL), 200);
	assert_true(truth_at(world, "drain"));
	assert_string_equal(text_at(world, "note"),
			    "not saved: lost at the next start of megalithd");
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	assert_string_equal(text_at(world, "nodes.0.state"), "drain");
	world_free(world);
}

/* --- who may --- */

static const struct {
	const char *why;
	struct control_access access;
	const char *request;
	int status;
} rights[] = {
	{"an operator may drain", {0}, "POST /v1/nodes/gpu/drain HTTP/1.1\r\nHost: x\r\n\r\n", 200},
	{"the proxy may not drain",
	 {.has_proxy = true, .proxy_uid = STRANGER},
	 "POST /v1/nodes/gpu/drain HTTP/1.1\r\nHost: x\r\n\r\n",
	 403},
	{"the proxy may not detach",
	 {.has_proxy = true, .proxy_uid = STRANGER},
	 "POST /v1/detach HTTP/1.1\r\nHost: x\r\n\r\n",
	 403},
	{"the proxy may not reload",
	 {.has_proxy = true, .proxy_uid = STRANGER},
	 "POST /v1/reload HTTP/1.1\r\nHost: x\r\n\r\n",
	 403},
	{"the proxy may read",
	 {.has_proxy = true, .proxy_uid = STRANGER},
	 "GET /v1/plan HTTP/1.1\r\nHost: x\r\n\r\n",
	 200},
	{"the proxy may say what it holds",
	 {.has_proxy = true, .proxy_uid = STRANGER},
	 "POST /v1/load HTTP/1.1\r\nHost: x\r\nContent-Length: "
	 "41\r\n\r\n{\"pid\":7,\"plan_version\":1,\"busy\":[2,0,1]}",
	 200},
	{"without a group of operators nobody else may drain",
	 {.owner_only = true},
	 "POST /v1/nodes/gpu/drain HTTP/1.1\r\nHost: x\r\n\r\n",
	 403},
	{"without a group of operators others may read",
	 {.owner_only = true},
	 "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n",
	 200},
};

static void test_control__the_proxy_only_reads_and_reports(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip(); /* only root can be somebody else */
	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
		struct world *world = world_new();
		int status;

		control_end(world);
		control_begin(world, rights[i].access);
		status = status_as_stranger(world, rights[i].request);
		if (status != rights[i].status)
			fail_msg("%s: %d", rights[i].why, status);
		world_free(world);
	}
}

static void test_control__garbage_disturbs_nobody(void **state)
{
	static const char *const garbage[] = {
		"\x16\x03\x01\x02\x01",
		"GET\r\n\r\n",
		"GET /v1/status HTTP/9.9\r\n\r\n",
		"\r\n\r\n\r\n",
		"POST /v1/nodes/gpu/weight HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n"};
	struct world *world = world_new();

	(void)state;
	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
		int fd = raw_connect(world);

		assert_int_equal(write(fd, garbage[i], strlen(garbage[i])), strlen(garbage[i]));
		assert_int_equal(ask(world, "GET", "/v1/names", NULL), 200);
		close(fd);
	}
	assert_int_equal(ask(world, "GET", "/v1/status", NULL), 200);
	world_free(world);
}

/* --- metrics --- */

static void expect_line(const struct world *world, const char *line)
{
	char whole[256];

	snprintf(whole, sizeof(whole), "\n%s\n", line);
	if (!strstr(world->body, whole))
		fail_msg("no line %s in:\n%s", line, world->body);
}

static void test_control__metrics(void **state)
{
	struct world *world = world_new();

	(void)state;
	all_up(world);
	note_down(world, HALO_LLM, PROBE_RESET);
	assert_int_equal(
		ask(world, "POST", "/v1/load", "{\"pid\":7,\"plan_version\":1,\"busy\":[2,0,0]}"),
		200);
	assert_int_equal(ask(world, "GET", "/metrics", NULL), 200);
	expect_line(world, "# TYPE megalith_node_up gauge");
	expect_line(world, "megalith_node_up{node=\"gpu\",service=\"llm\"} 1");
	expect_line(world, "megalith_node_up{node=\"halo\",service=\"llm\"} 1"); /* fall 2 */
	expect_line(world, "megalith_node_busy{node=\"gpu\",service=\"llm\"} 2");
	expect_line(world, "megalith_node_connections{node=\"gpu\",service=\"llm\"} 2");
	expect_line(world, "megalith_node_capacity{node=\"halo\",service=\"llm\"} 4");
	expect_line(world, "# TYPE megalith_connections_total counter");
	expect_line(world, "megalith_connections_total{node=\"gpu\",service=\"voice\",persona="
			   "\"cruncher\"} 0");
	expect_line(world, "megalith_bytes_total{direction=\"to_client\",node=\"gpu\"} 0");
	expect_line(world, "megalith_packets_total{direction=\"to_node\"} 0");
	expect_line(world, "megalith_drops_total{reason=\"ttl\"} 0");
	expect_line(world, "megalith_datapath_total{reason=\"no_room\"} 0");
	expect_line(
		world,
		"megalith_probe_failures_total{node=\"halo\",service=\"llm\",reason=\"reset\"} 1");
	assert_null(strstr(world->body, "reason=\"closed\"")); /* never happened */
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control__status_has_the_stable_keys),
		cmocka_unit_test(test_control__a_node_is_down_until_probed),
		cmocka_unit_test(test_control__keeps_models_that_were_not_said_again),
		cmocka_unit_test(test_control__plan),
		cmocka_unit_test(test_control__names),
		cmocka_unit_test(test_control__flows_without_a_datapath),
		cmocka_unit_test(test_control__explain_names_the_taker_and_why_not_the_others),
		cmocka_unit_test(test_control__explain_of_a_service),
		cmocka_unit_test(test_control__explain_of_models),
		cmocka_unit_test(test_control__explain_refuses_what_it_does_not_know),
		cmocka_unit_test(test_control__weight),
		cmocka_unit_test(test_control__drain_wins_over_up_and_down),
		cmocka_unit_test(test_control__refuses),
		cmocka_unit_test(test_control__detach_without_a_datapath),
		cmocka_unit_test(test_control__refuses_a_body_that_is_too_large),
		cmocka_unit_test(test_control__counts_what_proxies_hold),
		cmocka_unit_test(test_control__relayed_work_fills_a_node),
		cmocka_unit_test(test_control__limits_the_number_of_proxies),
		cmocka_unit_test(test_control__followers_hear_nothing_until_all_is_known),
		cmocka_unit_test(
			test_control__followers_get_the_plan_in_the_end_when_a_probe_says_nothing),
		cmocka_unit_test(test_control__followers_get_the_plan_at_once_and_at_each_change),
		cmocka_unit_test(test_control__one_plan_for_a_burst_of_changes),
		cmocka_unit_test(test_control__a_plan_of_megabytes_reaches_its_follower),
		cmocka_unit_test(test_control__followers_are_counted_until_they_leave),
		cmocka_unit_test(test_control__followers_see_a_clean_end),
		cmocka_unit_test(test_control__drops_a_follower_that_does_not_read),
		cmocka_unit_test(test_control__reload_keeps_what_is_known),
		cmocka_unit_test(test_control__reload_forgets_an_endpoint_that_moved),
		cmocka_unit_test(test_control__reload_with_errors_changes_nothing),
		cmocka_unit_test(test_control__reload_says_what_waits_for_the_next_start),
		cmocka_unit_test(test_control__reload_tells_proxies_that_numbers_have_changed),
		cmocka_unit_test(test_control__weights_and_drains_survive_a_restart),
		cmocka_unit_test(test_control__a_broken_state_file_is_set_aside),
		cmocka_unit_test(test_control__keeps_overrides_of_nodes_that_left),
		cmocka_unit_test(test_control__what_cannot_be_saved_is_still_done_and_said),
		cmocka_unit_test(test_control__the_proxy_only_reads_and_reports),
		cmocka_unit_test(test_control__garbage_disturbs_nobody),
		cmocka_unit_test(test_control__metrics),
	};

	signal(SIGPIPE, SIG_IGN); /* as daemon_run() does */
	log_init("test", LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
