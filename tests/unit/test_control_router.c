/* SPDX-License-Identifier: MIT */
/* The controller's side of the HTTP router: catalog, keys, marks, and several proxies at a time. */
#include "control_world.h"

#include "control/daemon.h"
#include "core/keys.h"
#include "farm.h"

/* --- helpers --- */

/* The next line of the stream that is about a plan. */
static void plan_next(struct world *world)
{
	do
		line_next(world);
	while (!find(world, "plan"));
}

static void load_next(struct world *world)
{
	do
		line_next(world);
	while (!find(world, "load"));
}

static bool is_due(const struct world *world)
{
	return uv_is_active((const uv_handle_t *)&world->control->publish_timer);
}

struct said { /* of an endpoint's models */
	char *models[4], *about[4], *loaded[4], *running[4];
	size_t n_models, n_loaded;
};

static void note_said(struct world *world, size_t endpoint, const struct said *said)
{
	const struct observation seen = {
		.reason = PROBE_OK,
		.models = said->models,
		.about = said->about,
		.n_models = said->n_models,
		.loaded = said->loaded,
		.running = said->running,
		.n_loaded = said->n_loaded,
	};

	control_note(world->control, endpoint, &seen);
}

static char r1[] = "r1:latest", qwen[] = "qwen", first[] = "{\"n\":1}", second[] = "{\"n\":2}";

/* What another user reads from the socket in answer to `request`, up to `until`. */
static void read_as_stranger(struct world *world, const char *request, const char *until,
			     char answer[16384])
{
	int pipes[2], status, fd;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(chmod(world->dir, 0755), 0);
	assert_int_equal(chmod(world->socket, 0666), 0);
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (setgid(STRANGER) || setuid(STRANGER))
			_exit(1);
		fd = raw_connect(world);
		if (write(fd, request, strlen(request)) < 0)
			_exit(2);
		while (!strstr(answer, until) && len < 16383 &&
		       (n = read(fd, answer + len, 16383 - len)) > 0)
			answer[len += (size_t)n] = '\0';
		_exit(write(pipes[1], answer, len) != (ssize_t)len);
	}
	close(pipes[1]);
	while (waitpid(pid, &status, WNOHANG) == 0)
		uv_run(&world->loop, UV_RUN_NOWAIT);
	assert_int_equal(status, 0);
	while ((n = read(pipes[0], answer + len, 16383 - len)) > 0)
		len += (size_t)n;
	answer[len] = '\0';
	close(pipes[0]);
}

/* --- catalog --- */

static void test_control__catalog_goes_with_the_plan(void **state)
{
	const struct said said = {{r1, qwen}, {first, NULL}, {qwen}, {second}, 2, 1};
	struct world *world = world_new();

	(void)state;
	all_up(world);
	note_said(world, GPU_LLM, &said);
	control_publish(world->control);
	for (int i = 0; i < 2; i++) { /* the document, and the stream */
		if (i) {
			follow(world);
			plan_next(world);
		} else {
			assert_int_equal(ask(world, "GET", "/v1/plan", NULL), 200);
		}
		assert_true(number_at(world, "plan.version") >= 2);
		assert_string_equal(text_at(world, "catalog.settings.address"), "127.0.0.1");
		assert_int_equal(number_at(world, "catalog.settings.port"), 4000);
		assert_false(truth_at(world, "catalog.settings.keys_required"));
		assert_int_equal(number_at(world, "catalog.settings.head_max"), 65536);
		assert_string_equal(text_at(world, "catalog.aliases.0.name"), "reasoning");
		assert_string_equal(text_at(world, "catalog.aliases.0.targets.1.persona"), "brain");
		assert_int_equal(json_count(find(world, "catalog.models")), 3);
		assert_string_equal(text_at(world, "catalog.models.1.name"), "qwen");
		assert_int_equal(json_type(find(world, "catalog.models.1.about")), JSON_NULL);
		assert_int_equal(number_at(world, "catalog.models.1.running.n"), 2);
		assert_int_equal(number_at(world, "catalog.models.1.loaded.0"), GPU_LLM);
		assert_int_equal(number_at(world, "catalog.models.2.about.n"), 1);
		assert_int_equal(number_at(world, "catalog.models.0.has.0"), HALO_LLM);
		assert_true(truth_at(world, "catalog.said.0"));
		assert_false(truth_at(world, "catalog.said.1"));
		assert_null(find(world, "keys"));
	}
	world_free(world);
}

