// SPDX-License-Identifier: Apache-2.0
#include "agent/desired.h"
#include "agent/lockdown.h"
#include "agent/plan.h"

#include "shared/util.h"

#include <netinet/in.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct inet_addr address(const char *text)
{
	struct inet_addr addr;

	assert_int_equal(inet_addr_parse(text, &addr), 0);
	return addr;
}

static struct spec_service service(const char *vip, int method)
{
	return (struct spec_service) {
		.name = "web", .vip = address(vip), .protocol = IPPROTO_UDP, .port = 80, .method = method
	};
}

static struct spec spec_of(const char *rip, struct spec_service *services, size_t count)
{
	struct spec spec = { .address = address(rip), .services = services, .count = count };

	spec.lockdown = (struct spec_lockdown) { .wanted = true, .possible = true, .count = 1 };
	spec.lockdown.allowed[0].addr = address(strchr(rip, ':') ? "fd00:1::10" : "10.1.0.10");
	spec.lockdown.allowed[0].len = strchr(rip, ':') ? 128 : 32;
	return spec;
}

static struct iflink tunnel(const char *kind, const char *name, const char *local, const char *remote)
{
	struct iflink link = { .flags = IFF_UP };

	strcpy(link.kind, kind);
	strcpy(link.name, name);
	if (local)
		link.local = address(local);
	if (remote)
		link.remote = address(remote);
	return link;
}

// The commands of what is wanted, in order, up to the first that is none of nftables or of a device.
static void assert_commands(
	const struct spec *spec, const struct iflink *links, size_t link_count, const char *const *commands)
{
	struct resource_list list = { 0 };
	size_t i = 0;

	assert_int_equal(desired(spec, links, link_count, &list), 0);
	for (; commands[i]; i++) {
		char command[RESOURCE_COMMAND_MAX];

		assert_true(i < list.count);
		assert_string_equal(resource_command(&list.items[i], true, command), commands[i]);
	}
	assert_true(i == list.count || list.items[i].kind > RESOURCE_DEVICE);
	resource_list_clear(&list);
}

#define TABLE "nft " NFT_TABLE_TEXT
#define RULE(text) "nft 'add rule inet brass-agent " text "'"
#define ALLOW(text) "nft 'insert rule inet brass-agent directors " text " accept'"
#define FROM_DIRECTOR ALLOW("ip saddr 10.1.0.10")

static void a_tunnel_is_locked_before_it_is_there(void **state)
{
	struct spec_service services[] = { service("192.0.2.10", FORWARD_GUE), service("192.0.2.11", FORWARD_GRE) };
	const struct spec spec = spec_of("10.2.0.11", services, 2);

	(void)state;
	services[0].tunnel.port = 6080;
	assert_commands(&spec, NULL, 0,
		(const char *const[]) {
			TABLE,
			FROM_DIRECTOR,
			RULE("input ip daddr 10.2.0.11 meta l4proto 4 jump directors"),
			RULE("input ip daddr 10.2.0.11 meta l4proto 17 th dport 6080 jump directors"),
			RULE("input ip daddr 10.2.0.11 @th,0,32 & 0x207f0000 == 0 @th,16,16 != 0x6558 @th,16,16 != "
			     "0x88be @th,16,16 != 0x22eb meta l4proto 47 jump directors"),
			"ip fou add port 6080 gue local 10.2.0.11",
			"ip link add brass-gre up type gre local 10.2.0.11 remote any",
			"ip link add brass-ipip up type ipip local 10.2.0.11 remote any mode ipip",
			NULL,
		});
}

static void ipv6_is_locked_with_all_that_its_device_takes(void **state)
{
	struct spec_service web = service("192.0.2.10", FORWARD_IPIP);
	const struct spec spec = spec_of("fd00:2::11", &web, 1);

	(void)state;
	assert_commands(&spec, NULL, 0,
		(const char *const[]) {
			TABLE,
			ALLOW("ip6 saddr fd00:1::10"),
			RULE("input ip6 daddr fd00:2::11 meta l4proto 4 jump directors"),
			RULE("input ip6 daddr fd00:2::11 meta l4proto 41 jump directors"),
			RULE("input ip6 daddr fd00:2::11 frag frag-off 0 jump hidden"),
			RULE("input ip6 daddr fd00:2::11 meta l4proto 137 jump directors"),
			"ip link add brass-ip6 up type ip6tnl local fd00:2::11 remote :: mode any hoplimit inherit "
			"encaplimit none",
			NULL,
		});
}

static void only_tunnels_are_locked(void **state)
{
	struct spec_service web = service("192.0.2.10", FORWARD_DR);
	const struct spec spec = spec_of("10.2.0.11", &web, 1);

	(void)state;
	assert_commands(&spec, NULL, 0, (const char *const[]) { NULL });
}

