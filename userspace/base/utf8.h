/* SPDX-License-Identifier: MIT */
/* UTF-8 (RFC 3629 §4): no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stddef.h>

/* Bytes of the sequence that starts at `text` (1..4); 0 when none does. `len` bytes may be read, at
 * least 1. */
size_t utf8_sequence(const char *text, size_t len);

#endif