static const struct {
	const char *why;
	struct said said;
	bool news;
} changes[] = {
	{"nothing", {{r1, qwen}, {first, first}, {qwen}, {first}, 2, 1}, false},
	{"another entry", {{r1, qwen}, {second, first}, {qwen}, {second}, 2, 1}, false},
	{"no entries", {{r1, qwen}, {NULL, NULL}, {qwen}, {NULL}, 2, 1}, false},
	{"another order", {{qwen, r1}, {first, first}, {qwen}, {first}, 2, 1}, false},
	{"a model fewer", {{qwen}, {first}, {qwen}, {first}, 1, 1}, true},
	{"a model more", {{qwen, r1}, {first, first}, {qwen}, {first}, 2, 1}, true},
	{"another model", {{qwen, first}, {first, first}, {qwen}, {first}, 2, 1}, true},
	{"another in memory", {{qwen, first}, {first, first}, {r1}, {first}, 2, 1}, true},
	{"none in memory", {{qwen, first}, {first, first}, {NULL}, {NULL}, 2, 0}, true},
	{"no models", {{NULL}, {NULL}, {NULL}, {NULL}, 0, 0}, true},
};

static void test_control__other_models_are_news(void **state)
{
	const struct said said = {{r1, qwen}, {first, first}, {qwen}, {first}, 2, 1};
	struct world *world = world_new();

	(void)state;
	all_up(world);
	note_said(world, GPU_LLM, &said);
	control_publish(world->control);
	for (size_t i = 0; i < COUNT(changes); i++) {
		assert_false(is_due(world));
		note_said(world, GPU_LLM, &changes[i].said);
		if (is_due(world) != changes[i].news)
			fail_msg("%s", changes[i].why);
		control_publish(world->control);
	}
	world_free(world);
}

static void test_control__the_first_word_on_models_is_news(void **state)
{
	const struct said said = {.n_models = 0};
	struct world *world = world_new();

	(void)state;
	note_up(world, GPU_LLM, NULL, 0);
	control_publish(world->control);
	note_said(world, GPU_LLM, &said);
	assert_true(is_due(world));
	world_free(world);
}

/* What is no news by itself is in the next plan. */
static void test_control__the_newest_entries_are_published(void **state)
{
	const struct said old = {{r1}, {first}, {r1}, {first}, 1, 1};
	const struct said new = {{r1}, {second}, {r1}, {second}, 1, 1};
	struct world *world = world_new();

	(void)state;
	all_up(world);
	note_said(world, GPU_LLM, &old);
	note_said(world, GPU_LLM, &new);
	follow(world);
	plan_next(world);
	assert_int_equal(number_at(world, "catalog.models.1.about.n"), 2);
	assert_int_equal(number_at(world, "catalog.models.1.running.n"), 2);
	world_free(world);
}

/* A farm that loads and unloads all day long makes one plan a second of it. */
static void test_control__models_are_published_once_a_second(void **state)
{
	const struct said said = {{r1}, {NULL}, {r1}, {NULL}, 1, 1};
	struct world *world = world_new();
	uint64_t due_ms;

	(void)state;
	all_up(world);
	control_publish(world->control);
	note_said(world, GPU_LLM, &said);
	assert_true(is_due(world));
	due_ms = uv_timer_get_due_in(&world->control->publish_timer);
	assert_true(due_ms > 900 && due_ms <= 1000);
	note_down(world, HALO_LLM, PROBE_REFUSED);
	note_down(world, HALO_LLM, PROBE_REFUSED); /* a node that went down does not wait for it */
	assert_true(uv_timer_get_due_in(&world->control->publish_timer) <= 50);
	world_free(world);
}

/* --- keys --- */

#define CANARY	"canary"
#define KEY_ONE "sk-" CANARY "-one"
#define KEY_TWO "sk-" CANARY "-two"

