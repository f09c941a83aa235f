// SPDX-License-Identifier: Apache-2.0
#include "shared/neigh.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <string.h>

static int take(struct nlmsghdr *hdr, void *ctx)
{
	struct nlattr *attrs[NDA_MAX + 1];
	const struct ndmsg *head = nlmsg_data(hdr);
	struct neigh neigh = { .ifindex = head->ndm_ifindex };

	if (hdr->nlmsg_type != RTM_NEWNEIGH || nlmsg_parse(hdr, sizeof(*head), attrs, NDA_MAX, NULL) < 0)
		return -EBADMSG;
	if (!attrs[NDA_DST] || !attrs[NDA_LLADDR] || nla_len(attrs[NDA_LLADDR]) != sizeof(neigh.mac) ||
		inet_addr_from_bytes(
			head->ndm_family, nla_data(attrs[NDA_DST]), (unsigned int)nla_len(attrs[NDA_DST]), &neigh.addr))
		return 0;
	memcpy(neigh.mac, nla_data(attrs[NDA_LLADDR]), sizeof(neigh.mac));
	return netsock_list_add(ctx, &neigh);
}

int neigh_dump(struct netsock *ns, struct neigh **ret, size_t *ret_count, struct err *err)
{
	const struct ndmsg head = { .ndm_family = AF_UNSPEC };
	struct netsock_list list = { .size = sizeof(struct neigh) };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETNEIGH, 0);
	int rc = !msg || nlmsg_append(msg, (void *)(uintptr_t)&head, sizeof(head), NLMSG_ALIGNTO)
		? err_set(err, -ENOMEM, NULL, "out of memory")
		: netsock_dump_list(ns, msg, take, &list, err);

	nlmsg_free(msg);
	if (rc) {
		err_context(err, "cannot read the neighbour table: ");
		return rc;
	}
	*ret = list.items;
	*ret_count = list.count;
	return 0;
}
