/* SPDX-License-Identifier: MIT */
#include "proxy/tally.h"

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

static const uint64_t bounds_us[TALLY_BUCKETS] = {50,	  100,	  250,	   500,	    1000,    2500,    5000,
						  10000, 50000, 100000, 500000, 1000000, 10000000, 60000000};
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

void tally_request(struct tally *tally, const char *model, const char *node, int code)
{
	size_t slot = slot_of(model, node, code);
	struct tally_row *row;

	if (!tally->rows)
		tally->rows = calloc(SLOTS, sizeof(struct tally_row *));
	if (!tally->rows)
		return;
	for (row = tally->rows[slot]; row; row = row->next) {
		if (row->code == code && !strcmp(row->text, model) && !strcmp(row->node, node))
			break;
	}
	if (!row && tally->n_rows >= TALLY_ROWS && strcmp(model, "other") != 0) {
		tally_request(tally, "other", node, code);
		return;
	}
	if (!row) {
		row = row_new(model, node, code);
		if (!row)
			return;
		row->next = tally->rows[slot];
		tally->rows[slot] = row;
		tally->n_rows++;
	}
	row->n++;
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

void tally_write(const struct tally *tally, size_t queued, struct buf *out)
{
	write_requests(tally, out);
	write_histogram(&tally->first_byte, "megalith_http_first_byte_seconds",
			"From the whole request to the first byte of the answer that is sent on.", out);
	write_histogram(&tally->overhead, "megalith_http_overhead_seconds",
			"From the whole request to the moment the first node is asked: the router's own.",
			out);
	family(out, "megalith_http_queue_length", "gauge", "Requests that wait for room.");
	buf_printf(out, "megalith_http_queue_length %zu\n", queued);
	family(out, "megalith_http_retries_total", "counter",
	       "Attempts at another node after one that failed.");
	buf_printf(out, "megalith_http_retries_total %" PRIu64 "\n", tally->retries);
	family(out, "megalith_http_closed_total", "counter",
	       "Clients that were closed, cut off or left before their answer was complete.");
	for (size_t i = 0; i < TALLY_REFUSAL_COUNT; i++)
		buf_printf(out, "megalith_http_closed_total{reason=\"%s\"} %" PRIu64 "\n",
			   refusal_labels[i], tally->refusals[i]);
}
