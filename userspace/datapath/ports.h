/* SPDX-License-Identifier: MIT */
/*
 * Keeps the SNAT ports out of the kernel's own choice of source ports:
 * net.ipv4.ip_local_reserved_ports of this network namespace (IPv6 obeys the same list). What
 * others reserved stays as it was.
 */
#ifndef DATAPATH_PORTS_H
#define DATAPATH_PORTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define PORTS_FILE "/proc/sys/net/ipv4/ip_local_reserved_ports"

struct ports { /* a set of ports */
	uint8_t bits[65536 / 8];
};

bool ports_has(const struct ports *ports, uint16_t port);

/* "8080,9000-9010\n" → set. 0, or -EINVAL. */
int ports_parse(struct ports *ports, const char *text);
/* The set as the kernel writes it. */
void ports_format(const struct ports *ports, struct buf *out);

/* The set in `file` → *ports. 0 or -errno. */
int ports_read(struct ports *ports, const char *file);

/* Adds first..last to the set in `file` and looks whether it holds. 0 or -errno. */
int ports_reserve(const char *file, uint16_t first, uint16_t last);

/* Takes first..last out again, but for `others`. 0 or -errno. */
int ports_release(const char *file, uint16_t first, uint16_t last, const struct ports *others);

#endif
