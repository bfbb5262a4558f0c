/* SPDX-License-Identifier: MIT */
/*
 * megalith-proxy: the HTTP router and the fallback listener. This file starts and ends it; what it
 * does is in proxy/.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/paths.h"
#include "megalith/version.h"
#include "proxy/proxy.h"

#define STOP_MS	     5000 /* for relays that are busy when we are told to end */
#define STOP_LOOK_MS 50
#define SPARE_FDS \
	64 /* descriptors that are not relays: the loop's, the control socket's, listeners' */
#define MAX_RELAYS 200000 /* each holds about 1.5 KB and two descriptors */

struct program {
	uv_loop_t loop;
	struct proxy *proxy;
	uv_signal_t terminate, interrupt, hangup;
	uv_timer_t stop;
	uint64_t stop_at_ms; /* 0: not stopping */
	bool ended;
};

struct options {
	const char *run_dir;
	const char *control; /* NULL: run_dir/control.sock */
	bool verbose;
};

static const char usage_text[] =
	"usage: megalith-proxy [--run-dir DIR] [--control PATH] [-v]\n"
	"\n"
	"The HTTP router, and on every persona port the fallback listener for connections that no\n"
	"kernel steers. Follows megalithd on its control socket; goes on with the last plan "
	"without it.\n"
	"\n"
	"      --run-dir DIR    where control.sock is (default " RUN_DIR ")\n"
	"      --control PATH   the control socket itself\n"
	"  -v                   more messages\n"
	"      --version        print the version\n"
	"  -h, --help           print this\n";

/* -1: go on; else the exit code. */
static int options_parse(struct options *options, int argc, char **argv)
{
	enum { RUN_DIR_OPTION = 256, CONTROL_OPTION, VERSION_OPTION };
	static const struct option longs[] = {
		{"run-dir", required_argument, NULL, RUN_DIR_OPTION},
		{"control", required_argument, NULL, CONTROL_OPTION},
		{"version", no_argument, NULL, VERSION_OPTION},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "vh", longs, NULL)) != -1) {
		switch (option) {
		case RUN_DIR_OPTION:
			options->run_dir = optarg;
			break;
		case CONTROL_OPTION:
			options->control = optarg;
			break;
		case 'v':
			options->verbose = true;
			break;
		case VERSION_OPTION:
			printf("megalith-proxy %s\n", MEGALITH_VERSION);
			return 0;
		case 'h':
			fputs(usage_text, stdout);
			return 0;
		default:
			fputs("megalith-proxy: try --help\n", stderr);
			return 2;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "megalith-proxy: no argument expected: '%s'\n", argv[optind]);
	return 2;
}

/* As many descriptors as we may have, and so many relays. */
static size_t descriptors_raise(void)
{
	size_t open = limits_raise();
	size_t relays = open > SPARE_FDS + 2 ? (open - SPARE_FDS) / 2 : 1;

	return relays < MAX_RELAYS ? relays : MAX_RELAYS;
}

static void program_end(struct program *program)
{
	program->ended = true;
	proxy_end(program->proxy);
	uv_close((uv_handle_t *)&program->terminate, NULL);
	uv_close((uv_handle_t *)&program->interrupt, NULL);
	uv_close((uv_handle_t *)&program->hangup, NULL);
	uv_close((uv_handle_t *)&program->stop, NULL);
}

static void program_on_stop(uv_timer_t *timer)
{
	struct program *program = timer->data;

	if (!proxy_busy(program->proxy) || uv_now(&program->loop) >= program->stop_at_ms)
		program_end(program);
}

/* The first time: what is busy may finish. The second: now. */
static void program_on_signal(uv_signal_t *signal, int number)
{
	struct program *program = signal->data;

	(void)number;
	if (program->ended)
		return;
	if (program->stop_at_ms) {
		program_end(program);
		return;
	}
	notify_systemd("STOPPING=1");
	proxy_stop(program->proxy);
	program->stop_at_ms = uv_now(&program->loop) + STOP_MS;
	uv_timer_start(&program->stop, program_on_stop, 0, STOP_LOOK_MS);
}

/* All that could be read again comes from the controller. */
static void program_on_hangup(uv_signal_t *signal, int number)
{
	(void)signal;
	(void)number;
	log_info("SIGHUP: configuration and keys are read by megalithd; send it there");
}

static int program_start(struct program *program, const char *control)
{
	if (uv_loop_init(&program->loop) < 0)
		return -ENOMEM;
	uv_signal_init(&program->loop, &program->terminate);
	uv_signal_init(&program->loop, &program->interrupt);
	uv_signal_init(&program->loop, &program->hangup);
	uv_timer_init(&program->loop, &program->stop);
	program->terminate.data = program;
	program->interrupt.data = program;
	program->stop.data = program;
	uv_signal_start(&program->terminate, program_on_signal, SIGTERM);
	uv_signal_start(&program->interrupt, program_on_signal, SIGINT);
	uv_signal_start(&program->hangup, program_on_hangup, SIGHUP);
	program->proxy = proxy_new(&program->loop, control, descriptors_raise());
	return program->proxy ? 0 : -errno;
}

int main(int argc, char **argv)
{
	struct options options = {.run_dir = RUN_DIR};
	struct program program = {0};
	const struct rlimit no_core = {0, 0};
	struct buf control = {0};
	int code = options_parse(&options, argc, argv);

	if (code >= 0)
		return code;
	log_init("megalith-proxy", options.verbose ? LOG_DEBUG : LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_CORE, &no_core); /* keys and prompts stay out of core files */
	if (geteuid() == 0)
		log_warn("running as root: this program needs no right at all, give it a user of "
			 "its own");
	if (options.control)
		buf_puts(&control, options.control);
	else
		buf_printf(&control, "%s/control.sock", options.run_dir);
	code = buf_failed(&control) ? -ENOMEM : program_start(&program, control.data);
	buf_fini(&control);
	if (code < 0) {
		log_error("cannot start: %s", strerror(-code));
		return 1;
	}
	uv_run(&program.loop, UV_RUN_DEFAULT);
	proxy_free(program.proxy);
	uv_loop_close(&program.loop);
	return 0;
}
