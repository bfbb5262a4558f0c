/* SPDX-License-Identifier: MIT */
#include "base/json.h"
#include "base/utf8.h"
#include "farm.h"

static struct json *parse(const char *text, unsigned flags)
{
	struct json_error error;
	struct json *json = json_parse(text, strlen(text), flags, &error);

	if (!json)
		fail_msg("%s: line %u: %s", text, error.line, error.text);
	return json;
}

struct refusal {
	const char *sentence, *text;
	unsigned line;
	const char *error;
};

/* What cJSON alone would let through is marked [c]. */
static const struct refusal refusals[] = {
	{"nothing", "", 1, "the text ends where a value is expected"},
	{"white space", " \n ", 2, "the text ends where a value is expected"},
	{"trailing text [c]", "{}\nx", 2, "unexpected 'x', expected the end of the text"},
	{"two values [c]", "1 2", 1, "unexpected '2', expected the end of the text"},
	{"NUL and more behind the text [c]", "{}\\0x", 1, "NUL byte in the text"},
	{"duplicate keys [c]", "{\"a\":1,\n\"a\":2}", 2, "key \"a\" is given twice"},
	{"the same key, once escaped [c]", "{\"a\":1,\"\\u0061\":2}", 1,
	 "key \"a\" is given twice"},
	{"the same key as a surrogate pair", "{\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":2}", 1,
	 "key \"\xf0\x9f\x98\x80\" is given twice"},
	{"duplicates far apart", "{\"k\":1,\"b\":2,\"c\":3,\"d\":4,\n\"e\":5,\"k\":6}", 2,
	 "key \"k\" is given twice"},
	{"duplicates deep inside", "[[{\"x\":{\"y\":1,\"y\":1}}]]", 1, "key \"y\" is given twice"},
	{"\\u0000 [c]", "[\"a\\u0000b\"]", 1, "\\u0000 in a string"},
	{"\\u0000 in a key [c]", "{\"\\u0000\":1}", 1, "\\u0000 in a string"},
	{"half a surrogate pair", "[\"\\ud800\"]", 1, "\\ud800 is half of a surrogate pair"},
	{"the other half first", "[\"\\udc00\\ud800\"]", 1, "\\udc00 is half of a surrogate pair"},
	{"two other halves", "[\"\\udc00\\udc00\"]", 1, "\\udc00 is half of a surrogate pair"},
	{"two first halves", "[\"\\ud800\\ud800\"]", 1, "\\ud800 is half of a surrogate pair"},
	{"a bad escape", "[\"\\x\"]", 1, "unknown escape in a string"},
	{"an escape without digits", "[\"\\u12g4\"]", 1, "\\u without four hexadecimal digits"},
	{"an escape at the end", "[\"\\", 1, "unknown escape in a string"},
	{"an escape that is cut", "[\"\\u00", 1, "\\u without four hexadecimal digits"},
	{"a tab in a string [c]", "[\"\t\"]", 1, "control character 0x09 in a string"},
	{"a line break in a string [c]", "[\"a\nb\"]", 1, "string without end"},
	{"a string without end", "[\"abc", 1, "string without end"},
	{"overlong UTF-8 [c]", "[\"\xc0\xaf\"]", 1, "byte 0xc0 is not UTF-8"},
	{"a surrogate in UTF-8 [c]", "[\"\xed\xa0\x80\"]", 1, "byte 0xed is not UTF-8"},
	{"UTF-8 above U+10FFFF [c]", "[\"\xf4\x90\x80\x80\"]", 1, "byte 0xf4 is not UTF-8"},
	{"UTF-8 that is cut [c]", "[\"\xe2\x82\"]", 1, "byte 0xe2 is not UTF-8"},
	{"UTF-8 cut by the end", "\xe2\x82", 1, "byte 0xe2 is not UTF-8"},
	{"a byte order mark [c]", "\xef\xbb\xbf{}", 1, "unexpected byte 0xef, expected a value"},
	{"a leading zero [c]", "[01]", 1, "number with a leading zero"},
	{"a plus sign", "[+1]", 1, "unexpected '+', expected a value"},
	{"a lone minus", "[-]", 1, "unexpected ']', expected a digit"},
	{"a point without digits [c]", "[1.]", 1, "unexpected ']', expected a digit"},
	{"a point first", "[.5]", 1, "unexpected '.', expected a value"},
	{"an exponent without digits", "[1e]", 1, "unexpected ']', expected a digit"},
	{"hexadecimal", "[0x10]", 1, "unexpected 'x', expected ',' or ']'"},
	{"infinity [c]", "[1e999]", 1, "number too large"},
	{"NaN", "[NaN]", 1, "unexpected 'N', expected a value"},
	{"a number as long as an attack",
	 "[1000000000000000000000000000000000000000000000000000000000000]", 1,
	 "number longer than 60 characters"},
	{"a comma too many [c]", "[1,]", 1, "unexpected ']', expected a value"},
	{"a comma in front", "[,1]", 1, "unexpected ',', expected a value"},
	{"a comma behind the last member", "{\"a\":1,}", 1,
	 "unexpected '}', expected a key in double quotes"},
	{"no comma", "[1\n2]", 2, "unexpected '2', expected ',' or ']'"},
	{"no colon", "{\"a\" 1}", 1, "unexpected '1', expected ':' after the key"},
	{"a key without quotes", "{a:1}", 1, "unexpected 'a', expected a key in double quotes"},
	{"the wrong bracket", "[1}", 1, "unexpected '}', expected ',' or ']'"},
	{"no bracket", "{\"a\":[1]", 1, "the text ends where ',' or '}' is expected"},
	{"a word", "[nul]", 1, "unexpected 'n', expected a value"},
	{"another case", "[True]", 1, "unexpected 'T', expected a value"},
	{"a form feed", "[\f1]", 1, "unexpected byte 0x0c, expected a value"},
	{"a comment where none may be", "{} // x", 1,
	 "comments are not allowed here, expected the end of the text"},
};

