/* SPDX-License-Identifier: MIT */
/*
 * For the targets of net/http1: one input, fed at once and in pieces, with pauses and trims in
 * between, must give the same verdict, and the same messages as far as it is taken. Every head must
 * keep the promises of http1.h, and be understood the same when it is written out again.
 */
#ifndef TESTS_FUZZ_HTTP1_H
#define TESTS_FUZZ_HTTP1_H

#include <errno.h>

#include "fuzz.h"
#include "net/http1.h"

struct fuzz_http1 { /* how to feed, and what came of it */
	bool responses, to_head;
	size_t head_max, fields_max;
	uint32_t cut; /* 0: at once; else the seed of the pieces */
	int (*also)(const struct http1_head *head, bool responses); /* NULL, or for each head */

	struct http1 *parser;
	struct buf seen;
	size_t whole; /* length of `seen` up to the last complete message */
	bool in_message;
	int64_t length; /* -1: not known */
	uint64_t body;
	int error, eof, status;
};

static inline void fuzz_http1_text(const char *text, size_t len)
{
	CHECK(strlen(text) == len); /* NUL-terminated, and no NUL inside */
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		CHECK((c >= 0x20 || c == '\t') && c != 0x7f);
	}
}

static inline void fuzz_http1_field(const struct http1_field *field)
{
	CHECK(field->name_len > 0);
	fuzz_http1_text(field->name, field->name_len);
	CHECK(strcspn(field->name, " \t:()<>@,;\\\"/[]?={}") == field->name_len);
	for (size_t i = 0; i < field->name_len; i++)
		CHECK(!(field->name[i] & 0x80) &&
		      !(field->name[i] >= 'A' && field->name[i] <= 'Z'));
	fuzz_http1_text(field->value, field->value_len);
	if (field->value_len) {
		CHECK(!strchr(" \t", field->value[0]));
		CHECK(!strchr(" \t", field->value[field->value_len - 1]));
	}
}

