/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "control/api.h"
#include "control/api_impl.h"
#include "control/explain.h"
#include "control/follow.h"
#include "control/metrics.h"
#include "control/peer.h"
#include "control/status.h"

#define JSON_TYPE "application/json"

/* Sends what is in `out`, and frees it. */
static void answer(const struct request *request, int status, const char *type, struct buf *out)
{
	static const char failed[] = "{\"error\": \"out of memory\"}\n";

	if (buf_failed(out))
		exchange_answer(request->exchange, 500, JSON_TYPE, failed, sizeof(failed) - 1,
				NULL);
	else
		exchange_answer(request->exchange, status, type, out->data ? out->data : "",
				out->len, NULL);
	buf_fini(out);
}

void api_answer_json(const struct request *request, struct buf *out)
{
	answer(request, 200, JSON_TYPE, out);
}

void api_refuse(const struct request *request, int status, const char *format, ...)
{
	struct buf text = {0}, out = {0};
	struct json_writer w = {.out = &out};
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	json_begin(&w, '{');
	json_pair_string(&w, "error", buf_failed(&text) ? "out of memory" : text.data);
	json_end(&w, '}');
	buf_puts(&out, "\n");
	buf_fini(&text);
	answer(request, status, JSON_TYPE, &out);
}

struct json *api_body_read(const struct request *request, const char *const *keys)
{
	struct json_error error;
	size_t len;
	const char *text = exchange_body(request->exchange, &len);
	struct json *root = json_parse(text ? text : "", len, 0, &error);

	if (!root) {
		api_refuse(request, 400, "body, line %u: %s", error.line, error.text);
		return NULL;
	}
	if (json_type(root) != JSON_OBJECT) {
		api_refuse(request, 400, "body: must be an object");
		goto out;
	}
	for (const struct json *member = json_first(root); member; member = json_next(member)) {
		const char *const *key = keys;

		while (*key && strcmp(*key, json_key(member)) != 0)
			key++;
		if (*key)
			continue;
		api_refuse(request, 400, "body: unknown key \"%.64s\"", json_key(member));
		goto out;
	}
	return root;
out:
	json_free(root);
	return NULL;
}

bool api_integer_in(const struct json *object, const char *key, int64_t min, int64_t max,
		    int64_t *number)
{
	const struct json *value = json_get(object, key);

	return value && json_integer(value, number) && *number >= min && *number <= max;
}

static void get_status(struct request *request)
{
	struct control *control = request->control;
	struct status_about about = {
		.config = control->options.config,
		.pid = getpid(),
		.uptime_ms = uv_now(control->loop) - control->started_ms,
		.followers = control->n_followers,
	};
	struct buf out = {0};

	status_write(&control->state, &about, &out);
	api_answer_json(request, &out);
}

bool api_may_write(const struct request *request)
{
	const struct control_access *access = &request->control->options.access;
	uid_t uid = request->uid;

	if (uid == (uid_t)-1)
		return false;
	if (uid == 0 || uid == geteuid())
		return true;
	return !access->owner_only && !(access->has_proxy && uid == access->proxy_uid);
}

bool api_is_proxy(const struct request *request)
{
	const struct control_access *access = &request->control->options.access;
	uid_t uid = request->uid;

	if (uid == (uid_t)-1)
		return false;
	return uid == 0 || uid == geteuid() || (access->has_proxy && uid == access->proxy_uid);
}

/* The proxy says who it is, so that it is not told of its own work. */
static bool pid_read(const char *text, int64_t *pid)
{
	char *end = NULL;

	*pid = 0;
	if (!text)
		return true;
	if (*text < '1' || *text > '9')
		return false;
	errno = 0;
	*pid = strtoll(text, &end, 10);
	return !errno && !*end;
}

static void get_stream(struct request *request, const char *follow)
{
	struct follow_about about = {
		.trusted = api_is_proxy(request),
	};

	if (*follow && strcmp(follow, "1") != 0)
		api_refuse(request, 400, "follow: must be 0 or 1");
	else if (!pid_read(exchange_query(request->exchange, "pid"), &about.pid))
		api_refuse(request, 400, "pid: must be a whole number above 0");
	else
		follow_begin(request->control, request->exchange, &about);
}

static void get_plan(struct request *request)
{
	const char *follow = exchange_query(request->exchange, "follow");
	struct buf out = {0};

	if (follow && strcmp(follow, "0") != 0) {
		get_stream(request, follow);
		return;
	}
	follow_plan_write(&request->control->state, NULL, &out);
	api_answer_json(request, &out);
}

