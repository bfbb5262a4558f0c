// SPDX-License-Identifier: MIT
#include "packets/rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include "megalith.skel.h"

struct rig {
	struct megalith_bpf *bpf;
	struct mg_node *nodes;
	unsigned client_if, node_if;
	uint64_t base[MG_R_COUNT];
};

static const char *const reason_names[] = {
#define X(name, metric, text) metric,
	MG_REASONS(X)
#undef X
};

const char *rig_reason_name(enum mg_reason reason)
{
	return reason_names[reason];
}

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

static int rig_devices(struct rig *rig)
{
	if (unshare(CLONE_NEWNET))
		return -errno;
	if (system("ip link add mgcl type veth peer name mgclp && ip link add mgnd type veth peer "
		   "name mgndp && "
		   "ip link set mgcl up && ip link set mgnd up"))
		return -ENODEV;
	rig->client_if = if_nametoindex("mgcl");
	rig->node_if = if_nametoindex("mgnd");
	return rig->client_if && rig->node_if ? 0 : -ENODEV;
}

static int rig_load(struct rig *rig)
{
	libbpf_set_print(quiet);
	rig->bpf = megalith_bpf__open();
	if (!rig->bpf)
		return -errno;
	rig->bpf->rodata->snat_first = RIG_SNAT_FIRST;
	rig->bpf->rodata->snat_count = RIG_SNAT_COUNT;
	rig->bpf->rodata->snat_stride = 5;
	rig->bpf->rodata->hash_key = RIG_HASH_KEY;
	rig->bpf->rodata->syn_patience = RIG_PATIENCE;
	return megalith_bpf__load(rig->bpf);
}

static int rig_tx(struct rig *rig)
{
	int fd = bpf_map__fd(rig->bpf->maps.mg_tx);

	return bpf_map_update_elem(fd, &rig->client_if, &rig->client_if, 0) ||
	       bpf_map_update_elem(fd, &rig->node_if, &rig->node_if, 0);
}

struct rig *rig_new(void)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	size_t size = MG_SLOTS * sizeof(struct mg_node);
	int err;

	if (geteuid()) {
		printf("skipped: BPF needs root\n[  SKIPPED ] 1 test(s).\n");
		exit(0);
	}
	err = rig_devices(rig);
	if (!err)
		err = rig_load(rig);
	if (!err)
		err = rig_tx(rig);
	if (err) {
		fprintf(stderr, "rig: %s\n", strerror(abs(err)));
		exit(1); /* root, and it does not load: that is a failure, not a skip */
	}
	rig->nodes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			  bpf_map__fd(rig->bpf->maps.mg_nodes), 0);
	if (rig->nodes == MAP_FAILED)
		exit(1);
	return rig;
}

void rig_free(struct rig *rig)
{
	if (!rig)
		return;
	munmap(rig->nodes, MG_SLOTS * sizeof(struct mg_node));
	megalith_bpf__destroy(rig->bpf);
	free(rig);
}

struct endpoint rig_client(bool v6)
{
	struct endpoint end = {.mac = {2, 0, 0, 0, 0xc1, 1}, .port = 40000};

	packet_addr(end.addr, v6 ? "fd00:c::9" : "192.168.1.9");
	return end;
}

struct endpoint rig_gateway(bool v6)
{
	struct endpoint end = {.mac = {2, 0, 0, 0, 0xc1, 0xff}, .port = RIG_PORT};

	packet_addr(end.addr, v6 ? "fd00:c::1" : "192.168.1.1");
	return end;
}

struct endpoint rig_node_end(bool v6, unsigned slot)
{
	struct endpoint end = {.mac = {2, 0, 0, 0, 0xd0, (uint8_t)slot}, .port = RIG_NODE_PORT};

	packet_addr(end.addr, v6 ? "fd00:d::" : "10.0.10.0");
	end.addr[15] = (uint8_t)(10 + slot);
	return end;
}

struct endpoint rig_snat_end(bool v6, uint16_t port)
{
	struct endpoint end = {.mac = {2, 0, 0, 0, 0xd0, 0xff}, .port = port};

