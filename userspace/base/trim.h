/* SPDX-License-Identifier: MIT */
/* Gives memory that is free back to the system, where the C library keeps it for later (glibc). */
#ifndef BASE_TRIM_H
#define BASE_TRIM_H

void trim_memory(void);

#endif
