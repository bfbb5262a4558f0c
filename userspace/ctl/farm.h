/* SPDX-License-Identifier: MIT */
/* Reading the status document (contract §4), and words for what is in it: what status, personas and
 * nodes share. */
#ifndef CTL_FARM_H
#define CTL_FARM_H

#include "base/buf.h"
#include "base/json.h"
#include "ctl/table.h"

#define FARM_TEXT_MAX 64

/* The node of that name in the document; NULL: none. */
const struct json *farm_node(const struct json *status, const char *name);
/* Connections on all services of a node. */
int64_t farm_connections(const struct json *node);
enum table_style farm_state_style(const char *state);
/* The sentence for a probe's reason word; the word itself if it is not known here. */
const char *farm_reason(const char *word);
/* "3/4", or "3" when there is no limit. Returns `text`. */
const char *farm_load(char text[FARM_TEXT_MAX], int64_t busy, int64_t capacity);
/* "3d 4h", "2m 10s". Returns `text`. */
const char *farm_duration(char text[FARM_TEXT_MAX], int64_t ms);
/* Members of a persona for one service: "a b(down)", or counts when there are many; and how they
 * are, all in all. */
enum table_style farm_members(const struct json *status, const struct json *persona,
			      const char *service, struct buf *text);
/* Names of a list of strings, with `between`. */
void farm_list(const struct json *names, const char *between, struct buf *text);

#endif