static void refuse(const struct refusal *row, unsigned flags)
{
	size_t len = strlen(row->text);
	struct json_error error = {0};
	struct json *json;
	char *text = malloc(len + 1);

	assert_non_null(text);
	memcpy(text, row->text, len); /* no NUL behind: an over-read shows under the sanitizer */
	if (strstr(row->text, "\\0x")) {
		memcpy(text + 2, "\0x", 2);
		len = 4;
	}
	text = realloc(text, len ? len : 1);
	json = json_parse(text, len, flags, &error);
	free(text);
	if (json)
		fail_msg("%s: taken", row->sentence);
	if (error.line != row->line || strcmp(error.text, row->error) != 0)
		fail_msg("%s: line %u: %s", row->sentence, error.line, error.text);
}

static void test_json__refuses_what_is_not_json(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(refusals); i++)
		refuse(&refusals[i], 0);
}

static void test_json__refuses_bad_comments(void **state)
{
	static const struct refusal rows[] = {
		{"no end", "{}\n/* x", 2, "comment without end"},
		{"no end, behind another", "/* \n */{}\n/* /", 3, "comment without end"},
		{"/*/ does not end itself", "{} /*/", 1, "comment without end"},
		{"a lone slash", "{} / x", 1, "unexpected '/', expected the end of the text"},
		{"comments do not nest", "/* /* */ */ {}", 1, "unexpected '*', expected a value"},
		{"they part tokens", "[1/**/2]", 1, "unexpected '2', expected ',' or ']'"},
		{"lines are counted through them", "/*\n\n*/ // x\n[x]", 4,
		 "unexpected 'x', expected a value"},
		{"bytes in comments are checked", "{} // \xff", 1, "byte 0xff is not UTF-8"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		refuse(&rows[i], JSON_COMMENTS);
}

static void test_json__takes_comments_but_not_inside_strings(void **state)
{
	struct json *json = parse("// a \"quote\n{ /* b */ \"u\": \"http://x/*y*/\", // c\n"
				  "\"q\": \"\\\"//\" /**/ }\r\n//",
				  JSON_COMMENTS);

	(void)state;
	assert_string_equal(json_string(json_get(json, "u")), "http://x/*y*/");
	assert_string_equal(json_string(json_get(json, "q")), "\"//");
	assert_int_equal(json_count(json), 2);
	json_free(json);
}

static void nest(struct buf *out, unsigned depth)
{
	buf_clear(out);
	for (unsigned i = 0; i < depth; i++)
		buf_puts(out, i % 2 ? "{\"k\":" : "[");
	buf_puts(out, "1");
	for (unsigned i = depth; i-- > 0;)
		buf_puts(out, i % 2 ? "}" : "]");
}

static void test_json__nests_32_deep_and_no_deeper(void **state)
{
	struct json_error error;
	struct buf text = {0};
	struct json *json;

	(void)state;
	nest(&text, 32);
	json = parse(text.data, 0);
	json_free(json);
	nest(&text, 33);
	assert_null(json_parse(text.data, text.len, 0, &error));
	assert_string_equal(error.text, "nested deeper than 32");
	buf_clear(&text);
	for (unsigned i = 0; i < 1000000; i++)
		buf_puts(&text, "[");
	assert_null(json_parse(text.data, text.len, 0, &error));
	buf_fini(&text);
}

static void test_json__knows_the_line_of_every_value(void **state)
{
	struct json *json = parse("\n{ // line 2\n\"a\": [ 1,\n 2, [\n3 ] ],\n\"b\":\n\n{ \"c\":\n"
				  "true },\n\"d\": \"x\"\n}",
				  JSON_COMMENTS);
	const struct json *a = json_get(json, "a"), *v = json_first(a);

	(void)state;
	assert_int_equal(json_line(json, json), 2);
	assert_int_equal(json_line(json, a), 3);
	assert_int_equal(json_line(json, v), 3);
	v = json_next(v);
	assert_int_equal(json_line(json, v), 4);
	v = json_next(v);
	assert_int_equal(json_line(json, v), 4);
	assert_int_equal(json_line(json, json_first(v)), 5);
	assert_int_equal(json_line(json, json_get(json, "b")), 6); /* a member's is its key's */
	assert_int_equal(json_line(json, json_get(json_get(json, "b"), "c")), 8);
	assert_int_equal(json_line(json, json_get(json, "d")), 10);
	assert_int_equal(json_line(json, NULL), 0);
	json_free(json);
}

static void test_json__finds_members_by_case(void **state)
{
	struct json *json = parse("{\"Key\": 1, \"key\": 2, \"\": 3}", 0);
	int64_t number;

	(void)state;
	assert_true(json_integer(json_get(json, "key"), &number));
	assert_int_equal(number, 2);
	assert_true(json_integer(json_get(json, ""), &number));
	assert_int_equal(number, 3);
	assert_null(json_get(json, "KEY"));
	assert_null(json_get(json_get(json, "key"), "x"));
	assert_null(json_get(NULL, "x"));
	json_free(json);
}

static void test_json__leaves_duplicates_to_who_asks_for_them(void **state)
{
	struct json *json = parse("{\"a\": 1, \"b\": 2,\n \"a\": 3,\n \"a\": 4}", JSON_DUPLICATES);
	const struct json *v = json_first(json);

	(void)state;
	assert_false(json_repeated(v));
	v = json_next(v);
	assert_false(json_repeated(v));
	v = json_next(v);
	assert_true(json_repeated(v));
	assert_int_equal(json_line(json, v), 2);
	v = json_next(v);
	assert_true(json_repeated(v));
	assert_int_equal(json_line(json, v), 3);
	json_free(json);
}

static void test_json__tells_whole_numbers(void **state)
{
	static const struct {
		const char *text;
		bool whole;
		int64_t number;
	} rows[] = {
		{"0", true, 0},
		{"-0", true, 0},
		{"1e3", true, 1000},
		{"2.0", true, 2},
		{"-17", true, -17},
		{"4294967296", true, INT64_C(4294967296)},
		{"9007199254740992", true, INT64_C(9007199254740992)},
		{"-9007199254740992", true, -INT64_C(9007199254740992)},
		{"9007199254740994", false, 0},
		{"1e300", false, 0},
		{"1.5", false, 0},
		{"\"1\"", false, 0},
		{"true", false, 0},
		{"null", false, 0},
	};
	int64_t number;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		struct json *json = parse(rows[i].text, 0);

		if (json_integer(json, &number) != rows[i].whole)
			fail_msg("%s", rows[i].text);
		if (rows[i].whole)
			assert_int_equal(number, rows[i].number);
		json_free(json);
	}
}

static void test_json__tells_types(void **state)
{
	struct json *json = parse("[null, false, 1, \"s\", [], {}]", 0);
	enum json_type type = JSON_NULL;
	double number;
	bool truth;

	(void)state;
	for (const struct json *v = json_first(json); v; v = json_next(v), type++) {
		assert_int_equal(json_type(v), type);
		assert_int_equal(json_bool(v, &truth), type == JSON_BOOL);
		assert_int_equal(json_number(v, &number), type == JSON_NUMBER);
		assert_int_equal(json_string(v) != NULL, type == JSON_STRING);
		assert_int_equal(json_count(v), 0);
	}
	assert_string_equal(json_type_name(JSON_OBJECT), "an object");
	json_free(json);
}

static void test_json__decodes_strings(void **state)
{
	struct json *json =
		parse("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\xe2\x82\xac\"]", 0);

	(void)state;
	assert_string_equal(json_string(json_first(json)),
			    "\"\\/\b\f\n\r\t\xc3\xa9\xf0\x9f\x98\x80\xe2\x82\xac");
	json_free(json);
}

static void test_json__writes_what_it_reads(void **state)
{
	static const char text[] = "{\"a\":[1,-2.5,1e+300,[],{}],\"b\":{\"c\":null,\"d\":true},"
				   "\"e\":\"x\\n\\\"\\u001f\",\"f\":9007199254740992}";
	struct json *json = parse(text, 0);
	struct buf out = {0};
	struct json_writer w = {.out = &out};

	(void)state;
	json_put_value(&w, json);
	assert_string_equal(out.data, text);
	buf_fini(&out);
	json_free(json);
}

static void write_string(struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};

	json_put_string(&w, text);
}

