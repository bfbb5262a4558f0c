// SPDX-License-Identifier: MIT
/*
 * ns per packet of the programs alone, by the kernel's own duration of BPF_PROG_TEST_RUN, on one
 * CPU: floor, one lookup with NAT, an established packet, a new SYN, on both hooks. All in one run:
 * compare the ratios, not machines.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#include "bench.skel.h"
#include "megalith/abi.h"
#include "packets/packet.h"

#define PASSES 7
#define NODES  8
#define PORT   11501
#define ROUNDS 400000

static const unsigned sizes[] = {1, 4096, 65536};

struct bench {
	struct bench_bpf *bpf;
	uint8_t known[FRAME_MAX], syn[FRAME_MAX];
	size_t len;
	unsigned ifindex;
};

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

static void die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double one_pass(struct bench *bench, const struct bpf_program *program, const uint8_t *frame,
		       int rounds)
{
	struct xdp_md xdp = {.data_end = (uint32_t)bench->len, .ingress_ifindex = bench->ifindex};
	struct __sk_buff skb = {.ifindex = bench->ifindex};
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = (uint32_t)bench->len,
		    .repeat = rounds);
	bool is_xdp = bpf_program__type(program) == BPF_PROG_TYPE_XDP;

	opts.ctx_in = is_xdp ? (void *)&xdp : (void *)&skb;
	opts.ctx_size_in = is_xdp ? sizeof(xdp) : sizeof(skb);
	if (bpf_prog_test_run_opts(bpf_program__fd(program), &opts))
		die(bpf_program__name(program));
	if (opts.retval != (is_xdp ? XDP_TX : 7)) {
		fprintf(stderr, "bench: %s: verdict %u, not sent\n", bpf_program__name(program),
			opts.retval);
		exit(1);
	}
	return opts.duration;
}

/* Empties the handshake table: a SYN into a full one is the case of a flood. */
static void forget_handshakes(struct bench *bench)
{
	int fd = bpf_map__fd(bench->bpf->maps.mg_embryos);
	struct mg_tuple key;

	while (!bpf_map_get_next_key(fd, NULL, &key))
		bpf_map_delete_elem(fd, &key);
}

struct job {
	const struct bpf_program *program, *writer, *empty;
	const uint8_t *frame;
	int rounds;
	bool afresh; /* with an empty handshake table in each pass */
};

/*
 * Median of the passes, less the median cost of writing the packet. What the kernel's test run
 * itself costs stays in, as it does in the floor.
 */
static double measure(struct bench *bench, const struct job *job)
{
	double with[PASSES], without[PASSES], empty[PASSES];

	for (int i = 0; i < PASSES; i++) {
		if (job->afresh)
			forget_handshakes(bench);
		empty[i] = one_pass(bench, job->empty, job->frame, ROUNDS);
		without[i] = one_pass(bench, job->writer, job->frame, ROUNDS);
		with[i] = one_pass(bench, job->program, job->frame, job->rounds);
	}
	qsort(with, PASSES, sizeof(*with), by_size);
	qsort(without, PASSES, sizeof(*without), by_size);
	qsort(empty, PASSES, sizeof(*empty), by_size);
	return with[PASSES / 2] - without[PASSES / 2] + empty[PASSES / 2];
}

static void make_frames(struct bench *bench)
{
	struct packet packet = {
		.ttl = 64, .flags = ACK, .seq = 1, .ack = 1, .window = 1000, .n_payload = 26};

	packet_addr(packet.from.addr, "10.100.0.1");
	packet_addr(packet.to.addr, "192.168.1.1");
	packet.to.port = PORT;
	bench->len = packet_build(&packet, bench->known);
	packet.flags = SYN;
	packet_build(&packet, bench->syn);
}

static void fill_nodes(struct bench *bench)
{
	int fd = bpf_map__fd(bench->bpf->maps.mg_nodes);
	struct mg_row row = {.count = NODES, .tiers = 1, .tier_end = {NODES}};
	struct mg_service_key key = {.port_be = htons(PORT)};

	for (uint32_t slot = 1; slot <= NODES; slot++) {
		struct mg_node node = {.state = MG_NODE_UP,
				       .generation = 1,
				       .weight = 100,
				       .port_be = htons(11434),
				       .hop = {.dst_mac = {2, 0, 0, 0, 1, (uint8_t)slot},
					       .ifindex = bench->ifindex}};

		packet_addr(node.addr, "10.0.10.0");
		node.addr[15] = (uint8_t)(10 + slot);
		packet_addr(node.snat, "10.0.10.1");
		if (bpf_map_update_elem(fd, &slot, &node, 0))
			die("mg_nodes");
		row.node[slot - 1] = (uint16_t)slot;
	}
	packet_addr(key.addr, "192.168.1.1");
	if (bpf_map_update_elem(bpf_map__fd(bench->bpf->maps.mg_services), &key, &row, 0))
		die("mg_services");
}

