// SPDX-License-Identifier: Apache-2.0
#include "agent/sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define STATES                                                                                     \
	(1u << TCP_ESTABLISHED | 1u << TCP_SYN_RECV | 1u << TCP_FIN_WAIT1 | 1u << TCP_CLOSE_WAIT | \
		1u << TCP_LAST_ACK | 1u << TCP_CLOSING | 1u << TCP_LISTEN)

static const uint8_t families[] = { AF_INET, AF_INET6 };

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

// A wildcard listener of IPv6 takes IPv4, too, unless it was told otherwise; one of IPv4 takes nothing else.
static bool listens_on(const struct inet_endpoint *here, bool only_ipv6, const struct inet_endpoint *wanted)
{
	static const uint8_t any[16];
	const bool takes_family =
		here->addr.family == wanted->addr.family || (here->addr.family == AF_INET6 && !only_ipv6);

	return (!wanted->port || here->port == wanted->port) &&
		(inet_addr_cmp(&here->addr, &wanted->addr) == 0 ||
			(takes_family && memcmp(here->addr.bytes, any, sizeof(any)) == 0));
}

// The kernel tells it of listeners, and of sockets that are bound and not connected (inet_diag_msg_attrs_fill in its
// net/ipv4/inet_diag.c).
static bool is_only_ipv6(const struct nlmsghdr *hdr)
{
	const struct nlattr *attr =
		nlmsg_find_attr((struct nlmsghdr *)(uintptr_t)hdr, sizeof(struct inet_diag_msg), INET_DIAG_SKV6ONLY);

	return attr && nla_get_u8(attr);
}

static bool is_at(const struct inet_endpoint *here, const struct inet_endpoint *wanted)
{
	return inet_addr_cmp(&here->addr, &wanted->addr) == 0 && (!wanted->port || here->port == wanted->port);
}

// The local end; false when the message cannot be understood. A dual-stack server's IPv4 connection is an IPv6 socket
// with a mapped address.
static bool local_end(const struct inet_diag_msg *msg, struct inet_endpoint *ret)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	const uint8_t *bytes = (const uint8_t *)msg->id.idiag_src;
	int family = msg->idiag_family;

	if (family == AF_INET6 && memcmp(bytes, mapped, sizeof(mapped)) == 0) {
		family = AF_INET;
		bytes += sizeof(mapped);
	}
	ret->port = ntohs(msg->id.idiag_sport);
	return !inet_addr_from_bytes(family, bytes, inet_addr_len(family), &ret->addr);
}

static int take(struct nlmsghdr *hdr, void *ctx)
{
	struct counting *c = ctx;
	const struct inet_diag_msg *msg = nlmsg_data(hdr);
	struct inet_endpoint here;

	if (hdr->nlmsg_len < NLMSG_LENGTH(sizeof(*msg)))
		return -EBADMSG;
	if (!local_end(msg, &here))
		return 0;
	for (size_t i = 0; i < c->count; i++) {
		if (msg->idiag_state == TCP_LISTEN) {
			c->listening[i] |= listens_on(&here, is_only_ipv6(hdr), &c->local[i]);
		} else if (is_at(&here, &c->local[i])) {
			c->open++;
			break;
		}
	}
	return 0;
}

static int dump(struct netsock *ns, uint8_t family, int protocol, uint32_t states,
	int (*each)(struct nlmsghdr *hdr, void *ctx), void (*again)(void *ctx), void *ctx, struct err *err)
{
	const struct inet_diag_req_v2 request = {
		.sdiag_family = family, .sdiag_protocol = (uint8_t)protocol, .idiag_states = states
	};
	struct nl_msg *msg = nlmsg_alloc_simple(SOCK_DIAG_BY_FAMILY, 0);
	int rc = !msg || nlmsg_append(msg, (void *)(uintptr_t)&request, sizeof(request), NLMSG_ALIGNTO)
		? err_set(err, -ENOMEM, NULL, "out of memory")
		: netsock_dump(ns, msg, each, again, ctx, err);

	nlmsg_free(msg);
	return rc;
}

