// SPDX-License-Identifier: Apache-2.0
// Rules as nft and iptables-save printed them (tests/unit/filter), and what becomes of packets.
#include "agent/filter.h"

#include "shared/util.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char *recorded(const char *name, size_t *ret_len)
{
	char path[512], *text = calloc(1, 65536);

	snprintf(path, sizeof(path), "%s/%s", FILTER_RECORDED, name);
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	*ret_len = fread(text, 1, 65535, file);
	fclose(file);
	return text;
}

static void read_nft(struct filter *filter, const char *name)
{
	size_t len;
	_cleanup_free_ char *text = recorded(name, &len);
	struct err err = { 0 };

	if (filter_read_nft(filter, text, len, &err))
		fail_msg("%s", err.text);
}

static int read_save(struct filter *filter, enum filter_tool tool, const char *text)
{
	struct err err = { 0 };
	int rc = filter_read_iptables(filter, tool, AF_INET, text, &err);

	if (rc)
		assert_non_null(strstr(err.text, "line "));
	return rc;
}

// Outcomes one after the other: "drop firewall input", "perhaps dnat nat pre".
static void append(void *ctx, const struct filter_outcome *outcome)
{
	static const char *const verdicts[] = {
		[FILTER_DROP] = "drop", [FILTER_DNAT] = "dnat", [FILTER_NOTRACK] = "notrack"
	};
	char *text = ctx;
	const size_t len = strlen(text);

	snprintf(text + len, 256 - len, "%s%s%s %s %s%s", len ? "; " : "", outcome->perhaps ? "perhaps " : "",
		verdicts[outcome->verdict], outcome->base->table, outcome->base->name, outcome->rule ? "" : " policy");
}

static const char *run(const struct filter *filter, enum filter_hook hook, const struct filter_packet *packet)
{
	static char text[256];

	text[0] = '\0';
	filter_run(filter, hook, packet, append, text);
	return text;
}

static struct inet_addr address(const char *text)
{
	struct inet_addr addr = { 0 };

	if (*text)
		assert_int_equal(inet_addr_parse(text, &addr), 0);
	return addr;
}

// A packet that comes in by eth0.
static struct filter_packet packet(int protocol, const char *from, const char *to, uint16_t dport)
{
	const struct inet_addr destination = address(to);

	return (struct filter_packet) {
		.family = destination.family,
		.protocol = protocol,
		.from = address(from),
		.to = destination,
		.dport = dport,
		.in = "eth0",
		.state = FILTER_NEW,
		.to_this_host = true,
	};
}

static const char *input(const struct filter *filter, struct filter_packet p)
{
	return run(filter, FILTER_INPUT, &p);
}

static void nft_tunnel_packets(void **state)
{
	struct filter f = { 0 };

	(void)state;
	read_nft(&f, "firewall.json");
	assert_string_equal(input(&f, packet(4, "10.1.0.10", "10.1.0.101", 0)), "");
	assert_string_equal(input(&f, packet(4, "10.1.0.19", "10.1.0.101", 0)), ""); // the interval 10.1.0.16/30
	// a later rule perhaps lets it pass (the mark)
	assert_string_equal(input(&f, packet(4, "10.1.0.20", "10.1.0.101", 0)), "perhaps drop firewall input policy");
	assert_string_equal(input(&f, packet(4, "", "10.1.0.101", 0)), "perhaps drop firewall input policy");
	// verdict maps, named and not
	assert_string_equal(input(&f, packet(47, "10.1.0.10", "10.1.0.101", 0)), "drop firewall input");
	assert_string_equal(input(&f, packet(41, "fd00:1::10", "fd00:1::101", 0)), "");
	assert_string_equal(input(&f, packet(41, "fd00:1::11", "fd00:1::101", 0)), "drop firewall input");
	// a limit may be used up
	assert_string_equal(
		input(&f, packet(17, "10.1.0.10", "10.1.0.101", 6080)), "perhaps drop firewall input policy");
	struct filter_packet p = packet(4, "10.1.0.10", "10.1.0.101", 0);
	p.state = FILTER_INVALID;
	assert_string_equal(input(&f, p), "drop firewall input");
	// an ingress chain is one device's
	assert_string_equal(run(&f, FILTER_INGRESS, &p), "perhaps drop edge in"); // that nft does not say which
	filter_clear(&f);
}

