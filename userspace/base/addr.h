/* SPDX-License-Identifier: MIT */
/*
 * IP addresses as the project stores them: 16 bytes, IPv4 mapped (::ffff:a.b.c.d). Owns nothing.
 */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDR_TEXT_MAX 64 /* "[v6]:port" and a NUL fit */

struct addr {
	uint8_t bytes[16];
};

/* Textual IPv4 or IPv6 address (no port, no zone) → addr. 0, or -EINVAL. */
int addr_parse(struct addr *addr, const char *text);

/* "a.b.c.d:port" or "[v6]:port", port 1..65535 → addr and port (host order). 0, or -EINVAL. */
int addr_parse_port(struct addr *addr, uint16_t *port, const char *text);

/* Writes the address; IPv4 as a.b.c.d. Returns `text`. */
const char *addr_format(const struct addr *addr, char text[ADDR_TEXT_MAX]);

/* Writes "a.b.c.d:port" or "[v6]:port". Returns `text`. */
const char *addr_format_port(const struct addr *addr, uint16_t port, char text[ADDR_TEXT_MAX]);

bool addr_is_v4(const struct addr *addr);
bool addr_is_loopback(const struct addr *addr);
bool addr_is_any(const struct addr *addr); /* 0.0.0.0 or :: */
bool addr_equal(const struct addr *a, const struct addr *b);

/* Fills `sa` (AF_INET or AF_INET6) and returns its length. `port` in host order. */
socklen_t addr_to_sockaddr(const struct addr *addr, uint16_t port, struct sockaddr_storage *sa);

/* From AF_INET/AF_INET6; port in host order to *port when not NULL. 0, or -EAFNOSUPPORT. */
int addr_from_sockaddr(struct addr *addr, uint16_t *port, const struct sockaddr *sa);

#endif
