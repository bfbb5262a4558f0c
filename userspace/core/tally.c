/* SPDX-License-Identifier: MIT */
#include "core/tally.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 512

struct tally_row {
	struct tally_row *next;
	uint64_t n;
	int code;
	const char *node; /* behind the model, in `text` */
	char text[];
};

static const uint64_t bounds_us[TALLY_BUCKETS] = {50,	  100,	   250,	     500,     1000,
						  2500,	  5000,	   10000,    50000,   100000,
						  500000, 1000000, 10000000, 60000000};
static const char *const bounds_text[TALLY_BUCKETS] = {
	"0.00005", "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005",
	"0.01",	   "0.05",   "0.1",	"0.5",	  "1",	   "10",     "60"};

static const char *const refusal_labels[TALLY_REFUSAL_COUNT] = {
#define X(name, label) label,
	TALLY_REFUSALS(X)
#undef X
};

void tally_fini(struct tally *tally)
{
	for (size_t i = 0; tally->rows && i < SLOTS; i++) {
		while (tally->rows[i]) {
			struct tally_row *row = tally->rows[i];

			tally->rows[i] = row->next;
			free(row);
		}
	}
	free(tally->rows);
	tally->rows = NULL;
	tally->n_rows = 0;
}

void tally_refuse(struct tally *tally, enum tally_refusal why)
{
	tally->refusals[why]++;
}

static size_t slot_of(const char *model, const char *node, int code)
{
	uint32_t hash = 0x811c9dc5u ^ (uint32_t)code;

	for (; *model; model++)
		hash = (hash ^ (unsigned char)*model) * 0x01000193u;
	for (; *node; node++)
		hash = (hash ^ (unsigned char)*node) * 0x01000193u;
	return (hash ^ hash >> 16) % SLOTS;
}

static struct tally_row *row_new(const char *model, const char *node, int code)
{
	size_t model_size = strlen(model) + 1, node_size = strlen(node) + 1;
	struct tally_row *row = calloc(1, sizeof(*row) + model_size + node_size);

	if (!row)
		return NULL;
	memcpy(row->text, model, model_size);
	memcpy(row->text + model_size, node, node_size);
	row->node = row->text + model_size;
	row->code = code;
	return row;
}

static struct tally_row *row_find(const struct tally *tally, const char *model, const char *node,
				  int code)
{
	struct tally_row *row = tally->rows ? tally->rows[slot_of(model, node, code)] : NULL;

	while (row &&
	       (row->code != code || strcmp(row->text, model) != 0 || strcmp(row->node, node) != 0))
		row = row->next;
	return row;
}

/* However many there are. */
static void row_put(struct tally *tally, const char *model, const char *node, int code, uint64_t n)
{
	size_t slot = slot_of(model, node, code);
	struct tally_row *row = row_find(tally, model, node, code);

	if (!tally->rows)
		tally->rows = calloc(SLOTS, sizeof(struct tally_row *));
	if (!tally->rows)
		return;
	if (!row) {
		row = row_new(model, node, code);
		if (!row)
			return;
		row->next = tally->rows[slot];
		tally->rows[slot] = row;
		tally->n_rows++;
	}
	row->n += n;
}

/* There are less than 1024 codes. */
_Static_assert(TALLY_ROWS_ALL >= TALLY_ROWS + 2 * 1024, "rows of others fit");

static void row_add(struct tally *tally, const char *model, const char *node, int code, uint64_t n)
{
	if (tally->n_rows >= TALLY_ROWS && !row_find(tally, model, node, code)) {
		model = "other";
		if (tally->n_rows >= TALLY_ROWS + 1024 && !row_find(tally, model, node, code))
			node = "other";
	}
	row_put(tally, model, node, code, n);
}

void tally_request(struct tally *tally, const char *model, const char *node, int code)
{
	row_add(tally, model, node, code, 1);
}

void tally_note(struct tally_histogram *histogram, uint64_t us)
{
	size_t i = 0;

	while (i < TALLY_BUCKETS && us > bounds_us[i])
		i++;
	histogram->buckets[i]++;
	histogram->count++;
	histogram->sum_us += us;
}

