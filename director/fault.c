// SPDX-License-Identifier: Apache-2.0
#include "director/fault.h"

#include "shared/util.h"

#include <stdio.h>
#include <string.h>

const struct field_choice fault_choices[] = {
	{ "none", FAULT_NONE },
	{ "host-down", FAULT_HOST_DOWN },
	{ "program-down", FAULT_PROGRAM_DOWN },
	{ "program-wrong", FAULT_PROGRAM_WRONG },
	{ "bound-to-rip", FAULT_BOUND_TO_RIP },
	{ "not-decapsulated", FAULT_NOT_DECAPSULATED },
	{ "vip-missing", FAULT_VIP_MISSING },
	{ "tunnel-drops", FAULT_TUNNEL_DROPS },
	{ "mtu", FAULT_MTU },
	{ "firewall", FAULT_FIREWALL },
	{ "agent", FAULT_AGENT },
	{ "unknown", FAULT_UNKNOWN },
	{ NULL, 0 },
};

// Sets of outcomes, agents and methods; 0 is any.
#define BIT(value) (1u << (value))
#define PASS BIT(CHECK_PASS)
#define RESET BIT(CHECK_REFUSED)
#define ANSWER (PASS | RESET | BIT(CHECK_WRONG))
#define REJECT (BIT(CHECK_NO_PORT) | BIT(CHECK_NO_PROTOCOL) | BIT(CHECK_PROHIBITED))
#define SILENT BIT(CHECK_TIMEOUT)
#define DEAD (SILENT | BIT(CHECK_UNREACHABLE))
#define NOT_RUN BIT(FAULT_NOT_RUN)
#define TUNNELS (BIT(FORWARD_IPIP) | BIT(FORWARD_GUE) | BIT(FORWARD_GRE))

