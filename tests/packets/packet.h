/* SPDX-License-Identifier: MIT */
/*
 * TCP/IP frames for the packet tests: built from a description, checked by full recomputation of
 * every checksum. Written without a look at bpf/, so that both cannot be wrong in the same way.
 */
#ifndef TESTS_PACKET_H
#define TESTS_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_MAX 2048
#define FIN	  0x01
#define SYN	  0x02
#define RST	  0x04
#define PSH	  0x08
#define ACK	  0x10
#define URG	  0x20
#define ECE	  0x40
#define CWR	  0x80

struct endpoint {
	uint8_t mac[6];
	uint8_t addr[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint16_t port;
};

struct packet {
	bool v6;
	struct endpoint from, to;
	uint8_t ttl, tos;
	uint16_t id;
	bool df;
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window, urgent;
	uint8_t options[40]; /* TCP options, a multiple of 4 */
	size_t n_options;
	uint8_t payload[1600];
	size_t n_payload;
};

/* Writes the frame, all checksums right. Returns its length. */
size_t packet_build(const struct packet *packet, uint8_t frame[FRAME_MAX]);

/* Every checksum of the frame is right (IPv4 header, TCP over IPv4 or IPv6). */
bool packet_sums_right(const uint8_t *frame, size_t len);

/* Sets the checksums right after a test has changed bytes. */
void packet_mend_sums(uint8_t *frame);

/* Source port of the TCP header, host order. */
uint16_t packet_sport(const uint8_t *frame);
const uint8_t *packet_daddr(const uint8_t *frame, uint8_t mapped[16]);

/* "fd00::1" or "10.0.0.1" → 16 bytes; aborts on nonsense. */
void packet_addr(uint8_t addr[16], const char *text);

#endif
