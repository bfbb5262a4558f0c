/* SPDX-License-Identifier: MIT */
#include "core/catalog.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- names --- */

struct name { /* a name without what is Ollama's default in it */
	const char *text;
	size_t len;
};

static bool starts_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* [[HOST/]NAMESPACE/]MODEL[:TAG] */
static struct name name_short(const char *text)
{
	static const char host[] = "registry.ollama.ai/", space[] = "library/", tag[] = ":latest";
	const size_t cut = sizeof(tag) - 1;
	struct name name;

	if (starts_with(text, host) && strchr(text + sizeof(host) - 1, '/'))
		text += sizeof(host) - 1;
	if (starts_with(text, space) && text[sizeof(space) - 1] &&
	    !strchr(text + sizeof(space) - 1, '/'))
		text += sizeof(space) - 1;
	name = (struct name){text, strlen(text)};
	if (name.len > cut && memcmp(text + name.len - cut, tag, cut) == 0)
		name.len -= cut;
	return name;
}

bool catalog_name_equal(const char *a, const char *b)
{
	struct name left = name_short(a), right = name_short(b);

	return left.len == right.len && memcmp(left.text, right.text, left.len) == 0;
}

/* --- entries of engines --- */

/* The depth behind this byte, which is no part of a string. */
static int text_step(char c, int depth)
{
	if (c == '{' || c == '[')
		return depth + 1;
	return c == '}' || c == ']' ? depth - 1 : depth;
}

/*
 * Whoever made the text has parsed it; what must not happen is a line that every follower refuses,
 * so length, depth and the line's end are looked at again here.
 */
bool catalog_text_fits(const char *text)
{
	bool quoted = false;
	int depth = 0;
	size_t i;

	for (i = 0; text[i]; i++) {
		if (i >= CATALOG_TEXT_MAX || (unsigned char)text[i] < 0x20)
			return false;
		if (i && !depth) /* closed already */
			return false;
		if (quoted && text[i] == '\\' && text[i + 1])
			i++;
		else if (text[i] == '"')
			quoted = !quoted;
		else if (!quoted)
			depth = text_step(text[i], depth);
		if (depth < (text[i] != '}') || depth > CATALOG_TEXT_DEPTH_MAX)
			return false;
	}
	return i && i <= CATALOG_TEXT_MAX && !depth;
}

/* --- building --- */

struct mention { /* of a model by an endpoint */
	const char *name, *text;
	uint32_t endpoint;
	bool loaded;
};

struct building {
	struct mention *mentions;
	size_t n, max;
	size_t texts; /* bytes of entries so far */
};

static bool name_ok(const char *name)
{
	size_t len = strnlen(name, CATALOG_NAME_MAX + 1);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
			return false;
	return len && len <= CATALOG_NAME_MAX;
}

/* What the endpoint's names take in the line, at most: quoting may double a name. */
static size_t names_size(char *const *names, size_t n)
{
	size_t size = 0;

	for (size_t i = 0; i < n; i++)
		size += strlen(names[i]) + sizeof("16383,");
	return size;
}

static void mention_all(struct building *b, uint32_t endpoint, bool loaded, char *const *names,
			char *const *texts, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (name_ok(names[i]))
			b->mentions[b->n++] = (struct mention){names[i], texts ? texts[i] : NULL,
							       endpoint, loaded};
	}
}

static int mention_compare(const void *a, const void *b)
{
	const struct mention *left = a, *right = b;
	int order = strcmp(left->name, right->name);

	if (order)
		return order;
	if (left->loaded != right->loaded)
		return left->loaded ? 1 : -1;
	return (left->endpoint > right->endpoint) - (left->endpoint < right->endpoint);
}

/* Which endpoints have told, and everything they said, in the order of the names. */
static int mentions_collect(struct building *b, struct catalog *catalog,
			    const struct catalog_known *known)
{
	size_t names = 0;

	for (size_t e = 0; e < catalog->n_endpoints; e++)
		b->max += known[e].n_models + known[e].n_loaded;
	b->mentions = calloc(b->max + 1, sizeof(*b->mentions));
	if (!b->mentions)
		return -ENOMEM;
	for (size_t e = 0; e < catalog->n_endpoints; e++) {
		const struct catalog_known *of = &known[e];
		size_t size =
			names_size(of->models, of->n_models) + names_size(of->loaded, of->n_loaded);

		if (names + size > CATALOG_NAMES_MAX)
			continue;
		names += size;
		catalog->said[e] = of->said;
		mention_all(b, (uint32_t)e, false, of->models, of->about, of->n_models);
		mention_all(b, (uint32_t)e, true, of->loaded, of->running, of->n_loaded);
	}
	if (b->n)
		qsort(b->mentions, b->n, sizeof(*b->mentions), mention_compare);
	return 0;
}

static int text_keep(struct building *b, char **place, const char *text)
{
	size_t len;

	if (*place || !text)
		return 0;
	len = strlen(text);
	if (b->texts + len > CATALOG_TEXTS_MAX || !catalog_text_fits(text))
		return 0;
	b->texts += len;
	*place = strdup(text);
	return *place ? 0 : -ENOMEM;
}

