/* SPDX-License-Identifier: MIT */
#include "proxy/scan.h"

#include <errno.h>
#include <string.h>

enum state {
	WANT_OBJECT,
	WANT_KEY_OR_END, /* just after { */
	WANT_KEY,
	WANT_COLON,
	WANT_VALUE,
	WANT_ITEM_OR_END, /* just after [ */
	WANT_COMMA_OR_END,
	WANT_NOTHING, /* behind the object */

	IN_LITERAL,

	IN_STRING,
	IN_UTF8,
	IN_ESCAPE,
	IN_HEX,
	WANT_LOW_BACKSLASH, /* behind a high surrogate */
	WANT_LOW_U,

	/* Numbers last: number_next() and step() count on it. */
	AFTER_MINUS,
	AFTER_ZERO,
	IN_INTEGER,
	AFTER_POINT,
	IN_FRACTION,
	AFTER_E,
	AFTER_E_SIGN,
	IN_EXPONENT,
	NUMBER_ENDS,
};

enum member { MODEL, STREAM, NAME, OTHER_MEMBER };
enum keep { KEEP_NOTHING, KEEP_KEY, KEEP_MODEL, KEEP_NAME };

static const struct {
	const char *key, *twice, *odd;
} members[] = {
	[MODEL] = {"model", "\"model\" is given twice", "a key is \"model\" but for its case"},
	[STREAM] = {"stream", "\"stream\" is given twice", "a key is \"stream\" but for its case"},
	[NAME] = {"name", "\"name\" is given twice", "a key is \"name\" but for its case"},
};

/* What scan_feed() was given. */
struct piece {
	const unsigned char *start, *at, *end;
};

static size_t offset(const struct scan *s, const struct piece *p)
{
	return s->fed + (size_t)(p->at - p->start);
}

static int fail_at(struct scan *s, size_t at, const char *why)
{
	s->error = why;
	s->error_at = at;
	return -EBADMSG;
}

/* Inline, as all that takes a piece: it then lives in registers. */
static inline int fail(struct scan *s, const struct piece *p, const char *why)
{
	return fail_at(s, offset(s, p), why);
}

/* --- the text of a key or a name, kept as it is decoded --- */

static char *kept_text(struct scan *s, size_t *room)
{
	*room = SCAN_NAME_MAX;
	switch (s->keep) {
	case KEEP_MODEL:
		return s->model.text;
	case KEEP_NAME:
		return s->name.text;
	default:
		*room = sizeof(s->key) - 1;
		return s->key;
	}
}

