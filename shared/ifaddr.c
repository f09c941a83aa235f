// SPDX-License-Identifier: Apache-2.0
#include "shared/ifaddr.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <stdlib.h>
#include <string.h>

#ifndef IFA_PROTO // headers before 5.18
#define IFA_PROTO 11
#endif

static int take(struct nlmsghdr *hdr, void *ctx)
{
	struct nlattr *attrs[IFA_PROTO + 1];
	const struct ifaddrmsg *msg = nlmsg_data(hdr);
	struct ifaddress addr = { 0 };

	if (hdr->nlmsg_type != RTM_NEWADDR || nlmsg_parse(hdr, sizeof(*msg), attrs, IFA_PROTO, NULL) < 0)
		return -EBADMSG;
	// IFA_LOCAL is the address; without a peer IPv6 sends IFA_ADDRESS alone
	struct nlattr *local = attrs[IFA_LOCAL] ? attrs[IFA_LOCAL] : attrs[IFA_ADDRESS];

	if (!local ||
		inet_addr_from_bytes(msg->ifa_family, nla_data(local), (unsigned int)nla_len(local), &addr.prefix.addr))
		return 0; // another family
	addr.prefix.len = msg->ifa_prefixlen;
	addr.ifindex = (int)msg->ifa_index;
	addr.scope = msg->ifa_scope;
	addr.flags = attrs[IFA_FLAGS] ? nla_get_u32(attrs[IFA_FLAGS]) : msg->ifa_flags;
	addr.proto = attrs[IFA_PROTO] ? nla_get_u8(attrs[IFA_PROTO]) : 0;
	return netsock_list_add(ctx, &addr);
}

int ifaddr_cmp(const struct ifaddress *a, const struct ifaddress *b)
{
	int order = inet_addr_cmp(&a->prefix.addr, &b->prefix.addr);

	if (!order)
		order = a->prefix.len - b->prefix.len;
	return order ? order : a->ifindex - b->ifindex;
}

static int compare(const void *a, const void *b)
{
	return ifaddr_cmp(a, b);
}

int ifaddr_dump(struct netsock *ns, struct ifaddress **ret, size_t *ret_count, struct err *err)
{
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETADDR, 0);
	const struct ifaddrmsg head = { .ifa_family = AF_UNSPEC };
	struct netsock_list list = { .size = sizeof(struct ifaddress) };
	int rc = -ENOMEM;

	if (msg && !nlmsg_append(msg, (void *)(uintptr_t)&head, sizeof(head), NLMSG_ALIGNTO))
		rc = netsock_dump_list(ns, msg, take, &list, err);
	nlmsg_free(msg);
	if (rc) {
		free(list.items);
		err_context(err, "cannot read addresses: ");
		return rc;
	}
	sort_items(list.items, list.count, list.size, compare);
	*ret = list.items;
	*ret_count = list.count;
	return 0;
}

static int change(
	struct netsock *ns, int type, int flags, int ifindex, const struct inet_prefix *prefix, struct err *err)
{
	const bool is_new = type == RTM_NEWADDR, is_v6 = prefix->addr.family == AF_INET6;
	const struct ifaddrmsg head = {
		.ifa_family = (uint8_t)prefix->addr.family,
		.ifa_prefixlen = prefix->len,
		.ifa_flags = is_new && is_v6 ? IFA_F_NODAD : 0,
		.ifa_scope = RT_SCOPE_UNIVERSE,
		.ifa_index = (uint32_t)ifindex,
	};
	const struct ifa_cacheinfo lifetimes = { .ifa_valid = UINT32_MAX, .ifa_prefered = 0 };
	struct nl_msg *msg = nlmsg_alloc_simple(type, flags);
	int len = (int)inet_addr_len(prefix->addr.family);
	int rc = !msg || nlmsg_append(msg, (void *)(uintptr_t)&head, sizeof(head), NLMSG_ALIGNTO) ||
		nla_put(msg, IFA_LOCAL, len, prefix->addr.bytes) || nla_put(msg, IFA_ADDRESS, len, prefix->addr.bytes);

	if (!rc && is_new)
		rc = nla_put_u8(msg, IFA_PROTO, IFADDR_PROTO_BRASS) ||
			(is_v6 && nla_put(msg, IFA_CACHEINFO, sizeof(lifetimes), &lifetimes));
	rc = rc ? err_set(err, -ENOMEM, NULL, "out of memory") : netsock_transact(ns, msg, err);
	nlmsg_free(msg);
	return rc;
}

int ifaddr_add(struct netsock *ns, int ifindex, const struct inet_prefix *prefix, struct err *err)
{
	return change(ns, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, ifindex, prefix, err);
}

int ifaddr_del(struct netsock *ns, int ifindex, const struct inet_prefix *prefix, struct err *err)
{
	return change(ns, RTM_DELADDR, 0, ifindex, prefix, err);
}
