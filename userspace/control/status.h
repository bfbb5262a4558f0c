/* SPDX-License-Identifier: MIT */
/*
 * The documents of the control API (docs/control-api.md; stable keys: contract §4), written from
 * the state. They change nothing.
 */
#ifndef CONTROL_STATUS_H
#define CONTROL_STATUS_H

#include "base/buf.h"
#include "control/state.h"

#define STATUS_FLOWS_MAX 10000 /* listed; the total counts all */

struct status_about { /* of the process, not of the state */
	const char *config;
	int64_t pid;
	uint64_t uptime_ms;
	size_t followers;
};

void status_write(const struct state *state, const struct status_about *about, struct buf *out);
void status_names_write(const struct state *state, struct buf *out);

/* `node`, `persona`: only those, NULL: all. 0 or -errno. */
int status_flows_write(const struct state *state, const char *node, const char *persona,
		       struct buf *out);

#endif
