/* SPDX-License-Identifier: MIT */
#include "proxy/upstream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/stream.h"
#include "proxy/outbox.h"

#define UPSTREAM_KEEPALIVE_S 15
#define POOL_SLOTS	     128

/*
 * CONNECTING  the attempt runs                              `wait` in pool->connecting
 * BUSY        somebody's: a request and its answer          no wait
 * IDLE        kept                                          in its place's list, `wait` in
 * pool->idle GONE        the handle is closing; nobody is told anything but a `late_end`
 */
enum upstream_state { UPSTREAM_CONNECTING, UPSTREAM_BUSY, UPSTREAM_IDLE, UPSTREAM_GONE };

struct upstream_place { /* an address and port, and what is kept there */
	struct addr addr;
	uint16_t port;
	TAILQ_HEAD(, upstream) idle;
	struct upstream_place *next;
};

struct upstream {
	uv_tcp_t tcp;
	struct upstream_pool *pool;
	struct upstream_place *place;
	TAILQ_ENTRY(upstream) entry; /* IDLE: last used first */
	struct waiter wait;
	struct outbox out;
	struct http1 *parser;
	union {
		uv_connect_t connect;
		uv_shutdown_t shutdown;
	} request;
	void *arg;
	enum upstream_state state;
	enum upstream_end late_end;
	bool tell_late; /* on_end is due when the handle has closed */
	bool reused, keep_alive, interim, complete;
	bool blocked; /* upstream_write() has said so */
	bool shut;    /* upstream_shutdown() is due, or done */
	bool partial; /* more of the request is to come */
};

struct upstream_pool {
	uv_loop_t *loop;
	char *scratch;
	size_t scratch_len;
	const struct upstream_events *events;
	struct upstream_place *places[POOL_SLOTS];
	struct wait_line connecting, idle;
	size_t open;
	size_t head_max, fields_max; /* 0: as http1.h has them */
	bool freeing;
};

static struct upstream *upstream_of_wait(struct waiter *wait)
{
	return (struct upstream *)(void *)((char *)wait - offsetof(struct upstream, wait));
}

static void pool_maybe_gone(struct upstream_pool *pool)
{
	if (!pool->freeing || pool->open)
		return;
	for (size_t i = 0; i < POOL_SLOTS; i++) {
		while (pool->places[i]) {
			struct upstream_place *place = pool->places[i];

			pool->places[i] = place->next;
			free(place);
		}
	}
	free(pool);
}

/* ---- ends ---- */

static void on_closed(uv_handle_t *handle)
{
	struct upstream *up = handle->data;
	struct upstream_pool *pool = up->pool;

	if (up->tell_late)
		pool->events->on_end(up->arg, up->late_end);
	pool->open--;
	free(up);
	pool_maybe_gone(pool);
}

/* The descriptor is closed when this returns. */
static void upstream_close(struct upstream *up, bool reset)
{
	struct linger none = {.l_onoff = 1, .l_linger = 0};
	uv_os_fd_t fd;

	if (up->state == UPSTREAM_GONE)
		return;
	if (up->state == UPSTREAM_IDLE)
		TAILQ_REMOVE(&up->place->idle, up, entry);
	up->state = UPSTREAM_GONE;
	wait_stop(&up->wait);
	outbox_fini(&up->out);
	http1_free(up->parser);
	up->parser = NULL;
	if (reset && uv_fileno((uv_handle_t *)&up->tcp, &fd) == 0)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	uv_close((uv_handle_t *)&up->tcp, on_closed);
}

void upstream_drop(struct upstream *up, bool reset)
{
	up->tell_late = false;
	upstream_close(up, reset);
}

static void upstream_fail(struct upstream *up, enum upstream_end why)
{
	void *arg = up->arg;
	bool idle = up->state == UPSTREAM_IDLE;

	if (up->state == UPSTREAM_GONE)
		return;
	upstream_close(up, false);
	if (!idle)
		up->pool->events->on_end(arg, why);
}