uint64_t tally_requests(const struct tally *tally)
{
	uint64_t sum = 0;

	for (size_t i = 0; tally->rows && i < SLOTS; i++) {
		for (const struct tally_row *row = tally->rows[i]; row; row = row->next)
			sum += row->n;
	}
	return sum;
}

static void histogram_add(struct tally_histogram *to, const struct tally_histogram *from)
{
	for (size_t i = 0; i <= TALLY_BUCKETS; i++)
		to->buckets[i] += from->buckets[i];
	to->count += from->count;
	to->sum_us += from->sum_us;
}

void tally_add(struct tally *to, const struct tally *from)
{
	for (size_t i = 0; i < TALLY_REFUSAL_COUNT; i++)
		to->refusals[i] += from->refusals[i];
	to->retries += from->retries;
	to->queued += from->queued;
	histogram_add(&to->first_byte, &from->first_byte);
	histogram_add(&to->overhead, &from->overhead);
	for (size_t i = 0; from->rows && i < SLOTS; i++) {
		for (const struct tally_row *row = from->rows[i]; row; row = row->next)
			row_add(to, row->text, row->node, row->code, row->n);
	}
}

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void label(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			buf_puts(out, "\\");
		if (*value == '\n')
			buf_puts(out, "\\n");
		else
			buf_add(out, value, 1);
	}
	buf_puts(out, "\"");
}

static void write_histogram(const struct tally_histogram *histogram, const char *name,
			    const char *help, struct buf *out)
{
	uint64_t sum = 0;

	family(out, name, "histogram", help);
	for (size_t i = 0; i < TALLY_BUCKETS; i++) {
		sum += histogram->buckets[i];
		buf_printf(out, "%s_bucket{le=\"%s\"} %" PRIu64 "\n", name, bounds_text[i], sum);
	}
	buf_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.6f\n%s_count %" PRIu64 "\n",
		   name, histogram->count, name, (double)histogram->sum_us / 1e6, name,
		   histogram->count);
}

static void write_requests(const struct tally *tally, struct buf *out)
{
	family(out, "megalith_http_requests_total", "counter",
	       "Requests answered; node is empty when the router itself answered.");
	for (size_t i = 0; tally->rows && i < SLOTS; i++) {
		for (const struct tally_row *row = tally->rows[i]; row; row = row->next) {
			buf_puts(out, "megalith_http_requests_total{");
			label(out, "model", row->text);
			buf_puts(out, ",");
			label(out, "node", row->node);
			buf_printf(out, ",code=\"%d\"} %" PRIu64 "\n", row->code, row->n);
		}
	}
}

void tally_write(const struct tally *tally, struct buf *out)
{
	write_requests(tally, out);
	write_histogram(&tally->first_byte, "megalith_http_first_byte_seconds",
			"From the whole request to the first byte of the answer that is sent on.",
			out);
	write_histogram(
		&tally->overhead, "megalith_http_overhead_seconds",
		"From the whole request to the moment the first node is asked: the router's own.",
		out);
	family(out, "megalith_http_queue_length", "gauge", "Requests that wait for room.");
	buf_printf(out, "megalith_http_queue_length %" PRIu64 "\n", tally->queued);
	family(out, "megalith_http_retries_total", "counter",
	       "Attempts at another node after one that failed.");
	buf_printf(out, "megalith_http_retries_total %" PRIu64 "\n", tally->retries);
	family(out, "megalith_http_closed_total", "counter",
	       "Clients that were closed, cut off or left before their answer was complete.");
	for (size_t i = 0; i < TALLY_REFUSAL_COUNT; i++)
		buf_printf(out, "megalith_http_closed_total{reason=\"%s\"} %" PRIu64 "\n",
			   refusal_labels[i], tally->refusals[i]);
}

/* ---- the report ---- */

static void write_numbers(struct json_writer *w, const char *name, const uint64_t *numbers,
			  size_t n)
{
	json_name(w, name);
	json_begin(w, '[');
	for (size_t i = 0; i < n; i++)
		json_put_int(w, (int64_t)numbers[i]);
	json_end(w, ']');
}

static void write_histogram_json(struct json_writer *w, const char *name,
				 const struct tally_histogram *histogram)
{
	json_name(w, name);
	json_begin(w, '{');
	json_pair_int(w, "sum_us", (int64_t)histogram->sum_us);
	write_numbers(w, "buckets", histogram->buckets, TALLY_BUCKETS + 1);
	json_end(w, '}');
}

