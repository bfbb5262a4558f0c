/* SPDX-License-Identifier: MIT */
#include "proxy/outbox.h"

#include <stdlib.h>
#include <string.h>

struct outbox_flight {
	uv_write_t write;
	struct outbox *outbox;
	struct buf bytes; /* empty when they are lent */
	size_t len;
};

static int take_off(struct outbox *outbox, uv_buf_t *bufs, unsigned n, struct buf *own);

static void on_written(uv_write_t *write, int status)
{
	struct outbox_flight *flight = write->data;
	struct outbox *outbox = flight->outbox;
	struct buf waiting;
	uv_buf_t piece;

	if (status ==
	    UV_ECANCELED) { /* the stream is closed, and who owned the outbox has gone on */
		buf_fini(&flight->bytes);
		free(flight);
		return;
	}
	outbox->flight = NULL;
	outbox->unsent -= flight->len;
	buf_fini(&flight->bytes);
	free(flight);
	if (!status && outbox->waiting.len) {
		waiting = outbox->waiting;
		memset(&outbox->waiting, 0, sizeof(outbox->waiting));
		piece = uv_buf_init(waiting.data, (unsigned)waiting.len);
		outbox->unsent -= waiting.len; /* counted again by take_off() */
		status = take_off(outbox, &piece, 1, &waiting);
		if (!status)
			return;
	}
	outbox->on_done(outbox, status);
}

/* Hands the bytes to libuv. Takes over `own`. */
static int take_off(struct outbox *outbox, uv_buf_t *bufs, unsigned n, struct buf *own)
{
	struct outbox_flight *flight = calloc(1, sizeof(*flight));
	int error;

	if (!flight) {
		buf_fini(own);
		return UV_ENOMEM;
	}
	flight->outbox = outbox;
	flight->bytes = *own;
	for (unsigned i = 0; i < n; i++)
		flight->len += bufs[i].len;
	flight->write.data = flight;
	error = uv_write(&flight->write, outbox->stream, bufs, n, on_written);
	if (error) {
		buf_fini(&flight->bytes);
		free(flight);
		return error;
	}
	outbox->flight = flight;
	outbox->unsent += flight->len;
	return 0;
}

/* Writes what goes at once; *bufs and *n are what is left. */
static int write_now(struct outbox *outbox, uv_buf_t **bufs, unsigned *n)
{
	int done = uv_try_write(outbox->stream, *bufs, *n);
	size_t left;

	if (done == UV_EAGAIN)
		return 0;
	if (done < 0)
		return done;
	for (left = (size_t)done; *n && left >= (*bufs)->len; (*bufs)++, (*n)--)
		left -= (*bufs)->len;
	if (*n) {
		(*bufs)->base += left;
		(*bufs)->len -= left;
	}
	return 0;
}

int outbox_write(struct outbox *outbox, uv_buf_t *bufs, unsigned n)
{
	struct buf left = {0};
	int error = outbox->flight ? 0 : write_now(outbox, &bufs, &n);
	struct buf *to = outbox->flight ? &outbox->waiting : &left;
	size_t before = to->len;
	uv_buf_t piece;

	if (error || !n)
		return error;
	for (unsigned i = 0; i < n; i++)
		buf_add(to, bufs[i].base, bufs[i].len);
	if (buf_failed(to)) {
		buf_fini(to);
		return UV_ENOMEM;
	}
	if (to == &outbox->waiting) {
		outbox->unsent += to->len - before;
		return 0;
	}
	piece = uv_buf_init(left.data, (unsigned)left.len);
	return take_off(outbox, &piece, 1, &left);
}

int outbox_lend(struct outbox *outbox, uv_buf_t *bufs, unsigned n)
{
	struct buf none = {0};
	int error = write_now(outbox, &bufs, &n);

	return error || !n ? error : take_off(outbox, bufs, n, &none);
}

void outbox_fini(struct outbox *outbox)
{
	buf_fini(&outbox->waiting);
	outbox->unsent = 0;
}
