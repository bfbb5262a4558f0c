/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <netinet/in.h>

#include "base/addr.h"
#include "farm.h"

struct text_row {
	const char *sentence, *in;
	const char *out; /* NULL: refused */
};

static const struct text_row addresses[] = {
	{"IPv4", "192.168.1.10", "192.168.1.10"},
	{"the lowest IPv4", "0.0.0.0", "0.0.0.0"},
	{"the highest IPv4", "255.255.255.255", "255.255.255.255"},
	{"IPv6 loopback", "::1", "::1"},
	{"IPv6 is written in its shortest form", "FD00:0:0:0:0:0:0:00ab", "fd00::ab"},
	{"IPv4 mapped is IPv4", "::ffff:10.0.0.1", "10.0.0.1"},
	{"nothing", "", NULL},
	{"a space before", " 10.0.0.1", NULL},
	{"a space behind", "10.0.0.1 ", NULL},
	{"three numbers", "10.0.1", NULL},
	{"five numbers", "10.0.0.0.1", NULL},
	{"a number too large", "10.0.0.256", NULL},
	{"a leading zero: octal to some", "10.0.0.010", NULL},
	{"hexadecimal", "0x0a000001", NULL},
	{"a port", "10.0.0.1:80", NULL},
	{"brackets", "[::1]", NULL},
	{"a zone", "fe80::1%eth0", NULL},
	{"a name", "localhost", NULL},
	{"two gaps", "1::2::3", NULL},
};

static void test_addr__reads_and_writes_addresses(void **state)
{
	char text[ADDR_TEXT_MAX];
	struct addr addr;

	(void)state;
	for (size_t i = 0; i < COUNT(addresses); i++) {
		const struct text_row *row = &addresses[i];
		int err = addr_parse(&addr, row->in);

		if (err != (row->out ? 0 : -EINVAL))
			fail_msg("%s: addr_parse gives %d", row->sentence, err);
		if (row->out && strcmp(addr_format(&addr, text), row->out) != 0)
			fail_msg("%s: %s", row->sentence, text);
	}
}

static const struct text_row with_port[] = {
	{"IPv4 and port", "127.0.0.1:4000", "127.0.0.1:4000"},
	{"IPv6 takes brackets", "[::1]:4000", "[::1]:4000"},
	{"all addresses", "0.0.0.0:1", "0.0.0.0:1"},
	{"the last port", "[::]:65535", "[::]:65535"},
	{"mapped IPv4", "[::ffff:10.0.0.1]:80", "10.0.0.1:80"},
	{"no port", "127.0.0.1", NULL},
	{"an empty port", "127.0.0.1:", NULL},
	{"port 0", "127.0.0.1:0", NULL},
	{"a port too large", "127.0.0.1:65536", NULL},
	{"a port that overflows", "127.0.0.1:99999999999999999999", NULL},
	{"a port with a sign", "127.0.0.1:+80", NULL},
	{"a port with a leading zero", "127.0.0.1:080", NULL},
	{"a port with a letter", "127.0.0.1:80a", NULL},
	{"a port alone", ":4000", NULL},
	{"a number alone", "4000", NULL},
	{"IPv6 without brackets", "::1:4000", NULL},
	{"IPv6 without port", "[::1]", NULL},
	{"brackets around IPv4", "[127.0.0.1]:80", NULL},
	{"brackets around nothing", "[]:80", NULL},
	{"half a bracket", "[::1:80", NULL},
	{"the other half", "::1]:80", NULL},
	{"a name", "localhost:80", NULL},
	{"a host as long as an attack",
	 "1111111111111111111111111111111111111111111111111111111111111111111111111:80", NULL},
};

static void test_addr__reads_and_writes_ports(void **state)
{
	char text[ADDR_TEXT_MAX];
	struct addr addr;
	uint16_t port;

	(void)state;
	for (size_t i = 0; i < COUNT(with_port); i++) {
		const struct text_row *row = &with_port[i];
		int err = addr_parse_port(&addr, &port, row->in);

		if (err != (row->out ? 0 : -EINVAL))
			fail_msg("%s: addr_parse_port gives %d", row->sentence, err);
		if (row->out && strcmp(addr_format_port(&addr, port, text), row->out) != 0)
			fail_msg("%s: %s", row->sentence, text);
	}
}

static void test_addr__leaves_its_output_alone_when_it_refuses(void **state)
{
	struct addr addr, before;
	uint16_t port = 7;

	(void)state;
	memset(&addr, 0x5a, sizeof(addr));
	before = addr;
	assert_int_equal(addr_parse(&addr, "::1x"), -EINVAL);
	assert_int_equal(addr_parse_port(&addr, &port, "[::1]:0"), -EINVAL);
	assert_int_equal(addr_parse_port(&addr, &port, "1.2.3:80"), -EINVAL);
	assert_memory_equal(&addr, &before, sizeof(addr));
	assert_int_equal(port, 7);
}

static void test_addr__tells_loopback_and_any(void **state)
{
	static const struct {
		const char *text;
		bool v4, loopback, any;
	} rows[] = {
		{"127.0.0.1", true, true, false},  {"127.255.0.9", true, true, false},
		{"128.0.0.1", true, false, false}, {"0.0.0.0", true, false, true},
		{"0.0.0.1", true, false, false},   {"::1", false, true, false},
		{"::", false, false, true},	   {"::2", false, false, false},
		{"100::", false, false, false},	   {"::ffff:127.0.0.1", true, true, false},
		{"7f00::1", false, false, false},  {"::7f00:1", false, false, false},
	};
	struct addr addr;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_int_equal(addr_parse(&addr, rows[i].text), 0);
		if (addr_is_v4(&addr) != rows[i].v4 || addr_is_any(&addr) != rows[i].any ||
		    addr_is_loopback(&addr) != rows[i].loopback)
			fail_msg("%s", rows[i].text);
	}
}

static void test_addr__goes_through_sockaddr(void **state)
{
	static const char *const texts[] = {"10.1.2.3", "fd00::1:2"};
	struct sockaddr_storage sa;
	struct addr addr, back;
	uint16_t port;

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		socklen_t len;

		assert_int_equal(addr_parse(&addr, texts[i]), 0);
		len = addr_to_sockaddr(&addr, 4000, &sa);
		assert_int_equal(sa.ss_family, i ? AF_INET6 : AF_INET);
		assert_int_equal(len, i ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
		assert_int_equal(addr_from_sockaddr(&back, &port, (struct sockaddr *)&sa), 0);
		assert_true(addr_equal(&addr, &back));
		assert_int_equal(port, 4000);
		assert_int_equal(addr_from_sockaddr(&back, NULL, (struct sockaddr *)&sa), 0);
	}
	sa.ss_family = AF_UNIX;
	assert_int_equal(addr_from_sockaddr(&back, &port, (struct sockaddr *)&sa), -EAFNOSUPPORT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addr__reads_and_writes_addresses),
		cmocka_unit_test(test_addr__reads_and_writes_ports),
		cmocka_unit_test(test_addr__leaves_its_output_alone_when_it_refuses),
		cmocka_unit_test(test_addr__tells_loopback_and_any),
		cmocka_unit_test(test_addr__goes_through_sockaddr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
