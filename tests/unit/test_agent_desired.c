// SPDX-License-Identifier: Apache-2.0
#include "agent/desired.h"

#include "shared/util.h"

#include <linux/if_arp.h>
#include <netinet/in.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define RIP "10.1.0.11"
#define RIP6 "fd00:1::11"
#define VIP "192.0.2.10"
#define VIP6 "2001:db8::10"
#define DIP "10.1.0.1"

// As a dump gives them: sorted by name.
static const struct iflink links[] = {
	{ .index = 4, .name = "br0", .type = ARPHRD_ETHER, .flags = IFF_UP },
	{ .index = 2, .name = "eth0", .type = ARPHRD_ETHER, .flags = IFF_UP },
	{ .index = 1, .name = "lo", .type = ARPHRD_LOOPBACK, .flags = IFF_UP | IFF_LOOPBACK },
	{ .index = 5, .name = "quiet0", .type = ARPHRD_ETHER, .flags = IFF_NOARP },
	{ .index = 3, .name = "tunl0", .type = ARPHRD_TUNNEL, .flags = IFF_NOARP },
};

static struct inet_addr address(const char *text)
{
	struct inet_addr addr;

	assert_int_equal(inet_addr_parse(text, &addr), 0);
	return addr;
}

static struct spec_service service(const char *vip, int method)
{
	return (struct spec_service) {
		.name = "web", .vip = address(vip), .protocol = IPPROTO_TCP, .port = 80, .method = method
	};
}

static struct resource_list wanted(const char *rip, struct spec_service *services, size_t count)
{
	const struct spec spec = {
		.address = address(rip), .services = services, .count = count, .table = 5000, .priority = 100
	};
	struct resource_list list = { 0 };

	assert_int_equal(desired(&spec, links, ARRAY_SIZE(links), &list), 0);
	return list;
}

// Compares with the commands that a person would type, in order.
static void assert_commands(struct resource_list *list, const char *const *commands, size_t count)
{
	for (size_t i = 0; i < list->count && i < count; i++) {
		char command[RESOURCE_COMMAND_MAX];

		assert_string_equal(resource_command(&list->items[i], true, command), commands[i]);
	}
	assert_int_equal(list->count, count);
	resource_list_clear(list);
}

static void dr_quiets_arp_on_every_device_before_the_vip(void **state)
{
	struct spec_service web = service(VIP, FORWARD_DR);
	struct resource_list list = wanted(RIP, &web, 1);
	static const char *const commands[] = {
		"sysctl -w net/ipv4/conf/br0/arp_announce=2",
		"sysctl -w net/ipv4/conf/br0/arp_ignore=1",
		"sysctl -w net/ipv4/conf/eth0/arp_announce=2",
		"sysctl -w net/ipv4/conf/eth0/arp_ignore=1",
		"ip addr add 192.0.2.10/32 dev lo",
	};

	(void)state;
	assert_commands(&list, commands, ARRAY_SIZE(commands));
}

static void dr_ipv6_needs_the_vip_only(void **state)
{
	struct spec_service web = service(VIP6, FORWARD_DR);
	struct resource_list list = wanted(RIP6, &web, 1);
	static const char *const commands[] = { "ip addr add 2001:db8::10/128 dev lo nodad preferred_lft 0" };

	(void)state;
	assert_commands(&list, commands, ARRAY_SIZE(commands));
}

