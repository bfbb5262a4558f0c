/* SPDX-License-Identifier: MIT */
/* What only shows when the whole configuration has been read: ports that clash, listeners nobody
 * serves, open doors. */
#include <stdio.h>
#include <stdlib.h>

#include "core/config_read.h"

/* Reports at /personas/NAME/listen/SERVICE. */
static void bad_listener(struct config *c, const struct at *root,
			 const struct model_persona *persona, const struct model_listener *listener,
			 const char *text)
{
	struct at personas = at_key(root, "personas");
	struct at name = at_key(&personas, persona->name);
	struct at listen = at_key(&name, "listen");
	struct at service = at_key(&listen, listener->service);

	config_bad(c, &service, "%s", text);
}

/* Do two sockets get in each other's way when their ports are the same? "::" takes IPv4 as well. */
static bool overlap(const struct addr *a, const struct addr *b)
{
	if (addr_equal(a, b))
		return true;
	if (addr_is_any(a) && (!addr_is_v4(a) || addr_is_v4(b)))
		return true;
	return addr_is_any(b) && (!addr_is_v4(b) || addr_is_v4(a));
}

static bool in_snat(const struct model *model, uint16_t port)
{
	return model->gateway.datapath != DATAPATH_NONE && port >= model->gateway.snat_first &&
	       port <= model->gateway.snat_last;
}

struct owner { /* of a port, among the listeners */
	const struct model_persona *persona;
	const struct model_listener *listener;
};

/* Persona ports are open on every address of the gateway (the fallback listener): any other use of
 * the port clashes. */
static void check_listener_port(struct config *c, const struct at *root, struct owner *owners,
				const struct owner *self)
{
	const struct model *model = c->model;
	uint16_t port = self->listener->port;
	struct owner *owner = &owners[port];
	char text[256];

	if (owner->persona) {
		snprintf(text, sizeof(text),
			 "port %u is taken by %s/%s, allowed: a port of its own", port,
			 owner->persona->name, owner->listener->service);
		bad_listener(c, root, self->persona, self->listener, text);
	} else {
		*owner = *self;
	}
	if (port == model->router.port || port == model->admin.port) {
		snprintf(text, sizeof(text),
			 "port %u is taken by %s.listen, allowed: a port of its own", port,
			 port == model->router.port ? "router" : "admin");
		bad_listener(c, root, self->persona, self->listener, text);
	}
	if (in_snat(model, port)) {
		snprintf(text, sizeof(text),
			 "port %u is inside gateway.snat_ports, allowed: a port"
			 " outside %u-%u",
			 port, model->gateway.snat_first, model->gateway.snat_last);
		bad_listener(c, root, self->persona, self->listener, text);
	}
}

static void check_listener_ports(struct config *c, const struct at *root, struct owner *owners)
{
	for (size_t p = 0; p < c->model->n_personas; p++) {
		const struct model_persona *persona = &c->model->personas[p];

		for (size_t l = 0; persona->name[0] && l < persona->n_listeners; l++) {
			struct owner self = {persona, &persona->listeners[l]};

			check_listener_port(c, root, owners, &self);
		}
	}
}

/* Reports at /SECTION/listen, or at the section that was given when it was not. */
static void bad_listen(struct config *c, const struct at *root, const char *section,
		       const char *text)
{
	struct at up = at_key(root, section);
	struct at listen = at_key(&up, "listen");

	config_bad(c, &listen, "%s", text);
}

static void check_own_snat(struct config *c, const struct at *root, const char *section,
			   const struct addr *address, uint16_t port)
{
	char text[128];

	/* Answers of nodes come to the gateway's outer addresses only. */
	if (addr_is_loopback(address) || !in_snat(c->model, port))
		return;
	snprintf(text, sizeof(text),
		 "port %u is inside gateway.snat_ports, allowed: a port outside %u-%u", port,
		 c->model->gateway.snat_first, c->model->gateway.snat_last);
	bad_listen(c, root, section, text);
}

static void check_own_ports(struct config *c, const struct at *root)
{
	const struct model *model = c->model;
	char text[128];

	check_own_snat(c, root, "router", &model->router.address, model->router.port);
	check_own_snat(c, root, "admin", &model->admin.address, model->admin.port);
	if (model->router.port != model->admin.port ||
	    !overlap(&model->router.address, &model->admin.address))
		return;
	snprintf(text, sizeof(text), "port %u is that of %s.listen too, allowed: a port of its own",
		 model->admin.port, json_get(root->value, "admin") ? "router" : "admin");
	bad_listen(c, root, json_get(root->value, "admin") ? "admin" : "router", text);
}

