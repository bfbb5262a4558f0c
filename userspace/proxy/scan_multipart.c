/* SPDX-License-Identifier: MIT */
/*
 * multipart/form-data as RFC 2046 §5.1 and RFC 7578 have it, minus what parsers read differently:
 * preamble, epilogue, padding behind a boundary, folded or LF-ended header lines, a part without a
 * blank line, escaped quotes. No client that is in use composes any of these.
 */
#include "proxy/scan.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

struct text {
	const char *at, *end;
};

struct form {
	const char *at, *end;
	char delimiter[sizeof("\n--") + SCAN_BOUNDARY_MAX];
	size_t delimiter_len;
	const char *error;
};

struct part {
	bool has_disposition, has_name, is_file, is_encoded;
	struct text name;
	struct text data;
};

static int fail(struct form *f, const char *why)
{
	f->error = why;
	return -EBADMSG;
}

static bool starts_with(const char *at, const char *end, const char *with, size_t len)
{
	return (size_t)(end - at) >= len && memcmp(at, with, len) == 0;
}

static bool is_word(struct text text, const char *word)
{
	return (size_t)(text.end - text.at) == strlen(word) &&
	       strncasecmp(text.at, word, strlen(word)) == 0;
}

static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_one_of(char c, const char *set)
{
	return c && strchr(set, c);
}

/* --- header values: word *( ; name=value ) --- */

static void skip_blanks(struct text *rest)
{
	while (rest->at < rest->end && (*rest->at == ' ' || *rest->at == '\t'))
		rest->at++;
}

/* RFC 9110 §5.6.2; `more`: further characters. */
static struct text take_token(struct text *rest, const char *more)
{
	struct text token = {rest->at, rest->at};

	while (rest->at < rest->end &&
	       (is_alnum(*rest->at) || is_one_of(*rest->at, "!#$%&'*+-.^_`|~") ||
		is_one_of(*rest->at, more)))
		rest->at++;
	token.end = rest->at;
	return token;
}

/*
 * At the opening quote. A backslash before a quote escapes it or does not, by whom you ask, so it
 * is refused; so are control characters. Others stay as they are, backslashes too. -1: malformed.
 */
static int take_quoted(struct text *rest, struct text *value)
{
	value->at = ++rest->at;
	while (rest->at < rest->end && *rest->at != '"') {
		if ((unsigned char)*rest->at < 0x20 && *rest->at != '\t')
			return -1;
		rest->at++;
	}
	value->end = rest->at;
	if (rest->at == rest->end || value->end[-1] == '\\')
		return -1;
	rest->at++;
	return 0;
}

/* 1: there is one; 0: no more; -1: malformed. */
static int take_param(struct text *rest, struct text *name, struct text *value)
{
	for (skip_blanks(rest); rest->at < rest->end && *rest->at == ';'; skip_blanks(rest)) {
		rest->at++;
		skip_blanks(rest);
		*name = take_token(rest, "");
		if (name->at == name->end)
			continue; /* RFC 9110 §5.6.6: may be empty */
		if (rest->at == rest->end || *rest->at++ != '=')
			return -1;
		if (rest->at < rest->end && *rest->at == '"')
			return take_quoted(rest, value) ? -1 : 1;
		*value = take_token(rest, "");
		return value->at < value->end ? 1 : -1;
	}
	return rest->at < rest->end ? -1 : 0;
}

/* --- the boundary --- */

/* RFC 2046 §5.1.1 */
static bool is_boundary(struct text value)
{
	size_t len = (size_t)(value.end - value.at);

	if (len < 1 || len > SCAN_BOUNDARY_MAX || value.end[-1] == ' ')
		return false;
	for (; value.at < value.end; value.at++) {
		if (!is_alnum(*value.at) && !is_one_of(*value.at, "'()+_,-./:=? "))
			return false;
	}
	return true;
}

static int set_boundary(struct form *f, struct text value)
{
	size_t len = (size_t)(value.end - value.at);

	if (f->delimiter_len)
		return fail(f, "Content-Type has two boundaries");
	if (!is_boundary(value))
		return fail(f, "Content-Type has no valid boundary");
	memcpy(f->delimiter, "\n--", 3);
	memcpy(f->delimiter + 3, value.at, len);
	f->delimiter_len = 3 + len;
	return 0;
}

