/* SPDX-License-Identifier: MIT */
/* megalith-simnode: arguments in, a simulated node (simnode/) out. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "megalith/version.h"
#include "simnode/simnode.h"

#define DOORS_MAX  64
#define MODELS_MAX 1024

struct door {
	const char *engine;
	const char *address; /* NULL: all */
	uint16_t port;
};

struct list {
	const char *names[MODELS_MAX];
	size_t n;
};

struct arguments {
	struct simnode_options options;
	struct door doors[DOORS_MAX];
	size_t n_doors;
	const char *engine; /* of what --listen gives */
	struct list models, loaded;
	bool some_loaded;
};

static const char usage[] =
	"usage: megalith-simnode [options] --listen ADDRESS:PORT ... | --service ENGINE[:PORT] "
	"...\n"
	"\n"
	"A simulated inference node. It says its name in all answers (header x-simnode, generated "
	"text).\n"
	"\n"
	"  --listen ADDRESS:PORT  listen there, as the engine of --engine; can be repeated\n"
	"  --engine ENGINE        any (default: ollama, llamacpp and openai at once), ollama, "
	"llamacpp,\n"
	"                         vllm, sglang, openai, comfyui, immich, wyoming, http or tcp\n"
	"  --mode http|tcp        the same as --engine any|tcp\n"
	"  --service ENGINE:PORT  listen on all addresses as that engine; can be repeated\n"
	"  --name NAME            what it calls itself (default simnode)\n"
	"  --models A,B,...       models it has; default: any name\n"
	"  --model A              one more; can be repeated\n"
	"  --loaded A,B,...       of them, those in memory (default: all)\n"
	"  --slots N              requests at once (default 4); more wait in order, as with "
	"Ollama\n"
	"  --tps N                tokens per second (default 50)\n"
	"  --ttft-ms N            time to the first token (default 20)\n"
	"  --tokens N             length of an answer where the request does not say (default 16)\n"
	"  --load-ms N            answer 503 for the first N ms, as if loading\n"
	"  --token-bytes N        each token's text is filled up to N bytes\n"
	"  --answer-bytes N       the text of an answer that is not streamed, too\n"
	"  --stamp                each token ends with @ and the time of its sending (us,\n"
	"                         CLOCK_MONOTONIC)\n"
	"  --status CODE          every inference answers this status; goes before --fail\n"
	"  --fail HOW             how inferences fail:\n"
	"      none               they do not\n"
	"      hang               no answer, ever\n"
	"      hang-head          the head of the answer, then nothing\n"
	"      close, reset       the connection ends (FIN, RST) instead of an answer\n"
	"      status=CODE        that status\n"
	"      sse-error          a stream with an error as its first event; else 503\n"
	"      slow-head=MS       the head comes in two pieces, MS apart\n"
	"      truncate           fewer bytes than promised, then the end of the connection\n"
	"      cut=N              after N tokens the connection ends, within a chunk\n"
	"      reset-after=N      after N tokens it is reset\n"
	"      end=N              after N tokens the stream ends cleanly, without its last event\n"
	"      error-after=N      after N tokens an error event, then the end\n"
	"      bad-chunk=N        after N tokens garbage instead of a chunk\n"
	"  --fail-times N         only the next N inferences fail (default 0: all)\n"
	"  --version              print the version\n"
	"  -h, --help             print this\n"
	"\n"
	"GET /sim/stats tells what it was asked, and what became of it; POST /sim/reset forgets "
	"that.\n"
	"POST /sim/set {\"slots\", \"tps\", \"ttft_ms\", \"tokens\", \"token_bytes\", "
	"\"answer_bytes\", \"stamp\",\n"
	"\"load_ms\", \"status\", \"fail\", \"fail_times\"} changes how it behaves.\n";

static int bad(const char *what, const char *value, const char *allowed)
{
	fprintf(stderr, "megalith-simnode: %s: \"%s\": %s\n", what, value, allowed);
	return 2;
}

