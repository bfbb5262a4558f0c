/* SPDX-License-Identifier: MIT */
#include "datapath/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool ports_has(const struct ports *ports, uint16_t port)
{
	return ports->bits[port / 8] >> (port % 8) & 1;
}

static void ports_put(struct ports *ports, uint16_t port, bool in)
{
	uint8_t bit = (uint8_t)(1 << (port % 8));

	if (in)
		ports->bits[port / 8] |= bit;
	else
		ports->bits[port / 8] &= (uint8_t)~bit;
}

/* Digits at *text → *port. */
static bool parse_port(const char **text, uint32_t *port)
{
	const char *at = *text;

	for (*port = 0; *at >= '0' && *at <= '9' && *port <= 65535; at++)
		*port = *port * 10 + (uint32_t)(*at - '0');
	if (at == *text || *port > 65535)
		return false;
	*text = at;
	return true;
}

int ports_parse(struct ports *ports, const char *text)
{
	uint32_t first, last;

	memset(ports, 0, sizeof(*ports));
	while (*text && *text != '\n') {
		if (!parse_port(&text, &first))
			return -EINVAL;
		last = first;
		if (*text == '-') {
			text++;
			if (!parse_port(&text, &last) || last < first)
				return -EINVAL;
		}
		for (; first <= last; first++)
			ports_put(ports, (uint16_t)first, true);
		if (*text == ',')
			text++;
		else if (*text && *text != '\n')
			return -EINVAL;
	}
	return 0;
}

void ports_format(const struct ports *ports, struct buf *out)
{
	const char *comma = "";

	for (uint32_t first = 0; first <= 65535; first++) {
		uint32_t last = first;

		if (!ports_has(ports, (uint16_t)first))
			continue;
		while (last < 65535 && ports_has(ports, (uint16_t)(last + 1)))
			last++;
		if (last > first)
			buf_printf(out, "%s%u-%u", comma, first, last);
		else
			buf_printf(out, "%s%u", comma, first);
		comma = ",";
		first = last;
	}
	buf_puts(out, "\n");
}

/* The whole of a small file → buf. */
static int read_file(const char *file, struct buf *text)
{
	char chunk[4096];
	ssize_t len;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd == -1)
		return -errno;
	while ((len = read(fd, chunk, sizeof(chunk))) > 0)
		buf_add(text, chunk, (size_t)len);
	len = len == -1 ? -errno : 0;
	close(fd);
	return buf_failed(text) ? -ENOMEM : (int)len;
}

int ports_read(struct ports *ports, const char *file)
{
	struct buf text = {0};
	int err = read_file(file, &text);

	if (!err)
		err = ports_parse(ports, text.data ? text.data : "");
	buf_fini(&text);
	return err;
}

static int ports_write(const struct ports *ports, const char *file)
{
	struct buf text = {0};
	ssize_t written;
	int err, fd;

	ports_format(ports, &text);
	if (buf_failed(&text)) {
		buf_fini(&text);
		return -ENOMEM;
	}
	fd = open(file, O_WRONLY | O_TRUNC | O_CLOEXEC);
	err = fd == -1 ? -errno : 0;
	if (!err) { /* in one piece: the kernel takes each write for the whole list */
		written = write(fd, text.data, text.len);
		if (written != (ssize_t)text.len)
			err = written == -1 ? -errno : -E2BIG;
		close(fd);
	}
	buf_fini(&text);
	return err;
}

int ports_reserve(const char *file, uint16_t first, uint16_t last)
{
	struct ports ports, after;
	int err = ports_read(&ports, file);

	if (err)
		return err;
	after = ports;
	for (uint32_t port = first; port <= last; port++)
		ports_put(&ports, (uint16_t)port, true);
	if (memcmp(&ports, &after, sizeof(ports)) == 0)
		return 0;
	err = ports_write(&ports, file);
	if (!err)
		err = ports_read(&after, file);
	if (err)
		return err;
	return memcmp(&ports, &after, sizeof(ports)) == 0 ? 0 : -EIO;
}

int ports_release(const char *file, uint16_t first, uint16_t last, const struct ports *others)
{
	struct ports ports;
	int err = ports_read(&ports, file);

	if (err)
		return err;
	for (uint32_t port = first; port <= last; port++)
		if (!ports_has(others, (uint16_t)port))
			ports_put(&ports, (uint16_t)port, false);
	return ports_write(&ports, file);
}
