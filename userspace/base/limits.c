/* SPDX-License-Identifier: MIT */
#include "base/limits.h"

#include <sys/resource.h>

#define MOST ((rlim_t)1 << 20)

size_t limits_raise(void)
{
	struct rlimit limit;
	rlim_t wanted;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1)
		return 0;
	/* macOS says that the hard limit is infinite and then refuses what its kernel does not
	 * give: half of it may be taken. */
	for (wanted = limit.rlim_max < MOST ? limit.rlim_max : MOST; wanted > limit.rlim_cur;
	     wanted /= 2) {
		const struct rlimit raised = {.rlim_cur = wanted, .rlim_max = limit.rlim_max};

		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			return (size_t)wanted;
	}
	return limit.rlim_cur < MOST ? (size_t)limit.rlim_cur : (size_t)MOST;
}
