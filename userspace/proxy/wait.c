/* SPDX-License-Identifier: MIT */
#include "proxy/wait.h"

#include <stddef.h>

void wait_line_init(struct wait_line *line, uint64_t ms, void (*on_late)(struct waiter *wait))
{
	TAILQ_INIT(&line->list);
	line->ms = ms;
	line->on_late = on_late;
}

void wait_stop(struct waiter *wait)
{
	if (!wait->line)
		return;
	TAILQ_REMOVE(&wait->line->list, wait, entry);
	wait->line = NULL;
}

void wait_start(struct waiter *wait, struct wait_line *line, uint64_t now_ms)
{
	struct waiter *before;

	wait_stop(wait);
	wait->line = line;
	wait->due_ms = now_ms + line->ms;
	/* Last, nearly always; not when the line's time has just been made shorter. */
	before = TAILQ_LAST(&line->list, wait_list);
	while (before && before->due_ms > wait->due_ms)
		before = TAILQ_PREV(before, wait_list, entry);
	if (before)
		TAILQ_INSERT_AFTER(&line->list, before, wait, entry);
	else
		TAILQ_INSERT_HEAD(&line->list, wait, entry);
}

void wait_line_tick(struct wait_line *line, uint64_t now_ms)
{
	struct waiter *first;

	while ((first = TAILQ_FIRST(&line->list)) && first->due_ms <= now_ms) {
		wait_stop(first);
		line->on_late(first);
	}
}
