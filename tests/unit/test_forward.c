/* SPDX-License-Identifier: MIT */
/*
 * Heads as they go on: a head is parsed, forwarded, and the text that comes out compared; then that
 * is parsed again, since a node or a client will do so.
 */
#include "farm.h"
#include "proxy/router_impl.h"
#include "proxy/view.h"

struct rig {
	struct router router;
	struct view view;
	struct plan plan;
	struct plan_endpoint endpoint;
	struct downstream down;
	struct request request;
	struct buf out;
};

static void check_again(struct rig *rig, bool response);

/* What is done with the head, while it is there. */
struct job {
	struct rig *rig;
	bool response;
	int64_t length; /* of the body that is sent */
	bool chunked;	/* the answer goes on in chunks */
};

static int on_head(void *arg, const struct http1_head *head)
{
	struct job *job = arg;
	struct request *request = &job->rig->request;

	if (job->response) {
		request->node_chunked = job->chunked;
		forward_response(request, head, &job->rig->out);
	} else {
		request->head = head;
		forward_request(request, &job->rig->out, job->length);
		request->head = NULL;
	}
	return 0;
}

static int on_body(void *arg, const char *data, size_t len)
{
	(void)arg;
	(void)data;
	(void)len;
	return 0;
}

static int on_complete(void *arg)
{
	(void)arg;
	return 0;
}

static const struct http1_events events = {on_head, on_body, on_complete};

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	rig->router.view = &rig->view;
	rig->view.plan = &rig->plan;
	rig->plan.endpoints = &rig->endpoint;
	rig->plan.n_endpoints = 1;
	addr_parse(&rig->endpoint.addr, "10.0.0.7");
	rig->endpoint.port = 11434;
	addr_parse(&rig->down.peer, "192.0.2.9");
	rig->down.keep_alive = true;
	rig->request.down = &rig->down;
	rig->request.router = &rig->router;
	rig->request.path = path_find("/v1/chat/completions");
	strcpy(rig->request.id, "id-1");
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	buf_fini(&rig->out);
	free(rig);
	return 0;
}

static void forward(struct rig *rig, const char *head, struct job job)
{
	struct http1 *parser = http1_new(job.response, &events, &job);

	job.rig = rig;
	buf_clear(&rig->out);
	if (http1_feed(parser, head, strlen(head)))
		fail_msg("%s: %s", http1_error(parser), head);
	http1_free(parser);
	assert_false(buf_failed(&rig->out));
	check_again(rig, job.response);
}

/* Does the strict parser of this very program take what was made? */
static int count_head(void *arg, const struct http1_head *head)
{
	unsigned *heads = arg;

	(void)head;
	(*heads)++;
	return 0;
}

static void check_again(struct rig *rig, bool response)
{
	static const struct http1_events counting = {count_head, on_body, on_complete};
	unsigned heads = 0;
	struct http1 *parser = http1_new(response, &counting, &heads);
	int error = http1_feed(parser, rig->out.data, rig->out.len);

	if (error || heads != 1)
		fail_msg("%s: %s", http1_error(parser), rig->out.data);
	http1_free(parser);
}

static void request_of(struct rig *rig, const char *head, int64_t length)
{
	forward(rig, head, (struct job){.length = length});
}

static void response_of(struct rig *rig, const char *head, bool chunked)
{
	forward(rig, head, (struct job){.response = true, .chunked = chunked});
}

static bool has_line(const struct rig *rig, const char *line)
{
	char text[512];

	snprintf(text, sizeof(text), "\r\n%s\r\n", line);
	return strstr(rig->out.data, text) != NULL;
}

static bool has_field(const struct rig *rig, const char *name)
{
	char text[128];

	snprintf(text, sizeof(text), "\r\n%s:", name);
	return strcasestr(rig->out.data, text) != NULL;
}

#define HAS(rig, line) \
	do { \
		if (!has_line((rig), (line))) \
			fail_msg("not there: %s\n%s", (line), (rig)->out.data); \
	} while (0)
#define LACKS(rig, field) \
	do { \
		if (has_field((rig), (field))) \
			fail_msg("there: %s\n%s", (field), (rig)->out.data); \
	} while (0)

