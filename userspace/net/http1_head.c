/* SPDX-License-Identifier: MIT */
/* The guard for heads: start lines, fields, and what they say about framing (RFC 9112 §2 to §6, RFC
 * 9110 §5). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "net/http1_impl.h"

#define FIELDS_FIRST 12

#define BAD(parser, why) http1_fail(parser, -EBADMSG, 400, why)

/* What a byte may be part of. */
enum {
	IN_TOKEN = 1,	  /* RFC 9110 §5.6.2 */
	IN_AUTHORITY = 2, /* uri-host and port: no user, no path */
	IN_TARGET = 4,	  /* printable ASCII but '#' */
};

#define T   (IN_TOKEN | IN_TARGET)
#define A   (IN_AUTHORITY | IN_TARGET)
#define ALL (IN_TOKEN | IN_AUTHORITY | IN_TARGET)
#define O   IN_TARGET

static const uint8_t byte_classes[256] = {
	/* clang-format off */
	['!'] = ALL, ['"'] = O, ['#'] = IN_TOKEN, ['$'] = ALL, ['%'] = ALL, ['&'] = ALL, ['\''] = ALL,
	['('] = A, [')'] = A, ['*'] = ALL, ['+'] = ALL, [','] = A, ['-'] = ALL, ['.'] = ALL, ['/'] = O,
	['0'] = ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	[':'] = A, [';'] = A, ['<'] = O, ['='] = A, ['>'] = O, ['?'] = O, ['@'] = O,
	['A'] = ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	['['] = A, ['\\'] = O, [']'] = A, ['^'] = T, ['_'] = ALL, ['`'] = T,
	['a'] = ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
	['{'] = O, ['|'] = T, ['}'] = O, ['~'] = ALL,
	/* clang-format on */
};

#undef T
#undef A
#undef ALL
#undef O

/* How many bytes from `text` on are of that class. */
static size_t span(const char *text, size_t len, unsigned class)
{
	size_t n = 0;

	while (n < len && byte_classes[(unsigned char)text[n]] & class)
		n++;
	return n;
}

static bool is_authority(const char *text, size_t len)
{
	return span(text, len, IN_AUTHORITY) == len;
}