static const struct pattern {
	uint32_t rip, rip_other, vip, vip_other, full; // outcomes
	uint32_t methods, agents;
	int check; // 1: fails, -1: does not, 0: either
	enum fault fault;
	const char *text;
} patterns[] = {
	{ .vip = PASS,
		.full = DEAD,
		.fault = FAULT_MTU,
		.text = "small packets arrive along the path, packets of {full} bytes do not: something between here "
			"and "
			"{rip} carries less, and its ICMP \"fragmentation needed\" does not get here; tracepath -n "
			"{rip} "
			"finds it" },
	{ .vip = PASS,
		.check = 1,
		.fault = FAULT_PROGRAM_WRONG,
		.text = "the path carries small packets and those of {full} bytes; it is the check that fails: "
			"{check}" },
	{ .vip = PASS,
		.agents = BIT(FAULT_AGENT_BAD),
		.fault = FAULT_AGENT,
		.text = "it answers along the path; its agent says: {agent}" },
	{ .vip = PASS,
		.rip = PASS,
		.fault = FAULT_NONE,
		.text = "it answers, on its own address and along the path, small packets and those of {full} bytes" },
	{ .vip = PASS,
		.fault = FAULT_NONE,
		.text = "it answers along the path; on {rip} it does not, which clients do not need" },
	{ .rip = DEAD,
		.rip_other = DEAD,
		.agents = BIT(FAULT_AGENT_UP) | BIT(FAULT_AGENT_BAD),
		.fault = FAULT_FIREWALL,
		.text = "its agent is heard, but nothing that is sent to {rip} is answered: a firewall there, or its "
			"way "
			"back to this host" },
	{ .rip = DEAD,
		.rip_other = DEAD,
		.fault = FAULT_HOST_DOWN,
		.text = "{rip} answers on no port: the host is down, cut off, or answers nobody but clients of port "
			"{port}" },
	{ .rip = DEAD | REJECT,
		.rip_other = ANSWER,
		.fault = FAULT_FIREWALL,
		.text = "the host is up, but packets to port {port} of {rip} are dropped or rejected: look at its "
			"firewall" },
	{ .rip = RESET,
		.vip = RESET | NOT_RUN,
		.fault = FAULT_PROGRAM_DOWN,
		.text = "nothing listens on port {port} there: the program is down" },
	{ .rip = PASS,
		.vip = RESET,
		.fault = FAULT_BOUND_TO_RIP,
		.text = "packets to {vip} arrive there, but the program listens on {rip} only: let it listen on {vip} "
			"or "
			"on all addresses" },
	{ .vip = REJECT | DEAD,
		.vip_other = ANSWER,
		.fault = FAULT_FIREWALL,
		.text = "{vip} answers there on other ports, but packets to its port {port} are dropped or rejected: "
			"look "
			"at the host's firewall" },
	{ .vip = REJECT | DEAD,
		.agents = BIT(FAULT_AGENT_BAD),
		.fault = FAULT_AGENT,
		.text = "{rip} answers, {vip} does not; its agent says: {agent}" },
	{ .vip = BIT(CHECK_NO_PORT) | BIT(CHECK_NO_PROTOCOL),
		.methods = TUNNELS,
		.fault = FAULT_NOT_DECAPSULATED,
		.text = "the host rejects {wrap}: no tunnel device that is up takes it there, or a firewall rejects "
			"it; "
			"{look}" },
	{ .vip = REJECT,
		.fault = FAULT_FIREWALL,
		.text = "packets along the path are rejected with ICMP: look at the host's firewall" },
	{ .vip = SILENT,
		.methods = TUNNELS,
		.agents = BIT(FAULT_AGENT_UP),
		.fault = FAULT_FIREWALL,
		.text = "{rip} answers and its agent has read back VIP, tunnel and settings as right, but {wrap} or "
			"its "
			"answers vanish: a firewall there or in between, or the way back of packets from {vip}" },
	{ .vip = SILENT,
		.methods = TUNNELS,
		.fault = FAULT_TUNNEL_DROPS,
		.text = "{rip} answers, and {wrap} vanishes there without a word: {vip} is missing on the tunnel "
			"device, "
			"rp_filter is 1 (the larger of all and the device counts; 2 on the device is right), "
			"{options}a "
			"firewall drops it, or packets from {vip} have no way back; {look}" },
	{ .vip = SILENT,
		.agents = BIT(FAULT_AGENT_UP),
		.fault = FAULT_FIREWALL,
		.text = "{rip} answers and its agent has read back the VIP as right, but {vip} does not answer: a "
			"firewall "
			"there, or the way back of packets from {vip}" },
	{ .vip = SILENT,
		.methods = BIT(FORWARD_DR),
		.fault = FAULT_VIP_MISSING,
		.text = "{rip} answers, {vip} does not: the VIP is missing there (ip addr add {vip}/{bits} dev lo), or "
			"packets from it have no way back, or a firewall drops them" },
	{ .rip = PASS,
		.vip = NOT_RUN,
		.check = 1,
		.fault = FAULT_PROGRAM_WRONG,
		.text = "{rip} answers; it is the check that fails: {check}" },
	{ .rip = PASS,
		.vip = NOT_RUN,
		.agents = BIT(FAULT_AGENT_BAD),
		.fault = FAULT_AGENT,
		.text = "{rip} answers; its agent says: {agent}" },
	{ .rip = PASS, .vip = NOT_RUN, .fault = FAULT_NONE, .text = "{rip} answers; the path was not tried" },
	{ .fault = FAULT_UNKNOWN,
		.text = "what was seen fits no fault that is known; compare with a real server that "
			"works" },
};

static bool fits(uint32_t set, int value)
{
	return !set || (set & BIT(value));
}

