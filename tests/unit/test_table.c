/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/table.h"

/* What table_print() writes; to be freed. */
static char *printed(const struct table *table, bool colour)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	assert_int_equal(table_print(table, out, colour), 0);
	fclose(out);
	return text;
}

static void check(struct table *table, bool colour, const char *expected)
{
	char *text = printed(table, colour);

	assert_string_equal(text, expected);
	free(text);
	table_fini(table);
}

static void test_table__aligns_columns(void **state)
{
	static const char *const titles[] = {"NODE", ">BUSY", "STATE"};
	struct table table;

	(void)state;
	table_init(&table, titles, 3);
	table_add(&table, TABLE_PLAIN, "cruncher-internal");
	table_add(&table, TABLE_PLAIN, "%d/%d", 10, 12);
	table_add(&table, TABLE_PLAIN, "up");
	table_add(&table, TABLE_PLAIN, "pi");
	table_add(&table, TABLE_PLAIN, "0");
	table_add(&table, TABLE_PLAIN, "down");
	check(&table, false,
	      "NODE                BUSY  STATE\n"
	      "cruncher-internal  10/12  up\n"
	      "pi                     0  down\n");
}

static void test_table__nothing_behind_the_last_text(void **state)
{
	static const char *const titles[] = {"A", "B", "C"};
	struct table table;

	(void)state;
	table_init(&table, titles, 3);
	table_add(&table, TABLE_PLAIN, "first");
	table_end_row(&table);
	table_add(&table, TABLE_PLAIN, "%s", "");
	table_add(&table, TABLE_PLAIN, "second");
	table_end_row(&table);
	check(&table, false, "A      B       C\nfirst\n       second\n");
}

static void test_table__colour_does_not_count_as_width(void **state)
{
	static const char *const titles[] = {"A", "B"};
	struct table table;

	(void)state;
	table_init(&table, titles, 2);
	table_add(&table, TABLE_GOOD, "up");
	table_add(&table, TABLE_PLAIN, "x");
	check(&table, true, "\033[1mA\033[0m   \033[1mB\033[0m\n\033[32mup\033[0m  x\n");
}

static void test_table__width_is_what_a_terminal_shows(void **state)
{
	static const char *const titles[] = {"A", "B"};
	struct table table;

	(void)state;
	assert_int_equal(table_width("abc"), 3);
	assert_int_equal(table_width("K\xc3\xbc"
				     "che"),
			 5); /* two bytes, one column */
	assert_int_equal(table_width("Ku\xcc\x88"
				     "che"),
			 5); /* u and a combining diaeresis */
	assert_int_equal(table_width("\xe6\x9c\xba\xe6\x88\xbf"), 4); /* two wide characters */
	assert_int_equal(table_width("\xf0\x9f\x96\xa5"), 2);	      /* a desktop computer */
	assert_int_equal(table_width("\xc3"), 1);		      /* cut short */
	table_init(&table, titles, 2);
	table_add(&table, TABLE_PLAIN, "\xe6\x9c\xba\xe6\x88\xbf");
	table_add(&table, TABLE_PLAIN, "x");
	table_add(&table, TABLE_PLAIN, "abcd");
	table_add(&table, TABLE_PLAIN, "y");
	check(&table, false, "A     B\n\xe6\x9c\xba\xe6\x88\xbf  x\nabcd  y\n");
}

static void test_table__names_cannot_drive_the_terminal(void **state)
{
	static const char *const titles[] = {"MODEL"};
	struct table table;

	(void)state;
	table_init(&table, titles, 1);
	table_add(&table, TABLE_PLAIN, "%s",
		  "a\033[2Jb\nc\x7f\xc2\x9b"
		  "d\xff");
	check(&table, false, "MODEL\na?[2Jb?c??d?\n");
}

static void test_table__grows(void **state)
{
	static const char *const titles[] = {"N", "N"};
	struct table table;
	char *text;

	(void)state;
	table_init(&table, titles, 2);
	for (int i = 0; i < 2000; i++)
		table_add(&table, TABLE_PLAIN, "%d", i);
	text = printed(&table, false);
	assert_non_null(strstr(text, "\n1998  1999\n"));
	free(text);
	table_fini(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table__aligns_columns),
		cmocka_unit_test(test_table__nothing_behind_the_last_text),
		cmocka_unit_test(test_table__colour_does_not_count_as_width),
		cmocka_unit_test(test_table__width_is_what_a_terminal_shows),
		cmocka_unit_test(test_table__names_cannot_drive_the_terminal),
		cmocka_unit_test(test_table__grows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