/* ---- requests ---- */

static void test_forward__a_request(void **state)
{
	struct rig *rig = *state;

	rig->request.has_body = true;
	request_of(
		rig,
		"POST /v1/chat/completions?x=1 HTTP/1.1\r\nHost: gateway:4000\r\n"
		"Content-Type: application/json\r\nContent-Length: 0\r\nX-Custom:  a  b \r\n\r\n",
		12);
	assert_string_equal(rig->out.data, "POST /v1/chat/completions?x=1 HTTP/1.1\r\n"
					   "Host: 10.0.0.7:11434\r\n"
					   "content-type: application/json\r\n"
					   "x-custom: a  b\r\n"
					   "via: 1.1 megalith\r\n"
					   "x-forwarded-for: 192.0.2.9\r\n"
					   "x-request-id: id-1\r\n"
					   "content-length: 12\r\n\r\n");
}

static const char *const hop[] = {
	"connection",	  "keep-alive",		 "proxy-connection", "te",
	"trailer",	  "transfer-encoding",	 "http2-settings",   "proxy-authenticate",
	"upgrade",	  "proxy-authorization", "x-named",	     "x-also",
	"expect",	  "forwarded",		 "x-forwarded-host", "x-forwarded-proto",
	"x-real-ip",	  "x-forwarded-port",	 "authorization",    "x-api-key",
	"content-length", "accept-encoding",
};

#define MUCH \
	"Host: g\r\nConnection: keep-alive, X-Named\r\nKeep-Alive: timeout=5\r\n" \
	"Proxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X-T\r\n" \
	"HTTP2-Settings: x\r\nProxy-Authenticate: x\r\nProxy-Authorization: x\r\n" \
	"Upgrade: websocket\r\nX-Named: 1\r\nConnection: x-ALSO\r\nX-Also: 2\r\n" \
	"Expect: 100-continue\r\nForwarded: for=1.2.3.4\r\nX-Forwarded-For: 1.2.3.4\r\n" \
	"X-Forwarded-Host: h\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n" \
	"X-Real-IP: 1.2.3.4\r\nAuthorization: Bearer secret-key\r\nX-API-Key: secret-key\r\n" \
	"X-Request-ID: theirs\r\nAccept-Encoding: gzip\r\nX-Kept: yes\r\n"

static void test_forward__what_belongs_to_one_hop_stays(void **state)
{
	struct rig *rig = *state;

	request_of(rig, "GET /v1/models HTTP/1.1\r\n" MUCH "\r\n", 0);
	for (size_t i = 0; i < COUNT(hop); i++)
		LACKS(rig, hop[i]);
	assert_null(strstr(rig->out.data, "secret-key"));
	assert_null(strstr(rig->out.data, "1.2.3.4"));
	assert_null(strstr(rig->out.data, "theirs"));
	HAS(rig, "x-forwarded-for: 192.0.2.9");
	HAS(rig, "x-request-id: id-1");
	HAS(rig, "x-kept: yes");
}

/* On a persona port the node's keys are the client's business, and its path is nobody's. */
static void test_forward__on_a_persona_port(void **state)
{
	struct rig *rig = *state;

	rig->request.opaque = true;
	rig->request.path = path_find_opaque("/prompt");
	request_of(rig, "GET /prompt?a=//b HTTP/1.1\r\n" MUCH "\r\n", 0);
	assert_memory_equal(rig->out.data, "GET /prompt?a=//b HTTP/1.1\r\n", 28);
	HAS(rig, "authorization: Bearer secret-key");
	HAS(rig, "x-api-key: secret-key");
	HAS(rig, "accept-encoding: gzip");
	LACKS(rig, "connection");
	LACKS(rig, "x-named");
	LACKS(rig, "content-length");
	rig->request.path = path_find_opaque("/api/chat"); /* one that is watched */
	request_of(rig, "POST /api/chat HTTP/1.1\r\n" MUCH "\r\n", 0);
	LACKS(rig, "accept-encoding");
	HAS(rig, "authorization: Bearer secret-key");
	HAS(rig, "content-length: 0");
}

