// SPDX-License-Identifier: Apache-2.0
#include "shared/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <stdlib.h>
#include <string.h>

// A rule that selects by more than struct route_rule can say.
static bool selects_more(const struct fib_rule_hdr *head, struct nlattr **attrs)
{
	static const int others[] = { FRA_DST, FRA_IIFNAME, FRA_OIFNAME, FRA_FWMARK, FRA_L3MDEV, FRA_TUN_ID,
		FRA_UID_RANGE, FRA_DPORT_RANGE };
	const unsigned int bits = inet_addr_len(head->family) * 8;

	if (head->action != FR_ACT_TO_TBL || head->tos || head->flags & FIB_RULE_INVERT ||
		(head->src_len && head->src_len != bits))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		const struct nlattr *attr = attrs[others[i]];
		bool is_zero = true;

		for (int k = 0; attr && k < nla_len(attr); k++)
			is_zero &= !((const char *)nla_data(attr))[k];
		if (!is_zero)
			return true;
	}
	return false;
}

static int take_rule(struct nlmsghdr *hdr, void *ctx)
{
	struct nlattr *attrs[FRA_MAX + 1];
	const struct fib_rule_hdr *head = nlmsg_data(hdr);
	struct route_rule rule = { .family = head->family, .table = head->table };

	if (hdr->nlmsg_type != RTM_NEWRULE || nlmsg_parse(hdr, sizeof(*head), attrs, FRA_MAX, NULL) < 0)
		return -EBADMSG;
	if (selects_more(head, attrs))
		return 0;
	if (attrs[FRA_SRC])
		inet_addr_from_bytes(
			head->family, nla_data(attrs[FRA_SRC]), (unsigned int)nla_len(attrs[FRA_SRC]), &rule.from);
	if (attrs[FRA_TABLE])
		rule.table = nla_get_u32(attrs[FRA_TABLE]);
	if (attrs[FRA_PRIORITY])
		rule.priority = nla_get_u32(attrs[FRA_PRIORITY]);
	if (attrs[FRA_PROTOCOL])
		rule.proto = nla_get_u8(attrs[FRA_PROTOCOL]);
	if (attrs[FRA_IP_PROTO])
		rule.ip_protocol = nla_get_u8(attrs[FRA_IP_PROTO]);
	if (attrs[FRA_SPORT_RANGE]) {
		const struct fib_rule_port_range *range = nla_data(attrs[FRA_SPORT_RANGE]);

		if (nla_len(attrs[FRA_SPORT_RANGE]) < (int)sizeof(*range) || range->start != range->end)
			return 0;
		rule.sport = range->start;
	}
	return netsock_list_add(ctx, &rule);
}

static int take_default(struct nlmsghdr *hdr, void *ctx)
{
	struct nlattr *attrs[RTA_MAX + 1];
	const struct rtmsg *head = nlmsg_data(hdr);
	struct route_default route = { .table = head->rtm_table, .proto = head->rtm_protocol };

	if (hdr->nlmsg_type != RTM_NEWROUTE || nlmsg_parse(hdr, sizeof(*head), attrs, RTA_MAX, NULL) < 0)
		return -EBADMSG;
	if (head->rtm_dst_len || head->rtm_type != RTN_UNICAST || !attrs[RTA_GATEWAY] || !attrs[RTA_OIF] ||
		inet_addr_from_bytes(head->rtm_family, nla_data(attrs[RTA_GATEWAY]),
			(unsigned int)nla_len(attrs[RTA_GATEWAY]), &route.gateway))
		return 0;
	if (attrs[RTA_TABLE])
		route.table = nla_get_u32(attrs[RTA_TABLE]);
	route.ifindex = (int)nla_get_u32(attrs[RTA_OIF]);
	return netsock_list_add(ctx, &route);
}

// Dumps one kind for both families; table 0: all.
static int dump(struct netsock *ns, int type, void *head, size_t head_size, uint32_t table,
	int (*take)(struct nlmsghdr *hdr, void *ctx), struct netsock_list *list, struct err *err)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(families) && !rc; i++) {
		struct nl_msg *msg = nlmsg_alloc_simple(type, 0);

		*(uint8_t *)head = families[i]; // rtmsg and fib_rule_hdr both begin with the family
		rc = !msg || nlmsg_append(msg, head, head_size, NLMSG_ALIGNTO) ||
				(table && nla_put_u32(msg, RTA_TABLE, table))
			? err_set(err, -ENOMEM, NULL, "out of memory")
			: netsock_dump_list(ns, msg, take, list, err);
		nlmsg_free(msg);
		if (rc == -ENOENT && table)
			rc = 0; // no route was ever in it
	}
	if (rc)
		free(list->items);
	return rc;
}

