/* SPDX-License-Identifier: MIT */
/*
 * Aligned columns on a terminal. Cells are added row by row; widths are what the terminal shows of
 * UTF-8 text, not bytes. Control characters (a node may send any name) are shown as '?'. On lack of
 * memory the table stays incomplete, and table_print() says so.
 */
#ifndef CTL_TABLE_H
#define CTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum table_style { TABLE_PLAIN, TABLE_GOOD, TABLE_BAD, TABLE_WARN, TABLE_DIM, TABLE_BOLD };

struct table_cell {
	char *text;
	enum table_style style;
};

struct table {
	size_t columns;
	unsigned right; /* bit i: column i is aligned to the right */
	bool failed;
	struct table_cell *cells; /* row by row */
	size_t n, cap;
};

#define TABLE_COLUMNS_MAX 16

/* `titles`: one for each column; one that begins with '>' is aligned to the right. */
void table_init(struct table *table, const char *const *titles, size_t columns);
void table_fini(struct table *table);
/* The next cell. A row that is not full can be ended with table_end_row(). */
void table_add(struct table *table, enum table_style style, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void table_end_row(struct table *table);
/* 0, or -ENOMEM. */
int table_print(const struct table *table, FILE *out, bool colour);

/* Columns that a terminal needs for UTF-8 text; a broken sequence counts one for each byte. */
size_t table_width(const char *text);
/* Escape sequences of a style, "" for TABLE_PLAIN or without colour. */
const char *table_style_on(enum table_style style, bool colour);
const char *table_style_off(enum table_style style, bool colour);

#endif
