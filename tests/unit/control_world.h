/* SPDX-License-Identifier: MIT */
/* For tests of the controller: one without a datapath, with its real socket, and a client of it.
 * Every test cleans up with world_free(). */
#ifndef TEST_CONTROL_WORLD_H
#define TEST_CONTROL_WORLD_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/json.h"
#include "base/log.h"
#include "control/control.h"
#include "control/files.h"
#include "net/client.h"

#define CONFIG \
	"{ \"gateway\": { \"interfaces\": [\"lo\"], \"datapath\": \"none\" },\n" \
	"  \"probe\": { \"interval_ms\": 1000, \"timeout_ms\": 500, \"rise\": 2, \"fall\": 2 },\n" \
	"  \"nodes\": {\n" \
	"    \"gpu\": { \"address\": \"127.0.0.1\", \"services\": {\n" \
	"      \"llm\": { \"engine\": \"ollama\", \"port\": 11434, \"capacity\": 2 },\n" \
	"      \"voice\": { \"engine\": \"wyoming\", \"port\": 10300 } } },\n" \
	"    \"halo\": { \"address\": \"127.0.0.2\", \"weight\": 50, \"services\": {\n" \
	"      \"llm\": { \"engine\": \"ollama\", \"port\": 11434, \"capacity\": 4 } } } },\n" \
	"  \"personas\": {\n" \
	"    \"cruncher\": { \"nodes\": [\"gpu\"], \"listen\": { \"llm\": 11501, \"voice\": " \
	"11510 },\n" \
	"                  \"cascade\": [\"brain\"] },\n" \
	"    \"brain\": { \"nodes\": [\"halo\"], \"listen\": { \"llm\": 11502 } } },\n" \
	"  \"models\": { \"reasoning\": [ { \"persona\": \"cruncher\", \"model\": \"r1:latest\" " \
	"},\n" \
	"                               { \"persona\": \"brain\", \"model\": \"llama3:70b\" } ] " \
	"} }\n"

enum { GPU_LLM, GPU_VOICE, HALO_LLM }; /* endpoints of CONFIG */

struct world {
	uv_loop_t loop;
	char dir[64], config[96], state_dir[96], bpf_dir[96], socket[96], state_file[128];
	struct control *control;
	unsigned watched; /* calls of watch with a model */
	unsigned kicked;  /* calls of kick */
	size_t kicked_endpoint;
	/* the last answer */
	bool done;
	int status;
	enum probe_reason reason;
	char *body;
	struct json *json;
	/* a follower */
	struct client *follower;
	struct buf stream;
	bool stream_ended;
};

static inline void watch(void *arg, struct control *control, const struct model *model)
{
	struct world *world = arg;

	(void)control;
	world->watched += model != NULL;
}

static inline void kick(void *arg, struct control *control, size_t endpoint)
{
	struct world *world = arg;

	(void)control;
	world->kicked++;
	world->kicked_endpoint = endpoint;
}

static inline void config_write(const struct world *world, const char *text)
{
	assert_int_equal(file_replace(world->config, text, strlen(text)), 0);
}

static inline void control_begin(struct world *world, struct control_access access)
{
	struct control_options options = {
		.config = world->config,
		.state_dir = world->state_dir,
		.bpf_dir = world->bpf_dir,
		.access = access,
		.watch = watch,
		.kick = kick,
		.arg = world,
	};
	struct buf errors = {0};
	struct model *model = control_config_load(world->config, &errors);

	if (!model)
		fail_msg("%s", errors.data);
	world->control = control_new(&world->loop, &options, model);
	assert_non_null(world->control);
	assert_int_equal(control_listen(world->control, world->socket, 0660, (gid_t)-1), 0);
	assert_int_equal(control_start(world->control), 0);
}

static inline void control_end(struct world *world)
{
	control_free(world->control);
	world->control = NULL;
}

static inline struct world *world_new(void)
{
	struct world *world = calloc(1, sizeof(*world));

	assert_non_null(world);
	snprintf(world->dir, sizeof(world->dir), "/tmp/megalith-test-XXXXXX");
	assert_non_null(mkdtemp(world->dir));
	snprintf(world->config, sizeof(world->config), "%s/megalith.json", world->dir);
	snprintf(world->bpf_dir, sizeof(world->bpf_dir), "%s/bpf", world->dir);
	snprintf(world->state_dir, sizeof(world->state_dir), "%s/state", world->dir);
	snprintf(world->state_file, sizeof(world->state_file), "%s/operator.json",
		 world->state_dir);
	snprintf(world->socket, sizeof(world->socket), "%s/control.sock", world->dir);
	assert_int_equal(uv_loop_init(&world->loop), 0);
	config_write(world, CONFIG);
	control_begin(world, (struct control_access){0});
	return world;
}

static inline void answer_clear(struct world *world)
{
	json_free(world->json);
	free(world->body);
	world->json = NULL;
	world->body = NULL;
}