/* Digits only, within the limits. */
static bool parse_number(const char *text, unsigned long least, unsigned long most,
			 unsigned long *number)
{
	char *end;

	errno = 0;
	*number = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : ULONG_MAX;
	return *text >= '0' && *text <= '9' && !*end && !errno && *number >= least &&
	       *number <= most;
}

static int set_number(const char *what, const char *text, unsigned long least, unsigned long most,
		      uint32_t *into)
{
	char allowed[80];
	unsigned long number;

	if (!parse_number(text, least, most, &number)) {
		snprintf(allowed, sizeof(allowed), "expected a number from %lu to %lu", least,
			 most);
		return bad(what, text, allowed);
	}
	*into = (uint32_t)number;
	return 0;
}

/* "a,b,c", in place: argv is ours. */
static int add_names(struct list *list, const char *what, char *text)
{
	char *rest = NULL;

	for (char *name = strtok_r(text, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
		if (list->n == MODELS_MAX)
			return bad(what, name, "too many models");
		if (strlen(name) > 255)
			return bad(what, name, "longer than 255 bytes");
		list->names[list->n++] = name;
	}
	return 0;
}

static int set_port(const char *what, const char *text, uint16_t *port)
{
	uint32_t number = 0;
	int error = set_number(what, text, 0, 65535, &number);

	*port = (uint16_t)number;
	return error;
}

/* "1.2.3.4:80", "[::1]:80" */
static int add_listen(struct arguments *arguments, char *text)
{
	struct door *door = &arguments->doors[arguments->n_doors];
	char *colon = strrchr(text, ':');
	struct addr address;

	if (arguments->n_doors == DOORS_MAX || !colon)
		return bad("--listen", text, "expected ADDRESS:PORT, at most 64 times");
	*colon = '\0';
	if (*text == '[' && colon[-1] == ']') {
		text++;
		colon[-1] = '\0';
	}
	if (addr_parse(&address, text))
		return bad("--listen", text, "not an IP address");
	door->address = text;
	arguments->n_doors++;
	return set_port("--listen", colon + 1, &door->port);
}

static int add_service(struct arguments *arguments, char *text)
{
	struct door *door = &arguments->doors[arguments->n_doors];
	char *colon = strchr(text, ':');

	if (arguments->n_doors == DOORS_MAX)
		return bad("--service", text, "too many");
	if (colon)
		*colon = '\0';
	door->engine = text;
	door->port = simnode_default_port(text);
	if (!colon && !door->port)
		return bad("--service", text, "unknown engine, or one that needs a port");
	arguments->n_doors++;
	return colon ? set_port("--service", colon + 1, &door->port) : 0;
}

static int set_mode(struct arguments *arguments, const char *mode)
{
	if (!strcmp(mode, "http"))
		arguments->engine = "any";
	else if (!strcmp(mode, "tcp") || !strcmp(mode, "wyoming"))
		arguments->engine = mode;
	else
		return bad("--mode", mode, "expected http, tcp or wyoming");
	return 0;
}

static int set_name(struct arguments *arguments, const char *name)
{
	for (const char *c = name; *c; c++) {
		if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f)
			return bad("--name", name, "printable characters only");
	}
	if (!*name || strlen(name) > 63)
		return bad("--name", name, "1 to 63 characters");
	arguments->options.name = name;
	return 0;
}

