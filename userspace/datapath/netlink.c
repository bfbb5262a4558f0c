/* SPDX-License-Identifier: MIT */
#include "datapath/netlink.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <libmnl/libmnl.h>

#define BUFFER_SIZE   32768 /* the kernel fills no more of a dump at once */
#define MONITOR_BYTES (1 << 20)
#define DUMP_TRIES    5 /* a dump during which the table changed is taken again */

struct neighbour {
	uint32_t ifindex;
	struct addr addr;
	uint16_t state; /* NUD_... */
	uint8_t mac[6];
};

struct netlink {
	struct mnl_socket *monitor;
	struct mnl_socket *request;
	struct mnl_socket *nudge; /* sends without waiting for an answer */
	uint32_t seq;
	struct netlink_link *links;
	size_t n_links, cap_links;
	struct netlink_address *addresses;
	size_t n_addresses, cap_addresses;
	struct neighbour *neighbours; /* sorted by compare_neighbours() */
	size_t n_neighbours, cap_neighbours;
	unsigned changed; /* found by the monitor, not yet reported */
};

/* Makes room for one more. False: no memory. */
static bool room_for_one(void **list, size_t n, size_t *cap, size_t size)
{
	size_t more = *cap ? *cap * 2 : 16;
	void *grown;

	if (n < *cap)
		return true;
	grown = reallocarray(*list, more, size);
	if (!grown)
		return false;
	*list = grown;
	*cap = more;
	return true;
}

static int keep_attribute(const struct nlattr *attr, void *arg)
{
	const struct nlattr **table = arg;
	uint16_t type = mnl_attr_get_type(attr);

	if (type < 64)
		table[type] = attr;
	return MNL_CB_OK;
}

#define ATTRIBUTES(name, nlh, header) \
	const struct nlattr *name[64] = {NULL}; \
	mnl_attr_parse(nlh, sizeof(header), keep_attribute, name)

static bool addr_of_attribute(struct addr *addr, int family, const struct nlattr *attr)
{
	size_t want = family == AF_INET ? 4 : 16;

	if (!attr || mnl_attr_get_payload_len(attr) < want ||
	    (family != AF_INET && family != AF_INET6))
		return false;
	memset(addr, 0, sizeof(*addr));
	if (family == AF_INET)
		memset(addr->bytes + 10, 0xff, 2);
	memcpy(addr->bytes + sizeof(addr->bytes) - want, mnl_attr_get_payload(attr), want);
	return true;
}

static void put_addr(struct nlmsghdr *nlh, uint16_t type, const struct addr *addr)
{
	size_t len = addr_is_v4(addr) ? 4 : 16;

	mnl_attr_put(nlh, type, len, addr->bytes + sizeof(addr->bytes) - len);
}

static uint8_t family_of(const struct addr *addr)
{
	return addr_is_v4(addr) ? AF_INET : AF_INET6;
}

/* --- links and addresses ------------------------------------------------------------------- */

static int read_link(const struct nlmsghdr *nlh, void *arg)
{
	struct netlink *nl = arg;
	const struct ifinfomsg *header = mnl_nlmsg_get_payload(nlh);
	struct netlink_link link = {0};
	void *list = nl->links;

	if (nlh->nlmsg_type != RTM_NEWLINK || header->ifi_family != AF_UNSPEC)
		return MNL_CB_OK;
	ATTRIBUTES(attr, nlh, *header);
	link.ifindex = (uint32_t)header->ifi_index;
	link.type = header->ifi_type;
	link.running = (header->ifi_flags & IFF_UP) && (header->ifi_flags & IFF_RUNNING);
	if (attr[IFLA_IFNAME])
		strncpy(link.name, mnl_attr_get_str(attr[IFLA_IFNAME]), sizeof(link.name) - 1);
	if (attr[IFLA_ADDRESS] && mnl_attr_get_payload_len(attr[IFLA_ADDRESS]) == sizeof(link.mac))
		memcpy(link.mac, mnl_attr_get_payload(attr[IFLA_ADDRESS]), sizeof(link.mac));
	if (!room_for_one(&list, nl->n_links, &nl->cap_links, sizeof(link)))
		return MNL_CB_ERROR;
	nl->links = list;
	nl->links[nl->n_links++] = link;
	return MNL_CB_OK;
}

