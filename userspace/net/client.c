/* SPDX-License-Identifier: MIT */
#include "net/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/buf.h"
#include "net/stream.h"

#define READ_SIZE 16384

struct client {
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} socket;
	uv_timer_t timer;
	uv_connect_t connect;
	uv_write_t write;
	unsigned open_handles;
	struct http1 *parser;	       /* NULL: raw */
	struct client_request request; /* its strings are not valid any more */
	struct buf out, body;
	struct client_result result;
	uint64_t connecting_at, sent_at; /* ns */
	size_t passed;			 /* decoded bytes seen */
	bool connected, answered, closed;
	bool decided; /* result.reason says how it ended; on_timer or the reader reports it */
};

static void on_closed(uv_handle_t *handle)
{
	struct client *client = handle->data;

	if (--client->open_handles)
		return;
	http1_free(client->parser);
	buf_fini(&client->out);
	buf_fini(&client->body);
	free(client);
}

void client_cancel(struct client *client)
{
	if (client->closed)
		return;
	client->closed = true;
	uv_close((uv_handle_t *)&client->timer, on_closed);
	uv_close(&client->socket.handle, on_closed);
}

static void decide(struct client *client, enum probe_reason reason)
{
	if (client->decided)
		return;
	client->decided = true;
	client->result.reason = reason;
}

/* Reports what was decided; the client is closing afterwards. */
static void report(struct client *client)
{
	struct client_result *result = &client->result;

	if (client->closed)
		return;
	if (!client->request.on_data) {
		result->body = client->body.data ? client->body.data : "";
		result->body_len = client->body.len;
	}
	client_cancel(client);
	if (client->request.on_done)
		client->request.on_done(client->request.arg, result);
}

static void end(struct client *client, enum probe_reason reason)
{
	decide(client, reason);
	report(client);
}

static enum probe_reason reason_of(int error)
{
	switch (error) {
	case UV_ECONNREFUSED:
	case UV_ENOENT: /* no such unix socket */
		return PROBE_REFUSED;
	case UV_ECONNRESET:
	case UV_EPIPE:
	case UV_ECONNABORTED:
		return PROBE_RESET;
	case UV_ETIMEDOUT:
		return PROBE_CONNECT_TIMEOUT;
	case UV_EMFILE:
	case UV_ENFILE:
	case UV_ENOMEM:
	case UV_ENOBUFS:
	case UV_EADDRNOTAVAIL: /* no port left */
	case UV_EAGAIN:	       /* a unix socket's backlog is full */
		return PROBE_LOCAL;
	default:
		return PROBE_UNREACHABLE;
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct client *client = timer->data;

	end(client, client->connected ? PROBE_ANSWER_TIMEOUT : PROBE_CONNECT_TIMEOUT);
}

/* Ends the exchange from the loop, for what went wrong before there was anything to wait for. */
static void end_later(struct client *client, enum probe_reason reason)
{
	decide(client, reason);
	uv_timer_start(&client->timer, on_timer, 0, 0);
}

/* A piece of the answer: passed on, or kept. Non-zero: enough. */
static int take(struct client *client, const char *data, size_t len)
{
	const struct client_request *request = &client->request;

	if (request->max_answer && len > request->max_answer - client->passed) {
		decide(client, PROBE_TOO_LARGE);
		return 1;
	}
	client->passed += len;
	if (!request->on_data) {
		buf_add(&client->body, data, len);
		if (buf_failed(&client->body))
			decide(client, PROBE_LOCAL);
	} else if (request->on_data(request->arg, data, len)) {
		decide(client, PROBE_OK);
	}
	return client->decided || client->closed;
}

static int on_head(void *arg, const struct http1_head *head)
{
	struct client *client = arg;

	if (head->status >= 200)
		client->result.status = head->status;
	else if (head->status == 101)
		decide(client, PROBE_BAD_HTTP); /* never asked for */
	return client->decided;
}

static int on_body(void *arg, const char *data, size_t len)
{
	return take(arg, data, len);
}

static enum probe_reason verdict(const struct client *client)
{
	return client->result.status / 100 == 2 ? PROBE_OK : PROBE_STATUS;
}

static int on_complete(void *arg)
{
	struct client *client = arg;

	if (!client->result.status)
		return 0; /* an interim answer */
	decide(client, verdict(client));
	return 1;
}

static const struct http1_events events = {
	.on_head = on_head, .on_body = on_body, .on_complete = on_complete};

static void on_bytes(struct client *client, const char *data, size_t len)
{
	int error;

	if (!client->answered) {
		client->answered = true;
		client->result.ttfb_ms = (uint32_t)((uv_hrtime() - client->sent_at) / 1000000);
	}
	error = client->parser ? http1_feed(client->parser, data, len) : take(client, data, len);
	if (error && !client->decided)
		decide(client, error == -ENOMEM ? PROBE_LOCAL : PROBE_BAD_HTTP);
	if (client->decided)
		report(client);
}

static void on_eof(struct client *client)
{
	enum probe_reason reason = PROBE_CLOSED;

	if (stream_was_reset(&client->socket.stream))
		reason = PROBE_RESET;
	else if (client->parser)
		http1_eof(
			client->parser); /* may complete an answer that ends with the connection */
	else if (!client->request.on_data)
		reason = PROBE_OK;
	if (!client->closed)
		end(client, reason);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	(void)handle;
	(void)suggested;
	buf->base = malloc(READ_SIZE);
	buf->len = buf->base ? READ_SIZE : 0;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct client *client = stream->data;

	if (client->closed)
		;
	else if (n > 0)
		on_bytes(client, buf->base, (size_t)n);
	else if (n == UV_EOF)
		on_eof(client);
	else if (n == UV_ENOBUFS)
		end(client, PROBE_LOCAL);
	else if (n < 0)
		end(client, n == UV_ETIMEDOUT ? PROBE_ANSWER_TIMEOUT : PROBE_RESET);
	free(buf->base);
}

static void on_written(uv_write_t *write, int status)
{
	/* A failure to write shows when reading, behind an answer that may have come before it. */
	(void)write;
	(void)status;
}

static void on_connect(uv_connect_t *connect, int status)
{
	struct client *client = connect->data;
	uv_buf_t out = {.base = client->out.data, .len = client->out.len};
	uint64_t now = uv_hrtime();

	if (client->closed)
		return;
	if (status < 0) {
		end(client, reason_of(status));
		return;
	}
	client->connected = true;
	client->sent_at = now;
	client->result.rtt_us = (uint32_t)((now - client->connecting_at) / 1000);
	if (client->request.connect_only) {
		end(client, PROBE_OK);
		return;
	}
	if (uv_read_start(&client->socket.stream, on_alloc, on_read) < 0 ||
	    (out.len && uv_write(&client->write, &client->socket.stream, &out, 1, on_written) < 0))
		end(client, PROBE_LOCAL);
}

/* What goes between a request's words must not end them. */
static bool is_clean(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text <= 0x20 || *text == 0x7f)
			return false;
	}
	return true;
}

