/* SPDX-License-Identifier: MIT */
/* The loader (userspace/datapath): opening, attaching, publishing, adopting, hops, taking off.
 * Needs root. */
#include "gateway.h"

#include <linux/if_link.h>
#include <net/if.h>

#include <bpf/libbpf.h>

#define NEEDS_RIG() \
	do { \
		if (rig.skip) \
			skip(); \
	} while (0)

/* --- open, attach, take off ---------------------------------------------------------------- */

static void serves_and_leaves(enum datapath_mode mode, const char *attached)
{
	struct datapath *dp = rig_open(mode);
	const struct datapath_interface *list;
	struct datapath_error error;
	char line[256];

	assert_false(datapath_adopted(dp));
	assert_int_equal(datapath_interfaces(dp, &list), 2);
	assert_string_equal(list[1].name, "g1");
	assert_int_equal(list[1].mode, mode);
	assert_int_equal(datapath_mode_of(dp), mode);
	assert_int_equal(rig_count("mg_tx"), 2);
	assert_true(says(line, "cat /proc/sys/net/ipv4/ip_local_reserved_ports"));
	assert_string_equal(line, "20000-20999\n");
	datapath_close(dp);
	assert_true(says(NULL, "%s", attached)); /* it outlives its controller */
	assert_int_equal(datapath_detach(rig.bpf_dir, &error), 0);
	rig_clean();
}

static void test_open__serves_on_tc_and_leaves_nothing(void **state)
{
	(void)state;
	NEEDS_RIG();
	serves_and_leaves(DATAPATH_TC, "tc filter show dev g1 ingress | grep mg_tc");
}

static void test_open__serves_on_xdp_and_leaves_nothing(void **state)
{
	(void)state;
	NEEDS_RIG();
	serves_and_leaves(DATAPATH_XDP, "ip link show dev g1 | grep -w xdp");
}

static void test_open__auto_takes_tc_on_veth_and_says_why(void **state)
{
	const struct datapath_interface *list;
	struct datapath *dp;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_AUTO);
	datapath_interfaces(dp, &list);
	assert_int_equal(list[0].mode, DATAPATH_TC);
	assert_string_equal(list[0].note,
			    "veth: its peer leaves checksums unfinished, which XDP cannot see");
	datapath_close(dp);
}

static void test_open__none_is_inert(void **state)
{
	struct datapath *dp;
	struct plan *plan = rig_plan(1);
	const struct addr *addresses;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_NONE);
	rig_publish(dp, plan);
	assert_int_equal(datapath_sweep(dp), 0);
	assert_int_equal(datapath_events_fd(dp), -1);
	assert_false(datapath_events(dp));
	assert_int_equal(datapath_mode_of(dp), DATAPATH_NONE);
	assert_int_equal(datapath_counter(dp, MG_R_TO_NODE), 0);
	assert_int_equal(datapath_addresses(dp, &addresses), 0);
	datapath_close(dp);
	rig_plan_free(plan);
	rig_clean();
}

