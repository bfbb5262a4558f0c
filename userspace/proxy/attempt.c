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

/* What this node calls the model: NULL when the client's word will do. False: no memory. */
static bool choose_name(struct request *request)
{
	const struct router *router = request->router;
	const char *name;

	free(request->asked);
	request->asked = NULL;
	if (!request->route || !request->model[0])
		return true;
	name = route_spelling(&router->view->routes, request->route,
			      &request->route->targets[request->target],
			      (uint32_t)request->endpoint, request->model);
	if (!strcmp(name, request->model))
		return true;
	request->asked = strdup(name);
	return request->asked != NULL;
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

/* The body, with the name in it replaced: pieces of `request->body` around one of `request->out`.
 */
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
	forward_request(
		request, out,
		(int64_t)(request->body.len - (request->asked ? request->model_len : 0) + name));
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
	upstream_partial(request->up, true);
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
	if (!request->head_sent)
		return;
	if (request->head->chunked)
		upstream_write(request->up, "0\r\n\r\n", 5);
	upstream_partial(request->up, false);
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

	if (request->endpoint == VIEW_GONE) { /* its address is not known any more either */
		request_failed(request, ATTEMPT_UNREACHED, "it has left the configuration");
		return;
	}
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
	request->heard_ms = uv_now(router->loop);
	request_place(request, REQUEST_TRYING);
	wait_stop(&request->wait);
	if (!request->opaque || is_inference(request))
		wait_start(&request->wait, &router->first_bytes, request->heard_ms);
	if (!choose_name(request)) {
		request_failed(request, ATTEMPT_LOCAL, "out of memory here");
		return;
	}
	/* What cannot be sent twice does not go on a connection that may be about to end. */
	take_upstream(request, to, !is_inference(request) || request->fresh);
}

/* ---- the answer ---- */

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
	if (!request->streamed && request->up && upstream_sent(request->up)) {
		router->held_bytes -= request->body.len;
		buf_fini(&request->body);
		buf_fini(&request->out);
	}
	if (request->body_complete) {
		request->head = NULL;
		http1_trim(request->down->parser);
	}
	if (request->up)
		upstream_trim(request->up);
}

/* The head, when it has not gone yet, and `n` pieces behind it. -1: the client is gone. */
static int write_parts(struct request *request, uv_buf_t *parts, unsigned n)
{
	uv_buf_t all[5];
	struct buf head = request->answer;
	unsigned first = head.len ? 1 : 0;
	bool written;

	if (first) {
		commit(request);
		memset(&request->answer, 0, sizeof(request->answer));
		all[0] = uv_buf_init(head.data, (unsigned)head.len);
	}
	for (unsigned i = 0; i < n; i++)
		all[first + i] = parts[i];
	written = down_write(request->down, all, first + n);
	buf_fini(&head);
	if (!written)
		return -1;
	if (request->down->out.unsent > ROUTER_UNSENT_MAX && !request->up_paused && request->up) {
		request->up_paused = true;
		upstream_pause(request->up, true);
	}
	return 0;
}

/* "LENGTH CRLF" of a chunk. Returns its length. */
static size_t chunk_head(char text[20], size_t len)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = 1;

	for (size_t rest = len >> 4; rest; rest >>= 4)
		n++;
	for (size_t i = n; i--; len >>= 4)
		text[i] = digits[len & 15];
	text[n] = '\r';
	text[n + 1] = '\n';
	return n + 2;
}

/* Bytes of the body, in the framing that the head has announced. */
static int write_body(struct request *request, const char *data, size_t len)
{
	char size[20], *bytes;
	uv_buf_t parts[3];
	size_t digits;

	memcpy(&bytes, &data, sizeof(bytes)); /* libuv wants no const */
	if (!request->node_chunked) {
		parts[0] = uv_buf_init(bytes, (unsigned)len);
		return write_parts(request, parts, 1);
	}
	digits = chunk_head(size, len);
	parts[0] = uv_buf_init(size, (unsigned)digits);
	parts[1] = uv_buf_init(bytes, (unsigned)len);
	parts[2] = uv_buf_init(size + digits - 2, 2);
	return write_parts(request, parts, 3);
}

static size_t whole_lines(const char *data, size_t len)
{
	while (len && data[len - 1] != '\n')
		len--;
	return len;
}

/*
 * Of a stream, what goes on ends with a line: the beginning of one is of no use to a client, and
 * were the node to die now, the error event behind it could not be read. The rest is held.
 */
static int write_lines(struct request *request, const char *data, size_t len)
{
	size_t whole = request->hold.len + len > ROUTER_HOLD_MAX ? len : whole_lines(data, len);
	struct buf held = request->hold;
	int result;

	if (!held.len && whole == len)
		return write_body(request, data, len);
	if (whole) {
		memset(&request->hold, 0, sizeof(request->hold));
		buf_add(&held, data, whole);
		if (buf_failed(&held)) {
			buf_fini(&held);
			request_cut(request, "out of memory at the gateway");
			return -1;
		}
		result = write_body(request, held.data, held.len);
		buf_fini(&held);
		if (result)
			return result;
	}
	buf_add(&request->hold, data + whole, len - whole);
	return 0;
}

