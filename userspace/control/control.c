/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/api.h"
#include "control/control.h"
#include "control/files.h"
#include "control/follow.h"
#include "control/keyfile.h"
#include "control/store.h"

#define CONFIG_MAX ((size_t)16 << 20) /* 1,024 nodes with all their services are below 2 MiB */
#define BODY_MAX   ((size_t)1 << 20)

/*
 * Between two plans that probes ask for: the first change after a silence is published at once, but
 * a farm of 1,024 nodes that comes up in one second must not make 1,024 plans, which no follower
 * could read.
 */
#define SPACING_MS 50

/* Nodes load and unload models all day long: of a large farm one of them does at any moment. */
#define MODELS_SPACING_MS 1000

static const char *environment(const char *name)
{
	return getenv(name);
}

struct model *control_config_load(const char *path, struct buf *errors)
{
	struct buf text = {0};
	struct model *model = NULL;
	int err = file_read(path, CONFIG_MAX, &text);

	if (err)
		buf_printf(errors, "%s: %s\n", path, strerror(-err));
	else
		model = model_load(path, text.data ? text.data : "", text.len, environment, errors);
	buf_fini(&text);
	return model;
}

/* --- keys --- */

/* *keys NULL without an error: none are configured. */
static int keys_read_for(const struct model *model, const uint8_t salt[16], struct keys **keys,
			 struct buf *errors)
{
	*keys = NULL;
	if (!model->router.keys_file)
		return 0;
	return keyfile_load(model->router.keys_file, salt, keys, errors);
}

static void keys_set(struct control *control, struct keys *keys)
{
	keys_free(control->keys);
	control->keys = keys;
}

int control_keys_load(struct control *control, struct buf *errors)
{
	struct keys *keys;
	int err = keys_read_for(control->state.model, control->salt, &keys, errors);

	if (!err)
		keys_set(control, keys);
	return err;
}

int control_keys_check(const struct model *model, struct buf *errors)
{
	const uint8_t salt[16] = {0};
	struct keys *keys;
	int err = keys_read_for(model, salt, &keys, errors);

	keys_free(keys);
	return err;
}

/* --- publishing --- */

static void datapath_send(struct control *control)
{
	struct state *state = &control->state;
	struct datapath_error error = {.text = ""};
	int err;

	if (!state->datapath || (control->held_until_ms && datapath_adopted(state->datapath)))
		return;
	err = datapath_publish(state->datapath, state->plan, &error);
	if (err && !control->refused)
		log_error("the datapath did not take plan %llu, the old one goes on serving: %s",
			  (unsigned long long)state->version,
			  *error.text ? error.text : strerror(-err));
	if (!err && control->refused)
		log_info("the datapath took plan %llu", (unsigned long long)state->version);
	control->refused = err != 0;
	if (!err)
		state->datapath_current = true;
}

static void publish_all(struct control *control)
{
	uv_timer_stop(&control->publish_timer);
	control->published_ms = uv_now(control->loop);
	datapath_send(control);
	follow_plan_send(control);
}

void control_publish(struct control *control)
{
	if (state_plan_make(&control->state)) {
		log_error("no memory for a plan: the old one goes on serving");
		return;
	}
	publish_all(control);
}

static void on_publish_timer(uv_timer_t *timer)
{
	control_publish(timer->data);
}

/* Once in the next turn of the loop, or when the last plan is so old. */
static void publish_later(struct control *control, uint64_t spacing_ms)
{
	uint64_t since = uv_now(control->loop) - control->published_ms;
	uint64_t wait = since < spacing_ms ? spacing_ms - since : 0;
	uv_timer_t *timer = &control->publish_timer;

	if (!uv_is_active((uv_handle_t *)timer) || uv_timer_get_due_in(timer) > wait)
		uv_timer_start(timer, on_publish_timer, wait, 0);
}

void control_changed(struct control *control)
{
	publish_later(control, SPACING_MS);
}

static void hold_end(struct control *control)
{
	if (!control->held_until_ms)
		return;
	control->held_until_ms = 0;
	control_publish(control);
}

/* A node that is down from the start is news, too. */
static void turn_say(const struct plan_endpoint *of, enum probe_reason reason)
{
	if (reason == PROBE_OK)
		log_info("%s/%s is up", of->node, of->service);
	else
		log_warn("%s/%s is down: %s", of->node, of->service, probe_reason_text(reason));
}

