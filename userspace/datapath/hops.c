/* SPDX-License-Identifier: MIT */
#include "datapath/hops.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int hops_init(struct hops *hops)
{
	memset(hops, 0, sizeof(*hops));
	hops->target_of = calloc(MG_SLOTS, sizeof(*hops->target_of));
	return hops->target_of ? 0 : -ENOMEM;
}

void hops_fini(struct hops *hops)
{
	free(hops->targets);
	free(hops->target_of);
	memset(hops, 0, sizeof(*hops));
}

static int compare_targets(const void *a, const void *b)
{
	const struct hop_target *left = a, *right = b;

	return memcmp(&left->addr, &right->addr, sizeof(left->addr));
}

static struct hop_target *find_target(const struct hops *hops, const uint8_t addr[16])
{
	struct hop_target key;

	if (!hops->n_targets)
		return NULL;
	memcpy(key.addr.bytes, addr, sizeof(key.addr.bytes));
	return bsearch(&key, hops->targets, hops->n_targets, sizeof(key), compare_targets);
}

/* The distinct addresses of the slots in use, sorted. Returns how many. */
static size_t collect(const struct slots *slots, struct hop_target *list)
{
	size_t n = 0, kept = 0;

	for (uint32_t slot = 1; slot < slots->top; slot++)
		if (slots->nodes[slot].state != MG_NODE_FREE)
			memcpy(list[n++].addr.bytes, slots->nodes[slot].addr, 16);
	qsort(list, n, sizeof(*list), compare_targets);
	for (size_t i = 0; i < n; i++)
		if (!kept || compare_targets(&list[kept - 1], &list[i]) != 0)
			list[kept++] = list[i];
	return kept;
}

int hops_bind(struct hops *hops, const struct slots *slots)
{
	struct hop_target *fresh = calloc(slots->top, sizeof(*fresh));
	size_t n;

	if (!fresh)
		return -ENOMEM;
	n = collect(slots, fresh);
	for (size_t i = 0; i < n; i++) {
		const struct hop_target *old = find_target(hops, fresh[i].addr.bytes);

		if (old)
			fresh[i] = *old;
	}
	free(hops->targets);
	hops->targets = fresh;
	hops->n_targets = n;
	for (uint32_t slot = 1; slot < slots->top; slot++)
		if (slots->nodes[slot].state != MG_NODE_FREE)
			hops->target_of[slot] =
				(uint32_t)(find_target(hops, slots->nodes[slot].addr) - fresh);
	return 0;
}

static void look_up_route(struct hop_target *target, struct netlink *nl)
{
	struct netlink_route route;

	target->asked = true;
	target->routed = netlink_route(nl, &target->addr, &route) == 0 && !route.local;
	if (target->routed && target->known)
		target->known = route.ifindex == target->route.ifindex &&
				addr_equal(&route.next, &target->route.next);
	target->route = route;
}

static void look_up_mac(struct hop_target *target, struct netlink *nl, bool tick)
{
	const struct netlink_route *route = &target->route;
	bool ask = false;

	switch (netlink_neighbour(nl, route->ifindex, &route->next, target->mac)) {
	case NETLINK_CONFIRMED:
		target->known = true;
		break;
	case NETLINK_STALE: /* our frames bypass the kernel's confirming: have it ask now and then
			     */
		target->known = true;
		ask = tick;
		break;
	case NETLINK_FAILED:
		target->known = false;
		ask = tick;
		break;
	case NETLINK_ABSENT:
		ask = true;
		break;
	case NETLINK_ASKING:
		break;
	}
	if (ask)
		netlink_resolve(nl, route->ifindex, &route->next);
}

static bool carries_programs(const struct hops_ports *ports, uint32_t ifindex)
{
	for (size_t i = 0; i < ports->n; i++)
		if (ports->ifindex[i] == ifindex)
			return true;
	return false;
}

/* What mg_nodes should say; ifindex 0: no way known. */
static void hop_of(const struct hop_target *target, const struct netlink *nl,
		   const struct hops_ports *ports, struct mg_hop *hop)
{
	const struct netlink_link *link;

	memset(hop, 0, sizeof(*hop));
	if (!target->routed || !target->known || !carries_programs(ports, target->route.ifindex))
		return;
	link = netlink_link_at(nl, target->route.ifindex);
	if (!link || !link->running)
		return;
	memcpy(hop->dst_mac, target->mac, sizeof(hop->dst_mac));
	memcpy(hop->src_mac, link->mac, sizeof(hop->src_mac));
	hop->ifindex = target->route.ifindex;
}

void hops_apply(struct hops *hops, struct netlink *nl, const struct slots *slots,
		const struct hops_ports *ports, unsigned changed, bool tick)
{
	bool routes_changed = (changed & ~NETLINK_NEIGHBOURS) != 0;

	for (size_t i = 0; i < hops->n_targets; i++) {
		struct hop_target *target = &hops->targets[i];

		if (routes_changed || !target->asked)
			look_up_route(target, nl);
		if (target->routed && carries_programs(ports, target->route.ifindex))
			look_up_mac(target, nl, tick);
	}
	for (uint32_t slot = 1; slot < slots->top; slot++) {
		struct mg_node *node = &slots->nodes[slot];
		const struct hop_target *target;
		struct mg_hop hop;

		if (node->state == MG_NODE_FREE)
			continue;
		target = &hops->targets[hops->target_of[slot]];
		if (hops->target_of[slot] >= hops->n_targets ||
		    memcmp(target->addr.bytes, node->addr, sizeof(node->addr)) != 0)
			continue; /* given away since the last hops_bind(), which had no memory */
		hop_of(target, nl, ports, &hop);
		slots_set_hop(node, &hop, hop.ifindex ? target->route.src.bytes : node->snat);
	}
}
