/* SPDX-License-Identifier: MIT */
/* Connections that speak no HTTP, or no more: raw TCP (the node's name, then an echo), Wyoming,
 * websockets. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "simnode/sim_impl.h"

#define UNWRITTEN_MAX (1u << 20) /* stop reading; go on at a quarter */

struct sim_stream {
	uv_tcp_t tcp;
	uv_shutdown_t shutdown;
	struct sim_stream *prev, *next;
	struct simnode *node;
	enum { PLAIN, WYOMING, WEBSOCKET } protocol;
	struct sim_wyoming events;
	struct sim_websocket frames;
	bool reading, ended;
};

struct write {
	uv_write_t request;
	char data[];
};

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf);
static void on_read(uv_stream_t *tcp, ssize_t n, const uv_buf_t *buf);

static void on_closed(uv_handle_t *handle)
{
	struct sim_stream *stream = handle->data;

	sim_release(stream->node);
	buf_fini(&stream->events.line);
	free(stream);
}

static void stream_close(struct sim_stream *stream)
{
	if (uv_is_closing((uv_handle_t *)&stream->tcp))
		return;
	*(stream->prev ? &stream->prev->next : &stream->node->streams) = stream->next;
	if (stream->next)
		stream->next->prev = stream->prev;
	stream->node->open--;
	uv_close((uv_handle_t *)&stream->tcp, on_closed);
}

static void set_reading(struct sim_stream *stream, bool reading)
{
	if (reading == stream->reading || uv_is_closing((uv_handle_t *)&stream->tcp))
		return;
	stream->reading = reading;
	if (!reading)
		uv_read_stop((uv_stream_t *)&stream->tcp);
	else if (uv_read_start((uv_stream_t *)&stream->tcp, on_alloc, on_read) < 0)
		stream_close(stream);
}

static void on_written(uv_write_t *request, int status)
{
	struct sim_stream *stream = request->handle->data;

	free(request);
	if (status < 0)
		stream_close(stream);
	else if (!stream->ended && stream->tcp.write_queue_size < UNWRITTEN_MAX / 4)
		set_reading(stream, true);
}

static void stream_write(struct sim_stream *stream, const char *data, size_t len)
{
	uv_stream_t *tcp = (uv_stream_t *)&stream->tcp;
	uv_buf_t buf = {.base = (char *)(uintptr_t)data, .len = len};
	int written = uv_try_write(tcp, &buf, 1);
	size_t gone = written > 0 ? (size_t)written : 0;
	struct write *rest;

	if (written < 0 && written != UV_EAGAIN) {
		stream_close(stream);
		return;
	}
	if (gone == len)
		return;
	rest = malloc(sizeof(*rest) + len - gone);
	if (rest) {
		memcpy(rest->data, data + gone, len - gone);
		buf = (uv_buf_t){.base = rest->data, .len = len - gone};
	}
	if (!rest || uv_write(&rest->request, tcp, &buf, 1, on_written) < 0) {
		free(rest);
		stream_close(stream);
		return;
	}
	if (tcp->write_queue_size > UNWRITTEN_MAX)
		set_reading(stream, false);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
	(void)status;
	stream_close(request->handle->data);
}

/* The peer sends no more: it gets what is left, then the end. */
static void on_eof(struct sim_stream *stream)
{
	stream->ended = true;
	set_reading(stream, false);
	if (uv_shutdown(&stream->shutdown, (uv_stream_t *)&stream->tcp, on_shutdown) < 0)
		stream_close(stream);
}

static void on_data(struct sim_stream *stream, const char *data, size_t len)
{
	struct buf out = {0};
	enum sim_feed result = SIM_GO_ON;

	if (stream->protocol == PLAIN) {
		stream_write(stream, data, len);
		return;
	}
	if (stream->protocol == WEBSOCKET)
		result = sim_websocket_feed(&stream->frames, data, len, &out);
	else if (!sim_wyoming_feed(&stream->events, stream->node->name, data, len, &out))
		result = SIM_BAD;
	if (out.len && !buf_failed(&out))
		stream_write(stream, out.data, out.len);
	if (result == SIM_BAD || buf_failed(&out))
		stream_close(stream);
	else if (result == SIM_END && !uv_is_closing((uv_handle_t *)&stream->tcp))
		on_eof(stream);
	buf_fini(&out);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct simnode *node = ((struct sim_stream *)handle->data)->node;

	(void)suggested;
	*buf = (uv_buf_t){.base = node->read_buffer, .len = sizeof(node->read_buffer)};
}

static void on_read(uv_stream_t *tcp, ssize_t n, const uv_buf_t *buf)
{
	struct sim_stream *stream = tcp->data;

	if (n > 0)
		on_data(stream, buf->base, (size_t)n);
	else if (n == UV_EOF)
		on_eof(stream);
	else if (n < 0)
		stream_close(stream);
}

static void say_name(struct sim_stream *stream)
{
	struct buf out = {0};

	buf_printf(&out, "%s\n", stream->node->name);
	if (!buf_failed(&out))
		stream_write(stream, out.data, out.len);
	buf_fini(&out);
}

/* NULL: no memory; the descriptor is closed. */
static struct sim_stream *stream_new(struct sim_service *service, int fd)
{
	struct simnode *node = service->node;
	struct sim_stream *stream = calloc(1, sizeof(*stream));

	if (!stream) {
		close(fd);
		return NULL;
	}
	node->connections++;
	node->open++;
	node->references++;
	stream->node = node;
	stream->next = node->streams;
	if (stream->next)
		stream->next->prev = stream;
	node->streams = stream;
	uv_tcp_init(node->loop, &stream->tcp);
	stream->tcp.data = stream;
	if (uv_tcp_open(&stream->tcp, fd) < 0) {
		close(fd);
		stream_close(stream);
		return NULL;
	}
	uv_tcp_nodelay(&stream->tcp, 1);
	return stream;
}

void sim_on_connection(void *arg, int fd)
{
	struct sim_service *service = arg;
	struct sim_stream *stream = stream_new(service, fd);

	if (!stream)
		return;
	stream->protocol = service->routes & SIM_WYOMING ? WYOMING : PLAIN;
	if (stream->protocol == PLAIN)
		say_name(stream);
	set_reading(stream, true);
}

void sim_on_websocket(struct sim_service *service, int fd, const struct buf *hello,
		      const char *data, size_t len)
{
	struct sim_stream *stream = stream_new(service, fd);

	if (!stream)
		return;
	stream->protocol = WEBSOCKET;
	stream_write(stream, hello->data, hello->len);
	if (len && !uv_is_closing((uv_handle_t *)&stream->tcp))
		on_data(stream, data, len);
	if (!stream->ended)
		set_reading(stream, true);
}

void sim_streams_close(struct simnode *node)
{
	while (node->streams)
		stream_close(node->streams);
}
