/* SPDX-License-Identifier: MIT */
/* The Wyoming protocol: events of one line of JSON, then data_length bytes of JSON, then
 * payload_length bytes. */
#include <inttypes.h>
#include <string.h>

#include "simnode/sim_impl.h"

#define LINE_MAX_BYTES 65536

static void put_program(struct json_writer *w, const char *what, const char *name)
{
	json_name(w, what);
	json_begin(w, '[');
	json_begin(w, '{');
	json_pair_string(w, "name", name);
	json_pair_bool(w, "installed", true);
	json_end(w, '}');
	json_end(w, ']');
}

static void put_info(struct buf *out, const char *name)
{
	struct json_writer w = {.out = out};

	json_begin(&w, '{');
	json_pair_string(&w, "type", "info");
	json_name(&w, "data");
	json_begin(&w, '{');
	put_program(&w, "asr", name);
	put_program(&w, "tts", name);
	json_end(&w, '}');
	json_end(&w, '}');
	buf_puts(out, "\n");
}

static void put_transcript(struct buf *out, const char *name, uint64_t heard)
{
	struct json_writer w = {.out = out};
	char text[300];

	snprintf(text, sizeof(text), "%s heard %" PRIu64 " bytes", name, heard);
	json_begin(&w, '{');
	json_pair_string(&w, "type", "transcript");
	json_name(&w, "data");
	json_begin(&w, '{');
	json_pair_string(&w, "text", text);
	json_end(&w, '}');
	json_end(&w, '}');
	buf_puts(out, "\n");
}

static void put_speech(struct buf *out)
{
	static const char format[] = "\"data\":{\"rate\":16000,\"width\":2,\"channels\":1}";

	buf_printf(out, "{\"type\":\"audio-start\",%s}\n", format);
	buf_printf(out, "{\"type\":\"audio-chunk\",%s,\"payload_length\":8}\n\1\1\1\1\1\1\1\1",
		   format);
	buf_puts(out, "{\"type\":\"audio-stop\"}\n");
}

static bool length_of(const struct json *event, const char *key, uint64_t *length)
{
	const struct json *value = json_get(event, key);
	int64_t number = 0;

	if (value && (!json_integer(value, &number) || number < 0))
		return false;
	*length = (uint64_t)number;
	return true;
}

static bool on_event(struct sim_wyoming *state, const char *name, const struct json *event,
		     struct buf *out)
{
	const char *type = json_string(json_get(event, "type"));
	uint64_t data, payload;

	if (!type || !length_of(event, "data_length", &data) ||
	    !length_of(event, "payload_length", &payload))
		return false;
	state->skip = data + payload;
	if (!strcmp(type, "describe"))
		put_info(out, name);
	else if (!strcmp(type, "audio-start"))
		state->audio = 0;
	else if (!strcmp(type, "audio-chunk"))
		state->audio += payload;
	else if (!strcmp(type, "audio-stop"))
		put_transcript(out, name, state->audio);
	else if (!strcmp(type, "synthesize"))
		put_speech(out);
	return true;
}

static bool on_line(struct sim_wyoming *state, const char *name, struct buf *out)
{
	struct json_error error;
	struct json *event = json_parse(state->line.data, state->line.len, 0, &error);
	bool good = event && on_event(state, name, event, out);

	json_free(event);
	buf_clear(&state->line);
	return good;
}

bool sim_wyoming_feed(struct sim_wyoming *state, const char *name, const char *data, size_t len,
		      struct buf *out)
{
	while (len) {
		size_t n = state->skip < len ? (size_t)state->skip : len;
		const char *end;

		if (n) {
			state->skip -= n;
			data += n;
			len -= n;
			continue;
		}
		end = memchr(data, '\n', len);
		n = end ? (size_t)(end - data) : len;
		if (state->line.len + n > LINE_MAX_BYTES)
			return false;
		buf_add(&state->line, data, n);
		if (end && !on_line(state, name, out))
			return false;
		n += end ? 1 : 0;
		data += n;
		len -= n;
	}
	return !buf_failed(&state->line) && !buf_failed(out);
}
