// SPDX-License-Identifier: Apache-2.0
#include "agent/plan.h"

#include <linux/if_arp.h>
#include <netinet/in.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

// A host with one Ethernet device, and what stands there besides. Small enough to write down for each case.
struct scene {
	struct iflink links[3];
	struct ifaddress addrs[2];
	struct route_rule rules[1];
	struct route_default routes[1];
	struct observed observed;
	struct resource_list desired, journal;
	struct plan plan;
};

enum { LO, ETH0, TUNNEL };

static struct inet_addr address(const char *text)
{
	struct inet_addr addr;

	assert_int_equal(inet_addr_parse(text, &addr), 0);
	return addr;
}

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	s->links[LO] = (struct iflink) { .index = 1, .name = "lo", .flags = IFF_LOOPBACK | IFF_UP, .has_conf = true };
	s->links[ETH0] =
		(struct iflink) { .index = 2, .name = "eth0", .flags = IFF_UP, .type = ARPHRD_ETHER, .has_conf = true };
	s->links[TUNNEL] =
		(struct iflink) { .index = 3, .name = "brass-ipip", .kind = "ipip", .flags = IFF_UP, .has_conf = true };
	s->links[TUNNEL].local = address("10.1.0.11");
	s->observed = (struct observed) {
		.links = s->links, .link_count = 2, .addrs = s->addrs, .rules = s->rules, .routes = s->routes
	};
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;

	plan_clear(&s->plan);
	resource_list_clear(&s->desired);
	resource_list_clear(&s->journal);
	free(s);
	return 0;
}

static struct resource conf(const char *dev, int key, int32_t value, int32_t original)
{
	struct resource r = { .kind = RESOURCE_CONF, .conf = key, .value = value, .original = original };

	snprintf(r.dev, sizeof(r.dev), "%s", dev);
	return r;
}

static struct resource vip(const char *dev)
{
	struct resource r = { .kind = RESOURCE_VIP, .addr = address("192.0.2.10") };

	snprintf(r.dev, sizeof(r.dev), "%s", dev);
	return r;
}

static struct resource tunnel(const char *local)
{
	return (struct resource) {
		.kind = RESOURCE_DEVICE, .dev = "brass-ipip", .device_kind = "ipip", .addr = address(local)
	};
}

static struct resource route(const char *gateway)
{
	return (struct resource) { .kind = RESOURCE_ROUTE, .addr = address(gateway), .table = 5000 };
}

static struct resource rule(void)
{
	return (struct resource) {
		.kind = RESOURCE_RULE,
		.addr = address("10.1.0.11"),
		.ip_protocol = IPPROTO_TCP,
		.sport = 80,
		.table = 5000,
		.priority = 100,
	};
}

static void add(struct resource_list *list, struct resource r)
{
	assert_int_equal(resource_list_add(list, &r), 0);
}

static void want_dr(struct scene *s)
{
	add(&s->desired, conf("eth0", IPV4_DEVCONF_ARP_IGNORE, 1, 0));
	add(&s->desired, conf("eth0", IPV4_DEVCONF_ARP_ANNOUNCE, 2, 0));
	add(&s->desired, vip("lo"));
}

static void vip_stands_on(struct scene *s, int link)
{
	s->addrs[0] = (struct ifaddress) { { address("192.0.2.10"), 32 }, .ifindex = s->links[link].index };
	s->observed.addr_count = 1;
}

static void make(struct scene *s)
{
	plan_clear(&s->plan);
	assert_int_equal(plan_make(&s->desired, &s->journal, &s->observed, &s->plan), 0);
}

static void assert_op(const struct scene *s, size_t i, enum plan_verb verb, enum resource_kind kind)
{
	assert_true(i < s->plan.count);
	assert_int_equal(s->plan.ops[i].verb, verb);
	assert_int_equal(s->plan.ops[i].resource.kind, kind);
}

