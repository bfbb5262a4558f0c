/* SPDX-License-Identifier: MIT */
/* The configuration: reload it in the controller, or check a file here. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/model.h"
#include "ctl/ask.h"
#include "ctl/ctl.h"

#define FILE_MAX (16u << 20)

/* Errors of the configuration, as the controller found them. */
static int print_errors(const struct ctl *ctl, const struct answer *answer)
{
	const struct json *error = json_first(json_get(answer->root, "errors"));
	bool bad_configuration = error != NULL;

	for (; error; error = json_next(error)) {
		const char *text = json_string(error);

		fprintf(ctl->err, "%s\n", text ? text : "?");
	}
	answer_refused(ctl, answer);
	return bad_configuration ? CTL_USAGE : CTL_FAILED;
}

int ctl_reload(struct ctl *ctl)
{
	struct answer answer;
	int code = ask_quietly(ctl, "POST", "/v1/reload", NULL, &answer);
	const char *note = text_of(answer.root, "note", NULL);

	if (code == CTL_DONE && ctl->json && answer.root)
		print_json(ctl, answer.root);
	if (code == CTL_DONE && answer.status / 100 != 2)
		code = print_errors(ctl, &answer);
	else if (code == CTL_DONE && !ctl->json)
		fprintf(ctl->out, "reloaded, plan %" PRId64 "%s%s\n",
			number_of(answer.root, "plan_version", 0), note ? ": " : "",
			note ? note : "");
	answer_fini(&answer);
	return code;
}

/* 0, or -errno. */
static int read_all(const char *path, struct buf *text)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
	char piece[16384];
	int error = 0;
	size_t n;

	if (!file)
		return -errno;
	errno = 0;
	while ((n = fread(piece, 1, sizeof(piece), file)) > 0 && text->len <= FILE_MAX)
		buf_add(text, piece, n);
	if (ferror(file))
		error = errno ? -errno : -EIO;
	else if (text->len > FILE_MAX)
		error = -EFBIG;
	else if (buf_failed(text))
		error = -ENOMEM;
	if (file != stdin)
		fclose(file);
	return error;
}

static const char *environment(const char *name)
{
	return getenv(name);
}

static size_t count_listeners(const struct model *model)
{
	size_t n = 0;

	for (size_t i = 0; i < model->n_personas; i++)
		n += model->personas[i].n_listeners;
	return n;
}

static void print_good(const struct ctl *ctl, const char *path, const struct model *model)
{
	struct buf text = {0};
	struct json_writer w = {.out = &text, .pretty = true};

	if (!ctl->json) {
		fprintf(ctl->out,
			"%s: ok: %zu node%s, %zu service%s, %zu persona%s, %zu port%s, %zu model "
			"alias%s\n",
			path, model->n_nodes, model->n_nodes == 1 ? "" : "s", model->n_endpoints,
			model->n_endpoints == 1 ? "" : "s", model->n_personas,
			model->n_personas == 1 ? "" : "s", count_listeners(model),
			count_listeners(model) == 1 ? "" : "s", model->n_aliases,
			model->n_aliases == 1 ? "" : "es");
		return;
	}
	json_begin(&w, '{');
	json_pair_string(&w, "file", path);
	json_pair_bool(&w, "ok", true);
	json_pair_int(&w, "nodes", (int64_t)model->n_nodes);
	json_pair_int(&w, "services", (int64_t)model->n_endpoints);
	json_pair_int(&w, "personas", (int64_t)model->n_personas);
	json_pair_int(&w, "ports", (int64_t)count_listeners(model));
	json_pair_int(&w, "models", (int64_t)model->n_aliases);
	json_end(&w, '}');
	fprintf(ctl->out, "%s\n", text.data ? text.data : "");
	buf_fini(&text);
}

static void print_bad(const struct ctl *ctl, const char *path, char *errors)
{
	struct buf text = {0};
	struct json_writer w = {.out = &text, .pretty = true};
	char *line, *rest = errors;

	if (!ctl->json) {
		fputs(errors, ctl->err);
		return;
	}
	json_begin(&w, '{');
	json_pair_string(&w, "file", path);
	json_pair_bool(&w, "ok", false);
	json_name(&w, "errors");
	json_begin(&w, '[');
	while ((line = strsep(&rest, "\n"))) {
		if (*line)
			json_put_string(&w, line);
	}
	json_end(&w, ']');
	json_end(&w, '}');
	fprintf(ctl->out, "%s\n", text.data ? text.data : "");
	buf_fini(&text);
}

int ctl_check(struct ctl *ctl)
{
	const char *path = ctl->args[0];
	struct buf text = {0}, errors = {0};
	struct model *model = NULL;
	int code = CTL_USAGE;
	int error = read_all(path, &text);

	if (error < 0) {
		ctl_fail(ctl, CTL_USAGE, "%s: %s", path, strerror(-error));
		goto out;
	}
	model = model_load(path, text.data ? text.data : "", text.len, environment, &errors);
	if (model) {
		print_good(ctl, path, model);
		code = CTL_DONE;
	} else if (errors.data) {
		print_bad(ctl, path, errors.data);
	}
	model_free(model);
out:
	buf_fini(&errors);
	buf_fini(&text);
	return code;
}
