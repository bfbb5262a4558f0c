/* SPDX-License-Identifier: MIT */
#include "proxy/router.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/trim.h"
#include "proxy/router_impl.h"

const struct catalog_settings *router_settings(const struct router *router)
{
	return router->view->catalog ? &router->view->catalog->settings : NULL;
}

/* ---- the queue ---- */

void router_turns(struct router *router)
{
	struct request *request, *next;
	const struct route *full = NULL;

	if (router->turning || router->freeing)
		return;
	router->turning = true;
	for (request = TAILQ_FIRST(&router->queue); request; request = next) {
		const struct route *route = request->route;

		next = TAILQ_NEXT(request, turn);
		if (route && route == full && !request->n_tried)
			continue; /* the same answer as a moment ago */
		request_steer(request);
		full = route && route->queued ? route : full;
	}
	router->turning = false;
}

void router_room(struct router *router)
{
	router_turns(router);
}

void router_fresh(struct router *router, uint32_t ticket)
{
	struct request *request, *next;

	for (request = TAILQ_FIRST(&router->asking); request; request = next) {
		next = TAILQ_NEXT(request, turn);
		if ((int32_t)(request->ticket - ticket) > 0)
			return; /* asked later, as are those behind it */
		request_steer(request);
	}
}

/* ---- time ---- */

static void on_tick(uv_timer_t *timer)
{
	struct router *router = timer->data;
	uint64_t now_ms = uv_now(router->loop);
	struct wait_line *lines[] = {&router->heads,	  &router->idle,     &router->stalls,
				     &router->lingers,	  &router->queueing, &router->first_bytes,
				     &router->late_bodies};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		wait_line_tick(lines[i], now_ms);
	upstream_pool_tick(router->pool, now_ms);
	if (!TAILQ_EMPTY(&router->queue)) {
		router_turns(router); /* what the fallback listener holds may have become less */
		if (router->events->refresh)
			router->events->refresh(router->arg);
	}
}

static void check_nodes(struct router *router)
{
	uint64_t now_ms = uv_now(router->loop);
	struct request *request, *next;

	for (request = TAILQ_FIRST(&router->running); request; request = next) {
		next = TAILQ_NEXT(request, turn);
		attempt_tick(request, now_ms);
	}
}

/* ---- listening ---- */

static void on_accept(void *arg, int fd)
{
	down_accept(arg, 0, fd);
}

void router_take(struct router *router, uint16_t port, int fd)
{
	down_accept(router, port, fd);
}

static void stop_listening(struct router *router)
{
	listener_free(router->listener);
	router->listener = NULL;
}

/* Each failure is told once, until it is another one. */
static void follow_address(struct router *router)
{
	const struct catalog_settings *settings = router_settings(router);
	uint16_t port = settings->port;
	char text[ADDR_TEXT_MAX];
	int error;

	if (router->listener && port == router->port &&
	    addr_equal(&settings->address, &router->address))
		return;
	stop_listening(router);
	router->address = settings->address;
	router->port = port;
	error = listener_tcp(&router->listener, router->loop, &settings->address, &port,
			     LISTENER_REUSE_PORT, on_accept, router);
	if (error) {
		router->listener = NULL;
		if (error != router->listen_error)
			log_error("router: cannot listen on %s: %s; trying again each second",
				  addr_format_port(&settings->address, router->port, text),
				  strerror(-error));
	} else if (router->listen_error) {
		log_info("router: listening on %s now",
			 addr_format_port(&settings->address, router->port, text));
	}
	router->listen_error = error;
}

/* ---- each second ---- */

/* After a crowd has left, what it needed is given back: at once it would be in the way of the rest.
 */
static void give_back(struct router *router)
{
	if (router->n_requests > router->most_requests)
		router->most_requests = router->n_requests;
	if (router->most_requests < ROUTER_CROWD || router->n_requests > router->most_requests / 4)
		return;
	router->most_requests = router->n_requests;
	trim_memory();
}

static void on_second(uv_timer_t *timer)
{
	struct router *router = timer->data;

	check_nodes(router);
	give_back(router);
	if (!router->listener && !router->stopping && router_settings(router))
		follow_address(router); /* it could not listen: once more */
}

/* ---- the plan ---- */

