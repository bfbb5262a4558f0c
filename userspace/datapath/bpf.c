/* SPDX-License-Identifier: MIT */
#include "datapath/kern.h"

#include <errno.h>
#include <limits.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/log.h"
#include "datapath/netlink.h"
#include "datapath/netns.h"
#include "datapath/pins.h"

/* generated; not written to our warnings */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wcast-qual"
#include "megalith.skel.h"
#pragma GCC diagnostic pop

#define TC_PRIORITY 0x4d47 /* "MG" */
#define TC_HANDLE   1
#define LOG_BYTES   (1 << 20) /* the verifier's last words */
#define BATCH	    512

/* In the order of enum kern_map. A counter is made anew when its layout is another. */
static const struct {
	const char *name;
	bool counter;
} maps[KERN_MAPS] = {
	[KERN_SERVICES] = {"mg_services", false}, [KERN_ROWS] = {"mg_rows", false},
	[KERN_NODES] = {"mg_nodes", false},	  [KERN_FLOWS] = {"mg_flows", false},
	[KERN_EMBRYOS] = {"mg_embryos", false},	  [KERN_TX] = {"mg_tx", false},
	[KERN_COUNTERS] = {"mg_counters", true},  [KERN_NODE_STATS] = {"mg_node_stats", true},
};

static const char *const programs[] = {"mg_xdp", "mg_tc", "mg_sweep"};

struct kern {
	char dir[PATH_MAX]; /* <bpf-dir>/v1 */
	int lock_fd;
	int jiffies_fd; /* a program that returns jiffies */
	bool adopted;
	struct kern_meta meta;
	struct megalith_bpf *skel;
	struct bpf_map *map[KERN_MAPS];
	struct mg_node *nodes;
	size_t cpus;
};

static int __attribute__((format(printf, 2, 0)))
print_debug(enum libbpf_print_level level, const char *format, va_list args)
{
	char line[512];

	/* what matters is said in the error's line; this is for -v */
	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(line, sizeof(line), format, args);
	line[strcspn(line, "\n")] = '\0';
	log_debug("%s", line);
	return 0;
}

/* --- pins ---------------------------------------------------------------------------------- */

static int pin_open(const char *dir, const char *prefix, const char *name)
{
	char path[PATH_MAX];

	pin_path(path, dir, prefix, name);
	return bpf_obj_get(path);
}

/* Pins in the place of what has that name, without a moment of nothing there. 0 or -errno. */
static int pin_put(const char *dir, const char *prefix, const char *name, int fd)
{
	char path[PATH_MAX], aside[PATH_MAX];
	int err;

	pin_path(path, dir, prefix, name);
	pin_path(aside, dir, "new_", name);
	unlink(aside); /* of a start that was killed here */
	err = bpf_obj_pin(fd, aside);
	if (err)
		return err;
	if (rename(aside, path) == 0)
		return 0;
	err = -errno;
	unlink(aside);
	return err;
}

static uint32_t program_id(int fd)
{
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof(info);

	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0 ? info.id : 0;
}

/* Id of the program pinned under that name; 0: none. */
static uint32_t pinned_program(const char *dir, const char *prefix, const char *name)
{
	int fd = pin_open(dir, prefix, name);
	uint32_t id = program_id(fd);

	if (fd >= 0)
		close(fd);
	return id;
}

static bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* --- attachments --------------------------------------------------------------------------- */

/* Pinned link of the interface: its descriptor, or -errno. */
static int xdp_link(const char *dir, const char *name, struct bpf_link_info *info)
{
	uint32_t len = sizeof(*info);
	int fd = pin_open(dir, "link_", name);

	memset(info, 0, sizeof(*info));
	if (fd >= 0)
		bpf_obj_get_info_by_fd(fd, info, &len);
	return fd;
}

static void xdp_detach(const char *dir, const char *name)
{
	struct bpf_link_info info;
	int fd = xdp_link(dir, name, &info);

	if (fd >= 0) {
		bpf_link_detach(fd); /* also when another process holds it open */
		close(fd);
	}
	pin_drop(dir, "link_", name);
}

static const char *xdp_refusal(int err)
{
	switch (err) {
	case EOPNOTSUPP:
		return "its driver has none";
	case EBUSY:
	case EEXIST:
		return "another XDP program is attached";
	case ERANGE:
	case EINVAL:
	case E2BIG:
	case ENOSPC:
		return "its driver does not take it as the interface is set up (MTU above a page, "
		       "LRO, or too few queues)";
	default:
		return strerror(err);
	}
}

