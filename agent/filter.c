// SPDX-License-Identifier: Apache-2.0
// A rule fits, does not fit, or perhaps fits. A packet that perhaps met a verdict goes on to the next rule, and what
// comes of it from there on is only "perhaps" as well.
#include "agent/filter.h"

#include "shared/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DEPTH_MAX 16 // of jumps, as in the kernel

// --- building ---

// Room for one more item; NULL without memory or beyond max.
static void *grow(void *items, size_t *count, size_t *room, size_t size, size_t max)
{
	char *bytes = items;

	if (*count >= max)
		return NULL;
	if (*count == *room) {
		size_t more = *room ? 2 * *room : 4;

		bytes = reallocarray(items, more, size);
		if (!bytes)
			return NULL;
		*room = more;
	}
	memset(bytes + *count * size, 0, size);
	++*count;
	return bytes;
}

struct filter_chain *filter_add_chain(struct filter *filter)
{
	void *items = grow(filter->chains, &filter->count, &filter->room, sizeof(*filter->chains), FILTER_CHAINS_MAX);

	if (!items)
		return NULL;
	filter->chains = items;
	return &filter->chains[filter->count - 1];
}

struct filter_rule *filter_add_rule(struct filter_chain *chain)
{
	void *items = grow(chain->rules, &chain->count, &chain->room, sizeof(*chain->rules), FILTER_RULES_MAX);

	if (!items)
		return NULL;
	chain->rules = items;
	return &chain->rules[chain->count - 1];
}

struct filter_match *filter_add_match(struct filter_rule *rule, enum filter_key key, bool inverted)
{
	void *items = grow(rule->matches, &rule->count, &rule->room, sizeof(*rule->matches), SIZE_MAX);

	if (!items)
		return NULL;
	rule->matches = items;
	rule->matches[rule->count - 1].key = key;
	rule->matches[rule->count - 1].inverted = inverted;
	return &rule->matches[rule->count - 1];
}

struct filter_chain *filter_find_chain(const struct filter *filter, enum filter_tool tool, const char *family_name,
	const char *table, const char *name)
{
	for (size_t i = 0; i < filter->count; i++) {
		struct filter_chain *chain = &filter->chains[i];

		if (chain->tool == tool && strcmp(chain->family_name, family_name) == 0 &&
			strcmp(chain->table, table) == 0 && (!name || strcmp(chain->name, name) == 0))
			return chain;
	}
	return NULL;
}

static int add_range(struct filter_match *match, const struct filter_range *range)
{
	void *items = grow(match->ranges, &match->count, &match->room, sizeof(*match->ranges), SIZE_MAX);

	if (!items)
		return -ENOMEM;
	match->ranges = items;
	match->ranges[match->count - 1] = *range;
	return 0;
}

static void put_number(uint8_t to[16], uint32_t n)
{
	const uint32_t bytes = htonl(n);

	memset(to, 0, 16);
	memcpy(to, &bytes, sizeof(bytes));
}

int filter_add_number(struct filter_match *match, uint32_t lo, uint32_t hi)
{
	struct filter_range range;

	put_number(range.lo, lo);
	put_number(range.hi, hi);
	return add_range(match, &range);
}

int filter_add_name(struct filter_match *match, const char *name)
{
	struct filter_range range = { 0 };
	size_t len = strnlen(name, sizeof(range.lo) - 1);

	memcpy(range.lo, name, len);
	if (len && (name[len - 1] == '+' || name[len - 1] == '*')) {
		range.lo[len - 1] = 0;
		range.hi[0] = 1;
	}
	return add_range(match, &range);
}

static int take_family(struct filter_match *match, int family)
{
	if (match->family && match->family != family)
		return -EINVAL;
	match->family = family;
	return 0;
}

int filter_add_prefix(struct filter_match *match, const char *text)
{
	struct filter_range range = { 0 };
	struct inet_prefix prefix;

	if (inet_prefix_parse(text, &prefix) || take_family(match, prefix.addr.family))
		return -EINVAL;
	for (unsigned int i = 0; i < inet_addr_len(prefix.addr.family); i++) {
		const int bits = (int)prefix.len - 8 * (int)i; // of the network in this byte
		const unsigned int mask = bits >= 8 ? 0xff : bits <= 0 ? 0 : 0xff00u >> bits & 0xff;

		range.lo[i] = (uint8_t)(prefix.addr.bytes[i] & mask);
		range.hi[i] = (uint8_t)(prefix.addr.bytes[i] | (~mask & 0xff));
	}
	return add_range(match, &range);
}

