/* SPDX-License-Identifier: MIT */
/*
 * megalith.json → model (contract §2): the tables of keys, and what each of them means. The order
 * of a table is the order of reading: nodes before the personas that name them, personas before the
 * models.
 */
#include <stdlib.h>
#include <string.h>

#include "core/config_read.h"

/* --- gateway --- */

/* Linux: IFNAMSIZ - 1 characters, no '/', no white space. */
static bool interface_name_ok(const char *name)
{
	size_t len = strlen(name);

	return len <= 15 && strcspn(name, "/: \t") == len && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

static void read_interfaces(struct config *c, const struct at *at, const struct config_key *key,
			    void *into)
{
	struct model *model = into;

	(void)key;
	config_strings(c, at, "an interface name of 1..15 characters without / : and space",
		       interface_name_ok, &model->gateway.interfaces, &model->gateway.n_interfaces);
}

static void add_address(struct config *c, const struct at *at, struct model *model)
{
	struct addr *list = model->gateway.addresses, addr;

	if (!config_address(c, at, &addr))
		return;
	for (size_t i = 0; i < model->gateway.n_addresses; i++) {
		if (addr_equal(&list[i], &addr)) {
			config_bad(c, at, "is given twice, allowed: once");
			return;
		}
	}
	list[model->gateway.n_addresses++] = addr;
}

static void read_addresses(struct config *c, const struct at *at, const struct config_key *key,
			   void *into)
{
	static const char allowed[] = "an array of addresses of this gateway";
	struct model *model = into;
	size_t i = 0;

	(void)key;
	if (!config_type(c, at, JSON_ARRAY, allowed))
		return;
	if (!json_first(at->value)) {
		config_bad(c, at, "is empty, needed: at least one");
		return;
	}
	model->gateway.addresses = config_alloc(c, json_count(at->value), sizeof(struct addr));
	if (!model->gateway.addresses)
		return;
	for (const struct json *v = json_first(at->value); v; v = json_next(v)) {
		struct at here = at_index(at, i++, v);

		add_address(c, &here, model);
	}
}

static void read_datapath(struct config *c, const struct at *at, const struct config_key *key,
			  void *into)
{
	static const char allowed[] = "auto, xdp, tc, none";
	struct model *model = into;
	char *text = config_string(c, at, allowed);

	(void)key;
	if (!text)
		return;
	if (datapath_mode_parse(&model->gateway.datapath, text))
		config_bad(c, at, "\"%.64s\" is no datapath, allowed: %s", text, allowed);
	free(text);
}

/* Digits of a port at the start of *text, which goes past them; 0: none. */
static unsigned range_port(const char **text)
{
	unsigned port = 0;

	for (; **text >= '0' && **text <= '9' && port <= UINT16_MAX; (*text)++)
		port = port * 10 + (unsigned)(**text - '0');
	return port <= UINT16_MAX ? port : 0;
}

static void read_snat(struct config *c, const struct at *at, const struct config_key *key,
		      void *into)
{
	static const char allowed[] = "\"FIRST-LAST\" within 1024..65535";
	struct model *model = into;
	char *text = config_string(c, at, allowed);
	const char *end = text;
	unsigned first, last;

	(void)key;
	if (!text)
		return;
	first = range_port(&end);
	end += *end == '-';
	last = range_port(&end);
	if (*end || first < 1024 || last < first) {
		config_bad(c, at, "\"%.64s\" is no port range, allowed: %s", text, allowed);
	} else {
		model->gateway.snat_first = (uint16_t)first;
		model->gateway.snat_last = (uint16_t)last;
	}
	free(text);
}

static const struct config_key gateway_keys[] = {
	{.name = "interfaces", .read = read_interfaces},
	{.name = "addresses", .read = read_addresses},
	{.name = "datapath", .read = read_datapath},
	{.name = "snat_ports", .read = read_snat},
	{"max_flows", config_read_u32, offsetof(struct model, gateway.max_flows), 16, 4194304,
	 NULL},
};

/* --- router, admin, probe --- */

static void read_router_listen(struct config *c, const struct at *at, const struct config_key *key,
			       void *into)
{
	struct model *model = into;

	(void)key;
	config_listen(c, at, &model->router.address, &model->router.port);
}

static void read_admin_listen(struct config *c, const struct at *at, const struct config_key *key,
			      void *into)
{
	struct model *model = into;

	(void)key;
	config_listen(c, at, &model->admin.address, &model->admin.port);
}

#define ROUTER(field) offsetof(struct model, router.field)
static const struct config_key router_keys[] = {
	{.name = "listen", .read = read_router_listen},
	{"keys_file", config_read_text, ROUTER(keys_file), 0, 0, NULL},
	{"allow_anonymous", config_read_bool, ROUTER(allow_anonymous), 0, 0, NULL},
	{"max_body_mb", config_read_u32, ROUTER(max_body_mb), 1, 4096, NULL},
	{"queue_ms", config_read_u32, ROUTER(queue_ms), 0, CONFIG_HOUR_MS, NULL},
	{"queue_length", config_read_u32, ROUTER(queue_length), 0, 65536, NULL},
	{"first_byte_timeout_ms", config_read_u32, ROUTER(first_byte_timeout_ms), 1, CONFIG_HOUR_MS,
	 NULL},
	{"head_max_kb", config_read_u32, ROUTER(head_max_kb), 1, 1024, NULL},
	{"head_fields_max", config_read_u32, ROUTER(head_fields_max), 8, 1000, NULL},
	{"head_timeout_ms", config_read_u32, ROUTER(head_timeout_ms), 1, CONFIG_HOUR_MS, NULL},
	{"idle_timeout_ms", config_read_u32, ROUTER(idle_timeout_ms), 1, CONFIG_HOUR_MS, NULL},
};

static const struct config_key admin_keys[] = {
	{.name = "listen", .read = read_admin_listen},
};

#define PROBE(field) offsetof(struct model, probe.field)
static const struct config_key probe_keys[] = {
	{"interval_ms", config_read_u32, PROBE(interval_ms), 10, CONFIG_HOUR_MS, NULL},
	{"timeout_ms", config_read_u32, PROBE(timeout_ms), 1, CONFIG_HOUR_MS, NULL},
	{"rise", config_read_u32, PROBE(rise), 1, 100, NULL},
	{"fall", config_read_u32, PROBE(fall), 1, 100, NULL},
};

static const struct {
	const char *name;
	const struct config_key *keys;
	size_t n_keys;
} sections[] = {
	{"gateway", gateway_keys, CONFIG_COUNT(gateway_keys)},
	{"router", router_keys, CONFIG_COUNT(router_keys)},
	{"admin", admin_keys, CONFIG_COUNT(admin_keys)},
	{"probe", probe_keys, CONFIG_COUNT(probe_keys)},
};

static void read_section(struct config *c, const struct at *at, const struct config_key *key,
			 void *into)
{
	size_t i = 0;

	while (strcmp(sections[i].name, key->name) != 0)
		i++;
	if (config_type(c, at, JSON_OBJECT, "an object"))
		config_object(c, at, sections[i].keys, sections[i].n_keys, into);
}

/* --- the whole --- */

static const struct config_key root_keys[] = {
	{.name = "$schema", .read = config_read_any}, /* for editors */
	{.name = "gateway", .read = read_section},
	{.name = "router", .read = read_section},
	{.name = "admin", .read = read_section},
	{.name = "probe", .read = read_section},
	{.name = "nodes", .read = config_read_nodes, .needed = "an object of nodes"},
	{.name = "personas", .read = config_read_personas, .needed = "an object of personas"},
	{.name = "models", .read = config_read_models},
};

static void set_defaults(struct model *model)
{
	model->gateway.datapath = DATAPATH_AUTO;
	model->gateway.snat_first = 20000;
	model->gateway.snat_last = 32767;
	model->gateway.max_flows = 262144;
	addr_parse_port(&model->router.address, &model->router.port, "127.0.0.1:4000");
	addr_parse_port(&model->admin.address, &model->admin.port, "127.0.0.1:4001");
	model->router.max_body_mb = 64;
	model->router.queue_ms = 10000;
	model->router.queue_length = 256;
	model->router.first_byte_timeout_ms = 120000;
	model->router.head_max_kb = 64;
	model->router.head_fields_max = 100;
	model->router.head_timeout_ms = 10000;
	model->router.idle_timeout_ms = 60000;
	model->probe.interval_ms = 1000;
	model->probe.timeout_ms = 500;
	model->probe.rise = 2;
	model->probe.fall = 3;
}

static void read_root(struct config *c)
{
	struct at root = {.value = c->root};

	c->model = config_alloc(c, 1, sizeof(*c->model));
	if (!c->model)
		return;
	set_defaults(c->model);
	if (!config_type(c, &root, JSON_OBJECT, "an object"))
		return;
	config_object(c, &root, root_keys, CONFIG_COUNT(root_keys), c->model);
	config_check(c, &root);
}

struct model *model_load(const char *file, const char *text, size_t len,
			 const char *(*getenv_)(const char *name), struct buf *errors)
{
	struct config c = {.file = file, .getenv_ = getenv_};
	struct json_error error;
	struct json *root = json_parse(text, len, JSON_COMMENTS | JSON_DUPLICATES, &error);

	if (!root) {
		buf_printf(errors, "%s:%u: /: %s\n", file, error.line, error.text);
		return NULL;
	}
	c.root = root;
	read_root(&c);
	if (c.n_errors || c.no_memory) {
		model_free(c.model);
		c.model = NULL;
	}
	config_print_errors(&c, errors);
	free(c.nodes);
	json_free(root);
	return c.model;
}
