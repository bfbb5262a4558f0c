/* SPDX-License-Identifier: MIT */
/*
 * The controller's part of /metrics: Prometheus text format 0.0.4, names of contract §7. What only
 * the proxy knows (megalith_http_*) is not here.
 */
#ifndef CONTROL_METRICS_H
#define CONTROL_METRICS_H

#include "base/buf.h"
#include "control/state.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* 0 or -ENOMEM. */
int metrics_write(const struct state *state, struct buf *out);

#endif
