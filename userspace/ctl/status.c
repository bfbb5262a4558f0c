/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <string.h>

#include "ctl/ask.h"
#include "ctl/ctl.h"
#include "ctl/farm.h"
#include "ctl/views.h"

static void print_head(const struct ctl *ctl, const struct json *status)
{
	char uptime[FARM_TEXT_MAX];

	fprintf(ctl->out, "megalith   %s, up %s, plan %" PRId64 ", pid %" PRId64 "\n",
		text_of(status, "version", "?"),
		farm_duration(uptime, number_of(status, "uptime_ms", 0)),
		number_of(status, "plan_version", 0), number_of(status, "pid", 0));
	fprintf(ctl->out, "config     %s\n", text_of(status, "config", "?"));
}

static void print_interfaces(const struct ctl *ctl, const struct json *interfaces)
{
	const struct json *item = json_first(interfaces);

	for (; item; item = json_next(item)) {
		const char *note = text_of(item, "note", NULL);

		fprintf(ctl->out, "           %s: %s%s%s%s\n", text_of(item, "name", "?"),
			text_of(item, "mode", "?"), note ? " (" : "", note ? note : "",
			note ? ")" : "");
	}
}

static void print_datapath(const struct ctl *ctl, const struct json *status)
{
	const struct json *datapath = json_get(status, "datapath");
	const char *mode = text_of(datapath, "mode", "?");
	int64_t embryos = number_of(datapath, "embryos", 0);
	bool none = strcmp(mode, "none") == 0;
	struct buf addresses = {0};

	fprintf(ctl->out, "datapath   %s%s%s",
		table_style_on(none ? TABLE_WARN : TABLE_GOOD, ctl->colour), mode,
		table_style_off(none ? TABLE_WARN : TABLE_GOOD, ctl->colour));
	if (none) {
		fputs(": megalith-proxy relays every connection\n", ctl->out);
		return;
	}
	fprintf(ctl->out, ", %" PRId64 " of %" PRId64 " connections, %" PRId64 " handshake%s%s\n",
		number_of(datapath, "flows", 0), number_of(datapath, "max_flows", 0), embryos,
		embryos == 1 ? "" : "s", truth_of(datapath, "adopted") ? ", adopted" : "");
	print_interfaces(ctl, json_get(datapath, "interfaces"));
	farm_list(json_get(datapath, "addresses"), ", ", &addresses);
	if (addresses.len)
		fprintf(ctl->out, "addresses  %s\n", addresses.data);
	buf_fini(&addresses);
}

static void print_proxy(const struct ctl *ctl, const struct json *status)
{
	int64_t followers = number_of(json_get(status, "proxy"), "followers", 0);

	if (followers)
		fprintf(ctl->out, "proxy      %" PRId64 " following the plan\n", followers);
	else
		fprintf(ctl->out,
			"proxy      %snone%s: what the kernel does not steer is not served by the "
			"plan of now\n",
			table_style_on(TABLE_BAD, ctl->colour),
			table_style_off(TABLE_BAD, ctl->colour));
}

static void print_router(const struct ctl *ctl, const struct json *status)
{
	const struct json *router = json_get(status, "router");
	const char *listen = json_string(json_get(router, "listen"));
	int64_t aliases = number_of(router, "aliases", 0), queued = number_of(router, "queued", 0);

	if (!listen) /* an older controller */
		return;
	fprintf(ctl->out,
		"router     %s, %" PRId64 " alias%s, %s, %" PRId64 " answered, %" PRId64
		" waiting\n",
		listen, aliases, aliases == 1 ? "" : "es",
		truth_of(router, "keys") ? "with keys" : "without keys",
		number_of(router, "requests", 0), queued);
}

int ctl_status(struct ctl *ctl)
{
	struct answer answer;
	bool printed;
	int code = ask_document(ctl, "/v1/status", &answer, &printed);

	if (code == CTL_DONE && !printed) {
		print_head(ctl, answer.root);
		print_datapath(ctl, answer.root);
		print_proxy(ctl, answer.root);
		print_router(ctl, answer.root);
		fputc('\n', ctl->out);
		code = view_personas(ctl, answer.root);
		fputc('\n', ctl->out);
		if (code == CTL_DONE)
			code = view_nodes(ctl, answer.root, false);
	}
	answer_fini(&answer);
	return code;
}
