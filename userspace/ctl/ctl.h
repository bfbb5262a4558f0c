/* SPDX-License-Identifier: MIT */
/*
 * megalithctl: a table of commands, each in a small file of its group. A command asks the control
 * socket, and writes either what a person wants to see, or with --json the document as it is.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/datapath.h"

enum ctl_exit { CTL_DONE = 0, CTL_FAILED = 1, CTL_USAGE = 2, CTL_NO_CONTROLLER = 3 };

struct ctl { /* what a command is run with */
	FILE *out, *err;
	bool out_is_terminal;
	/* datapath_detach(), where there is a datapath */
	int (*detach)(const char *bpf_dir, struct datapath_error *error);
	/* options */
	char *control; /* path of the socket; owned */
	const char *bpf_dir;
	bool json, verbose, colour;
	const char *node, *persona, *client; /* NULL: not given */
	bool wait;
	int64_t wait_s; /* -1: without end */
	/* arguments behind the command's name */
	char *const *args;
	int n_args;
};

enum ctl_option { /* which options a command has, apart from the common ones */
		  CTL_JSON = 1 << 0,
		  CTL_NODE = 1 << 1,
		  CTL_PERSONA = 1 << 2,
		  CTL_CLIENT = 1 << 3,
		  CTL_WAIT = 1 << 4,
};

struct ctl_command {
	const char *name;
	int (*run)(struct ctl *ctl); /* returns enum ctl_exit */
	const char *usage;	     /* what follows the name */
	const char *description;     /* NULL: hidden */
	unsigned options;
	int min_args, max_args;
};

/*
 * The program: parses, runs one command, returns the exit code. `setup` brings out, err,
 * out_is_terminal and detach.
 */
int ctl_main(const struct ctl *setup, int argc, char **argv);

/* "megalithctl: " and the text, to ctl->err. Returns `code`. */
int ctl_fail(const struct ctl *ctl, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Of `names` (NULL-terminated) the one that a person who typed `word` most likely meant; NULL: none
 * is near. */
const char *ctl_nearest(const char *word, const char *const *names);

/* Whole number in [min, max] from text that is nothing else. */
bool ctl_number(const char *text, int64_t min, int64_t max, int64_t *number);

/* The commands. */
int ctl_status(struct ctl *ctl);
int ctl_personas(struct ctl *ctl);
int ctl_nodes(struct ctl *ctl);
int ctl_flows(struct ctl *ctl);
int ctl_weight(struct ctl *ctl);
int ctl_drain(struct ctl *ctl);
int ctl_undrain(struct ctl *ctl);
int ctl_reload(struct ctl *ctl);
int ctl_check(struct ctl *ctl);
int ctl_explain(struct ctl *ctl);
int ctl_detach(struct ctl *ctl);
int ctl_names(struct ctl *ctl);

#endif
