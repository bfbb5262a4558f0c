/* SPDX-License-Identifier: MIT */
/*
 * A lock file: held by a process (and by children that inherit the descriptor) for as long as it
 * lives. It says who that is. The descriptor cannot write: a child cannot name somebody else.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <stdbool.h>
#include <sys/types.h>

struct lock_holder {
	pid_t pid;     /* 0: not said (yet). While the lock is held, nobody else has this number. */
	char note[32]; /* what it said of itself */
};

/* 0 and the descriptor that holds it (close-on-exec), nobody named yet; -EWOULDBLOCK: held by
 * another; or -errno. */
int lock_take(const char *path, int *fd);

/* Names who holds it; only for whoever took it. `note`: one line. */
void lock_write(const char *path, pid_t pid, const char *note);

/* Does anybody hold it, and who? */
bool lock_held(const char *path, struct lock_holder *holder);

/* Removes the file and lets go. */
void lock_drop(const char *path, int fd);

/* Removes the file unless somebody holds it. */
void lock_remove(const char *path);

#endif