static void test_open__dump_shows_fields(void **state)
{
	struct datapath *dp;
	struct plan *plan = rig_plan(1);

	(void)state;
	NEEDS_RIG();
	if (system("command -v bpftool >/dev/null"))
		skip();
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	assert_true(says(NULL, "bpftool map dump pinned %s/mg_services | grep tier_end", rig.pins));
	assert_true(says(NULL, "bpftool map dump pinned %s/mg_nodes | head -100 | grep generation",
			 rig.pins));
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_open__directory_is_private(void **state)
{
	struct datapath *dp;
	struct stat st;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	assert_int_equal(stat(rig.pins, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	datapath_close(dp);
}

static void test_detach__leaves_the_ports_of_others(void **state)
{
	struct datapath_error error;
	char line[256];

	(void)state;
	NEEDS_RIG();
	run("echo 8080,20500-20600,40000 > /proc/sys/net/ipv4/ip_local_reserved_ports");
	datapath_close(rig_open(DATAPATH_TC));
	assert_true(says(line, "cat /proc/sys/net/ipv4/ip_local_reserved_ports"));
	assert_string_equal(line, "8080,20000-20999,40000\n");
	datapath_close(rig_open(DATAPATH_TC)); /* the second start knows what the first found */
	assert_int_equal(datapath_detach(rig.bpf_dir, &error), 0);
	assert_true(says(line, "cat /proc/sys/net/ipv4/ip_local_reserved_ports"));
	assert_string_equal(line, "8080,20500-20600,40000\n");
}

static void test_detach__leaves_the_filters_of_others(void **state)
{
	struct datapath_error error;

	(void)state;
	NEEDS_RIG();
	run("tc qdisc add dev g0 clsact");
	datapath_close(rig_open(DATAPATH_TC));
	run("tc filter add dev g1 egress pref 7 bpf da pinned %s/mg_tc", rig.pins);
	assert_int_equal(datapath_detach(rig.bpf_dir, &error), 0);
	assert_true(says(NULL, "tc qdisc show dev g0 | grep clsact")); /* was there before */
	assert_true(says(NULL, "tc filter show dev g1 egress | grep 'pref 7'")); /* came to ours */
	assert_false(says(NULL, "tc filter show dev g0 ingress"));
	assert_false(says(NULL, "tc filter show dev g1 ingress"));
}

static void test_detach__nothing_there_is_fine(void **state)
{
	struct datapath_error error;

	(void)state;
	NEEDS_RIG();
	assert_int_equal(datapath_detach(rig.bpf_dir, &error), 0);
}

static void test_detach__under_an_open_datapath_is_final(void **state)
{
	struct datapath_error error;
	struct datapath *dp;
	int link;

	(void)state;
	NEEDS_RIG();
	for (enum datapath_mode mode = DATAPATH_XDP; mode <= DATAPATH_TC; mode++) {
		dp = rig_open(mode);
		link = pin_open(mode == DATAPATH_XDP ? "link_g0"
						     : "mg_tc"); /* as a curious bpftool does */
		assert_int_equal(datapath_detach(rig.bpf_dir, &error), 0);
		rig_clean();
		datapath_sweep(dp); /* does not put it back */
		rig_clean();
		datapath_close(dp);
		close(link);
	}
}

/* --- refused ------------------------------------------------------------------------------- */

static void test_refused__interface_missing(void **state)
{
	char *names[] = {(char[]){"g0"}, (char[]){"eth7"}};
	struct datapath_options options;
	struct datapath_error error;

	(void)state;
	NEEDS_RIG();
	options = rig_options(DATAPATH_TC);
	options.interfaces = names;
	assert_null(datapath_open(&options, &error));
	assert_non_null(strstr(error.text, "interface \"eth7\": there is none; there are: lo, "));
	rig_clean();
}

static void test_refused__interface_not_ethernet(void **state)
{
	char *names[] = {(char[]){"g0"}, (char[]){"lo"}};
	struct datapath_options options;

	(void)state;
	NEEDS_RIG();
	options = rig_options(DATAPATH_TC);
	options.interfaces = names;
	rig_refused(
		&options,
		"interface \"lo\": not Ethernet (link type 772), the datapath cannot work on it");
	rig_clean();
}

static void test_refused__no_bpffs(void **state)
{
	struct datapath_options options;
	char dir[128], text[512];

	(void)state;
	NEEDS_RIG();
	options = rig_options(DATAPATH_TC);
	snprintf(dir, sizeof(dir), "%s/mg", rig.dir);
	snprintf(text, sizeof(text), "%s is not on a BPF filesystem: mount -t bpf bpf %s", rig.dir,
		 rig.dir);
	options.bpf_dir = dir;
	rig_refused(&options, text);
	assert_int_not_equal(access(dir, F_OK), 0);
	rig_clean();
}

static int foreign_xdp(const char *interface)
{
	const struct bpf_insn code[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_EXIT},
	};
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof(info);
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "foreign", "MIT", code, 2, NULL);

	assert_true(fd >= 0);
	assert_int_equal(
		bpf_xdp_attach((int)if_nametoindex(interface), fd, XDP_FLAGS_DRV_MODE, NULL), 0);
	assert_int_equal(bpf_obj_get_info_by_fd(fd, &info, &len), 0);
	close(fd);
	return (int)info.id;
}

static void test_refused__foreign_xdp(void **state)
{
	struct datapath_options options;
	char text[512];

	(void)state;
	NEEDS_RIG();
	options = rig_options(DATAPATH_XDP);
	snprintf(text, sizeof(text),
		 "interface \"g1\": another XDP program (id %d) is attached: take it off "
		 "(ip link set dev g1 xdp off), or set \"datapath\": \"tc\"",
		 foreign_xdp("g1"));
	rig_refused(&options, text);
	assert_true(says(NULL, "ip link show dev g1 | grep xdp")); /* untouched */
	run("ip link set dev g1 xdp off");
	rig_clean();
}

static void test_open__auto_leaves_foreign_xdp_alone(void **state)
{
	const struct datapath_interface *list;
	struct datapath *dp;
	char text[64];

	(void)state;
	NEEDS_RIG();
	snprintf(text, sizeof(text), "another XDP program (id %d) is attached", foreign_xdp("g1"));
	dp = rig_open(DATAPATH_AUTO);
	datapath_interfaces(dp, &list);
	assert_int_equal(list[1].mode, DATAPATH_TC);
	assert_string_equal(list[1].note, text);
	datapath_close(dp);
}

static void test_refused__no_native_xdp(void **state)
{
	char *names[] = {(char[]){"g0"}, (char[]){"mgbr"}};
	struct datapath_options options;

	(void)state;
	NEEDS_RIG();
	if (system("ip link add mgbr type bridge 2>/dev/null"))
		skip();
	options = rig_options(DATAPATH_XDP);
	options.interfaces = names;
	rig_refused(&options, "interface \"mgbr\": no native XDP: its driver has none; "
			      "\"datapath\": \"tc\" works on every interface");
	run("ip link del mgbr");
	rig_clean(); /* g0 had been attached by then */
}

static void test_refused__mtu_too_large_for_xdp(void **state)
{
	struct datapath_options options;

	(void)state;
	NEEDS_RIG();
	run("ip link set g1 mtu 9000");
	run_there("ip link set p1 mtu 9000");
	options = rig_options(DATAPATH_XDP);
	rig_refused(&options, "interface \"g1\": no native XDP: its driver does not take it as the "
			      "interface is set up "
			      "(MTU above a page, LRO, or too few queues); \"datapath\": \"tc\" "
			      "works on every interface");
	rig_clean();
}

static void test_refused__second_controller(void **state)
{
	struct datapath_options options;
	struct datapath *dp;
	char text[512];

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	options = rig_options(DATAPATH_TC);
	snprintf(text, sizeof(text), "another controller (pid %d) works on %s", getpid(), rig.pins);
	rig_refused(&options, text);
	assert_true(says(NULL, "tc filter show dev g0 ingress"));
	datapath_close(dp);
	datapath_close(rig_open(DATAPATH_TC));
}

/* Runs `body` in a child; what it returns is checked. */
static void in_child(int (*body)(void))
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(body());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static int open_without_rights(void)
{
	struct datapath_options options = rig_options(DATAPATH_TC);
	struct datapath_error error;

	if (setgid(65534) || setuid(65534))
		return 2;
	if (datapath_open(&options, &error))
		return 3;
	return strcmp(error.text,
		      "the datapath needs root, or CAP_BPF and CAP_NET_ADMIN (missing: CAP_BPF "
		      "CAP_NET_ADMIN); \"datapath\": \"none\" works without") != 0;
}

static void test_refused__without_rights(void **state)
{
	(void)state;
	NEEDS_RIG();
	in_child(open_without_rights);
	rig_clean();
}

/* --- adopting ------------------------------------------------------------------------------ */

static uint32_t tc_program_id(void)
{
	char line[256];
	uint32_t id = 0;

	if (says(line, "tc filter show dev g0 ingress | sed -n 's/.* id \\([0-9]*\\) .*/\\1/p'"))
		id = (uint32_t)strtoul(line, NULL, 10);
	return id;
}

static void test_adopt__keeps_maps_and_slots(void **state)
{
	struct plan *plan = rig_plan(3);
	struct mg_node before, after;
	struct mg_row row;
	struct datapath *dp;
	uint32_t slot, program;

	(void)state;
	NEEDS_RIG();
	for (enum datapath_mode mode = DATAPATH_XDP; mode <= DATAPATH_TC; mode++) {
		dp = rig_open(mode);
		rig_publish(dp, plan);
		slot = rig_slot("n1/llm", &before);
		assert_int_not_equal(slot, 0);
		program = tc_program_id();
		datapath_close(dp);
		dp = rig_open(mode);
		assert_true(datapath_adopted(dp));
		assert_int_equal(rig_row("10.9.0.1", PERSONA_PORT, &row),
				 0); /* also before publishing */
		rig_publish(dp, plan);
		assert_int_equal(rig_slot("n1/llm", &after), slot);
		assert_int_equal(after.generation, before.generation);
		if (mode == DATAPATH_TC)
			assert_int_not_equal(tc_program_id(),
					     program); /* ours, not the one before */
		datapath_close(dp);
		rig_reset(NULL);
	}
	rig_plan_free(plan);
}

static void test_adopt__from_xdp_to_tc_and_back(void **state)
{
	(void)state;
	NEEDS_RIG();
	datapath_close(rig_open(DATAPATH_XDP));
	datapath_close(rig_open(DATAPATH_TC));
	assert_false(says(NULL, "ip link | grep xdp"));
	assert_true(says(NULL, "tc filter show dev g1 ingress"));
	datapath_close(rig_open(DATAPATH_XDP));
	assert_true(says(NULL, "ip link show dev g1 | grep xdp"));
	assert_false(says(NULL, "tc qdisc show | grep clsact"));
}

static void test_adopt__leaves_an_interface_no_longer_configured(void **state)
{
	struct datapath_options options;
	struct datapath_error error;
	struct datapath *dp;

	(void)state;
	NEEDS_RIG();
	datapath_close(rig_open(DATAPATH_TC));
	options = rig_options(DATAPATH_TC);
	options.n_interfaces = 1;
	dp = datapath_open(&options, &error);
	assert_non_null(dp);
	assert_true(datapath_adopted(dp));
	assert_false(says(NULL, "tc qdisc show dev g1 | grep clsact"));
	assert_int_equal(rig_count("mg_tx"), 1);
	datapath_close(dp);
}

static void test_adopt__refuses_other_parameters(void **state)
{
	struct datapath_options options;

	(void)state;
	NEEDS_RIG();
	datapath_close(rig_open(DATAPATH_TC));
	options = rig_options(DATAPATH_TC);
	options.max_flows = 4096;
	rig_refused(
		&options,
		"the datapath that is serving has snat_ports 20000-20999 and max_flows 1024, the "
		"configuration 20000-20999 and 4096: these cannot change under its connections; "
		"megalithctl detach takes it off, then start again");
	options = rig_options(DATAPATH_TC);
	options.snat_last = 21000;
	rig_refused(
		&options,
		"the datapath that is serving has snat_ports 20000-20999 and max_flows 1024, the "
		"configuration 20000-21000 and 1024: these cannot change under its connections; "
		"megalithctl detach takes it off, then start again");
	assert_true(says(NULL, "tc filter show dev g0 ingress")); /* still serving */
}

static void test_adopt__failure_leaves_the_old_one_serving(void **state)
{
	char *names[] = {(char[]){"g0"}, (char[]){"g1"}, (char[]){"mgbr"}};
	struct datapath_options options;
	struct datapath_error error;
	struct mg_row row;
	struct plan *plan;
	struct datapath *dp;

	(void)state;
	NEEDS_RIG();
	if (system("ip link add mgbr type bridge 2>/dev/null"))
		skip();
	plan = rig_plan(1);
	options = rig_options(DATAPATH_XDP);
	options.interfaces = names;
	options.n_interfaces = 1;
	dp = datapath_open(&options, &error);
	assert_non_null(dp);
	rig_publish(dp, plan);
	datapath_close(dp);
	options.n_interfaces = 3;
	assert_null(datapath_open(&options, &error)); /* the bridge has no XDP */
	assert_true(says(NULL, "ip link show dev g0 | grep xdp"));
	assert_false(says(NULL, "ip link show dev g1 | grep xdp")); /* had been attached by then */
	assert_int_equal(rig_row("10.9.0.1", PERSONA_PORT, &row), 0);
	rig_plan_free(plan);
	run("ip link del mgbr");
}

static void unpin(const char *name)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/%s", rig.pins, name);
	assert_int_equal(unlink(path), 0);
}

