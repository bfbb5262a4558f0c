/* SPDX-License-Identifier: MIT */
/* The inside of simnode/. */
#ifndef SIMNODE_SIM_IMPL_H
#define SIMNODE_SIM_IMPL_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/json.h"
#include "net/listen.h"
#include "net/server.h"
#include "simnode/simnode.h"

/* Which routes a service has. */
#define SIM_OLLAMA   1u
#define SIM_OPENAI   2u /* all that speak it */
#define SIM_HEALTH   4u /* llama.cpp, vLLM, SGLang */
#define SIM_LLAMACPP 8u
#define SIM_COMFYUI  16u
#define SIM_IMMICH   32u
#define SIM_HTTP     64u
#define SIM_TCP	     128u
#define SIM_WYOMING  256u

#define SIM_ROUTES_MAX 48

enum sim_kind {			/* what is asked, and in which shape the answer goes out */
		SIM_GENERATE,	/* Ollama /api/generate */
		SIM_CHAT,	/* Ollama /api/chat */
		SIM_EMBED,	/* Ollama /api/embed */
		SIM_EMBEDDINGS, /* Ollama /api/embeddings */
		SIM_V1_CHAT,
		SIM_V1_COMPLETIONS,
		SIM_V1_EMBEDDINGS,
		SIM_OTHER, /* anything else that takes a slot: one JSON object with name, model and
			      text */
};

struct sim_job { /* an inference that waits for a slot, or has one */
	struct sim_job *prev, *next;
	struct sim_service *service;
	struct exchange *exchange;
	enum sim_kind kind;
	char *model;			/* as the client calls it */
	bool stream, usage, by_request; /* by_request: the request says how many tokens */
	bool load, unload;		/* an empty prompt: only (un)loads the model */
	size_t inputs;			/* of an embedding */
	uint64_t total, sent;		/* tokens */
	uint64_t number, taken_at_ms, first_at_ms;
	uv_timer_t timer;
	bool running, begun;
};

struct sim_model {
	char *name;
	bool loaded;
};

struct sim_service {
	struct sim_service *next;
	struct simnode *node;
	unsigned routes;
	struct server *server;		 /* HTTP, or */
	struct listener *listener;	 /* a stream */
	struct sim_job *jobs, *last_job; /* in order of arrival: running and waiting */
	unsigned running;
};

struct sim_counts {
	uint64_t requests, finished, aborted; /* inferences; aborted: the client left */
	uint64_t connections;		      /* of streams */
	unsigned active, max_active, waiting;
	uint64_t hits[SIM_ROUTES_MAX];
};

struct simnode {
	uv_loop_t *loop;
	struct simnode_options options;
	char *name;
	char *fields; /* "x-simnode: NAME\r\n" */
	struct sim_model *models;
	size_t n_models;
	struct sim_service *services;
	struct sim_stream *streams; /* connections of stream services */
	struct sim_counts counts;
	uint64_t started_at_ms;
	unsigned references; /* handles that still need the node */
	bool closing;
	char read_buffer[65536]; /* used up before the next read */
};

void sim_release(struct simnode *node);

/* models.c */
struct sim_model *sim_model_find(struct simnode *node, const char *name);
bool sim_model_known(const struct simnode *node,
		     const char *name);		   /* true for all when there is no list */
bool sim_name_equal(const char *a, const char *b); /* x == x:latest */
void sim_list_tags(struct simnode *node, struct json_writer *w, bool loaded_only);
void sim_list_v1(struct simnode *node, struct json_writer *w);

/* job.c */
/* Takes the request up: it is answered now or later. */
void sim_job_start(struct sim_service *service, struct exchange *exchange, enum sim_kind kind);
/* Slots may have become more. */
void sim_jobs_wake(struct simnode *node);
/* Ends it without an answer; its exchange is gone, or is to be. */
void sim_job_drop(struct sim_job *job);

/* dialect.c */
bool sim_kind_v1(enum sim_kind kind);
void sim_error(struct simnode *node, struct exchange *exchange, bool v1, int status,
	       const char *format, ...) __attribute__((format(printf, 5, 6)));
void sim_answer_json(struct simnode *node, struct exchange *exchange, int status, struct buf *json);
void sim_stream_begin(struct sim_job *job);
/* Token `job->sent`; returns bytes that wait to be written. */
size_t sim_stream_token(struct sim_job *job);
void sim_stream_end(struct sim_job *job);
void sim_stream_error(struct sim_job *job);
void sim_whole_answer(struct sim_job *job);

/* routes.c */
void sim_on_request(void *service, struct exchange *exchange);
void sim_on_abandoned(void *service, struct exchange *exchange);

/* stream.c: raw TCP and Wyoming */
void sim_on_connection(void *service, int fd);
void sim_streams_close(struct simnode *node);

/* wyoming.c: bytes in, events out. False: not the protocol. */
struct sim_wyoming {
	struct buf line;
	uint64_t skip;	/* bytes of data and payload still to pass over */
	uint64_t audio; /* bytes heard since audio-start */
};
bool sim_wyoming_feed(struct sim_wyoming *state, const char *name, const char *data, size_t len,
		      struct buf *out);

#endif
