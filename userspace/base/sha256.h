/* SPDX-License-Identifier: MIT */
/*
 * SHA-256 (FIPS 180-4). For digests of keys: small rather than fast. Time depends on the length of
 * what is hashed, not on its bytes.
 */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_LEN 32

struct sha256 {
	uint32_t state[8];
	uint64_t len; /* bytes so far */
	uint8_t block[64];
};

void sha256_init(struct sha256 *sha);
void sha256_add(struct sha256 *sha, const void *data, size_t len);
/* Writes the digest, and wipes what is left of the data. */
void sha256_end(struct sha256 *sha, uint8_t digest[SHA256_LEN]);

#endif
