// SPDX-License-Identifier: Apache-2.0
#include "shared/iflink.h"

#include <errno.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/if_tunnel.h>
#include <linux/ip6_tunnel.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netlink/attr.h>
#include <stdlib.h>
#include <string.h>

static void take_conf(struct nlattr *spec, struct iflink *link)
{
	struct nlattr *families[AF_INET + 1], *inet[IFLA_INET_MAX + 1];

	if (nla_parse_nested(families, AF_INET, spec, NULL) < 0 || !families[AF_INET] ||
		nla_parse_nested(inet, IFLA_INET_MAX, families[AF_INET], NULL) < 0 || !inet[IFLA_INET_CONF])
		return;
	const int32_t *values = nla_data(inet[IFLA_INET_CONF]);
	int count = nla_len(inet[IFLA_INET_CONF]) / (int)sizeof(*values);

	// the kernel's array begins with IPV4_DEVCONF_FORWARDING, which is 1
	for (int i = 0; i < count && i + 1 < IFLINK_CONF_MAX; i++)
		link->conf[i + 1] = values[i];
	link->has_conf = true;
}

// How each kind of tunnel device names its ends.
static const struct kind {
	const char *kind;
	int family, local, remote, max;
	bool is_gre;
} kinds[] = {
	{ "ipip", AF_INET, IFLA_IPTUN_LOCAL, IFLA_IPTUN_REMOTE, IFLA_IPTUN_MAX, false },
	{ "sit", AF_INET, IFLA_IPTUN_LOCAL, IFLA_IPTUN_REMOTE, IFLA_IPTUN_MAX, false },
	{ "ip6tnl", AF_INET6, IFLA_IPTUN_LOCAL, IFLA_IPTUN_REMOTE, IFLA_IPTUN_MAX, false },
	{ "gre", AF_INET, IFLA_GRE_LOCAL, IFLA_GRE_REMOTE, IFLA_GRE_MAX, true },
	{ "ip6gre", AF_INET6, IFLA_GRE_LOCAL, IFLA_GRE_REMOTE, IFLA_GRE_MAX, true },
};

static void take_tunnel(struct nlattr *data, struct iflink *link)
{
	static const uint8_t any[16];
	struct nlattr *attrs[IFLA_GRE_MAX + IFLA_IPTUN_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		unsigned int len = inet_addr_len(kinds[i].family);
		const struct {
			int attr;
			struct inet_addr *to;
		} ends[] = { { kinds[i].local, &link->local }, { kinds[i].remote, &link->remote } };

		if (strcmp(kinds[i].kind, link->kind) != 0 || nla_parse_nested(attrs, kinds[i].max, data, NULL) < 0)
			continue;
		if (kinds[i].is_gre && attrs[IFLA_GRE_IFLAGS])
			link->checksum = nla_get_u16(attrs[IFLA_GRE_IFLAGS]) & GRE_CSUM;
		for (size_t e = 0; e < ARRAY_SIZE(ends); e++) {
			struct nlattr *attr = attrs[ends[e].attr];

			if (attr && nla_len(attr) == (int)len && memcmp(nla_data(attr), any, len) != 0)
				inet_addr_from_bytes(kinds[i].family, nla_data(attr), len, ends[e].to);
		}
	}
}

