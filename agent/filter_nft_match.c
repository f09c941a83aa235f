// SPDX-License-Identifier: Apache-2.0
#include "agent/filter_nft_match.h"

#include "shared/util.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

const char *filter_nft_word(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

const char *filter_nft_only(const json_t *json, const json_t **ret_value)
{
	void *at = json_object_iter((json_t *)(uintptr_t)json);

	*ret_value = at ? json_object_iter_value(at) : NULL;
	return at ? json_object_iter_key(at) : "";
}

// --- values ---

static int add_value(const json_t *objects, struct filter_match *match, const json_t *value, const json_t *rule);

static int add_all(const json_t *objects, struct filter_match *match, const json_t *list, const json_t *rule)
{
	size_t i;
	json_t *item;
	int rc = 0;

	json_array_foreach ((json_t *)(uintptr_t)list, i, item) {
		// elements of a map are pairs
		rc = add_value(objects, match, json_is_array(item) ? json_array_get(item, 0) : item, rule);
		if (rc)
			break;
	}
	return rc;
}

// A named set of the rule's table.
static int add_named(const json_t *objects, struct filter_match *match, const char *name, const json_t *rule)
{
	size_t i;
	json_t *object;

	json_array_foreach ((json_t *)(uintptr_t)objects, i, object) {
		const json_t *set = json_object_get(object, "set");

		if (set && strcmp(filter_nft_word(set, "name"), name) == 0 &&
			strcmp(filter_nft_word(set, "table"), filter_nft_word(rule, "table")) == 0 &&
			strcmp(filter_nft_word(set, "family"), filter_nft_word(rule, "family")) == 0)
			return add_all(objects, match, json_object_get(set, "elem"), rule);
	}
	return -EINVAL;
}

static int number_of(const json_t *value, enum filter_key key, uint32_t *ret)
{
	static const struct {
		const char *name;
		unsigned int bit;
	} states[] = { { "invalid", FILTER_INVALID }, { "established", FILTER_ESTABLISHED },
		{ "related", FILTER_RELATED }, { "new", FILTER_NEW }, { "untracked", FILTER_UNTRACKED } };
	const char *text = json_string_value(value);
	const struct protoent *protocol;

	if (json_is_integer(value)) {
		const json_int_t n = json_integer_value(value);

		*ret = (uint32_t)n;
		// the numbers of states are not ours
		return n < 0 || n > UINT32_MAX || key == FILTER_STATE ? -EINVAL : 0;
	}
	if (!text)
		return -EINVAL;
	switch (key) {
	case FILTER_PROTOCOL:
		protocol = getprotobyname(text);
		*ret = protocol ? (uint32_t)protocol->p_proto : 0;
		return protocol ? 0 : -EINVAL;
	case FILTER_STATE:
		for (size_t i = 0; i < ARRAY_SIZE(states); i++)
			if (strcmp(states[i].name, text) == 0) {
				*ret = states[i].bit;
				return 0;
			}
		return -EINVAL;
	case FILTER_FAMILY:
		*ret = strcmp(text, "ipv6") == 0 || strcmp(text, "ip6") == 0 ? AF_INET6 : AF_INET;
		return strcmp(text, "ipv4") == 0 || strcmp(text, "ip") == 0 || *ret == AF_INET6 ? 0 : -EINVAL;
	case FILTER_LOCAL:
		*ret = 1;
		return strcmp(text, "local") == 0 ? 0 : -EINVAL;
	case FILTER_SADDR:
	case FILTER_DADDR:
	case FILTER_SPORT:
	case FILTER_DPORT:
	case FILTER_IN:
	case FILTER_OUT:
	case FILTER_FLAGS:
	case FILTER_OTHER:
		break;
	}
	return -EINVAL;
}

// "syn", ["fin", "syn"], {"|": ["fin", "syn"]}, {"set": [...]}, 0
static int flags_of(const json_t *value, uint32_t *ret)
{
	const char *text = json_string_value(value);
	const json_t *inner;
	uint32_t bits;
	size_t i;
	json_t *item;

	*ret = text ? filter_flag(text, strlen(text)) : 0;
	if (text)
		return *ret ? 0 : -EINVAL;
	if (json_is_integer(value))
		return json_integer_value(value) ? -EINVAL : 0;
	if (json_is_object(value))
		return strcmp(filter_nft_only(value, &inner), "|") == 0 ? flags_of(inner, ret) : -EINVAL;
	json_array_foreach ((json_t *)(uintptr_t)value, i, item) {
		int rc = flags_of(item, &bits);

		if (rc)
			return rc;
		*ret |= bits;
	}
	return json_is_array(value) ? 0 : -EINVAL;
}

// "tcp flags & mask == right"; without a mask "tcp flags syn" asks whether one of them is set.
static int take_flags(struct filter_match *match, const json_t *mask, const json_t *right, const char *op)
{
	uint32_t bits = 0xff, set;

	if ((mask && flags_of(mask, &bits)) || flags_of(right, &set))
		return -EINVAL;
	if (strcmp(op, "in") != 0)
		return filter_add_number(match, bits, set);
	match->inverted = !match->inverted;
	return filter_add_number(match, set, 0);
}

static int add_range(struct filter_match *match, const json_t *range)
{
	const json_t *lo = json_array_get(range, 0), *hi = json_array_get(range, 1);
	uint32_t from, to;

	if (match->key == FILTER_SADDR || match->key == FILTER_DADDR)
		return json_is_string(lo) && json_is_string(hi)
			? filter_add_addresses(match, json_string_value(lo), json_string_value(hi))
			: -EINVAL;
	int rc = number_of(lo, match->key, &from);
	if (!rc)
		rc = number_of(hi, match->key, &to);
	return rc ? rc : filter_add_number(match, from, to);
}

static int add_prefix(struct filter_match *match, const json_t *prefix)
{
	char text[INET_PREFIX_MAX];

	snprintf(text, sizeof(text), "%s/%d", filter_nft_word(prefix, "addr"),
		(int)json_integer_value(json_object_get(prefix, "len")));
	return filter_add_prefix(match, text);
}

static int add_object(const json_t *objects, struct filter_match *match, const json_t *object, const json_t *rule)
{
	const json_t *value;
	const char *kind = filter_nft_only(object, &value);

	if (strcmp(kind, "prefix") == 0)
		return add_prefix(match, value);
	if (strcmp(kind, "range") == 0)
		return add_range(match, value);
	if (strcmp(kind, "set") == 0)
		return add_value(objects, match, value, rule);
	if (strcmp(kind, "elem") == 0) // an element with a counter, a timeout, a comment
		return add_value(objects, match, json_object_get(value, "val"), rule);
	return -EINVAL;
}

// Adds what a match compares with. -EINVAL: it is not understood.
static int add_value(const json_t *objects, struct filter_match *match, const json_t *value, const json_t *rule)
{
	const char *text = json_string_value(value);
	uint32_t number;

	if (json_is_array(value))
		return add_all(objects, match, value, rule);
	if (json_is_object(value))
		return add_object(objects, match, value, rule);
	if (text && *text == '@')
		return add_named(objects, match, text + 1, rule);
	if (text && (match->key == FILTER_SADDR || match->key == FILTER_DADDR))
		return filter_add_prefix(match, text);
	if (text && (match->key == FILTER_IN || match->key == FILTER_OUT))
		return filter_add_name(match, text);
	int rc = number_of(value, match->key, &number);
	return rc ? rc : filter_add_number(match, number, number);
}

// --- what a match asks ---

static const struct {
	const char *kind, *where, *field; // {"payload": {"protocol": where, "field": field}}, {"meta": {"key": field}}
	enum filter_key key;
	int family, protocol; // what it implies
} keys[] = {
	{ "payload", "ip", "protocol", FILTER_PROTOCOL, AF_INET, 0 },
	{ "payload", "ip6", "nexthdr", FILTER_PROTOCOL, AF_INET6, 0 },
	{ "payload", "ip", "saddr", FILTER_SADDR, AF_INET, 0 },
	{ "payload", "ip", "daddr", FILTER_DADDR, AF_INET, 0 },
	{ "payload", "ip6", "saddr", FILTER_SADDR, AF_INET6, 0 },
	{ "payload", "ip6", "daddr", FILTER_DADDR, AF_INET6, 0 },
	{ "payload", "tcp", "sport", FILTER_SPORT, 0, IPPROTO_TCP },
	{ "payload", "tcp", "dport", FILTER_DPORT, 0, IPPROTO_TCP },
	{ "payload", "tcp", "flags", FILTER_FLAGS, 0, IPPROTO_TCP },
	{ "payload", "tcp", NULL, FILTER_OTHER, 0, IPPROTO_TCP },
	{ "payload", "udp", "sport", FILTER_SPORT, 0, IPPROTO_UDP },
	{ "payload", "udp", "dport", FILTER_DPORT, 0, IPPROTO_UDP },
	{ "payload", "udp", NULL, FILTER_OTHER, 0, IPPROTO_UDP },
	{ "payload", "th", "sport", FILTER_SPORT, 0, 0 },
	{ "payload", "th", "dport", FILTER_DPORT, 0, 0 },
	{ "payload", "icmp", NULL, FILTER_OTHER, AF_INET, IPPROTO_ICMP },
	{ "payload", "icmpv6", NULL, FILTER_OTHER, AF_INET6, IPPROTO_ICMPV6 },
	{ "payload", "ip", NULL, FILTER_OTHER, AF_INET, 0 },
	{ "payload", "ip6", NULL, FILTER_OTHER, AF_INET6, 0 },
	{ "meta", NULL, "l4proto", FILTER_PROTOCOL, 0, 0 },
	{ "meta", NULL, "nfproto", FILTER_FAMILY, 0, 0 },
	{ "meta", NULL, "protocol", FILTER_FAMILY, 0, 0 },
	{ "meta", NULL, "iifname", FILTER_IN, 0, 0 },
	{ "meta", NULL, "iif", FILTER_IN, 0, 0 },
	{ "meta", NULL, "oifname", FILTER_OUT, 0, 0 },
	{ "meta", NULL, "oif", FILTER_OUT, 0, 0 },
	{ "ct", NULL, "state", FILTER_STATE, 0, 0 },
};

static int imply(struct filter_rule *rule, enum filter_key key, int number)
{
	struct filter_match *match = number ? filter_add_match(rule, key, false) : NULL;

	return !number ? 0 : match ? filter_add_number(match, (uint32_t)number, (uint32_t)number) : -ENOMEM;
}

// {"fib": {"result": "type", "flags": ["daddr"]}}: what kind of address the destination is.
static bool asks_for_type(const json_t *fib)
{
	const json_t *flags = json_object_get(fib, "flags");

	return strcmp(filter_nft_word(fib, "result"), "type") == 0 && json_array_size(flags) == 1 &&
		strcmp(json_string_value(json_array_get(flags, 0)), "daddr") == 0;
}

// The key of an expression; what it implies becomes matches of the rule.
static int take_key(struct filter_rule *rule, const json_t *left, enum filter_key *ret)
{
	const json_t *what;
	const char *kind = filter_nft_only(left, &what), *field = filter_nft_word(what, *kind == 'p' ? "field" : "key");

	*ret = FILTER_OTHER;
	if (strcmp(kind, "fib") == 0 && asks_for_type(what))
		*ret = FILTER_LOCAL;
	if (strcmp(kind, "tcp option") == 0)
		return imply(rule, FILTER_PROTOCOL, IPPROTO_TCP);
	// the packets that are looked at are whole ones: a rule about a field of this header is not about them
	if (strcmp(kind, "exthdr") == 0 && strcmp(filter_nft_word(what, "name"), "frag") == 0 &&
		*filter_nft_word(what, "field"))
		return imply(rule, FILTER_PROTOCOL, IPPROTO_FRAGMENT);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (strcmp(keys[i].kind, kind) != 0 ||
			(keys[i].where && strcmp(keys[i].where, filter_nft_word(what, "protocol")) != 0) ||
			(keys[i].field && strcmp(keys[i].field, field) != 0))
			continue;
		int rc = imply(rule, FILTER_FAMILY, keys[i].family);

		*ret = keys[i].key;
		return rc ? rc : imply(rule, FILTER_PROTOCOL, keys[i].protocol);
	}
	return 0;
}

int filter_nft_match(const json_t *objects, struct filter_rule *rule, const json_t *left, const json_t *right,
	const char *op, const json_t *of)
{
	const json_t *inner, *mask = NULL;
	enum filter_key key;

	if (json_is_object(left) && strcmp(filter_nft_only(left, &inner), "&") == 0) {
		left = json_array_get(inner, 0);
		mask = json_array_get(inner, 1);
	}
	int rc = take_key(rule, left, &key);
	if (rc)
		return rc;
	const bool known = (strcmp(op, "==") == 0 || strcmp(op, "!=") == 0 || strcmp(op, "in") == 0) &&
		(!mask || key == FILTER_FLAGS);
	struct filter_match *match = filter_add_match(rule, known ? key : FILTER_OTHER, strcmp(op, "!=") == 0);

	if (!match)
		return -ENOMEM;
	if (match->key == FILTER_FLAGS)
		rc = take_flags(match, mask, right, op);
	else if (match->key != FILTER_OTHER)
		rc = add_value(objects, match, right, of);
	if (rc == -EINVAL)
		filter_match_forget(match);
	return rc == -EINVAL ? 0 : rc;
}
