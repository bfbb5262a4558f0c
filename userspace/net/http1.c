/* SPDX-License-Identifier: MIT */
#include "net/http1.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "net/http1_impl.h"

#define TEXT_FIRST	1024 /* most heads fit */
#define TEXT_KEPT	4096 /* a buffer that grew larger is not kept for the next message */
#define BLANK_LINES_MAX 1

int http1_fail(struct http1 *parser, int code, int status, const char *why)
{
	parser->state = HTTP1_FAILED;
	parser->error = why;
	parser->error_status = status;
	return code;
}

static int on_headers_complete(llhttp_t *llhttp)
{
	const struct http1 *parser = llhttp->data;

	return parser->bodiless ? 1 : 0;
}

static int on_body(llhttp_t *llhttp, const char *data, size_t len)
{
	struct http1 *parser = llhttp->data;

	if (!parser->stopped)
		parser->stopped = parser->events->on_body(parser->arg, data, len);
	return parser->stopped || parser->freed ? -1 : 0;
}

static int on_message_complete(llhttp_t *llhttp)
{
	struct http1 *parser = llhttp->data;

	parser->completed = true;
	return 0;
}

static const llhttp_settings_t settings = {
	.on_headers_complete = on_headers_complete,
	.on_body = on_body,
	.on_message_complete = on_message_complete,
};

struct http1 *http1_new(bool responses, const struct http1_events *events, void *arg)
{
	struct http1 *parser = calloc(1, sizeof(*parser));

	if (!parser)
		return NULL;
	parser->events = events;
	parser->arg = arg;
	parser->responses = responses;
	parser->error_status = 400;
	http1_limit(parser, HTTP1_HEAD_MAX, HTTP1_FIELDS_MAX);
	return parser;
}

void http1_limit(struct http1 *parser, size_t head_max, size_t fields_max)
{
	parser->head_max = head_max < UINT32_MAX / 4 ? (uint32_t)head_max : UINT32_MAX / 4;
	parser->fields_max = fields_max < UINT32_MAX / 4 ? (uint32_t)fields_max : UINT32_MAX / 4;
}

static void destroy(struct http1 *parser)
{
	free(parser->text);
	free(parser->fields);
	free(parser);
}

void http1_free(struct http1 *parser)
{
	if (!parser)
		return;
	if (parser->feeding)
		parser->freed = true;
	else
		destroy(parser);
}

int http1_second_opinion(struct http1 *parser, const char *data, size_t len)
{
	llhttp_errno_t error;

	if (!len)
		return 0;
	error = llhttp_execute(&parser->llhttp, data, len);
	if (parser->stopped || parser->freed)
		return -ECANCELED;
	if (error == HPE_OK || (error == HPE_PAUSED_UPGRADE && parser->completed))
		return 0;
	return http1_fail(parser, -EBADMSG, 400, HTTP1_LLHTTP_SAYS_NO);
}

static int call_back(struct http1 *parser, int result)
{
	if (!result && !parser->freed)
		return 0;
	parser->stopped = result;
	return -ECANCELED;
}

/* The guard says that the message ends here. 0, -EAGAIN to pause, or a failure. */
static int end_message(struct http1 *parser)
{
	int result;

	if (!parser->completed)
		return http1_fail(parser, -EBADMSG, 400,
				  "message ends where llhttp does not end it");
	parser->begun = false;
	if (parser->head.status == 101)
		parser->state = HTTP1_RAW;
	else
		parser->state = parser->head.keep_alive ? HTTP1_HEAD : HTTP1_OVER;
	if (parser->state == HTTP1_RAW)
		return 0;
	result = parser->events->on_complete(parser->arg);
	if (result == HTTP1_PAUSE && !parser->freed)
		return -EAGAIN;
	return call_back(parser, result);
}

static void free_text(struct http1 *parser)
{
	free(parser->text);
	parser->text = NULL;
	parser->text_cap = 0;
	parser->text_len = 0;
}

