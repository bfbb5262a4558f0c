// SPDX-License-Identifier: MIT
/*
 * http_node PORT: a node of the HTTP bench, as fast as one thread can be, so that it is never what
 * is measured. A request's body says what it wants (bench_io.h): 1 KB of JSON, a stream of tokens
 * each stamped with the clock, or nothing; a body of unknown kind gets the JSON. Remembers when
 * each request arrived and when its client was seen to leave: GET /seen/ID answers both in ns,
 * 0 for not yet. GET /v1/models is for health probes.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench_io.h"

#define EVENTS	   256
#define HEAD_MAX   4096
#define SCRATCH	   131072
#define ANSWER_LEN 1024
#define NOT_QUEUED SIZE_MAX

struct conn {
	int fd;
	bool waiting; /* streaming or silent: a byte or an end from the peer is its leaving */
	uint32_t id;
	uint64_t period_ns;
	uint64_t due_ns;
	size_t queue_at; /* in node.queue */
	size_t body_left;
	size_t in_len;
	char in[HEAD_MAX + 1]; /* head, and as much of the body as came with it */
	struct conn *next_dead;
};

struct seen {
	uint64_t arrived_ns, left_ns;
};

struct node {
	int ep, listener;
	struct conn **queue; /* heap of streams by their next token */
	size_t queue_len, queue_cap;
	struct conn *dead;
	char answer[ANSWER_LEN + 512];
	size_t answer_len;
	char token[512];
	size_t token_len, stamp_at;
	uint64_t random;
	struct seen seen[IDS_MAX];
	char scratch[SCRATCH];
};

static const char stream_head[] = "HTTP/1.1 200 OK\r\n"
				  "Content-Type: text/event-stream\r\n"
				  "Cache-Control: no-cache\r\n"
				  "Transfer-Encoding: chunked\r\n\r\n";

/* --- the heap ------------------------------------------------------------------------------ */
static void queue_put(struct node *node, size_t at, struct conn *conn)
{
	node->queue[at] = conn;
	conn->queue_at = at;
}

static void queue_up(struct node *node, size_t at)
{
	struct conn *conn = node->queue[at];

	for (; at && node->queue[(at - 1) / 2]->due_ns > conn->due_ns; at = (at - 1) / 2)
		queue_put(node, at, node->queue[(at - 1) / 2]);
	queue_put(node, at, conn);
}

static void queue_down(struct node *node, size_t at)
{
	struct conn *conn = node->queue[at];

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < node->queue_len &&
		    node->queue[child + 1]->due_ns < node->queue[child]->due_ns)
			child++;
		if (child >= node->queue_len || node->queue[child]->due_ns >= conn->due_ns)
			break;
		queue_put(node, at, node->queue[child]);
		at = child;
	}
	queue_put(node, at, conn);
}

static void queue_add(struct node *node, struct conn *conn)
{
	if (node->queue_len == node->queue_cap) {
		node->queue_cap = node->queue_cap ? 2 * node->queue_cap : 1024;
		node->queue = reallocarray(node->queue, node->queue_cap, sizeof(struct conn *));
		if (!node->queue)
			die("reallocarray");
	}
	queue_put(node, node->queue_len++, conn);
	queue_up(node, conn->queue_at);
}

static void queue_remove(struct node *node, struct conn *conn)
{
	size_t at = conn->queue_at;
	struct conn *last = node->queue[--node->queue_len];

	conn->queue_at = NOT_QUEUED;
	if (last == conn)
		return;
	queue_put(node, at, last);
	queue_up(node, at);
	queue_down(node, last->queue_at);
}

/* --- connections ----------------------------------------------------------------------------- */
static void conn_open(struct node *node)
{
	int fd;

	while ((fd = accept_from(node->listener)) != -1) {
		struct conn *conn = calloc(1, sizeof(*conn));

		if (!conn)
			die("calloc");
		conn->fd = fd;
		conn->queue_at = NOT_QUEUED;
		watch(node->ep, fd, EPOLLIN | EPOLLRDHUP, conn);
	}
}

static void conn_close(struct node *node, struct conn *conn)
{
	if (conn->waiting)
		node->seen[conn->id].left_ns = now_ns();
	if (conn->queue_at != NOT_QUEUED)
		queue_remove(node, conn);
	close(conn->fd);
	conn->fd = -1;
	conn->next_dead = node->dead;
	node->dead = conn;
}