enum {
	OPT_LISTEN = 256,
	OPT_ENGINE,
	OPT_MODE,
	OPT_SERVICE,
	OPT_NAME,
	OPT_MODELS,
	OPT_LOADED,
	OPT_SLOTS,
	OPT_TPS,
	OPT_TTFT,
	OPT_TOKENS,
	OPT_LOAD,
	OPT_STATUS,
	OPT_FAIL,
	OPT_FAIL_TIMES,
	OPT_TOKEN_BYTES,
	OPT_ANSWER_BYTES,
	OPT_STAMP,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"engine", required_argument, NULL, OPT_ENGINE},
	{"mode", required_argument, NULL, OPT_MODE},
	{"service", required_argument, NULL, OPT_SERVICE},
	{"name", required_argument, NULL, OPT_NAME},
	{"models", required_argument, NULL, OPT_MODELS},
	{"model", required_argument, NULL, OPT_MODELS},
	{"loaded", required_argument, NULL, OPT_LOADED},
	{"slots", required_argument, NULL, OPT_SLOTS},
	{"tps", required_argument, NULL, OPT_TPS},
	{"ttft-ms", required_argument, NULL, OPT_TTFT},
	{"tokens", required_argument, NULL, OPT_TOKENS},
	{"load-ms", required_argument, NULL, OPT_LOAD},
	{"status", required_argument, NULL, OPT_STATUS},
	{"fail", required_argument, NULL, OPT_FAIL},
	{"fail-times", required_argument, NULL, OPT_FAIL_TIMES},
	{"token-bytes", required_argument, NULL, OPT_TOKEN_BYTES},
	{"answer-bytes", required_argument, NULL, OPT_ANSWER_BYTES},
	{"stamp", no_argument, NULL, OPT_STAMP},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static int set_behaviour(struct arguments *arguments, int option, const char *value)
{
	struct simnode_options *options = &arguments->options;
	uint32_t status = 0;
	int error;

	switch (option) {
	case OPT_SLOTS:
		return set_number("--slots", value, 1, 1000000, &options->slots);
	case OPT_TPS:
		return set_number("--tps", value, 1, 1000000, &options->tps);
	case OPT_TTFT:
		return set_number("--ttft-ms", value, 0, 86400000, &options->ttft_ms);
	case OPT_TOKENS:
		return set_number("--tokens", value, 1, 100000000, &options->tokens);
	case OPT_LOAD:
		return set_number("--load-ms", value, 0, 86400000, &options->load_ms);
	case OPT_STATUS:
		error = set_number("--status", value, 400, 599, &status);
		options->status = (int)status;
		return error;
	case OPT_TOKEN_BYTES:
		return set_number("--token-bytes", value, 0, SIM_TOKEN_BYTES_MAX,
				  &options->token_bytes);
	case OPT_ANSWER_BYTES:
		return set_number("--answer-bytes", value, 0, SIM_ANSWER_BYTES_MAX,
				  &options->answer_bytes);
	case OPT_FAIL_TIMES:
		return set_number("--fail-times", value, 0, UINT32_MAX, &options->fail_times);
	case OPT_STAMP:
		options->stamp = true;
		return 0;
	default:
		if (!simnode_fail_parse(options, value))
			return 0;
		return bad("--fail", value, "expected " SIM_FAIL_HOW);
	}
}

static int set_option(struct arguments *arguments, int option, char *value)
{
	switch (option) {
	case OPT_LISTEN:
		return add_listen(arguments, value);
	case OPT_SERVICE:
		return add_service(arguments, value);
	case OPT_ENGINE:
		arguments->engine = value;
		return 0;
	case OPT_MODE:
		return set_mode(arguments, value);
	case OPT_NAME:
		return set_name(arguments, value);
	case OPT_MODELS:
		return add_names(&arguments->models, "--models", value);
	case OPT_LOADED:
		arguments->some_loaded = true;
		return add_names(&arguments->loaded, "--loaded", value);
	default:
		return set_behaviour(arguments, option, value);
	}
}

/* -1: go on; else the exit code. */
static int parse_arguments(struct arguments *arguments, int argc, char **argv)
{
	int option, error = 0;

	while (!error && (option = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			return 0;
		}
		if (option == OPT_VERSION) {
			printf("megalith-simnode %s\n", MEGALITH_VERSION);
			return 0;
		}
		if (option == '?') {
			fputs("megalith-simnode: try --help\n", stderr);
			return 2;
		}
		error = set_option(arguments, option, optarg);
	}
	if (error)
		return error;
	if (optind < argc)
		return bad("argument", argv[optind], "no argument expected");
	if (!arguments->n_doors)
		return bad("--listen", "", "expected at least one --listen or --service");
	return -1;
}