	packet_addr(end.addr, v6 ? "fd00:d::1" : "10.0.10.1");
	return end;
}

unsigned rig_ifindex(const struct rig *rig, bool client_side)
{
	return client_side ? rig->client_if : rig->node_if;
}

struct mg_node *rig_node(struct rig *rig, unsigned slot)
{
	return &rig->nodes[slot];
}

void rig_default_row(struct mg_row *row)
{
	*row = (struct mg_row){
		.name = "cruncher/llm", .count = 2, .tiers = 2, .tier_end = {1, 2}, .node = {1, 2}};
}

void rig_row(struct rig *rig, bool v6, const struct mg_row *row)
{
	struct endpoint gateway = rig_gateway(v6);
	struct mg_service_key key = {.port_be = htons(RIG_PORT)};

	memcpy(key.addr, gateway.addr, 16);
	if (bpf_map_update_elem(bpf_map__fd(rig->bpf->maps.mg_services), &key, row, 0))
		abort();
}

void rig_long_row(struct rig *rig, uint32_t number, const struct mg_long_row *list)
{
	if (bpf_map_update_elem(bpf_map__fd(rig->bpf->maps.mg_rows), &number, list, 0))
		abort();
}

static void map_clear(int fd, size_t key_size)
{
	uint8_t key[64];

	if (key_size > sizeof(key))
		abort();
	while (!bpf_map_get_next_key(fd, NULL, key))
		bpf_map_delete_elem(fd, key);
}

static unsigned map_entries(int fd)
{
	struct mg_tuple key, next;
	void *at = NULL;
	unsigned n = 0;

	while (!bpf_map_get_next_key(fd, at, &next)) {
		key = next;
		at = &key;
		n++;
	}
	return n;
}

static uint64_t counter(struct rig *rig, uint32_t reason)
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t values[512], sum = 0;

	if (cpus <= 0 || cpus > 512 ||
	    bpf_map_lookup_elem(bpf_map__fd(rig->bpf->maps.mg_counters), &reason, values))
		abort();
	for (int i = 0; i < cpus; i++)
		sum += values[i];
	return sum;
}

static void reset_node(struct rig *rig, bool v6, unsigned slot)
{
	struct endpoint end = rig_node_end(v6, slot), snat = rig_snat_end(v6, 0);
	struct mg_node node = {
		.port_be = htons(RIG_NODE_PORT),
		.state = MG_NODE_UP,
		.generation = 7,
		.weight = 100,
		.idle_ms = MG_IDLE_MS_DEFAULT,
	};

	snprintf(node.name, sizeof(node.name), "node-%u/llm", slot);
	memcpy(node.addr, end.addr, 16);
	memcpy(node.snat, snat.addr, 16);
	memcpy(node.hop.dst_mac, end.mac, 6);
	memcpy(node.hop.src_mac, snat.mac, 6);
	node.hop.ifindex = rig->node_if;
	rig->nodes[slot] = node;
}

void rig_reset(struct rig *rig, bool v6)
{
	struct mg_row row;

	map_clear(bpf_map__fd(rig->bpf->maps.mg_services), sizeof(struct mg_service_key));
	map_clear(bpf_map__fd(rig->bpf->maps.mg_flows), sizeof(struct mg_tuple));
	map_clear(bpf_map__fd(rig->bpf->maps.mg_embryos), sizeof(struct mg_tuple));
	for (unsigned slot = 1; slot <= RIG_SLOTS; slot++)
		reset_node(rig, v6, slot);
	rig_default_row(&row);
	rig_row(rig, v6, &row);
	for (uint32_t r = 0; r < MG_R_COUNT; r++)
		rig->base[r] = counter(rig, r);
}

uint64_t rig_count(struct rig *rig, enum mg_reason reason)
{
	return counter(rig, reason) - rig->base[reason];
}

static enum rig_act act_of(enum rig_hook hook, int verdict)
{
	if (hook == RIG_XDP)
		return verdict == XDP_PASS			      ? RIG_PASS
		       : verdict == XDP_TX || verdict == XDP_REDIRECT ? RIG_SEND
		       : verdict == XDP_DROP			      ? RIG_DROP
								      : RIG_ODD;
	return verdict == 0   ? RIG_PASS
	       : verdict == 7 ? RIG_SEND
	       : verdict == 2 ? RIG_DROP
			      : RIG_ODD;
}

