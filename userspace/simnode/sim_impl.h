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

/* Which routes a service has, and whose errors it speaks. */
#define SIM_OLLAMA   1u
#define SIM_OPENAI   2u /* all that speak it */
#define SIM_HEALTH   4u /* llama.cpp, vLLM, SGLang */
#define SIM_LLAMACPP 8u
#define SIM_COMFYUI  16u
#define SIM_IMMICH   32u
#define SIM_HTTP     64u
#define SIM_TCP	     128u
#define SIM_WYOMING  256u
#define SIM_VLLM     512u
#define SIM_SGLANG   1024u

#define SIM_ROUTES_MAX	64
#define SIM_RECORDS_MAX 64

enum sim_kind {			/* what is asked, and in which shape the answer goes out */
		SIM_GENERATE,	/* Ollama /api/generate */
		SIM_CHAT,	/* Ollama /api/chat */
		SIM_EMBED,	/* Ollama /api/embed */
		SIM_EMBEDDINGS, /* Ollama /api/embeddings */
		SIM_V1_CHAT,
		SIM_V1_COMPLETIONS,
		SIM_V1_EMBEDDINGS,
		SIM_V1_RESPONSES,
		SIM_V1_MESSAGES,
		SIM_V1_TRANSCRIPTION,
		SIM_V1_SPEECH,
		SIM_V1_IMAGES,
		SIM_PROMPT, /* ComfyUI's /prompt: takes no time */
		SIM_OTHER, /* anything else that takes a slot: one JSON object with name and text */
};

enum sim_event {
	SIM_ASKED,    /* an inference arrived */
	SIM_QUEUED,   /* it is good, and waits for a slot */
	SIM_BEGUN,    /* it has one */
	SIM_FINISHED, /* answered in full */
	SIM_FAILED,   /* ended by a fault */
	SIM_ABORTED,  /* the peer left */
};

struct sim_tally { /* begun = active + finished + failed + aborted, but for those that aborted
		      while waiting */
	uint64_t requests, begun, finished, failed, aborted;
	unsigned active, max_active, waiting;
	uint64_t aborted_at_us; /* the last one; CLOCK_MONOTONIC */
	const char *aborted_in; /* which phase it was in; NULL: none */
};

struct sim_record { /* what came under one x-request-id */
	char id[128];
	uint64_t serial; /* of the record: its place in the ring may be taken by another */
	struct sim_tally tally;
	uint64_t body_bytes, body_hash; /* of its last request */
};

struct sim_seen {	 /* the last request of all, but for /sim/ */
	struct buf text; /* method, target, then name and value of each field; a NUL behind each */
	uint64_t body_bytes, body_hash;
};

struct sim_fault {
	enum sim_fail how;
	uint32_t n;
};

struct sim_job { /* an inference that waits for a slot, or has one */
	struct sim_job *prev, *next;
	struct sim_service *service;
	struct exchange *exchange;
	enum sim_kind kind;
	struct sim_fault fault;
	char *model;			/* as the client calls it */
	char *tool;			/* the function to be called instead of saying anything */
	bool stream, usage, by_request; /* by_request: the request says how many tokens */
	bool load, unload;		/* an empty prompt: only (un)loads the model */
	bool base64, plain;		/* embeddings; a transcription as text */
	size_t inputs;			/* of an embedding; how many images */
	size_t file_bytes;		/* of a form */
	struct buf said;		/* where the end of a stream says everything again */
	uint64_t total, sent;		/* tokens */
	uint64_t number, taken_at_ms, first_at_ms;
	uint64_t events; /* of a stream that numbers them */
	uint64_t record; /* serial; 0: none */
	uv_timer_t timer;
	bool running, begun;
	size_t by_hand; /* framed here, not by the server: bytes of the head that are out */
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
	struct sim_job *jobs, *last_job; /* in order of arrival: the running, then the waiting */
	struct sim_job *first_waiting;	 /* NULL: none */
	unsigned running;
};

