/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/files.h"

int file_read(const char *path, size_t max, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char piece[16384];
	size_t total = 0;
	ssize_t n;
	int err = 0;

	if (fd == -1)
		return -errno;
	while ((n = read(fd, piece, sizeof(piece))) != 0) {
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1) {
			err = -errno;
			goto out;
		}
		total += (size_t)n;
		if (total > max) {
			err = -EFBIG;
			goto out;
		}
		buf_add(out, piece, (size_t)n);
	}
	if (buf_failed(out))
		err = -ENOMEM;
out:
	close(fd);
	return err;
}

static int write_whole(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -errno;
		data += n;
		len -= (size_t)n;
	}
	return fsync(fd) == -1 ? -errno : 0;
}

static int file_create(const char *path, const char *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int err;

	if (fd == -1)
		return -errno;
	err = write_whole(fd, data, len);
	if (close(fd) == -1 && !err)
		err = -errno;
	if (err)
		unlink(path);
	return err;
}

/* The rename itself is only safe once the folder is on the disk. */
static int folder_sync(const char *path)
{
	char folder[PATH_MAX];
	char *slash;
	int fd, err = 0;

	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (slash)
		slash[slash == folder] = '\0';
	fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		return -errno;
	if (fsync(fd) == -1 && errno != EINVAL) /* not every file system can */
		err = -errno;
	close(fd);
	return err;
}

int file_replace(const char *path, const char *data, size_t len)
{
	char temporary[PATH_MAX];
	int n = snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	int err;

	if (n < 0 || (size_t)n >= sizeof(temporary))
		return -ENAMETOOLONG;
	err = file_create(temporary, data, len);
	if (err)
		return err;
	if (rename(temporary, path) == -1) {
		err = -errno;
		unlink(temporary);
		return err;
	}
	return folder_sync(path);
}