/* What has to be escaped is, wherever it stands in a longer text. */
static void test_json__escapes_at_every_place(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 0x80 * 20; i++) {
		char alone[3] = {(char)(i % 0x80)}, text[32], *copy;
		struct buf one = {0}, all = {0}, want = {0};
		int at = (int)(i / 0x80);

		if (!alone[0])
			memcpy(alone, "\xc3\xa9", 2);
		write_string(&one, alone);
		snprintf(text, sizeof(text), "%.*s%s%s", at, "abcdefghijklmnopqrst", alone,
			 "abcdefghi");
		copy = strdup(text); /* where a read behind its end is noticed */
		write_string(&all, copy);
		buf_printf(&want, "\"%.*s%.*s%s\"", at, "abcdefghijklmnopqrst", (int)one.len - 2,
			   one.data + 1, "abcdefghi");
		assert_string_equal(all.data, want.data);
		free(copy);
		buf_fini(&one);
		buf_fini(&all);
		buf_fini(&want);
	}
}

static void test_json__writes_pretty(void **state)
{
	struct json *json = parse("{\"a\":[1,2],\"b\":{},\"c\":[],\"d\":{\"e\":false}}", 0);
	struct buf out = {0};
	struct json_writer w = {.out = &out, .pretty = true};

	(void)state;
	json_put_value(&w, json);
	assert_string_equal(out.data, "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {},\n"
				      "  \"c\": [],\n  \"d\": {\n    \"e\": false\n  }\n}");
	buf_fini(&out);
	json_free(json);
}

