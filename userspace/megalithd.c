/* SPDX-License-Identifier: MIT */
/* The controller. Options, and the prober's results handed to the controller; everything else is in
 * control/. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/paths.h"
#include "control/daemon.h"
#include "megalith/version.h"
#include "probe/probe.h"

static const char help[] =
	"usage: megalithd [OPTION]...\n"
	"Controls the megalith load balancer: probes the nodes, steers connections, serves the "
	"control socket.\n"
	"\n"
	"  -c, --config FILE      configuration (" CONFIG_DIR "/megalith.json)\n"
	"      --check            check the configuration and exit\n"
	"      --datapath MODE    auto, xdp, tc or none, instead of the configuration's\n"
	"      --no-proxy         do not start megalith-proxy\n"
	"      --detach-on-exit   take the datapath and the proxy off at the end; else both go on "
	"serving\n"
	"      --run-dir DIR      lock and control socket (" RUN_DIR ")\n"
	"      --state-dir DIR    the operator's weights and drains (" STATE_DIR ")\n"
	"      --bpf-dir DIR      pinned maps and programs (/sys/fs/bpf/megalith)\n"
	"  -v                     say more\n"
	"      --version          print the version and exit\n"
	"  -h, --help             print this and exit\n"
	"\n"
	"Signals: SIGHUP reads the configuration again, SIGTERM and SIGINT end it.\n"
	"Exit codes: 0 done, 1 failed, 2 usage or bad configuration.\n";

enum {
	OPTION_CHECK = 256,
	OPTION_DATAPATH,
	OPTION_NO_PROXY,
	OPTION_DETACH,
	OPTION_RUN_DIR,
	OPTION_STATE_DIR,
	OPTION_BPF_DIR,
	OPTION_VERSION
};

static const struct option options[] = {
	{"config", required_argument, NULL, 'c'},
	{"check", no_argument, NULL, OPTION_CHECK},
	{"datapath", required_argument, NULL, OPTION_DATAPATH},
	{"no-proxy", no_argument, NULL, OPTION_NO_PROXY},
	{"detach-on-exit", no_argument, NULL, OPTION_DETACH},
	{"run-dir", required_argument, NULL, OPTION_RUN_DIR},
	{"state-dir", required_argument, NULL, OPTION_STATE_DIR},
	{"bpf-dir", required_argument, NULL, OPTION_BPF_DIR},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static void on_probe(void *arg, size_t endpoint, const struct probe_result *result)
{
	struct observation seen = {
		.reason = result->reason,
		.rtt_us = result->rtt_us,
		.ttfb_ms = result->ttfb_ms,
		.models = result->models.list,
		.about = result->models.entries,
		.n_models = result->models.n,
		.loaded = result->loaded.list,
		.running = result->loaded.entries,
		.n_loaded = result->loaded.n,
	};

	control_note(arg, endpoint, &seen);
}

static void watch(void *arg, struct control *control, const struct model *model)
{
	struct prober **prober = arg;

	prober_free(*prober);
	*prober = model ? prober_new(control->loop, model, on_probe, control) : NULL;
	if (model && !*prober)
		log_error("the nodes cannot be probed: %s", strerror(errno));
}

static void kick(void *arg, struct control *control, size_t endpoint)
{
	struct prober **prober = arg;

	(void)control;
	if (*prober)
		probe_now(*prober, endpoint);
}

enum wish { RUN, CHECK, VERSION, HELP, WRONG };

static enum wish wrong(const char *what)
{
	fprintf(stderr, "megalithd: %s; see megalithd --help\n", what);
	return WRONG;
}

static enum wish option_take(struct daemon_options *into, int option, enum wish wish)
{
	switch (option) {
	case 'c':
		into->config = optarg;
		return wish;
	case 'v':
		into->verbose = true;
		return wish;
	case 'h':
		return HELP;
	case OPTION_CHECK:
		return CHECK;
	case OPTION_DATAPATH:
		into->has_datapath = true;
		return datapath_mode_parse(&into->datapath, optarg)
			       ? wrong("--datapath: must be auto, xdp, tc or none")
			       : wish;
	case OPTION_NO_PROXY:
		into->no_proxy = true;
		return wish;
	case OPTION_DETACH:
		into->detach_on_exit = true;
		return wish;
	case OPTION_RUN_DIR:
		into->run_dir = optarg;
		return wish;
	case OPTION_STATE_DIR:
		into->state_dir = optarg;
		return wish;
	case OPTION_BPF_DIR:
		into->bpf_dir = optarg;
		return wish;
	case OPTION_VERSION:
		return VERSION;
	default: /* getopt has said what */
		return WRONG;
	}
}

static enum wish options_read(int argc, char **argv, struct daemon_options *into)
{
	enum wish wish = RUN;
	int option;

	while ((option = getopt_long(argc, argv, "c:vh", options, NULL)) != -1) {
		wish = option_take(into, option, wish);
		if (wish != RUN && wish != CHECK)
			return wish;
	}
	return optind < argc ? wrong("no arguments are taken") : wish;
}

int main(int argc, char **argv)
{
	struct prober *prober = NULL;
	struct daemon_options wanted = {
		.config = CONFIG_DIR "/megalith.json",
		.run_dir = RUN_DIR,
		.state_dir = STATE_DIR,
		.bpf_dir = "/sys/fs/bpf/megalith",
		.watch = watch,
		.kick = kick,
		.arg = &prober,
	};
	enum wish wish = options_read(argc, argv, &wanted);

	log_init("megalithd", wanted.verbose ? LOG_DEBUG : LOG_INFO);
	switch (wish) {
	case VERSION:
		puts("megalithd " MEGALITH_VERSION);
		return 0;
	case HELP:
		fputs(help, stdout);
		return 0;
	case CHECK:
		return daemon_check(wanted.config);
	case WRONG:
		return 2;
	default:
		return daemon_run(&wanted);
	}
}
