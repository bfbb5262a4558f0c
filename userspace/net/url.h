/* SPDX-License-Identifier: MIT */
/* Percent-encoding (RFC 3986 §2.1). Pure. */
#ifndef NET_URL_H
#define NET_URL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/*
 * Decodes `len` bytes to `out`, which has room for len + 1 and may be `text` itself;
 * NUL-terminated. `plus`: a '+' is a space (queries). Returns the length, or -1: bad escape, or NUL
 * or control character in the result.
 */
long url_decode(char *out, const char *text, size_t len, bool plus);

/* Appends `text` with everything escaped but letters, digits and "-._~:". */
void url_encode(struct buf *out, const char *text);

#endif
