/* SPDX-License-Identifier: MIT */
/*
 * What the kernel of this network namespace knows of links, addresses, routes and neighbours, and
 * its changes. Owns its sockets and tables. Does not decide anything. The only user of libmnl.
 *
 * Links and addresses are read anew when they change; neighbours, which change all the time, are
 * kept up to date message by message; routes are asked for one by one and not kept.
 */
#ifndef DATAPATH_NETLINK_H
#define DATAPATH_NETLINK_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

struct netlink;

struct netlink_link {
	uint32_t ifindex;
	char name[IF_NAMESIZE];
	uint16_t type; /* ARPHRD_... */
	uint8_t mac[6];
	bool running; /* up, with a carrier */
};

struct netlink_address {
	uint32_t ifindex;
	struct addr addr;
};

struct netlink_route { /* where a packet of this host to some address would go */
	uint32_t ifindex;
	struct addr next; /* the gateway, or the address itself */
	struct addr src;  /* our address towards it */
	bool local;	  /* it is ours */
};

enum netlink_neighbour {		 /* what is known of a next hop's MAC */
			 NETLINK_ABSENT, /* nothing; or being asked for the first time */
			 NETLINK_ASKING,
			 NETLINK_FAILED,    /* asked, no answer */
			 NETLINK_STALE,	    /* known, not confirmed of late */
			 NETLINK_CONFIRMED, /* known */
};

#define NETLINK_LINKS	   1u
#define NETLINK_ADDRESSES  2u
#define NETLINK_ROUTES	   4u
#define NETLINK_NEIGHBOURS 8u

/* Subscribes, then reads all tables. NULL with errno. */
struct netlink *netlink_open(void);
void netlink_close(struct netlink *nl);

/* Turns readable when something changed. */
int netlink_fd(const struct netlink *nl);
/* Takes what there is, without waiting; says what changed (NETLINK_... bits). Lost messages: all
 * read anew. */
unsigned netlink_read(struct netlink *nl);

size_t netlink_links(const struct netlink *nl, const struct netlink_link **list);
const struct netlink_link *netlink_link_named(const struct netlink *nl, const char *name);
const struct netlink_link *netlink_link_at(const struct netlink *nl, uint32_t ifindex);
/* Without addresses that are tentative, failed or link-local. */
size_t netlink_addresses(const struct netlink *nl, const struct netlink_address **list);

/* 0, or -errno (no route: -ENETUNREACH and the like). */
int netlink_route(struct netlink *nl, const struct addr *to, struct netlink_route *route);

/* `mac` is written when known (STALE, CONFIRMED). */
enum netlink_neighbour netlink_neighbour(const struct netlink *nl, uint32_t ifindex,
					 const struct addr *addr, uint8_t mac[6]);
/* Asks the kernel to find out (again); the answer comes as an event. */
void netlink_resolve(struct netlink *nl, uint32_t ifindex, const struct addr *addr);

/* Name of the link's driver ("veth", "ixgbe"); "" if it has none to tell. */
void netlink_driver(const char *interface, char driver[32]);

/* Number of filters on the link's ingress and egress (clsact), or -errno. */
int netlink_filters(uint32_t ifindex);

#endif
