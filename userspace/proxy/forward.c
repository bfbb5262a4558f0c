/* SPDX-License-Identifier: MIT */
/*
 * Heads, made anew: what belongs to one hop is left out (RFC 9110 §7.6.1), the framing is ours (RFC
 * 9112 §6), everything else goes on as it came.
 */
#include <string.h>
#include <time.h>

#include "proxy/router_impl.h"

static bool one_of(const char *name, const char *const *list)
{
	for (; *list; list++) {
		if (**list == *name && !strcmp(*list, name))
			return true;
	}
	return false;
}

static const char *const hop_fields[] = {"connection",
					 "keep-alive",
					 "proxy-connection",
					 "te",
					 "trailer",
					 "transfer-encoding",
					 "upgrade",
					 "http2-settings",
					 "content-length",
					 "proxy-authenticate",
					 "proxy-authorization",
					 NULL};

/* Made by us, or meant for us. */
static const char *const request_fields[] = {"host",
					     "expect",
					     "x-request-id",
					     "forwarded",
					     "x-forwarded-for",
					     "x-forwarded-host",
					     "x-forwarded-proto",
					     "x-forwarded-port",
					     "x-real-ip",
					     NULL};
/* The router's keys are not the nodes'. */
static const char *const key_fields[] = {"authorization", "x-api-key", NULL};
static const char *const response_fields[] = {"x-request-id",	     "x-megalith-node",
					      "x-megalith-persona",  "x-megalith-model",
					      "x-megalith-attempts", NULL};

static void add_number(struct buf *out, uint64_t number)
{
	char digits[20], *at = digits + sizeof(digits);

	do {
		*--at = (char)('0' + number % 10);
		number /= 10;
	} while (number);
	buf_add(out, at, (size_t)(digits + sizeof(digits) - at));
}

static void add_number_line(struct buf *out, const char *name, uint64_t number)
{
	buf_puts(out, name);
	buf_add(out, ": ", 2);
	add_number(out, number);
	buf_add(out, "\r\n", 2);
}

void forward_status_line(struct buf *out, int status)
{
	buf_add(out, "HTTP/1.1 ", 9);
	add_number(out, (uint64_t)status);
	buf_add(out, " ", 1);
	buf_puts(out, http1_reason(status));
	buf_add(out, "\r\n", 2);
}

static void add_line(struct buf *out, const char *name, const char *value)
{
	buf_puts(out, name);
	buf_add(out, ": ", 2);
	buf_puts(out, value);
	buf_add(out, "\r\n", 2);
}

/* A value that comes from a configuration: no control characters in a head. */
static void add_clean(struct buf *out, const char *name, const char *value)
{
	size_t at;

	buf_puts(out, name);
	buf_add(out, ": ", 2);
	at = out->len;
	buf_puts(out, value);
	for (; at < out->len; at++) {
		if ((unsigned char)out->data[at] < 0x20 || out->data[at] == 0x7f)
			out->data[at] = '?';
	}
	buf_add(out, "\r\n", 2);
}

static bool is_named(const struct http1_head *head, const char *connection, const char *name)
{
	return connection && http1_has_token(head, "connection", name);
}

static bool request_keeps(const struct request *request, const char *connection, const char *name)
{
	if (one_of(name, hop_fields) || one_of(name, request_fields))
		return false;
	if (!request->opaque && one_of(name, key_fields))
		return false;
	/* An answer that is compressed cannot be watched. */
	if (!strcmp(name, "accept-encoding") && request->path->kind != PATH_OPAQUE)
		return false;
	return !is_named(request->head, connection, name);
}

/* "chat/completions" came without its "/v1": the node gets the whole path. */
static void add_target(const struct request *request, struct buf *out)
{
	const char *target = request->head->target, *text = request->path->text;
	size_t path = strcspn(target, "?");

	if (request->opaque || !*text) {
		buf_puts(out, target);
		return;
	}
	buf_puts(out, text);
	buf_puts(out, target + path);
}

