/* SPDX-License-Identifier: MIT */
#include "datapath/privileges.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "datapath/kern.h"

#define BIT(cap) (UINT64_C(1) << (cap))

static int caps_get(uint64_t *effective)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	if (syscall(SYS_capget, &header, data) == -1)
		return -errno;
	*effective = data[0].effective | (uint64_t)data[1].effective << 32;
	return 0;
}

static int caps_set(uint64_t keep)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	for (int i = 0; i < 2; i++) {
		data[i].effective = (uint32_t)(keep >> (32 * i));
		data[i].permitted = data[i].effective;
	}
	return syscall(SYS_capset, &header, data) == -1 ? -errno : 0;
}

int privileges_check(struct datapath_error *error)
{
	const uint64_t need = BIT(CAP_BPF) | BIT(CAP_NET_ADMIN);
	uint64_t have;
	int err = caps_get(&have);

	if (err)
		return kern_fail(error, -err, "cannot read this process's capabilities: %s",
				 strerror(-err));
	if ((have & need) == need)
		return 0;
	return kern_fail(error, EPERM,
			 "the datapath needs root, or CAP_BPF and CAP_NET_ADMIN (missing: %s%s); "
			 "\"datapath\": \"none\" works without",
			 have & BIT(CAP_BPF) ? "" : "CAP_BPF ",
			 have & BIT(CAP_NET_ADMIN) ? "" : "CAP_NET_ADMIN");
}

/* A child of ours can never get back what is not in the bounding set. */
static int bound(uint64_t keep)
{
	for (int cap = 0; cap < 64; cap++) {
		int in = prctl(PR_CAPBSET_READ, cap);

		if (in == -1) /* past the kernel's last */
			break;
		if (in == 1 && !(keep & BIT(cap)) && prctl(PR_CAPBSET_DROP, cap) == -1)
			return -errno;
	}
	return 0;
}

int datapath_drop_privileges(bool keep_child_rights, struct datapath_error *error)
{
	uint64_t have, keep = BIT(CAP_BPF) | BIT(CAP_NET_ADMIN);
	int err = caps_get(&have);

	if (keep_child_rights)
		keep |= BIT(CAP_SETUID) | BIT(CAP_SETGID) | BIT(CAP_KILL);
	if (err)
		goto fail;
	/* what we never had we cannot keep; without CAP_SETPCAP the bounding set stays as it is */
	if (have & BIT(CAP_SETPCAP))
		err = bound(keep);
	if (!err && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == -1)
		err = -errno;
	if (!err)
		err = caps_set(keep & have);
	if (!err)
		return 0;
fail:
	return kern_fail(error, -err, "cannot give up privileges: %s", strerror(-err));
}