// The agent's own, over IPv6: what it asks of pieces is asked of no whole packet.
static void nft_lockdown(void **state)
{
	struct filter f = { 0 };

	(void)state;
	read_nft(&f, "lockdown.json");
	assert_string_equal(input(&f, packet(6, "2001:db8::1", "fd00:2::101", 80)), "");
	assert_string_equal(input(&f, packet(17, "2001:db8::1", "fd00:2::101", 53)), "");
	for (size_t i = 0; i < 3; i++) {
		const int protocol = (int[]) { 4, 41, 17 }[i];

		assert_string_equal(input(&f, packet(protocol, "fd00:1::10", "fd00:2::101", 6080)), "");
		assert_string_equal(
			input(&f, packet(protocol, "fd00:1::11", "fd00:2::101", 6080)), "drop brass-agent input");
		assert_string_equal(input(&f, packet(protocol, "fd00:1::11", "fd00:2::102", 6080)), "");
	}
	assert_string_equal(input(&f, packet(47, "fd00:1::10", "fd00:2::101", 0)), "");
	// not every GRE packet is looked at
	assert_string_equal(input(&f, packet(47, "fd00:1::11", "fd00:2::101", 0)), "perhaps drop brass-agent input");
	filter_clear(&f);
}

static void nft_services(void **state)
{
	struct filter f = { 0 };
	struct filter_packet p;

	(void)state;
	read_nft(&f, "firewall.json");
	p = packet(6, "198.51.100.1", "10.100.0.1", 443);
	assert_string_equal(input(&f, p), "perhaps drop firewall input policy");
	p.in = "brass-ipip";
	assert_string_equal(input(&f, p), "");
	p.dport = 8050;
	assert_string_equal(input(&f, p), "");
	p.protocol = 17; // "udp dport != 53 return", out of a goto: the policy
	p.dport = 54;
	assert_string_equal(input(&f, p), "drop firewall input policy");
	p.dport = 53;
	assert_string_equal(input(&f, p), "");
	p = packet(6, "198.51.100.1", "10.1.0.100", 8080);
	assert_string_equal(run(&f, FILTER_PREROUTING, &p), "dnat nat pre");
	p.to_this_host = false;
	assert_string_equal(run(&f, FILTER_PREROUTING, &p), "");
	p.dport = 81;
	assert_string_equal(run(&f, FILTER_PREROUTING, &p), "dnat nat pre");
	p.to = address("10.1.0.99");
	assert_string_equal(run(&f, FILTER_PREROUTING, &p), "");
	filter_clear(&f);
}

static void tcp_flags(void **state)
{
	static const struct {
		unsigned int flags;
		const char *nft, *save;
	} cases[] = {
		{ FILTER_FLAG_SYN, "", "drop filter INPUT" },
		{ FILTER_FLAG_SYN | 1, "drop firewall input", "drop filter INPUT" },
		{ FILTER_FLAG_ACK, "", "" },
	};
	struct filter nft = { 0 }, save = { 0 };

	(void)state;
	read_nft(&nft, "firewall.json");
	assert_int_equal(
		read_save(&save, FILTER_IPTABLES,
			"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -m tcp --tcp-flags FIN,SYN FIN,SYN -j DROP\n"
			"-A INPUT -p tcp -m tcp ! --tcp-flags ALL ACK -j DROP\n"),
		0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct filter_packet p = packet(6, "198.51.100.1", "10.100.0.1", 80);

		p.flags = cases[i].flags;
		assert_string_equal(input(&save, p), cases[i].save);
		p.in = "brass-ipip"; // what comes out of it goes to the chain of services, after the flags
		assert_string_equal(input(&nft, p), cases[i].nft);
	}
	filter_clear(&nft);
	filter_clear(&save);
}

