// SPDX-License-Identifier: MIT
/*
 * Packet in → verdict, packet out, counter: each row runs through both hooks and both families. A
 * row begins in a state of the connection that the programs themselves have been led to, by
 * packets.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "packets/rig.h"

enum state {
	NOTHING,  /* no packet so far */
	SENT,	  /* the client's SYN has passed */
	ANSWERED, /* and the node's SYN-ACK */
	OPEN,	  /* and the client's ACK: a connection */
	HALF_C,	  /* the client has closed its direction */
	HALF_N,	  /* the node has */
	CLOSED,	  /* both have */
	RESET_C,  /* reset by the client */
	RESET_N,  /* reset by the node */
};

struct scene { /* one run of one row */
	struct rig *rig;
	enum rig_hook hook;
	bool v6;
	struct endpoint client, gateway, node, snat;
	unsigned slot;
	struct packet packet; /* the row's */
	bool elsewhere;	      /* the row's packet comes in by the other interface */
	uint8_t frame[FRAME_MAX];
	size_t len;
	struct rig_result result;
};

#define COUNT(name) (MG_R_##name + 1)

struct row {
	const char *sentence;
	enum state state;
	bool from_node;
	uint8_t flags;
	size_t payload;
	enum rig_act act;
	int counters[2]; /* COUNT(...): these moved by one, no other did */
	void (*prepare)(
		struct scene *s); /* before the packet is built: changes tables or s->packet */
	void (*spoil)(struct scene *s);	     /* after it is built: changes bytes */
	void (*afterwards)(struct scene *s); /* more to assert */
	int only;			     /* 4 or 6 */
	bool xdp_only; /* the kernel's test run refuses such a frame on TC before the program sees
			  it */
};

static struct rig *the_rig;

static void base_packet(struct scene *s, bool from_node, uint8_t flags)
{
	s->packet = (struct packet){
		.v6 = s->v6,
		.from = from_node ? s->node : s->client,
		.to = from_node ? s->snat : s->gateway,
		.ttl = 64,
		.df = true,
		.id = 4711,
		.seq = from_node ? 7001 : 1001,
		.ack = flags & ACK ? (from_node ? 1001 : 7001) : 0,
		.flags = flags,
		.window = 65000,
	};
	if ((flags & (SYN | ACK)) == SYN)
		s->packet.seq = 1000;
	if ((flags & (SYN | ACK)) == (SYN | ACK))
		s->packet.seq = 7000;
}

static void send_it(struct scene *s, bool from_node)
{
	rig_run(s->rig, s->hook, !from_node, s->frame, s->len, &s->result);
}

static void drive(struct scene *s, bool from_node, uint8_t flags)
{
	uint8_t daddr[16];

	base_packet(s, from_node, flags);
	s->len = packet_build(&s->packet, s->frame);
	send_it(s, from_node);
	if (s->result.act != RIG_SEND)
		fail_msg("the way to the row's state: flags %02x not sent on", flags);
	if (from_node || (flags & (SYN | ACK)) != SYN)
		return;
	s->slot = packet_daddr(s->result.frame, daddr)[15] - 10u;
	s->node = rig_node_end(s->v6, s->slot);
	s->snat = rig_snat_end(s->v6, packet_sport(s->result.frame));
}

static void lead_to(struct scene *s, enum state state)
{
	if (state >= SENT)
		drive(s, false, SYN);
	if (state >= ANSWERED)
		drive(s, true, SYN | ACK);
	if (state >= OPEN)
		drive(s, false, ACK);
	if (state == HALF_C || state == CLOSED)
		drive(s, false, FIN | ACK);
	if (state == HALF_N || state == CLOSED)
		drive(s, true, FIN | ACK);
	if (state == RESET_C || state == RESET_N)
		drive(s, state == RESET_N, RST | ACK);
}

/* What must come out, built from the description alone. */
static void check_sent(struct scene *s, bool from_node)
{
	struct packet want = s->packet;
	uint8_t frame[FRAME_MAX], daddr[16];
	size_t len;

	if (!from_node && s->snat.port == 0) { /* chosen by this very packet */
		s->slot = packet_daddr(s->result.frame, daddr)[15] - 10u;
		s->node = rig_node_end(s->v6, s->slot);
		s->snat = rig_snat_end(s->v6, packet_sport(s->result.frame));
	}
	assert_in_range(s->snat.port, RIG_SNAT_FIRST, RIG_SNAT_FIRST + RIG_SNAT_COUNT - 1);
	want.from = from_node ? s->gateway : s->snat;
	want.to = from_node ? s->client : s->node;
	want.ttl--;
	len = packet_build(&want, frame);
	assert_int_equal(s->result.len, len);
	assert_true(packet_sums_right(s->result.frame, len));
	assert_memory_equal(s->result.frame, frame, len);
}

static void check_counters(struct scene *s, const struct row *row,
			   const uint64_t before[MG_R_COUNT])
{
	for (int r = 0; r < MG_R_COUNT; r++) {
		uint64_t want =
			before[r] + (row->counters[0] == r + 1) + (row->counters[1] == r + 1);

		if (rig_count(s->rig, (enum mg_reason)r) != want)
			fail_msg("counter %s: %lu, want %lu", rig_reason_name((enum mg_reason)r),
				 (unsigned long)rig_count(s->rig, (enum mg_reason)r),
				 (unsigned long)want);
	}
}

