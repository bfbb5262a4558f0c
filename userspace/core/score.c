/* SPDX-License-Identifier: MIT */
#include "core/score.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *word, *text;
} reasons[PROBE_REASON_COUNT] = {
#define X(name, word, text) [PROBE_##name] = {word, text},
	PROBE_REASONS(X)
#undef X
};

const char *probe_reason_word(enum probe_reason reason)
{
	return (unsigned)reason < PROBE_REASON_COUNT ? reasons[reason].word : "unknown";
}

const char *probe_reason_text(enum probe_reason reason)
{
	return (unsigned)reason < PROBE_REASON_COUNT ? reasons[reason].text : "unknown reason";
}

static const char *const mark_words[PROBE_REASON_COUNT] = {
#define X(name, word) [PROBE_##name] = word,
	MARK_REASONS(X)
#undef X
};

int mark_parse(enum probe_reason *reason, const char *word)
{
	for (unsigned i = 0; i < PROBE_REASON_COUNT; i++) {
		if (!mark_words[i] || strcmp(mark_words[i], word) != 0)
			continue;
		*reason = (enum probe_reason)i;
		return 0;
	}
	return -EINVAL;
}

const char *mark_word(enum probe_reason reason)
{
	return (unsigned)reason < PROBE_REASON_COUNT ? mark_words[reason] : NULL;
}

void score_init(struct score *score)
{
	memset(score, 0, sizeof(*score));
	score->reason = PROBE_NEW;
}

bool score_note(struct score *score, enum probe_reason result, uint32_t rtt_us, uint32_t ttfb_ms,
		uint32_t rise, uint32_t fall)
{
	bool good = result == PROBE_OK;

	score->reason = result;
	if (!good)
		score->failures[result]++;
	/* The gateway's own trouble says nothing about the node: whoever was up stays up. */
	if (result == PROBE_LOCAL)
		return false;
	score->suspect = false;
	if (good) {
		score->rtt_us = rtt_us;
		score->ttfb_ms = ttfb_ms;
	}
	if (score->known && good == score->up) {
		score->streak = 0;
		return false;
	}
	score->streak++;
	if (score->known && score->streak < (good ? rise : fall))
		return false;
	score->known = true;
	score->streak = 0;
	if (score->up == good)
		return false;
	score->up = good;
	return true;
}

bool score_suspect(struct score *score, enum probe_reason why, uint32_t rise, uint64_t now_ms,
		   uint64_t pause_ms)
{
	score->marks[why]++;
	if (!score->up || (score->suspect_ms && now_ms - score->suspect_ms < pause_ms))
		return false;
	score->up = false;
	score->suspect = true;
	score->suspect_ms = now_ms;
	score->streak = rise - 1;
	score->reason = why;
	return true;
}
