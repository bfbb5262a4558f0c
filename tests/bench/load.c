// SPDX-License-Identifier: MIT
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_io.h"
#include "load.h"

#define HEAD_ROOM 512

/* Text as chats have it: words, and an escape now and then. */
static size_t words(char *out, size_t len)
{
	static const char text[] =
		"the quick brown fox asked the lazy dog how many tokens a second it could do,\\n"
		"and why \\\"fast\\\" models think for so long before they say a word. ";
	size_t at = 0;

	while (at + sizeof(text) - 1 <= len) {
		memcpy(out + at, text, sizeof(text) - 1);
		at += sizeof(text) - 1;
	}
	memset(out + at, 'w', len - at);
	return len;
}

char *request_new(const struct load_options *options, const char *mark, size_t *len)
{
	static const char end[] = "\"}]}";
	char start[MARK_WITHIN], *out = malloc(HEAD_ROOM + options->body_bytes + MARK_WITHIN);
	int n_start = snprintf(start, sizeof(start),
			       "{\"model\":\"bench\"," MARK "%s\",\"stream\":%s,"
			       "\"messages\":[{\"role\":\"user\",\"content\":\"",
			       mark, *mark == 's' || *mark == 'h' ? "true" : "false");
	size_t fixed = (size_t)n_start + sizeof(end) - 1;
	size_t body = options->body_bytes > fixed ? options->body_bytes : fixed;
	int at;

	if (!out)
		die("malloc");
	at = snprintf(out, HEAD_ROOM,
		      "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n"
		      "User-Agent: megalith-bench\r\nAccept: */*\r\n"
		      "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		      options->port, body);
	memcpy(out + at, start, (size_t)n_start);
	*len = (size_t)at + (size_t)n_start;
	*len += words(out + *len, body - fixed);
	memcpy(out + *len, end, sizeof(end));
	*len += sizeof(end) - 1;
	return out;
}

void samples_add(struct samples *samples, uint64_t value_ns)
{
	if (samples->len == samples->cap) {
		samples->cap = samples->cap ? 2 * samples->cap : 4096;
		samples->values = reallocarray(samples->values, samples->cap, sizeof(uint64_t));
		if (!samples->values)
			die("reallocarray");
	}
	samples->values[samples->len++] = value_ns;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

double samples_us(struct samples *samples, double part)
{
	if (!samples->len)
		return -1;
	qsort(samples->values, samples->len, sizeof(uint64_t), by_size);
	return (double)samples->values[(size_t)((double)(samples->len - 1) * part)] / 1000;
}

uint64_t cpu_ns(const struct load_options *options)
{
	uint64_t sum = 0;
	struct timespec spent;

	for (unsigned i = 0; i < options->n_clocks; i++) {
		if (clock_gettime(options->clocks[i], &spent) == -1)
			die("CPU time of the proxy (has it ended?)");
		sum += (uint64_t)spent.tv_sec * NSEC + (uint64_t)spent.tv_nsec;
	}
	return sum;
}
