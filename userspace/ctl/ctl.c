/* SPDX-License-Identifier: MIT */
#include "ctl/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/paths.h"
#include "megalith/version.h"

#define BPF_DIR "/sys/fs/bpf/megalith"

static const struct ctl_command commands[] = {
	{"status", ctl_status, "[--json]", "personas and nodes at a glance (the default)", CTL_JSON,
	 0, 0},
	{"personas", ctl_personas, "[--json]", "personas, their ports and their nodes", CTL_JSON, 0,
	 0},
	{"nodes", ctl_nodes, "[--json]", "nodes and their services in detail", CTL_JSON, 0, 0},
	{"flows", ctl_flows, "[--node NODE] [--persona PERSONA] [--json]",
	 "connections in the kernel's table", CTL_JSON | CTL_NODE | CTL_PERSONA, 0, 0},
	{"weight", ctl_weight, "NODE 0..1000", "a node's share of new connections; 0 is none",
	 CTL_JSON, 2, 2},
	{"drain", ctl_drain, "NODE [--wait [SECONDS]]",
	 "no new connections; --wait until none is left", CTL_JSON | CTL_WAIT, 1, 1},
	{"undrain", ctl_undrain, "NODE", "takes new connections again", CTL_JSON, 1, 1},
	{"explain", ctl_explain, "PERSONA[/SERVICE] [--client IP] [--json]",
	 "which node would be taken now, and why no other", CTL_JSON | CTL_CLIENT, 1, 1},
	{"reload", ctl_reload, "", "makes megalithd read its configuration again", CTL_JSON, 0, 0},
	{"check", ctl_check, "FILE", "looks for errors in a configuration file", CTL_JSON, 1, 1},
	{"detach", ctl_detach, "", "takes the datapath off and removes its pins", 0, 0, 0},
	{"names", ctl_names, "[nodes|personas|services]", NULL, 0, 0, 1},
	{NULL, NULL, NULL, NULL, 0, 0, 0},
};

/* ---- help ---- */

static void usage(FILE *to)
{
	fputs("usage: megalithctl [COMMAND] [OPTIONS]\n\ncommands:\n", to);
	for (const struct ctl_command *command = commands; command->name; command++) {
		if (command->description)
			fprintf(to, "  %-10s %s\n", command->name, command->description);
	}
	fputs("\noptions:\n"
	      "      --json           one JSON document instead of text\n"
	      "      --run-dir DIR    where control.sock is (default " RUN_DIR ")\n"
	      "      --control PATH   the control socket itself\n"
	      "      --bpf-dir DIR    where the pins are, for detach (default " BPF_DIR ")\n"
	      "  -v                   say what is asked\n"
	      "      --version        print the version\n"
	      "  -h, --help           print this, or about a COMMAND\n"
	      "\n"
	      "exit codes: 0 done, 1 refused or failed, 2 usage or bad value, 3 controller not "
	      "running\n",
	      to);
}

static void usage_command(FILE *to, const struct ctl_command *command)
{
	fprintf(to, "usage: megalithctl %s%s%s\n", command->name, command->usage[0] ? " " : "",
		command->usage);
	if (command->description)
		fprintf(to, "       %s\n", command->description);
}

/* ---- helpers for commands ---- */

int ctl_fail(const struct ctl *ctl, int code, const char *format, ...)
{
	va_list args;

	fputs("megalithctl: ", ctl->err);
	va_start(args, format);
	vfprintf(ctl->err, format, args);
	va_end(args);
	fputc('\n', ctl->err);
	return code;
}

bool ctl_number(const char *text, int64_t min, int64_t max, int64_t *number)
{
	char *end;
	long long value;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno || *end || value < min || value > max)
		return false;
	*number = value;
	return true;
}

#define WORD_MAX 64

/* Edits (one letter more, less or other; two swapped) from `a` to `b`; WORD_MAX when they are too
 * long to say. */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][WORD_MAX + 1]; /* the last two and this one */
	size_t m = strlen(a), n = strlen(b);

	if (m > WORD_MAX || n > WORD_MAX)
		return WORD_MAX;
	for (size_t j = 0; j <= n; j++)
		rows[0][j] = (unsigned)j;
	for (size_t i = 1; i <= m; i++) {
		unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3],
			 *before = rows[(i + 1) % 3];

		row[0] = (unsigned)i;
		for (size_t j = 1; j <= n; j++) {
			unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);

			if (above[j] + 1 < best)
				best = above[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			row[j] = best;
		}
	}
	return rows[m % 3][n];
}

