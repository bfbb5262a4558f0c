/* SPDX-License-Identifier: MIT */
/*
 * What a name means to the router. The farms are configurations and what probes would have found;
 * the last test makes farms at random and asks the controller's explain for its opinion.
 */
#include <errno.h>

#include "base/json.h"
#include "control/explain.h"
#include "core/choose.h"
#include "core/route.h"
#include "farm.h"

/*
 * Endpoints: 0 a/llm (Ollama), 1 a/fast (vLLM), 2 a/voice, 3 b/llm (Ollama), 4 c/llm (llama.cpp),
 * 5 d/llm (Ollama, in no persona), 6 e/llm (Ollama, only where p cascades to), 7 e/other.
 */
enum { A_LLM, A_FAST, A_VOICE, B_LLM, C_LLM, D_LLM, E_LLM, E_OTHER, ENDPOINTS };

static const char config[] =
	"{ \"gateway\": { \"datapath\": \"none\" }, \"nodes\": {"
	"\"a\": { \"address\": \"10.0.0.1\", \"services\": { \"llm\": \"ollama\", \"fast\": "
	"\"vllm\", \"voice\": \"wyoming\" } },"
	"\"b\": { \"address\": \"10.0.0.2\", \"services\": { \"llm\": \"ollama\" } },"
	"\"c\": { \"address\": \"10.0.0.3\", \"services\": { \"llm\": \"llamacpp\" } },"
	"\"d\": { \"address\": \"10.0.0.4\", \"services\": { \"llm\": \"ollama\" } },"
	"\"e\": { \"address\": \"10.0.0.5\", \"services\": { \"llm\": \"ollama\", \"other\": "
	"\"comfyui\" } } },"
	"\"personas\": {"
	"\"p\": { \"nodes\": [\"a\"], \"cascade\": [\"q\", \"r\"],"
	"  \"listen\": { \"voice\": 9001, \"llm\": 9002, \"fast\": 9003 } },"
	"\"q\": { \"nodes\": [\"b\", \"c\"], \"listen\": { \"llm\": 9004 } },"
	"\"r\": { \"nodes\": [\"e\"], \"listen\": { \"other\": 9005 } } },"
	"\"models\": {"
	"\"chat\": [ { \"persona\": \"p\", \"model\": \"m1\" }, { \"persona\": \"q\", \"model\": "
	"\"m2\" } ],"
	"\"m3\": [ { \"persona\": \"p\" } ],"
	"\"m2:latest\": [ { \"persona\": \"q\", \"model\": \"m1\" } ],"
	"\"q/aliased\": { \"targets\": [ { \"persona\": \"p\" } ], \"affinity\": \"session\" },"
	"\"nobody\": [ { \"persona\": \"q\", \"model\": \"gone\" } ] } }";

struct farm {
	struct model *model;
	struct plan *plan;
	struct catalog *catalog;
	struct routes routes;
};

/* `has`: names of each endpoint, separated by blanks; NULL: it has not said. */
static struct farm *farm_new(const char *text, const char *const *has)
{
	struct farm *farm = calloc(1, sizeof(*farm));
	struct catalog_known *known;
	struct score *health;
	char *names[64], *copies[64];
	size_t n_names = 0;

	farm->model = farm_load(text);
	known = calloc(farm->model->n_endpoints + 1, sizeof(*known));
	health = calloc(farm->model->n_endpoints + 1, sizeof(*health));
	for (size_t i = 0; i < farm->model->n_endpoints; i++) {
		health[i].up = true;
		copies[i] = has[i] ? strdup(has[i]) : NULL;
		if (!has[i])
			continue;
		known[i].said = true;
		known[i].models = &names[n_names];
		for (char *name = strtok(copies[i], " "); name; name = strtok(NULL, " ")) {
			names[n_names++] = name;
			known[i].n_models++;
		}
	}
	farm->plan = plan_build(farm->model, health, NULL, 0, 1);
	farm->catalog = catalog_build(farm->model, known);
	assert_int_equal(routes_init(&farm->routes, farm->plan, farm->catalog), 0);
	for (size_t i = 0; i < farm->model->n_endpoints; i++)
		free(copies[i]);
	free(known);
	free(health);
	return farm;
}