static const struct {
	const char *target, *path, *line;
} targets[] = {
	{"/v1/chat/completions", NULL, "GET /v1/chat/completions HTTP/1.1\r\n"},
	{"/chat/completions", NULL, "GET /v1/chat/completions HTTP/1.1\r\n"},
	{"/chat/completions?a=b", NULL, "GET /v1/chat/completions?a=b HTTP/1.1\r\n"},
	{"/v1/embeddings?", NULL, "GET /v1/embeddings? HTTP/1.1\r\n"},
	{"/api/version", NULL, "GET /api/version HTTP/1.1\r\n"},
	{"/unknown?x", NULL, "GET /unknown?x HTTP/1.1\r\n"},
};

static void test_forward__nodes_get_the_whole_path(void **state)
{
	struct rig *rig = *state;

	for (size_t i = 0; i < COUNT(targets); i++) {
		char head[256];

		snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: g\r\n\r\n",
			 targets[i].target);
		rig->request.path = path_find(targets[i].target);
		request_of(rig, head, 0);
		if (strncmp(rig->out.data, targets[i].line, strlen(targets[i].line)) != 0)
			fail_msg("%s: %s", targets[i].target, rig->out.data);
	}
}

/* Whatever the client's framing was: the node gets one, and it is the right one. */
static const struct {
	const char *why, *head;
	bool streamed, has_body, upgrade;
	int64_t length;
	const char *framing[2]; /* lines that are there; NULL: none */
} framings[] = {
	{"a body in chunks, taken whole",
	 "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked"
	 "\r\n\r\n",
	 false,
	 true,
	 false,
	 7,
	 {"content-length: 7"}},
	{"a body in chunks, streamed",
	 "POST / HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked"
	 "\r\n\r\n",
	 true,
	 true,
	 false,
	 -1,
	 {"transfer-encoding: chunked"}},
	{"a length, streamed",
	 "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\n",
	 true,
	 true,
	 false,
	 9,
	 {"content-length: 9"}},
	{"another length, the model's name is replaced",
	 "POST / HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\n",
	 false,
	 true,
	 false,
	 5000000000,
	 {"content-length: 5000000000"}},
	{"an empty body",
	 "PUT / HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n",
	 false,
	 true,
	 false,
	 0,
	 {"content-length: 0"}},
	{"a POST without a body",
	 "POST / HTTP/1.1\r\nHost: g\r\n\r\n",
	 false,
	 false,
	 false,
	 0,
	 {"content-length: 0"}},
	{"a GET", "GET / HTTP/1.1\r\nHost: g\r\n\r\n", false, false, false, 0, {NULL}},
	{"a DELETE", "DELETE / HTTP/1.1\r\nHost: g\r\n\r\n", false, false, false, -1, {NULL}},
	{"a websocket",
	 "GET / HTTP/1.1\r\nHost: g\r\nConnection: upgrade\r\nUpgrade: websocket"
	 "\r\n\r\n",
	 false,
	 false,
	 true,
	 0,
	 {"connection: Upgrade", "upgrade: websocket"}},
	{"an upgrade that may not be",
	 "GET / HTTP/1.1\r\nHost: g\r\nConnection: upgrade\r\n"
	 "Upgrade: h2c\r\n\r\n",
	 false,
	 false,
	 false,
	 0,
	 {NULL}},
};

static void test_forward__the_framing_is_ours(void **state)
{
	static const char *const fields[] = {"content-length", "transfer-encoding", "connection",
					     "upgrade"};
	struct rig *rig = *state;

	rig->request.opaque = true;
	for (size_t i = 0; i < COUNT(framings); i++) {
		rig->request.streamed = framings[i].streamed;
		rig->request.has_body = framings[i].has_body;
		rig->request.upgrade = framings[i].upgrade;
		request_of(rig, framings[i].head, framings[i].length);
		for (size_t k = 0; k < COUNT(fields); k++) {
			bool wanted = false;

			for (size_t f = 0; f < 2 && framings[i].framing[f]; f++)
				wanted = wanted || !strncmp(framings[i].framing[f], fields[k],
							    strlen(fields[k]));
			if (has_field(rig, fields[k]) != wanted)
				fail_msg("%s: %s", framings[i].why, rig->out.data);
		}
		for (size_t f = 0; f < 2 && framings[i].framing[f]; f++)
			HAS(rig, framings[i].framing[f]);
	}
}

