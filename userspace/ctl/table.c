/* SPDX-License-Identifier: MIT */
#include "ctl/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define TABLE_GAP 2 /* blanks between columns */

/* ---- width ---- */

/* One character of `text` → *code; its length in bytes. A broken sequence is one byte, U+FFFD. */
static size_t utf8_next(const char *text, uint32_t *code)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t len = at[0] < 0x80 ? 1 : at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;

	*code = 0xfffd;
	if (len == 1)
		*code = at[0];
	if (len == 1 || at[0] < 0xc2 || at[0] > 0xf4)
		return 1;
	for (size_t i = 1; i < len; i++) {
		if ((at[i] & 0xc0) != 0x80) /* also at the NUL */
			return 1;
	}
	*code = at[0] & (0xffu >> (len + 1));
	for (size_t i = 1; i < len; i++)
		*code = *code << 6 | (at[i] & 0x3fu);
	return len;
}

struct range {
	uint32_t first, last;
};

static bool in_ranges(uint32_t code, const struct range *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (code >= ranges[i].first && code <= ranges[i].last)
			return true;
	}
	return false;
}

/* The blocks of UAX #11 that names meet: enough for a table, not a typesetter. */
static size_t code_width(uint32_t code)
{
	static const struct range none[] = {
		{0x0300, 0x036f}, {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x200b, 0x200f},
		{0x20d0, 0x20ff}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xe0100, 0xe01ef},
	};
	static const struct range wide[] = {
		{0x1100, 0x115f},   {0x2e80, 0x303e},	{0x3041, 0xa4cf},   {0xac00, 0xd7a3},
		{0xf900, 0xfaff},   {0xfe30, 0xfe6f},	{0xff00, 0xff60},   {0xffe0, 0xffe6},
		{0x1f300, 0x1f64f}, {0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd},
	};

	if (in_ranges(code, none, sizeof(none) / sizeof(none[0])))
		return 0;
	return in_ranges(code, wide, sizeof(wide) / sizeof(wide[0])) ? 2 : 1;
}

size_t table_width(const char *text)
{
	size_t width = 0;
	uint32_t code;

	while (*text) {
		text += utf8_next(text, &code);
		width += code_width(code);
	}
	return width;
}

/* Nothing in a cell may move the cursor or change the terminal: C0, DEL and C1 become '?'. Returns
 * `text`. */
static char *make_harmless(char *text)
{
	char *from = text, *to = text;
	uint32_t code;

	while (*from) {
		size_t len = utf8_next(from, &code);
		bool control = code < 0x20 || (code >= 0x7f && code < 0xa0) ||
			       (code == 0xfffd && len == 1);

		if (control)
			*to++ = '?';
		else
			memmove(to, from, len);
		to += control ? 0 : len;
		from += len;
	}
	*to = '\0';
	return text;
}

/* ---- the table ---- */

static void table_put(struct table *table, enum table_style style, char *text)
{
	if (table->n == table->cap) {
		size_t cap = table->cap ? 2 * table->cap : 64;
		struct table_cell *cells = realloc(table->cells, cap * sizeof(*cells));

		if (!cells)
			goto failed;
		table->cells = cells;
		table->cap = cap;
	}
	if (!text)
		goto failed;
	table->cells[table->n++] = (struct table_cell){.text = make_harmless(text), .style = style};
	return;
failed:
	table->failed = true;
	free(text);
}

void table_init(struct table *table, const char *const *titles, size_t columns)
{
	memset(table, 0, sizeof(*table));
	table->columns = columns < TABLE_COLUMNS_MAX ? columns : TABLE_COLUMNS_MAX;
	for (size_t i = 0; i < table->columns; i++) {
		bool right = titles[i][0] == '>';

		if (right)
			table->right |= 1u << i;
		table_put(table, TABLE_BOLD, strdup(titles[i] + right));
	}
}

void table_fini(struct table *table)
{
	for (size_t i = 0; i < table->n; i++)
		free(table->cells[i].text);
	free(table->cells);
	memset(table, 0, sizeof(*table));
}

void table_add(struct table *table, enum table_style style, const char *format, ...)
{
	struct buf text = {0};
	va_list args;

	buf_puts(&text, "");
	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	table_put(table, style, text.len ? buf_steal(&text) : strdup(""));
	buf_fini(&text);
}

void table_end_row(struct table *table)
{
	while (table->n % table->columns && !table->failed)
		table_put(table, TABLE_PLAIN, strdup(""));
}

const char *table_style_on(enum table_style style, bool colour)
{
	static const char *const on[] = {
		[TABLE_PLAIN] = "",	   [TABLE_GOOD] = "\033[32m", [TABLE_BAD] = "\033[31m",
		[TABLE_WARN] = "\033[33m", [TABLE_DIM] = "\033[2m",   [TABLE_BOLD] = "\033[1m",
	};

	return colour ? on[style] : "";
}

const char *table_style_off(enum table_style style, bool colour)
{
	return colour && style != TABLE_PLAIN ? "\033[0m" : "";
}

static void print_blanks(FILE *out, size_t count)
{
	fprintf(out, "%*s", (int)count, "");
}

/* Nothing is printed behind the last text of a line. */
static void print_row(const struct table *table, const struct table_cell *row, const size_t *widths,
		      FILE *out, bool colour)
{
	size_t blanks = 0;

	for (size_t i = 0; i < table->columns; i++) {
		size_t room = widths[i] - table_width(row[i].text);
		bool right = table->right >> i & 1;

		if (row[i].text[0]) {
			print_blanks(out, blanks + (right ? room : 0));
			fprintf(out, "%s%s%s", table_style_on(row[i].style, colour), row[i].text,
				table_style_off(row[i].style, colour));
			blanks = right ? 0 : room;
		} else {
			blanks += room;
		}
		blanks += TABLE_GAP;
	}
	fputc('\n', out);
}

int table_print(const struct table *table, FILE *out, bool colour)
{
	size_t widths[TABLE_COLUMNS_MAX] = {0};

	if (table->failed)
		return -ENOMEM;
	for (size_t i = 0; i < table->n; i++) {
		size_t width = table_width(table->cells[i].text);

		if (width > widths[i % table->columns])
			widths[i % table->columns] = width;
	}
	for (size_t i = 0; i + table->columns <= table->n; i += table->columns)
		print_row(table, &table->cells[i], widths, out, colour);
	return 0;
}
