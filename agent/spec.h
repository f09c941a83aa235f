// SPDX-License-Identifier: Apache-2.0
// What this host should be: the services that it serves, as configuration and directors say. Plain data. Floor 1.
#ifndef BRASS_AGENT_SPEC_H
#define BRASS_AGENT_SPEC_H

#include "shared/inet.h"
#include "shared/protocol.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SPEC_DEVICES_MAX 32

struct spec_service {
	char name[PROTOCOL_NAME_MAX + 1];
	struct inet_addr vip;
	int protocol;  // IPPROTO_TCP, IPPROTO_UDP
	uint16_t port; // of the real server
	int method;    // enum forward_method
	struct tunnel_options tunnel;
	char device[IFNAMSIZ];    // dr: where the VIP stands, "": lo
	struct inet_addr gateway; // nat: where replies go; not set: unknown
};

#define SPEC_ALLOWED_MAX 128

// Who may send tunnel packets to this host.
struct spec_lockdown {
	bool wanted;
	bool must;     // somebody asked for it: without it there is no tunnel
	bool possible; // the kernel has nftables
	struct inet_prefix allowed[SPEC_ALLOWED_MAX];
	size_t count; // 0: nobody is known, and nothing is locked
};

struct spec {
	struct inet_addr address; // RIP
	struct spec_service *services;
	size_t count;
	uint32_t table;                   // of the return route (nat); IPv6 has its own of the same number
	uint32_t priority;                // of the rules that lead to it
	uint32_t mss_table, mss_priority; // tunnels: of the routes with a smaller MSS
	uint32_t mtu;                     // of the device that has the address; 0: not known, no MSS
	const struct spec_devices {       // that could answer ARP; count 0: all
		char names[SPEC_DEVICES_MAX][IFNAMSIZ];
		size_t count;
	} * devices; // NULL: all
	struct spec_lockdown lockdown;
};

#define SPEC_DEVICE_IPIP "brass-ipip" // IPv4 in IPv4
#define SPEC_DEVICE_IP6 "brass-ip6"   // either in IPv6
#define SPEC_DEVICE_SIT "brass-sit"   // IPv6 in IPv4
#define SPEC_DEVICE_GRE "brass-gre"   // either in GRE in IPv4
#define SPEC_DEVICE_GRE6 "brass-gre6" // either in GRE in IPv6

static inline bool spec_is_our_tunnel(const char *device)
{
	static const char *const ours[] = { SPEC_DEVICE_IPIP, SPEC_DEVICE_IP6, SPEC_DEVICE_SIT, SPEC_DEVICE_GRE,
		SPEC_DEVICE_GRE6 };

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (strcmp(ours[i], device) == 0)
			return true;
	return false;
}

#endif