static int take(struct nlmsghdr *hdr, void *ctx)
{
	struct nlattr *attrs[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1] = { NULL };
	const struct ifinfomsg *msg = nlmsg_data(hdr);
	struct iflink link = { .index = msg->ifi_index, .flags = msg->ifi_flags, .type = msg->ifi_type };

	if (hdr->nlmsg_type != RTM_NEWLINK || nlmsg_parse(hdr, sizeof(*msg), attrs, IFLA_MAX, NULL) < 0 ||
		!attrs[IFLA_IFNAME])
		return -EBADMSG;
	nla_strlcpy(link.name, attrs[IFLA_IFNAME], sizeof(link.name));
	link.mtu = attrs[IFLA_MTU] ? nla_get_u32(attrs[IFLA_MTU]) : 0;
	link.master = attrs[IFLA_MASTER] ? (int)nla_get_u32(attrs[IFLA_MASTER]) : 0;
	if (attrs[IFLA_ADDRESS] && nla_len(attrs[IFLA_ADDRESS]) == sizeof(link.mac)) {
		memcpy(link.mac, nla_data(attrs[IFLA_ADDRESS]), sizeof(link.mac));
		link.mac_len = sizeof(link.mac);
	}
	if (attrs[IFLA_LINKINFO] && nla_parse_nested(info, IFLA_INFO_MAX, attrs[IFLA_LINKINFO], NULL) == 0) {
		if (info[IFLA_INFO_KIND])
			nla_strlcpy(link.kind, info[IFLA_INFO_KIND], sizeof(link.kind));
		if (info[IFLA_INFO_DATA])
			take_tunnel(info[IFLA_INFO_DATA], &link);
	}
	if (attrs[IFLA_AF_SPEC])
		take_conf(attrs[IFLA_AF_SPEC], &link);
	return netsock_list_add(ctx, &link);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct iflink *)a)->name, ((const struct iflink *)b)->name);
}

static struct nl_msg *message(int type, int flags, int index, unsigned int up)
{
	const struct ifinfomsg head = {
		.ifi_family = AF_UNSPEC, .ifi_index = index, .ifi_flags = up, .ifi_change = up
	};
	struct nl_msg *msg = nlmsg_alloc_simple(type, flags);

	if (msg && nlmsg_append(msg, (void *)(uintptr_t)&head, sizeof(head), NLMSG_ALIGNTO)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

// Sends and frees; broken says that building failed.
static int finish(struct netsock *ns, struct nl_msg *msg, bool broken, struct err *err)
{
	int rc = !msg || broken ? err_set(err, -ENOMEM, NULL, "out of memory") : netsock_transact(ns, msg, err);

	nlmsg_free(msg);
	return rc;
}

int iflink_dump(struct netsock *ns, struct iflink **ret, size_t *ret_count, struct err *err)
{
	struct nl_msg *msg = message(RTM_GETLINK, 0, 0, 0);
	struct netsock_list list = { .size = sizeof(struct iflink) };
	int rc = msg ? netsock_dump_list(ns, msg, take, &list, err) : err_set(err, -ENOMEM, NULL, "out of memory");

	nlmsg_free(msg);
	if (rc) {
		free(list.items);
		err_context(err, "cannot read devices: ");
		return rc;
	}
	sort_items(list.items, list.count, list.size, by_name);
	*ret = list.items;
	*ret_count = list.count;
	return 0;
}

static int take_index(struct nlmsghdr *hdr, void *index)
{
	const struct ifinfomsg *msg = nlmsg_data(hdr);

	if (hdr->nlmsg_type == RTM_NEWLINK && nlmsg_valid_hdr(hdr, sizeof(*msg)))
		*(int *)index = msg->ifi_index;
	return 0;
}

int iflink_index(struct netsock *ns, const char *name, struct err *err)
{
	struct nl_msg *msg = message(RTM_GETLINK, 0, 0, 0);
	const bool broken = !msg || nla_put_string(msg, IFLA_IFNAME, name);
	int index = 0;
	int rc = broken ? err_set(err, -ENOMEM, NULL, "out of memory") : netsock_get(ns, msg, take_index, &index, err);

	nlmsg_free(msg);
	if (!rc && !index)
		rc = -ENODEV;
	return rc == -ENODEV ? err_set(err, rc, NULL, "there is no device %s", name) : rc ? rc : index;
}

const struct iflink *iflink_find(const struct iflink *links, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(links[i].name, name) == 0)
			return &links[i];
	return NULL;
}

const struct iflink *iflink_find_index(const struct iflink *links, size_t count, int index)
{
	for (size_t i = 0; i < count; i++)
		if (links[i].index == index)
			return &links[i];
	return NULL;
}

bool iflink_does_arp(const struct iflink *link)
{
	// net/ipv4/arp.c, arp_process: Ethernet-like hardware without IFF_NOARP; lo has IFF_LOOPBACK
	return link->type == ARPHRD_ETHER && !(link->flags & (IFF_NOARP | IFF_LOOPBACK));
}

int iflink_add_dummy(struct netsock *ns, const char *name, struct err *err)
{
	struct nl_msg *msg = message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, IFF_UP);
	bool broken = !msg || nla_put_string(msg, IFLA_IFNAME, name);
	struct nlattr *info = broken ? NULL : nla_nest_start(msg, IFLA_LINKINFO);

