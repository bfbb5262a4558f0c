/* SPDX-License-Identifier: MIT */
#include "net/stream.h"

#include <sys/socket.h>

bool stream_was_reset(const uv_stream_t *stream)
{
	uv_os_fd_t fd;
	int error = 0;
	socklen_t len = sizeof(error);

	if (uv_fileno((const uv_handle_t *)stream, &fd) < 0)
		return false;
	return !getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) && error;
}