static void text_write(const char *path, const char *text, mode_t mode)
{
	assert_int_equal(file_replace(path, text, strlen(text)), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static const char *keys_path(const struct world *world, char path[128])
{
	snprintf(path, 128, "%s/keys", world->dir);
	return path;
}

/* CONFIG, with a file of keys. */
static void keys_config_write(const struct world *world)
{
	struct buf text = {0};
	char path[128];

	buf_printf(&text, "{ \"router\": { \"keys_file\": \"%s\" },%s", keys_path(world, path),
		   &CONFIG[1]);
	config_write(world, text.data);
	buf_fini(&text);
}

static void keys_write_file(const struct world *world, const char *text)
{
	char path[128];

	text_write(keys_path(world, path), text, 0600);
}

/* Starts again with keys. */
static struct world *world_with_keys(struct control_access access)
{
	struct world *world = world_new();
	struct buf errors = {0};

	control_end(world);
	keys_config_write(world);
	keys_write_file(world, "# people\n" KEY_ONE "\n");
	control_begin(world, access);
	if (control_keys_load(world->control, &errors))
		fail_msg("%s", errors.data);
	assert_int_equal(errors.len, 0);
	return world;
}

static bool admits(const struct world *world, const char *key)
{
	char error[256];
	struct keys *keys = keys_read(find(world, "keys"), error);
	bool admitted = keys_accept(keys, key, strlen(key));

	assert_non_null(keys);
	keys_free(keys);
	return admitted;
}

static void test_control__keys_go_to_the_proxy(void **state)
{
	struct world *world = world_with_keys((struct control_access){0});

	(void)state;
	all_up(world);
	follow(world);
	plan_next(world);
	assert_true(truth_at(world, "catalog.settings.keys_required"));
	assert_true(admits(world, KEY_ONE));
	assert_false(admits(world, KEY_TWO));
	assert_int_equal(ask(world, "GET", "/v1/plan", NULL), 200);
	assert_null(find(world, "keys")); /* nobody's tool needs them */
	assert_true(truth_at(world, "catalog.settings.keys_required"));
	world_free(world);
}

static void test_control__each_start_has_a_salt_of_its_own(void **state)
{
	struct world *world = world_with_keys((struct control_access){0});
	uint8_t salt[16];

	(void)state;
	memcpy(salt, world->control->salt, sizeof(salt));
	control_end(world);
	control_begin(world, (struct control_access){0});
	assert_memory_not_equal(salt, world->control->salt, sizeof(salt));
	world_free(world);
}

static const struct {
	const char *why;
	struct control_access access;
	bool told;
} followers[] = {
	{"an operator is not told", {0}, false},
	{"the proxy is", {.has_proxy = true, .proxy_uid = STRANGER}, true},
	{"another than the proxy is not", {.has_proxy = true, .proxy_uid = STRANGER - 1}, false},
	{"whoever only reads is not", {.owner_only = true}, false},
};

static void test_control__keys_go_to_nobody_else(void **state)
{
	static const char request[] = "GET /v1/plan?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n";
	char answer[16384];

	(void)state;
	if (geteuid() != 0)
		skip(); /* only root can be somebody else */
	for (size_t i = 0; i < COUNT(followers); i++) {
		struct world *world = world_with_keys(followers[i].access);

		all_up(world);
		memset(answer, 0, sizeof(answer));
		read_as_stranger(world, request, "}\n", answer);
		if (!strstr(answer, "\"said\":[true,false,true]"))
			fail_msg("%s: no plan: %s", followers[i].why, answer);
		if (!strstr(answer, "\"digests\"") == followers[i].told)
			fail_msg("%s: %s", followers[i].why, answer);
		world_free(world);
	}
}

/* A change goes to both kinds, to each what it may know. */
static void test_control__each_follower_gets_its_line(void **state)
{
	static const char request[] = "GET /v1/plan?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n";
	struct world *world = world_with_keys((struct control_access){0});
	char answer[16384] = "";

	(void)state;
	if (geteuid() != 0) {
		world_free(world);
		skip();
	}
	all_up(world);
	follow(world);
	plan_next(world);
	note_down(world, GPU_LLM, PROBE_REFUSED);
	note_down(world, GPU_LLM, PROBE_REFUSED);
	read_as_stranger(world, request, "\"down\"", answer);
	assert_null(strstr(answer, "digests"));
	plan_next(world);
	assert_string_equal(text_at(world, "plan.endpoints.0.state"), "down");
	assert_true(admits(world, KEY_ONE));
	world_free(world);
}

/* Makes what is to be refused at `path`. */
static void make_missing(const char *path)
{
	unlink(path);
}

static void make_folder(const char *path)
{
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
}

static void make_fifo(const char *path)
{
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
}

static void make_readable(const char *path)
{
	text_write(path, KEY_TWO, 0640);
}

static void make_world_readable(const char *path)
{
	text_write(path, KEY_TWO, 0604);
}

static void make_writable(const char *path)
{
	text_write(path, KEY_TWO, 0620);
}

static void make_strangers(const char *path)
{
	text_write(path, KEY_TWO, 0600);
	assert_int_equal(chown(path, STRANGER, (gid_t)-1), 0);
}

static void make_empty(const char *path)
{
	text_write(path, "# nobody\n", 0600);
}

static void make_short(const char *path)
{
	text_write(path, KEY_TWO "\n" CANARY "\n", 0600);
}

static void make_large(const char *path)
{
	text_write(path, KEY_TWO "\n", 0600);
	assert_int_equal(truncate(path, (4 << 20) + 1), 0);
}

static const struct {
	void (*make)(const char *path);
	const char *error;
} bad_files[] = {
	{make_missing, "No such file or directory"},
	{make_folder, "is no regular file, allowed: a file of keys"},
	{make_fifo, "is no regular file, allowed: a file of keys"},
	{make_readable, "has mode 0640, allowed: 0600 or 0400"},
	{make_world_readable, "has mode 0604, allowed: 0600 or 0400"},
	{make_writable, "has mode 0620, allowed: 0600 or 0400"},
	{make_strangers, "belongs to uid 65534, allowed: root, or uid 0"},
	{make_empty, "line 1: there is no key, needed: at least one"},
	{make_short, "line 2: the key is too short, allowed: 8..512 characters"},
	{make_large, "is longer than 4 MiB"},
};

static void expected_error(const char *path, size_t i, char text[256])
{
	snprintf(text, 256, "%s: %s", path, bad_files[i].error);
}

static void bad_file_remove(const char *path)
{
	if (unlink(path))
		rmdir(path);
}

/* The old configuration and the old keys stay, both. */
static void test_control__reload_refuses_bad_keys(void **state)
{
	struct world *world = world_with_keys((struct control_access){0});
	char path[128], expected[256];

	(void)state;
	if (geteuid() != 0) {
		world_free(world);
		skip(); /* only root can give a file away */
	}
	all_up(world);
	keys_path(world, path);
	for (size_t i = 0; i < COUNT(bad_files); i++) {
		bad_files[i].make(path);
		expected_error(path, i, expected);
		assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 409);
		assert_string_equal(text_at(world, "errors.0"), expected);
		assert_int_equal(json_count(find(world, "errors")), 1);
		assert_null(strstr(world->body, CANARY));
		assert_true(keys_accept(world->control->keys, KEY_ONE, strlen(KEY_ONE)));
		bad_file_remove(path);
	}
	assert_int_equal(world->control->state.model_version, 1);
	assert_int_equal(world->watched, 2); /* as the two starts left it */
	world_free(world);
}

static void test_control__reload_takes_new_keys(void **state)
{
	struct world *world = world_with_keys((struct control_access){0});

	(void)state;
	all_up(world);
	follow(world);
	plan_next(world);
	keys_write_file(world, KEY_TWO "\n");
	assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 200);
	plan_next(world);
	assert_true(admits(world, KEY_TWO));
	assert_false(admits(world, KEY_ONE));
	/* no keys any more: none are asked for */
	config_write(world, CONFIG);
	assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 200);
	plan_next(world);
	assert_null(find(world, "keys"));
	assert_false(truth_at(world, "catalog.settings.keys_required"));
	world_free(world);
}

