// SPDX-License-Identifier: MIT
/* Options of the loads; what they do is in load_*.c. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_io.h"
#include "load.h"

static const char usage_text[] =
	"usage: http_load requests --to PORT [--count CONNECTIONS] [--body BYTES] [--ms WINDOW]\n"
	"       http_load streams  --to PORT [--count STREAMS] [--rate MILLIHERTZ] [--ms WINDOW]\n"
	"       http_load leave    --to PORT --node PORT [--count CLIENTS] [--before-token]\n"
	"  --cpu-of PID,...   also tell the CPU time these spend in the window\n"
	"  --hold             streams: the window ends when stdin does\n"
	"streams prints the line 'ready' when all have their first token; the window begins "
	"then.\n";

static const struct {
	const char *name;
	void (*run)(const struct load_options *options);
} loads[] = {
	{"requests", load_requests},
	{"streams", load_streams},
	{"leave", load_leave},
};

static void take_pids(struct load_options *options, char *list)
{
	for (char *pid = strtok(list, ","); pid; pid = strtok(NULL, ",")) {
		if (options->n_clocks == PIDS_MAX)
			fail("too many processes");
		if (clock_getcpuclockid((pid_t)number(pid, "--cpu-of"),
					&options->clocks[options->n_clocks++]))
			fail("--cpu-of: no such process");
	}
}

static void take_options(struct load_options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{"to", required_argument, NULL, 't'},	  {"node", required_argument, NULL, 'n'},
		{"count", required_argument, NULL, 'c'},  {"body", required_argument, NULL, 'b'},
		{"ms", required_argument, NULL, 'm'},	  {"rate", required_argument, NULL, 'r'},
		{"cpu-of", required_argument, NULL, 'p'}, {"hold", no_argument, NULL, 'h'},
		{"before-token", no_argument, NULL, 'f'}, {NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == 't')
			options->port = (uint16_t)number(optarg, "--to");
		else if (option == 'n')
			options->node_port = (uint16_t)number(optarg, "--node");
		else if (option == 'c')
			options->count = (unsigned)number(optarg, "--count");
		else if (option == 'b')
			options->body_bytes = number(optarg, "--body");
		else if (option == 'm')
			options->window_ns = number(optarg, "--ms") * (NSEC / 1000);
		else if (option == 'r')
			options->millihertz = number(optarg, "--rate");
		else if (option == 'p')
			take_pids(options, optarg);
		else if (option == 'h')
			options->hold = true;
		else if (option == 'f')
			options->before_token = true;
		else
			exit(2);
	}
}

int main(int argc, char **argv)
{
	struct load_options options = {.count = 1, .body_bytes = 1024, .window_ns = NSEC};

	take_options(&options, argc, argv);
	raise_descriptors();
	for (size_t i = 0; optind < argc && i < sizeof(loads) / sizeof(*loads); i++) {
		if (strcmp(argv[optind], loads[i].name) || !options.port || !options.count)
			continue;
		loads[i].run(&options);
		return 0;
	}
	fputs(usage_text, stderr);
	return 2;
}