static void test_forward__an_ipv6_node_and_client(void **state)
{
	struct rig *rig = *state;

	addr_parse(&rig->endpoint.addr, "fd00::1");
	addr_parse(&rig->down.peer, "2001:db8::2");
	request_of(rig, "GET / HTTP/1.1\r\nHost: g\r\n\r\n", 0);
	HAS(rig, "Host: [fd00::1]:11434");
	HAS(rig, "x-forwarded-for: 2001:db8::2");
}

/* ---- answers ---- */

static void marked(struct rig *rig)
{
	rig->request.attempts = 2;
	strcpy(rig->request.node, "gpu");
	strcpy(rig->request.persona, "cruncher");
	strcpy(rig->request.model, "chat");
}

static void test_forward__an_answer(void **state)
{
	struct rig *rig = *state;

	marked(rig);
	response_of(rig,
		    "HTTP/1.1 200 Fine\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
		    "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n",
		    false);
	assert_string_equal(rig->out.data, "HTTP/1.1 200 OK\r\n"
					   "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
					   "content-type: application/json\r\n"
					   "x-request-id: id-1\r\n"
					   "x-megalith-node: gpu\r\n"
					   "x-megalith-persona: cruncher\r\n"
					   "x-megalith-model: chat\r\n"
					   "x-megalith-attempts: 2\r\n"
					   "content-length: 2\r\n\r\n");
}

static void test_forward__marks_are_ours(void **state)
{
	struct rig *rig = *state;

	response_of(rig,
		    "HTTP/1.1 200 OK\r\nX-Request-Id: a\r\nX-Megalith-Node: b\r\n"
		    "X-Megalith-Persona: c\r\nX-Megalith-Model: d\r\nX-Megalith-Attempts: 9\r\n"
		    "Connection: x-hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
		    "Trailer: x\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\nSet-Cookie: a\r\n"
		    "Set-Cookie: b\r\nContent-Length: 0\r\n\r\n",
		    false);
	HAS(rig, "x-request-id: id-1");
	HAS(rig, "x-megalith-attempts: 0"); /* nobody was asked: no node, persona or model */
	LACKS(rig, "x-megalith-node");
	LACKS(rig, "x-megalith-persona");
	LACKS(rig, "x-megalith-model");
	LACKS(rig, "connection");
	LACKS(rig, "x-hop");
	LACKS(rig, "keep-alive");
	LACKS(rig, "trailer");
	LACKS(rig, "upgrade");
	LACKS(rig, "proxy-authenticate");
	HAS(rig, "set-cookie: a");
	HAS(rig, "set-cookie: b");
	assert_true(has_field(rig, "date"));
	assert_null(strstr(strstr(rig->out.data, "x-request-id") + 1, "x-request-id"));
}

/* A model's name is the client's, or a configuration's: it ends no line. */
static void test_forward__marks_have_no_control_characters(void **state)
{
	struct rig *rig = *state;
	char asked[] = "a\r\nset-cookie: x\t\x01\x7f\xc3\xa9";

	strcpy(rig->request.model, "m\r\n\r\nGET / HTTP/1.1\n");
	response_of(rig, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false);
	HAS(rig, "x-megalith-model: m????GET / HTTP/1.1?");
	rig->request.asked = asked; /* the node's name for it is told, where there is one */
	response_of(rig, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false);
	HAS(rig, "x-megalith-model: a??set-cookie: x???\xc3\xa9");
	LACKS(rig, "set-cookie");
}

