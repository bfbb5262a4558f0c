/* SPDX-License-Identifier: MIT */
/* What the node was asked, and what became of it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "simnode/sim_impl.h"

uint64_t sim_hash(const char *data, size_t len)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)data[i]) * 0x100000001b3u;
	return hash;
}

static void add_text(struct buf *buf, const char *text)
{
	buf_add(buf, text, strlen(text) + 1);
}

void sim_saw_request(struct simnode *node, const struct exchange *exchange)
{
	const struct http1_head *head = exchange_head(exchange);
	struct sim_seen *seen = &node->seen;
	const char *body;
	size_t len;

	buf_clear(&seen->text);
	add_text(&seen->text, head->method);
	add_text(&seen->text, head->target);
	for (size_t i = 0; i < head->n_fields; i++) {
		add_text(&seen->text, head->fields[i].name);
		add_text(&seen->text, head->fields[i].value);
	}
	body = exchange_body(exchange, &len);
	seen->body_bytes = len;
	seen->body_hash = sim_hash(body, len);
}

static struct sim_record *record_at(struct simnode *node, uint64_t serial)
{
	struct sim_record *record = &node->records[serial % SIM_RECORDS_MAX];

	return serial && record->serial == serial ? record : NULL;
}

static struct sim_record *record_of(struct simnode *node, const char *id)
{
	struct sim_record *record;

	for (uint64_t serial = node->last_record; serial; serial--) {
		record = record_at(node, serial);
		if (!record)
			break;
		if (!strncmp(record->id, id, sizeof(record->id) - 1))
			return record;
	}
	record = &node->records[++node->last_record % SIM_RECORDS_MAX];
	*record = (struct sim_record){.serial = node->last_record};
	snprintf(record->id, sizeof(record->id), "%s", id);
	return record;
}

static void count(struct sim_tally *tally, const struct sim_job *job, enum sim_event event)
{
	if (event == SIM_QUEUED) {
		tally->waiting++;
		return;
	}
	if (!job->running)
		tally->waiting--;
	if (event == SIM_BEGUN) {
		tally->begun++;
		if (++tally->active > tally->max_active)
			tally->max_active = tally->active;
		return;
	}
	if (job->running)
		tally->active--;
	tally->finished += event == SIM_FINISHED;
	tally->failed += event == SIM_FAILED;
	if (event != SIM_ABORTED)
		return;
	tally->aborted++;
	tally->aborted_at_us = uv_hrtime() / 1000;
	tally->aborted_in = job->sent ? "tokens" : job->running ? "prompt" : "waiting";
}

uint64_t sim_saw_inference(struct simnode *node, const struct exchange *exchange)
{
	const char *id = http1_field(exchange_head(exchange), "x-request-id");
	struct sim_record *record;

	node->tally.requests++;
	if (!id || !*id)
		return 0;
	record = record_of(node, id);
	record->tally.requests++;
	record->body_bytes = node->seen.body_bytes;
	record->body_hash = node->seen.body_hash;
	return record->serial;
}

void sim_count(struct sim_job *job, enum sim_event event)
{
	struct simnode *node = job->service->node;
	struct sim_record *record = record_at(node, job->record);

	count(&node->tally, job, event);
	if (record)
		count(&record->tally, job, event);
}

void sim_forget(struct simnode *node)
{
	struct sim_tally *tally = &node->tally;

	*tally = (struct sim_tally){.active = tally->active,
				    .max_active = tally->active,
				    .waiting = tally->waiting,
				    .begun = tally->active};
	tally->requests = tally->active + tally->waiting;
	memset(node->hits, 0, sizeof(node->hits));
	memset(node->records, 0, sizeof(node->records));
	node->connections = 0;
	buf_clear(&node->seen.text);
	node->seen.body_bytes = 0;
	node->seen.body_hash = 0;
}

static void put_hash(struct json_writer *w, uint64_t bytes, uint64_t hash)
{
	char text[20];

	snprintf(text, sizeof(text), "%016" PRIx64, hash);
	json_pair_int(w, "body_bytes", (int64_t)bytes);
	json_pair_string(w, "body_fnv1a64", text);
}

static void put_tally(const struct sim_tally *tally, struct json_writer *w)
{
	json_pair_int(w, "requests", (int64_t)tally->requests);
	json_pair_int(w, "begun", (int64_t)tally->begun);
	json_pair_int(w, "finished", (int64_t)tally->finished);
	json_pair_int(w, "failed", (int64_t)tally->failed);
	json_pair_int(w, "aborted", (int64_t)tally->aborted);
	json_pair_int(w, "active", tally->active);
	json_pair_int(w, "max_active", tally->max_active);
	json_pair_int(w, "waiting", tally->waiting);
	if (!tally->aborted)
		return;
	json_pair_int(w, "aborted_at_us", (int64_t)tally->aborted_at_us);
	json_pair_string(w, "aborted_in", tally->aborted_in);
}

static void put_last(const struct simnode *node, struct json_writer *w)
{
	const char *at = node->seen.text.data, *end;

	json_name(w, "last");
	if (!node->seen.text.len || buf_failed(&node->seen.text)) {
		json_put_null(w);
		return;
	}
	end = at + node->seen.text.len;
	json_begin(w, '{');
	json_pair_string(w, "method", at);
	at += strlen(at) + 1;
	json_pair_string(w, "target", at);
	at += strlen(at) + 1;
	json_name(w, "fields");
	json_begin(w, '[');
	for (; at < end; json_end(w, ']')) {
		json_begin(w, '[');
		for (unsigned i = 0; i < 2; i++, at += strlen(at) + 1)
			json_put_string(w, at);
	}
	json_end(w, ']');
	put_hash(w, node->seen.body_bytes, node->seen.body_hash);
	json_end(w, '}');
}

void sim_put_tallies(const struct simnode *node, struct json_writer *w)
{
	uint64_t first =
		node->last_record < SIM_RECORDS_MAX ? 1 : node->last_record - SIM_RECORDS_MAX + 1;

	json_pair_int(w, "now_us", (int64_t)(uv_hrtime() / 1000));
	put_tally(&node->tally, w);
	put_last(node, w);
	json_name(w, "ids");
	json_begin(w, '{');
	for (uint64_t serial = first; serial <= node->last_record; serial++) {
		const struct sim_record *record = &node->records[serial % SIM_RECORDS_MAX];

		if (record->serial != serial) /* forgotten */
			continue;
		json_name(w, record->id);
		json_begin(w, '{');
		put_tally(&record->tally, w);
		put_hash(w, record->body_bytes, record->body_hash);
		json_end(w, '}');
	}
	json_end(w, '}');
}
