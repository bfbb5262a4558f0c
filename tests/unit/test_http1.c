/* SPDX-License-Identifier: MIT */
/*
 * net/http1 by the cases of tests/http: a message, its verdict, and a sentence. Each is fed at
 * once, byte by byte, and cut in two at every place, always from memory that ends at an unreadable
 * page, and must come out the same.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "http1_cases.h"
#include "net/http1_impl.h"

#define HOST	"Host: a\r\n"
#define GET	"GET / HTTP/1.1\r\n" HOST
#define POST	"POST /x HTTP/1.1\r\n" HOST
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define OK200	"HTTP/1.1 200 OK\r\n"

#define CLIFF_SIZE (256 << 10)
#define LONG_CASE  2000 /* bytes; not cut at every place */
#define MUTATIONS  200	/* of each case */

struct witness {
	struct buf seen;
	unsigned pause; /* number of messages to pause behind */
};

static int on_head(void *arg, const struct http1_head *head)
{
	struct witness *witness = arg;

	if (head->status)
		buf_printf(&witness->seen, "%d [", head->status);
	else
		buf_printf(&witness->seen, "%s %s [", head->method, head->target);
	return 0;
}

static int on_body(void *arg, const char *data, size_t len)
{
	buf_add(&((struct witness *)arg)->seen, data, len);
	return 0;
}

static int on_complete(void *arg)
{
	struct witness *witness = arg;

	buf_puts(&witness->seen, "].");
	if (!witness->pause)
		return 0;
	witness->pause--;
	return HTTP1_PAUSE;
}

static const struct http1_events events = {
	.on_head = on_head, .on_body = on_body, .on_complete = on_complete};

/* Two pages, the second one unreadable. */
struct cliff {
	char *pages;
	size_t size; /* of the readable part */
};

