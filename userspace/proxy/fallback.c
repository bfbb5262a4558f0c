/* SPDX-License-Identifier: MIT */
#include "proxy/fallback.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "proxy/fallback_impl.h"

#define FALLBACK_TICK_MS   100
#define FALLBACK_CHORES_MS 1000

static const char *const refusal_texts[] = {
#define X(name, text) text,
	FALLBACK_REFUSALS(X)
#undef X
};

static void fallback_on_tick(uv_timer_t *timer);

/* ---- places and counts ---- */

/* The list of a place; NULL: in none. */
static struct session_list *place_list(struct fallback *fallback, enum session_place place)
{
	switch (place) {
	case SESSION_ACTIVE:
		return &fallback->active;
	case SESSION_ASKING:
		return &fallback->asking;
	case SESSION_QUEUED:
		return &fallback->queue;
	default:
		return NULL;
	}
}

static void session_place(struct session *session, enum session_place place)
{
	struct fallback *fallback = session->fallback;
	struct session_list *from = place_list(fallback, session->place);
	struct session_list *to = place_list(fallback, place);

	if (from == to)
		return;
	if (from)
		TAILQ_REMOVE(from, session, turn);
	if (to)
		TAILQ_INSERT_TAIL(to, session, turn);
	fallback->counts.queued -= session->place == SESSION_QUEUED;
	fallback->counts.queued += place == SESSION_QUEUED;
	session->place = place;
	if (fallback->ticking || (place != SESSION_ACTIVE && place != SESSION_QUEUED))
		return;
	fallback->ticking = true;
	uv_timer_start(&fallback->tick, fallback_on_tick, FALLBACK_TICK_MS, FALLBACK_TICK_MS);
}

static void session_set_busy(struct session *session, bool busy)
{
	struct fallback *fallback = session->fallback;

	if (session->busy == busy)
		return;
	session->busy = busy;
	view_count_busy(fallback->view, session->endpoint, busy ? 1 : -1);
	fallback->counts.busy += busy ? 1 : (size_t)-1;
	if (!fallback->freeing)
		fallback->events->on_busy(fallback->arg);
}

/* Its place on the endpoint is free again. */
static void session_release(struct session *session)
{
	if (!session->counted)
		return;
	session_set_busy(session, false);
	view_count_open(session->fallback->view, session->endpoint, -1);
	session->counted = false;
	session->endpoint = VIEW_GONE;
}

static void session_refuse(struct session *session, enum fallback_refusal why)
{
	session->fallback->counts.refused[why]++;
	relay_reset(&session->relay);
}

/* ---- steering ---- */

static void session_wait(struct session *session)
{
	struct fallback *fallback = session->fallback;

	if (session->place == SESSION_QUEUED)
		return;
	/*
	 * Its end of sending is all that shows that a waiting client has gone: nobody has answered
	 * it. One that only half-closed is refused too, which is better than giving a node's time
	 * to clients who left.
	 */
	if (session->relay.client.eof) {
		fallback->counts.left++;
		relay_reset(&session->relay);
		return;
	}
	if (fallback->counts.queued >= FALLBACK_QUEUE_MAX) {
		session_refuse(session, FALLBACK_QUEUE_FULL);
		return;
	}
	session->since_ms = uv_now(fallback->loop);
	session_place(session, SESSION_QUEUED);
}

static void session_connect(struct session *session, size_t endpoint)
{
	struct fallback *fallback = session->fallback;
	const struct plan_endpoint *to = &fallback->view->plan->endpoints[endpoint];

	if (session->n_tried)
		fallback->counts.retried++;
	session->endpoint = endpoint;
	session->idle_ms = to->idle_ms;
	session->counted = true;
	view_count_open(fallback->view, endpoint, 1);
	session_set_busy(session, true); /* so is a handshake */
	session->since_ms = uv_now(fallback->loop);
	session_place(session, SESSION_ACTIVE);
	relay_connect(&session->relay, &to->addr, to->port);
}

static enum view_answer session_steer(struct session *session)
{
	struct fallback *fallback = session->fallback;
	const struct plan_row *row = view_row(fallback->view, session->port);
	struct view_ask ask = {
		.hash = session->hash,
		.now_ms = uv_now(fallback->loop),
		.tried = session->tried,
		.n_tried = session->n_tried,
	};
	enum view_answer answer;
	size_t endpoint;

