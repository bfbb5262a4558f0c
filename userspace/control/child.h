/* SPDX-License-Identifier: MIT */
/*
 * megalith-proxy as a child: started as an unprivileged user, started again when it dies, ended
 * with us. When we are killed it goes on, as it must; a lock file that it inherits tells the next
 * controller that it is still there, which then waits for its end instead of starting a second one.
 */
#ifndef CONTROL_CHILD_H
#define CONTROL_CHILD_H

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

struct child_options { /* strings must outlive the child */
	const char *program;
	char **args;	  /* argv, ends with NULL */
	const char *lock; /* path */
	bool as_user;	  /* run as these: */
	uid_t uid;
	gid_t gid;
};

struct child;

/* Starts it from the loop. NULL with errno. Trouble with the program itself is logged, and tried
 * again. */
struct child *child_new(uv_loop_t *loop, const struct child_options *options);

/* Ends it: politely, after 5 s not. Memory goes when the process and the loop are done with it.
 * NULL is allowed. */
void child_stop(struct child *child);

/* At once. For the second signal. */
void child_kill(struct child *child);

#endif
