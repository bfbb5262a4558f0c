/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/peer.h"

int peer_uid(int fd, uid_t *uid)
{
#ifdef SO_PEERCRED
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == -1)
		return -errno;
	*uid = peer.uid;
#else
	gid_t gid;

	if (getpeereid(fd, uid, &gid) == -1)
		return -errno;
#endif
	return 0;
}
