/* SPDX-License-Identifier: MIT */
/*
 * The control API. An input that begins with '{' is a line of the stream that the proxy follows:
 * what is read from it and written again must be read the same. Any other input is what somebody
 * sends to the control socket of a controller without datapath: every answer must be HTTP, none may
 * be 500, and the connection must end soon after its sending side has.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/json.h"
#include "base/log.h"
#include "control/control.h"
#include "core/catalog.h"
#include "core/plan.h"
#include "fuzz.h"
#include "net/http1.h"

#define DEADLINE_S 5

static const char config[] =
	"{ \"gateway\": { \"interfaces\": [\"lo\"], \"datapath\": \"none\" },"
	"  \"nodes\": {"
	"    \"gpu\": { \"address\": \"127.0.0.1\", \"services\": {"
	"      \"llm\": { \"engine\": \"ollama\", \"port\": 11434, \"capacity\": 2 },"
	"      \"voice\": { \"engine\": \"wyoming\", \"port\": 10300 } } },"
	"    \"halo\": { \"address\": \"127.0.0.2\", \"weight\": 50, \"services\": {"
	"      \"llm\": { \"engine\": \"ollama\", \"port\": 11434 } } } },"
	"  \"personas\": {"
	"    \"cruncher\": { \"nodes\": [\"gpu\"], \"cascade\": [\"brain\"],"
	"                  \"listen\": { \"llm\": 11501, \"voice\": 11510 } },"
	"    \"brain\": { \"nodes\": [\"halo\"], \"listen\": { \"llm\": 11502 } } },"
	"  \"models\": { \"reasoning\": [ { \"persona\": \"cruncher\", \"model\": \"r1\" } ] } }";

/* --- lines --- */

static struct json *parse(const char *text, size_t len)
{
	struct json_error error;

	return json_parse(text, len, 0, &error);
}

/* {"plan": ...}: true if it is one, and `out` is how it is written. */
static bool plan_again(const struct json *root, struct buf *out)
{
	char error[256] = "";
	struct plan *plan = plan_read(json_get(root, "plan"), error);

	CHECK(plan || *error);
	CHECK(strlen(error) < sizeof(error));
	if (!plan)
		return false;
	buf_puts(out, "{\"plan\":");
	plan_write(plan, out);
	buf_puts(out, "}");
	plan_free(plan);
	return true;
}

static bool catalog_again(const struct json *root, struct buf *out)
{
	char error[256] = "";
	struct catalog *catalog = catalog_read(json_get(root, "catalog"), 3, error);

	CHECK(catalog || *error);
	if (!catalog)
		return false;
	buf_puts(out, "{\"catalog\":");
	catalog_write(catalog, out);
	buf_puts(out, "}");
	catalog_free(catalog);
	return true;
}

static void check_again(const struct json *root, bool (*again)(const struct json *, struct buf *))
{
	struct buf first = {0}, second = {0};
	struct json *written;

	if (again(root, &first)) {
		written = parse(first.data, first.len);
		CHECK(written && again(written, &second));
		CHECK(first.len == second.len && !memcmp(first.data, second.data, first.len));
		json_free(written);
	}
	buf_fini(&first);
	buf_fini(&second);
}

static void read_line(const uint8_t *data, size_t len)
{
	struct json *root = parse(fuzz_place(data, len), len);

	if (!root)
		return;
	if (json_get(root, "plan"))
		check_again(root, plan_again);
	if (json_get(root, "catalog"))
		check_again(root, catalog_again);
	json_free(root);
}

/* --- the socket --- */

struct world {
	char dir[64], config[96], state_dir[96], bpf_dir[96], socket[96];
};

static void world_path(struct world *world, char path[96], const char *name)
{
	snprintf(path, 96, "%s/%s", world->dir, name);
}

static struct world *world_of(void)
{
	static struct world world;
	const char *tmp = getenv("TMPDIR");
	FILE *file;

