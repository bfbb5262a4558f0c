/* SPDX-License-Identifier: MIT */
/* A request's life: who may answer it, waiting for room, another attempt, the end. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/choose.h"
#include "proxy/router_impl.h"

static struct request *request_of_wait(struct waiter *wait)
{
	return (struct request *)(void *)((char *)wait - offsetof(struct request, wait));
}

/* ---- lists ---- */

static struct request_list *list_of(struct router *router, enum request_state state)
{
	switch (state) {
	case REQUEST_ASKING:
		return &router->asking;
	case REQUEST_QUEUED:
		return &router->queue;
	case REQUEST_TRYING:
	case REQUEST_RELAYING:
	case REQUEST_TUNNEL:
		return &router->running;
	default:
		return NULL;
	}
}

static void count_queued(struct request *request, bool more)
{
	request->router->tally.queued += more ? 1 : (uint64_t)-1;
	if (request->route)
		request->route->queued += more ? 1 : (unsigned)-1;
	if (!request->router->freeing)
		request->router->events->on_busy(request->router->arg);
}

void request_place(struct request *request, enum request_state state)
{
	struct router *router = request->router;
	struct request_list *from = list_of(router, request->state);
	struct request_list *to = list_of(router, state);

	if (request->state == REQUEST_QUEUED && state != REQUEST_QUEUED)
		count_queued(request, false);
	if (request->state != REQUEST_QUEUED && state == REQUEST_QUEUED)
		count_queued(request, true);
	if (from != to && from)
		TAILQ_REMOVE(from, request, turn);
	if (from != to && to)
		TAILQ_INSERT_TAIL(to, request, turn);
	request->state = state;
}

/* ---- the end ---- */

void request_release(struct request *request)
{
	struct router *router = request->router;

	if (!request->counted)
		return;
	request->counted = false;
	view_count_busy(router->view, request->endpoint, -1);
	view_count_open(router->view, request->endpoint, -1);
	if (!router->freeing)
		router->events->on_busy(router->arg);
}

static void request_free(struct request *request)
{
	struct router *router = request->router;
	bool counted = request->counted;

	wait_stop(&request->wait);
	attempt_drop(request);
	request_release(request);
	request_place(request, REQUEST_DONE);
	if (!request->streamed)
		router->held_bytes -= request->body.len;
	buf_fini(&request->body);
	buf_fini(&request->answer);
	buf_fini(&request->hold);
	buf_fini(&request->out);
	free(request->scan);
	free(request->refused);
	free(request->tried);
	free(request->asked);
	free(request);
	router->n_requests--;
	if (counted)
		router_turns(router);
}

/* The client has been told all, or all that it will be. */
static void request_over(struct request *request, bool keep)
{
	struct downstream *down = request->down;

	down->request = NULL;
	request_free(request);
	down_answered(down, keep);
}

void request_abandon(struct request *request)
{
	if (request->state != REQUEST_DONE)
		tally_refuse(&request->router->tally, TALLY_LEFT);
	request->down->request = NULL;
	request_free(request);
}

void request_finish(struct request *request)
{
	bool keep = !request->to_close && request->body_complete;

	tally_request(&request->router->tally, request->route ? request->route->name : "",
		      request->node, request->status);
	request_place(request, REQUEST_DONE);
	if (!keep)
		request->down->keep_alive = false;
	request_over(request, keep);
}

void request_cut(struct request *request, const char *why)
{
	struct downstream *down = request->down;
	struct events *events = &request->events;
	bool sse = events->kind == EVENTS_SSE, say = events->kind != EVENTS_NONE && !events->error;
	bool to_close = request->to_close;
	struct buf event = {0}, piece = {0};
	uv_buf_t out;

	tally_refuse(&request->router->tally, TALLY_CUT);
	tally_request(&request->router->tally, request->route ? request->route->name : "",
		      request->node, 599);
	if (say) {
		if (sse && events->event_begun) /* its lines have gone, its end has not */
			buf_puts(&event, "\n");
		dialect_stream_error(&event, request->path->dialect, sse, why);
	}
	if (say && request->node_chunked)
		buf_printf(&piece, "%zx\r\n%s\r\n", event.len, event.data ? event.data : "");
	else if (say)
		buf_add(&piece, event.data, event.len);
	buf_fini(&event);
	out = uv_buf_init(piece.data, (unsigned)piece.len);
	request_place(request, REQUEST_DONE);
	if (!piece.len || buf_failed(&piece) || down_write(down, &out, 1)) {
		down->request = NULL;
		request_free(request);
		/* Where only the end of the connection ends the answer, it must be a broken one. */
		down_close_after(down, to_close);
	}
	buf_fini(&piece);
}

