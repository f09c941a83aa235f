// SPDX-License-Identifier: Apache-2.0
// A route's message read as the command line that would make it (iproute2, ip/iproute.c: print_route and iproute_modify
// use the same words).
#include "shared/inet.h"
#include "shared/route_mirror.h"
#include "shared/util.h"

#include <errno.h>
#include <linux/icmpv6.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

// Text that grows to a bound.
struct words {
	char *buf;
	size_t len, size;
	int rc;
};

__attribute__((format(printf, 2, 3))) static void say(struct words *w, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(w->buf + w->len, w->size - w->len, fmt, args);
	va_end(args);
	if (n < 0 || (size_t)n >= w->size - w->len)
		w->rc = -ENOSPC;
	else
		w->len += (size_t)n;
}

static void say_address(struct words *w, const char *word, int family, const void *bytes, size_t len)
{
	struct inet_addr addr;
	char text[INET_ADDR_MAX];

	if (inet_addr_from_bytes(family, bytes, (unsigned int)len, &addr))
		w->rc = -EOPNOTSUPP;
	else
		say(w, "%s%s", word, inet_addr_format(&addr, text));
}

static void say_device(struct words *w, unsigned int index)
{
	char name[IFNAMSIZ];

	if (!if_indextoname(index, name))
		w->rc = -ENODEV;
	else
		say(w, " dev %s", name);
}

// A gateway of the route's family, or of the other one.
static void say_gateway(struct words *w, int family, const struct nlattr *gateway, const struct nlattr *via)
{
	if (gateway)
		say_address(w, " via ", family, nla_data(gateway), (size_t)nla_len(gateway));
	if (!via)
		return;
	const struct rtvia *other = nla_data(via);

	say_address(w, other->rtvia_family == AF_INET6 ? " via inet6 " : " via inet ", other->rtvia_family,
		other->rtvia_addr, (size_t)nla_len(via) - sizeof(*other));
}

static const char *type_word(int type)
{
	static const struct {
		int type;
		const char *word;
	} types[] = { { RTN_UNICAST, "" }, { RTN_BLACKHOLE, "blackhole " }, { RTN_UNREACHABLE, "unreachable " },
		{ RTN_PROHIBIT, "prohibit " }, { RTN_THROW, "throw " } };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].type == type)
			return types[i].word;
	return NULL;
}

static void say_destination(struct words *w, const struct rtmsg *head, struct nlattr **attrs)
{
	const char *type = type_word(head->rtm_type);

	if (!type || head->rtm_src_len || head->rtm_tos) {
		w->rc = -EOPNOTSUPP;
		return;
	}
	say(w, "%s", type);
	if (!attrs[RTA_DST]) {
		say(w, "default");
		return;
	}
	say_address(w, "", head->rtm_family, nla_data(attrs[RTA_DST]), (size_t)nla_len(attrs[RTA_DST]));
	say(w, "/%u", head->rtm_dst_len);
}

static void say_metrics(struct words *w, const struct nlattr *metrics)
{
	static const struct {
		int metric;
		const char *word;
	} known[] = { { RTAX_MTU, "mtu" }, { RTAX_WINDOW, "window" }, { RTAX_ADVMSS, "advmss" },
		{ RTAX_HOPLIMIT, "hoplimit" }, { RTAX_INITCWND, "initcwnd" }, { RTAX_INITRWND, "initrwnd" },
		{ RTAX_REORDERING, "reordering" }, { RTAX_QUICKACK, "quickack" } };
	struct nlattr *values[RTAX_MAX + 1];
	uint32_t lock = 0;

	if (!metrics)
		return;
	if (nla_parse_nested(values, RTAX_MAX, (struct nlattr *)(uintptr_t)metrics, NULL) < 0) {
		w->rc = -EBADMSG;
		return;
	}
	if (values[RTAX_LOCK])
		lock = nla_get_u32(values[RTAX_LOCK]);
	values[RTAX_LOCK] = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		const int metric = known[i].metric;

		if (values[metric])
			say(w, " %s %s%u", known[i].word, lock & 1u << metric ? "lock " : "",
				nla_get_u32(values[metric]));
		values[metric] = NULL;
	}
	for (int i = 1; i <= RTAX_MAX; i++)
		if (values[i])
			w->rc = -EOPNOTSUPP;
}

