// SPDX-License-Identifier: Apache-2.0
// How a socket's packets go, where the routing table is not the one to say: a firewall mark, a source address, the size
// of segments; and what ICMP said of them. Floor 1.
//
// Sockets with a mark are closed by a reset: IPVS then takes a new connection from the same port as a new one, while
// one that ended with a FIN would lead it to the real server of last time (net/netfilter/ipvs/ip_vs_core.c,
// is_new_conn_expected). The source port is chosen at connect(2), in turn, so that one is used again as late as can be
// (IP_BIND_ADDRESS_NO_PORT, net/ipv4/inet_hashtables.c).
#ifndef BRASS_SHARED_SOCKPATH_H
#define BRASS_SHARED_SOCKPATH_H

#include "shared/inet.h"

#include <stdbool.h>
#include <stdint.h>

struct sockpath {
	uint32_t mark;           // SO_MARK, needs CAP_NET_ADMIN; 0: none
	struct inet_addr source; // not set: as the route says
	uint32_t segment;        // largest TCP segment that is sent, in bytes without headers; 0: as the kernel finds
	bool explain;            // ICMP messages are kept for sockpath_icmp
};

bool sockpath_is_plain(const struct sockpath *path); // nothing of it differs from any socket

// To be called before connect(2). family is the socket's. 0 or -errno.
int sockpath_apply(const struct sockpath *path, int fd, int family);

// What an ICMP message has said of a connection that failed.
enum sockpath_icmp {
	SOCKPATH_ICMP_NONE, // nothing: the error came from elsewhere (a reset, say)
	SOCKPATH_ICMP_PORT,
	SOCKPATH_ICMP_PROTOCOL,
	SOCKPATH_ICMP_PROHIBITED,
	SOCKPATH_ICMP_OTHER,
};
enum sockpath_icmp sockpath_icmp(int fd);

#endif
