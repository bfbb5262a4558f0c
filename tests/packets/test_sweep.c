// SPDX-License-Identifier: MIT
/* The sweep: expiry, busy and idle, lost halves, and counts set right, on tables that packets have
 * filled. */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "packets/rig.h"

#define NEVER 1000000u

static struct rig *the_rig;

struct line { /* one connection of the tests */
	struct endpoint client, gateway, node, snat;
	struct mg_tuple client_key, node_key;
	unsigned slot;
};

static void say(struct line *line, bool from_node, uint8_t flags, size_t payload)
{
	struct packet packet = {.from = from_node ? line->node : line->client,
				.to = from_node ? line->snat : line->gateway,
				.ttl = 64,
				.flags = flags,
				.seq = from_node ? 7001 : 1001,
				.ack = from_node ? 1001 : 7001,
				.n_payload = payload};
	struct rig_result result;
	uint8_t frame[FRAME_MAX], daddr[16];

	if (flags & SYN)
		packet.seq--;
	rig_run(the_rig, RIG_TC, !from_node, frame, packet_build(&packet, frame), &result);
	assert_int_equal(result.act, RIG_SEND);
	if (flags != SYN)
		return;
	line->slot = packet_daddr(result.frame, daddr)[15] - 10u;
	line->node = rig_node_end(false, line->slot);
	line->snat = rig_snat_end(false, packet_sport(result.frame));
	line->client_key = rig_tuple(&line->client, &line->gateway);
	line->node_key = rig_tuple(&line->node, &line->snat);
}

static struct line line_new(uint16_t port)
{
	struct line line = {.client = rig_client(false), .gateway = rig_gateway(false)};

	line.client.port = port;
	return line;
}

static struct line line_open(uint16_t port)
{
	struct line line = line_new(port);

	say(&line, false, SYN, 0);
	say(&line, true, SYN | ACK, 0);
	say(&line, false, ACK, 0);
	return line;
}

/* Makes a half look `ticks` jiffies older than it is. */
static void age(const struct mg_tuple *key, uint32_t ticks)
{
	struct mg_flow flow;

	assert_true(rig_flow(the_rig, key, &flow));
	flow.seen -= ticks;
	flow.data -= ticks;
	rig_put_flow(the_rig, key, &flow);
}

static void age_both(const struct line *line, uint32_t ticks)
{
	age(&line->client_key, ticks);
	age(&line->node_key, ticks);
}

static int fresh(void **state)
{
	(void)state;
	rig_reset(the_rig, false);
	return 0;
}

static void test_sweep__keeps_what_is_in_use(void **state)
{
	struct mg_sweep out;

	(void)state;
	line_open(1);
	line_open(2);
	rig_sweep(the_rig, 100, 10, 10, &out);
	assert_int_equal(out.flows, 2);
	assert_int_equal(out.expired, 0);
	assert_int_equal(rig_flows(the_rig), 4);
	assert_int_equal(rig_node(the_rig, 1)->connections, 2);
}

static void test_sweep__forgets_what_is_silent_both_ways(void **state)
{
	struct line line = line_open(1);
	struct mg_sweep out;

	(void)state;
	age_both(&line, 500);
	rig_sweep(the_rig, 400, 10, 10, &out);
	rig_sweep(the_rig, 400, 10, 10,
		  &out); /* the other half goes with the second walk at the latest */
	assert_int_equal(rig_flows(the_rig), 0);
	assert_int_equal(rig_node(the_rig, 1)->connections, 0);
	assert_int_equal(rig_count(the_rig, MG_R_EXPIRED), 1);
}

static void test_sweep__keeps_what_is_silent_one_way(void **state)
{
	struct line line = line_open(1);
	struct mg_sweep out;

	(void)state;
	age(&line.client_key, 500); /* a passive reader: only the node speaks */
	rig_sweep(the_rig, 400, 10, 10, &out);
	assert_int_equal(rig_flows(the_rig), 2);
}

static void test_sweep__closed_connections_go_after_their_linger(void **state)
{
	struct line line = line_open(1), half = line_open(2);
	struct mg_sweep out;

	(void)state;
	say(&line, false, FIN | ACK, 0);
	say(&line, true, FIN | ACK, 0);
	say(&half, false, FIN | ACK, 0);
	age_both(&line, 50);
	age_both(&half, 50);
	rig_sweep(the_rig, NEVER, 40, NEVER, &out);
	rig_sweep(the_rig, NEVER, 40, NEVER, &out);
	assert_int_equal(rig_flows(the_rig), 2); /* half-closed stays */
	assert_true(rig_flow(the_rig, &half.client_key, &(struct mg_flow){0}));
	assert_int_equal(rig_node(the_rig, 1)->connections, 1);
}

static void test_sweep__embryos_expire(void **state)
{
	struct line line = line_new(1);
	struct mg_sweep out;

	(void)state;
	say(&line, false, SYN, 0);
	rig_sweep(the_rig, NEVER, NEVER, NEVER, &out);
	assert_int_equal(out.embryos, 1);
	assert_int_equal(rig_node(the_rig, 1)->embryos, 1);
	usleep(1000000 / rig_hz() * 4);
	rig_sweep(the_rig, NEVER, NEVER, 1, &out);
	assert_int_equal(out.embryos, 0);
	assert_int_equal(rig_embryos(the_rig), 0);
	assert_int_equal(rig_node(the_rig, 1)->embryos, 0);
	assert_int_equal(rig_count(the_rig, MG_R_EMBRYO_EXPIRED), 1);
}

