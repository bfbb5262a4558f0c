/* SPDX-License-Identifier: MIT */
/* A lock file: held by a process (and by children that inherit the descriptor) for as long as it
 * lives. */
#ifndef CONTROL_LOCK_H
#define CONTROL_LOCK_H

#include <sys/types.h>

/* 0 and the descriptor that holds it (close-on-exec); -EWOULDBLOCK: held by another; or -errno. */
int lock_take(const char *path, int *fd);

/* Writes into it who holds it. */
void lock_write(int fd, pid_t pid);

/* Who is named in it, 0: nobody. */
pid_t lock_owner(const char *path);

/* Removes the file and lets go. */
void lock_drop(const char *path, int fd);

#endif
