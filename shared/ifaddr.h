// SPDX-License-Identifier: Apache-2.0
// Addresses on devices over rtnetlink: dump, add, delete. Floor 2.
//
// Addresses that we add carry IFADDR_PROTO_BRASS where the kernel keeps it (IFA_PROTO, since Linux 5.18), shown by
// `ip -d addr` of newer iproute2. IPv6 addresses are added without duplicate detection and with preferred lifetime 0:
// the host answers to them but never picks one as a source (RFC 6724, rule 3). Source: net/ipv4/devinet.c,
// net/ipv6/addrconf.c.
#ifndef BRASS_SHARED_IFADDR_H
#define BRASS_SHARED_IFADDR_H

#include "shared/err.h"
#include "shared/inet.h"
#include "shared/netsock.h"

#include <stddef.h>
#include <stdint.h>

#define IFADDR_PROTO_BRASS 0xb5

struct ifaddress {
	struct inet_prefix prefix;
	int ifindex;
	uint8_t scope;  // RT_SCOPE_*
	uint32_t flags; // IFA_F_*
	uint8_t proto;  // IFA_PROTO, 0 when unknown
};

// All addresses of both families in a new array, sorted by ifaddr_cmp.
int ifaddr_dump(struct netsock *ns, struct ifaddress **ret, size_t *ret_count, struct err *err);

// -EEXIST when the device already has it.
int ifaddr_add(struct netsock *ns, int ifindex, const struct inet_prefix *prefix, struct err *err);
// -EADDRNOTAVAIL when the device does not have it.
int ifaddr_del(struct netsock *ns, int ifindex, const struct inet_prefix *prefix, struct err *err);

// By address, length, device.
int ifaddr_cmp(const struct ifaddress *a, const struct ifaddress *b);

#endif
