/* SPDX-License-Identifier: MIT */
/* The models of a simulated node, and how the two dialects list them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "simnode/sim_impl.h"

#define ANY_MODEL "simulated:latest" /* listed where there is no list */

static size_t base_len(const char *name)
{
	static const char tag[] = ":latest";
	size_t len = strlen(name), cut = sizeof(tag) - 1;

	return len > cut && !strcmp(name + len - cut, tag) ? len - cut : len;
}

bool sim_name_equal(const char *a, const char *b)
{
	size_t len = base_len(a);

	return len == base_len(b) && !strncmp(a, b, len);
}

struct sim_model *sim_model_find(struct simnode *node, const char *name)
{
	for (size_t i = 0; i < node->n_models; i++) {
		if (sim_name_equal(node->models[i].name, name))
			return &node->models[i];
	}
	return NULL;
}

bool sim_model_known(const struct simnode *node, const char *name)
{
	if (!node->n_models)
		return true;
	for (size_t i = 0; i < node->n_models; i++) {
		if (sim_name_equal(node->models[i].name, name))
			return true;
	}
	return false;
}

static void put_details(struct json_writer *w)
{
	json_name(w, "details");
	json_begin(w, '{');
	json_pair_string(w, "format", "gguf");
	json_pair_string(w, "family", "simulated");
	json_name(w, "families");
	json_begin(w, '[');
	json_put_string(w, "simulated");
	json_end(w, ']');
	json_pair_string(w, "parameter_size", "0B");
	json_pair_string(w, "quantization_level", "Q4_0");
	json_end(w, '}');
}

/* The same on every node that has the model, another for every other model. */
static void put_digest(struct json_writer *w, const char *name)
{
	char text[65];
	uint64_t hash = sim_hash(name, strlen(name));

	for (unsigned i = 0; i < 4; i++) {
		snprintf(text + 16 * i, 17, "%016" PRIx64, hash);
		hash = sim_hash(text, 16 * (i + 1));
	}
	json_pair_string(w, "digest", text);
}

static void put_model(struct json_writer *w, const char *name, bool loaded)
{
	char full[300];
	bool tagged = strchr(name, ':');

	snprintf(full, sizeof(full), "%s%s", name, tagged ? "" : ":latest");
	json_begin(w, '{');
	json_pair_string(w, "name", full);
	json_pair_string(w, "model", full);
	json_pair_int(w, "size", 4096);
	put_digest(w, full);
	put_details(w);
	if (loaded) {
		json_pair_string(w, "expires_at", "2318-01-01T00:00:00Z");
		json_pair_int(w, "size_vram", 4096);
		json_pair_int(w, "context_length", 4096);
	} else {
		json_pair_string(w, "modified_at", "2026-01-01T00:00:00Z");
	}
	json_end(w, '}');
}

void sim_list_tags(struct simnode *node, struct json_writer *w, bool loaded_only)
{
	json_begin(w, '{');
	json_name(w, "models");
	json_begin(w, '[');
	for (size_t i = 0; i < node->n_models; i++) {
		if (node->models[i].loaded || !loaded_only)
			put_model(w, node->models[i].name, loaded_only);
	}
	if (!node->n_models)
		put_model(w, ANY_MODEL, loaded_only);
	json_end(w, ']');
	json_end(w, '}');
}

static void put_v1(struct json_writer *w, const char *name)
{
	json_begin(w, '{');
	json_pair_string(w, "id", name);
	json_pair_string(w, "object", "model");
	json_pair_int(w, "created", 1767225600);
	json_pair_string(w, "owned_by", "library");
	json_end(w, '}');
}

void sim_list_v1(struct simnode *node, struct json_writer *w)
{
	json_begin(w, '{');
	json_pair_string(w, "object", "list");
	json_name(w, "data");
	json_begin(w, '[');
	for (size_t i = 0; i < node->n_models; i++)
		put_v1(w, node->models[i].name);
	if (!node->n_models)
		put_v1(w, ANY_MODEL);
	json_end(w, ']');
	json_end(w, '}');
}
