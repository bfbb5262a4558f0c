/* SPDX-License-Identifier: MIT */
/*
 * Makes mg_services and mg_rows say what the plan says, touching only what differs. A row is
 * replaced whole; a long list is written under a new number before a row names it, and goes after
 * no row does: a SYN sees the old candidates or the new ones, never a mixture, also when the
 * controller is killed in between.
 */
#ifndef DATAPATH_ROWS_H
#define DATAPATH_ROWS_H

#include "datapath/kern.h"

/* A row for every listener of the plan on every address. 0 or -errno with *error. */
int rows_publish(struct kern *kern, const struct plan *plan, const uint16_t *slot_of,
		 const struct addr *addresses, size_t n_addresses, struct datapath_error *error);

#endif