static void farm_free(struct farm *farm)
{
	routes_fini(&farm->routes);
	catalog_free(farm->catalog);
	plan_free(farm->plan);
	model_free(farm->model);
	free(farm);
}

/* c has not said what it has. */
static const char *const usual[ENDPOINTS] = {
	[A_LLM] = "m1:latest only-a",
	[A_FAST] = "m2 org/big",
	[A_VOICE] = NULL,
	[B_LLM] = "m2:latest library/m3 q/aliased q/real",
	[C_LLM] = NULL,
	[D_LLM] = "m4 p/odd",
	[E_LLM] = "m5 only-e m1",
};

/* "m1@p:0,1 q:3": targets, each with its model, and of each tier its persona and endpoints. */
static void describe(const struct route *route, struct buf *out)
{
	for (size_t i = 0; i < route->n_targets; i++) {
		const struct route_target *target = &route->targets[i];

		buf_printf(out, "%s%s@", i ? " | " : "", target->model ? target->model : "-");
		for (size_t t = 0; t < target->row.n_tiers; t++) {
			const struct plan_tier *tier = &target->row.tiers[t];

			buf_printf(out, "%s%s:", t ? " " : "", tier->persona);
			for (size_t k = 0; k < tier->n_endpoints; k++)
				buf_printf(out, "%s%u", k ? "," : "", (unsigned)tier->endpoints[k]);
		}
	}
}

static const struct {
	const char *why, *name, *targets; /* NULL: nobody knows it */
} rows[] = {
	{"an alias: of each target the persona's, then its cascade", "chat",
	 "m1@p:0 q:4 r:6 | m2@q:3,4"},
	{"an alias by its long name", "library/chat:latest", "m1@p:0 q:4 r:6 | m2@q:3,4"},
	{"an alias whose target names no model: the name itself", "m3", "-@q:3,4"},
	{"an alias is stronger than a model, however that is spelled", "m2", "m1@q:4"},
	{"and stronger than PERSONA/MODEL", "q/aliased", "-@q:3,4"},
	{"an alias that nobody can serve is one all the same", "nobody", "gone@q:4"},
	{"a model: whoever has it, in one tier", "m1", "m1@:0,6"},
	{"a model as :latest", "only-a:latest", "only-a:latest@:0"},
	{"a model with Ollama's namespace", "library/only-a", "library/only-a@:0"},
	{"and with its host", "registry.ollama.ai/library/only-a:latest",
	 "registry.ollama.ai/library/only-a:latest@:0"},
	{"a model with a namespace of its own", "org/big", "org/big@:1"},
	{"case counts", "Only-a", NULL},
	{"another tag is another model", "only-a:7b", NULL},
	{"a model that only a cascade reaches", "only-e", "only-e@:6"},
	{"a model of a node in no persona", "m4", NULL},
	{"a model is stronger than PERSONA/MODEL", "q/real", "q/real@:3"},
	{"but not one that cannot be reached", "p/odd", NULL},
	{"PERSONA/MODEL: its own, then its cascade", "p/m2", "m2@p:1 q:3,4"},
	{"PERSONA/MODEL: those that have not said", "q/whatever", "whatever@q:4"},
	{"PERSONA/MODEL with a tag", "p/m1:latest", "m1:latest@p:0 q:4 r:6"},
	{"PERSONA/MODEL with a namespace", "p/org/big", "org/big@p:1 q:4"},
	{"PERSONA/MODEL that only its cascade has", "p/m3", NULL},
	{"a persona that listens to nothing of that kind", "r/m5", NULL},
	{"a persona that is none", "s/m1", NULL},
	{"a persona without a model", "q/", NULL},
	{"a model without a persona", "/m1", NULL},
	{"a persona alone", "p", NULL},
	{"nothing", "", NULL},
	{"nothing as :latest", ":latest", NULL},
	{"an unknown name", "unheard", NULL},
	{"a name longer than a persona's may be",
	 "ppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp/m1",
	 NULL},
};