int filter_add_addresses(struct filter_match *match, const char *lo, const char *hi)
{
	struct filter_range range;
	struct inet_addr from, to;

	if (inet_addr_parse(lo, &from) || inet_addr_parse(hi, &to) || from.family != to.family ||
		take_family(match, from.family))
		return -EINVAL;
	memcpy(range.lo, from.bytes, sizeof(range.lo));
	memcpy(range.hi, to.bytes, sizeof(range.hi));
	return add_range(match, &range);
}

unsigned int filter_flag(const char *name, size_t len)
{
	static const char *const names[] = { "fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strlen(names[i]) == len && strncasecmp(names[i], name, len) == 0)
			return 1u << i;
	return 0;
}

void filter_match_forget(struct filter_match *match)
{
	free(match->ranges);
	*match = (struct filter_match) { .key = FILTER_OTHER };
}

void filter_clear(struct filter *filter)
{
	for (size_t c = 0; c < filter->count; c++) {
		struct filter_chain *chain = &filter->chains[c];

		for (size_t r = 0; r < chain->count; r++) {
			for (size_t m = 0; m < chain->rules[r].count; m++)
				free(chain->rules[r].matches[m].ranges);
			free(chain->rules[r].matches);
		}
		free(chain->rules);
	}
	free(filter->chains);
	*filter = (struct filter) { 0 };
}

// --- judging ---

enum fit { FIT_NO, FIT_PERHAPS, FIT_YES };

static bool in_ranges(const struct filter_match *match, const uint8_t value[16])
{
	for (size_t i = 0; i < match->count; i++)
		if (memcmp(value, match->ranges[i].lo, 16) >= 0 && memcmp(value, match->ranges[i].hi, 16) <= 0)
			return true;
	return false;
}

static bool is_named(const struct filter_match *match, const char *device)
{
	for (size_t i = 0; device && i < match->count; i++) {
		const char *name = (const char *)match->ranges[i].lo;

		if (match->ranges[i].hi[0] ? strncmp(device, name, strlen(name)) == 0 : strcmp(device, name) == 0)
			return true;
	}
	return false;
}

static uint32_t number_of(const uint8_t bytes[16])
{
	uint32_t n;

	memcpy(&n, bytes, sizeof(n));
	return ntohl(n);
}

static bool has_flags(const struct filter_match *match, unsigned int flags)
{
	for (size_t i = 0; i < match->count; i++)
		if ((flags & number_of(match->ranges[i].lo)) == number_of(match->ranges[i].hi))
			return true;
	return false;
}

// A bit of the match's numbers is the packet's.
static bool has_state(const struct filter_match *match, unsigned int state)
{
	for (size_t i = 0; i < match->count; i++)
		if (number_of(match->ranges[i].lo) & state)
			return true;
	return false;
}

static enum fit fits_address(const struct filter_match *match, const struct inet_addr *addr, int family)
{
	if (match->family && match->family != family)
		return FIT_NO; // whatever is asked, it is asked of the other family
	if (!inet_addr_is_set(addr))
		return FIT_PERHAPS;
	return in_ranges(match, addr->bytes) != match->inverted ? FIT_YES : FIT_NO;
}

static enum fit fits(const struct filter_match *match, const struct filter_packet *packet)
{
	uint8_t value[16];
	uint32_t number = 0;

	switch (match->key) {
	case FILTER_SADDR:
		return fits_address(match, &packet->from, packet->family);
	case FILTER_DADDR:
		return fits_address(match, &packet->to, packet->family);
	case FILTER_IN:
		return is_named(match, packet->in) != match->inverted ? FIT_YES : FIT_NO;
	case FILTER_OUT:
		return is_named(match, packet->out) != match->inverted ? FIT_YES : FIT_NO;
	case FILTER_STATE:
		return has_state(match, packet->state) != match->inverted ? FIT_YES : FIT_NO;
	case FILTER_FLAGS:
		return has_flags(match, packet->flags) != match->inverted ? FIT_YES : FIT_NO;
	case FILTER_OTHER:
		return FIT_PERHAPS;
	case FILTER_SPORT:
	case FILTER_DPORT:
		number = match->key == FILTER_SPORT ? packet->sport : packet->dport;
		if (!number)
			return FIT_PERHAPS;
		break;
	case FILTER_FAMILY:
		number = (uint32_t)packet->family;
		break;
	case FILTER_PROTOCOL:
		number = (uint32_t)packet->protocol;
		break;
	case FILTER_LOCAL:
		number = packet->to_this_host;
		break;
	}
	put_number(value, number);
	return in_ranges(match, value) != match->inverted ? FIT_YES : FIT_NO;
}

static enum fit rule_fits(const struct filter_rule *rule, const struct filter_packet *packet)
{
	enum fit fit = FIT_YES;

	for (size_t i = 0; i < rule->count && fit != FIT_NO; i++) {
		enum fit one = fits(&rule->matches[i], packet);

		fit = one < fit ? one : fit;
	}
	return fit;
}

struct walk {
	const struct filter *filter;
	const struct filter_packet *packet;
	struct filter_outcome outcome; // what comes to pass, or may; verdict NEXT: nothing yet
	bool perhaps;                  // an earlier rule may have let it go by
	int unsure;                    // jumps on the way here that may not have been
};

static bool stops(enum filter_verdict verdict)
{
	return verdict == FILTER_DROP || verdict == FILTER_DNAT || verdict == FILTER_NOTRACK;
}

static void note(struct walk *walk, const struct filter_rule *rule, enum filter_verdict verdict, bool perhaps)
{
	perhaps |= walk->perhaps || walk->unsure;
	// the first one; but what is certain counts more than what may be
	if (walk->outcome.verdict != FILTER_NEXT && (!walk->outcome.perhaps || perhaps))
		return;
	walk->outcome.rule = rule;
	walk->outcome.verdict = verdict;
	walk->outcome.perhaps = perhaps;
}

static enum filter_verdict walk_chain(struct walk *walk, const struct filter_chain *chain, int depth);

// ACCEPT: it is over; NEXT: the chain came to its end.
static enum filter_verdict jump(
	struct walk *walk, const struct filter_chain *chain, const struct filter_rule *rule, bool perhaps, int depth)
{
	const struct filter_chain *target =
		filter_find_chain(walk->filter, chain->tool, chain->family_name, chain->table, rule->target);

	if (!target || depth == DEPTH_MAX)
		return FILTER_NEXT;
	walk->unsure += perhaps;
	enum filter_verdict verdict = walk_chain(walk, target, depth + 1);
	walk->unsure -= perhaps;
	if (!perhaps)
		return verdict;
	walk->perhaps |= verdict == FILTER_ACCEPT;
	return FILTER_NEXT;
}

// Walks a chain. ACCEPT: it is over, one way or the other; NEXT: the end was reached, or RETURN.
static enum filter_verdict walk_chain(struct walk *walk, const struct filter_chain *chain, int depth)
{
	for (size_t i = 0; i < chain->count; i++) {
		const struct filter_rule *rule = &chain->rules[i];
		const enum fit fit = rule->verdict == FILTER_NEXT ? FIT_NO : rule_fits(rule, walk->packet);
		const bool perhaps = fit == FIT_PERHAPS;

		if (fit == FIT_NO)
			continue;
		if (rule->verdict == FILTER_JUMP || rule->verdict == FILTER_GOTO) {
			enum filter_verdict verdict = jump(walk, chain, rule, perhaps, depth);

			if (verdict == FILTER_ACCEPT || (rule->verdict == FILTER_GOTO && !perhaps))
				return verdict;
		} else if (stops(rule->verdict)) {
			note(walk, rule, rule->verdict, perhaps);
			if (!perhaps && rule->verdict != FILTER_NOTRACK)
				return FILTER_ACCEPT;
		} else if (perhaps || rule->verdict == FILTER_CANNOT_TELL) {
			walk->perhaps = true;
		} else {
			return rule->verdict == FILTER_ACCEPT ? FILTER_ACCEPT : FILTER_NEXT;
		}
	}
	return FILTER_NEXT;
}

void filter_run(const struct filter *filter, enum filter_hook hook, const struct filter_packet *packet,
	filter_outcome_fn each, void *ctx)
{
	for (size_t i = 0; i < filter->count; i++) {
		const struct filter_chain *base = &filter->chains[i];
		struct walk walk = { .filter = filter, .packet = packet, .outcome.base = base };

		// nft before 1.0.8 does not say whose ingress it is
		walk.perhaps = base->hook == FILTER_INGRESS && !*base->device;
		if (base->hook != hook || (base->family && base->family != packet->family) ||
			(*base->device && (!packet->in || strcmp(base->device, packet->in) != 0)))
			continue;
		if (walk_chain(&walk, base, 0) == FILTER_NEXT && base->policy == FILTER_DROP)
			note(&walk, NULL, FILTER_DROP, false);
		if (walk.outcome.verdict != FILTER_NEXT)
			each(ctx, &walk.outcome);
	}
}

// --- words ---

static const char *tool_name(const struct filter_chain *chain)
{
	static const char *const names[][2] = {
		[FILTER_NFT] = { "nft", "nft" },
		[FILTER_IPTABLES] = { "iptables", "ip6tables" },
		[FILTER_IPTABLES_NFT] = { "iptables-nft", "ip6tables-nft" },
		[FILTER_IPTABLES_LEGACY] = { "iptables-legacy", "ip6tables-legacy" },
	};

	return names[chain->tool][chain->family == AF_INET6];
}

static void nft_command(const struct filter_chain *base, const struct filter_packet *packet, char *buf, size_t size)
{
	const char *ip = packet->family == AF_INET6 ? "ip6" : "ip";
	const char *transport = packet->protocol == IPPROTO_UDP ? "udp"
		: packet->protocol == IPPROTO_TCP               ? "tcp"
								: NULL;
	char from[INET_ADDR_MAX + 16] = "", to[INET_ADDR_MAX + 16] = "", what[40], addr[INET_ADDR_MAX];

	if (inet_addr_is_set(&packet->from))
		snprintf(from, sizeof(from), "%s saddr %s ", ip, inet_addr_format(&packet->from, addr));
	if (inet_addr_is_set(&packet->to))
		snprintf(to, sizeof(to), "%s daddr %s ", ip, inet_addr_format(&packet->to, addr));
	if (transport && (packet->dport || packet->sport))
		snprintf(what, sizeof(what), "%s %s %u", transport, packet->dport ? "dport" : "sport",
			packet->dport ? packet->dport : packet->sport);
	else
		snprintf(what, sizeof(what), "meta l4proto %d", packet->protocol);
	snprintf(buf, size, "nft insert rule %s %s %s %s%s%s accept", base->family_name, base->table, base->name, from,
		to, what);
}

const char *filter_pass_command(
	const struct filter_chain *base, const struct filter_packet *packet, char buf[FILTER_COMMAND_MAX])
{
	char from[INET_ADDR_MAX + 8] = "", to[INET_ADDR_MAX + 8] = "", port[24] = "", table[FILTER_NAME_MAX + 8] = "";
	char addr[INET_ADDR_MAX];

	if (base->tool == FILTER_NFT) {
		nft_command(base, packet, buf, FILTER_COMMAND_MAX);
		return buf;
	}
	if (inet_addr_is_set(&packet->from))
		snprintf(from, sizeof(from), " -s %s", inet_addr_format(&packet->from, addr));
	if (inet_addr_is_set(&packet->to))
		snprintf(to, sizeof(to), " -d %s", inet_addr_format(&packet->to, addr));
	if (packet->dport || packet->sport)
		snprintf(port, sizeof(port), " --%s %u", packet->dport ? "dport" : "sport",
			packet->dport ? packet->dport : packet->sport);
	if (strcmp(base->table, "filter") != 0)
		snprintf(table, sizeof(table), " -t %s", base->table);
	snprintf(buf, FILTER_COMMAND_MAX, "%s%s -I %s%s%s -p %d%s -j ACCEPT", tool_name(base), table, base->name, from,
		to, packet->protocol, port);
	return buf;
}

const char *filter_describe(const struct filter_outcome *outcome, char buf[FILTER_COMMAND_MAX])
{
	const struct filter_chain *base = outcome->base;
	const bool is_nft = base->tool == FILTER_NFT;

	snprintf(buf, FILTER_COMMAND_MAX, "%s%s%s, table %s, %s%s", tool_name(base), is_nft ? " " : "",
		is_nft ? base->family_name : "", base->table, outcome->rule ? "" : "policy of chain ",
		outcome->rule ? outcome->rule->text : base->name);
	return buf;
}