static void run_row(const struct row *row, enum rig_hook hook, bool v6)
{
	struct scene s = {.rig = the_rig,
			  .hook = hook,
			  .v6 = v6,
			  .client = rig_client(v6),
			  .gateway = rig_gateway(v6),
			  .node = rig_node_end(v6, 1),
			  .snat = rig_snat_end(v6, 0)};
	uint64_t before[MG_R_COUNT];

	print_message("             %s, %s\n", hook == RIG_XDP ? "xdp" : "tc",
		      v6 ? "IPv6" : "IPv4");
	rig_reset(s.rig, v6);
	lead_to(&s, row->state);
	if (row->from_node && row->state == NOTHING)
		s.snat.port = RIG_SNAT_FIRST + 3;
	base_packet(&s, row->from_node, row->flags);
	s.packet.n_payload = row->payload;
	memset(s.packet.payload, 'x', row->payload);
	if (row->prepare)
		row->prepare(&s);
	s.len = packet_build(&s.packet, s.frame);
	if (row->spoil)
		row->spoil(&s);
	for (int r = 0; r < MG_R_COUNT; r++)
		before[r] = rig_count(s.rig, (enum mg_reason)r);
	send_it(&s, row->from_node ^ s.elsewhere);
	assert_int_equal(s.result.act, row->act);
	if (row->counters[0] == COUNT(SYN_STEERED) || row->counters[0] == COUNT(SYN_RESTEERED))
		s.snat.port = 0; /* a new choice */
	if (row->act == RIG_SEND && !row->spoil)
		check_sent(&s, row->from_node);
	if (row->act == RIG_PASS) {
		assert_int_equal(s.result.len, s.len);
		assert_memory_equal(s.result.frame, s.frame, s.len);
	}
	check_counters(&s, row, before);
	if (row->afterwards)
		row->afterwards(&s);
}

/* --- what rows prepare
 * ------------------------------------------------------------------------------ */

