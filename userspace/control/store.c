/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "control/files.h"
#include "control/store.h"

#define FILE_NAME "operator.json"
#define FILE_MAX  ((size_t)1 << 20)
#define VERSION	  1

static int path_make(char path[PATH_MAX], const char *state_dir, const char *suffix)
{
	int n = snprintf(path, PATH_MAX, "%s/" FILE_NAME "%s", state_dir, suffix);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static bool member_read(struct override *override, const struct json *member)
{
	int64_t weight;

	if (strcmp(json_key(member), "drain") == 0)
		return json_bool(member, &override->drain);
	if (strcmp(json_key(member), "weight") != 0 || !json_integer(member, &weight))
		return false;
	if (weight < 0 || weight > 1000)
		return false;
	override->weight = (int32_t)weight;
	return true;
}

static bool override_read(struct override *override, const struct json *node)
{
	const char *name = json_key(node);

	*override = (struct override){.weight = -1};
	if (json_type(node) != JSON_OBJECT || !*name || strlen(name) >= sizeof(override->node))
		return false;
	memcpy(override->node, name, strlen(name) + 1);
	for (const struct json *member = json_first(node); member; member = json_next(member))
		if (!member_read(override, member))
			return false;
	return true;
}

/* All or nothing: a file that is half understood would undo a drain in silence. */
static int overrides_read(struct state *state, const struct json *root)
{
	const struct json *nodes = json_get(root, "nodes");
	struct override *list;
	size_t n = 0;
	int64_t version;

	if (!json_get(root, "version") || !json_integer(json_get(root, "version"), &version) ||
	    version != VERSION)
		return -EBADMSG;
	if (!nodes || json_type(nodes) != JSON_OBJECT || json_count(nodes) > STATE_OVERRIDES_MAX)
		return -EBADMSG;
	list = calloc(json_count(nodes) + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (const struct json *node = json_first(nodes); node; node = json_next(node)) {
		if (!override_read(&list[n++], node)) {
			free(list);
			return -EBADMSG;
		}
	}
	free(state->overrides);
	state->overrides = list;
	state->n_overrides = n;
	return 0;
}

static int text_read(struct state *state, const struct buf *text)
{
	struct json_error error;
	struct json *root = json_parse(text->data ? text->data : "", text->len, 0, &error);
	int err = root ? overrides_read(state, root) : -EBADMSG;

	json_free(root);
	return err;
}

static int set_aside(const char *state_dir, const char *path, struct buf *report)
{
	char broken[PATH_MAX];
	int err = path_make(broken, state_dir, ".broken");

	if (!err && rename(path, broken) == -1)
		err = -errno;
	if (err)
		buf_printf(report, "%s is broken and was not read: weights and drains are lost",
			   path);
	else
		buf_printf(report, "%s is broken: weights and drains are lost, it is kept as %s",
			   path, broken);
	return -EBADMSG;
}

int store_load(const char *state_dir, struct state *state, struct buf *report)
{
	char path[PATH_MAX];
	struct buf text = {0};
	int err = path_make(path, state_dir, "");

	if (!err)
		err = file_read(path, FILE_MAX, &text);
	if (err == -ENOENT) {
		err = 0;
		goto out;
	}
	if (!err)
		err = text_read(state, &text);
	if (err == -EBADMSG || err == -EFBIG)
		err = set_aside(state_dir, path, report);
	else if (err)
		buf_printf(report, "%s: %s: weights and drains are lost", path, strerror(-err));
out:
	buf_fini(&text);
	return err;
}

static void overrides_write(const struct state *state, struct buf *out)
{
	struct json_writer w = {.out = out, .pretty = true};

	json_begin(&w, '{');
	json_pair_int(&w, "version", VERSION);
	json_name(&w, "nodes");
	json_begin(&w, '{');
	for (size_t i = 0; i < state->n_overrides; i++) {
		const struct override *override = &state->overrides[i];

		json_name(&w, override->node);
		json_begin(&w, '{');
		if (override->weight >= 0)
			json_pair_int(&w, "weight", override->weight);
		if (override->drain)
			json_pair_bool(&w, "drain", true);
		json_end(&w, '}');
	}
	json_end(&w, '}');
	json_end(&w, '}');
	buf_puts(out, "\n");
}

int store_save(const char *state_dir, const struct state *state)
{
	char path[PATH_MAX];
	struct buf text = {0};
	int err = path_make(path, state_dir, "");

	if (err)
		return err;
	if (mkdir(state_dir, 0700) == -1 && errno != EEXIST)
		return -errno;
	overrides_write(state, &text);
	err = buf_failed(&text) ? -ENOMEM : file_replace(path, text.data, text.len);
	buf_fini(&text);
	return err;
}
