/* SPDX-License-Identifier: MIT */
/*
 * core/datapath.h on Linux: brings together what is ours in the kernel (kern.h), what the kernel
 * knows of the network (netlink.h), whose slot is whose (slots.h), the ways to the nodes (hops.h)
 * and the rows (rows.h).
 */
#include "core/datapath.h"

#include <errno.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "datapath/choice.h"
#include "datapath/hops.h"
#include "datapath/kern.h"
#include "datapath/privileges.h"
#include "datapath/rows.h"

#define ESTABLISHED_S \
	7980 /* Linux's keepalive, 2 h + 9 × 75 s, and a bit: who is alive has spoken by then */
#define CLOSED_S       10
#define EMBRYO_S       10
#define CONFIRM_EVERY  5   /* sweeps between two askings for neighbours that are not confirmed */
#define ROUTES_MS      100 /* routes are looked up again no more often than this */
#define INTERFACES_MAX (sizeof(((struct hops_ports *)0)->ifindex) / sizeof(uint32_t))

struct interface {
	char name[IF_NAMESIZE];
	char *note;
	uint32_t ifindex; /* as attached */
	enum datapath_mode mode;
	bool made;    /* attached by this start */
	bool missing; /* said so in the log */
};

struct datapath {
	struct kern *kern; /* NULL: inert, nothing below is used */
	struct netlink *netlink;
	struct interface *interfaces;
	struct datapath_interface *listed; /* the same, as callers see it */
	size_t n_interfaces;
	struct addr *addresses; /* configured; none: those of the interfaces */
	size_t n_addresses;
	struct addr *published; /* addresses in the maps */
	size_t n_published;
	struct slots slots;
	struct hops hops;
	struct hops_ports ports;
	uint16_t *slot_of; /* by plan endpoint */
	size_t n_endpoints;
	int32_t *endpoint_of; /* by slot; -1: none */
	unsigned pending;     /* NETLINK_... changes not yet worked in */
	uint64_t routes_ms;   /* when routes were last looked up */
	uint32_t sweeps;      /* so far */
	bool detached;	      /* the pins were removed under us */
};

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- interfaces ---------------------------------------------------------------------------- */

static int no_interface(const struct netlink *nl, const char *name, struct datapath_error *error)
{
	const struct netlink_link *links;
	size_t n = netlink_links(nl, &links);
	char names[256] = "";

	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(names);

		snprintf(names + len, sizeof(names) - len, "%s%s", len ? ", " : "", links[i].name);
	}
	return kern_fail(error, ENODEV, "interface \"%s\": there is none; there are: %s", name,
			 names);
}

static int find_interfaces(struct datapath *dp, const struct datapath_options *options,
			   struct datapath_error *error)
{
	size_t n = options->n_interfaces;

	if (n > INTERFACES_MAX)
		return kern_fail(error, E2BIG, "%zu interfaces, at most %zu", n, INTERFACES_MAX);
	dp->interfaces = calloc(n + 1, sizeof(*dp->interfaces));
	dp->listed = calloc(n + 1, sizeof(*dp->listed));
	if (!dp->interfaces || !dp->listed)
		return kern_fail(error, ENOMEM, "no memory");
	for (size_t i = 0; i < n; i++) {
		const char *name = options->interfaces[i];
		const struct netlink_link *link = netlink_link_named(dp->netlink, name);

		if (!link)
			return no_interface(dp->netlink, name, error);
		if (link->type != ARPHRD_ETHER)
			return kern_fail(
				error, EINVAL,
				"interface \"%s\": not Ethernet (link type %u), the datapath "
				"cannot work on it",
				name, link->type);
		snprintf(dp->interfaces[i].name, sizeof(dp->interfaces[i].name), "%s", name);
		dp->interfaces[i].ifindex = link->ifindex;
		dp->n_interfaces++;
	}
	return 0;
}

static void __attribute__((format(printf, 2, 3)))
set_note(struct interface *interface, const char *format, ...)
{
	va_list args;
	char text[256];

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	free(interface->note);
	interface->note = strdup(text);
}

/* auto: native XDP only if every interface can; a frame cannot be redirected from XDP to a driver
 * without. */
static void use_tc(struct datapath *dp, const struct interface *because)
{
	for (size_t i = 0; i < dp->n_interfaces; i++) {
		struct interface *interface = &dp->interfaces[i];

		if (interface->mode == DATAPATH_XDP)
			set_note(interface, "%s needs TC, and XDP cannot send frames to it",
				 because->name);
		interface->mode = DATAPATH_TC;
	}
}

