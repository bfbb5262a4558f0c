/* SPDX-License-Identifier: MIT */
/*
 * A simulated inference node, for demonstrations and tests: it listens as one or more engines and
 * answers as they do, without a model. Ollama, OpenAI and Anthropic dialects with streaming, slots
 * and a queue as Ollama has them; ComfyUI (with its websocket), Immich and Wyoming as far as a
 * simple client goes; raw TCP (a banner, then an echo). It says its name in all answers. It fails
 * in every way that a gateway has to cope with. What it was asked is told by GET /sim/stats, how it
 * behaves is changed by POST /sim/set.
 */
#ifndef SIMNODE_SIMNODE_H
#define SIMNODE_SIMNODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/addr.h"

enum sim_fail {
	SIM_FAIL_NONE,
	SIM_FAIL_HANG,	    /* takes the request, never answers */
	SIM_FAIL_HANG_HEAD, /* sends the head of the answer, then nothing */
	SIM_FAIL_CLOSE,	    /* closes the connection instead of answering */
	SIM_FAIL_RESET,	    /* resets it instead */
	SIM_FAIL_STATUS,    /* answers the status fail_n */
	SIM_FAIL_SSE_ERROR, /* 200, then an error as the first event (as SGLang's full queue) */
	SIM_FAIL_SLOW_HEAD, /* sends the head in two pieces, fail_n ms apart */
	/* The rest is for when some tokens have gone out: */
	SIM_FAIL_TRUNCATE,    /* promises more bytes than it sends, and closes */
	SIM_FAIL_CUT,	      /* closes in the middle of a chunk, after fail_n tokens */
	SIM_FAIL_RESET_AFTER, /* resets the connection after fail_n tokens */
	SIM_FAIL_END,	      /* ends the stream cleanly but too early, after fail_n tokens */
	SIM_FAIL_ERROR_AFTER, /* an error event after fail_n tokens, then the end */
	SIM_FAIL_BAD_CHUNK,   /* garbage instead of a chunk, after fail_n tokens */
};

#define SIM_FAIL_HOW \
	"none, hang, hang-head, close, reset, status=CODE, sse-error, slow-head=MS, truncate, " \
	"cut=N, reset-after=N, end=N, error-after=N, bad-chunk=N"

#define SIM_TOKEN_BYTES_MAX  (16u << 20)
#define SIM_ANSWER_BYTES_MAX (256u << 20)

struct simnode_options { /* strings must outlive the node */
	const char *name;
	const char *const *models; /* none: answers to any name */
	size_t n_models;
	const char *const *loaded; /* in memory; NULL: all */
	size_t n_loaded;
	uint32_t slots; /* requests at once, of each service; the rest waits in order, without bound
			 */
	uint32_t tps;	/* tokens per second */
	uint32_t ttft_ms;
	uint32_t tokens;       /* of an answer, where the request does not say */
	uint32_t token_bytes;  /* each token's text is filled up to so many */
	uint32_t answer_bytes; /* the text of an answer that is not streamed, too */
	bool stamp;	       /* each token ends with the time of its sending */
	uint32_t load_ms;      /* answers 503 for so long */
	int status;	       /* every inference answers this; 0: none. Goes before `fail` */
	enum sim_fail fail;
	uint32_t fail_n;
	uint32_t fail_times; /* fail and status hold for so many inferences; 0: for all */
};

struct simnode;

/* name "simnode", 4 slots, 50 tokens per second, 20 ms, 16 tokens */
void simnode_defaults(struct simnode_options *options);
/* One of SIM_FAIL_HOW. 0, or -EINVAL. */
int simnode_fail_parse(struct simnode_options *options, const char *text);

/* NULL with errno. */
struct simnode *simnode_new(uv_loop_t *loop, const struct simnode_options *options);
/*
 * Listens as `engine`: one of the configuration's, or "any" (ollama, llamacpp and openai at once).
 * `*port` 0 = any, written back. 0, -EINVAL for an unknown engine, or -errno.
 */
int simnode_serve(struct simnode *node, const char *engine, const struct addr *address,
		  uint16_t *port);
/* 0: that engine has no port of its own, or is unknown. */
uint16_t simnode_default_port(const char *engine);
/* Closes all; memory goes when the loop has closed the handles. NULL is allowed. */
void simnode_free(struct simnode *node);

#endif
