// SPDX-License-Identifier: Apache-2.0
// This host's own open TCP connections on given addresses, from the kernel's socket list (sock_diag(7)). Floor 2.
#ifndef BRASS_AGENT_SOCKETS_H
#define BRASS_AGENT_SOCKETS_H

#include "shared/err.h"
#include "shared/inet.h"
#include "shared/netsock.h"

#include <stdbool.h>
#include <stddef.h>

struct sockets {
	size_t open;      // connections that still have something to say: all states but CLOSE, TIME_WAIT and FIN_WAIT2
	size_t listening; // of the given endpoints, how many a socket of this network namespace listens on
};

// Who takes packets for an endpoint.
struct sockets_listener {
	struct inet_endpoint at; // in
	int protocol;            // in: IPPROTO_TCP, or _UDP: any socket that is bound and not connected
	// out
	bool there;                     // on this address, or on all
	struct inet_endpoint elsewhere; // else: the first on the same port of another address; port 0: none
};
int sockets_find_listeners(struct sockets_listener *listeners, size_t count, struct err *err);
// The same on a socket of NETLINK_SOCK_DIAG, for who looks often.
int sockets_find_listeners_on(struct netsock *ns, struct sockets_listener *listeners, size_t count, struct err *err);

// Hears of sockets that are closed for good (SKNLGRP_*_DESTROY, net/core/sock_diag.c): a netsock_subscribe of which
// only what may have been a listener on one of these ports arrives, whatever connections come and go. -EOPNOTSUPP and
// the like where the kernel does not tell.
int sockets_hear_closing(struct netsock **ret, struct err *err);
int sockets_hear_ports(struct netsock *ns, const uint16_t *ports, size_t count); // from now on; 0 or -errno

// Looks at the sockets whose local end is one of these (a listener may also have the any-address). Port 0: any.
int sockets_count(const struct inet_endpoint *local, size_t local_count, struct sockets *ret, struct err *err);

#endif