/* Keys that are configured and not there: nobody's, never everybody's. */
static void test_control__without_its_keys_nobody_is_let_in(void **state)
{
	struct world *world = world_new();

	(void)state;
	control_end(world);
	keys_config_write(world);
	control_begin(world, (struct control_access){0});
	all_up(world);
	follow(world);
	plan_next(world);
	assert_true(truth_at(world, "catalog.settings.keys_required"));
	assert_null(find(world, "keys"));
	world_free(world);
}

/* stderr goes to a file while a test looks at what is written there. */
static int stderr_take(const struct world *world, char path[128])
{
	int kept = dup(2), fd;

	snprintf(path, 128, "%s/stderr", world->dir);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(kept >= 0 && fd >= 0);
	fflush(stderr);
	assert_true(dup2(fd, 2) == 2);
	close(fd);
	return kept;
}

static void stderr_give_back(int kept, const char *path, struct buf *written)
{
	fflush(stderr);
	assert_true(dup2(kept, 2) == 2);
	close(kept);
	assert_int_equal(file_read(path, 1 << 20, written), 0);
}

static void test_control__check_looks_at_the_keys(void **state)
{
	struct world *world = world_with_keys((struct control_access){0});
	char path[128], log[128], expected[256];

	(void)state;
	if (geteuid() != 0) {
		world_free(world);
		skip();
	}
	assert_int_equal(daemon_check(world->config), 0);
	keys_path(world, path);
	for (size_t i = 0; i < COUNT(bad_files); i++) {
		struct buf written = {0};
		int kept, code;

		bad_files[i].make(path);
		kept = stderr_take(world, log);
		code = daemon_check(world->config);
		stderr_give_back(kept, log, &written);
		assert_int_equal(code, 2);
		expected_error(path, i, expected);
		strcat(expected, "\n");
		assert_string_equal(written.data, expected);
		buf_fini(&written);
		bad_file_remove(path);
	}
	world_free(world);
}

static void no_canary(const struct world *world, const char *where)
{
	if (strstr(world->body, CANARY))
		fail_msg("%s: %s", where, world->body);
}

