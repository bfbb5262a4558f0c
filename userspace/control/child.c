/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/log.h"
#include "control/child.h"

#define WAIT_FIRST_MS 100 /* before the second start; doubles up to */
#define WAIT_MAX_MS   5000
#define STEADY_MS     10000 /* a child that lived so long did not die of its start */
#define ADOPTED_MS    250   /* how often to look whether another controller's child has ended */
#define ENDING_MS     50    /* the same, once it was told to */
#define STOP_MS	      7000  /* the proxy itself gives its relays 5 s */

struct child {
	uv_loop_t *loop;
	struct child_options options;
	uv_timer_t timer;
	uv_process_t process;
	bool running; /* `process` is open */
	bool stopping;
	pid_t adopted;	    /* another controller's child that is ours now; 0: none */
	uint64_t end_by_ms; /* the adopted one was told to end; 0: was not */
	uint64_t started_ms, wait_ms;
	unsigned n_open;
};

static void on_timer(uv_timer_t *timer);

static void on_closed(uv_handle_t *handle)
{
	struct child *child = handle->data;

	if (--child->n_open == 0)
		free(child);
}

static void close_timer(struct child *child)
{
	if (!uv_is_closing((uv_handle_t *)&child->timer))
		uv_close((uv_handle_t *)&child->timer, on_closed);
}

static void again(struct child *child)
{
	uv_timer_start(&child->timer, on_timer, child->wait_ms, 0);
	child->wait_ms = child->wait_ms * 2 < WAIT_MAX_MS ? child->wait_ms * 2 : WAIT_MAX_MS;
}

static void on_exit_(uv_process_t *process, int64_t status, int signal)
{
	struct child *child = process->data;

	child->running = false;
	uv_close((uv_handle_t *)process, on_closed);
	if (child->stopping) {
		lock_remove(child->options.lock);
		close_timer(child);
		return;
	}
	if (uv_now(child->loop) - child->started_ms >= STEADY_MS)
		child->wait_ms = WAIT_FIRST_MS;
	log_error("%s ended (%s %d): started again in %d ms", child->options.program,
		  signal ? "signal" : "status", signal ? signal : (int)status, (int)child->wait_ms);
	again(child);
}

/* `lock` becomes the child's descriptor 3: held for as long as it lives, also without us. */
static int spawn(struct child *child, int lock)
{
	uv_stdio_container_t stdio[4] = {
		{.flags = UV_IGNORE},
		{.flags = UV_INHERIT_FD, .data.fd = STDOUT_FILENO},
		{.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO},
		{.flags = UV_INHERIT_FD, .data.fd = lock},
	};
	uv_process_options_t options = {
		.exit_cb = on_exit_,
		.file = child->options.program,
		.flags = UV_PROCESS_DETACHED,
		.args = child->options.args,
		.stdio_count = 4,
		.stdio = stdio,
	};
	int err;

	if (child->options.as_user) {
		options.flags |= UV_PROCESS_SETUID | UV_PROCESS_SETGID;
		options.uid = child->options.uid;
		options.gid = child->options.gid;
	}
	child->process.data = child;
	child->n_open++;
	err = uv_spawn(child->loop, &child->process, &options);
	if (err)
		uv_close((uv_handle_t *)&child->process, on_closed);
	else
		child->running = true;
	return err;
}

/* Told once, made to when its time is up. True: no need to look again. */
static bool adopted_end(struct child *child)
{
	struct lock_holder holder;
	uint64_t now = uv_now(child->loop);
	int number = now >= child->end_by_ms ? SIGKILL : 0;

	if (!lock_held(child->options.lock, &holder))
		return true;
	if (!child->end_by_ms) {
		child->end_by_ms = now + STOP_MS;
		number = SIGTERM;
	}
	if (number && holder.pid)
		kill(holder.pid, number);
	return number == SIGKILL;
}

static void adopted_say(const struct child *child, bool same)
{
	if (same)
		log_info("megalith-proxy (pid %ld) of an earlier controller goes on",
			 (long)child->adopted);
	else
		log_warn("megalith-proxy (pid %ld) of an earlier controller is of another version "
			 "and makes room for ours",
			 (long)child->adopted);
}

/* Somebody holds the lock. */
static void adopt(struct child *child)
{
	struct lock_holder holder;
	bool same;

	uv_timer_start(&child->timer, on_timer, ADOPTED_MS, 0);
	if (!lock_held(child->options.lock, &holder) || !holder.pid)
		return; /* it has just ended, or is just starting */
	same = strcmp(holder.note, child->options.version) == 0;
	if (child->adopted != holder.pid) {
		child->adopted = holder.pid;
		child->end_by_ms = 0;
		adopted_say(child, same);
	}
	if (same)
		return;
	adopted_end(child);
	uv_timer_start(&child->timer, on_timer, ENDING_MS, 0);
}

static void start(struct child *child)
{
	int lock;
	int err = lock_take(child->options.lock, &lock);

	if (err == -EWOULDBLOCK) {
		adopt(child);
		return;
	}
	if (!err) {
		if (child->adopted)
			log_info("megalith-proxy (pid %ld) has ended", (long)child->adopted);
		child->adopted = 0;
		child->end_by_ms = 0;
		child->started_ms = uv_now(child->loop);
		err = spawn(child, lock);
		if (!err)
			lock_write(child->options.lock, (pid_t)uv_process_get_pid(&child->process),
				   child->options.version);
		close(lock); /* ours; without a child the lock ends here */
	}
	if (err) {
		log_error("%s cannot be started: %s", child->options.program, strerror(-err));
		again(child);
	}
}

/* Also begins it. */
static void stop_adopted(struct child *child)
{
	if (!adopted_end(child)) {
		uv_timer_start(&child->timer, on_timer, ENDING_MS, 0);
		return;
	}
	lock_remove(child->options.lock);
	close_timer(child);
}

static void on_timer(uv_timer_t *timer)
{
	struct child *child = timer->data;

	if (!child->stopping)
		start(child);
	else if (child->running)
		child_kill(child);
	else
		stop_adopted(child);
}

struct child *child_new(uv_loop_t *loop, const struct child_options *options)
{
	struct child *child = calloc(1, sizeof(*child));

	if (!child) {
		errno = ENOMEM;
		return NULL;
	}
	child->loop = loop;
	child->options = *options;
	child->wait_ms = WAIT_FIRST_MS;
	uv_timer_init(loop, &child->timer);
	child->timer.data = child;
	child->n_open = 1;
	uv_timer_start(&child->timer, on_timer, 0, 0);
	return child;
}

void child_stop(struct child *child)
{
	if (!child || child->stopping)
		return;
	child->stopping = true;
	if (child->running) {
		uv_process_kill(&child->process, SIGTERM);
		uv_timer_start(&child->timer, on_timer, STOP_MS, 0);
	} else {
		stop_adopted(child);
	}
}

pid_t child_leave(struct child *child)
{
	struct lock_holder holder;
	pid_t pid;

	if (!child)
		return 0;
	/* a child that died this very moment is still `running`, but holds nothing */
	pid = lock_held(child->options.lock, &holder) && !child->end_by_ms ? holder.pid : 0;
	if (child->running)
		uv_close((uv_handle_t *)&child->process, on_closed);
	if (!pid)
		lock_remove(child->options.lock);
	close_timer(child);
	return pid;
}

void child_kill(struct child *child)
{
	if (!child)
		return;
	if (child->running)
		uv_process_kill(&child->process, SIGKILL);
	else if (child->adopted)
		child->end_by_ms = 1; /* the next look finds that its time is up */
}