void forward_request(const struct request *request, struct buf *out, int64_t length)
{
	const struct http1_head *head = request->head;
	const char *connection = http1_field(head, "connection");
	const struct plan_endpoint *to = &request->router->view->plan->endpoints[request->endpoint];
	char text[ADDR_TEXT_MAX];

	buf_reserve(out, 512);
	buf_puts(out, head->method);
	buf_add(out, " ", 1);
	add_target(request, out);
	buf_add(out, " HTTP/1.1\r\n", 11);
	add_line(out, "Host", addr_format_port(&to->addr, to->port, text));
	for (size_t i = 0; i < head->n_fields; i++) {
		if (request_keeps(request, connection, head->fields[i].name))
			add_line(out, head->fields[i].name, head->fields[i].value);
	}
	add_line(out, "via", "1.1 megalith");
	add_line(out, "x-forwarded-for", addr_format(&request->down->peer, text));
	add_line(out, "x-request-id", request->id);
	if (request->upgrade)
		buf_puts(out, "connection: Upgrade\r\nupgrade: websocket\r\n");
	if (head->chunked && request->streamed) {
		buf_puts(out, "transfer-encoding: chunked\r\n");
	} else if (length > 0 || request->has_body || !strcmp(head->method, "POST")) {
		add_number_line(out, "content-length", length > 0 ? (uint64_t)length : 0);
	}
	buf_add(out, "\r\n", 2);
}

void forward_marks(const struct request *request, struct buf *out)
{
	add_line(out, "x-request-id", request->id);
	if (request->attempts) {
		add_line(out, "x-megalith-node", request->node);
		add_line(out, "x-megalith-persona", request->persona);
	}
	if (request->model[0])
		add_clean(out, "x-megalith-model",
			  request->asked ? request->asked : request->model);
	add_number_line(out, "x-megalith-attempts", request->attempts);
}

void forward_date(struct router *router, struct buf *out)
{
	time_t now = time(NULL);
	struct tm utc;

	if (now != router->date_s) {
		router->date_s = now;
		gmtime_r(&now, &utc);
		strftime(router->date, sizeof(router->date), "%a, %d %b %Y %H:%M:%S GMT", &utc);
	}
	add_line(out, "date", router->date);
}

static void add_framing(const struct request *request, const struct http1_head *head,
			struct buf *out)
{
	if (head->status < 200 || head->status == 204)
		return;
	if (head->content_length >= 0)
		add_number_line(out, "content-length", (uint64_t)head->content_length);
	else if (request->node_chunked)
		buf_puts(out, "transfer-encoding: chunked\r\n");
	if (!request->down->keep_alive || request->to_close)
		buf_puts(out, "connection: close\r\n");
	else if (request->http10)
		buf_puts(out, "connection: keep-alive\r\n");
}

void forward_response(const struct request *request, const struct http1_head *head, struct buf *out)
{
	const char *connection = http1_field(head, "connection");
	bool date = false, cached = false, accel = false;

	buf_reserve(out, 768);
	forward_status_line(out, head->status);
	for (size_t i = 0; i < head->n_fields; i++) {
		const char *name = head->fields[i].name;

		if (one_of(name, hop_fields) || one_of(name, response_fields) ||
		    is_named(head, connection, name))
			continue;
		date = date || !strcmp(name, "date");
		cached = cached || !strcmp(name, "cache-control");
		accel = accel || !strcmp(name, "x-accel-buffering");
		add_line(out, name, head->fields[i].value);
	}
	if (head->status == 101)
		buf_puts(out, "connection: Upgrade\r\nupgrade: websocket\r\n");
	if (head->status >= 200 && !date)
		forward_date(request->router, out);
	if (request->events.kind != EVENTS_NONE && !cached)
		buf_puts(out, "cache-control: no-cache\r\n");
	if (request->events.kind != EVENTS_NONE && !accel)
		buf_puts(out, "x-accel-buffering: no\r\n");
	if (head->status >= 200 || head->status == 101)
		forward_marks(request, out);
	add_framing(request, head, out);
	buf_add(out, "\r\n", 2);
}