static int xdp_create(struct kern *kern, const char *name, uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = XDP_FLAGS_DRV_MODE);
	int fd = bpf_link_create(bpf_program__fd(kern->skel->progs.mg_xdp), (int)ifindex, BPF_XDP,
				 &opts);
	int err;

	if (fd < 0)
		return fd;
	err = pin_put(kern->dir, "link_", name, fd);
	close(fd); /* the pin holds it; without one it is gone here */
	return err;
}

static int xdp_attach(struct kern *kern, const char *name, uint32_t ifindex, bool *made)
{
	int prog = bpf_program__fd(kern->skel->progs.mg_xdp), err = 0;
	struct bpf_link_info info;
	int fd = xdp_link(kern->dir, name, &info);

	if (fd >= 0 && info.xdp.ifindex == ifindex) {
		if (info.prog_id != program_id(prog))
			err = bpf_link_update(fd, prog, NULL);
		close(fd);
		return err;
	}
	if (fd >= 0) { /* of an interface that is no more; the name has a new owner */
		close(fd);
		xdp_detach(kern->dir, name);
	}
	err = xdp_create(kern, name, ifindex);
	*made = !err;
	return err;
}

static uint32_t tc_program(uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = TC_PRIORITY);

	return bpf_tc_query(&hook, &opts) == 0 ? opts.prog_id : 0;
}

/* The qdisc that holds filters. One that was there is not ours, and stays when we go. */
static int tc_hook(struct kern *kern, const char *name, uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS);
	bool noted = pin_exists(kern->dir, "clsact_", name);
	int err = 0;

	if (!noted)
		err = pin_put(kern->dir, "clsact_", name, bpf_program__fd(kern->skel->progs.mg_tc));
	if (err)
		return err;
	err = bpf_tc_hook_create(&hook);
	if (err && !noted)
		pin_drop(kern->dir, "clsact_", name);
	return err == -EEXIST ? 0 : err;
}

/* Only a filter that runs our program is ours: another megalith may have taken its place. */
static void tc_detach(const char *dir, const char *name)
{
	uint32_t ifindex = if_nametoindex(name), id = ifindex ? tc_program(ifindex) : 0;
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = TC_PRIORITY);

	if (id &&
	    (id == pinned_program(dir, "tc_", name) || id == pinned_program(dir, "", "mg_tc")))
		bpf_tc_detach(&hook, &opts);
	if (ifindex && pin_exists(dir, "clsact_", name) && netlink_filters(ifindex) == 0) {
		hook.attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS;
		bpf_tc_hook_destroy(&hook);
	}
	pin_drop(dir, "clsact_", name);
	pin_drop(dir, "tc_", name);
}

static int tc_attach(struct kern *kern, const char *name, uint32_t ifindex, bool *made)
{
	int prog = bpf_program__fd(kern->skel->progs.mg_tc);
	bool noted = pin_exists(kern->dir, "tc_", name);
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, opts, .handle = TC_HANDLE, .priority = TC_PRIORITY,
		    .prog_fd = prog, .flags = BPF_TC_F_REPLACE);
	uint32_t there = tc_program(ifindex), ours = program_id(prog);
	int err = ours ? 0 : -EIO;

	/* the note first: who is killed here leaves no filter that nobody knows of */
	if (!err && (there != ours || !noted))
		err = pin_put(kern->dir, "tc_", name, prog);
	if (!err)
		err = tc_hook(kern, name, ifindex);
	if (!err && there != ours)
		err = bpf_tc_attach(&hook, &opts);
	*made = !err && !(noted && there);
	if (!err && there && !noted)
		log_warn(
			"%s: took the place of a TC filter (priority %u) that a lost megalith left",
			name, TC_PRIORITY);
	if (err && !noted)
		tc_detach(kern->dir, name);
	return err;
}

uint32_t kern_foreign_xdp(const struct kern *kern, const char *name, uint32_t ifindex)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, query);
	struct bpf_link_info info;
	int fd = xdp_link(kern->dir, name, &info);
	uint32_t ours = fd >= 0 && info.xdp.ifindex == ifindex ? info.prog_id : 0;

	if (fd >= 0)
		close(fd);
	if (bpf_xdp_query((int)ifindex, 0, &query))
		return 0;
	const uint32_t found[] = {query.prog_id, query.drv_prog_id, query.skb_prog_id,
				  query.hw_prog_id};

	for (size_t i = 0; i < sizeof(found) / sizeof(found[0]); i++)
		if (found[i] && found[i] != ours)
			return found[i];
	return 0;
}

