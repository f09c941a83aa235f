// SPDX-License-Identifier: Apache-2.0
// Network devices over rtnetlink: dump with their IPv4 device conf, add dummies and tunnels, set up, configure, delete.
// Floor 2.
//
// Source: net/core/rtnetlink.c, net/ipv4/devinet.c (IFLA_INET_CONF: an array of 32-bit values in the order of
// IPV4_DEVCONF_*), net/ipv4/ip_tunnel.c, net/ipv6/ip6_tunnel.c, net/ipv6/sit.c. A device's own conf is set by
// RTM_SETLINK; "all" and "default" are not devices and can only be written through /proc.
#ifndef BRASS_SHARED_IFLINK_H
#define BRASS_SHARED_IFLINK_H

#include "shared/err.h"
#include "shared/inet.h"
#include "shared/netsock.h"

#include <linux/ip.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IFLINK_KIND_MAX 16
#define IFLINK_CONF_MAX 33 // IPV4_DEVCONF_MAX of Linux 6.1 + 1; later ones are ignored

struct iflink {
	int index;
	char name[IFNAMSIZ];
	unsigned int flags; // IFF_*
	uint16_t type;      // ARPHRD_*
	int master;         // index of the bridge or bond that it belongs to, 0: none
	uint32_t mtu;
	uint8_t mac[6];
	uint8_t mac_len;
	char kind[IFLINK_KIND_MAX];     // "veth", "ipip", ...; "" for hardware
	struct inet_addr local, remote; // of a tunnel; not set: any
	bool checksum;                  // of a gre tunnel
	bool has_conf;
	int32_t conf[IFLINK_CONF_MAX]; // by IPV4_DEVCONF_* (linux/ip.h), as the device itself has it, without "all"
};

// All devices in a new array, sorted by name.
int iflink_dump(struct netsock *ns, struct iflink **ret, size_t *ret_count, struct err *err);
// The index of the device of this name, or -ENODEV and the like. if_nametoindex(3) asks by an ioctl that has modprobe
// run, and waits for it, when there is none (net/core/dev_ioctl.c, dev_load).
int iflink_index(struct netsock *ns, const char *name, struct err *err);
// NULL when there is none.
const struct iflink *iflink_find(const struct iflink *links, size_t count, const char *name);

const struct iflink *iflink_find_index(const struct iflink *links, size_t count, int index);

// Does this device answer ARP requests that it receives, if nothing forbids it?
bool iflink_does_arp(const struct iflink *link);

// A tunnel device: what runs inside and outside decides its kind.
struct iflink_tunnel {
	const char *kind; // "ipip" (IPv4 in IPv4), "ip6tnl" (either in IPv6), "sit" (IPv6 in IPv4), "gre", "ip6gre"
			  // (either)
	struct inet_addr local; // of the outer family; remote is any
	bool checksum;          // gre: packets must carry one, or must not
};

// -EEXIST when the name is taken.
int iflink_add_dummy(struct netsock *ns, const char *name, struct err *err);
int iflink_add_tunnel(struct netsock *ns, const char *name, const struct iflink_tunnel *tunnel, struct err *err);
// alias: what `ip link` shows as such, NULL: none.
int iflink_set_up(struct netsock *ns, int index, const char *alias, struct err *err);
int iflink_delete(struct netsock *ns, int index, struct err *err);
// key: IPV4_DEVCONF_*.
int iflink_set_conf(struct netsock *ns, int index, int key, int32_t value, struct err *err);

#endif
