// SPDX-License-Identifier: Apache-2.0
// A routing table of ours that holds what "main" holds, each route with a smaller advmss: what TCP tells the other side
// to send at most. Floor 2.
//
// Routes are compared and copied as the kernel prints them, so that several next hops, encapsulations and nexthop
// objects are copied as they are. What the kernel learns of a route (cache, dead next hops) is left out, and routes of
// other types than unicast, blackhole, unreachable, prohibit and throw. Ours carry ROUTE_PROTO_BRASS; others in the
// table are left alone. Source: net/ipv4/fib_semantics.c (fib_dump_info), net/ipv6/route.c (rt6_fill_node).
#ifndef BRASS_SHARED_ROUTE_MIRROR_H
#define BRASS_SHARED_ROUTE_MIRROR_H

#include "shared/err.h"
#include "shared/netsock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROUTE_MIRROR_MAX 4096 // routes; a host with more is a router, and is not copied

struct route_mirror {
	int family;
	uint32_t table, advmss;
	void **missing, **extra; // messages to be sent
	size_t missing_count, extra_count;
};

// Reads both tables. advmss 0: nothing is wanted, all of ours is extra. -E2BIG: "main" has more than ROUTE_MIRROR_MAX
// routes. Freed with route_mirror_clear.
int route_mirror_read(
	struct netsock *ns, int family, uint32_t table, uint32_t advmss, struct route_mirror *ret, struct err *err);
// Makes the table equal: what is extra goes, what is missing comes. The first refusal is the result.
int route_mirror_apply(struct netsock *ns, const struct route_mirror *mirror, struct err *err);
void route_mirror_clear(struct route_mirror *mirror);

#endif
