/* SPDX-License-Identifier: MIT */
/*
 * Tells the service manager how far we are: the protocol of sd_notify(3), which is one datagram to
 * the unix socket named in $NOTIFY_SOCKET. Without that variable, or without a manager, it does
 * nothing.
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

/* `state`: lines such as "READY=1", "STOPPING=1", "STATUS=...". Never blocks, never fails loudly.
 */
void notify_systemd(const char *state);

#endif
