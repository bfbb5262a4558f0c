/* SPDX-License-Identifier: MIT */
/* A request's life: what it asks for, who may answer, waiting for room, giving up. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/choose.h"
#include "proxy/router_impl.h"

#define RETRY_AFTER "Retry-After: 2\r\n"

static struct request *request_of_wait(struct waiter *wait)
{
	return (struct request *)(void *)((char *)wait - offsetof(struct request, wait));
}

/* ---- lists ---- */

static struct request_list *list_of(struct router *router, enum request_state state)
{
	switch (state) {
	case REQUEST_ASKING:
		return &router->asking;
	case REQUEST_QUEUED:
		return &router->queue;
	case REQUEST_TRYING:
	case REQUEST_RELAYING:
	case REQUEST_TUNNEL:
		return &router->running;
	default:
		return NULL;
	}
}

static void count_queued(struct request *request, bool more)
{
	request->router->tally.queued += more ? 1 : (uint64_t)-1;
	if (request->route)
		request->route->queued += more ? 1 : (unsigned)-1;
	if (!request->router->freeing)
		request->router->events->on_busy(request->router->arg);
}

void request_place(struct request *request, enum request_state state)
{
	struct router *router = request->router;
	struct request_list *from = list_of(router, request->state);
	struct request_list *to = list_of(router, state);

	if (request->state == REQUEST_QUEUED && state != REQUEST_QUEUED)
		count_queued(request, false);
	if (request->state != REQUEST_QUEUED && state == REQUEST_QUEUED)
		count_queued(request, true);
	if (from != to && from)
		TAILQ_REMOVE(from, request, turn);
	if (from != to && to)
		TAILQ_INSERT_TAIL(to, request, turn);
	request->state = state;
}

/* ---- the end ---- */

void request_release(struct request *request)
{
	struct router *router = request->router;

	if (!request->counted)
		return;
	request->counted = false;
	view_count_busy(router->view, request->endpoint, -1);
	view_count_open(router->view, request->endpoint, -1);
	if (!router->freeing)
		router->events->on_busy(router->arg);
}

static void request_free(struct request *request)
{
	struct router *router = request->router;
	bool counted = request->counted;

	wait_stop(&request->wait);
	attempt_drop(request);
	request_release(request);
	request_place(request, REQUEST_DONE);
	if (!request->streamed)
		router->held_bytes -= request->body.len;
	buf_fini(&request->body);
	buf_fini(&request->answer);
	buf_fini(&request->hold);
	buf_fini(&request->out);
	free(request->scan);
	free(request->refused);
	free(request->tried);
	free(request->asked);
	free(request);
	router->n_requests--;
	if (counted)
		router_turns(router);
}

/* The client has been told all, or all that it will be. */
static void request_over(struct request *request, bool keep)
{
	struct downstream *down = request->down;

	down->request = NULL;
	request_free(request);
	down_answered(down, keep);
}

void request_abandon(struct request *request)
{
	if (request->state != REQUEST_DONE)
		tally_refuse(&request->router->tally, TALLY_LEFT);
	request->down->request = NULL;
	request_free(request);
}

/* `fields`: further lines of the head. */
static void refuse_now(struct request *request, enum refusal why, const char *fields,
		       const char *text)
{
	const struct refusal_about *about = &refusal_about[why];
	struct buf body = {0};

	dialect_error(&body, request->path->dialect, why, text);
	attempt_drop(request);
	request_release(request);
	answer_send(request, about->status, "application/json", fields, body.data, body.len);
	buf_fini(&body);
}

/*
 * With a small body still to come: it is read and thrown away first, so that the connection can go
 * on. Else the connection ends with the answer.
 */
static void refuse_with(struct request *request, enum refusal why, const char *fields,
			const char *text)
{
	const struct http1_head *head = request->head;
	struct refused *refused;

	if (request->state == REQUEST_RECEIVING && request->has_body && !request->body_complete &&
	    !request->streamed && !request->refused && !*http1_error(request->down->parser) &&
	    head->content_length <= ROUTER_DRAIN_MAX && !http1_field(head, "expect")) {
		refused = calloc(1, sizeof(*refused));
		if (refused) {
			refused->why = why;
			snprintf(refused->fields, sizeof(refused->fields), "%s", fields ? fields : "");
			snprintf(refused->text, sizeof(refused->text), "%s", text);
			request->refused = refused;
			return;
		}
	}
	refuse_now(request, why, fields, text);
}