/* Chooses for one interface under auto, with the reason when it is not XDP. */
static void choose_auto(struct datapath *dp, struct interface *interface)
{
	uint32_t foreign = kern_foreign_xdp(dp->kern, interface->name, interface->ifindex);
	char driver[32];
	const char *why;

	netlink_driver(interface->name, driver);
	why = choice_against_xdp(driver);
	interface->mode = why || foreign ? DATAPATH_TC : DATAPATH_XDP;
	if (foreign)
		set_note(interface, "another XDP program (id %u) is attached", foreign);
	else if (why)
		set_note(interface, "%s", why);
}

static int choose_modes(struct datapath *dp, enum datapath_mode mode, struct datapath_error *error)
{
	const struct interface *tc = NULL;

	for (size_t i = 0; i < dp->n_interfaces; i++) {
		struct interface *interface = &dp->interfaces[i];
		uint32_t foreign;

		interface->mode = mode;
		if (mode == DATAPATH_AUTO)
			choose_auto(dp, interface);
		if (interface->mode == DATAPATH_TC)
			tc = interface;
		if (mode != DATAPATH_XDP)
			continue;
		foreign = kern_foreign_xdp(dp->kern, interface->name, interface->ifindex);
		if (foreign)
			return kern_fail(
				error, EBUSY,
				"interface \"%s\": another XDP program (id %u) is attached: take "
				"it "
				"off (ip link set dev %s xdp off), or set \"datapath\": \"tc\"",
				interface->name, foreign, interface->name);
	}
	if (tc)
		use_tc(dp, tc);
	return 0;
}

static void detach_made(struct datapath *dp)
{
	for (size_t i = 0; i < dp->n_interfaces; i++) {
		if (dp->interfaces[i].made)
			kern_detach(dp->kern, dp->interfaces[i].name, dp->interfaces[i].mode);
		dp->interfaces[i].made = false;
	}
}

static int attach_each(struct datapath *dp, struct interface **failed, struct datapath_error *error)
{
	int err = 0;

	for (size_t i = 0; !err && i < dp->n_interfaces; i++) {
		struct interface *interface = &dp->interfaces[i];

		err = kern_attach(dp->kern, interface->name, interface->ifindex, interface->mode,
				  &interface->made, error);
		if (err)
			*failed = interface;
	}
	return err;
}

static int attach_all(struct datapath *dp, enum datapath_mode mode, struct datapath_error *error)
{
	struct interface *failed = NULL;
	int err = attach_each(dp, &failed, error);

	if (!err || mode != DATAPATH_AUTO || failed->mode != DATAPATH_XDP)
		return err;
	detach_made(dp); /* auto, and a driver that did not keep its promise */
	use_tc(dp, failed);
	set_note(failed, "%.200s", error->text);
	return attach_each(dp, &failed, error);
}

static bool wanted_interface(const char *name, enum datapath_mode mode, void *arg)
{
	const struct datapath *dp = arg;

	for (size_t i = 0; i < dp->n_interfaces; i++)
		if (strcmp(dp->interfaces[i].name, name) == 0 && dp->interfaces[i].mode == mode)
			return true;
	return false;
}

/* What the programs and the hops know of our interfaces. */
static int use_interfaces(struct datapath *dp)
{
	dp->ports.n = 0;
	for (size_t i = 0; i < dp->n_interfaces; i++) {
		const struct interface *interface = &dp->interfaces[i];

		dp->listed[i].name = interface->name;
		dp->listed[i].mode = interface->mode;
		dp->listed[i].note = interface->note;
		if (interface->ifindex)
			dp->ports.ifindex[dp->ports.n++] = interface->ifindex;
	}
	return kern_set_tx(dp->kern, dp->ports.ifindex, dp->ports.n);
}

/* Looks whether our programs are still where they were put; puts them back (new device, taken off
 * by someone). */
