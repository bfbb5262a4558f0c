/* SPDX-License-Identifier: MIT */
/* net/client against answers of all kinds. */
#include <errno.h>

#include "net_rig.h"
#include "net/listen.h"

/* A peer that says `text` to whoever connects, and that it says no more unless it is to hang. */
struct fake {
	const char *text;
	bool hang;
	int fd;
};

static void fake_accept(void *arg, int fd)
{
	struct fake *fake = arg;
	size_t len = strlen(fake->text);

	assert_int_equal(write(fd, fake->text, len), len);
	if (!fake->hang)
		shutdown(fd, SHUT_WR); /* closing would reset, with the request unread */
	if (fake->fd >= 0)
		close(fake->fd);
	fake->fd = fd;
}

static void test_client__judges_answers(void **state)
{
	static const struct {
		const char *sentence, *text;
		bool hang;
		enum probe_reason reason;
		int status;
		const char *body;
	} rows[] = {
		{"whole", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true, PROBE_OK, 200,
		 "hi"},
		{"without a length", "HTTP/1.1 200 OK\r\n\r\nhi", false, PROBE_OK, 200, "hi"},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhi", false, PROBE_OK, 200, "hi"},
		{"interim answers first",
		 "HTTP/1.1 103 E\r\n\r\nHTTP/1.1 201 OK\r\nContent-Length: 0\r\n\r\n", true,
		 PROBE_OK, 201, ""},
		{"bytes behind the answer are not looked at",
		 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhi", true, PROBE_OK, 200, "h"},
		{"loading", "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", true, PROBE_STATUS,
		 503, "no"},
		{"a redirect", "HTTP/1.1 302 No\r\nContent-Length: 0\r\n\r\n", true, PROBE_STATUS,
		 302, ""},
		{"cut in the body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", false,
		 PROBE_CLOSED, 200, "hi"},
		{"cut in the head", "HTTP/1.1 200 OK\r\nConte", false, PROBE_CLOSED, 0, ""},
		{"nothing", "", false, PROBE_CLOSED, 0, ""},
		{"no HTTP", "SSH-2.0\r\n", true, PROBE_BAD_HTTP, 0, ""},
		{"a switch nobody asked for", "HTTP/1.1 101 S\r\n\r\n", true, PROBE_BAD_HTTP, 0,
		 ""},
		{"two lengths",
		 "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", true,
		 PROBE_BAD_HTTP, 0, ""},
		{"larger than allowed",
		 "HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n"
		 "012345678901234567890123456789012345678901234567890123456789012345678901234567890"
		 "1234567890123456789+",
		 true, PROBE_TOO_LARGE, 200, NULL},
		{"silence", "", true, PROBE_ANSWER_TIMEOUT, 0, ""},
		{"half, then silence", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", true,
		 PROBE_ANSWER_TIMEOUT, 200, "hi"},
	};
	struct rig *rig = rig_new(0, 0, 0);
	struct fake fake = {0};
	struct listener *listener;
	uint16_t port = 0;

	(void)state;
	assert_int_equal(
		listener_tcp(&listener, &rig->loop, &rig->loopback, &port, 0, fake_accept, &fake),
		0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct outcome outcome;

		fake = (struct fake){.text = rows[i].text, .hang = rows[i].hang, .fd = -1};
		outcome = ask(rig, (struct client_request){
					   .port = port, .timeout_ms = 150, .max_answer = 100});
		if (outcome.result.reason != rows[i].reason ||
		    outcome.result.status != rows[i].status ||
		    (rows[i].body &&
		     strcmp(rows[i].body, outcome.body.data ? outcome.body.data : "") != 0))
			fail_msg("%s: %s %d %s", rows[i].sentence,
				 probe_reason_word(outcome.result.reason), outcome.result.status,
				 outcome.body.data);
		buf_fini(&outcome.body);
		close(fake.fd);
	}
	listener_free(listener);
	rig_free(rig);
}

static void test_client__cannot_connect(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome outcome;
	struct addr nowhere;
	uint16_t port = 0;
	struct listener *listener;
	char *long_path = calloc(1, 300);

	(void)state;
	memset(long_path, 'x', 299);
	assert_int_equal(
		listener_tcp(&listener, &rig->loop, &rig->loopback, &port, 0, fake_accept, NULL),
		0);
	listener_free(listener);
	outcome = ask(rig, (struct client_request){.port = port});
	expect(&outcome, PROBE_REFUSED, 0, "");
	outcome = ask(rig, (struct client_request){.unix_path = "/nonexistent/sock"});
	expect(&outcome, PROBE_REFUSED, 0, "");
	outcome = ask(rig, (struct client_request){.unix_path = long_path});
	expect(&outcome, PROBE_UNREACHABLE, 0, "");
	addr_parse(&nowhere, "255.255.255.255");
	outcome = ask(rig, (struct client_request){.address = &nowhere});
	expect(&outcome, PROBE_UNREACHABLE, 0, "");
	free(long_path);
	rig_free(rig);
}

static void test_client__refuses_unclean_words(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct client_request request = {
		.address = &rig->loopback, .port = rig->port, .method = "GET", .target = "/ a"};

	(void)state;
	assert_null(client_start(&rig->loop, &request));
	assert_int_equal(errno, EINVAL);
	request.target = "/a\r\nX: y";
	assert_null(client_start(&rig->loop, &request));
	rig_free(rig);
}

static void test_client__connect_only(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome outcome = ask(rig, (struct client_request){.connect_only = true});

	(void)state;
	assert_true(outcome.result.rtt_us < 5000000);
	expect(&outcome, PROBE_OK, 0, "");
	assert_int_equal(rig->requests, 0);
	rig_free(rig);
}

static void test_client__raw(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct fake fake = {.text = "banner\n", .fd = -1};
	struct listener *listener;
	struct outcome outcome;
	uint16_t port = 0;

	(void)state;
	assert_int_equal(
		listener_tcp(&listener, &rig->loop, &rig->loopback, &port, 0, fake_accept, &fake),
		0);
	outcome =
		ask(rig,
		    (struct client_request){.port = port, .raw = true, .body = "x", .body_len = 1});
	expect(&outcome, PROBE_OK, 0, "banner\n"); /* all there was */
	outcome = ask(
		rig,
		(struct client_request){
			.port = port, .raw = true, .body = "x", .body_len = 1, .on_data = on_data});
	expect(&outcome, PROBE_CLOSED, 0, "banner\n"); /* on_data wanted more */
	outcome = (struct outcome){.stop_at = 3};
	start(rig,
	      (struct client_request){
		      .port = port, .raw = true, .body = "x", .body_len = 1, .on_data = on_data},
	      &outcome);
	wait_for(rig, &outcome.done);
	expect(&outcome, PROBE_OK, 0, "banner\n");
	close(fake.fd);
	listener_free(listener);
	rig_free(rig);
}

static void test_client__stops_and_cancels_from_on_data(void **state)
{
	struct rig *rig = rig_new(0, 0, 0);
	struct outcome stopped = {.stop_at = 1}, cancelled = {0};

	(void)state;
	start(rig, (struct client_request){.target = "/stream", .on_data = on_data}, &stopped);
	wait_for(rig, &stopped.done);
	expect(&stopped, PROBE_OK, 200, "piece\n");
	wait_count(rig, &rig->abandoned, 1);
	rig->ticks = 0;
	cancelled.cancel = start(
		rig, (struct client_request){.target = "/stream", .on_data = on_data}, &cancelled);
	wait_count(rig, &cancelled.pieces, 1);
	wait_count(rig, &rig->abandoned, 2);
	assert_false(cancelled.done);
	assert_int_equal(cancelled.pieces, 1);
	buf_fini(&cancelled.body);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_client__judges_answers),
		cmocka_unit_test(test_client__cannot_connect),
		cmocka_unit_test(test_client__refuses_unclean_words),
		cmocka_unit_test(test_client__connect_only),
		cmocka_unit_test(test_client__raw),
		cmocka_unit_test(test_client__stops_and_cancels_from_on_data),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