static const struct {
	const char *why, *head;
	bool chunked, to_close, http10, keep;
	const char *lines[2]; /* of framing */
} answers[] = {
	{"a length",
	 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
	 false,
	 false,
	 false,
	 true,
	 {"content-length: 5"}},
	{"chunks",
	 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	 true,
	 false,
	 false,
	 true,
	 {"transfer-encoding: chunked"}},
	{"until its end, on in chunks",
	 "HTTP/1.1 200 OK\r\n\r\n",
	 true,
	 false,
	 false,
	 true,
	 {"transfer-encoding: chunked"}},
	{"until its end, to HTTP/1.0",
	 "HTTP/1.1 200 OK\r\n\r\n",
	 false,
	 true,
	 true,
	 false,
	 {"connection: close"}},
	{"a length, to HTTP/1.0 that stays",
	 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
	 false,
	 false,
	 true,
	 true,
	 {"content-length: 5", "connection: keep-alive"}},
	{"to one that leaves",
	 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
	 false,
	 false,
	 false,
	 false,
	 {"content-length: 5", "connection: close"}},
	{"no content, whatever it says",
	 "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
	 false,
	 false,
	 false,
	 true,
	 {NULL}},
	{"no content", "HTTP/1.1 204 No Content\r\n\r\n", false, false, false, true, {NULL}},
	{"304 says how long it would be",
	 "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
	 false,
	 false,
	 false,
	 true,
	 {"content-length: 5"}},
};

static void test_forward__the_framing_of_answers_is_ours(void **state)
{
	static const char *const fields[] = {"content-length", "transfer-encoding", "connection"};
	struct rig *rig = *state;

	for (size_t i = 0; i < COUNT(answers); i++) {
		rig->request.to_close = answers[i].to_close;
		rig->request.http10 = answers[i].http10;
		rig->down.keep_alive = answers[i].keep;
		response_of(rig, answers[i].head, answers[i].chunked);
		for (size_t k = 0; k < COUNT(fields); k++) {
			bool wanted = false;

			for (size_t f = 0; f < 2 && answers[i].lines[f]; f++)
				wanted = wanted || !strncmp(answers[i].lines[f], fields[k],
							    strlen(fields[k]));
			if (has_field(rig, fields[k]) != wanted)
				fail_msg("%s: %s", answers[i].why, rig->out.data);
		}
		for (size_t f = 0; f < 2 && answers[i].lines[f]; f++)
			HAS(rig, answers[i].lines[f]);
	}
}

static void test_forward__interim_answers_carry_no_marks(void **state)
{
	struct rig *rig = *state;

	marked(rig);
	response_of(rig, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", false);
	assert_string_equal(rig->out.data, "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n");
}

static void test_forward__a_websocket(void **state)
{
	struct rig *rig = *state;

	marked(rig);
	response_of(rig,
		    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
		    "Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n",
		    false);
	HAS(rig, "connection: Upgrade");
	HAS(rig, "upgrade: websocket");
	HAS(rig, "sec-websocket-accept: x");
	HAS(rig, "x-megalith-node: gpu");
	LACKS(rig, "content-length");
	LACKS(rig, "transfer-encoding");
}

static void test_forward__streams_are_not_to_be_held(void **state)
{
	struct rig *rig = *state;

	rig->request.events.kind = EVENTS_SSE;
	response_of(rig, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", true);
	HAS(rig, "cache-control: no-cache");
	HAS(rig, "x-accel-buffering: no");
	response_of(rig,
		    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
		    "Cache-Control: no-store\r\nX-Accel-Buffering: yes\r\n\r\n",
		    true);
	HAS(rig, "cache-control: no-store"); /* the node's word stands */
	HAS(rig, "x-accel-buffering: yes");
	assert_null(strstr(rig->out.data, "no-cache"));
	rig->request.events.kind = EVENTS_NONE;
	response_of(rig, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false);
	LACKS(rig, "cache-control");
	LACKS(rig, "x-accel-buffering");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_forward__a_request),
		TEST(test_forward__what_belongs_to_one_hop_stays),
		TEST(test_forward__on_a_persona_port),
		TEST(test_forward__nodes_get_the_whole_path),
		TEST(test_forward__the_framing_is_ours),
		TEST(test_forward__an_ipv6_node_and_client),
		TEST(test_forward__an_answer),
		TEST(test_forward__marks_are_ours),
		TEST(test_forward__marks_have_no_control_characters),
		TEST(test_forward__the_framing_of_answers_is_ours),
		TEST(test_forward__interim_answers_carry_no_marks),
		TEST(test_forward__a_websocket),
		TEST(test_forward__streams_are_not_to_be_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
