/* SPDX-License-Identifier: MIT */
/* Whose slot is whose, on plain memory; and the hop's way of being written. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "datapath/choice.h"
#include "datapath/slots.h"

struct fixture {
	struct mg_node *nodes;
	struct slots slots;
	struct plan plan;
	uint16_t *slot_of;
	size_t given;
};

static int up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->nodes = calloc(MG_SLOTS, sizeof(*f->nodes));
	f->plan.endpoints = calloc(MG_SLOTS, sizeof(*f->plan.endpoints));
	f->slot_of = calloc(MG_SLOTS, sizeof(*f->slot_of));
	assert_int_equal(slots_init(&f->slots, f->nodes), 0);
	*state = f;
	return 0;
}

static int down(void **state)
{
	struct fixture *f = *state;

	slots_fini(&f->slots);
	free(f->plan.endpoints);
	free(f->slot_of);
	free(f->nodes);
	free(f);
	return 0;
}

static void endpoint(struct fixture *f, size_t i, const char *node, const char *address,
		     uint16_t port)
{
	struct plan_endpoint *e = &f->plan.endpoints[i];

	memset(e, 0, sizeof(*e));
	snprintf(e->node, sizeof(e->node), "%s", node);
	snprintf(e->service, sizeof(e->service), "llm");
	assert_int_equal(addr_parse(&e->addr, address), 0);
	e->port = port;
	e->state = MG_NODE_UP;
	e->weight = 100;
	if (i >= f->plan.n_endpoints)
		f->plan.n_endpoints = i + 1;
}

static void note_given(uint32_t slot, void *arg)
{
	struct fixture *f = arg;

	assert_int_equal(f->nodes[slot].state, MG_NODE_FREE); /* nobody looks at it yet */
	f->given++;
}

static void publish(struct fixture *f)
{
	assert_int_equal(slots_assign(&f->slots, &f->plan, f->slot_of, note_given, f), 0);
	assert_int_equal(slots_retire(&f->slots, f->slot_of, f->plan.n_endpoints), 0);
}

static void test_slots__zero_is_nobody(void **state)
{
	struct fixture *f = *state;

	endpoint(f, 0, "a", "10.0.0.1", 1);
	publish(f);
	assert_int_equal(f->slot_of[0], 1);
	assert_int_equal(f->nodes[0].state, MG_NODE_FREE);
	assert_int_equal(f->nodes[1].generation, 1);
}

static void test_slots__owner_is_name_address_and_port(void **state)
{
	struct fixture *f = *state;

	endpoint(f, 0, "a", "10.0.0.1", 1);
	publish(f);
	publish(f);
	assert_int_equal(f->given, 1);
	endpoint(f, 0, "b", "10.0.0.1", 1);
	publish(f);
	assert_int_equal(f->given, 2);
	endpoint(f, 0, "b", "10.0.0.2", 1);
	publish(f);
	assert_int_equal(f->given, 3);
	endpoint(f, 0, "b", "10.0.0.2", 2);
	publish(f);
	assert_int_equal(f->given, 4);
	assert_int_equal(f->slots.used, 4);
}

static void test_slots__order_of_the_plan_does_not_matter(void **state)
{
	struct fixture *f = *state;
	uint16_t a, b;

	endpoint(f, 0, "a", "10.0.0.1", 1);
	endpoint(f, 1, "b", "10.0.0.2", 1);
	publish(f);
	a = f->slot_of[0];
	b = f->slot_of[1];
	endpoint(f, 0, "b", "10.0.0.2", 1);
	endpoint(f, 1, "a", "10.0.0.1", 1);
	publish(f);
	assert_int_equal(f->slot_of[0], b);
	assert_int_equal(f->slot_of[1], a);
}

static void test_slots__a_restarted_controller_finds_them(void **state)
{
	struct fixture *f = *state;

	endpoint(f, 0, "a", "10.0.0.1", 1);
	endpoint(f, 1, "b", "fd00::2", 1);
	publish(f);
	slots_fini(&f->slots);
	assert_int_equal(slots_init(&f->slots, f->nodes), 0);
	assert_int_equal(f->slots.used, 2);
	f->given = 0;
	publish(f);
	assert_int_equal(f->given, 0);
	assert_int_equal(f->slot_of[1], 2);
}

static void test_slots__gone_until_its_connections_end(void **state)
{
	struct fixture *f = *state;

	endpoint(f, 0, "a", "10.0.0.1", 1);
	publish(f);
	f->nodes[1].connections = 1;
	f->plan.n_endpoints = 0;
	publish(f);
	assert_int_equal(f->nodes[1].state, MG_NODE_GONE);
	for (int i = 0; i < 5; i++)
		assert_int_equal(slots_release(&f->slots), 0);
	f->nodes[1].connections = 0;
	f->nodes[1].embryos = 1;
	for (int i = 0; i < 5; i++)
		assert_int_equal(slots_release(&f->slots), 0);
	f->nodes[1].embryos = 0;
	assert_int_equal(slots_release(&f->slots), 0);
	assert_int_equal(slots_release(&f->slots), 1);
	assert_int_equal(f->nodes[1].state, MG_NODE_FREE);
	assert_int_equal(f->slots.used, 0);
	endpoint(f, 0, "b", "10.0.0.9", 1);
	publish(f);
	assert_int_equal(f->slot_of[0], 1);
	assert_int_equal(f->nodes[1].generation, 2); /* who held on to it is told apart */
}