static bool is_own_address(const struct model *model, const struct addr *address)
{
	for (size_t i = 0; i < model->gateway.n_addresses; i++) {
		if (addr_equal(&model->gateway.addresses[i], address))
			return true;
	}
	return addr_is_loopback(address) && address->bytes[15] == 1 && !address->bytes[14] &&
	       !address->bytes[13];
}

/* A node at our own address and a persona's port would be ourselves, in a circle. */
static void check_circles(struct config *c, const struct at *root, const struct owner *owners)
{
	struct at nodes = at_key(root, "nodes");

	for (size_t i = 0; i < c->model->n_endpoints; i++) {
		const struct model_node *node = &c->model->nodes[c->model->endpoints[i].node];
		const struct model_service *service =
			&node->services[c->model->endpoints[i].service];
		const struct owner *owner = &owners[service->port];
		struct at name, services, here;

		if (!owner->persona || !node->name[0] || !service->name[0] ||
		    !is_own_address(c->model, &node->address))
			continue;
		name = at_key(&nodes, node->name);
		services = at_key(&name, "services");
		here = at_key(&services, service->name);
		config_bad(c, &here,
			   "port %u of this gateway is the listener %s/%s, allowed: another port",
			   service->port, owner->persona->name, owner->listener->service);
	}
}

static bool persona_serves(const struct model *model, const struct model_persona *persona,
			   const char *service)
{
	for (size_t i = 0; i < persona->n_nodes; i++) {
		const struct model_node *node = &model->nodes[persona->nodes[i]];

		/* A node without any was reported; this would only be an echo. */
		if (!node->n_services || model_find_service(node, service) >= 0)
			return true;
	}
	return false;
}

static bool anybody_serves(const struct model *model, const struct model_persona *persona,
			   const char *service)
{
	bool serves = persona_serves(model, persona, service);

	for (size_t i = 0; i < persona->n_cascade && !serves; i++)
		serves = persona_serves(model, &model->personas[persona->cascade[i]], service);
	return serves;
}

static void check_services(struct config *c, const struct at *root)
{
	for (size_t p = 0; p < c->model->n_personas; p++) {
		const struct model_persona *persona = &c->model->personas[p];

		/* The same for a persona whose name or nodes are wrong. */
		if (!persona->name[0] || !persona->n_nodes)
			continue;
		for (size_t l = 0; l < persona->n_listeners; l++) {
			const struct model_listener *listener = &persona->listeners[l];

			if (!anybody_serves(c->model, persona, listener->service))
				bad_listener(c, root, persona, listener,
					     "no node of this persona or of its cascade has this"
					     " service, allowed: a service of theirs");
		}
	}
}

static void check_interfaces(struct config *c, const struct at *root)
{
	struct at gateway = at_key(root, "gateway");
	struct at interfaces = at_key(&gateway, "interfaces");
	bool given = gateway.value != root->value;

	if (c->model->gateway.datapath == DATAPATH_NONE)
		return;
	if (given && (json_type(gateway.value) != JSON_OBJECT || interfaces.value != gateway.value))
		return; /* there; if wrong, it was reported */
	config_bad(c, &interfaces,
		   "is missing, needed: an array of interface names, or \"datapath\": \"none\"");
}

static void check_open_door(struct config *c, const struct at *root)
{
	const struct model *model = c->model;

	if (addr_is_loopback(&model->router.address) || model->router.allow_anonymous ||
	    model->router.keys_file)
		return;
	bad_listen(c, root, "router",
		   "is reached from other machines, needed with it: \"keys_file\","
		   " or \"allow_anonymous\": true");
}

void config_check(struct config *c, const struct at *root)
{
	struct owner *owners = config_alloc(c, UINT16_MAX + 1, sizeof(*owners));

	if (!owners)
		return;
	check_interfaces(c, root);
	check_open_door(c, root);
	check_own_ports(c, root);
	check_listener_ports(c, root, owners);
	check_circles(c, root, owners);
	check_services(c, root);
	free(owners);
}
