// SPDX-License-Identifier: MIT
/* The same request again and again, on `count` connections that are kept. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench_io.h"
#include "load.h"

#define EVENTS	   256
#define ANSWER_MAX 8192
#define WARM_UP	   20 /* requests a connection before the window opens */
#define ERRORS_MAX 50
#define END_NS	   (30 * NSEC) /* for the whole, whatever hangs */

struct conn {
	int fd;
	size_t sent, got;
	uint64_t begun_ns;
	char answer[ANSWER_MAX + 1];
};

struct requests {
	const struct load_options *options;
	int ep;
	char *request;
	size_t request_len;
	struct conn *conns;
	size_t done, errors;
	uint64_t opened_ns, cpu_ns; /* of the window; 0: not yet open */
	struct samples samples;
};

static void conn_connect(struct requests *load, struct conn *conn)
{
	conn->fd = connect_to(load->options->port);
	conn->sent = conn->got = 0;
	conn->begun_ns = now_ns();
	watch(load->ep, conn->fd, EPOLLIN | EPOLLOUT, conn);
}

static void conn_failed(struct requests *load, struct conn *conn)
{
	if (++load->errors > ERRORS_MAX)
		fail("too many errors");
	close(conn->fd);
	conn_connect(load, conn);
}

static void conn_send(struct requests *load, struct conn *conn, bool was_blocked)
{
	size_t left = load->request_len - conn->sent;
	ssize_t sent = send(conn->fd, load->request + conn->sent, left, MSG_NOSIGNAL);

	if (sent == -1 && errno != EAGAIN) {
		conn_failed(load, conn);
		return;
	}
	if (sent > 0)
		conn->sent += (size_t)sent;
	if (conn->sent < load->request_len && !was_blocked)
		rewatch(load->ep, conn->fd, EPOLLIN | EPOLLOUT, conn);
	else if (conn->sent == load->request_len && was_blocked)
		rewatch(load->ep, conn->fd, EPOLLIN, conn);
}

/* Of the whole answer; 0: not known yet. */
static size_t answer_length(const struct conn *conn)
{
	const char *end = strstr(conn->answer, "\r\n\r\n"), *line = conn->answer;

	if (!end)
		return 0;
	while ((line = strstr(line, "\r\n")) && line < end) {
		line += 2;
		if (!strncasecmp(line, "content-length:", 15))
			return (size_t)(end + 4 - conn->answer) + strtoull(line + 15, NULL, 10);
	}
	fail("an answer without Content-Length");
}

static void conn_done(struct requests *load, struct conn *conn)
{
	uint64_t now = now_ns();

	if (strncmp(conn->answer, "HTTP/1.1 200 ", 13)) {
		fprintf(stderr, "answer: %.60s\n", conn->answer);
		conn_failed(load, conn);
		return;
	}
	load->done++;
	if (load->opened_ns) {
		samples_add(&load->samples, now - conn->begun_ns);
	} else if (load->done >= (size_t)WARM_UP * load->options->count) {
		load->cpu_ns = cpu_ns(load->options);
		load->opened_ns = now_ns();
	}
	conn->sent = conn->got = 0;
	conn->begun_ns = now_ns();
	conn_send(load, conn, false);
}

static void conn_read(struct requests *load, struct conn *conn)
{
	ssize_t got = recv(conn->fd, conn->answer + conn->got, ANSWER_MAX - conn->got, 0);
	size_t length;

	if (got == -1 && errno == EAGAIN)
		return;
	if (got <= 0) {
		conn_failed(load, conn);
		return;
	}
	conn->got += (size_t)got;
	conn->answer[conn->got] = '\0';
	length = answer_length(conn);
	if (conn->got == ANSWER_MAX || (length && conn->got > length))
		fail("more came than the answer has");
	if (length && conn->got == length)
		conn_done(load, conn);
}

static void print(struct requests *load, uint64_t end_ns, uint64_t cpu_spent_ns)
{
	double seconds = (double)(end_ns - load->opened_ns) / (double)NSEC;

	printf("{\"count\":%zu,\"errors\":%zu,\"seconds\":%.6f,\"cpu_s\":%.6f,"
	       "\"p50_us\":%.2f,\"p99_us\":%.2f,\"max_us\":%.2f}\n",
	       load->samples.len, load->errors, seconds, (double)cpu_spent_ns / (double)NSEC,
	       samples_us(&load->samples, 0.5), samples_us(&load->samples, 0.99),
	       samples_us(&load->samples, 1));
}

static void run(struct requests *load)
{
	struct epoll_event events[EVENTS];
	uint64_t start = now_ns(), now = start;

	while (!load->opened_ns || now < load->opened_ns + load->options->window_ns) {
		int count = epoll_wait(load->ep, events, EVENTS, 100);

		for (int i = 0; i < count; i++) {
			struct conn *conn = events[i].data.ptr;

			if (events[i].events & EPOLLOUT && conn->sent < load->request_len)
				conn_send(load, conn, true);
			else
				conn_read(load, conn);
		}
		now = now_ns();
		if (now > start + load->options->window_ns + END_NS)
			fail("no end: it hangs");
	}
	print(load, now, cpu_ns(load->options) - load->cpu_ns);
}

void load_requests(const struct load_options *options)
{
	struct requests load = {.options = options, .ep = epoll_create1(EPOLL_CLOEXEC)};

	if (load.ep == -1)
		die("epoll_create1");
	load.request = request_new(options, "a", &load.request_len);
	load.conns = calloc(options->count, sizeof(*load.conns));
	if (!load.conns)
		die("calloc");
	for (unsigned i = 0; i < options->count; i++)
		conn_connect(&load, &load.conns[i]);
	run(&load);
	free(load.conns);
	free(load.request);
	free(load.samples.values);
}
