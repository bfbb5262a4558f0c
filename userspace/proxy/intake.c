/* SPDX-License-Identifier: MIT */
/*
 * A request comes in: its head is judged, its body taken (whole, unless it is to be carried on as
 * it comes), the model found in it. What then becomes of it is request.c's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proxy/router_impl.h"

static struct request *request_of_wait(struct waiter *wait)
{
	return (struct request *)(void *)((char *)wait - offsetof(struct request, wait));
}

/* ---- what it asks for ---- */

static bool is_token(const char *text)
{
	size_t len =
		strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:");

	return len && len <= ROUTER_ID_MAX && !text[len];
}

static void set_id(struct request *request)
{
	struct router *router = request->router;
	const char *given = http1_field(request->head, "x-request-id");

	if (given && is_token(given))
		memcpy(request->id, given, strlen(given) + 1);
	else
		snprintf(request->id, sizeof(request->id), "mg-%08x%08x", router->seed,
			 (uint32_t)router->ids);
	router->ids++;
}

/* Of a session: always the same. Else one that differs each time, and that nobody can aim. */
static uint32_t hash_of(const struct request *request, bool session)
{
	const struct router *router = request->router;
	const struct addr *peer = &request->down->peer;
	const char *name = http1_field(request->head, "x-openwebui-chat-id");
	uint32_t hash;

	if (!name)
		name = http1_field(request->head, "x-session-id");
	if (session && name && *name)
		return view_hash(1, name, strlen(name));
	hash = view_hash(session ? 1 : router->seed, peer->bytes, sizeof(peer->bytes));
	return session ? hash : view_hash(hash, &router->ids, sizeof(router->ids));
}

/* The key in a field that may hold one; NULL: it is no such field, or of another scheme. */
static const char *key_in(const struct http1_field *field)
{
	if (!strcmp(field->name, "x-api-key"))
		return field->value;
	if (strcmp(field->name, "authorization") != 0)
		return NULL;
	return strncasecmp(field->value, "bearer ", 7)
		       ? ""
		       : field->value + 7 + strspn(field->value + 7, " ");
}

/* "Authorization: Bearer KEY" or "x-api-key: KEY"; whoever sends several must have them all right.
 */
static bool key_is_good(const struct request *request)
{
	bool good = false;

	for (size_t i = 0; i < request->head->n_fields; i++) {
		const char *key = key_in(&request->head->fields[i]);

		if (!key)
			continue;
		good = keys_accept(request->router->view->keys, key, strlen(key));
		if (!good)
			return false;
	}
	return good;
}

/* A client must not have fields taken away by naming them hop-by-hop. */
static bool strips_fields(const struct http1_head *head)
{
	static const char *const ours[] = {"content-length", "host",	     "authorization",
					   "x-api-key",	     "content-type", "x-forwarded-for",
					   "cookie"};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		if (http1_has_token(head, "connection", ours[i]))
			return true;
	}
	return false;
}

static bool is_form(const char *type)
{
	return type && !strncasecmp(type, "multipart/form-data", 19);
}

static void refuse_method(struct request *request, const char *allow)
{
	char field[64];

	snprintf(field, sizeof(field), "Allow: %s\r\n", allow);
	request_refuse_with(request, REFUSAL_METHOD, field, "this path takes another method");
}

/* What only the router asks, not a persona port. True: refused. */
static bool refuse_by_path(struct request *request)
{
	const struct catalog_settings *settings = router_settings(request->router);
	enum path_kind kind = request->path->kind;
	const char *allow;

	if (settings->keys_required && kind != PATH_HEALTH && kind != PATH_READY &&
	    !key_is_good(request))
		request_refuse(request, REFUSAL_BAD_KEY,
			       "a valid API key is required: "
			       "Authorization: Bearer KEY, or x-api-key");
	else if (kind == PATH_UNKNOWN)
		request_refuse(request, REFUSAL_UNKNOWN_PATH, "megalith does not serve this path");
	else if (kind == PATH_FORBIDDEN)
		request_refuse(request, REFUSAL_FORBIDDEN,
			       "megalith does not pass on what changes a node's models");
	else if (!path_allows(request->path, request->head->method, &allow))
		refuse_method(request, allow);
	else
		return false;
	return true;
}

