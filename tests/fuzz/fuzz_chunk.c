/* SPDX-License-Identifier: MIT */
/*
 * Chunked bodies, as net/http1 reads them, against a second reader that is written down as RFC
 * 9112 §7.1 is: with the whole body at hand and nothing in between. Seeds: the chunked cases of
 * tests/http.
 */
#include "fuzz_http1.h"

#define EXTENSIONS_MAX 1024
#define TRAILERS_MAX   8192

struct body { /* what the second reader sees */
	const uint8_t *at, *end;
	struct buf data;
	size_t extensions, trailers;
};

enum verdict { GOOD, SHORT, WRONG };

/* A line without its CRLF; what is not text ends it, too. */
static enum verdict line(struct body *body, const uint8_t **from, size_t *len)
{
	*from = body->at;
	while (body->at < body->end &&
	       ((*body->at >= 0x20 && *body->at != 0x7f) || *body->at == '\t'))
		body->at++;
	*len = (size_t)(body->at - *from);
	if (body->at == body->end)
		return SHORT;
	if (*body->at++ != '\r')
		return WRONG;
	if (body->at == body->end)
		return SHORT;
	return *body->at++ == '\n' ? GOOD : WRONG;
}

static bool is_one_of(uint8_t c, const char *set)
{
	return c && strchr(set, c);
}

/* Size and extension. A line that has not ended may be wrong already. */
static enum verdict size_line(struct body *body, uint64_t *size)
{
	const uint8_t *from;
	size_t len, digits = 0, extension;
	enum verdict verdict = line(body, &from, &len);

	*size = 0;
	for (; digits < len && is_one_of(from[digits], "0123456789abcdefABCDEF"); digits++) {
		char digit[] = {(char)from[digits], '\0'};

		*size = *size * 16 + strtoul(digit, NULL, 16);
	}
	if (digits > 16 || (!digits && (len || verdict == WRONG)))
		return WRONG;
	if (!digits) /* an empty line is wrong as soon as its CR is seen */
		return from < body->end ? WRONG : SHORT;
	if (digits < len && from[digits] != ';')
		return WRONG;
	extension = digits < len ? len - digits - 1 : 0;
	body->extensions += extension;
	if (body->extensions > EXTENSIONS_MAX)
		return WRONG;
	if (digits < len && !extension && from + len < body->end)
		return WRONG;
	return verdict;
}

static enum verdict trailers(struct body *body)
{
	static const char token[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

	for (;;) {
		const uint8_t *from;
		size_t len, name = 0;
		enum verdict verdict = line(body, &from, &len);

		body->trailers += (size_t)(body->at - from);
		if (!len && verdict == GOOD) /* the LF that ends all is not counted */
			return body->trailers - 1 > TRAILERS_MAX ? WRONG : GOOD;
		while (name < len && is_one_of(from[name], token))
			name++;
		if (name < len && (!name || from[name] != ':'))
			return WRONG;
		if (name == len && from + len < body->end && len)
			return WRONG;
		if (verdict != GOOD)
			return verdict;
	}
}

static enum verdict chunks(struct body *body)
{
	for (;;) {
		uint64_t size, left;
		enum verdict verdict = size_line(body, &size);

		if (verdict != GOOD)
			return verdict;
		if (!size)
			return trailers(body);
		left = (uint64_t)(body->end - body->at);
		buf_add(&body->data, body->at, (size_t)(size < left ? size : left));
		if (size >= left)
			return SHORT;
		body->at += size;
		if (*body->at++ != '\r')
			return WRONG;
		if (body->at == body->end)
			return SHORT;
		if (*body->at++ != '\n')
			return WRONG;
	}
}

static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
			   "Transfer-Encoding: chunked\r\n\r\n";

/* Behind the head in `seen`: the data, and "</>" when complete. */
static void compare(const struct fuzz_http1 *run, const uint8_t *data, size_t len)
{
	struct body body = {.at = data, .end = data + len};
	enum verdict verdict = chunks(&body);
	const char *from = memchr(run->seen.data, '>', run->seen.len);
	size_t seen = run->seen.len - (size_t)(from + 1 - run->seen.data);

	if (verdict == GOOD) {
		CHECK(seen == body.data.len + strlen("</>"));
		CHECK(!body.data.len || !memcmp(from + 1, body.data.data, body.data.len));
		while (body.at < body.end && is_one_of(*body.at, "\r\n"))
			body.at++;
		CHECK(body.at == body.end ? !run->error : run->error == -EBADMSG);
	} else if (verdict == SHORT && body.trailers <= TRAILERS_MAX) {
		CHECK(!run->error && run->eof == -EPIPE);
		CHECK(seen == body.data.len);
		CHECK(!seen || !memcmp(from + 1, body.data.data, seen));
	} else {
		CHECK(run->error == -EBADMSG);
	}
	buf_fini(&body.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz_http1 run = {.head_max = HTTP1_HEAD_MAX, .fields_max = HTTP1_FIELDS_MAX};

	fuzz_http1_both(&run, (const uint8_t *)head, sizeof(head) - 1, data, len);
	compare(&run, data, len);
	fuzz_http1_done(&run);
	return 0;
}
