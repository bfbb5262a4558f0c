/* SPDX-License-Identifier: MIT */
/*
 * Finds the model's name in a client's request body without building anything: a JSON object
 * (RFC 8259), scanned as it arrives, in one pass, in constant memory; or one field of
 * multipart/form-data (RFC 7578). Refuses what parsers disagree on: a second "model", "stream" or
 * "name" (escaped or not, and in whatever case: Go's encoding/json takes "MODEL" for "model"),
 * invalid UTF-8, lone surrogates, NUL, a byte order mark, text behind the object, nesting beyond
 * SCAN_DEPTH_MAX. Remembers positions, owns no bytes: the caller keeps the body and splices. Does
 * not judge the name: it may hold any character but NUL. Pure.
 */
#ifndef PROXY_SCAN_H
#define PROXY_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCAN_NAME_MAX	   255	/* bytes of a model's name, decoded */
#define SCAN_DEPTH_MAX	   128	/* objects and arrays in one another, the outermost counted */
#define SCAN_PART_HEAD_MAX 8192 /* bytes of one part's header lines */
#define SCAN_BOUNDARY_MAX  70	/* RFC 2046 §5.1.1 */

enum scan_type { SCAN_ABSENT, SCAN_STRING, SCAN_OTHER /* null, number, true, ... */ };

struct scan_value {
	enum scan_type type;
	size_t at, len;		      /* of the value in the body, with its quotes */
	char text[SCAN_NAME_MAX + 1]; /* SCAN_STRING: decoded, NUL-terminated; "" for others */
	bool too_long;		      /* text is only its beginning, cut between characters */
};

struct scan {
	/* To be read after scan_end() has returned 0. */
	struct scan_value model;  /* top level only */
	struct scan_value name;	  /* "name": Ollama's older word for "model" in /api/show */
	bool stream_seen, stream; /* "stream": true or false; anything else counts as true */
	/* Why it was refused, one line, without any of the client's bytes; NULL: it was not. */
	const char *error;
	size_t error_at; /* offset in the body */

	/* Private from here on. */
	size_t fed;			       /* bytes of the earlier pieces */
	size_t value_at;		       /* of the top-level value being read */
	const char *literal;		       /* what is still to come of true, false or null */
	uint64_t objects[SCAN_DEPTH_MAX / 64]; /* a bit for each open one: an object, no array */
	unsigned depth;
	unsigned state;
	unsigned member;	   /* which top-level member is being read */
	unsigned seen;		   /* a bit for each member that was */
	unsigned keep;		   /* what the string being read is kept as */
	unsigned digits, code;	   /* of a \u escape */
	unsigned high;		   /* surrogate that waits for the other half; 0: none */
	unsigned more, low, limit; /* UTF-8: bytes to come, range of the next one */
	unsigned char value_first; /* first byte of the top-level value */
	bool is_key;
	bool cut;	 /* the kept text is full */
	size_t kept_len; /* bytes of it so far */
	char key[8];	 /* "ſtream" and its end: longer keys are none of ours */
};

void scan_init(struct scan *scan);
/* The next bytes of the body. 0, or -EBADMSG (and from then on always). Verdict, error_at and
 * results do not depend on how the body was cut into pieces. */
int scan_feed(struct scan *scan, const char *data, size_t len);
/* The body is complete. 0: one whole object; -EBADMSG. */
int scan_end(struct scan *scan);

/*
 * The field `name` of a whole multipart body. `content_type` is the header's value. 0 and *value
 * (type SCAN_ABSENT when there is no such field, SCAN_STRING with at/len of the bare value);
 * -EBADMSG with *error: no or bad boundary, malformed, the field given twice, as a file or in a
 * transfer encoding, control characters or invalid UTF-8 in it.
 */
int scan_multipart(const char *content_type, const char *body, size_t len, const char *name,
		   struct scan_value *value, const char **error);

/* `text` as a JSON string, escaped where RFC 8259 §7 wants it, with quotes, to out (room:
 * 6 * len + 3). Returns its length without the NUL behind it. */
size_t scan_quote(char *out, const char *text);

#endif