const char *ctl_nearest(const char *word, const char *const *names)
{
	const char *nearest = NULL;
	unsigned least = strlen(word) > 4 ? 3 : 2; /* fewer edits than this */

	for (; *names; names++) {
		unsigned edits = distance(word, *names);

		if (edits < least) {
			least = edits;
			nearest = *names;
		}
	}
	return nearest;
}

/* ---- the program ---- */

static const struct ctl_command *command_find(const char *name)
{
	for (const struct ctl_command *command = commands; command->name; command++) {
		if (strcmp(command->name, name) == 0)
			return command;
	}
	return NULL;
}

static int command_unknown(const struct ctl *ctl, const char *name)
{
	const char *names[sizeof(commands) / sizeof(commands[0])] = {0};
	const char *nearest;
	size_t n = 0;

	for (const struct ctl_command *command = commands; command->name; command++) {
		if (command->description)
			names[n++] = command->name;
	}
	nearest = ctl_nearest(name, names);
	if (nearest)
		return ctl_fail(ctl, CTL_USAGE, "no command '%s'; did you mean '%s'?", name,
				nearest);
	return ctl_fail(ctl, CTL_USAGE, "no command '%s'; megalithctl --help lists them", name);
}

struct parse { /* what the command line says, besides struct ctl */
	const char *run_dir, *control;
	unsigned used; /* enum ctl_option */
	bool help, version;
};

/* --wait SECONDS: the number is optional, and getopt_long() does not look for it in the next word.
 */
static bool parse_wait(struct ctl *ctl, int argc, char **argv)
{
	const char *text = optarg;

	ctl->wait = true;
	ctl->wait_s = -1;
	if (!text && optind < argc && argv[optind][0] >= '0' && argv[optind][0] <= '9' &&
	    strspn(argv[optind], "0123456789") == strlen(argv[optind]))
		text = argv[optind++];
	return !text || ctl_number(text, 0, 1000000, &ctl->wait_s);
}

enum {
	RUN_DIR_OPTION = 256,
	CONTROL_OPTION,
	BPF_DIR_OPTION,
	VERSION_OPTION,
	JSON_OPTION,
	NODE_OPTION,
	PERSONA_OPTION,
	CLIENT_OPTION,
	WAIT_OPTION
};

static const struct option longs[] = {
	{"run-dir", required_argument, NULL, RUN_DIR_OPTION},
	{"control", required_argument, NULL, CONTROL_OPTION},
	{"bpf-dir", required_argument, NULL, BPF_DIR_OPTION},
	{"version", no_argument, NULL, VERSION_OPTION},
	{"help", no_argument, NULL, 'h'},
	{"json", no_argument, NULL, JSON_OPTION},
	{"node", required_argument, NULL, NODE_OPTION},
	{"persona", required_argument, NULL, PERSONA_OPTION},
	{"client", required_argument, NULL, CLIENT_OPTION},
	{"wait", optional_argument, NULL, WAIT_OPTION},
	{NULL, 0, NULL, 0},
};

/* Options of commands; each is noted, since not every command has it. */
static bool parse_command_option(struct ctl *ctl, struct parse *parse, int option, int argc,
				 char **argv)
{
	switch (option) {
	case JSON_OPTION:
		ctl->json = true;
		parse->used |= CTL_JSON;
		return true;
	case NODE_OPTION:
		ctl->node = optarg;
		parse->used |= CTL_NODE;
		return true;
	case PERSONA_OPTION:
		ctl->persona = optarg;
		parse->used |= CTL_PERSONA;
		return true;
	case CLIENT_OPTION:
		ctl->client = optarg;
		parse->used |= CTL_CLIENT;
		return true;
	case WAIT_OPTION:
		parse->used |= CTL_WAIT;
		if (parse_wait(ctl, argc, argv))
			return true;
		ctl_fail(ctl, CTL_USAGE, "--wait: seconds expected, 0 to 1000000");
		return false;
	default:
		ctl_fail(ctl, CTL_USAGE, "bad option '%s'; try --help", argv[optind - 1]);
		return false;
	}
}

