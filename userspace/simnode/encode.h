/* SPDX-License-Identifier: MIT */
/* Encodings that APIs and the websocket handshake ask for. */
#ifndef SIMNODE_ENCODE_H
#define SIMNODE_ENCODE_H

#include <stdint.h>

#include "base/buf.h"

/* Appends; RFC 4648, padded. */
void encode_base64(struct buf *out, const void *data, size_t len);
/* FIPS 180-4. Only for the handshake of RFC 6455: SHA-1 is of no use against an attacker. */
void encode_sha1(const void *data, size_t len, uint8_t digest[20]);

#endif