static inline void fuzz_http1_start(const struct http1_head *head, bool responses)
{
	if (responses) {
		CHECK(head->status >= 100 && head->status <= 599);
		return;
	}
	CHECK(strspn(head->method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(head->method));
	fuzz_http1_text(head->target, strlen(head->target));
	CHECK(head->target[0] == '/' || !strcmp(head->target, "*"));
	CHECK(!strpbrk(head->target, " \t#"));
	CHECK(head->http10 || http1_field(head, "host"));
}

static inline int fuzz_http1_head(void *arg, const struct http1_head *head)
{
	struct fuzz_http1 *run = arg;
	bool bodiless = run->responses && (head->status < 200 || head->status == 204 ||
					   head->status == 304 || run->to_head);

	CHECK(!run->in_message);
	fuzz_http1_start(head, run->responses);
	CHECK(head->n_fields <= run->fields_max);
	for (size_t i = 0; i < head->n_fields; i++)
		fuzz_http1_field(&head->fields[i]);
	CHECK(head->content_length >= -1);
	CHECK(!head->chunked || (head->content_length < 0 && !head->http10));
	run->in_message = true;
	run->body = 0;
	run->length = head->content_length;
	if (bodiless && head->status != 101)
		run->length = 0;
	else if (!run->responses && !head->chunked && head->content_length < 0)
		run->length = 0;
	if (head->status >= 200)
		run->to_head = false;
	buf_printf(&run->seen, "<%s %s %d %d%d%d %lld", head->method ? head->method : "",
		   head->target ? head->target : "", head->status, head->http10, head->keep_alive,
		   head->chunked, (long long)head->content_length);
	for (size_t i = 0; i < head->n_fields; i++)
		buf_printf(&run->seen, "\n%s: %s", head->fields[i].name, head->fields[i].value);
	buf_puts(&run->seen, ">");
	return run->also ? run->also(head, run->responses) : 0;
}

static inline int fuzz_http1_body(void *arg, const char *data, size_t len)
{
	struct fuzz_http1 *run = arg;

	CHECK(run->in_message && len > 0);
	run->body += len;
	CHECK(run->length < 0 || run->body <= (uint64_t)run->length);
	buf_add(&run->seen, data, len);
	return 0;
}

static inline int fuzz_http1_complete(void *arg)
{
	struct fuzz_http1 *run = arg;

	CHECK(run->in_message);
	CHECK(run->length < 0 || run->body == (uint64_t)run->length);
	run->in_message = false;
	buf_puts(&run->seen, "</>");
	run->whole = run->seen.len;
	return run->cut & 2 ? HTTP1_PAUSE : 0;
}

static inline void fuzz_http1_feed(struct fuzz_http1 *run, const uint8_t *data, size_t len)
{
	uint32_t seed = run->cut;
	size_t at = 0;

	while (at < len && !run->error) {
		size_t n = run->cut ? fuzz_piece(&seed, len - at) : len - at;
		char *piece = fuzz_place(data + at, n);

		run->error = http1_feed(run->parser, piece, n);
		CHECK(http1_consumed(run->parser) <= n);
		CHECK(run->error || http1_consumed(run->parser) == n);
		at += http1_consumed(run->parser);
		if (run->error == -EAGAIN) {
			CHECK(http1_idle(run->parser) || !run->in_message);
			run->error = 0;
		}
		fuzz_spoil(piece, n);
		if (run->cut & 4)
			http1_trim(run->parser);
	}
}

static inline void fuzz_http1_run(struct fuzz_http1 *run, const uint8_t *before, size_t before_len,
				  const uint8_t *data, size_t len)
{
	static const struct http1_events events = {.on_head = fuzz_http1_head,
						   .on_body = fuzz_http1_body,
						   .on_complete = fuzz_http1_complete};
	const char *why;

	run->parser = http1_new(run->responses, &events, run);
	CHECK(run->parser);
	http1_limit(run->parser, run->head_max, run->fields_max);
	if (run->to_head)
		http1_expect_no_body(run->parser);
	fuzz_http1_feed(run, before, before_len);
	fuzz_http1_feed(run, data, len);
	if (!run->error)
		run->eof = http1_eof(run->parser);
	run->status = http1_error_status(run->parser);
	why = http1_error(run->parser);
	CHECK(run->error || !*why);
	CHECK(!strstr(why, "llhttp")); /* the guard decides alone */
	if (run->error) {
		CHECK(*why && (run->error == -EBADMSG || run->error == -E2BIG));
		CHECK(http1_feed(run->parser, "GET", 3) == -EBADMSG); /* of no more use */
	}
	http1_free(run->parser);
}

/* Both ways, which must agree. The caller looks at the first, and calls fuzz_http1_done(). */
static inline void fuzz_http1_both(struct fuzz_http1 *run, const uint8_t *before, size_t before_len,
				   const uint8_t *data, size_t len)
{
	struct fuzz_http1 pieces = *run;
	size_t both;

	pieces.cut = fuzz_seed(data, len);
	fuzz_http1_run(run, before, before_len, data, len);
	fuzz_http1_run(&pieces, before, before_len, data, len);
	CHECK(run->error == pieces.error && run->status == pieces.status);
	CHECK(run->eof == pieces.eof);
	CHECK(run->whole == pieces.whole);
	if (!run->error)
		CHECK(run->seen.len == pieces.seen.len);
	both = run->seen.len < pieces.seen.len ? run->seen.len : pieces.seen.len;
	CHECK(!both || !memcmp(run->seen.data, pieces.seen.data, both));
	buf_fini(&pieces.seen);
}

static inline void fuzz_http1_done(struct fuzz_http1 *run)
{
	buf_fini(&run->seen);
}

/* The head, written as a proxy would, with the framing left to it. */
static inline void fuzz_http1_write(const struct http1_head *head, bool responses, struct buf *out)
{
	const char *version = head->http10 ? "HTTP/1.0" : "HTTP/1.1";

	if (responses)
		buf_printf(out, "%s %d x\r\n", version, head->status);
	else
		buf_printf(out, "%s %s %s\r\n", head->method, head->target, version);
	for (size_t i = 0; i < head->n_fields; i++) {
		const struct http1_field *field = &head->fields[i];

		if (!strcmp(field->name, "content-length") ||
		    !strcmp(field->name, "transfer-encoding"))
			continue;
		buf_printf(out, "%s: %s\r\n", field->name, field->value);
	}
	if (head->chunked)
		buf_puts(out, "Transfer-Encoding: chunked\r\n");
	else if (head->content_length >= 0)
		buf_printf(out, "Content-Length: %lld\r\n", (long long)head->content_length);
	buf_puts(out, "\r\n");
}

static inline int fuzz_http1_ignore(void *arg)
{
	(void)arg;
	return 0;
}

static inline int fuzz_http1_no_body(void *arg, const char *data, size_t len)
{
	(void)arg;
	(void)data;
	(void)len;
	fuzz_fail(__FILE__, __LINE__, "a head alone has a body");
}

static inline int fuzz_http1_rewrite(void *arg, const struct http1_head *head)
{
	struct fuzz_http1 *run = arg;

	fuzz_http1_write(head, run->responses, &run->seen);
	return 0;
}

/* For `also`: what is written is taken, and written the same once more. */
static inline int fuzz_http1_again(const struct http1_head *head, bool responses)
{
	static const struct http1_events events = {.on_head = fuzz_http1_rewrite,
						   .on_body = fuzz_http1_no_body,
						   .on_complete = fuzz_http1_ignore};
	struct fuzz_http1 second = {.responses = responses};
	struct http1 *parser = http1_new(responses, &events, &second);
	struct buf text = {0};

	CHECK(parser);
	fuzz_http1_write(head, responses, &text);
	CHECK(!http1_feed(parser, text.data, text.len));
	CHECK(second.seen.len == text.len);
	CHECK(!memcmp(second.seen.data, text.data, text.len));
	http1_free(parser);
	buf_fini(&second.seen);
	buf_fini(&text);
	return 0;
}

#endif