	if (!row) {
		session_refuse(session, FALLBACK_NO_PERSONA);
		return VIEW_NOBODY;
	}
	ask.row = row;
	answer = view_pick(fallback->view, &ask, &endpoint);
	if (answer == VIEW_TAKEN)
		session_connect(session, endpoint);
	else if (answer == VIEW_FULL)
		session_wait(session);
	else
		session_refuse(session, session->n_tried ? FALLBACK_UNREACHABLE : FALLBACK_NOBODY);
	return answer;
}

/*
 * The kernel left this connection to us because it found no room, most likely: what we heard from
 * it up to a second ago must not lead to a full node. Its counts of now are asked for first.
 */
static void session_begin(struct session *session)
{
	struct fallback *fallback = session->fallback;

	session->ticket = fallback->events->refresh ? fallback->events->refresh(fallback->arg) : 0;
	if (session->ticket)
		session_place(session, SESSION_ASKING);
	else
		session_steer(session);
}

void fallback_fresh(struct fallback *fallback, uint32_t ticket)
{
	struct session *session, *next;

	for (session = TAILQ_FIRST(&fallback->asking); session; session = next) {
		next = TAILQ_NEXT(session, turn);
		if ((int32_t)(session->ticket - ticket) > 0)
			return; /* asked later, as are those behind it */
		if (fallback->stopping)
			session_refuse(session, FALLBACK_STOPPING);
		else
			session_steer(session);
	}
}

/* There may be room: those who wait are asked in order. `full` saves asking the same port twice. */
static void fallback_turns(struct fallback *fallback)
{
	struct session *session, *next;
	uint32_t full = 0;

	for (session = TAILQ_FIRST(&fallback->queue); session; session = next) {
		next = TAILQ_NEXT(session, turn);
		if (session->port == full && !session->n_tried)
			continue;
		if (session_steer(session) == VIEW_FULL && !session->n_tried)
			full = session->port;
	}
}

/* ---- what happens to a relay ---- */

static struct session *session_of(struct relay *relay)
{
	return (struct session *)relay; /* its first member */
}

static bool session_local_failure(int status)
{
	return status == -EMFILE || status == -ENFILE || status == -ENOMEM || status == -ENOBUFS ||
	       status == -EADDRNOTAVAIL || status == -EACCES || status == -EPERM;
}

/* Notes that the endpoint did not take it. False on lack of memory. */
static bool session_tried(struct session *session)
{
	size_t *tried = realloc(session->tried, (session->n_tried + 1) * sizeof(*tried));

	if (!tried)
		return false;
	session->tried = tried;
	tried[session->n_tried++] = session->endpoint;
	return true;
}

static void session_not_connected(struct session *session, int status)
{
	struct fallback *fallback = session->fallback;
	bool local = session_local_failure(status);

	if (!local)
		view_suspect(fallback->view, session->endpoint, uv_now(fallback->loop));
	if (local || !session_tried(session)) {
		session_refuse(session, FALLBACK_LOCAL);
		return;
	}
	session_release(session);
	if (fallback->stopping)
		session_refuse(session, FALLBACK_STOPPING);
	else
		session_steer(session);
	fallback_turns(fallback);
}

static void session_on_connected(struct relay *relay, int status)
{
	struct session *session = session_of(relay);
	struct fallback *fallback = session->fallback;

	if (status < 0) {
		session_not_connected(session, status);
		return;
	}
	fallback->counts.relayed++;
	view_trust(fallback->view, session->endpoint);
	session->since_ms = uv_now(fallback->loop);
	session->owed = relay->client.pending.len > 0;
	free(session->tried);
	session->tried = NULL;
	session->n_tried =
		0; /* busy still: the place is kept for the first question, for idle_ms */
}

/* Busy: from the client's payload until the node has answered and been silent for idle_ms (contract
 * §3). */
static void session_on_seen(struct relay *relay, enum relay_seen what)
{
	struct session *session = session_of(relay);
	struct fallback *fallback = session->fallback;

	if (what == RELAY_CLIENT_EOF && session->place == SESSION_QUEUED) {
		fallback->counts.left++;
		relay_reset(relay);
		return;
	}
	if (relay->state != RELAY_OPEN)
		return;
	if (what == RELAY_CLIENT_DATA && !relay->node.eof) {
		session->owed = true;
		session_set_busy(session, true);
		session_place(session, SESSION_ACTIVE);
	} else if (what == RELAY_NODE_DATA) {
		session->owed = false;
		session->since_ms = uv_now(fallback->loop);
	} else if (what == RELAY_NODE_EOF) { /* no more answers */
		session_set_busy(session, false);
		session_place(session, SESSION_QUIET);
		fallback_turns(fallback);
	}
}

