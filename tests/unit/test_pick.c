/* SPDX-License-Identifier: MIT */
/*
 * include/megalith/pick.h, the one place that decides. A row of a table is the candidates of up to
 * four tiers as text, and who may be taken; it holds for every hash unless it names several.
 */
#include "farm.h"
#include "megalith/abi.h"
#include "megalith/pick.h"

#define SLOTS  2048
#define HASHES 500

static inline __attribute__((always_inline)) const struct mg_node *pick_node(const void *nodes,
									     __u32 slot)
{
	return slot < SLOTS ? &((const struct mg_node *)nodes)[slot] : NULL;
}

struct scene {
	struct mg_node nodes[SLOTS];
	struct mg_row row;
	__u16 list[MG_ROW_MAX];
	int hops;
	__u32 avoid;
};

static struct pick choose_for(const struct scene *scene, __u32 hash)
{
	struct pick_walk walk;

	memset(&walk, 0xa5, sizeof(walk)); /* what it held before means nothing */
	return pick_row(&scene->row, scene->list, MG_ROW_MAX, scene->nodes, hash, scene->hops,
			scene->avoid, &walk);
}

static struct mg_node *add_node(struct scene *scene, __u32 weight, __u32 busy, __u32 capacity)
{
	__u16 slot = (__u16)(scene->row.count + 1);
	struct mg_node *node = &scene->nodes[slot];

	memset(node, 0, sizeof(*node));
	node->state = MG_NODE_UP;
	node->weight = weight;
	node->busy = busy;
	node->capacity = capacity;
	node->hop.ifindex = 1;
	scene->list[scene->row.count++] = slot;
	return node;
}

static void end_tier(struct scene *scene)
{
	scene->row.tier_end[scene->row.tiers++] = scene->row.count;
}

static void set_state(struct mg_node *node, char word)
{
	switch (word) {
	case 'D':
		node->state = MG_NODE_DOWN;
		break;
	case 'R':
		node->state = MG_NODE_DRAIN;
		break;
	case 'G':
		node->state = MG_NODE_GONE;
		break;
	case 'F':
		node->state = MG_NODE_FREE;
		break;
	case 'H':
		node->hop.ifindex = 0;
		break;
	default:
		node->state = MG_NODE_UP;
	}
}

/*
 * "STATE weight busy/capacity [cCONNECTIONS] [eEMBRYOS] [lRELAYED]", candidates parted by ",",
 * tiers by "|". States: U up, D down, R draining, G gone, F free slot, H up but without a
 * link-layer address.
 */
static void read_candidate(struct scene *scene, const char *text)
{
	unsigned weight, busy, capacity, n;
	struct mg_node *node;
	char word, kind;
	int used = 0;

	if (sscanf(text, " %c %u %u/%u%n", &word, &weight, &busy, &capacity, &used) != 4)
		fail_msg("bad candidate: %s", text);
	node = add_node(scene, weight, busy, capacity);
	set_state(node, word);
	for (text += used; sscanf(text, " %c%u%n", &kind, &n, &used) == 2; text += used) {
		if (kind == 'c')
			node->connections = n;
		else if (kind == 'e')
			node->embryos = n;
		else
			node->relayed = n;
	}
}

static void read_tier(struct scene *scene, char *text)
{
	char *save = NULL;

	for (char *t = strtok_r(text, ",", &save); t; t = strtok_r(NULL, ",", &save))
		read_candidate(scene, t);
	end_tier(scene);
}

static void read_scene(struct scene *scene, const char *text)
{
	char copy[512], *rest = copy, *tier;

	memset(scene, 0, sizeof(*scene));
	snprintf(copy, sizeof(copy), "%s", text);
	while ((tier = strsep(&rest, "|")) != NULL)
		read_tier(scene, strspn(tier, " ") == strlen(tier) ? strcpy(tier, "") : tier);
}

