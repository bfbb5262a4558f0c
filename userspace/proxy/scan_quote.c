/* SPDX-License-Identifier: MIT */
#include "proxy/scan.h"

#include <string.h>

size_t scan_quote(char *out, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	static const char short_form[] = "btn\0fr"; /* of 8, 9, 10, 12 and 13 */
	char *to = out;

	*to++ = '"';
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\') {
			*to++ = '\\';
			*to++ = (char)c;
		} else if (c >= 0x20) {
			*to++ = (char)c;
		} else if (c >= 8 && c <= 13 && c != 11) {
			*to++ = '\\';
			*to++ = short_form[c - 8];
		} else {
			memcpy(to, "\\u00", 4);
			to[4] = hex[c >> 4];
			to[5] = hex[c & 15];
			to += 6;
		}
	}
	*to++ = '"';
	*to = '\0';
	return (size_t)(to - out);
}