static void bury(struct node *node)
{
	while (node->dead) {
		struct conn *conn = node->dead;

		node->dead = conn->next_dead;
		free(conn);
	}
}

/* Answers are small and their reader reads: what the kernel does not take at once is an error. */
static bool conn_send(struct node *node, struct conn *conn, const char *data, size_t len)
{
	if (send(conn->fd, data, len, MSG_NOSIGNAL) == (ssize_t)len)
		return true;
	conn_close(node, conn);
	return false;
}

static bool conn_token(struct node *node, struct conn *conn)
{
	char digits[STAMP_DIGITS + 1];

	snprintf(digits, sizeof(digits), "%0*llu", STAMP_DIGITS, (unsigned long long)now_ns());
	memcpy(node->token + node->stamp_at, digits, STAMP_DIGITS);
	return conn_send(node, conn, node->token, node->token_len);
}

static uint64_t random_below(struct node *node, uint64_t limit)
{
	node->random ^= node->random << 13; /* xorshift64 */
	node->random ^= node->random >> 7;
	node->random ^= node->random << 17;
	return node->random % limit;
}

/* Head, first token, and the next one at some moment of the period: streams do not go in step. */
static void conn_stream(struct node *node, struct conn *conn, uint64_t millihertz)
{
	conn->waiting = true;
	if (!conn_send(node, conn, stream_head, sizeof(stream_head) - 1) || !conn_token(node, conn))
		return;
	if (!millihertz)
		return;
	conn->period_ns = 1000 * NSEC / millihertz;
	conn->due_ns = now_ns() + random_below(node, conn->period_ns);
	queue_add(node, conn);
}

/* --- requests -------------------------------------------------------------------------------- */
static void answer_text(struct node *node, struct conn *conn, int status, const char *type,
			const char *text)
{
	char out[512];
	int len = snprintf(out, sizeof(out),
			   "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
			   status, status == 200 ? "OK" : "Not Found", type, strlen(text), text);

	conn_send(node, conn, out, (size_t)len);
}

static void answer_get(struct node *node, struct conn *conn)
{
	char text[64];
	unsigned id;

	if (sscanf(conn->in, "GET /seen/%u ", &id) == 1 && id < IDS_MAX) {
		snprintf(text, sizeof(text), "%llu %llu\n",
			 (unsigned long long)node->seen[id].arrived_ns,
			 (unsigned long long)node->seen[id].left_ns);
		answer_text(node, conn, 200, "text/plain", text);
	} else if (!strncmp(conn->in, "GET /v1/models ", 15)) {
		answer_text(node, conn, 200, "application/json",
			    "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\"}]}");
	} else {
		answer_text(node, conn, 404, "application/json", "{\"error\":\"not found\"}");
	}
}

static void answer_post(struct node *node, struct conn *conn, const char *body)
{
	const char *mark = strstr(body, MARK);
	unsigned long long rate = 0;
	unsigned id = 0;
	char kind = 'a';

	if (mark)
		sscanf(mark + sizeof(MARK) - 1, "%c %u %llu", &kind, &id, &rate);
	if (kind == 'a') {
		conn_send(node, conn, node->answer, node->answer_len);
		return;
	}
	conn->id = id % IDS_MAX;
	node->seen[conn->id] = (struct seen){.arrived_ns = now_ns()};
	if (kind == 's')
		conn_stream(node, conn, rate);
	else
		conn->waiting = true;
}

/* Value of the one field we need; 0 if absent. */
static size_t content_length(const char *head)
{
	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
		if (!strncasecmp(line + 2, "content-length:", 15))
			return strtoull(line + 2 + 15, NULL, 10);
		if (!strncasecmp(line + 2, "transfer-encoding:", 18))
			fail("a request came chunked: the bench asks for none");
	}
	return 0;
}

/* Once the head and the start of the body are here; the rest of the body is only counted. */
static void conn_parse(struct node *node, struct conn *conn)
{
	char *end;
	size_t length, have;

	conn->in[conn->in_len] = '\0';
	end = strstr(conn->in, "\r\n\r\n");
	if (!end) {
		if (conn->in_len == HEAD_MAX)
			fail("a request's head is too large");
		return;
	}
	*end = '\0';
	length = content_length(conn->in);
	*end = '\r';
	have = conn->in_len - (size_t)(end + 4 - conn->in);
	if (have > length)
		fail("bytes behind a request's body");
	if (have < length && have < MARK_WITHIN)
		return;
	conn->body_left = have < length ? length - have : 0;
	if (conn->body_left)
		return;
	conn->in_len = 0;
	if (length)
		answer_post(node, conn, end + 4);
	else
		answer_get(node, conn);
}

