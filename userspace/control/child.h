/* SPDX-License-Identifier: MIT */
/*
 * megalith-proxy as a child: started as an unprivileged user, in a session of its own (a Ctrl-C for
 * us is not for it), started again when it dies. It can outlive us, left on purpose or when we are
 * killed; a lock file that it inherits tells the next controller that it is there. One of the same
 * version is then adopted: it goes on, and only when it dies is another started. One of another
 * version is replaced.
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
	const char *version;
	bool as_user; /* run as these: */
	uid_t uid;
	gid_t gid;
};

struct child;

/* Starts it from the loop. NULL with errno. Trouble with the program itself is logged, and tried
 * again. */
struct child *child_new(uv_loop_t *loop, const struct child_options *options);

/* Ends it, also an adopted one: politely, after 7 s not. Memory goes when the process and the loop
 * are done with it. NULL is allowed. */
void child_stop(struct child *child);

/* Leaves it running and forgets it. Its pid; 0: there was none. NULL is allowed. */
pid_t child_leave(struct child *child);

/* At once. For the second signal. */
void child_kill(struct child *child);

#endif