static void node1_down(struct scene *s)
{
	rig_node(s->rig, 1)->state = MG_NODE_DOWN;
}
static void node1_drains(struct scene *s)
{
	rig_node(s->rig, 1)->state = MG_NODE_DRAIN;
}
static void node1_weight_0(struct scene *s)
{
	rig_node(s->rig, 1)->weight = 0;
}
static void node1_full(struct scene *s)
{
	rig_node(s->rig, 1)->capacity = 2;
	rig_node(s->rig, 1)->busy = 2;
}
static void node1_full_of_handshakes(struct scene *s)
{
	rig_node(s->rig, 1)->capacity = 1;
	rig_node(s->rig, 1)->embryos = 1;
}
static void node1_full_of_relays(struct scene *s)
{
	rig_node(s->rig, 1)->capacity = 1;
	rig_node(s->rig, 1)->relayed = 1;
}
static void node1_no_hop(struct scene *s)
{
	rig_node(s->rig, 1)->hop.ifindex = 0;
}
static void node1_of_the_other_family(struct scene *s)
{
	packet_addr(rig_node(s->rig, 1)->addr, s->v6 ? "10.0.10.11" : "fd00:d::b");
}
static void all_down(struct scene *s)
{
	rig_node(s->rig, 1)->state = MG_NODE_DOWN;
	rig_node(s->rig, 2)->state = MG_NODE_DOWN;
}
static void all_full(struct scene *s)
{
	node1_full(s);
	rig_node(s->rig, 2)->capacity = 1;
	rig_node(s->rig, 2)->busy = 1;
}
static void heavier_node_3(struct scene *s)
{
	struct mg_row row = {.count = 2, .tiers = 1, .tier_end = {2}, .node = {1, 3}};

	rig_node(s->rig, 3)->weight = 200;
	rig_row(s->rig, s->v6, &row);
}
static void long_row_to_5(struct scene *s)
{
	struct mg_row row = {.count = 100, .tiers = 1, .tier_end = {100}, .more = 77};
	static struct mg_long_row list;

	memset(&list, 0, sizeof(list));
	for (int i = 0; i < 100; i++)
		list.node[i] = 5;
	rig_long_row(s->rig, 77, &list);
	rig_row(s->rig, s->v6, &row);
}
static void empty_row(struct scene *s)
{
	struct mg_row row = {.tiers = 1};

	rig_row(s->rig, s->v6, &row);
}
static void missing_long_row(struct scene *s)
{
	struct mg_row row = {.count = 100, .tiers = 1, .tier_end = {100}, .more = 4242};

	rig_row(s->rig, s->v6, &row);
}
static void another_port(struct scene *s)
{
	s->packet.to.port = 22;
}
static void another_address(struct scene *s)
{
	s->packet.to.addr[15] = 200;
}
static void other_isn(struct scene *s)
{
	s->packet.seq = 555000;
}
static void slot_reused(struct scene *s)
{
	rig_node(s->rig, s->slot)->generation++;
}
static void slot_drains(struct scene *s)
{
	rig_node(s->rig, s->slot)->state = MG_NODE_DRAIN;
}
static void slot_down(struct scene *s)
{
	rig_node(s->rig, s->slot)->state = MG_NODE_DOWN;
}
static void slot_gone(struct scene *s)
{
	rig_node(s->rig, s->slot)->state = MG_NODE_GONE;
}
static void slot_no_hop(struct scene *s)
{
	rig_node(s->rig, s->slot)->hop.ifindex = 0;
}
static void slot_new_mac(struct scene *s)
{
	rig_node(s->rig, s->slot)->hop.dst_mac[4] = 0xee;
	s->node.mac[4] = 0xee;
}
static void ttl_1(struct scene *s)
{
	s->packet.ttl = 1;
}
static void ttl_0(struct scene *s)
{
	s->packet.ttl = 0;
}
static void ttl_2(struct scene *s)
{
	s->packet.ttl = 2;
}
static void wrong_ack(struct scene *s)
{
	s->packet.ack = 99;
}
static void ack_1(struct scene *s)
{
	s->packet.ack = 1;
}
static void busy_before(struct scene *s)
{
	struct packet packet = s->packet;

	base_packet(s, false, ACK | PSH);
	s->packet.n_payload = 5;
	s->len = packet_build(&s->packet, s->frame);
	send_it(s, false);
	assert_int_equal(rig_node(s->rig, s->slot)->busy, 1);
	s->packet = packet;
}
static void syn_long_ago(struct scene *s)
{
	struct mg_tuple key = rig_tuple(&s->client, &s->gateway);
	struct mg_embryo embryo;

	assert_true(rig_embryo(s->rig, &key, &embryo));
	embryo.born -= RIG_PATIENCE + 1;
	rig_put_embryo(s->rig, &key, &embryo);
}
static void owner_at_another_node(struct scene *s) /* as between the two writes of a new choice */
{
	struct mg_tuple key = rig_tuple(&s->client, &s->gateway);
	struct endpoint other = rig_node_end(s->v6, 2);
	struct mg_embryo embryo;

	assert_true(rig_embryo(s->rig, &key, &embryo));
	memcpy(embryo.flow.out.daddr, other.addr, 16);
	embryo.flow.slot = 2;
	rig_put_embryo(s->rig, &key, &embryo);
}
static void given_away(struct scene *s)
{
	struct mg_tuple key = rig_tuple(&s->client, &s->gateway);
	struct mg_embryo embryo;

	assert_true(rig_embryo(s->rig, &key, &embryo));
	embryo.answer = MG_GIVEN_AWAY;
	rig_put_embryo(s->rig, &key, &embryo);
}
static void not_answered(struct scene *s)
{
	struct mg_tuple key = rig_tuple(&s->client, &s->gateway);
	struct mg_embryo embryo;

	assert_true(rig_embryo(s->rig, &key, &embryo));
	assert_int_equal(embryo.answer, MG_AWAITED);
}
static void syn_long_ago_and_alone(struct scene *s)
{
	rig_node(s->rig, 2)->state = MG_NODE_DOWN;
	syn_long_ago(s);
}
static void on_2_alone(struct scene *s)
{
	assert_int_equal(s->slot, 2);
	assert_int_equal(rig_node(s->rig, 1)->embryos, 0);
	assert_int_equal(rig_node(s->rig, 2)->embryos, 1);
	assert_int_equal(rig_embryos(s->rig), 2);
}
static void syn_long_ago_and_slot_reused(struct scene *s)
{
	syn_long_ago_and_alone(s);
	slot_reused(s);
}
static void idle_before(struct scene *s)
{
	struct mg_tuple key = rig_tuple(&s->client, &s->gateway);
	struct mg_flow flow;

	assert_true(rig_flow(s->rig, &key, &flow));
	flow.flags &= ~(uint32_t)MG_BUSY;
	rig_put_flow(s->rig, &key, &flow);
	rig_node(s->rig, s->slot)->busy = 0;
}
static void arrives_elsewhere(struct scene *s)
{
	s->elsewhere = true;
}
static void goes_back_elsewhere(struct scene *s)
{
	drive(s, true, ACK); /* its interface is now the nodes', where this came in */
	if (s->hook == RIG_XDP)
		assert_true(s->result.same_interface);
}
static void syn_options(struct scene *s)
{
	static const uint8_t options[] = {2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2,
					  3, 4, 0, 0,	 0, 0, 1, 3,  3, 7};

	memcpy(s->packet.options, options, sizeof(options));
	s->packet.n_options = sizeof(options);
}
static void all_options(struct scene *s)
{
	memset(s->packet.options, 1, 40);
	s->packet.n_options = 40;
}
static void ecn_urgent(struct scene *s)
{
	s->packet.flags |= ECE | CWR | URG;
	s->packet.urgent = 9;
	s->packet.tos = 3;
}
static void zero_window(struct scene *s)
{
	s->packet.window = 0;
}
static void far_sequence(struct scene *s)
{
	s->packet.seq += 0x80000000u;
}
static void odd_payload(struct scene *s)
{
	s->packet.n_payload = 1399;
	memset(s->packet.payload, 0xff, 1399);
}
static void from_spoofed_node(struct scene *s)
{
	s->packet.from.addr[15] = 99;
}
static void snat_port_before_range(struct scene *s)
{
	s->packet.to.port = RIG_SNAT_FIRST - 1;
}
static void snat_port_after_range(struct scene *s)
{
	s->packet.to.port = RIG_SNAT_FIRST + RIG_SNAT_COUNT;
}
static void client_moved(struct scene *s)
{
	s->packet.from.mac[5] = 0x77;
	s->client.mac[5] = 0x77;
}
static void ports_all_taken(struct scene *s)
{
	struct mg_flow flow = {.slot = 1, .generation = 7};

	for (uint16_t i = 0; i < RIG_SNAT_COUNT; i++) {
		struct endpoint node = rig_node_end(s->v6, 1),
				snat = rig_snat_end(s->v6, (uint16_t)(RIG_SNAT_FIRST + i));
		struct mg_tuple key = rig_tuple(&node, &snat);

		rig_put_flow(s->rig, &key, &flow);
	}
}
static void lose_half(struct scene *s)
{
	struct mg_tuple key = rig_tuple(&s->node, &s->snat);

	rig_delete_flow(s->rig, &key);
}