/* Every document, every error, everything that is logged meanwhile. */
static void test_control__keys_are_nowhere_in_plain_text(void **state)
{
	static const char *const documents[] = {
		"/v1/status",  "/v1/plan", "/v1/flows",
		"/v1/names",   "/metrics", "/v1/explain?target=reasoning",
		"/v1/nothing",
	};
	struct world *world = world_with_keys((struct control_access){0});
	struct buf written = {0};
	char log[128];
	int kept;

	(void)state;
	log_init("test", LOG_DEBUG);
	kept = stderr_take(world, log);
	all_up(world);
	follow(world);
	plan_next(world);
	for (size_t i = 0; i < COUNT(documents); i++) {
		ask(world, "GET", documents[i], NULL);
		no_canary(world, documents[i]);
	}
	keys_write_file(world, KEY_TWO "\n" CANARY "\n");
	assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 409);
	no_canary(world, "a reload with a bad key");
	keys_write_file(world, KEY_TWO "\n");
	assert_int_equal(ask(world, "POST", "/v1/reload", NULL), 200);
	no_canary(world, "a reload");
	plan_next(world);
	assert_true(admits(world, KEY_TWO));
	stderr_give_back(kept, log, &written);
	log_init("test", LOG_ERROR);
	assert_non_null(strstr(written.data, "configuration read again")); /* it does see the log */
	assert_null(strstr(written.data, CANARY));
	assert_null(memmem(world->stream.data, world->stream.cap, CANARY, strlen(CANARY)));
	buf_fini(&written);
	world_free(world);
}

/* --- marks --- */

static int mark(struct world *world, const char *marks)
{
	char body[256];

	snprintf(body, sizeof(body),
		 "{\"pid\":77,\"plan_version\":%llu,\"busy\":[0,0,0],\"marks\":%s}",
		 (unsigned long long)world->control->state.version, marks);
	return ask(world, "POST", "/v1/load", body);
}

static void test_control__a_marked_endpoint_is_down_and_asked_at_once(void **state)
{
	struct world *world = world_new();

	(void)state;
	all_up(world);
	follow(world);
	plan_next(world);
	assert_int_equal(mark(world, "[[2,\"reset\"]]"), 200);
	assert_int_equal(world->kicked, 1);
	assert_int_equal(world->kicked_endpoint, HALO_LLM);
	plan_next(world);
	assert_string_equal(text_at(world, "plan.endpoints.2.state"), "down");
	assert_string_equal(text_at(world, "plan.endpoints.0.state"), "up");
	assert_int_equal(ask(world, "GET", "/v1/explain?target=brain", NULL), 200);
	assert_string_equal(text_at(world, "candidates.0.reason"),
			    "down until it is probed, a proxy says: connection reset");
	/* one good probe brings it back, though rise is 2 */
	note_up(world, HALO_LLM, NULL, 0);
	plan_next(world);
	assert_string_equal(text_at(world, "plan.endpoints.2.state"), "up");
	world_free(world);
}

static void test_control__nobody_is_held_down_by_marks(void **state)
{
	struct world *world = world_new();
	struct state *of;

	(void)state;
	of = &world->control->state;
	all_up(world);
	assert_int_equal(mark(world, "[[0,\"refused\"],[0,\"refused\"]]"), 200);
	assert_false(of->scores[GPU_LLM].up);
	note_up(world, GPU_LLM, NULL, 0);
	assert_int_equal(mark(world, "[[0,\"closed\"]]"), 200); /* too soon */
	assert_true(of->scores[GPU_LLM].up);
	assert_int_equal(world->kicked, 1);
	assert_false(state_mark(of, GPU_LLM, PROBE_CLOSED, uv_now(&world->loop) + 1500));
	assert_true(state_mark(of, GPU_LLM, PROBE_CLOSED, uv_now(&world->loop) + 2000));
	assert_false(of->scores[GPU_LLM].up);
	/* all of them are counted */
	assert_int_equal(ask(world, "GET", "/metrics", NULL), 200);
	assert_non_null(strstr(world->body, "# TYPE megalith_marks_total counter\n"));
	assert_non_null(strstr(world->body, "\nmegalith_marks_total{node=\"gpu\",service=\"llm\","
					    "reason=\"refused\"} 2\n"));
	assert_non_null(strstr(world->body, "\nmegalith_marks_total{node=\"gpu\",service=\"llm\","
					    "reason=\"closed\"} 3\n"));
	assert_null(strstr(world->body, "reason=\"timeout\""));
	world_free(world);
}

