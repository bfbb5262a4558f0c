/* SPDX-License-Identifier: MIT */
/* Forms with files (multipart/form-data, RFC 7578), whole in memory. Allocates nothing. */
#ifndef SIMNODE_FORM_H
#define SIMNODE_FORM_H

#include <stdbool.h>
#include <stddef.h>

struct form_part {
	const char *name, *filename; /* into the body, not NUL-terminated; filename NULL: none */
	size_t name_len, filename_len;
	const char *data;
	size_t len;
};

/* Is this what the value of Content-Type says? NULL is allowed. */
bool form_is(const char *content_type);
/* The part of that name. False: none, or not such a form. */
bool form_find(const char *content_type, const char *body, size_t len, const char *name,
	       struct form_part *part);

#endif