/* --- what rows spoil
 * ---------------------------------------------------------------------------------- */

static void cut_in_ip(struct scene *s)
{
	s->len = 14 + 12;
}
static void cut_in_tcp(struct scene *s)
{
	s->len -= 8;
}
static void says_longer_than_it_is(struct scene *s)
{
	s->frame[s->v6 ? 19 : 17] = (uint8_t)(s->frame[s->v6 ? 19 : 17] + 40);
}
static void says_shorter_than_headers(struct scene *s)
{
	s->frame[s->v6 ? 19 : 17] = (uint8_t)(s->v6 ? 10 : 30);
}
static void data_offset_4(struct scene *s)
{
	s->frame[s->v6 ? 66 : 46] = 0x40;
}
static void data_offset_15(struct scene *s)
{
	s->frame[s->v6 ? 66 : 46] = 0xf0;
}
static void fragment_first(struct scene *s)
{
	s->frame[20] = 0x20;
}
static void fragment_later(struct scene *s)
{
	s->frame[20] = 0;
	s->frame[21] = 0x10;
}
static void ihl_6(struct scene *s)
{
	s->frame[14] = 0x46;
}
static void ihl_4(struct scene *s)
{
	s->frame[14] = 0x44;
}
static void version_5(struct scene *s)
{
	s->frame[14] = s->v6 ? 0x50 : 0x55;
}
static void proto_udp(struct scene *s)
{
	s->frame[s->v6 ? 20 : 23] = 17;
}
static void proto_icmp(struct scene *s)
{
	s->frame[s->v6 ? 20 : 23] = s->v6 ? 58 : 1;
}
static void ext_hop_by_hop(struct scene *s)
{
	s->frame[20] = 0;
}
static void ext_destination(struct scene *s)
{
	s->frame[20] = 60;
}
static void ext_fragment(struct scene *s)
{
	s->frame[20] = 44;
}
static void ext_routing(struct scene *s)
{
	s->frame[20] = 43;
}
static void arp(struct scene *s)
{
	s->frame[12] = 0x08;
	s->frame[13] = 0x06;
}
static void vlan(struct scene *s)
{
	memmove(s->frame + 16, s->frame + 12, s->len - 12);
	memcpy(s->frame + 12, "\x81\x00\x00\x05", 4);
	s->len += 4;
}
static void qinq(struct scene *s)
{
	memmove(s->frame + 20, s->frame + 12, s->len - 12);
	memcpy(s->frame + 12, "\x88\xa8\x00\x05\x81\x00\x00\x06", 8);
	s->len += 8;
}
static void padded(struct scene *s) /* Ethernet pads short frames to 60 bytes: not payload */
{
	s->len += 6;
}

/* --- what rows assert afterwards
 * ------------------------------------------------------------------------ */