struct simnode {
	uv_loop_t *loop;
	struct simnode_options options;
	char *name;
	char *fields; /* "x-simnode: NAME\r\n" */
	struct sim_model *models;
	size_t n_models;
	struct sim_service *services;
	struct sim_stream *streams; /* connections of stream services, and websockets */
	struct sim_tally tally;
	uint64_t connections; /* of streams and websockets */
	unsigned open;	      /* of them, now */
	uint64_t hits[SIM_ROUTES_MAX];
	struct sim_record records[SIM_RECORDS_MAX]; /* serial s is at s % SIM_RECORDS_MAX */
	uint64_t last_record;			    /* serial; 0: none yet */
	struct sim_seen seen;
	struct sim_comfyui *comfyui; /* NULL: not asked for anything yet */
	uint64_t started_at_ms;
	unsigned references; /* handles that still need the node */
	bool closing;
	char filler[4096];
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

/* observe.c */
uint64_t sim_hash(const char *data, size_t len); /* FNV-1a, 64 bits */
void sim_saw_request(struct simnode *node, const struct exchange *exchange);
/* An inference arrived: the serial of its record, or 0. */
uint64_t sim_saw_inference(struct simnode *node, const struct exchange *exchange);
/* Called before the job changes. */
void sim_count(struct sim_job *job, enum sim_event event);
void sim_put_tallies(const struct simnode *node, struct json_writer *w);
void sim_forget(struct simnode *node); /* all counts but of what is under way */

/* job.c */
/* Takes the request up: it is answered now or later. */
void sim_job_start(struct sim_service *service, struct exchange *exchange, enum sim_kind kind);
/* Slots may have become more. */
void sim_jobs_wake(struct simnode *node);
/* It is over; its exchange is answered or gone. */
void sim_job_over(struct sim_job *job, enum sim_event event);
/* Runs the job's clock in so many ms. */
void sim_job_wait(struct sim_job *job, uint64_t ms);

/* request.c: what the job is about. False: answered with an error. */
bool sim_job_read(struct sim_job *job);

/* faults.c */
struct sim_fault sim_fault_take(struct simnode *node);
const char *sim_fail_text(const struct simnode_options *options, char text[64]);
/* Instead of the first byte. True: done; the job may be gone, or waits, or hangs. */
bool sim_fault_first(struct sim_job *job);
/* Before each token of a stream and before its end; before a whole answer. True: the job is gone.
 */
bool sim_fault_due(struct sim_job *job);

/* errors.c: in the shape of the engine and path */
void sim_error(struct sim_service *service, struct exchange *exchange, int status,
	       const char *format, ...) __attribute__((format(printf, 4, 5)));
void sim_put_stream_error(struct sim_job *job, struct buf *out, int status, const char *text);

/* What an API puts where; `text` is what is said. Each appends to `out`. */
struct sim_dialect {
	void (*begin)(struct sim_job *job,
		      struct buf *out); /* before the first token; may be NULL */
	void (*token)(struct sim_job *job, struct buf *out, const char *text);
	void (*end)(struct sim_job *job, struct buf *out);
	/* Everything at once. Returns the type of it. */
	const char *(*whole)(struct sim_job *job, struct buf *out, const char *text);
};
extern const struct sim_dialect sim_ollama, sim_ollama_embeds, sim_openai, sim_openai_embeds,
	sim_responses, sim_anthropic, sim_transcription, sim_speech, sim_images, sim_prompt,
	sim_other;
/* Of each input the same. */
#define SIM_VECTOR_SIZE 8
float sim_vector_at(unsigned i);
void sim_put_vector(struct json_writer *w); /* all of it, as an array */
/* One pixel. */
#define SIM_PNG_BYTES 67
extern const uint8_t sim_png[SIM_PNG_BYTES];

/* dialect.c: which dialect, and the way to the peer */
bool sim_kind_streams(enum sim_kind kind);
void sim_answer_json(struct simnode *node, struct exchange *exchange, int status, struct buf *json);
/* Only the head of the stream, or of a whole answer in chunks. */
void sim_answer_head(struct sim_job *job);
void sim_stream_begin(struct sim_job *job);
/* Token `job->sent`; returns bytes that wait to be written. */
size_t sim_stream_token(struct sim_job *job);
void sim_stream_end(struct sim_job *job);
void sim_whole_answer(struct sim_job *job);
/* The same as bytes. */
void sim_put_token_event(struct sim_job *job, struct buf *out);
const char *sim_put_whole(struct sim_job *job, struct buf *out); /* returns its type */
/* Where the answer is framed here: status line and fields, from byte `from` on. length < 0: chunks.
 */
void sim_put_raw_head(const struct sim_job *job, struct buf *out, size_t from, const char *type,
		      int64_t length);

/* routes.c */
void sim_on_request(void *service, struct exchange *exchange);
void sim_on_abandoned(void *service, struct exchange *exchange);

/* control.c: /sim/ */
void sim_get_stats(struct sim_service *service, struct exchange *exchange);
void sim_post_set(struct sim_service *service, struct exchange *exchange);
void sim_post_reset(struct sim_service *service, struct exchange *exchange);
const char *sim_route_name(size_t i, char text[80]); /* "GET /api/tags"; NULL: no more */

/* comfyui.c */
void sim_comfyui_free(struct sim_comfyui *comfyui);
bool sim_comfyui_good(struct sim_job *job); /* false: answered with an error */
unsigned sim_comfyui_queue(struct simnode *node);
void sim_get_comfyui(struct sim_service *service, struct exchange *exchange);
void sim_get_history(struct sim_service *service, struct exchange *exchange);
void sim_get_view(struct sim_service *service, struct exchange *exchange);
void sim_post_upload(struct sim_service *service, struct exchange *exchange);
void sim_get_ws(struct sim_service *service, struct exchange *exchange);

/* stream.c: raw TCP, Wyoming, websockets */
void sim_on_connection(void *service, int fd);
/* Says `hello`, then takes frames; `data` has already come. */
void sim_on_websocket(struct sim_service *service, int fd, const struct buf *hello,
		      const char *data, size_t len);
void sim_streams_close(struct simnode *node);

enum sim_feed { SIM_GO_ON, SIM_END, SIM_BAD }; /* SIM_END: after what is to be sent */

/* wyoming.c: bytes in, events out. False: not the protocol. */
struct sim_wyoming {
	struct buf line;
	uint64_t skip;	/* bytes of data and payload still to pass over */
	uint64_t audio; /* bytes heard since audio-start */
};
bool sim_wyoming_feed(struct sim_wyoming *state, const char *name, const char *data, size_t len,
		      struct buf *out);

/* websocket.c (RFC 6455): what the peer sends comes back to it, frame by frame. */
struct sim_websocket {
	uint8_t head[14];
	unsigned have, at; /* bytes of the head; of the mask used so far */
	uint64_t left;	   /* of the frame's payload */
};
enum sim_feed sim_websocket_feed(struct sim_websocket *state, const char *data, size_t len,
				 struct buf *out);
void sim_websocket_put_text(struct buf *out, const char *text);
/* What answers Sec-WebSocket-Key. */
void sim_websocket_accept(struct buf *out, const char *key);

#endif
