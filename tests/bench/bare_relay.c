// SPDX-License-Identifier: MIT
/*
 * bare_relay PORT NODE_PORT: the least that a proxy can do, as the lower bound in the bench. One
 * thread, bytes in, bytes out; knows nothing of HTTP. The end of one side ends both.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench_io.h"

#define EVENTS	 256
#define BUF_SIZE 65536

struct pair;

struct side {
	struct pair *pair;
	int fd;
	char *rest; /* read from the other side, not yet written to this one; NULL mostly */
	size_t rest_len, rest_at;
};

struct pair {
	struct side client, node;
	struct pair *next_dead;
};

struct relay {
	int ep, listener;
	uint16_t node_port;
	struct pair *dead; /* freed when no event of this turn can name them */
	char buf[BUF_SIZE];
};

static struct side *other(struct side *side)
{
	return side == &side->pair->client ? &side->pair->node : &side->pair->client;
}

static void pair_open(struct relay *relay)
{
	int fd;

	while ((fd = accept_from(relay->listener)) != -1) {
		struct pair *pair = calloc(1, sizeof(*pair));

		if (!pair)
			die("calloc");
		pair->client = (struct side){.pair = pair, .fd = fd};
		pair->node = (struct side){.pair = pair, .fd = connect_to(relay->node_port)};
		watch(relay->ep, pair->client.fd, EPOLLIN, &pair->client);
		watch(relay->ep, pair->node.fd, EPOLLIN, &pair->node);
	}
}

static void pair_close(struct relay *relay, struct pair *pair)
{
	if (pair->client.fd == -1)
		return;
	close(pair->client.fd);
	close(pair->node.fd);
	pair->client.fd = pair->node.fd = -1;
	free(pair->client.rest);
	free(pair->node.rest);
	pair->next_dead = relay->dead;
	relay->dead = pair;
}

static void bury(struct relay *relay)
{
	while (relay->dead) {
		struct pair *pair = relay->dead;

		relay->dead = pair->next_dead;
		free(pair);
	}
}

/* What the other side said before we could write it waits here, and the other is not read on. */
static void keep_rest(struct relay *relay, struct side *to, const char *data, size_t len)
{
	to->rest = malloc(len);
	if (!to->rest)
		die("malloc");
	memcpy(to->rest, data, len);
	to->rest_len = len;
	to->rest_at = 0;
	rewatch(relay->ep, to->fd, EPOLLIN | EPOLLOUT, to);
	rewatch(relay->ep, other(to)->fd, 0, other(to));
}

static void side_read(struct relay *relay, struct side *from)
{
	struct side *to = other(from);
	ssize_t got = recv(from->fd, relay->buf, sizeof(relay->buf), 0), sent;

	if (got == -1 && errno == EAGAIN)
		return;
	if (got <= 0) {
		pair_close(relay, from->pair);
		return;
	}
	sent = send(to->fd, relay->buf, (size_t)got, MSG_NOSIGNAL);
	if (sent == -1 && errno != EAGAIN && errno != ENOTCONN) {
		pair_close(relay, from->pair);
		return;
	}
	if (sent < 0)
		sent = 0;
	if (sent < got)
		keep_rest(relay, to, relay->buf + sent, (size_t)(got - sent));
}

static void side_write(struct relay *relay, struct side *to)
{
	ssize_t sent =
		send(to->fd, to->rest + to->rest_at, to->rest_len - to->rest_at, MSG_NOSIGNAL);

	if (sent == -1 && errno == EAGAIN)
		return;
	if (sent == -1) {
		pair_close(relay, to->pair);
		return;
	}
	to->rest_at += (size_t)sent;
	if (to->rest_at < to->rest_len)
		return;
	free(to->rest);
	to->rest = NULL;
	rewatch(relay->ep, to->fd, EPOLLIN, to);
	rewatch(relay->ep, other(to)->fd, EPOLLIN, other(to));
}

static void on_event(struct relay *relay, const struct epoll_event *event)
{
	struct side *side = event->data.ptr;

	if (!side) {
		pair_open(relay);
		return;
	}
	if (side->fd != -1 && side->rest && (event->events & (EPOLLOUT | EPOLLERR)))
		side_write(relay, side);
	if (side->fd == -1)
		return;
	if (other(side)->rest) { /* not read on, but an end is an end */
		if (event->events & (EPOLLERR | EPOLLHUP))
			pair_close(relay, side->pair);
	} else if (event->events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
		side_read(relay, side);
	}
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	struct relay *relay;

	if (argc != 3)
		fail("usage: bare_relay PORT NODE_PORT");
	relay = calloc(1, sizeof(*relay));
	if (!relay)
		die("calloc");
	raise_descriptors();
	relay->node_port = (uint16_t)number(argv[2], "node port");
	relay->listener = listen_on((uint16_t)number(argv[1], "port"));
	relay->ep = epoll_create1(EPOLL_CLOEXEC);
	if (relay->ep == -1)
		die("epoll_create1");
	watch(relay->ep, relay->listener, EPOLLIN, NULL);
	for (;;) {
		int count = epoll_wait(relay->ep, events, EVENTS, -1);

		if (count == -1 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < count; i++)
			on_event(relay, &events[i]);
		bury(relay);
	}
}
