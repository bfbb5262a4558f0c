/* SPDX-License-Identifier: MIT */
#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* The holder removes the file at its end: a lock on a removed file is a lock on nothing. */
static bool still_there(const char *path, int fd)
{
	struct stat named, held;

	return stat(path, &named) == 0 && fstat(fd, &held) == 0 && named.st_dev == held.st_dev &&
	       named.st_ino == held.st_ino;
}

static int take(const char *path, int flags, int *fd)
{
	for (;;) {
		int err;

		*fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
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

static void text_write(const char *path, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);
	ssize_t written;

	if (fd == -1)
		return;
	written = write(fd, text, len);
	(void)written; /* a full disk must not matter: the lock holds without */
	close(fd);
}

int lock_take(const char *path, int *fd)
{
	int err = take(path, O_CREAT, fd);

	if (!err)
		text_write(path, "", 0); /* of one that died without a word */
	return err;
}

void lock_write(const char *path, pid_t pid, const char *note)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "%ld %.31s\n", (long)pid, note);

	text_write(path, text, (size_t)n);
}

static void text_read(int fd, struct lock_holder *holder)
{
	char text[64] = "", *end;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	long pid = n > 0 ? strtol(text, &end, 10) : 0;

	if (pid <= 1 || (pid_t)pid != pid)
		return;
	holder->pid = (pid_t)pid;
	end += *end == ' ';
	snprintf(holder->note, sizeof(holder->note), "%.*s", (int)strcspn(end, "\n"), end);
}

bool lock_held(const char *path, struct lock_holder *holder)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bool held;

	memset(holder, 0, sizeof(*holder));
	if (fd == -1)
		return false;
	text_read(fd, holder);
	/* shared: two who look at the same time must not take each other for a holder */
	held = flock(fd, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK;
	close(fd);
	return held;
}

void lock_drop(const char *path, int fd)
{
	unlink(path);
	close(fd);
}

void lock_remove(const char *path)
{
	int fd;

	if (take(path, 0, &fd) == 0)
		lock_drop(path, fd);
}
