// SPDX-License-Identifier: Apache-2.0
// What the kernel holds now, read by dumps: devices with their settings, addresses, rules, default routes, our table of
// nftables. Floor 2.
#ifndef BRASS_AGENT_OBSERVE_H
#define BRASS_AGENT_OBSERVE_H

#include "agent/nft.h"
#include "agent/resource.h"
#include "shared/fou.h"
#include "shared/ifaddr.h"
#include "shared/iflink.h"
#include "shared/netsock.h"
#include "shared/route.h"
#include "shared/route_mirror.h"
#include "shared/util.h"

#include <stdbool.h>

struct observed {
	struct iflink *links;
	size_t link_count;
	struct ifaddress *addrs;
	size_t addr_count;
	struct route_rule *rules;
	size_t rule_count;
	struct route_default *routes;
	size_t route_count;
	struct fou_port *fous;
	size_t fou_count;
	struct nft_table nft;
	struct route_mirror mirrors[2]; // IPv4, IPv6; family 0: not looked at
	int32_t all[IFLINK_CONF_MAX];   // net/ipv4/conf/all of the settings that we use
	int32_t fresh[IFLINK_CONF_MAX]; // net/ipv4/conf/default: what a new device begins with
	bool arp_refused;               // filled in by the owner: a setting against ARP could not be made just now
};

// What is looked at beyond devices and addresses.
struct observe_more {
	bool rules, fous;
	uint32_t table;      // default routes of this table; 0: none
	struct netsock *nft; // of nft_open; NULL: our table is not read
};
int observe(struct netsock *ns, const struct observe_more *more, struct observed *ret, struct err *err);
// How far this copy of the main table is from what is wanted. -E2BIG: there are too many routes.
int observe_mirror(struct netsock *ns, const struct resource *mirror, struct observed *o, struct err *err);
// MTU of the device that has the address; 0: none has.
uint32_t observe_mtu(const struct observed *o, const struct inet_addr *addr);
void observed_clear(struct observed *o);

// What is there in the place of a wanted resource.
enum presence {
	PRESENCE_MISSING,
	PRESENCE_THERE, // as wanted
	PRESENCE_DOWN,  // a tunnel as wanted, but not up
	PRESENCE_OTHER, // something else of that name or key: *ret_found says what (a CONF's present value)
};
enum presence observe_resource(const struct observed *o, const struct resource *want, struct resource *ret_found);

// The address sits on a device where it does harm: "eth0". NULL: it does not. ours is the device where we want it.
const char *observe_misplaced(const struct observed *o, const struct inet_addr *addr, const char *ours);

// Is a setting of a device, with its own value, as wanted?
bool observe_conf_is_right(const struct observed *o, int conf, int32_t own, int32_t want);

// The value that counts for a device: the larger of its own and "all" (net/ipv4/devinet.c, IN_DEV_MAXCONF).
int32_t observe_effective(const struct observed *o, const struct iflink *link, int conf);

#endif
