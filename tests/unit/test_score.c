/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "core/score.h"
#include "farm.h"

#define RISE	 2
#define FALL	 3
#define PAUSE_MS 1000

/* `results`: 1 answers, 0 refused, L no resources here, S a proxy's word (a second later), s one
 * that comes too soon, in order; `after`: what `up` is behind each: U or D. */
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
	{"a proxy's word takes it down at once, one success brings it back", "1S1", "UDU"},
	{"after it a failure counts as ever: two successes", "1S011", "UDDDU"},
	{"the gateway's own trouble is no answer to it", "1SL1", "UDDU"},
	{"nobody holds it down by repeating it", "1S1sss", "UDUUUU"},
	{"later it is believed again", "1S1S1", "UDUDU"},
	{"it counts for nothing when it is down", "1S0S11", "UDDDDU"},
	{"nor when it is not known", "S1", "DU"},
	{"two failures, a word, a success, two failures: it stays up", "100S100", "UUUDUUU"},
};

static bool step(struct score *score, char is, uint64_t *now_ms)
{
	enum probe_reason result = is == '1' ? PROBE_OK : is == '0' ? PROBE_REFUSED : PROBE_LOCAL;

	if (is != 'S' && is != 's')
		return score_note(score, result, 1, 1, RISE, FALL);
	*now_ms += is == 'S' ? PAUSE_MS : 1;
	return score_suspect(score, PROBE_CLOSED, RISE, *now_ms, PAUSE_MS);
}

static void test_score__rises_and_falls(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct score score;
		uint64_t now_ms = 1;

		score_init(&score);
		for (size_t k = 0; rows[i].results[k]; k++) {
			bool before = score.up;
			bool changed = step(&score, rows[i].results[k], &now_ms);

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

static void test_score__says_that_it_is_only_suspect(void **state)
{
	struct score score;

	(void)state;
	score_init(&score);
	score_note(&score, PROBE_OK, 1, 1, RISE, FALL);
	assert_true(score_suspect(&score, PROBE_RESET, RISE, 1, PAUSE_MS));
	assert_true(score.suspect);
	assert_int_equal(score.reason, PROBE_RESET);
	assert_int_equal(score.failures[PROBE_RESET], 0); /* no probe failed */
	assert_int_equal(score.marks[PROBE_RESET], 1);
	score_note(&score, PROBE_LOCAL, 0, 0, RISE, FALL);
	assert_true(score.suspect);
	score_note(&score, PROBE_REFUSED, 0, 0, RISE, FALL);
	assert_false(score.suspect); /* now a probe says so */
	assert_false(score.up);
	assert_false(score_suspect(&score, PROBE_CLOSED, RISE, 5000, PAUSE_MS));
	assert_int_equal(score.marks[PROBE_CLOSED], 1);
}

static void test_score__rise_of_one(void **state)
{
	struct score score;

	(void)state;
	score_init(&score);
	score_note(&score, PROBE_OK, 1, 1, 1, 1);
	assert_true(score_suspect(&score, PROBE_RESET, 1, 1, PAUSE_MS));
	assert_true(score_note(&score, PROBE_OK, 1, 1, 1, 1));
}

static void test_score__knows_the_words_of_marks(void **state)
{
	static const char *const words[] = {"refused", "reset", "closed", "timeout"};
	static const char *const others[] = {"ok", "", "REFUSED", "answer_timeout", "unreachable"};
	enum probe_reason reason = PROBE_OK;

	(void)state;
	for (size_t i = 0; i < COUNT(words); i++) {
		assert_int_equal(mark_parse(&reason, words[i]), 0);
		assert_string_equal(mark_word(reason), words[i]);
	}
	for (size_t i = 0; i < COUNT(others); i++)
		assert_int_equal(mark_parse(&reason, others[i]), -EINVAL);
	assert_null(mark_word(PROBE_OK));
	assert_null(mark_word(PROBE_REASON_COUNT));
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
		cmocka_unit_test(test_score__says_that_it_is_only_suspect),
		cmocka_unit_test(test_score__rise_of_one),
		cmocka_unit_test(test_score__knows_the_words_of_marks),
		cmocka_unit_test(test_score__has_a_word_for_every_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