static void test_control__marks_of_what_is_down_change_nothing(void **state)
{
	struct world *world = world_new();

	(void)state;
	assert_int_equal(mark(world, "[[0,\"refused\"]]"), 200); /* not known yet */
	assert_int_equal(world->kicked, 0);
	assert_false(world->control->state.scores[GPU_LLM].known);
	all_up(world);
	note_down(world, GPU_LLM, PROBE_STATUS);
	note_down(world, GPU_LLM, PROBE_STATUS);
	assert_int_equal(mark(world, "[[0,\"timeout\"]]"), 200);
	assert_int_equal(world->kicked, 0);
	assert_int_equal(world->control->state.scores[GPU_LLM].reason, PROBE_STATUS);
	note_up(world, GPU_LLM, NULL, 0); /* 2 good ones, as ever */
	assert_false(world->control->state.scores[GPU_LLM].up);
	assert_int_equal(mark(world, "[]"), 200);
	world_free(world);
}

static void test_control__says_once_who_marked(void **state)
{
	struct world *world = world_new();
	struct buf written = {0};
	char log[128];
	int kept;

	(void)state;
	all_up(world);
	log_init("test", LOG_INFO);
	kept = stderr_take(world, log);
	assert_int_equal(mark(world, "[[0,\"timeout\"],[0,\"timeout\"]]"), 200);
	note_up(world, GPU_LLM, NULL, 0);
	stderr_give_back(kept, log, &written);
	log_init("test", LOG_ERROR);
	assert_string_equal(
		written.data,
		"test: warning: gpu/llm is suspect: timeout, says the proxy with pid 77\n"
		"test: info: gpu/llm is up\n");
	buf_fini(&written);
	world_free(world);
}

static const char *const bad_marks[] = {
	"null",
	"{}",
	"7",
	"[0]",
	"[[0]]",
	"[[0,1]]",
	"[[\"0\",\"reset\"]]",
	"[[3,\"reset\"]]",
	"[[-1,\"reset\"]]",
	"[[0.5,\"reset\"]]",
	"[[0,\"Reset\"]]",
	"[[0,\"answer_timeout\"]]",
	"[[0,\"ok\"]]",
	"[[0,\"reset\",1]]",
	"[{\"0\":\"reset\"}]",
	"[[0,\"reset\"],[0]]",
};

/* All or nothing: what comes with bad marks is not taken either. */
static void test_control__refuses_bad_marks(void **state)
{
	struct world *world = world_new();

	(void)state;
	all_up(world);
	for (size_t i = 0; i < COUNT(bad_marks); i++) {
		int status = mark(world, bad_marks[i]);

		if (status != 400)
			fail_msg("%s: %d %s", bad_marks[i], status, world->body);
	}
	assert_true(world->control->state.scores[GPU_LLM].up);
	assert_int_equal(state_relay_count(&world->control->state), 0);
	world_free(world);
}

#define MARK_REQUEST \
	"POST /v1/load HTTP/1.1\r\nHost: x\r\nContent-Length: 65\r\n\r\n" \
	"{\"pid\":7,\"plan_version\":1,\"busy\":[0,0,0],\"marks\":[[0,\"refused\"]]}"

static const struct {
	const char *why;
	struct control_access access;
	int status;
} markers[] = {
	{"the proxy may mark", {.has_proxy = true, .proxy_uid = STRANGER}, 200},
	{"an operator may", {0}, 200},
	{"whoever only reads may not", {.owner_only = true}, 403},
};

static void test_control__not_everybody_may_mark(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	for (size_t i = 0; i < COUNT(markers); i++) {
		struct world *world = world_new();
		int status;

		control_end(world);
		control_begin(world, markers[i].access);
		all_up(world);
		status = status_as_stranger(world, MARK_REQUEST);
		if (status != markers[i].status)
			fail_msg("%s: %d", markers[i].why, status);
		assert_int_equal(world->kicked, status == 200);
		world_free(world);
	}
}

/* --- several proxies --- */

static void load_post(struct world *world, int pid, const char *busy)
{
	char body[96];

	snprintf(body, sizeof(body), "{\"pid\":%d,\"plan_version\":1,\"busy\":%s}", pid, busy);
	assert_int_equal(ask(world, "POST", "/v1/load", body), 200);
}