static void test_json__writes_only_utf8_and_finite_numbers(void **state)
{
	struct buf out = {0};
	struct json_writer w = {.out = &out};
	double zero = 0;

	(void)state;
	json_begin(&w, '[');
	json_put_string(&w, "a\xff\xc3(\xe2\x82");
	json_put_string(&w, NULL);
	json_put_double(&w, 1 / zero);
	json_put_double(&w, 0.1);
	json_put_double(&w, 1.0 / 3);
	json_put_int(&w, INT64_MIN);
	json_end(&w, ']');
	assert_string_equal(out.data,
			    "[\"a\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\",null,null,0.1,"
			    "0.3333333333333333,-9223372036854775808]");
	buf_fini(&out);
}

static void test_json__writes_by_pairs(void **state)
{
	struct buf out = {0};
	struct json_writer w = {.out = &out};

	(void)state;
	json_begin(&w, '{');
	json_pair_string(&w, "s", "t");
	json_pair_int(&w, "i", -1);
	json_pair_bool(&w, "b", false);
	json_name(&w, "o");
	json_begin(&w, '{');
	json_end(&w, '}');
	json_name(&w, "l\"");
	json_begin(&w, '[');
	json_put_null(&w);
	json_put_bool(&w, true);
	json_end(&w, ']');
	json_end(&w, '}');
	assert_string_equal(out.data,
			    "{\"s\":\"t\",\"i\":-1,\"b\":false,\"o\":{},\"l\\\"\":[null,true]}");
	buf_fini(&out);
}