static bool check_interfaces(struct datapath *dp)
{
	struct datapath_error error;
	bool changed = false;

	for (size_t i = 0; i < dp->n_interfaces; i++) {
		struct interface *interface = &dp->interfaces[i];
		const struct netlink_link *link = netlink_link_named(dp->netlink, interface->name);
		uint32_t ifindex = link ? link->ifindex : 0;

		if (!link && !interface->missing)
			log_warn("interface %s is gone", interface->name);
		changed = changed || ifindex != interface->ifindex;
		interface->missing = interface->missing || !link;
		interface->ifindex = ifindex;
		if (!link)
			continue;
		if (kern_attached(dp->kern, interface->name, ifindex, interface->mode)) {
			interface->missing = false;
			continue;
		}
		if (kern_attach(dp->kern, interface->name, ifindex, interface->mode,
				&interface->made, &error)) {
			if (!interface->missing)
				log_error("%s", error.text);
			interface->missing = true;
			continue;
		}
		interface->missing = false;
		log_warn("interface %s: the datapath was missing, attached again (%s)",
			 interface->name, datapath_mode_name(interface->mode));
	}
	if (changed && use_interfaces(dp))
		log_error("cannot write mg_tx");
	return changed;
}

/* --- opening and closing ------------------------------------------------------------------- */

static int copy_addresses(struct datapath *dp, const struct datapath_options *options)
{
	size_t bytes = options->n_addresses * sizeof(*options->addresses);

	dp->n_addresses = options->n_addresses;
	dp->addresses = malloc(bytes + 1);
	if (dp->addresses && bytes)
		memcpy(dp->addresses, options->addresses, bytes);
	return dp->addresses ? 0 : -ENOMEM;
}

static int make_tables(struct datapath *dp, const struct datapath_options *options)
{
	int err = copy_addresses(dp, options);

	dp->endpoint_of = calloc(MG_SLOTS, sizeof(*dp->endpoint_of));
	if (!err && !dp->endpoint_of)
		err = -ENOMEM;
	if (!err)
		err = slots_init(&dp->slots, kern_nodes(dp->kern));
	if (!err)
		err = hops_init(&dp->hops);
	if (!err)
		err = hops_bind(&dp->hops, &dp->slots);
	if (err)
		return err;
	for (uint32_t slot = 0; slot < MG_SLOTS; slot++)
		dp->endpoint_of[slot] = -1;
	return 0;
}

static int reserve_ports(const struct datapath_options *options, struct datapath_error *error)
{
	int err = ports_reserve(PORTS_FILE, options->snat_first, options->snat_last);

	if (!err)
		return 0;
	return kern_fail(
		error, -err,
		"cannot reserve the SNAT ports %u-%u in %s: %s; without it the gateway's own "
		"connections would collide with those of clients",
		options->snat_first, options->snat_last, PORTS_FILE, strerror(-err));
}

static int open_all(struct datapath *dp, const struct datapath_options *options,
		    struct datapath_error *error)
{
	const struct kern_options wanted = {options->bpf_dir, options->snat_first,
					    options->snat_last, options->max_flows};
	int err = privileges_check(error);

	if (err)
		return err;
	dp->netlink = netlink_open();
	if (!dp->netlink)
		return kern_fail(error, errno, "cannot read the kernel's network tables: %s",
				 strerror(errno));
	err = find_interfaces(dp, options, error);
	if (err)
		return err;
	dp->kern = kern_open(&wanted, error);
	if (!dp->kern)
		return -EIO;
	err = make_tables(dp, options);
	if (err)
		return kern_fail(error, -err, "no memory");
	err = choose_modes(dp, options->mode, error);
	if (!err)
		err = reserve_ports(options, error);
	if (!err)
		err = attach_all(dp, options->mode, error);
	return err;
}

/* From here on the new programs serve. Not undone when it fails: each part is whole in itself. */
static int settle(struct datapath *dp, struct datapath_error *error)
{
	int err = use_interfaces(dp);

	if (err)
		return kern_fail(error, -err, "cannot write mg_tx: %s", strerror(-err));
	if (kern_adopted(dp->kern))
		err = kern_commit(dp->kern, error);
	if (err)
		return err;
	kern_prune(dp->kern, wanted_interface, dp);
	hops_apply(&dp->hops, dp->netlink, &dp->slots, &dp->ports, NETLINK_ROUTES, true);
	dp->routes_ms = now_ms();
	return 0;
}

static void undo(struct datapath *dp, const char *bpf_dir)
{
	struct datapath_error ignored;
	bool first = dp->kern && !kern_adopted(dp->kern);

	if (dp->kern && !first)
		detach_made(dp);
	datapath_close(dp);
	if (first)
		kern_remove(bpf_dir, &ignored);
}