static void on_1(struct scene *s)
{
	assert_int_equal(s->slot, 1);
	assert_int_equal(rig_node(s->rig, 1)->embryos, 1);
	assert_int_equal(rig_embryos(s->rig), 2);
	assert_int_equal(rig_flows(s->rig), 0);
}
static void on_2(struct scene *s)
{
	assert_int_equal(s->slot, 2);
}
static void on_3(struct scene *s)
{
	assert_int_equal(s->slot, 3);
}
static void on_5(struct scene *s)
{
	assert_int_equal(s->slot, 5);
}
static void no_entries(struct scene *s)
{
	assert_int_equal(rig_flows(s->rig), 0);
	assert_int_equal(rig_embryos(s->rig), 0);
	assert_int_equal(rig_node(s->rig, 1)->embryos, 0);
	assert_int_equal(rig_node(s->rig, 1)->connections, 0);
}
static void no_flow_left(struct scene *s)
{
	assert_int_equal(rig_flows(s->rig), 0);
	assert_int_equal(rig_node(s->rig, s->slot)->connections,
			 1); /* the new owner's count is its own */
}
static void promoted(struct scene *s)
{
	assert_int_equal(rig_flows(s->rig), 2);
	assert_int_equal(rig_embryos(s->rig), 0);
	assert_int_equal(rig_node(s->rig, s->slot)->embryos, 0);
	assert_int_equal(rig_node(s->rig, s->slot)->connections, 1);
	assert_int_equal(rig_node(s->rig, s->slot)->connects, 1);
	assert_int_equal(rig_node(s->rig, s->slot)->busy,
			 1); /* for the first question, see the sweep */
}
static void busy_1(struct scene *s)
{
	assert_int_equal(rig_node(s->rig, s->slot)->busy, 1);
	send_it(s, false);
	assert_int_equal(rig_node(s->rig, s->slot)->busy, 1);
}
static void busy_0(struct scene *s)
{
	assert_int_equal(rig_node(s->rig, s->slot)->busy, 0);
}
static void one_pair(struct scene *s)
{
	assert_int_equal(rig_embryos(s->rig), 2);
	assert_int_equal(rig_node(s->rig, s->slot)->embryos, 1);
}
static void still_connected(struct scene *s)
{
	assert_int_equal(rig_node(s->rig, s->slot)->connections, 1);
	assert_int_equal(rig_flows(s->rig), 2);
}
static void place_given_back(struct scene *s)
{
	assert_int_equal(rig_node(s->rig, s->slot)->connections, 0);
	assert_int_equal(rig_node(s->rig, s->slot)->busy, 0);
	assert_int_equal(rig_flows(s->rig), 2);
	send_it(s, false); /* again, and from the other side: given back once */
	assert_int_equal(rig_node(s->rig, s->slot)->connections, 0);
}
static void new_embryo_no_flow(struct scene *s)
{
	assert_int_equal(rig_flows(s->rig), 0);
	assert_int_equal(rig_embryos(s->rig), 2);
}
static void same_interface_tx(struct scene *s)
{
	if (s->hook == RIG_XDP)
		assert_true(s->result.same_interface);
}
static void hop_by_client_if(struct scene *s)
{
	rig_node(s->rig, 1)->hop.ifindex = rig_ifindex(s->rig, true);
}
static void reply_follows_client(struct scene *s)
{
	drive(s, true, ACK);
	assert_memory_equal(s->result.frame, s->client.mac, 6);
}

#define TO_PERSONA   .state = NOTHING, .flags = SYN
#define STEERED	     .act = RIG_SEND, .counters = {COUNT(SYN_STEERED)}
#define CASCADED     .act = RIG_SEND, .counters = {COUNT(SYN_CASCADED)}
#define LEFT(reason) .act = RIG_PASS, .counters = {COUNT(reason)}
#define UNTOUCHED    .act = RIG_PASS

