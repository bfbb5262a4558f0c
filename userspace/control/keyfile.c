/* SPDX-License-Identifier: MIT */
#include "control/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/wipe.h"

#define FILE_MAX ((off_t)4 << 20) /* all keys at their longest, and comments */

static int refuse(struct buf *errors, const char *path, const char *what)
{
	buf_printf(errors, "%s: %s\n", path, what);
	return -EINVAL;
}

static int file_check(const char *path, const struct stat *st, struct buf *errors)
{
	uid_t us = geteuid();

	if (!S_ISREG(st->st_mode))
		return refuse(errors, path, "is no regular file, allowed: a file of keys");
	if (st->st_uid != 0 && st->st_uid != us) {
		buf_printf(errors, "%s: belongs to uid %ld, allowed: root, or uid %ld\n", path,
			   (long)st->st_uid, (long)us);
		return -EINVAL;
	}
	if (st->st_mode & (S_IRWXG | S_IRWXO)) {
		buf_printf(errors, "%s: has mode %04o, allowed: 0600 or 0400\n", path,
			   (unsigned)(st->st_mode & 07777));
		return -EINVAL;
	}
	return st->st_size > FILE_MAX ? refuse(errors, path, "is longer than 4 MiB") : 0;
}

/* Up to `size` bytes; how many, or -errno. */
static ssize_t bytes_read(int fd, char *data, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, data + len, size - len);

		if (n == 0)
			break;
		if (n == -1 && errno != EINTR)
			return -errno;
		len += n > 0 ? (size_t)n : 0;
	}
	return (ssize_t)len;
}

/* Into memory of its own, which can be wiped: nothing that grows, no stdio. */
static int keys_load(const char *path, int fd, size_t size, const uint8_t salt[16],
		     struct keys **keys, struct buf *errors)
{
	char *text = malloc(size + 1), why[256];
	ssize_t len = text ? bytes_read(fd, text, size + 1) : -ENOMEM;

	if (len < 0)
		refuse(errors, path, strerror((int)-len));
	else if ((size_t)len > size)
		refuse(errors, path, "was written to while it was read: try again");
	else if (!(*keys = keys_parse(text, (size_t)len, salt, why)))
		refuse(errors, path, why);
	wipe(text, text ? size + 1 : 0);
	free(text);
	return *keys ? 0 : -EINVAL;
}

int keyfile_load(const char *path, const uint8_t salt[16], struct keys **keys, struct buf *errors)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO: no waiting */
	struct stat st;
	int err;

	*keys = NULL;
	if (fd == -1)
		return refuse(errors, path, strerror(errno));
	if (fstat(fd, &st) == -1)
		err = refuse(errors, path, strerror(errno));
	else
		err = file_check(path, &st, errors);
	if (!err)
		err = keys_load(path, fd, (size_t)st.st_size, salt, keys, errors);
	close(fd);
	return err;
}
