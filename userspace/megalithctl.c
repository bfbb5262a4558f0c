/* SPDX-License-Identifier: MIT */
#include <signal.h>
#include <unistd.h>

#include "ctl/ctl.h"

int main(int argc, char **argv)
{
	const struct ctl setup = {
		.out = stdout,
		.err = stderr,
		.out_is_terminal = isatty(STDOUT_FILENO),
		.detach = datapath_detach,
	};

	signal(SIGPIPE, SIG_IGN); /* a pager that ends is a failed write */
	return ctl_main(&setup, argc, argv);
}