static enum upstream_end end_of(int error)
{
	switch (error) {
	case UV_ECONNREFUSED:
		return UPSTREAM_REFUSED;
	case UV_ECONNRESET:
	case UV_EPIPE:
		return UPSTREAM_RESET;
	case UV_EMFILE:
	case UV_ENFILE:
	case UV_ENOMEM:
	case UV_ENOBUFS:
	case UV_EADDRNOTAVAIL:
	case UV_EACCES:
	case UV_EPERM:
		return UPSTREAM_LOCAL;
	default:
		return UPSTREAM_UNREACHABLE;
	}
}

/* ---- the answer ---- */

static int on_head(void *arg, const struct http1_head *head)
{
	struct upstream *up = arg;

	up->interim = head->status < 200 && head->status != 101;
	if (!up->interim)
		up->keep_alive = head->keep_alive;
	return up->pool->events->on_head(up->arg, head);
}

static int on_body(void *arg, const char *data, size_t len)
{
	struct upstream *up = arg;

	return up->pool->events->on_body(up->arg, data, len);
}

static int on_message(void *arg)
{
	struct upstream *up = arg;

	if (up->interim)
		return 0;
	up->complete = true;
	return HTTP1_PAUSE;
}

static const struct http1_events parser_events = {on_head, on_body, on_message};

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *room);
static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *data);

static void upstream_keep(struct upstream *up)
{
	up->state = UPSTREAM_IDLE;
	up->complete = false;
	up->blocked = false;
	http1_trim(up->parser);
	/* It may be paused: the answer's end can come with the bytes that were too many. */
	uv_read_start((uv_stream_t *)&up->tcp, on_alloc, on_read);
	TAILQ_INSERT_HEAD(&up->place->idle, up, entry);
	wait_start(&up->wait, &up->pool->idle, uv_now(up->pool->loop));
}

/* `clean`: nothing came behind the answer, and the connection lives. */
static void upstream_complete(struct upstream *up, bool clean)
{
	void *arg = up->arg;

	if (clean && up->keep_alive && !up->out.unsent && !up->partial && !up->shut &&
	    !up->pool->freeing)
		upstream_keep(up);
	else
		upstream_close(up, false);
	up->pool->events->on_complete(arg);
}

static void upstream_feed(struct upstream *up, const char *data, size_t len)
{
	int error = http1_feed(up->parser, data, len);

	if (up->state == UPSTREAM_GONE)
		return; /* dropped meanwhile */
	if (up->complete)
		upstream_complete(up, error == -EAGAIN && http1_consumed(up->parser) == len);
	else if (error)
		upstream_fail(up, UPSTREAM_BAD);
	else
		up->pool->events->on_turn(up->arg);
}

static void upstream_eof(struct upstream *up)
{
	int error = up->state == UPSTREAM_BUSY ? http1_eof(up->parser) : 0;

	if (up->state == UPSTREAM_GONE)
		return;
	if (up->complete)
		upstream_complete(up, false);
	else
		upstream_fail(up, error == -EBADMSG ? UPSTREAM_BAD : UPSTREAM_CLOSED);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
	const struct upstream *up = handle->data;

	(void)suggested;
	*room = uv_buf_init(up->pool->scratch, (unsigned)up->pool->scratch_len);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *data)
{
	struct upstream *up = stream->data;

	if (!len || up->state == UPSTREAM_GONE)
		return;
	if (up->state == UPSTREAM_IDLE) /* its end, or bytes that nobody asked for */
		upstream_close(up, false);
	else if (len > 0)
		upstream_feed(up, data->base, (size_t)len);
	else if (len == UV_EOF && !stream_was_reset(stream))
		upstream_eof(up);
	else
		upstream_fail(up, UPSTREAM_RESET);
}

/* ---- sending ---- */