void control_note(struct control *control, size_t endpoint, const struct observation *seen)
{
	struct state *state = &control->state;
	unsigned changes;
	bool known;

	if (endpoint >= state->model->n_endpoints)
		return;
	known = state->scores[endpoint].known;
	changes = state_note(state, endpoint, seen);
	if (changes & STATE_TURNED)
		control_changed(control);
	else if (changes)
		publish_later(control, MODELS_SPACING_MS);
	if (changes & STATE_TURNED || known != state->scores[endpoint].known)
		turn_say(&state->plan->endpoints[endpoint], seen->reason);
	if (control->held_until_ms && state_all_known(state))
		hold_end(control);
}

void control_mark(struct control *control, size_t endpoint, enum probe_reason why, int64_t pid)
{
	struct state *state = &control->state;
	const struct plan_endpoint *of;

	if (!state_mark(state, endpoint, why, uv_now(control->loop)))
		return;
	of = &state->plan->endpoints[endpoint];
	log_warn("%s/%s is suspect: %s, says the proxy with pid %lld", of->node, of->service,
		 mark_word(why), (long long)pid);
	control_changed(control);
	control->options.kick(control->options.arg, control, endpoint);
}

/* --- each second --- */

static void on_second(uv_timer_t *timer)
{
	struct control *control = timer->data;
	struct state *state = &control->state;
	uint64_t now = uv_now(control->loop);
	int err = state->datapath ? datapath_sweep(state->datapath) : 0;

	if (err && !control->sweep_failed)
		log_error("connections cannot be counted: %s", strerror(-err));
	control->sweep_failed = err != 0;
	state_relay_expire(state, now);
	if (control->held_until_ms && now >= control->held_until_ms)
		hold_end(control);
	if (control->refused)
		datapath_send(control);
	follow_load_send(control);
}

/* --- the datapath's events --- */

static void on_closed(uv_handle_t *handle)
{
	struct control *control = handle->data;

	if (--control->n_open == 0)
		free(control);
}

static void events_stop(struct control *control)
{
	if (!control->has_events)
		return;
	control->has_events = false;
	uv_close((uv_handle_t *)&control->events, on_closed);
}

static void on_events(uv_poll_t *poll, int status, int events)
{
	struct control *control = poll->data;

	(void)events;
	if (status < 0) {
		log_error("changes of the network are no longer heard of: %s", uv_strerror(status));
		events_stop(control);
		return;
	}
	if (control->state.datapath && datapath_events(control->state.datapath))
		control_changed(control);
}

static int events_start(struct control *control)
{
	const struct datapath *dp = control->state.datapath;
	int fd = dp ? datapath_events_fd(dp) : -1;
	int err;

	if (fd == -1)
		return 0;
	err = uv_poll_init(control->loop, &control->events, fd);
	if (err)
		return err;
	control->events.data = control;
	control->n_open++;
	control->has_events = true;
	return uv_poll_start(&control->events, UV_READABLE, on_events);
}

/* --- reload --- */

static bool lists_equal(char *const *a, size_t n_a, char *const *b, size_t n_b)
{
	if (n_a != n_b)
		return false;
	for (size_t i = 0; i < n_a; i++)
		if (strcmp(a[i], b[i]) != 0)
			return false;
	return true;
}

static bool addresses_equal(const struct addr *a, size_t n_a, const struct addr *b, size_t n_b)
{
	if (n_a != n_b)
		return false;
	for (size_t i = 0; i < n_a; i++)
		if (!addr_equal(&a[i], &b[i]))
			return false;
	return true;
}

