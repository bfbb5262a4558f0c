/* SPDX-License-Identifier: MIT */
/*
 * "Which node would be taken now, and why": finds the listener or the model that is asked for, lets
 * core/explain.h judge, writes the document of contract §4.
 */
#ifndef CONTROL_EXPLAIN_H
#define CONTROL_EXPLAIN_H

#include "base/buf.h"
#include "control/state.h"

/*
 * `target`: PERSONA (its first service), PERSONA/SERVICE, an alias, PERSONA/MODEL, or a model that
 * a node has. `client`: spreads ties, or NULL. 0, -ENOMEM, or -ENOENT with one line in `error` that
 * names what there is.
 */
int explain_write(const struct state *state, const char *target, const struct addr *client,
		  struct buf *out, struct buf *error);

#endif