static void settings_come_before_the_vip(void **state)
{
	struct scene *s = *state;

	want_dr(s);
	s->links[ETH0].conf[IPV4_DEVCONF_ARP_IGNORE] = 3;
	make(s);
	assert_int_equal(s->plan.count, 3);
	for (size_t i = 0; i < 2; i++) {
		assert_op(s, i, PLAN_ADD, RESOURCE_CONF);
		// what was there goes into the journal, to be given back
		assert_int_equal(s->plan.ops[i].resource.original,
			s->plan.ops[i].resource.conf == IPV4_DEVCONF_ARP_IGNORE ? 3 : 0);
	}
	assert_op(s, 2, PLAN_ADD, RESOURCE_VIP);
}

static void what_is_right_is_left_alone(void **state)
{
	struct scene *s = *state;

	want_dr(s);
	add(&s->journal, conf("eth0", IPV4_DEVCONF_ARP_IGNORE, 1, 0));
	add(&s->journal, conf("eth0", IPV4_DEVCONF_ARP_ANNOUNCE, 2, 0));
	add(&s->journal, vip("lo"));
	s->links[ETH0].conf[IPV4_DEVCONF_ARP_IGNORE] = 1;
	s->links[ETH0].conf[IPV4_DEVCONF_ARP_ANNOUNCE] = 2;
	vip_stands_on(s, LO);
	make(s);
	assert_int_equal(s->plan.count, 0);
}

static void effective_settings_count(void **state)
{
	static const struct {
		int32_t all, device;
		size_t ops;
	} cases[] = {
		{ 0, 0, 1 },
		{ 1, 0, 0 },
		{ 0, 1, 0 },
		{ 0, 2, 0 },
		{ 2, 1, 0 },
		{ 0, 8, 0 },
		{ 8, 0, 0 },
		{ 0, 3, 1 }, // 3 answers for addresses of global scope
		{ 1, 3, 1 },
	};
	struct scene *s = *state;

	add(&s->desired, conf("eth0", IPV4_DEVCONF_ARP_IGNORE, 1, 0));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		s->observed.all[IPV4_DEVCONF_ARP_IGNORE] = cases[i].all;
		s->links[ETH0].conf[IPV4_DEVCONF_ARP_IGNORE] = cases[i].device;
		make(s);
		assert_int_equal(s->plan.count, cases[i].ops);
	}
}

static void a_setting_of_all_that_overrules_is_a_conflict(void **state)
{
	struct scene *s = *state;

	add(&s->desired, conf("eth0", IPV4_DEVCONF_ARP_IGNORE, 1, 0));
	s->observed.all[IPV4_DEVCONF_ARP_IGNORE] = 3;
	make(s);
	assert_int_equal(s->plan.count, 1);
	assert_op(s, 0, PLAN_CONFLICT, RESOURCE_CONF);
	assert_non_null(strstr(s->plan.ops[0].why, "all/arp_ignore is 3"));
	assert_int_equal(plan_changes(&s->plan), 0);
}

static void a_setting_of_all_is_lowered_when_it_may_be(void **state)
{
	struct scene *s = *state;

	add(&s->desired, conf("all", IPV4_DEVCONF_ARP_IGNORE, 1, 0));
	add(&s->desired, conf("eth0", IPV4_DEVCONF_ARP_IGNORE, 1, 0));
	// not lower than it must be
	make(s);
	assert_int_equal(s->plan.count, 1);
	assert_string_equal(s->plan.ops[0].resource.dev, "eth0");
	s->observed.all[IPV4_DEVCONF_ARP_IGNORE] = 8; // answers nobody
	make(s);
	assert_int_equal(s->plan.count, 0);
	// first "all", then the device, as if "all" were right already
	s->observed.all[IPV4_DEVCONF_ARP_IGNORE] = 3;
	make(s);
	assert_int_equal(s->plan.count, 2);
	assert_op(s, 0, PLAN_ADD, RESOURCE_CONF);
	assert_string_equal(s->plan.ops[0].resource.dev, "all");
	assert_int_equal(s->plan.ops[0].resource.original, 3);
	assert_op(s, 1, PLAN_ADD, RESOURCE_CONF);
	assert_int_equal(s->plan.ops[1].resource.original, 0);
	assert_int_equal(s->plan.ops[1].resource.ifindex, s->links[ETH0].index);
	// while "all" cannot be written, the device is not set again and again
	s->links[ETH0].conf[IPV4_DEVCONF_ARP_IGNORE] = 1;
	make(s);
	assert_int_equal(s->plan.count, 1);
}

