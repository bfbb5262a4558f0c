/* SPDX-License-Identifier: MIT */
/* SHA-256 against the examples of FIPS 180-4 and NIST's additional ones. */
#include "base/sha256.h"
#include "base/wipe.h"
#include "farm.h"

static void hex(const uint8_t digest[SHA256_LEN], char text[2 * SHA256_LEN + 1])
{
	for (size_t i = 0; i < SHA256_LEN; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

static const struct {
	const char *text;
	size_t len, times; /* bytes, and how often they are given */
	const char *digest;
} vectors[] = {
	{"", 0, 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	{"abc", 3, 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, 1,
	 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopq"
	 "klmnopqrlmnopqrsmnopqrstnopqrstu",
	 112, 1, "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
	{"a", 1, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
	{"\xbd", 1, 1, "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b"},
	{"\xc9\x8c\x8e\x55", 4, 1,
	 "7abc22c0ae5af26ce93dbb94433a0e0b2e119d014f8e7f65bd56c61ccccd9504"},
	{"\0", 1, 55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7"},
	{"\0", 1, 56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb"},
	{"\0", 1, 57, "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785"},
	{"\0", 1, 64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"},
};

static void test_sha256__examples_of_the_standard(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(vectors); i++) {
		uint8_t digest[SHA256_LEN];
		char text[2 * SHA256_LEN + 1];
		struct sha256 sha;

		sha256_init(&sha);
		for (size_t n = 0; n < vectors[i].times; n++)
			sha256_add(&sha, vectors[i].text, vectors[i].len);
		sha256_end(&sha, digest);
		hex(digest, text);
		assert_string_equal(text, vectors[i].digest);
	}
}

/* Message n is n bytes, byte i is i * 7 + n; the digest of all digests is known. */
static void test_sha256__every_length_in_any_pieces(void **state)
{
	uint8_t message[200], digest[SHA256_LEN];
	char text[2 * SHA256_LEN + 1];
	struct sha256 all, one;

	(void)state;
	for (size_t piece = 1; piece < 140; piece += 23) {
		sha256_init(&all);
		for (size_t n = 0; n < sizeof(message); n++) {
			for (size_t i = 0; i < n; i++)
				message[i] = (uint8_t)(i * 7 + n);
			sha256_init(&one);
			for (size_t at = 0; at < n; at += piece)
				sha256_add(&one, message + at, n - at < piece ? n - at : piece);
			sha256_end(&one, digest);
			sha256_add(&all, digest, sizeof(digest));
		}
		sha256_end(&all, digest);
		hex(digest, text);
		assert_string_equal(
			text, "8c7c9ff69da76fc28823a1cb97268672663e628e1ea955868b16db46bab0545d");
	}
}

static void test_sha256__leaves_nothing_behind(void **state)
{
	static const struct sha256 zeros;
	uint8_t digest[SHA256_LEN];
	struct sha256 sha;

	(void)state;
	sha256_init(&sha);
	sha256_add(&sha, "a secret", 8);
	sha256_end(&sha, digest);
	assert_memory_equal(&sha, &zeros, sizeof(sha));
	wipe(digest, sizeof(digest));
	assert_memory_equal(digest, &zeros, sizeof(digest));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sha256__examples_of_the_standard),
		cmocka_unit_test(test_sha256__every_length_in_any_pieces),
		cmocka_unit_test(test_sha256__leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
