// SPDX-License-Identifier: Apache-2.0
#include "agent/sockets.h"

#include "shared/netsock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define STATES                                                                                     \
	(1u << TCP_ESTABLISHED | 1u << TCP_SYN_RECV | 1u << TCP_FIN_WAIT1 | 1u << TCP_CLOSE_WAIT | \
		1u << TCP_LAST_ACK | 1u << TCP_CLOSING | 1u << TCP_LISTEN)

struct counting {
	const struct inet_endpoint *local;
	size_t count;
	size_t open, open_before; // before: of the family that was read first
	bool *listening;          // by local; true stays true when a dump starts again
};

static void restart(void *ctx)
{
	struct counting *c = ctx;

	c->open = c->open_before;
}

// A wildcard listener of IPv6 takes IPv4, too, unless it was told otherwise; the any-address matches either family.
static bool listens_on(const struct inet_endpoint *here, const struct inet_endpoint *wanted)
{
	static const uint8_t any[16];

	return here->port == wanted->port &&
		(inet_addr_cmp(&here->addr, &wanted->addr) == 0 || memcmp(here->addr.bytes, any, sizeof(any)) == 0);
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
	for (size_t i = 0; i < c->count; i++) {
		if (msg->idiag_state == TCP_LISTEN) {
			c->listening[i] |= listens_on(&here, &c->local[i]);
		} else if (inet_endpoint_cmp(&here, &c->local[i]) == 0) {
			c->open++;
			break;
		}
	}
	return 0;
}

int sockets_count(const struct inet_endpoint *local, size_t local_count, struct sockets *ret, struct err *err)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	_cleanup_(netsock_free_cleanup) struct netsock *ns = NULL;
	_cleanup_free_ bool *listening = calloc(local_count + 1, sizeof(*listening));
	struct counting counting = { .local = local, .count = local_count, .listening = listening };
	int rc = listening ? netsock_open(NETLINK_SOCK_DIAG, &ns, err) : err_set(err, -ENOMEM, NULL, "out of memory");

	for (size_t i = 0; i < ARRAY_SIZE(families) && !rc; i++) {
		const struct inet_diag_req_v2 request = {
			.sdiag_family = families[i],
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = STATES,
		};
		struct nl_msg *msg = nlmsg_alloc_simple(SOCK_DIAG_BY_FAMILY, 0);

		counting.open_before = counting.open;
		rc = !msg || nlmsg_append(msg, (void *)(uintptr_t)&request, sizeof(request), NLMSG_ALIGNTO)
			? err_set(err, -ENOMEM, NULL, "out of memory")
			: netsock_dump(ns, msg, take, restart, &counting, err);
		nlmsg_free(msg);
	}
	if (rc)
		return rc;
	*ret = (struct sockets) { .open = counting.open };
	for (size_t i = 0; i < local_count; i++)
		ret->listening += listening[i];
	return 0;
}
