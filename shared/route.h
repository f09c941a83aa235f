// SPDX-License-Identifier: Apache-2.0
// Policy rules, default routes in a table of their own, and the kernel's answer to "which way?", over rtnetlink.
// Floor 2.
//
// Rules and routes that we make carry ROUTE_PROTO_BRASS (FRA_PROTOCOL, rtm_protocol), shown by `ip -d rule` and
// `ip route show table all` as "proto 181". Source: net/core/fib_rules.c (IP protocol and ports since Linux 4.17),
// net/ipv4/fib_frontend.c, net/ipv6/route.c.
#ifndef BRASS_SHARED_ROUTE_H
#define BRASS_SHARED_ROUTE_H

#include "shared/err.h"
#include "shared/inet.h"
#include "shared/netsock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROUTE_PROTO_BRASS 181

// "from ADDRESS ipproto P sport PORT lookup TABLE pref PRIORITY"
struct route_rule {
	struct inet_addr from; // not set: any
	uint8_t ip_protocol;   // 0: any
	uint16_t sport;        // 0: any
	uint32_t table;
	uint32_t priority;
	uint8_t proto; // who made it
	int family;
};

// "default via GATEWAY dev IFINDEX table TABLE"
struct route_default {
	struct inet_addr gateway;
	int ifindex;
	uint32_t table;
	uint8_t proto;
};

// New arrays, both families: the rules that struct route_rule can tell whole, and the default routes of one table.
int route_dump_rules(struct netsock *ns, struct route_rule **ret, size_t *ret_count, struct err *err);
int route_dump_defaults(
	struct netsock *ns, uint32_t table, struct route_default **ret, size_t *ret_count, struct err *err);

// -EEXIST when the very same is there.
int route_add_rule(struct netsock *ns, const struct route_rule *rule, struct err *err);
int route_del_rule(struct netsock *ns, const struct route_rule *rule, struct err *err);
int route_add_default(struct netsock *ns, const struct route_default *route, struct err *err);
int route_del_default(struct netsock *ns, const struct route_default *route, struct err *err);

// Which way packets go now.
struct route_way {
	uint8_t type; // RTN_UNICAST, RTN_LOCAL, ...
	int ifindex;
	struct inet_addr source, gateway; // gateway not set: on the link
	uint32_t mtu;                     // of the route, a learnt path MTU included; 0: the device's own
	uint32_t advmss;                  // of the route; 0: what the MTU leaves
};
// -ENETUNREACH without a route.
int route_lookup(struct netsock *ns, const struct inet_addr *to, struct route_way *ret, struct err *err);

// The same for one packet, by everything that rules can select by. With a device that it comes in by the kernel answers
// as if it had come: type RTN_LOCAL when it is for this host, -EXDEV when rp_filter would drop it.
struct route_packet {
	struct inet_addr to, from; // from not set: any
	int came_by;               // index of a device; 0: it is this host's own
	uint8_t ip_protocol;       // 0: any
	uint16_t sport, dport;     // 0: any
};
int route_lookup_packet(struct netsock *ns, const struct route_packet *packet, struct route_way *ret, struct err *err);

bool route_rule_same(const struct route_rule *a, const struct route_rule *b);

#endif
