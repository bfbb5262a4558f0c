/* SPDX-License-Identifier: MIT */
/*
 * The HTTP router (contract §5): one address for all models, and the HTTP-level failover on persona
 * ports. Takes a client's request whole, finds out which model it means, asks nodes in order until
 * one answers, and carries the answer over as it comes. Owns its listener, clients, requests and
 * the connections to nodes; the view is its owner's.
 *
 * Inside: downstream.c (clients), intake.c (a request comes in), request.c (its life), attempt.c
 * (asking one node), answer.c (what the router says itself), forward.c (heads), upstream.c
 * (connections to nodes).
 */
#ifndef PROXY_ROUTER_H
#define PROXY_ROUTER_H

#include <uv.h>

#include "core/tally.h"
#include "proxy/view.h"

struct router;

struct router_counts { /* now */
	size_t clients, requests, queued, upstreams;
	bool listening;
};

struct router_events {
	void (*on_busy)(void *arg); /* view_report() would say something new */
	/* As in fallback.h. */
	uint32_t (*refresh)(void *arg);
	/* The endpoint did not do what it should: "refused", "reset", "closed" or "timeout". */
	void (*on_mark)(void *arg, size_t endpoint, const char *what);
};

/* `max_clients`: above it the longest idle one has to go, then they wait. NULL with errno. */
struct router *router_new(uv_loop_t *loop, struct view *view, size_t max_clients,
			  const struct router_events *events, void *arg);
/* The view has a new plan and catalog (moved: as view_set_plan() gave it). */
void router_moved(struct router *router, const size_t *moved);
/* There may be room. */
void router_room(struct router *router);
/* As fallback_fresh(). */
void router_fresh(struct router *router, uint32_t ticket);
/* A client on a persona port: the descriptor is the router's now. */
void router_take(struct router *router, uint16_t port, int fd);
void router_counts(const struct router *router, struct router_counts *counts);
const struct tally *router_tally(const struct router *router);
/* No new clients; requests that wait are refused, those that run go on. */
void router_stop(struct router *router);
/* Cuts what is left; the memory goes when the loop has closed the handles. */
void router_free(struct router *router);

#endif