static void check_name(struct farm *farm, size_t row)
{
	const struct route *route;
	struct buf text = {0};

	errno = 0;
	route = routes_find(&farm->routes, rows[row].name);
	if (route)
		describe(route, &text);
	else if (errno != ENOENT)
		fail_msg("%s: errno %d", rows[row].why, errno);
	if (!route != !rows[row].targets || (route && strcmp(text.data, rows[row].targets) != 0))
		fail_msg("%s: %s: %s", rows[row].why, rows[row].name,
			 route ? text.data : "unknown");
	assert_ptr_equal(routes_find(&farm->routes, rows[row].name), route);
	buf_fini(&text);
}

/* Each is the first that is asked for; only the question that has no name came before. */
static void test_route__names(void **state)
{
	struct farm *farm = farm_new(config, usual);

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		routes_fini(&farm->routes);
		assert_int_equal(routes_init(&farm->routes, farm->plan, farm->catalog), 0);
		assert_non_null(routes_any(&farm->routes, ROUTE_ENGINE(ENGINE_OLLAMA)));
		check_name(farm, i);
	}
	farm_free(farm);
}

static void test_route__an_unreachable_model_hides_no_persona(void **state)
{
	const char *const has[ENDPOINTS] = {
		[A_LLM] = "odd", [A_FAST] = "",	    [B_LLM] = "",
		[C_LLM] = "",	 [D_LLM] = "p/odd", [E_LLM] = "",
	};
	struct farm *farm = farm_new(config, has);
	struct buf text = {0};
	const struct route *route = routes_find(&farm->routes, "p/odd");

	(void)state;
	assert_non_null(route);
	describe(route, &text);
	assert_string_equal(text.data, "odd@p:0");
	buf_fini(&text);
	farm_free(farm);
}

/* Clients that wait for the same stand in one line, whatever they call it. */
static void test_route__spellings_share_a_route(void **state)
{
	static const char *const spellings[][3] = {
		{"chat", "chat:latest", "library/chat"},
		{"m1", "m1:latest", "registry.ollama.ai/library/m1"},
		{"p/m1", "p/m1:latest", "p/m1"},
	};
	struct farm *farm = farm_new(config, usual);

	(void)state;
	for (size_t i = 0; i < COUNT(spellings); i++) {
		struct route *route = routes_find(&farm->routes, spellings[i][0]);

		assert_non_null(route);
		for (size_t k = 1; k < 3; k++)
			assert_ptr_equal(routes_find(&farm->routes, spellings[i][k]), route);
	}
	assert_string_equal(routes_find(&farm->routes, "library/chat:latest")->name, "chat");
	assert_true(routes_find(&farm->routes, "q/aliased")->session);
	assert_false(routes_find(&farm->routes, "chat")->session);
	farm_free(farm);
}

static void test_route__questions_that_any_node_answers(void **state)
{
	struct farm *farm = farm_new(config, usual);
	struct route *route = routes_any(&farm->routes, ROUTE_ENGINE(ENGINE_OLLAMA));
	struct buf text = {0};

	(void)state;
	describe(route, &text);
	assert_string_equal(text.data, "-@:0,3,6");
	assert_string_equal(route->name, "");
	assert_ptr_equal(routes_any(&farm->routes, ROUTE_ENGINE(ENGINE_OLLAMA)), route);
	buf_fini(&text);
	farm_free(farm);
}

/* ---- what the node is asked for ---- */

