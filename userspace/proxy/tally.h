/* SPDX-License-Identifier: MIT */
/*
 * What the router counts (contract §7): requests by model, node and code; why clients were turned
 * away; how long the first byte took, and how much of it was the router's own. Pure.
 */
#ifndef PROXY_TALLY_H
#define PROXY_TALLY_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Clients that were closed or turned away below the level of requests. X(NAME, "label") */
#define TALLY_REFUSALS(X) \
	X(BAD_HTTP, "bad_http") \
	X(SLOW_HEAD, "slow_head") \
	X(STALLED, "stalled") \
	X(EVICTED, "idle_evicted") \
	X(LEFT, "client_left") \
	X(CUT, "cut")

enum tally_refusal {
#define X(name, label) TALLY_##name,
	TALLY_REFUSALS(X)
#undef X
		TALLY_REFUSAL_COUNT
};

#define TALLY_BUCKETS 14
#define TALLY_ROWS    4096 /* different model, node and code; beyond that under model "other" */

struct tally_histogram {
	uint64_t buckets[TALLY_BUCKETS + 1], count;
	uint64_t sum_us;
};

struct tally_row;

struct tally {
	uint64_t refusals[TALLY_REFUSAL_COUNT];
	uint64_t retries; /* attempts after one that failed */
	struct tally_histogram first_byte, overhead;
	struct tally_row **rows; /* hash table */
	size_t n_rows;
};

void tally_fini(struct tally *tally);
void tally_refuse(struct tally *tally, enum tally_refusal why);
/* `model`: an alias or a model that some node has, or "". */
void tally_request(struct tally *tally, const char *model, const char *node, int code);
void tally_note(struct tally_histogram *histogram, uint64_t us);
void tally_write(const struct tally *tally, size_t queued, struct buf *out);

#endif