struct row {
	const char *sentence, *candidates;
	const char *taken; /* slots that are taken, each for some hash: "1 3"; "0": nobody */
	unsigned tier;
	enum { PLAIN, HOPS, AVOID_1 } how; /* as the kernel asks; avoiding slot 1 */
};

static const struct row rows[] = {
	{"a lone node is taken", "U 100 0/2", "1", 0, PLAIN},
	{"nobody there, nobody taken", "", "0", 0, PLAIN},
	{"no tier with anybody", "||", "0", 0, PLAIN},
	{"an idle node before a busy one", "U 100 1/4, U 100 0/4", "2", 0, PLAIN},
	{"the less busy of two", "U 100 3/9, U 100 2/9, U 100 4/9", "2", 0, PLAIN},
	{"twice the weight bears twice the load", "U 200 2/9, U 100 1/9", "1", 0, PLAIN},
	{"and not more than twice", "U 200 4/9, U 100 1/9", "2", 0, PLAIN},
	{"the weight decides between idle nodes", "U 100 0/2, U 101 0/2", "2", 0, PLAIN},
	{"the fewest connections decide between equal loads", "U 100 1/4 c7, U 100 1/4 c6", "2", 0,
	 PLAIN},
	{"load comes before connections", "U 100 0/4 c900, U 100 1/4 c0", "1", 0, PLAIN},
	{"equal fractions are equal: (1+1)/100 and (3+1)/200", "U 100 1/9 c5, U 200 3/9 c4", "2", 0,
	 PLAIN},
	{"further ties are spread", "U 100 0/2, U 100 0/2, U 100 0/2", "1 2 3", 0, PLAIN},
	{"a full node is passed over", "U 1000 2/2, U 1 0/2", "2", 0, PLAIN},
	{"an overfull one too (the capacity was lowered)", "U 100 5/2, U 100 1/2", "2", 0, PLAIN},
	{"capacity 0 is no limit", "U 100 4000000/0", "1", 0, PLAIN},
	{"handshakes fill a node", "U 100 1/2 e1, U 1 0/2", "2", 0, PLAIN},
	{"what the proxy holds fills a node", "U 100 0/2 l2, U 1 0/2", "2", 0, PLAIN},
	{"all three kinds of busy are added", "U 100 1/4 e1 l1, U 100 4/9, U 100 2/9", "3", 0,
	 PLAIN},
	{"handshakes and relayed count as load", "U 100 0/9 e1, U 100 0/9 l1, U 100 0/9 c9", "3", 0,
	 PLAIN},
	{"a node that is down is not taken", "D 1000 0/0, U 1 9/0", "2", 0, PLAIN},
	{"nor one that is draining", "R 1000 0/0, U 1 9/0", "2", 0, PLAIN},
	{"nor one that left", "G 1000 0/0, U 1 9/0", "2", 0, PLAIN},
	{"nor an empty slot", "F 1000 0/0, U 1 9/0", "2", 0, PLAIN},
	{"weight 0 takes nothing", "U 0 0/2, U 1 9/0", "2", 0, PLAIN},
	{"all down: nobody", "D 100 0/2, R 100 0/2, U 0 0/2, U 100 2/2", "0", 0, PLAIN},
	{"the persona itself comes first, however loaded", "U 1 8/9|U 1000 0/9", "1", 0, PLAIN},
	{"full: the cascade takes over", "U 100 2/2|U 100 3/4", "2", 1, PLAIN},
	{"down: the cascade takes over", "D 100 0/2|U 100 3/4, U 100 2/4", "3", 1, PLAIN},
	{"cascades are tried in order", "D 100 0/2|U 100 2/2|U 100 9/0|U 100 0/0", "3", 2, PLAIN},
	{"a tier without anybody is passed", "||U 100 0/2", "1", 2, PLAIN},
	{"all tiers full: nobody", "U 100 2/2|U 100 4/4|U 100 1/1", "0", 0, PLAIN},
	{"the kernel needs a link-layer address", "H 1000 0/2, U 1 1/2", "2", 0, HOPS},
	{"and cascades for the want of one", "H 100 0/2|U 100 0/2", "2", 1, HOPS},
	{"the proxy does not", "H 1000 0/2, U 1 1/2", "1", 0, PLAIN},
	{"one node can be avoided", "U 100 0/2, U 100 1/2", "2", 0, AVOID_1},
	{"the only one avoided: the cascade", "U 100 0/2|U 100 1/2", "2", 1, AVOID_1},
	{"the only one of all avoided: nobody", "U 100 0/2", "0", 0, AVOID_1},
	{"large numbers do not overflow", "U 1000 4294967295/0, U 1 4294966/0", "2", 0, PLAIN},
};

