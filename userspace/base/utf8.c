/* SPDX-License-Identifier: MIT */
#include "base/utf8.h"

/* RFC 3629 §4: by first byte, the length and the range of the second; the others are 80..BF. */
static const struct {
	unsigned char first, last, len, low, high;
} forms[] = {
	{0x00, 0x7f, 1, 0, 0},	     {0xc2, 0xdf, 2, 0x80, 0xbf}, {0xe0, 0xe0, 3, 0xa0, 0xbf},
	{0xe1, 0xec, 3, 0x80, 0xbf}, {0xed, 0xed, 3, 0x80, 0x9f}, {0xee, 0xef, 3, 0x80, 0xbf},
	{0xf0, 0xf0, 4, 0x90, 0xbf}, {0xf1, 0xf3, 4, 0x80, 0xbf}, {0xf4, 0xf4, 4, 0x80, 0x8f},
};

size_t utf8_sequence(const char *text, size_t len)
{
	const unsigned char *bytes = (const unsigned char *)text;
	size_t form = 0;

	while (form < sizeof(forms) / sizeof(forms[0]) && bytes[0] > forms[form].last)
		form++;
	if (form == sizeof(forms) / sizeof(forms[0]) || bytes[0] < forms[form].first ||
	    len < forms[form].len)
		return 0;
	if (forms[form].len > 1 && (bytes[1] < forms[form].low || bytes[1] > forms[form].high))
		return 0;
	for (size_t i = 2; i < forms[form].len; i++) {
		if (bytes[i] < 0x80 || bytes[i] > 0xbf)
			return 0;
	}
	return forms[form].len;
}
