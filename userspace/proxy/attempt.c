/* SPDX-License-Identifier: MIT */
/* Asking one node: the request goes out, the answer is judged, then carried over as it comes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/choose.h"
#include "proxy/router_impl.h"

static bool is_inference(const struct request *request)
{
	return request->path->kind == PATH_INFER || request->path->kind == PATH_INFER_FORM;
}

void attempt_drop(struct request *request)
{
	if (request->up)
		upstream_drop(request->up, false);
	request->up = NULL;
	request->head_sent = false;
	request->up_paused = false;
	buf_fini(&request->out);
}

/* ---- asking ---- */

/* What this node calls the model: NULL when the client's word will do. */
static void choose_name(struct request *request)
{
	const struct router *router = request->router;
	const char *name;

	free(request->asked);
	request->asked = NULL;
	if (!request->route || !request->model[0])
		return;
	name = route_spelling(&router->view->routes, request->route,
			      &request->route->targets[request->target],
			      (uint32_t)request->endpoint, request->model);
	if (strcmp(name, request->model) != 0)
		request->asked = strdup(name);
}

/* Appends the name as it stands in the body. Returns its length there. */
static size_t add_name(struct request *request)
{
	size_t before = request->out.len, len = strlen(request->asked);

	if (request->form) {
		buf_puts(&request->out, request->asked);
	} else if (buf_reserve(&request->out, 6 * len + 3)) {
		request->out.len += scan_quote(request->out.data + before, request->asked);
		request->out.data[request->out.len] = '\0';
	}
	return request->out.len - before;
}

/* The body, with the name in it replaced: pieces of `request->body` around one of `request->out`. */
static void send_whole(struct request *request)
{
	struct buf *out = &request->out;
	size_t name = 0, head_at, behind = request->model_at + request->model_len;
	uv_buf_t parts[4];
	unsigned n = 0;

	buf_clear(out);
	if (request->asked)
		name = add_name(request);
	head_at = out->len;
	forward_request(request, out,
			(int64_t)(request->body.len - (request->asked ? request->model_len : 0) +
				  name));
	if (buf_failed(out)) {
		request_failed(request, ATTEMPT_LOCAL, "out of memory here");
		return;
	}
	parts[n++] = uv_buf_init(out->data + head_at, (unsigned)(out->len - head_at));
	if (request->asked) {
		parts[n++] = uv_buf_init(request->body.data, (unsigned)request->model_at);
		parts[n++] = uv_buf_init(out->data, (unsigned)name);
		parts[n++] = uv_buf_init(request->body.data + behind,
					 (unsigned)(request->body.len - behind));
	} else if (request->body.len) {
		parts[n++] = uv_buf_init(request->body.data, (unsigned)request->body.len);
	}
	request->head_sent = true;
	upstream_send(request->up, parts, n, request->is_head);
}

/* One piece of a streamed body, in the framing that the head has announced. */
static bool send_piece(struct request *request, const char *data, size_t len)
{
	char size[24];
	int n = snprintf(size, sizeof(size), "%zx\r\n", len);
	bool room;

	if (!request->head->chunked)
		return upstream_write(request->up, data, len);
	upstream_write(request->up, size, (size_t)n);
	upstream_write(request->up, data, len);
	room = upstream_write(request->up, "\r\n", 2);
	return room;
}

static void send_streamed(struct request *request)
{
	struct buf *out = &request->out;
	uv_buf_t part;

	buf_clear(out);
	forward_request(request, out, request->head->content_length);
	if (buf_failed(out)) {
		request_failed(request, ATTEMPT_LOCAL, "out of memory here");
		return;
	}
	part = uv_buf_init(out->data, (unsigned)out->len);
	request->head_sent = true;
	upstream_send(request->up, &part, 1, request->is_head);
	if (request->body.len)
		send_piece(request, request->body.data, request->body.len);
	buf_fini(&request->body);
	if (request->body_complete)
		attempt_body_end(request);
	request->down_paused = false;
	down_pause(request->down, false);
}

int attempt_body(struct request *request, const char *data, size_t len)
{
	bool room;

	if (request->head_sent) {
		room = send_piece(request, data, len);
	} else {
		buf_add(&request->body, data, len);
		room = false;
	}
	if (room || request->down->state == DOWN_CLOSED)
		return 0;
	request->down_paused = true;
	down_pause(request->down, true);
	return 0;
}