int kern_attach(struct kern *kern, const char *name, uint32_t ifindex, enum datapath_mode mode,
		bool *made, struct datapath_error *error)
{
	int err;

	*made = false;
	if (mode == DATAPATH_XDP) {
		err = xdp_attach(kern, name, ifindex, made);
		if (err)
			kern_fail(error, 0,
				  "interface \"%s\": no native XDP: %s; \"datapath\": \"tc\" works "
				  "on every interface",
				  name, xdp_refusal(-err));
	} else {
		err = tc_attach(kern, name, ifindex, made);
		if (err)
			kern_fail(error, 0, "interface \"%s\": cannot attach the TC program: %s",
				  name, strerror(-err));
	}
	return err;
}

bool kern_attached(const struct kern *kern, const char *name, uint32_t ifindex,
		   enum datapath_mode mode)
{
	struct bpf_link_info info;
	int fd;

	if (mode == DATAPATH_TC)
		return tc_program(ifindex) == program_id(bpf_program__fd(kern->skel->progs.mg_tc));
	fd = xdp_link(kern->dir, name, &info);
	if (fd < 0)
		return false;
	close(fd);
	return info.xdp.ifindex == ifindex;
}

void kern_detach(struct kern *kern, const char *name, enum datapath_mode mode)
{
	if (mode == DATAPATH_XDP)
		xdp_detach(kern->dir, name);
	else
		tc_detach(kern->dir, name);
}

struct prune {
	struct kern *kern;
	bool (*wanted)(const char *name, enum datapath_mode mode, void *arg);
	void *arg;
};

static void prune_pin(const char *pin, void *arg)
{
	struct prune *prune = arg;
	char name[IF_NAMESIZE];

	if (starts_with(pin, "link_")) {
		pin_interface(name, pin + strlen("link_"));
		if (!prune->wanted(name, DATAPATH_XDP, prune->arg))
			xdp_detach(prune->kern->dir, name);
	} else if (starts_with(pin, "tc_")) {
		pin_interface(name, pin + strlen("tc_"));
		if (!prune->wanted(name, DATAPATH_TC, prune->arg))
			tc_detach(prune->kern->dir, name);
	}
}

void kern_prune(struct kern *kern,
		bool (*wanted)(const char *name, enum datapath_mode mode, void *arg), void *arg)
{
	struct prune prune = {kern, wanted, arg};

	pins_each(kern->dir, prune_pin, &prune);
}

/* --- maps ---------------------------------------------------------------------------------- */

int kern_get(const struct kern *kern, enum kern_map map, const void *key, void *value)
{
	return bpf_map_lookup_elem(bpf_map__fd(kern->map[map]), key, value);
}

int kern_put(struct kern *kern, enum kern_map map, const void *key, const void *value)
{
	return bpf_map_update_elem(bpf_map__fd(kern->map[map]), key, value, BPF_ANY);
}

int kern_delete(struct kern *kern, enum kern_map map, const void *key)
{
	return bpf_map_delete_elem(bpf_map__fd(kern->map[map]), key);
}

int kern_each(const struct kern *kern, enum kern_map map,
	      bool (*visit)(const void *key, const void *value, void *arg), void *arg)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	size_t key_size = bpf_map__key_size(kern->map[map]),
	       size = bpf_map__value_size(kern->map[map]);
	char *keys = calloc(BATCH, key_size), *values = calloc(BATCH, size);
	uint32_t from, next, n;
	void *in = NULL;
	int err = keys && values ? 0 : -ENOMEM;

	while (!err) {
		n = BATCH;
		err = bpf_map_lookup_batch(bpf_map__fd(kern->map[map]), in, &next, keys, values, &n,
					   &opts);
		if (err && err != -ENOENT) /* -ENOENT: these are the last */
			break;
		for (uint32_t i = 0; i < n; i++) {
			if (visit(keys + i * key_size, values + i * size, arg))
				continue;
			err = -ENOENT;
			break;
		}
		from = next;
		in = &from;
	}
	free(keys);
	free(values);
	return err == -ENOENT ? 0 : err;
}

