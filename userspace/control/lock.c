/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/lock.h"

/* The holder removes the file at its end: a lock on a removed file is a lock on nothing. */
static bool still_there(const char *path, int fd)
{
	struct stat named, held;

	return stat(path, &named) == 0 && fstat(fd, &held) == 0 && named.st_dev == held.st_dev &&
	       named.st_ino == held.st_ino;
}

int lock_take(const char *path, int *fd)
{
	for (;;) {
		int err;

		*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (*fd == -1)
			return -errno;
		if (flock(*fd, LOCK_EX | LOCK_NB) == -1) {
			err = -errno;
			close(*fd);
			return err;
		}
		if (still_there(path, *fd))
			return 0;
		close(*fd);
	}
}

void lock_write(int fd, pid_t pid)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%ld\n", (long)pid);

	/* Only for the reader of an error message: a full disk must not matter. */
	if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)n, 0) == -1)
		return;
}

pid_t lock_owner(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char text[32] = "";
	ssize_t n;
	long pid;

	if (fd == -1)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	pid = n > 0 ? strtol(text, NULL, 10) : 0;
	return pid > 1 ? (pid_t)pid : 0;
}

void lock_drop(const char *path, int fd)
{
	unlink(path);
	close(fd);
}