static bool allowed(const char *taken, __u32 slot)
{
	char *end = NULL;

	for (; *taken; taken = *end ? end + 1 : end) {
		if (strtoul(taken, &end, 10) == slot)
			return true;
	}
	return false;
}

static size_t count_words(const char *text)
{
	size_t n = 1;

	for (; *text; text++)
		n += *text == ' ';
	return n;
}

static void check_row(const struct row *row)
{
	bool seen[SLOTS] = {false};
	struct scene *scene = malloc(sizeof(*scene));
	size_t distinct = 0;

	assert_non_null(scene);
	read_scene(scene, row->candidates);
	scene->hops = row->how == HOPS;
	scene->avoid = row->how == AVOID_1;
	for (__u32 i = 0; i < HASHES; i++) {
		struct pick pick = choose_for(scene, i * 2654435761u);

		if (!allowed(row->taken, pick.slot) || (pick.slot && pick.tier != row->tier))
			fail_msg("%s: slot %u of tier %u", row->sentence, pick.slot, pick.tier);
		distinct += !seen[pick.slot];
		seen[pick.slot] = true;
	}
	if (distinct != count_words(row->taken))
		fail_msg("%s: %zu different slots", row->sentence, distinct);
	free(scene);
}

static void test_pick__decides_as_its_table_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++)
		check_row(&rows[i]);
}

static void test_pick__prefers_idle_node(void **state)
{
	const struct row row = {"the only idle one of ten",
				"U 100 1/2, U 100 1/2, U 100 1/2, U 100 1/2, U 100 1/2, U 100 1/2,"
				"U 100 0/2, U 100 1/2, U 100 1/2, U 100 1/2",
				"7", 0, PLAIN};

	(void)state;
	check_row(&row);
}

/* Connections that stay, one after the other: how they lie in the end. */
static void fill(struct scene *scene, unsigned connections)
{
	for (unsigned i = 0; i < connections; i++) {
		struct pick pick = choose_for(scene, i * 2654435761u);

		assert_true(pick.slot > 0);
		scene->nodes[pick.slot].busy++;
		scene->nodes[pick.slot].connections++;
	}
}

static void test_pick__loads_by_weight(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	(void)state;
	assert_non_null(scene);
	add_node(scene, 300, 0, 0);
	add_node(scene, 100, 0, 0);
	add_node(scene, 200, 0, 0);
	end_tier(scene);
	fill(scene, 600);
	assert_in_range(scene->nodes[1].busy, 298, 302);
	assert_in_range(scene->nodes[2].busy, 98, 102);
	assert_in_range(scene->nodes[3].busy, 198, 202);
	free(scene);
}

static void test_pick__fills_a_persona_before_it_cascades(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	struct pick pick;

	(void)state;
	assert_non_null(scene);
	add_node(scene, 100, 0, 2);
	add_node(scene, 100, 0, 2);
	end_tier(scene);
	add_node(scene, 100, 0, 4);
	end_tier(scene);
	fill(scene, 4);
	assert_int_equal(scene->nodes[3].busy, 0);
	fill(scene, 4);
	assert_int_equal(scene->nodes[3].busy, 4);
	pick = choose_for(scene, 0);
	assert_int_equal(pick.slot, 0);
	free(scene);
}