static void test_control__proxies_see_each_other(void **state)
{
	struct world *world = world_new();

	(void)state;
	load_post(world, 7, "[1,0,2]");
	assert_null(find(world, "load")); /* alone, and no kernel steers: nothing to tell */
	load_post(world, 8, "[10,20,0]");
	assert_int_equal(number_at(world, "load.0.0"), 1);
	assert_int_equal(number_at(world, "load.0.1"), 1);
	assert_int_equal(number_at(world, "load.1.0"), 0);
	assert_int_equal(number_at(world, "load.2.0"), 2);
	load_post(world, 9, "[0,0,4294967295]");
	assert_int_equal(number_at(world, "load.0.0"), 11);
	load_post(world, 7, "[1,0,2]");
	assert_int_equal(number_at(world, "load.0.0"), 10);
	assert_int_equal(number_at(world, "load.1.1"), 20);
	assert_int_equal(number_at(world, "load.2.0"), 4294967295);
	world_free(world);
}

/* Each second, and with the same meaning: what the one who is told does not hold itself. */
static void test_control__the_stream_tells_the_same_counts(void **state)
{
	struct world *world = world_new();

	(void)state;
	load_post(world, 7, "[1,0,2]");
	load_post(world, 8, "[10,20,0]");
	all_up(world);
	follow_at(world, "/v1/plan?follow=1&pid=8");
	load_next(world);
	assert_int_equal(number_at(world, "load.0.0"), 1);
	assert_int_equal(number_at(world, "load.1.0"), 0);
	client_cancel(world->follower);
	buf_clear(&world->stream);
	load_post(world, 8, "[10,20,0]");
	load_post(world, 7, "[1,0,2]");
	follow(world); /* holds nothing itself */
	load_next(world);
	assert_int_equal(number_at(world, "load.0.0"), 11);
	assert_int_equal(number_at(world, "load.1.1"), 20);
	world_free(world);
}

static void test_control__followers_say_a_pid_or_none(void **state)
{
	static const char *const bad[] = {"", "0", "-1", "+7", "7x", "x", "99999999999999999999"};
	struct world *world = world_new();
	char target[64];

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		snprintf(target, sizeof(target), "/v1/plan?follow=1&pid=%s", bad[i]);
		if (ask(world, "GET", target, NULL) != 400)
			fail_msg("taken: \"%s\"", bad[i]);
	}
	world_free(world);
}

/* --- explain, as the router chooses --- */

/*
 * Endpoints: 0 a/llm, 1 a/fast, 2 a/voice, 3 b/llm, 4 c/llm, 5 d/llm (in no persona).
 * p listens for two LLM services and one that is none, and cascades to q.
 */
#define ROUTED \
	"{ \"gateway\": { \"datapath\": \"none\" }, \"nodes\": {" \
	"\"a\": { \"address\": \"127.0.0.1\", \"services\": { \"llm\": \"ollama\", \"fast\": " \
	"\"vllm\"," \
	"  \"voice\": \"wyoming\" } }," \
	"\"b\": { \"address\": \"127.0.0.2\", \"services\": { \"llm\": \"ollama\" } }," \
	"\"c\": { \"address\": \"127.0.0.3\", \"services\": { \"llm\": \"ollama\" } }," \
	"\"d\": { \"address\": \"127.0.0.4\", \"services\": { \"llm\": \"ollama\" } } }," \
	"\"personas\": {" \
	"\"p\": { \"nodes\": [\"a\"], \"cascade\": [\"q\"]," \
	"  \"listen\": { \"voice\": 9001, \"llm\": 9002, \"fast\": 9003 } }," \
	"\"q\": { \"nodes\": [\"b\", \"c\"], \"listen\": { \"llm\": 9004 } } }," \
	"\"models\": {" \
	"\"chat\": [ { \"persona\": \"p\", \"model\": \"m1\" }, { \"persona\": \"q\", \"model\": " \
	"\"m2\" } ]," \
	"\"m3\": [ { \"persona\": \"p\" } ] } }"

/* a/llm has m1, a/fast m2, b has m2 and m3, c says nothing, d has m4. */
static struct world *world_routed(void)
{
	char m1[] = "m1:latest", m2[] = "library/m2", m3[] = "m3", m4[] = "m4";
	char *has_1[] = {m1}, *has_2[] = {m2}, *has_23[] = {m2, m3}, *has_4[] = {m4};
	struct world *world = world_new();

	control_end(world);
	config_write(world, ROUTED);
	control_begin(world, (struct control_access){0});
	note_up(world, 0, has_1, 1);
	note_up(world, 1, has_2, 1);
	note_up(world, 2, NULL, 0);
	note_up(world, 3, has_23, 2);
	note_up(world, 4, NULL, 0);
	note_up(world, 5, has_4, 1);
	control_publish(world->control);
	return world;
}

/* "a/llm=taken b/llm=passed": who was looked at, in order. */
static void describe(const struct world *world, struct buf *out)
{
	const struct json *c = json_first(find(world, "candidates"));

	for (; c; c = json_next(c))
		buf_printf(out, "%s%s/%s:%s=%s", out->len ? " " : "",
			   json_string(json_get(c, "node")), json_string(json_get(c, "service")),
			   json_string(json_get(c, "persona")),
			   json_string(json_get(c, "verdict")));
}