static void session_on_end(struct relay *relay, enum relay_how how)
{
	struct session *session = session_of(relay);
	struct fallback *fallback = session->fallback;
	bool counted = session->counted;

	if (how == RELAY_COMPLETE)
		fallback->counts.complete++;
	else if (how == RELAY_CLIENT_BROKE && session->place == SESSION_QUEUED)
		fallback->counts.left++;
	else if (how == RELAY_CLIENT_BROKE)
		fallback->counts.client_broke++;
	else if (how == RELAY_NODE_BROKE)
		fallback->counts.node_broke++;
	session_place(session, SESSION_QUIET);
	session_release(session);
	if (counted && !fallback->freeing)
		fallback_turns(fallback);
}

static void fallback_maybe_gone(struct fallback *fallback)
{
	if (!fallback->freeing || fallback->handles || fallback->counts.open)
		return;
	free(fallback);
}

static void session_on_closed(struct relay *relay)
{
	struct session *session = session_of(relay);
	struct fallback *fallback = session->fallback;

	TAILQ_REMOVE(&fallback->sessions, session, all);
	fallback->counts.open--;
	free(session->tried);
	free(session);
	if (fallback->paused && fallback->counts.open < fallback->max_relays)
		port_pause(fallback, false);
	fallback_maybe_gone(fallback);
}

static const struct relay_events session_events = {
	.on_connected = session_on_connected,
	.on_seen = session_on_seen,
	.on_end = session_on_end,
	.on_closed = session_on_closed,
};

/* Spreads ties: keyed, so that a client cannot aim. */
static uint32_t session_hash(const struct fallback *fallback, int fd)
{
	struct sockaddr_storage peer;
	socklen_t len = sizeof(peer);
	uint32_t hash = fallback->seed;
	struct addr addr;
	uint16_t port;

	if (getpeername(fd, (struct sockaddr *)&peer, &len) == -1 ||
	    addr_from_sockaddr(&addr, &port, (const struct sockaddr *)&peer) < 0)
		return hash;
	hash = view_hash(hash, addr.bytes, sizeof(addr.bytes));
	return view_hash(hash, &port, sizeof(port));
}

void session_accept(struct fallback *fallback, uint16_t port, int fd)
{
	const struct plan_row *row = view_row(fallback->view, port);
	struct session *session;

	if (row && fallback->events->on_http && route_is_http(fallback->view->plan, row)) {
		fallback->events->on_http(fallback->arg, port, fd);
		return;
	}
	session = calloc(1, sizeof(*session));
	if (!session) {
		close(fd);
		return;
	}
	session->fallback = fallback;
	session->port = port;
	session->endpoint = VIEW_GONE;
	session->hash = session_hash(fallback, fd);
	fallback->counts.accepted++;
	fallback->counts.open++;
	TAILQ_INSERT_TAIL(&fallback->sessions, session, all);
	if (fallback->counts.open >= fallback->max_relays)
		port_pause(fallback, true);
	if (relay_start(&session->relay, fallback->loop, fd, fallback->scratch, &session_events) <
	    0) {
		fallback->counts.refused[FALLBACK_LOCAL]++;
		return;
	}
	session_begin(session);
}

/* ---- time ---- */

static void session_tick(struct session *session, uint64_t now_ms)
{
	uint64_t passed_ms = now_ms - session->since_ms;
	struct relay *relay = &session->relay;

	if (relay->state == RELAY_CONNECTING && passed_ms >= FALLBACK_CONNECT_MS) {
		relay_give_up(relay, -ETIMEDOUT);
	} else if (relay->state == RELAY_OPEN && !session->owed && passed_ms >= session->idle_ms) {
		session_set_busy(session, false);
		session_place(session, SESSION_QUIET);
	}
}

static void fallback_on_tick(uv_timer_t *timer)
{
	struct fallback *fallback = timer->data;
	uint64_t now_ms = uv_now(fallback->loop);
	struct session *session, *next;

	for (session = TAILQ_FIRST(&fallback->active); session; session = next) {
		next = TAILQ_NEXT(session, turn);
		session_tick(session, now_ms);
	}
	fallback_turns(fallback);
	for (session = TAILQ_FIRST(&fallback->queue); session; session = next) {
		next = TAILQ_NEXT(session, turn);
		if (now_ms - session->since_ms >= fallback->view->plan->queue_ms)
			session_refuse(session, FALLBACK_QUEUE_TIMEOUT);
	}
	if (!TAILQ_EMPTY(&fallback->queue) && fallback->events->refresh)
		fallback->events->refresh(fallback->arg); /* has the kernel got room again? */
	if (!TAILQ_EMPTY(&fallback->active) || !TAILQ_EMPTY(&fallback->queue))
		return;
	uv_timer_stop(timer);
	fallback->ticking = false;
}

