/* SPDX-License-Identifier: MIT */
/* Websocket frames (RFC 6455 5.2), without extensions. */
#include <string.h>

#include "simnode/encode.h"
#include "simnode/sim_impl.h"

#define FIN	   0x80u
#define MASKED	   0x80u
#define OP_TEXT	   1u
#define OP_CLOSE   8u
#define OP_PING	   9u
#define OP_PONG	   10u
#define GUID	   "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define ERROR_1002 "\x88\x02\x03\xea" /* close: protocol error */

void sim_websocket_accept(struct buf *out, const char *key)
{
	struct buf text = {0};
	uint8_t digest[20];

	buf_printf(&text, "%s" GUID, key);
	encode_sha1(text.data, text.len, digest);
	buf_fini(&text);
	encode_base64(out, digest, sizeof(digest));
}

/* A frame of ours is not masked. */
static void put_head(struct buf *out, unsigned first, uint64_t len)
{
	uint8_t head[10] = {(uint8_t)first};
	unsigned n = len < 126 ? 0 : len <= UINT16_MAX ? 2 : 8;

	head[1] = (uint8_t)(n == 0 ? len : n == 2 ? 126 : 127);
	for (unsigned i = 0; i < n; i++)
		head[1 + n - i] = (uint8_t)(len >> 8 * i);
	buf_add(out, head, 2 + n);
}

void sim_websocket_put_text(struct buf *out, const char *text)
{
	put_head(out, FIN | OP_TEXT, strlen(text));
	buf_puts(out, text);
}

static unsigned head_size(const struct sim_websocket *state)
{
	unsigned len = state->have < 2 ? 0 : state->head[1] & 0x7fu;

	return 2 + (len == 126 ? 2 : len == 127 ? 8 : 0) + 4;
}

static unsigned opcode(const struct sim_websocket *state)
{
	return state->head[0] & 0xfu;
}

/* The head is complete. */
static enum sim_feed on_frame(struct sim_websocket *state, struct buf *out)
{
	unsigned size = head_size(state), first = state->head[0];
	uint64_t len = state->head[1] & 0x7fu;

	if (len >= 126) {
		len = 0;
		for (unsigned i = 2; i < size - 4; i++)
			len = len << 8 | state->head[i];
	}
	if (!(state->head[1] & MASKED) || first & 0x70u || len > INT64_MAX ||
	    (opcode(state) >= OP_CLOSE && len > 125)) {
		buf_add(out, ERROR_1002, 4);
		return SIM_END;
	}
	state->left = len;
	state->at = 0;
	if (opcode(state) == OP_PING)
		first = FIN | OP_PONG;
	if (opcode(state) != OP_PONG)
		put_head(out, first, len);
	return SIM_GO_ON;
}

static void put_payload(struct sim_websocket *state, const char *data, size_t len, struct buf *out)
{
	const uint8_t *mask = state->head + head_size(state) - 4;
	size_t from = out->len;

	if (opcode(state) == OP_PONG)
		return;
	buf_add(out, data, len);
	for (size_t i = from; i < out->len; i++)
		out->data[i] = (char)((uint8_t)out->data[i] ^ mask[state->at++ % 4]);
}

enum sim_feed sim_websocket_feed(struct sim_websocket *state, const char *data, size_t len,
				 struct buf *out)
{
	enum sim_feed result = SIM_GO_ON;
	size_t n;

	while (len && result == SIM_GO_ON) {
		bool head = state->have < head_size(state);

		n = head ? 1 : state->left < len ? (size_t)state->left : len;
		if (head)
			state->head[state->have++] = (uint8_t)*data;
		else
			put_payload(state, data, n, out);
		state->left -= head ? 0 : n;
		data += n;
		len -= n;
		if (state->have < head_size(state))
			continue;
		if (head)
			result = on_frame(state, out);
		if (state->left || result != SIM_GO_ON)
			continue;
		state->have = 0;
		result = opcode(state) == OP_CLOSE ? SIM_END : SIM_GO_ON;
	}
	return result;
}
