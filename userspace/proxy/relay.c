/* SPDX-License-Identifier: MIT */
#include "proxy/relay.h"

#include <sys/socket.h>
#include <unistd.h>

#include "net/stream.h"

/* A peer that vanished without a word is noticed after this silence and a few probes. */
#define RELAY_KEEPALIVE_S 15

static struct relay_side *relay_peer(struct relay_side *side)
{
	struct relay *relay = side->relay;

	return side == &relay->client ? &relay->node : &relay->client;
}

static bool relay_from_node(const struct relay_side *side)
{
	return side == &side->relay->node;
}

static void relay_on_closed(uv_handle_t *handle)
{
	struct relay_side *side = handle->data;
	struct relay *relay = side->relay;

	relay->handles--;
	if (relay->state == RELAY_FAILED) {
		relay->state = RELAY_WAITING;
		relay->events->on_connected(relay, relay->failure);
		return;
	}
	if (relay->handles)
		return;
	buf_fini(&relay->client.pending);
	buf_fini(&relay->node.pending);
	relay->events->on_closed(relay);
}

/* With `reset` the peer gets a RST, also after uv_shutdown(), which uv_tcp_close_reset() refuses.
 */
static void relay_close_side(struct relay_side *side, bool reset)
{
	struct linger none = {.l_onoff = 1, .l_linger = 0};
	uv_os_fd_t fd;

	if (!side->handle)
		return;
	side->handle = false;
	if (reset && uv_tcp_close_reset(&side->tcp, relay_on_closed) == 0)
		return;
	if (reset && uv_fileno((uv_handle_t *)&side->tcp, &fd) == 0)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	uv_close((uv_handle_t *)&side->tcp, relay_on_closed);
}

static void relay_end(struct relay *relay, enum relay_how how)
{
	bool reset = how != RELAY_COMPLETE;

	if (relay->state == RELAY_CLOSED)
		return;
	relay->state = RELAY_CLOSED;
	relay_close_side(&relay->client, reset);
	relay_close_side(&relay->node, reset);
	relay->events->on_end(relay, how);
}

static void relay_broke(struct relay_side *side)
{
	relay_end(side->relay, relay_from_node(side) ? RELAY_NODE_BROKE : RELAY_CLIENT_BROKE);
}

static void relay_on_shutdown(uv_shutdown_t *request, int status)
{
	struct relay_side *side = request->data;
	struct relay *relay = side->relay;

	if (relay->state != RELAY_OPEN)
		return;
	if (status < 0) {
		relay_broke(relay_peer(side));
		return;
	}
	side->finished = true;
	if (relay_peer(side)->finished)
		relay_end(relay, RELAY_COMPLETE);
}

/* The side has sent its last byte and all are passed on: so is its end. */
static void relay_finish(struct relay_side *side)
{
	side->shutdown.data = side;
	if (uv_shutdown(&side->shutdown, (uv_stream_t *)&relay_peer(side)->tcp, relay_on_shutdown) <
	    0)
		relay_broke(relay_peer(side));
}

static int relay_read(struct relay_side *side);

static void relay_on_written(uv_write_t *request, int status)
{
	struct relay_side *side = request->data;
	struct relay *relay = side->relay;

	side->writing = false;
	buf_fini(&side->pending);
	if (relay->state != RELAY_OPEN)
		return;
	if (status < 0)
		relay_broke(relay_peer(side));
	else if (side->eof)
		relay_finish(side);
	else if (relay_read(side) < 0)
		relay_broke(side);
}

/* Hands what is pending to the other side's write queue; nothing is read here until it is through.
 */
static void relay_queue(struct relay_side *side)
{
	struct relay_side *peer = relay_peer(side);
	uv_buf_t piece;

	if (buf_failed(&side->pending)) {
		relay_end(side->relay, RELAY_DROPPED);
		return;
	}
	piece = uv_buf_init(side->pending.data, (unsigned)side->pending.len);
	uv_read_stop((uv_stream_t *)&side->tcp);
	side->writing = true;
	side->write.data = side;
	if (uv_write(&side->write, (uv_stream_t *)&peer->tcp, &piece, 1, relay_on_written) < 0) {
		side->writing = false;
		relay_broke(peer);
	}
}

static void relay_pass(struct relay_side *side, char *data, size_t len)
{
	struct relay_side *peer = relay_peer(side);
	uv_buf_t piece = uv_buf_init(data, (unsigned)len);
	int done = uv_try_write((uv_stream_t *)&peer->tcp, &piece, 1);

	if (done < 0 && done != UV_EAGAIN) {
		relay_broke(peer);
		return;
	}
	if (done < 0)
		done = 0;
	if ((size_t)done == len)
		return;
	buf_add(&side->pending, data + done, len - (size_t)done);
	relay_queue(side);
}

