// SPDX-License-Identifier: Apache-2.0
// Who may send tunnel packets to this host: the table, rules and locks that a tunnel needs. Pure. Floor 3.
//
// A tunnel device of ours takes what comes to this host's address (RIP) by its protocols from anybody, and an attacker
// who forges the inner source is inside. So packets to the RIP by these protocols, and to a UDP port of GUE, are taken
// from the directors only. What is sent to other addresses of this host never reaches our devices and is not looked at.
//
// Somebody else's tunnel may have the same protocol and address. The kernel gives a packet to the device with the
// closest match (net/ipv4/ip_tunnel.c, ip_tunnel_lookup; net/ipv6/ip6_tunnel.c, ip6_tnl_lookup): the remote end of such
// a device may send, by its protocol. A device without a remote end takes from anybody; beside one that is up its
// protocols are not locked, unless that was asked for.
#ifndef BRASS_AGENT_LOCKDOWN_H
#define BRASS_AGENT_LOCKDOWN_H

#include "agent/resource_list.h"
#include "agent/spec.h"
#include "shared/iflink.h"

// Nothing of this spec can be locked although that was asked for: then no tunnel is wanted either.
bool lockdown_refuses(const struct spec *spec);

// Adds what a tunnel device of this kind on the RIP needs, and a UDP port of GUE (0: none). 0 or -ENOMEM.
int lockdown_add(const struct spec *spec, const char *kind, uint16_t port, const struct iflink *links, size_t count,
	struct resource_list *list);

// "on", or why not, or not for all.
void lockdown_text(const struct spec *spec, const struct iflink *links, size_t count, char *buf, size_t size);

#endif