static bool refuse_by_head(struct request *request)
{
	const struct http1_head *head = request->head;
	const char *expect = http1_field(head, "expect");
	const char *type = http1_field(head, "content-type");
	const char *coding = http1_field(head, "content-encoding");
	enum path_kind kind = request->path->kind;

	if (strips_fields(head))
		request_refuse(request, REFUSAL_BAD_REQUEST,
			       "Connection names a field that is not hop-by-hop");
	else if (!request->opaque && refuse_by_path(request))
		return true;
	else if (expect && !head->http10 && strcasecmp(expect, "100-continue") != 0)
		request_refuse(request, REFUSAL_EXPECTATION, "unknown expectation");
	else if (!request->opaque && request->has_body && coding && strcasecmp(coding, "identity"))
		request_refuse(request, REFUSAL_MEDIA_TYPE,
			       "send the body without Content-Encoding");
	else if (!request->opaque && kind == PATH_INFER && is_form(type))
		request_refuse(request, REFUSAL_MEDIA_TYPE, "this path takes JSON");
	else if (!request->opaque && kind == PATH_INFER_FORM && !is_form(type))
		request_refuse(request, REFUSAL_MEDIA_TYPE, "this path takes multipart/form-data");
	else
		return false;
	return true;
}

static bool body_too_large(struct request *request, uint64_t len)
{
	uint64_t max = router_settings(request->router)->max_body;

	if (len <= max)
		return false;
	request_refuse(request, REFUSAL_TOO_LARGE, "the body is larger than %llu bytes",
		       (unsigned long long)max);
	return true;
}

/* Inferences are taken whole, so that they can be sent again; so is what the router reads itself.
 */
static bool is_streamed(const struct request *request)
{
	const struct http1_head *head = request->head;
	bool infer = request->path->kind != PATH_OPAQUE;

	if (!request->opaque || !request->has_body)
		return false;
	return !infer ||
	       (head->content_length > 0 &&
		(uint64_t)head->content_length > router_settings(request->router)->max_body);
}

static bool wants_websocket(const struct http1_head *head)
{
	const char *upgrade = http1_field(head, "upgrade");

	return upgrade && !head->http10 && !strcasecmp(upgrade, "websocket") &&
	       http1_has_token(head, "connection", "upgrade");
}

static bool is_json(const struct path *path)
{
	return path->kind == PATH_INFER || path->kind == PATH_SHOW;
}

static struct request *request_new(struct downstream *down, const struct http1_head *head)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	request->down = down;
	request->router = down->router;
	request->head = head;
	request->opaque = down->port != 0;
	request->path = request->opaque ? path_find_opaque(head->target) : path_find(head->target);
	request->is_head = !strcmp(head->method, "HEAD");
	request->http10 = head->http10;
	request->has_body = head->chunked || head->content_length > 0;
	request->body_complete = !request->has_body;
	request->endpoint = VIEW_GONE;
	request->upgrade = request->opaque && wants_websocket(head);
	request->streamed = is_streamed(request);
	set_id(request);
	down->router->n_requests++;
	down->request = request;
	down->linger = request->has_body;
	return request;
}

static void say_continue(struct request *request)
{
	static char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	uv_buf_t piece = uv_buf_init(text, sizeof(text) - 1);

	if (request->has_body && !request->http10 && http1_field(request->head, "expect"))
		down_write(request->down, &piece, 1);
}

/*
 * Looks for a node; first asks for the kernel's counts of now where they may have changed: on a
 * persona port, which the kernel left to us because it found no room, most likely; and when we have
 * not heard of them for a while (requests that come and go bring them along).
 */