static bool link_local(const struct addr *addr) /* a client could only reach it with a zone */
{
	return addr->bytes[0] == 0xfe && (addr->bytes[1] & 0xc0) == 0x80;
}

static int read_address(const struct nlmsghdr *nlh, void *arg)
{
	struct netlink *nl = arg;
	const struct ifaddrmsg *header = mnl_nlmsg_get_payload(nlh);
	struct netlink_address address = {.ifindex = header->ifa_index};
	uint32_t flags = header->ifa_flags;
	void *list = nl->addresses;

	if (nlh->nlmsg_type != RTM_NEWADDR)
		return MNL_CB_OK;
	ATTRIBUTES(attr, nlh, *header);
	if (attr[IFA_FLAGS])
		flags = mnl_attr_get_u32(attr[IFA_FLAGS]);
	if (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED))
		return MNL_CB_OK;
	/* on a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours */
	if (!addr_of_attribute(&address.addr, header->ifa_family,
			       attr[IFA_LOCAL] ? attr[IFA_LOCAL] : attr[IFA_ADDRESS]))
		return MNL_CB_OK;
	if (link_local(&address.addr))
		return MNL_CB_OK;
	if (!room_for_one(&list, nl->n_addresses, &nl->cap_addresses, sizeof(address)))
		return MNL_CB_ERROR;
	nl->addresses = list;
	nl->addresses[nl->n_addresses++] = address;
	return MNL_CB_OK;
}

/* --- neighbours ---------------------------------------------------------------------------- */

static int compare_neighbours(const struct neighbour *a, const struct neighbour *b)
{
	if (a->ifindex != b->ifindex)
		return a->ifindex < b->ifindex ? -1 : 1;
	return memcmp(&a->addr, &b->addr, sizeof(a->addr));
}

/* Place of the neighbour, or where it would be. */
static size_t find_neighbour(const struct netlink *nl, const struct neighbour *key, bool *found)
{
	size_t low = 0, high = nl->n_neighbours;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = compare_neighbours(&nl->neighbours[middle], key);

		*found = order == 0;
		if (*found)
			return middle;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*found = false;
	return low;
}

static int put_neighbour(struct netlink *nl, const struct neighbour *neighbour)
{
	void *list = nl->neighbours;
	bool found;
	size_t at = find_neighbour(nl, neighbour, &found);

	if (!found) {
		if (!room_for_one(&list, nl->n_neighbours, &nl->cap_neighbours, sizeof(*neighbour)))
			return MNL_CB_ERROR;
		nl->neighbours = list;
		memmove(&nl->neighbours[at + 1], &nl->neighbours[at],
			(nl->n_neighbours - at) * sizeof(*neighbour));
		nl->n_neighbours++;
	}
	nl->neighbours[at] = *neighbour;
	return MNL_CB_OK;
}

static void drop_neighbour(struct netlink *nl, const struct neighbour *key)
{
	bool found;
	size_t at = find_neighbour(nl, key, &found);

	if (!found)
		return;
	nl->n_neighbours--;
	memmove(&nl->neighbours[at], &nl->neighbours[at + 1],
		(nl->n_neighbours - at) * sizeof(*key));
}

