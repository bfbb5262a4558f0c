/* SPDX-License-Identifier: MIT */
/* Lines of those who wait. Time is an argument. */
#include "farm.h"
#include "proxy/wait.h"

struct guest {
	struct waiter wait;
	unsigned late;
	struct guest *stops;  /* whose waiting it ends when it is late itself */
	struct wait_line *to; /* where it waits next, once, from `again_ms` on */
	uint64_t again_ms;
};

static char called[64]; /* who was late, in order */
static struct guest guests[8];

static void on_late(struct waiter *wait)
{
	struct guest *guest = (struct guest *)(void *)wait;
	size_t len = strlen(called);

	assert_null(wait->line); /* it waits no more */
	guest->late++;
	assert_true(len + 1 < sizeof(called));
	called[len] = (char)('a' + (guest - guests));
	if (guest->stops)
		wait_stop(&guest->stops->wait);
	if (guest->to)
		wait_start(wait, guest->to, guest->again_ms);
	guest->to = NULL;
}

static int set_up(void **state)
{
	(void)state;
	memset(called, 0, sizeof(called));
	memset(guests, 0, sizeof(guests));
	return 0;
}

static void expect(struct wait_line *line, uint64_t now_ms, const char *who)
{
	memset(called, 0, sizeof(called));
	wait_line_tick(line, now_ms);
	assert_string_equal(called, who);
}

static void test_wait__in_the_order_in_which_they_came(void **state)
{
	struct wait_line line;

	(void)state;
	wait_line_init(&line, 100, on_late);
	expect(&line, 1000, "");
	wait_start(&guests[1].wait, &line, 1000);
	wait_start(&guests[0].wait, &line, 1000);
	wait_start(&guests[2].wait, &line, 1050);
	expect(&line, 1099, "");
	expect(&line, 1100, "ba");
	expect(&line, 1149, "");
	expect(&line, 9999, "c");
	expect(&line, 9999, "");
}

static void test_wait__from_the_beginning_again(void **state)
{
	struct wait_line line;

	(void)state;
	wait_line_init(&line, 100, on_late);
	wait_start(&guests[0].wait, &line, 0);
	wait_start(&guests[1].wait, &line, 10);
	wait_start(&guests[0].wait, &line, 20);
	expect(&line, 110, "b");
	expect(&line, 119, "");
	expect(&line, 120, "a");
}

static void test_wait__who_stops_is_not_called(void **state)
{
	struct wait_line line;

	(void)state;
	wait_line_init(&line, 100, on_late);
	for (size_t i = 0; i < 4; i++)
		wait_start(&guests[i].wait, &line, i);
	wait_stop(&guests[0].wait); /* the first, one in the middle, the last */
	wait_stop(&guests[2].wait);
	wait_stop(&guests[3].wait);
	wait_stop(&guests[3].wait); /* twice, and one who never waited */
	wait_stop(&guests[7].wait);
	expect(&line, 200, "b");
	wait_start(&guests[0].wait, &line, 200); /* an empty line is as good as new */
	expect(&line, 300, "a");
}

static void test_wait__in_one_line_at_a_time(void **state)
{
	struct wait_line slow, quick;

	(void)state;
	wait_line_init(&slow, 1000, on_late);
	wait_line_init(&quick, 10, on_late);
	wait_start(&guests[0].wait, &slow, 0);
	wait_start(&guests[0].wait, &quick, 0);
	assert_ptr_equal(guests[0].wait.line, &quick);
	expect(&slow, 5000, "");
	expect(&quick, 10, "a");
}

/* The line's time can change, by a reload: who came before keeps his. */
static void test_wait__a_line_made_shorter(void **state)
{
	struct wait_line line;

	(void)state;
	wait_line_init(&line, 1000, on_late);
	wait_start(&guests[0].wait, &line, 0);	 /* due 1000 */
	wait_start(&guests[1].wait, &line, 500); /* due 1500 */
	line.ms = 100;
	wait_start(&guests[2].wait, &line, 600); /* due 700: in front */
	wait_start(&guests[3].wait, &line, 950); /* due 1050: between */
	wait_start(&guests[4].wait, &line, 950); /* and behind its equal */
	wait_start(&guests[5].wait, &line, 1450);
	expect(&line, 699, "");
	expect(&line, 700, "c");
	expect(&line, 1049, "a");
	expect(&line, 1050, "de");
	line.ms = 1000;
	wait_start(&guests[6].wait, &line, 600);
	expect(&line, 1549, "b");
	expect(&line, 1600, "fg");
}

static void test_wait__stopping_another_one_when_late(void **state)
{
	struct wait_line line;

	(void)state;
	wait_line_init(&line, 100, on_late);
	for (size_t i = 0; i < 5; i++)
		wait_start(&guests[i].wait, &line, 0);
	guests[0].stops = &guests[1]; /* the next one */
	guests[2].stops = &guests[4]; /* the last one */
	guests[3].stops = &guests[0]; /* one who is through already */
	expect(&line, 100, "acd");
	expect(&line, 1000, "");
}

static void test_wait__starting_anew_when_late(void **state)
{
	struct wait_line line, other;

	(void)state;
	wait_line_init(&line, 100, on_late);
	wait_line_init(&other, 50, on_late);
	guests[0].to = &line;
	guests[0].again_ms = 130;
	guests[1].to = &other;
	guests[1].again_ms = 130;
	for (size_t i = 0; i < 3; i++)
		wait_start(&guests[i].wait, &line, 0);
	expect(&line, 130, "abc"); /* each once */
	expect(&other, 179, "");
	expect(&other, 180, "b");
	expect(&line, 229, "");
	expect(&line, 230, "a");
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_wait__in_the_order_in_which_they_came),
		TEST(test_wait__from_the_beginning_again),
		TEST(test_wait__who_stops_is_not_called),
		TEST(test_wait__in_one_line_at_a_time),
		TEST(test_wait__a_line_made_shorter),
		TEST(test_wait__stopping_another_one_when_late),
		TEST(test_wait__starting_anew_when_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