static struct cliff cliff_new(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct cliff cliff = {.size = (size + page - 1) / page * page};

	cliff.pages = mmap(NULL, cliff.size + page, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(cliff.pages != MAP_FAILED);
	assert_int_equal(mprotect(cliff.pages + cliff.size, page, PROT_NONE), 0);
	return cliff;
}

static void cliff_free(struct cliff *cliff)
{
	munmap(cliff->pages, cliff->size + (size_t)sysconf(_SC_PAGESIZE));
}

static int feed(struct http1 *parser, struct cliff *cliff, const char *data, size_t len)
{
	char *at = cliff->pages + cliff->size - len;

	memcpy(at, data, len);
	return http1_feed(parser, at, len);
}

/* The guard refuses by itself: the verdict would be the same with another version of llhttp. */
static bool is_guards(const char *error)
{
	return *error && strcmp(error, HTTP1_LLHTTP_SAYS_NO) != 0;
}

static bool is_same(const struct buf *a, const struct buf *b)
{
	return a->len == b->len && (!a->len || !memcmp(a->data, b->data, a->len));
}

/* `first` bytes, then the rest in pieces of `step`. Errors stop. */
static void try_case(const struct http1_case *one, bool is_response, struct cliff *cliff,
		     size_t first, size_t step)
{
	struct witness witness = {0};
	struct http1 *parser = http1_new(is_response, &events, &witness);
	size_t len = one->bytes.len, at = 0;
	int error = 0, eof = 0;

	assert_non_null(parser);
	if (one->no_body)
		http1_expect_no_body(parser);
	while (!error && at < len) {
		size_t n = at ? step : first;

		n = n < len - at ? n : len - at;
		error = feed(parser, cliff, one->bytes.data + at, n);
		at += n;
	}
	if (!error)
		eof = http1_eof(parser);
	if (error != one->error || eof != one->eof ||
	    (!one->any && !is_same(&one->seen, &witness.seen)) ||
	    (error && http1_error_status(parser) != one->status) ||
	    (error && !is_guards(http1_error(parser))))
		fail_msg("%s (first %zu, then %zu): %d %d %d \"%s\" (%s)", one->title, first, step,
			 error, eof, http1_error_status(parser),
			 witness.seen.data ? witness.seen.data : "", http1_error(parser));
	http1_free(parser);
	buf_fini(&witness.seen);
}

static void try_cases(const char *path, bool is_response)
{
	struct cliff cliff = cliff_new(CLIFF_SIZE);
	struct http1_cases *cases = cases_read(path);

	for (size_t i = 0; i < cases->n; i++) {
		const struct http1_case *one = &cases->list[i];
		size_t len = one->bytes.len, by = len > LONG_CASE ? len / 20 : 1;

		try_case(one, is_response, &cliff, len, 1);
		try_case(one, is_response, &cliff, 1, 1);
		for (size_t cut = 1; cut < len; cut += by)
			try_case(one, is_response, &cliff, cut, len);
	}
	cases_free(cases);
	cliff_free(&cliff);
}

static void test_http1__requests(void **state)
{
	(void)state;
	try_cases("tests/http/requests.cases", false);
}

/* xorshift: the same mutations in each run. */
static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

static void mutate(char *text, size_t len, uint32_t *seed)
{
	static const char nasty[] = "\r\n\t :;,0159afAF/HTTP#-+%\x01\x7f\xff\"";

	for (unsigned i = 0; i < 1 + next_random(seed) % 3; i++) {
		char *at = text + next_random(seed) % len;

		*at = nasty[next_random(seed) % (sizeof(nasty) - 1)];
	}
}

/* Whatever the bytes: the verdict is the same at once and byte by byte, and so is what the
 * callbacks see when taken. */
static void compare_cuts(const char *text, size_t len, bool is_response, struct cliff *cliff)
{
	struct witness whole = {0}, bytes = {0};
	struct http1 *a = http1_new(is_response, &events, &whole),
		     *b = http1_new(is_response, &events, &bytes);
	int error_a = feed(a, cliff, text, len), error_b = 0;

	for (size_t at = 0; at < len && !error_b; at++)
		error_b = feed(b, cliff, text + at, 1);
	if (!error_a)
		error_a = http1_eof(a);
	if (!error_b)
		error_b = http1_eof(b);
	if (error_a != error_b || !strcmp(http1_error(a), HTTP1_LLHTTP_SAYS_NO) ||
	    http1_error_status(a) != http1_error_status(b) ||
	    (error_a != -EBADMSG && whole.seen.len != bytes.seen.len))
		fail_msg("%d %d: %.*s", error_a, error_b, (int)len, text);
	http1_free(a);
	http1_free(b);
	buf_fini(&whole.seen);
	buf_fini(&bytes.seen);
}

static void mutate_cases(const char *path, bool is_response, uint32_t seed)
{
	struct cliff cliff = cliff_new(CLIFF_SIZE);
	struct http1_cases *cases = cases_read(path);
	char text[512];

	for (size_t i = 0; i < cases->n * MUTATIONS; i++) {
		const struct buf *bytes = &cases->list[i % cases->n].bytes;

		if (!bytes->len || bytes->len > sizeof(text))
			continue;
		memcpy(text, bytes->data, bytes->len);
		mutate(text, bytes->len, &seed);
		compare_cuts(text, bytes->len, is_response, &cliff);
	}
	cases_free(cases);
	cliff_free(&cliff);
}

static void test_http1__mutations(void **state)
{
	(void)state;
	mutate_cases("tests/http/requests.cases", false, 1);
	mutate_cases("tests/http/responses.cases", true, 2);
}

static void test_http1__responses(void **state)
{
	(void)state;
	try_cases("tests/http/responses.cases", true);
}

static int feed_all(struct http1 *parser, const char *text)
{
	return http1_feed(parser, text, strlen(text));
}

static void test_http1__nul_is_refused(void **state)
{
	static const char message[] = GET "A: b\0c\r\n\r\n";
	struct witness witness = {0};
	struct http1 *parser = http1_new(false, &events, &witness);

	(void)state;
	assert_int_equal(http1_feed(parser, message, sizeof(message) - 1), -EBADMSG);
	assert_int_equal(feed_all(parser, GET "\r\n"), -EBADMSG); /* of no more use */
	http1_free(parser);
}

static void test_http1__pauses_between_messages(void **state)
{
	static const char text[] =
		GET "\r\n" POST "Content-Length: 1\r\n\r\nx" CHUNKED "1\r\na\r\n0\r\n\r\n";
	struct witness witness = {.pause = 2};
	struct http1 *parser = http1_new(false, &events, &witness);
	size_t at, len = sizeof(text) - 1;

	(void)state;
	assert_int_equal(http1_feed(parser, text, len), -EAGAIN);
	at = http1_consumed(parser);
	assert_int_equal(at, strlen(GET "\r\n"));
	assert_true(http1_idle(parser));
	assert_int_equal(http1_feed(parser, text + at, len - at), -EAGAIN);
	at += http1_consumed(parser);
	assert_int_equal(http1_feed(parser, text + at, len - at), 0);
	assert_string_equal(witness.seen.data, "GET / [].POST /x [x].POST /x [a].");
	http1_free(parser);
	buf_fini(&witness.seen);
}

static void test_http1__pauses_at_the_end_of_the_connection(void **state)
{
	struct witness witness = {.pause = 1};
	struct http1 *parser = http1_new(true, &events, &witness);

	(void)state;
	assert_int_equal(feed_all(parser, OK200 "\r\nhi"), 0);
	assert_int_equal(http1_eof(parser), 0);
	assert_string_equal(witness.seen.data, "200 [hi].");
	http1_free(parser);
	buf_fini(&witness.seen);
}

static struct http1_head seen_head;
static int keep_head(void *arg, const struct http1_head *head)
{
	(void)arg;
	seen_head = *head;
	return 0;
}

static void test_http1__head_is_taken_apart(void **state)
{
	static const struct http1_events only = {
		.on_head = keep_head, .on_body = on_body, .on_complete = on_complete};
	struct witness witness = {0};
	struct http1 *parser = http1_new(false, &only, &witness);

	(void)state;
	assert_int_equal(feed_all(parser,
				  "POST http://h:1/p HTTP/1.1\r\nHost: other\r\nX-Two:  a b \t\r\n"
				  "Connection: foo, Keep-Alive\r\nConnection: "
				  "Upgrade\r\nContent-Length: 3\r\n\r\nabc"),
			 0);
	assert_string_equal(seen_head.method, "POST");
	assert_string_equal(seen_head.target, "/p");
	assert_string_equal(http1_field(&seen_head, "host"), "h:1");
	assert_string_equal(http1_field(&seen_head, "x-two"), "a b");
	assert_null(http1_field(&seen_head, "x-three"));
	assert_true(http1_has_token(&seen_head, "connection", "upgrade"));
	assert_true(http1_has_token(&seen_head, "connection", "foo"));
	assert_false(http1_has_token(&seen_head, "connection", "fo"));
	assert_false(http1_has_token(&seen_head, "connection", "close"));
	assert_true(seen_head.keep_alive);
	assert_int_equal(seen_head.content_length, 3);
	assert_false(seen_head.chunked);
	assert_int_equal(seen_head.n_fields, 5);
	http1_free(parser);
	buf_fini(&witness.seen);
}

static void test_http1__keep_alive(void **state)
{
	static const struct {
		const char *text;
		bool response, keep_alive;
	} rows[] = {
		{GET "\r\n", false, true},
		{GET "Connection: close\r\n\r\n", false, false},
		{GET "Connection: keep-alive, CLOSE\r\n\r\n", false, false},
		{"GET / HTTP/1.0\r\n\r\n", false, false},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false, true},
		{OK200 "Content-Length: 0\r\n\r\n", true, true},
		{OK200 "\r\n", true, false},
		{OK200 "Connection: close\r\nContent-Length: 0\r\n\r\n", true, false},
		{"HTTP/1.1 101 x\r\n\r\n", true, false},
	};
	static const struct http1_events only = {
		.on_head = keep_head, .on_body = on_body, .on_complete = on_complete};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct witness witness = {0};
		struct http1 *parser = http1_new(rows[i].response, &only, &witness);

		assert_int_equal(feed_all(parser, rows[i].text), 0);
		if (seen_head.keep_alive != rows[i].keep_alive)
			fail_msg("%s", rows[i].text);
		http1_free(parser);
		buf_fini(&witness.seen);
	}
}

