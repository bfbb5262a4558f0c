/* SPDX-License-Identifier: MIT */
#include "base/notify.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Length of the address of `path`, 0 if it is none. '@' stands for the NUL of an abstract name
 * (Linux). */
static socklen_t notify_address(const char *path, struct sockaddr_un *address)
{
	size_t len = strlen(path);

	if ((path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof(address->sun_path))
		return 0;
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, len);
	if (path[0] == '@')
		address->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

void notify_systemd(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address;
	socklen_t len = path ? notify_address(path, &address) : 0;
	int fd;

	if (!len)
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (fd == -1)
		return;
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	/* A failure is left to the manager's own timeout: nothing can be done about it here. */
	(void)sendto(fd, state, strlen(state), 0, (struct sockaddr *)&address, len);
	close(fd);
}
