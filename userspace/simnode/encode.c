/* SPDX-License-Identifier: MIT */
#include "simnode/encode.h"

#include <string.h>

void encode_base64(struct buf *out, const void *data, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i += 3) {
		size_t left = len - i;
		uint32_t bits = (uint32_t)bytes[i] << 16 |
				(left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
				(left > 2 ? bytes[i + 2] : 0);
		char four[4] = {digits[bits >> 18], digits[bits >> 12 & 63],
				left > 1 ? digits[bits >> 6 & 63] : '=',
				left > 2 ? digits[bits & 63] : '='};

		buf_add(out, four, 4);
	}
}

static uint32_t rotate(uint32_t x, unsigned n)
{
	return x << n | x >> (32 - n);
}

static void sha1_block(uint32_t state[5], const uint8_t block[64])
{
	static const uint32_t constants[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
	uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];

	for (unsigned i = 0; i < 80; i++) {
		const uint8_t *p = block + 4 * (i % 16);
		uint32_t f, next;

		w[i] = i < 16 ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
					p[3]
			      : rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
		if (i < 20)
			f = (b & c) | (~b & d);
		else if (i < 40 || i >= 60)
			f = b ^ c ^ d;
		else
			f = (b & c) | (b & d) | (c & d);
		next = rotate(a, 5) + f + e + constants[i / 20] + w[i];
		e = d;
		d = c;
		c = rotate(b, 30);
		b = a;
		a = next;
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
}

void encode_sha1(const void *data, size_t len, uint8_t digest[20])
{
	uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	const uint8_t *bytes = data;
	uint8_t block[128] = {0};
	size_t rest = len % 64, last = rest < 56 ? 64 : 128;
	uint64_t bits = (uint64_t)len * 8;

	for (size_t at = 0; at + 64 <= len; at += 64)
		sha1_block(state, bytes + at);
	if (rest)
		memcpy(block, bytes + len - rest, rest);
	block[rest] = 0x80;
	for (unsigned i = 0; i < 8; i++)
		block[last - 1 - i] = (uint8_t)(bits >> 8 * i);
	for (size_t at = 0; at < last; at += 64)
		sha1_block(state, block + at);
	for (unsigned i = 0; i < 20; i++)
		digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}
