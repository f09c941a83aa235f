// SPDX-License-Identifier: Apache-2.0
#include "agent/sockets.h"

#include "shared/netsock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

#define STATES                                                                                     \
	(1u << TCP_ESTABLISHED | 1u << TCP_SYN_RECV | 1u << TCP_FIN_WAIT1 | 1u << TCP_CLOSE_WAIT | \
		1u << TCP_LAST_ACK | 1u << TCP_CLOSING)

struct counting {
	const struct inet_endpoint *local;
	size_t local_count, before, found; // before: of the family that was read first
};

static void restart(void *ctx)
{
	struct counting *c = ctx;

	c->found = c->before;
}

static int take(struct nlmsghdr *hdr, void *ctx)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct counting *c = ctx;
	const struct inet_diag_msg *msg = nlmsg_data(hdr);
	const uint8_t *bytes = (const uint8_t *)msg->id.idiag_src;
	int family = msg->idiag_family;
	struct inet_endpoint here = { .port = ntohs(msg->id.idiag_sport) };

	if (hdr->nlmsg_len < NLMSG_LENGTH(sizeof(*msg)))
		return -EBADMSG;
	// a dual-stack server's IPv4 connection is an IPv6 socket with a mapped address
	if (family == AF_INET6 && memcmp(bytes, mapped, sizeof(mapped)) == 0) {
		family = AF_INET;
		bytes += sizeof(mapped);
	}
	if (inet_addr_from_bytes(family, bytes, inet_addr_len(family), &here.addr))
		return 0;
	for (size_t i = 0; i < c->local_count; i++) {
		if (inet_endpoint_cmp(&here, &c->local[i]) == 0) {
			c->found++;
			break;
		}
	}
	return 0;
}

int sockets_count(const struct inet_endpoint *local, size_t local_count, size_t *ret, struct err *err)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	_cleanup_(netsock_free_cleanup) struct netsock *ns = NULL;
	struct counting counting = { local, local_count, 0, 0 };
	int rc = netsock_open(NETLINK_SOCK_DIAG, &ns, err);

	for (size_t i = 0; i < ARRAY_SIZE(families) && !rc; i++) {
		const struct inet_diag_req_v2 request = {
			.sdiag_family = families[i],
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = STATES,
		};
		struct nl_msg *msg = nlmsg_alloc_simple(SOCK_DIAG_BY_FAMILY, 0);

		counting.before = counting.found;
		rc = !msg || nlmsg_append(msg, (void *)(uintptr_t)&request, sizeof(request), NLMSG_ALIGNTO)
			? err_set(err, -ENOMEM, NULL, "out of memory")
			: netsock_dump(ns, msg, take, restart, &counting, err);
		nlmsg_free(msg);
	}
	if (!rc)
		*ret = counting.found;
	return rc;
}