static void test_adopt__mends_a_half_made_directory(void **state)
{
	const char *const lost[] = {"mg_meta", "mg_rows", "mg_nodes", "mg_tc", "mg_counters"};
	struct datapath *dp;
	struct plan *plan = rig_plan(2);
	struct mg_node node;

	(void)state;
	NEEDS_RIG();
	for (size_t i = 0; i < sizeof(lost) / sizeof(lost[0]); i++) {
		dp = rig_open(DATAPATH_TC);
		datapath_close(dp);
		unpin(lost[i]);
		dp = rig_open(DATAPATH_TC);
		rig_publish(dp, plan);
		assert_int_not_equal(rig_slot("n1/llm", &node), 0);
		assert_int_equal(rig_count("mg_counters"), MG_R_COUNT);
		datapath_close(dp);
		assert_true(says(NULL, "tc filter show dev g0 ingress"));
		rig_reset(NULL);
		rig_clean();
	}
	rig_plan_free(plan);
}

static void test_adopt__passes_over_what_a_kill_left_aside(void **state)
{
	char path[192];
	int fd;

	(void)state;
	NEEDS_RIG();
	datapath_close(rig_open(DATAPATH_TC));
	fd = pin_open("mg_xdp");
	snprintf(path, sizeof(path), "%s/new_mg_tc", rig.pins); /* between pinning and renaming */
	assert_int_equal(bpf_obj_pin(fd, path), 0);
	close(fd);
	datapath_close(rig_open(DATAPATH_TC));
	assert_int_not_equal(access(path, F_OK), 0);
}

static void test_adopt__takes_a_lost_filter_over(void **state)
{
	char line[256];

	(void)state;
	NEEDS_RIG();
	datapath_close(rig_open(DATAPATH_TC));
	run("rm -r %s", rig.bpf_dir); /* e.g. the bpffs of a container that is no more */
	datapath_close(rig_open(DATAPATH_TC));
	assert_true(says(line, "tc filter show dev g0 ingress | grep -c mg_tc"));
	assert_string_equal(line, "1\n");
	rig_reset(NULL);
	rig_clean();
}

