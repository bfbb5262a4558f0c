/* SPDX-License-Identifier: MIT */
/*
 * proxy/scan as tables: a body, what comes of it, and a sentence. Each JSON body is fed at once,
 * byte by byte, and cut in two at every place, always from memory that ends at an unreadable page,
 * and must come out the same, to the offset of the error. tests/http/test_scan_differential.py
 * compares with other parsers.
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
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "proxy/scan.h"
#include "scan_rows.h"

#define MUTATIONS 100 /* of each row */
#define BIG	  ((size_t)8 << 20)
#define BIG_S	  10 /* a quadratic scan of BIG would take hours */
#define COUNT(a)  (sizeof(a) / sizeof(*(a)))

/* Pages, the last one unreadable. */
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

/* A copy that ends where the unreadable page begins. */
static char *cliff_put(const struct cliff *cliff, const char *data, size_t len)
{
	assert_true(len <= cliff->size);
	return memcpy(cliff->pages + cliff->size - len, data, len);
}

/* --- JSON --- */

static void show(struct buf *out, const char *what, const struct scan_value *value,
		 const char *body)
{
	if (value->type == SCAN_ABSENT)
		return;
	buf_printf(out, "%s%s ", out->len ? "; " : "", what);
	buf_add(out, body + value->at, value->len);
	if (value->type == SCAN_STRING)
		buf_printf(out, " = %s%s", value->text, value->too_long ? "..." : "");
	else
		assert_string_equal(value->text, "");
}

/* In the rows' words; To be freed by the caller. */
static char *seen_by(const struct scan *scan, const char *body, int err)
{
	struct buf out = {0};

	assert_int_equal(err, scan->error ? -EBADMSG : 0);
	if (scan->error) {
		buf_printf(&out, "! %s @%zu", scan->error, scan->error_at);
	} else {
		show(&out, "model", &scan->model, body);
		show(&out, "name", &scan->name, body);
		if (scan->stream_seen)
			buf_printf(&out, "%sstream %s", out.len ? "; " : "",
				   scan->stream ? "yes" : "no");
	}
	buf_add(&out, "", 1);
	return out.data;
}

/* `first` bytes, then the rest in pieces of `step`. */
static char *scan_in_pieces(struct cliff *cliff, const char *body, size_t len, size_t first,
			    size_t step)
{
	struct scan scan;
	size_t at = 0;
	int err = 0;

	scan_init(&scan);
	while (at < len) {
		size_t n = at ? step : first;

		n = n < len - at ? n : len - at;
		err = scan_feed(&scan, cliff_put(cliff, body + at, n), n);
		if (err)
			assert_int_equal(scan_feed(&scan, "{}", 2), -EBADMSG); /* for ever */
		at += n;
	}
	err = scan_end(&scan);
	return seen_by(&scan, body, err);
}

static void expect(const char *sentence, const char *how, char *seen, const char *wanted)
{
	if (strcmp(seen, wanted) != 0)
		fail_msg("%s (%s):\n  seen   %s\n  wanted %s", sentence, how, seen, wanted);
	free(seen);
}

/* Whole, byte by byte, and cut in two at every place. */
static void try_all(struct cliff *cliff, const char *sentence, const char *body, size_t len,
		    const char *wanted)
{
	char how[32];

	expect(sentence, "whole", scan_in_pieces(cliff, body, len, len, len), wanted);
	expect(sentence, "byte by byte", scan_in_pieces(cliff, body, len, 1, 1), wanted);
	for (size_t cut = 1; cut < len; cut++) {
		snprintf(how, sizeof(how), "cut at %zu", cut);
		expect(sentence, how, scan_in_pieces(cliff, body, len, cut, len), wanted);
	}
}

static void test_scan__rows(void **state)
{
	struct cliff cliff = cliff_new(4096);

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		try_all(&cliff, rows[i].sentence, rows[i].bytes, rows[i].len, rows[i].seen);
	cliff_free(&cliff);
}