static int drop_tx(int fd, const uint32_t *ifindex, size_t n)
{
	uint32_t key, next;
	void *at = NULL;
	bool wanted;

	while (bpf_map_get_next_key(fd, at, &next) == 0) {
		wanted = false;
		for (size_t i = 0; i < n; i++)
			wanted = wanted || ifindex[i] == next;
		if (!wanted) {
			bpf_map_delete_elem(fd, &next);
			at = NULL; /* from the start: the place is gone */
			continue;
		}
		key = next;
		at = &key;
	}
	return 0;
}

int kern_set_tx(struct kern *kern, const uint32_t *ifindex, size_t n)
{
	char value[16] = {0}; /* ifindex, then what later kernels may add */
	int err = 0;

	for (size_t i = 0; !err && i < n; i++) {
		memcpy(value, &ifindex[i], sizeof(ifindex[i]));
		err = kern_put(kern, KERN_TX, &ifindex[i], value);
	}
	return err ? err : drop_tx(bpf_map__fd(kern->map[KERN_TX]), ifindex, n);
}

size_t kern_cpus(const struct kern *kern)
{
	return kern->cpus;
}

int kern_sweep(struct kern *kern, struct mg_sweep *sweep)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = sweep, .ctx_size_in = sizeof(*sweep));

	return bpf_prog_test_run_opts(bpf_program__fd(kern->skel->progs.mg_sweep), &opts);
}

uint32_t kern_jiffies(const struct kern *kern)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);

	return bpf_prog_test_run_opts(kern->jiffies_fd, &opts) ? 0 : opts.retval;
}

struct mg_node *kern_nodes(const struct kern *kern)
{
	return kern->nodes;
}

const struct kern_meta *kern_meta(const struct kern *kern)
{
	return &kern->meta;
}

bool kern_adopted(const struct kern *kern)
{
	return kern->adopted;
}

bool kern_pinned(const struct kern *kern)
{
	return pin_exists(kern->dir, "", "mg_meta");
}

/* --- opening ------------------------------------------------------------------------------- */

static int read_meta(const char *dir, struct kern_meta *meta)
{
	struct bpf_map_info info = {0};
	uint32_t len = sizeof(info), zero = 0;
	int fd = pin_open(dir, "", "mg_meta"), err;

	if (fd < 0)
		return fd;
	err = bpf_obj_get_info_by_fd(fd, &info, &len);
	if (!err && info.value_size != sizeof(*meta))
		err = -EPROTO;
	if (!err)
		err = bpf_map_lookup_elem(fd, &zero, meta);
	close(fd);
	return err;
}

static bool set_whole(const char *dir)
{
	for (size_t i = 0; i < KERN_MAPS; i++)
		if (!maps[i].counter && !pin_exists(dir, "", maps[i].name))
			return false;
	return true;
}

/* Is what is pinned what this configuration would make? */
static int check_meta(const struct kern *kern, const struct kern_options *options,
		      struct datapath_error *error)
{
	const struct kern_meta *meta = &kern->meta;

	if (meta->netns_cookie != netns_cookie())
		return kern_fail(
			error, EXDEV,
			"the datapath pinned in %s works in another network namespace: give this "
			"instance another --bpf-dir, or take that one off with megalithctl detach",
			kern->dir);
	if (meta->max_flows == options->max_flows && meta->snat_first == options->snat_first &&
	    meta->snat_last == options->snat_last)
		return 0;
	return kern_fail(error, EINVAL,
			 "the datapath that is serving has snat_ports %u-%u and max_flows %u, the "
			 "configuration %u-%u and %u: these cannot change under its connections; "
			 "megalithctl detach takes it off, then start again",
			 meta->snat_first, meta->snat_last, meta->max_flows, options->snat_first,
			 options->snat_last, options->max_flows);
}

/* Pins of maps and programs go; the notes of attachments stay, for these to be taken over. */
static void drop_object_pin(const char *name, void *arg)
{
	if (!starts_with(name, "link_") && !starts_with(name, "tc_") &&
	    !starts_with(name, "clsact_"))
		pin_drop(arg, "", name);
}

static void drop_any_pin(const char *name, void *arg)
{
	pin_drop(arg, "", name);
}

/* Decides whether to adopt. What is half made is cleared away. */
static int look_around(struct kern *kern, const struct kern_options *options,
		       struct datapath_error *error)
{
	int err = read_meta(kern->dir, &kern->meta);