int route_dump_rules(struct netsock *ns, struct route_rule **ret, size_t *ret_count, struct err *err)
{
	struct fib_rule_hdr head = { 0 };
	struct netsock_list list = { .size = sizeof(struct route_rule) };
	int rc = dump(ns, RTM_GETRULE, &head, sizeof(head), 0, take_rule, &list, err);

	if (rc) {
		err_context(err, "cannot read rules: ");
		return rc;
	}
	*ret = list.items;
	*ret_count = list.count;
	return 0;
}

int route_dump_defaults(
	struct netsock *ns, uint32_t table, struct route_default **ret, size_t *ret_count, struct err *err)
{
	struct rtmsg head = { 0 };
	struct netsock_list list = { .size = sizeof(struct route_default) };
	int rc = dump(ns, RTM_GETROUTE, &head, sizeof(head), table, take_default, &list, err);

	if (rc) {
		err_context(err, "cannot read the routes of table %u: ", table);
		return rc;
	}
	*ret = list.items;
	*ret_count = list.count;
	return 0;
}

static int put_address(struct nl_msg *msg, int attr, const struct inet_addr *addr)
{
	return nla_put(msg, attr, (int)inet_addr_len(addr->family), addr->bytes);
}

static int finish(struct netsock *ns, struct nl_msg *msg, bool broken, struct err *err)
{
	int rc = broken ? err_set(err, -ENOMEM, NULL, "out of memory") : netsock_transact(ns, msg, err);

	nlmsg_free(msg);
	return rc;
}

static int change_rule(struct netsock *ns, int type, int flags, const struct route_rule *rule, struct err *err)
{
	const struct fib_rule_hdr head = {
		.family = (uint8_t)rule->family,
		.src_len = (uint8_t)(inet_addr_len(rule->from.family) * 8),
		.table = rule->table < 256 ? (uint8_t)rule->table : RT_TABLE_UNSPEC,
		.action = FR_ACT_TO_TBL,
	};
	const struct fib_rule_port_range sport = { rule->sport, rule->sport };
	struct nl_msg *msg = nlmsg_alloc_simple(type, flags);
	bool broken = !msg || nlmsg_append(msg, (void *)(uintptr_t)&head, sizeof(head), NLMSG_ALIGNTO) ||
		nla_put_u32(msg, FRA_TABLE, rule->table) || nla_put_u32(msg, FRA_PRIORITY, rule->priority) ||
		nla_put_u8(msg, FRA_PROTOCOL, ROUTE_PROTO_BRASS);

	if (!broken && inet_addr_is_set(&rule->from))
		broken = put_address(msg, FRA_SRC, &rule->from) != 0;
	if (!broken && rule->ip_protocol)
		broken = nla_put_u8(msg, FRA_IP_PROTO, rule->ip_protocol) != 0;
	if (!broken && rule->sport)
		broken = nla_put(msg, FRA_SPORT_RANGE, sizeof(sport), &sport) != 0;
	return finish(ns, msg, broken, err);
}

int route_add_rule(struct netsock *ns, const struct route_rule *rule, struct err *err)
{
	return change_rule(ns, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule, err);
}

int route_del_rule(struct netsock *ns, const struct route_rule *rule, struct err *err)
{
	return change_rule(ns, RTM_DELRULE, 0, rule, err);
}

static int change_default(struct netsock *ns, int type, int flags, const struct route_default *route, struct err *err)
{
	const struct rtmsg head = {
		.rtm_family = (uint8_t)route->gateway.family,
		.rtm_table = route->table < 256 ? (uint8_t)route->table : RT_TABLE_UNSPEC,
		.rtm_protocol = ROUTE_PROTO_BRASS,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
	};
	struct nl_msg *msg = nlmsg_alloc_simple(type, flags);
	bool broken = !msg || nlmsg_append(msg, (void *)(uintptr_t)&head, sizeof(head), NLMSG_ALIGNTO) ||
		nla_put_u32(msg, RTA_TABLE, route->table) || put_address(msg, RTA_GATEWAY, &route->gateway) ||
		nla_put_u32(msg, RTA_OIF, (uint32_t)route->ifindex);

	return finish(ns, msg, broken, err);
}

