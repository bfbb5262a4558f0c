/* SPDX-License-Identifier: MIT */
/*
 * A gateway for the loader's tests: this process in a network namespace and with a bpffs of its
 * own, two veth pairs (g0, g1) to a neighbour in another one, and plans made by hand. Included by
 * one program.
 */
#ifndef TESTS_DATAPATH_GATEWAY_H
#define TESTS_DATAPATH_GATEWAY_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <cmocka.h>

#include "core/datapath.h"

#define PERSONA_PORT 11501

struct rig {
	char dir[64];	  /* of our own; the bpffs is mounted at dir/bpf */
	char bpf_dir[96]; /* dir/bpf/mg */
	char pins[128];	  /* bpf_dir/v1 */
	pid_t neighbour;  /* process that holds the other namespace */
	const char *skip; /* why the tests cannot run here; NULL: they can */
};

static struct rig rig;

static int __attribute__((format(printf, 2, 0)))
run_args(const char *prefix, const char *format, va_list args)
{
	char command[1024];
	size_t len = (size_t)snprintf(command, sizeof(command), "%s", prefix);

	vsnprintf(command + len, sizeof(command) - len, format, args);
	return system(command);
}

/* Runs a shell command; the test fails with it. */
static void __attribute__((format(printf, 1, 2))) run(const char *format, ...)
{
	va_list args;
	int status;

	va_start(args, format);
	status = run_args("", format, args);
	va_end(args);
	if (status)
		fail_msg("command failed: %s", format);
}

/* Command in the neighbour's namespace. */
static void __attribute__((format(printf, 1, 2))) run_there(const char *format, ...)
{
	char prefix[64];
	va_list args;
	int status;

	snprintf(prefix, sizeof(prefix), "nsenter -t %d -n ", rig.neighbour);
	va_start(args, format);
	status = run_args(prefix, format, args);
	va_end(args);
	if (status)
		fail_msg("command failed: %s", format);
}

/* Does it say anything (first line to `line` when not NULL)? */
static bool __attribute__((format(printf, 2, 3))) says(char line[256], const char *format, ...)
{
	char command[1024], own[256];
	va_list args;
	FILE *out;
	bool something;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	line = line ? line : own;
	out = popen(command, "re");
	assert_non_null(out);
	something = fgets(line, 256, out) != NULL;
	while (fgets(own, sizeof(own), out))
		continue;
	pclose(out);
	return something;
}

/* --- up and down --------------------------------------------------------------------------- */

static pid_t neighbour_start(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready))
		return -1;
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare(CLONE_NEWNET) || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (pid > 0 && read(ready[0], &byte, 1) != 1) {
		waitpid(pid, NULL, 0);
		pid = -1;
	}
	close(ready[0]);
	return pid;
}

static const char *make_namespaces(void)
{
	char mounted[96];

	if (geteuid() != 0)
		return "needs root";
	if (system("command -v ip tc nsenter >/dev/null"))
		return "needs ip, tc and nsenter";
	snprintf(rig.dir, sizeof(rig.dir), "/tmp/mg-datapath-XXXXXX");
	if (!mkdtemp(rig.dir))
		return "needs a directory in /tmp";
	rig.neighbour = neighbour_start();
	if (rig.neighbour <= 0 || unshare(CLONE_NEWNET | CLONE_NEWNS))
		return "needs network namespaces";
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return "needs a mount namespace of its own";
	/* the names of other people's namespaces come and go, and `ip link` trips over them */
	mount("none", "/run/netns", "tmpfs", 0, NULL);
	snprintf(mounted, sizeof(mounted), "%s/bpf", rig.dir);
	if (mkdir(mounted, 0700) || mount("bpf", mounted, "bpf", 0, NULL))
		return "needs a BPF filesystem";
	snprintf(rig.bpf_dir, sizeof(rig.bpf_dir), "%s/bpf/mg", rig.dir);
	snprintf(rig.pins, sizeof(rig.pins), "%s/v1", rig.bpf_dir);
	return NULL;
}