static int read_neighbour(const struct nlmsghdr *nlh, void *arg)
{
	struct netlink *nl = arg;
	const struct ndmsg *header = mnl_nlmsg_get_payload(nlh);
	struct neighbour neighbour = {.ifindex = (uint32_t)header->ndm_ifindex};

	if (nlh->nlmsg_type != RTM_NEWNEIGH && nlh->nlmsg_type != RTM_DELNEIGH)
		return MNL_CB_OK;
	ATTRIBUTES(attr, nlh, *header);
	if ((header->ndm_flags & NTF_PROXY) ||
	    !addr_of_attribute(&neighbour.addr, header->ndm_family, attr[NDA_DST]))
		return MNL_CB_OK;
	neighbour.state = header->ndm_state;
	if (attr[NDA_LLADDR] && mnl_attr_get_payload_len(attr[NDA_LLADDR]) == sizeof(neighbour.mac))
		memcpy(neighbour.mac, mnl_attr_get_payload(attr[NDA_LLADDR]),
		       sizeof(neighbour.mac));
	else if (neighbour.state &
		 (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT))
		return MNL_CB_OK; /* not an Ethernet neighbour */
	nl->changed |= NETLINK_NEIGHBOURS;
	if (nlh->nlmsg_type == RTM_NEWNEIGH)
		return put_neighbour(nl, &neighbour);
	drop_neighbour(nl, &neighbour);
	return MNL_CB_OK;
}

enum netlink_neighbour netlink_neighbour(const struct netlink *nl, uint32_t ifindex,
					 const struct addr *addr, uint8_t mac[6])
{
	struct neighbour key = {.ifindex = ifindex, .addr = *addr};
	const struct neighbour *entry;
	bool found;
	size_t at = find_neighbour(nl, &key, &found);

	if (!found)
		return NETLINK_ABSENT;
	entry = &nl->neighbours[at];
	if (entry->state & NUD_INCOMPLETE)
		return NETLINK_ASKING;
	if (entry->state & NUD_FAILED)
		return NETLINK_FAILED;
	if (!(entry->state & (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT)))
		return NETLINK_ABSENT;
	memcpy(mac, entry->mac, sizeof(entry->mac));
	return entry->state & NUD_STALE ? NETLINK_STALE : NETLINK_CONFIRMED;
}

void netlink_resolve(struct netlink *nl, uint32_t ifindex, const struct addr *addr)
{
	char buffer[256], answer[1024];
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct ndmsg *header;

	nlh->nlmsg_type = RTM_NEWNEIGH;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_CREATE;
	nlh->nlmsg_seq = ++nl->seq;
	header = mnl_nlmsg_put_extra_header(nlh, sizeof(*header));
	header->ndm_family = family_of(addr);
	header->ndm_ifindex = (int)ifindex;
	header->ndm_state = NUD_NONE;
	header->ndm_flags = NTF_USE; /* as if a packet had wanted to go there */
	put_addr(nlh, NDA_DST, addr);
	/* A refusal (link down, table full) changes nothing; only keep the socket empty. */
	(void)!send(mnl_socket_get_fd(nl->nudge), nlh, nlh->nlmsg_len, MSG_DONTWAIT);
	while (recv(mnl_socket_get_fd(nl->nudge), answer, sizeof(answer), MSG_DONTWAIT) > 0)
		continue;
}

/* --- requests ------------------------------------------------------------------------------ */

static struct mnl_socket *socket_open(unsigned groups)
{
	struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	int saved;

	if (socket && mnl_socket_bind(socket, groups, MNL_SOCKET_AUTOPID) == 0)
		return socket;
	saved = errno;
	if (socket)
		mnl_socket_close(socket);
	errno = saved;
	return NULL;
}

/* Sends the request and runs `read` over the answer. 0 or -errno. */
static int exchange(struct mnl_socket *socket, const struct nlmsghdr *nlh, mnl_cb_t read, void *arg)
{
	char buffer[BUFFER_SIZE] __attribute__((aligned(8)));
	unsigned port = mnl_socket_get_portid(socket);
	ssize_t len;
	int more;

	if (mnl_socket_sendto(socket, nlh, nlh->nlmsg_len) == -1)
		return -errno;
	do {
		len = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
		if (len == -1)
			return -errno;
		more = mnl_cb_run(buffer, (size_t)len, nlh->nlmsg_seq, port, read, arg);
	} while (more > 0);
	return more == 0 ? 0 : -errno;
}

