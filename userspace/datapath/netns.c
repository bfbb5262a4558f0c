/* SPDX-License-Identifier: MIT */
#include "datapath/netns.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

uint64_t netns_cookie(void)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd == -1)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len))
		cookie = 0;
	close(fd);
	return cookie;
}

uint64_t netns_inode(void)
{
	struct stat st;

	return stat("/proc/thread-self/ns/net", &st) ? 0 : (uint64_t)st.st_ino;
}

static bool has_mount(uint64_t inode)
{
	char line[4096], want[64];
	bool found = false;
	FILE *mounts = fopen("/proc/self/mountinfo", "re");

	if (!mounts)
		return true; /* cannot tell: be careful */
	snprintf(want, sizeof(want), " net:[%llu] ", (unsigned long long)inode);
	while (!found && fgets(line, sizeof(line), mounts))
		found = strstr(line, want) != NULL;
	fclose(mounts);
	return found;
}

static bool has_process(uint64_t inode)
{
	struct dirent *entry;
	bool found = false;
	DIR *proc = opendir("/proc");

	if (!proc)
		return true;
	while (!found && (entry = readdir(proc))) {
		char path[300];
		struct stat st;

		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/ns/net", entry->d_name);
		found = stat(path, &st) == 0 && (uint64_t)st.st_ino == inode;
	}
	closedir(proc);
	return found;
}

bool netns_alive(uint64_t inode)
{
	return has_mount(inode) || has_process(inode);
}