/* ---- who may answer it ---- */

static uint32_t engines_of(const struct request *request)
{
	if (request->opaque)
		return 0;
	return request->path->dialect == DIALECT_OLLAMA ? ROUTE_ENGINE(ENGINE_OLLAMA) : ROUTE_LLM;
}

/* The same node for all who ask for the version: so it does not seem to change. */
static bool is_sticky(const struct request *request, const struct plan_row *row)
{
	if (!request->route)
		return row->affinity == MG_AFFINITY_CLIENT;
	return request->route->session || request->path->kind == PATH_VERSION;
}

static enum view_answer pick(struct request *request, size_t target, const struct plan_row *row,
			     size_t *endpoint)
{
	size_t tried[TRIED_MAX], n = 0;
	const struct view_ask ask = {
		.row = row,
		.hash = request->hash,
		.engines = engines_of(request),
		.sticky = is_sticky(request, row),
		.now_ms = uv_now(request->router->loop),
		.tried = tried,
		.n_tried = request->n_tried,
	};

	for (size_t i = 0; i < request->n_tried; i++) {
		const struct tried *of = &request->tried[i];

		tried[n++] =
			of->dead || of->stale || of->target == target ? of->endpoint : VIEW_GONE;
	}
	return view_pick(request->router->view, &ask, endpoint);
}

/* True: somebody takes it, and has been asked. */
static bool try_targets(struct request *request, bool *full)
{
	const struct plan_row *row;
	size_t n = request->opaque ? 1 : request->route->n_targets;
	enum view_answer answer;
	size_t endpoint;

	*full = false;
	for (size_t t = 0; t < n; t++) {
		row = request->opaque ? view_row(request->router->view, request->down->port)
				      : &request->route->targets[t].row;
		answer = row ? pick(request, t, row, &endpoint) : VIEW_NOBODY;
		if (answer == VIEW_TAKEN) {
			request->target = t;
			attempt_begin(request, endpoint);
			return true;
		}
		*full = *full || answer == VIEW_FULL;
	}
	return false;
}

/* Those whose kept connection was too old may be asked once more. True: there are some. */
static bool forgive_stale(struct request *request)
{
	bool some = false;

	for (size_t i = 0; i < request->n_tried; i++) {
		struct tried *of = &request->tried[i];

		if (!of->stale)
			continue;
		some = true;
		of->stale = false;
		of->endpoint = VIEW_GONE;
	}
	return some;
}

/* What to say when every node that was asked failed. */
static enum refusal verdict(const struct request *request)
{
	const unsigned *failed = request->failed;

	if (failed[ATTEMPT_LIMIT] == request->attempts)
		return REFUSAL_BUSY_EVERYWHERE;
	if (failed[ATTEMPT_LIMIT] + failed[ATTEMPT_BUSY])
		return REFUSAL_OVERLOADED;
	if (failed[ATTEMPT_LATE] == request->attempts)
		return REFUSAL_UPSTREAM_TIMEOUT;
	return REFUSAL_UPSTREAM;
}

/* Is there no node at all, up or down, that has the model and speaks the client's dialect? */
static bool nobody_speaks(const struct request *request)
{
	const struct route *route = request->route;

	for (size_t t = 0; route && t < route->n_targets; t++) {
		if (route_speaks(request->router->view->plan, &route->targets[t].row,
				 engines_of(request)))
			return false;
	}
	return route != NULL;
}

static void give_up(struct request *request)
{
	if (request->path->kind == PATH_VERSION)
		answer_send(request, 200, "application/json", NULL, "{\"version\":\"0.0.0\"}", 19);
	else if (!request->attempts && nobody_speaks(request))
		request_refuse(request, REFUSAL_UNKNOWN_MODEL,
			       "model \"%s\" is on no node that speaks Ollama's API",
			       request->model);
	else if (!request->attempts)
		request_refuse(request, REFUSAL_NOBODY, "no node that could answer is up");
	else if (request->failed[ATTEMPT_LOCAL])
		request_refuse(request, REFUSAL_LOCAL, "the gateway has no sockets or memory left");
	else
		request_refuse(request, verdict(request), "every node failed, the last was %s",
			       request->why);
}