static void on_shutdown(uv_shutdown_t *request, int status)
{
	(void)request;
	(void)status; /* a broken connection shows when it is read */
}

static void shutdown_now(struct upstream *up)
{
	if (uv_shutdown(&up->request.shutdown, (uv_stream_t *)&up->tcp, on_shutdown) < 0)
		upstream_fail(up, UPSTREAM_RESET);
}

static void on_out_done(struct outbox *out, int status)
{
	struct upstream *up =
		(struct upstream *)(void *)((char *)out - offsetof(struct upstream, out));

	if (up->state != UPSTREAM_BUSY)
		return;
	/* Broken for writing: an answer may have come before, so the end is left to the reader. */
	if (status)
		return;
	if (up->shut) {
		shutdown_now(up);
		return;
	}
	up->blocked = false;
	up->pool->events->on_drained(up->arg);
}

void upstream_send(struct upstream *up, const uv_buf_t *parts, unsigned n, bool bodiless)
{
	uv_buf_t left[UPSTREAM_PARTS];

	if (bodiless)
		http1_expect_no_body(up->parser);
	memcpy(left, parts, n * sizeof(*parts));
	outbox_lend(&up->out, left, n); /* a failure shows when it is read */
}

void upstream_partial(struct upstream *up, bool partial)
{
	up->partial = partial;
}

bool upstream_sent(const struct upstream *up)
{
	return !up->out.unsent;
}

bool upstream_write(struct upstream *up, const char *data, size_t len)
{
	/* libuv wants no const */
	uv_buf_t piece = {.len = len};

	memcpy(&piece.base, &data, sizeof(data));
	outbox_write(&up->out, &piece, 1);
	up->blocked = up->out.unsent > UPSTREAM_UNSENT_MAX;
	return !up->blocked;
}

void upstream_shutdown(struct upstream *up)
{
	if (up->shut || up->state != UPSTREAM_BUSY)
		return;
	up->shut = true;
	if (!up->out.unsent)
		shutdown_now(up);
}

void upstream_pause(struct upstream *up, bool pause)
{
	if (up->state != UPSTREAM_BUSY)
		return;
	if (pause)
		uv_read_stop((uv_stream_t *)&up->tcp);
	else
		uv_read_start((uv_stream_t *)&up->tcp, on_alloc, on_read);
}

void upstream_trim(struct upstream *up)
{
	http1_trim(up->parser);
}

bool upstream_ready(const struct upstream *up)
{
	return up->state == UPSTREAM_BUSY;
}

bool upstream_reused(const struct upstream *up)
{
	return up->reused;
}

/* ---- connecting ---- */

static void on_connect(uv_connect_t *request, int status)
{
	struct upstream *up = request->data;

	if (up->state != UPSTREAM_CONNECTING)
		return;
	if (!status)
		status = uv_read_start((uv_stream_t *)&up->tcp, on_alloc, on_read);
	if (status < 0) {
		upstream_fail(up, end_of(status));
		return;
	}
	wait_stop(&up->wait);
	up->state = UPSTREAM_BUSY;
	uv_tcp_nodelay(&up->tcp, 1);
	uv_tcp_keepalive(&up->tcp, 1, UPSTREAM_KEEPALIVE_S);
	up->pool->events->on_connected(up->arg);
}

static struct upstream_place *find_place(struct upstream_pool *pool, const struct addr *addr,
					 uint16_t port)
{
	size_t slot = port;
	struct upstream_place *place;

	for (size_t i = 0; i < sizeof(addr->bytes); i++)
		slot = slot * 31 + addr->bytes[i];
	slot %= POOL_SLOTS;
	for (place = pool->places[slot]; place; place = place->next) {
		if (place->port == port && addr_equal(&place->addr, addr))
			return place;
	}
	place = calloc(1, sizeof(*place));
	if (!place)
		return NULL;
	place->addr = *addr;
	place->port = port;
	TAILQ_INIT(&place->idle);
	place->next = pool->places[slot];
	pool->places[slot] = place;
	return place;
}