static int read_content_type(struct form *f, const char *content_type)
{
	struct text rest = {content_type, content_type + strlen(content_type)}, name, value;
	int found;

	skip_blanks(&rest);
	if (!is_word(take_token(&rest, "/"), "multipart/form-data"))
		return fail(f, "Content-Type is not multipart/form-data");
	while ((found = take_param(&rest, &name, &value)) > 0) {
		/* boundary*, boundary*0 (RFC 2231): not for us, but some read it */
		if (name.end - name.at > 8 && strncasecmp(name.at, "boundary*", 9) == 0)
			return fail(f, "Content-Type has an extended boundary");
		if (is_word(name, "boundary") && set_boundary(f, value))
			return -EBADMSG;
	}
	if (found < 0)
		return fail(f, "Content-Type is malformed");
	return f->delimiter_len ? 0 : fail(f, "Content-Type has no valid boundary");
}

/* --- a part's header lines --- */

static int set_name(struct form *f, struct part *part, struct text value)
{
	if (part->has_name)
		return fail(f, "a part has two names");
	if (memchr(value.at, '\\', (size_t)(value.end - value.at)))
		return fail(f, "a part has a backslash in its name");
	part->has_name = true;
	part->name = value;
	return 0;
}

static int read_disposition(struct form *f, struct part *part, struct text rest)
{
	struct text name, value;
	int found;

	if (part->has_disposition)
		return fail(f, "a part has two Content-Dispositions");
	part->has_disposition = true;
	skip_blanks(&rest);
	if (!is_word(take_token(&rest, ""), "form-data"))
		return fail(f, "a part is not form-data");
	while ((found = take_param(&rest, &name, &value)) > 0) {
		if (name.end - name.at > 4 && strncasecmp(name.at, "name*", 5) == 0)
			return fail(f, "a part has an extended name");
		if (is_word(name, "name") && set_name(f, part, value))
			return -EBADMSG;
		if (name.end - name.at >= 8 && strncasecmp(name.at, "filename", 8) == 0)
			part->is_file = true;
	}
	if (found < 0)
		return fail(f, "a part has a malformed Content-Disposition");
	return part->has_name ? 0 : fail(f, "a part has no name");
}

static void read_encoding(struct part *part, struct text rest)
{
	struct text word;

	skip_blanks(&rest);
	word = take_token(&rest, "");
	skip_blanks(&rest);
	if (rest.at < rest.end ||
	    (!is_word(word, "7bit") && !is_word(word, "8bit") && !is_word(word, "binary")))
		part->is_encoded = true;
}

static int read_field(struct form *f, struct part *part, struct text line)
{
	struct text name = take_token(&line, "");

	if (name.at == name.end || line.at == line.end || *line.at != ':')
		return fail(f, "a part has a malformed header line");
	line.at++;
	if (is_word(name, "Content-Disposition"))
		return read_disposition(f, part, line);
	if (is_word(name, "Content-Transfer-Encoding"))
		read_encoding(part, line);
	return 0;
}

/* The next line, without its CRLF; `limit` is where it must have ended. */
static int take_line(struct form *f, const char *limit, struct text *line)
{
	const char *lf = memchr(f->at, '\n', (size_t)(limit - f->at));

	if (!lf)
		return fail(f, limit < f->end ? "a part's header lines are too long"
					      : "a part's header lines do not end");
	if (lf == f->at || lf[-1] != '\r')
		return fail(f, "a part's header line ends in a bare line feed");
	*line = (struct text){f->at, lf - 1};
	f->at = lf + 1;
	for (const char *c = line->at; c < line->end; c++) {
		if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
			return fail(f, "a control character in a part's header line");
	}
	return 0;
}

static int read_head(struct form *f, struct part *part)
{
	size_t left = (size_t)(f->end - f->at);
	const char *limit = f->at + (left < SCAN_PART_HEAD_MAX ? left : SCAN_PART_HEAD_MAX);
	struct text line;

	for (;;) {
		if (take_line(f, limit, &line))
			return -EBADMSG;
		if (line.at == line.end)
			break;
		if (starts_with(line.at, line.end, f->delimiter + 1, f->delimiter_len - 1))
			return fail(f, "a boundary among a part's header lines");
		if (read_field(f, part, line))
			return -EBADMSG;
	}
	return part->has_disposition ? 0 : fail(f, "a part has no Content-Disposition");
}

