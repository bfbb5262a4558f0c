/* SPDX-License-Identifier: MIT */
#include "net/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "net/server_impl.h"

#define MAX_PEERS_DEFAULT    1024
#define HEAD_TIMEOUT_DEFAULT 10000
#define IDLE_TIMEOUT_DEFAULT 60000
#define LINGER_MS	     1000	 /* for the peer to read a last answer and to close */
#define LINGER_BYTES	     (16u << 20) /* and what it may go on sending meanwhile */
#define PENDING_MAX	     65536	 /* received ahead of its turn; more waits in the kernel */
#define KEEPALIVE_S	     60

struct server_door {
	struct server_door *next;
	struct server *server;
	struct listener *listener;
	bool tcp;
};

struct write {
	uv_write_t request;
	struct peer *peer;
	char data[];
};

static void peer_fail(struct peer *peer);
static void on_eof(struct peer *peer);
static void on_timer(uv_timer_t *timer);
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

/* Peers wait in the backlog while all places are taken and none of the takers is idle. */
static void update_doors(struct server *server)
{
	bool full = server->n_peers >= server->options.max_peers && !server->n_idle;

	if (full == server->paused || server->closing)
		return;
	server->paused = full;
	for (struct server_door *door = server->doors; door; door = door->next) {
		if (full)
			listener_pause(door->listener);
		else
			listener_resume(door->listener);
	}
}

static void list_add(struct server *server, struct peer *peer)
{
	peer->next = NULL;
	peer->prev = server->last_peer;
	*(peer->prev ? &peer->prev->next : &server->peers) = peer;
	server->last_peer = peer;
}

static void list_remove(struct server *server, struct peer *peer)
{
	*(peer->prev ? &peer->prev->next : &server->peers) = peer->next;
	*(peer->next ? &peer->next->prev : &server->last_peer) = peer->prev;
}

static void set_state(struct peer *peer, enum peer_state state)
{
	struct server *server = peer->server;

	if (state == PEER_IDLE && peer->state != PEER_IDLE) {
		list_remove(server, peer);
		list_add(server, peer);
		server->n_idle++;
	} else if (state != PEER_IDLE && peer->state == PEER_IDLE) {
		server->n_idle--;
	}
	peer->state = state;
	update_doors(server);
}

/* Bytes that the kernel has taken for this peer. */
static uint64_t sent(const struct peer *peer)
{
	return peer->queued - uv_stream_get_write_queue_size(&peer->socket.stream);
}

static void set_timer(struct peer *peer, uint64_t ms)
{
	peer->sent_before = sent(peer);
	uv_timer_start(&peer->timer, on_timer, peer->broken ? 0 : ms, 0);
}

static void set_broken(struct peer *peer)
{
	peer->broken = true;
	set_timer(peer, 0);
}

static void on_closed(uv_handle_t *handle)
{
	struct peer *peer = handle->data;
	struct server *server = peer->server;

	if (--peer->open_handles)
		return;
	http1_free(peer->parser);
	buf_fini(&peer->pending);
	free(peer);
	server->n_unfreed--;
	if (server->closing && !server->n_unfreed)
		free(server);
}

void peer_close(struct peer *peer, bool reset)
{
	struct server *server = peer->server;

	if (peer->state == PEER_CLOSED)
		return;
	list_remove(server, peer);
	server->n_peers--;
	set_state(peer, PEER_CLOSED);
	uv_close((uv_handle_t *)&peer->timer, on_closed);
	if (!reset || peer->socket.handle.type != UV_TCP ||
	    uv_tcp_close_reset(&peer->socket.tcp, on_closed) < 0)
		uv_close(&peer->socket.handle, on_closed);
}

/* The peer is of no more use: closes it, and tells the owner of an exchange that is under way. */
static void peer_fail(struct peer *peer)
{
	struct exchange *exchange = peer->exchange;
	const struct server_options *options = &peer->server->options;
	bool told = (peer->state == PEER_ANSWERING || peer->state == PEER_UPGRADING) &&
		    options->on_abandoned;

	peer->exchange = NULL;
	peer_close(peer, false);
	if (exchange && told)
		options->on_abandoned(options->arg, exchange);
	exchange_free(exchange);
}

static void on_written(uv_write_t *request, int status)
{
	struct peer *peer = ((struct write *)request)->peer;

	free(request);
	if (status < 0 && peer->state != PEER_CLOSED)
		peer_fail(peer);
}