static bool is_continuation(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/* What has no room is cut off, and with it the rest of a character that has some. */
static void keep(struct scan *s, const unsigned char *bytes, size_t n)
{
	size_t room, take;
	char *text;

	if (s->keep == KEEP_NOTHING || s->cut || !n)
		return;
	text = kept_text(s, &room);
	take = n < room - s->kept_len ? n : room - s->kept_len;
	memcpy(text + s->kept_len, bytes, take);
	s->kept_len += take;
	if (take == n)
		return;
	s->cut = true;
	if (!is_continuation(bytes[take]))
		return;
	while (is_continuation((unsigned char)text[--s->kept_len]))
		;
}

static void keep_code(struct scan *s, unsigned code)
{
	static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
	size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	unsigned char utf8[4];

	if (s->keep == KEEP_NOTHING)
		return;
	for (size_t i = n; i-- > 1; code >>= 6)
		utf8[i] = (unsigned char)(0x80 | (code & 0x3f));
	utf8[0] = (unsigned char)(first[n] | code);
	keep(s, utf8, n);
}

/* --- what the values mean --- */

/* Equal as Go's encoding/json sees it, in which Ollama is written: without case, and with U+017F
 * for s. No other letter of our keys has a second form outside ASCII. */
static bool folds_to(const char *key, const char *word)
{
	for (; *word; word++, key++) {
		if (*word == 's' && key[0] == '\xc5' && key[1] == '\xbf')
			key++;
		else if ((*key >= 'A' && *key <= 'Z' ? *key - 'A' + 'a' : *key) != *word)
			return false;
	}
	return !*key;
}

/* `at`: the offset of its closing quote. */
static int note_key(struct scan *s, size_t at)
{
	if (s->cut)
		return 0;
	for (unsigned i = 0; i < OTHER_MEMBER; i++) {
		if (!folds_to(s->key, members[i].key))
			continue;
		if (strcmp(s->key, members[i].key) != 0)
			return fail_at(s, at, members[i].odd);
		if (s->seen & 1u << i)
			return fail_at(s, at, members[i].twice);
		s->seen |= 1u << i;
		s->member = i;
	}
	return 0;
}

static void note_value(struct scan *s, size_t end)
{
	struct scan_value *value = s->member == MODEL ? &s->model : &s->name;

	if (s->member == STREAM) {
		s->stream_seen = true;
		s->stream = s->value_first != 'f';
	} else if (s->member != OTHER_MEMBER) {
		value->type = s->value_first == '"' ? SCAN_STRING : SCAN_OTHER;
		value->at = s->value_at;
		value->len = end - s->value_at;
	}
	s->member = OTHER_MEMBER;
}

/* `end`: the offset behind it. */
static int value_done(struct scan *s, size_t end)
{
	s->state = s->depth ? WANT_COMMA_OR_END : WANT_NOTHING;
	if (s->depth == 1)
		note_value(s, end);
	return 0;
}

/* --- strings --- */

static inline int string_begins(struct scan *s, struct piece *p, bool is_key, enum keep keep)
{
	s->is_key = is_key;
	s->keep = keep;
	s->kept_len = 0;
	s->cut = false;
	s->state = IN_STRING;
	p->at++;
	return 0;
}

/* At the closing quote. */
static inline int string_ends(struct scan *s, struct piece *p)
{
	size_t room;

	if (s->keep != KEEP_NOTHING)
		kept_text(s, &room)[s->kept_len] = '\0';
	if (s->keep == KEEP_KEY && note_key(s, offset(s, p)))
		return -EBADMSG;
	if (s->keep == KEEP_MODEL)
		s->model.too_long = s->cut;
	if (s->keep == KEEP_NAME)
		s->name.too_long = s->cut;
	p->at++;
	if (!s->is_key)
		return value_done(s, offset(s, p));
	s->state = WANT_COLON;
	return 0;
}

/* Sixteen bytes at once: a vector where the machine has them (gcc and clang choose). */
#define WIDE 16
typedef signed char wide __attribute__((vector_size(WIDE)));

/* For each of the sixteen bytes 0xff where it is a quote, a backslash, a control character or a
 * byte beyond ASCII (which is below 0x20, as a signed one), in two halves in the order of memory.
 */
static inline void specials(const unsigned char *at, uint64_t found[2])
{
	wide x;

	memcpy(&x, at, sizeof(x));
	x = (x < 0x20) | (x == '"') | (x == '\\');
	memcpy(found, &x, sizeof(x));
}

static inline bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
}

static const unsigned char *skip_plain(const unsigned char *at, const unsigned char *end)
{
	uint64_t found[2];

	for (; end - at >= WIDE; at += WIDE) {
		specials(at, found);
		if (!(found[0] | found[1]))
			continue;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
		return found[0] ? at + __builtin_ctzll(found[0]) / 8
				: at + 8 + __builtin_ctzll(found[1]) / 8;
#else
		break;
#endif
	}
	while (at < end && is_plain(*at))
		at++;
	return at;
}

/* RFC 3629 §4: how many bytes follow `c`, and the range of the next one; 0: it begins none. */
static unsigned utf8_lead(unsigned char c, unsigned *low, unsigned *limit)
{
	*low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	*limit = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	return c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
}