static const struct {
	const char *why, *has_ollama, *has_vllm; /* a/llm, a/fast */
	const char *sent;
	const char *ollama, *vllm; /* what they are asked for; NULL: not at all */
} spellings[] = {
	{"as sent, where that is its name", "m", "m", "m", "m", "m"},
	{"Ollama takes every spelling; others only their own", "m", "m", "m:latest", "m:latest",
	 "m"},
	{"and the other way round", "m:latest", "m:latest", "m", "m", "m:latest"},
	{"both names there: the one that was sent", "m", "m m:latest", "m:latest", "m:latest",
	 "m:latest"},
	{"the same, the other one", "m", "m m:latest", "m", "m", "m"},
	{"PERSONA/MODEL: without the persona", "m:latest", "m", "p/m", "m:latest", "m"},
	{"PERSONA/MODEL, where nobody has said", NULL, NULL, "p/m:latest", "m:latest", "m:latest"},
	{"an alias: the name of its target", "m1", "m1", "chat", "m1", "m1"},
	{"an alias by its long name", "m1:latest", "m1", "library/chat:latest", "m1", "m1"},
	{"an alias's target, in the spelling of the node", "m1", "m1:latest", "chat", "m1",
	 "m1:latest"},
	{"an alias's target, where nobody has said", NULL, NULL, "chat", "m1", "m1"},
	{"an alias without a model: as sent", "m3", "m3", "m3", "m3", "m3"},
	{"Open WebUI's :latest behind it", "m3", "m3", "m3:latest", "m3:latest", "m3"},
	{"the same, where nobody has said", NULL, NULL, "m3:latest", "m3:latest", "m3:latest"},
	{"only one has it", "m1", "other", "chat", "m1", NULL},
};

static void expect_spelling(const struct farm *farm, size_t row, uint32_t endpoint,
			    const struct route *route, const char *expected)
{
	const struct route_target *target = &route->targets[0];
	const char *name;

	if (!expected) {
		assert_string_equal(route_persona(&target->row, endpoint), "");
		return;
	}
	name = route_spelling(&farm->routes, route, target, endpoint, spellings[row].sent);
	if (strcmp(name, expected) != 0)
		fail_msg("%s: endpoint %u is asked for %s", spellings[row].why, (unsigned)endpoint,
			 name);
}

static void test_route__nodes_are_asked_in_their_spelling(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(spellings); i++) {
		const char *const has[ENDPOINTS] = {
			[A_LLM] = spellings[i].has_ollama,
			[A_FAST] = spellings[i].has_vllm,
			[B_LLM] = "",
			[C_LLM] = "",
			[D_LLM] = "",
			[E_LLM] = "",
		};
		struct farm *farm = farm_new(config, has);
		const struct route *route = routes_find(&farm->routes, spellings[i].sent);

		if (!route)
			fail_msg("%s: unknown", spellings[i].why);
		expect_spelling(farm, i, A_LLM, route, spellings[i].ollama);
		expect_spelling(farm, i, A_FAST, route, spellings[i].vllm);
		farm_free(farm);
	}
}

static void test_route__knows_for_whom_an_endpoint_is_taken(void **state)
{
	struct farm *farm = farm_new(config, usual);
	const struct route *route = routes_find(&farm->routes, "chat");

	(void)state;
	assert_string_equal(route_persona(&route->targets[0].row, A_LLM), "p");
	assert_string_equal(route_persona(&route->targets[0].row, C_LLM), "q");
	assert_string_equal(route_persona(&route->targets[0].row, E_LLM), "r");
	assert_string_equal(route_persona(&route->targets[0].row, B_LLM), "");
	assert_string_equal(route_persona(&route->targets[1].row, B_LLM), "q");
	farm_free(farm);
}

static void test_route__rows_of_http(void **state)
{
	struct farm *farm = farm_new(config, usual);

	(void)state;
	for (size_t i = 0; i < farm->plan->n_rows; i++) {
		const struct plan_row *row = &farm->plan->rows[i];
		bool http = route_is_http(farm->plan, row);

		if (http != (strcmp(row->service, "voice") != 0))
			fail_msg("%s/%s: %d", row->persona, row->service, http);
	}
	farm_free(farm);
}

/* ---- bounds ---- */

#define MANY 20000

