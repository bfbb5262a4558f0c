/* SPDX-License-Identifier: MIT */
/*
 * The operator's weights and drains on disk: STATE_DIR/operator.json,
 *	{"version": 1, "nodes": {"NAME": {"weight": 50, "drain": true}}}
 * A file that cannot be understood is kept aside as operator.json.broken and the start goes on
 *without it: a node that serves although it was drained is better than a gateway that does not
 *start.
 */
#ifndef CONTROL_STORE_H
#define CONTROL_STORE_H

#include "base/buf.h"
#include "control/state.h"

/*
 * Reads the overrides into `state` (which has none). A missing file is no error. 0, or -errno and
 * one line in `report` for the log: -EBADMSG a broken file, set aside; anything else: it could not
 * be read.
 */
int store_load(const char *state_dir, struct state *state, struct buf *report);

/* Writes them; makes the folder if need be. 0 or -errno: the old file stays. */
int store_save(const char *state_dir, const struct state *state);

#endif
