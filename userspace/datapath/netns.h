/* SPDX-License-Identifier: MIT */
/* The network namespace that this process is in. */
#ifndef DATAPATH_NETNS_H
#define DATAPATH_NETNS_H

#include <stdbool.h>
#include <stdint.h>

/* Never the same twice in one boot; 0 if the kernel does not say. */
uint64_t netns_cookie(void);
uint64_t netns_inode(void);

/* Is there still a process in it, or a mount that holds it? `inode` as of netns_inode(), then. */
bool netns_alive(uint64_t inode);

#endif
