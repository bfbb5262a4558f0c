/* SPDX-License-Identifier: MIT */
/*
 * What the programs of the HTTP bench share: the clock, sockets on loopback, and the marks by which
 * node and client of one run understand each other. Linux only, as is the bench. Fatal errors end
 * the program with a line: a bench that goes on after one measures something else.
 */
#ifndef BENCH_IO_H
#define BENCH_IO_H

#include <stddef.h>
#include <stdint.h>

#define NSEC 1000000000ull

/*
 * What a request asks of the node stands in its body, because a proxy may do with the head as it
 * likes: "bench":"a" whole answer; "s ID MILLIHZ" stream of so many tokens per 1,000 s (0: one
 * token, then silence); "h ID" no answer at all. Within the first MARK_WITHIN bytes.
 */
#define MARK	       "\"bench\":\""
#define MARK_WITHIN    256
#define IDS_MAX	       65536
#define IDS_OF_LEAVERS 32768 /* and above; below: streams */

/* A token carries the node's clock at the moment it was sent: this and 19 digits of ns. */
#define STAMP	     "\"t="
#define STAMP_DIGITS 19

_Noreturn void die(const char *what); /* with errno */
_Noreturn void fail(const char *why);
uint64_t now_ns(void); /* CLOCK_MONOTONIC */
uint64_t number(const char *text, const char *what);
void raise_descriptors(void);

/* Loopback; not blocking, TCP_NODELAY. */
int listen_on(uint16_t port);
int accept_from(int listener); /* -1: none left */
int connect_to(uint16_t port); /* in progress */

/* Level-triggered; `ptr` comes back in the event. */
void watch(int ep, int fd, uint32_t events, void *ptr);
void rewatch(int ep, int fd, uint32_t events, void *ptr);

#endif