/* A body that is cut short is refused at its end; only space may be missing. */
static void test_scan__no_beginning_is_taken_for_the_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		size_t last = rows[i].len;

		if (*rows[i].seen == '!')
			continue;
		while (rows[i].bytes[last - 1] != '}')
			last--;
		for (size_t len = 0; len < last; len++) {
			struct scan scan;

			scan_init(&scan);
			assert_int_equal(scan_feed(&scan, rows[i].bytes, len), 0);
			assert_int_equal(scan_end(&scan), -EBADMSG);
			assert_int_equal(scan_feed(&scan, "}", 1), -EBADMSG);
			assert_int_equal(scan.error_at, len);
		}
	}
}

static void mutate(unsigned *seed, char *bytes, size_t *len)
{
	static const char likely[] = "{}[]\",:\\u0deDE8tfn-+.1 \n\x80\xbf\xc3\xed\xf0";
	size_t at = (size_t)rand_r(seed) % *len;

	switch (rand_r(seed) % 3) {
	case 0:
		memmove(bytes + at, bytes + at + 1, --*len - at);
		break;
	case 1:
		bytes[at] = likely[(size_t)rand_r(seed) % sizeof(likely)];
		break;
	default:
		memmove(bytes + at + 1, bytes + at, (*len)++ - at);
		bytes[at] = likely[(size_t)rand_r(seed) % sizeof(likely)];
	}
}

static void test_scan__mutated_rows_come_out_the_same_in_pieces(void **state)
{
	struct cliff cliff = cliff_new(4096);
	unsigned seed = 3;

	(void)state;
	for (size_t i = 0; i < COUNT(rows) * MUTATIONS; i++) {
		const struct row *row = &rows[i / MUTATIONS];
		char bytes[512];
		size_t len = row->len;
		char *whole;

		memcpy(bytes, row->bytes, len);
		for (int n = 1 + rand_r(&seed) % 3; n && len; n--)
			mutate(&seed, bytes, &len);
		whole = scan_in_pieces(&cliff, bytes, len, len, len);
		expect(row->sentence, "mutated", scan_in_pieces(&cliff, bytes, len, 1, 1), whole);
		for (size_t step = 2; step < 9; step++)
			expect(row->sentence, "mutated, in pieces",
			       scan_in_pieces(&cliff, bytes, len, step, step), whole);
		free(whole);
	}
	cliff_free(&cliff);
}

/* Each byte at each place of the words of eight that are looked at in one go. */
static void test_scan__each_byte_in_a_string(void **state)
{
	struct cliff cliff = cliff_new(4096);

	(void)state;
	for (size_t i = 0; i < 256 * 26; i++) {
		char body[40] = "{\"a\":\"..........................\"}";
		size_t len = strlen(body), at = 6 + i % 26;
		unsigned char c = (unsigned char)(i / 26);
		char wanted[80] = "";

		body[at] = (char)c;
		if (c < 0x20)
			snprintf(wanted, sizeof(wanted), CONTROL "%zu", at);
		else if (c >= 0x80)
			snprintf(wanted, sizeof(wanted), BAD_UTF8 "%zu",
				 at + (c >= 0xc2 && c <= 0xf4));
		else if (c == '\\' && at < 31)
			snprintf(wanted, sizeof(wanted), BAD_ESCAPE "%zu", at + 1);
		else if (c == '\\')
			snprintf(wanted, sizeof(wanted), NO_END "%zu", len);
		else if (c == '"')
			snprintf(wanted, sizeof(wanted), NO_COMMA "%zu", at + 1);
		expect("each byte", "whole", scan_in_pieces(&cliff, body, len, len, len), wanted);
		expect("each byte", "in fives", scan_in_pieces(&cliff, body, len, 5, 5), wanted);
	}
	cliff_free(&cliff);
}

