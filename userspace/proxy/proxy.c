/* SPDX-License-Identifier: MIT */
#include "proxy/proxy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/notify.h"
#include "proxy/fallback.h"
#include "proxy/follow.h"
#include "proxy/router.h"

#define MARKS_MAX 64 /* kept for the next report */

struct proxy_mark {
	size_t endpoint;
	const char *what;
};

struct proxy {
	uv_loop_t *loop;
	struct view view;
	struct fallback *fallback;
	struct router *router;
	struct follow *follow;
	struct proxy_mark marks[MARKS_MAX];
	size_t n_marks;
	bool ready;
};

/* ---- from the listeners ---- */

static void on_busy(void *arg)
{
	struct proxy *proxy = arg;

	if (proxy->follow)
		follow_touch(proxy->follow);
}

static uint32_t refresh(void *arg)
{
	struct proxy *proxy = arg;

	return proxy->follow ? follow_refresh(proxy->follow) : 0;
}

static void on_http(void *arg, uint16_t port, int fd)
{
	struct proxy *proxy = arg;

	router_take(proxy->router, port, fd);
}

static void on_mark(void *arg, size_t endpoint, const char *what)
{
	struct proxy *proxy = arg;

	for (size_t i = 0; i < proxy->n_marks; i++) {
		if (proxy->marks[i].endpoint == endpoint)
			return;
	}
	if (proxy->n_marks == MARKS_MAX)
		return;
	proxy->marks[proxy->n_marks++] = (struct proxy_mark){endpoint, what};
	if (proxy->follow)
		follow_hurry(proxy->follow);
}

static const struct fallback_events fallback_events = {
	.on_busy = on_busy,
	.on_http = on_http,
	.refresh = refresh,
};

static const struct router_events router_events = {
	.on_busy = on_busy,
	.refresh = refresh,
	.on_mark = on_mark,
};

/* ---- from the controller ---- */

static void say_ready(struct proxy *proxy)
{
	const struct catalog_settings *settings = &proxy->view.catalog->settings;
	struct router_counts counts;
	char text[ADDR_TEXT_MAX];

	if (proxy->ready)
		return;
	proxy->ready = true;
	router_counts(proxy->router, &counts);
	fprintf(stderr, "ready listeners=%zu router=%s\n",
		fallback_counts(proxy->fallback)->listeners,
		counts.listening ? addr_format_port(&settings->address, settings->port, text)
				 : "none");
	notify_systemd("READY=1");
}

static void on_plan(void *arg, struct plan *plan, struct catalog *catalog, struct keys *keys)
{
	struct proxy *proxy = arg;
	size_t *moved;
	int error = view_set_plan(&proxy->view, plan, catalog, keys, &moved);

	if (error < 0) {
		log_error("plan not taken over: %s", strerror(-error));
		plan_free(plan);
		catalog_free(catalog);
		keys_free(keys);
		return;
	}
	proxy->n_marks = 0; /* they name endpoints of the plan before */
	fallback_moved(proxy->fallback, moved);
	router_moved(proxy->router, moved);
	free(moved);
	on_busy(proxy);
	say_ready(proxy);
}

static void on_load(void *arg, const uint32_t (*pairs)[2], size_t count)
{
	struct proxy *proxy = arg;

	for (size_t i = 0; i < count; i++)
		view_set_load(&proxy->view, i, pairs[i][0], pairs[i][1]);
	proxy->view.load_ms = uv_now(proxy->loop);
	fallback_room(proxy->fallback);
	router_room(proxy->router);
}

static void on_fresh(void *arg, uint32_t ticket)
{
	struct proxy *proxy = arg;

	fallback_fresh(proxy->fallback, ticket);
	router_fresh(proxy->router, ticket);
}

static void put_marks(struct proxy *proxy, struct json_writer *w)
{
	if (!proxy->n_marks)
		return;
	json_name(w, "marks");
	json_begin(w, '[');
	for (size_t i = 0; i < proxy->n_marks; i++) {
		json_begin(w, '[');
		json_put_int(w, (int64_t)proxy->marks[i].endpoint);
		json_put_string(w, proxy->marks[i].what);
		json_end(w, ']');
	}
	json_end(w, ']');
	proxy->n_marks = 0;
}

static bool on_report(void *arg, struct buf *body)
{
	struct proxy *proxy = arg;
	struct json_writer w = {.out = body};

	json_begin(&w, '{');
	if (!view_report(&proxy->view, &w))
		return false;
	put_marks(proxy, &w);
	json_name(&w, "http");
	tally_write_json(router_tally(proxy->router), &w);
	json_end(&w, '}');
	return !buf_failed(body);
}

static const struct follow_events follow_events = {
	.on_plan = on_plan,
	.on_load = on_load,
	.on_fresh = on_fresh,
	.on_report = on_report,
};

/* ---- life ---- */

struct proxy *proxy_new(uv_loop_t *loop, const char *control, size_t max_peers)
{
	struct proxy *proxy = calloc(1, sizeof(*proxy));

	if (!proxy)
		return NULL;
	proxy->loop = loop;
	proxy->fallback = fallback_new(loop, &proxy->view, max_peers, &fallback_events, proxy);
	proxy->router = router_new(loop, &proxy->view, max_peers, &router_events, proxy);
	if (proxy->fallback && proxy->router)
		proxy->follow = follow_new(loop, control, &follow_events, proxy);
	if (proxy->follow)
		return proxy;
	fallback_free(proxy->fallback);
	router_free(proxy->router);
	free(proxy);
	errno = ENOMEM;
	return NULL;
}

void proxy_stop(struct proxy *proxy)
{
	fallback_stop(proxy->fallback);
	router_stop(proxy->router);
}

bool proxy_busy(const struct proxy *proxy)
{
	struct router_counts counts;

	router_counts(proxy->router, &counts);
	return fallback_counts(proxy->fallback)->busy || counts.requests;
}

void proxy_end(struct proxy *proxy)
{
	const struct fallback_counts *counts = fallback_counts(proxy->fallback);
	struct router_counts http;

	router_counts(proxy->router, &http);
	log_info("ending: accepted=%llu relayed=%llu complete=%llu cut=%zu",
		 (unsigned long long)counts->accepted, (unsigned long long)counts->relayed,
		 (unsigned long long)counts->complete, counts->open + http.requests);
	follow_free(proxy->follow);
	proxy->follow = NULL;
	fallback_free(proxy->fallback);
	router_free(proxy->router);
}

void proxy_free(struct proxy *proxy)
{
	view_fini(&proxy->view);
	free(proxy);
}