void attempt_body_end(struct request *request)
{
	if (request->head_sent && request->head->chunked)
		upstream_write(request->up, "0\r\n\r\n", 5);
}

static void send_it(struct request *request)
{
	struct router *router = request->router;

	if (!request->waited && request->begun_us)
		tally_note(&router->tally.overhead, uv_hrtime() / 1000 - request->begun_us);
	if (request->streamed)
		send_streamed(request);
	else
		send_whole(request);
}

static void on_connected(void *arg)
{
	struct request *request = arg;

	view_trust(request->router->view, request->endpoint);
	send_it(request);
}

static void note_endpoint(struct request *request, const struct plan_endpoint *to)
{
	const struct view *view = request->router->view;
	const struct plan_row *row = request->opaque
					     ? view_row(view, request->down->port)
					     : &request->route->targets[request->target].row;
	const char *persona = row ? route_persona(row, (uint32_t)request->endpoint) : "";

	if (!*persona)
		persona = view_persona(view, request->endpoint);
	memcpy(request->persona, persona, strlen(persona) + 1);
	memcpy(request->node, to->node, sizeof(request->node));
}

static void take_upstream(struct request *request, const struct plan_endpoint *to, bool fresh)
{
	request->up = upstream_take(request->router->pool, &to->addr, to->port, fresh, request);
	if (!request->up)
		request_failed(request, ATTEMPT_LOCAL, "out of memory here");
	else if (upstream_ready(request->up))
		send_it(request);
}

void attempt_begin(struct request *request, size_t endpoint)
{
	struct router *router = request->router;
	const struct plan_endpoint *to = &router->view->plan->endpoints[endpoint];

	if (request->attempts++)
		router->tally.retries++;
	request->endpoint = endpoint;
	request->counted = true;
	view_count_busy(router->view, endpoint, 1);
	view_count_open(router->view, endpoint, 1);
	router->events->on_busy(router->arg);
	note_endpoint(request, to);
	choose_name(request);
	request->heard_ms = uv_now(router->loop);
	request_place(request, REQUEST_TRYING);
	wait_stop(&request->wait);
	if (!request->opaque || is_inference(request))
		wait_start(&request->wait, &router->first_bytes, request->heard_ms);
	/* What cannot be sent twice does not go on a connection that may be about to end. */
	take_upstream(request, to, !is_inference(request));
}

/* ---- the answer ---- */

static int write_answer(struct request *request, const char *data, size_t len)
{
	char size[24];
	uv_buf_t parts[3];
	unsigned n = 0;
	char *bytes;

	memcpy(&bytes, &data, sizeof(bytes)); /* libuv wants no const */
	if (request->node_chunked) {
		int digits = snprintf(size, sizeof(size), "%zx\r\n", len);

		parts[n++] = uv_buf_init(size, (unsigned)digits);
		parts[n++] = uv_buf_init(bytes, (unsigned)len);
		parts[n++] = uv_buf_init(size + digits - 2, 2);
	} else {
		parts[n++] = uv_buf_init(bytes, (unsigned)len);
	}
	if (!down_write(request->down, parts, n))
		return -1;
	if (request->down->out.unsent > ROUTER_UNSENT_MAX && !request->up_paused && request->up) {
		request->up_paused = true;
		upstream_pause(request->up, true);
	}
	return 0;
}

void attempt_drained(struct request *request)
{
	if (!request->up_paused || !request->up)
		return;
	request->up_paused = false;
	upstream_pause(request->up, false);
}

/* From here on the client sees this node's answer, and no other's. */
static void commit(struct request *request)
{
	struct router *router = request->router;

	wait_stop(&request->wait);
	request_place(request, REQUEST_RELAYING);
	if (request->begun_us)
		tally_note(&router->tally.first_byte, uv_hrtime() / 1000 - request->begun_us);
	if (!request->streamed && upstream_sent(request->up)) {
		router->held_bytes -= request->body.len;
		buf_fini(&request->body);
		buf_fini(&request->out);
	}
	if (request->body_complete) {
		request->head = NULL;
		http1_trim(request->down->parser);
	}
}