/* A socket of its own for each dump: one broken off leaves nothing behind for the next request. */
static int dump(struct nlmsghdr *nlh, mnl_cb_t read, void *arg)
{
	struct mnl_socket *socket = socket_open(0);
	int err;

	if (!socket)
		return -errno;
	nlh->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	nlh->nlmsg_seq = 1;
	err = exchange(socket, nlh, read, arg);
	mnl_socket_close(socket);
	return err;
}

/* Fills `into`, an empty object, with one table. 0 or -errno. */
static int dump_table(struct netlink *into, uint16_t type, size_t header, mnl_cb_t read)
{
	char buffer[256] __attribute__((aligned(8)));
	int err = 0;

	for (int try = 0; try < DUMP_TRIES; try++) {
		struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);

		nlh->nlmsg_type = type;
		mnl_nlmsg_put_extra_header(nlh, header); /* all zero: AF_UNSPEC, everything */
		into->n_links = into->n_addresses = into->n_neighbours = 0;
		err = dump(nlh, read, into);
		if (err != -EINTR) /* -EINTR: the table changed meanwhile */
			break;
	}
	return err;
}

/* A table is read aside first: one that cannot be read stays as it was. 0 or -errno. */
static int read_links(struct netlink *nl)
{
	struct netlink fresh = {0};
	int err = dump_table(&fresh, RTM_GETLINK, sizeof(struct ifinfomsg), read_link);

	if (!err) {
		free(nl->links);
		nl->links = fresh.links;
		nl->n_links = fresh.n_links;
		nl->cap_links = fresh.cap_links;
	} else {
		free(fresh.links);
	}
	return err;
}

static int read_addresses(struct netlink *nl)
{
	struct netlink fresh = {0};
	int err = dump_table(&fresh, RTM_GETADDR, sizeof(struct ifaddrmsg), read_address);

	if (!err) {
		free(nl->addresses);
		nl->addresses = fresh.addresses;
		nl->n_addresses = fresh.n_addresses;
		nl->cap_addresses = fresh.cap_addresses;
	} else {
		free(fresh.addresses);
	}
	return err;
}

static int read_neighbours(struct netlink *nl)
{
	struct netlink fresh = {0};
	int err = dump_table(&fresh, RTM_GETNEIGH, sizeof(struct ndmsg), read_neighbour);

	if (!err) {
		free(nl->neighbours);
		nl->neighbours = fresh.neighbours;
		nl->n_neighbours = fresh.n_neighbours;
		nl->cap_neighbours = fresh.cap_neighbours;
	} else {
		free(fresh.neighbours);
	}
	return err;
}

static int read_tables(struct netlink *nl, unsigned which)
{
	int err = 0;

	if (which & NETLINK_LINKS)
		err = read_links(nl);
	if (!err && (which & NETLINK_ADDRESSES))
		err = read_addresses(nl);
	if (!err && (which & NETLINK_NEIGHBOURS))
		err = read_neighbours(nl);
	return err;
}

struct route_answer {
	struct netlink_route *route;
	bool filled;
};