static int write_request(struct client *client, const struct client_request *request)
{
	struct buf *out = &client->out;
	char host[ADDR_TEXT_MAX];

	if (request->raw || request->connect_only) {
		if (request->body)
			buf_add(out, request->body, request->body_len);
		return buf_failed(out) ? -ENOMEM : 0;
	}
	if (!is_clean(request->method) || !is_clean(request->target))
		return -EINVAL;
	buf_printf(out, "%s %s HTTP/1.1\r\nHost: %s\r\n", request->method, request->target,
		   request->unix_path ? "localhost"
				      : addr_format_port(request->address, request->port, host));
	buf_puts(out, "User-Agent: megalith\r\nAccept: */*\r\nConnection: close\r\n");
	if (request->body)
		buf_printf(out, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			   request->body_len);
	buf_puts(out, "\r\n");
	if (request->body)
		buf_add(out, request->body, request->body_len);
	return buf_failed(out) ? -ENOMEM : 0;
}

static int connect_unix(struct client *client, const char *path)
{
	if (strlen(path) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return UV_ENAMETOOLONG; /* libuv would cut it */
	uv_pipe_connect(&client->connect, &client->socket.pipe, path, on_connect);
	return 0;
}

static int connect_tcp(struct client *client, const struct client_request *request)
{
	struct sockaddr_storage where;
	int error;

	addr_to_sockaddr(request->address, request->port, &where);
	error = uv_tcp_connect(&client->connect, &client->socket.tcp, (struct sockaddr *)&where,
			       on_connect);
	if (!error)
		uv_tcp_nodelay(&client->socket.tcp, 1);
	return error;
}

static int prepare(struct client *client, const struct client_request *request)
{
	client->request = *request;
	if (!request->raw && !request->connect_only) {
		client->parser = http1_new(true, &events, client);
		if (!client->parser)
			return -ENOMEM;
		if (!strcmp(request->method, "HEAD"))
			http1_expect_no_body(client->parser);
	}
	return write_request(client, request);
}

struct client *client_start(uv_loop_t *loop, const struct client_request *request)
{
	struct client *client = calloc(1, sizeof(*client));
	int error = client ? prepare(client, request) : -ENOMEM;

	if (error) {
		if (client) {
			http1_free(client->parser);
			buf_fini(&client->out);
		}
		free(client);
		errno = -error;
		return NULL;
	}
	if (request->unix_path)
		uv_pipe_init(loop, &client->socket.pipe, 0);
	else
		uv_tcp_init(loop, &client->socket.tcp);
	uv_timer_init(loop, &client->timer);
	client->socket.handle.data = client;
	client->timer.data = client;
	client->connect.data = client;
	client->open_handles = 2;
	client->connecting_at = uv_hrtime();
	uv_update_time(
		loop); /* the deadline counts from now, not from when this turn of the loop began */
	if (request->timeout_ms)
		uv_timer_start(&client->timer, on_timer, request->timeout_ms, 0);
	error = request->unix_path ? connect_unix(client, request->unix_path)
				   : connect_tcp(client, request);
	if (error)
		end_later(client, reason_of(error));
	return client;
}
