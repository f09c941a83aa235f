// SPDX-License-Identifier: Apache-2.0
#include "agent/resource.h"

#include "shared/field.h"
#include "shared/util.h"

#include <assert.h>
#include <errno.h>
#include <linux/ip.h>
#include <stdio.h>
#include <string.h>

static const struct field_choice kind_choices[] = {
	{ "table", RESOURCE_TABLE },
	{ "allow", RESOURCE_ALLOW },
	{ "lock", RESOURCE_LOCK },
	{ "fou", RESOURCE_FOU },
	{ "device", RESOURCE_DEVICE },
	{ "conf", RESOURCE_CONF },
	{ "mirror", RESOURCE_MIRROR },
	{ "vip", RESOURCE_VIP },
	{ "route", RESOURCE_ROUTE },
	{ "rule", RESOURCE_RULE },
	{ NULL, 0 },
};

static_assert(ARRAY_SIZE(kind_choices) == RESOURCE_KINDS + 1, "a name for every kind, and the end");

const char *resource_kind_name(enum resource_kind kind)
{
	return field_choice_name(kind_choices, kind);
}

static const struct {
	int conf;
	const char *name;
} confs[] = {
	{ IPV4_DEVCONF_ARP_IGNORE, "arp_ignore" },
	{ IPV4_DEVCONF_ARP_ANNOUNCE, "arp_announce" },
	{ IPV4_DEVCONF_RP_FILTER, "rp_filter" },
};

const char *resource_conf_name(int conf)
{
	for (size_t i = 0; i < ARRAY_SIZE(confs); i++)
		if (confs[i].conf == conf)
			return confs[i].name;
	return NULL;
}

int resource_conf_number(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(confs); i++)
		if (strcmp(confs[i].name, name) == 0)
			return confs[i].conf;
	return 0;
}

bool resource_is_all(const struct resource *r)
{
	return r->kind == RESOURCE_CONF && strcmp(r->dev, RESOURCE_DEV_ALL) == 0;
}

static int number_cmp(int64_t a, int64_t b)
{
	return (a > b) - (a < b);
}

int resource_cmp(const struct resource *a, const struct resource *b)
{
	int order = number_cmp(a->kind, b->kind);

	if (order)
		return order;
	switch (a->kind) {
	case RESOURCE_TABLE:
		return 0;
	case RESOURCE_ALLOW:
	case RESOURCE_LOCK:
		order = inet_addr_cmp(&a->addr, &b->addr);
		order = order ? order : number_cmp(a->value, b->value);
		order = order ? order : number_cmp(a->ip_protocol, b->ip_protocol);
		return order ? order : number_cmp(a->sport, b->sport);
	case RESOURCE_FOU:
		order = number_cmp(a->addr.family, b->addr.family);
		return order ? order : number_cmp(a->sport, b->sport);
	case RESOURCE_DEVICE:
		return strcmp(a->dev, b->dev);
	case RESOURCE_MIRROR:
		order = number_cmp(a->table, b->table);
		return order ? order : number_cmp(a->addr.family, b->addr.family);
	case RESOURCE_CONF: // "all" first: devices are judged by it
		order = number_cmp(resource_is_all(b), resource_is_all(a));
		order = order ? order : strcmp(a->dev, b->dev);
		return order ? order : number_cmp(a->conf, b->conf);
	case RESOURCE_VIP:
		order = inet_addr_cmp(&a->addr, &b->addr);
		return order ? order : strcmp(a->dev, b->dev);
	case RESOURCE_ROUTE:
		order = number_cmp(a->table, b->table);
		return order ? order : inet_addr_cmp(&a->addr, &b->addr);
	case RESOURCE_RULE:
		order = inet_addr_cmp(&a->addr, &b->addr);
		order = order ? order : number_cmp(a->ip_protocol, b->ip_protocol);
		order = order ? order : number_cmp(a->sport, b->sport);
		order = order ? order : number_cmp(a->table, b->table);
		return order ? order : number_cmp(a->priority, b->priority);
	}
	return 0;
}

bool resource_same(const struct resource *a, const struct resource *b)
{
	if (resource_cmp(a, b))
		return false;
	if (a->kind == RESOURCE_FOU)
		return inet_addr_cmp(&a->addr, &b->addr) == 0;
	if (a->kind == RESOURCE_DEVICE)
		return strcmp(a->device_kind, b->device_kind) == 0 && a->value == b->value &&
			inet_addr_cmp(&a->addr, &b->addr) == 0;
	return a->kind != RESOURCE_CONF || a->value == b->value; // a MIRROR is made equal as it stands
}