static void a_vip_goes_while_the_host_would_answer_arp_for_it(void **state)
{
	struct scene *s = *state;

	want_dr(s);
	add(&s->journal, vip("lo"));
	s->links[ETH0].conf[IPV4_DEVCONF_ARP_IGNORE] = 1;
	s->links[ETH0].conf[IPV4_DEVCONF_ARP_ANNOUNCE] = 2;
	s->observed.all[IPV4_DEVCONF_ARP_IGNORE] = 3;
	vip_stands_on(s, LO);
	make(s);
	assert_int_equal(s->plan.count, 2);
	assert_op(s, 0, PLAN_REMOVE, RESOURCE_VIP);
	assert_op(s, 1, PLAN_CONFLICT, RESOURCE_CONF);
	// it may stay where "all" is lowered
	add(&s->desired, conf("all", IPV4_DEVCONF_ARP_IGNORE, 1, 0));
	make(s);
	assert_int_equal(s->plan.count, 1);
	assert_op(s, 0, PLAN_ADD, RESOURCE_CONF);
	// unless that was tried and refused
	s->observed.arp_refused = true;
	make(s);
	assert_int_equal(s->plan.count, 2);
	assert_op(s, 0, PLAN_REMOVE, RESOURCE_VIP);
	// quiet anyway
	s->observed.all[IPV4_DEVCONF_ARP_IGNORE] = 8;
	make(s);
	assert_int_equal(s->plan.count, 0);
}

static void a_vip_goes_before_all_is_given_back(void **state)
{
	struct scene *s = *state;

	want_dr(s);
	add(&s->journal, conf("all", IPV4_DEVCONF_ARP_IGNORE, 1, 3));
	add(&s->journal, vip("lo"));
	s->links[ETH0].conf[IPV4_DEVCONF_ARP_IGNORE] = 1;
	s->links[ETH0].conf[IPV4_DEVCONF_ARP_ANNOUNCE] = 2;
	s->observed.all[IPV4_DEVCONF_ARP_IGNORE] = 1;
	vip_stands_on(s, LO);
	make(s);
	assert_int_equal(s->plan.count, 2);
	assert_op(s, 0, PLAN_REMOVE, RESOURCE_VIP);
	assert_op(s, 1, PLAN_REMOVE, RESOURCE_CONF);
}

static void strict_reverse_path_is_loosened_on_the_tunnel(void **state)
{
	static const struct {
		int32_t all, device;
		size_t ops;
	} cases[] = { { 0, 0, 0 }, { 1, 0, 1 }, { 0, 1, 1 }, { 2, 0, 0 }, { 2, 1, 0 }, { 1, 2, 0 } };
	struct scene *s = *state;

	s->observed.link_count = 3;
	add(&s->desired, conf("brass-ipip", IPV4_DEVCONF_RP_FILTER, 2, 0));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		s->observed.all[IPV4_DEVCONF_RP_FILTER] = cases[i].all;
		s->links[TUNNEL].conf[IPV4_DEVCONF_RP_FILTER] = cases[i].device;
		make(s);
		assert_int_equal(s->plan.count, cases[i].ops);
	}
}

static void a_vip_found_where_it_belongs_is_used(void **state)
{
	struct scene *s = *state;

	add(&s->desired, vip("lo"));
	vip_stands_on(s, LO);
	make(s);
	assert_int_equal(s->plan.count, 0);
	// and it is not ours to take away
	resource_list_clear(&s->desired);
	make(s);
	assert_int_equal(s->plan.count, 0);
}

static void a_vip_on_another_device_is_a_conflict(void **state)
{
	struct scene *s = *state;

	add(&s->desired, vip("lo"));
	vip_stands_on(s, ETH0);
	make(s);
	assert_int_equal(s->plan.count, 1);
	assert_op(s, 0, PLAN_CONFLICT, RESOURCE_VIP);
	assert_non_null(strstr(s->plan.ops[0].why, "192.0.2.10"));
	assert_non_null(strstr(s->plan.ops[0].why, "eth0"));
}

