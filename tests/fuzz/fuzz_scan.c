/* SPDX-License-Identifier: MIT */
/*
 * Bodies of clients, as the router looks for the model in them: whole and in pieces, and against
 * base/json, which builds what the scanner only passes. An input that begins with "--" is a
 * multipart body, its first line the boundary.
 */
#include <errno.h>
#include <strings.h>

#include "base/json.h"
#include "fuzz.h"
#include "proxy/scan.h"

static int feed(struct scan *scan, const uint8_t *data, size_t len, uint32_t seed)
{
	size_t at = 0;
	int error = 0, again;

	scan_init(scan);
	while (at < len && !error) {
		size_t n = seed ? fuzz_piece(&seed, len - at) : len - at;
		char *piece = fuzz_place(data + at, n);

		error = scan_feed(scan, piece, n);
		fuzz_spoil(piece, n);
		at += n;
	}
	again = scan_end(scan);
	CHECK(!error || again == -EBADMSG);
	return again;
}

static void check_same(const struct scan_value *a, const struct scan_value *b)
{
	CHECK(a->type == b->type && a->at == b->at && a->len == b->len);
	CHECK(a->too_long == b->too_long && !strcmp(a->text, b->text));
}

/* Spliced into a body again, the name is the same name. */
static void check_quoted(const char *text)
{
	char quoted[6 * SCAN_NAME_MAX + 3];
	size_t len = scan_quote(quoted, text);
	struct buf body = {0};
	struct scan scan;

	CHECK(len < sizeof(quoted) && strlen(quoted) == len);
	buf_printf(&body, "{\"model\":%s}", quoted);
	CHECK(!feed(&scan, (const uint8_t *)body.data, body.len, 0));
	CHECK(scan.model.type == SCAN_STRING && !strcmp(scan.model.text, text));
	CHECK(scan.model.len == len);
	buf_fini(&body);
}

static void check_value(const struct scan_value *value, const uint8_t *data, size_t len)
{
	const uint8_t *at = data + value->at;

	if (value->type == SCAN_ABSENT)
		return;
	CHECK(value->len > 0 && value->at < len && value->len <= len - value->at);
	CHECK(strlen(value->text) <= SCAN_NAME_MAX);
	if (value->type == SCAN_OTHER) {
		CHECK(*at != '"' && !*value->text);
		return;
	}
	CHECK(value->len >= 2 && *at == '"' && at[value->len - 1] == '"');
	check_quoted(value->text);
}

/* The string that a parser finds under this key. */
static void check_string(const struct json *root, const char *key, const struct scan_value *value)
{
	const struct json *found = json_get(root, key);
	const char *text = found ? json_string(found) : NULL;

	CHECK(!found == (value->type == SCAN_ABSENT));
	CHECK(!text == (value->type != SCAN_STRING));
	if (!text)
		return;
	CHECK(value->too_long == (strlen(text) > SCAN_NAME_MAX));
	CHECK(!strncmp(text, value->text, strlen(value->text)));
	CHECK(value->too_long || !strcmp(text, value->text));
}

/* How many members of the object are called `key`, in whatever case. */
static unsigned count(const struct json *root, const char *key)
{
	unsigned n = 0;

	for (const struct json *at = json_first(root); at; at = json_next(at))
		n += !strcasecmp(json_key(at), key);
	return n;
}

/* Who takes the body takes it for the same thing. base/json has other limits. */
static void compare(const struct scan *scan, int verdict, const uint8_t *data, size_t len)
{
	struct json_error error;
	struct json *root = json_parse((const char *)data, len, JSON_DUPLICATES, &error);
	const struct json *stream;
	bool truth;

	if (!root && !verdict)
		CHECK(strstr(error.text, "nested deeper") || strstr(error.text, "number "));
	if (root && verdict && json_type(root) == JSON_OBJECT)
		CHECK(strstr(scan->error, "but for its case") ||
		      strstr(scan->error, "given twice"));
	if (root && !verdict) {
		CHECK(json_type(root) == JSON_OBJECT);
		CHECK(count(root, "model") < 2 && count(root, "name") < 2);
		CHECK(count(root, "stream") < 2);
		check_string(root, "model", &scan->model);
		check_string(root, "name", &scan->name);
		stream = json_get(root, "stream");
		CHECK(scan->stream_seen == (stream != NULL));
		if (stream)
			CHECK(scan->stream == (!json_bool(stream, &truth) || truth));
	}
	json_free(root);
}

static void scan_json(const uint8_t *data, size_t len)
{
	struct scan whole, pieces;
	int verdict = feed(&whole, data, len, 0);

	CHECK(feed(&pieces, data, len, fuzz_seed(data, len)) == verdict);
	CHECK(!verdict == !whole.error && whole.error == pieces.error);
	CHECK(whole.error_at == pieces.error_at && whole.error_at <= len);
	if (!verdict) {
		check_same(&whole.model, &pieces.model);
		check_same(&whole.name, &pieces.name);
		CHECK(whole.stream == pieces.stream && whole.stream_seen == pieces.stream_seen);
		check_value(&whole.model, data, len);
		check_value(&whole.name, data, len);
	}
	compare(&whole, verdict, data, len);
}

static void scan_form(const uint8_t *data, size_t len)
{
	const uint8_t *end = memchr(data, '\r', len);
	size_t boundary = end ? (size_t)(end - data) - 2 : 0;
	struct scan_value value;
	struct buf type = {0};
	const char *error = NULL;
	char *body = fuzz_place(data, len);
	int verdict;

	buf_puts(&type, "multipart/form-data; boundary=");
	buf_add(&type, data + 2, boundary);
	verdict = scan_multipart(type.data, body, len, "model", &value, &error);
	CHECK(verdict == 0 || verdict == -EBADMSG);
	CHECK(!verdict || (error && *error));
	if (!verdict && value.type == SCAN_STRING) {
		CHECK(value.at <= len && value.len <= len - value.at);
		CHECK(value.too_long == (value.len > SCAN_NAME_MAX));
		CHECK(strlen(value.text) <= value.len);
		CHECK(!memcmp(value.text, data + value.at, strlen(value.text)));
		CHECK(value.too_long || strlen(value.text) == value.len);
	}
	buf_fini(&type);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len >= 2 && !memcmp(data, "--", 2))
		scan_form(data, len);
	else
		scan_json(data, len);
	return 0;
}
