/* SPDX-License-Identifier: MIT */
/* The few things done with files: read one whole, replace one atomically. They block; none of them
 * is big. */
#ifndef CONTROL_FILES_H
#define CONTROL_FILES_H

#include <stddef.h>

#include "base/buf.h"

/* Appends the file to `out`. 0 or -errno; -EFBIG: longer than max; -ENOMEM. */
int file_read(const char *path, size_t max, struct buf *out);

/*
 * Replaces `path` so that a crash at any moment leaves the old file or the new one: temporary file
 * beside it, fsync, rename, fsync of the folder. Mode 0600. 0 or -errno.
 */
int file_replace(const char *path, const char *data, size_t len);

#endif
