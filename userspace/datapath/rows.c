/* SPDX-License-Identifier: MIT */
#include "datapath/rows.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct entry { /* of mg_services, as found */
	struct mg_service_key key;
	struct mg_row row;
	bool wanted;
};

struct rows {
	struct kern *kern;
	struct entry *entries; /* sorted by key */
	size_t n_entries, cap_entries;
	uint32_t *numbers; /* keys of mg_rows, as found */
	size_t n_numbers, cap_numbers;
	uint32_t *used; /* of them and of new ones: named by a wanted row */
	size_t n_used;
	uint32_t last; /* highest number ever seen here */
	bool failed;   /* no memory while reading */
};

static int compare_entries(const void *a, const void *b)
{
	const struct entry *left = a, *right = b;

	return memcmp(&left->key, &right->key, sizeof(left->key));
}

/* Room for one more; NULL: no memory. */
static void *grow(void *list, size_t n, size_t *cap, size_t size)
{
	void *grown;

	if (n < *cap)
		return list;
	grown = reallocarray(list, *cap + 256, size);
	if (grown)
		*cap += 256;
	return grown;
}

static bool note_entry(const void *key, const void *value, void *arg)
{
	struct rows *rows = arg;
	struct entry *list =
		grow(rows->entries, rows->n_entries, &rows->cap_entries, sizeof(*list));
	struct entry *entry;

	rows->failed = !list;
	if (!list)
		return false;
	rows->entries = list;
	entry = &list[rows->n_entries++];
	memcpy(&entry->key, key, sizeof(entry->key));
	memcpy(&entry->row, value, sizeof(entry->row));
	entry->wanted = false;
	return true;
}

static bool note_number(const void *key, const void *value, void *arg)
{
	struct rows *rows = arg;
	uint32_t *list = grow(rows->numbers, rows->n_numbers, &rows->cap_numbers, sizeof(*list));

	(void)value;
	rows->failed = !list;
	if (!list)
		return false;
	rows->numbers = list;
	memcpy(&list[rows->n_numbers], key, sizeof(*list));
	if (list[rows->n_numbers] > rows->last)
		rows->last = list[rows->n_numbers];
	rows->n_numbers++;
	return true;
}

static int read_rows(struct rows *rows)
{
	int err = kern_each(rows->kern, KERN_SERVICES, note_entry, rows);

	if (!err)
		err = kern_each(rows->kern, KERN_ROWS, note_number, rows);
	if (rows->failed)
		err = -ENOMEM;
	if (!err && rows->n_entries)
		qsort(rows->entries, rows->n_entries, sizeof(*rows->entries), compare_entries);
	return err;
}

static struct entry *find_entry(const struct rows *rows, const struct mg_service_key *key)
{
	struct entry wanted = {.key = *key};

	if (!rows->n_entries)
		return NULL;
	return bsearch(&wanted, rows->entries, rows->n_entries, sizeof(wanted), compare_entries);
}

static void key_of(struct mg_service_key *key, const struct addr *address, uint16_t port)
{
	memset(key, 0, sizeof(*key));
	memcpy(key->addr, address->bytes, sizeof(key->addr));
	key->port_be = htons(port);
}

/* The number under which exactly this list is, or is now: in row->more. */
static int put_long(struct rows *rows, const struct entry *before, const uint16_t *list,
		    struct mg_row *row)
{
	struct mg_long_row want = {{0}}, have;
	int err = -ENOENT;

	memcpy(want.node, list, row->count * sizeof(*list));
	if (before && before->row.more)
		err = kern_get(rows->kern, KERN_ROWS, &before->row.more, &have);
	if (!err && memcmp(&have, &want, sizeof(want)) == 0) {
		row->more = before->row.more;
	} else {
		row->more = ++rows->last;
		err = kern_put(rows->kern, KERN_ROWS, &row->more, &want);
		if (err)
			return err;
	}
	rows->used[rows->n_used++] = row->more;
	return 0;
}

static int put_row(struct rows *rows, const struct mg_service_key *key, const struct mg_row *row)
{
	struct entry *entry = find_entry(rows, key);

	if (entry) {
		entry->wanted = true;
		if (memcmp(&entry->row, row, sizeof(*row)) == 0)
			return 0;
	}
	return kern_put(rows->kern, KERN_SERVICES, key, row);
}

/* What one address family of the gateway's listeners is written from: a segment keeps its family
 * through NAT. */
struct family {
	bool v4;
	uint16_t *slot_of; /* 0 for the endpoints of the other family: the fallback listener reaches
			      those */
	struct addr *addresses;
	size_t n_addresses;
};

