/* SPDX-License-Identifier: MIT */
/* The list of reserved ports, on a file of our own. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "datapath/ports.h"

static const struct {
	const char *text;
	int err;
	const char *again; /* as written back */
	const char *sentence;
} lists[] = {
	{"\n", 0, "\n", "nothing"},
	{"", 0, "\n", "an empty file"},
	{"8080\n", 0, "8080\n", "one port"},
	{"8080,9000-9010\n", 0, "8080,9000-9010\n", "a port and a range"},
	{"5-9,10,11-12\n", 0, "5-12\n", "what touches is joined"},
	{"0,65535\n", 0, "0,65535\n", "both ends"},
	{"0-65535\n", 0, "0-65535\n", "all of them"},
	{"9-5\n", -EINVAL, NULL, "backwards"},
	{"65536\n", -EINVAL, NULL, "no port"},
	{"4294967297\n", -EINVAL, NULL, "no port, but one in 32 bits"},
	{"80;90\n", -EINVAL, NULL, "another separator"},
	{"a\n", -EINVAL, NULL, "no number"},
	{"5-\n", -EINVAL, NULL, "a range without an end"},
	{",5\n", -EINVAL, NULL, "a comma after nothing"},
};

static void test_ports__parse_and_format(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		struct ports ports;
		struct buf out = {0};
		int err = ports_parse(&ports, lists[i].text);

		if (err != lists[i].err)
			fail_msg("%s: %d", lists[i].sentence, err);
		if (err)
			continue;
		ports_format(&ports, &out);
		if (strcmp(out.data, lists[i].again) != 0)
			fail_msg("%s: %s", lists[i].sentence, out.data);
		buf_fini(&out);
	}
}

static void write_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(fclose(file), 0);
}

static void expect_file(const char *path, const char *text)
{
	char have[256] = "";
	FILE *file = fopen(path, "re");

	assert_non_null(file);
	(void)!fgets(have, sizeof(have), file);
	fclose(file);
	assert_string_equal(have, text);
}

static void test_ports__reserve_and_release(void **state)
{
	char path[] = "/tmp/mg-ports-XXXXXX";
	int fd = mkstemp(path);
	struct ports others;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	write_file(path, "22,20010-20020\n");
	assert_int_equal(ports_read(&others, path), 0);
	assert_int_equal(ports_reserve(path, 20000, 20100), 0);
	expect_file(path, "22,20000-20100\n");
	assert_int_equal(ports_reserve(path, 20000, 20100), 0); /* twice is once */
	expect_file(path, "22,20000-20100\n");
	write_file(path, "22,443,20000-20100\n"); /* somebody adds one meanwhile */
	assert_int_equal(ports_release(path, 20000, 20100, &others), 0);
	expect_file(path, "22,443,20010-20020\n");
	unlink(path);
}

static void test_ports__a_reservation_that_does_not_hold_is_an_error(void **state)
{
	(void)state;
	assert_int_equal(ports_reserve("/dev/null", 1, 2), -EIO);
	assert_int_equal(ports_reserve("/dev/nowhere", 1, 2), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ports__parse_and_format),
		cmocka_unit_test(test_ports__reserve_and_release),
		cmocka_unit_test(test_ports__a_reservation_that_does_not_hold_is_an_error),
	};

	return cmocka_run_group_tests_name("ports", tests, NULL, NULL);
}
