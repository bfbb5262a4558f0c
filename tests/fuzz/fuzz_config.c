/* SPDX-License-Identifier: MIT */
/* megalith.json, as the controller reads it. Seeds: tests/unit/config and config/megalith.json. */
#include "core/model.h"
#include "fuzz.h"

static const char *variable(const char *name)
{
	return !strcmp(name, "EMPTY") ? "" : !strcmp(name, "GPU") ? "10.0.0.1" : NULL;
}

/* Each error is one line of printable text that names the file. */
static void check_errors(const struct buf *errors)
{
	const char *at = errors->data;

	CHECK(errors->len > 0 && !buf_failed(errors));
	CHECK(strlen(errors->data) == errors->len);
	while (*at) {
		size_t len = strcspn(at, "\n");

		CHECK(at[len] == '\n');
		CHECK(!strncmp(at, "fuzz.json:", 10));
		for (size_t i = 0; i < len; i++)
			CHECK((unsigned char)at[i] >= 0x20 && at[i] != 0x7f);
		at += len + 1;
	}
}

/* Every index is one. */
static void check_model(const struct model *model)
{
	for (size_t i = 0; i < model->n_endpoints; i++) {
		CHECK(model->endpoints[i].node < model->n_nodes);
		CHECK(model->endpoints[i].service <
		      model->nodes[model->endpoints[i].node].n_services);
	}
	for (size_t i = 0; i < model->n_personas; i++) {
		const struct model_persona *persona = &model->personas[i];

		CHECK(model_find_persona(model, persona->name) == (int)i);
		for (size_t n = 0; n < persona->n_nodes; n++)
			CHECK(persona->nodes[n] < model->n_nodes);
		for (size_t n = 0; n < persona->n_cascade; n++)
			CHECK(persona->cascade[n] < model->n_personas);
	}
	for (size_t i = 0; i < model->n_aliases; i++) {
		CHECK(model->aliases[i].n_targets > 0);
		for (size_t n = 0; n < model->aliases[i].n_targets; n++)
			CHECK(model->aliases[i].targets[n].persona < model->n_personas);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct buf errors = {0};
	char *text = fuzz_place(data, len);
	struct model *model = model_load("fuzz.json", text, len, variable, &errors);

	fuzz_spoil(text, len);
	if (model)
		check_model(model);
	else
		check_errors(&errors);
	model_free(model);
	buf_fini(&errors);
	return 0;
}
