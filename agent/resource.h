// SPDX-License-Identifier: Apache-2.0
// One thing in the kernel that the agent sets up: a table of nftables and its rules, a UDP port of GUE, a device, a
// device setting, a route, a rule, an address. Floor 1.
//
// The order of the kinds is the order of setting up, and its reverse the order of taking down: who may send before what
// is locked, locks before the device that takes the packets out of the tunnel, a device before its settings, settings
// (NoARP) and the way back before addresses. A VIP never exists for a moment on a host that would answer ARP for it,
// and no tunnel device without its lock.
#ifndef BRASS_AGENT_RESOURCE_H
#define BRASS_AGENT_RESOURCE_H

#include "agent/nft.h"
#include "shared/err.h"
#include "shared/inet.h"
#include "shared/route.h"

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

enum resource_kind {
	RESOURCE_TABLE, // nft.h
	RESOURCE_ALLOW, // its rules: who may send,
	RESOURCE_LOCK,  // and what is looked at
	RESOURCE_FOU,
	RESOURCE_DEVICE,
	RESOURCE_CONF,
	RESOURCE_MIRROR, // table "main" with a smaller MSS (route_mirror.h)
	RESOURCE_ROUTE,
	RESOURCE_RULE,
	RESOURCE_VIP,
};
#define RESOURCE_KINDS (RESOURCE_VIP + 1)
const char *resource_kind_name(enum resource_kind kind); // "vip", ...

struct resource {
	enum resource_kind kind;
	char dev[IFNAMSIZ];   // DEVICE, CONF ("all", too), VIP
	char device_kind[16]; // DEVICE: "ipip", "ip6tnl", "sit", "gre", "ip6gre", "dummy"
	// FOU, DEVICE: local end; VIP: the address; ROUTE: the gateway; RULE, ALLOW: from; LOCK: to; MIRROR: family
	struct inet_addr addr;
	int conf;      // CONF: IPV4_DEVCONF_*
	int32_t value; // CONF: what it is set to; DEVICE: 1: gre with checksums; MIRROR: the MSS; ALLOW: bits of addr
	int32_t original; // CONF, in the journal: what it was before. ALLOW, LOCK, when it goes: the rule's number
	int ifindex;      // CONF, in the journal: of the device, whatever it is called by now; 0: not known, or "all"
	uint32_t table, priority; // MIRROR, ROUTE, RULE
	uint8_t ip_protocol;      // RULE, ALLOW; 0: any. LOCK
	uint16_t sport;           // RULE; 0: any. FOU, LOCK: the UDP port
};

// Order of setting up; 0 for the same thing (a CONF with another value, a DEVICE with another end are the same thing).
int resource_cmp(const struct resource *a, const struct resource *b);
// The same thing and the same content.
bool resource_same(const struct resource *a, const struct resource *b);

// "arp_ignore", ... for the settings that we use; NULL else. And the reverse, 0 when unknown.
const char *resource_conf_name(int conf);
int resource_conf_number(const char *name);

// "all" is no device: its settings are written to /proc, and count for every device that has a smaller one.
#define RESOURCE_DEV_ALL "all"
bool resource_is_all(const struct resource *r);
// Is it a setting that keeps a device from answering ARP for VIPs?
bool resource_keeps_arp_quiet(const struct resource *r);

// The command that a person would type to make it (added) or to take it away.
#define RESOURCE_COMMAND_MAX 480
const char *resource_command(const struct resource *r, bool added, char buf[RESOURCE_COMMAND_MAX]);

// The table's rules, and what takes packets out of a tunnel: none of it is made where locks cannot be.
bool resource_waits_for_lock(const struct resource *r);

// For the journal. resource_from_json returns 0 or -EINVAL.
json_t *resource_to_json(const struct resource *r);
int resource_from_json(const json_t *json, struct resource *ret);

// The rule of a RESOURCE_RULE, and of a RESOURCE_LOCK or _ALLOW.
struct route_rule resource_rule(const struct resource *r);
struct nft_rule resource_nft_rule(const struct resource *r);

#endif