static void a_taken_tunnel_name_is_a_conflict(void **state)
{
	struct scene *s = *state;

	add(&s->desired, tunnel("10.1.0.11"));
	s->observed.link_count = 3;
	snprintf(s->links[TUNNEL].kind, sizeof(s->links[TUNNEL].kind), "dummy");
	make(s);
	assert_op(s, 0, PLAN_CONFLICT, RESOURCE_DEVICE);
	assert_non_null(strstr(s->plan.ops[0].why, "brass-ipip"));

	snprintf(s->links[TUNNEL].kind, sizeof(s->links[TUNNEL].kind), "ipip");
	s->links[TUNNEL].local = address("10.9.9.9");
	make(s);
	assert_op(s, 0, PLAN_CONFLICT, RESOURCE_DEVICE);
	assert_non_null(strstr(s->plan.ops[0].why, "10.9.9.9"));
}

static void the_same_tunnel_under_another_name_is_a_conflict(void **state)
{
	struct scene *s = *state;

	add(&s->desired, tunnel("10.1.0.11"));
	s->observed.link_count = 3;
	snprintf(s->links[TUNNEL].name, sizeof(s->links[TUNNEL].name), "mine");
	make(s);
	assert_int_equal(s->plan.count, 1);
	assert_op(s, 0, PLAN_CONFLICT, RESOURCE_DEVICE);
	assert_non_null(strstr(s->plan.ops[0].why, "mine"));
	// with a remote end it takes other packets
	s->links[TUNNEL].remote = address("10.1.0.1");
	make(s);
	assert_op(s, 0, PLAN_ADD, RESOURCE_DEVICE);
}

static void nothing_is_built_on_what_is_not_ours(void **state)
{
	struct scene *s = *state;

	add(&s->desired, tunnel("10.1.0.11"));
	add(&s->desired, conf("brass-ipip", IPV4_DEVCONF_RP_FILTER, 2, 0));
	add(&s->desired, vip("brass-ipip"));
	add(&s->desired, route("10.1.0.1"));
	add(&s->desired, rule());
	s->observed.link_count = 3;
	s->links[TUNNEL].local = address("10.9.9.9");
	s->links[TUNNEL].conf[IPV4_DEVCONF_RP_FILTER] = 1;
	s->routes[0] = (struct route_default) { .gateway = address("10.1.0.254"), .ifindex = 2, .table = 5000 };
	s->observed.route_count = 1;
	make(s);
	assert_int_equal(s->plan.count, 2);
	assert_op(s, 0, PLAN_CONFLICT, RESOURCE_DEVICE);
	assert_op(s, 1, PLAN_CONFLICT, RESOURCE_ROUTE);
}

static void our_tunnel_follows_the_address_of_the_host(void **state)
{
	struct scene *s = *state;

	add(&s->desired, tunnel("10.1.0.12"));
	add(&s->journal, tunnel("10.1.0.11"));
	s->observed.link_count = 3;
	make(s);
	assert_int_equal(s->plan.count, 2);
	assert_op(s, 0, PLAN_REMOVE, RESOURCE_DEVICE);
	assert_op(s, 1, PLAN_ADD, RESOURCE_DEVICE);
}

static void a_new_tunnel_gets_its_settings_at_once(void **state)
{
	struct scene *s = *state;

	add(&s->desired, tunnel("10.1.0.11"));
	add(&s->desired, conf("brass-ipip", IPV4_DEVCONF_RP_FILTER, 2, 0));
	add(&s->desired, vip("brass-ipip"));
	make(s);
	assert_int_equal(s->plan.count, 2); // a new device begins with 0 here, which will do
	s->observed.fresh[IPV4_DEVCONF_RP_FILTER] = 1;
	make(s);
	assert_int_equal(s->plan.count, 3);
	assert_op(s, 0, PLAN_ADD, RESOURCE_DEVICE);
	assert_op(s, 1, PLAN_ADD, RESOURCE_CONF);
	assert_int_equal(s->plan.ops[1].resource.original, 1);
	assert_op(s, 2, PLAN_ADD, RESOURCE_VIP);
}