static void nft_replies(void **state)
{
	struct filter f = { 0 };
	struct filter_packet p = {
		.family = AF_INET, .protocol = 6, .sport = 80, .out = "eth0", .state = FILTER_ESTABLISHED
	};

	(void)state;
	read_nft(&f, "firewall.json");
	assert_string_equal(run(&f, FILTER_OUTPUT, &p), "notrack raw out");
	p.sport = 81;
	assert_string_equal(run(&f, FILTER_OUTPUT, &p), "");
	p.out = "eth1";
	assert_string_equal(run(&f, FILTER_OUTPUT, &p), "drop firewall output");
	p.family = AF_INET6;
	p.out = "eth0";
	p.to = address("fd00::2");
	assert_string_equal(run(&f, FILTER_OUTPUT, &p), "");
	p.sport = 80;
	assert_string_equal(run(&f, FILTER_OUTPUT, &p), "drop firewall output");
	filter_clear(&f);
}

static void saved_rules(void **state)
{
	struct filter f = { 0 };
	struct filter_packet p;
	size_t len;
	_cleanup_free_ char *text = recorded("docker.save", &len);

	(void)state;
	assert_int_equal(read_save(&f, FILTER_IPTABLES_LEGACY, text), 0);
	assert_string_equal(input(&f, packet(4, "10.1.0.10", "10.1.0.101", 0)), "");
	assert_string_equal(input(&f, packet(4, "10.1.0.11", "10.1.0.101", 0)), "drop filter INPUT policy");
	assert_string_equal(input(&f, packet(4, "", "10.1.0.101", 0)), "perhaps drop filter INPUT policy");
	assert_string_equal(input(&f, packet(47, "10.1.0.10", "10.1.0.101", 0)), "perhaps drop filter INPUT policy");
	assert_string_equal(input(&f, packet(6, "198.51.100.1", "10.1.0.100", 80)), "");
	assert_string_equal(input(&f, packet(6, "198.51.100.1", "10.1.0.100", 8010)), "");
	assert_string_equal(input(&f, packet(6, "198.51.100.1", "10.1.0.100", 8011)), "drop filter INPUT policy");
	assert_string_equal(input(&f, packet(17, "198.51.100.1", "10.1.0.100", 54)), "drop filter INPUT");
	assert_string_equal(input(&f, packet(17, "198.51.100.1", "10.1.0.100", 53)), "drop filter INPUT policy");
	p = packet(6, "198.51.100.1", "10.1.0.100", 9);
	p.in = "lo";
	assert_string_equal(input(&f, p), "");
	p = packet(6, "198.51.100.1", "10.1.0.100", 80);
	assert_string_equal(run(&f, FILTER_PREROUTING, &p), "dnat nat PREROUTING");
	p.in = "docker0";
	assert_string_equal(run(&f, FILTER_PREROUTING, &p), "");
	p = (struct filter_packet) { .family = AF_INET, .protocol = 6, .sport = 80, .state = FILTER_NEW };
	assert_string_equal(run(&f, FILTER_OUTPUT, &p), "notrack raw OUTPUT");
	// these rules are of IPv4
	assert_string_equal(input(&f, packet(4, "fd00::1", "fd00::2", 0)), "");
	filter_clear(&f);
}

// What iptables-nft keeps is read from iptables-save, and not a second time, with less in it, from nft.
static void each_table_once(void **state)
{
	struct filter f = { 0 };
	const struct filter_packet p = packet(6, "198.51.100.1", "10.1.0.100", 80);
	size_t len;
	_cleanup_free_ char *text = recorded("docker.save", &len);

	(void)state;
	assert_int_equal(read_save(&f, FILTER_IPTABLES_NFT, text), 0);
	const size_t count = f.count;
	read_nft(&f, "docker.json");
	assert_int_equal(f.count, count);
	filter_clear(&f);
	// without iptables-nft-save its extensions are not known, and neither is what follows
	read_nft(&f, "docker.json");
	assert_string_equal(input(&f, packet(4, "10.1.0.11", "10.1.0.101", 0)), "perhaps drop filter INPUT policy");
	assert_string_equal(run(&f, FILTER_PREROUTING, &p), "");
	filter_clear(&f);
}

