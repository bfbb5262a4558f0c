/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/lock.h"
#include "ctl/ask.h"
#include "ctl/ctl.h"

#define END_MS	7000 /* megalith-proxy gives its relays 5 s */
#define LOOK_MS 50

/* What is pinned: its number, and its names for the user. */
static size_t list_pins(const char *dir, struct buf *names)
{
	DIR *pins = opendir(dir);
	struct dirent *entry;
	size_t n = 0;

	while (pins && (entry = readdir(pins))) {
		if (entry->d_name[0] == '.')
			continue;
		buf_printf(names, "%s%s", n++ ? " " : "", entry->d_name);
	}
	if (pins)
		closedir(pins);
	return n;
}

static void print_removed(const struct ctl *ctl, const char *dir, const struct buf *names, size_t n)
{
	if (n)
		fprintf(ctl->out, "datapath taken off; %zu pin%s removed from %s: %s\n", n,
			n == 1 ? "" : "s", dir, names->data ? names->data : "");
	else
		fprintf(ctl->out,
			"nothing was pinned under %s; no program of megalith is attached\n", dir);
}

/* It is no child of ours, so its lock tells when it is gone. */
static int proxy_end(const struct ctl *ctl, const char *lock, pid_t pid)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
	struct lock_holder holder;

	if (kill(pid, SIGTERM) == -1 && errno != ESRCH)
		return ctl_fail(ctl, CTL_FAILED, "megalith-proxy (pid %ld) cannot be ended: %s",
				(long)pid, strerror(errno));
	for (int ms = 0; lock_held(lock, &holder) && holder.pid == pid; ms += LOOK_MS) {
		if (ms >= END_MS)
			return ctl_fail(
				ctl, CTL_FAILED,
				"megalith-proxy (pid %ld) does not end; kill -9 %ld ends it",
				(long)pid, (long)pid);
		nanosleep(&pause, NULL);
	}
	lock_remove(lock);
	fprintf(ctl->out, "megalith-proxy (pid %ld) ended\n", (long)pid);
	return CTL_DONE;
}

/* The lock is beside the control socket: both are in the run directory. */
static int proxy_end_left(const struct ctl *ctl)
{
	const char *slash = strrchr(ctl->control, '/');
	int folder = slash ? (int)(slash + 1 - ctl->control) : 0;
	struct lock_holder holder;
	struct buf lock = {0};
	int code = CTL_DONE;

	buf_printf(&lock, "%.*smegalith-proxy.lock", folder, ctl->control);
	if (buf_failed(&lock))
		code = ctl_fail(ctl, CTL_FAILED, "out of memory");
	else if (lock_held(lock.data, &holder) && holder.pid)
		code = proxy_end(ctl, lock.data, holder.pid);
	buf_fini(&lock);
	return code;
}

/* Without a controller: the pins say what there is to take off, and a lock whether a proxy is. */
static int detach_here(const struct ctl *ctl, const char *dir)
{
	struct datapath_error error = {.text = ""};
	struct buf names = {0};
	size_t n;
	int code = CTL_DONE;

	if (!ctl->detach)
		return ctl_fail(ctl, CTL_FAILED, "there is no datapath on this system");
	if (geteuid() != 0)
		return ctl_fail(ctl, CTL_FAILED,
				"nobody answers on %s, so this needs root: sudo megalithctl detach",
				ctl->control);
	n = list_pins(dir, &names);
	if (ctl->detach(ctl->bpf_dir, &error) < 0)
		code = ctl_fail(ctl, CTL_FAILED, "%s", error.text[0] ? error.text : "failed");
	else
		print_removed(ctl, dir, &names, n);
	if (code == CTL_DONE)
		code = proxy_end_left(ctl);
	buf_fini(&names);
	return code;
}

/* "xdp from eth0, tc from eth1", as the controller says it is now. */
static void list_interfaces(const struct ctl *ctl, struct buf *text)
{
	struct answer answer;
	const struct json *item;

	if (ask_quietly(ctl, "GET", "/v1/status", NULL, &answer) == CTL_DONE) {
		item = json_first(json_get(json_get(answer.root, "datapath"), "interfaces"));
		for (; item; item = json_next(item))
			buf_printf(text, "%s%s from %s", text->len ? ", " : "",
				   text_of(item, "mode", "?"), text_of(item, "name", "?"));
	}
	answer_fini(&answer);
}

static int detach_there(const struct ctl *ctl)
{
	struct buf interfaces = {0};
	struct answer answer;
	int code;

	list_interfaces(ctl, &interfaces);
	code = ask(ctl, "POST", "/v1/detach", NULL, &answer);
	if (code == CTL_DONE && interfaces.len)
		fprintf(ctl->out,
			"datapath taken off: %s; its pins are removed\n"
			"megalithd goes on without it: megalith-proxy relays every connection\n",
			interfaces.data);
	else if (code == CTL_DONE)
		fputs("no datapath was attached; what was pinned is removed\n", ctl->out);
	answer_fini(&answer);
	buf_fini(&interfaces);
	return code;
}

int ctl_detach(struct ctl *ctl)
{
	struct buf dir = {0};
	int code;

	buf_printf(&dir, "%s/v%d", ctl->bpf_dir, MG_LAYOUT);
	if (buf_failed(&dir))
		return ctl_fail(ctl, CTL_FAILED, "out of memory");
	if (ask_anybody(ctl))
		code = detach_there(ctl);
	else
		code = detach_here(ctl, dir.data);
	buf_fini(&dir);
	return code;
}