static void conn_body(struct node *node, struct conn *conn, size_t len)
{
	if (len > conn->body_left)
		fail("more came than the body has");
	conn->body_left -= len;
	if (conn->body_left)
		return;
	conn->in_len = 0;
	answer_post(node, conn, strstr(conn->in, "\r\n\r\n") + 4);
}

static void conn_read(struct node *node, struct conn *conn)
{
	bool body = conn->body_left || conn->waiting;
	ssize_t got = body ? recv(conn->fd, node->scratch, sizeof(node->scratch), 0)
			   : recv(conn->fd, conn->in + conn->in_len, HEAD_MAX - conn->in_len, 0);

	if (got == -1 && errno == EAGAIN)
		return;
	if (got <= 0) {
		conn_close(node, conn);
	} else if (conn->waiting) {
		fail("bytes behind a request that is being answered");
	} else if (body) {
		conn_body(node, conn, (size_t)got);
	} else {
		conn->in_len += (size_t)got;
		conn_parse(node, conn);
	}
}

/* --- the loop -------------------------------------------------------------------------------- */
/* Sends what is due; ns to the next token, or -1. */
static int64_t send_due(struct node *node)
{
	while (node->queue_len) {
		struct conn *conn = node->queue[0];
		uint64_t now = now_ns();

		if (conn->due_ns > now)
			return (int64_t)(conn->due_ns - now);
		conn->due_ns += conn->period_ns;
		queue_down(node, 0);
		conn_token(node, conn);
	}
	return -1;
}

static int wait_events(struct node *node, struct epoll_event *events, int64_t wait_ns)
{
	struct timespec timeout = {.tv_sec = wait_ns / (int64_t)NSEC,
				   .tv_nsec = wait_ns % (int64_t)NSEC};
	int count = epoll_pwait2(node->ep, events, EVENTS, wait_ns < 0 ? NULL : &timeout, NULL);

	if (count == -1 && errno != EINTR)
		die("epoll_pwait2");
	return count;
}

static void make_answer(struct node *node)
{
	char body[ANSWER_LEN + 1];
	int start = snprintf(body, sizeof(body),
			     "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,"
			     "\"model\":\"m\",\"choices\":[{\"index\":0,\"finish_reason\":\"stop\","
			     "\"message\":{\"role\":\"assistant\",\"content\":\"");
	static const char end[] = "\"}}],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":9,"
				  "\"total_tokens\":18}}";

	memset(body + start, 'w', sizeof(body) - (size_t)start);
	memcpy(body + ANSWER_LEN - (sizeof(end) - 1), end, sizeof(end));
	node->answer_len = (size_t)snprintf(node->answer, sizeof(node->answer),
					    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
					    "Content-Length: %d\r\n\r\n%s",
					    ANSWER_LEN, body);
}

static void make_token(struct node *node)
{
	static const char event[] =
		"data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,"
		"\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":" STAMP
		"0000000000000000000 \"},\"finish_reason\":null}]}\n\n";

	node->token_len = (size_t)snprintf(node->token, sizeof(node->token), "%zx\r\n%s\r\n",
					   sizeof(event) - 1, event);
	node->stamp_at = (size_t)(strstr(node->token, STAMP) - node->token) + sizeof(STAMP) - 1;
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS];
	struct node *node;

	if (argc != 2)
		fail("usage: http_node PORT");
	node = calloc(1, sizeof(*node));
	if (!node)
		die("calloc");
	raise_descriptors();
	node->random = 88172645463325252ull;
	make_answer(node);
	make_token(node);
	node->listener = listen_on((uint16_t)number(argv[1], "port"));
	node->ep = epoll_create1(EPOLL_CLOEXEC);
	if (node->ep == -1)
		die("epoll_create1");
	watch(node->ep, node->listener, EPOLLIN, NULL);
	for (;;) {
		int count = wait_events(node, events, send_due(node));

		for (int i = 0; i < count; i++) {
			struct conn *conn = events[i].data.ptr;

			if (!conn)
				conn_open(node);
			else if (conn->fd != -1)
				conn_read(node, conn);
		}
		bury(node);
	}
}
