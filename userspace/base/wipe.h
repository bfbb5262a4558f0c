/* SPDX-License-Identifier: MIT */
/* Forgetting secrets: overwrites memory in a way that no compiler leaves out. */
#ifndef BASE_WIPE_H
#define BASE_WIPE_H

#include <stddef.h>

void wipe(void *memory, size_t len); /* NULL with 0 is allowed */

#endif
