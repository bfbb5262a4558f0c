/* SPDX-License-Identifier: MIT */
/* The guard for chunked framing (RFC 9112 §7.1). */
#include "net/http1_impl.h"

#define EXTENSIONS_MAX	1024 /* bytes in a message */
#define TRAILERS_MAX	8192
#define SIZE_DIGITS_MAX 16

static bool is_token(unsigned char c)
{
	static const char marks[] = "!#$%&'*+-.^_`|~";

	if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))
		return true;
	for (size_t i = 0; i < sizeof(marks) - 1; i++) {
		if ((unsigned char)marks[i] == c)
			return true;
	}
	return false;
}

static bool is_text(unsigned char c)
{
	return c == '\t' || (c >= 0x20 && c != 0x7f);
}

static int hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static const char *size_byte(struct chunk_guard *guard, unsigned char c)
{
	int digit = hex_digit(c);

	if (digit >= 0 && guard->digits == SIZE_DIGITS_MAX)
		return "chunk size too long";
	if (digit >= 0) {
		guard->left = guard->left << 4 | (unsigned)digit;
		guard->digits++;
		return NULL;
	}
	if (!guard->digits)
		return "no chunk size";
	if (c == '\r')
		guard->state = CHUNK_SIZE_LF;
	else if (c == ';')
		guard->state = CHUNK_EXT_FIRST;
	else
		return "bad byte in a chunk size";
	return NULL;
}

static const char *extension_byte(struct chunk_guard *guard, unsigned char c)
{
	if (c == '\r' && guard->state == CHUNK_EXT_FIRST)
		return "empty chunk extension";
	if (c == '\r') {
		guard->state = CHUNK_SIZE_LF;
		return NULL;
	}
	if (!is_text(c))
		return "bad byte in a chunk extension";
	if (++guard->ext_len > EXTENSIONS_MAX)
		return "chunk extensions too long";
	guard->state = CHUNK_EXT;
	return NULL;
}

static const char *line_feed(struct chunk_guard *guard, unsigned char c)
{
	if (c != '\n')
		return "carriage return without line feed in chunked framing";
	if (guard->state == CHUNK_LAST_LF)
		guard->state = CHUNK_END;
	else if (guard->state == CHUNK_DATA_LF)
		guard->state = CHUNK_SIZE;
	else if (guard->state == CHUNK_TRAILER_LF || !guard->left)
		guard->state = CHUNK_TRAILER;
	else
		guard->state = CHUNK_DATA;
	guard->digits = 0;
	return NULL;
}

static const char *trailer_byte(struct chunk_guard *guard, unsigned char c)
{
	if (++guard->trailer_len > TRAILERS_MAX)
		return "trailers too long";
	if (guard->state == CHUNK_TRAILER && c == '\r') {
		guard->state = CHUNK_LAST_LF;
	} else if (guard->state == CHUNK_TRAILER_VALUE) {
		if (c == '\r')
			guard->state = CHUNK_TRAILER_LF;
		else if (!is_text(c))
			return "bad byte in a trailer";
	} else if (guard->state == CHUNK_TRAILER_NAME && c == ':') {
		guard->state = CHUNK_TRAILER_VALUE;
	} else if (is_token(c)) {
		guard->state = CHUNK_TRAILER_NAME;
	} else {
		return "bad byte in the name of a trailer";
	}
	return NULL;
}

static const char *chunk_byte(struct chunk_guard *guard, unsigned char c)
{
	switch (guard->state) {
	case CHUNK_SIZE:
		return size_byte(guard, c);
	case CHUNK_EXT_FIRST:
	case CHUNK_EXT:
		return extension_byte(guard, c);
	case CHUNK_TRAILER:
	case CHUNK_TRAILER_NAME:
	case CHUNK_TRAILER_VALUE:
		return trailer_byte(guard, c);
	case CHUNK_DATA_CR:
		guard->state = CHUNK_DATA_LF;
		return c == '\r' ? NULL : "chunk data without its end";
	default:
		return line_feed(guard, c);
	}
}

/* Is the byte that led to this state part of an extension or of a trailer? llhttp is not to see
 * those. */
static bool is_dropped(enum chunk_state before, enum chunk_state now)
{
	return now == CHUNK_EXT_FIRST || now == CHUNK_EXT || now == CHUNK_TRAILER_NAME ||
	       now == CHUNK_TRAILER_VALUE || now == CHUNK_TRAILER_LF || before == CHUNK_TRAILER_LF;
}

static size_t take_data(struct chunk_guard *guard, size_t len)
{
	size_t n = guard->left < len ? (size_t)guard->left : len;

	guard->left -= n;
	if (!guard->left)
		guard->state = CHUNK_DATA_CR;
	return n;
}

long http1_chunk_scan(struct chunk_guard *guard, const char *data, size_t len, size_t *skip,
		      const char **why)
{
	size_t at = 0, kept = 0;
	struct chunk_guard good;

	while (at < len && guard->state != CHUNK_END) {
		enum chunk_state before = guard->state;

		if (before == CHUNK_DATA) {
			at += take_data(guard, len - at);
			kept = at;
			continue;
		}
		if (at > kept && data[at] == '\r' &&
		    (before == CHUNK_EXT || before == CHUNK_TRAILER))
			break; /* what llhttp sees goes on here */
		good = *guard;
		*why = chunk_byte(guard, (unsigned char)data[at]);
		if (*why && kept) { /* what came before it counts; the next call begins here */
			*guard = good;
			*why = NULL;
			break;
		}
		if (*why)
			return -1;
		at++;
		if (!is_dropped(before, guard->state))
			kept = at;
	}
	*skip = at - kept;
	return (long)kept;
}