static void test_adopt__clears_what_another_namespace_left(void **state)
{
	(void)state;
	NEEDS_RIG();
	datapath_close(rig_open(DATAPATH_TC));
	assert_int_equal(unshare(CLONE_NEWNET), 0); /* the old one dies with its last process */
	renew_links();
	datapath_close(rig_open(DATAPATH_TC));
	assert_true(says(NULL, "tc filter show dev g0 ingress"));
}

static int open_in_other_namespace(void)
{
	struct datapath_options options = rig_options(DATAPATH_TC);
	struct datapath_error error;
	char want[600];

	snprintf(want, sizeof(want),
		 "the datapath pinned in %s works in another network namespace: give this instance "
		 "another "
		 "--bpf-dir, or take that one off with megalithctl detach",
		 rig.pins);
	if (unshare(CLONE_NEWNET) || system("ip link add g0 type veth peer name p0 &&"
					    "ip link add g1 type veth peer name p1"))
		return 2;
	if (datapath_open(&options, &error))
		return 3;
	return strcmp(error.text, want) != 0;
}

static void test_adopt__refuses_a_living_one_of_another_namespace(void **state)
{
	(void)state;
	NEEDS_RIG();
	datapath_close(rig_open(DATAPATH_TC));
	in_child(open_in_other_namespace);
	assert_true(says(NULL, "tc filter show dev g0 ingress"));
}

/* --- publishing ---------------------------------------------------------------------------- */