/* Queues what the kernel did not take at once: `skip` bytes of it are written already. */
static void queue_rest(struct peer *peer, const uv_buf_t *bufs, unsigned n, size_t skip)
{
	struct write *write;
	size_t total = 0, at = 0;
	uv_buf_t out;

	for (unsigned i = 0; i < n; i++)
		total += bufs[i].len;
	write = malloc(sizeof(*write) + total - skip);
	if (!write) {
		set_broken(peer);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		size_t gone = skip < bufs[i].len ? skip : bufs[i].len;

		if (bufs[i].len > gone)
			memcpy(write->data + at, bufs[i].base + gone, bufs[i].len - gone);
		at += bufs[i].len - gone;
		skip -= gone;
	}
	write->peer = peer;
	out = (uv_buf_t){.base = write->data, .len = at};
	if (uv_write(&write->request, &peer->socket.stream, &out, 1, on_written) < 0) {
		free(write);
		set_broken(peer);
	}
}

void peer_write(struct peer *peer, uv_buf_t *bufs, unsigned n)
{
	size_t total = 0;
	int written;

	if (peer->broken || peer->state == PEER_CLOSED)
		return;
	for (unsigned i = 0; i < n; i++)
		total += bufs[i].len;
	peer->queued += total;
	written = uv_try_write(&peer->socket.stream, bufs, n);
	if (written < 0 && written != UV_EAGAIN)
		set_broken(peer);
	else if (written < 0 || (size_t)written < total)
		queue_rest(peer, bufs, n, written < 0 ? 0 : (size_t)written);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
	struct peer *peer = request->handle->data;

	if (peer->state == PEER_CLOSED)
		return;
	peer->flushed = true;
	if (status < 0 || peer->eof)
		peer_fail(peer);
	else
		set_timer(peer, LINGER_MS);
}

/* Sends what is queued, then the end; closes when the peer has closed, so that it can read the last
 * answer. */
static void leave(struct peer *peer)
{
	set_state(peer, PEER_LEAVING);
	set_timer(peer, peer->server->options.head_timeout_ms);
	if (!peer->eof)
		uv_read_start(&peer->socket.stream, on_alloc, on_read);
	if (uv_shutdown(&peer->shutdown, &peer->socket.stream, on_shutdown) < 0)
		set_broken(peer);
}

void peer_answered(struct peer *peer, bool keep_alive)
{
	if (peer->state == PEER_CLOSED)
		return;
	if (!keep_alive || (peer->eof && !peer->pending.len && !peer->running)) {
		leave(peer);
		return;
	}
	set_state(peer, PEER_IDLE);
	/* What has already arrived is seen to by the loop, not from within the owner's call. */
	set_timer(peer,
		  peer->pending.len && !peer->running ? 0 : peer->server->options.idle_timeout_ms);
}

/* Answers a request that is not handed over, and leaves. */
static void refuse(struct peer *peer, int status)
{
	struct buf out = {0}, body = {0};
	uv_buf_t buf;

	exchange_free(peer->exchange);
	peer->exchange = NULL;
	buf_printf(&body, "{\"error\":\"%s\"}\n", http1_reason(status));
	exchange_head_lines(&out, status, "application/json");
	buf_printf(&out, "Content-Length: %zu\r\nConnection: close\r\n\r\n%s", body.len,
		   body.data ? body.data : "");
	buf = (uv_buf_t){.base = out.data, .len = out.len};
	if (!buf_failed(&out) && !buf_failed(&body))
		peer_write(peer, &buf, 1);
	buf_fini(&out);
	buf_fini(&body);
	leave(peer);
}

static int on_head(void *arg, const struct http1_head *head)
{
	struct peer *peer = arg;
	const char *expect = http1_field(head, "expect");
	char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	uv_buf_t buf = {.base = go_on, .len = sizeof(go_on) - 1};
	int64_t length = head->content_length;

	peer->exchange = exchange_new(peer, head);
	if (!peer->exchange)
		peer->refusal = 503;
	else if (length > 0 && (uint64_t)length > peer->server->options.max_body)
		peer->refusal = 413;
	else if (expect && !head->http10 && strcasecmp(expect, "100-continue") != 0)
		peer->refusal = 417;
	else if (expect && !head->http10 && (length > 0 || head->chunked))
		peer_write(peer, &buf, 1);
	return peer->refusal;
}

static int on_body(void *arg, const char *data, size_t len)
{
	struct peer *peer = arg;
	struct buf *body = &peer->exchange->body;

	if (len > peer->server->options.max_body - body->len)
		peer->refusal = 413;
	else
		buf_add(body, data, len);
	if (buf_failed(body))
		peer->refusal = 503;
	return peer->refusal;
}

static int on_complete(void *arg)
{
	(void)arg;
	return HTTP1_PAUSE;
}

static const struct http1_events events = {
	.on_head = on_head, .on_body = on_body, .on_complete = on_complete};