/* Names and values move with the buffer that grows. */
static void check_long_head(const struct http1_head *head)
{
	assert_string_equal(http1_field(head, "host"), "a");
	assert_non_null(http1_field(head, "long"));
}

/* GET, `fields` fields, one of them `value` bytes long; returns what http1_feed() says, in pieces
 * of 1,000. */
static int feed_large(size_t target, unsigned fields, size_t value, int *status)
{
	static const struct http1_events only = {
		.on_head = keep_head, .on_body = on_body, .on_complete = on_complete};
	struct witness witness = {0};
	struct http1 *parser = http1_new(false, &only, &witness);
	struct buf text = {0};
	int error = 0;

	buf_puts(&text, "GET /");
	for (size_t i = 0; i < target; i++)
		buf_puts(&text, "t");
	buf_puts(&text, " HTTP/1.1\r\n" HOST);
	for (unsigned i = 1; i < fields; i++)
		buf_printf(&text, "F%u: v\r\n", i);
	buf_puts(&text, "Long: ");
	for (size_t i = 0; i < value; i++)
		buf_puts(&text, "v");
	buf_puts(&text, "\r\n\r\n");
	for (size_t at = 0; at < text.len && !error; at += 1000)
		error = http1_feed(parser, text.data + at,
				   text.len - at < 1000 ? text.len - at : 1000);
	if (!error)
		check_long_head(&seen_head);
	*status = http1_error_status(parser);
	http1_free(parser);
	buf_fini(&text);
	buf_fini(&witness.seen);
	return error;
}

