/* SPDX-License-Identifier: MIT */
/*
 * The directory <bpf-dir>/v1 and the names in it (kern.h says what they mean). Knows files, not
 * BPF.
 */
#ifndef DATAPATH_PINS_H
#define DATAPATH_PINS_H

#include <limits.h>
#include <net/if.h>

#include "datapath/kern.h"

/* dir/PREFIXname, with what bpffs does not take in a name replaced. */
void pin_path(char path[PATH_MAX], const char *dir, const char *prefix, const char *name);
bool pin_exists(const char *dir, const char *prefix, const char *name);
void pin_drop(const char *dir, const char *prefix, const char *name);

/* Interface's name as the kernel knows it, from what follows the prefix in a pin's name. */
void pin_interface(char name[IF_NAMESIZE], const char *noted);

/* Calls `visit` with each name in dir. The list is taken first: visits may remove. */
void pins_each(const char *dir, void (*visit)(const char *name, void *arg), void *arg);

/* Makes <bpf-dir>/v1 (0700), if its place is a bpffs; its path to `dir`. 0 or -errno with *error.
 */
int pins_make(char dir[PATH_MAX], const char *bpf_dir, struct datapath_error *error);

/*
 * One controller a directory: a descriptor that holds the lock, or -errno with *error. The kernel
 * lets go of the lock when its holder ends, however it ends.
 */
int pins_lock(const char *dir, struct datapath_error *error);

#endif
