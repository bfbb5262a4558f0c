/* SPDX-License-Identifier: MIT */
/* A client's connection: requests in, one at a time; answers out; deadlines; leaving politely. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/stream.h"
#include "proxy/router_impl.h"

#define DOWN_KEEPALIVE_S 15

static void down_run(struct downstream *down);

static struct downstream *down_of_wait(struct waiter *wait)
{
	return (struct downstream *)(void *)((char *)wait - offsetof(struct downstream, wait));
}

/* ---- the end ---- */

/* A client has gone, or may be closed now to make room for another. */
static void accept_again(struct router *router)
{
	if (!router->paused)
		return;
	router->paused = false;
	if (router->listener)
		listener_resume(router->listener);
}

static void down_idle(struct downstream *down)
{
	wait_start(&down->wait, &down->router->idle, uv_now(down->router->loop));
	accept_again(down->router);
}

static void on_closed(uv_handle_t *handle)
{
	struct downstream *down = handle->data;
	struct router *router = down->router;

	TAILQ_REMOVE(&router->downs, down, all);
	router->n_downs--;
	free(down);
	if (router->n_downs < router->max_clients)
		accept_again(router);
	router_maybe_gone(router);
}

void down_close(struct downstream *down, bool reset)
{
	struct linger none = {.l_onoff = 1, .l_linger = 0};
	uv_os_fd_t fd;

	if (down->state == DOWN_CLOSED)
		return;
	down->state = DOWN_CLOSED;
	wait_stop(&down->wait);
	if (down->request)
		request_abandon(down->request);
	http1_free(down->parser);
	down->parser = NULL;
	buf_fini(&down->pending);
	outbox_fini(&down->out);
	if (reset && uv_fileno((uv_handle_t *)&down->tcp, &fd) == 0)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	uv_close((uv_handle_t *)&down->tcp, on_closed);
}

/*
 * All is written. A client that may still be sending gets the end of our side and some time (RFC
 * 9112 §9.6): closed at once, its kernel could throw our answer away.
 */
static void down_leave(struct downstream *down)
{
	uv_os_fd_t fd;

	if (!down->linger || down->end_reset || down->eof ||
	    uv_fileno((uv_handle_t *)&down->tcp, &fd) < 0 || shutdown(fd, SHUT_WR) == -1) {
		down_close(down, down->end_reset);
		return;
	}
	down->state = DOWN_LINGER;
	down_pause(down, false);
	wait_start(&down->wait, &down->router->lingers, uv_now(down->router->loop));
}

void down_close_after(struct downstream *down, bool reset)
{
	if (down->state == DOWN_CLOSED || down->state == DOWN_LINGER)
		return;
	down->state = DOWN_CLOSING;
	down->end_reset = reset;
	if (!down->out.unsent)
		down_leave(down);
}

/* ---- writing ---- */

static size_t down_unsent(const struct downstream *down)
{
	return uv_stream_get_write_queue_size((const uv_stream_t *)&down->tcp) +
	       down->out.waiting.len;
}

static void stall_watch(struct downstream *down)
{
	down->unsent_before = down_unsent(down);
	wait_start(&down->wait, &down->router->stalls, uv_now(down->router->loop));
}

bool down_write(struct downstream *down, uv_buf_t *bufs, unsigned n)
{
	if (down->state == DOWN_CLOSED)
		return false;
	if (outbox_write(&down->out, bufs, n)) {
		down_close(down, true);
		return false;
	}
	if (down->out.unsent && down->wait.line != &down->router->stalls)
		stall_watch(down);
	return true;
}

/* Between two requests, and nothing waits any more: perhaps the next one does. */
static void down_sent(struct downstream *down)
{
	if (down->wait.line != &down->router->heads)
		down_idle(down);
	down_run(down);
}

static void on_out_done(struct outbox *out, int status)
{
	struct downstream *down =
		(struct downstream *)(void *)((char *)out - offsetof(struct downstream, out));

	if (down->state == DOWN_CLOSED)
		return;
	if (status) {
		down_close(down, true);
		return;
	}
	if (down->wait.line == &down->router->stalls)
		wait_stop(&down->wait);
	if (down->state == DOWN_CLOSING)
		down_leave(down);
	else if (down->request)
		attempt_drained(down->request);
	else if (down->state == DOWN_HEAD)
		down_sent(down);
}

void down_on_stalled(struct waiter *wait)
{
	struct downstream *down = down_of_wait(wait);

	if (down_unsent(down) < down->unsent_before) {
		stall_watch(down);
		return;
	}
	tally_refuse(&down->router->tally, TALLY_STALLED);
	down_close(down, true);
}

/* ---- requests ---- */