/* All first and second bytes, with third and fourth ones about the edges. */
static void test_scan__utf8_as_base_utf8_has_it(void **state)
{
	static const unsigned char edges[] = {0x7f, 0x80, 0xbf, 0xc0};

	(void)state;
	for (unsigned i = 0; i < 128 * 256 * 16; i++) {
		char body[] = "{\"a\":\"1234    \"}", *at = body + 6;
		struct scan whole, bytes;
		size_t sequence;

		at[0] = (char)(0x80 + i / 256 / 16);
		at[1] = (char)(i / 16 % 256);
		at[2] = (char)edges[i / 4 % 4];
		at[3] = (char)edges[i % 4];
		sequence = utf8_sequence(at, 4);
		if (sequence)
			memset(at + sequence, ' ', 4 - sequence);
		scan_init(&whole);
		scan_init(&bytes);
		scan_feed(&whole, body, sizeof(body) - 1);
		for (size_t n = 0; n < sizeof(body) - 1; n++)
			scan_feed(&bytes, body + n, 1);
		if (scan_end(&whole) != (sequence ? 0 : -EBADMSG) ||
		    scan_end(&bytes) != (sequence ? 0 : -EBADMSG) ||
		    whole.error_at != bytes.error_at)
			fail_msg("%02x %02x %02x %02x", (unsigned char)at[0], (unsigned char)at[1],
				 (unsigned char)at[2], (unsigned char)at[3]);
	}
}

/* --- limits --- */

/* {"a":[[...]],"model":"m"}: `depth` of them in one another. */
static char *nested(size_t depth, const char *open, const char *close)
{
	struct buf out = {0};

	buf_puts(&out, "{\"a\":");
	for (size_t i = 1; i < depth; i++)
		buf_puts(&out, open);
	buf_puts(&out, "0");
	for (size_t i = 1; i < depth; i++)
		buf_puts(&out, close);
	buf_puts(&out, ",\"model\":\"m\"}");
	buf_add(&out, "", 1);
	return out.data;
}

static void test_scan__depth(void **state)
{
	struct cliff cliff = cliff_new(8192);
	char *body;

	(void)state;
	body = nested(SCAN_DEPTH_MAX, "[", "]");
	try_all(&cliff, "arrays, as deep as may be", body, strlen(body), "model \"m\" = m");
	free(body);
	body = nested(SCAN_DEPTH_MAX, "{\"model\":", "}");
	try_all(&cliff, "objects, as deep as may be", body, strlen(body), "model \"m\" = m");
	free(body);
	body = nested(SCAN_DEPTH_MAX + 1, "[", "]");
	try_all(&cliff, "one too deep", body, strlen(body),
		"! objects and arrays are nested too deep @132");
	free(body);
	cliff_free(&cliff);
}

/* On each level the closing bracket must be of the right kind. */
static void test_scan__each_level_knows_what_it_is(void **state)
{
	(void)state;
	for (unsigned pattern = 0; pattern < 256; pattern++) {
		for (size_t wrong = 0; wrong <= SCAN_DEPTH_MAX; wrong++) {
			struct buf body = {0};
			struct scan scan;

			for (size_t i = 0; i < SCAN_DEPTH_MAX; i++)
				buf_puts(&body, !i || pattern >> i % 8 & 1 ? "{\"a\":" : "[");
			buf_puts(&body, "1");
			for (size_t i = SCAN_DEPTH_MAX; i-- > 0;) {
				bool object = !i || pattern >> i % 8 & 1;

				buf_puts(&body, object != (i == wrong) ? "}" : "]");
			}
			scan_init(&scan);
			scan_feed(&scan, body.data, body.len);
			assert_int_equal(scan_end(&scan), wrong == SCAN_DEPTH_MAX ? 0 : -EBADMSG);
			buf_fini(&body);
		}
	}
}

/* As model and as name, next to a short one: `len` bytes, of which the last character is `last`,
 * and what is kept of it. */