/* An object of n keys must not cost n²: a million times more than this would show. */
static void test_json__checks_many_keys_quickly(void **state)
{
	struct buf text = {0};
	struct json *json;

	(void)state;
	buf_puts(&text, "{");
	for (unsigned i = 0; i < 100000; i++)
		buf_printf(&text, "%s\"key%u\":%u", i ? "," : "", i, i);
	buf_puts(&text, "}");
	json = parse(text.data, 0);
	assert_int_equal(json_count(json), 100000);
	json_free(json);
	buf_fini(&text);
}

static void test_utf8__knows_every_boundary(void **state)
{
	static const struct {
		const char *bytes;
		size_t len, is;
	} rows[] = {
		{"\x00", 1, 1},
		{"\x7f", 1, 1},
		{"\x80", 1, 0},
		{"\xc1\xbf", 2, 0},
		{"\xc2\x80", 2, 2},
		{"\xdf\xbf", 2, 2},
		{"\xdf", 1, 0},
		{"\xdf\x7f", 2, 0},
		{"\xe0\x9f\xbf", 3, 0},
		{"\xe0\xa0\x80", 3, 3},
		{"\xed\x9f\xbf", 3, 3},
		{"\xed\xa0\x80", 3, 0},
		{"\xee\x80\x80", 3, 3},
		{"\xef\xbf\xbf", 3, 3},
		{"\xef\xbf\xc0", 3, 0},
		{"\xf0\x8f\xbf\xbf", 4, 0},
		{"\xf0\x90\x80\x80", 4, 4},
		{"\xf4\x8f\xbf\xbf", 4, 4},
		{"\xf4\x90\x80\x80", 4, 0},
		{"\xf5\x80\x80\x80", 4, 0},
		{"\xff", 1, 0},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		if (utf8_sequence(rows[i].bytes, rows[i].len) != rows[i].is)
			fail_msg("row %zu", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_json__refuses_what_is_not_json),
		cmocka_unit_test(test_json__refuses_bad_comments),
		cmocka_unit_test(test_json__takes_comments_but_not_inside_strings),
		cmocka_unit_test(test_json__nests_32_deep_and_no_deeper),
		cmocka_unit_test(test_json__knows_the_line_of_every_value),
		cmocka_unit_test(test_json__finds_members_by_case),
		cmocka_unit_test(test_json__leaves_duplicates_to_who_asks_for_them),
		cmocka_unit_test(test_json__tells_whole_numbers),
		cmocka_unit_test(test_json__tells_types),
		cmocka_unit_test(test_json__decodes_strings),
		cmocka_unit_test(test_json__writes_what_it_reads),
		cmocka_unit_test(test_json__escapes_at_every_place),
		cmocka_unit_test(test_json__writes_pretty),
		cmocka_unit_test(test_json__writes_only_utf8_and_finite_numbers),
		cmocka_unit_test(test_json__writes_by_pairs),
		cmocka_unit_test(test_json__checks_many_keys_quickly),
		cmocka_unit_test(test_utf8__knows_every_boundary),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