/* `word` in lower case. */
static bool equals(const char *text, size_t len, const char *word)
{
	return len == strlen(word) && !strncasecmp(text, word, len);
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

static int judge_version(struct http1 *parser, const char *text, size_t len)
{
	if (len == 8 && !memcmp(text, "HTTP/1.1", 8))
		return 0;
	if (len == 8 && !memcmp(text, "HTTP/1.0", 8)) {
		parser->head.http10 = true;
		return 0;
	}
	if (memchr(text, '\r', len))
		return BAD(parser, "carriage return inside a line");
	if (len > 5 && !memcmp(text, "HTTP/", 5))
		return http1_fail(parser, -EBADMSG, 505, "HTTP version other than 1.0 and 1.1");
	return BAD(parser, "no HTTP version");
}

/* "http://HOST/path": the authority is noted, the path becomes the target. */
static int judge_absolute(struct http1 *parser, size_t len)
{
	const char *text = parser->text + parser->target_at;
	size_t scheme = !strncasecmp(text, "http://", 7) ? 7 : 8;
	size_t host = scheme;

	if (len < scheme || (scheme == 8 && strncasecmp(text, "https://", 8) != 0))
		return BAD(parser, "target is neither a path nor an http URI");
	while (host < len && text[host] != '/' && text[host] != '?')
		host++;
	if (host == scheme || !is_authority(text + scheme, host - scheme))
		return BAD(parser, "bad authority in the target");
	parser->authority_at = parser->target_at + (uint32_t)scheme;
	parser->authority_len = (uint32_t)(host - scheme);
	return 0;
}

static int judge_target(struct http1 *parser, size_t len)
{
	const char *text = parser->text + parser->target_at;

	if (!len)
		return BAD(parser, "no target");
	if (span(text, len, IN_TARGET) < len)
		return BAD(parser, "bad byte in the target");
	if (text[0] == '/')
		return 0;
	if (len == 1 && text[0] == '*') {
		if (!memcmp(parser->text, "OPTIONS ", 8))
			return 0;
		return BAD(parser, "target * without OPTIONS");
	}
	return judge_absolute(parser, len);
}

static int request_line(struct http1 *parser, size_t len)
{
	const char *line = parser->text;
	size_t method = span(line, len, IN_TOKEN), target;
	const char *second;
	int error;

	if (!method || line[method] != ' ')
		return BAD(parser, "not a request line");
	second = memchr(line + method + 1, ' ', len - method - 1);
	if (!second)
		return BAD(parser, "no HTTP version");
	target = (size_t)(second - line) - method - 1;
	parser->target_at = (uint32_t)method + 1;
	parser->target_len = (uint32_t)target;
	error = judge_version(parser, second + 1, len - method - target - 2);
	if (error)
		return error;
	if (!is_known_method(line, method))
		return http1_fail(parser, -EBADMSG, 501, "method not implemented");
	return judge_target(parser, target);
}

static int status_line(struct http1 *parser, size_t len)
{
	const char *line = parser->text;
	int error = judge_version(parser, line, len < 8 ? len : 8);
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
	if (memchr(line + 12, '\r', len - 12))
		return BAD(parser, "carriage return inside a line");
	parser->head.status = status;
	return 0;
}

int http1_start_line(struct http1 *parser, size_t len)
{
	parser->fields_at = (uint32_t)len + 2;
	return parser->responses ? status_line(parser, len) : request_line(parser, len);
}

static int add_field(struct http1 *parser, const struct http1_field *field)
{
	size_t n = parser->head.n_fields;

	if (n >= parser->fields_max)
		return http1_fail(parser, -E2BIG, 431, "too many fields");
	if (n == parser->fields_cap) {
		uint32_t cap = n ? 2 * (uint32_t)n : FIELDS_FIRST;
		struct http1_field *fields = realloc(parser->fields, cap * sizeof(*fields));

		if (!fields)
			return http1_fail(parser, -ENOMEM, 503, "out of memory");
		parser->fields = fields;
		parser->fields_cap = cap;
	}
	parser->fields[n] = *field;
	parser->head.n_fields++;
	return 0;
}

/* Digits only, no sign, no list, below 2^63 (RFC 9112 §6.3). */
static int64_t parse_length(const char *text, size_t len)
{
	int64_t number = 0;

	if (!len)
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9' || number > (INT64_MAX - (text[i] - '0')) / 10)
			return -1;
		number = number * 10 + (text[i] - '0');
	}
	return number;
}

static int judge_coding(struct http1 *parser, const struct http1_field *field)
{
	struct http1_head *head = &parser->head;

	if (head->chunked)
		return BAD(parser, "more than one Transfer-Encoding");
	head->chunked = equals(field->value, field->value_len, "chunked");
	if (head->chunked)
		return 0;
	if (field->value_len >= 7 && !strncasecmp(field->value, "chunked", 7))
		return BAD(parser, "chunked is not the last coding");
	return http1_fail(parser, -EBADMSG, 501, "Transfer-Encoding is not chunked");
}

static int judge_length(struct http1 *parser, const struct http1_field *field)
{
	struct http1_head *head = &parser->head;

	if (head->content_length >= 0)
		return BAD(parser, "more than one Content-Length");
	head->content_length = parse_length(field->value, field->value_len);
	return head->content_length < 0 ? BAD(parser, "bad Content-Length") : 0;
}

/* What the fields that frame the message may say; before llhttp sees them, whose errors do not tell
 * as much. */
static int judge_field(struct http1 *parser, const struct http1_field *field)
{
	const char *name = field->name, *value = field->value;
	size_t len = field->name_len, value_len = field->value_len;
	int error = 0;

	if (len == 4 && !memcmp(name, "host", 4)) {
		parser->hosts = parser->hosts ? 2 : 1;
		if (!parser->responses && !is_authority(value, value_len))
			return BAD(parser, "bad Host");
	} else if (len == 10 && !memcmp(name, "connection", 10)) {
		parser->says_close |= http1_list_has(value, value_len, "close");
		parser->says_keep_alive |= http1_list_has(value, value_len, "keep-alive");
	} else if (len == 17 && !memcmp(name, "transfer-encoding", 17)) {
		error = judge_coding(parser, field);
	} else if (len == 14 && !memcmp(name, "content-length", 14)) {
		error = judge_length(parser, field);
	}
	if (!error && parser->head.chunked && parser->head.content_length >= 0)
		return BAD(parser, "both Transfer-Encoding and Content-Length");
	return error;
}