static void try_long(struct cliff *cliff, size_t len, const char *last, const char *escaped,
		     size_t kept)
{
	char body[700], wanted[1000], name[600];
	int n = (int)(len - strlen(last));

	memset(name, 'a', len);
	memcpy(name + n, last, strlen(last));
	name[len] = '\0';
	snprintf(body, sizeof(body), "{\"name\":\"%.*s%s\",\"model\":\"m\"}", n, name, escaped);
	snprintf(wanted, sizeof(wanted), "model \"m\" = m; name \"%.*s%s\" = %.*s%s", n, name,
		 escaped, (int)kept, name, kept < len ? "..." : "");
	try_all(cliff, "a long name", body, strlen(body), wanted);
	snprintf(body, sizeof(body), "{\"name\":\"n\",\"model\":\"%.*s%s\"}", n, name, escaped);
	snprintf(wanted, sizeof(wanted), "model \"%.*s%s\" = %.*s%s; name \"n\" = n", n, name,
		 escaped, (int)kept, name, kept < len ? "..." : "");
	try_all(cliff, "a long model", body, strlen(body), wanted);
}

static void test_scan__long_names_are_cut_between_characters(void **state)
{
	struct cliff cliff = cliff_new(4096);

	(void)state;
	try_long(&cliff, SCAN_NAME_MAX, "z", "z", SCAN_NAME_MAX);
	try_long(&cliff, SCAN_NAME_MAX + 1, "z", "z", SCAN_NAME_MAX);
	try_long(&cliff, SCAN_NAME_MAX + 200, "z", "z", SCAN_NAME_MAX);
	for (size_t more = 0; more < 4; more++) {
		const char *face = "\xf0\x9f\x98\x80", *euro = "\xe2\x82\xac", *e = "\xc3\xa9";
		size_t len = SCAN_NAME_MAX + more;

		try_long(&cliff, len, face, face, more ? len - 4 : len);
		try_long(&cliff, len, face, "\\ud83d\\ude00", more ? len - 4 : len);
		if (more < 3)
			try_long(&cliff, len, euro, euro, more ? len - 3 : len);
		if (more < 3)
			try_long(&cliff, len, euro, "\\u20ac", more ? len - 3 : len);
		if (more < 2)
			try_long(&cliff, len, e, e, more ? len - 2 : len);
	}
	cliff_free(&cliff);
}

static void test_scan__its_memory_is_small(void **state)
{
	(void)state;
	assert_true(sizeof(struct scan) <= 1024);
}

struct big {
	const char *sentence, *before, *unit, *behind;
};

/* `big`, with the unit as often as BIG has room for. */
static char *big_body(const struct big *big, size_t *len)
{
	char *body = malloc(BIG + 1024);
	size_t n = strlen(big->unit);

	assert_non_null(body);
	*len = strlen(big->before);
	memcpy(body, big->before, *len);
	for (; *len + n < BIG; *len += n)
		memcpy(body + *len, big->unit, n);
	memcpy(body + *len, big->behind, strlen(big->behind));
	*len += strlen(big->behind);
	return body;
}