static void get_flows(struct request *request)
{
	const struct state *state = &request->control->state;
	const char *node = exchange_query(request->exchange, "node");
	const char *persona = exchange_query(request->exchange, "persona");
	struct buf out = {0};
	int err;

	if (node && model_find_node(state->model, node) < 0) {
		api_refuse(request, 404, "no node is called %.64s", node);
		return;
	}
	if (persona && model_find_persona(state->model, persona) < 0) {
		api_refuse(request, 404, "no persona is called %.64s", persona);
		return;
	}
	err = status_flows_write(state, node, persona, &out);
	if (!err) {
		api_answer_json(request, &out);
		return;
	}
	buf_fini(&out);
	api_refuse(request, 500, "the connections could not be read: %s", strerror(-err));
}

static void get_explain(struct request *request)
{
	const char *target = exchange_query(request->exchange, "target");
	const char *client = exchange_query(request->exchange, "client");
	struct buf out = {0}, error = {0};
	struct addr addr;
	int err;

	if (!target || !*target) {
		api_refuse(request, 400, "target: must be PERSONA, PERSONA/SERVICE or a model");
		return;
	}
	if (client && addr_parse(&addr, client)) {
		api_refuse(request, 400, "client: must be an IP address");
		return;
	}
	err = explain_write(&request->control->state, target, client ? &addr : NULL, &out, &error);
	if (!err) {
		api_answer_json(request, &out);
	} else {
		buf_fini(&out);
		api_refuse(request, err == -ENOENT ? 404 : 500, "%s",
			   error.data ? error.data : strerror(-err));
	}
	buf_fini(&error);
}

/*
 * What the operator asked for is in force at once, also when it cannot be written down (a full disk
 * is no reason to keep sending work to a node that must go): the answer says so.
 */
static void override_answer(struct request *request, int err, bool weight)
{
	struct control *control = request->control;
	const struct override *now = state_override(&control->state, request->node);
	int node = model_find_node(control->state.model, request->node);
	struct buf out = {0};
	struct json_writer w = {.out = &out};

	if (err) {
		api_refuse(request, 500, "%s",
			   err == -ENOSPC ? "too many overrides" : strerror(-err));
		return;
	}
	control_publish(control);
	err = control_save(control);
	json_begin(&w, '{');
	json_pair_string(&w, "node", request->node);
	if (weight) {
		const struct model_node *of = &control->state.model->nodes[node];

		json_pair_int(&w, "weight",
			      now && now->weight >= 0 ? now->weight : (int64_t)of->weight);
	} else {
		json_pair_bool(&w, "drain", now && now->drain);
		json_pair_int(&w, "connections",
			      (int64_t)state_node_connections(&control->state, (size_t)node));
	}
	if (err)
		json_pair_string(&w, "note", "not saved: lost at the next start of megalithd");
	json_end(&w, '}');
	buf_puts(&out, "\n");
	api_answer_json(request, &out);
}

static bool node_known(struct request *request)
{
	if (model_find_node(request->control->state.model, request->node) >= 0)
		return true;
	api_refuse(request, 404, "no node is called %s", request->node);
	return false;
}

static void post_weight(struct request *request)
{
	static const char *const keys[] = {"weight", NULL};
	struct json *root;
	int64_t weight;

	if (!node_known(request))
		return;
	root = api_body_read(request, keys);
	if (!root)
		return;
	if (!api_integer_in(root, "weight", 0, 1000, &weight)) {
		api_refuse(request, 400, "weight: must be a whole number from 0 to 1000");
	} else {
		log_info("weight of %s set to %d by uid %ld", request->node, (int)weight,
			 (long)request->uid);
		override_answer(
			request,
			state_weight_set(&request->control->state, request->node, (uint32_t)weight),
			true);
	}
	json_free(root);
}

/* No body, or an empty object. */
static bool body_empty(struct request *request)
{
	static const char *const keys[] = {NULL};
	struct json *root;
	size_t len;

	exchange_body(request->exchange, &len);
	if (len == 0)
		return true;
	root = api_body_read(request, keys);
	json_free(root);
	return root != NULL;
}

static void drain_set(struct request *request, bool drain)
{
	if (!node_known(request) || !body_empty(request))
		return;
	log_info("%s %s by uid %ld", request->node, drain ? "drained" : "undrained",
		 (long)request->uid);
	override_answer(request, state_drain_set(&request->control->state, request->node, drain),
			false);
}

static void post_drain(struct request *request)
{
	drain_set(request, true);
}

static void post_undrain(struct request *request)
{
	drain_set(request, false);
}

static void errors_put(struct json_writer *w, const char *text)
{
	json_begin(w, '[');
	while (text && *text) {
		size_t len = strcspn(text, "\n");
		char *line = strndup(text, len);

		if (len > 0)
			json_put_string(w, line ? line : "out of memory");
		free(line);
		text += len + (text[len] == '\n');
	}
	json_end(w, ']');
}