static bool parse_options(struct ctl *ctl, struct parse *parse, int argc, char **argv)
{
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "vh", longs, NULL)) != -1) {
		switch (option) {
		case RUN_DIR_OPTION:
			parse->run_dir = optarg;
			break;
		case CONTROL_OPTION:
			parse->control = optarg;
			break;
		case BPF_DIR_OPTION:
			ctl->bpf_dir = optarg;
			break;
		case VERSION_OPTION:
			parse->version = true;
			break;
		case 'h':
			parse->help = true;
			break;
		case 'v':
			ctl->verbose = true;
			break;
		default:
			if (!parse_command_option(ctl, parse, option, argc, argv))
				return false;
		}
	}
	return true;
}

static const char *option_name(unsigned option)
{
	switch (option) {
	case CTL_NODE:
		return "--node";
	case CTL_PERSONA:
		return "--persona";
	case CTL_CLIENT:
		return "--client";
	case CTL_WAIT:
		return "--wait";
	default:
		return "--json";
	}
}

static int command_run(struct ctl *ctl, const struct ctl_command *command, unsigned used)
{
	unsigned foreign = used & ~command->options;

	if (foreign) {
		ctl_fail(ctl, CTL_USAGE, "%s: %s is not an option of it", command->name,
			 option_name(foreign & (~foreign + 1)));
		usage_command(ctl->err, command);
		return CTL_USAGE;
	}
	if (ctl->n_args < command->min_args || ctl->n_args > command->max_args) {
		if (ctl->n_args > command->max_args)
			ctl_fail(ctl, CTL_USAGE, "%s: too much: '%s'", command->name,
				 ctl->args[command->max_args]);
		else
			ctl_fail(ctl, CTL_USAGE, "%s: an argument is missing", command->name);
		usage_command(ctl->err, command);
		return CTL_USAGE;
	}
	return command->run(ctl);
}

static int help(const struct ctl *ctl, const char *name)
{
	const struct ctl_command *command = name ? command_find(name) : NULL;

	if (name && !command)
		return command_unknown(ctl, name);
	if (command)
		usage_command(ctl->out, command);
	else
		usage(ctl->out);
	return CTL_DONE;
}

static int ctl_dispatch(struct ctl *ctl, const struct parse *parse, int argc, char **argv)
{
	const char *name = optind < argc ? argv[optind] : NULL;
	const struct ctl_command *command;

	if (parse->version) {
		fprintf(ctl->out, "megalithctl %s\n", MEGALITH_VERSION);
		return CTL_DONE;
	}
	if (name && strcmp(name, "help") == 0)
		return help(ctl, optind + 1 < argc ? argv[optind + 1] : NULL);
	if (parse->help)
		return help(ctl, name);
	command = command_find(name ? name : "status");
	if (!command)
		return command_unknown(ctl, name);
	ctl->args = argv + optind + (name != NULL);
	ctl->n_args = argc - optind - (name != NULL);
	return command_run(ctl, command, parse->used);
}

int ctl_main(const struct ctl *setup, int argc, char **argv)
{
	struct ctl ctl = *setup;
	struct parse parse = {.run_dir = RUN_DIR};
	const char *no_colour = getenv("NO_COLOR");
	struct buf control = {0};
	int code;

	optind = 1;
	ctl.bpf_dir = BPF_DIR;
	ctl.colour = ctl.out_is_terminal && !(no_colour && no_colour[0]);
	if (!parse_options(&ctl, &parse, argc, argv))
		return CTL_USAGE;
	if (parse.control)
		buf_puts(&control, parse.control);
	else
		buf_printf(&control, "%s/control.sock", parse.run_dir);
	ctl.control = buf_steal(&control);
	if (!ctl.control)
		return ctl_fail(&ctl, CTL_FAILED, "out of memory");
	code = ctl_dispatch(&ctl, &parse, argc, argv);
	if (fflush(ctl.out) != 0 && code == CTL_DONE)
		code = ctl_fail(&ctl, CTL_FAILED, "cannot write: %s", strerror(errno));
	free(ctl.control);
	return code;
}
