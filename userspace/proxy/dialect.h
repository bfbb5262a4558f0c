/* SPDX-License-Identifier: MIT */
/*
 * What the router knows of the two dialects (and of Anthropic's /v1/messages, which some engines
 * speak): the paths it serves, the shape of an error, how a stream shows that it is whole. Pure.
 * Source: OpenAI's API conventions, Ollama's server/routes.go and api/types.go.
 */
#ifndef PROXY_DIALECT_H
#define PROXY_DIALECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum dialect { DIALECT_OPENAI, DIALECT_OLLAMA, DIALECT_ANTHROPIC };

enum path_kind {
	PATH_INFER,	 /* JSON with a model: routed, and sent again elsewhere when it fails */
	PATH_INFER_FORM, /* the same in multipart/form-data */
	PATH_SHOW,	 /* Ollama's /api/show: any node that has the model */
	PATH_VERSION,	 /* any Ollama node knows */
	PATH_HELLO,	 /* GET / */
	PATH_HEALTH,
	PATH_READY,
	PATH_METRICS,
	PATH_MODELS, /* OpenAI's list */
	PATH_MODEL,  /* one of it: the rest of the path is its name */
	PATH_TAGS,   /* Ollama's lists */
	PATH_PS,
	PATH_FORBIDDEN, /* changes what nodes have */
	PATH_UNKNOWN,
	PATH_OPAQUE, /* on a persona port: carried on as it is */
};

/* How a stream of that path ends when it is whole. */
enum stream_end { STREAM_ANY, STREAM_DONE, STREAM_MESSAGE_STOP, STREAM_RESPONSE };

struct path {
	const char *text; /* as the node knows it */
	enum path_kind kind;
	enum dialect dialect;
	enum stream_end end;
};

/* `target` with or without query. Never NULL. */
const struct path *path_find(const char *target);
/* May the kind be asked with this method? *allow: those that it may. */
bool path_allows(const struct path *path, const char *method, const char **allow);
/* On a persona port everything goes on to a node; what is an inference may go to another. */
const struct path *path_find_opaque(const char *target);

/* Why the router itself answers with an error. X(NAME, status, type, code, Ollama's words) */
#define REFUSALS(X) \
	X(BAD_REQUEST, 400, "invalid_request_error", "bad_request") \
	X(NO_MODEL, 400, "invalid_request_error", "model_required") \
	X(BAD_KEY, 401, "authentication_error", "invalid_api_key") \
	X(FORBIDDEN, 403, "permission_error", "forbidden") \
	X(UNKNOWN_PATH, 404, "invalid_request_error", "unknown_url") \
	X(UNKNOWN_MODEL, 404, "invalid_request_error", "model_not_found") \
	X(METHOD, 405, "invalid_request_error", "method_not_allowed") \
	X(SLOW, 408, "invalid_request_error", "request_timeout") \
	X(TOO_LARGE, 413, "invalid_request_error", "request_too_large") \
	X(MEDIA_TYPE, 415, "invalid_request_error", "unsupported_media_type") \
	X(EXPECTATION, 417, "invalid_request_error", "expectation_failed") \
	X(BUSY_EVERYWHERE, 429, "rate_limit_error", "rate_limit_exceeded") \
	X(LOCAL, 503, "server_error", "out_of_resources") \
	X(UPSTREAM, 502, "server_error", "upstream_failed") \
	X(NOBODY, 503, "server_error", "no_node_up") \
	X(QUEUE_FULL, 503, "server_error", "queue_full") \
	X(QUEUE_TIMEOUT, 503, "server_error", "no_room") \
	X(OVERLOADED, 503, "server_error", "overloaded") \
	X(STOPPING, 503, "server_error", "stopping") \
	X(UPSTREAM_TIMEOUT, 504, "server_error", "upstream_timeout")

enum refusal {
#define X(name, status, type, code) REFUSAL_##name,
	REFUSALS(X)
#undef X
		REFUSAL_COUNT
};

struct refusal_about {
	int status;
	const char *type, *code;
};
extern const struct refusal_about refusal_about[REFUSAL_COUNT];

/* The body of an error answer, in the dialect's shape. */
void dialect_error(struct buf *out, enum dialect dialect, enum refusal why, const char *message);
/*
 * What is sent when a stream breaks off: an error event, in SSE (`sse`) or as a line of NDJSON. The
 * client sees an error, whatever came before; no end follows.
 */
void dialect_stream_error(struct buf *out, enum dialect dialect, bool sse, const char *message);

#endif