void http1_trim(struct http1 *parser)
{
	if (parser->state == HTTP1_HEAD && parser->begun)
		return;
	free_text(parser);
	free(parser->fields);
	parser->fields = NULL;
	parser->fields_cap = 0;
	parser->head.fields = NULL;
	parser->head.n_fields = 0;
	parser->head.method = parser->head.target = NULL;
}

static void begin_message(struct http1 *parser)
{
	if (parser->text_cap > TEXT_KEPT)
		free_text(parser);
	parser->text_len = 0;
	parser->line_at = 0;
	parser->blank_lines = 0;
	parser->hosts = 0;
	parser->line_seen = false;
	parser->bodiless = false;
	parser->odd = false;
	parser->says_close = parser->says_keep_alive = false;
	parser->completed = false;
	parser->authority_at = 0;
	parser->head = (struct http1_head){.content_length = -1};
	llhttp_init(&parser->llhttp, parser->responses ? HTTP_RESPONSE : HTTP_REQUEST, &settings);
	parser->llhttp.data = parser;
	parser->begun = true;
}

/* `need` ≤ head_max */
static int grow(struct http1 *parser, size_t need)
{
	uint32_t cap = parser->text_cap ? parser->text_cap : TEXT_FIRST;
	char *text;

	while (cap < need)
		cap *= 2;
	if (cap == parser->text_cap)
		return 0;
	text = malloc(cap);
	if (!text)
		return http1_fail(parser, -ENOMEM, 503, "out of memory");
	if (parser->text_len)
		memcpy(text, parser->text, parser->text_len);
	for (size_t i = 0; i < parser->head.n_fields; i++) {
		struct http1_field *field = &parser->fields[i];

		field->name = text + (field->name - parser->text);
		field->value = text + (field->value - parser->text);
	}
	free(parser->text);
	parser->text = text;
	parser->text_cap = cap;
	return 0;
}

static int too_large(struct http1 *parser)
{
	return http1_fail(parser, -E2BIG, parser->line_seen ? 431 : 414, "head too large");
}

/* Is one of these eight bytes below 0x20 or 0x7f? */
static bool has_control(const char *at)
{
	const uint64_t each = UINT64_MAX / 255;
	uint64_t eight, del;

	memcpy(&eight, at, sizeof(eight));
	del = eight ^ each * 0x7f;
	return (((eight - each * 0x20) & ~eight) | ((del - each) & ~del)) & each * 0x80;
}

/* Eight bytes at a time, the last ones perhaps twice; the end of a line is not looked at. */
static bool is_plain(const char *data, size_t len)
{
	bool found = false;

	if (len >= 2 && data[len - 2] == '\r' && data[len - 1] == '\n')
		len -= 2;
	if (len < 8)
		return false;
	for (size_t at = 0; at + 8 <= len; at += 8)
		found |= has_control(data + at);
	return !found && !has_control(data + len - 8);
}

/* Control characters are refused as they arrive: whoever speaks TLS here learns it at once. */
static int append(struct http1 *parser, const char *data, size_t len)
{
	bool plain = is_plain(data, len);
	int error;

	for (size_t i = 0; i < len && !plain; i++) {
		unsigned char c = (unsigned char)data[i];

		if ((c < 0x20 && c != '\t' && c != '\r' && c != '\n') || c == 0x7f)
			return http1_fail(parser, -EBADMSG, 400, "control character in the head");
	}
	error = grow(parser, parser->text_len + len);
	if (error)
		return error;
	memcpy(parser->text + parser->text_len, data, len);
	parser->text_len += (uint32_t)len;
	return 0;
}

static int end_head(struct http1 *parser)
{
	int error = http1_judge_head(parser);

	if (error)
		return error;
	if (parser->completed !=
	    (parser->bodiless || (parser->state == HTTP1_SIZED && !parser->left)))
		return http1_fail(parser, -EBADMSG, 400, "framing on which llhttp disagrees");
	error = call_back(parser, parser->events->on_head(parser->arg, &parser->head));
	if (error || !parser->completed)
		return error;
	return end_message(parser);
}

