/* SPDX-License-Identifier: MIT */
/*
 * The three loads of the HTTP bench: requests one after the other on some connections, many streams
 * at once, and clients that leave. Each runs for a bounded time against one port, and prints one
 * line of JSON. load.c holds what they share: requests to send, samples, the CPU time of others.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define PIDS_MAX 16

struct load_options {
	uint16_t port, node_port;
	unsigned count; /* connections, streams, or clients that leave */
	size_t body_bytes;
	uint64_t window_ns;
	uint64_t millihertz;
	bool hold;	   /* the window ends with stdin */
	bool before_token; /* leave before the first token, not amid the stream */
	clockid_t clocks[PIDS_MAX];
	unsigned n_clocks;
};

void load_requests(const struct load_options *options);
void load_streams(const struct load_options *options);
void load_leave(const struct load_options *options);

/* A whole request with a chat of words as its body; `mark` as in bench_io.h. To be freed. */
char *request_new(const struct load_options *options, const char *mark, size_t *len);

struct samples {
	uint64_t *values;
	size_t len, cap;
};

void samples_add(struct samples *samples, uint64_t value_ns);
/* Of 0..1, in µs; -1 when there is none. Sorts. */
double samples_us(struct samples *samples, double part);

/* CPU time spent by the processes named. */
uint64_t cpu_ns(const struct load_options *options);

#endif