/* The request is whole: hands it over. */
static void dispatch(struct peer *peer)
{
	const struct server_options *options = &peer->server->options;
	int error = exchange_decode(peer->exchange);

	if (error) {
		refuse(peer, error == -ENOMEM ? 503 : 400);
		return;
	}
	set_state(peer, PEER_ANSWERING);
	set_timer(peer, options->head_timeout_ms);
	options->on_request(options->arg, peer->exchange);
}

/* Keeps what came ahead of its turn. */
static void keep_pending(struct peer *peer, const char *data, size_t len)
{
	buf_add(&peer->pending, data, len);
	if (buf_failed(&peer->pending))
		set_broken(peer);
	else if (peer->pending.len >= PENDING_MAX)
		uv_read_stop(&peer->socket.stream);
}

static void peer_feed(struct peer *peer, const char *data, size_t len, size_t *used)
{
	int result;

	if (peer->state == PEER_IDLE)
		set_timer(peer, peer->server->options.head_timeout_ms);
	set_state(peer, PEER_RECEIVING);
	result = http1_feed(peer->parser, data, len);
	*used = http1_consumed(peer->parser);
	if (result == -EAGAIN)
		dispatch(peer);
	else if (result == -ECANCELED)
		refuse(peer, peer->refusal);
	else if (result)
		refuse(peer, http1_error_status(peer->parser));
}

static void peer_run(struct peer *peer, const char *data, size_t len)
{
	peer->running = true;
	while (len && !peer->broken && peer->state != PEER_CLOSED) {
		size_t used = len;

		if (peer->state == PEER_ANSWERING || peer->state == PEER_UPGRADING)
			keep_pending(peer, data, len);
		else if (peer->state == PEER_LEAVING)
			peer->discarded += len;
		else
			peer_feed(peer, data, len, &used);
		data += used;
		len -= used;
	}
	peer->running = false;
	if (peer->state == PEER_LEAVING && peer->discarded > LINGER_BYTES)
		peer_close(peer, false);
	else if (peer->eof && peer->state != PEER_CLOSED)
		on_eof(peer);
}

static void run_pending(struct peer *peer)
{
	struct buf pending = peer->pending;

	peer->pending = (struct buf){0};
	if (!peer->eof)
		uv_read_start(&peer->socket.stream, on_alloc, on_read);
	peer_run(peer, pending.data, pending.len);
	buf_fini(&pending);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct server *server = ((struct peer *)handle->data)->server;

	(void)suggested;
	*buf = (uv_buf_t){.base = server->read_buffer, .len = sizeof(server->read_buffer)};
}

/*
 * The peer sends no more. While an answer is due that means it has left (as Go's net/http takes it:
 * nothing else would tell in time); what is answered is still sent, for peers that close their side
 * after the request.
 */
static void on_eof(struct peer *peer)
{
	bool waiting = peer->state == PEER_IDLE && peer->pending.len; /* for the timer */

	peer->eof = true;
	uv_read_stop(&peer->socket.stream);
	if (waiting || (peer->state == PEER_LEAVING && !peer->flushed))
		return;
	if (peer->state == PEER_IDLE && uv_stream_get_write_queue_size(&peer->socket.stream))
		leave(peer);
	else
		peer_fail(peer);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct peer *peer = stream->data;

	if (n > 0 && peer->pending.len)
		keep_pending(peer, buf->base, (size_t)n);
	else if (n > 0)
		peer_run(peer, buf->base, (size_t)n);
	else if (n == UV_EOF)
		on_eof(peer);
	else if (n < 0)
		peer_fail(peer);
}

void peer_upgrade(struct peer *peer)
{
	if (peer->state == PEER_CLOSED)
		return;
	set_state(peer, PEER_UPGRADING);
	uv_read_stop(&peer->socket.stream);
	set_timer(peer, 0); /* not from within peer_run(): it may still hold bytes of the peer's */
}

/* A second descriptor of the connection goes to the exchange's owner, ours is closed. */
static void hand_over(struct peer *peer)
{
	struct exchange *exchange = peer->exchange;
	struct buf pending = peer->pending;
	int fd = exchange_fd(exchange);

	fd = fd < 0 || sent(peer) != peer->queued ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0) { /* no descriptor left, or a peer that does not even take the head */
		peer_fail(peer);
		return;
	}
	peer->pending = (struct buf){0};
	peer->exchange = NULL;
	peer_close(peer, false);
	exchange->on_upgraded(exchange->upgraded_arg, fd, pending.data, pending.len);
	buf_fini(&pending);
	exchange_free(exchange);
}