static int take_line(struct http1 *parser)
{
	size_t len = parser->text_len - parser->line_at; /* with the LF */
	int error;

	if (len < 2 || parser->text[parser->text_len - 2] != '\r')
		return http1_fail(parser, -EBADMSG, 400, "line feed without carriage return");
	len -= 2;
	if (!len && parser->line_seen)
		return end_head(parser);
	if (!len) {
		if (parser->responses || parser->blank_lines++ == BLANK_LINES_MAX)
			return http1_fail(parser, -EBADMSG, 400, "blank line before the message");
		parser->text_len = 0;
		return 0;
	}
	error = parser->line_seen ? http1_field_line(parser, len) : http1_start_line(parser, len);
	parser->line_seen = true;
	parser->line_at = parser->text_len;
	return error;
}

/* Takes at most one line. Each of these returns how many bytes it took in *taken. */
static int feed_head(struct http1 *parser, const char *data, size_t len, size_t *taken)
{
	const char *end;
	size_t room;
	bool cut;
	int error;

	if (!parser->begun)
		begin_message(parser);
	end = memchr(data, '\n', len);
	*taken = end ? (size_t)(end - data) + 1 : len;
	room = parser->head_max > parser->text_len ? parser->head_max - parser->text_len : 0;
	cut = *taken > room;
	if (cut)
		*taken = room;
	error = append(parser, data, *taken);
	if (error)
		return error;
	if (cut)
		return too_large(parser);
	return end ? take_line(parser) : 0;
}

static int feed_sized(struct http1 *parser, const char *data, size_t len, size_t *taken)
{
	int error;

	*taken = parser->left < len ? (size_t)parser->left : len;
	parser->left -= *taken;
	error = http1_second_opinion(parser, data, *taken);
	return error || parser->left ? error : end_message(parser);
}

static int feed_chunks(struct http1 *parser, const char *data, size_t len, size_t *taken)
{
	const char *why = NULL;
	size_t skip = 0;
	long kept = http1_chunk_scan(&parser->chunk, data, len, &skip, &why);
	int error;

	if (kept < 0)
		return http1_fail(parser, -EBADMSG, 400, why);
	*taken = (size_t)kept + skip;
	error = http1_second_opinion(parser, data, (size_t)kept);
	if (error)
		return error;
	if (parser->chunk.state == CHUNK_END)
		return end_message(parser);
	if (parser->completed)
		return http1_fail(parser, -EBADMSG, 400, "llhttp ends the message before its end");
	return 0;
}

static int feed_over(struct http1 *parser, const char *data, size_t len, size_t *taken)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] != '\r' && data[i] != '\n')
			return http1_fail(parser, -EBADMSG, 400, "bytes behind the last message");
	}
	*taken = len;
	return 0;
}

static int feed_some(struct http1 *parser, const char *data, size_t len, size_t *taken)
{
	switch (parser->state) {
	case HTTP1_HEAD:
		return feed_head(parser, data, len, taken);
	case HTTP1_SIZED:
		return feed_sized(parser, data, len, taken);
	case HTTP1_CHUNKS:
		return feed_chunks(parser, data, len, taken);
	case HTTP1_TO_EOF:
		*taken = len;
		return http1_second_opinion(parser, data, len);
	case HTTP1_RAW:
		*taken = len;
		return call_back(parser, parser->events->on_body(parser->arg, data, len));
	case HTTP1_OVER:
		return feed_over(parser, data, len, taken);
	case HTTP1_FAILED:
		break;
	}
	return -EBADMSG;
}

/* Returns `result`, unless the owner let go of the parser in a callback. */
static int leave(struct http1 *parser, int result)
{
	parser->feeding = false;
	if (parser->freed) {
		destroy(parser);
		return -ECANCELED;
	}
	if (result == -ECANCELED)
		parser->state = HTTP1_FAILED;
	return result;
}

