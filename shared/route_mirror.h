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

// A route's message: struct rtmsg and attributes. The copy's own table is put in when it is sent.
struct route_copy {
	uint32_t len;
	unsigned char bytes[];
};

struct route_mirror {
	int family;
	uint32_t table, advmss;
	struct route_copy **missing, **extra; // to be sent
	size_t missing_count, extra_count;
};

// Reads both tables. advmss 0: nothing is wanted, all of ours is extra. -E2BIG: "main" has more than ROUTE_MIRROR_MAX
// routes. Freed with route_mirror_clear.
int route_mirror_read(
	struct netsock *ns, int family, uint32_t table, uint32_t advmss, struct route_mirror *ret, struct err *err);
// Makes the table equal: what is extra goes, what is missing comes. The first refusal is the result.
int route_mirror_apply(struct netsock *ns, const struct route_mirror *mirror, struct err *err);
// A copy as words of ip(8), behind "ip -4 route add": "default via 10.0.0.1 dev eth0 advmss 1440 table 4673 proto 181".
// -EOPNOTSUPP: it has something that is not said here (an encapsulation, say). Other values are -errno as well.
int route_mirror_words(const struct route_mirror *mirror, const struct route_copy *copy, char *buf, size_t size);
void route_mirror_clear(struct route_mirror *mirror);

#endif
