/* SPDX-License-Identifier: MIT */
#include "net/url.h"

#include <string.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* One byte of the result; *at moves behind what it took. -1: bad. */
static int decode_byte(const char *text, size_t len, size_t *at, bool plus)
{
	char c = text[(*at)++];
	int high, low;

	if (c == '+' && plus)
		return ' ';
	if (c != '%')
		return (unsigned char)c;
	if (len - *at < 2)
		return -1;
	high = hex_digit(text[(*at)++]);
	low = hex_digit(text[(*at)++]);
	return high < 0 || low < 0 ? -1 : high << 4 | low;
}

long url_decode(char *out, const char *text, size_t len, bool plus)
{
	size_t n = 0, at = 0;

	while (at < len) {
		int byte = decode_byte(text, len, &at, plus);

		if (byte < 0x20 || byte == 0x7f)
			return -1;
		out[n++] = (char)byte;
	}
	out[n] = '\0';
	return (long)n;
}

void url_encode(struct buf *out, const char *text)
{
	static const char plain[] =
		"-._~:0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

	for (; *text; text++) {
		if (strchr(plain, *text))
			buf_add(out, text, 1);
		else
			buf_printf(out, "%%%02X", (unsigned)(unsigned char)*text);
	}
}