/* What was refused since the last time, in one line. */
static void fallback_tell(struct fallback *fallback)
{
	struct buf text = {0};
	uint64_t sum = 0;

	for (size_t i = 0; i < FALLBACK_REFUSAL_COUNT; i++) {
		uint64_t n = fallback->counts.refused[i] - fallback->told.refused[i];

		if (n)
			buf_printf(&text, "%s%s (%llu)", sum ? ", " : "", refusal_texts[i],
				   (unsigned long long)n);
		sum += n;
	}
	fallback->told = fallback->counts;
	if (sum && !buf_failed(&text))
		log_warn("refused %llu connection%s: %s", (unsigned long long)sum,
			 sum == 1 ? "" : "s", text.data);
	buf_fini(&text);
}

static void fallback_on_chores(uv_timer_t *timer)
{
	struct fallback *fallback = timer->data;

	if (!fallback->stopping)
		port_retry(fallback);
	fallback_tell(fallback);
}

/* ---- the whole ---- */

struct fallback *fallback_new(uv_loop_t *loop, struct view *view, size_t max_relays,
			      const struct fallback_events *events, void *arg)
{
	struct fallback *fallback = calloc(1, sizeof(*fallback));

	if (!fallback)
		return NULL;
	fallback->loop = loop;
	fallback->view = view;
	fallback->max_relays = max_relays ? max_relays : 1;
	fallback->events = events;
	fallback->arg = arg;
	TAILQ_INIT(&fallback->ports);
	TAILQ_INIT(&fallback->sessions);
	TAILQ_INIT(&fallback->active);
	TAILQ_INIT(&fallback->asking);
	TAILQ_INIT(&fallback->queue);
	if (uv_random(NULL, NULL, &fallback->seed, sizeof(fallback->seed), 0, NULL) < 0)
		fallback->seed = (uint32_t)uv_hrtime();
	uv_timer_init(loop, &fallback->tick); /* cannot fail */
	uv_timer_init(loop, &fallback->chores);
	fallback->tick.data = fallback;
	fallback->chores.data = fallback;
	fallback->handles = 2;
	uv_timer_start(&fallback->chores, fallback_on_chores, FALLBACK_CHORES_MS,
		       FALLBACK_CHORES_MS);
	return fallback;
}

static void session_move(struct session *session, const size_t *moved, const struct plan *plan)
{
	if (session->endpoint != VIEW_GONE)
		session->endpoint = moved[session->endpoint];
	if (session->endpoint != VIEW_GONE)
		session->idle_ms = plan->endpoints[session->endpoint].idle_ms;
	for (size_t i = 0; i < session->n_tried; i++) {
		if (session->tried[i] != VIEW_GONE)
			session->tried[i] = moved[session->tried[i]];
	}
}

void fallback_moved(struct fallback *fallback, const size_t *moved)
{
	struct session *session;

	TAILQ_FOREACH(session, &fallback->sessions, all)
	{
		if (moved)
			session_move(session, moved, fallback->view->plan);
	}
	if (fallback->stopping)
		return;
	port_follow_plan(fallback);
	fallback_turns(fallback);
}

void fallback_room(struct fallback *fallback)
{
	fallback_turns(fallback);
}

const struct fallback_counts *fallback_counts(const struct fallback *fallback)
{
	return &fallback->counts;
}

void fallback_stop(struct fallback *fallback)
{
	struct session *session, *next;

	fallback->stopping = true;
	port_close_all(fallback);
	for (session = TAILQ_FIRST(&fallback->queue); session; session = next) {
		next = TAILQ_NEXT(session, turn);
		session_refuse(session, FALLBACK_STOPPING);
	}
}

static void fallback_on_closed(uv_handle_t *handle)
{
	struct fallback *fallback = handle->data;

	fallback->handles--;
	fallback_maybe_gone(fallback);
}

void fallback_free(struct fallback *fallback)
{
	struct session *session;

	if (!fallback)
		return;
	fallback->freeing = true;
	fallback_stop(fallback);
	TAILQ_FOREACH(session, &fallback->sessions, all)
	{
		relay_reset(&session->relay);
	}
	fallback_tell(fallback);
	uv_close((uv_handle_t *)&fallback->tick, fallback_on_closed);
	uv_close((uv_handle_t *)&fallback->chores, fallback_on_closed);
}
