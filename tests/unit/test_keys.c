/* SPDX-License-Identifier: MIT */
/* The file of keys, who is let in, and the digests on their way to the proxy. */
#include "core/keys.h"
#include "farm.h"

static const uint8_t salt[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static bool accepts(const struct keys *keys, const char *key)
{
	return keys_accept(keys, key, strlen(key));
}

static struct keys *parse(const char *text)
{
	char error[256] = "";
	struct keys *keys = keys_parse(text, strlen(text), salt, error);

	if (!keys)
		fail_msg("%s", error);
	return keys;
}

static void test_keys__takes_one_a_line(void **state)
{
	struct keys *keys = parse("# people\n"
				  "sk-alpha-1\n"
				  "\n"
				  "  \tsk-beta-22 \t\r\n"
				  "   # machines\n"
				  "12345678\n"
				  "sk-#not-a-comment\n"
				  "sk-without-newline");

	(void)state;
	assert_int_equal(keys->n, 5);
	assert_true(accepts(keys, "sk-alpha-1"));
	assert_true(accepts(keys, "sk-beta-22"));
	assert_true(accepts(keys, "12345678"));
	assert_true(accepts(keys, "sk-#not-a-comment"));
	assert_true(accepts(keys, "sk-without-newline"));
	keys_free(keys);
}

static void test_keys__lets_nobody_else_in(void **state)
{
	static const char *const others[] = {"",
					     "sk-alpha-",
					     "sk-alpha-11",
					     "SK-alpha-1",
					     "sk-alpha-1 ",
					     " sk-alpha-1",
					     "# a comment",
					     "sk-beta-2",
					     "sk-beta-2\n"};
	struct keys *keys = parse("sk-alpha-1\n# a comment\n");

	(void)state;
	for (size_t i = 0; i < COUNT(others); i++)
		if (accepts(keys, others[i]))
			fail_msg("let in: \"%s\"", others[i]);
	assert_false(keys_accept(keys, "sk-alpha-1\0", 11));
	assert_true(keys_accept(keys, "sk-alpha-1 and more", 10));
	keys_free(keys);
	assert_false(accepts(NULL, "sk-alpha-1"));
	keys_free(NULL);
}

/* First, middle, last: the loop has no end but the end. */
static void test_keys__finds_each_of_the_most(void **state)
{
	struct buf text = {0};
	char key[32], error[256];
	struct keys *keys;

	(void)state;
	for (int i = 0; i < KEYS_MAX; i++)
		buf_printf(&text, "sk-number-%d\n", i);
	keys = parse(text.data);
	assert_int_equal(keys->n, KEYS_MAX);
	for (int i = 0; i < KEYS_MAX; i += 819) {
		snprintf(key, sizeof(key), "sk-number-%d", i);
		assert_true(accepts(keys, key));
	}
	assert_false(accepts(keys, "sk-number-4096"));
	keys_free(keys);
	buf_puts(&text, "# a comment is none\nsk-number-4096\n");
	assert_null(keys_parse(text.data, text.len, salt, error));
	assert_string_equal(error, "line 4098: one key too many, allowed: 4096 keys");
	buf_fini(&text);
}

#define CANARY "canary"
#define SHORT  "the key is too short, allowed: 8..512 characters"
#define ODD \
	"the key has a character that is not allowed, allowed: printable ASCII without white " \
	"space"

static const struct {
	const char *why, *text;
	size_t len; /* 0: strlen */
	const char *error;
} refused[] = {
	{"nothing at all", "", 0, "line 1: there is no key, needed: at least one"},
	{"only comments", "# one\n\n", 0, "line 1: there is no key, needed: at least one"},
	{"too short", "# one\n" CANARY "7\n", 0, "line 2: " SHORT},
	{"a space inside", CANARY " " CANARY "\n", 0, "line 1: " ODD},
	{"a control character", "sk-good-one\n" CANARY "\x01" CANARY "\n", 0, "line 2: " ODD},
	{"a NUL", CANARY "\0" CANARY "\n", 14, "line 1: " ODD},
	{"DEL", CANARY "\x7f" CANARY, 0, "line 1: " ODD},
	{"not ASCII", CANARY "\xc3\xa4" CANARY, 0, "line 1: " ODD},
	{"an old editor's mark", "\xef\xbb\xbfsk-" CANARY, 0, "line 1: " ODD},
};

static void test_keys__says_what_is_wrong_and_nothing_of_the_key(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(refused); i++) {
		size_t len = refused[i].len ? refused[i].len : strlen(refused[i].text);
		char error[256] = "";
		struct keys *keys = keys_parse(refused[i].text, len, salt, error);

		if (keys)
			fail_msg("taken: %s", refused[i].why);
		assert_string_equal(error, refused[i].error);
		assert_null(strstr(error, CANARY));
	}
}

