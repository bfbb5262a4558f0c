// SPDX-License-Identifier: MIT
/*
 * Clients that leave, one after the other: how long until the node sees it. The node remembers by
 * the request's number when that was, and is asked over a connection of its own.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench_io.h"
#include "load.h"

#define MISSED_NS  NSEC /* not seen by then: never */
#define MISSED_MAX 10	/* then there is no need to wait for the others */
#define WAIT_NS	   (5 * NSEC)
#define MILLIHERTZ 200000 /* of the streams that are left */
#define TOKENS	   3
#define LOOK_NS	   200000

static void wait_for(int fd, short events)
{
	struct pollfd wait = {.fd = fd, .events = events};

	if (poll(&wait, 1, (int)(WAIT_NS / 1000000)) != 1)
		fail("no answer");
}

static void send_all(int fd, const char *data, size_t len)
{
	wait_for(fd, POLLOUT);
	if (send(fd, data, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("send");
}

struct seen {
	unsigned long long arrived_ns, left_ns;
};

static struct seen ask(int fd, unsigned id)
{
	char text[512], *body;
	struct seen seen;
	int len = snprintf(text, sizeof(text), "GET /seen/%u HTTP/1.1\r\nHost: node\r\n\r\n", id);
	ssize_t got;

	send_all(fd, text, (size_t)len);
	wait_for(fd, POLLIN);
	got = recv(fd, text, sizeof(text) - 1, 0);
	if (got <= 0)
		die("asking the node");
	text[got] = '\0';
	body = strstr(text, "\r\n\r\n");
	if (!body || sscanf(body + 4, "%llu %llu", &seen.arrived_ns, &seen.left_ns) != 2)
		fail("the node does not say what it has seen");
	return seen;
}

static void pause_shortly(void)
{
	struct timespec pause = {.tv_nsec = LOOK_NS};

	nanosleep(&pause, NULL);
}

/* `begun_ns`: what the node remembers from before is of another run. */
static void wait_arrival(int node_fd, unsigned id, uint64_t begun_ns)
{
	uint64_t deadline = begun_ns + WAIT_NS;

	while (ask(node_fd, id).arrived_ns < begun_ns) {
		if (now_ns() > deadline)
			fail("a request did not reach the node");
		pause_shortly();
	}
}

static void wait_tokens(int fd)
{
	char buf[4096];

	for (int tokens = 0; tokens < TOKENS;) {
		ssize_t got;

		wait_for(fd, POLLIN);
		got = recv(fd, buf, sizeof(buf), 0);
		if (got <= 0)
			fail("a stream ended");
		for (const char *at = buf;
		     (at = memmem(at, (size_t)(buf + got - at), STAMP, sizeof(STAMP) - 1)); at++)
			tokens++;
	}
}

/* ns from the client's close to the node's knowing; 0: it never knew. */
static uint64_t leave_once(const struct load_options *options, int node_fd, unsigned id)
{
	char mark[64], *request;
	uint64_t begun_ns = now_ns(), left_ns;
	size_t len;
	int fd = connect_to(options->port);

	snprintf(mark, sizeof(mark), "%c %u %u", options->before_token ? 'h' : 's', id, MILLIHERTZ);
	request = request_new(options, mark, &len);
	send_all(fd, request, len);
	free(request);
	if (options->before_token)
		wait_arrival(node_fd, id, begun_ns);
	else
		wait_tokens(fd);
	left_ns = now_ns();
	close(fd);
	do {
		struct seen seen = ask(node_fd, id);

		if (seen.left_ns >= left_ns)
			return seen.left_ns - left_ns;
		pause_shortly();
	} while (now_ns() < left_ns + MISSED_NS);
	return 0;
}

void load_leave(const struct load_options *options)
{
	struct samples samples = {0};
	int node_fd = connect_to(options->node_port);
	unsigned missed = 0;

	for (unsigned i = 0; i < options->count && missed < MISSED_MAX; i++) {
		uint64_t took_ns = leave_once(options, node_fd, IDS_OF_LEAVERS + i);

		if (took_ns)
			samples_add(&samples, took_ns);
		else
			missed++;
	}
	printf("{\"count\":%zu,\"missed\":%u,\"p50_us\":%.2f,\"p99_us\":%.2f,\"max_us\":%.2f}\n",
	       samples.len + missed, missed, samples_us(&samples, 0.5), samples_us(&samples, 0.99),
	       samples_us(&samples, 1));
	close(node_fd);
	free(samples.values);
}