	if (err == -EPROTO)
		return kern_fail(
			error, EPROTO,
			"%s was pinned by another version: megalithctl detach takes it off",
			kern->dir);
	if (err == -EPERM || err == -EACCES)
		return kern_fail(error, -err, "cannot open the pins in %s: %s", kern->dir,
				 strerror(-err));
	if (!err && kern->meta.netns_cookie != netns_cookie() &&
	    !netns_alive(kern->meta.netns_inode)) {
		pins_each(kern->dir, drop_any_pin, kern->dir); /* died with its network namespace */
		err = -ENOENT;
	}
	if (!err && set_whole(kern->dir)) {
		kern->adopted = true;
		return check_meta(kern, options, error);
	}
	if (err)
		memset(&kern->meta, 0, sizeof(kern->meta));
	pins_each(kern->dir, drop_object_pin, kern->dir);
	return 0;
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static uint32_t random_number(void)
{
	uint32_t number = 1;

	/* never fails after boot for so few bytes */
	(void)!getrandom(&number, sizeof(number), 0);
	return number;
}

/* Order in which ports are given out: each once, neighbours far apart, not to be guessed. */
static uint16_t random_stride(uint32_t count)
{
	uint32_t stride;

	if (count < 3)
		return 1;
	do {
		stride = 1 + random_number() % (count - 1);
	} while (common_divisor(stride, count) != 1);
	return (uint16_t)stride;
}

static int fill_meta(struct kern_meta *meta, const struct kern_options *options,
		     struct datapath_error *error)
{
	bool again = meta->size == sizeof(*meta); /* of a set that lost some of its pins */
	int err = 0;

	if (!again)
		err = ports_read(&meta->others, PORTS_FILE);
	if (err)
		return kern_fail(error, -err, "cannot read %s: %s", PORTS_FILE, strerror(-err));
	meta->size = sizeof(*meta);
	meta->max_flows = options->max_flows;
	meta->snat_first = options->snat_first;
	meta->snat_last = options->snat_last;
	meta->snat_stride = random_stride((uint32_t)(options->snat_last - options->snat_first + 1));
	meta->hash_key = random_number();
	meta->netns_cookie = netns_cookie();
	meta->netns_inode = netns_inode();
	return 0;
}

static int reuse_map(struct kern *kern, enum kern_map which, struct datapath_error *error)
{
	struct bpf_map *map = kern->map[which];
	struct bpf_map_info info = {0};
	uint32_t len = sizeof(info);
	int fd = pin_open(kern->dir, "", maps[which].name), err;
	bool same;

	if (fd < 0 && maps[which].counter)
		return 0;
	if (fd < 0)
		return kern_fail(error, -fd, "cannot open %s/%s: %s", kern->dir, maps[which].name,
				 strerror(-fd));
	err = bpf_obj_get_info_by_fd(fd, &info, &len);
	same = !err && info.type == bpf_map__type(map) && info.key_size == bpf_map__key_size(map) &&
	       info.value_size == bpf_map__value_size(map) &&
	       info.max_entries == bpf_map__max_entries(map);
	if (same)
		err = bpf_map__reuse_fd(map, fd);
	else if (!err && !maps[which].counter)
		err = -EPROTO;
	close(fd);
	if (!err)
		return 0;
	return kern_fail(
		error, -err,
		"%s in %s cannot be taken over (%s): megalithctl detach takes the old datapath "
		"off, then start again",
		maps[which].name, kern->dir,
		err == -EPROTO ? "another version made it" : strerror(-err));
}

/* The verifier's last line before its statistics: the reason. */
static const char *verifier_reason(char *log)
{
	char *end = strstr(log, "\nprocessed "), *line;

	if (!end)
		return NULL;
	*end = '\0';
	line = strrchr(log, '\n');
	return line ? line + 1 : log;
}

static int load_failed(const struct kern_options *options, int err, char *log,
		       struct datapath_error *error)
{
	const char *reason = verifier_reason(log);
	double bytes = 2.0 * options->max_flows *
		       (sizeof(struct mg_tuple) + sizeof(struct mg_flow) +
			64); /* 64: kernel's own, about */