// A table of nft's own that has a name of iptables': iptables-nft-save shows its chains as if nothing led to them.
static void a_table_of_the_same_name(void **state)
{
	struct filter f = { 0 };
	const struct filter_packet p = packet(6, "198.51.100.1", "10.1.0.100", 81);

	(void)state;
	assert_int_equal(
		read_save(&f, FILTER_IPTABLES_NFT, "*nat\n:pre - [0:0]\nCOMMIT\n*filter\n:INPUT DROP [0:0]\nCOMMIT\n"),
		0);
	read_nft(&f, "firewall.json");
	assert_string_equal(run(&f, FILTER_PREROUTING, &p), "dnat nat pre");
	assert_string_equal(run(&f, FILTER_INPUT, &p), "drop filter INPUT policy; perhaps drop firewall input policy");
	filter_clear(&f);
}

static void words(void **state)
{
	struct filter f = { 0 };
	const struct filter_packet tunnel = packet(4, "10.1.0.10", "10.1.0.101", 0);
	struct filter_packet reply = { .family = AF_INET, .protocol = 6, .from = address("10.1.0.100"), .sport = 80 };
	struct filter_packet gue = packet(17, "", "fd00:1::101", 6080);
	char buf[FILTER_COMMAND_MAX];

	(void)state;
	read_nft(&f, "firewall.json");
	const struct filter_chain *chain = filter_find_chain(&f, FILTER_NFT, "inet", "firewall", "input");
	assert_string_equal(filter_pass_command(chain, &tunnel, buf),
		"nft insert rule inet firewall input ip saddr 10.1.0.10 ip daddr 10.1.0.101 meta l4proto 4 accept");
	assert_string_equal(filter_pass_command(chain, &gue, buf),
		"nft insert rule inet firewall input ip6 daddr fd00:1::101 udp dport 6080 accept");
	const struct filter_outcome policy = { .base = chain, .verdict = FILTER_DROP };
	assert_string_equal(filter_describe(&policy, buf), "nft inet, table firewall, policy of chain input");
	const struct filter_outcome rule = { .base = chain, .rule = &chain->rules[0], .verdict = FILTER_DROP };
	assert_non_null(strstr(filter_describe(&rule, buf), "chain input, rule handle "));
	filter_clear(&f);
	assert_int_equal(read_save(&f, FILTER_IPTABLES_LEGACY, "*raw\n:OUTPUT ACCEPT [0:0]\n"), 0);
	assert_string_equal(filter_pass_command(&f.chains[0], &reply, buf),
		"iptables-legacy -t raw -I OUTPUT -s 10.1.0.100 -p 6 --sport 80 -j ACCEPT");
	filter_clear(&f);
}

static void nonsense(void **state)
{
	struct filter f = { 0 };
	struct err err = { 0 };

	(void)state;
	assert_int_equal(filter_read_nft(&f, "{", 1, &err), -EINVAL);
	assert_int_equal(filter_read_nft(&f, "{\"a\": 1}", 8, &err), -EINVAL);
	assert_int_equal(read_save(&f, FILTER_IPTABLES, "*filter\n-A NOWHERE -j DROP\n"), -EINVAL);
	assert_int_equal(read_save(&f, FILTER_IPTABLES, "*filter\n:INPUT\n"), -EINVAL);
	assert_int_equal(read_save(&f, FILTER_IPTABLES, "*filter\n:INPUT DROP [0:0]\nwhat is this\n"), -EINVAL);
	filter_clear(&f);
	// rules that jump in a circle come to an end
	assert_int_equal(read_save(&f, FILTER_IPTABLES,
				 "*filter\n:INPUT ACCEPT [0:0]\n:A - [0:0]\n-A INPUT -j A\n-A A -j A\n-A A -j DROP\n"),
		0);
	assert_string_equal(input(&f, packet(6, "10.0.0.1", "10.0.0.2", 1)), "drop filter INPUT");
	filter_clear(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nft_tunnel_packets),
		cmocka_unit_test(nft_lockdown),
		cmocka_unit_test(nft_services),
		cmocka_unit_test(nft_replies),
		cmocka_unit_test(tcp_flags),
		cmocka_unit_test(saved_rules),
		cmocka_unit_test(each_table_once),
		cmocka_unit_test(a_table_of_the_same_name),
		cmocka_unit_test(words),
		cmocka_unit_test(nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