	if (*world.dir)
		return &world;
	log_init("fuzz", LOG_ERROR);
	snprintf(world.dir, sizeof(world.dir), "%s/megalith-fuzz-XXXXXX", tmp ? tmp : "/tmp");
	CHECK(mkdtemp(world.dir));
	world_path(&world, world.config, "megalith.json");
	world_path(&world, world.state_dir, "state");
	world_path(&world, world.bpf_dir, "bpf");
	world_path(&world, world.socket, "control.sock");
	file = fopen(world.config, "w");
	CHECK(file && fputs(config, file) >= 0 && !fclose(file));
	return &world;
}

static void watch(void *arg, struct control *control, const struct model *model)
{
	(void)arg;
	(void)control;
	(void)model;
}

static struct control *begin(struct world *world, uv_loop_t *loop)
{
	struct control_options options = {.config = world->config,
					  .state_dir = world->state_dir,
					  .bpf_dir = world->bpf_dir,
					  .watch = watch};
	struct buf errors = {0};
	struct model *model = control_config_load(world->config, &errors);
	struct control *control;
	char state[128];

	CHECK(model);
	snprintf(state, sizeof(state), "%s/operator.json", world->state_dir);
	unlink(state);
	control = control_new(loop, &options, model);
	CHECK(control);
	CHECK(!control_listen(control, world->socket, 0600, (gid_t)-1));
	CHECK(!control_start(control));
	buf_fini(&errors);
	return control;
}

static int connect_to(const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	CHECK(fd >= 0);
	snprintf(to.sun_path, sizeof(to.sun_path), "%s", path);
	CHECK(!connect(fd, (const struct sockaddr *)&to, sizeof(to)));
	CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) != -1);
	return fd;
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Sends piece by piece while the server works, and collects what it says to the end. */
static void talk(uv_loop_t *loop, int fd, const uint8_t *data, size_t len, struct buf *out)
{
	uint32_t seed = fuzz_seed(data, len);
	double deadline = now_s() + DEADLINE_S;
	bool sending = true;
	size_t at = 0;

	for (;;) {
		char answer[4096];
		ssize_t got;

		if (at < len && sending) {
			ssize_t sent =
				send(fd, data + at, fuzz_piece(&seed, len - at), MSG_NOSIGNAL);

			at += sent > 0 ? (size_t)sent : 0;
			sending = sent > 0 || errno == EAGAIN;
		} else if (sending) {
			shutdown(fd, SHUT_WR);
			sending = false;
		}
		uv_run(loop, UV_RUN_NOWAIT);
		got = recv(fd, answer, sizeof(answer), 0);
		if (!got || (got < 0 && errno != EAGAIN))
			return;
		if (got > 0)
			buf_add(out, answer, (size_t)got);
		CHECK(now_s() < deadline);
	}
}

static int on_head(void *arg, const struct http1_head *head)
{
	(void)arg;
	CHECK(head->status != 500);
	return 0;
}

static int on_body(void *arg, const char *data, size_t len)
{
	(void)arg;
	(void)data;
	(void)len;
	return 0;
}

static int on_complete(void *arg)
{
	(void)arg;
	return 0;
}

static void check_answers(const struct buf *out)
{
	static const struct http1_events events = {
		.on_head = on_head, .on_body = on_body, .on_complete = on_complete};
	struct http1 *parser = http1_new(true, &events, NULL);

	CHECK(parser);
	CHECK(!out->len || !http1_feed(parser, out->data, out->len));
	http1_free(parser);
}

static void send_all(const uint8_t *data, size_t len)
{
	struct world *world = world_of();
	struct control *control;
	struct buf out = {0};
	uv_loop_t loop;
	int fd;

	CHECK(!uv_loop_init(&loop));
	control = begin(world, &loop);
	fd = connect_to(world->socket);
	talk(&loop, fd, data, len, &out);
	close(fd);
	control_free(control);
	uv_run(&loop, UV_RUN_DEFAULT);
	CHECK(!uv_loop_close(&loop));
	if (!memmem(data, len, "HEAD", 4)) /* whose answers have no body */
		check_answers(&out);
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len && *data == '{')
		read_line(data, len);
	else
		send_all(data, len);
	return 0;
}