/* Past the valid sequences beyond ASCII that are whole; the others are for in_utf8() to judge. */
static const unsigned char *skip_utf8(const unsigned char *at, const unsigned char *end)
{
	unsigned low, limit, more;

	for (; end - at >= 4 && *at >= 0x80; at += 1 + more) {
		more = utf8_lead(*at, &low, &limit);
		if (!more || at[1] < low || at[1] > limit ||
		    (more > 1 && !is_continuation(at[2])) || (more > 2 && !is_continuation(at[3])))
			break;
	}
	return at;
}

static inline int utf8_begins(struct scan *s, struct piece *p)
{
	s->more = utf8_lead(*p->at, &s->low, &s->limit);
	if (!s->more)
		return fail(s, p, "a string is not valid UTF-8");
	s->state = IN_UTF8;
	keep(s, p->at++, 1);
	return 0;
}

static inline int in_utf8(struct scan *s, struct piece *p)
{
	if (*p->at < s->low || *p->at > s->limit)
		return fail(s, p, "a string is not valid UTF-8");
	keep(s, p->at++, 1);
	s->low = 0x80;
	s->limit = 0xbf;
	if (!--s->more)
		s->state = IN_STRING;
	return 0;
}

/* RFC 8259 §7; 0: nothing. */
static const unsigned char escape_means[256] = {
	['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
	['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
};

/* As far as a string needs no thought: plain bytes, whole sequences of UTF-8 and, where nobody
 * wants to know what it says, short escapes. */
static const unsigned char *skip_easy(const struct scan *s, const unsigned char *at,
				      const unsigned char *end)
{
	const unsigned char *seen;

	do {
		at = seen = skip_plain(at, end);
		if (at < end && *at >= 0x80)
			at = skip_utf8(at, end);
		else if (end - at >= 2 && *at == '\\' && s->keep == KEEP_NOTHING &&
			 escape_means[at[1]])
			at += 2;
	} while (at != seen);
	return at;
}

static inline int in_string(struct scan *s, struct piece *p)
{
	const unsigned char *from = p->at;

	p->at = skip_easy(s, from, p->end);
	keep(s, from, (size_t)(p->at - from));
	if (p->at == p->end)
		return 0;
	if (*p->at >= 0x80)
		return utf8_begins(s, p);
	if (*p->at == '"')
		return string_ends(s, p);
	if (*p->at != '\\')
		return fail(s, p, "a control character in a string");
	p->at++;
	s->state = IN_ESCAPE;
	return 0;
}

static inline int in_escape(struct scan *s, struct piece *p)
{
	unsigned means;

	if (*p->at == 'u') {
		s->digits = s->code = 0;
		s->state = IN_HEX;
		p->at++;
		return 0;
	}
	means = escape_means[*p->at];
	if (!means)
		return fail(s, p, "an unknown escape in a string");
	keep_code(s, means);
	s->state = IN_STRING;
	p->at++;
	return 0;
}

/* At the last of four digits. */
static inline int code_done(struct scan *s, struct piece *p)
{
	bool is_low = s->code >= 0xdc00 && s->code <= 0xdfff;
	bool is_high = s->code >= 0xd800 && s->code <= 0xdbff;

	if (is_low != (s->high != 0))
		return fail(s, p, "half of a surrogate pair in a string");
	if (s->code == 0)
		return fail(s, p, "\\u0000 in a string");
	p->at++;
	if (is_high) {
		s->high = s->code;
		s->state = WANT_LOW_BACKSLASH;
		return 0;
	}
	if (is_low)
		s->code = 0x10000 + ((s->high - 0xd800) << 10) + (s->code - 0xdc00);
	s->high = 0;
	keep_code(s, s->code);
	s->state = IN_STRING;
	return 0;
}

static inline int in_hex(struct scan *s, struct piece *p)
{
	unsigned c = *p->at, lower = c | 0x20;

	if (c >= '0' && c <= '9')
		s->code = s->code * 16 + (c - '0');
	else if (lower >= 'a' && lower <= 'f')
		s->code = s->code * 16 + (lower - 'a' + 10);
	else
		return fail(s, p, "\\u without four hexadecimal digits");
	if (++s->digits == 4)
		return code_done(s, p);
	p->at++;
	return 0;
}

static inline int want_low(struct scan *s, struct piece *p)
{
	if (*p->at != (s->state == WANT_LOW_U ? 'u' : '\\'))
		return fail(s, p, "half of a surrogate pair in a string");
	p->at++;
	if (s->state == WANT_LOW_BACKSLASH) {
		s->state = WANT_LOW_U;
		return 0;
	}
	s->digits = s->code = 0;
	s->state = IN_HEX;
	return 0;
}

/* --- numbers and literals --- */

/* RFC 8259 §6: the state behind c; NUMBER_ENDS: it does not belong to the number. */
static unsigned number_next(unsigned state, unsigned char c)
{
	bool is_digit = c >= '0' && c <= '9', is_e = c == 'e' || c == 'E';

	switch (state) {
	case AFTER_MINUS:
		return !is_digit ? NUMBER_ENDS : c == '0' ? AFTER_ZERO : IN_INTEGER;
	case IN_INTEGER:
		if (is_digit)
			return IN_INTEGER;
		/* fall through */
	case AFTER_ZERO:
		return c == '.' ? AFTER_POINT : is_e ? AFTER_E : NUMBER_ENDS;
	case AFTER_POINT:
		return is_digit ? IN_FRACTION : NUMBER_ENDS;
	case IN_FRACTION:
		return is_digit ? IN_FRACTION : is_e ? AFTER_E : NUMBER_ENDS;
	case AFTER_E:
		if (c == '+' || c == '-')
			return AFTER_E_SIGN;
		/* fall through */
	default:
		return is_digit ? IN_EXPONENT : NUMBER_ENDS;
	}
}

static inline int in_number(struct scan *s, struct piece *p)
{
	unsigned state = s->state, next = state;

	for (; p->at < p->end; p->at++, state = next) {
		next = number_next(state, *p->at);
		if (next == NUMBER_ENDS)
			break;
	}
	s->state = state;
	if (p->at == p->end)
		return 0;
	if (state != AFTER_ZERO && state != IN_INTEGER && state != IN_FRACTION &&
	    state != IN_EXPONENT)
		return fail(s, p, "a malformed number");
	return value_done(s, offset(s, p));
}

static inline int in_literal(struct scan *s, struct piece *p)
{
	for (; p->at < p->end && *s->literal; p->at++, s->literal++) {
		if (*p->at != (unsigned char)*s->literal)
			return fail(s, p, "neither true, false nor null");
	}
	return *s->literal ? 0 : value_done(s, offset(s, p));
}

/* --- objects and arrays --- */

static bool in_object(const struct scan *s)
{
	return s->objects[(s->depth - 1) / 64] >> (s->depth - 1) % 64 & 1;
}

static inline int container_begins(struct scan *s, struct piece *p)
{
	uint64_t bit = (uint64_t)1 << s->depth % 64;

	if (s->depth == SCAN_DEPTH_MAX)
		return fail(s, p, "objects and arrays are nested too deep");
	if (*p->at == '{') {
		s->objects[s->depth / 64] |= bit;
		s->state = WANT_KEY_OR_END;
	} else {
		s->objects[s->depth / 64] &= ~bit;
		s->state = WANT_ITEM_OR_END;
	}
	s->depth++;
	p->at++;
	return 0;
}

static inline int container_ends(struct scan *s, struct piece *p)
{
	s->depth--;
	p->at++;
	return value_done(s, offset(s, p));
}

static inline int want_value(struct scan *s, struct piece *p)
{
	unsigned char c = *p->at;

	if (s->depth == 1) {
		s->value_at = offset(s, p);
		s->value_first = c;
	}
	if (c == '"') {
		enum keep keep = s->depth != 1	      ? KEEP_NOTHING
				 : s->member == MODEL ? KEEP_MODEL
				 : s->member == NAME  ? KEEP_NAME
						      : KEEP_NOTHING;
		return string_begins(s, p, false, keep);
	}
	if (c == '{' || c == '[')
		return container_begins(s, p);
	s->state = c == '-' ? AFTER_MINUS : c == '0' ? AFTER_ZERO : IN_INTEGER;
	p->at++;
	if (c == '-' || (c >= '0' && c <= '9'))
		return 0;
	s->literal = c == 't' ? "rue" : c == 'f' ? "alse" : "ull";
	s->state = IN_LITERAL;
	if (c == 't' || c == 'f' || c == 'n')
		return 0;
	p->at--;
	return fail(s, p, "no value where one is expected");
}

static inline int want_key(struct scan *s, struct piece *p)
{
	if (*p->at == '}' && s->state == WANT_KEY_OR_END)
		return container_ends(s, p);
	if (*p->at != '"')
		return fail(s, p, "no key in double quotes where one is expected");
	return string_begins(s, p, true, s->depth == 1 ? KEEP_KEY : KEEP_NOTHING);
}

static inline int want_comma(struct scan *s, struct piece *p)
{
	bool object = in_object(s);

	if (*p->at == (object ? '}' : ']'))
		return container_ends(s, p);
	if (*p->at != ',')
		return fail(s, p, "neither a comma nor the end where one is expected");
	p->at++;
	s->state = object ? WANT_KEY : WANT_VALUE;
	return 0;
}

static inline int want_colon(struct scan *s, struct piece *p)
{
	if (*p->at != ':')
		return fail(s, p, "no colon behind a key");
	p->at++;
	s->state = WANT_VALUE;
	return 0;
}

/* The states between tokens, where space may stand. */
static inline int between(struct scan *s, struct piece *p)
{
	while (*p->at == ' ' || *p->at == '\n' || *p->at == '\r' || *p->at == '\t') {
		if (++p->at == p->end)
			return 0;
	}
	switch (s->state) {
	case WANT_COMMA_OR_END:
		return want_comma(s, p);
	case WANT_KEY:
	case WANT_KEY_OR_END:
		return want_key(s, p);
	case WANT_COLON:
		return want_colon(s, p);
	case WANT_ITEM_OR_END:
		if (*p->at == ']')
			return container_ends(s, p);
		/* fall through */
	case WANT_VALUE:
		return want_value(s, p);
	case WANT_OBJECT: /* RFC 8259 §8.1 lets us ignore a byte order mark; most nodes do not */
		if (*p->at == '{')
			return container_begins(s, p);
		return fail(s, p, "not a JSON object (which begins with {, without a BOM)");
	default:
		return fail(s, p, "text behind the JSON object");
	}
}

static inline int step(struct scan *s, struct piece *p)
{
	switch (s->state) {
	case IN_STRING:
		return in_string(s, p);
	case IN_UTF8:
		return in_utf8(s, p);
	case IN_ESCAPE:
		return in_escape(s, p);
	case IN_HEX:
		return in_hex(s, p);
	case WANT_LOW_BACKSLASH:
	case WANT_LOW_U:
		return want_low(s, p);
	case IN_LITERAL:
		return in_literal(s, p);
	default:
		return s->state < IN_LITERAL ? between(s, p) : in_number(s, p);
	}
}

void scan_init(struct scan *s)
{
	memset(s, 0, sizeof(*s));
	s->state = WANT_OBJECT;
	s->member = OTHER_MEMBER;
}

int scan_feed(struct scan *s, const char *data, size_t len)
{
	struct piece piece = {.start = (const unsigned char *)data};

	if (s->error)
		return -EBADMSG;
	if (!len)
		return 0;
	piece.at = piece.start;
	piece.end = piece.start + len;
	while (piece.at < piece.end) {
		if (step(s, &piece))
			return -EBADMSG;
	}
	s->fed += len;
	return 0;
}

int scan_end(struct scan *s)
{
	if (s->error)
		return -EBADMSG;
	if (s->state == WANT_NOTHING)
		return 0;
	s->error = s->state == WANT_OBJECT ? "the body is empty" : "the JSON object does not end";
	s->error_at = s->fed;
	return -EBADMSG;
}
