/* SPDX-License-Identifier: MIT */
/* For the shells' completion: names, one a line. */
#include <string.h>

#include "ctl/ask.h"
#include "ctl/ctl.h"

int ctl_names(struct ctl *ctl)
{
	static const char *const kinds[] = {"nodes", "personas", "services"};
	const char *wanted = ctl->n_args ? ctl->args[0] : NULL;
	struct answer answer;
	int code = ask(ctl, "GET", "/v1/names", NULL, &answer);

	for (size_t i = 0; code == CTL_DONE && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct json *item = json_first(json_get(answer.root, kinds[i]));

		if (wanted && strcmp(wanted, kinds[i]) != 0)
			continue;
		for (; item; item = json_next(item)) {
			if (json_string(item))
				fprintf(ctl->out, "%s\n", json_string(item));
		}
	}
	answer_fini(&answer);
	return code;
}