static void say_next_hops(struct words *w, int family, const struct nlattr *attr)
{
	const struct rtnexthop *hop = nla_data(attr);
	int left = nla_len(attr);

	for (; RTNH_OK(hop, left); left -= RTNH_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop)) {
		struct nlattr *attrs[RTA_MAX + 1];
		const int len = (int)hop->rtnh_len - (int)sizeof(*hop);

		if (nla_parse(attrs, RTA_MAX, (struct nlattr *)(uintptr_t)(hop + 1), len, NULL) < 0 ||
			attrs[RTA_ENCAP]) {
			w->rc = -EOPNOTSUPP;
			return;
		}
		say(w, " nexthop");
		say_gateway(w, family, attrs[RTA_GATEWAY], attrs[RTA_VIA]);
		say_device(w, (unsigned int)hop->rtnh_ifindex);
		say(w, " weight %u%s", hop->rtnh_hops + 1u, hop->rtnh_flags & RTNH_F_ONLINK ? " onlink" : "");
	}
}

static void say_pref(struct words *w, uint8_t pref)
{
	if (pref == ICMPV6_ROUTER_PREF_LOW)
		say(w, " pref low");
	else if (pref == ICMPV6_ROUTER_PREF_HIGH)
		say(w, " pref high");
}

// Everything else that a copy may have.
static bool has_more(struct nlattr **attrs)
{
	static const int said[] = { RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_VIA, RTA_PREFSRC, RTA_PRIORITY, RTA_METRICS,
		RTA_MULTIPATH, RTA_PREF, RTA_NH_ID, RTA_TABLE };
	bool is_said[RTA_MAX + 1] = { false };

	for (size_t i = 0; i < ARRAY_SIZE(said); i++)
		is_said[said[i]] = true;
	for (int i = 1; i <= RTA_MAX; i++)
		if (attrs[i] && !is_said[i])
			return true;
	return false;
}

int route_mirror_words(const struct route_mirror *mirror, const struct route_copy *copy, char *buf, size_t size)
{
	const struct rtmsg *head = (const void *)copy->bytes;
	const size_t begin = NLMSG_ALIGN(sizeof(*head));
	struct nlattr *attrs[RTA_MAX + 1];
	struct words w = { .buf = buf, .size = size };

	if (copy->len < begin ||
		nla_parse(attrs, RTA_MAX, (struct nlattr *)(uintptr_t)(copy->bytes + begin), (int)(copy->len - begin),
			NULL) < 0)
		return -EBADMSG;
	if (has_more(attrs))
		return -EOPNOTSUPP;
	say_destination(&w, head, attrs);
	if (attrs[RTA_NH_ID])
		say(&w, " nhid %u", nla_get_u32(attrs[RTA_NH_ID]));
	say_gateway(&w, head->rtm_family, attrs[RTA_GATEWAY], attrs[RTA_VIA]);
	if (attrs[RTA_OIF] && head->rtm_type == RTN_UNICAST)
		say_device(&w, nla_get_u32(attrs[RTA_OIF]));
	if (attrs[RTA_PREFSRC])
		say_address(&w, " src ", head->rtm_family, nla_data(attrs[RTA_PREFSRC]),
			(size_t)nla_len(attrs[RTA_PREFSRC]));
	if (attrs[RTA_PRIORITY])
		say(&w, " metric %u", nla_get_u32(attrs[RTA_PRIORITY]));
	if (head->rtm_flags & RTNH_F_ONLINK)
		say(&w, " onlink");
	if (attrs[RTA_PREF])
		say_pref(&w, nla_get_u8(attrs[RTA_PREF]));
	say_metrics(&w, attrs[RTA_METRICS]);
	say(&w, " table %u proto %u", mirror->table, head->rtm_protocol);
	if (attrs[RTA_MULTIPATH]) // takes what follows for its own
		say_next_hops(&w, head->rtm_family, attrs[RTA_MULTIPATH]);
	return w.rc;
}