/* --- parts --- */

/*
 * Behind the blank line; goes behind the next delimiter. Within the delimiter only its first byte
 * is a line feed: what was compared need not be looked at again, so the time is linear.
 */
static int read_data(struct form *f, struct part *part)
{
	const char *lf = f->at - 1; /* the blank line's */

	part->data.at = f->at;
	while ((lf = memchr(lf, '\n', (size_t)(f->end - lf)))) {
		size_t same = 1, left = (size_t)(f->end - lf);

		while (same < f->delimiter_len && same < left && lf[same] == f->delimiter[same])
			same++;
		if (same == f->delimiter_len)
			break;
		lf += same;
	}
	if (!lf)
		return fail(f, "the last part does not end with a boundary");
	if (lf < part->data.at || lf[-1] != '\r')
		return fail(f, "a boundary without its own CR LF before it");
	part->data.end = lf - 1;
	f->at = lf + f->delimiter_len;
	return 0;
}

/* Behind a boundary. 1: a part follows; 0: that was the last. */
static int after_boundary(struct form *f)
{
	if (starts_with(f->at, f->end, "\r\n", 2)) {
		f->at += 2;
		return 1;
	}
	if (!starts_with(f->at, f->end, "--", 2))
		return fail(f, "text behind a boundary");
	f->at += 2;
	if (f->at == f->end || (f->end - f->at == 2 && memcmp(f->at, "\r\n", 2) == 0))
		return 0;
	return fail(f, "text behind the last boundary");
}

/* The longest beginning of valid UTF-8 without control characters that has at most `max` bytes. */
static size_t clean_extent(struct text text, size_t max)
{
	const char *at = text.at;
	size_t n;

	for (; at < text.end; at += n) {
		n = utf8_sequence(at, (size_t)(text.end - at));
		if (!n || (unsigned char)*at < 0x20 || *at == 0x7f)
			break;
		if ((size_t)(at - text.at) + n > max)
			break;
	}
	return (size_t)(at - text.at);
}

static int set_value(struct form *f, const struct part *part, const char *body,
		     struct scan_value *value)
{
	size_t kept;

	if (value->type != SCAN_ABSENT)
		return fail(f, "the field is given twice");
	if (part->is_file)
		return fail(f, "the field is given as a file");
	if (part->is_encoded)
		return fail(f, "the field is given in a transfer encoding");
	value->type = SCAN_STRING;
	value->at = (size_t)(part->data.at - body);
	value->len = (size_t)(part->data.end - part->data.at);
	if (clean_extent(part->data, value->len) < value->len)
		return fail(f, "the field has control characters or invalid UTF-8");
	kept = clean_extent(part->data, SCAN_NAME_MAX);
	memcpy(value->text, part->data.at, kept);
	value->too_long = kept < value->len;
	return 0;
}

static int read_parts(struct form *f, const char *field, struct scan_value *value)
{
	const char *body = f->at;
	int more;

	if (starts_with(f->at, f->end, "\r\n", 2))
		f->at += 2;
	if (!starts_with(f->at, f->end, f->delimiter + 1, f->delimiter_len - 1))
		return fail(f, "the body does not begin with the boundary");
	f->at += f->delimiter_len - 1;
	while ((more = after_boundary(f)) > 0) {
		struct part part = {0};

		if (read_head(f, &part) || read_data(f, &part))
			return -EBADMSG;
		if ((size_t)(part.name.end - part.name.at) == strlen(field) &&
		    memcmp(part.name.at, field, strlen(field)) == 0 &&
		    set_value(f, &part, body, value))
			return -EBADMSG;
	}
	return more;
}

int scan_multipart(const char *content_type, const char *body, size_t len, const char *name,
		   struct scan_value *value, const char **error)
{
	struct form form = {0};
	int err;

	form.at = len ? body : ""; /* NULL + 0 is undefined */
	form.end = form.at + len;
	memset(value, 0, sizeof(*value));
	err = read_content_type(&form, content_type);
	if (!err)
		err = read_parts(&form, name, value);
	*error = form.error;
	return err;
}