static bool matches(const struct pattern *p, const struct fault_seen *seen)
{
	return fits(p->rip, seen->outcome[FAULT_RIP]) && fits(p->rip_other, seen->outcome[FAULT_RIP_OTHER]) &&
		fits(p->vip, seen->outcome[FAULT_VIP]) && fits(p->vip_other, seen->outcome[FAULT_VIP_OTHER]) &&
		fits(p->full, seen->outcome[FAULT_FULL]) && fits(p->methods, seen->method) &&
		fits(p->agents, (int)seen->agent) && (!p->check || (p->check > 0) == seen->check_fails);
}

// --- the sentence ---

#define WORD_MAX 256

struct word {
	const char *name, *text;
};

// What the packets are wrapped in, and where to look on the host.
static void describe_tunnel(const struct fault_seen *seen, char wrap[64], char look[80])
{
	const bool six = seen->vip.family == AF_INET6;
	const char *kind = seen->rip.family == AF_INET6 ? "ip6tnl" : six ? "sit" : "ipip";

	snprintf(look, 80, "ip -d addr show type %s", kind);
	switch ((enum forward_method)seen->method) {
	case FORWARD_IPIP:
		snprintf(wrap, 64, "IP protocol %d (ipip)", six ? 41 : 4);
		break;
	case FORWARD_GUE:
		snprintf(wrap, 64, "UDP to port %u (gue)", seen->tunnel.port);
		snprintf(look, 80, "ip fou show; ip -d addr show type %s", kind);
		break;
	case FORWARD_GRE:
		snprintf(wrap, 64, "IP protocol 47 (gre)");
		snprintf(look, 80, "ip -d addr show type %s", seen->rip.family == AF_INET6 ? "ip6gre" : "gre");
		break;
	case FORWARD_DR:
	case FORWARD_NAT:
		break;
	}
}

static const char *find_word(const struct word *words, size_t count, const char *name, size_t len)
{
	for (size_t i = 0; i < count; i++)
		if (strncmp(words[i].name, name, len) == 0 && !words[i].name[len])
			return words[i].text;
	return "?";
}

// The text with its words in braces replaced; cut to what fits.
static void expand(const char *text, const struct word *words, size_t count, char ret[FAULT_TEXT_MAX])
{
	size_t at = 0;

	ret[0] = '\0';
	while (*text && at < FAULT_TEXT_MAX - 1) {
		const char *close = *text == '{' ? strchr(text, '}') : NULL;
		const char *word = close ? find_word(words, count, text + 1, (size_t)(close - text - 1)) : text;
		int n = snprintf(ret + at, FAULT_TEXT_MAX - at, "%.*s", close ? WORD_MAX : 1, word);

		at += n > 0 ? (size_t)n : 0;
		text = close ? close + 1 : text + 1;
	}
}

enum fault fault_find(const struct fault_seen *seen, char ret_text[FAULT_TEXT_MAX])
{
	const struct pattern *p = patterns;
	char vip[INET_ADDR_MAX] = "the VIP", rip[INET_ADDR_MAX], port[8], full[16], wrap[64] = "", look[80] = "";

	while (!matches(p, seen))
		p++; // the last fits all
	if (inet_addr_is_set(&seen->vip))
		inet_addr_format(&seen->vip, vip);
	inet_addr_format(&seen->rip, rip);
	snprintf(port, sizeof(port), "%u", seen->port);
	snprintf(full, sizeof(full), "%u", seen->full_size);
	describe_tunnel(seen, wrap, look);
	const struct word words[] = {
		{ "vip", vip },
		{ "rip", rip },
		{ "port", port },
		{ "full", full },
		{ "wrap", wrap },
		{ "look", look },
		{ "bits", seen->vip.family == AF_INET6 ? "128" : "32" },
		{ "options",
			seen->method == FORWARD_GRE           ? "csum differs from tunnel.checksum, "
				: seen->method == FORWARD_GUE ? "there is no tunnel device behind the port, "
							      : "" },
		{ "agent", *seen->agent_reason ? seen->agent_reason : "not ready" },
		{ "check", seen->check_reason },
	};
	expand(p->text, words, ARRAY_SIZE(words), ret_text);
	return p->fault;
}