static void test_http1__limits_of_a_head(void **state)
{
	int status;

	(void)state;
	assert_int_equal(feed_large(8000, 2, 10, &status), 0);
	assert_int_equal(feed_large(1, 2, 60000, &status), 0);
	assert_int_equal(feed_large(1, HTTP1_FIELDS_MAX - 1, 10, &status), 0);
	assert_int_equal(feed_large(1, HTTP1_FIELDS_MAX, 10, &status), -E2BIG);
	assert_int_equal(status, 431);
	assert_int_equal(feed_large(1, 2, HTTP1_HEAD_MAX, &status), -E2BIG);
	assert_int_equal(status, 431);
	assert_int_equal(feed_large(HTTP1_HEAD_MAX, 2, 1, &status), -E2BIG);
	assert_int_equal(status, 414);
}

/* What http1_feed() says of a head under these limits. */
static int feed_limited(size_t head_max, size_t fields_max, const char *text, int *status)
{
	struct witness witness = {0};
	struct http1 *parser = http1_new(false, &events, &witness);
	int error;

	http1_limit(parser, head_max, fields_max);
	error = feed_all(parser, text);
	*status = http1_error_status(parser);
	http1_free(parser);
	buf_fini(&witness.seen);
	return error;
}

static void test_http1__limits_are_configurable(void **state)
{
	static const char text[] = GET "A: b\r\n\r\n";
	size_t len = sizeof(text) - 1;
	int status;

	(void)state;
	assert_int_equal(feed_limited(len, 2, text, &status), 0);
	assert_int_equal(feed_limited(len - 1, 2, text, &status), -E2BIG);
	assert_int_equal(status, 431);
	assert_int_equal(feed_limited(len, 1, text, &status), -E2BIG);
	assert_int_equal(status, 431);
	assert_int_equal(feed_limited(strlen("GET / HTTP/1.1\r"), 2, text, &status), -E2BIG);
	assert_int_equal(status, 414);
}

/* Lets the memory of the head go with each piece of a body, and once a message is complete. */
struct trimmer {
	struct witness witness;
	struct http1 *parser;
};

static int trim_head(void *arg, const struct http1_head *head)
{
	return on_head(&((struct trimmer *)arg)->witness, head);
}

static int trim_body(void *arg, const char *data, size_t len)
{
	struct trimmer *trimmer = arg;

	http1_trim(trimmer->parser);
	assert_null(trimmer->parser->text);
	assert_null(trimmer->parser->fields);
	return on_body(&trimmer->witness, data, len);
}

static int trim_complete(void *arg)
{
	struct trimmer *trimmer = arg;

	http1_trim(trimmer->parser);
	assert_null(trimmer->parser->text);
	return on_complete(&trimmer->witness);
}

/* Trims everywhere, byte by byte: within a head nothing may be lost. */
static void try_trimmed(const char *text, bool is_response, const char *seen)
{
	static const struct http1_events trims = {
		.on_head = trim_head, .on_body = trim_body, .on_complete = trim_complete};
	struct trimmer trimmer = {0};

	trimmer.parser = http1_new(is_response, &trims, &trimmer);
	for (size_t i = 0; text[i]; i++) {
		assert_int_equal(http1_feed(trimmer.parser, text + i, 1), 0);
		http1_trim(trimmer.parser);
	}
	assert_int_equal(http1_eof(trimmer.parser), 0);
	assert_string_equal(trimmer.witness.seen.data, seen);
	http1_free(trimmer.parser);
	buf_fini(&trimmer.witness.seen);
}

