/* SPDX-License-Identifier: MIT */
/*
 * What is to be written to a socket: at once where the kernel takes it, else in order, later.
 * Holds memory only while something waits. Owns that memory, not the stream.
 */
#ifndef PROXY_OUTBOX_H
#define PROXY_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/buf.h"

struct outbox_flight;

struct outbox { /* zeroed memory, stream and on_done set */
	uv_stream_t *stream;
	/* All that waited is written (0), or it cannot be (-errno). Not from within a call. */
	void (*on_done)(struct outbox *outbox, int status);
	struct outbox_flight *flight; /* with libuv; NULL: nothing waits */
	struct buf waiting;	      /* behind it */
	size_t unsent;		      /* bytes of both */
};

/* Copies what has to wait. 0, or -errno: the stream is broken. `bufs` is changed. */
int outbox_write(struct outbox *outbox, uv_buf_t *bufs, unsigned n);
/* Copies nothing: the bytes must stay until on_done(). Only while nothing waits. */
int outbox_lend(struct outbox *outbox, uv_buf_t *bufs, unsigned n);
/* When the stream is being closed. */
void outbox_fini(struct outbox *outbox);

#endif