static inline void world_free(struct world *world)
{
	char command[160];

	if (world->follower)
		client_cancel(world->follower);
	if (world->control)
		control_end(world);
	uv_run(&world->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	answer_clear(world);
	buf_fini(&world->stream);
	snprintf(command, sizeof(command), "rm -rf %s", world->dir);
	assert_int_equal(system(command), 0);
	free(world);
}

static inline void on_done(void *arg, const struct client_result *result)
{
	struct world *world = arg;
	struct json_error error;

	world->done = true;
	world->status = result->status;
	world->reason = result->reason;
	world->body = strndup(result->body, result->body_len);
	world->json = json_parse(result->body, result->body_len, 0, &error);
}

/* Sends a request and waits for its answer: status; the body is in world->json. */
static inline int ask(struct world *world, const char *method, const char *target, const char *body)
{
	struct client_request request = {
		.unix_path = world->socket,
		.method = method,
		.target = target,
		.body = body,
		.body_len = body ? strlen(body) : 0,
		.timeout_ms = 5000,
		.on_done = on_done,
		.arg = world,
	};

	answer_clear(world);
	world->done = false;
	assert_non_null(client_start(&world->loop, &request));
	while (!world->done)
		uv_run(&world->loop, UV_RUN_ONCE);
	return world->status;
}

/* "nodes.0.services.llm.up": a path into the answer. */
static inline const struct json *find(const struct world *world, const char *path)
{
	const struct json *at = world->json;
	char part[64];

	while (at && *path) {
		size_t len = strcspn(path, ".");

		snprintf(part, sizeof(part), "%.*s", (int)len, path);
		path += len + (path[len] == '.');
		if (json_type(at) != JSON_ARRAY) {
			at = json_get(at, part);
			continue;
		}
		at = json_first(at);
		for (long i = strtol(part, NULL, 10); at && i > 0; i--)
			at = json_next(at);
	}
	return at;
}

static inline const char *text_at(const struct world *world, const char *path)
{
	const struct json *value = find(world, path);
	const char *text = value ? json_string(value) : NULL;

	return text ? text : "(none)";
}

static inline int64_t number_at(const struct world *world, const char *path)
{
	const struct json *value = find(world, path);
	int64_t number = -1;

	if (!value || !json_integer(value, &number))
		fail_msg("no number at %s in %s", path, world->body);
	return number;
}

static inline bool truth_at(const struct world *world, const char *path)
{
	const struct json *value = find(world, path);
	bool truth = false;

	if (!value || !json_bool(value, &truth))
		fail_msg("no truth at %s in %s", path, world->body);
	return truth;
}

/* A good probe, with these models ("a b"; NULL: not said). */
static inline void note_up(struct world *world, size_t endpoint, char *const *models, size_t n)
{
	struct observation seen = {
		.reason = PROBE_OK, .rtt_us = 250, .ttfb_ms = 3, .models = models, .n_models = n};

	control_note(world->control, endpoint, &seen);
}

static inline void note_down(struct world *world, size_t endpoint, enum probe_reason reason)
{
	struct observation seen = {.reason = reason};

	control_note(world->control, endpoint, &seen);
}

static inline void all_up(struct world *world)
{
	char r1[] = "r1:latest", llama[] = "llama3:70b";
	char *gpu[] = {r1}, *halo[] = {llama};

	note_up(world, GPU_LLM, gpu, 1);
	note_up(world, GPU_VOICE, NULL, 0);
	note_up(world, HALO_LLM, halo, 1);
}

static inline int on_stream(void *arg, const char *data, size_t len)
{
	struct world *world = arg;

	buf_add(&world->stream, data, len);
	return 0;
}

static inline void on_stream_end(void *arg, const struct client_result *result)
{
	struct world *world = arg;

	world->stream_ended = true;
	world->reason = result->reason;
	world->follower = NULL;
}

static inline void follow_at(struct world *world, const char *target)
{
	struct client_request request = {
		.unix_path = world->socket,
		.method = "GET",
		.target = target,
		.on_data = on_stream,
		.on_done = on_stream_end,
		.arg = world,
	};

	world->follower = client_start(&world->loop, &request);
	assert_non_null(world->follower);
}

static inline void follow(struct world *world)
{
	follow_at(world, "/v1/plan?follow=1");
}

/* Waits for the next whole line and takes it off the stream, parsed into world->json. */
static inline void line_next(struct world *world)
{
	struct json_error error;
	char *end = NULL;

	answer_clear(world);
	for (int i = 0; i < 1000 && !end; i++) {
		end = world->stream.len ? memchr(world->stream.data, '\n', world->stream.len)
					: NULL;
		if (!end)
			uv_run(&world->loop, UV_RUN_ONCE);
	}
	assert_non_null(end);
	world->json = json_parse(world->stream.data, (size_t)(end - world->stream.data), 0, &error);
	assert_non_null(world->json);
	buf_consume(&world->stream, (size_t)(end - world->stream.data) + 1);
}

static inline int raw_connect(const struct world *world)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_true(strlen(world->socket) < sizeof(to.sun_path));
	memcpy(to.sun_path, world->socket, strlen(world->socket) + 1);
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

#define STRANGER 65534

/* In a child, as another user: the status of the answer to `request`. */
static inline int status_as_stranger(struct world *world, const char *request)
{
	int code = 0;
	pid_t pid;

	assert_int_equal(chmod(world->dir, 0755), 0);
	assert_int_equal(chmod(world->socket, 0666), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char answer[64] = "";
		int fd;

		if (setgid(STRANGER) || setuid(STRANGER))
			_exit(1);
		fd = raw_connect(world);
		if (write(fd, request, strlen(request)) < 0 || read(fd, answer, 63) < 12)
			_exit(2);
		_exit((int)strtol(answer + 9, NULL, 10) - 200);
	}
	while (waitpid(pid, &code, WNOHANG) == 0)
		uv_run(&world->loop, UV_RUN_NOWAIT);
	assert_true(WIFEXITED(code));
	return WEXITSTATUS(code) + 200;
}

#endif