void request_refuse(struct request *request, enum refusal why, const char *format, ...)
{
	int status = refusal_about[why].status;
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	refuse_with(request, why, status == 429 || status == 503 ? RETRY_AFTER : NULL, text);
}

void request_finish(struct request *request)
{
	bool keep = !request->to_close && request->body_complete;

	tally_request(&request->router->tally, request->route ? request->route->name : "",
		      request->node, request->status);
	request_place(request, REQUEST_DONE);
	if (!keep)
		request->down->keep_alive = false;
	request_over(request, keep);
}

void request_cut(struct request *request, const char *why)
{
	struct downstream *down = request->down;
	struct events *events = &request->events;
	bool sse = events->kind == EVENTS_SSE, say = events->kind != EVENTS_NONE && !events->error;
	bool to_close = request->to_close;
	struct buf event = {0}, piece = {0};
	uv_buf_t out;

	tally_refuse(&request->router->tally, TALLY_CUT);
	tally_request(&request->router->tally, request->route ? request->route->name : "",
		      request->node, 599);
	if (say) {
		if (sse && events->event_begun) /* its lines have gone, its end has not */
			buf_puts(&event, "\n");
		dialect_stream_error(&event, request->path->dialect, sse, why);
	}
	if (say && request->node_chunked)
		buf_printf(&piece, "%zx\r\n%s\r\n", event.len, event.data ? event.data : "");
	else if (say)
		buf_add(&piece, event.data, event.len);
	buf_fini(&event);
	out = uv_buf_init(piece.data, (unsigned)piece.len);
	request_place(request, REQUEST_DONE);
	if (!piece.len || buf_failed(&piece) || down_write(down, &out, 1)) {
		down->request = NULL;
		request_free(request);
		/* Where only the end of the connection ends the answer, it must be a broken one. */
		down_close_after(down, to_close);
	}
	buf_fini(&piece);
}

/* ---- what it asks for ---- */

static bool is_token(const char *text)
{
	size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:");

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
	return strncasecmp(field->value, "bearer ", 7) ? "" : field->value + 7 + strspn(field->value + 7, " ");
}

/* "Authorization: Bearer KEY" or "x-api-key: KEY"; whoever sends several must have them all right. */
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
	refuse_with(request, REFUSAL_METHOD, field, "this path takes another method");
}

