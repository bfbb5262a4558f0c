/* SPDX-License-Identifier: MIT */
/* Who is at the other end of a unix socket. The only place where systems differ about it. */
#ifndef CONTROL_PEER_H
#define CONTROL_PEER_H

#include <sys/types.h>

/* User of the process that connected, as the kernel vouches for it. 0 or -errno. */
int peer_uid(int fd, uid_t *uid);

#endif
