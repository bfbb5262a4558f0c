// SPDX-License-Identifier: MIT
/*
 * Checksums over random headers, and the kernel's choice against userspace's. The random numbers
 * are the same each run.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "packets/rig.h"
#include "megalith/pick.h"

static inline __attribute__((always_inline)) const struct mg_node *pick_node(const void *nodes,
									     __u32 slot)
{
	return slot < MG_SLOTS ? (const struct mg_node *)nodes + slot : NULL;
}

static struct rig *the_rig;
static uint64_t seed = 0x9e3779b97f4a7c15;

static uint32_t roll(void) /* xorshift64* */
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (uint32_t)((seed * 0x2545f4914f6cdd1dULL) >> 32);
}

static void roll_bytes(uint8_t *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		at[i] = (uint8_t)roll();
}

/* Extreme bytes often: sums that become 0x0000 or 0xffff hide there. */
static void roll_address(uint8_t addr[16], bool v6)
{
	size_t from = v6 ? 1 : 12;

	for (size_t i = from; i < 16; i++)
		addr[i] = roll() & 1 ? (uint8_t)roll() : (uint8_t)(roll() & 1 ? 0 : 0xff);
}

static void roll_packet(struct packet *packet, bool v6)
{
	*packet = (struct packet){.v6 = v6, .from = rig_client(v6), .to = rig_gateway(v6)};
	roll_address(packet->from.addr, v6);
	packet->from.port = (uint16_t)roll();
	packet->ttl = (uint8_t)(2 + roll() % 254);
	packet->tos = (uint8_t)roll();
	packet->id = (uint16_t)roll();
	packet->df = roll() & 1;
	packet->seq = roll();
	packet->flags = SYN;
	packet->window = (uint16_t)roll();
	packet->n_options = roll() % 11 * 4;
	roll_bytes(packet->options, packet->n_options);
	packet->n_payload = roll() % 64;
	roll_bytes(packet->payload, packet->n_payload);
}

/* A SYN with random headers, and the answer of the node it reached, both with right sums. */
static void one_round(enum rig_hook hook, bool v6)
{
	struct rig_result result;
	struct packet packet;
	uint8_t frame[FRAME_MAX];
	size_t len;

	roll_packet(&packet, v6);
	len = packet_build(&packet, frame);
	rig_run(the_rig, hook, true, frame, len, &result);
	assert_int_equal(result.act, RIG_SEND);
	assert_true(packet_sums_right(result.frame, result.len));
	packet.to = packet.from;
	packet.from = rig_node_end(v6, 1);
	packet.to = rig_snat_end(v6, packet_sport(result.frame));
	packet.flags = SYN | ACK;
	roll_bytes(packet.payload, packet.n_payload);
	len = packet_build(&packet, frame);
	rig_run(the_rig, hook, false, frame, len, &result);
	assert_int_equal(result.act, RIG_SEND);
	assert_true(packet_sums_right(result.frame, result.len));
}

#define ROUNDS 13000 /* two packets each, two hooks, two families: 104,000 headers */

static void rounds(enum rig_hook hook)
{
	for (int v6 = 0; v6 < 2; v6++) {
		for (int i = 0; i < ROUNDS; i++) {
			if (i % 32 == 0) /* fewer handshakes at once than there are ports */
				rig_reset(the_rig, v6);
			one_round(hook, v6);
		}
	}
}

static void test_random__checksums_of_52000_headers_on_xdp(void **state)
{
	(void)state;
	rounds(RIG_XDP);
}

static void test_random__checksums_of_52000_headers_on_tc(void **state)
{
	(void)state;
	rounds(RIG_TC);
}

static void roll_row(struct mg_row *row)
{
	uint16_t at = 0;

	*row = (struct mg_row){.tiers = (uint8_t)(1 + roll() % MG_TIERS_MAX)};
	for (int t = 0; t < row->tiers; t++) {
		uint16_t n = (uint16_t)(roll() % (roll() % 4 ? 4 : 24));

		if (at + n > MG_ROW_INLINE)
			n = (uint16_t)(MG_ROW_INLINE - at);
		for (uint16_t i = 0; i < n; i++)
			row->node[at++] = (uint16_t)(roll() % (RIG_SLOTS +
							       2)); /* nobody and a free slot too */
		row->tier_end[t] = at;
	}
	row->count = at;
}

static void roll_nodes(void)
{
	for (unsigned slot = 1; slot <= RIG_SLOTS; slot++) {
		struct mg_node *node = rig_node(the_rig, slot);

		node->state = roll() % 3 ? MG_NODE_UP : (uint8_t)(roll() % 5);
		node->weight = roll() % 4 ? roll() % 4 * 50 : roll() % 1001;
		node->capacity = roll() % 2 ? roll() % 5 : 0;
		node->busy = roll() % 4;
		node->embryos = roll() % 3;
		node->relayed = roll() % 2;
		node->connections = roll() % 3;
		node->hop.ifindex = roll() % 8 ? rig_ifindex(the_rig, false) : 0;
	}
}

/* The kernel's choice, by the address its packet goes to; 0 when the SYN is left to the kernel. */
static unsigned kernel_choice(enum rig_hook hook, struct mg_tuple *key)
{
	struct rig_result result;
	struct packet packet;
	uint8_t frame[FRAME_MAX], daddr[16];
	size_t len;

	roll_packet(&packet, false);
	len = packet_build(&packet, frame);
	memcpy(key->saddr, packet.from.addr, 16);
	memcpy(key->daddr, packet.to.addr, 16);
	key->sport_be = htons(packet.from.port);
	key->dport_be = htons(packet.to.port);
	rig_run(the_rig, hook, true, frame, len, &result);
	return result.act == RIG_SEND ? packet_daddr(result.frame, daddr)[15] - 10u : 0;
}

static void test_pick__kernel_and_userspace_agree_on_10000_rows(void **state)
{
	static struct mg_node nodes[RIG_SLOTS + 2];
	unsigned chosen = 0;

	(void)state;
	for (int i = 0; i < 10000; i++) {
		struct pick_walk walk;
		struct mg_tuple key;
		struct mg_row row;
		struct pick pick;
		unsigned slot;

		rig_reset(the_rig, false);
		roll_nodes();
		roll_row(&row);
		rig_row(the_rig, false, &row);
		memcpy(nodes, rig_node(the_rig, 0), sizeof(nodes));
		slot = kernel_choice(i & 1 ? RIG_XDP : RIG_TC, &key);
		pick = pick_row(&row, row.node, MG_ROW_INLINE, nodes, pick_hash(&key, RIG_HASH_KEY),
				1, 0, &walk);
		assert_int_equal(slot, pick.slot);
		chosen += slot != 0;
	}
	assert_in_range(chosen, 2000, 9990); /* both outcomes were tried */
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
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random__checksums_of_52000_headers_on_xdp),
		cmocka_unit_test(test_random__checksums_of_52000_headers_on_tc),
		cmocka_unit_test(test_pick__kernel_and_userspace_agree_on_10000_rows),
	};

	return cmocka_run_group_tests_name("random", tests, setup, teardown);
}
