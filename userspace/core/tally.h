/* SPDX-License-Identifier: MIT */
/*
 * What an HTTP router counts (contract §7): requests by model, node and code; why clients were
 * turned away; how long the first byte took, and how much of it was the router's own. Counted by
 * proxies, added up by the controller. Pure. Owns its rows.
 */
#ifndef CORE_TALLY_H
#define CORE_TALLY_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"

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
/* With those; beyond another 1024 under node "other" as well, so there is an end. */
#define TALLY_ROWS_ALL (TALLY_ROWS + 2048)

struct tally_histogram {
	uint64_t buckets[TALLY_BUCKETS + 1], count;
	uint64_t sum_us;
};

struct tally_row;

struct tally {
	uint64_t refusals[TALLY_REFUSAL_COUNT];
	uint64_t retries; /* attempts after one that failed */
	struct tally_histogram first_byte, overhead;
	uint64_t queued;	 /* now */
	struct tally_row **rows; /* hash table */
	size_t n_rows;
};

void tally_fini(struct tally *tally);
void tally_refuse(struct tally *tally, enum tally_refusal why);
/* `model`: an alias or a model that some node has, or "". */
void tally_request(struct tally *tally, const char *model, const char *node, int code);
void tally_note(struct tally_histogram *histogram, uint64_t us);
uint64_t tally_requests(const struct tally *tally); /* answered, all together */
void tally_add(struct tally *to, const struct tally *from);
/* Prometheus text. */
void tally_write(const struct tally *tally, struct buf *out);
/* As a proxy reports it, and back: 0, or -EBADMSG for a bad document (*tally is empty then). */
void tally_write_json(const struct tally *tally, struct json_writer *w);
int tally_read(struct tally *tally, const struct json *document);

#endif