/* A row is a line. */
/* clang-format off */
static const struct row rows[] = {
	/* a new connection */
	{"a SYN goes to the persona's node", TO_PERSONA, STEERED, .afterwards = on_1},
	{"its options pass unchanged", TO_PERSONA, STEERED, .prepare = syn_options},
	{"40 bytes of options pass unchanged", TO_PERSONA, STEERED, .prepare = all_options},
	{"a SYN with ECN bits passes unchanged", TO_PERSONA, STEERED, .prepare = ecn_urgent},
	{"a SYN with data (fast open) passes unchanged", TO_PERSONA, STEERED, .payload = 100},
	{"a node that is down is avoided", TO_PERSONA, CASCADED, .prepare = node1_down, .afterwards = on_2},
	{"a node that drains is avoided", TO_PERSONA, CASCADED, .prepare = node1_drains, .afterwards = on_2},
	{"a node of weight 0 is avoided", TO_PERSONA, CASCADED, .prepare = node1_weight_0, .afterwards = on_2},
	{"a full node is avoided", TO_PERSONA, CASCADED, .prepare = node1_full, .afterwards = on_2},
	{"handshakes fill a node", TO_PERSONA, CASCADED, .prepare = node1_full_of_handshakes, .afterwards = on_2},
	{"what the proxy relays fills a node", TO_PERSONA, CASCADED, .prepare = node1_full_of_relays, .afterwards = on_2},
	{"a node without a known way is avoided", TO_PERSONA, CASCADED, .prepare = node1_no_hop, .afterwards = on_2},
	{"of two nodes the heavier is taken", TO_PERSONA, STEERED, .prepare = heavier_node_3, .afterwards = on_3},
	{"a long row is read from its own map", TO_PERSONA, STEERED, .prepare = long_row_to_5, .afterwards = on_5},
	{"a long row that is missing is nobody", TO_PERSONA, LEFT(NO_ROOM), .prepare = missing_long_row},
	{"never a node of the other address family", TO_PERSONA, LEFT(STALE_NODE), .prepare = node1_of_the_other_family, .afterwards = no_entries},
	{"no node up: the kernel's listener gets it", TO_PERSONA, LEFT(NO_ROOM), .prepare = all_down, .afterwards = no_entries},
	{"no room: the kernel's listener gets it", TO_PERSONA, LEFT(NO_ROOM), .prepare = all_full, .afterwards = no_entries},
	{"a row without candidates: likewise", TO_PERSONA, LEFT(NO_ROOM), .prepare = empty_row},
	{"no free SNAT port: likewise", TO_PERSONA, LEFT(NO_PORT), .prepare = ports_all_taken},
	{"a node behind the client's own interface", TO_PERSONA, STEERED, .prepare = hop_by_client_if, .afterwards = same_interface_tx},
	{"hop limit 1 is not sent on", TO_PERSONA, .act = RIG_DROP, .counters = {COUNT(TTL)}, .prepare = ttl_1},
	{"hop limit 2 is", TO_PERSONA, STEERED, .prepare = ttl_2},
	/* what is not a new connection */
	{"an ACK without a connection is the kernel's", NOTHING, .flags = ACK, LEFT(UNKNOWN), .afterwards = no_entries},
	{"data without a connection is the kernel's", NOTHING, .flags = ACK | PSH, .payload = 10, LEFT(UNKNOWN)},
	{"a RST without a connection is the kernel's", NOTHING, .flags = RST, LEFT(UNKNOWN)},
	{"a FIN without a connection is the kernel's", NOTHING, .flags = FIN | ACK, LEFT(UNKNOWN)},
	{"a SYN-ACK to a persona port is the kernel's", NOTHING, .flags = SYN | ACK, LEFT(UNKNOWN)},
	{"SYN with FIN is no SYN", NOTHING, .flags = SYN | FIN, LEFT(UNKNOWN)},
	{"SYN with RST is no SYN", NOTHING, .flags = SYN | RST, LEFT(UNKNOWN)},
	{"a segment without any flag is the kernel's", NOTHING, .flags = 0, LEFT(UNKNOWN)},
	{"another port of the gateway is not touched", TO_PERSONA, UNTOUCHED, .prepare = another_port, .afterwards = no_entries},
	{"another address is not touched", TO_PERSONA, UNTOUCHED, .prepare = another_address, .afterwards = no_entries},
	{"established traffic of another port is not touched", NOTHING, .flags = ACK, UNTOUCHED, .prepare = another_port},
	/* handshake */
	{"a SYN sent again goes to the same node and port", SENT, .flags = SYN, .act = RIG_SEND, .counters = {COUNT(SYN_AGAIN)}, .afterwards = one_pair},
	{"a SYN that its node has not answered for long goes to another", SENT, .flags = SYN, .act = RIG_SEND, .counters = {COUNT(SYN_RESTEERED)}, .prepare = syn_long_ago, .afterwards = on_2_alone},
	{"or to the same, when there is no other", SENT, .flags = SYN, .act = RIG_SEND, .counters = {COUNT(SYN_AGAIN)}, .prepare = syn_long_ago_and_alone, .afterwards = one_pair},
	{"but not to a slot that has a new owner", SENT, .flags = SYN, LEFT(STALE_NODE), .prepare = syn_long_ago_and_slot_reused},
	{"one that it has answered stays", ANSWERED, .flags = SYN, .act = RIG_SEND, .counters = {COUNT(SYN_AGAIN)}, .prepare = syn_long_ago, .afterwards = one_pair},
	{"a SYN with another sequence number begins anew", SENT, .flags = SYN, STEERED, .prepare = other_isn},
	{"the node's SYN-ACK goes back to the client", SENT, true, SYN | ACK, .act = RIG_SEND, .counters = {COUNT(SYN_ANSWERED)}},
	{"its options pass unchanged", SENT, true, SYN | ACK, .act = RIG_SEND, .counters = {COUNT(SYN_ANSWERED)}, .prepare = syn_options},
	{"a SYN-ACK of a node that is no longer the chosen one is the kernel's", SENT, true, SYN | ACK, LEFT(UNKNOWN), .prepare = owner_at_another_node, .afterwards = not_answered},
	{"nor does one pass while another is being chosen", SENT, true, SYN | ACK, LEFT(UNKNOWN), .prepare = given_away},
	{"a SYN-ACK sent again goes back again", ANSWERED, true, SYN | ACK, .act = RIG_SEND, .counters = {COUNT(SYN_ANSWERED)}},
	{"the node's refusal reaches the client", SENT, true, RST | ACK, .act = RIG_SEND, .counters = {COUNT(REFUSED_BY_NODE)}, .afterwards = no_entries},
	{"the client gives up", ANSWERED, .flags = RST, .act = RIG_SEND, .counters = {COUNT(HANDSHAKE)}, .afterwards = no_entries},
	{"the client's ACK makes the connection", ANSWERED, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(PROMOTED)}, .afterwards = promoted},
	{"so does its first data", ANSWERED, .flags = ACK | PSH, .payload = 200, .act = RIG_SEND, .counters = {COUNT(PROMOTED)}, .afterwards = promoted},
	{"an ACK of something else does not", ANSWERED, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(HANDSHAKE)}, .prepare = wrong_ack, .afterwards = one_pair},
	{"an ACK before the SYN-ACK does not", SENT, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(HANDSHAKE)}, .afterwards = one_pair},
	{"an ACK of 1 before the SYN-ACK neither", SENT, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(HANDSHAKE)}, .prepare = ack_1, .afterwards = one_pair},
	{"a handshake with a node that is gone is the kernel's", ANSWERED, .flags = ACK, LEFT(STALE_NODE), .prepare = slot_reused},
	{"a handshake goes on when its node drains", ANSWERED, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(PROMOTED)}, .prepare = slot_drains},
	/* an open connection */
	{"the client's data reaches the node", OPEN, .flags = ACK | PSH, .payload = 300, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = idle_before, .afterwards = busy_1},
	{"the client's ACK does not make it busy", OPEN, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = idle_before, .afterwards = busy_0},
	{"the node's data reaches the client", OPEN, true, ACK | PSH, 1400, .act = RIG_SEND, .counters = {COUNT(TO_CLIENT)}, .prepare = idle_before, .afterwards = busy_0},
	{"odd lengths and all ones", OPEN, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = odd_payload},
	{"the same from the node", OPEN, true, ACK, .act = RIG_SEND, .counters = {COUNT(TO_CLIENT)}, .prepare = odd_payload},
	{"timestamps and SACK pass unchanged", OPEN, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = all_options},
	{"ECN and urgent pass unchanged", OPEN, .flags = ACK | PSH, .payload = 9, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = ecn_urgent},
	{"a zero window passes unchanged", OPEN, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = zero_window},
	{"a segment far out of the window is the ends' business", OPEN, .flags = ACK | PSH, .payload = 5, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = far_sequence},
	{"a SYN on an open connection is the ends' business", OPEN, .flags = SYN, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = other_isn, .afterwards = still_connected},
	{"a SYN-ACK sent again after the handshake goes back", OPEN, true, SYN | ACK, .act = RIG_SEND, .counters = {COUNT(TO_CLIENT)}},
	{"a connection stays on a node that drains", OPEN, .flags = ACK | PSH, .payload = 5, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = slot_drains},
	{"and on one that is down", OPEN, .flags = ACK | PSH, .payload = 5, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = slot_down},
	{"and on one that left the configuration", OPEN, true, ACK | PSH, 5, .act = RIG_SEND, .counters = {COUNT(TO_CLIENT)}, .prepare = slot_gone},
	{"a slot given to another node: never its bytes", OPEN, .flags = ACK | PSH, .payload = 5, LEFT(STALE_NODE), .prepare = slot_reused, .afterwards = no_flow_left},
	{"nor in the other direction", OPEN, true, ACK | PSH, 5, LEFT(STALE_NODE), .prepare = slot_reused, .afterwards = no_flow_left},
	{"a node's new MAC is used at once", OPEN, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = slot_new_mac},
	{"no way to the node: dropped and counted", OPEN, .flags = ACK, .act = RIG_DROP, .counters = {COUNT(NO_HOP)}, .prepare = slot_no_hop},
	{"the client's new MAC is learnt", OPEN, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = client_moved, .afterwards = reply_follows_client},
	{"the client's new interface is learnt", OPEN, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = arrives_elsewhere, .afterwards = goes_back_elsewhere},
	{"hop limit 1 from the client", OPEN, .flags = ACK, .act = RIG_DROP, .counters = {COUNT(TTL)}, .prepare = ttl_1},
	{"hop limit 0 from the node", OPEN, true, ACK, .act = RIG_DROP, .counters = {COUNT(TTL)}, .prepare = ttl_0},
	{"a half that was lost: the client's way still works", OPEN, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = lose_half},
	{"and the node's is the kernel's until it is mended", OPEN, true, ACK, LEFT(UNKNOWN), .prepare = lose_half},
	/* the end */
	{"the client's FIN leaves the answer's way open", OPEN, .flags = FIN | ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .afterwards = still_connected},
	{"the node's FIN leaves the client's way open", OPEN, true, FIN | ACK, .act = RIG_SEND, .counters = {COUNT(TO_CLIENT)}, .afterwards = still_connected},
	{"the second FIN gives the place back", HALF_N, .flags = FIN | ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .afterwards = place_given_back},
	{"in the other order too", HALF_C, true, FIN | ACK, .act = RIG_SEND, .counters = {COUNT(TO_CLIENT)}, .afterwards = place_given_back},
	{"the node's data after the client's FIN", HALF_C, true, ACK | PSH, 700, .act = RIG_SEND, .counters = {COUNT(TO_CLIENT)}},
	{"the last ACK passes", CLOSED, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .afterwards = place_given_back},
	{"a FIN sent again passes", CLOSED, true, FIN | ACK, .act = RIG_SEND, .counters = {COUNT(TO_CLIENT)}},
	{"the client's RST gives the place back", OPEN, .flags = RST | ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .afterwards = place_given_back},
	{"a busy connection gives that back too", OPEN, true, RST, .act = RIG_SEND, .counters = {COUNT(TO_CLIENT)}, .prepare = busy_before, .afterwards = place_given_back},
	{"the node's RST too", OPEN, true, RST, .act = RIG_SEND, .counters = {COUNT(TO_CLIENT)}, .afterwards = place_given_back},
	{"a SYN on a closed connection is a new one", CLOSED, .flags = SYN, .act = RIG_SEND, .counters = {COUNT(SYN_STEERED), COUNT(SYN_REUSED)}, .prepare = other_isn, .afterwards = new_embryo_no_flow},
	{"on one that the client reset too", RESET_C, .flags = SYN, .act = RIG_SEND, .counters = {COUNT(SYN_STEERED), COUNT(SYN_REUSED)}, .prepare = other_isn, .afterwards = new_embryo_no_flow},
	{"on one that the node reset too", RESET_N, .flags = SYN, .act = RIG_SEND, .counters = {COUNT(SYN_STEERED), COUNT(SYN_REUSED)}, .prepare = other_isn, .afterwards = new_embryo_no_flow},
	{"a SYN on a half-closed connection is the ends' business", HALF_C, .flags = SYN, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .prepare = other_isn, .afterwards = still_connected},
	/* the nodes' side */
	{"a SNAT port that nobody has is the kernel's", NOTHING, true, ACK, LEFT(UNKNOWN)},
	{"a SYN from a node to a SNAT port too", NOTHING, true, SYN, LEFT(UNKNOWN)},
	{"another host cannot speak for the node", OPEN, true, ACK | PSH, 20, LEFT(UNKNOWN), .prepare = from_spoofed_node},
	{"a port below the SNAT range is not looked at", OPEN, true, ACK, UNTOUCHED, .prepare = snat_port_before_range},
	{"nor one above it", OPEN, true, ACK, UNTOUCHED, .prepare = snat_port_after_range},
	/* headers that are not right, or not ours */
	{"cut in the IP header", TO_PERSONA, LEFT(BAD_PACKET), .spoil = cut_in_ip, .xdp_only = true},
	{"cut in the TCP header", TO_PERSONA, LEFT(BAD_PACKET), .spoil = cut_in_tcp},
	{"IP says longer than the frame is", TO_PERSONA, LEFT(BAD_PACKET), .spoil = says_longer_than_it_is},
	{"IP says shorter than the headers", TO_PERSONA, LEFT(BAD_PACKET), .spoil = says_shorter_than_headers},
	{"a TCP data offset of 4", TO_PERSONA, LEFT(BAD_PACKET), .spoil = data_offset_4},
	{"a TCP data offset beyond the segment", TO_PERSONA, LEFT(BAD_PACKET), .spoil = data_offset_15},
	{"another IP version in the header", TO_PERSONA, LEFT(BAD_PACKET), .spoil = version_5},
	{"a first fragment", TO_PERSONA, LEFT(FRAGMENT), .spoil = fragment_first, .only = 4},
	{"a later fragment", OPEN, .flags = ACK, LEFT(FRAGMENT), .spoil = fragment_later, .only = 4},
	{"a fragment header", TO_PERSONA, LEFT(FRAGMENT), .spoil = ext_fragment, .only = 6},
	{"IP options", TO_PERSONA, .payload = 8, LEFT(OPTIONS), .spoil = ihl_6, .only = 4},
	{"an IP header length of 4", TO_PERSONA, LEFT(BAD_PACKET), .spoil = ihl_4, .only = 4},
	{"a hop-by-hop header", TO_PERSONA, LEFT(OPTIONS), .spoil = ext_hop_by_hop, .only = 6},
	{"a destination options header", TO_PERSONA, LEFT(OPTIONS), .spoil = ext_destination, .only = 6},
	{"a routing header", TO_PERSONA, LEFT(OPTIONS), .spoil = ext_routing, .only = 6},
	{"UDP is not touched", TO_PERSONA, UNTOUCHED, .spoil = proto_udp},
	{"ICMP is not touched", TO_PERSONA, UNTOUCHED, .spoil = proto_icmp},
	{"ARP is not touched", TO_PERSONA, UNTOUCHED, .spoil = arp},
	{"a VLAN tag is not touched", TO_PERSONA, UNTOUCHED, .spoil = vlan},
	{"two tags neither", TO_PERSONA, UNTOUCHED, .spoil = qinq},
	{"an Ethernet trailer is not payload", OPEN, .flags = ACK, .act = RIG_SEND, .counters = {COUNT(TO_NODE)}, .spoil = padded, .prepare = idle_before, .afterwards = busy_0},
};
/* clang-format on */

static void run_everywhere(void **state)
{
	const struct row *row = *state;

	for (int hook = 0; hook < RIG_HOOKS; hook++)
		for (int v6 = 0; v6 < 2; v6++)
			if ((!row->only || row->only == (v6 ? 6 : 4)) &&
			    (hook == RIG_XDP || !row->xdp_only))
				run_row(row, (enum rig_hook)hook, v6);
}

static int setup(void **state)
{
	(void)state;
	the_rig = rig_new();
	return the_rig ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	rig_free(the_rig);
	return 0;
}

int main(void)
{
	static struct CMUnitTest tests[sizeof(rows) / sizeof(rows[0])];
	const size_t n = sizeof(rows) / sizeof(rows[0]);

	for (size_t i = 0; i < n; i++) {
		tests[i].name = rows[i].sentence;
		tests[i].test_func = run_everywhere;
		tests[i].initial_state = (void *)(uintptr_t)&rows[i];
	}
	return _cmocka_run_group_tests("packets", tests, n, setup, teardown);
}