static void make_links(void)
{
	run("ip link set lo up");
	for (int i = 0; i < 2; i++) {
		run("ip link add g%d type veth peer name p%d netns %d", i, i, rig.neighbour);
		run("ip addr add 10.%d.0.1/24 dev g%d", 9 - i, i);
		run("ip -6 addr add fd0%d::1/64 dev g%d nodad", 9 - i, i);
		run("ip link set g%d up", i);
		run_there("ip addr add 10.%d.0.2/24 dev p%d", 9 - i, i);
		run_there("ip -6 addr add fd0%d::2/64 dev p%d nodad", 9 - i, i);
		run_there("ip link set p%d up", i);
	}
}

static int rig_up(void **state)
{
	(void)state;
	rig.skip = make_namespaces();
	if (rig.skip)
		print_message("[  SKIPPED ] %s\n", rig.skip);
	return 0;
}

static int rig_down(void **state)
{
	char path[96];

	(void)state;
	if (rig.neighbour > 0) {
		kill(rig.neighbour, SIGKILL);
		waitpid(rig.neighbour, NULL, 0);
	}
	if (!rig.dir[0])
		return 0;
	snprintf(path, sizeof(path), "%s/bpf", rig.dir);
	umount2(path, MNT_DETACH);
	rmdir(path);
	rmdir(rig.dir);
	return 0;
}

static void renew_links(void)
{
	char command[256];

	/* by their far ends: these are also there when this process has changed its namespace */
	snprintf(command, sizeof(command),
		 "for i in 0 1; do nsenter -t %d -n ip link del p$i || ip link del g$i; done "
		 "2>/dev/null",
		 rig.neighbour);
	(void)!system(command);
	make_links();
}

/* Fixture of each test: takes off whatever the last one left. */
static int rig_reset(void **state)
{
	struct datapath_error error;

	(void)state;
	if (rig.skip)
		return 0;
	datapath_detach(rig.bpf_dir, &error);
	renew_links();
	run("echo > /proc/sys/net/ipv4/ip_local_reserved_ports");
	return 0;
}

/* --- the datapath -------------------------------------------------------------------------- */

static char *interfaces[] = {(char[]){"g0"}, (char[]){"g1"}};

static struct datapath_options rig_options(enum datapath_mode mode)
{
	struct datapath_options options = {
		.bpf_dir = rig.bpf_dir,
		.mode = mode,
		.interfaces = interfaces,
		.n_interfaces = 2,
		.snat_first = 20000,
		.snat_last = 20999,
		.max_flows = 1024,
	};

	return options;
}

/* Opens, or fails the test with the error. */
static struct datapath *rig_open(enum datapath_mode mode)
{
	struct datapath_options options = rig_options(mode);
	struct datapath_error error;
	struct datapath *dp = datapath_open(&options, &error);

	if (!dp)
		fail_msg("datapath_open: %s", error.text);
	return dp;
}

/* Opens, must be refused; the text is checked. */
static void rig_refused(const struct datapath_options *options, const char *text)
{
	struct datapath_error error;
	struct datapath *dp = datapath_open(options, &error);

	assert_null(dp);
	assert_string_equal(error.text, text);
}

/* Nothing of ours is left: pins, qdiscs, XDP programs, reserved ports. */
static void rig_clean(void)
{
	assert_int_not_equal(access(rig.bpf_dir, F_OK), 0);
	assert_false(says(NULL, "tc qdisc show | grep clsact"));
	assert_false(says(NULL, "ip link | grep xdp"));
	assert_true(says(NULL, "grep -x '' /proc/sys/net/ipv4/ip_local_reserved_ports"));
}

/* Waits until `ready` holds, living meanwhile as a controller does; fails after 5 s. True:
 * addresses changed. */
static bool rig_wait(struct datapath *dp, bool (*ready)(const struct datapath *dp, void *arg),
		     void *arg)
{
	struct pollfd poller = {.fd = datapath_events_fd(dp), .events = POLLIN};
	bool changed = false;

	for (int i = 0; i < 250; i++) {
		if (ready(dp, arg))
			return changed;
		if (poll(&poller, 1, 20) == 1)
			changed = datapath_events(dp) || changed;
		if (i % 10 == 9)
			datapath_sweep(dp);
	}
	fail_msg("waited for 5 s");
	return false;
}

/* --- plans --------------------------------------------------------------------------------- */

