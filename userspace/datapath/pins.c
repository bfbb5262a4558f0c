/* SPDX-License-Identifier: MIT */
#include "datapath/pins.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

int kern_fail(struct datapath_error *error, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error->text, sizeof(error->text), format, args);
	va_end(args);
	return -err;
}

void pin_path(char path[PATH_MAX], const char *dir, const char *prefix, const char *name)
{
	char *dot;

	snprintf(path, PATH_MAX, "%.3800s/%s%s", dir, prefix, name);
	for (dot = strrchr(path, '/'); *dot; dot++)
		if (*dot == '.')
			*dot = ':';
}

bool pin_exists(const char *dir, const char *prefix, const char *name)
{
	char path[PATH_MAX];

	pin_path(path, dir, prefix, name);
	return access(path, F_OK) == 0;
}

void pin_drop(const char *dir, const char *prefix, const char *name)
{
	char path[PATH_MAX];

	pin_path(path, dir, prefix, name);
	unlink(path);
}

static int not_dot(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

void pins_each(const char *dir, void (*visit)(const char *name, void *arg), void *arg)
{
	struct dirent **list;
	int n = scandir(dir, &list, not_dot, alphasort);

	for (int i = 0; i < n; i++) {
		visit(list[i]->d_name, arg);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

void pin_interface(char name[IF_NAMESIZE], const char *noted)
{
	snprintf(name, IF_NAMESIZE, "%s", noted);
	for (char *colon = name; *colon; colon++)
		if (*colon == ':')
			*colon = '.';
}

static int no_bpffs(const char *where, struct datapath_error *error)
{
	return kern_fail(error, ENODEV, "%s is not on a BPF filesystem: mount -t bpf bpf %s", where,
			 where);
}

int pins_make(char dir[PATH_MAX], const char *bpf_dir, struct datapath_error *error)
{
	char parent[PATH_MAX];
	struct statfs fs;
	char *slash;

	if (strlen(bpf_dir) > 3000 || bpf_dir[0] != '/')
		return kern_fail(error, EINVAL, "--bpf-dir %.100s: not an absolute path", bpf_dir);
	snprintf(parent, sizeof(parent), "%s", bpf_dir);
	if (access(parent, F_OK)) { /* the directory that it will be made in */
		slash = strrchr(parent, '/');
		slash[slash == parent] = '\0';
	}
	if (statfs(parent, &fs))
		return kern_fail(error, errno, "--bpf-dir %s: %s: %s", bpf_dir, parent,
				 strerror(errno));
	if ((unsigned long)fs.f_type != BPF_FS_MAGIC)
		return no_bpffs(parent, error);
	snprintf(dir, PATH_MAX, "%.3000s/v%d", bpf_dir, MG_LAYOUT);
	if ((mkdir(bpf_dir, 0700) == 0 || errno == EEXIST) &&
	    (mkdir(dir, 0700) == 0 || errno == EEXIST))
		return 0;
	kern_fail(error, 0, "cannot make %s: %s", dir, strerror(errno));
	rmdir(bpf_dir);
	return -EIO;
}

/* Who holds the lock on the file; 0: cannot tell. */
static int lock_holder(int fd)
{
	char line[256], want[64];
	struct stat st;
	int pid, found = 0;
	FILE *locks = fopen("/proc/locks", "re");

	if (!locks || fstat(fd, &st)) {
		if (locks)
			fclose(locks);
		return 0;
	}
	snprintf(want, sizeof(want), ":%llu ", (unsigned long long)st.st_ino);
	while (!found && fgets(line, sizeof(line), locks))
		if (strstr(line, want) && sscanf(line, "%*d: FLOCK %*s %*s %d", &pid) == 1)
			found = pid;
	fclose(locks);
	return found;
}

int pins_lock(const char *dir, struct datapath_error *error)
{
	int pid, fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char who[32] = "";

	if (fd == -1)
		return kern_fail(error, errno, "cannot open %s: %s", dir, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	pid = lock_holder(fd);
	if (pid)
		snprintf(who, sizeof(who), " (pid %d)", pid);
	close(fd);
	return kern_fail(error, EBUSY, "another controller%s works on %s", who, dir);
}