static void follow_settings(struct router *router)
{
	const struct catalog_settings *settings = router_settings(router);

	router->heads.ms = settings->head_timeout_ms;
	router->idle.ms = settings->idle_timeout_ms;
	router->queueing.ms = settings->queue_ms;
	router->first_bytes.ms = settings->first_byte_timeout_ms;
	upstream_pool_limit(router->pool, settings->head_max, settings->fields_max);
}

static void move_list(struct request_list *list, const size_t *moved)
{
	struct request *request;

	TAILQ_FOREACH(request, list, turn)
	{
		request_moved(request, moved);
	}
}

void router_moved(struct router *router, const size_t *moved)
{
	move_list(&router->asking, moved);
	move_list(&router->queue, moved);
	move_list(&router->running, moved);
	if (!router_settings(router))
		return;
	follow_settings(router);
	if (router->stopping)
		return;
	follow_address(router);
	router_turns(router);
}

/* ---- the whole ---- */

void router_counts(const struct router *router, struct router_counts *counts)
{
	*counts = (struct router_counts){
		.clients = router->n_downs,
		.requests = router->n_requests,
		.queued = (size_t)router->tally.queued,
		.upstreams = router->pool ? upstream_pool_open(router->pool) : 0,
		.listening = router->listener != NULL,
	};
}

const struct tally *router_tally(const struct router *router)
{
	return &router->tally;
}

struct router *router_new(uv_loop_t *loop, struct view *view, size_t max_clients,
			  const struct router_events *events, void *arg)
{
	struct router *router = calloc(1, sizeof(*router));

	if (!router)
		return NULL;
	router->pool = upstream_pool_new(loop, router->up_scratch, ROUTER_SCRATCH, &attempt_events);
	if (!router->pool) {
		free(router);
		return NULL;
	}
	router->loop = loop;
	router->view = view;
	router->events = events;
	router->arg = arg;
	router->max_clients = max_clients ? max_clients : 1;
	TAILQ_INIT(&router->downs);
	TAILQ_INIT(&router->asking);
	TAILQ_INIT(&router->queue);
	TAILQ_INIT(&router->running);
	wait_line_init(&router->heads, 10000, down_on_head_late);
	wait_line_init(&router->idle, 60000, down_on_idle_late);
	wait_line_init(&router->stalls, ROUTER_STALL_MS, down_on_stalled);
	wait_line_init(&router->lingers, ROUTER_LINGER_MS, down_on_linger_late);
	wait_line_init(&router->late_bodies, ROUTER_BODY_MS, request_on_body_late);
	wait_line_init(&router->queueing, 10000, request_on_queue_late);
	wait_line_init(&router->first_bytes, 120000, attempt_on_late);
	if (uv_random(NULL, NULL, &router->seed, sizeof(router->seed), 0, NULL) < 0)
		router->seed = (uint32_t)uv_hrtime();
	uv_timer_init(loop, &router->tick);
	uv_timer_init(loop, &router->second);
	router->tick.data = router;
	router->second.data = router;
	router->timers = 2;
	uv_timer_start(&router->tick, on_tick, WAIT_TICK_MS, WAIT_TICK_MS);
	uv_timer_start(&router->second, on_second, 1000, 1000);
	return router;
}

void router_stop(struct router *router)
{
	struct request *request, *next;

	router->stopping = true;
	stop_listening(router);
	for (request = TAILQ_FIRST(&router->queue); request; request = next) {
		next = TAILQ_NEXT(request, turn);
		request_refuse(request, REFUSAL_STOPPING, "the router is stopping");
	}
	while (!TAILQ_EMPTY(&router->idle.list)) {
		struct waiter *idle = TAILQ_FIRST(&router->idle.list);

		wait_stop(idle);
		down_on_idle_late(idle);
	}
}

void router_maybe_gone(struct router *router)
{
	if (!router->freeing || router->n_downs || router->timers)
		return;
	upstream_pool_free(router->pool);
	tally_fini(&router->tally);
	free(router);
}

static void on_timer_closed(uv_handle_t *handle)
{
	struct router *router = handle->data;

	router->timers--;
	router_maybe_gone(router);
}

void router_free(struct router *router)
{
	struct downstream *down;

	if (!router || router->freeing)
		return;
	router_stop(router);
	router->freeing = true;
	TAILQ_FOREACH(down, &router->downs, all)
	{
		down_close(down, true);
	}
	uv_close((uv_handle_t *)&router->tick, on_timer_closed);
	uv_close((uv_handle_t *)&router->second, on_timer_closed);
}
