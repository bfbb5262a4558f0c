/* SPDX-License-Identifier: MIT */
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG	       4096 /* the kernel lowers it to its own limit */
#define ACCEPTS_A_TURN 64
#define REST_MS	       100

struct listener {
	uv_poll_t poll;
	uv_timer_t rest;
	int fd;
	unsigned open_handles;
	bool paused, resting, closed;
	listener_accept on_accept;
	void *arg;
	char *path; /* of a unix socket */
	dev_t device;
	ino_t inode;
};

static int set_flags(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	return 0;
}

static void on_readable(uv_poll_t *poll, int status, int events);

static void update(struct listener *listener)
{
	if (listener->closed)
		return;
	if (listener->paused || listener->resting)
		uv_poll_stop(&listener->poll);
	else
		uv_poll_start(&listener->poll, UV_READABLE, on_readable);
}

static void on_rested(uv_timer_t *timer)
{
	struct listener *listener = timer->data;

	listener->resting = false;
	update(listener);
}

static void rest(struct listener *listener)
{
	listener->resting = true;
	uv_timer_start(&listener->rest, on_rested, REST_MS, 0);
	update(listener);
}

/* Errors of one connection, or of its network: the next one may do (accept(2)). */
static bool is_passing(int error)
{
	return error == EINTR || error == ECONNABORTED || error == EPROTO || error == EPERM ||
	       error == ENETDOWN || error == ENETUNREACH || error == EHOSTUNREACH ||
	       error == EHOSTDOWN || error == ENOPROTOOPT || error == EOPNOTSUPP ||
	       error == ETIMEDOUT;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct listener *listener = poll->data;

	(void)events;
	if (status < 0) {
		rest(listener);
		return;
	}
	for (int i = 0; i < ACCEPTS_A_TURN && !listener->paused && !listener->closed; i++) {
		int fd = accept(listener->fd, NULL, NULL);

		if (fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (fd < 0 && is_passing(errno))
			continue;
		if (fd < 0) { /* EMFILE and the like: the queue stays readable */
			rest(listener);
			return;
		}
		if (set_flags(fd) < 0)
			close(fd);
		else
			listener->on_accept(listener->arg, fd);
	}
}

int listener_adopt(struct listener **result, uv_loop_t *loop, int fd, listener_accept on_accept,
		   void *arg)
{
	struct listener *listener = calloc(1, sizeof(*listener));
	int error;

	if (!listener) {
		close(fd);
		return -ENOMEM;
	}
	error = set_flags(fd);
	if (!error)
		error = uv_poll_init(loop, &listener->poll, fd);
	if (error) {
		close(fd);
		free(listener);
		return error;
	}
	uv_timer_init(loop, &listener->rest);
	listener->poll.data = listener;
	listener->rest.data = listener;
	listener->open_handles = 2;
	listener->fd = fd;
	listener->on_accept = on_accept;
	listener->arg = arg;
	update(listener);
	*result = listener;
	return 0;
}

static int bind_tcp(int fd, const struct addr *address, uint16_t *port, unsigned flags)
{
	struct sockaddr_storage where;
	socklen_t len = addr_to_sockaddr(address, *port, &where);
	int on = 1, v6only = (flags & LISTENER_V6ONLY) != 0;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if ((flags & LISTENER_REUSE_PORT) &&
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0)
		return -errno;
	if (where.ss_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&where, len) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	len = sizeof(where);
	if (getsockname(fd, (struct sockaddr *)&where, &len) < 0)
		return -errno;
	return addr_from_sockaddr(&(struct addr){{0}}, port, (struct sockaddr *)&where);
}

int listener_tcp(struct listener **listener, uv_loop_t *loop, const struct addr *address,
		 uint16_t *port, unsigned flags, listener_accept on_accept, void *arg)
{
	int fd = socket(addr_is_v4(address) ? AF_INET : AF_INET6, SOCK_STREAM, 0);
	int error;

	if (fd < 0)
		return -errno;
	error = bind_tcp(fd, address, port, flags);
	if (error) {
		close(fd);
		return error;
	}
	return listener_adopt(listener, loop, fd, on_accept, arg);
}

/* 0: the path is free now; -EADDRINUSE: somebody answers there, or it is no socket. */
static int clear_path(const struct sockaddr_un *where)
{
	struct stat status;
	int fd, error;

	if (lstat(where->sun_path, &status) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(status.st_mode))
		return -EADDRINUSE;
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0)
		return -errno;
	error = set_flags(fd);
	if (!error && connect(fd, (const struct sockaddr *)where, sizeof(*where)) < 0)
		error = -errno;
	close(fd);
	if (error == -ENOENT)
		return 0;
	if (error != -ECONNREFUSED)
		return -EADDRINUSE;
	return unlink(where->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int bind_unix(int fd, const struct sockaddr_un *where, unsigned mode, int gid)
{
	const char *path = where->sun_path;
	int error = 0;

	if (bind(fd, (const struct sockaddr *)where, sizeof(*where)) < 0)
		return -errno;
	/* Nobody can connect before listen(). */
	if ((gid >= 0 && lchown(path, (uid_t)-1, (gid_t)gid) < 0) ||
	    chmod(path, (mode_t)mode) < 0 || listen(fd, BACKLOG) < 0)
		error = -errno;
	if (error)
		unlink(path);
	return error;
}

static int keep_path(struct listener *listener, const char *path)
{
	struct stat status;

	if (lstat(path, &status) < 0)
		return -errno;
	listener->device = status.st_dev;
	listener->inode = status.st_ino;
	listener->path = strdup(path);
	return listener->path ? 0 : -ENOMEM;
}

int listener_unix(struct listener **listener, uv_loop_t *loop, const char *path, unsigned mode,
		  int gid, listener_accept on_accept, void *arg)
{
	struct sockaddr_un where = {.sun_family = AF_UNIX};
	int fd, error;

	if (strlen(path) >= sizeof(where.sun_path))
		return -ENAMETOOLONG;
	memcpy(where.sun_path, path, strlen(path));
	error = clear_path(&where);
	if (error)
		return error;
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (fd < 0)
		return -errno;
	error = bind_unix(fd, &where, mode, gid);
	if (error) {
		close(fd);
		return error;
	}
	error = listener_adopt(listener, loop, fd, on_accept, arg);
	if (error) {
		unlink(path);
		return error;
	}
	error = keep_path(*listener, path);
	if (error) {
		unlink(path);
		listener_free(*listener);
	}
	return error;
}

void listener_pause(struct listener *listener)
{
	listener->paused = true;
	update(listener);
}

void listener_resume(struct listener *listener)
{
	listener->paused = false;
	update(listener);
}

bool listener_paused(const struct listener *listener)
{
	return listener->paused;
}

static void on_closed(uv_handle_t *handle)
{
	struct listener *listener = handle->data;

	if (--listener->open_handles)
		return;
	free(listener->path);
	free(listener);
}

void listener_free(struct listener *listener)
{
	struct stat status;

	if (!listener || listener->closed)
		return;
	listener->closed = true;
	if (listener->path && !lstat(listener->path, &status) &&
	    status.st_dev == listener->device && status.st_ino == listener->inode)
		unlink(listener->path);
	uv_poll_stop(&listener->poll);
	uv_close((uv_handle_t *)&listener->poll, on_closed);
	uv_close((uv_handle_t *)&listener->rest, on_closed);
	close(listener->fd);
}