static void test_keys__has_a_shortest_and_a_longest(void **state)
{
	char text[KEYS_LEN_MAX + 2], error[256];
	struct keys *keys;

	(void)state;
	memset(text, 'k', sizeof(text));
	keys = keys_parse(text, KEYS_LEN_MAX, salt, error);
	assert_non_null(keys);
	assert_true(keys_accept(keys, text, KEYS_LEN_MAX));
	assert_false(keys_accept(keys, text, KEYS_LEN_MAX + 1));
	keys_free(keys);
	assert_null(keys_parse(text, KEYS_LEN_MAX + 1, salt, error));
	assert_string_equal(error, "line 1: the key is too long, allowed: 8..512 characters");
	keys = keys_parse(text, KEYS_LEN_MIN, salt, error);
	assert_non_null(keys);
	keys_free(keys);
}

static void keys_text(const struct keys *keys, struct buf *out)
{
	struct json_writer w = {.out = out};

	keys_write(keys, &w);
}

static struct keys *read(const char *text, char error[256])
{
	struct json_error bad;
	struct json *json = json_parse(text, strlen(text), 0, &bad);
	struct keys *keys = keys_read(json, error);

	json_free(json);
	return keys;
}

/* sha256 of the bytes 1 to 16 and "sk-alpha-1" */
#define DIGEST "682f5bef293c313d48dabdf35301cfeedda5fb113810649f96e945a4c3a9a0d1"
#define SALT   "0102030405060708090a0b0c0d0e0f10"

static void test_keys__travel_as_salted_digests(void **state)
{
	struct keys *keys = parse("sk-alpha-1\nsk-beta-22\n"), *back;
	struct buf out = {0}, again = {0};
	char error[256];

	(void)state;
	keys_text(keys, &out);
	assert_non_null(strstr(out.data, "{\"salt\":\"" SALT "\",\"digests\":[\"" DIGEST "\",\""));
	assert_null(strstr(out.data, "alpha"));
	back = read(out.data, error);
	assert_non_null(back);
	keys_text(back, &again);
	assert_string_equal(out.data, again.data);
	assert_true(accepts(back, "sk-beta-22"));
	assert_false(accepts(back, "sk-beta-23"));
	keys_free(keys);
	keys_free(back);
	buf_fini(&out);
	buf_fini(&again);
}

static const struct {
	const char *text, *error;
} damaged[] = {
	{"[]", "keys, line 1: \"digests\" is no array of at most 4096"},
	{"{\"digests\":[]}", "keys, line 1: \"salt\" is not 32 digits of hex"},
	{"{\"digests\":[],\"salt\":\"" SALT "00\"}",
	 "keys, line 1: \"salt\" is not 32 digits of hex"},
	{"{\"digests\":[],\"salt\":\"0102030405060708090A0b0c0d0e0f10\"}",
	 "keys, line 1: \"salt\" is not 32 digits of hex"},
	{"{\"salt\":\"" SALT "\",\"digests\":[1]}",
	 "keys, line 1: a digest is not 64 digits of hex"},
	{"{\"salt\":\"" SALT "\",\"digests\":[\"" DIGEST "\",\"" SALT "\"]}",
	 "keys, line 1: a digest is not 64 digits of hex"},
	{"{\"salt\":\"" SALT "\",\"digests\":{}}",
	 "keys, line 1: \"digests\" is no array of at most 4096"},
};

static void test_keys__trusts_no_document(void **state)
{
	struct buf many = {0};
	char error[256];

	(void)state;
	for (size_t i = 0; i < COUNT(damaged); i++) {
		error[0] = '\0';
		assert_null(read(damaged[i].text, error));
		assert_string_equal(error, damaged[i].error);
	}
	buf_puts(&many, "{\"salt\":\"" SALT "\",\"digests\":[");
	for (int i = 0; i <= KEYS_MAX; i++)
		buf_puts(&many, i ? ",\"" DIGEST "\"" : "\"" DIGEST "\"");
	buf_puts(&many, "]}");
	assert_null(read(many.data, error));
	assert_string_equal(error, "keys, line 1: \"digests\" is no array of at most 4096");
	buf_fini(&many);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys__takes_one_a_line),
		cmocka_unit_test(test_keys__lets_nobody_else_in),
		cmocka_unit_test(test_keys__finds_each_of_the_most),
		cmocka_unit_test(test_keys__says_what_is_wrong_and_nothing_of_the_key),
		cmocka_unit_test(test_keys__has_a_shortest_and_a_longest),
		cmocka_unit_test(test_keys__travel_as_salted_digests),
		cmocka_unit_test(test_keys__trusts_no_document),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
