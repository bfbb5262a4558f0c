/* SPDX-License-Identifier: MIT */
#include "base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static const uint8_t v4_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

int addr_parse(struct addr *addr, const char *text)
{
	struct addr parsed;

	memcpy(parsed.bytes, v4_prefix, sizeof(v4_prefix));
	if (inet_pton(AF_INET, text, parsed.bytes + 12) != 1 &&
	    inet_pton(AF_INET6, text, parsed.bytes) != 1)
		return -EINVAL;
	*addr = parsed;
	return 0;
}

/* Decimal without sign or leading zero, 1..65535; -1 otherwise. */
static long parse_port(const char *text)
{
	long port = 0;

	if (*text < '1' || *text > '9')
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -1;
		port = port * 10 + (*text - '0');
		if (port > UINT16_MAX)
			return -1;
	}
	return port;
}

int addr_parse_port(struct addr *addr, uint16_t *port, const char *text)
{
	const char *colon = strrchr(text, ':');
	bool bracketed = text[0] == '[';
	char host[ADDR_TEXT_MAX];
	struct addr parsed;
	size_t len;
	long number;

	if (!colon)
		return -EINVAL;
	len = (size_t)(colon - text);
	if (bracketed && (len < 2 || text[len - 1] != ']'))
		return -EINVAL;
	if (bracketed) {
		text++;
		len -= 2;
	}
	if (len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	/* Brackets are for v6 and for nothing else: "::1:80" would be ambiguous. */
	if (bracketed != (strchr(host, ':') != NULL))
		return -EINVAL;
	number = parse_port(colon + 1);
	if (number < 0 || addr_parse(&parsed, host))
		return -EINVAL;
	*addr = parsed;
	*port = (uint16_t)number;
	return 0;
}

const char *addr_format(const struct addr *addr, char text[ADDR_TEXT_MAX])
{
	bool v4 = addr_is_v4(addr);

	/* Cannot fail: the family is known and the room is enough. */
	inet_ntop(v4 ? AF_INET : AF_INET6, addr->bytes + (v4 ? 12 : 0), text, ADDR_TEXT_MAX);
	return text;
}

const char *addr_format_port(const struct addr *addr, uint16_t port, char text[ADDR_TEXT_MAX])
{
	char host[ADDR_TEXT_MAX];
	bool v4 = addr_is_v4(addr);

	addr_format(addr, host);
	snprintf(text, ADDR_TEXT_MAX, "%s%.45s%s:%u", v4 ? "" : "[", host, v4 ? "" : "]",
		 (unsigned)port);
	return text;
}

bool addr_is_v4(const struct addr *addr)
{
	return memcmp(addr->bytes, v4_prefix, sizeof(v4_prefix)) == 0;
}

bool addr_is_loopback(const struct addr *addr)
{
	static const uint8_t one[16] = {[15] = 1};

	if (addr_is_v4(addr))
		return addr->bytes[12] == 127;
	return memcmp(addr->bytes, one, sizeof(one)) == 0;
}

bool addr_is_any(const struct addr *addr)
{
	static const uint8_t zero[16];
	size_t from = addr_is_v4(addr) ? 12 : 0;

	return memcmp(addr->bytes + from, zero, sizeof(zero) - from) == 0;
}

bool addr_equal(const struct addr *a, const struct addr *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

socklen_t addr_to_sockaddr(const struct addr *addr, uint16_t port, struct sockaddr_storage *sa)
{
	struct sockaddr_in *in = (struct sockaddr_in *)(void *)sa;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)sa;

	memset(sa, 0, sizeof(*sa));
	if (addr_is_v4(addr)) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, addr->bytes + 12, 4);
		return sizeof(*in);
	}
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(port);
	memcpy(&in6->sin6_addr, addr->bytes, 16);
	return sizeof(*in6);
}

int addr_from_sockaddr(struct addr *addr, uint16_t *port, const struct sockaddr *sa)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;

	if (sa->sa_family == AF_INET) {
		memcpy(addr->bytes, v4_prefix, sizeof(v4_prefix));
		memcpy(addr->bytes + 12, &in->sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		memcpy(addr->bytes, &in6->sin6_addr, 16);
	} else {
		return -EAFNOSUPPORT;
	}
	if (port)
		*port = ntohs(sa->sa_family == AF_INET ? in->sin_port : in6->sin6_port);
	return 0;
}
