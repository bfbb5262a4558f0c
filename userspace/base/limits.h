/* SPDX-License-Identifier: MIT */
/* What the system lets this process have. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#include <stddef.h>

/* Raises the limit of open descriptors as far as it goes without a privilege, a million at most.
 * How many may be open then; 0: not known. */
size_t limits_raise(void);

#endif