static int write_held(struct request *request)
{
	struct buf held = request->hold;
	uv_buf_t piece = uv_buf_init(held.data, (unsigned)held.len);
	bool failed = buf_failed(&held), written;

	memset(&request->hold, 0, sizeof(request->hold));
	if (failed) {
		buf_fini(&held);
		request_failed(request, ATTEMPT_LOCAL, "out of memory here");
		return -1;
	}
	commit(request);
	written = down_write(request->down, &piece, 1);
	buf_fini(&held);
	return written ? 0 : -1;
}

/* How a status of the node is a reason to ask another one; 0: it is not. */
static bool is_failure(const struct request *request, int status, enum attempt_how *how)
{
	if (!is_inference(request))
		return false;
	*how = status == 429 ? ATTEMPT_LIMIT : status == 503 ? ATTEMPT_BUSY : ATTEMPT_GATEWAY;
	return status == 429 || status == 502 || status == 503 || status == 504;
}

static int open_tunnel(struct request *request, const struct http1_head *head)
{
	struct downstream *down = request->down;
	struct buf pending = down->pending;

	if (!request->upgrade) {
		request_failed(request, ATTEMPT_BROKE, "an upgrade that nobody asked for");
		return -1;
	}
	forward_response(request, head, &request->hold);
	request->to_close = true;
	request->status = 101;
	if (write_held(request))
		return -1;
	request_place(request, REQUEST_TUNNEL);
	memset(&down->pending, 0, sizeof(down->pending));
	if (pending.len)
		upstream_write(request->up, pending.data, pending.len);
	buf_fini(&pending);
	return 0;
}

static void frame(struct request *request, const struct http1_head *head)
{
	request->status = head->status;
	request->bodiless = request->is_head || head->status == 204 || head->status == 304;
	request->node_chunked = !request->bodiless && head->content_length < 0 && !request->http10;
	request->to_close = !request->bodiless && head->content_length < 0 && request->http10;
	if (request->to_close)
		request->down->keep_alive = false;
}

static int on_interim(struct request *request, const struct http1_head *head)
{
	struct buf out = {0};
	uv_buf_t piece;
	bool written;

	if (!request->opaque || request->http10 || head->status == 100)
		return 0;
	forward_response(request, head, &out);
	piece = uv_buf_init(out.data, (unsigned)out.len);
	written = buf_failed(&out) || down_write(request->down, &piece, 1);
	buf_fini(&out);
	return written ? 0 : -1;
}

static int on_head(void *arg, const struct http1_head *head)
{
	struct request *request = arg;
	enum attempt_how how;
	char why[32];

	request->heard_ms = uv_now(request->router->loop);
	if (head->status == 101)
		return open_tunnel(request, head);
	if (head->status < 200)
		return on_interim(request, head);
	if (is_failure(request, head->status, &how)) {
		snprintf(why, sizeof(why), "status %d", head->status);
		request_failed(request, how, why);
		return -1;
	}
	frame(request, head);
	events_init(&request->events,
		    is_inference(request) && head->status < 300 && !request->bodiless
			    ? http1_field(head, "content-type")
			    : NULL,
		    request->path->end);
	forward_response(request, head, &request->hold);
	if (request->events.kind != EVENTS_NONE)
		return 0; /* the status is held until there is something behind it */
	return write_held(request);
}

/* A stream whose first event is not there yet: nothing has gone to the client. */
static int hold_piece(struct request *request, const char *data, size_t len)
{
	struct buf *hold = &request->hold;
	char size[24];

	if (request->node_chunked) {
		int digits = snprintf(size, sizeof(size), "%zx\r\n", len);

		buf_add(hold, size, (size_t)digits);
		buf_add(hold, data, len);
		buf_add(hold, "\r\n", 2);
	} else {
		buf_add(hold, data, len);
	}
	if (request->events.first == EVENTS_ERROR) {
		request_failed(request, ATTEMPT_BUSY, "an error instead of an answer");
		return -1;
	}
	if (request->events.first == EVENTS_REAL || hold->len > ROUTER_HOLD_MAX)
		return write_held(request);
	return 0;
}

static int on_body(void *arg, const char *data, size_t len)
{
	struct request *request = arg;

	request->heard_ms = uv_now(request->router->loop);
	if (request->state == REQUEST_TUNNEL)
		return write_answer(request, data, len);
	events_feed(&request->events, data, len);
	if (request->state == REQUEST_TRYING)
		return hold_piece(request, data, len);
	return write_answer(request, data, len);
}