/* Before there is a node, the client's bytes are kept; after RELAY_PENDING_MAX of them it has to
 * wait. */
static void relay_keep(struct relay_side *side, const char *data, size_t len)
{
	buf_add(&side->pending, data, len);
	if (buf_failed(&side->pending)) {
		relay_end(side->relay, RELAY_DROPPED);
		return;
	}
	if (side->pending.len >= RELAY_PENDING_MAX)
		uv_read_stop((uv_stream_t *)&side->tcp);
}

static void relay_on_eof(struct relay_side *side)
{
	struct relay *relay = side->relay;

	side->eof = true;
	uv_read_stop((uv_stream_t *)&side->tcp);
	relay->events->on_seen(relay, relay_from_node(side) ? RELAY_NODE_EOF : RELAY_CLIENT_EOF);
	if (relay->state == RELAY_OPEN)
		relay_finish(side);
}

static void relay_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
	struct relay_side *side = handle->data;

	(void)suggested;
	*room = uv_buf_init(side->relay->scratch,
			    (unsigned)(RELAY_PENDING_MAX - side->pending.len));
}

static void relay_on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *data)
{
	struct relay_side *side = stream->data;
	struct relay *relay = side->relay;

	if (len == 0 || relay->state == RELAY_CLOSED)
		return;
	if (len == UV_EOF && !stream_was_reset(stream)) {
		relay_on_eof(side);
		return;
	}
	if (len < 0) {
		relay_broke(side);
		return;
	}
	relay->events->on_seen(relay, relay_from_node(side) ? RELAY_NODE_DATA : RELAY_CLIENT_DATA);
	if (relay->state == RELAY_OPEN)
		relay_pass(side, data->base, (size_t)len);
	else if (relay->state != RELAY_CLOSED)
		relay_keep(side, data->base, (size_t)len);
}

static int relay_read(struct relay_side *side)
{
	return uv_read_start((uv_stream_t *)&side->tcp, relay_alloc, relay_on_read);
}

/* What the client sent meanwhile goes first. */
static void relay_open(struct relay *relay)
{
	relay->state = RELAY_OPEN;
	uv_tcp_nodelay(&relay->node.tcp, 1);
	uv_tcp_keepalive(&relay->node.tcp, 1, RELAY_KEEPALIVE_S);
	relay->events->on_connected(relay, 0);
	if (relay->state != RELAY_OPEN)
		return;
	if (relay_read(&relay->node) < 0) {
		relay_broke(&relay->node);
		return;
	}
	if (relay->client.pending.len)
		relay_queue(&relay->client);
	else if (relay->client.eof)
		relay_finish(&relay->client);
}

static void relay_fail(struct relay *relay, int status)
{
	relay->state = RELAY_FAILED;
	relay->failure = status;
	relay_close_side(&relay->node, false);
}

static void relay_on_connect(uv_connect_t *request, int status)
{
	struct relay *relay = request->data;

	if (relay->state != RELAY_CONNECTING)
		return; /* given up, or closed */
	if (status < 0)
		relay_fail(relay, status);
	else
		relay_open(relay);
}

void relay_connect(struct relay *relay, const struct addr *addr, uint16_t port)
{
	struct relay_side *node = &relay->node;
	struct sockaddr_storage to;
	int error;

	addr_to_sockaddr(addr, port, &to);
	uv_tcp_init(relay->client.tcp.loop, &node->tcp);
	node->tcp.data = node;
	node->handle = true;
	relay->handles++;
	relay->state = RELAY_CONNECTING;
	relay->connect.data = relay;
	error = uv_tcp_connect(&relay->connect, &node->tcp, (const struct sockaddr *)&to,
			       relay_on_connect);
	if (error < 0)
		relay_fail(relay, error);
}

void relay_give_up(struct relay *relay, int status)
{
	relay_fail(relay, status);
}

void relay_reset(struct relay *relay)
{
	relay_end(relay, RELAY_DROPPED);
}

int relay_start(struct relay *relay, uv_loop_t *loop, int fd, char *scratch,
		const struct relay_events *events)
{
	struct relay_side *client = &relay->client;
	int error;

	relay->events = events;
	relay->scratch = scratch;
	relay->client.relay = relay;
	relay->node.relay = relay;
	uv_tcp_init(loop, &client->tcp); /* without a socket it cannot fail */
	client->tcp.data = client;
	client->handle = true;
	relay->handles = 1;
	error = uv_tcp_open(&client->tcp, fd);
	if (error < 0) {
		close(fd);
		goto failed;
	}
	uv_tcp_nodelay(&client->tcp, 1);
	uv_tcp_keepalive(&client->tcp, 1, RELAY_KEEPALIVE_S);
	error = relay_read(client);
	if (error == 0)
		return 0;
failed:
	relay->state = RELAY_CLOSED;
	relay_close_side(client, true);
	return error;
}