struct datapath *datapath_open(const struct datapath_options *options, struct datapath_error *error)
{
	struct datapath *dp = calloc(1, sizeof(*dp));
	int err = 0;

	error->text[0] = '\0';
	if (!dp) {
		kern_fail(error, ENOMEM, "no memory");
		return NULL;
	}
	if (options->mode != DATAPATH_NONE)
		err = open_all(dp, options, error);
	if (!err && dp->kern)
		err = settle(dp, error);
	if (!err)
		return dp;
	undo(dp, options->bpf_dir);
	return NULL;
}

void datapath_close(struct datapath *dp)
{
	if (!dp)
		return;
	for (size_t i = 0; i < dp->n_interfaces; i++)
		free(dp->interfaces[i].note);
	slots_fini(&dp->slots);
	hops_fini(&dp->hops);
	kern_close(dp->kern);
	netlink_close(dp->netlink);
	free(dp->interfaces);
	free(dp->listed);
	free(dp->addresses);
	free(dp->published);
	free(dp->slot_of);
	free(dp->endpoint_of);
	free(dp);
}

int datapath_detach(const char *bpf_dir, struct datapath_error *error)
{
	int err = privileges_check(error);

	return err ? err : kern_remove(bpf_dir, error);
}

/* --- publishing ---------------------------------------------------------------------------- */

static bool has_address(const struct addr *list, size_t n, const struct addr *addr)
{
	for (size_t i = 0; i < n; i++)
		if (addr_equal(&list[i], addr))
			return true;
	return false;
}

/* Addresses that listeners should have now. `list` is the caller's to free; NULL: no memory. */
static struct addr *wanted_addresses(const struct datapath *dp, size_t *n)
{
	const struct netlink_address *all;
	size_t n_all = netlink_addresses(dp->netlink, &all);
	struct addr *list = calloc(n_all + dp->n_addresses + 1, sizeof(*list));

	*n = 0;
	if (!list)
		return NULL;
	for (size_t i = 0; i < dp->n_addresses; i++)
		list[(*n)++] = dp->addresses[i];
	for (size_t i = 0; !dp->n_addresses && i < n_all; i++) {
		bool ours = false;

		for (size_t j = 0; j < dp->n_interfaces; j++)
			ours = ours || all[i].ifindex == dp->interfaces[j].ifindex;
		if (ours && !has_address(list, *n, &all[i].addr))
			list[(*n)++] = all[i].addr;
	}
	return list;
}

/* A slot's new owner does not inherit the packets of the old one. */
static void clear_stats(uint32_t slot, void *arg)
{
	struct datapath *dp = arg;
	struct mg_node_stats *zero = calloc(kern_cpus(dp->kern), sizeof(*zero));

	if (zero)
		kern_put(dp->kern, KERN_NODE_STATS, &slot, zero);
	free(zero);
}

static int assign_slots(struct datapath *dp, const struct plan *plan, uint16_t *slot_of,
			struct datapath_error *error)
{
	int err = slots_assign(&dp->slots, plan, slot_of, clear_stats, dp);

	if (err == -ENOSPC)
		return kern_fail(error, ENOSPC,
				 "no slot left for %zu endpoints: %u of %u are in use, some by "
				 "nodes that left "
				 "the configuration and finish their connections",
				 plan->n_endpoints, dp->slots.used, MG_SLOTS - 1);
	if (!err)
		err = hops_bind(&dp->hops, &dp->slots);
	if (err)
		return kern_fail(error, -err, "no memory");
	hops_apply(&dp->hops, dp->netlink, &dp->slots, &dp->ports, 0, false);
	return 0;
}

/* The plan is in the maps: remember whose slot is whose. */
static void take_over(struct datapath *dp, const struct plan *plan, uint16_t *slot_of,
		      struct addr *addresses, size_t n_addresses)
{
	free(dp->slot_of);
	free(dp->published);
	dp->slot_of = slot_of;
	dp->n_endpoints = plan->n_endpoints;
	dp->published = addresses;
	dp->n_published = n_addresses;
	for (uint32_t slot = 0; slot < MG_SLOTS; slot++)
		dp->endpoint_of[slot] = -1;
	for (size_t i = 0; i < plan->n_endpoints; i++)
		dp->endpoint_of[slot_of[i]] = (int32_t)i;
}