/* A whole HTTP message may still be no whole stream: Ollama ends so when its runner fails. */
static void on_complete(void *arg)
{
	struct request *request = arg;

	request->up = NULL;
	if (request->state == REQUEST_TUNNEL)
		down_close(request->down, false);
	else if (request->state == REQUEST_TRYING)
		request_failed(request, ATTEMPT_BROKE, "a stream without an event");
	else if (!events_whole(&request->events))
		request_cut(request, "the node ended its answer early");
	else
		request_finish(request);
}

static void on_drained(void *arg)
{
	struct request *request = arg;

	if (!request->down_paused)
		return;
	request->down_paused = false;
	down_pause(request->down, false);
}

/* ---- failures ---- */

static const struct {
	enum attempt_how how;
	const char *mark; /* for the controller; NULL: not the node's fault */
	const char *text;
} ends[] = {
	[UPSTREAM_REFUSED] = {ATTEMPT_UNREACHED, "refused", "connection refused"},
	[UPSTREAM_UNREACHABLE] = {ATTEMPT_UNREACHED, "timeout", "cannot be reached"},
	[UPSTREAM_LOCAL] = {ATTEMPT_LOCAL, NULL, "no sockets or memory here"},
	[UPSTREAM_RESET] = {ATTEMPT_BROKE, "reset", "connection reset"},
	[UPSTREAM_CLOSED] = {ATTEMPT_BROKE, "closed", "closed before its answer was whole"},
	[UPSTREAM_BAD] = {ATTEMPT_BROKE, NULL, "its answer is not valid HTTP"},
};

static void mark(struct request *request, const char *what)
{
	struct router *router = request->router;

	if (!what || request->endpoint == VIEW_GONE)
		return;
	view_suspect(router->view, request->endpoint, uv_now(router->loop));
	router->events->on_mark(router->arg, request->endpoint, what);
}

/* A kept connection that the node had just closed: the same node, on a new one. */
static bool was_too_old(const struct request *request, bool reused, enum upstream_end why)
{
	return reused && request->state == REQUEST_TRYING && !request->hold.len &&
	       (why == UPSTREAM_RESET || why == UPSTREAM_CLOSED) &&
	       request->endpoint != VIEW_GONE;
}

static void on_end(void *arg, enum upstream_end why)
{
	struct request *request = arg;
	bool reused = upstream_reused(request->up);

	request->up = NULL; /* closed, and nothing more comes from it */
	request->head_sent = false;
	if (was_too_old(request, reused, why)) {
		take_upstream(request, &request->router->view->plan->endpoints[request->endpoint],
			      true);
		return;
	}
	mark(request, ends[why].mark);
	if (request->state == REQUEST_TRYING)
		request_failed(request, ends[why].how, ends[why].text);
	else if (request->state == REQUEST_TUNNEL)
		down_close(request->down, why == UPSTREAM_RESET);
	else
		request_cut(request, "the connection to the node broke off");
}

void attempt_on_late(struct waiter *wait)
{
	struct request *request =
		(struct request *)(void *)((char *)wait - offsetof(struct request, wait));

	request_failed(request, ATTEMPT_LATE, "no first byte in time");
}

/* Its probes fail and it is silent: there is nothing more to come (failure-modes B1). */
void attempt_tick(struct request *request, uint64_t now_ms)
{
	const struct view *view = request->router->view;

	if (request->endpoint == VIEW_GONE || now_ms - request->heard_ms < ROUTER_SILENT_MS ||
	    view->plan->endpoints[request->endpoint].state != MG_NODE_DOWN)
		return;
	if (request->state == REQUEST_TRYING) {
		request_failed(request, ATTEMPT_DOWN, "it does not answer its probes");
	} else if (request->state == REQUEST_TUNNEL) {
		down_close(request->down, true);
	} else {
		attempt_drop(request);
		request_cut(request, "the node is down");
	}
}

const struct upstream_events attempt_events = {
	.on_connected = on_connected,
	.on_head = on_head,
	.on_body = on_body,
	.on_complete = on_complete,
	.on_end = on_end,
	.on_drained = on_drained,
};
