/* SPDX-License-Identifier: MIT */
/* What libuv's streams do not tell. */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include <stdbool.h>
#include <uv.h>

/*
 * On UV_EOF: was the connection in truth reset? libuv (1.44, uv__stream_io) reports the end when
 * data and a hang-up arrive in one event, without reading on; the socket's pending error still
 * knows. Asking clears it: ask once.
 */
bool stream_was_reset(const uv_stream_t *stream);

#endif