static void test_route__names_that_clients_invent_have_an_end(void **state)
{
	struct farm *farm = farm_new(config, usual);
	struct route *first = routes_find(&farm->routes, "q/0"), *chat, *route;
	size_t n = 0, refused = 0;
	char name[64];

	(void)state;
	chat = routes_find(&farm->routes, "chat");
	for (unsigned i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "unknown-%u", i);
		assert_null(routes_find(&farm->routes, name));
		assert_int_equal(errno, ENOENT);
		snprintf(name, sizeof(name), "q/%u", i); /* c has not said that it lacks it */
		errno = 0;
		if (!routes_find(&farm->routes, name)) {
			assert_int_equal(errno, ENOMEM);
			refused++;
		}
	}
	for (route = farm->routes.list; route; route = route->next)
		n++;
	assert_true(n < MANY / 2 && refused > MANY / 2);
	assert_true(farm->routes.n_names <= 4096);
	/* What is configured, or had before, is known still. */
	assert_ptr_equal(routes_find(&farm->routes, "chat"), chat);
	assert_ptr_equal(routes_find(&farm->routes, "q/0"), first);
	assert_non_null(routes_find(&farm->routes, "m1"));
	assert_non_null(routes_find(&farm->routes, "only-e"));
	farm_free(farm);
}

static void test_route__memory_of_spellings_has_an_end(void **state)
{
	struct farm *farm = farm_new(config, usual);
	char name[64];

	(void)state;
	for (unsigned i = 0; i < 3000; i++) { /* each twice, as itself and as :latest */
		snprintf(name, sizeof(name), "q/%u", i);
		assert_non_null(routes_find(&farm->routes, name));
		strcat(name, ":latest");
		assert_non_null(routes_find(&farm->routes, name));
		assert_true(farm->routes.n_names <= 4096);
	}
	farm_free(farm);
}

/* ---- farms at random: the controller's explain says the same ---- */

struct lot {
	uint32_t state;
	bool two[512]; /* nodes with a second service */
};

static uint32_t draw(struct lot *lot, uint32_t below)
{
	lot->state = lot->state * 1664525u + 1013904223u;
	return (lot->state >> 8) % below;
}

static const char *const engines[] = {"ollama", "ollama", "vllm", "llamacpp", "openai", "comfyui"};
static char *const models[] = {
	(char[]){"m1"},	     (char[]){"m1:latest"}, (char[]){"m2"},	(char[]){"library/m2"},
	(char[]){"m3:7b"},   (char[]){"org/m4"},    (char[]){"p0/m1"},	(char[]){"p1/m3:7b"},
	(char[]){"alias-0"}, (char[]){"p0/odd"},    (char[]){"p1/llm"},
};
static const char *const questions[] = {
	"m1",	    "m1:latest", "library/m1", "m2",	    "m3:7b",   "m3",	  "org/m4",
	"p0/m1",    "p0/m2",	 "p0/m3:7b",   "p0/org/m4", "p1/m1",   "p1/m2",	  "p1/m3:7b",
	"p2/m1",    "p2/none",	 "p3/m1",      "alias-0",   "alias-1", "alias-2", "alias-0:latest",
	"p0/alias", "p0/odd",	 "nobody",     "p9/m1",	    "p2/m2",   "p3/m2",
};

static void write_nodes(struct lot *lot, struct buf *out, size_t n)
{
	buf_puts(out, "\"nodes\":{");
	for (size_t i = 0; i < n; i++) {
		buf_printf(out,
			   "%s\"n%zu\":{\"address\":\"10.0.%zu.%zu\",\"weight\":%u,\"services\":{",
			   i ? "," : "", i, i / 200, 1 + i % 200, (unsigned)draw(lot, 5) * 25);
		buf_printf(out, "\"llm\":{\"engine\":\"%s\",\"port\":8000,\"capacity\":%u}",
			   engines[draw(lot, COUNT(engines))], (unsigned)draw(lot, 4));
		lot->two[i] = draw(lot, 3) == 0;
		if (lot->two[i])
			buf_printf(out, ",\"two\":{\"engine\":\"%s\",\"port\":8001}",
				   engines[draw(lot, COUNT(engines))]);
		buf_puts(out, "}}");
	}
	buf_puts(out, "},");
}

