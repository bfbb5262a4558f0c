/* SPDX-License-Identifier: MIT */
/* The guard for heads: start lines, fields, and what they say about framing (RFC 9112 §2 to §6, RFC
 * 9110 §5). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "net/http1_impl.h"

#define BAD(parser, why) http1_fail(parser, -EBADMSG, 400, why)

/* Letters, digits and `marks` only. */
static bool is_made_of(const char *text, size_t len, const char *marks)
{
	for (size_t i = 0; i < len; i++) {
		char c = text[i], lower = (char)(c | 0x20);

		if (!(lower >= 'a' && lower <= 'z') && !(c >= '0' && c <= '9') &&
		    (!c || !strchr(marks, c)))
			return false;
	}
	return true;
}

static bool is_token(const char *text, size_t len)
{
	return len && is_made_of(text, len, "!#$%&'*+-.^_`|~");
}

/* uri-host and port; `len` may be 0 */
static bool is_authority(const char *text, size_t len)
{
	return is_made_of(text, len, "-._~!$&'()*+,;=%:[]");
}

static bool is_known_method(const char *text, size_t len)
{
	static const char *const known[] = {"GET",    "HEAD",	 "POST", "PUT",
					    "DELETE", "OPTIONS", "PATCH"};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strlen(known[i]) == len && !memcmp(known[i], text, len))
			return true;
	}
	return false;
}

/* Version at parser->text + at. */
static int judge_version(struct http1 *parser, size_t at, size_t len)
{
	const char *text = parser->text + at;

	if (len == 8 && !memcmp(text, "HTTP/1.1", 8))
		return 0;
	if (len == 8 && !memcmp(text, "HTTP/1.0", 8)) {
		parser->head.http10 = true;
		return 0;
	}
	if (len > 5 && !memcmp(text, "HTTP/", 5))
		return http1_fail(parser, -EBADMSG, 505, "HTTP version other than 1.0 and 1.1");
	return BAD(parser, "no HTTP version");
}

/* "http://HOST/path": the authority is noted, the path becomes the target. */
static int judge_absolute(struct http1 *parser, size_t len)
{
	char *text = parser->text + parser->target_at;
	size_t scheme = !strncasecmp(text, "http://", 7) ? 7 : 8;
	size_t host = scheme;

	if (len < scheme || (scheme == 8 && strncasecmp(text, "https://", 8) != 0))
		return BAD(parser, "target is neither a path nor an http URI");
	while (host < len && text[host] != '/' && text[host] != '?')
		host++;
	if (host == scheme || !is_authority(text + scheme, host - scheme))
		return BAD(parser, "bad authority in the target");
	parser->authority_at = parser->target_at + scheme;
	parser->authority_len = host - scheme;
	return 0;
}

static int judge_target(struct http1 *parser, size_t len)
{
	const char *text = parser->text + parser->target_at;

	if (!len)
		return BAD(parser, "no target");
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c <= 0x20 || c >= 0x7f || c == '#')
			return BAD(parser, "bad byte in the target");
	}
	if (text[0] == '/')
		return 0;
	if (len == 1 && text[0] == '*') {
		if (!memcmp(parser->text + parser->method_at, "OPTIONS ", 8))
			return 0;
		return BAD(parser, "target * without OPTIONS");
	}
	return judge_absolute(parser, len);
}

static int request_line(struct http1 *parser, size_t len)
{
	char *line = parser->text + parser->line_at;
	char *space = memchr(line, ' ', len), *second;
	size_t method = space ? (size_t)(space - line) : 0, target;
	int error;

	if (!space || !is_token(line, method))
		return BAD(parser, "not a request line");
	second = memchr(space + 1, ' ', len - method - 1);
	if (!second)
		return BAD(parser, "no HTTP version");
	target = (size_t)(second - space) - 1;
	parser->method_at = parser->line_at;
	parser->target_at = parser->line_at + method + 1;
	error = judge_version(parser, parser->target_at + target + 1, len - method - target - 2);
	if (error)
		return error;
	if (!is_known_method(line, method))
		return http1_fail(parser, -EBADMSG, 501, "method not implemented");
	error = judge_target(parser, target);
	if (error)
		return error;
	error = http1_second_opinion(parser, line, len + 2);
	if (error)
		return error;
	*space = '\0';
	*second = '\0';
	return 0;
}