int http1_feed(struct http1 *parser, const char *data, size_t len)
{
	int result = 0;

	parser->consumed = 0;
	parser->feeding = true;
	while (!result && parser->consumed < len) {
		size_t taken = 0;

		result = feed_some(parser, data + parser->consumed, len - parser->consumed, &taken);
		parser->consumed += taken;
	}
	return leave(parser, result);
}

int http1_eof(struct http1 *parser)
{
	bool to_end = parser->state == HTTP1_TO_EOF || parser->state == HTTP1_RAW;
	int result;

	if (parser->state == HTTP1_OVER || http1_idle(parser))
		return 0;
	if (!to_end)
		return parser->state == HTTP1_FAILED ? -EBADMSG : -EPIPE;
	parser->state = HTTP1_OVER;
	parser->begun = false;
	parser->feeding = true;
	result = parser->events->on_complete(parser->arg);
	if (result == HTTP1_PAUSE) /* there is nothing behind it to stop for */
		result = 0;
	return leave(parser, call_back(parser, result));
}

size_t http1_consumed(const struct http1 *parser)
{
	return parser->consumed;
}

bool http1_idle(const struct http1 *parser)
{
	return parser->state == HTTP1_HEAD && (!parser->begun || !parser->text_len);
}

const char *http1_error(const struct http1 *parser)
{
	return parser->error ? parser->error : "";
}

int http1_error_status(const struct http1 *parser)
{
	return parser->error_status;
}

void http1_expect_no_body(struct http1 *parser)
{
	parser->no_body = true;
}

static bool is_named(const struct http1_field *field, const char *name, size_t len)
{
	return field->name_len == len && !memcmp(field->name, name, len);
}

const char *http1_field(const struct http1_head *head, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < head->n_fields; i++) {
		if (is_named(&head->fields[i], name, len))
			return head->fields[i].value;
	}
	return NULL;
}

bool http1_list_has(const char *list, size_t len, const char *token)
{
	size_t want = strlen(token), at = 0;

	while (at < len) {
		size_t from = at;

		while (at < len && list[at] != ' ' && list[at] != '\t' && list[at] != ',')
			at++;
		if (at - from == want && !strncasecmp(list + from, token, want))
			return true;
		at++;
	}
	return false;
}

bool http1_has_token(const struct http1_head *head, const char *name, const char *token)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < head->n_fields; i++) {
		const struct http1_field *field = &head->fields[i];

		if (is_named(field, name, len) &&
		    http1_list_has(field->value, field->value_len, token))
			return true;
	}
	return false;
}

const char *http1_reason(int status)
{
	static const struct {
		int status;
		const char *reason;
	} reasons[] = {
		{100, "Continue"},
		{101, "Switching Protocols"},
		{103, "Early Hints"},
		{200, "OK"},
		{201, "Created"},
		{202, "Accepted"},
		{204, "No Content"},
		{206, "Partial Content"},
		{301, "Moved Permanently"},
		{302, "Found"},
		{303, "See Other"},
		{304, "Not Modified"},
		{307, "Temporary Redirect"},
		{308, "Permanent Redirect"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{406, "Not Acceptable"},
		{408, "Request Timeout"},
		{409, "Conflict"},
		{410, "Gone"},
		{411, "Length Required"},
		{412, "Precondition Failed"},
		{413, "Content Too Large"},
		{414, "URI Too Long"},
		{415, "Unsupported Media Type"},
		{416, "Range Not Satisfiable"},
		{417, "Expectation Failed"},
		{422, "Unprocessable Content"},
		{424, "Failed Dependency"},
		{426, "Upgrade Required"},
		{429, "Too Many Requests"},
		{431, "Request Header Fields Too Large"},
		{499, "Client Closed Request"},
		{500, "Internal Server Error"},
		{501, "Not Implemented"},
		{502, "Bad Gateway"},
		{503, "Service Unavailable"},
		{504, "Gateway Timeout"},
		{505, "HTTP Version Not Supported"},
	};

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (reasons[i].status == status)
			return reasons[i].reason;
	}
	return "Unknown";
}
