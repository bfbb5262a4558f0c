/* SPDX-License-Identifier: MIT */
/*
 * Listening sockets: TCP and unix, accepted descriptors out. Owns the listening descriptor and, for
 * a unix socket, its path. When descriptors or memory run out it rests for 100 ms instead of
 * spinning: peers wait in the backlog. Knows nothing of what is spoken.
 */
#ifndef NET_LISTEN_H
#define NET_LISTEN_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/addr.h"

struct listener;

/*
 * A peer connected. `fd` is the callee's (close-on-exec, non-blocking): hand it to uv_tcp_open() or
 * uv_pipe_open(), or close it. Called from the loop, at most 64 times a turn; may call any
 * listener_ function.
 */
typedef void (*listener_accept)(void *arg, int fd);

#define LISTENER_REUSE_PORT 1u /* SO_REUSEPORT: several processes share the port */
#define LISTENER_V6ONLY	    2u

/* *port 0: any; written back. 0 and *listener, or -errno. */
int listener_tcp(struct listener **listener, uv_loop_t *loop, const struct addr *address,
		 uint16_t *port, unsigned flags, listener_accept on_accept, void *arg);
/*
 * A socket at `path` on which nobody answers is replaced; one that answers, or anything else of
 * that name, is -EADDRINUSE. The mode is set (as chmod) and the group changed (gid -1: not) before
 * anyone can connect.
 */
int listener_unix(struct listener **listener, uv_loop_t *loop, const char *path, unsigned mode,
		  int gid, listener_accept on_accept, void *arg);
/* Adopts a listening descriptor (a unit manager's, a parent's); from now on it is the listener's.
 */
int listener_adopt(struct listener **listener, uv_loop_t *loop, int fd, listener_accept on_accept,
		   void *arg);
/* While paused peers wait in the backlog. Both may be called again and again. */
void listener_pause(struct listener *listener);
void listener_resume(struct listener *listener);
bool listener_paused(const struct listener *listener);
/* Closes at once; a unix socket's path is removed if it still is this socket. NULL is allowed. */
void listener_free(struct listener *listener);

#endif