static void fill_flows(struct bench *bench, unsigned flows)
{
	struct mg_flow flow = {.generation = 1,
			       .addr_diff = 0x1234,
			       .port_diff = 0x4321,
			       .hop = {.ifindex = bench->ifindex, .dst_mac = {2, 0, 0, 0, 0, 2}}};
	int fd = bpf_map__fd(bench->bpf->maps.mg_flows);

	for (unsigned n = 0; n < flows; n++) {
		struct mg_tuple key = {.dport_be = htons(PORT)};
		uint32_t addr = htonl(0x0a640000u | (n >> 8 & 0xffff));

		packet_addr(key.saddr, "0.0.0.0");
		packet_addr(key.daddr, "192.168.1.1");
		memcpy(key.saddr + 12, &addr, 4);
		key.sport_be = htons((uint16_t)(1024 + (n & 0xff) + (n >> 24 << 8)));
		flow.slot = 1 + n % NODES;
		flow.out.sport_be = htons((uint16_t)(20000 + n % 12768));
		flow.out.dport_be = htons(11434);
		if (bpf_map_update_elem(fd, &key, &flow, 0))
			die("mg_flows");
	}
}

static void open_bench(struct bench *bench, unsigned flows)
{
	uint8_t gateway[16];

	bench->bpf = bench_bpf__open();
	if (!bench->bpf)
		die("open");
	packet_addr(gateway, "192.168.1.1");
	for (int i = 0; i < 16; i++)
		bench->bpf->rodata->bench_gateway[i] = gateway[i];
	bench->bpf->rodata->bench_flows = flows;
	bench->bpf->rodata->bench_port_be = htons(PORT);
	bench->bpf->rodata->snat_stride = 4801;
	if (bench_bpf__load(bench->bpf))
		die("load");
	fill_nodes(bench);
	fill_flows(bench, flows);
}

enum { FLOOR, NAT, KNOWN, SYN_NEW, SYN_FLOOD, FIGURES };

static const struct {
	const char *title, *programs[2], *known;
} lines[FIGURES] = {
	[FLOOR] = {"floor: MAC swap, out", {"floor_xdp", "floor_tc"}, "34"},
	[NAT] = {"one hash lookup + full NAT", {"nat_xdp", "nat_tc"}, "92 / 128 / 358"},
	[KNOWN] = {"established packet", {"known_xdp", "known_tc"}, "108 / 157 / 399"},
	[SYN_NEW] = {"new SYN", {"syn_xdp", "syn_tc"}, ""},
	[SYN_FLOOD] = {"new SYN, handshake table full", {"syn_xdp", "syn_tc"}, ""},
};

typedef double table[2][FIGURES][3];

static const struct bpf_program *program(struct bench *bench, const char *name)
{
	return bpf_object__find_program_by_name(bench->bpf->obj, name);
}

static void run_size(struct bench *bench, int size, table figures)
{
	open_bench(bench, sizes[size]);
	for (int hook = 0; hook < 2; hook++) {
		for (int i = 0; i < FIGURES; i++) {
			struct job job = {
				.program = program(bench, lines[i].programs[hook]),
				.writer = program(bench, hook ? "write_tc" : "write_xdp"),
				.empty = program(bench, hook ? "empty_tc" : "empty_xdp"),
				.frame = i >= SYN_NEW ? bench->syn : bench->known,
				.rounds = i == SYN_NEW ? 16000 : ROUNDS,
				.afresh = i == SYN_NEW,
			};

			figures[hook][i][size] = measure(bench, &job);
		}
	}
	bench_bpf__destroy(bench->bpf);
}

static void print_hook(table figures, int hook)
{
	double(*f)[3] = figures[hook];

	printf("%s\n", hook ? "TC" : "XDP");
	for (int i = 0; i < FIGURES; i++)
		printf("  %-34s %7.0f %7.0f %7.0f   %s\n", lines[i].title, f[i][0], f[i][1],
		       f[i][2], hook ? "" : lines[i].known);
	printf("  established: %.2f x floor at 1 flow (aim 3.5), %.2f x one-lookup NAT at 64k "
	       "flows (aim 1.4)\n",
	       f[KNOWN][0] / f[FLOOR][0], f[KNOWN][2] / f[NAT][2]);
}

/* The verifier's work, of the programs as they are shipped. */
static void print_steps(void)
{
	struct bench_bpf *bpf = bench_bpf__open();
	const char *const names[] = {"mg_xdp", "mg_tc", "mg_sweep"};

	if (!bpf || bench_bpf__load(bpf))
		die("load");
	printf("verifier steps (aim: below 100,000 each)\n");
	for (int i = 0; i < 3; i++) {
		struct bpf_prog_info info = {0};
		uint32_t size = sizeof(info);
		int fd = bpf_program__fd(bpf_object__find_program_by_name(bpf->obj, names[i]));

		if (bpf_obj_get_info_by_fd(fd, &info, &size))
			die("info");
		printf("  %-10s %7u steps, %u instructions\n", names[i], info.verified_insns,
		       info.xlated_prog_len / 8);
	}
	bench_bpf__destroy(bpf);
}

int main(void)
{
	static table figures;
	static struct bench bench;
	cpu_set_t cpus;

	if (geteuid()) {
		fprintf(stderr, "bench: BPF needs root: sudo make bench\n");
		return 1;
	}
	libbpf_set_print(quiet);
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	bench.ifindex = if_nametoindex("lo");
	make_frames(&bench);
	for (int i = 0; i < 3; i++) {
		fprintf(stderr, "bench: %u flows ...\n", sizes[i]);
		run_size(&bench, i, figures);
	}
	printf("ns per packet, program alone           1      4k     64k flows   design's, another "
	       "machine\n");
	print_hook(figures, 0);
	print_hook(figures, 1);
	print_steps();
	return 0;
}