static void write_personas(struct lot *lot, struct buf *out, size_t n_nodes, size_t most)
{
	buf_puts(out, "\"personas\":{");
	for (size_t p = 0; p < 4; p++) {
		size_t first = draw(lot, (uint32_t)n_nodes), n = 1 + draw(lot, (uint32_t)most);
		bool some = false, two = false;

		buf_printf(out, "%s\"p%zu\":{\"nodes\":[", p ? "," : "", p);
		for (size_t i = 0; i < n && i < n_nodes; i++) {
			buf_printf(out, "%s\"n%zu\"", i ? "," : "", (first + i) % n_nodes);
			two = two || lot->two[(first + i) % n_nodes];
		}
		buf_printf(out, "],\"listen\":{\"llm\":%zu", 9000 + 2 * p);
		if (two && draw(lot, 2))
			buf_printf(out, ",\"two\":%zu", 9001 + 2 * p);
		buf_puts(out, "},\"cascade\":[");
		for (size_t to = 0; to < 4; to++) {
			if (to == p || draw(lot, 3))
				continue;
			buf_printf(out, "%s\"p%zu\"", some ? "," : "", to);
			some = true;
		}
		buf_puts(out, "]}");
	}
	buf_puts(out, "},");
}

static void write_aliases(struct lot *lot, struct buf *out)
{
	static const char *const of[] = {"m1", "m1:latest", "m2", "m3:7b", "org/m4", "gone"};

	buf_puts(out, "\"models\":{");
	for (size_t a = 0; a < 3; a++) {
		size_t n = 1 + draw(lot, 3);

		buf_printf(out, "%s\"alias-%zu\":[", a ? "," : "", a);
		for (size_t t = 0; t < n; t++) {
			buf_printf(out, "%s{\"persona\":\"p%u\"", t ? "," : "",
				   (unsigned)draw(lot, 4));
			if (draw(lot, 4))
				buf_printf(out, ",\"model\":\"%s\"", of[draw(lot, COUNT(of))]);
			buf_puts(out, "}");
		}
		buf_puts(out, "]");
	}
	buf_puts(out, "}");
}

/* The most nodes of a persona decide whether only some are drawn. */
static struct model *random_model(struct lot *lot, size_t n_nodes, size_t most)
{
	struct buf text = {0};
	struct model *model;

	buf_puts(&text, "{\"gateway\":{\"datapath\":\"none\"},");
	write_nodes(lot, &text, n_nodes);
	write_personas(lot, &text, n_nodes, most);
	write_aliases(lot, &text);
	buf_puts(&text, "}");
	model = farm_load(text.data);
	buf_fini(&text);
	return model;
}

/* What probes, proxies and the operator have said. */
static void random_state(struct lot *lot, struct state *state)
{
	size_t n = state->model->n_endpoints;
	uint32_t *busy = calloc(n + 1, sizeof(*busy));

	for (size_t i = 0; i < n; i++) {
		struct observation seen = {.reason = draw(lot, 6) ? PROBE_OK : PROBE_REFUSED};
		char *has[COUNT(models)];

		for (size_t m = 0; m < COUNT(models); m++) {
			if (!draw(lot, 4))
				has[seen.n_models++] = models[m];
		}
		if (draw(lot, 6))
			seen.models = has;
		else
			seen.n_models = 0;
		state_note(state, i, &seen);
		busy[i] = draw(lot, 4);
		if (!draw(lot, 12))
			assert_int_equal(state_drain_set(state, state->model->nodes[0].name, true),
					 0);
	}
	assert_int_equal(state_relay_note(state, 7, busy, 1), 0);
	assert_int_equal(state_plan_make(state), 0);
	free(busy);
}

/* As control/follow.c makes it. */
static struct catalog *catalog_of(const struct state *state)
{
	size_t n = state->model->n_endpoints;
	struct catalog_known *known = calloc(n + 1, sizeof(*known));
	struct catalog *catalog;