	broken = !info || nla_put_string(msg, IFLA_INFO_KIND, "dummy");
	if (!broken)
		nla_nest_end(msg, info);
	return finish(ns, msg, broken, err);
}

// Protocol 0: either family inside; no encapsulation limit, so that no destination option is wanted.
static bool put_ip6tnl(struct nl_msg *msg)
{
	return nla_put_u8(msg, IFLA_IPTUN_PROTO, 0) || nla_put_u32(msg, IFLA_IPTUN_FLAGS, IP6_TNL_F_IGN_ENCAP_LIMIT) ||
		nla_put_u8(msg, IFLA_IPTUN_ENCAP_LIMIT, 0);
}

// What comes must carry a checksum exactly when we say so (net/ipv4/ip_tunnel.c, ip_tunnel_rcv).
static bool put_gre(struct nl_msg *msg, bool checksum, bool v6)
{
	const uint16_t flags = checksum ? GRE_CSUM : 0;

	return nla_put_u16(msg, IFLA_GRE_IFLAGS, flags) || nla_put_u16(msg, IFLA_GRE_OFLAGS, flags) ||
		(v6 &&
			(nla_put_u32(msg, IFLA_GRE_FLAGS, IP6_TNL_F_IGN_ENCAP_LIMIT) ||
				nla_put_u8(msg, IFLA_GRE_ENCAP_LIMIT, 0)));
}

int iflink_add_tunnel(struct netsock *ns, const char *name, const struct iflink_tunnel *tunnel, struct err *err)
{
	struct nl_msg *msg = message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, 0);
	const struct kind *kind = kinds;

	while (kind < kinds + ARRAY_SIZE(kinds) - 1 && strcmp(kind->kind, tunnel->kind) != 0)
		kind++;
	bool v6 = kind->family == AF_INET6, broken = !msg || nla_put_string(msg, IFLA_IFNAME, name);
	struct nlattr *info = broken ? NULL : nla_nest_start(msg, IFLA_LINKINFO), *data = NULL;

	broken = !info || nla_put_string(msg, IFLA_INFO_KIND, kind->kind) ||
		!(data = nla_nest_start(msg, IFLA_INFO_DATA)) ||
		nla_put(msg, kind->local, (int)inet_addr_len(kind->family), tunnel->local.bytes);
	if (!broken && kind->is_gre)
		broken = put_gre(msg, tunnel->checksum, v6);
	else if (!broken && v6)
		broken = put_ip6tnl(msg);
	if (!broken) {
		nla_nest_end(msg, data);
		nla_nest_end(msg, info);
	}
	return finish(ns, msg, broken, err);
}

int iflink_set_up(struct netsock *ns, int index, const char *alias, struct err *err)
{
	struct nl_msg *msg = message(RTM_NEWLINK, 0, index, IFF_UP);

	return finish(ns, msg, msg && alias && nla_put_string(msg, IFLA_IFALIAS, alias), err);
}

int iflink_delete(struct netsock *ns, int index, struct err *err)
{
	return finish(ns, message(RTM_DELLINK, 0, index, 0), false, err);
}

int iflink_set_conf(struct netsock *ns, int index, int key, int32_t value, struct err *err)
{
	// AF_UNSPEC in the head: with AF_BRIDGE a bridge would take the message for its own
	struct nl_msg *msg = message(RTM_SETLINK, 0, index, 0);
	struct nlattr *spec = msg ? nla_nest_start(msg, IFLA_AF_SPEC) : NULL, *inet = NULL, *conf = NULL;
	bool broken = !spec || !(inet = nla_nest_start(msg, AF_INET)) ||
		!(conf = nla_nest_start(msg, IFLA_INET_CONF)) || nla_put_u32(msg, key, (uint32_t)value);

	if (!broken) {
		nla_nest_end(msg, conf);
		nla_nest_end(msg, inet);
		nla_nest_end(msg, spec);
	}
	return finish(ns, msg, broken, err);
}