static void test_slots__coming_back_while_gone_keeps_the_slot(void **state)
{
	struct fixture *f = *state;

	endpoint(f, 0, "a", "10.0.0.1", 1);
	publish(f);
	f->plan.n_endpoints = 0;
	publish(f);
	slots_release(&f->slots);
	endpoint(f, 0, "a", "10.0.0.1", 1);
	publish(f);
	assert_int_equal(f->nodes[1].state, MG_NODE_UP);
	assert_int_equal(f->nodes[1].generation, 1);
	assert_int_equal(slots_release(&f->slots), 0);
	assert_int_equal(slots_release(&f->slots), 0);
}

static void test_slots__a_new_owner_inherits_nothing(void **state)
{
	struct fixture *f = *state;
	struct mg_node *node = &f->nodes[1];

	memset(node, 0xff, sizeof(*node)); /* what the last one left */
	node->state = MG_NODE_FREE;
	node->generation = 41;
	node->ports = 7;
	endpoint(f, 0, "a", "10.0.0.1", 1);
	f->plan.endpoints[0].capacity = 3;
	publish(f);
	assert_string_equal(node->name, "a/llm");
	assert_int_equal(node->generation, 42);
	assert_int_equal(node->connections + node->busy + node->embryos + node->relayed, 0);
	assert_int_equal(node->connects, 0);
	assert_int_equal(node->hop.ifindex, 0);
	assert_int_equal(node->capacity, 3);
	assert_int_equal(node->ports, 7); /* the order of SNAT ports goes on */
}

static void test_slots__too_many_changes_nothing(void **state)
{
	struct fixture *f = *state;
	char name[16];

	for (uint32_t i = 1; i < MG_SLOTS; i++)
		f->nodes[i].state = MG_NODE_GONE;
	f->nodes[9].state = MG_NODE_FREE;
	slots_fini(&f->slots);
	assert_int_equal(slots_init(&f->slots, f->nodes), 0);
	for (size_t i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "n%zu", i);
		endpoint(f, i, name, "10.0.0.1", 1);
	}
	assert_int_equal(slots_assign(&f->slots, &f->plan, f->slot_of, note_given, f), -ENOSPC);
	assert_int_equal(f->given, 0);
	assert_int_equal(f->nodes[9].state, MG_NODE_FREE);
	f->plan.n_endpoints = 1;
	publish(f);
	assert_int_equal(f->slot_of[0], 9);
}

static void test_hop__is_set_changed_and_taken_away(void **state)
{
	struct fixture *f = *state;
	struct mg_node *node = &f->nodes[1];
	struct mg_hop hop = {{1, 2, 3, 4, 5, 6}, {7, 8, 9, 10, 11, 12}, 5}, none = {.ifindex = 0};
	uint8_t snat[16] = {[15] = 9}, other[16] = {[15] = 8};

	slots_set_hop(node, &hop, snat);
	assert_memory_equal(&node->hop, &hop, sizeof(hop));
	assert_memory_equal(node->snat, snat, sizeof(snat));
	slots_set_hop(node, &hop, other);
	assert_memory_equal(&node->hop, &hop, sizeof(hop));
	assert_memory_equal(node->snat, other, sizeof(other));
	slots_set_hop(node, &none, node->snat);
	assert_int_equal(node->hop.ifindex, 0);
	assert_memory_equal(node->snat, other,
			    sizeof(other)); /* established flows go on with theirs */
}

static void test_choice__native_xdp_only_where_it_is_known_to_be_safe(void **state)
{
	(void)state;
	assert_null(choice_against_xdp("ixgbe"));
	assert_null(choice_against_xdp("mlx5_core"));
	assert_non_null(choice_against_xdp("veth"));
	assert_non_null(choice_against_xdp("virtio_net"));
	assert_non_null(choice_against_xdp("r8169"));
	assert_non_null(choice_against_xdp(""));
	assert_non_null(choice_against_xdp("ixgbevf"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_slots__zero_is_nobody),
		TEST(test_slots__owner_is_name_address_and_port),
		TEST(test_slots__order_of_the_plan_does_not_matter),
		TEST(test_slots__a_restarted_controller_finds_them),
		TEST(test_slots__gone_until_its_connections_end),
		TEST(test_slots__coming_back_while_gone_keeps_the_slot),
		TEST(test_slots__a_new_owner_inherits_nothing),
		TEST(test_slots__too_many_changes_nothing),
		TEST(test_hop__is_set_changed_and_taken_away),
		TEST(test_choice__native_xdp_only_where_it_is_known_to_be_safe),
	};

	return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
