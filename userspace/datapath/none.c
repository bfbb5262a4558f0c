/* SPDX-License-Identifier: MIT */
/*
 * The datapath of systems that have none: everything goes through megalith-proxy. Opening gives an
 * inert object, so that the controller needs no second way of working; only asking for XDP or TC by
 * name fails.
 */
#include "core/datapath.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct datapath {
	char nothing;
};

static int fail(struct datapath_error *error)
{
	snprintf(error->text, sizeof(error->text),
		 "this system has no kernel datapath (that is Linux only): set \"datapath\": "
		 "\"none\" or "
		 "\"auto\", and megalith-proxy carries every connection");
	return -EOPNOTSUPP;
}

struct datapath *datapath_open(const struct datapath_options *options, struct datapath_error *error)
{
	struct datapath *dp;

	if (options->mode == DATAPATH_XDP || options->mode == DATAPATH_TC) {
		fail(error);
		return NULL;
	}
	dp = calloc(1, sizeof(*dp));
	if (!dp)
		snprintf(error->text, sizeof(error->text), "no memory");
	return dp;
}

void datapath_close(struct datapath *dp)
{
	free(dp);
}

int datapath_detach(const char *bpf_dir, struct datapath_error *error)
{
	(void)bpf_dir;
	return fail(error);
}

int datapath_drop_privileges(bool keep_child_rights, struct datapath_error *error)
{
	(void)keep_child_rights;
	(void)error;
	return 0; /* none were needed */
}

int datapath_publish(struct datapath *dp, const struct plan *plan, struct datapath_error *error)
{
	(void)dp;
	(void)plan;
	(void)error;
	return 0;
}

int datapath_sweep(struct datapath *dp)
{
	(void)dp;
	return 0;
}

int datapath_events_fd(const struct datapath *dp)
{
	(void)dp;
	return -1;
}

bool datapath_events(struct datapath *dp)
{
	(void)dp;
	return false;
}

void datapath_set_relayed(struct datapath *dp, size_t endpoint, uint32_t busy)
{
	(void)dp;
	(void)endpoint;
	(void)busy;
}

void datapath_counts(const struct datapath *dp, size_t endpoint, struct datapath_counts *counts)
{
	(void)dp;
	(void)endpoint;
	memset(counts, 0, sizeof(*counts));
}

uint64_t datapath_counter(const struct datapath *dp, enum mg_reason reason)
{
	(void)dp;
	(void)reason;
	return 0;
}

size_t datapath_interfaces(const struct datapath *dp, const struct datapath_interface **list)
{
	(void)dp;
	*list = NULL;
	return 0;
}

enum datapath_mode datapath_mode_of(const struct datapath *dp)
{
	(void)dp;
	return DATAPATH_NONE;
}

bool datapath_adopted(const struct datapath *dp)
{
	(void)dp;
	return false;
}

int datapath_flows(const struct datapath *dp,
		   bool (*visit)(const struct datapath_flow *flow, void *arg), void *arg)
{
	(void)dp;
	(void)visit;
	(void)arg;
	return 0;
}

size_t datapath_addresses(const struct datapath *dp, const struct addr **list)
{
	(void)dp;
	*list = NULL;
	return 0;
}
