// SPDX-License-Identifier: MIT
#include "packets/packet.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define ETH 14

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value & 0xffff);
}

static unsigned get16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static uint32_t sum_bytes(uint32_t sum, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += get16(data + i);
	if (len & 1)
		sum += (uint32_t)data[len - 1] << 8;
	return sum;
}

static unsigned fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static bool frame_is_v6(const uint8_t *frame)
{
	return get16(frame + 12) == 0x86dd;
}

/* RFC 9293 §3.1: pseudo header and segment, as they lie in the frame. */
static uint32_t tcp_sum(const uint8_t *frame, size_t *l4, size_t *end)
{
	const uint8_t *ip = frame + ETH;
	bool v6 = frame_is_v6(frame);
	uint32_t sum;

	*l4 = v6 ? ETH + 40 : ETH + (size_t)(ip[0] & 15) * 4;
	*end = v6 ? ETH + 40 + get16(ip + 4) : ETH + get16(ip + 2);
	sum = v6 ? sum_bytes(0, ip + 8, 32) : sum_bytes(0, ip + 12, 8);
	sum += 6 + (uint32_t)(*end - *l4);
	return sum_bytes(sum, frame + *l4, *end - *l4);
}

void packet_mend_sums(uint8_t *frame)
{
	uint8_t *ip = frame + ETH;
	size_t l4, end;

	if (!frame_is_v6(frame)) {
		put16(ip + 10, 0);
		put16(ip + 10, ~fold(sum_bytes(0, ip, (size_t)(ip[0] & 15) * 4)) & 0xffff);
	}
	tcp_sum(frame, &l4, &end);
	put16(frame + l4 + 16, 0);
	put16(frame + l4 + 16, ~fold(tcp_sum(frame, &l4, &end)) & 0xffff);
}

bool packet_sums_right(const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + ETH;
	size_t l4, end;

	if (!frame_is_v6(frame) && fold(sum_bytes(0, ip, (size_t)(ip[0] & 15) * 4)) != 0xffff)
		return false;
	return fold(tcp_sum(frame, &l4, &end)) == 0xffff && end <= len;
}

static size_t build_ip(const struct packet *packet, uint8_t *ip, size_t l4_len)
{
	if (packet->v6) {
		put32(ip, 0x60000000u | (uint32_t)packet->tos << 20);
		put16(ip + 4, (unsigned)l4_len);
		ip[6] = 6;
		ip[7] = packet->ttl;
		memcpy(ip + 8, packet->from.addr, 16);
		memcpy(ip + 24, packet->to.addr, 16);
		return 40;
	}
	ip[0] = 0x45;
	ip[1] = packet->tos;
	put16(ip + 2, (unsigned)l4_len + 20);
	put16(ip + 4, packet->id);
	put16(ip + 6, packet->df ? 0x4000 : 0);
	ip[8] = packet->ttl;
	ip[9] = 6;
	memcpy(ip + 12, packet->from.addr + 12, 4);
	memcpy(ip + 16, packet->to.addr + 12, 4);
	return 20;
}

size_t packet_build(const struct packet *packet, uint8_t frame[FRAME_MAX])
{
	size_t l4_len = 20 + packet->n_options + packet->n_payload, len;
	uint8_t *tcp;

	memset(frame, 0, FRAME_MAX);
	memcpy(frame, packet->to.mac, 6);
	memcpy(frame + 6, packet->from.mac, 6);
	put16(frame + 12, packet->v6 ? 0x86dd : 0x0800);
	tcp = frame + ETH + build_ip(packet, frame + ETH, l4_len);
	put16(tcp, packet->from.port);
	put16(tcp + 2, packet->to.port);
	put32(tcp + 4, packet->seq);
	put32(tcp + 8, packet->ack);
	tcp[12] = (uint8_t)((20 + packet->n_options) / 4 << 4);
	tcp[13] = packet->flags;
	put16(tcp + 14, packet->window);
	put16(tcp + 18, packet->urgent);
	memcpy(tcp + 20, packet->options, packet->n_options);
	memcpy(tcp + 20 + packet->n_options, packet->payload, packet->n_payload);
	len = (size_t)(tcp - frame) + l4_len;
	packet_mend_sums(frame);
	return len;
}

uint16_t packet_sport(const uint8_t *frame)
{
	size_t l4 = frame_is_v6(frame) ? ETH + 40 : ETH + (size_t)(frame[ETH] & 15) * 4;

	return (uint16_t)get16(frame + l4);
}

const uint8_t *packet_daddr(const uint8_t *frame, uint8_t mapped[16])
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	if (frame_is_v6(frame))
		return memcpy(mapped, frame + ETH + 24, 16);
	memcpy(mapped, prefix, sizeof(prefix));
	memcpy(mapped + 12, frame + ETH + 16, 4);
	return mapped;
}

void packet_addr(uint8_t addr[16], const char *text)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	if (strchr(text, ':')) {
		if (inet_pton(AF_INET6, text, addr) != 1)
			abort();
		return;
	}
	memcpy(addr, prefix, sizeof(prefix));
	if (inet_pton(AF_INET, text, addr + 12) != 1)
		abort();
}