static int on_head(void *arg, const struct http1_head *head)
{
	struct downstream *down = arg;

	wait_stop(&down->wait);
	down->served = true;
	down->state = DOWN_REQUEST;
	down->keep_alive = head->keep_alive;
	return request_begin(down, head);
}

static int on_body(void *arg, const char *data, size_t len)
{
	struct downstream *down = arg;

	return request_body(down->request, data, len);
}

static int on_complete(void *arg)
{
	(void)arg;
	return HTTP1_PAUSE;
}

static const struct http1_events parser_events = {on_head, on_body, on_complete};

/* The request is no HTTP: there is no request to answer, so the answer is made here. */
static void down_bad(struct downstream *down)
{
	int status = http1_error_status(down->parser);
	struct buf out = {0}, body = {0};
	uv_buf_t piece;

	if (down->request) { /* its body is malformed */
		down->linger = true;
		request_refuse(down->request, REFUSAL_BAD_REQUEST,
			       "the request is not valid HTTP: %s", http1_error(down->parser));
		return;
	}
	tally_refuse(&down->router->tally, TALLY_BAD_HTTP);
	dialect_error(&body, DIALECT_OPENAI, REFUSAL_BAD_REQUEST, http1_error(down->parser));
	buf_printf(&out,
		   "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
		   "Connection: close\r\n\r\n",
		   status, http1_reason(status), body.len);
	buf_add(&out, body.data, body.len);
	buf_fini(&body);
	if (buf_failed(&out)) {
		down_close(down, true);
	} else {
		down->linger = true;
		piece = uv_buf_init(out.data, (unsigned)out.len);
		if (down_write(down, &piece, 1))
			down_close_after(down, false);
	}
	buf_fini(&out);
}

/* Feeds the parser; what it does not take is kept for later. */
static void down_feed(struct downstream *down, const char *data, size_t len)
{
	size_t taken;
	int result;

	if (down->state == DOWN_HEAD && down->wait.line != &down->router->heads)
		wait_start(&down->wait, &down->router->heads, uv_now(down->router->loop));
	down->feeding = true;
	result = http1_feed(down->parser, data, len);
	down->feeding = false;
	if (down->state == DOWN_CLOSED)
		return;
	if (result == -EAGAIN) { /* a request is complete */
		taken = http1_consumed(down->parser);
		buf_add(&down->pending, data + taken, len - taken);
		if (down->request)
			request_received(down->request);
	} else if (result && result != -ECANCELED) {
		down_bad(down);
	}
}

static void down_more(struct downstream *down, const char *data, size_t len)
{
	struct request *request = down->request;

	if (request && request->state == REQUEST_TUNNEL) {
		if (!upstream_write(request->up, data, len)) {
			request->down_paused = true;
			down_pause(down, true);
		}
		return;
	}
	if (request && request->body_complete) {
		buf_add(&down->pending, data, len);
		if (down->pending.len >= ROUTER_PENDING_MAX)
			down_pause(down, true);
		return;
	}
	down_feed(down, data, len);
	down_run(down);
}

/* So much waits for it that it has to read first: many small questions may have large answers. */
static bool is_crowded(const struct downstream *down)
{
	return down->out.unsent > ROUTER_UNSENT_MAX;
}

/* Reading may have stopped at ROUTER_PENDING_MAX. */
static bool wants_more(const struct downstream *down)
{
	const struct request *request = down->request;

	if (!request)
		return down->state == DOWN_HEAD && !is_crowded(down);
	return !request->down_paused &&
	       (!request->body_complete || down->pending.len < ROUTER_PENDING_MAX);
}

/* Requests that came behind the one that has been answered: one by one, however many they are. */
static void down_run(struct downstream *down)
{
	if (down->running)
		return;
	down->running = true;
	while (down->state == DOWN_HEAD && down->pending.len && !down->feeding &&
	       !is_crowded(down)) {
		struct buf pending = down->pending;

		memset(&down->pending, 0, sizeof(down->pending));
		down_feed(down, pending.data, pending.len);
		buf_fini(&pending);
	}
	down->running = false;
	if (down->state == DOWN_HEAD && down->eof)
		down_close(down, false);
	else if (wants_more(down))
		down_pause(down, false);
	else if (down->state == DOWN_HEAD)
		down_pause(down, true);
}

void down_answered(struct downstream *down, bool keep)
{
	struct router *router = down->router;

	down->request = NULL;
	if (down->state != DOWN_REQUEST)
		return;
	if (!keep || !down->keep_alive || router->stopping) {
		down_close_after(down, false);
		return;
	}
	down->state = DOWN_HEAD;
	if (!down->feeding)
		http1_trim(down->parser);
	if (!down->out.unsent)
		down_idle(down);
	if (!down->feeding)
		down_run(down);
}

/* ---- reading ---- */

