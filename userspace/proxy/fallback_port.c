/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "proxy/fallback_impl.h"

static const struct addr port_any6; /* [::], dual-stack: serves IPv4, too */
static const struct addr port_any4 = {.bytes = {[10] = 0xff, [11] = 0xff}};

static void port_on_accept(void *arg, int fd)
{
	struct port *port = arg;

	session_accept(port->fallback, port->number, fd);
}

/* On a host without IPv6 the wildcard is 0.0.0.0. */
static int port_listen(struct port *port)
{
	uint16_t number = port->number;
	uv_loop_t *loop = port->fallback->loop;
	int error =
		listener_tcp(&port->listener, loop, &port_any6, &number, 0, port_on_accept, port);

	if (error != -EAFNOSUPPORT && error != -EADDRNOTAVAIL && error != -EPROTONOSUPPORT)
		return error;
	return listener_tcp(&port->listener, loop, &port_any4, &number, 0, port_on_accept, port);
}

/* Each failure is told once, until it is another one. */
static void port_open(struct port *port)
{
	int error = port_listen(port);

	if (error < 0) {
		port->listener = NULL;
		if (error != port->error)
			log_error("port %u: cannot listen: %s; trying again each second",
				  port->number, strerror(-error));
		port->error = error;
		return;
	}
	if (port->error)
		log_info("port %u: listening now", port->number);
	port->error = 0;
	port->fallback->counts.listeners++;
	if (port->fallback->paused)
		listener_pause(port->listener);
}

static void port_close(struct port *port)
{
	struct fallback *fallback = port->fallback;

	if (port->listener)
		fallback->counts.listeners--;
	listener_free(port->listener);
	TAILQ_REMOVE(&fallback->ports, port, all);
	free(port);
}

static bool port_known(const struct fallback *fallback, uint16_t number)
{
	const struct port *port;

	TAILQ_FOREACH(port, &fallback->ports, all)
	{
		if (port->number == number)
			return true;
	}
	return false;
}

static void port_add(struct fallback *fallback, uint16_t number)
{
	struct port *port = calloc(1, sizeof(*port));

	if (!port) {
		log_error("port %u: out of memory", number);
		return;
	}
	port->fallback = fallback;
	port->number = number;
	TAILQ_INSERT_TAIL(&fallback->ports, port, all);
	port_open(port);
}

void port_follow_plan(struct fallback *fallback)
{
	const struct plan *plan = fallback->view->plan;
	struct port *port, *next;

	for (port = TAILQ_FIRST(&fallback->ports); port; port = next) {
		next = TAILQ_NEXT(port, all);
		if (!view_row(fallback->view, port->number))
			port_close(port);
	}
	for (size_t i = 0; i < plan->n_rows; i++) {
		if (!port_known(fallback, plan->rows[i].port))
			port_add(fallback, plan->rows[i].port);
	}
}

void port_retry(struct fallback *fallback)
{
	struct port *port;

	TAILQ_FOREACH(port, &fallback->ports, all)
	{
		if (!port->listener)
			port_open(port);
	}
}

void port_pause(struct fallback *fallback, bool pause)
{
	struct port *port;

	fallback->paused = pause;
	TAILQ_FOREACH(port, &fallback->ports, all)
	{
		if (!port->listener)
			continue;
		if (pause)
			listener_pause(port->listener);
		else
			listener_resume(port->listener);
	}
}

void port_close_all(struct fallback *fallback)
{
	while (!TAILQ_EMPTY(&fallback->ports))
		port_close(TAILQ_FIRST(&fallback->ports));
}