static int status_line(struct http1 *parser, size_t len)
{
	const char *line = parser->text + parser->line_at;
	int error = judge_version(parser, parser->line_at, len < 8 ? len : 8);
	int status = 0;

	if (error)
		return error;
	if (len < 12 || line[8] != ' ' || (len > 12 && line[12] != ' '))
		return BAD(parser, "not a status line");
	for (size_t i = 9; i < 12; i++) {
		if (line[i] < '0' || line[i] > '9')
			return BAD(parser, "bad status");
		status = status * 10 + line[i] - '0';
	}
	if (status < 100 || status > 599)
		return BAD(parser, "bad status");
	for (size_t i = 12; i < len; i++) {
		if (line[i] == '\r')
			return BAD(parser, "carriage return inside a line");
	}
	parser->head.status = status;
	return http1_second_opinion(parser, line, len + 2);
}

int http1_start_line(struct http1 *parser, size_t len)
{
	return parser->responses ? status_line(parser, len) : request_line(parser, len);
}

static int add_field(struct http1 *parser, const char *name, const char *value)
{
	size_t n = parser->head.n_fields;

	if (n >= parser->fields_max)
		return http1_fail(parser, -E2BIG, 431, "too many fields");
	if (n == parser->fields_cap) {
		size_t cap = n ? 2 * n : 12;
		struct http1_field *fields = realloc(parser->fields, cap * sizeof(*fields));

		if (!fields)
			return http1_fail(parser, -ENOMEM, 503, "out of memory");
		parser->fields = fields;
		parser->fields_cap = cap;
	}
	parser->fields[n].name = name;
	parser->fields[n].value = value;
	parser->head.n_fields++;
	return 0;
}

/* Digits only, no sign, no list, below 2^63 (RFC 9112 §6.3). */
static int64_t parse_length(const char *text)
{
	int64_t number = 0;

	if (!*text)
		return -1;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || number > (INT64_MAX - (*text - '0')) / 10)
			return -1;
		number = number * 10 + (*text - '0');
	}
	return number;
}

/* What the fields that frame the message may say; before llhttp sees them, whose errors do not tell
 * as much. */
static int judge_field(struct http1 *parser, const char *name, size_t len, const char *value)
{
	struct http1_head *head = &parser->head;

	if (len == 4 && !memcmp(name, "host", 4)) {
		parser->hosts++;
		if (!parser->responses && !is_authority(value, strlen(value)))
			return BAD(parser, "bad Host");
	} else if (len == 17 && !memcmp(name, "transfer-encoding", 17)) {
		if (head->chunked)
			return BAD(parser, "more than one Transfer-Encoding");
		head->chunked = !strcasecmp(value, "chunked");
		if (!head->chunked && !strncasecmp(value, "chunked", 7))
			return BAD(parser, "chunked is not the last coding");
		if (!head->chunked)
			return http1_fail(parser, -EBADMSG, 501,
					  "Transfer-Encoding is not chunked");
	} else if (len == 14 && !memcmp(name, "content-length", 14)) {
		if (head->content_length >= 0)
			return BAD(parser, "more than one Content-Length");
		head->content_length = parse_length(value);
		if (head->content_length < 0)
			return BAD(parser, "bad Content-Length");
	}
	if (head->chunked && head->content_length >= 0)
		return BAD(parser, "both Transfer-Encoding and Content-Length");
	return 0;
}

/*
 * llhttp sees the field with one space before its value, or none, whatever came: version 8 stumbles
 * over a tab beside a length. `line` is as received, but for the case of the name.
 */
static int show_field(struct http1 *parser, const char *line, size_t name, const char *value,
		      size_t value_len)
{
	int error;

	if (value == line + name + 2 && line[name + 1] == ' ' &&
	    !memcmp(value + value_len, "\r\n", 2)) /* as nearly all are */
		return http1_second_opinion(parser, line, name + 2 + value_len + 2);
	error = http1_second_opinion(parser, line, name + 1);
	if (!error)
		error = http1_second_opinion(parser, value, value_len);
	return error ? error : http1_second_opinion(parser, "\r\n", 2);
}