static int rig_program(const struct rig *rig, enum rig_hook hook)
{
	return bpf_program__fd(hook == RIG_XDP ? rig->bpf->progs.mg_xdp : rig->bpf->progs.mg_tc);
}

void rig_run(struct rig *rig, enum rig_hook hook, bool from_client, const uint8_t *frame,
	     size_t len, struct rig_result *result)
{
	uint32_t ifindex = rig_ifindex(rig, from_client);
	struct xdp_md xdp = {.data_end = (uint32_t)len, .ingress_ifindex = ifindex};
	struct __sk_buff skb = {.ifindex = ifindex};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = (uint32_t)len,
		    .data_out = result->frame, .data_size_out = sizeof(result->frame), .repeat = 1);

	if (hook == RIG_XDP) {
		opts.ctx_in = &xdp;
		opts.ctx_size_in = sizeof(xdp);
	} else {
		opts.ctx_in = &skb;
		opts.ctx_size_in = sizeof(skb);
	}
	if (bpf_prog_test_run_opts(rig_program(rig, hook), &opts)) {
		fprintf(stderr, "test run: %s\n", strerror(errno));
		result->act = RIG_ODD;
		return;
	}
	result->verdict = (int)opts.retval;
	result->act = act_of(hook, result->verdict);
	result->same_interface = hook == RIG_XDP && result->verdict == XDP_TX;
	result->len = opts.data_size_out;
	result->ns = opts.duration;
}

struct mg_tuple rig_tuple(const struct endpoint *from, const struct endpoint *to)
{
	struct mg_tuple key = {.sport_be = htons(from->port), .dport_be = htons(to->port)};

	memcpy(key.saddr, from->addr, 16);
	memcpy(key.daddr, to->addr, 16);
	return key;
}

bool rig_flow(struct rig *rig, const struct mg_tuple *key, struct mg_flow *flow)
{
	return !bpf_map_lookup_elem(bpf_map__fd(rig->bpf->maps.mg_flows), key, flow);
}

void rig_put_flow(struct rig *rig, const struct mg_tuple *key, const struct mg_flow *flow)
{
	if (bpf_map_update_elem(bpf_map__fd(rig->bpf->maps.mg_flows), key, flow, 0))
		abort();
}

void rig_delete_flow(struct rig *rig, const struct mg_tuple *key)
{
	bpf_map_delete_elem(bpf_map__fd(rig->bpf->maps.mg_flows), key);
}

bool rig_embryo(struct rig *rig, const struct mg_tuple *key, struct mg_embryo *embryo)
{
	return !bpf_map_lookup_elem(bpf_map__fd(rig->bpf->maps.mg_embryos), key, embryo);
}

void rig_put_embryo(struct rig *rig, const struct mg_tuple *key, const struct mg_embryo *embryo)
{
	if (bpf_map_update_elem(bpf_map__fd(rig->bpf->maps.mg_embryos), key, embryo, 0))
		abort();
}

unsigned rig_flows(struct rig *rig)
{
	return map_entries(bpf_map__fd(rig->bpf->maps.mg_flows));
}

unsigned rig_embryos(struct rig *rig)
{
	return map_entries(bpf_map__fd(rig->bpf->maps.mg_embryos));
}

uint32_t rig_hz(void)
{
	struct timespec tick;

	clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	return (uint32_t)(1000000000 / tick.tv_nsec);
}

void rig_sweep(struct rig *rig, uint32_t established, uint32_t closed, uint32_t embryo,
	       struct mg_sweep *out)
{
	struct mg_sweep args = {
		.hz = rig_hz(),
		.established_ticks = established,
		.closed_ticks = closed,
		.embryo_ticks = embryo,
	};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &args, .ctx_size_in = sizeof(args));

	if (bpf_prog_test_run_opts(bpf_program__fd(rig->bpf->progs.mg_sweep), &opts) || opts.retval)
		abort();
	*out = args; /* a syscall program writes its context in place */
}
