/* SPDX-License-Identifier: MIT */
/* For unit tests: cmocka's includes, a configuration from a string, files of the test data. */
#ifndef TEST_FARM_H
#define TEST_FARM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "core/model.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static inline const char *farm_env(const char *name)
{
	if (strcmp(name, "NODE_ADDRESS") == 0)
		return "10.9.8.7";
	return strcmp(name, "EMPTY") == 0 ? "" : NULL;
}

/* The model of a text that must be valid. */
static inline struct model *farm_load(const char *text)
{
	struct buf errors = {0};
	struct model *model = model_load("test.json", text, strlen(text), farm_env, &errors);

	if (!model)
		fail_msg("refused: %s", errors.data);
	assert_null(errors.data);
	return model;
}

/* Reads MEGALITH_TESTS/name; buf_fini() is the caller's. */
static inline void farm_read(const char *name, struct buf *out)
{
	const char *dir = getenv("MEGALITH_TESTS");
	char path[1024], piece[4096];
	size_t n;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir ? dir : "tests/unit", name);
	file = fopen(path, "rb");
	if (!file)
		fail_msg("cannot open %s", path);
	while ((n = fread(piece, 1, sizeof(piece), file)) > 0)
		buf_add(out, piece, n);
	fclose(file);
}

#endif