/* What only the router asks, not a persona port. True: refused. */
static bool refuse_by_path(struct request *request)
{
	const struct catalog_settings *settings = router_settings(request->router);
	enum path_kind kind = request->path->kind;
	const char *allow;

	if (settings->keys_required && kind != PATH_HEALTH && kind != PATH_READY &&
	    !key_is_good(request))
		request_refuse(request, REFUSAL_BAD_KEY, "a valid API key is required: "
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
		request_refuse(request, REFUSAL_MEDIA_TYPE, "send the body without Content-Encoding");
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

/* Inferences are taken whole, so that they can be sent again; so is what the router reads itself. */
static bool is_streamed(const struct request *request)
{
	const struct http1_head *head = request->head;
	bool infer = request->path->kind != PATH_OPAQUE;

	if (!request->opaque || !request->has_body)
		return false;
	return !infer || (head->content_length > 0 &&
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

/* On a persona port the kernel has found no room, most likely: its counts of now are asked for. */
static void ask_first(struct request *request)
{
	struct router *router = request->router;
	const struct plan_row *row = view_row(router->view, request->down->port);

	request->hash = hash_of(request, row && row->affinity == MG_AFFINITY_CLIENT);
	request->ticket =
		router->events->refresh ? router->events->refresh(router->arg) : 0;
	if (request->ticket)
		request_place(request, REQUEST_ASKING);
	else
		request_steer(request);
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
	if (refuse_by_head(request) ||
	    (!request->streamed && head->content_length > 0 &&
	     body_too_large(request, (uint64_t)head->content_length)))
		return refused_so_far(down);
	say_continue(request);
	if (down->state == DOWN_CLOSED)
		return -1;
	if (request->streamed) {
		down_pause(down, true);
		request->down_paused = true;
		ask_first(request);
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
	refuse_now(request, REFUSAL_SLOW, NULL, "the body does not come");
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
		refuse_now(request, REFUSAL_LOCAL, RETRY_AFTER, "out of memory");
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
		refuse_now(request, request->refused->why, request->refused->fields,
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
	if (request->refused || (!request->opaque && kind != PATH_INFER_FORM && !is_json(request->path)))
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

static void refuse_unknown(struct request *request)
{
	request_refuse(request, errno == ENOMEM ? REFUSAL_LOCAL : REFUSAL_UNKNOWN_MODEL,
		       errno == ENOMEM ? "out of memory" : "model \"%s\" not found", request->model);
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
		refuse_unknown(request);
		return;
	}
	request->hash = request->path->kind == PATH_VERSION
				? 1
				: hash_of(request, request->route->session);
	request_steer(request);
}

void request_received(struct request *request)
{
	wait_stop(&request->wait);
	request->body_complete = true;
	request->down->linger = false;
	request->begun_us = uv_hrtime() / 1000;
	if (request->refused)
		refuse_now(request, request->refused->why, request->refused->fields,
			   request->refused->text);
	else if (request->streamed)
		attempt_body_end(request);
	else if (request->opaque)
		ask_first(request);
	else if (!answer_own(request))
		route_it(request);
}

/* ---- who may answer it ---- */

static uint32_t engines_of(const struct request *request)
{
	if (request->opaque)
		return 0;
	return request->path->dialect == DIALECT_OLLAMA ? ROUTE_ENGINE(ENGINE_OLLAMA) : ROUTE_LLM;
}

/* The same node for all who ask for the version: so it does not seem to change. */
static bool is_sticky(const struct request *request, const struct plan_row *row)
{
	if (!request->route)
		return row->affinity == MG_AFFINITY_CLIENT;
	return request->route->session || request->path->kind == PATH_VERSION;
}

static enum view_answer pick(struct request *request, size_t target, const struct plan_row *row,
			     size_t *endpoint)
{
	size_t tried[TRIED_MAX], n = 0;
	const struct view_ask ask = {
		.row = row,
		.hash = request->hash,
		.engines = engines_of(request),
		.sticky = is_sticky(request, row),
		.now_ms = uv_now(request->router->loop),
		.tried = tried,
		.n_tried = request->n_tried,
	};

	for (size_t i = 0; i < request->n_tried; i++) {
		const struct tried *of = &request->tried[i];

		tried[n++] = of->dead || of->stale || of->target == target ? of->endpoint
									    : VIEW_GONE;
	}
	return view_pick(request->router->view, &ask, endpoint);
}

/* True: somebody takes it, and has been asked. */
static bool try_targets(struct request *request, bool *full)
{
	const struct plan_row *row;
	size_t n = request->opaque ? 1 : request->route->n_targets;
	enum view_answer answer;
	size_t endpoint;

	*full = false;
	for (size_t t = 0; t < n; t++) {
		row = request->opaque ? view_row(request->router->view, request->down->port)
				      : &request->route->targets[t].row;
		answer = row ? pick(request, t, row, &endpoint) : VIEW_NOBODY;
		if (answer == VIEW_TAKEN) {
			request->target = t;
			attempt_begin(request, endpoint);
			return true;
		}
		*full = *full || answer == VIEW_FULL;
	}
	return false;
}

/* Those whose kept connection was too old may be asked once more. True: there are some. */
static bool forgive_stale(struct request *request)
{
	bool some = false;

	for (size_t i = 0; i < request->n_tried; i++) {
		struct tried *of = &request->tried[i];

		if (!of->stale)
			continue;
		some = true;
		of->stale = false;
		of->endpoint = VIEW_GONE;
	}
	return some;
}

/* What to say when every node that was asked failed. */
static enum refusal verdict(const struct request *request)
{
	const unsigned *failed = request->failed;

	if (failed[ATTEMPT_LIMIT] == request->attempts)
		return REFUSAL_BUSY_EVERYWHERE;
	if (failed[ATTEMPT_LIMIT] + failed[ATTEMPT_BUSY])
		return REFUSAL_OVERLOADED;
	if (failed[ATTEMPT_LATE] == request->attempts)
		return REFUSAL_UPSTREAM_TIMEOUT;
	return REFUSAL_UPSTREAM;
}

static void give_up(struct request *request)
{
	if (request->path->kind == PATH_VERSION)
		answer_send(request, 200, "application/json", NULL, "{\"version\":\"0.0.0\"}", 19);
	else if (!request->attempts)
		request_refuse(request, REFUSAL_NOBODY, "no node that could answer is up");
	else if (request->failed[ATTEMPT_LOCAL])
		request_refuse(request, REFUSAL_LOCAL, "the gateway has no sockets or memory left");
	else
		request_refuse(request, verdict(request), "every node failed, the last was %s",
			       request->why);
}

static void wait_for_room(struct request *request)
{
	struct router *router = request->router;

	if (request->state == REQUEST_QUEUED)
		return;
	if (router->stopping) {
		request_refuse(request, REFUSAL_STOPPING, "the router is stopping");
		return;
	}
	if (router->tally.queued >= router_settings(router)->queue_length) {
		request_refuse(request, REFUSAL_QUEUE_FULL, "all nodes are busy, and %u requests wait",
			       (unsigned)router->tally.queued);
		return;
	}
	request->waited = true;
	request_place(request, REQUEST_QUEUED);
	wait_start(&request->wait, &router->queueing, uv_now(router->loop));
}

void request_steer(struct request *request)
{
	bool full;

	if (!request->opaque && !request->route) { /* it left the configuration */
		errno = ENOENT;
		refuse_unknown(request);
		return;
	}
	/* Nobody overtakes those who wait for the same. */
	if (request->state == REQUEST_RECEIVING && request->route && request->route->queued) {
		wait_for_room(request);
		return;
	}
	if (request->n_tried == TRIED_MAX) {
		give_up(request);
		return;
	}
	if (try_targets(request, &full) || (!full && forgive_stale(request) &&
					    try_targets(request, &full)))
		return;
	if (full)
		wait_for_room(request);
	else
		give_up(request);
}

void request_on_queue_late(struct waiter *wait)
{
	struct request *request = request_of_wait(wait);

	request_refuse(request, REFUSAL_QUEUE_TIMEOUT, "all nodes were busy for %u ms",
		       router_settings(request->router)->queue_ms);
}

/* ---- one attempt did not do ---- */

static bool remember_tried(struct request *request, enum attempt_how how)
{
	if (!request->tried)
		request->tried = calloc(TRIED_MAX, sizeof(*request->tried));
	if (!request->tried)
		return false;
	request->tried[request->n_tried++] = (struct tried){
		.endpoint = request->endpoint,
		.target = request->target,
		.dead = how == ATTEMPT_UNREACHED || how == ATTEMPT_BROKE || how == ATTEMPT_DOWN,
		.stale = how == ATTEMPT_STALE,
	};
	request->fresh = request->fresh || how == ATTEMPT_STALE;
	return true;
}

/* Contract §5: an inference, always; anything else only when no byte of it was written. */
static bool may_retry(const struct request *request, enum attempt_how how)
{
	enum path_kind kind = request->path->kind;

	if (how == ATTEMPT_LOCAL)
		return false;
	if (!request->streamed && (kind == PATH_INFER || kind == PATH_INFER_FORM))
		return true;
	return how == ATTEMPT_UNREACHED;
}

void request_failed(struct request *request, enum attempt_how how, const char *why)
{
	struct router *router = request->router;
	bool again = may_retry(request, how) && remember_tried(request, how);

	snprintf(request->why, sizeof(request->why), "%s: %s", request->node, why);
	request->failed[how]++;
	attempt_drop(request);
	request_release(request);
	wait_stop(&request->wait);
	request->waited = true;
	buf_fini(&request->answer);
	buf_fini(&request->hold);
	if (again && !router->stopping)
		request_steer(request);
	else
		give_up(request);
	router_turns(router);
}

void request_moved(struct request *request, const size_t *moved)
{
	struct routes *routes = &request->router->view->routes;

	if (moved && request->endpoint != VIEW_GONE)
		request->endpoint = moved[request->endpoint];
	for (size_t i = 0; moved && i < request->n_tried; i++) {
		if (request->tried[i].endpoint != VIEW_GONE)
			request->tried[i].endpoint = moved[request->tried[i].endpoint];
	}
	if (!request->route)
		return;
	request->route = request->path->kind == PATH_VERSION
				 ? routes_any(routes, ROUTE_ENGINE(ENGINE_OLLAMA))
				 : routes_find(routes, request->model);
	if (request->state == REQUEST_QUEUED && request->route)
		request->route->queued++;
}
