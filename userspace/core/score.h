/* SPDX-License-Identifier: MIT */
/*
 * Health of an endpoint: results of probes in, up or down out, with hysteresis (rise/fall). Pure;
 * time is an argument. One reason code per way a probe can fail, so that the reason reaches the
 * operator.
 */
#ifndef CORE_SCORE_H
#define CORE_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROBE_REASONS(X) \
	X(OK, "ok", "answers") \
	X(NEW, "new", "not probed yet") \
	X(REFUSED, "refused", "connection refused") \
	X(CONNECT_TIMEOUT, "connect_timeout", "no answer to the connection attempt") \
	X(UNREACHABLE, "unreachable", "no route, or host unreachable") \
	X(RESET, "reset", "connection reset") \
	X(CLOSED, "closed", "connection closed before the answer was complete") \
	X(ANSWER_TIMEOUT, "answer_timeout", "connected, but no complete answer in time") \
	X(BAD_HTTP, "bad_http", "the answer is not valid HTTP") \
	X(TOO_LARGE, "too_large", "the answer is larger than allowed") \
	X(STATUS, "status", "HTTP status other than 2xx") \
	X(LOADING, "loading", "the engine is still loading (503)") \
	X(BAD_JSON, "bad_json", "the answer is not the JSON expected of this engine") \
	X(BAD_ANSWER, "bad_answer", "the answer is not what this engine says") \
	X(LOCAL, "local", "no resources on the gateway to probe with")

enum probe_reason {
#define X(name, word, text) PROBE_##name,
	PROBE_REASONS(X)
#undef X
		PROBE_REASON_COUNT
};
const char *probe_reason_word(enum probe_reason reason);
const char *probe_reason_text(enum probe_reason reason);

/* What a proxy may say it saw of an endpoint, and the reason that stands for it. */
#define MARK_REASONS(X) \
	X(REFUSED, "refused") \
	X(RESET, "reset") \
	X(CLOSED, "closed") \
	X(ANSWER_TIMEOUT, "timeout")

/* 0 or -EINVAL */
int mark_parse(enum probe_reason *reason, const char *word);
const char *mark_word(enum probe_reason reason); /* NULL: no proxy says this */

struct score {
	bool up;
	bool known;		  /* at least one result */
	uint32_t streak;	  /* results in a row that contradict `up` */
	bool suspect;		  /* down by a proxy's word; no probe has been made since */
	enum probe_reason reason; /* of the last result or word; NEW before the first */
	uint32_t rtt_us;	  /* of the last connect */
	uint32_t ttfb_ms;	  /* of the last answer */
	uint64_t failures[PROBE_REASON_COUNT];
	uint64_t marks[PROBE_REASON_COUNT]; /* what proxies said, believed or not */
	uint64_t suspect_ms;		    /* when one was last believed; 0: never */
};

void score_init(struct score *score);
/* The first result decides at once; after it `rise` successes or `fall` failures in a row do. True:
 * `up` changed. */
bool score_note(struct score *score, enum probe_reason result, uint32_t rtt_us, uint32_t ttfb_ms,
		uint32_t rise, uint32_t fall);
/*
 * A proxy saw it fail: it is down at once, and one good probe makes it up again. The word counts
 * for nothing when it is down or unknown anyway, or when one was believed less than pause_ms ago:
 * nobody may hold a good node down by repeating it. True: `up` changed.
 */
bool score_suspect(struct score *score, enum probe_reason why, uint32_t rise, uint64_t now_ms,
		   uint64_t pause_ms);

#endif