/* What the datapath was opened with stays until it is opened again. */
static void note_write(const struct model *old, const struct model *new, struct buf *note)
{
	const struct {
		const char *key;
		bool same;
	} parts[] = {
		{"interfaces", lists_equal(old->gateway.interfaces, old->gateway.n_interfaces,
					   new->gateway.interfaces, new->gateway.n_interfaces)},
		{"addresses", addresses_equal(old->gateway.addresses, old->gateway.n_addresses,
					      new->gateway.addresses, new->gateway.n_addresses)},
		{"datapath", old->gateway.datapath == new->gateway.datapath},
		{"snat_ports", old->gateway.snat_first == new->gateway.snat_first &&
				       old->gateway.snat_last == new->gateway.snat_last},
		{"max_flows", old->gateway.max_flows == new->gateway.max_flows},
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (!parts[i].same)
			buf_printf(note, "%s%s", note->len ? ", " : "at the next start: gateway ",
				   parts[i].key);
}

/* All or nothing. */
static int reload_take(struct control *control, struct model *model, struct buf *errors,
		       struct buf *note)
{
	struct keys *keys;
	int err = keys_read_for(model, control->salt, &keys, errors);

	if (err)
		return err;
	note_write(control->state.model, model, note);
	err = state_model_set(&control->state, model);
	if (err)
		keys_free(keys);
	else
		keys_set(control, keys);
	return err;
}

int control_reload(struct control *control, struct buf *errors, struct buf *note)
{
	struct model *model = control_config_load(control->options.config, errors);
	int err;

	if (!model)
		return -EINVAL;
	err = reload_take(control, model, errors, note);
	if (err) {
		model_free(model);
		return err;
	}
	control->options.watch(control->options.arg, control, model);
	publish_all(control);
	log_info("configuration read again: plan %llu, %zu nodes, %zu personas%s%s",
		 (unsigned long long)control->state.version, model->n_nodes, model->n_personas,
		 note->len ? "; " : "", note->len ? note->data : "");
	return 0;
}

int control_save(struct control *control)
{
	int err = store_save(control->options.state_dir, &control->state);

	if (err)
		log_error("weights and drains cannot be written to %s: %s",
			  control->options.state_dir, strerror(-err));
	return err;
}

/* --- life --- */

static void state_read(struct control *control)
{
	struct buf report = {0};

	if (store_load(control->options.state_dir, &control->state, &report))
		log_warn("%s", report.data ? report.data : "out of memory");
	buf_fini(&report);
}

struct control *control_new(uv_loop_t *loop, const struct control_options *options,
			    struct model *model)
{
	struct control *control = calloc(1, sizeof(*control));
	int err;

	if (!control) {
		model_free(model);
		errno = ENOMEM;
		return NULL;
	}
	control->loop = loop;
	control->options = *options;
	control->started_ms = uv_now(loop);
	state_init(&control->state);
	state_read(control);
	err = uv_random(NULL, NULL, control->salt, sizeof(control->salt), 0, NULL);
	if (!err)
		err = state_model_set(&control->state, model);
	if (err) {
		model_free(model);
		state_fini(&control->state);
		free(control);
		errno = -err;
		return NULL;
	}
	uv_timer_init(loop, &control->publish_timer);
	uv_timer_init(loop, &control->second_timer);
	control->publish_timer.data = control;
	control->second_timer.data = control;
	control->n_open = 2;
	return control;
}

int control_listen(struct control *control, const char *path, unsigned mode, gid_t gid)
{
	struct server_options options = {
		.max_body = BODY_MAX,
		.on_request = api_request,
		.on_abandoned = api_abandoned,
		.arg = control,
	};
	int err;

	control->server = server_new(control->loop, &options);
	if (!control->server)
		return -errno;
	err = server_listen_unix(control->server, path, mode, (int)gid);
	if (err) {
		server_free(control->server);
		control->server = NULL;
	}
	return err;
}

void control_datapath_set(struct control *control, struct datapath *datapath)
{
	control->state.datapath = datapath;
	control->state.datapath_current = false;
}

int control_start(struct control *control)
{
	const struct model *model = control->state.model;
	int err = events_start(control);

	if (err)
		return err;
	control->held_until_ms =
		uv_now(control->loop) + model->probe.interval_ms + model->probe.timeout_ms + 100;
	control->options.watch(control->options.arg, control, control->state.model);
	uv_timer_start(&control->second_timer, on_second, 1000, 1000);
	publish_all(control);
	return 0;
}

uint64_t control_connections(const struct control *control)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < control->state.plan->n_endpoints; i++) {
		struct datapath_counts counts;

		state_counts(&control->state, i, &counts);
		sum += counts.connections;
	}
	return sum;
}

static void datapath_let_go(struct control *control)
{
	events_stop(control);
	if (control->state.datapath)
		datapath_close(control->state.datapath);
	control->state.datapath = NULL;
	control->state.datapath_current = false;
	control->refused = false;
	control->held_until_ms = 0;
}

int control_detach(struct control *control, struct datapath_error *error)
{
	datapath_let_go(control);
	return datapath_detach(control->options.bpf_dir, error);
}

void control_free(struct control *control)
{
	if (!control)
		return;
	control->options.watch(control->options.arg, control, NULL);
	follow_end(control);
	if (control->server)
		server_free(control->server);
	control->server = NULL;
	datapath_let_go(control);
	keys_set(control, NULL);
	state_fini(&control->state);
	uv_close((uv_handle_t *)&control->publish_timer, on_closed);
	uv_close((uv_handle_t *)&control->second_timer, on_closed);
}