int datapath_publish(struct datapath *dp, const struct plan *plan, struct datapath_error *error)
{
	uint16_t *slot_of;
	struct addr *addresses;
	size_t n_addresses;
	int err;

	error->text[0] = '\0';
	if (!dp->kern)
		return 0;
	slot_of = calloc(plan->n_endpoints + 1, sizeof(*slot_of));
	addresses = wanted_addresses(dp, &n_addresses);
	err = slot_of && addresses ? 0 : kern_fail(error, ENOMEM, "no memory");
	if (!err)
		err = assign_slots(dp, plan, slot_of, error);
	if (!err)
		err = rows_publish(dp->kern, plan, slot_of, addresses, n_addresses, error);
	if (!err) /* only now does no row name those that left */
		err = slots_retire(&dp->slots, slot_of, plan->n_endpoints);
	if (!err) {
		take_over(dp, plan, slot_of, addresses, n_addresses);
		return 0;
	}
	free(slot_of);
	free(addresses);
	return err;
}

/* --- as time passes ------------------------------------------------------------------------ */

static void apply_hops(struct datapath *dp, bool tick)
{
	unsigned changed = dp->pending;

	/* under a storm of route changes the rest of the loop gets its turn */
	if ((changed & NETLINK_ROUTES) && now_ms() - dp->routes_ms < ROUTES_MS && !tick)
		changed &= ~NETLINK_ROUTES;
	if (changed & ~NETLINK_NEIGHBOURS)
		dp->routes_ms = now_ms();
	dp->pending &= ~changed;
	hops_apply(&dp->hops, dp->netlink, &dp->slots, &dp->ports, changed, tick);
}

int datapath_sweep(struct datapath *dp)
{
	uint32_t hz = kern_hz();
	struct mg_sweep sweep = {
		.hz = hz,
		.established_ticks = ESTABLISHED_S * hz,
		.closed_ticks = CLOSED_S * hz,
		.embryo_ticks = EMBRYO_S * hz,
	};
	int err;

	if (!dp->kern)
		return 0;
	dp->sweeps++;
	err = kern_sweep(dp->kern, &sweep);
	if (!err)
		slots_release(&dp->slots);
	if (!dp->detached && !kern_pinned(dp->kern)) {
		log_warn("the datapath was taken off by somebody else");
		dp->detached = true;
	}
	if (!dp->detached && check_interfaces(dp))
		dp->pending |= NETLINK_LINKS;
	if (dp->pending || dp->sweeps % CONFIRM_EVERY == 0)
		apply_hops(dp, dp->sweeps % CONFIRM_EVERY == 0);
	return err;
}

int datapath_events_fd(const struct datapath *dp)
{
	return dp->kern ? netlink_fd(dp->netlink) : -1;
}

static bool addresses_changed(const struct datapath *dp)
{
	size_t n;
	struct addr *list = wanted_addresses(dp, &n);
	bool changed = list && n != dp->n_published;

	for (size_t i = 0; list && !changed && i < n; i++)
		changed = !has_address(dp->published, dp->n_published, &list[i]);
	free(list);
	return changed;
}

bool datapath_events(struct datapath *dp)
{
	unsigned changed;

	if (!dp->kern)
		return false;
	changed = netlink_read(dp->netlink);
	if (!changed)
		return false;
	dp->pending |= changed;
	if ((changed & NETLINK_LINKS) && !dp->detached && kern_pinned(dp->kern))
		check_interfaces(dp);
	apply_hops(dp, false);
	return (changed & (NETLINK_LINKS | NETLINK_ADDRESSES)) && addresses_changed(dp);
}

/* --- looking ------------------------------------------------------------------------------- */

static struct mg_node *node_of(const struct datapath *dp, size_t endpoint)
{
	return endpoint < dp->n_endpoints ? &dp->slots.nodes[dp->slot_of[endpoint]] : NULL;
}

void datapath_set_relayed(struct datapath *dp, size_t endpoint, uint32_t busy)
{
	struct mg_node *node = node_of(dp, endpoint);

	if (node)
		__atomic_store_n(&node->relayed, busy, __ATOMIC_RELAXED);
}