static void what_stood_on_a_device_that_is_made_anew_comes_again(void **state)
{
	struct scene *s = *state;

	add(&s->desired, tunnel("10.1.0.12"));
	add(&s->desired, conf("brass-ipip", IPV4_DEVCONF_RP_FILTER, 2, 0));
	add(&s->desired, vip("brass-ipip"));
	add(&s->journal, tunnel("10.1.0.11"));
	add(&s->journal, conf("brass-ipip", IPV4_DEVCONF_RP_FILTER, 2, 1));
	add(&s->journal, vip("brass-ipip"));
	s->observed.link_count = 3;
	s->observed.fresh[IPV4_DEVCONF_RP_FILTER] = 1;
	s->links[TUNNEL].conf[IPV4_DEVCONF_RP_FILTER] = 2;
	vip_stands_on(s, TUNNEL);
	make(s);
	assert_int_equal(s->plan.count, 4);
	assert_op(s, 0, PLAN_REMOVE, RESOURCE_DEVICE);
	assert_op(s, 1, PLAN_ADD, RESOURCE_DEVICE);
	assert_op(s, 2, PLAN_REPAIR, RESOURCE_CONF);
	assert_op(s, 3, PLAN_REPAIR, RESOURCE_VIP);
}

static void what_is_made_anew_is_not_written_down_before_the_old_one_went(void **state)
{
	struct scene *s = *state;

	add(&s->desired, tunnel("10.1.0.12"));
	add(&s->desired, vip("brass-ipip"));
	add(&s->desired, route("10.1.0.1"));
	add(&s->journal, tunnel("10.1.0.11"));
	add(&s->journal, vip("brass-ipip"));
	s->observed.link_count = 3;
	vip_stands_on(s, TUNNEL);
	make(s);
	assert_int_equal(s->plan.count, 4);
	plan_put_off(&s->plan);
	// what has nothing to do with it does not wait
	assert_int_equal(s->plan.count, 2);
	assert_op(s, 0, PLAN_REMOVE, RESOURCE_DEVICE);
	assert_op(s, 1, PLAN_ADD, RESOURCE_ROUTE);
	// then it has gone
	resource_list_remove(&s->journal, &s->plan.ops[0].resource);
	s->observed.link_count = 2;
	s->observed.addr_count = 0;
	make(s);
	plan_put_off(&s->plan);
	assert_int_equal(s->plan.count, 3);
	assert_op(s, 0, PLAN_ADD, RESOURCE_DEVICE);
	assert_op(s, 2, PLAN_REPAIR, RESOURCE_VIP);
}

static void our_tunnel_that_is_down_is_repaired(void **state)
{
	struct scene *s = *state;

	add(&s->desired, tunnel("10.1.0.11"));
	add(&s->journal, tunnel("10.1.0.11"));
	s->observed.link_count = 3;
	s->links[TUNNEL].flags = 0;
	make(s);
	assert_int_equal(s->plan.count, 1);
	assert_op(s, 0, PLAN_REPAIR, RESOURCE_DEVICE);
}

static void what_is_ours_and_gone_is_repaired(void **state)
{
	struct scene *s = *state;

	want_dr(s);
	add(&s->journal, conf("eth0", IPV4_DEVCONF_ARP_IGNORE, 1, 3));
	add(&s->journal, conf("eth0", IPV4_DEVCONF_ARP_ANNOUNCE, 2, 0));
	add(&s->journal, vip("lo"));
	make(s);
	assert_int_equal(s->plan.count, 3);
	for (size_t i = 0; i < s->plan.count; i++) {
		assert_int_equal(s->plan.ops[i].verb, PLAN_REPAIR);
		// the original of the journal stays, whatever someone has set since
		if (s->plan.ops[i].resource.conf == IPV4_DEVCONF_ARP_IGNORE)
			assert_int_equal(s->plan.ops[i].resource.original, 3);
	}
}