static void somebody_elses_tunnel_gets_its_packets(void **state)
{
	struct spec_service web = service("192.0.2.10", FORWARD_IPIP);
	const struct spec spec = spec_of("10.2.0.11", &web, 1);
	struct iflink links[] = {
		tunnel("ipip", "a", "10.2.0.11", "10.7.0.1"),
		tunnel("ipip", "b", NULL, "10.7.0.2"),
		tunnel("ipip", "other-end", "10.2.0.12", "10.7.0.3"),
		tunnel("gre", "other-protocol", "10.2.0.11", "10.7.0.4"),
		tunnel("ipip", "down", "10.2.0.11", "10.7.0.5"),
	};

	(void)state;
	links[4].flags = 0;
	assert_commands(&spec, links, ARRAY_SIZE(links),
		(const char *const[]) {
			TABLE,
			FROM_DIRECTOR,
			ALLOW("ip saddr 10.7.0.1 meta l4proto 4"),
			ALLOW("ip saddr 10.7.0.2 meta l4proto 4"),
			RULE("input ip daddr 10.2.0.11 meta l4proto 4 jump directors"),
			"ip link add brass-ipip up type ipip local 10.2.0.11 remote any mode ipip",
			NULL,
		});
}

static void one_that_takes_from_anybody_is_not_locked_out_unless_asked_for(void **state)
{
	struct spec_service web = service("192.0.2.10", FORWARD_IPIP);
	struct spec spec = spec_of("10.2.0.11", &web, 1);
	const struct iflink any = tunnel("ipip", "tunl0", NULL, NULL);
	char text[200];
	static const char *const open[] = {
		TABLE,
		FROM_DIRECTOR,
		"ip link add brass-ipip up type ipip local 10.2.0.11 remote any mode ipip",
		NULL,
	};

	(void)state;
	assert_commands(&spec, &any, 1, open);
	lockdown_text(&spec, &any, 1, text, sizeof(text));
	assert_string_equal(text, "off for what device tunl0 takes from anybody (ipip)");
	spec.lockdown.must = true;
	assert_commands(&spec, &any, 1,
		(const char *const[]) { TABLE, FROM_DIRECTOR,
			RULE("input ip daddr 10.2.0.11 meta l4proto 4 jump directors"), open[2], NULL });
	lockdown_text(&spec, &any, 1, text, sizeof(text));
	assert_string_equal(text, "on");
}

static void without_nftables_or_directors(void **state)
{
	struct spec_service web = service("192.0.2.10", FORWARD_IPIP);
	static const char *const bare[] = { "ip link add brass-ipip up type ipip local 10.2.0.11 remote any mode ipip",
		NULL };
	char text[200];

	(void)state;
	for (int must = 0; must < 2; must++) {
		for (int none = 0; none < 3; none++) {
			struct spec spec = spec_of("10.2.0.11", &web, 1);

			spec.lockdown.must = must;
			spec.lockdown.wanted = none != 0;
			spec.lockdown.possible = none != 1;
			if (none == 2)
				spec.lockdown.count = 0;
			assert_commands(&spec, NULL, 0, must && none ? (const char *const[]) { NULL } : bare);
			lockdown_text(&spec, NULL, 0, text, sizeof(text));
			assert_memory_equal(text, must && none ? "lockdown: " : "off", must && none ? 10 : 3);
		}
	}
}

// Somebody else has a table of that name.
static void no_tunnel_stands_on_a_table_that_is_not_ours(void **state)
{
	struct spec_service web = service("192.0.2.10", FORWARD_GUE);
	const struct spec spec = spec_of("10.2.0.11", &web, 1);
	const struct observed seen = { .nft.is_other = true };
	struct resource_list want = { 0 };
	const struct resource_list journal = { 0 };
	struct plan plan;

	(void)state;
	web.tunnel.port = 6080;
	assert_int_equal(desired(&spec, NULL, 0, &want), 0);
	assert_int_equal(plan_make(&want, &journal, &seen, &plan), 0);
	assert_true(plan.count >= 2);
	assert_int_equal(plan.ops[0].verb, PLAN_CONFLICT);
	assert_int_equal(plan.ops[0].resource.kind, RESOURCE_TABLE);
	for (size_t i = 1; i < plan.count; i++)
		assert_true(plan.ops[i].resource.kind > RESOURCE_DEVICE);
	plan_clear(&plan);
	resource_list_clear(&want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tunnel_is_locked_before_it_is_there),
		cmocka_unit_test(ipv6_is_locked_with_all_that_its_device_takes),
		cmocka_unit_test(only_tunnels_are_locked),
		cmocka_unit_test(somebody_elses_tunnel_gets_its_packets),
		cmocka_unit_test(one_that_takes_from_anybody_is_not_locked_out_unless_asked_for),
		cmocka_unit_test(without_nftables_or_directors),
		cmocka_unit_test(no_tunnel_stands_on_a_table_that_is_not_ours),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