/* Writes the name in lower case. Returns its length, up to what cannot be part of a name. */
static size_t take_name(char *line)
{
	size_t n = 0;

	for (; byte_classes[(unsigned char)line[n]] & IN_TOKEN; n++) {
		unsigned upper = line[n] >= 'A' && line[n] <= 'Z';

		line[n] = (char)(line[n] | (int)(upper << 5));
	}
	return n;
}

int http1_field_line(struct http1 *parser, size_t len)
{
	char *line = parser->text + parser->line_at; /* the CR ends the name at the latest */
	const char *value, *end = line + len;
	size_t name;
	int error;

	if (line[0] == ' ' || line[0] == '\t')
		return BAD(parser, "folded line");
	name = take_name(line);
	if (!name || line[name] != ':')
		return BAD(parser,
			   memchr(line, ':', len) ? "bad field name" : "line without a colon");
	for (value = line + name + 1; value < end && (*value == ' ' || *value == '\t'); value++)
		;
	if (memchr(value, '\r', (size_t)(end - value)))
		return BAD(parser, "carriage return inside a line");
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (value != line + name + 2 || line[name + 1] != ' ' || end != line + len)
		parser->odd = true;

	struct http1_field field = {line, value, (uint32_t)name, (uint32_t)(end - value)};

	error = judge_field(parser, &field);
	return error ? error : add_field(parser, &field);
}

static int show_field(struct http1 *parser, const struct http1_field *field)
{
	int error = http1_second_opinion(parser, field->name, field->name_len + 1);

	if (!error)
		error = http1_second_opinion(parser, field->value, field->value_len);
	return error ? error : http1_second_opinion(parser, "\r\n", 2);
}

/*
 * llhttp sees the head as received, but for the case of names. Where some field has other space
 * than the one before its value, it sees them all without: version 8 stumbles over a tab beside a
 * length.
 */
static int show_head(struct http1 *parser)
{
	int error;

	if (!parser->odd)
		return http1_second_opinion(parser, parser->text, parser->text_len);
	error = http1_second_opinion(parser, parser->text, parser->fields_at);
	for (size_t i = 0; i < parser->head.n_fields && !error; i++)
		error = show_field(parser, &parser->fields[i]);
	return error ? error : http1_second_opinion(parser, "\r\n", 2);
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
		struct http1_field *field = &parser->fields[i];

		if (field->name_len != 4 || memcmp(field->name, "host", 4) != 0)
			continue;
		field->value = host;
		field->value_len = (uint32_t)len;
	}
}

/* Ends all names and values by NUL, in the place of what stood behind them. */
static void cut_head(struct http1 *parser)
{
	struct http1_head *head = &parser->head;

	for (size_t i = 0; i < head->n_fields; i++) {
		const struct http1_field *field = &parser->fields[i];

		parser->text[field->name + field->name_len - parser->text] = '\0';
		parser->text[field->value + field->value_len - parser->text] = '\0';
	}
	head->fields = parser->fields;
	if (parser->responses)
		return;
	parser->text[parser->target_at - 1] = '\0';
	parser->text[parser->target_at + parser->target_len] = '\0';
	head->method = parser->text;
	head->target = parser->text + parser->target_at;
	if (parser->authority_at)
		split_absolute(parser);
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

static void judge_body(struct http1 *parser)
{
	struct http1_head *head = &parser->head;

	if (parser->responses)
		judge_response_body(parser);
	if (parser->state == HTTP1_TO_EOF || parser->bodiless)
		return;
	parser->left = head->content_length > 0 ? (uint64_t)head->content_length : 0;
	parser->state = head->chunked ? HTTP1_CHUNKS : HTTP1_SIZED;
	parser->chunk = (struct chunk_guard){.state = CHUNK_SIZE};
}

int http1_judge_head(struct http1 *parser)
{
	struct http1_head *head = &parser->head;
	int error;

	if (head->chunked && head->http10)
		return BAD(parser, "Transfer-Encoding in HTTP/1.0");
	if (!parser->responses && parser->hosts > 1)
		return BAD(parser, "more than one Host");
	if (!parser->responses && !parser->hosts && !head->http10)
		return BAD(parser, "no Host");
	head->keep_alive = !parser->says_close && (!head->http10 || parser->says_keep_alive);
	judge_body(parser);
	error = show_head(parser);
	if (!error)
		cut_head(parser);
	return error;
}