static const struct {
	const char *why, *target, *drained, *candidates;
} routed[] = {
	{"an alias: its persona's LLM endpoints, on each listener; then the cascade; then the next "
	 "target",
	 "chat", NULL,
	 "a/llm:p=taken a/fast:p=passed b/llm:q=passed c/llm:q=possible "
	 "b/llm:q=possible c/llm:q=possible"},
	{"nobody there has room: the cascade, where one has not said what it has", "chat", "a",
	 "a/llm:p=passed a/fast:p=passed b/llm:q=passed c/llm:q=taken "
	 "b/llm:q=possible c/llm:q=possible"},
	{"a target without a model: the name as the client sent it", "m3", "c",
	 "a/llm:p=passed a/fast:p=passed b/llm:q=taken c/llm:q=passed"},
	{"Ollama's long name of it", "registry.ollama.ai/library/m3:latest", "c",
	 "a/llm:p=passed a/fast:p=passed b/llm:q=taken c/llm:q=passed"},
	{"a persona and a model", "p/m2", NULL,
	 "a/llm:p=passed a/fast:p=taken b/llm:q=possible c/llm:q=possible"},
	{"a model: all that have it, whosever they are", "m2", "b",
	 "a/fast:p=taken b/llm:q=passed"},
	{"a model: not those that have not said", "m1", NULL, "a/llm:p=taken"},
};

static void test_control__explains_what_the_router_does(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(routed); i++) {
		struct world *world = world_routed();
		struct buf text = {0};
		char target[96];

		if (routed[i].drained) {
			snprintf(target, sizeof(target), "/v1/nodes/%s/drain", routed[i].drained);
			assert_int_equal(ask(world, "POST", target, NULL), 200);
		}
		snprintf(target, sizeof(target), "/v1/explain?target=%s", routed[i].target);
		assert_int_equal(ask(world, "GET", target, NULL), 200);
		describe(world, &text);
		if (strcmp(text.data, routed[i].candidates) != 0)
			fail_msg("%s: %s", routed[i].why, text.data);
		buf_fini(&text);
		world_free(world);
	}
}

static void test_control__a_model_of_nobody_in_a_persona_is_none(void **state)
{
	struct world *world = world_routed();

	(void)state;
	assert_int_equal(ask(world, "GET", "/v1/explain?target=m4", NULL), 404);
	assert_int_equal(ask(world, "GET", "/v1/explain?target=p/voice", NULL), 200);
	assert_string_equal(text_at(world, "taken.service"), "voice"); /* a service comes first */
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control__catalog_goes_with_the_plan),
		cmocka_unit_test(test_control__other_models_are_news),
		cmocka_unit_test(test_control__the_first_word_on_models_is_news),
		cmocka_unit_test(test_control__the_newest_entries_are_published),
		cmocka_unit_test(test_control__models_are_published_once_a_second),
		cmocka_unit_test(test_control__keys_go_to_the_proxy),
		cmocka_unit_test(test_control__each_start_has_a_salt_of_its_own),
		cmocka_unit_test(test_control__keys_go_to_nobody_else),
		cmocka_unit_test(test_control__each_follower_gets_its_line),
		cmocka_unit_test(test_control__reload_refuses_bad_keys),
		cmocka_unit_test(test_control__reload_takes_new_keys),
		cmocka_unit_test(test_control__without_its_keys_nobody_is_let_in),
		cmocka_unit_test(test_control__check_looks_at_the_keys),
		cmocka_unit_test(test_control__keys_are_nowhere_in_plain_text),
		cmocka_unit_test(test_control__a_marked_endpoint_is_down_and_asked_at_once),
		cmocka_unit_test(test_control__nobody_is_held_down_by_marks),
		cmocka_unit_test(test_control__marks_of_what_is_down_change_nothing),
		cmocka_unit_test(test_control__says_once_who_marked),
		cmocka_unit_test(test_control__refuses_bad_marks),
		cmocka_unit_test(test_control__not_everybody_may_mark),
		cmocka_unit_test(test_control__proxies_see_each_other),
		cmocka_unit_test(test_control__the_stream_tells_the_same_counts),
		cmocka_unit_test(test_control__followers_say_a_pid_or_none),
		cmocka_unit_test(test_control__explains_what_the_router_does),
		cmocka_unit_test(test_control__a_model_of_nobody_in_a_persona_is_none),
	};

	signal(SIGPIPE, SIG_IGN); /* as daemon_run() does */
	log_init("test", LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