static void on_timer(uv_timer_t *timer)
{
	struct peer *peer = timer->data;
	bool flushing =
		peer->state == PEER_ANSWERING || (peer->state == PEER_LEAVING && !peer->flushed);
	bool stalled = sent(peer) == peer->sent_before && sent(peer) != peer->queued;

	if (peer->broken)
		peer_fail(peer);
	else if (peer->state == PEER_IDLE && peer->pending.len)
		run_pending(peer);
	else if (peer->state == PEER_UPGRADING)
		hand_over(peer);
	else if (peer->state == PEER_RECEIVING)
		refuse(peer, 408);
	else if (flushing && !stalled)
		set_timer(peer, peer->server->options.head_timeout_ms);
	else
		peer_fail(peer);
}

static int open_socket(struct peer *peer, int fd, bool tcp)
{
	uv_loop_t *loop = peer->server->loop;
	int error;

	if (!tcp) {
		error = uv_pipe_init(loop, &peer->socket.pipe, 0);
		return error ? error : uv_pipe_open(&peer->socket.pipe, fd);
	}
	error = uv_tcp_init(loop, &peer->socket.tcp);
	if (!error)
		error = uv_tcp_open(&peer->socket.tcp, fd);
	if (!error) {
		uv_tcp_nodelay(&peer->socket.tcp, 1);
		uv_tcp_keepalive(&peer->socket.tcp, 1, KEEPALIVE_S);
	}
	return error;
}

static struct peer *peer_new(struct server *server)
{
	struct peer *peer = calloc(1, sizeof(*peer));

	if (!peer)
		return NULL;
	peer->parser = http1_new(false, &events, peer);
	if (!peer->parser) {
		free(peer);
		return NULL;
	}
	peer->server = server;
	peer->open_handles = 2;
	return peer;
}

static void evict_idle(struct server *server)
{
	struct peer *peer = server->peers;

	while (peer && peer->state != PEER_IDLE)
		peer = peer->next;
	if (peer)
		peer_close(peer, false);
}

static void on_accept(void *arg, int fd)
{
	const struct server_door *door = arg;
	struct server *server = door->server;
	struct peer *peer = peer_new(server);
	int error;

	if (!peer) {
		close(fd);
		return;
	}
	if (server->n_peers >= server->options.max_peers)
		evict_idle(server);
	error = open_socket(peer, fd, door->tcp);
	if (error)
		close(fd);
	uv_timer_init(server->loop, &peer->timer);
	peer->timer.data = peer;
	peer->socket.handle.data = peer;
	list_add(server, peer);
	server->n_peers++;
	server->n_unfreed++;
	set_state(peer, PEER_FRESH);
	set_timer(peer, server->options.head_timeout_ms);
	if (error || uv_read_start(&peer->socket.stream, on_alloc, on_read) < 0)
		peer_close(peer, false);
}

struct server *server_new(uv_loop_t *loop, const struct server_options *options)
{
	struct server *server = calloc(1, sizeof(*server));

	if (!server)
		return NULL;
	server->loop = loop;
	server->options = *options;
	if (!options->max_peers)
		server->options.max_peers = MAX_PEERS_DEFAULT;
	if (!options->head_timeout_ms)
		server->options.head_timeout_ms = HEAD_TIMEOUT_DEFAULT;
	if (!options->idle_timeout_ms)
		server->options.idle_timeout_ms = IDLE_TIMEOUT_DEFAULT;
	return server;
}

static struct server_door *door_new(struct server *server, bool tcp)
{
	struct server_door *door = calloc(1, sizeof(*door));

	if (!door)
		return NULL;
	door->server = server;
	door->tcp = tcp;
	return door;
}

static int door_open(struct server_door *door, int error)
{
	struct server *server = door->server;

	if (error) {
		free(door);
		return error;
	}
	door->next = server->doors;
	server->doors = door;
	if (server->paused)
		listener_pause(door->listener);
	return 0;
}

int server_listen_tcp(struct server *server, const struct addr *address, uint16_t *port)
{
	struct server_door *door = door_new(server, true);

	if (!door)
		return -ENOMEM;
	return door_open(door, listener_tcp(&door->listener, server->loop, address, port, 0,
					    on_accept, door));
}

int server_listen_unix(struct server *server, const char *path, unsigned mode, int gid)
{
	struct server_door *door = door_new(server, false);

	if (!door)
		return -ENOMEM;
	return door_open(door, listener_unix(&door->listener, server->loop, path, mode, gid,
					     on_accept, door));
}

void server_free(struct server *server)
{
	if (!server)
		return;
	server->n_unfreed++; /* so that it stays until the end of this function */
	server->closing = true;
	while (server->doors) {
		struct server_door *door = server->doors;

		server->doors = door->next;
		listener_free(door->listener);
		free(door);
	}
	while (server->peers)
		peer_fail(server->peers);
	if (!--server->n_unfreed)
		free(server);
}