/* `n` endpoints nK/llm at 10.9.0.(2 + K), all behind one listener: persona p, port 11501. */
static struct plan *rig_plan(size_t n)
{
	struct plan *plan = calloc(1, sizeof(*plan));
	struct plan_tier *tier = calloc(1, sizeof(*tier));

	plan->endpoints = calloc(n + 1, sizeof(*plan->endpoints));
	plan->n_endpoints = n;
	plan->rows = calloc(1, sizeof(*plan->rows));
	plan->n_rows = 1;
	tier->endpoints = calloc(n + 1, sizeof(*tier->endpoints));
	tier->n_endpoints = n;
	snprintf(tier->persona, sizeof(tier->persona), "p");
	plan->rows[0].tiers = tier;
	plan->rows[0].n_tiers = 1;
	plan->rows[0].port = PERSONA_PORT;
	snprintf(plan->rows[0].persona, sizeof(plan->rows[0].persona), "p");
	snprintf(plan->rows[0].service, sizeof(plan->rows[0].service), "llm");
	for (size_t i = 0; i < n; i++) {
		struct plan_endpoint *endpoint = &plan->endpoints[i];
		char address[32];

		snprintf(address, sizeof(address), "10.9.%zu.%zu", (i + 2) / 256, (i + 2) % 256);
		assert_int_equal(addr_parse(&endpoint->addr, address), 0);
		snprintf(endpoint->node, sizeof(endpoint->node), "n%zu", i);
		snprintf(endpoint->service, sizeof(endpoint->service), "llm");
		endpoint->port = 11434;
		endpoint->state = MG_NODE_UP;
		endpoint->weight = 100;
		endpoint->capacity = 4;
		endpoint->idle_ms = 3000;
		tier->endpoints[i] = (uint32_t)i;
	}
	return plan;
}

static void rig_plan_free(struct plan *plan)
{
	for (size_t i = 0; i < plan->rows[0].n_tiers; i++)
		free(plan->rows[0].tiers[i].endpoints);
	free(plan->rows[0].tiers);
	free(plan->rows);
	free(plan->endpoints);
	free(plan);
}

static void rig_publish(struct datapath *dp, const struct plan *plan)
{
	struct datapath_error error;

	if (datapath_publish(dp, plan, &error))
		fail_msg("datapath_publish: %s", error.text);
}

/* --- maps ---------------------------------------------------------------------------------- */

static int pin_open(const char *name)
{
	char path[192];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", rig.pins, name);
	fd = bpf_obj_get(path);
	if (fd < 0)
		fail_msg("%s is not pinned", name);
	return fd;
}

static int rig_get(const char *map, const void *key, void *value)
{
	int fd = pin_open(map), err = bpf_map_lookup_elem(fd, key, value);

	close(fd);
	return err;
}

static int rig_put(const char *map, const void *key, const void *value)
{
	int fd = pin_open(map), err = bpf_map_update_elem(fd, key, value, BPF_ANY);

	close(fd);
	return err;
}

static size_t rig_count(const char *map)
{
	char key[64] = {0}, next[64];
	int fd = pin_open(map);
	size_t n = 0;

	for (void *at = NULL; bpf_map_get_next_key(fd, at, next) == 0; n++) {
		memcpy(key, next, sizeof(key));
		at = key;
	}
	close(fd);
	return n;
}

/* Slot of "nK/llm", with the node; 0: none. */
static uint32_t rig_slot(const char *name, struct mg_node *node)
{
	int fd = pin_open("mg_nodes");
	uint32_t found = 0;

	for (uint32_t slot = 1; !found && slot < 4096; slot++)
		if (bpf_map_lookup_elem(fd, &slot, node) == 0 && node->state != MG_NODE_FREE &&
		    strcmp(node->name, name) == 0)
			found = slot;
	close(fd);
	return found;
}

static int rig_row(const char *address, uint16_t port, struct mg_row *row)
{
	struct mg_service_key key = {.port_be = htons(port)};
	struct addr addr;

	assert_int_equal(addr_parse(&addr, address), 0);
	memcpy(key.addr, addr.bytes, sizeof(key.addr));
	return rig_get("mg_services", &key, row);
}

#endif
