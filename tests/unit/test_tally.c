/* SPDX-License-Identifier: MIT */
/* What the router counts, and how it is told. */
#include <errno.h>

#include "core/tally.h"
#include "farm.h"

static char *text_of(const struct tally *tally)
{
	struct buf out = {0};

	tally_write(tally, &out);
	return buf_steal(&out);
}

static bool says(const struct tally *tally, const char *line)
{
	char *text = text_of(tally);
	bool found = strstr(text, line) != NULL;

	free(text);
	return found;
}

#define SAYS(tally, line) \
	do { \
		if (!says((tally), "\n" line "\n")) { \
			char *text_ = text_of(tally); \
			print_error("%s\n", text_); \
			free(text_); \
			fail_msg("not said: %s", line); \
		} \
	} while (0)

/* ---- counting ---- */

static void test_tally__counts_requests(void **state)
{
	struct tally tally = {0};

	(void)state;
	tally_request(&tally, "chat", "gpu", 200);
	tally_request(&tally, "chat", "gpu", 200);
	tally_request(&tally, "chat", "halo", 200);
	tally_request(&tally, "chat", "gpu", 503);
	tally_request(&tally, "cha", "tgpu", 200); /* its texts side by side are the same */
	tally_request(&tally, "", "", 404);
	assert_int_equal(tally.n_rows, 5);
	SAYS(&tally, "megalith_http_requests_total{model=\"chat\",node=\"gpu\",code=\"200\"} 2");
	SAYS(&tally, "megalith_http_requests_total{model=\"chat\",node=\"halo\",code=\"200\"} 1");
	SAYS(&tally, "megalith_http_requests_total{model=\"chat\",node=\"gpu\",code=\"503\"} 1");
	SAYS(&tally, "megalith_http_requests_total{model=\"cha\",node=\"tgpu\",code=\"200\"} 1");
	SAYS(&tally, "megalith_http_requests_total{model=\"\",node=\"\",code=\"404\"} 1");
	for (int code = 100; code < 1000; code++) /* some share a place in the table */
		tally_request(&tally, "codes", "gpu", code);
	assert_int_equal(tally.n_rows, 5 + 900);
	tally_fini(&tally);
}

static void test_tally__begins_anew_when_it_has_ended(void **state)
{
	struct tally tally = {0};

	(void)state;
	tally_fini(&tally); /* nothing in it */
	tally_request(&tally, "m", "n", 200);
	tally_fini(&tally);
	assert_int_equal(tally.n_rows, 0);
	tally_request(&tally, "m", "n", 200);
	assert_int_equal(tally.n_rows, 1);
	tally_fini(&tally);
}

static const struct {
	const char *line;
	enum tally_refusal why;
} refusals[] = {
	{"megalith_http_closed_total{reason=\"bad_http\"} 1", TALLY_BAD_HTTP},
	{"megalith_http_closed_total{reason=\"slow_head\"} 2", TALLY_SLOW_HEAD},
	{"megalith_http_closed_total{reason=\"stalled\"} 3", TALLY_STALLED},
	{"megalith_http_closed_total{reason=\"idle_evicted\"} 4", TALLY_EVICTED},
	{"megalith_http_closed_total{reason=\"client_left\"} 5", TALLY_LEFT},
	{"megalith_http_closed_total{reason=\"cut\"} 6", TALLY_CUT},
};

static void test_tally__counts_refusals(void **state)
{
	struct tally tally = {.retries = 7, .queued = 8};

	(void)state;
	assert_int_equal(COUNT(refusals), TALLY_REFUSAL_COUNT);
	for (size_t i = 0; i < COUNT(refusals); i++) {
		for (size_t k = 0; k <= i; k++)
			tally_refuse(&tally, refusals[i].why);
	}
	for (size_t i = 0; i < COUNT(refusals); i++) {
		if (!says(&tally, refusals[i].line))
			fail_msg("not said: %s", refusals[i].line);
	}
	SAYS(&tally, "megalith_http_retries_total 7");
	SAYS(&tally, "megalith_http_queue_length 8");
}

