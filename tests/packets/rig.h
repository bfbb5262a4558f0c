/* SPDX-License-Identifier: MIT */
/*
 * The BPF object, loaded for tests in a network namespace of its own: maps filled by hand, packets
 * run through either hook by BPF_PROG_TEST_RUN. Nothing is attached, nothing is pinned.
 *
 * The scene: a client behind interface CLIENT_IF; the gateway's addresses; nodes behind NODE_IF.
 */
#ifndef TESTS_RIG_H
#define TESTS_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "megalith/abi.h"
#include "packets/packet.h"

enum rig_hook { RIG_XDP, RIG_TC, RIG_HOOKS };
enum rig_act { RIG_PASS, RIG_SEND, RIG_DROP, RIG_ODD };

#define RIG_SNAT_FIRST 20000
#define RIG_SNAT_COUNT 64
#define RIG_HASH_KEY   0x5eed5eedu
#define RIG_PATIENCE   1000  /* jiffies after which an unanswered SYN is given to another node */
#define RIG_PORT       11501 /* the persona's */
#define RIG_NODE_PORT  11434
#define RIG_SLOTS      8 /* slots 1..8 are nodes of the scene */

struct rig;

/* Without root: ends the program, as skipped. Root, and it does not load: ends it, as failed. */
struct rig *rig_new(void);
void rig_free(struct rig *rig);

/* Empties all tables; nodes 1..RIG_SLOTS up, weight 100, no limit; listener RIG_PORT → slots 1 | 2
 * (cascade). */
void rig_reset(struct rig *rig, bool v6);

struct mg_node *rig_node(struct rig *rig, unsigned slot); /* mapped memory: write freely */
void rig_row(struct rig *rig, bool v6, const struct mg_row *row);
void rig_long_row(struct rig *rig, uint32_t number, const struct mg_long_row *list);
void rig_default_row(struct mg_row *row);

/* The parties of the scene. */
struct endpoint rig_client(bool v6);
struct endpoint rig_gateway(bool v6); /* as the client sees it: MAC, address, RIG_PORT */
struct endpoint rig_node_end(bool v6, unsigned slot); /* MAC, address, port */
struct endpoint rig_snat_end(bool v6, uint16_t port); /* the gateway as the nodes see it */
unsigned rig_ifindex(const struct rig *rig, bool client_side);

struct rig_result {
	enum rig_act act;
	int verdict;	     /* as the kernel returned it */
	bool same_interface; /* XDP_TX */
	uint8_t frame[FRAME_MAX];
	size_t len;
	uint32_t ns; /* kernel's own time */
};

/* One packet in. */
void rig_run(struct rig *rig, enum rig_hook hook, bool from_client, const uint8_t *frame,
	     size_t len, struct rig_result *result);

/* Counter since rig_reset(). */
uint64_t rig_count(struct rig *rig, enum mg_reason reason);
const char *rig_reason_name(enum mg_reason reason);

/* The tuple of a segment from one to the other: a key of the flow table. */
struct mg_tuple rig_tuple(const struct endpoint *from, const struct endpoint *to);
bool rig_flow(struct rig *rig, const struct mg_tuple *key, struct mg_flow *flow);
void rig_put_flow(struct rig *rig, const struct mg_tuple *key, const struct mg_flow *flow);
void rig_delete_flow(struct rig *rig, const struct mg_tuple *key);
bool rig_embryo(struct rig *rig, const struct mg_tuple *key, struct mg_embryo *embryo);
void rig_put_embryo(struct rig *rig, const struct mg_tuple *key, const struct mg_embryo *embryo);
unsigned rig_flows(struct rig *rig);
unsigned rig_embryos(struct rig *rig);
/* Runs the sweep, with these limits in jiffies. */
void rig_sweep(struct rig *rig, uint32_t established, uint32_t closed, uint32_t embryo,
	       struct mg_sweep *out);
uint32_t rig_hz(void);

#endif