static int64_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void test_scan__big_bodies_take_linear_time(void **state)
{
	static const struct big bigs[] = {
		{"an image", "{\"i\":\"", "iVBORw0KGgoAAAANSUhEUgAAAAEAAA", "\",\"model\":\"m\"}"},
		{"an image as the name", "{\"name\":\"", "iVBORw0KGgoAAAANSU",
		 "\",\"model\":\"m\"}"},
		{"a key", "{\"", "model", "\":0,\"model\":\"m\"}"},
		{"escapes", "{\"a\":\"", "\\u0041\\n", "\",\"model\":\"m\"}"},
		{"emojis", "{\"a\":\"", "\xf0\x9f\x98\x80", "\",\"model\":\"m\"}"},
		{"a number", "{\"a\":1", "0", ",\"model\":\"m\"}"},
		{"small arrays", "{\"a\":[0", ",[[],[1,{\"a\":{}}]]", "],\"model\":\"m\"}"},
		{"small members", "{\"a\":0", ",\"mode\":[]", ",\"model\":\"m\"}"},
		{"space", "{\"a\":", " \n", "0,\"model\":\"m\"}"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bigs); i++) {
		int64_t start = now_s();
		struct scan scan;
		size_t len;
		char *body = big_body(&bigs[i], &len);

		scan_init(&scan);
		for (size_t at = 0; at < len; at += 4096)
			scan_feed(&scan, body + at, len - at < 4096 ? len - at : 4096);
		if (scan_end(&scan) || strcmp(scan.model.text, "m") != 0)
			fail_msg("%s: %s", bigs[i].sentence, scan.error);
		if (now_s() - start > BIG_S)
			fail_msg("%s: takes too long", bigs[i].sentence);
		free(body);
	}
}

/* A million of open brackets: refused at the first one too many. */
static void test_scan__a_flood_of_brackets(void **state)
{
	struct scan scan;
	int err = 0;

	(void)state;
	scan_init(&scan);
	assert_int_equal(scan_feed(&scan, "{\"a\":", 5), 0);
	for (int i = 0; i < 1000000; i++)
		err = scan_feed(&scan, "[", 1);
	assert_int_equal(err, -EBADMSG);
	assert_int_equal(scan.error_at, 5 + SCAN_DEPTH_MAX - 1);
}

/* --- multipart --- */

static char *form_seen(const struct cliff *type_cliff, const struct cliff *cliff,
		       const char *content_type, const char *bytes, size_t len)
{
	const char *type = cliff_put(type_cliff, content_type, strlen(content_type) + 1);
	const char *body = cliff_put(cliff, bytes, len), *error = "";
	struct scan_value value;
	struct buf out = {0};
	int err = scan_multipart(type, body, len, "model", &value, &error);

	assert_int_equal(err, error ? -EBADMSG : 0);
	if (error)
		buf_printf(&out, "! %s", error);
	else if (value.type != SCAN_ABSENT)
		buf_add(&out, body + value.at, value.len);
	buf_add(&out, "", 1);
	if (!error) {
		assert_string_equal(value.text, out.data);
		assert_false(value.too_long);
	}
	return out.data;
}

static void test_scan_multipart__rows(void **state)
{
	struct cliff type = cliff_new(4096), cliff = cliff_new(4096);

	(void)state;
	for (size_t i = 0; i < COUNT(form_rows); i++) {
		const struct form_row *row = &form_rows[i];

		expect(row->sentence, "form",
		       form_seen(&type, &cliff, row->content_type, row->bytes, row->len),
		       row->seen);
	}
	cliff_free(&type);
	cliff_free(&cliff);
}

static void test_scan_multipart__absent_is_not_empty(void **state)
{
	static const char empty[] = FIRST(NAMED, "") LAST, absent[] = FIRST("name=f", "") LAST;
	struct scan_value value;
	const char *error;

	(void)state;
	assert_int_equal(scan_multipart(TYPE, empty, sizeof(empty) - 1, "model", &value, &error),
			 0);
	assert_int_equal(value.type, SCAN_STRING);
	assert_int_equal(scan_multipart(TYPE, absent, sizeof(absent) - 1, "model", &value, &error),
			 0);
	assert_int_equal(value.type, SCAN_ABSENT);
	assert_int_equal(scan_multipart(TYPE, NULL, 0, "model", &value, &error), -EBADMSG);
}