/* A bucket counts what is not above its bound. */
static const struct {
	uint64_t us;
	const char *le; /* the first bucket that counts it */
} bounds[] = {
	{0, "0.00005"},	  {50, "0.00005"},    {51, "0.0001"},
	{100, "0.0001"},  {101, "0.00025"},   {250, "0.00025"},
	{251, "0.0005"},  {500, "0.0005"},    {501, "0.001"},
	{1000, "0.001"},  {1001, "0.0025"},   {2500, "0.0025"},
	{2501, "0.005"},  {5000, "0.005"},    {5001, "0.01"},
	{10000, "0.01"},  {10001, "0.05"},    {50000, "0.05"},
	{50001, "0.1"},	  {100000, "0.1"},    {100001, "0.5"},
	{500000, "0.5"},  {500001, "1"},      {1000000, "1"},
	{1000001, "10"},  {10000000, "10"},   {10000001, "60"},
	{60000000, "60"}, {60000001, "+Inf"}, {UINT64_C(1) << 50, "+Inf"},
};

static void test_tally__buckets_hold_what_is_not_above_their_bound(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(bounds); i++) {
		struct tally tally = {0};
		char first[128], *text, *at;
		unsigned ones = 0, zeros = 0;

		tally_note(&tally.first_byte, bounds[i].us);
		text = text_of(&tally);
		snprintf(first, sizeof(first),
			 "megalith_http_first_byte_seconds_bucket{le=\"%s\"} 1", bounds[i].le);
		if (!strstr(text, first))
			fail_msg("%llu us: not said: %s", (unsigned long long)bounds[i].us, first);
		for (at = text; (at = strstr(at, "first_byte_seconds_bucket{le=")); at++) {
			bool one = strstr(at, "} 1\n") == strchr(at, '}');

			assert_true(one || !ones); /* they add up */
			assert_true(one == (at >= strstr(text, first) + 14));
			ones += one;
			zeros += !one;
		}
		assert_int_equal(ones + zeros, TALLY_BUCKETS + 1);
		free(text);
	}
}

static void test_tally__histograms_have_sum_and_count(void **state)
{
	struct tally tally = {0};

	(void)state;
	tally_note(&tally.overhead, 1);
	tally_note(&tally.overhead, 1500000);
	tally_note(&tally.overhead, 70000000);
	SAYS(&tally, "megalith_http_overhead_seconds_sum 71.500001");
	SAYS(&tally, "megalith_http_overhead_seconds_count 3");
	SAYS(&tally, "megalith_http_overhead_seconds_bucket{le=\"10\"} 2");
	SAYS(&tally, "megalith_http_overhead_seconds_bucket{le=\"+Inf\"} 3");
	SAYS(&tally, "megalith_http_first_byte_seconds_count 0");
}

static void test_tally__labels_are_escaped(void **state)
{
	struct tally tally = {0};

	(void)state;
	tally_request(&tally, "a\"b\\c\nd", "\\", 200);
	SAYS(&tally, "megalith_http_requests_total{model=\"a\\\"b\\\\c\\nd\",node=\"\\\\\",code="
		     "\"200\"} 1");
	tally_fini(&tally);
}

/* ---- no end of rows ---- */

static void test_tally__has_only_so_many_rows(void **state)
{
	struct tally tally = {0};
	char model[32], node[32];

	(void)state;
	for (unsigned i = 0; i < TALLY_ROWS + 1000; i++) {
		snprintf(model, sizeof(model), "m%u", i);
		tally_request(&tally, model, i % 2 ? "a" : "b", 200);
	}
	tally_request(&tally, "m0", "b", 200); /* known ones count on */
	assert_int_equal(tally.n_rows, TALLY_ROWS + 2);
	SAYS(&tally, "megalith_http_requests_total{model=\"other\",node=\"a\",code=\"200\"} 500");
	SAYS(&tally, "megalith_http_requests_total{model=\"other\",node=\"b\",code=\"200\"} 500");
	SAYS(&tally, "megalith_http_requests_total{model=\"m0\",node=\"b\",code=\"200\"} 2");
	for (unsigned i = 0; i < 5000; i++) { /* nor of nodes */
		snprintf(node, sizeof(node), "n%u", i);
		tally_request(&tally, "x", node, 200);
	}
	assert_true(tally.n_rows <= TALLY_ROWS_ALL);
	tally_fini(&tally);
}

