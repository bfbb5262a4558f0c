// SPDX-License-Identifier: MIT
/*
 * `count` streams at once, opened one after the other so that the time to the first token is that
 * of a stream and not of a queue of them. Delay: from the node's stamp in a token to its arrival.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench_io.h"
#include "load.h"

#define EVENTS	  256
#define CHUNK	  65536
#define STAMP_LEN (sizeof(STAMP) - 1 + STAMP_DIGITS)
#define RAMP_NS	  (30 * NSEC)
#define FIRST_NS  (2 * NSEC) /* a stream without a token by then is lost */
#define HOLD_NS	  (600 * NSEC)

struct stream {
	int fd; /* -1: it ended, or never was */
	bool begun, head_seen;
	uint64_t connect_ns;
	uint8_t kept; /* bytes that may begin a stamp */
	char keep[STAMP_LEN];
};

struct streams {
	const struct load_options *options;
	int ep;
	struct stream *all;
	unsigned opened;    /* the last of them waits for its first token */
	uint64_t window_ns; /* since when; 0: not yet */
	bool input_ended;
	size_t tokens, lost, malformed;
	struct samples delays, first;
	char buf[STAMP_LEN + CHUNK];
};

static void stream_send(struct streams *load, struct stream *stream)
{
	char mark[64], *request;
	size_t len;

	snprintf(mark, sizeof(mark), "s %u %llu", (unsigned)(stream - load->all) % IDS_OF_LEAVERS,
		 (unsigned long long)load->options->millihertz);
	request = request_new(load->options, mark, &len);
	if (send(stream->fd, request, len, MSG_NOSIGNAL) != (ssize_t)len)
		die("sending a request");
	free(request);
}

static void stream_lost(struct streams *load, struct stream *stream)
{
	load->lost++;
	stream->begun = true;
	close(stream->fd);
	stream->fd = -1;
}

static void stream_token(struct streams *load, struct stream *stream, const char *digits,
			 uint64_t now)
{
	char text[STAMP_DIGITS + 1] = {0}, *end;
	uint64_t sent;

	memcpy(text, digits, STAMP_DIGITS);
	sent = strtoull(text, &end, 10);
	if (*end || sent > now) {
		load->malformed++;
		return;
	}
	if (!stream->begun)
		samples_add(&load->first, now - stream->connect_ns);
	stream->begun = true;
	if (!load->window_ns || now < load->window_ns)
		return;
	load->tokens++;
	samples_add(&load->delays, now - sent);
}

/* Finds the stamps; what may be the start of one is kept for the next read. */
static void stream_scan(struct streams *load, struct stream *stream, size_t len, uint64_t now)
{
	const char *at = load->buf, *end = load->buf + len, *found;

	while ((found = memmem(at, (size_t)(end - at), STAMP, sizeof(STAMP) - 1))) {
		if ((size_t)(end - found) < STAMP_LEN)
			break;
		stream_token(load, stream, found + sizeof(STAMP) - 1, now);
		at = found + STAMP_LEN;
	}
	if ((size_t)(end - at) >= STAMP_LEN)
		at = end - (STAMP_LEN - 1);
	stream->kept = (uint8_t)(end - at);
	memcpy(stream->keep, at, stream->kept);
}

static void stream_read(struct streams *load, struct stream *stream)
{
	ssize_t got = recv(stream->fd, load->buf + stream->kept, CHUNK, 0);
	uint64_t now = now_ns();

	if (got == -1 && errno == EAGAIN)
		return;
	if (got <= 0) {
		stream_lost(load, stream);
		return;
	}
	if (!stream->head_seen && (got < 13 || memcmp(load->buf, "HTTP/1.1 200 ", 13))) {
		fprintf(stderr, "answer: %.*s\n", got < 60 ? (int)got : 60, load->buf);
		stream_lost(load, stream);
		return;
	}
	stream->head_seen = true;
	memcpy(load->buf, stream->keep, stream->kept);
	stream_scan(load, stream, (size_t)got + stream->kept, now);
}

static void stream_event(struct streams *load, const struct epoll_event *event)
{
	struct stream *stream = event->data.ptr;

	if (!stream) {
		load->input_ended = true;
		return;
	}
	if (stream->fd == -1)
		return;
	if (!(event->events & EPOLLOUT)) {
		stream_read(load, stream);
	} else if (event->events & EPOLLERR) {
		stream_lost(load, stream);
	} else { /* connected */
		rewatch(load->ep, stream->fd, EPOLLIN, stream);
		stream_send(load, stream);
	}
}

static void turn(struct streams *load)
{
	struct epoll_event events[EVENTS];
	int count = epoll_wait(load->ep, events, EVENTS, 20);

	if (count == -1 && errno != EINTR)
		die("epoll_wait");
	for (int i = 0; i < count; i++)
		stream_event(load, &events[i]);
}

static void open_all(struct streams *load)
{
	uint64_t deadline = now_ns() + RAMP_NS;
	struct stream *stream;

	for (unsigned i = 0; i < load->options->count; i++) {
		stream = &load->all[i];
		stream->connect_ns = now_ns();
		stream->fd = connect_to(load->options->port);
		watch(load->ep, stream->fd, EPOLLOUT, stream);
		while (!stream->begun) {
			turn(load);
			if (!stream->begun && now_ns() > stream->connect_ns + FIRST_NS)
				stream_lost(load, stream);
		}
		if (now_ns() > deadline)
			fail("opening the streams takes too long");
	}
}

static void print(struct streams *load, double seconds, double cpu_s)
{
	double hertz = (double)load->options->millihertz / 1000;

	printf("{\"tokens\":%zu,\"expected\":%.0f,\"lost\":%zu,\"malformed\":%zu,"
	       "\"seconds\":%.6f,\"cpu_s\":%.6f,"
	       "\"delay_p50_us\":%.2f,\"delay_p99_us\":%.2f,\"delay_max_us\":%.2f,"
	       "\"ttft_p50_us\":%.2f,\"ttft_p99_us\":%.2f}\n",
	       load->tokens, hertz * load->options->count * seconds, load->lost, load->malformed,
	       seconds, cpu_s, samples_us(&load->delays, 0.5), samples_us(&load->delays, 0.99),
	       samples_us(&load->delays, 1), samples_us(&load->first, 0.5),
	       samples_us(&load->first, 0.99));
}

static void run(struct streams *load)
{
	const struct load_options *options = load->options;
	uint64_t cpu, length_ns = options->hold ? HOLD_NS : options->window_ns, now;

	open_all(load);
	puts("ready");
	fflush(stdout);
	if (options->hold)
		watch(load->ep, STDIN_FILENO, EPOLLIN | EPOLLHUP, NULL);
	cpu = cpu_ns(options);
	load->window_ns = now = now_ns();
	while (now < load->window_ns + length_ns && !load->input_ended) {
		turn(load);
		now = now_ns();
	}
	cpu = cpu_ns(options) - cpu;
	print(load, (double)(now - load->window_ns) / (double)NSEC, (double)cpu / (double)NSEC);
}

void load_streams(const struct load_options *options)
{
	struct streams *load = calloc(1, sizeof(*load));

	if (!load)
		die("calloc");
	load->options = options;
	load->all = calloc(options->count, sizeof(*load->all));
	load->ep = epoll_create1(EPOLL_CLOEXEC);
	if (!load->all || load->ep == -1)
		die("starting");
	run(load);
	free(load->all);
	free(load->delays.values);
	free(load->first.values);
	free(load);
}