/* An engine may list a name twice. */
static void endpoint_add(uint32_t *list, size_t *n, uint32_t endpoint)
{
	if (!*n || list[*n - 1] != endpoint)
		list[(*n)++] = endpoint;
}

/* All mentions of one name, `n` of them. */
static int model_build(struct building *b, struct catalog_model *model, const struct mention *of,
		       size_t n)
{
	model->name = strdup(of->name);
	model->has = calloc(n, sizeof(*model->has));
	model->loaded = calloc(n, sizeof(*model->loaded));
	if (!model->name || !model->has || !model->loaded)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (of[i].loaded)
			endpoint_add(model->loaded, &model->n_loaded, of[i].endpoint);
		else
			endpoint_add(model->has, &model->n_has, of[i].endpoint);
		if (text_keep(b, of[i].loaded ? &model->running : &model->about, of[i].text))
			return -ENOMEM;
	}
	return 0;
}

/* How many mentions from the first on are of one name. */
static size_t same_name(const struct mention *of, size_t n)
{
	size_t same = 1;

	while (same < n && strcmp(of[same].name, of->name) == 0)
		same++;
	return same;
}

static int models_build(struct catalog *catalog, const struct catalog_known *known)
{
	struct building b = {0};
	size_t n = 0, same;
	int err = mentions_collect(&b, catalog, known);

	if (err)
		return err;
	for (size_t i = 0; i < b.n; i += same_name(&b.mentions[i], b.n - i))
		n++;
	catalog->models = calloc(n + 1, sizeof(*catalog->models));
	if (!catalog->models)
		err = -ENOMEM;
	for (size_t i = 0; i < b.n && !err; i += same) {
		same = same_name(&b.mentions[i], b.n - i);
		err = model_build(&b, &catalog->models[catalog->n_models++], &b.mentions[i], same);
	}
	free(b.mentions);
	return err;
}

static int alias_build(struct catalog_alias *alias, const struct model *model,
		       const struct model_alias *from)
{
	alias->session = from->session;
	alias->name = strdup(from->name);
	alias->targets = calloc(from->n_targets + 1, sizeof(*alias->targets));
	if (!alias->name || !alias->targets)
		return -ENOMEM;
	for (size_t i = 0; i < from->n_targets; i++) {
		const struct model_target *target = &from->targets[i];
		struct catalog_target *to = &alias->targets[alias->n_targets++];

		memcpy(to->persona, model->personas[target->persona].name, sizeof(to->persona));
		to->model = target->model ? strdup(target->model) : NULL;
		if (target->model && !to->model)
			return -ENOMEM;
	}
	return 0;
}

static int aliases_build(struct catalog *catalog, const struct model *model)
{
	catalog->aliases = calloc(model->n_aliases + 1, sizeof(*catalog->aliases));
	if (!catalog->aliases)
		return -ENOMEM;
	for (size_t i = 0; i < model->n_aliases; i++) {
		if (alias_build(&catalog->aliases[catalog->n_aliases++], model, &model->aliases[i]))
			return -ENOMEM;
	}
	return 0;
}

static struct catalog_settings settings_of(const struct model *model)
{
	return (struct catalog_settings){
		.address = model->router.address,
		.port = model->router.port,
		.keys_required = model->router.keys_file != NULL,
		.max_body = (uint64_t)model->router.max_body_mb << 20,
		.queue_ms = model->router.queue_ms,
		.queue_length = model->router.queue_length,
		.first_byte_timeout_ms = model->router.first_byte_timeout_ms,
		.head_max = model->router.head_max_kb << 10,
		.fields_max = model->router.head_fields_max,
		.head_timeout_ms = model->router.head_timeout_ms,
		.idle_timeout_ms = model->router.idle_timeout_ms,
	};
}

struct catalog *catalog_build(const struct model *model, const struct catalog_known *known)
{
	struct catalog *catalog = calloc(1, sizeof(*catalog));

	if (!catalog)
		return NULL;
	catalog->settings = settings_of(model);
	catalog->n_endpoints = model->n_endpoints;
	catalog->said = calloc(model->n_endpoints + 1, sizeof(*catalog->said));
	if (!catalog->said || aliases_build(catalog, model) || models_build(catalog, known)) {
		catalog_free(catalog);
		errno = ENOMEM;
		return NULL;
	}
	return catalog;
}

static void alias_free(struct catalog_alias *alias)
{
	for (size_t i = 0; i < alias->n_targets; i++)
		free(alias->targets[i].model);
	free(alias->targets);
	free(alias->name);
}

static void model_free_one(struct catalog_model *model)
{
	free(model->name);
	free(model->about);
	free(model->running);
	free(model->has);
	free(model->loaded);
}

void catalog_free(struct catalog *catalog)
{
	if (!catalog)
		return;
	for (size_t i = 0; i < catalog->n_aliases; i++)
		alias_free(&catalog->aliases[i]);
	for (size_t i = 0; i < catalog->n_models; i++)
		model_free_one(&catalog->models[i]);
	free(catalog->aliases);
	free(catalog->models);
	free(catalog->said);
	free(catalog);
}