static void test_scan_multipart__no_beginning_is_taken_for_the_whole(void **state)
{
	struct cliff type = cliff_new(4096), cliff = cliff_new(4096);

	(void)state;
	for (size_t i = 0; i < COUNT(form_rows); i++) {
		const struct form_row *row = &form_rows[i];
		size_t last = row->len;

		if (*row->seen == '!')
			continue;
		while (row->bytes[last - 1] != '-')
			last--;
		for (size_t len = 0; len < last; len++) {
			char *seen = form_seen(&type, &cliff, row->content_type, row->bytes, len);

			if (*seen != '!')
				fail_msg("%s, cut at %zu: %s", row->sentence, len, seen);
			free(seen);
		}
	}
	cliff_free(&type);
	cliff_free(&cliff);
}

/* Nothing but that it stays within its bytes. */
static void test_scan_multipart__mutated_rows(void **state)
{
	struct cliff type = cliff_new(4096), cliff = cliff_new(4096);
	unsigned seed = 5;

	(void)state;
	for (size_t i = 0; i < COUNT(form_rows) * MUTATIONS; i++) {
		const struct form_row *row = &form_rows[i / MUTATIONS];
		char bytes[1024];
		size_t len = row->len;

		memcpy(bytes, row->bytes, len);
		for (int n = 1 + rand_r(&seed) % 3; n && len; n--)
			mutate(&seed, bytes, &len);
		free(form_seen(&type, &cliff, row->content_type, bytes, len));
	}
	cliff_free(&type);
	cliff_free(&cliff);
}

/* Header lines of just `len` bytes, the blank one counted. */
static char *part_head_of(size_t len, size_t *body_len)
{
	static const char head[] = "--xYz\r\n" DISP(NAMED) "X: ";
	char *body = malloc(len + 100);
	size_t at = sizeof(head) - 1, end = 7 + len - 4;

	assert_non_null(body);
	memcpy(body, head, at);
	memset(body + at, 'x', end - at);
	memcpy(body + end, "\r\n\r\na" LAST, sizeof("\r\n\r\na" LAST));
	*body_len = end + sizeof("\r\n\r\na" LAST) - 1;
	return body;
}

static void test_scan_multipart__limits(void **state)
{
	struct cliff type = cliff_new(4096), cliff = cliff_new(16384);
	char name[SCAN_NAME_MAX + 100];
	struct scan_value value;
	const char *error;
	char *body;
	size_t len;

	(void)state;
	body = part_head_of(SCAN_PART_HEAD_MAX, &len);
	expect("as long as may be", "head", form_seen(&type, &cliff, TYPE, body, len), "a");
	free(body);
	body = part_head_of(SCAN_PART_HEAD_MAX + 1, &len);
	expect("too long", "head", form_seen(&type, &cliff, TYPE, body, len), HEAD_LONG);
	free(body);

	memset(name, 'a', sizeof(name));
	memcpy(name + SCAN_NAME_MAX - 1, "\xc3\xa9", 2);
	len = (size_t)snprintf(cliff.pages, cliff.size, "%s%.*s%s", FIRST(NAMED, ""),
			       SCAN_NAME_MAX + 50, name, LAST);
	assert_int_equal(scan_multipart(TYPE, cliff.pages, len, "model", &value, &error), 0);
	assert_true(value.too_long);
	assert_int_equal(value.len, SCAN_NAME_MAX + 50);
	assert_int_equal(strlen(value.text), SCAN_NAME_MAX - 1); /* half a character is none */
	cliff_free(&type);
	cliff_free(&cliff);
}