void datapath_counts(const struct datapath *dp, size_t endpoint, struct datapath_counts *counts)
{
	const struct mg_node *node = node_of(dp, endpoint);
	struct mg_node_stats *stats;
	uint32_t slot;

	memset(counts, 0, sizeof(*counts));
	if (!node)
		return;
	counts->connections = node->connections;
	counts->busy = node->busy;
	counts->embryos = node->embryos;
	counts->connects = node->connects;
	counts->reachable = node->hop.ifindex != 0;
	slot = dp->slot_of[endpoint];
	stats = calloc(kern_cpus(dp->kern), sizeof(*stats));
	if (stats && kern_get(dp->kern, KERN_NODE_STATS, &slot, stats) == 0)
		for (size_t cpu = 0; cpu < kern_cpus(dp->kern); cpu++)
			for (int way = 0; way < 2; way++) {
				counts->packets[way] += stats[cpu].packets[way];
				counts->bytes[way] += stats[cpu].bytes[way];
			}
	free(stats);
}

uint64_t datapath_counter(const struct datapath *dp, enum mg_reason reason)
{
	uint32_t key = reason;
	uint64_t *values, sum = 0;

	if (!dp->kern)
		return 0;
	values = calloc(kern_cpus(dp->kern), sizeof(*values));
	if (values && kern_get(dp->kern, KERN_COUNTERS, &key, values) == 0)
		for (size_t cpu = 0; cpu < kern_cpus(dp->kern); cpu++)
			sum += values[cpu];
	free(values);
	return sum;
}

size_t datapath_interfaces(const struct datapath *dp, const struct datapath_interface **list)
{
	*list = dp->listed;
	return dp->n_interfaces;
}

enum datapath_mode datapath_mode_of(const struct datapath *dp)
{
	for (size_t i = 0; i < dp->n_interfaces; i++)
		if (dp->interfaces[i].mode == DATAPATH_TC)
			return DATAPATH_TC;
	return dp->n_interfaces ? DATAPATH_XDP : DATAPATH_NONE;
}

bool datapath_adopted(const struct datapath *dp)
{
	return dp->kern && kern_adopted(dp->kern);
}

size_t datapath_addresses(const struct datapath *dp, const struct addr **list)
{
	*list = dp->published;
	return dp->n_published;
}

struct flow_walk {
	const struct datapath *dp;
	bool (*visit)(const struct datapath_flow *flow, void *arg);
	void *arg;
	uint32_t jiffies, hz;
};

static uint16_t host_order(uint16_t port_be)
{
	const uint8_t *bytes = (const uint8_t *)&port_be;

	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static bool visit_flow(const void *key, const void *value, void *arg)
{
	const struct flow_walk *walk = arg;
	struct datapath_flow out;
	struct mg_tuple in;
	struct mg_flow flow;
	int32_t ticks;

	memcpy(&in, key, sizeof(in));
	memcpy(&flow, value, sizeof(flow));
	if (flow.half != MG_TO_NODE)
		return true;
	memcpy(out.client.bytes, in.saddr, sizeof(in.saddr));
	memcpy(out.listener_addr.bytes, in.daddr, sizeof(in.daddr));
	memcpy(out.snat_addr.bytes, flow.out.saddr, sizeof(flow.out.saddr));
	memcpy(out.node_addr.bytes, flow.out.daddr, sizeof(flow.out.daddr));
	out.client_port = host_order(in.sport_be);
	out.listener_port = host_order(in.dport_be);
	out.snat_port = host_order(flow.out.sport_be);
	out.node_port = host_order(flow.out.dport_be);
	out.endpoint = SIZE_MAX;
	if (flow.slot < MG_SLOTS && walk->dp->endpoint_of[flow.slot] >= 0 &&
	    walk->dp->slots.nodes[flow.slot].generation == flow.generation)
		out.endpoint = (size_t)walk->dp->endpoint_of[flow.slot];
	out.flags = flow.flags;
	ticks = (int32_t)(walk->jiffies - flow.seen);
	out.idle_ms = ticks > 0 ? (uint32_t)((uint64_t)ticks * 1000 / walk->hz) : 0;
	return walk->visit(&out, walk->arg);
}

int datapath_flows(const struct datapath *dp,
		   bool (*visit)(const struct datapath_flow *flow, void *arg), void *arg)
{
	struct flow_walk walk = {dp, visit, arg, 0, kern_hz()};

	if (!dp->kern)
		return 0;
	walk.jiffies = kern_jiffies(dp->kern);
	return kern_each(dp->kern, KERN_FLOWS, visit_flow, &walk);
}