/*
 * The client has closed, or has only ended its sending: which of the two cannot be seen (RFC 9293
 * §3.6), so while it waits for an answer it counts as gone, as for nginx and Go's net/http. What
 * it is owed already is still written.
 */
static void down_eof(struct downstream *down)
{
	struct request *request = down->request;

	down->eof = true;
	if (down->state == DOWN_CLOSING &&
	    down->out.unsent) /* perhaps of a tunnel, its node gone */
		uv_read_stop((uv_stream_t *)&down->tcp);
	else if (request && request->state == REQUEST_TUNNEL)
		upstream_shutdown(request->up);
	else if (down->state == DOWN_HEAD && down->out.unsent)
		down_close_after(down, false);
	else
		down_close(down, false);
}

static void down_discard(struct downstream *down, size_t len)
{
	down->discarded += len;
	if (down->discarded > ROUTER_LINGER_MAX)
		down_close(down, false);
}

/* A body goes to its place at once, where that is known: see take_body(). */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
	const struct downstream *down = handle->data;
	size_t len;
	char *place = down->request ? request_room(down->request, &len) : NULL;

	(void)suggested;
	if (place)
		*room = uv_buf_init(place, (unsigned)len);
	else /* little, where a body may begin: the rest of it need not be copied */
		*room = uv_buf_init(down->router->scratch,
				    down->state == DOWN_HEAD ? ROUTER_FIRST_READ : ROUTER_SCRATCH);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *data)
{
	struct downstream *down = stream->data;

	if (!len || down->state == DOWN_CLOSED)
		return;
	if (len == UV_EOF && !stream_was_reset(stream))
		down_eof(down);
	else if (len < 0)
		down_close(down, true);
	else if (down->state == DOWN_LINGER || down->state == DOWN_CLOSING)
		down_discard(down, (size_t)len);
	else
		down_more(down, data->base, (size_t)len);
}

void down_pause(struct downstream *down, bool pause)
{
	if (down->state == DOWN_CLOSED || down->reading == !pause)
		return;
	down->reading = !pause;
	if (pause)
		uv_read_stop((uv_stream_t *)&down->tcp);
	else
		uv_read_start((uv_stream_t *)&down->tcp, on_alloc, on_read);
}

/* ---- deadlines ---- */

void down_on_head_late(struct waiter *wait)
{
	struct downstream *down = down_of_wait(wait);
	static char late[] = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n"
			     "Connection: close\r\n\r\n";
	uv_buf_t piece = uv_buf_init(late, sizeof(late) - 1);

	tally_refuse(&down->router->tally, TALLY_SLOW_HEAD);
	if (http1_idle(down->parser)) {
		down_close(down, false);
		return;
	}
	down->linger = true;
	if (down_write(down, &piece, 1))
		down_close_after(down, false);
}

void down_on_idle_late(struct waiter *wait)
{
	down_close(down_of_wait(wait), false);
}

void down_on_linger_late(struct waiter *wait)
{
	down_close(down_of_wait(wait), false);
}

/* ---- the beginning ---- */

/* Above the limit the client that has been idle for longest makes room. */
static void make_room(struct router *router)
{
	struct waiter *idle = TAILQ_FIRST(&router->idle.list);

	if (router->n_downs < router->max_clients)
		return;
	if (idle) {
		tally_refuse(&router->tally, TALLY_EVICTED);
		down_close(down_of_wait(idle), false);
	} else if (router->listener) {
		router->paused = true;
		listener_pause(router->listener);
	}
}

static void find_peer(struct downstream *down, int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);

	if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0)
		addr_from_sockaddr(&down->peer, NULL, (const struct sockaddr *)&peer);
}

void down_accept(struct router *router, uint16_t port, int fd)
{
	struct downstream *down = calloc(1, sizeof(*down));
	const struct catalog_settings *settings = router_settings(router);

	if (down)
		down->parser = http1_new(false, &parser_events, down);
	if (!down || !down->parser) {
		free(down);
		close(fd);
		return;
	}
	down->router = router;
	down->port = port;
	down->tcp.data = down;
	down->out.stream = (uv_stream_t *)&down->tcp;
	down->out.on_done = on_out_done;
	find_peer(down, fd);
	uv_tcp_init(router->loop, &down->tcp); /* without a socket it cannot fail */
	TAILQ_INSERT_TAIL(&router->downs, down, all);
	router->n_downs++;
	if (settings)
		http1_limit(down->parser, settings->head_max, settings->fields_max);
	if (uv_tcp_open(&down->tcp, fd) < 0) {
		close(fd);
		down_close(down, false);
		return;
	}
	uv_tcp_nodelay(&down->tcp, 1);
	uv_tcp_keepalive(&down->tcp, 1, DOWN_KEEPALIVE_S);
	wait_start(&down->wait, &router->heads, uv_now(router->loop));
	down_pause(down, false);
	make_room(router);
}