/* All addresses: IPv6 and IPv4 in one socket where there is IPv6. */
static int open_door(struct simnode *node, struct door *door, struct addr *address)
{
	int error;

	if (door->address) {
		addr_parse(address, door->address);
		return simnode_serve(node, door->engine, address, &door->port);
	}
	addr_parse(address, "::");
	error = simnode_serve(node, door->engine, address, &door->port);
	if (error != -EAFNOSUPPORT && error != -EADDRNOTAVAIL)
		return error;
	addr_parse(address, "0.0.0.0");
	return simnode_serve(node, door->engine, address, &door->port);
}

static int open_doors(struct simnode *node, struct arguments *arguments)
{
	struct buf where = {0};
	char text[ADDR_TEXT_MAX];
	struct addr address;

	for (size_t i = 0; i < arguments->n_doors; i++) {
		struct door *door = &arguments->doors[i];
		int error;

		if (!door->engine)
			door->engine = arguments->engine;
		error = open_door(node, door, &address);
		if (error == -EINVAL)
			return bad("engine", door->engine, "unknown");
		if (error) {
			fprintf(stderr, "megalith-simnode: cannot listen on %s: %s\n",
				addr_format_port(&address, door->port, text), strerror(-error));
			buf_fini(&where);
			return 1;
		}
		buf_printf(&where, "%s%s", i ? "," : "",
			   addr_format_port(&address, door->port, text));
	}
	fprintf(stderr, "ready name=%s listen=%s\n", arguments->options.name,
		buf_failed(&where) ? "?" : where.data);
	buf_fini(&where);
	return 0;
}

struct end {
	uv_signal_t terminate, interrupt;
	struct simnode *node;
};

static void on_signal(uv_signal_t *handle, int number)
{
	struct end *end = handle->data;

	(void)number;
	simnode_free(end->node);
	uv_close((uv_handle_t *)&end->terminate, NULL);
	uv_close((uv_handle_t *)&end->interrupt, NULL);
}

static void catch_signals(uv_loop_t *loop, struct end *end)
{
	signal(SIGPIPE, SIG_IGN);
	uv_signal_init(loop, &end->terminate);
	uv_signal_init(loop, &end->interrupt);
	end->terminate.data = end;
	end->interrupt.data = end;
	uv_signal_start(&end->terminate, on_signal, SIGTERM);
	uv_signal_start(&end->interrupt, on_signal, SIGINT);
}

static int run(struct arguments *arguments)
{
	struct simnode_options *options = &arguments->options;
	struct end end;
	uv_loop_t loop;
	int code;

	options->models = arguments->models.names;
	options->n_models = arguments->models.n;
	options->loaded = arguments->some_loaded ? arguments->loaded.names : NULL;
	options->n_loaded = arguments->loaded.n;
	limits_raise();
	if (uv_loop_init(&loop))
		return 1;
	end.node = simnode_new(&loop, options);
	if (!end.node) {
		fprintf(stderr, "megalith-simnode: %s\n", strerror(errno));
		return 1;
	}
	catch_signals(&loop, &end);
	code = open_doors(end.node, arguments);
	if (code)
		on_signal(&end.terminate, 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	return code;
}

int main(int argc, char **argv)
{
	struct arguments *arguments = calloc(1, sizeof(*arguments));
	int code;

	if (!arguments)
		return 1;
	simnode_defaults(&arguments->options);
	arguments->engine = "any";
	code = parse_arguments(arguments, argc, argv);
	if (code < 0)
		code = run(arguments);
	free(arguments);
	return code;
}