static void test_publish__a_row_for_every_address(void **state)
{
	struct plan *plan = rig_plan(3);
	const struct addr *addresses;
	struct mg_node node;
	struct mg_row row;
	struct datapath *dp;
	uint32_t slot;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	assert_int_equal(datapath_addresses(dp, &addresses), 4);
	assert_int_equal(rig_count("mg_services"), 4);
	assert_int_equal(rig_row("fd08::1", PERSONA_PORT, &row), 0);
	assert_string_equal(row.name, "p/llm");
	assert_int_equal(row.count,
			 0); /* the nodes have IPv4 addresses: the fallback listener's business */
	assert_int_equal(rig_row("10.8.0.1", PERSONA_PORT, &row), 0);
	assert_string_equal(row.name, "p/llm");
	assert_int_equal(row.count, 3);
	assert_int_equal(row.more, 0);
	slot = rig_slot("n2/llm", &node);
	assert_int_equal(row.node[2], slot);
	assert_int_equal(node.capacity, 4);
	assert_int_equal(node.state, MG_NODE_UP);
	assert_int_equal(ntohs(node.port_be), 11434);
	plan->rows[0].port = 11502; /* the old listener goes */
	rig_publish(dp, plan);
	assert_int_equal(rig_count("mg_services"), 4);
	assert_int_not_equal(rig_row("10.9.0.1", PERSONA_PORT, &row), 0);
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_publish__only_configured_addresses(void **state)
{
	struct plan *plan = rig_plan(1);
	struct datapath_options options;
	struct datapath_error error;
	struct mg_row row;
	struct addr address;
	struct datapath *dp;

	(void)state;
	NEEDS_RIG();
	options = rig_options(DATAPATH_TC);
	assert_int_equal(addr_parse(&address, "10.9.0.77"), 0);
	options.addresses = &address;
	options.n_addresses = 1;
	dp = datapath_open(&options, &error);
	assert_non_null(dp);
	rig_publish(dp, plan);
	assert_int_equal(rig_count("mg_services"), 1);
	assert_int_equal(rig_row("10.9.0.77", PERSONA_PORT, &row), 0);
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_publish__slots_stay_and_generations_rise(void **state)
{
	struct plan *plan = rig_plan(3);
	struct mg_node node, other;
	uint32_t slot, generation;
	struct datapath *dp;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	slot = rig_slot("n1/llm", &node);
	generation = node.generation;
	plan->endpoints[1].weight = 7;
	plan->endpoints[1].state = MG_NODE_DRAIN;
	rig_publish(dp, plan);
	assert_int_equal(rig_slot("n1/llm", &node), slot);
	assert_int_equal(node.generation, generation);
	assert_int_equal(node.weight, 7);
	assert_int_equal(node.state, MG_NODE_DRAIN);

	snprintf(plan->endpoints[1].node, MG_NAME_MAX,
		 "new"); /* same place in the plan, another machine */
	rig_publish(dp, plan);
	assert_int_equal(rig_slot("n1/llm", &node), slot);
	assert_int_equal(node.state, MG_NODE_GONE);
	assert_int_not_equal(rig_slot("new/llm", &other), slot);
	datapath_sweep(dp);
	assert_int_equal(rig_slot("n1/llm", &node), slot); /* one quiet sweep is not enough */
	datapath_sweep(dp);
	assert_int_equal(rig_slot("n1/llm", &node), 0);

	snprintf(plan->endpoints[2].node, MG_NAME_MAX, "newer");
	plan->endpoints[2].state = MG_NODE_UP;
	rig_publish(dp, plan);
	assert_int_equal(rig_slot("newer/llm", &node), slot);
	assert_int_equal(node.generation, generation + 1);
	datapath_close(dp);
	rig_plan_free(plan);
}

/* A connection in the flow table, as the programs would have made it. */
static void put_flow(uint32_t slot, uint32_t generation)
{
	struct mg_flow flow = {.slot = slot, .generation = generation, .half = MG_TO_NODE};
	struct mg_tuple in = {.sport_be = htons(50000), .dport_be = htons(PERSONA_PORT)};
	struct addr addr;

	addr_parse(&addr, "10.8.0.2");
	memcpy(in.saddr, addr.bytes, 16);
	addr_parse(&addr, "10.8.0.1");
	memcpy(in.daddr, addr.bytes, 16);
	addr_parse(&addr, "10.9.0.1");
	memcpy(flow.out.saddr, addr.bytes, 16);
	addr_parse(&addr, "10.9.0.3");
	memcpy(flow.out.daddr, addr.bytes, 16);
	flow.out.sport_be = htons(20007);
	flow.out.dport_be = htons(11434);
	flow.flags = MG_BUSY;
	assert_int_equal(rig_put("mg_flows", &in, &flow), 0);
}

struct seen_flow {
	struct datapath_flow flow;
	int n;
};

static bool see_flow(const struct datapath_flow *flow, void *arg)
{
	struct seen_flow *seen = arg;

	seen->flow = *flow;
	seen->n++;
	return true;
}

static void test_flows__are_listed_with_their_endpoint(void **state)
{
	struct plan *plan = rig_plan(3);
	struct seen_flow seen = {.n = 0};
	char text[ADDR_TEXT_MAX];
	struct mg_node node;
	struct datapath *dp;
	uint32_t slot;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	slot = rig_slot("n1/llm", &node);
	put_flow(slot, node.generation);
	assert_int_equal(datapath_flows(dp, see_flow, &seen), 0);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.flow.endpoint, 1);
	assert_string_equal(addr_format_port(&seen.flow.client, seen.flow.client_port, text),
			    "10.8.0.2:50000");
	assert_string_equal(
		addr_format_port(&seen.flow.listener_addr, seen.flow.listener_port, text),
		"10.8.0.1:11501");
	assert_string_equal(addr_format_port(&seen.flow.snat_addr, seen.flow.snat_port, text),
			    "10.9.0.1:20007");
	assert_string_equal(addr_format_port(&seen.flow.node_addr, seen.flow.node_port, text),
			    "10.9.0.3:11434");
	put_flow(slot, node.generation - 1);
	datapath_flows(dp, see_flow, &seen);
	assert_int_equal(seen.flow.endpoint, SIZE_MAX); /* of the slot's former owner */
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_counts__come_from_node_and_cpus(void **state)
{
	struct plan *plan = rig_plan(3);
	int cpus = libbpf_num_possible_cpus();
	struct mg_node_stats *stats = calloc((size_t)cpus, sizeof(*stats));
	uint64_t *counter = calloc((size_t)cpus, sizeof(*counter));
	uint32_t slot, reason = MG_R_NO_ROOM;
	struct datapath_counts counts;
	struct mg_node node;
	struct datapath *dp;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	slot = rig_slot("n1/llm", &node);
	for (int i = 0; i < cpus; i++) {
		stats[i].bytes[1] = 100;
		counter[i] = 5;
	}
	assert_int_equal(rig_put("mg_node_stats", &slot, stats), 0);
	assert_int_equal(rig_put("mg_counters", &reason, counter), 0);
	node.connections = 3;
	node.busy = 2;
	assert_int_equal(rig_put("mg_nodes", &slot, &node), 0);
	datapath_set_relayed(dp, 1, 9);
	datapath_counts(dp, 1, &counts);
	assert_int_equal(counts.connections, 3);
	assert_int_equal(counts.busy, 2);
	assert_int_equal(counts.bytes[1], 100 * cpus);
	assert_int_equal(datapath_counter(dp, MG_R_NO_ROOM), 5 * cpus);
	rig_slot("n1/llm", &node);
	assert_int_equal(node.relayed, 9);
	datapath_counts(dp, 99, &counts); /* not in the plan */
	assert_int_equal(counts.connections, 0);
	datapath_close(dp);
	free(stats);
	free(counter);
	rig_plan_free(plan);
}

static void test_sweep__recounts_and_keeps_slots_in_use(void **state)
{
	struct plan *plan = rig_plan(2);
	struct datapath_counts counts;
	struct mg_node node;
	struct datapath *dp;
	uint32_t slot;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	slot = rig_slot("n1/llm", &node);
	put_flow(slot, node.generation);
	node.connections = 77; /* a hint gone wrong */
	assert_int_equal(rig_put("mg_nodes", &slot, &node), 0);
	/*
	 * put_flow() stamps 0: silent since boot, which is within the two hours or not. When not,
	 * the count moves in the first sweep, and what moves is set right by the next.
	 */
	assert_int_equal(datapath_sweep(dp), 0);
	assert_int_equal(datapath_sweep(dp), 0);
	datapath_counts(dp, 1, &counts);
	assert_true(counts.connections <= 1);
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_publish__long_rows(void **state)
{
	struct plan *plan = rig_plan(100);
	struct mg_long_row list;
	struct mg_node node;
	struct mg_row row, again;
	struct datapath *dp;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	assert_int_equal(rig_row("10.9.0.1", PERSONA_PORT, &row), 0);
	assert_int_equal(row.count, 100);
	assert_int_not_equal(row.more, 0);
	assert_int_equal(rig_get("mg_rows", &row.more, &list), 0);
	assert_int_equal(list.node[99], rig_slot("n99/llm", &node));
	assert_int_equal(list.node[100], 0);
	rig_publish(dp, plan); /* the same: nothing moves */
	assert_int_equal(rig_row("10.9.0.1", PERSONA_PORT, &again), 0);
	assert_int_equal(again.more, row.more);
	plan->rows[0].tiers[0].n_endpoints = 99;
	rig_publish(dp, plan); /* another list: another number, and the old one goes */
	assert_int_equal(rig_row("10.9.0.1", PERSONA_PORT, &again), 0);
	assert_int_not_equal(again.more, row.more);
	assert_int_equal(rig_count("mg_rows"), 1);
	plan->rows[0].tiers[0].n_endpoints = MG_ROW_INLINE;
	rig_publish(dp, plan);
	assert_int_equal(rig_row("10.9.0.1", PERSONA_PORT, &again), 0);
	assert_int_equal(again.more, 0);
	assert_int_equal(again.node[MG_ROW_INLINE - 1], rig_slot("n31/llm", &node));
	assert_int_equal(rig_count("mg_rows"), 0);
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_publish__a_thousand_nodes_in_time(void **state)
{
	struct plan *plan = rig_plan(MG_NODES_MAX);
	struct timespec a, b;
	struct datapath *dp;
	double first, again;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	clock_gettime(CLOCK_MONOTONIC, &a);
	rig_publish(dp, plan);
	clock_gettime(CLOCK_MONOTONIC, &b);
	first = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
	for (size_t i = 0; i < plan->n_endpoints; i++)
		plan->endpoints[i].weight = 50;
	clock_gettime(CLOCK_MONOTONIC, &a);
	rig_publish(dp, plan);
	clock_gettime(CLOCK_MONOTONIC, &b);
	again = (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
	print_message("1,024 nodes: first publish %.1f ms, again %.1f ms\n", first, again);
	assert_true(again < 1000); /* an order above what it takes: the machine may be busy */
	datapath_close(dp);
	rig_plan_free(plan);
}

/* --- hops and addresses -------------------------------------------------------------------- */

static bool n0_reachable(const struct datapath *dp, void *arg)
{
	struct datapath_counts counts;

	(void)arg;
	datapath_counts(dp, 0, &counts);
	return counts.reachable;
}

static bool n0_unreachable(const struct datapath *dp, void *arg)
{
	return !n0_reachable(dp, arg);
}

static bool n0_has_mac(const struct datapath *dp, void *arg)
{
	struct mg_node node;
	const char *want = arg;
	char mac[32];

	(void)dp;
	rig_slot("n0/llm", &node);
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", node.hop.dst_mac[0],
		 node.hop.dst_mac[1], node.hop.dst_mac[2], node.hop.dst_mac[3], node.hop.dst_mac[4],
		 node.hop.dst_mac[5]);
	return node.hop.ifindex && strcmp(mac, want) == 0;
}

static void mac_there(const char *link, char mac[32])
{
	char line[256];

	assert_true(says(line, "nsenter -t %d -n ip -br link show %s | awk '{print $3}'",
			 rig.neighbour, link));
	line[strcspn(line, "\n")] = '\0';
	snprintf(mac, 32, "%.31s", line);
}

static void test_hop__is_found_by_asking(void **state)
{
	struct plan *plan = rig_plan(1);
	char mac[32], text[ADDR_TEXT_MAX];
	struct mg_node node;
	struct datapath *dp;
	struct addr snat;

	(void)state;
	NEEDS_RIG();
	mac_there("p0", mac);
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	rig_wait(dp, n0_reachable, NULL);
	assert_true(n0_has_mac(dp, mac));
	rig_slot("n0/llm", &node);
	assert_int_equal(node.hop.ifindex, if_nametoindex("g0"));
	memcpy(snat.bytes, node.snat, sizeof(snat.bytes));
	assert_string_equal(addr_format(&snat, text), "10.9.0.1");
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_hop__over_ipv6(void **state)
{
	struct plan *plan = rig_plan(1);
	struct datapath *dp;
	char mac[32];

	(void)state;
	NEEDS_RIG();
	mac_there("p0", mac);
	addr_parse(&plan->endpoints[0].addr, "fd09::2");
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	rig_wait(dp, n0_has_mac, mac);
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_hop__through_a_router_and_a_changed_route(void **state)
{
	struct plan *plan = rig_plan(1);
	struct mg_node node;
	struct datapath *dp;
	char mac[2][32];

	(void)state;
	NEEDS_RIG();
	mac_there("p0", mac[0]);
	mac_there("p1", mac[1]);
	addr_parse(&plan->endpoints[0].addr, "10.77.0.5");
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	assert_true(n0_unreachable(dp, NULL)); /* no route */
	run("ip route add 10.77.0.0/24 via 10.9.0.2");
	rig_wait(dp, n0_has_mac, mac[0]);
	run("ip route replace 10.77.0.0/24 via 10.8.0.2");
	rig_wait(dp, n0_has_mac, mac[1]);
	rig_slot("n0/llm", &node);
	assert_int_equal(node.hop.ifindex, if_nametoindex("g1"));
	assert_int_equal(node.snat[13], 8); /* 10.8.0.1 */
	run("ip route del 10.77.0.0/24");
	rig_wait(dp, n0_unreachable, NULL);
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_hop__follows_the_machines_mac(void **state)
{
	struct plan *plan = rig_plan(1);
	char mac[32], changed[32] = "02:00:00:00:77:01";
	struct datapath *dp;

	(void)state;
	NEEDS_RIG();
	mac_there("p0", mac);
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	rig_wait(dp, n0_has_mac, mac);
	run_there("ip link set p0 address %s", changed);
	run("ip neigh replace 10.9.0.2 lladdr %s dev g0 nud stale",
	    changed); /* as a gratuitous ARP does */
	rig_wait(dp, n0_has_mac, changed);
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_hop__survives_a_flush_of_neighbours(void **state)
{
	struct plan *plan = rig_plan(1);
	struct datapath *dp;
	char mac[32];

	(void)state;
	NEEDS_RIG();
	mac_there("p0", mac);
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	rig_wait(dp, n0_has_mac, mac);
	for (int i = 0; i < 20; i++) {
		run("ip neigh flush dev g0");
		datapath_events(dp);
		assert_true(n0_has_mac(dp, mac));
	}
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_hop__nobody_answers(void **state)
{
	struct plan *plan = rig_plan(1);
	struct datapath *dp;
	char mac[32];

	(void)state;
	NEEDS_RIG();
	mac_there("p0", mac);
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	rig_wait(dp, n0_has_mac, mac);
	run("ip neigh replace 10.9.0.2 dev g0 nud failed");
	rig_wait(dp, n0_unreachable, NULL);
	for (int i = 0; i < 6; i++) /* asks again */
		datapath_sweep(dp);
	rig_wait(dp, n0_has_mac, mac);
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_hop__link_down(void **state)
{
	struct plan *plan = rig_plan(1);
	struct datapath *dp;
	char mac[32];

	(void)state;
	NEEDS_RIG();
	mac_there("p0", mac);
	run("ip neigh replace 10.9.0.2 lladdr %s dev g0 nud permanent",
	    mac); /* stays whatever the link does */
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	rig_wait(dp, n0_reachable, NULL);
	run_there("ip link set p0 down"); /* no carrier here */
	rig_wait(dp, n0_unreachable, NULL);
	run_there("ip link set p0 up");
	rig_wait(dp, n0_reachable, NULL);
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_hop__none_to_ourselves_nor_by_other_interfaces(void **state)
{
	struct plan *plan = rig_plan(2);
	struct datapath_options options;
	struct datapath_error error;
	struct datapath *dp;
	struct mg_node node;

	(void)state;
	NEEDS_RIG();
	addr_parse(&plan->endpoints[0].addr, "10.9.0.1"); /* ours */
	addr_parse(&plan->endpoints[1].addr, "10.8.0.2"); /* by g1, which has no program */
	run("ip neigh replace 10.8.0.2 lladdr 02:00:00:00:00:01 dev g1");
	options = rig_options(DATAPATH_TC);
	options.n_interfaces = 1;
	dp = datapath_open(&options, &error);
	assert_non_null(dp);
	rig_publish(dp, plan);
	for (int i = 0; i < 5; i++) {
		usleep(10000);
		datapath_events(dp);
	}
	rig_slot("n0/llm", &node);
	assert_int_equal(node.hop.ifindex, 0);
	rig_slot("n1/llm", &node);
	assert_int_equal(node.hop.ifindex, 0);
	datapath_close(dp);
	rig_plan_free(plan);
}

static bool always(const struct datapath *dp, void *arg)
{
	return (*(int *)arg)-- <= 0 && dp;
}

static void test_addresses__change_with_the_interfaces(void **state)
{
	struct plan *plan = rig_plan(1);
	struct datapath *dp;
	struct mg_row row;
	int turns = 5;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	rig_wait(dp, n0_reachable, NULL);
	run("ip addr add 10.9.0.200/24 dev g0");
	assert_true(rig_wait(dp, always, &turns));
	rig_publish(dp, plan);
	assert_int_equal(rig_row("10.9.0.200", PERSONA_PORT, &row), 0);
	run("ip addr del 10.9.0.200/24 dev g0");
	turns = 5;
	assert_true(rig_wait(dp, always, &turns));
	rig_publish(dp, plan);
	assert_int_not_equal(rig_row("10.9.0.200", PERSONA_PORT, &row), 0);
	datapath_close(dp);
	rig_plan_free(plan);
}

static void test_events__lost_messages_are_made_up_for(void **state)
{
	struct plan *plan = rig_plan(1);
	struct datapath *dp;
	struct mg_row row;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	rig_publish(dp, plan);
	run("i=0; while [ $i -lt 4000 ]; do echo neigh replace 10.9.3.$((i %% 250)) lladdr "
	    "02:00:00:00:00:$(printf %%02x $((i / 250))) dev g0; i=$((i+1)); done | ip -batch -");
	run("ip addr add 10.9.0.201/24 dev g0");
	assert_true(datapath_events(dp));
	rig_publish(dp, plan);
	assert_int_equal(rig_row("10.9.0.201", PERSONA_PORT, &row), 0);
	datapath_close(dp);
	rig_plan_free(plan);
}

/* --- what others do to us ------------------------------------------------------------------ */

static void test_sweep__attaches_again_to_a_new_device(void **state)
{
	struct plan *plan = rig_plan(1);
	uint32_t ifindex;
	struct datapath *dp;

	(void)state;
	NEEDS_RIG();
	for (enum datapath_mode mode = DATAPATH_XDP; mode <= DATAPATH_TC; mode++) {
		dp = rig_open(mode);
		rig_publish(dp, plan);
		rig_wait(dp, n0_reachable, NULL);
		run("ip link del g0");
		rig_wait(dp, n0_unreachable, NULL);
		run("ip link del g1");
		make_links();
		rig_wait(dp, n0_reachable, NULL);
		datapath_sweep(dp);
		assert_true(says(NULL, mode == DATAPATH_TC ? "tc filter show dev g0 ingress"
							   : "ip link show dev g0 | grep xdp"));
		ifindex = if_nametoindex("g0");
		assert_int_equal(rig_get("mg_tx", &ifindex, (char[16]){0}), 0);
		datapath_close(dp);
		rig_reset(NULL);
		rig_clean();
	}
	rig_plan_free(plan);
}

static void test_sweep__puts_back_what_was_taken_off(void **state)
{
	struct datapath *dp;
	int fd;

	(void)state;
	NEEDS_RIG();
	dp = rig_open(DATAPATH_TC);
	run("tc qdisc del dev g0 clsact");
	datapath_sweep(dp);
	assert_true(says(NULL, "tc filter show dev g0 ingress | grep mg_tc"));
	datapath_close(dp);
	dp = rig_open(DATAPATH_XDP);
	fd = pin_open("link_g0");
	assert_int_equal(bpf_link_detach(fd), 0);
	close(fd);
	assert_false(says(NULL, "ip link show dev g0 | grep xdp"));
	datapath_sweep(dp);
	assert_true(says(NULL, "ip link show dev g0 | grep xdp"));
	datapath_close(dp);
}

static int work_without_privileges(void)
{
	struct datapath_options options = rig_options(DATAPATH_TC);
	struct plan *plan = rig_plan(2);
	struct datapath_error error;
	struct datapath *dp = datapath_open(&options, &error);
	char line[256] = "";

	if (!dp || datapath_drop_privileges(true, &error))
		return 2;
	/* CAP_KILL, SETGID, SETUID, NET_ADMIN, BPF */
	if (!says(line, "grep -c -E 'Cap(Prm|Eff|Bnd):\\s*00000080000010e0' /proc/%d/status",
		  getpid()) ||
	    strcmp(line, "3\n"))
		return 3;
	if (datapath_drop_privileges(false, &error))
		return 4;
	if (!says(line, "grep -c -E 'Cap(Prm|Eff|Bnd):\\s*0000008000001000' /proc/%d/status",
		  getpid()) ||
	    strcmp(line, "2\n")) /* Bnd stays: CAP_SETPCAP is gone */
		return 5;
	if (datapath_publish(dp, plan, &error) || datapath_sweep(dp))
		return 6;
	run("tc qdisc del dev g0 clsact");
	datapath_sweep(dp);
	if (!says(NULL, "tc filter show dev g0 ingress | grep mg_tc"))
		return 7;
	datapath_events(dp);
	if (datapath_detach(rig.bpf_dir, &error))
		return 8;
	datapath_close(dp);
	return 0;
}

static int reattach_xdp_without_privileges(void)
{
	struct datapath_options options = rig_options(DATAPATH_XDP);
	struct datapath_error error;
	struct datapath *dp = datapath_open(&options, &error);
	int fd;

	if (!dp || datapath_drop_privileges(false, &error))
		return 2;
	fd = pin_open("link_g0");
	if (bpf_link_detach(fd))
		return 3;
	close(fd);
	datapath_sweep(dp);
	if (!says(NULL, "ip link show dev g0 | grep xdp"))
		return 4;
	if (datapath_detach(rig.bpf_dir, &error))
		return 5;
	datapath_close(dp);
	return 0;
}

static void test_privileges__two_are_enough_for_all_later_work(void **state)
{
	(void)state;
	NEEDS_RIG();
	in_child(work_without_privileges);
	rig_clean();
	in_child(reattach_xdp_without_privileges);
	rig_clean();
}

/* --- killed, or refused by the kernel, at any call ----------------------------------------- */

enum { LIFE_DONE, LIFE_REFUSED, LIFE_CUT, LIFE_KILLED = 128 + SIGKILL };

static int life(const char *dir) /* what strace runs: see strike() */
{
	struct datapath_error error;
	struct datapath_options options;
	struct plan *plan = rig_plan(70);
	struct datapath *dp;
	int err;

	snprintf(rig.bpf_dir, sizeof(rig.bpf_dir), "%s", dir);
	options = rig_options(DATAPATH_TC);
	dp = datapath_open(&options, &error);
	if (!dp)
		return LIFE_REFUSED;
	err = datapath_publish(dp, plan, &error) || datapath_sweep(dp);
	datapath_close(dp);
	rig_plan_free(plan);
	return err || datapath_detach(dir, &error) ? LIFE_CUT : LIFE_DONE;
}

/* One life under strace, in which the n-th bpf() goes wrong. Returns LIFE_... */
static int strike(const char *what, int n)
{
	char command[512];
	int status;

	snprintf(command, sizeof(command),
		 "ASAN_OPTIONS=detect_leaks=0 strace -qqq -o /dev/null -e trace=bpf -e "
		 "inject=bpf:%s:when=%d /proc/%d/exe life %s",
		 what, n, getpid(), rig.bpf_dir);
	status = system(command);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* How many calls a whole life has. */
static int calls_of_a_life(void)
{
	char line[256] = "";

	assert_true(says(line,
			 "ASAN_OPTIONS=detect_leaks=0 strace -qqq -e trace=bpf -o '|wc -l' "
			 "/proc/%d/exe life %s",
			 getpid(), rig.bpf_dir));
	return (int)strtol(line, NULL, 10);
}

/* At some calls spread over the life; at each of them when MEGALITH_TEST_ALL is set (minutes). */
static void strike_at_calls(const char *what)
{
	struct plan *plan = rig_plan(2);
	struct mg_row row;
	struct datapath *dp;
	int calls, step, ended;

	if (system("command -v strace >/dev/null"))
		skip();
	calls = calls_of_a_life();
	assert_true(calls > 50);
	step = getenv("MEGALITH_TEST_ALL") ? 1 : calls / 12;
	for (int n = 1; n <= calls; n += step) {
		ended = strike(what, n);
		if (ended == LIFE_REFUSED)
			rig_clean();
		else if (ended != LIFE_DONE && ended != LIFE_CUT && ended != LIFE_KILLED)
			fail_msg("%s at call %d: ended with %d", what, n, ended);
		dp = rig_open(DATAPATH_TC);
		rig_publish(dp, plan);
		if (rig_row("10.9.0.1", PERSONA_PORT, &row) || row.count != 2 ||
		    rig_count("mg_services") != 4)
			fail_msg("%s at call %d: not mended", what, n);
		datapath_close(dp);
		rig_reset(NULL);
		rig_clean();
	}
	rig_plan_free(plan);
}

static void test_struck__killed_at_any_call_is_mended(void **state)
{
	(void)state;
	NEEDS_RIG();
	strike_at_calls("signal=KILL");
}

static void test_struck__refused_at_any_call_is_mended(void **state)
{
	(void)state;
	NEEDS_RIG();
	strike_at_calls("error=ENOMEM");
}

#define TEST(name) cmocka_unit_test_setup(name, rig_reset)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_open__serves_on_tc_and_leaves_nothing),
		TEST(test_open__serves_on_xdp_and_leaves_nothing),
		TEST(test_open__auto_takes_tc_on_veth_and_says_why),
		TEST(test_open__auto_leaves_foreign_xdp_alone),
		TEST(test_open__none_is_inert),
		TEST(test_open__dump_shows_fields),
		TEST(test_open__directory_is_private),
		TEST(test_detach__leaves_the_ports_of_others),
		TEST(test_detach__leaves_the_filters_of_others),
		TEST(test_detach__nothing_there_is_fine),
		TEST(test_detach__under_an_open_datapath_is_final),
		TEST(test_refused__interface_missing),
		TEST(test_refused__interface_not_ethernet),
		TEST(test_refused__no_bpffs),
		TEST(test_refused__foreign_xdp),
		TEST(test_refused__no_native_xdp),
		TEST(test_refused__mtu_too_large_for_xdp),
		TEST(test_refused__second_controller),
		TEST(test_refused__without_rights),
		TEST(test_adopt__keeps_maps_and_slots),
		TEST(test_adopt__from_xdp_to_tc_and_back),
		TEST(test_adopt__leaves_an_interface_no_longer_configured),
		TEST(test_adopt__refuses_other_parameters),
		TEST(test_adopt__failure_leaves_the_old_one_serving),
		TEST(test_adopt__mends_a_half_made_directory),
		TEST(test_adopt__passes_over_what_a_kill_left_aside),
		TEST(test_adopt__takes_a_lost_filter_over),
		TEST(test_adopt__clears_what_another_namespace_left),
		TEST(test_adopt__refuses_a_living_one_of_another_namespace),
		TEST(test_publish__a_row_for_every_address),
		TEST(test_publish__only_configured_addresses),
		TEST(test_publish__slots_stay_and_generations_rise),
		TEST(test_publish__long_rows),
		TEST(test_publish__a_thousand_nodes_in_time),
		TEST(test_flows__are_listed_with_their_endpoint),
		TEST(test_counts__come_from_node_and_cpus),
		TEST(test_sweep__recounts_and_keeps_slots_in_use),
		TEST(test_hop__is_found_by_asking),
		TEST(test_hop__over_ipv6),
		TEST(test_hop__through_a_router_and_a_changed_route),
		TEST(test_hop__follows_the_machines_mac),
		TEST(test_hop__survives_a_flush_of_neighbours),
		TEST(test_hop__nobody_answers),
		TEST(test_hop__link_down),
		TEST(test_hop__none_to_ourselves_nor_by_other_interfaces),
		TEST(test_addresses__change_with_the_interfaces),
		TEST(test_events__lost_messages_are_made_up_for),
		TEST(test_sweep__attaches_again_to_a_new_device),
		TEST(test_sweep__puts_back_what_was_taken_off),
		TEST(test_privileges__two_are_enough_for_all_later_work),
		TEST(test_struck__killed_at_any_call_is_mended),
		TEST(test_struck__refused_at_any_call_is_mended),
	};

	if (argc == 3 && strcmp(argv[1], "life") == 0)
		return life(argv[2]);
	return cmocka_run_group_tests_name("datapath", tests, rig_up, rig_down);
}
