// SPDX-License-Identifier: Apache-2.0
// Expressions are built in the order in which nft(8) builds them, and their attributes in the order in which the kernel
// gives them back, so that what we want is compared with what is there by one walk over both.
#include "agent/nft_message.h"

#include "shared/util.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <string.h>

#define PRIORITY (-10) // before the host's own filter, so that all that is dropped is counted here

struct nl_msg *nft_message(int type, int flags, uint16_t res_id)
{
	const struct nfgenmsg head = { .nfgen_family = NFPROTO_INET, .version = NFNETLINK_V0, .res_id = htons(res_id) };
	struct nl_msg *msg = nlmsg_alloc_size(2048);

	if (msg && nlmsg_put(msg, 0, 0, type, sizeof(head), NLM_F_REQUEST | flags))
		memcpy(nlmsg_data(nlmsg_hdr(msg)), &head, sizeof(head));
	return msg;
}

struct nl_msg *nft_message_table(int type, int flags)
{
	struct nl_msg *msg = nft_message(NFNL_SUBSYS_NFTABLES << 8 | type, flags, 0);

	// NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and NFTA_RULE_TABLE are one number
	if (msg && nla_put_string(msg, NFTA_TABLE_NAME, NFT_OUR_TABLE)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

// --- expressions ---

static struct nlattr *nest(struct nl_msg *msg, int type)
{
	struct nlattr *attr = nla_nest_start(msg, type);

	if (attr)
		attr->nla_type |= NLA_F_NESTED;
	return attr;
}

struct expression {
	struct nlattr *element, *data;
};

static struct expression expression(struct nl_msg *msg, const char *name)
{
	struct expression e = { .element = nest(msg, NFTA_LIST_ELEM) };

	nla_put_string(msg, NFTA_EXPR_NAME, name);
	e.data = nest(msg, NFTA_EXPR_DATA);
	return e;
}

static void end(struct nl_msg *msg, struct expression e)
{
	nla_nest_end(msg, e.data);
	nla_nest_end(msg, e.element);
}

static void put_u32(struct nl_msg *msg, int type, uint32_t value)
{
	nla_put_u32(msg, type, htonl(value));
}

static void put_value(struct nl_msg *msg, int type, const void *bytes, unsigned int len)
{
	struct nlattr *attr = nest(msg, type);

	nla_put(msg, NFTA_DATA_VALUE, (int)len, bytes);
	nla_nest_end(msg, attr);
}

static void meta(struct nl_msg *msg, uint32_t key)
{
	struct expression e = expression(msg, "meta");

	put_u32(msg, NFTA_META_KEY, key);
	put_u32(msg, NFTA_META_DREG, NFT_REG_1);
	end(msg, e);
}

static void payload(struct nl_msg *msg, uint32_t base, uint32_t offset, uint32_t len)
{
	struct expression e = expression(msg, "payload");

	put_u32(msg, NFTA_PAYLOAD_DREG, NFT_REG_1);
	put_u32(msg, NFTA_PAYLOAD_BASE, base);
	put_u32(msg, NFTA_PAYLOAD_OFFSET, offset);
	put_u32(msg, NFTA_PAYLOAD_LEN, len);
	end(msg, e);
}

static void mask(struct nl_msg *msg, const void *bytes, unsigned int len)
{
	static const uint8_t zero[16];
	struct expression e = expression(msg, "bitwise");

	put_u32(msg, NFTA_BITWISE_SREG, NFT_REG_1);
	put_u32(msg, NFTA_BITWISE_DREG, NFT_REG_1);
	put_u32(msg, NFTA_BITWISE_LEN, len);
	put_value(msg, NFTA_BITWISE_MASK, bytes, len);
	put_value(msg, NFTA_BITWISE_XOR, zero, len);
	end(msg, e);
}

static void compare(struct nl_msg *msg, uint32_t op, const void *bytes, unsigned int len)
{
	struct expression e = expression(msg, "cmp");

	put_u32(msg, NFTA_CMP_SREG, NFT_REG_1);
	put_u32(msg, NFTA_CMP_OP, op);
	put_value(msg, NFTA_CMP_DATA, bytes, len);
	end(msg, e);
}

static void is_byte(struct nl_msg *msg, uint32_t key, uint8_t value)
{
	meta(msg, key);
	compare(msg, NFT_CMP_EQ, &value, sizeof(value));
}

static void verdict(struct nl_msg *msg, int32_t code, const char *chain)
{
	struct expression e = expression(msg, "immediate");

	put_u32(msg, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
	struct nlattr *data = nest(msg, NFTA_IMMEDIATE_DATA), *what = nest(msg, NFTA_DATA_VERDICT);

	put_u32(msg, NFTA_VERDICT_CODE, (uint32_t)code);
	if (chain)
		nla_put_string(msg, NFTA_VERDICT_CHAIN, chain);
	nla_nest_end(msg, what);
	nla_nest_end(msg, data);
	end(msg, e);
}

static void count(struct nl_msg *msg)
{
	struct nlattr *element = nest(msg, NFTA_LIST_ELEM);

	nla_put_string(msg, NFTA_EXPR_NAME, "counter");
	nla_nest_end(msg, element);
}

// "ip saddr 10.0.0.0/8": whole bytes are compared as they stand, the rest of the last one under a mask.
static void is_address(struct nl_msg *msg, const struct inet_prefix *prefix, bool source)
{
	const bool v6 = prefix->addr.family == AF_INET6;
	const unsigned int whole = inet_addr_len(prefix->addr.family), len = prefix->len % 8 ? whole : prefix->len / 8;
	uint8_t bits[16] = { 0 }, value[16];

	is_byte(msg, NFT_META_NFPROTO, v6 ? NFPROTO_IPV6 : NFPROTO_IPV4);
	for (unsigned int i = 0; i < prefix->len; i++)
		bits[i / 8] |= (uint8_t)(0x80 >> i % 8);
	for (unsigned int i = 0; i < whole; i++)
		value[i] = prefix->addr.bytes[i] & bits[i];
	if (!len)
		return;
	payload(msg, NFT_PAYLOAD_NETWORK_HEADER, (v6 ? 8 : 12) + (source ? 0 : whole), len);
	if (prefix->len % 8)
		mask(msg, bits, len);
	compare(msg, NFT_CMP_EQ, value, len);
}

static const uint16_t not_ours[] = { 0x6558, 0x88be, 0x22eb }; // protocols in GRE: Ethernet, ERSPAN of two versions

static void is_plain_gre(struct nl_msg *msg, bool v6)
{
	const uint8_t bits[4] = { v6 ? 0 : 0x20, 0x7f }, zero[4] = { 0 }; // key, version

	payload(msg, NFT_PAYLOAD_TRANSPORT_HEADER, 0, 4);
	mask(msg, bits, 4);
	compare(msg, NFT_CMP_EQ, zero, 4);
	for (size_t i = 0; i < ARRAY_SIZE(not_ours); i++) {
		const uint16_t protocol = htons(not_ours[i]);

		payload(msg, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
		compare(msg, NFT_CMP_NEQ, &protocol, 2);
	}
}

// "frag frag-off 0"
static void is_first_piece(struct nl_msg *msg)
{
	static const uint8_t bits[2] = { 0xff, 0xf8 }, zero[2];
	struct expression e = expression(msg, "exthdr");

	put_u32(msg, NFTA_EXTHDR_DREG, NFT_REG_1);
	nla_put_u8(msg, NFTA_EXTHDR_TYPE, IPPROTO_FRAGMENT);
	put_u32(msg, NFTA_EXTHDR_OFFSET, 2);
	put_u32(msg, NFTA_EXTHDR_LEN, sizeof(zero));
	end(msg, e);
	mask(msg, bits, sizeof(bits));
	compare(msg, NFT_CMP_EQ, zero, sizeof(zero));
}

static const char *goes_to(const struct nft_rule *rule)
{
	if (rule->what == NFT_ALLOW)
		return NULL;
	return rule->ip_protocol == IPPROTO_FRAGMENT ? NFT_CHAIN_HIDDEN : NFT_CHAIN_DIRECTORS;
}

static void put_expressions(struct nl_msg *msg, const struct nft_rule *rule)
{
	const uint16_t port = htons(rule->port);
	struct nlattr *list = nest(msg, NFTA_RULE_EXPRESSIONS);

	is_address(msg, &rule->addr, rule->what == NFT_ALLOW);
	// before the protocol: nft(8) 1.0.6 dies of listing it the other way round
	if (rule->what == NFT_LOCK && rule->ip_protocol == IPPROTO_GRE)
		is_plain_gre(msg, rule->addr.addr.family == AF_INET6);
	if (rule->ip_protocol == IPPROTO_FRAGMENT)
		is_first_piece(msg);
	else if (rule->ip_protocol)
		is_byte(msg, NFT_META_L4PROTO, rule->ip_protocol);
	if (rule->port) {
		payload(msg, NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
		compare(msg, NFT_CMP_EQ, &port, 2);
	}
	verdict(msg, rule->what == NFT_ALLOW ? NF_ACCEPT : NFT_JUMP, goes_to(rule));
	nla_nest_end(msg, list);
}

struct nl_msg *nft_message_rule(int type, int flags, const char *chain)
{
	struct nl_msg *msg = nft_message_table(type, flags);

	if (msg)
		nla_put_string(msg, NFTA_RULE_CHAIN, chain);
	return msg;
}

struct nl_msg *nft_message_new_rule(const struct nft_rule *rule)
{
	const bool allow = rule->what == NFT_ALLOW;
	// without NLM_F_APPEND it comes first: before the drop
	struct nl_msg *msg = nft_message_rule(NFT_MSG_NEWRULE, NLM_F_CREATE | (allow ? 0 : NLM_F_APPEND),
		allow ? NFT_CHAIN_DIRECTORS : NFT_CHAIN_INPUT);

	if (msg)
		put_expressions(msg, rule);
	return msg;
}

struct nl_msg *nft_message_new_fixed(enum nft_fixed which)
{
	static const uint8_t zero[4];
	// what is readable is let go before the rest is looked at
	struct nl_msg *msg =
		nft_message_rule(NFT_MSG_NEWRULE, NLM_F_CREATE | (which == NFT_READABLE ? 0 : NLM_F_APPEND),
			which == NFT_DROP ? NFT_CHAIN_DIRECTORS : NFT_CHAIN_HIDDEN);
	struct nlattr *list = msg ? nest(msg, NFTA_RULE_EXPRESSIONS) : NULL;

	if (!list)
		return msg;
	switch (which) {
	case NFT_DROP:
		count(msg);
		verdict(msg, NF_DROP, NULL);
		break;
	case NFT_READABLE: // ports, or as much of another header
		payload(msg, NFT_PAYLOAD_TRANSPORT_HEADER, 0, sizeof(zero));
		compare(msg, NFT_CMP_GTE, zero, sizeof(zero));
		verdict(msg, NFT_RETURN, NULL);
		break;
	case NFT_HIDDEN:
		verdict(msg, NFT_JUMP, NFT_CHAIN_DIRECTORS);
		break;
	case NFT_FIXED:
		break;
	}
	nla_nest_end(msg, list);
	return msg;
}

struct nl_msg *nft_message_new_chain(const char *name, bool is_base)
{
	struct nl_msg *msg = nft_message_table(NFT_MSG_NEWCHAIN, NLM_F_CREATE);

	if (!msg)
		return NULL;
	nla_put_string(msg, NFTA_CHAIN_NAME, name);
	if (!is_base)
		return msg;
	struct nlattr *hook = nest(msg, NFTA_CHAIN_HOOK);

	put_u32(msg, NFTA_HOOK_HOOKNUM, NF_INET_LOCAL_IN);
	put_u32(msg, NFTA_HOOK_PRIORITY, (uint32_t)PRIORITY);
	nla_nest_end(msg, hook);
	put_u32(msg, NFTA_CHAIN_POLICY, NF_ACCEPT);
	nla_put_string(msg, NFTA_CHAIN_TYPE, "filter");
	return msg;
}

// --- comparing ---

// Every attribute of want is in have, with the same content. Nested ones are told by their flag, which ours have.
bool nft_message_covers(const struct nlattr *want, const struct nlattr *have)
{
	const struct nlattr *w, *h = nla_data(have);
	int want_left, have_left = nla_len(have);

	if (!(want->nla_type & NLA_F_NESTED))
		return nla_len(want) == nla_len(have) &&
			memcmp(nla_data(want), nla_data(have), (size_t)nla_len(want)) == 0;
	nla_for_each_nested (w, want, want_left) {
		while (nla_ok(h, have_left) && nla_type(h) != nla_type(w))
			h = nla_next(h, &have_left);
		if (!nla_ok(h, have_left) || !nft_message_covers(w, h))
			return false;
		h = nla_next(h, &have_left);
	}
	return true;
}

static int elements(const struct nlattr *list)
{
	const struct nlattr *item;
	int left, n = 0;

	nla_for_each_nested (item, list, left)
		n++;
	return n;
}

bool nft_message_same(struct nl_msg *msg, const struct nlattr *have)
{
	const struct nlattr *want =
		msg ? nlmsg_find_attr(nlmsg_hdr(msg), sizeof(struct nfgenmsg), NFTA_RULE_EXPRESSIONS) : NULL;
	bool same = want && elements(want) == elements(have) && nft_message_covers(want, have);

	nlmsg_free(msg);
	return same;
}

// --- text ---

const char *nft_rule_text(const struct nft_rule *rule, char buf[NFT_RULE_MAX])
{
	const bool v6 = rule->addr.addr.family == AF_INET6, allow = rule->what == NFT_ALLOW;
	const unsigned int whole = inet_addr_len(rule->addr.addr.family) * 8;
	char addr[INET_PREFIX_MAX], ports[40] = "", protocol[140] = "";

	if (rule->addr.len < whole)
		inet_prefix_format(&rule->addr, addr);
	else
		inet_addr_format(&rule->addr.addr, addr);
	if (rule->port)
		snprintf(ports, sizeof(ports), " th dport %u", rule->port);
	if (rule->ip_protocol == IPPROTO_GRE && !allow)
		snprintf(protocol, sizeof(protocol),
			" @th,0,32 & 0x%x == 0 @th,16,16 != 0x%x @th,16,16 != 0x%x @th,16,16 != 0x%x meta l4proto 47",
			v6 ? 0x7f0000 : 0x207f0000, not_ours[0], not_ours[1], not_ours[2]);
	else if (rule->ip_protocol == IPPROTO_FRAGMENT)
		snprintf(protocol, sizeof(protocol), " frag frag-off 0");
	else if (rule->ip_protocol)
		snprintf(protocol, sizeof(protocol), " meta l4proto %u", rule->ip_protocol);
	snprintf(buf, NFT_RULE_MAX, "%s %s %s %s%s%s %s%s", allow ? NFT_CHAIN_DIRECTORS : NFT_CHAIN_INPUT,
		v6 ? "ip6" : "ip", allow ? "saddr" : "daddr", addr, protocol, ports, allow ? "accept" : "jump ",
		allow ? "" : goes_to(rule));
	return buf;
}