	for (size_t i = 0; i < n; i++) {
		known[i].said = state->known[i].models.list != NULL;
		known[i].models = state->known[i].models.list;
		known[i].n_models = state->known[i].models.n;
	}
	catalog = catalog_build(state->model, known);
	free(known);
	return catalog;
}

#define HASH_OF_NOBODY 2166136261u /* explain's without a client */

/* As the router goes through the targets. */
static size_t router_takes(const struct state *state, struct routes *routes, const char *name)
{
	const struct route *route = routes_find(routes, name);
	struct mg_node *nodes = calloc(state->plan->n_endpoints + 1, sizeof(*nodes));
	size_t found = CHOOSE_NONE;

	state_view_fill(state, nodes);
	for (size_t i = 0; route && i < route->n_targets && found == CHOOSE_NONE; i++)
		found = choose(state->plan, &route->targets[i].row, nodes, HASH_OF_NOBODY, NULL);
	free(nodes);
	return found;
}

static void check_question(const struct state *state, struct routes *routes, const char *name,
			   unsigned *taken)
{
	size_t mine = router_takes(state, routes, name);
	struct buf out = {0}, error = {0};
	struct json_error bad;
	struct json *json = NULL;
	const struct json *its = NULL;
	int result = explain_write(state, name, NULL, &out, &error);

	if (!result) {
		json = json_parse(out.data, out.len, 0, &bad);
		assert_non_null(json);
		its = json_get(json, "taken");
		if (json_type(its) == JSON_NULL)
			its = NULL;
	}
	if (!its != (mine == CHOOSE_NONE))
		fail_msg("%s: the router %s, explain %s: %s", name,
			 mine == CHOOSE_NONE ? "knows nobody" : "takes one",
			 its ? "takes one" : "knows nobody", out.data ? out.data : error.data);
	if (its) {
		const struct plan_endpoint *to = &state->plan->endpoints[mine];

		if (strcmp(json_string(json_get(its, "node")), to->node) != 0 ||
		    strcmp(json_string(json_get(its, "service")), to->service) != 0)
			fail_msg("%s: the router takes %s/%s: %s", name, to->node, to->service,
				 out.data);
		(*taken)++;
	}
	json_free(json);
	buf_fini(&out);
	buf_fini(&error);
}

static void test_route__explain_agrees(void **state)
{
	unsigned taken = 0, asked = 0;

	(void)state;
	for (uint32_t seed = 1; seed <= 300; seed++) {
		struct lot lot = {.state = seed};
		bool large = seed % 10 == 0;
		struct catalog *catalog;
		struct state of;
		struct routes routes;

		state_init(&of);
		assert_int_equal(
			state_model_set(&of, random_model(&lot, large ? 300 : 12, large ? 200 : 8)),
			0);
		random_state(&lot, &of);
		catalog = catalog_of(&of);
		assert_int_equal(routes_init(&routes, of.plan, catalog), 0);
		for (size_t i = 0; i < COUNT(questions); i++, asked++)
			check_question(&of, &routes, questions[i], &taken);
		routes_fini(&routes);
		catalog_free(catalog);
		state_fini(&of);
	}
	assert_true(taken > asked / 4 && taken < asked); /* it was no empty question */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_route__names),
		cmocka_unit_test(test_route__an_unreachable_model_hides_no_persona),
		cmocka_unit_test(test_route__spellings_share_a_route),
		cmocka_unit_test(test_route__questions_that_any_node_answers),
		cmocka_unit_test(test_route__nodes_are_asked_in_their_spelling),
		cmocka_unit_test(test_route__knows_for_whom_an_endpoint_is_taken),
		cmocka_unit_test(test_route__rows_of_http),
		cmocka_unit_test(test_route__names_that_clients_invent_have_an_end),
		cmocka_unit_test(test_route__memory_of_spellings_has_an_end),
		cmocka_unit_test(test_route__explain_agrees),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
