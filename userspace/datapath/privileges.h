/* SPDX-License-Identifier: MIT */
/* The process's capabilities: what a datapath needs at open, and what it keeps. Raw system calls,
 * no library. */
#ifndef DATAPATH_PRIVILEGES_H
#define DATAPATH_PRIVILEGES_H

#include "core/datapath.h"

/* 0, or -EPERM with *error: opening a datapath needs CAP_BPF and CAP_NET_ADMIN. */
int privileges_check(struct datapath_error *error);

#endif
