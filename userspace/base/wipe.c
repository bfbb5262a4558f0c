/* SPDX-License-Identifier: MIT */
#include "base/wipe.h"

void wipe(void *memory, size_t len)
{
	volatile unsigned char *byte = memory;

	while (len--)
		*byte++ = 0;
}