static void test_pick__spreads_ties_evenly(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	unsigned taken[9] = {0};

	(void)state;
	assert_non_null(scene);
	for (unsigned i = 0; i < 8; i++)
		add_node(scene, 100, 0, 0);
	end_tier(scene);
	for (__u32 i = 0; i < 8000; i++)
		taken[choose_for(scene, i * 2654435761u).slot]++;
	for (unsigned i = 1; i <= 8; i++)
		assert_in_range(taken[i], 700, 1300);
	free(scene);
}

/* More candidates than are compared: all of them get their share, and the idle ones most. */
static void test_pick__draws_from_a_large_tier(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	unsigned most = 0, least = UINT32_MAX;

	(void)state;
	assert_non_null(scene);
	for (unsigned i = 0; i < 256; i++)
		add_node(scene, 100, 0, 0);
	end_tier(scene);
	fill(scene, 2560);
	for (unsigned i = 1; i <= 256; i++) {
		most = scene->nodes[i].busy > most ? scene->nodes[i].busy : most;
		least = scene->nodes[i].busy < least ? scene->nodes[i].busy : least;
	}
	assert_true(least >= 7 && most <= 13);
	free(scene);
}

static void test_pick__finds_the_only_one_of_many_with_room(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	(void)state;
	assert_non_null(scene);
	for (unsigned i = 0; i < PICK_TIER; i++)
		add_node(scene, 100, 2, 2);
	end_tier(scene);
	scene->nodes[40].busy = 1;
	for (__u32 i = 0; i < HASHES; i++)
		assert_int_equal(choose_for(scene, i * 2654435761u).slot, 40);
	free(scene);
}

static void test_pick__cascades_from_a_large_full_tier(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));
	struct pick pick;

	(void)state;
	assert_non_null(scene);
	for (unsigned i = 0; i < MG_PERSONA_NODES_MAX; i++)
		add_node(scene, 100, 2, 2);
	end_tier(scene);
	for (unsigned i = 0; i < MG_PERSONA_NODES_MAX; i++)
		add_node(scene, 100, i % 2 ? 0 : 2, 2);
	end_tier(scene);
	pick = choose_for(scene, 0);
	assert_int_not_equal(pick.slot, 0);
	assert_int_equal(pick.tier, 1);
	free(scene);
}

static void test_pick__gives_up_after_its_bound(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	(void)state;
	assert_non_null(scene);
	for (unsigned tier = 0; tier < 3; tier++) {
		for (unsigned i = 0; i < MG_PERSONA_NODES_MAX; i++)
			add_node(scene, 100, 2, 2);
		end_tier(scene);
	}
	add_node(scene, 100, 0, 2);
	end_tier(scene);
	assert_int_equal(choose_for(scene, 0).slot, 0);
	free(scene);
}

static void test_pick__hashes_with_its_key(void **state)
{
	struct mg_tuple a = {.sport_be = 1}, b = {.sport_be = 2};
	unsigned same = 0;

	(void)state;
	assert_int_equal(pick_hash(&a, 5), pick_hash(&a, 5));
	for (__u32 seed = 0; seed < 1000; seed++) {
		same += pick_hash(&a, seed) == pick_hash(&b, seed);
		same += pick_hash(&a, seed) == pick_hash(&a, seed + 1);
	}
	assert_int_equal(same, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pick__decides_as_its_table_says),
		cmocka_unit_test(test_pick__prefers_idle_node),
		cmocka_unit_test(test_pick__loads_by_weight),
		cmocka_unit_test(test_pick__fills_a_persona_before_it_cascades),
		cmocka_unit_test(test_pick__spreads_ties_evenly),
		cmocka_unit_test(test_pick__draws_from_a_large_tier),
		cmocka_unit_test(test_pick__finds_the_only_one_of_many_with_room),
		cmocka_unit_test(test_pick__cascades_from_a_large_full_tier),
		cmocka_unit_test(test_pick__gives_up_after_its_bound),
		cmocka_unit_test(test_pick__hashes_with_its_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
