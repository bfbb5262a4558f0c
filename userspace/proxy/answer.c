/* SPDX-License-Identifier: MIT */
/* What the router answers itself: lists of models, health, and every refusal. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "core/choose.h"
#include "net/url.h"
#include "proxy/router_impl.h"

#define JSON_TYPE    "application/json"
#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

void answer_send(struct request *request, int status, const char *type, const char *fields,
		 const char *body, size_t len)
{
	struct downstream *down = request->down;
	bool keep = request->body_complete || !request->has_body;
	struct buf out = {0};
	uv_buf_t piece;

	if (!keep)
		down->keep_alive = false;
	forward_status_line(&out, status);
	forward_date(request->router, &out);
	if (type)
		buf_printf(&out, "content-type: %s\r\n", type);
	buf_printf(&out, "content-length: %zu\r\n%s", len, fields ? fields : "");
	forward_marks(request, &out);
	if (!down->keep_alive)
		buf_puts(&out, "connection: close\r\n");
	else if (request->http10)
		buf_puts(&out, "connection: keep-alive\r\n");
	buf_puts(&out, "\r\n");
	if (!request->is_head)
		buf_add(&out, body, len);
	piece = uv_buf_init(out.data, (unsigned)out.len);
	if (buf_failed(&out)) {
		down_close(down, true);
	} else if (down_write(down, &piece, 1)) {
		request->to_close = !keep;
		request->node_chunked = false;
		request->node[0] = '\0';
		request->status = status;
		request_finish(request);
	}
	buf_fini(&out);
}

void request_refuse_now(struct request *request, enum refusal why, const char *fields,
			const char *text)
{
	const struct refusal_about *about = &refusal_about[why];
	struct buf body = {0};

	dialect_error(&body, request->path->dialect, why, text);
	attempt_drop(request);
	request_release(request);
	answer_send(request, about->status, "application/json", fields, body.data, body.len);
	buf_fini(&body);
}

/*
 * With a small body still to come: it is read and thrown away first, so that the connection can go
 * on. Else the connection ends with the answer.
 */
void request_refuse_with(struct request *request, enum refusal why, const char *fields,
			 const char *text)
{
	const struct http1_head *head = request->head;
	struct refused *refused;

	if (request->state == REQUEST_RECEIVING && request->has_body && !request->body_complete &&
	    !request->streamed && !request->refused && !*http1_error(request->down->parser) &&
	    head->content_length <= ROUTER_DRAIN_MAX && !http1_field(head, "expect")) {
		refused = calloc(1, sizeof(*refused));
		if (refused) {
			refused->why = why;
			snprintf(refused->fields, sizeof(refused->fields), "%s",
				 fields ? fields : "");
			snprintf(refused->text, sizeof(refused->text), "%s", text);
			request->refused = refused;
			return;
		}
	}
	request_refuse_now(request, why, fields, text);
}

void request_refuse(struct request *request, enum refusal why, const char *format, ...)
{
	int status = refusal_about[why].status;
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	request_refuse_with(request, why,
			    status == 429 || status == 503 ? ROUTER_RETRY_AFTER : NULL, text);
}

/* The text is JSON that is complete. */
static void send_json(struct request *request, int status, struct buf *json)
{
	if (buf_failed(json))
		request_refuse(request, REFUSAL_LOCAL, "out of memory");
	else
		answer_send(request, status, JSON_TYPE, NULL, json->data, json->len);
	buf_fini(json);
}

/* ---- OpenAI's list ---- */

static void write_model(struct json_writer *w, const char *name, const char *owner)
{
	json_begin(w, '{');
	json_pair_string(w, "id", name);
	json_pair_string(w, "object", "model");
	json_pair_int(w, "created", 0);
	json_pair_string(w, "owned_by", owner);
	json_end(w, '}');
}

static bool is_alias(const struct catalog *catalog, const char *name)
{
	for (size_t i = 0; i < catalog->n_aliases; i++) {
		if (catalog_name_equal(catalog->aliases[i].name, name))
			return true;
	}
	return false;
}

static void answer_models(struct request *request)
{
	const struct catalog *catalog = request->router->view->catalog;
	struct buf out = {0};
	struct json_writer w = {.out = &out};

	json_begin(&w, '{');
	json_pair_string(&w, "object", "list");
	json_name(&w, "data");
	json_begin(&w, '[');
	for (size_t i = 0; i < catalog->n_aliases; i++)
		write_model(&w, catalog->aliases[i].name, "megalith");
	for (size_t i = 0; i < catalog->n_models; i++) {
		if (catalog->models[i].n_has && !is_alias(catalog, catalog->models[i].name))
			write_model(&w, catalog->models[i].name, "node");
	}
	json_end(&w, ']');
	json_end(&w, '}');
	send_json(request, 200, &out);
}

static void answer_model(struct request *request)
{
	const char *target = request->head->target;
	size_t skip = strlen(request->path->text), len;
	struct catalog *catalog = request->router->view->catalog;
	char name[SCAN_NAME_MAX + 1];
	struct buf out = {0};
	struct json_writer w = {.out = &out};

	if (strncmp(target, request->path->text, skip) != 0)
		skip -= 3; /* came without "/v1" */
	target += skip;
	len = strcspn(target, "?");
	if (len > SCAN_NAME_MAX || url_decode(name, target, len, false) < 0) {
		request_refuse(request, REFUSAL_UNKNOWN_MODEL, "no such model");
		return;
	}
	if (!routes_find(&request->router->view->routes, name)) {
		request_refuse(request, REFUSAL_UNKNOWN_MODEL, "model \"%s\" not found", name);
		return;
	}
	write_model(&w, name, is_alias(catalog, name) ? "megalith" : "node");
	send_json(request, 200, &out);
}

