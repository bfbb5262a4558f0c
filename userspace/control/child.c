/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "control/child.h"
#include "control/lock.h"

#define WAIT_FIRST_MS 100 /* before the second start; doubles up to */
#define WAIT_MAX_MS   5000
#define STEADY_MS     10000 /* a child that lived so long did not die of its start */
#define ADOPTED_MS    1000  /* how often to look whether another controller's child has ended */
#define STOP_MS	      7000  /* the proxy itself gives its relays 5 s */

struct child {
	uv_loop_t *loop;
	struct child_options options;
	uv_timer_t timer;
	uv_process_t process;
	bool running; /* `process` is open */
	bool stopping;
	bool adopted; /* somebody else's child holds the lock: said once */
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

/* The file of a lock that nobody holds any more. */
static void lock_remove(const struct child *child)
{
	int lock;

	if (lock_take(child->options.lock, &lock) == 0)
		lock_drop(child->options.lock, lock);
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
		lock_remove(child);
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
		.args = child->options.args,
		.stdio_count = 4,
		.stdio = stdio,
	};
	int err;

	if (child->options.as_user) {
		options.flags = UV_PROCESS_SETUID | UV_PROCESS_SETGID;
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

static void start(struct child *child)
{
	int lock;
	int err = lock_take(child->options.lock, &lock);

	if (err == -EWOULDBLOCK) {
		if (!child->adopted)
			log_info("a proxy that an earlier controller started is still serving");
		child->adopted = true;
		uv_timer_start(&child->timer, on_timer, ADOPTED_MS, 0);
		return;
	}
	if (!err) {
		child->adopted = false;
		child->started_ms = uv_now(child->loop);
		err = spawn(child, lock);
		if (!err)
			lock_write(lock, (pid_t)uv_process_get_pid(&child->process));
		close(lock); /* ours; without a child the lock ends here */
	}
	if (err) {
		log_error("%s cannot be started: %s", child->options.program, strerror(-err));
		again(child);
	}
}

static void on_timer(uv_timer_t *timer)
{
	struct child *child = timer->data;

	if (!child->stopping)
		start(child);
	else
		child_kill(child);
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

/* While the lock is held the process that is named in it lives: its number is nobody else's. */
static void stop_adopted(const struct child *child)
{
	pid_t pid = lock_owner(child->options.lock);
	int lock;

	if (lock_take(child->options.lock, &lock) == 0)
		lock_drop(child->options.lock, lock);
	else if (pid > 0)
		kill(pid, SIGTERM);
}

void child_stop(struct child *child)
{
	if (!child || child->stopping)
		return;
	child->stopping = true;
	if (child->running) {
		uv_process_kill(&child->process, SIGTERM);
		uv_timer_start(&child->timer, on_timer, STOP_MS, 0);
		return;
	}
	if (child->adopted)
		stop_adopted(child);
	else
		lock_remove(child);
	close_timer(child);
}

void child_kill(struct child *child)
{
	if (child && child->running)
		uv_process_kill(&child->process, SIGKILL);
}