static void write_row_json(struct json_writer *w, const struct tally_row *row)
{
	json_begin(w, '[');
	json_put_string(w, row->text);
	json_put_string(w, row->node);
	json_put_int(w, row->code);
	json_put_int(w, (int64_t)row->n);
	json_end(w, ']');
}

void tally_write_json(const struct tally *tally, struct json_writer *w)
{
	json_begin(w, '{');
	json_pair_int(w, "queued", (int64_t)tally->queued);
	json_pair_int(w, "retries", (int64_t)tally->retries);
	write_numbers(w, "closed", tally->refusals, TALLY_REFUSAL_COUNT);
	write_histogram_json(w, "first_byte", &tally->first_byte);
	write_histogram_json(w, "overhead", &tally->overhead);
	json_name(w, "requests");
	json_begin(w, '[');
	for (size_t i = 0; tally->rows && i < SLOTS; i++) {
		for (const struct tally_row *row = tally->rows[i]; row; row = row->next)
			write_row_json(w, row);
	}
	json_end(w, ']');
	json_end(w, '}');
}

static bool read_number(const struct json *value, uint64_t *number)
{
	int64_t found;

	if (!value || !json_integer(value, &found) || found < 0)
		return false;
	*number = (uint64_t)found;
	return true;
}

static bool read_numbers(const struct json *array, uint64_t *numbers, size_t n)
{
	const struct json *item =
		array && json_type(array) == JSON_ARRAY ? json_first(array) : NULL;

	for (size_t i = 0; i < n; i++) {
		if (!read_number(item, &numbers[i]))
			return false;
		item = json_next(item);
	}
	return !item;
}

static bool read_histogram(const struct json *object, struct tally_histogram *histogram)
{
	if (!read_number(json_get(object, "sum_us"), &histogram->sum_us) ||
	    !read_numbers(json_get(object, "buckets"), histogram->buckets, TALLY_BUCKETS + 1))
		return false;
	for (size_t i = 0; i <= TALLY_BUCKETS; i++)
		histogram->count += histogram->buckets[i];
	return true;
}

/* A label of the text format: one line. */
static bool is_label(const char *text)
{
	return text && strlen(text) < 256 && !strpbrk(text, "\n\r");
}

static bool read_row(struct tally *tally, const struct json *row)
{
	const struct json *item = json_type(row) == JSON_ARRAY ? json_first(row) : NULL;
	const char *model = item ? json_string(item) : NULL, *node;
	uint64_t code = 0, n = 0;

	item = item ? json_next(item) : NULL;
	node = item ? json_string(item) : NULL;
	item = item ? json_next(item) : NULL;
	if (!is_label(model) || !is_label(node) || !read_number(item, &code) || code > 999)
		return false;
	item = json_next(item);
	if (!read_number(item, &n) || json_next(item))
		return false;
	/* Not row_add(): who is "other" is settled already, and must not change with the order. */
	row_put(tally, model, node, (int)code, n);
	return true;
}

static bool read_all(struct tally *tally, const struct json *document)
{
	const struct json *rows = json_get(document, "requests");

	if (!rows || json_type(rows) != JSON_ARRAY || json_count(rows) > TALLY_ROWS_ALL ||
	    !read_number(json_get(document, "queued"), &tally->queued) ||
	    !read_number(json_get(document, "retries"), &tally->retries) ||
	    !read_numbers(json_get(document, "closed"), tally->refusals, TALLY_REFUSAL_COUNT) ||
	    !read_histogram(json_get(document, "first_byte"), &tally->first_byte) ||
	    !read_histogram(json_get(document, "overhead"), &tally->overhead))
		return false;
	for (const struct json *row = json_first(rows); row; row = json_next(row)) {
		if (!read_row(tally, row))
			return false;
	}
	return true;
}

int tally_read(struct tally *tally, const struct json *document)
{
	memset(tally, 0, sizeof(*tally));
	if (read_all(tally, document))
		return 0;
	tally_fini(tally);
	memset(tally, 0, sizeof(*tally));
	return -EBADMSG;
}