/* ---- Ollama's lists ---- */

/* What every entry has, also where the node says less. */
static void write_defaults(struct json_writer *w, const struct json *about)
{
	static const char *const texts[][2] = {{"modified_at", "1970-01-01T00:00:00Z"},
					       {"digest", ""}};

	for (size_t i = 0; i < 2; i++) {
		if (!json_get(about, texts[i][0]))
			json_pair_string(w, texts[i][0], texts[i][1]);
	}
	if (!json_get(about, "size"))
		json_pair_int(w, "size", 0);
	if (!json_get(about, "details")) {
		json_name(w, "details");
		json_begin(w, '{');
		json_end(w, '}');
	}
}

/* The node's own entry, under this name. */
static void write_entry(struct json_writer *w, const char *name, const char *text)
{
	struct json_error error;
	struct json *about = text ? json_parse(text, strlen(text), 0, &error) : NULL;

	json_begin(w, '{');
	json_pair_string(w, "name", name);
	json_pair_string(w, "model", name);
	for (const struct json *item = about ? json_first(about) : NULL; item;
	     item = json_next(item)) {
		const char *key = json_key(item);

		if (!key || !strcmp(key, "name") || !strcmp(key, "model"))
			continue;
		json_name(w, key);
		json_put_value(w, item);
	}
	write_defaults(w, about);
	json_end(w, '}');
	json_free(about);
}

/* Does any node that speaks Ollama's dialect serve it? *about: the entry of its first model. */
static bool ollama_serves(struct view *view, const char *name, const char **about)
{
	struct route *route = routes_find(&view->routes, name);
	bool serves = false;

	*about = NULL;
	for (size_t t = 0; route && t < route->n_targets && !serves; t++) {
		const struct route_target *target = &route->targets[t];

		serves = route_speaks(view->plan, &target->row, ROUTE_ENGINE(ENGINE_OLLAMA));
		if (serves && target->model)
			name = target->model;
	}
	for (size_t i = 0; serves && i < view->catalog->n_models; i++) {
		const struct catalog_model *model = &view->catalog->models[i];

		if (model->about && catalog_name_equal(model->name, name))
			*about = model->about;
	}
	return serves;
}

static bool on_ollama(const struct view *view, const uint32_t *endpoints, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (view->plan->endpoints[endpoints[i]].engine == ENGINE_OLLAMA)
			return true;
	}
	return false;
}

static void answer_tags(struct request *request)
{
	struct view *view = request->router->view;
	const struct catalog *catalog = view->catalog;
	struct buf out = {0};
	struct json_writer w = {.out = &out};
	const char *about;

	json_begin(&w, '{');
	json_name(&w, "models");
	json_begin(&w, '[');
	for (size_t i = 0; i < catalog->n_aliases; i++) {
		if (ollama_serves(view, catalog->aliases[i].name, &about))
			write_entry(&w, catalog->aliases[i].name, about);
	}
	for (size_t i = 0; i < catalog->n_models; i++) {
		const struct catalog_model *model = &catalog->models[i];

		if (on_ollama(view, model->has, model->n_has) && !is_alias(catalog, model->name))
			write_entry(&w, model->name, model->about);
	}
	json_end(&w, ']');
	json_end(&w, '}');
	send_json(request, 200, &out);
}

static void answer_ps(struct request *request)
{
	struct view *view = request->router->view;
	const struct catalog *catalog = view->catalog;
	struct buf out = {0};
	struct json_writer w = {.out = &out};

	json_begin(&w, '{');
	json_name(&w, "models");
	json_begin(&w, '[');
	for (size_t i = 0; i < catalog->n_models; i++) {
		const struct catalog_model *model = &catalog->models[i];

		if (on_ollama(view, model->loaded, model->n_loaded))
			write_entry(&w, model->name,
				    model->running ? model->running : model->about);
	}
	json_end(&w, ']');
	json_end(&w, '}');
	send_json(request, 200, &out);
}

/* ---- health ---- */

static void answer_ready(struct request *request)
{
	const struct plan *plan = request->router->view->plan;
	size_t up = 0;
	char text[64];
	int len;

	for (size_t i = 0; i < plan->n_endpoints; i++)
		up += plan_eligible(&plan->endpoints[i]) &&
		      (ROUTE_LLM & ROUTE_ENGINE(plan->endpoints[i].engine));
	len = snprintf(text, sizeof(text), "{\"status\":\"%s\",\"nodes_up\":%zu}",
		       up ? "ok" : "unavailable", up);
	answer_send(request, up ? 200 : 503, JSON_TYPE, NULL, text, (size_t)len);
}

static void answer_metrics(struct request *request)
{
	struct buf out = {0};

	tally_write(&request->router->tally, &out);
	if (buf_failed(&out))
		request_refuse(request, REFUSAL_LOCAL, "out of memory");
	else
		answer_send(request, 200, METRICS_TYPE, NULL, out.data, out.len);
	buf_fini(&out);
}

bool answer_own(struct request *request)
{
	switch (request->path->kind) {
	case PATH_HELLO:
		answer_send(request, 200, "text/plain; charset=utf-8", NULL, "Ollama is running",
			    17);
		return true;
	case PATH_HEALTH:
		answer_send(request, 200, JSON_TYPE, NULL, "{\"status\":\"ok\"}", 15);
		return true;
	case PATH_READY:
		answer_ready(request);
		return true;
	case PATH_METRICS:
		answer_metrics(request);
		return true;
	case PATH_MODELS:
		answer_models(request);
		return true;
	case PATH_MODEL:
		answer_model(request);
		return true;
	case PATH_TAGS:
		answer_tags(request);
		return true;
	case PATH_PS:
		answer_ps(request);
		return true;
	default:
		return false;
	}
}