static void each_pair_of_families_has_its_tunnel(void **state)
{
	static const struct {
		const char *rip, *vip, *kind, *device;
		bool reverse_path; // IPv6 has no rp_filter
	} cases[] = {
		{ RIP, VIP, "ipip", SPEC_DEVICE_IPIP, true },
		{ RIP, VIP6, "sit", SPEC_DEVICE_SIT, false },
		{ RIP6, VIP, "ip6tnl", SPEC_DEVICE_IP6, true },
		{ RIP6, VIP6, "ip6tnl", SPEC_DEVICE_IP6, false },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct spec_service web = service(cases[i].vip, FORWARD_IPIP);
		struct resource_list list = wanted(cases[i].rip, &web, 1);
		const struct inet_addr rip = address(cases[i].rip), vip = address(cases[i].vip);
		const struct resource loose = { .kind = RESOURCE_CONF, .conf = IPV4_DEVCONF_RP_FILTER, .value = 2 };
		struct resource key = loose;

		assert_int_equal(list.items[0].kind, RESOURCE_DEVICE);
		assert_string_equal(list.items[0].dev, cases[i].device);
		assert_string_equal(list.items[0].device_kind, cases[i].kind);
		assert_int_equal(inet_addr_cmp(&list.items[0].addr, &rip), 0);
		strcpy(key.dev, cases[i].device);
		int at = resource_list_find(&list, &key);
		assert_int_equal(at >= 0, cases[i].reverse_path);
		if (at >= 0)
			assert_int_equal(list.items[at].value, 2);
		// the VIP is local to the host, so its Ethernet would answer ARP for it as well
		strcpy(key.dev, "eth0");
		key.conf = IPV4_DEVCONF_ARP_IGNORE;
		assert_int_equal(resource_list_find(&list, &key) >= 0, vip.family == AF_INET);
		const struct resource *last = &list.items[list.count - 1];
		assert_int_equal(last->kind, RESOURCE_VIP);
		assert_string_equal(last->dev, cases[i].device);
		assert_int_equal(inet_addr_cmp(&last->addr, &vip), 0);
		resource_list_clear(&list);
	}
}

static void nat_sends_only_this_service_back_through_the_director(void **state)
{
	struct spec_service web = service(VIP, FORWARD_NAT);
	static const char *const commands[] = {
		"ip route add default via 10.1.0.1 table 5000",
		"ip rule add from 10.1.0.11 ipproto 6 sport 8080 lookup 5000 pref 100",
	};

	(void)state;
	web.gateway = address(DIP);
	web.port = 8080;
	struct resource_list list = wanted(RIP, &web, 1);
	assert_commands(&list, commands, ARRAY_SIZE(commands));
}

static void nat_without_a_gateway_wants_nothing(void **state)
{
	struct spec_service web = service(VIP, FORWARD_NAT);
	struct resource_list list = wanted(RIP, &web, 1);

	(void)state;
	assert_int_equal(list.count, 0);
	resource_list_clear(&list);
}

static void services_share_what_they_have_in_common(void **state)
{
	struct spec_service services[3] = { service(VIP, FORWARD_IPIP), service(VIP, FORWARD_IPIP),
		service("192.0.2.11", FORWARD_DR) };
	size_t of_kind[RESOURCE_VIP + 1] = { 0 };

	(void)state;
	services[1].port = 443;
	struct resource_list list = wanted(RIP, services, 3);
	for (size_t i = 0; i < list.count; i++) {
		of_kind[list.items[i].kind]++;
		if (i)
			assert_true(resource_cmp(&list.items[i - 1], &list.items[i]) < 0);
	}
	assert_int_equal(of_kind[RESOURCE_DEVICE], 1);
	assert_int_equal(of_kind[RESOURCE_CONF], 5); // two of eth0, two of br0, the tunnel's rp_filter
	assert_int_equal(of_kind[RESOURCE_VIP], 2);
	resource_list_clear(&list);
}

static void the_device_of_a_vip_has_a_name(void **state)
{
	const struct spec spec = { .address = address(RIP) };
	struct spec_service dr = service(VIP, FORWARD_DR), tunnel = service(VIP6, FORWARD_IPIP),
			    nat = service(VIP, FORWARD_NAT);

	(void)state;
	assert_string_equal(desired_device(&spec, &dr), "lo");
	assert_string_equal(desired_device(&spec, &tunnel), SPEC_DEVICE_SIT);
	assert_string_equal(desired_device(&spec, &nat), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dr_quiets_arp_on_every_device_before_the_vip),
		cmocka_unit_test(dr_ipv6_needs_the_vip_only),
		cmocka_unit_test(each_pair_of_families_has_its_tunnel),
		cmocka_unit_test(nat_sends_only_this_service_back_through_the_director),
		cmocka_unit_test(nat_without_a_gateway_wants_nothing),
		cmocka_unit_test(services_share_what_they_have_in_common),
		cmocka_unit_test(the_device_of_a_vip_has_a_name),
	};

	return cmocka_run_group_tests_name("agent_desired", tests, NULL, NULL);
}
