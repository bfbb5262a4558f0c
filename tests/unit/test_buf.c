/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "farm.h"

static void test_buf__is_always_a_string(void **state)
{
	struct buf buf = {0};

	(void)state;
	buf_add(&buf, "", 0);
	assert_null(buf.data);
	buf_puts(&buf, "one");
	buf_printf(&buf, " %d %s", 2, "three");
	assert_string_equal(buf.data, "one 2 three");
	assert_int_equal(buf.len, 11);
	buf_add(&buf, "\0x", 2);
	assert_int_equal(buf.len, 13);
	assert_int_equal(buf.data[13], 0);
	buf_fini(&buf);
	assert_null(buf.data);
}

static void test_buf__grows_over_every_boundary(void **state)
{
	struct buf added = {0}, printed = {0};

	(void)state;
	for (size_t i = 0; i < 5000; i++) {
		char c = (char)('a' + i % 26);

		buf_add(&added, &c, 1);
		buf_printf(&printed, "%c", c);
		assert_int_equal(added.len, i + 1);
		assert_int_equal(strlen(added.data), i + 1);
		assert_true(added.cap > added.len);
	}
	assert_string_equal(added.data, printed.data);
	buf_fini(&added);
	buf_fini(&printed);
}

static void test_buf__consumes_from_the_front(void **state)
{
	struct buf buf = {0};

	(void)state;
	buf_consume(&buf, 5);
	buf_puts(&buf, "hello world");
	buf_consume(&buf, 0);
	buf_consume(&buf, 6);
	assert_string_equal(buf.data, "world");
	buf_consume(&buf, 99);
	assert_string_equal(buf.data, "");
	assert_int_equal(buf.len, 0);
	buf_fini(&buf);
}

static void test_buf__remembers_that_it_failed(void **state)
{
	struct buf buf = {0};

	(void)state;
	buf_puts(&buf, "kept");
	buf_add(&buf, "x", SIZE_MAX / 2);
	assert_true(buf_failed(&buf));
	assert_string_equal(buf.data, "kept");
	buf_puts(&buf, "lost");
	assert_string_equal(buf.data, "kept");
	assert_null(buf_steal(&buf));
	assert_null(buf.data);
	assert_false(buf_failed(&buf));
}

static void test_buf__gives_its_text_away(void **state)
{
	struct buf buf = {0};
	char *text;

	(void)state;
	text = buf_steal(&buf);
	assert_string_equal(text, "");
	free(text);
	buf_puts(&buf, "text");
	text = buf_steal(&buf);
	assert_string_equal(text, "text");
	assert_null(buf.data);
	assert_int_equal(buf.len, 0);
	free(text);
}

static void test_buf__clears_and_keeps_the_memory(void **state)
{
	struct buf buf = {0};
	size_t cap;

	(void)state;
	buf_clear(&buf);
	buf_puts(&buf, "text");
	cap = buf.cap;
	buf_clear(&buf);
	assert_string_equal(buf.data, "");
	assert_int_equal(buf.cap, cap);
	buf_puts(&buf, "new");
	assert_string_equal(buf.data, "new");
	buf_fini(&buf);
}

/* Runs `say` with stderr on a pipe; what it wrote, cut at the size of `out`. */
static void overhear(void (*say)(void), char *out, size_t size)
{
	int pipes[2], before = dup(STDERR_FILENO);
	ssize_t n;

	assert_int_equal(pipe(pipes), 0);
	fcntl(pipes[0], F_SETFL, O_NONBLOCK);
	dup2(pipes[1], STDERR_FILENO);
	close(pipes[1]);
	say();
	dup2(before, STDERR_FILENO);
	close(before);
	n = read(pipes[0], out, size - 1);
	close(pipes[0]);
	out[n > 0 ? n : 0] = '\0';
}

static void say_levels(void)
{
	log_init("megalithd", LOG_WARN);
	log_error("node %s is %s", "a", "down");
	log_warn("careful");
	log_info("not shown");
	log_debug("not shown");
}

static void test_log__writes_one_line_a_message_up_to_its_level(void **state)
{
	char out[4096];

	(void)state;
	overhear(say_levels, out, sizeof(out));
	assert_string_equal(out, "megalithd: error: node a is down\nmegalithd: warning: careful\n");
}

static void say_evil(void)
{
	log_init("megalithd", LOG_DEBUG);
	log_debug("%s", "a\nmegalithd: error: forged\t\x1b[2J\r\x7f k\xc3\xb6ln");
}

static void test_log__cannot_be_made_to_forge_a_line(void **state)
{
	char out[4096];

	(void)state;
	overhear(say_evil, out, sizeof(out));
	assert_string_equal(out, "megalithd: debug: a\\nmegalithd: error: forged\\t\\x1b[2J\\r\\x7f"
				 " k\xc3\xb6ln\n");
}

static void say_much(void)
{
	static char text[5000];

	memset(text, '\n', sizeof(text) - 1);
	log_error("%s", text);
}

static void test_log__cuts_a_long_line(void **state)
{
	char out[4096];

	(void)state;
	overhear(say_much, out, sizeof(out));
	assert_true(strlen(out) <= 1024 && strlen(out) > 1020);
	assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
}

static void say_to_nobody(void)
{
	int pipes[2];

	assert_int_equal(pipe(pipes), 0);
	dup2(pipes[1], STDERR_FILENO);
	close(pipes[1]);
	close(pipes[0]);
	log_error("nobody reads");
	close(STDERR_FILENO);
	log_error("nobody can");
}

static void say_into_a_full_pipe(void)
{
	char filler[4096] = {0};
	int flags = fcntl(STDERR_FILENO, F_GETFL);

	fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK);
	while (write(STDERR_FILENO, filler, sizeof(filler)) > 0) {
	}
	fcntl(STDERR_FILENO, F_SETFL, flags);
	alarm(10); /* a log that blocks would stay here for ever */
	log_error("no room");
	alarm(0);
}

static void test_log__survives_a_closed_and_a_full_stderr(void **state)
{
	char out[16];

	(void)state;
	overhear(say_to_nobody, out, sizeof(out));
	assert_string_equal(out, "");
	overhear(say_into_a_full_pipe, out, sizeof(out));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buf__is_always_a_string),
		cmocka_unit_test(test_buf__grows_over_every_boundary),
		cmocka_unit_test(test_buf__consumes_from_the_front),
		cmocka_unit_test(test_buf__remembers_that_it_failed),
		cmocka_unit_test(test_buf__gives_its_text_away),
		cmocka_unit_test(test_buf__clears_and_keeps_the_memory),
		cmocka_unit_test(test_log__writes_one_line_a_message_up_to_its_level),
		cmocka_unit_test(test_log__cannot_be_made_to_forge_a_line),
		cmocka_unit_test(test_log__cuts_a_long_line),
		cmocka_unit_test(test_log__survives_a_closed_and_a_full_stderr),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
