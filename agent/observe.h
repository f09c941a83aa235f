// SPDX-License-Identifier: Apache-2.0
// What the kernel holds now, read by dumps: devices with their settings, addresses, rules, default routes. Floor 2.
#ifndef BRASS_AGENT_OBSERVE_H
#define BRASS_AGENT_OBSERVE_H

#include "agent/resource.h"
#include "shared/ifaddr.h"
#include "shared/iflink.h"
#include "shared/netsock.h"
#include "shared/route.h"
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
	int32_t all[IFLINK_CONF_MAX]; // net/ipv4/conf/all of the settings that we use
};

// table: rules, and the default routes of this table, are read as well; 0: neither (only nat needs them).
int observe(struct netsock *ns, uint32_t table, struct observed *ret, struct err *err);
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

// The value that counts for a device: the larger of its own and "all" (net/ipv4/devinet.c, IN_DEV_MAXCONF).
int32_t observe_effective(const struct observed *o, const struct iflink *link, int conf);

#endif
