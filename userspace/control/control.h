/* SPDX-License-Identifier: MIT */
/*
 * The controller: turns what happens (probes, operators, proxies, the network) into plans, and
 * publishes them to the datapath and to the proxies that follow. Owns the state, the datapath once
 * it is given, the control socket and its timers. One loop, one thread. It does not probe: `watch`
 * and `kick` tell somebody who does.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include <sys/types.h>
#include <uv.h>

#include "base/buf.h"
#include "control/state.h"

struct control;
struct follower;
struct keys;
struct server;

struct control_access {	 /* who may change something; root and our own user always may */
	bool owner_only; /* nobody else: the socket's group is not one of operators */
	bool has_proxy;	 /* this user only reads, and says what it holds: */
	uid_t proxy_uid;
};

struct control_options {    /* strings must outlive the controller */
	const char *config; /* file, read again by a reload */
	const char *state_dir;
	const char *bpf_dir;
	struct control_access access;
	/* Probe the endpoints of this model from now on, and report to control_note(); NULL: stop.
	 */
	void (*watch)(void *arg, struct control *control, const struct model *model);
	/* Probe this endpoint of it at once. */
	void (*kick)(void *arg, struct control *control, size_t endpoint);
	void *arg;
};

struct control {
	uv_loop_t *loop;
	struct control_options options;
	struct state state;
	uint8_t salt[16];      /* of the keys' digests, as long as we live */
	struct keys *keys;     /* NULL: none are configured, or read yet */
	struct server *server; /* NULL: does not listen */
	struct follower *followers;
	size_t n_followers;
	uv_timer_t publish_timer; /* runs once in the next turn of the loop after a change */
	uv_timer_t second_timer;
	uv_poll_t events; /* the datapath's; open while has_events */
	bool has_events;
	bool refused;		/* the datapath did not take the last plan: try again */
	bool sweep_failed;	/* said once */
	uint64_t held_until_ms; /* 0: not held. See control_start() */
	uint64_t started_ms, published_ms;
	unsigned n_open; /* handles that the loop has not closed yet */
};

/* File → model, or NULL with every error as a line in `errors`. Also for --check. */
struct model *control_config_load(const char *path, struct buf *errors);

/*
 * Takes over `model` in any case; reads the operator's state (trouble with that is logged). Nothing
 * runs yet. NULL with errno.
 */
struct control *control_new(uv_loop_t *loop, const struct control_options *options,
			    struct model *model);

/*
 * Reads the keys that clients may use, when the configuration has a file of them; before
 * control_start(). 0, or -EINVAL or -ENOMEM with one line in `errors`.
 */
int control_keys_load(struct control *control, struct buf *errors);
/* Would they be read? For --check. */
int control_keys_check(const struct model *model, struct buf *errors);

/* The control socket. gid (gid_t)-1: leave the group. 0 or -errno. */
int control_listen(struct control *control, const char *path, unsigned mode, gid_t gid);

/* Takes over the datapath; before control_start(). */
void control_datapath_set(struct control *control, struct datapath *datapath);

/*
 * Begins: probes, timers, first plan. Until every endpoint has been probed once (or should have
 * been), the rows of an adopted datapath stay as they are and followers hear nothing: a restart
 * must not send new connections away.
 */
int control_start(struct control *control);

/* A probe's result. */
void control_note(struct control *control, size_t endpoint, const struct observation *seen);

/* The proxy with this pid saw the endpoint fail. */
void control_mark(struct control *control, size_t endpoint, enum probe_reason why, int64_t pid);

/*
 * Makes a plan and publishes it: now (an operator's order); or once in the next turn of the loop,
 * or 50 ms after the last plan (1 s, when only models have changed), however often it is called.
 */
void control_publish(struct control *control);
void control_changed(struct control *control);

/*
 * Reads the configuration again. 0, with what takes effect only at the next start in `note` (may
 * stay empty); or -EINVAL with the lines in `errors`, or -ENOMEM: the old one stays, and so do the
 * keys.
 */
int control_reload(struct control *control, struct buf *errors, struct buf *note);

/* Writes the operator's state. 0 or -errno, logged. */
int control_save(struct control *control);

/* Takes the datapath off and goes on without. 0, or -errno with *error. */
int control_detach(struct control *control, struct datapath_error *error);

/* Connections that the datapath serves now. */
uint64_t control_connections(const struct control *control);

/* Stops everything; lets go of the datapath, which goes on serving. Memory goes when the loop has
 * closed the handles. */
void control_free(struct control *control);

#endif