int http1_field_line(struct http1 *parser, size_t len)
{
	char *line = parser->text + parser->line_at;
	char *colon = memchr(line, ':', len), *value, *end = line + len;
	size_t name = colon ? (size_t)(colon - line) : 0;
	char behind;
	int error;

	if (line[0] == ' ' || line[0] == '\t')
		return BAD(parser, "folded line");
	if (!is_token(line, name))
		return BAD(parser, colon ? "bad field name" : "line without a colon");
	if (memchr(line, '\r', len))
		return BAD(parser, "carriage return inside a line");
	for (value = colon + 1; value < end && (*value == ' ' || *value == '\t'); value++)
		;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	for (size_t i = 0; i < name; i++) {
		if (line[i] >= 'A' && line[i] <= 'Z')
			line[i] = (char)(line[i] | 0x20);
	}
	behind = *end; /* at most the CR */
	*colon = '\0';
	*end = '\0';
	error = judge_field(parser, line, name, value);
	*colon = ':';
	*end = behind;
	if (!error)
		error = show_field(parser, line, name, value, (size_t)(end - value));
	*colon = '\0';
	*end = '\0';
	return error ? error : add_field(parser, line, value);
}

/* Moves the authority of an absolute URI to the left, so that NUL and a '/' fit behind it. */
static void split_absolute(struct http1 *parser)
{
	size_t len = parser->authority_len;
	char *host = parser->text + parser->authority_at - 2;
	char *path = host + 2 + len;

	memmove(host, host + 2, len);
	host[len] = '\0';
	if (*path != '/')
		*--path = '/';
	parser->head.target = path;
	for (size_t i = 0; i < parser->head.n_fields; i++) {
		if (!strcmp(parser->fields[i].name, "host"))
			parser->fields[i].value = host;
	}
}

static bool persists(const struct http1_head *head)
{
	if (http1_has_token(head, "connection", "close"))
		return false;
	return !head->http10 || http1_has_token(head, "connection", "keep-alive");
}

static void judge_response_body(struct http1 *parser)
{
	struct http1_head *head = &parser->head;
	bool interim = head->status < 200 && head->status != 101;

	parser->bodiless =
		head->status < 200 || head->status == 204 || head->status == 304 || parser->no_body;
	if (head->status < 200 || head->status == 204) { /* these say nothing about a body */
		head->content_length = -1;
		head->chunked = false;
	}
	if (interim) {
		head->keep_alive = true;
		return;
	}
	parser->no_body = false;
	if (head->status == 101)
		head->keep_alive = false;
	if (!parser->bodiless && !head->chunked && head->content_length < 0) {
		parser->state = HTTP1_TO_EOF;
		head->keep_alive = false;
	}
}

int http1_judge_head(struct http1 *parser)
{
	struct http1_head *head = &parser->head;

	head->fields = parser->fields;
	if (head->chunked && head->http10)
		return BAD(parser, "Transfer-Encoding in HTTP/1.0");
	if (!parser->responses && parser->hosts > 1)
		return BAD(parser, "more than one Host");
	if (!parser->responses && !parser->hosts && !head->http10)
		return BAD(parser, "no Host");
	if (!parser->responses) {
		head->method = parser->text + parser->method_at;
		head->target = parser->text + parser->target_at;
		if (parser->authority_at)
			split_absolute(parser);
	}
	head->keep_alive = persists(head);
	if (parser->responses)
		judge_response_body(parser);
	if (parser->state == HTTP1_TO_EOF || parser->bodiless)
		return 0;
	parser->left = head->content_length > 0 ? (uint64_t)head->content_length : 0;
	if (head->chunked)
		parser->state = HTTP1_CHUNKS;
	else
		parser->state = HTTP1_SIZED;
	parser->chunk = (struct chunk_guard){.state = CHUNK_SIZE};
	return 0;
}
