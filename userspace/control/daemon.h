/* SPDX-License-Identifier: MIT */
/*
 * megalithd as a process: folders, lock, signals, privileges, the proxy as its child, and the order
 * in which all of that begins and ends. What it controls is in control.h.
 */
#ifndef CONTROL_DAEMON_H
#define CONTROL_DAEMON_H

#include "control/control.h"

struct daemon_options {
	const char *config, *run_dir, *state_dir, *bpf_dir;
	bool has_datapath; /* `datapath` stands for the configuration's */
	enum datapath_mode datapath;
	bool no_proxy;
	bool detach_on_exit;
	bool verbose;
	/* As in control_options. */
	void (*watch)(void *arg, struct control *control, const struct model *model);
	void (*kick)(void *arg, struct control *control, size_t endpoint);
	void *arg;
};

/* Runs until a signal ends it. Returns the exit code of contract §1. */
int daemon_run(const struct daemon_options *options);

/* Says what is wrong with the configuration on stderr, or that nothing is on stdout. Exit code. */
int daemon_check(const char *config);

#endif
