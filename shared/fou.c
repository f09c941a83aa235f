// SPDX-License-Identifier: Apache-2.0
#include "shared/fou.h"

#include "shared/netsock.h"
#include "shared/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fou.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>
#include <stdlib.h>
#include <string.h>

static int open_family(struct netsock **ret, uint16_t *ret_id, struct err *err)
{
	int rc = netsock_open(NETLINK_GENERIC, ret, err);

	if (!rc)
		rc = netsock_genl_family(*ret, FOU_GENL_NAME, ret_id, err);
	return rc;
}

static struct nl_msg *message(uint16_t family, uint8_t command)
{
	struct nl_msg *msg = nlmsg_alloc_size(256);

	if (msg && !genlmsg_put(msg, NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, 0, command, FOU_GENL_VERSION)) {
		nlmsg_free(msg);
		return NULL;
	}
	return msg;
}

static int take(struct nlmsghdr *hdr, void *list)
{
	struct nlattr *attrs[FOU_ATTR_MAX + 1];
	struct fou_port port = { 0 };

	if (genlmsg_parse(hdr, 0, attrs, FOU_ATTR_MAX, NULL) < 0 || !attrs[FOU_ATTR_AF] || !attrs[FOU_ATTR_PORT])
		return -EBADMSG;
	port.local.family = nla_get_u8(attrs[FOU_ATTR_AF]);
	port.port = ntohs(nla_get_u16(attrs[FOU_ATTR_PORT]));
	port.is_gue = attrs[FOU_ATTR_TYPE] && nla_get_u8(attrs[FOU_ATTR_TYPE]) == FOU_ENCAP_GUE;
	const struct nlattr *local = attrs[port.local.family == AF_INET6 ? FOU_ATTR_LOCAL_V6 : FOU_ATTR_LOCAL_V4];

	if (local)
		inet_addr_from_bytes(port.local.family, nla_data(local), (unsigned int)nla_len(local), &port.local);
	return netsock_list_add(list, &port);
}

int fou_dump(struct fou_port **ret, size_t *ret_count, struct err *err)
{
	_cleanup_(netsock_free_cleanup) struct netsock *ns = NULL;
	struct netsock_list list = { .size = sizeof(struct fou_port) };
	uint16_t family = 0;
	int rc = open_family(&ns, &family, err);

	*ret = NULL;
	*ret_count = 0;
	if (rc == -ENOENT || rc == -EOPNOTSUPP)
		return 0;
	if (rc)
		return rc;
	struct nl_msg *msg = message(family, FOU_CMD_GET);

	rc = msg ? netsock_dump_list(ns, msg, take, &list, err) : err_set(err, -ENOMEM, NULL, "out of memory");
	nlmsg_free(msg);
	if (rc) {
		err_context(err, "cannot read the ports of fou: ");
		return rc;
	}
	*ret = list.items;
	*ret_count = list.count;
	return 0;
}

static int change(uint8_t command, const struct inet_addr *local, uint16_t port, struct err *err)
{
	_cleanup_(netsock_free_cleanup) struct netsock *ns = NULL;
	uint16_t family = 0;
	int rc = open_family(&ns, &family, err);

	if (rc)
		return rc == -ENOENT ? -EOPNOTSUPP : rc;
	struct nl_msg *msg = message(family, command);
	bool broken = !msg || nla_put_u8(msg, FOU_ATTR_AF, (uint8_t)local->family) ||
		nla_put_u16(msg, FOU_ATTR_PORT, htons(port)) ||
		nla_put(msg, local->family == AF_INET6 ? FOU_ATTR_LOCAL_V6 : FOU_ATTR_LOCAL_V4,
			(int)inet_addr_len(local->family), local->bytes) ||
		(command == FOU_CMD_ADD && nla_put_u8(msg, FOU_ATTR_TYPE, FOU_ENCAP_GUE));

	rc = broken ? err_set(err, -ENOMEM, NULL, "out of memory") : netsock_transact(ns, msg, err);
	nlmsg_free(msg);
	return rc;
}

int fou_add(const struct inet_addr *local, uint16_t port, struct err *err)
{
	return change(FOU_CMD_ADD, local, port, err);
}

int fou_del(const struct inet_addr *local, uint16_t port, struct err *err)
{
	return change(FOU_CMD_DEL, local, port, err);
}
