// SPDX-License-Identifier: Apache-2.0
#include "shared/sockpath.h"

#include "shared/util.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <linux/icmpv6.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

bool sockpath_is_plain(const struct sockpath *path)
{
	return !path->mark && !inet_addr_is_set(&path->source) && !path->segment && !path->explain;
}

static int set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) ? -errno : 0;
}

static int bind_source(const struct inet_addr *source, int fd)
{
	const struct inet_endpoint from = { .addr = *source };
	struct sockaddr_storage sa;
	const socklen_t len = inet_endpoint_to_sockaddr(&from, &sa);

	set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	return bind(fd, (const struct sockaddr *)&sa, len) ? -errno : 0;
}

int sockpath_apply(const struct sockpath *path, int fd, int family)
{
	const struct linger reset = { .l_onoff = 1 };
	int rc = 0;

	if (path->mark)
		rc = set(fd, SOL_SOCKET, SO_MARK, (int)path->mark);
	if (path->mark && !rc && setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)))
		rc = -errno;
	if (!rc && path->segment)
		rc = set(fd, IPPROTO_TCP, TCP_MAXSEG, (int)path->segment);
	if (!rc && path->explain)
		rc = family == AF_INET6 ? set(fd, IPPROTO_IPV6, IPV6_RECVERR, 1) : set(fd, IPPROTO_IP, IP_RECVERR, 1);
	if (!rc && inet_addr_is_set(&path->source))
		rc = bind_source(&path->source, fd);
	return rc;
}

static enum sockpath_icmp read_icmp(const struct sock_extended_err *error)
{
	static const struct {
		uint8_t origin, type, code;
		enum sockpath_icmp icmp;
	} rows[] = {
		{ SO_EE_ORIGIN_ICMP, ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, SOCKPATH_ICMP_PORT },
		{ SO_EE_ORIGIN_ICMP, ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, SOCKPATH_ICMP_PROTOCOL },
		{ SO_EE_ORIGIN_ICMP, ICMP_DEST_UNREACH, ICMP_NET_ANO, SOCKPATH_ICMP_PROHIBITED },
		{ SO_EE_ORIGIN_ICMP, ICMP_DEST_UNREACH, ICMP_HOST_ANO, SOCKPATH_ICMP_PROHIBITED },
		{ SO_EE_ORIGIN_ICMP, ICMP_DEST_UNREACH, ICMP_PKT_FILTERED, SOCKPATH_ICMP_PROHIBITED },
		{ SO_EE_ORIGIN_ICMP6, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH, SOCKPATH_ICMP_PORT },
		{ SO_EE_ORIGIN_ICMP6, ICMPV6_DEST_UNREACH, ICMPV6_ADM_PROHIBITED, SOCKPATH_ICMP_PROHIBITED },
		{ SO_EE_ORIGIN_ICMP6, ICMPV6_PARAMPROB, ICMPV6_UNK_NEXTHDR, SOCKPATH_ICMP_PROTOCOL },
	};

	if (error->ee_origin != SO_EE_ORIGIN_ICMP && error->ee_origin != SO_EE_ORIGIN_ICMP6)
		return SOCKPATH_ICMP_NONE;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].origin == error->ee_origin && rows[i].type == error->ee_type &&
			rows[i].code == error->ee_code)
			return rows[i].icmp;
	return SOCKPATH_ICMP_OTHER;
}

enum sockpath_icmp sockpath_icmp(int fd)
{
	union {
		struct cmsghdr align;
		char bytes[512];
	} control;
	char data[64];
	struct iovec part = { .iov_base = data, .iov_len = sizeof(data) };
	struct msghdr msg = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};

	if (recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return SOCKPATH_ICMP_NONE;
	for (const struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, (struct cmsghdr *)(uintptr_t)c)) {
		struct sock_extended_err error;

		if (!((c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) ||
			    (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR)))
			continue;
		memcpy(&error, CMSG_DATA(c), sizeof(error));
		return read_icmp(&error);
	}
	return SOCKPATH_ICMP_NONE;
}
