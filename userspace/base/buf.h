/* SPDX-License-Identifier: MIT */
/*
 * A growing byte buffer, always NUL-terminated behind its end. On lack of memory it keeps what
 * it has and remembers the failure: check buf_failed() once, at the end.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data; /* NULL while empty; owned */
	size_t len, cap;
	bool failed;
};

void buf_fini(struct buf *buf);
void buf_clear(struct buf *buf); /* empties, keeps the memory */
bool buf_reserve(struct buf *buf,
		 size_t more); /* room for `more` bytes and the NUL; false: failed */
void buf_add(struct buf *buf, const void *data, size_t len);
void buf_puts(struct buf *buf, const char *text);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *buf, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));
void buf_consume(struct buf *buf, size_t len); /* drops the first len bytes */
bool buf_failed(const struct buf *buf);
char *buf_steal(struct buf *buf); /* the text, to be freed by the caller; NULL on failure. The buf
				     is empty after. */

#endif