static void upstream_connect(struct upstream *up)
{
	struct sockaddr_storage to;
	int error;

	addr_to_sockaddr(&up->place->addr, up->place->port, &to);
	up->request.connect.data = up;
	wait_start(&up->wait, &up->pool->connecting, uv_now(up->pool->loop));
	error = uv_tcp_connect(&up->request.connect, &up->tcp, (const struct sockaddr *)&to,
			       on_connect);
	if (!error)
		return;
	up->tell_late = true;
	up->late_end = end_of(error);
	upstream_close(up, false);
}

static struct upstream *upstream_new(struct upstream_pool *pool, struct upstream_place *place)
{
	struct upstream *up = calloc(1, sizeof(*up));

	if (!up)
		return NULL;
	up->parser = http1_new(true, &parser_events, up);
	if (!up->parser || uv_tcp_init(pool->loop, &up->tcp)) {
		http1_free(up->parser);
		free(up);
		return NULL;
	}
	if (pool->head_max)
		http1_limit(up->parser, pool->head_max, pool->fields_max);
	up->pool = pool;
	up->place = place;
	up->tcp.data = up;
	up->out.stream = (uv_stream_t *)&up->tcp;
	up->out.on_done = on_out_done;
	up->state = UPSTREAM_CONNECTING;
	pool->open++;
	return up;
}

struct upstream *upstream_take(struct upstream_pool *pool, const struct addr *addr, uint16_t port,
			       bool fresh, void *arg)
{
	struct upstream_place *place = find_place(pool, addr, port);
	struct upstream *up = place && !fresh ? TAILQ_FIRST(&place->idle) : NULL;

	if (up) {
		TAILQ_REMOVE(&place->idle, up, entry);
		wait_stop(&up->wait);
		up->state = UPSTREAM_BUSY;
		up->reused = true;
		up->arg = arg;
		return up;
	}
	up = place ? upstream_new(pool, place) : NULL;
	if (!up)
		return NULL;
	up->arg = arg;
	upstream_connect(up);
	return up;
}

/* ---- the pool ---- */

static void on_connect_late(struct waiter *wait)
{
	upstream_fail(upstream_of_wait(wait), UPSTREAM_UNREACHABLE);
}

static void on_idle_late(struct waiter *wait)
{
	upstream_close(upstream_of_wait(wait), false);
}

struct upstream_pool *upstream_pool_new(uv_loop_t *loop, char *scratch, size_t scratch_len,
					const struct upstream_events *events)
{
	struct upstream_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	pool->loop = loop;
	pool->scratch = scratch;
	pool->scratch_len = scratch_len;
	pool->events = events;
	wait_line_init(&pool->connecting, UPSTREAM_CONNECT_MS, on_connect_late);
	wait_line_init(&pool->idle, UPSTREAM_IDLE_MS, on_idle_late);
	return pool;
}

void upstream_pool_tick(struct upstream_pool *pool, uint64_t now_ms)
{
	wait_line_tick(&pool->connecting, now_ms);
	wait_line_tick(&pool->idle, now_ms);
}

void upstream_pool_limit(struct upstream_pool *pool, size_t head_max, size_t fields_max)
{
	pool->head_max = head_max;
	pool->fields_max = fields_max;
}

size_t upstream_pool_open(const struct upstream_pool *pool)
{
	return pool->open;
}

void upstream_pool_flush(struct upstream_pool *pool)
{
	struct waiter *wait;

	while ((wait = TAILQ_FIRST(&pool->idle.list)))
		upstream_close(upstream_of_wait(wait), false);
}

void upstream_pool_free(struct upstream_pool *pool)
{
	if (!pool)
		return;
	pool->freeing = true;
	upstream_pool_flush(pool);
	pool_maybe_gone(pool);
}