static int open_tunnel(struct request *request, const struct http1_head *head)
{
	struct downstream *down = request->down;
	struct buf pending = down->pending;

	if (!request->upgrade) {
		request_failed(request, ATTEMPT_BROKE, "an upgrade that nobody asked for");
		return -1;
	}
	request->to_close = true;
	request->status = 101;
	forward_response(request, head, &request->answer);
	if (write_parts(request, NULL, 0))
		return -1;
	request_place(request, REQUEST_TUNNEL);
	memset(&down->pending, 0, sizeof(down->pending));
	request->down_paused =
		pending.len && !upstream_write(request->up, pending.data, pending.len);
	down_pause(down, request->down_paused);
	buf_fini(&pending);
	return 0;
}

static void frame(struct request *request, const struct http1_head *head)
{
	request->status = head->status;
	request->bodiless = request->is_head || head->status == 204 || head->status == 304;
	request->node_chunked = !request->bodiless && head->content_length < 0 && !request->http10;
	request->to_close = !request->bodiless && head->content_length < 0 && request->http10;
	/* An answer to half a body: what is left of it is nobody's any more. */
	if (request->to_close || !request->body_complete)
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

/* Is a status of the node a reason to ask another one, and which? */
static bool is_failure(const struct request *request, int status, enum attempt_how *how)
{
	if (!is_inference(request))
		return false;
	switch (status) {
	case 429:
		*how = ATTEMPT_LIMIT;
		return true;
	case 503:
		*how = ATTEMPT_BUSY;
		return true;
	case 502:
		*how = ATTEMPT_GATEWAY;
		return true;
	case 504:
		*how = ATTEMPT_LATE;
		return true;
	default:
		return false;
	}
}

/* The head is held until there is something behind it, or nothing more has come with it. */
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
	forward_response(request, head, &request->answer);
	if (!buf_failed(&request->answer))
		return 0;
	request_failed(request, ATTEMPT_LOCAL, "out of memory here");
	return -1;
}

/* A stream whose first event is not there yet: nothing goes to the client. */
static int hold_piece(struct request *request, const char *data, size_t len)
{
	if (request->events.first == EVENTS_ERROR) {
		request_failed(request, ATTEMPT_BUSY, "an error instead of an answer");
		return -1;
	}
	if (request->events.first == EVENTS_REAL || request->hold.len + len > ROUTER_HOLD_MAX)
		return write_lines(request, data, len);
	buf_add(&request->hold, data, len);
	return 0;
}

static int on_body(void *arg, const char *data, size_t len)
{
	struct request *request = arg;

	request->heard_ms = uv_now(request->router->loop);
	if (request->events.kind == EVENTS_NONE)
		return write_body(request, data, len);
	events_feed(&request->events, data, len);
	if (request->state == REQUEST_TRYING)
		return hold_piece(request, data, len);
	return write_lines(request, data, len);
}

/* The head of an answer that has no events need not wait for its body. */
static void on_turn(void *arg)
{
	struct request *request = arg;

	if (request->answer.len && request->events.kind == EVENTS_NONE)
		write_parts(request, NULL, 0);
}

static void finish(struct request *request)
{
	static char last[] = "0\r\n\r\n";
	uv_buf_t part = uv_buf_init(last, sizeof(last) - 1);

	if (request->hold.len && write_body(request, request->hold.data, request->hold.len))
		return;
	if ((request->node_chunked || request->answer.len) &&
	    write_parts(request, &part, request->node_chunked ? 1 : 0))
		return;
	request_finish(request);
}

/* A whole HTTP message may still be no whole stream: Ollama ends so when its runner fails. */
static void on_complete(void *arg)
{
	struct request *request = arg;
	bool stream = request->events.kind != EVENTS_NONE;

	request->up = NULL;
	if (request->state == REQUEST_TUNNEL)
		down_close_after(request->down, false);
	else if (stream && request->state == REQUEST_TRYING && request->events.first != EVENTS_REAL)
		request_failed(request, ATTEMPT_BROKE, "a stream without an event");
	else if (!events_whole(&request->events))
		request_cut(request, "the node ended its answer early");
	else
		finish(request);
}

static void on_drained(void *arg)
{
	struct request *request = arg;
	struct router *router = request->router;

	/* The time to the first byte begins when all has been sent. */
	if (request->wait.line == &router->first_bytes)
		wait_start(&request->wait, &router->first_bytes, uv_now(router->loop));
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

/*
 * Asked last for a while. A node that refuses, or dies in the middle of an answer, is also told to
 * the controller: nobody else should have to find out.
 */
static void mark(struct request *request, const char *what)
{
	struct router *router = request->router;

	if (!what || request->endpoint == VIEW_GONE)
		return;
	view_suspect(router->view, request->endpoint, uv_now(router->loop));
	if (!request->head_sent || request->state == REQUEST_RELAYING)
		router->events->on_mark(router->arg, request->endpoint, what);
}

static void on_end(void *arg, enum upstream_end why)
{
	struct request *request = arg;
	enum attempt_how how = ends[why].how;

	/* A kept connection that breaks before any answer may just have been too old. */
	if (upstream_reused(request->up) && how == ATTEMPT_BROKE && !request->answer.len &&
	    request->state == REQUEST_TRYING)
		how = ATTEMPT_STALE;
	else
		mark(request, ends[why].mark);
	request->up = NULL; /* closed, and nothing more comes from it */
	if (request->state == REQUEST_TRYING)
		request_failed(request, how, ends[why].text);
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
	.on_turn = on_turn,
	.on_complete = on_complete,
	.on_end = on_end,
	.on_drained = on_drained,
};