int sockets_count(const struct inet_endpoint *local, size_t local_count, struct sockets *ret, struct err *err)
{
	_cleanup_(netsock_free_cleanup) struct netsock *ns = NULL;
	_cleanup_free_ bool *listening = calloc(local_count + 1, sizeof(*listening));
	struct counting counting = { .local = local, .count = local_count, .listening = listening };
	int rc = listening ? netsock_open(NETLINK_SOCK_DIAG, &ns, err) : err_set(err, -ENOMEM, NULL, "out of memory");

	for (size_t i = 0; i < ARRAY_SIZE(families) && !rc; i++) {
		counting.open_before = counting.open;
		rc = dump(ns, families[i], IPPROTO_TCP, STATES, take, restart, &counting, err);
	}
	if (rc)
		return rc;
	*ret = (struct sockets) { .open = counting.open };
	for (size_t i = 0; i < local_count; i++)
		ret->listening += listening[i];
	return 0;
}

// --- who listens ---

struct finding {
	struct sockets_listener *listeners;
	size_t count;
	int protocol;
};

static int take_listener(struct nlmsghdr *hdr, void *ctx)
{
	struct finding *f = ctx;
	const struct inet_diag_msg *msg = nlmsg_data(hdr);
	struct inet_endpoint here;

	if (hdr->nlmsg_len < NLMSG_LENGTH(sizeof(*msg)))
		return -EBADMSG;
	if (!local_end(msg, &here))
		return 0;
	for (size_t i = 0; i < f->count; i++) {
		struct sockets_listener *l = &f->listeners[i];

		if (l->protocol != f->protocol || l->at.port != here.port)
			continue;
		if (listens_on(&here, is_only_ipv6(hdr), &l->at))
			l->there = true;
		else if (!l->elsewhere.port && here.addr.family == l->at.addr.family)
			l->elsewhere = here;
	}
	return 0;
}

static void nothing(void *ctx)
{
	(void)ctx; // what was seen before the dump began anew was true as well
}

int sockets_find_listeners_on(struct netsock *ns, struct sockets_listener *listeners, size_t count, struct err *err)
{
	static const struct {
		int protocol;
		uint32_t states; // a UDP socket that is bound and not connected is in the state CLOSE
	} kinds[] = { { IPPROTO_TCP, 1u << TCP_LISTEN }, { IPPROTO_UDP, 1u << TCP_CLOSE } };
	int rc = 0;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		struct finding finding = { listeners, count, kinds[k].protocol };
		bool any = false;

		for (size_t i = 0; i < count; i++)
			any |= listeners[i].protocol == kinds[k].protocol;
		for (size_t i = 0; i < ARRAY_SIZE(families) && any && !rc; i++)
			rc = dump(ns, families[i], kinds[k].protocol, kinds[k].states, take_listener, nothing, &finding,
				err);
	}
	return rc;
}

int sockets_find_listeners(struct sockets_listener *listeners, size_t count, struct err *err)
{
	_cleanup_(netsock_free_cleanup) struct netsock *ns = NULL;
	int rc = netsock_open(NETLINK_SOCK_DIAG, &ns, err);

	return rc ? rc : sockets_find_listeners_on(ns, listeners, count, err);
}

// --- who closes ---

int sockets_hear_closing(struct netsock **ret, struct err *err)
{
	static const int groups[] = { SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET_UDP_DESTROY, SKNLGRP_INET6_TCP_DESTROY,
		SKNLGRP_INET6_UDP_DESTROY, 0 };

	return netsock_subscribe(NETLINK_SOCK_DIAG, groups, ret, err);
}

#define PORTS_MAX 128 // more than these are not told apart: any listener's end is news then
#define AT(member) (NLMSG_HDRLEN + offsetof(struct inet_diag_msg, member))

// A listener has no other end. The filter runs in the kernel, so that this process sleeps while connections end.
int sockets_hear_ports(struct netsock *ns, const uint16_t *ports, size_t count)
{
	struct sock_filter code[PORTS_MAX + 5];
	const size_t told = count <= PORTS_MAX ? count : 0;
	uint16_t n = 0;

	code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, AT(id.idiag_dport));
	code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, (uint8_t)(told ? told + 1 : 1));
	if (told)
		code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, AT(id.idiag_sport));
	for (size_t i = 0; i < told;
		i++) // to the end, which takes it; from the last one to the end before, which does not
		code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ports[i], (uint8_t)(told - i), 0);
	if (!told)
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	if (told)
		code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	const struct sock_fprog program = { .len = n, .filter = code };

	return setsockopt(netsock_fd(ns), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) ? -errno : 0;
}