bool resource_keeps_arp_quiet(const struct resource *r)
{
	return r->kind == RESOURCE_CONF && (r->conf == IPV4_DEVCONF_ARP_IGNORE || r->conf == IPV4_DEVCONF_ARP_ANNOUNCE);
}

bool resource_waits_for_lock(const struct resource *r)
{
	return r->kind == RESOURCE_ALLOW || r->kind == RESOURCE_LOCK || r->kind == RESOURCE_FOU ||
		(r->kind == RESOURCE_DEVICE && strcmp(r->device_kind, "dummy") != 0);
}

struct route_rule resource_rule(const struct resource *r)
{
	return (struct route_rule) {
		.from = r->addr,
		.ip_protocol = r->ip_protocol,
		.sport = r->sport,
		.table = r->table,
		.priority = r->priority,
		.family = r->addr.family,
	};
}

// What ip(8) sets by itself, and the kernel (which the agent asks) does not.
static const char *device_words(const char *kind)
{
	static const struct {
		const char *kind, *words;
	} kinds[] = {
		{ "ipip", " mode ipip" },
		{ "sit", " mode ip6ip ttl 64" },
		{ "ip6tnl", " mode any hoplimit inherit encaplimit none" },
		{ "ip6gre", " hoplimit inherit encaplimit none" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].kind, kind) == 0)
			return kinds[i].words;
	return "";
}

struct nft_rule resource_nft_rule(const struct resource *r)
{
	const bool allow = r->kind == RESOURCE_ALLOW;

	return (struct nft_rule) {
		.what = allow ? NFT_ALLOW : NFT_LOCK,
		.addr = { r->addr, (uint8_t)(allow ? r->value : (int32_t)inet_addr_len(r->addr.family) * 8) },
		.ip_protocol = r->ip_protocol,
		.port = r->sport,
	};
}

// A rule has no name: it is deleted by a number, which it does not have before it is there.
static void nft_command(const struct resource *r, bool added, char *buf, size_t size)
{
	const struct nft_rule rule = resource_nft_rule(r);
	char text[NFT_RULE_MAX];

	if (r->kind == RESOURCE_TABLE)
		snprintf(buf, size, "nft %s", added ? NFT_TABLE_TEXT : "delete table inet " NFT_OUR_TABLE);
	else if (added)
		// who may send has to stand before the drop
		snprintf(buf, size, "nft '%s rule inet " NFT_OUR_TABLE " %s'",
			r->kind == RESOURCE_ALLOW ? "insert" : "add", nft_rule_text(&rule, text));
	else
		snprintf(buf, size, "nft delete rule inet " NFT_OUR_TABLE " %s handle %d # %s",
			r->kind == RESOURCE_ALLOW ? "directors" : "input", r->original, nft_rule_text(&rule, text));
}

static void device_command(const struct resource *r, char *buf, size_t size)
{
	char addr[INET_ADDR_MAX];

	if (strcmp(r->device_kind, "dummy") == 0)
		snprintf(buf, size, "ip link add %s up type dummy", r->dev);
	else
		snprintf(buf, size, "ip link add %s up type %s local %s remote %s%s%s", r->dev, r->device_kind,
			inet_addr_format(&r->addr, addr), r->addr.family == AF_INET6 ? "::" : "any",
			device_words(r->device_kind), r->value ? " csum" : "");
}

// One line a route; its next hops stand last and take all that follows for their own, so that what is added comes
// first. Of a nexthop object ip shows what is in it as well, and wants to hear of its number only. A route's own MSS is
// taken for the smaller one, and of those that differ in the device only (fe80::/64) one comes: that can be typed again
// and again.
static void mirror_command(const struct resource *r, char *buf, size_t size)
{
	const char *family = r->addr.family == AF_INET6 ? "-6" : "-4";

	snprintf(buf, size,
		"ip %s -o route show | sed 's/\\\\//g; s/ proto [^ ]*//; /advmss/!s/^/advmss %d /; "
		"/ nhid /{s/ nexthop.*//; s/ via \\(inet6* \\)*[^ ]*//; s/ dev [^ ]*//}' | "
		"while read r; do ip %s route replace table %u proto %u $r; done",
		family, r->value, family, r->table, ROUTE_PROTO_BRASS);
}