static int family_init(struct family *family, bool v4, const struct plan *plan,
		       const uint16_t *slot_of, const struct addr *addresses, size_t n_addresses)
{
	family->v4 = v4;
	family->slot_of = calloc(plan->n_endpoints + 1, sizeof(*family->slot_of));
	family->addresses = calloc(n_addresses + 1, sizeof(*family->addresses));
	if (!family->slot_of || !family->addresses)
		return -ENOMEM;
	for (size_t i = 0; i < plan->n_endpoints; i++)
		if (addr_is_v4(&plan->endpoints[i].addr) == v4)
			family->slot_of[i] = slot_of[i];
	for (size_t i = 0; i < n_addresses; i++)
		if (addr_is_v4(&addresses[i]) == v4)
			family->addresses[family->n_addresses++] = addresses[i];
	return 0;
}

static void family_fini(struct family *family)
{
	free(family->slot_of);
	free(family->addresses);
}

static int publish_row(struct rows *rows, const struct plan *plan, uint32_t index,
		       const struct family *family)
{
	const struct plan_row *from = &plan->rows[index];
	uint16_t list[MG_ROW_MAX] = {0};
	struct mg_service_key key;
	struct mg_row row;
	int err = 0;

	if (!family->n_addresses)
		return 0;
	memset(&row, 0, sizeof(row)); /* what is not used is zero: equal rows are equal bytes */
	plan_fill_row(plan, from, family->slot_of, &row, list);
	row.listener = index;
	row.more = 0;
	if (row.count > MG_ROW_INLINE) {
		memset(row.node, 0, sizeof(row.node));
		key_of(&key, &family->addresses[0], from->port);
		err = put_long(rows, find_entry(rows, &key), list, &row);
	}
	for (size_t i = 0; !err && i < family->n_addresses; i++) {
		key_of(&key, &family->addresses[i], from->port);
		err = put_row(rows, &key, &row);
	}
	return err;
}

static int publish_family(struct rows *rows, const struct plan *plan, const struct family *family,
			  struct datapath_error *error)
{
	int err = 0;

	for (size_t i = 0; !err && i < plan->n_rows; i++) {
		err = publish_row(rows, plan, (uint32_t)i, family);
		if (err)
			kern_fail(error, 0,
				  "cannot write the row of %s/%s (%zu listeners on %zu addresses): "
				  "%s",
				  plan->rows[i].persona, plan->rows[i].service, plan->n_rows,
				  family->n_addresses, strerror(-err));
	}
	return err;
}

/* Deletes what no listener wants: first the rows, then the lists that they named. */
static int drop_rest(struct rows *rows)
{
	int err = 0;

	for (size_t i = 0; !err && i < rows->n_entries; i++)
		if (!rows->entries[i].wanted)
			err = kern_delete(rows->kern, KERN_SERVICES, &rows->entries[i].key);
	for (size_t i = 0; !err && i < rows->n_numbers; i++) {
		bool used = false;

		for (size_t j = 0; j < rows->n_used; j++)
			used = used || rows->used[j] == rows->numbers[i];
		if (!used)
			err = kern_delete(rows->kern, KERN_ROWS, &rows->numbers[i]);
	}
	return err;
}

int rows_publish(struct kern *kern, const struct plan *plan, const uint16_t *slot_of,
		 const struct addr *addresses, size_t n_addresses, struct datapath_error *error)
{
	struct rows rows = {.kern = kern};
	struct family v4 = {0}, v6 = {0};
	int err;

	rows.used = calloc(2 * plan->n_rows + 1, sizeof(*rows.used));
	err = rows.used ? read_rows(&rows) : -ENOMEM;
	if (!err)
		err = family_init(&v4, true, plan, slot_of, addresses, n_addresses);
	if (!err)
		err = family_init(&v6, false, plan, slot_of, addresses, n_addresses);
	if (err) {
		kern_fail(error, 0, "cannot read the rows of the datapath: %s", strerror(-err));
		goto out;
	}
	err = publish_family(&rows, plan, &v4, error);
	if (!err)
		err = publish_family(&rows, plan, &v6, error);
	if (err)
		goto out;
	err = drop_rest(&rows);
	if (err)
		kern_fail(error, 0, "cannot delete an old row of the datapath: %s", strerror(-err));
out:
	family_fini(&v4);
	family_fini(&v6);
	free(rows.entries);
	free(rows.numbers);
	free(rows.used);
	return err;
}