static int read_route(const struct nlmsghdr *nlh, void *arg)
{
	struct route_answer *answer = arg;
	struct netlink_route *route = answer->route;
	const struct rtmsg *header = mnl_nlmsg_get_payload(nlh);
	const struct rtvia *via;

	if (nlh->nlmsg_type != RTM_NEWROUTE)
		return MNL_CB_OK;
	ATTRIBUTES(attr, nlh, *header);
	route->local = header->rtm_type == RTN_LOCAL;
	if (!attr[RTA_OIF] || (header->rtm_type != RTN_UNICAST && !route->local))
		return MNL_CB_STOP;
	route->ifindex = mnl_attr_get_u32(attr[RTA_OIF]);
	addr_of_attribute(&route->next, header->rtm_family, attr[RTA_GATEWAY]);
	if (attr[RTA_VIA]) { /* a gateway of the other family (RFC 5549) */
		via = mnl_attr_get_payload(attr[RTA_VIA]);
		if (via->rtvia_family == AF_INET6)
			memcpy(route->next.bytes, via->rtvia_addr, sizeof(route->next.bytes));
	}
	answer->filled = addr_of_attribute(&route->src, header->rtm_family, attr[RTA_PREFSRC]);
	return MNL_CB_STOP;
}

int netlink_route(struct netlink *nl, const struct addr *to, struct netlink_route *route)
{
	char buffer[256] __attribute__((aligned(8)));
	struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
	struct route_answer answer = {.route = route};
	struct rtmsg *header;
	int err;

	memset(route, 0, sizeof(*route));
	route->next = *to;
	nlh->nlmsg_type = RTM_GETROUTE;
	nlh->nlmsg_flags = NLM_F_REQUEST;
	nlh->nlmsg_seq = ++nl->seq;
	header = mnl_nlmsg_put_extra_header(nlh, sizeof(*header));
	header->rtm_family = family_of(to);
	header->rtm_dst_len = addr_is_v4(to) ? 32 : 128;
	put_addr(nlh, RTA_DST, to);
	err = exchange(nl->request, nlh, read_route, &answer);
	if (err)
		return err;
	return answer.filled ? 0 : -ENETUNREACH;
}

static int count_filter(const struct nlmsghdr *nlh, void *arg)
{
	const struct tcmsg *header = mnl_nlmsg_get_payload(nlh);
	int *count = arg;

	/* each chain of a priority comes once by itself, with handle 0 */
	if (nlh->nlmsg_type == RTM_NEWTFILTER && header->tcm_handle)
		++*count;
	return MNL_CB_OK;
}

int netlink_filters(uint32_t ifindex)
{
	static const uint32_t parents[] = {TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
					   TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)};
	char buffer[256] __attribute__((aligned(8)));
	int count = 0, err = 0;

	for (size_t i = 0; !err && i < sizeof(parents) / sizeof(parents[0]); i++) {
		struct nlmsghdr *nlh = mnl_nlmsg_put_header(buffer);
		struct tcmsg *header;

		nlh->nlmsg_type = RTM_GETTFILTER;
		header = mnl_nlmsg_put_extra_header(nlh, sizeof(*header));
		header->tcm_ifindex = (int)ifindex;
		header->tcm_parent = parents[i];
		err = dump(nlh, count_filter, &count);
	}
	return err ? err : count;
}

void netlink_driver(const char *interface, char driver[32])
{
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	struct ifreq request = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	driver[0] = '\0';
	if (fd == -1)
		return;
	strncpy(request.ifr_name, interface, sizeof(request.ifr_name) - 1);
	request.ifr_data = (void *)&info;
	if (ioctl(fd, SIOCETHTOOL, &request) == 0) {
		info.driver[sizeof(info.driver) - 1] = '\0';
		strncpy(driver, info.driver, 31);
		driver[31] = '\0';
	}
	close(fd);
}

/* --- monitor ------------------------------------------------------------------------------- */

static int note_message(const struct nlmsghdr *nlh, void *arg)
{
	struct netlink *nl = arg;

	switch (nlh->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		nl->changed |= NETLINK_LINKS;
		return MNL_CB_OK;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		nl->changed |= NETLINK_ADDRESSES;
		return MNL_CB_OK;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		nl->changed |= NETLINK_ROUTES;
		return MNL_CB_OK;
	default:
		return read_neighbour(nlh, nl);
	}
}