static void post_reload(struct request *request)
{
	struct buf errors = {0}, note = {0}, out = {0};
	struct json_writer w = {.out = &out};
	int err;

	if (!body_empty(request))
		return;
	err = control_reload(request->control, &errors, &note);
	json_begin(&w, '{');
	if (err) {
		json_pair_string(&w, "error",
				 err == -EINVAL ? "the configuration has errors: the old one stays"
						: strerror(-err));
		json_name(&w, "errors");
		errors_put(&w, errors.data);
	} else {
		json_pair_int(&w, "plan_version", (int64_t)request->control->state.version);
		if (note.len > 0)
			json_pair_string(&w, "note", note.data);
	}
	json_end(&w, '}');
	buf_puts(&out, "\n");
	buf_fini(&errors);
	buf_fini(&note);
	answer(request, !err ? 200 : err == -EINVAL ? 409 : 500, JSON_TYPE, &out);
}

static void post_detach(struct request *request)
{
	const struct datapath *dp = request->control->state.datapath;
	bool attached = dp && datapath_mode_of(dp) != DATAPATH_NONE;
	struct datapath_error error = {.text = ""};
	struct buf out = {0};
	int err;

	if (!body_empty(request))
		return;
	err = control_detach(request->control, &error);
	if (err) {
		api_refuse(request, attached ? 500 : 409, "%s",
			   *error.text ? error.text : strerror(-err));
		return;
	}
	log_info("datapath taken off by uid %ld", (long)request->uid);
	buf_puts(&out, "{\"detached\":true}\n");
	api_answer_json(request, &out);
}

static void get_metrics(struct request *request)
{
	struct buf out = {0};

	if (metrics_write(&request->control->state, &out))
		api_refuse(request, 500, "out of memory");
	else
		answer(request, 200, METRICS_TYPE, &out);
}

static void get_names(struct request *request)
{
	struct buf out = {0};

	status_names_write(&request->control->state, &out);
	api_answer_json(request, &out);
}

enum right { READ, REPORT, WRITE }; /* REPORT: a proxy may, too */

static const struct route {
	const char *method, *path; /* a * stands for a node's name */
	enum right right;
	void (*handle)(struct request *request);
} routes[] = {
	{"GET", "/v1/status", READ, get_status},
	{"GET", "/v1/plan", READ, get_plan},
	{"POST", "/v1/load", REPORT, api_post_load},
	{"GET", "/v1/flows", READ, get_flows},
	{"GET", "/v1/explain", READ, get_explain},
	{"POST", "/v1/nodes/*/weight", WRITE, post_weight},
	{"POST", "/v1/nodes/*/drain", WRITE, post_drain},
	{"POST", "/v1/nodes/*/undrain", WRITE, post_undrain},
	{"POST", "/v1/reload", WRITE, post_reload},
	{"POST", "/v1/detach", WRITE, post_detach},
	{"GET", "/metrics", READ, get_metrics},
	{"GET", "/v1/names", READ, get_names},
};

/* No node has a name that does not fit. */
static bool path_matches(const char *pattern, const char *path, char node[MG_NAME_MAX])
{
	const char *star = strchr(pattern, '*');
	size_t before = star ? (size_t)(star - pattern) : 0, len;

	if (!star)
		return strcmp(pattern, path) == 0;
	if (strncmp(pattern, path, before) != 0)
		return false;
	len = strcspn(path + before, "/");
	if (len == 0 || len >= MG_NAME_MAX || strcmp(path + before + len, star + 1) != 0)
		return false;
	memcpy(node, path + before, len);
	node[len] = '\0';
	return true;
}

static void dispatch(struct request *request, const struct route *route)
{
	if (route->right == WRITE && !api_may_write(request)) {
		log_warn("uid %ld may not %s %s", (long)request->uid, route->method, route->path);
		api_refuse(request, 403, "this user may not change anything");
		return;
	}
	route->handle(request);
}

void api_request(void *arg, struct exchange *exchange)
{
	struct request request = {.control = arg, .exchange = exchange, .uid = (uid_t)-1};
	const char *path = exchange_path(exchange);
	const char *method = exchange_head(exchange)->method;
	const struct route *other = NULL;

	if (peer_uid(exchange_fd(exchange), &request.uid))
		request.uid = (uid_t)-1;
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (!path_matches(routes[i].path, path, request.node))
			continue;
		if (strcmp(routes[i].method, method) == 0) {
			dispatch(&request, &routes[i]);
			return;
		}
		other = &routes[i];
	}
	if (other)
		api_refuse(&request, 405, "use %s", other->method);
	else
		api_refuse(&request, 404, "no such thing: %.200s", path);
}

void api_abandoned(void *arg, struct exchange *exchange)
{
	follow_abandoned(arg, exchange);
}