static void wait_for_room(struct request *request)
{
	struct router *router = request->router;

	if (request->state == REQUEST_QUEUED)
		return;
	if (router->stopping) {
		request_refuse(request, REFUSAL_STOPPING, "the router is stopping");
		return;
	}
	if (router->tally.queued >= router_settings(router)->queue_length) {
		request_refuse(request, REFUSAL_QUEUE_FULL,
			       "all nodes are busy, and %u requests wait",
			       (unsigned)router->tally.queued);
		return;
	}
	request->waited = true;
	request_place(request, REQUEST_QUEUED);
	wait_start(&request->wait, &router->queueing, uv_now(router->loop));
}

void request_steer(struct request *request)
{
	bool full;

	if (!request->opaque && !request->route) { /* it left the configuration */
		errno = ENOENT;
		request_refuse_unknown(request);
		return;
	}
	/* Nobody overtakes those who wait for the same. */
	if ((request->state == REQUEST_RECEIVING || request->state == REQUEST_ASKING) &&
	    request->route && request->route->queued) {
		wait_for_room(request);
		return;
	}
	if (request->n_tried == TRIED_MAX) {
		give_up(request);
		return;
	}
	if (try_targets(request, &full) ||
	    (!full && forgive_stale(request) && try_targets(request, &full)))
		return;
	if (full)
		wait_for_room(request);
	else
		give_up(request);
}

void request_on_queue_late(struct waiter *wait)
{
	struct request *request = request_of_wait(wait);

	request_refuse(request, REFUSAL_QUEUE_TIMEOUT, "all nodes were busy for %u ms",
		       router_settings(request->router)->queue_ms);
}

/* ---- one attempt did not do ---- */

static bool remember_tried(struct request *request, enum attempt_how how)
{
	if (!request->tried)
		request->tried = calloc(TRIED_MAX, sizeof(*request->tried));
	if (!request->tried)
		return false;
	request->tried[request->n_tried++] = (struct tried){
		.endpoint = request->endpoint,
		.target = request->target,
		.dead = how == ATTEMPT_UNREACHED || how == ATTEMPT_BROKE || how == ATTEMPT_DOWN,
		.stale = how == ATTEMPT_STALE,
	};
	request->fresh = request->fresh || how == ATTEMPT_STALE;
	return true;
}

/* Contract §5: an inference, always; anything else only when no byte of it was written. */
static bool may_retry(const struct request *request, enum attempt_how how)
{
	enum path_kind kind = request->path->kind;

	if (how == ATTEMPT_LOCAL)
		return false;
	if (!request->streamed && (kind == PATH_INFER || kind == PATH_INFER_FORM))
		return true;
	return how == ATTEMPT_UNREACHED;
}

void request_failed(struct request *request, enum attempt_how how, const char *why)
{
	struct router *router = request->router;
	bool again = may_retry(request, how) && remember_tried(request, how);

	snprintf(request->why, sizeof(request->why), "%s: %s", request->node, why);
	request->failed[how]++;
	attempt_drop(request);
	request_release(request);
	wait_stop(&request->wait);
	request->waited = true;
	buf_fini(&request->answer);
	buf_fini(&request->hold);
	if (again && !router->stopping)
		request_steer(request);
	else
		give_up(request);
	router_turns(router);
}

void request_moved(struct request *request, const size_t *moved)
{
	struct routes *routes = &request->router->view->routes;

	if (moved && request->endpoint != VIEW_GONE)
		request->endpoint = moved[request->endpoint];
	for (size_t i = 0; moved && i < request->n_tried; i++) {
		if (request->tried[i].endpoint != VIEW_GONE)
			request->tried[i].endpoint = moved[request->tried[i].endpoint];
	}
	if (!request->route)
		return;
	request->route = request->path->kind == PATH_VERSION
				 ? routes_any(routes, ROUTE_ENGINE(ENGINE_OLLAMA))
				 : routes_find(routes, request->model);
	if (request->state == REQUEST_QUEUED && request->route)
		request->route->queued++;
}
