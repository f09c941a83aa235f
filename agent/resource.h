// SPDX-License-Identifier: Apache-2.0
// One thing in the kernel that the agent sets up: a UDP port of GUE, a device, a device setting, a route, a rule, an
// address. Floor 1.
//
// The order of the kinds is the order of setting up, and its reverse the order of taking down: a device before its
// settings, settings (NoARP) and the way back before addresses. A VIP never exists for a moment on a host that would
// answer ARP for it.
#ifndef BRASS_AGENT_RESOURCE_H
#define BRASS_AGENT_RESOURCE_H

#include "shared/err.h"
#include "shared/inet.h"
#include "shared/route.h"

#include <jansson.h>
#include <net/if.h>
#include <stdint.h>

enum resource_kind {
	RESOURCE_FOU,
	RESOURCE_DEVICE,
	RESOURCE_CONF,
	RESOURCE_MIRROR, // table "main" with a smaller MSS (route_mirror.h)
	RESOURCE_ROUTE,
	RESOURCE_RULE,
	RESOURCE_VIP,
};

struct resource {
	enum resource_kind kind;
	char dev[IFNAMSIZ];   // DEVICE, CONF, VIP
	char device_kind[16]; // DEVICE: "ipip", "ip6tnl", "sit", "gre", "ip6gre", "dummy"
	struct inet_addr
		addr;     // FOU, DEVICE: local end; VIP: the address; ROUTE: the gateway; RULE: from; MIRROR: family
	int conf;         // CONF: IPV4_DEVCONF_*
	int32_t value;    // CONF: what it is set to; DEVICE: 1: gre with checksums; MIRROR: the MSS
	int32_t original; // CONF, in the journal: what it was before
	uint32_t table, priority; // MIRROR, ROUTE, RULE
	uint8_t ip_protocol;      // RULE; 0: any
	uint16_t sport;           // RULE; 0: any. FOU: the UDP port
};

// Order of setting up; 0 for the same thing (a CONF with another value, a DEVICE with another end are the same thing).
int resource_cmp(const struct resource *a, const struct resource *b);
// The same thing and the same content.
bool resource_same(const struct resource *a, const struct resource *b);

// "arp_ignore", ... for the settings that we use; NULL else. And the reverse, 0 when unknown.
const char *resource_conf_name(int conf);
int resource_conf_number(const char *name);

// A setting without which this host would answer ARP for a VIP.
bool resource_keeps_arp_quiet(const struct resource *r);

// The command that a person would type to make it (added) or to take it away.
#define RESOURCE_COMMAND_MAX 256
const char *resource_command(const struct resource *r, bool added, char buf[RESOURCE_COMMAND_MAX]);

// For the journal. resource_from_json returns 0 or -EINVAL.
json_t *resource_to_json(const struct resource *r);
int resource_from_json(const json_t *json, struct resource *ret);

// The rule of a RESOURCE_RULE.
struct route_rule resource_rule(const struct resource *r);

#endif