/* ---- what a proxy reports ---- */

static struct json *report(const struct tally *tally)
{
	struct buf out = {0};
	struct json_writer w = {.out = &out};
	struct json_error error;
	struct json *json;

	tally_write_json(tally, &w);
	json = json_parse(out.data, out.len, 0, &error);
	if (!json)
		fail_msg("%s: %s", error.text, out.data);
	buf_fini(&out);
	return json;
}

static void fill(struct tally *tally, unsigned seed)
{
	tally->queued = seed;
	tally->retries = 10 + seed;
	for (size_t i = 0; i < TALLY_REFUSAL_COUNT; i++)
		tally->refusals[i] = 100 * i + seed;
	for (unsigned i = 0; i < 200; i++) {
		tally_note(&tally->first_byte, (uint64_t)i * i * i * 50 * seed);
		tally_note(&tally->overhead, (uint64_t)i * i * seed);
	}
	for (unsigned i = 0; i < 100; i++) {
		char model[32];

		snprintf(model, sizeof(model), "m\"\\\xc3\xa9%u", i % (7 + seed));
		tally_request(tally, model, i % 3 ? "gpu" : "", i % 5 ? 200 : 599);
	}
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Rows have no order of their own. */
static char *sorted(char *text)
{
	static char *lines[16384];
	struct buf out = {0};
	size_t n = 0;

	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		lines[n++] = line;
	qsort(lines, n, sizeof(*lines), compare_lines);
	for (size_t i = 0; i < n; i++)
		buf_printf(&out, "%s\n", lines[i]);
	free(text);
	return buf_steal(&out);
}

static void assert_same(const struct tally *a, const struct tally *b)
{
	char *left = sorted(text_of(a)), *right = sorted(text_of(b));

	assert_string_equal(left, right);
	free(left);
	free(right);
}

static void test_tally__a_report_tells_everything(void **state)
{
	(void)state;
	for (unsigned seed = 0; seed < 4; seed++) {
		struct tally tally = {0}, back;
		struct json *json;

		if (seed) /* an empty one too */
			fill(&tally, seed);
		json = report(&tally);
		assert_int_equal(tally_read(&back, json), 0);
		assert_same(&tally, &back);
		assert_int_equal(back.first_byte.count, tally.first_byte.count);
		json_free(json);
		tally_fini(&tally);
		tally_fini(&back);
	}
}

static void test_tally__as_many_rows_as_there_may_be_can_be_read(void **state)
{
	struct tally tally = {0}, back;
	struct json *json;
	char name[32];

	(void)state;
	for (unsigned i = 0; i < TALLY_ROWS; i++) {
		snprintf(name, sizeof(name), "m%u", i);
		tally_request(&tally, name, "n", 200);
	}
	for (unsigned i = 0; i < 2048; i++) {
		for (int code = 200; code < 204; code++) {
			snprintf(name, sizeof(name), "n%u", i);
			tally_request(&tally, "x", name, code);
		}
	}
	json = report(&tally);
	assert_int_equal(tally_read(&back, json), 0);
	assert_same(&tally, &back);
	json_free(json);
	tally_fini(&tally);
	tally_fini(&back);
}

static void test_tally__sums_are_sums(void **state)
{
	struct tally a = {0}, b = {0}, sum = {0}, none = {0}, both = {0};

	(void)state;
	fill(&a, 1);
	fill(&b, 2);
	tally_add(&sum, &a);
	tally_add(&sum, &none);
	assert_same(&sum, &a);
	tally_add(&sum, &b);
	assert_int_equal(sum.queued, 3);
	assert_int_equal(sum.retries, 23);
	assert_int_equal(sum.refusals[1], 203);
	assert_int_equal(sum.first_byte.count, 400);
	assert_int_equal(sum.overhead.sum_us, a.overhead.sum_us + b.overhead.sum_us);
	tally_add(&both, &b); /* whatever the order */
	tally_add(&both, &a);
	assert_same(&sum, &both);
	tally_fini(&a);
	tally_fini(&b);
	tally_fini(&sum);
	tally_fini(&both);
}

#define CLOSED	"[1,2,3,4,5,6]"
#define BUCKETS "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14]"
#define TIMES	"{\"sum_us\":1,\"buckets\":" BUCKETS "}"

/* The members as they should be, but for one. */
static const char *const good[] = {"1", "2", CLOSED, TIMES, TIMES, "[[\"m\",\"n\",200,3]]"};
static const char *const members[] = {"queued",	    "retries",	"closed",
				      "first_byte", "overhead", "requests"};

static struct json *document(size_t member, const char *instead)
{
	struct buf out = {0};
	struct json_error error;
	struct json *json;
	bool first = true;

	buf_puts(&out, "{");
	for (size_t i = 0; i < COUNT(members); i++) {
		const char *value = i == member ? instead : good[i];

		if (!value)
			continue; /* left out */
		buf_printf(&out, "%s\"%s\":%s", first ? "" : ",", members[i], value);
		first = false;
	}
	buf_puts(&out, "}");
	json = json_parse(out.data, out.len, 0, &error);
	if (!json)
		fail_msg("%s: %s", error.text, out.data);
	buf_fini(&out);
	return json;
}

static const struct {
	size_t member;
	const char *instead;
} bad[] = {
	{0, NULL},
	{0, "-1"},
	{0, "0.5"},
	{0, "\"1\""},
	{0, "null"},
	{0, "[1]"},
	{0, "9007199254740993e9"},
	{1, NULL},
	{1, "-1"},
	{1, "true"},
	{2, NULL},
	{2, "[]"},
	{2, "[1,2,3,4,5]"},
	{2, "[1,2,3,4,5,6,7]"},
	{2, "[1,2,3,4,5,-6]"},
	{2, "[1,2,3,4,5,null]"},
	{2, "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6}"},
	{2, "6"},
	{3, NULL},
	{3, "[]"},
	{3, "null"},
	{3, "{\"sum_us\":1}"},
	{3, "{\"buckets\":" BUCKETS "}"},
	{3, "{\"sum_us\":-1,\"buckets\":" BUCKETS "}"},
	{3, "{\"sum_us\":1,\"buckets\":[1]}"},
	{3, "{\"sum_us\":1,\"buckets\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]}"},
	{3, "{\"sum_us\":1,\"buckets\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,-14]}"},
	{4, NULL},
	{4, "{}"},
	{4, "{\"sum_us\":1,\"buckets\":\"x\"}"},
	{5, NULL},
	{5, "{}"},
	{5, "null"},
	{5, "7"},
	{5, "[7]"},
	{5, "[[]]"},
	{5, "[{}]"},
	{5, "[[\"m\"]]"},
	{5, "[[\"m\",\"n\"]]"},
	{5, "[[\"m\",\"n\",200]]"},
	{5, "[[\"m\",\"n\",200,1,1]]"},
	{5, "[[1,\"n\",200,1]]"},
	{5, "[[\"m\",null,200,1]]"},
	{5, "[[\"m\",\"n\",\"200\",1]]"},
	{5, "[[\"m\",\"n\",-1,1]]"},
	{5, "[[\"m\",\"n\",1000,1]]"},
	{5, "[[\"m\",\"n\",200,-1]]"},
	{5, "[[\"m\",\"n\",200,0.5]]"},
	{5, "[[\"m\\n\",\"n\",200,1]]"},
	{5, "[[\"m\",\"n\\r\",200,1]]"},
	{5, "[[\"m\",\"n\",200,1],[\"m\",\"n\",200]]"},
};

static void test_tally__bad_reports_are_refused(void **state)
{
	static const char *const none[] = {"null", "7", "\"x\"", "[]", "{}"};
	struct json_error error;
	struct json *json = document(SIZE_MAX, NULL);
	struct tally tally;

	(void)state;
	assert_int_equal(tally_read(&tally, json), 0);
	assert_int_equal(tally.refusals[5], 6);
	assert_int_equal(tally.overhead.count, 105);
	tally_fini(&tally);
	json_free(json);
	for (size_t i = 0; i < COUNT(bad); i++) {
		json = document(bad[i].member, bad[i].instead);
		memset(&tally, 0x55, sizeof(tally));
		if (tally_read(&tally, json) != -EBADMSG)
			fail_msg("taken: \"%s\": %s", members[bad[i].member],
				 bad[i].instead ? bad[i].instead : "left out");
		for (size_t k = 0; k < sizeof(tally); k++)
			assert_int_equal(((char *)&tally)[k], 0); /* empty */
		json_free(json);
	}
	for (size_t i = 0; i < COUNT(none); i++) {
		json = json_parse(none[i], strlen(none[i]), 0, &error);
		assert_int_equal(tally_read(&tally, json), -EBADMSG);
		json_free(json);
	}
}

static void test_tally__names_are_not_longer_than_models_may_be(void **state)
{
	(void)state;
	for (int len = 255; len <= 256; len++) {
		char row[320];
		struct json *json;
		struct tally tally;

		snprintf(row, sizeof(row), "[[\"%0*d\",\"n\",200,1]]", len, 0);
		json = document(5, row);
		assert_int_equal(tally_read(&tally, json), len == 255 ? 0 : -EBADMSG);
		tally_fini(&tally);
		json_free(json);
	}
}

/* ---- the text format of Prometheus ---- */

/* NAME{LABEL="VALUE",...} NUMBER */
static void check_sample(const char *line, const char *family)
{
	size_t name = strlen(family);
	const char *at = line + name;
	char *end;

	if (strncmp(line, family, name) != 0)
		fail_msg("not of the family %s: %s", family, line);
	for (const char *const *suffix = (const char *const[]){"_bucket", "_sum", "_count", NULL};
	     *suffix; suffix++) {
		if (!strncmp(at, *suffix, strlen(*suffix))) {
			at += strlen(*suffix);
			break;
		}
	}
	while (*at == '{' || *at == ',') {
		at++;
		assert_true(strspn(at, "abcdefghijklmnopqrstuvwxyz_") > 0);
		at += strspn(at, "abcdefghijklmnopqrstuvwxyz_");
		assert_memory_equal(at, "=\"", 2);
		for (at += 2; *at != '"'; at++) {
			assert_true(*at != '\0');
			if (*at == '\\' && !strchr("\\\"n", *++at))
				fail_msg("a bad escape: %s", line);
		}
		at++;
		assert_true(*at == ',' || *at == '}');
	}
	at += *at == '}';
	assert_true(*at == ' ');
	strtod(at + 1, &end);
	if (*end || end == at + 1)
		fail_msg("no number: %s", line);
}

static void test_tally__the_text_is_well_formed(void **state)
{
	struct tally tally = {0};
	char family[128] = "", *text;
	unsigned families = 0, samples = 0;

	(void)state;
	fill(&tally, 3);
	tally_request(&tally, "a\n\\\"}", "b", 200);
	text = text_of(&tally);
	assert_int_equal(text[strlen(text) - 1], '\n');
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		if (!strncmp(line, "# HELP ", 7)) {
			snprintf(family, sizeof(family), "%.*s", (int)strcspn(line + 7, " "),
				 line + 7);
			families++;
		} else if (!strncmp(line, "# TYPE ", 7)) {
			assert_memory_equal(line + 7, family, strlen(family));
		} else {
			check_sample(line, family);
			samples++;
		}
	}
	assert_int_equal(families, 6);
	assert_int_equal(samples, tally.n_rows + 2 * (TALLY_BUCKETS + 3) + 2 + TALLY_REFUSAL_COUNT);
	free(text);
	tally_fini(&tally);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tally__counts_requests),
		cmocka_unit_test(test_tally__begins_anew_when_it_has_ended),
		cmocka_unit_test(test_tally__counts_refusals),
		cmocka_unit_test(test_tally__buckets_hold_what_is_not_above_their_bound),
		cmocka_unit_test(test_tally__histograms_have_sum_and_count),
		cmocka_unit_test(test_tally__labels_are_escaped),
		cmocka_unit_test(test_tally__has_only_so_many_rows),
		cmocka_unit_test(test_tally__a_report_tells_everything),
		cmocka_unit_test(test_tally__as_many_rows_as_there_may_be_can_be_read),
		cmocka_unit_test(test_tally__sums_are_sums),
		cmocka_unit_test(test_tally__bad_reports_are_refused),
		cmocka_unit_test(test_tally__names_are_not_longer_than_models_may_be),
		cmocka_unit_test(test_tally__the_text_is_well_formed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