unsigned netlink_read(struct netlink *nl)
{
	char buffer[BUFFER_SIZE] __attribute__((aligned(8)));
	int fd = mnl_socket_get_fd(nl->monitor);
	const unsigned all =
		NETLINK_LINKS | NETLINK_ADDRESSES | NETLINK_ROUTES | NETLINK_NEIGHBOURS;
	unsigned changed, lost = 0;
	ssize_t len;

	for (;;) {
		len = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (len == -1 && errno == EINTR)
			continue;
		if (len == -1 && errno == ENOBUFS) { /* messages were lost, the socket goes on */
			lost = all;
			continue;
		}
		if (len <= 0)
			break;
		if (mnl_cb_run(buffer, (size_t)len, 0, 0, note_message, nl) == MNL_CB_ERROR)
			lost = all;
	}
	changed = nl->changed | lost;
	nl->changed = 0;
	/* neighbours came message by message, unless some were lost */
	if (read_tables(nl, (changed & ~NETLINK_NEIGHBOURS) | lost))
		nl->changed = all; /* again at the next call */
	return changed;
}

/* --- the object ---------------------------------------------------------------------------- */

static int subscribe(struct netlink *nl)
{
	static const int groups[] = {RTNLGRP_LINK,	  RTNLGRP_NEIGH,      RTNLGRP_IPV4_IFADDR,
				     RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE};
	const int bytes = MONITOR_BYTES;

	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
		int group = groups[i];

		if (mnl_socket_setsockopt(nl->monitor, NETLINK_ADD_MEMBERSHIP, &group,
					  sizeof(group)))
			return -errno;
	}
	/* More room for bursts; without it there are only more full readings. */
	(void)!setsockopt(mnl_socket_get_fd(nl->monitor), SOL_SOCKET, SO_RCVBUFFORCE, &bytes,
			  sizeof(bytes));
	return 0;
}

struct netlink *netlink_open(void)
{
	struct netlink *nl = calloc(1, sizeof(*nl));
	int err = -ENOMEM;

	if (!nl)
		goto fail;
	err = -EIO;
	nl->monitor = socket_open(0);
	nl->request = nl->monitor ? socket_open(0) : NULL;
	nl->nudge = nl->request ? socket_open(0) : NULL;
	if (!nl->nudge) {
		err = -errno;
		goto fail;
	}
	err = subscribe(nl); /* before the first reading, so that no change falls between */
	if (!err)
		err = read_tables(nl, NETLINK_LINKS | NETLINK_ADDRESSES | NETLINK_NEIGHBOURS);
	if (!err) {
		nl->changed = 0;
		return nl;
	}
fail:
	netlink_close(nl);
	errno = -err;
	return NULL;
}

void netlink_close(struct netlink *nl)
{
	if (!nl)
		return;
	if (nl->nudge)
		mnl_socket_close(nl->nudge);
	if (nl->request)
		mnl_socket_close(nl->request);
	if (nl->monitor)
		mnl_socket_close(nl->monitor);
	free(nl->links);
	free(nl->addresses);
	free(nl->neighbours);
	free(nl);
}

int netlink_fd(const struct netlink *nl)
{
	return mnl_socket_get_fd(nl->monitor);
}

size_t netlink_links(const struct netlink *nl, const struct netlink_link **list)
{
	*list = nl->links;
	return nl->n_links;
}

const struct netlink_link *netlink_link_named(const struct netlink *nl, const char *name)
{
	for (size_t i = 0; i < nl->n_links; i++)
		if (strcmp(nl->links[i].name, name) == 0)
			return &nl->links[i];
	return NULL;
}

const struct netlink_link *netlink_link_at(const struct netlink *nl, uint32_t ifindex)
{
	for (size_t i = 0; i < nl->n_links; i++)
		if (nl->links[i].ifindex == ifindex)
			return &nl->links[i];
	return NULL;
}

size_t netlink_addresses(const struct netlink *nl, const struct netlink_address **list)
{
	*list = nl->addresses;
	return nl->n_addresses;
}
