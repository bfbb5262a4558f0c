/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "net/server_impl.h"
#include "net/url.h"

#define PAIRS_MAX 32

struct exchange *exchange_new(struct peer *peer, const struct http1_head *head)
{
	struct exchange *exchange = calloc(1, sizeof(*exchange));

	if (!exchange)
		return NULL;
	exchange->peer = peer;
	exchange->head = head;
	exchange->bodiless = !strcmp(head->method, "HEAD");
	exchange->keep_alive = head->keep_alive;
	return exchange;
}

void exchange_free(struct exchange *exchange)
{
	if (!exchange)
		return;
	buf_fini(&exchange->body);
	free(exchange->decoded);
	free(exchange->pairs);
	free(exchange);
}

/* "a=1&b" from `at` on, in place. */
static int decode_query(struct exchange *exchange, char *at)
{
	exchange->pairs = calloc(PAIRS_MAX, sizeof(*exchange->pairs));
	if (!exchange->pairs)
		return -ENOMEM;
	while (*at && exchange->n_pairs < PAIRS_MAX) {
		struct query_pair *pair = &exchange->pairs[exchange->n_pairs++];
		size_t len = strcspn(at, "&");
		char *next = at[len] ? at + len + 1 : at + len, *equals = memchr(at, '=', len);
		size_t name = equals ? (size_t)(equals - at) : len;
		char *value = equals ? equals + 1 : at + len;

		pair->name = at;
		pair->value = value;
		if (url_decode(value, value, len - (size_t)(value - at), true) < 0 ||
		    url_decode(at, at, name, true) < 0)
			return -EBADMSG;
		at = next;
	}
	return *at ? -EBADMSG : 0;
}

int exchange_decode(struct exchange *exchange)
{
	const char *target = exchange->head->target;
	size_t path = strcspn(target, "?");

	exchange->decoded = strdup(target);
	if (!exchange->decoded)
		return -ENOMEM;
	if (target[path]) {
		int error = decode_query(exchange, exchange->decoded + path + 1);

		if (error)
			return error;
	}
	return url_decode(exchange->decoded, target, path, false) < 0 ? -EBADMSG : 0;
}

const struct http1_head *exchange_head(const struct exchange *exchange)
{
	return exchange->head;
}

const char *exchange_path(const struct exchange *exchange)
{
	return exchange->decoded;
}

const char *exchange_query(const struct exchange *exchange, const char *name)
{
	for (size_t i = 0; i < exchange->n_pairs; i++) {
		if (!strcmp(exchange->pairs[i].name, name))
			return exchange->pairs[i].value;
	}
	return NULL;
}

const char *exchange_body(const struct exchange *exchange, size_t *len)
{
	if (len)
		*len = exchange->body.len;
	return exchange->body.data ? exchange->body.data : "";
}

int exchange_fd(const struct exchange *exchange)
{
	uv_os_fd_t fd = -1;

	return uv_fileno(&exchange->peer->socket.handle, &fd) < 0 ? -1 : fd;
}

void exchange_set_data(struct exchange *exchange, void *data)
{
	exchange->data = data;
}

void *exchange_data(const struct exchange *exchange)
{
	return exchange->data;
}

void exchange_head_lines(struct buf *out, int status, const char *content_type)
{
	char date[40];
	struct tm tm;
	time_t now = time(NULL);

	buf_printf(out, "HTTP/1.1 %d %s\r\n", status, http1_reason(status));
	if (gmtime_r(&now, &tm) && strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm))
		buf_printf(out, "Date: %s\r\n", date);
	if (content_type)
		buf_printf(out, "Content-Type: %s\r\n", content_type);
}

static void end_head(struct buf *out, const struct exchange *exchange, const char *fields)
{
	if (!exchange->keep_alive)
		buf_puts(out, "Connection: close\r\n");
	else if (exchange->head->http10)
		buf_puts(out, "Connection: keep-alive\r\n");
	if (fields)
		buf_puts(out, fields);
	buf_puts(out, "\r\n");
}

/* The exchange is over; its memory goes. */
static void finish(struct exchange *exchange)
{
	struct peer *peer = exchange->peer;
	bool keep_alive = exchange->keep_alive;

	peer->exchange = NULL;
	exchange_free(exchange);
	peer_answered(peer, keep_alive);
}

static bool has_no_body(int status)
{
	return status < 200 || status == 204 || status == 304;
}