static void rule_command(const struct resource *r, bool added, char *buf, size_t size)
{
	char addr[INET_ADDR_MAX], ports[40] = "";

	if (r->ip_protocol)
		snprintf(ports, sizeof(ports), " ipproto %u sport %u", r->ip_protocol, r->sport);
	snprintf(buf, size, "ip %srule %s from %s%s lookup %u pref %u", r->addr.family == AF_INET6 ? "-6 " : "",
		added ? "add" : "del", inet_addr_format(&r->addr, addr), ports, r->table, r->priority);
}

const char *resource_command(const struct resource *r, bool added, char buf[RESOURCE_COMMAND_MAX])
{
	char addr[INET_ADDR_MAX];
	const bool v6 = r->addr.family == AF_INET6;
	const size_t size = RESOURCE_COMMAND_MAX;

	inet_addr_format(&r->addr, addr);
	switch (r->kind) {
	case RESOURCE_TABLE:
	case RESOURCE_ALLOW:
	case RESOURCE_LOCK:
		nft_command(r, added, buf, size);
		break;
	case RESOURCE_FOU:
		snprintf(buf, size, "ip fou %s port %u%s%s local %s", added ? "add" : "del", r->sport, v6 ? " -6" : "",
			added ? " gue" : "", addr);
		break;
	case RESOURCE_DEVICE:
		if (added)
			device_command(r, buf, size);
		else
			snprintf(buf, size, "ip link del %s", r->dev);
		break;
	case RESOURCE_CONF:
		snprintf(buf, size, "sysctl -w net/ipv4/conf/%s/%s=%d", r->dev, resource_conf_name(r->conf),
			added ? r->value : r->original);
		break;
	case RESOURCE_MIRROR:
		if (added)
			mirror_command(r, buf, size);
		else
			snprintf(buf, size, "ip %s route flush table %u proto %u", v6 ? "-6" : "-4", r->table,
				ROUTE_PROTO_BRASS);
		break;
	case RESOURCE_VIP:
		snprintf(buf, size, "ip addr %s %s/%u dev %s%s", added ? "add" : "del", addr,
			inet_addr_len(r->addr.family) * 8, r->dev, added && v6 ? " nodad preferred_lft 0" : "");
		break;
	case RESOURCE_ROUTE:
		snprintf(buf, size, "ip %sroute %s default via %s table %u", v6 ? "-6 " : "", added ? "add" : "del",
			addr, r->table);
		break;
	case RESOURCE_RULE:
		rule_command(r, added, buf, size);
		break;
	}
	return buf;
}

json_t *resource_to_json(const struct resource *r)
{
	char addr[INET_ADDR_MAX];

	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:i, s:i, s:i}", "kind",
		field_choice_name(kind_choices, r->kind), "dev", r->dev, "device_kind", r->device_kind, "addr",
		inet_addr_is_set(&r->addr) ? inet_addr_format(&r->addr, addr) : "", "conf",
		r->kind == RESOURCE_CONF ? resource_conf_name(r->conf) : "", "value", (int)r->value, "original",
		(int)r->original, "table", (json_int_t)r->table, "priority", (json_int_t)r->priority, "ip_protocol",
		(int)r->ip_protocol, "sport", (int)r->sport, "ifindex", r->ifindex);
}

int resource_from_json(const json_t *json, struct resource *ret)
{
	const char *kind, *dev, *device_kind, *addr, *conf;
	json_int_t table, priority;
	int value, original, ip_protocol, sport, ifindex = 0; // files of 0.1 have no ifindex
	struct resource r = { 0 };
	int64_t number;

	if (json_unpack((json_t *)(uintptr_t)json, "{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:I, s:I, s:i, s:i, s?:i}",
		    "kind", &kind, "dev", &dev, "device_kind", &device_kind, "addr", &addr, "conf", &conf, "value",
		    &value, "original", &original, "table", &table, "priority", &priority, "ip_protocol", &ip_protocol,
		    "sport", &sport, "ifindex", &ifindex) ||
		field_choice_value(kind_choices, kind, &number) || (*addr && inet_addr_parse(addr, &r.addr)))
		return -EINVAL;
	r.kind = (enum resource_kind)number;
	snprintf(r.dev, sizeof(r.dev), "%s", dev);
	snprintf(r.device_kind, sizeof(r.device_kind), "%s", device_kind);
	r.conf = resource_conf_number(conf);
	r.value = value;
	r.original = original;
	r.ifindex = ifindex;
	r.table = (uint32_t)table;
	r.priority = (uint32_t)priority;
	r.ip_protocol = (uint8_t)ip_protocol;
	r.sport = (uint16_t)sport;
	*ret = r;
	return r.kind == RESOURCE_CONF && !r.conf ? -EINVAL : 0;
}