	if (err == -ENOMEM)
		return kern_fail(
			error, ENOMEM,
			"no memory for the tables: mg_flows takes about %.0f MB with max_flows %u",
			bytes / 1e6, options->max_flows);
	if (reason)
		return kern_fail(error, -err, "this kernel refuses the BPF program: %.300s",
				 reason);
	return kern_fail(error, -err, "cannot load the BPF programs: %s", strerror(-err));
}

static int find_maps(struct kern *kern)
{
	for (size_t i = 0; i < KERN_MAPS; i++) {
		kern->map[i] = bpf_object__find_map_by_name(kern->skel->obj, maps[i].name);
		if (!kern->map[i])
			return -ENOENT;
	}
	return 0;
}

uint32_t kern_hz(void)
{
	struct timespec tick; /* this clock moves once a jiffy */

	if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) || tick.tv_nsec <= 0)
		return 100;
	return (uint32_t)((1000000000 + tick.tv_nsec / 2) / tick.tv_nsec);
}

static int load(struct kern *kern, const struct kern_options *options, struct datapath_error *error)
{
	char *log = calloc(1, LOG_BYTES);
	LIBBPF_OPTS(bpf_object_open_opts, opts, .kernel_log_buf = log,
		    .kernel_log_size = LOG_BYTES);
	const struct kern_meta *meta = &kern->meta;
	int err;

	if (!log)
		return kern_fail(error, ENOMEM, "no memory");
	kern->skel = megalith_bpf__open_opts(&opts);
	err = kern->skel ? find_maps(kern) : -errno;
	if (err) {
		kern_fail(error, 0, "cannot open the BPF object: %s", strerror(-err));
		goto out;
	}
	kern->skel->rodata->snat_first = meta->snat_first;
	kern->skel->rodata->snat_count = (uint16_t)(meta->snat_last - meta->snat_first + 1);
	kern->skel->rodata->snat_stride = meta->snat_stride;
	kern->skel->rodata->hash_key = meta->hash_key;
	kern->skel->rodata->syn_patience = kern_hz() / 2;
	bpf_map__set_max_entries(kern->map[KERN_FLOWS], 2 * meta->max_flows);
	for (int i = 0; !err && kern->adopted && i < KERN_MAPS; i++)
		err = reuse_map(kern, (enum kern_map)i, error);
	if (err)
		goto out;
	err = megalith_bpf__load(kern->skel);
	if (err)
		load_failed(options, err, log, error);
out:
	free(log);
	return err;
}

static int load_jiffies(void)
{
	const struct bpf_insn code[] = {
		{.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_jiffies64},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .prog_flags = BPF_F_SLEEPABLE);

	return bpf_prog_load(BPF_PROG_TYPE_SYSCALL, "mg_jiffies", "Dual MIT/GPL", code, 2, &opts);
}

/* What is needed of the loaded object at run time. */
static int open_handles(struct kern *kern, struct datapath_error *error)
{
	void *nodes = mmap(NULL, MG_SLOTS * sizeof(struct mg_node), PROT_READ | PROT_WRITE,
			   MAP_SHARED, bpf_map__fd(kern->map[KERN_NODES]), 0);
	int cpus = libbpf_num_possible_cpus();

	if (nodes == MAP_FAILED)
		return kern_fail(error, errno, "cannot map mg_nodes: %s", strerror(errno));
	kern->nodes = nodes;
	if (cpus < 1)
		return kern_fail(error, EIO, "cannot tell the number of CPUs");
	kern->cpus = (size_t)cpus;
	kern->jiffies_fd = load_jiffies();
	if (kern->jiffies_fd < 0)
		return kern_fail(error, -kern->jiffies_fd, "cannot load a BPF program: %s",
				 strerror(-kern->jiffies_fd));
	return 0;
}

int kern_commit(struct kern *kern, struct datapath_error *error)
{
	struct bpf_program *program;
	int err = 0;

	for (size_t i = 0; !err && i < KERN_MAPS; i++)
		err = pin_put(kern->dir, "", maps[i].name, bpf_map__fd(kern->map[i]));
	for (size_t i = 0; !err && i < sizeof(programs) / sizeof(programs[0]); i++) {
		program = bpf_object__find_program_by_name(kern->skel->obj, programs[i]);
		err = program ? pin_put(kern->dir, "", programs[i], bpf_program__fd(program))
			      : -ENOENT;
	}
	return err ? kern_fail(error, -err, "cannot pin in %s: %s", kern->dir, strerror(-err)) : 0;
}

