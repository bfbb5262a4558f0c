/* SPDX-License-Identifier: MIT */
/* What the requests of the control API have in common. Private to api*.c. */
#ifndef CONTROL_API_IMPL_H
#define CONTROL_API_IMPL_H

#include "control/control.h"
#include "net/server.h"

struct request { /* being answered */
	struct control *control;
	struct exchange *exchange;
	char node[MG_NAME_MAX]; /* the * of the path; empty: none */
	uid_t uid;		/* who asks; (uid_t)-1: unknown */
};

/* Sends what is in `out`, with 200, and frees it. */
void api_answer_json(const struct request *request, struct buf *out);
void api_refuse(const struct request *request, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The body as an object whose keys are all in `keys` (ends with NULL). NULL: refused already. */
struct json *api_body_read(const struct request *request, const char *const *keys);
bool api_integer_in(const struct json *object, const char *key, int64_t min, int64_t max,
		    int64_t *number);

/* The proxy parses what strangers send: should it be taken over, it must not steer. */
bool api_may_write(const struct request *request);
/* Is it a proxy, or somebody who could be one anyway? It knows the keys' digests, and may say that
 * a node failed; an operator's tools need neither. */
bool api_is_proxy(const struct request *request);

void api_post_load(struct request *request);

#endif