static void find_node(struct request *request)
{
	struct router *router = request->router;
	bool old = uv_now(router->loop) - router->view->load_ms > ROUTER_LOAD_MS;

	request->ticket = (request->opaque || old) && router->events->refresh
				  ? router->events->refresh(router->arg)
				  : 0;
	if (request->ticket)
		request_place(request, REQUEST_ASKING);
	else
		request_steer(request);
}

static void find_node_of_port(struct request *request)
{
	const struct plan_row *row = view_row(request->router->view, request->down->port);

	request->hash = hash_of(request, row && row->affinity == MG_AFFINITY_CLIENT);
	find_node(request);
}

/* What follows a refusal by the head: its body is thrown away, or nothing more is read. */
static int refused_so_far(struct downstream *down)
{
	struct request *request = down->request;

	if (!request)
		return down->state == DOWN_HEAD ? 0 : -1;
	wait_start(&request->wait, &down->router->late_bodies, uv_now(down->router->loop));
	return 0;
}

int request_begin(struct downstream *down, const struct http1_head *head)
{
	struct router *router = down->router;
	struct request *request;

	if (!router_settings(router) || !(request = request_new(down, head))) {
		down_close(down, true); /* there is no plan yet, or no memory */
		return -1;
	}
	if (refuse_by_head(request) || (!request->streamed && head->content_length > 0 &&
					body_too_large(request, (uint64_t)head->content_length)))
		return refused_so_far(down);
	say_continue(request);
	if (down->state == DOWN_CLOSED)
		return -1;
	if (request->streamed) {
		down_pause(down, true);
		request->down_paused = true;
		find_node_of_port(request);
		return down->request ? 0 : -1;
	}
	if (!request->has_body)
		return 0;
	if (!request->opaque && is_json(request->path)) {
		request->scan = malloc(sizeof(*request->scan));
		if (request->scan)
			scan_init(request->scan);
	}
	wait_start(&request->wait, &router->late_bodies, uv_now(router->loop));
	return 0;
}

/* ---- its body ---- */

void request_on_body_late(struct waiter *wait)
{
	struct request *request = request_of_wait(wait);
	struct router *router = request->router;

	size_t len = request->body.len + request->dropped;

	if (len >= request->body_before + ROUTER_BODY_MIN) {
		request->body_before = len;
		wait_start(wait, &router->late_bodies, uv_now(router->loop));
		return;
	}
	request_refuse_now(request, REFUSAL_SLOW, NULL, "the body does not come");
}

/* True: refused. */
static bool refuse_body(struct request *request, const char *data, size_t len)
{
	struct router *router = request->router;

	if (body_too_large(request, request->body.len + len))
		return true;
	if (router->held_bytes + len > ROUTER_BODIES_MAX) {
		request_refuse(request, REFUSAL_LOCAL, "too many large requests at once");
		return true;
	}
	if (!request->scan || !scan_feed(request->scan, data, len))
		return false;
	request_refuse(request, REFUSAL_BAD_REQUEST, "the body at byte %zu: %s",
		       request->scan->error_at, request->scan->error);
	return true;
}

static int take_body(struct request *request, const char *data, size_t len)
{
	struct downstream *down = request->down;
	int64_t length = request->head->content_length;

	if (refuse_body(request, data, len))
		return down->request ? 0 : -1;
	if (!request->body.cap && length > 0 && length <= ROUTER_RESERVE_MAX)
		buf_reserve(&request->body, (size_t)length);
	if (data == request->body.data + request->body.len) { /* read in place */
		request->body.len += len;
		request->body.data[request->body.len] = '\0';
	} else {
		buf_add(&request->body, data, len);
	}
	if (buf_failed(&request->body)) {
		request_refuse_now(request, REFUSAL_LOCAL, ROUTER_RETRY_AFTER, "out of memory");
		return -1;
	}
	request->router->held_bytes += len;
	return 0;
}

