/* SPDX-License-Identifier: MIT */
/* Speech, images, and what takes a slot without being language. */
#include <stdio.h>
#include <time.h>

#include "simnode/encode.h"
#include "simnode/sim_impl.h"

#define SPEECH_BYTES 4096

/* One transparent pixel. */
const uint8_t sim_png[SIM_PNG_BYTES] = {
	0x89, 'P',  'N',  'G',	0x0d, 0x0a, 0x1a, 0x0a, 0,    0,    0,	  0x0d, 'I',  'H',
	'D',  'R',  0,	  0,	0,    1,    0,	  0,	0,    1,    8,	  6,	0,    0,
	0,    0x1f, 0x15, 0xc4, 0x89, 0,    0,	  0,	0x0a, 'I',  'D',  'A',	'T',  0x78,
	0x9c, 0x63, 0,	  1,	0,    0,    5,	  0,	1,    0x0d, 0x0a, 0x2d, 0xb4, 0,
	0,    0,    0,	  'I',	'E',  'N',  'D',  0xae, 0x42, 0x60, 0x82};

static void put_delta(struct sim_job *job, struct buf *out, const char *type, const char *name,
		      const char *text)
{
	struct json_writer w = {.out = out};

	(void)job;
	buf_puts(out, "data: ");
	json_begin(&w, '{');
	json_pair_string(&w, "type", type);
	json_pair_string(&w, name, text);
	json_end(&w, '}');
	buf_puts(out, "\n\n");
}

static void put_token(struct sim_job *job, struct buf *out, const char *text)
{
	buf_puts(&job->said, text);
	put_delta(job, out, "transcript.text.delta", "delta", text);
}

static void put_end(struct sim_job *job, struct buf *out)
{
	put_delta(job, out, "transcript.text.done", "text", job->said.data ? job->said.data : "");
	buf_puts(out, "data: [DONE]\n\n");
}

static const char *put_transcription(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};
	char heard[400];

	(void)text;
	snprintf(heard, sizeof(heard), "%s heard %zu bytes", job->service->node->name,
		 job->file_bytes);
	if (job->plain) {
		buf_printf(out, "%s\n", heard);
		return "text/plain; charset=utf-8";
	}
	json_begin(&w, '{');
	json_pair_string(&w, "text", heard);
	json_pair_int(&w, "bytes", (int64_t)job->file_bytes);
	json_pair_string(&w, "model", job->model);
	json_end(&w, '}');
	return "application/json";
}

const struct sim_dialect sim_transcription = {
	.token = put_token, .end = put_end, .whole = put_transcription};

/* All byte values, in order. */
static const char *put_speech(struct sim_job *job, struct buf *out, const char *text)
{
	size_t len = job->service->node->options.answer_bytes;
	uint8_t block[256];

	(void)text;
	for (unsigned i = 0; i < sizeof(block); i++)
		block[i] = (uint8_t)i;
	if (!len)
		len = SPEECH_BYTES;
	for (size_t n; len && !buf_failed(out); len -= n) {
		n = len < sizeof(block) ? len : sizeof(block);
		buf_add(out, block, n);
	}
	return "audio/mpeg";
}

const struct sim_dialect sim_speech = {.whole = put_speech};

static const char *put_images(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};
	struct buf png = {0};

	(void)text;
	encode_base64(&png, sim_png, sizeof(sim_png));
	json_begin(&w, '{');
	json_pair_int(&w, "created", (int64_t)time(NULL));
	json_name(&w, "data");
	json_begin(&w, '[');
	for (size_t i = 0; i < job->inputs; i++) {
		json_begin(&w, '{');
		json_pair_string(&w, "b64_json", png.data);
		json_pair_string(&w, "revised_prompt", job->service->node->name);
		json_end(&w, '}');
	}
	json_end(&w, ']');
	json_end(&w, '}');
	buf_fini(&png);
	return "application/json";
}

const struct sim_dialect sim_images = {.whole = put_images};

static const char *put_other(struct sim_job *job, struct buf *out, const char *text)
{
	struct json_writer w = {.out = out};

	json_begin(&w, '{');
	json_pair_string(&w, "node", job->service->node->name);
	json_pair_string(&w, "text", text);
	json_end(&w, '}');
	return "application/json";
}

const struct sim_dialect sim_other = {.whole = put_other};