void exchange_answer(struct exchange *exchange, int status, const char *content_type,
		     const char *body, size_t len, const char *fields)
{
	struct buf head = {0};
	uv_buf_t bufs[2];

	exchange_head_lines(&head, status, content_type);
	if (!has_no_body(status))
		buf_printf(&head, "Content-Length: %zu\r\n", len);
	end_head(&head, exchange, fields);
	if (buf_failed(&head)) {
		buf_fini(&head);
		exchange_abort(exchange);
		return;
	}
	if (has_no_body(status))
		exchange->bodiless = true;
	bufs[0] = (uv_buf_t){.base = head.data, .len = head.len};
	bufs[1] = (uv_buf_t){.base = (char *)(uintptr_t)body, .len = len};
	peer_write(exchange->peer, bufs, exchange->bodiless || !len ? 1 : 2);
	buf_fini(&head);
	finish(exchange);
}

void exchange_begin(struct exchange *exchange, int status, const char *content_type,
		    const char *fields)
{
	struct buf head = {0};
	uv_buf_t out;

	exchange->begun = true;
	exchange->chunked = !exchange->head->http10 && !has_no_body(status);
	if (has_no_body(status))
		exchange->bodiless = true;
	if (!exchange->chunked && !exchange->bodiless)
		exchange->keep_alive = false; /* the end of the connection ends the answer */
	exchange_head_lines(&head, status, content_type);
	if (exchange->chunked)
		buf_puts(&head, "Transfer-Encoding: chunked\r\n");
	end_head(&head, exchange, fields);
	out = (uv_buf_t){.base = head.data, .len = head.len};
	if (buf_failed(&head)) { /* the peer sees the connection end without an answer */
		exchange->keep_alive = false;
		exchange->bodiless = true;
	} else {
		peer_write(exchange->peer, &out, 1);
	}
	buf_fini(&head);
}

size_t exchange_write(struct exchange *exchange, const char *data, size_t len)
{
	struct peer *peer = exchange->peer;
	char size[24], end[] = "\r\n";
	uv_buf_t bufs[3] = {{.base = size},
			    {.base = (char *)(uintptr_t)data, .len = len},
			    {.base = end, .len = 2}};

	if (len && !exchange->bodiless) {
		bufs[0].len = (size_t)snprintf(size, sizeof(size), "%zx\r\n", len);
		peer_write(peer, exchange->chunked ? bufs : bufs + 1, exchange->chunked ? 3 : 1);
	}
	return uv_stream_get_write_queue_size(&peer->socket.stream);
}

void exchange_end(struct exchange *exchange)
{
	char last[] = "0\r\n\r\n";
	uv_buf_t out = {.base = last, .len = 5};

	if (exchange->chunked && !exchange->bodiless)
		peer_write(exchange->peer, &out, 1);
	finish(exchange);
}

static void drop(struct exchange *exchange, bool reset)
{
	struct peer *peer = exchange->peer;

	peer->exchange = NULL;
	exchange_free(exchange);
	peer_close(peer, reset);
}

void exchange_abort(struct exchange *exchange)
{
	/* Where the close alone would look like the end of the answer, it has to be a reset. */
	drop(exchange, exchange->begun && !exchange->chunked);
}

void exchange_reset(struct exchange *exchange)
{
	drop(exchange, true);
}

size_t exchange_write_raw(struct exchange *exchange, const char *data, size_t len)
{
	struct peer *peer = exchange->peer;
	uv_buf_t out = {.base = (char *)(uintptr_t)data, .len = len};

	if (len)
		peer_write(peer, &out, 1);
	return uv_stream_get_write_queue_size(&peer->socket.stream);
}

void exchange_upgrade(struct exchange *exchange, const char *fields, exchange_upgraded on_upgraded,
		      void *arg)
{
	struct buf head = {0};

	buf_printf(&head, "HTTP/1.1 101 %s\r\nConnection: Upgrade\r\n%s\r\n", http1_reason(101),
		   fields ? fields : "");
	if (buf_failed(&head)) {
		exchange_abort(exchange);
	} else {
		exchange->on_upgraded = on_upgraded;
		exchange->upgraded_arg = arg;
		exchange_write_raw(exchange, head.data, head.len);
		peer_upgrade(exchange->peer);
	}
	buf_fini(&head);
}
