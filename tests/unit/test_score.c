/* SPDX-License-Identifier: MIT */
#include "core/score.h"
#include "farm.h"

#define RISE 2
#define FALL 3

/* `results`: 1 answers, 0 refused, L no resources here, in order; `after`: what `up` is behind
 * each: U or D. */
static const struct {
	const char *sentence, *results, *after;
} rows[] = {
	{"the first result decides: up", "1", "U"},
	{"the first result decides: down", "0", "D"},
	{"two failures in a row are not three", "1001001", "UUUUUUU"},
	{"three failures in a row are", "1000", "UUUD"},
	{"one success in a row is not two", "01010", "DDDDD"},
	{"two successes in a row are", "011", "DDU"},
	{"the count starts anew after each change", "1000110001", "UUUDDUUUDD"},
	{"the gateway's own trouble changes nothing", "1LLLLL", "UUUUUU"},
	{"nor does it count among the failures", "100LL0", "UUUUUD"},
	{"nor decides when it comes first", "LL1", "DDU"},
};

static void test_score__rises_and_falls(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct score score;

		score_init(&score);
		for (size_t k = 0; rows[i].results[k]; k++) {
			char is = rows[i].results[k];
			enum probe_reason result = is == '1'   ? PROBE_OK
						   : is == '0' ? PROBE_REFUSED
							       : PROBE_LOCAL;
			bool before = score.up;
			bool changed = score_note(&score, result, 1, 1, RISE, FALL);

			if (score.up != (rows[i].after[k] == 'U'))
				fail_msg("%s: result %zu", rows[i].sentence, k + 1);
			if (changed != (before != score.up))
				fail_msg("%s: change at result %zu", rows[i].sentence, k + 1);
		}
	}
}

static void test_score__keeps_the_reason_and_the_times(void **state)
{
	struct score score;

	(void)state;
	score_init(&score);
	assert_int_equal(score.reason, PROBE_NEW);
	assert_false(score.up);
	score_note(&score, PROBE_OK, 120, 7, RISE, FALL);
	assert_int_equal(score.rtt_us, 120);
	assert_int_equal(score.ttfb_ms, 7);
	score_note(&score, PROBE_STATUS, 0, 0, RISE, FALL);
	score_note(&score, PROBE_STATUS, 0, 0, RISE, FALL);
	assert_int_equal(score.reason, PROBE_STATUS);
	assert_int_equal(score.failures[PROBE_STATUS], 2);
	assert_int_equal(score.failures[PROBE_OK], 0);
	assert_int_equal(score.rtt_us, 120);
	assert_true(score.up);
}

static void test_score__has_a_word_for_every_reason(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PROBE_REASON_COUNT; i++) {
		const char *word = probe_reason_word((enum probe_reason)i);

		assert_int_equal(strspn(word, "abcdefghijklmnopqrstuvwxyz_"), strlen(word));
		assert_true(strlen(probe_reason_text((enum probe_reason)i)) > 3);
	}
	assert_string_equal(probe_reason_word(PROBE_REASON_COUNT), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_score__rises_and_falls),
		cmocka_unit_test(test_score__keeps_the_reason_and_the_times),
		cmocka_unit_test(test_score__has_a_word_for_every_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
