/* SPDX-License-Identifier: MIT */
/* Any HTTP service: a whole answer to GET /, whatever it says short of a server error (a login page
 * is fine). */
#include "probe/engine.h"

static enum probe_reason judge(const struct client_result *result, struct probe_result *into)
{
	(void)into;
	return result->status < 500 ? PROBE_OK : PROBE_STATUS;
}

static const struct probe_ask asks[] = {{.target = "/", .judge = judge}};

const struct probe_engine probe_engine_http = {asks, 1};
