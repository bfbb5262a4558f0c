/* SPDX-License-Identifier: MIT */
/*
 * The file of keys (router.keys_file): read once, turned into digests, and forgotten. Only a file
 * that nobody else can read is taken.
 */
#ifndef CONTROL_KEYFILE_H
#define CONTROL_KEYFILE_H

#include "base/buf.h"
#include "core/keys.h"

/*
 * 0 with the keys in *keys, the caller's; or -EINVAL or -ENOMEM with one line in `errors`, which
 * has nothing of the file in it.
 */
int keyfile_load(const char *path, const uint8_t salt[16], struct keys **keys, struct buf *errors);

#endif
