/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets share. Each target is one file with LLVMFuzzerTestOneInput(): input in,
 * abort() where something does not hold. Input is read from memory that ends at an unreadable page
 * and is overwritten once it has been taken, so that reading too far or too late shows without any
 * sanitizer. How an input is cut follows from its bytes: the same input does the same.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"

#define FUZZ_INPUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define CHECK(what) \
	do { \
		if (!(what)) \
			fuzz_fail(__FILE__, __LINE__, #what); \
	} while (0)

static inline _Noreturn void fuzz_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
	abort();
}

/* A copy of `len` ≤ FUZZ_INPUT_MAX bytes, in front of an unreadable page; until the next call. */
static inline char *fuzz_place(const void *data, size_t len)
{
	static char *end;

	if (!end) {
		size_t page = (size_t)sysconf(_SC_PAGESIZE);
		char *pages = mmap(NULL, FUZZ_INPUT_MAX + page, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		CHECK(pages != MAP_FAILED);
		CHECK(!mprotect(pages + FUZZ_INPUT_MAX, page, PROT_NONE));
		end = pages + FUZZ_INPUT_MAX;
	}
	CHECK(len <= FUZZ_INPUT_MAX);
	if (len)
		memcpy(end - len, data, len);
	return end - len;
}

/* For what has been taken: who kept a pointer reads this. */
static inline void fuzz_spoil(char *at, size_t len)
{
	memset(at, 0xa5, len);
}

/* FNV-1a, never 0 */
static inline uint32_t fuzz_seed(const uint8_t *data, size_t len)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ data[i]) * 16777619u;
	return hash | 1;
}

/* xorshift */
static inline uint32_t fuzz_next(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

/* Length of the next piece of `left` bytes: mostly short, at times all. */
static inline size_t fuzz_piece(uint32_t *seed, size_t left)
{
	static const size_t most[] = {1, 3, 17, 100, SIZE_MAX};
	uint32_t random = fuzz_next(seed);
	size_t max = most[random % 5], n = max == SIZE_MAX ? left : 1 + (random >> 8) % max;

	return n < left ? n : left;
}

#endif