static void test_sweep__sets_wrong_counts_right(void **state)
{
	struct mg_sweep out;

	(void)state;
	line_open(1);
	rig_node(the_rig, 1)->connections = 900;
	rig_node(the_rig, 1)->busy = 900;
	rig_node(the_rig, 1)->embryos = 900;
	rig_node(the_rig, 2)->connections = 900;
	rig_sweep(the_rig, NEVER, NEVER, NEVER, &out);
	assert_int_equal(rig_node(the_rig, 1)->connections, 1);
	assert_int_equal(rig_node(the_rig, 1)->busy, 1);
	assert_int_equal(rig_node(the_rig, 1)->embryos, 0);
	assert_int_equal(rig_node(the_rig, 2)->connections, 0);
}

static void test_sweep__busy_until_the_answer_falls_silent(void **state)
{
	struct line line = line_open(1);
	uint32_t idle = rig_hz() * MG_IDLE_MS_DEFAULT / 1000;
	struct mg_node *node = rig_node(the_rig, 1);
	struct mg_sweep out;

	(void)state;
	say(&line, false, ACK | PSH, 100);
	age(&line.client_key, 4 * idle);
	age(&line.node_key, 5 * idle); /* not answered yet, however long it takes */
	rig_sweep(the_rig, NEVER, NEVER, NEVER, &out);
	assert_int_equal(node->busy, 1);
	say(&line, true, ACK | PSH, 100);
	rig_sweep(the_rig, NEVER, NEVER, NEVER, &out);
	assert_int_equal(node->busy, 1); /* the answer runs */
	age(&line.node_key, idle + idle / 2);
	rig_sweep(the_rig, NEVER, NEVER, NEVER, &out);
	assert_int_equal(node->busy, 0);
	assert_int_equal(node->connections, 1);
	say(&line, false, ACK | PSH, 100); /* the next question on the same connection */
	assert_int_equal(node->busy, 1);
}

static void test_sweep__a_place_is_kept_for_the_first_question(void **state)
{
	struct line line = line_open(1);
	uint32_t idle = rig_hz() * MG_IDLE_MS_DEFAULT / 1000;
	struct mg_node *node = rig_node(the_rig, 1);
	struct mg_sweep out;

	(void)state;
	rig_sweep(the_rig, NEVER, NEVER, NEVER, &out);
	assert_int_equal(node->busy, 1);
	age_both(&line, idle + idle / 2); /* a pool of idle connections does not fill a node */
	rig_sweep(the_rig, NEVER, NEVER, NEVER, &out);
	assert_int_equal(node->busy, 0);
	assert_int_equal(node->connections, 1);
}

static void test_sweep__mends_a_lost_half(void **state)
{
	struct line line = line_open(1);
	struct mg_sweep out;

	(void)state;
	rig_delete_flow(the_rig, &line.node_key);
	rig_sweep(the_rig, NEVER, NEVER, NEVER, &out);
	say(&line, true, ACK | PSH, 10);
	assert_int_equal(rig_flows(the_rig), 2);
}

static void test_sweep__removes_a_half_without_owner(void **state)
{
	struct line line = line_open(1);
	struct mg_sweep out;

	(void)state;
	rig_delete_flow(the_rig, &line.client_key);
	rig_sweep(the_rig, NEVER, NEVER, NEVER, &out);
	assert_int_equal(rig_flows(the_rig), 0);
	assert_int_equal(rig_node(the_rig, 1)->connections, 0);
}

static void test_sweep__does_not_count_for_a_slots_next_owner(void **state)
{
	struct mg_sweep out;

	(void)state;
	line_open(1);
	rig_node(the_rig, 1)->generation++;
	rig_sweep(the_rig, NEVER, NEVER, NEVER, &out);
	assert_int_equal(rig_node(the_rig, 1)->connections, 0);
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
		cmocka_unit_test_setup(test_sweep__keeps_what_is_in_use, fresh),
		cmocka_unit_test_setup(test_sweep__forgets_what_is_silent_both_ways, fresh),
		cmocka_unit_test_setup(test_sweep__keeps_what_is_silent_one_way, fresh),
		cmocka_unit_test_setup(test_sweep__closed_connections_go_after_their_linger, fresh),
		cmocka_unit_test_setup(test_sweep__embryos_expire, fresh),
		cmocka_unit_test_setup(test_sweep__sets_wrong_counts_right, fresh),
		cmocka_unit_test_setup(test_sweep__busy_until_the_answer_falls_silent, fresh),
		cmocka_unit_test_setup(test_sweep__a_place_is_kept_for_the_first_question, fresh),
		cmocka_unit_test_setup(test_sweep__mends_a_lost_half, fresh),
		cmocka_unit_test_setup(test_sweep__removes_a_half_without_owner, fresh),
		cmocka_unit_test_setup(test_sweep__does_not_count_for_a_slots_next_owner, fresh),
	};

	return cmocka_run_group_tests_name("sweep", tests, setup, teardown);
}