/* With this pin the set counts as whole. */
static int pin_meta(struct kern *kern, struct datapath_error *error)
{
	uint32_t zero = 0;
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "mg_meta", sizeof(zero), sizeof(kern->meta), 1,
				NULL);
	int err = fd < 0 ? fd : bpf_map_update_elem(fd, &zero, &kern->meta, BPF_ANY);

	if (!err)
		err = pin_put(kern->dir, "", "mg_meta", fd);
	if (fd >= 0)
		close(fd);
	return err ? kern_fail(error, -err, "cannot pin in %s: %s", kern->dir, strerror(-err)) : 0;
}

static int open_all(struct kern *kern, const struct kern_options *options,
		    struct datapath_error *error)
{
	int err = look_around(kern, options, error);

	if (!err && !kern->adopted)
		err = fill_meta(&kern->meta, options, error);
	if (!err)
		err = load(kern, options, error);
	if (!err)
		err = open_handles(kern, error);
	if (!err && !kern->adopted)
		err = kern_commit(kern, error);
	if (!err && !kern->adopted)
		err = pin_meta(kern, error);
	return err;
}

struct kern *kern_open(const struct kern_options *options, struct datapath_error *error)
{
	struct kern *kern = calloc(1, sizeof(*kern));
	struct datapath_error ignored;
	bool ours;
	int err;

	if (!kern) {
		kern_fail(error, ENOMEM, "no memory");
		return NULL;
	}
	kern->lock_fd = -1;
	kern->jiffies_fd = -1;
	libbpf_set_print(print_debug);
	err = pins_make(kern->dir, options->bpf_dir, error);
	if (!err) {
		kern->lock_fd = pins_lock(kern->dir, error);
		err = kern->lock_fd < 0 ? kern->lock_fd : 0;
	}
	if (!err)
		err = open_all(kern, options, error);
	if (!err)
		return kern;
	ours = kern->lock_fd >= 0 && !kern->adopted;
	kern_close(kern);
	if (ours)
		kern_remove(options->bpf_dir, &ignored);
	return NULL;
}

void kern_close(struct kern *kern)
{
	if (!kern)
		return;
	if (kern->nodes)
		munmap(kern->nodes, MG_SLOTS * sizeof(struct mg_node));
	if (kern->jiffies_fd >= 0)
		close(kern->jiffies_fd);
	megalith_bpf__destroy(kern->skel);
	if (kern->lock_fd >= 0)
		close(kern->lock_fd);
	free(kern);
}

/* --- removing ------------------------------------------------------------------------------ */

static void remove_attachment(const char *pin, void *arg)
{
	const char *dir = arg;
	char name[IF_NAMESIZE];

	if (starts_with(pin, "link_")) {
		pin_interface(name, pin + strlen("link_"));
		xdp_detach(dir, name);
	} else if (starts_with(pin, "tc_")) {
		pin_interface(name, pin + strlen("tc_"));
		tc_detach(dir, name);
	}
}

static void drop_but_meta(const char *name, void *arg)
{
	if (strcmp(name, "mg_meta") != 0)
		pin_drop(arg, "", name);
}

int kern_remove(const char *bpf_dir, struct datapath_error *error)
{
	char dir[PATH_MAX];
	struct kern_meta meta;
	bool known, here;
	int err = 0;

	snprintf(dir, sizeof(dir), "%.3000s/v%d", bpf_dir, MG_LAYOUT);
	if (access(dir, F_OK))
		return errno == ENOENT ? 0
				       : kern_fail(error, errno, "%s: %s", dir, strerror(errno));
	libbpf_set_print(print_debug);
	err = read_meta(dir, &meta);
	if (err == -EPERM || err == -EACCES)
		return kern_fail(error, -err, "cannot open the pins in %s: %s", dir,
				 strerror(-err));
	known = !err;
	/* in another network namespace the same names are other interfaces */
	here = !known || meta.netns_cookie == netns_cookie();
	err = 0;
	if (here)
		pins_each(dir, remove_attachment, dir);
	if (known && here)
		err = ports_release(PORTS_FILE, meta.snat_first, meta.snat_last, &meta.others);
	if (err)
		kern_fail(error, 0, "cannot give the SNAT ports back in %s: %s", PORTS_FILE,
			  strerror(-err));
	pins_each(dir, drop_but_meta, dir);
	pin_drop(dir, "", "mg_meta"); /* last: who is killed here is tidied up after */
	if (rmdir(dir) && !err)
		err = kern_fail(error, errno, "cannot remove %s: %s", dir, strerror(errno));
	rmdir(bpf_dir); /* stays if something else is in it */
	return err;
}