char *request_room(const struct request *request, size_t *len)
{
	const struct buf *body = &request->body;
	int64_t length = request->state == REQUEST_RECEIVING && request->head
				 ? request->head->content_length
				 : -1;

	if (!body->len || request->streamed || request->refused || length < 0 ||
	    body->cap <= (size_t)length || body->len >= (size_t)length)
		return NULL;
	*len = (size_t)length - body->len;
	return body->data + body->len;
}

/* Of a refused request, or one that needs no body. */
static int drop_body(struct request *request, size_t len)
{
	struct downstream *down = request->down;

	request->dropped += len;
	if (request->dropped <= ROUTER_DRAIN_MAX)
		return 0;
	if (request->refused)
		request_refuse_now(request, request->refused->why, request->refused->fields,
				   request->refused->text);
	else
		request_refuse(request, REFUSAL_TOO_LARGE, "this path takes no body");
	return down->request ? 0 : -1;
}

int request_body(struct request *request, const char *data, size_t len)
{
	enum path_kind kind = request->path->kind;

	if (request->streamed)
		return attempt_body(request, data, len);
	if (request->refused ||
	    (!request->opaque && kind != PATH_INFER_FORM && !is_json(request->path)))
		return drop_body(request, len);
	return take_body(request, data, len);
}

/* The model's name and place in the body. False: refused. */
static bool find_model(struct request *request)
{
	const struct scan_value *value = NULL;
	struct scan_value field;
	const char *error = NULL;

	if (request->path->kind == PATH_INFER_FORM) {
		if (scan_multipart(http1_field(request->head, "content-type"), request->body.data,
				   request->body.len, "model", &field, &error)) {
			request_refuse(request, REFUSAL_BAD_REQUEST, "the form: %s", error);
			return false;
		}
		value = &field;
		request->form = true;
	} else if (!request->scan || scan_end(request->scan)) {
		request_refuse(request, REFUSAL_BAD_REQUEST, "the body: %s",
			       request->scan ? request->scan->error : "it is empty");
		return false;
	} else {
		value = &request->scan->model;
		if (value->type == SCAN_ABSENT && request->path->kind == PATH_SHOW)
			value = &request->scan->name;
	}
	if (value->type != SCAN_STRING || !value->text[0]) {
		request_refuse(request, REFUSAL_NO_MODEL, "\"model\" must be the name of a model");
		return false;
	}
	if (value->too_long) {
		request_refuse(request, REFUSAL_UNKNOWN_MODEL, "no model has so long a name");
		return false;
	}
	request->model_at = value->at;
	request->model_len = value->len;
	memcpy(request->model, value->text, strlen(value->text) + 1);
	free(request->scan);
	request->scan = NULL;
	return true;
}

void request_refuse_unknown(struct request *request)
{
	request_refuse(request, errno == ENOMEM ? REFUSAL_LOCAL : REFUSAL_UNKNOWN_MODEL,
		       errno == ENOMEM ? "out of memory" : "model \"%s\" not found",
		       request->model);
}

/* By the model's name; or any node that can say. */
static void route_it(struct request *request)
{
	struct routes *routes = &request->router->view->routes;

	if (request->path->kind == PATH_VERSION)
		request->route = routes_any(routes, ROUTE_ENGINE(ENGINE_OLLAMA));
	else if (!find_model(request))
		return;
	else
		request->route = routes_find(routes, request->model);
	if (!request->route) {
		request_refuse_unknown(request);
		return;
	}
	request->hash =
		request->path->kind == PATH_VERSION ? 1 : hash_of(request, request->route->session);
	find_node(request);
}

void request_received(struct request *request)
{
	wait_stop(&request->wait);
	request->body_complete = true;
	request->down->linger = false;
	request->begun_us = uv_hrtime() / 1000;
	if (request->refused)
		request_refuse_now(request, request->refused->why, request->refused->fields,
				   request->refused->text);
	else if (request->streamed)
		attempt_body_end(request);
	else if (request->opaque)
		find_node_of_port(request);
	else if (!answer_own(request))
		route_it(request);
}
