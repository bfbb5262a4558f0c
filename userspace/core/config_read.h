/* SPDX-License-Identifier: MIT */
/*
 * Reading a configuration by tables of keys, collecting every error with its line and JSON path.
 * Knows nothing of what the keys mean; private to config*.c.
 */
#ifndef CORE_CONFIG_READ_H
#define CORE_CONFIG_READ_H

#include "base/json.h"
#include "core/model.h"

struct config_error {
	unsigned line;
	size_t order; /* of discovery: ties of the line */
	char *text;
};

#define CONFIG_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define CONFIG_HOUR_MS	    3600000

struct config_name {
	const char *name;
	uint32_t index;
};

/* One load: where it comes from, what was found wrong so far, and the model being filled. */
struct config {
	const char *file;
	const struct json *root;
	const char *(*getenv_)(const char *name);
	struct model *model;
	struct config_name *nodes; /* model->nodes by name, for lookups */
	struct config_error *errors;
	size_t n_errors;
	bool no_memory;
};

/* Where we are: a chain from the value up to the root, for the path in a message. */
struct at {
	const struct at *up;	  /* NULL: the root */
	const char *key;	  /* member's name, or NULL: ... */
	size_t index;		  /* ... an array's element */
	const struct json *value; /* gives the line */
};

/* The member (which need not exist: then the line is the object's), and an element, of what `up`
 * stands for. */
struct at at_key(const struct at *up, const char *key);
struct at at_member(const struct at *up, const struct json *member);
struct at at_index(const struct at *up, size_t index, const struct json *element);

void config_bad(struct config *c, const struct at *at, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Appends the sorted lines and frees them. */
void config_print_errors(struct config *c, struct buf *out);

#define CONFIG_TEXT "a text, not empty, without control characters"

/* calloc of n entries (at least one); NULL is noted in c->no_memory. */
void *config_alloc(struct config *c, size_t n, size_t size);

/* "1,024" */
#define GROUPED_MAX 32
const char *config_grouped(size_t number, char text[GROUPED_MAX]);

/* Lists `name(i)` of n names for "allowed: ...", cut after some. Free the result; NULL on lack of
 * memory. */
char *config_list(size_t n, const char *(*name)(const void *names, size_t i), const void *names);

/*
 * The readers below report what is wrong and then return false (or NULL), leaving *out as it was.
 * `allowed` completes the message: "is a number, allowed: ALLOWED".
 */
bool config_type(struct config *c, const struct at *at, enum json_type type, const char *allowed);
/* A string with its ${NAME}s replaced, never empty; to be freed. */
char *config_string(struct config *c, const struct at *at, const char *allowed);
bool config_number(struct config *c, const struct at *at, int64_t min, int64_t max, int64_t *out);
bool config_address(struct config *c, const struct at *at, struct addr *out);
bool config_listen(struct config *c, const struct at *at, struct addr *addr, uint16_t *port);
bool config_name(struct config *c, const struct at *at, const char *name, char out[MG_NAME_MAX]);
/* An array of at least one string, no two alike, each one `good` (NULL: any); freed with the model.
 */
bool config_strings(struct config *c, const struct at *at, const char *allowed,
		    bool (*good)(const char *text), char ***out, size_t *n_out);

/* One key of an object: how to read it into the structure at `into`. */
struct config_key {
	const char *name;
	void (*read)(struct config *c, const struct at *at, const struct config_key *key,
		     void *into);
	size_t offset;	    /* of the field, for the generic readers */
	int64_t min, max;   /* of a number */
	const char *needed; /* not NULL: must be there; says what it is */
};

/* Reads the object by its table, in the order of the table: unknown, repeated and missing keys are
 * reported. */
void config_object(struct config *c, const struct at *at, const struct config_key *keys,
		   size_t n_keys, void *into);

/* Generic readers for tables. */
void config_read_u32(struct config *c, const struct at *at, const struct config_key *key,
		     void *into);
void config_read_u16(struct config *c, const struct at *at, const struct config_key *key,
		     void *into);
void config_read_bool(struct config *c, const struct at *at, const struct config_key *key,
		      void *into);
void config_read_text(struct config *c, const struct at *at, const struct config_key *key,
		      void *into);
void config_read_address(struct config *c, const struct at *at, const struct config_key *key,
			 void *into);
void config_read_any(struct config *c, const struct at *at, const struct config_key *key,
		     void *into);

/*
 * An object whose keys are names: checks that it is one, has some, and at most `max`. Returns how
 * many, 0 when there is nothing to read.
 */
size_t config_count_named(struct config *c, const struct at *at, const char *what, size_t max);

/* The sections with files of their own, to be read in this order. */
void config_read_nodes(struct config *c, const struct at *at, const struct config_key *key,
		       void *into);
void config_read_personas(struct config *c, const struct at *at, const struct config_key *key,
			  void *into);
void config_read_models(struct config *c, const struct at *at, const struct config_key *key,
			void *into);

/* Index of the node or persona that the string here names; -1: reported. */
int config_node(struct config *c, const struct at *at);
int config_persona(struct config *c, const struct at *at);

/* config_check.c: what only shows when all is read. */
void config_check(struct config *c, const struct at *root);

#endif
