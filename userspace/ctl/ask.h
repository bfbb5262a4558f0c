/* SPDX-License-Identifier: MIT */
/*
 * One question to the control socket, waited for; and what commands need to read the answer.
 * Failures are told to the user here, so a command only passes the exit code on.
 */
#ifndef CTL_ASK_H
#define CTL_ASK_H

#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "ctl/ctl.h"

#define ASK_TIMEOUT_MS 5000

/* Is there a controller? Tells nothing. */
bool ask_anybody(const struct ctl *ctl);

struct answer {
	int status;	   /* HTTP; 0: none came */
	struct json *root; /* NULL: not JSON */
};

/*
 * `body` may be NULL. CTL_DONE and *answer (to be freed with answer_fini()); or the exit code,
 * already told. An answer other than 2xx is a failure, told with the controller's own words, and
 * kept in *answer, too.
 */
int ask(const struct ctl *ctl, const char *method, const char *target, const char *body,
	struct answer *answer);
/* The same, but an answer other than 2xx is not told: look at answer->status. */
int ask_quietly(const struct ctl *ctl, const char *method, const char *target, const char *body,
		struct answer *answer);
/* Tells why an answer is not 2xx; returns the exit code. */
int answer_refused(const struct ctl *ctl, const struct answer *answer);
void answer_fini(struct answer *answer);

/* GET `target`; with --json prints the document and returns true in *printed. */
int ask_document(const struct ctl *ctl, const char *target, struct answer *answer, bool *printed);
/* Prints a document as --json wants it. */
int print_json(const struct ctl *ctl, const struct json *root);

/* Adds `?name=value` or `&name=value`, escaped; nothing for a NULL value. */
void target_add(struct buf *target, const char *name, const char *value);

/* Adds `path` and then `name`, escaped. */
void target_escape(struct buf *target, const char *path, const char *name);

/* Members of an object, with a default where they are absent or of another type. */
const char *text_of(const struct json *object, const char *key, const char *otherwise);
int64_t number_of(const struct json *object, const char *key, int64_t otherwise);
bool truth_of(const struct json *object, const char *key);

#endif