static void test_scan_multipart__big_bodies_take_linear_time(void **state)
{
#define D70  "----------------------------------------------------------------------"
#define HEAD "--" D70 "\r\nContent-Disposition: form-data; name=f\r\n\r\n"
#define TAIL "\r\n--" D70 "--\r\n"
	static const struct big bigs[] = {
		{"almost boundaries", HEAD, "\r\n--" D70 "\b", ""},
		{"boundaries but for the last byte", HEAD, "\r\n--" D70, "-"},
		{"line feeds", HEAD, "\n", TAIL},
		{"CR LF", HEAD, "\r\n", TAIL},
		{"dashes", HEAD "x", "-", TAIL},
		{"parts", "", HEAD "\r\n", "--" D70 "--"},
		{"zeros", HEAD, "00000000", TAIL},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(bigs); i++) {
		int64_t start = now_s();
		struct scan_value value;
		const char *error;
		size_t len;
		char *body = big_body(&bigs[i], &len);
		int err = scan_multipart("multipart/form-data; boundary=" D70, body, len, "model",
					 &value, &error);

		/* the first two do not end as they should */
		if (err != (i < 2 ? -EBADMSG : 0))
			fail_msg("%s: %s", bigs[i].sentence, error ? error : "taken");
		if (now_s() - start > BIG_S)
			fail_msg("%s: takes too long", bigs[i].sentence);
		free(body);
	}
}

/* --- scan_quote --- */

static void test_scan_quote__what_it_writes(void **state)
{
	char out[100];

	(void)state;
	assert_int_equal(scan_quote(out, ""), 2);
	assert_string_equal(out, "\"\"");
	assert_int_equal(scan_quote(out, "qwen3:8b"), 10);
	assert_string_equal(out, "\"qwen3:8b\"");
	scan_quote(out, "a\"b\\c/d\b\t\n\v\f\r\x01\x1f\x7f\xc3\xa9");
	assert_string_equal(out,
			    "\"a\\\"b\\\\c/d\\b\\t\\n\\u000b\\f\\r\\u0001\\u001f\x7f\xc3\xa9\"");
}

/* What it writes is read as what it was given, and fits the room. */
static void test_scan_quote__is_read_back(void **state)
{
	struct cliff cliff = cliff_new(4096);

	(void)state;
	for (unsigned c = 1; c < 0x800; c++) {
		char text[] = {'a', (char)c, (char)c, '\0'}, body[64];
		size_t room = 6 * 3 + 3, len;
		struct scan scan;

		if (c >= 0x80) {
			text[1] = (char)(0xc0 | c >> 6);
			text[2] = (char)(0x80 | (c & 0x3f));
		}
		len = scan_quote(cliff.pages + cliff.size - room, text);
		assert_int_equal(len, strlen(cliff.pages + cliff.size - room));
		snprintf(body, sizeof(body), "{\"model\":%s}", cliff.pages + cliff.size - room);
		scan_init(&scan);
		assert_int_equal(scan_feed(&scan, body, strlen(body)), 0);
		assert_int_equal(scan_end(&scan), 0);
		assert_string_equal(scan.model.text, text);
	}
	cliff_free(&cliff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan__rows),
		cmocka_unit_test(test_scan__no_beginning_is_taken_for_the_whole),
		cmocka_unit_test(test_scan__mutated_rows_come_out_the_same_in_pieces),
		cmocka_unit_test(test_scan__each_byte_in_a_string),
		cmocka_unit_test(test_scan__utf8_as_base_utf8_has_it),
		cmocka_unit_test(test_scan__depth),
		cmocka_unit_test(test_scan__each_level_knows_what_it_is),
		cmocka_unit_test(test_scan__long_names_are_cut_between_characters),
		cmocka_unit_test(test_scan__its_memory_is_small),
		cmocka_unit_test(test_scan__big_bodies_take_linear_time),
		cmocka_unit_test(test_scan__a_flood_of_brackets),
		cmocka_unit_test(test_scan_multipart__rows),
		cmocka_unit_test(test_scan_multipart__absent_is_not_empty),
		cmocka_unit_test(test_scan_multipart__no_beginning_is_taken_for_the_whole),
		cmocka_unit_test(test_scan_multipart__mutated_rows),
		cmocka_unit_test(test_scan_multipart__limits),
		cmocka_unit_test(test_scan_multipart__big_bodies_take_linear_time),
		cmocka_unit_test(test_scan_quote__what_it_writes),
		cmocka_unit_test(test_scan_quote__is_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