static void what_is_no_longer_wanted_goes_in_reverse_order(void **state)
{
	static const enum resource_kind order[] = { RESOURCE_VIP, RESOURCE_RULE, RESOURCE_ROUTE, RESOURCE_CONF,
		RESOURCE_DEVICE };
	struct scene *s = *state;

	add(&s->journal, tunnel("10.1.0.11"));
	add(&s->journal, conf("eth0", IPV4_DEVCONF_ARP_IGNORE, 1, 0));
	add(&s->journal, vip("lo"));
	add(&s->journal, route("10.1.0.1"));
	add(&s->journal, rule());
	make(s);
	assert_int_equal(s->plan.count, ARRAY_SIZE(order));
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		assert_op(s, i, PLAN_REMOVE, order[i]);
}

static void removals_come_before_additions(void **state)
{
	struct scene *s = *state;

	add(&s->journal, vip("lo"));
	add(&s->desired, tunnel("10.1.0.11"));
	make(s);
	assert_int_equal(s->plan.count, 2);
	assert_op(s, 0, PLAN_REMOVE, RESOURCE_VIP);
	assert_op(s, 1, PLAN_ADD, RESOURCE_DEVICE);
}

static void the_way_back_is_compared_as_a_whole(void **state)
{
	struct scene *s = *state;
	const struct resource wanted = rule();

	add(&s->desired, route("10.1.0.1"));
	add(&s->desired, rule());
	s->routes[0] = (struct route_default) { .gateway = address("10.1.0.1"), .ifindex = 2, .table = 5000 };
	s->rules[0] = resource_rule(&wanted);
	s->observed.route_count = s->observed.rule_count = 1;
	make(s);
	assert_int_equal(s->plan.count, 0);

	s->rules[0].sport = 81;
	make(s);
	assert_int_equal(s->plan.count, 1);
	assert_op(s, 0, PLAN_ADD, RESOURCE_RULE);
}

static void a_foreign_default_route_in_our_table_is_a_conflict(void **state)
{
	struct scene *s = *state;

	add(&s->desired, route("10.1.0.1"));
	s->routes[0] = (struct route_default) { .gateway = address("10.1.0.254"), .ifindex = 2, .table = 5000 };
	s->observed.route_count = 1;
	make(s);
	assert_op(s, 0, PLAN_CONFLICT, RESOURCE_ROUTE);
	assert_non_null(strstr(s->plan.ops[0].why, "10.1.0.254"));

	// of another table, or of the other family: none of our business
	s->routes[0].table = 254;
	make(s);
	assert_op(s, 0, PLAN_ADD, RESOURCE_ROUTE);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(settings_come_before_the_vip),
		TEST(what_is_right_is_left_alone),
		TEST(effective_settings_count),
		TEST(a_setting_of_all_that_overrules_is_a_conflict),
		TEST(a_setting_of_all_is_lowered_when_it_may_be),
		TEST(a_vip_goes_while_the_host_would_answer_arp_for_it),
		TEST(a_vip_goes_before_all_is_given_back),
		TEST(strict_reverse_path_is_loosened_on_the_tunnel),
		TEST(a_vip_found_where_it_belongs_is_used),
		TEST(a_vip_on_another_device_is_a_conflict),
		TEST(a_taken_tunnel_name_is_a_conflict),
		TEST(the_same_tunnel_under_another_name_is_a_conflict),
		TEST(nothing_is_built_on_what_is_not_ours),
		TEST(our_tunnel_follows_the_address_of_the_host),
		TEST(a_new_tunnel_gets_its_settings_at_once),
		TEST(what_stood_on_a_device_that_is_made_anew_comes_again),
		TEST(what_is_made_anew_is_not_written_down_before_the_old_one_went),
		TEST(our_tunnel_that_is_down_is_repaired),
		TEST(what_is_ours_and_gone_is_repaired),
		TEST(what_is_no_longer_wanted_goes_in_reverse_order),
		TEST(removals_come_before_additions),
		TEST(the_way_back_is_compared_as_a_whole),
		TEST(a_foreign_default_route_in_our_table_is_a_conflict),
	};

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