int route_add_default(struct netsock *ns, const struct route_default *route, struct err *err)
{
	return change_default(ns, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route, err);
}

int route_del_default(struct netsock *ns, const struct route_default *route, struct err *err)
{
	return change_default(ns, RTM_DELROUTE, 0, route, err);
}

static int take_way(struct nlmsghdr *hdr, void *ctx)
{
	struct route_way *way = ctx;
	struct nlattr *attrs[RTA_MAX + 1], *metrics[RTAX_MAX + 1];
	const struct rtmsg *head = nlmsg_data(hdr);

	if (hdr->nlmsg_type != RTM_NEWROUTE || nlmsg_parse(hdr, sizeof(*head), attrs, RTA_MAX, NULL) < 0)
		return -EBADMSG;
	way->type = head->rtm_type;
	if (attrs[RTA_OIF])
		way->ifindex = (int)nla_get_u32(attrs[RTA_OIF]);
	if (attrs[RTA_PREFSRC])
		inet_addr_from_bytes(head->rtm_family, nla_data(attrs[RTA_PREFSRC]),
			(unsigned int)nla_len(attrs[RTA_PREFSRC]), &way->source);
	if (attrs[RTA_GATEWAY])
		inet_addr_from_bytes(head->rtm_family, nla_data(attrs[RTA_GATEWAY]),
			(unsigned int)nla_len(attrs[RTA_GATEWAY]), &way->gateway);
	if (!attrs[RTA_METRICS] || nla_parse_nested(metrics, RTAX_MAX, attrs[RTA_METRICS], NULL) < 0)
		return 0;
	if (metrics[RTAX_MTU])
		way->mtu = nla_get_u32(metrics[RTAX_MTU]);
	if (metrics[RTAX_ADVMSS])
		way->advmss = nla_get_u32(metrics[RTAX_ADVMSS]);
	return 0;
}

static bool put_packet(struct nl_msg *msg, const struct route_packet *packet)
{
	const uint16_t sport = htons(packet->sport), dport = htons(packet->dport);

	return !put_address(msg, RTA_DST, &packet->to) &&
		!(inet_addr_is_set(&packet->from) && put_address(msg, RTA_SRC, &packet->from)) &&
		!(packet->came_by && nla_put_u32(msg, RTA_IIF, (uint32_t)packet->came_by)) &&
		!(packet->ip_protocol && nla_put_u8(msg, RTA_IP_PROTO, packet->ip_protocol)) &&
		!(packet->sport && nla_put_u16(msg, RTA_SPORT, sport)) &&
		!(packet->dport && nla_put_u16(msg, RTA_DPORT, dport));
}

int route_lookup_packet(struct netsock *ns, const struct route_packet *packet, struct route_way *ret, struct err *err)
{
	const unsigned int bits = inet_addr_len(packet->to.family) * 8;
	const struct rtmsg head = {
		.rtm_family = (uint8_t)packet->to.family,
		.rtm_dst_len = (uint8_t)bits,
		.rtm_src_len = inet_addr_is_set(&packet->from) ? (uint8_t)bits : 0,
	};
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETROUTE, 0);
	struct route_way way = { 0 };
	int rc = -ENOMEM;

	if (msg && !nlmsg_append(msg, (void *)(uintptr_t)&head, sizeof(head), NLMSG_ALIGNTO) && put_packet(msg, packet))
		rc = netsock_get(ns, msg, take_way, &way, err);
	nlmsg_free(msg);
	if (!rc)
		*ret = way;
	return rc;
}

int route_lookup(struct netsock *ns, const struct inet_addr *to, struct route_way *ret, struct err *err)
{
	return route_lookup_packet(ns, &(const struct route_packet) { .to = *to }, ret, err);
}

bool route_rule_same(const struct route_rule *a, const struct route_rule *b)
{
	return a->family == b->family && inet_addr_cmp(&a->from, &b->from) == 0 && a->ip_protocol == b->ip_protocol &&
		a->sport == b->sport && a->table == b->table && a->priority == b->priority;
}