static void test_http1__heads_may_be_let_go(void **state)
{
	(void)state;
	try_trimmed(GET "\r\n" POST "Content-Length: 2\r\n\r\nab" CHUNKED
			"1\r\nx\r\n1;e\r\ny\r\n0\r\nA: b\r\n\r\n" GET "Connection: close\r\n\r\n",
		    false, "GET / [].POST /x [ab].POST /x [xy].GET / [].");
	try_trimmed("HTTP/1.1 100 \r\n\r\n" OK200 "Content-Length: 1\r\n\r\na" OK200 "\r\nhi", true,
		    "100 [].200 [a].200 [hi].");
	try_trimmed("HTTP/1.1 101 \r\n\r\nraw", true, "101 [raw].");
}

static int feed_chunked(const char *before, size_t n, char c, const char *after)
{
	struct witness witness = {0};
	struct http1 *parser = http1_new(false, &events, &witness);
	int error = feed_all(parser, CHUNKED);

	if (!error)
		error = feed_all(parser, before);
	for (size_t i = 0; i < n && !error; i++)
		error = http1_feed(parser, &c, 1);
	if (!error)
		error = feed_all(parser, after);
	http1_free(parser);
	buf_fini(&witness.seen);
	return error;
}

static void test_http1__extensions_and_trailers_are_bounded(void **state)
{
	(void)state;
	assert_int_equal(feed_chunked("1;", 1000, 'a', "\r\nx\r\n0\r\n\r\n"), 0);
	assert_int_equal(feed_chunked("1;", 2000, 'a', "\r\nx\r\n0\r\n\r\n"), -EBADMSG);
	assert_int_equal(feed_chunked("0\r\nA: ", 8000, 'a', "\r\n\r\n"), 0);
	assert_int_equal(feed_chunked("0\r\nA: ", 9000, 'a', "\r\n\r\n"), -EBADMSG);
}

struct stopper {
	struct http1 *parser;
	char at; /* the callback that stops: h, b or c */
	bool frees;
	unsigned calls;
};

static int stop(struct stopper *stopper, char where)
{
	stopper->calls++;
	if (stopper->at != where)
		return 0;
	if (stopper->frees)
		http1_free(stopper->parser);
	return 1;
}

static int stop_head(void *arg, const struct http1_head *head)
{
	(void)head;
	return stop(arg, 'h');
}

static int stop_body(void *arg, const char *data, size_t len)
{
	(void)data;
	(void)len;
	return stop(arg, 'b');
}

static int stop_complete(void *arg)
{
	return stop(arg, 'c');
}

static void test_http1__callbacks_may_stop_and_free(void **state)
{
	static const struct http1_events stops = {
		.on_head = stop_head, .on_body = stop_body, .on_complete = stop_complete};
	static const char where[] = "hbc";

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct stopper stopper = {.at = where[i % 3], .frees = i >= 3};

		stopper.parser = http1_new(false, &stops, &stopper);
		assert_int_equal(feed_all(stopper.parser, CHUNKED "1\r\na\r\n0\r\n\r\n" GET "\r\n"),
				 -ECANCELED);
		assert_int_equal(stopper.calls, 1 + i % 3);
		if (!stopper.frees)
			http1_free(stopper.parser);
	}
}

static void test_http1__reasons(void **state)
{
	(void)state;
	assert_string_equal(http1_reason(404), "Not Found");
	assert_string_equal(http1_reason(103), "Early Hints");
	assert_string_equal(http1_reason(422), "Unprocessable Content"); /* vLLM's and Immich's */
	assert_string_equal(http1_reason(299), "Unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_http1__requests),
		cmocka_unit_test(test_http1__responses),
		cmocka_unit_test(test_http1__mutations),
		cmocka_unit_test(test_http1__nul_is_refused),
		cmocka_unit_test(test_http1__pauses_between_messages),
		cmocka_unit_test(test_http1__pauses_at_the_end_of_the_connection),
		cmocka_unit_test(test_http1__head_is_taken_apart),
		cmocka_unit_test(test_http1__keep_alive),
		cmocka_unit_test(test_http1__limits_of_a_head),
		cmocka_unit_test(test_http1__limits_are_configurable),
		cmocka_unit_test(test_http1__heads_may_be_let_go),
		cmocka_unit_test(test_http1__extensions_and_trailers_are_bounded),
		cmocka_unit_test(test_http1__callbacks_may_stop_and_free),
		cmocka_unit_test(test_http1__reasons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
