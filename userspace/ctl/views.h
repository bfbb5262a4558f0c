/* SPDX-License-Identifier: MIT */
/* Tables made of the status document, shown by more than one command. They return enum ctl_exit. */
#ifndef CTL_VIEWS_H
#define CTL_VIEWS_H

#include "base/json.h"
#include "ctl/ctl.h"
#include "ctl/table.h"

int view_personas(const struct ctl *ctl, const struct json *status);
/* `detail`: engine, port and models, too. */
int view_nodes(const struct ctl *ctl, const struct json *status, bool detail);
/* Prints and frees a table. */
int view_table(const struct ctl *ctl, struct table *table);

#endif
