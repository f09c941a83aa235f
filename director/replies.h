// SPDX-License-Identifier: Apache-2.0
// The way back of checks that go along the path of traffic: a real server answers from the VIP to the director's own
// address (DIP), and the director holds the VIP itself. Floor 2.
//
// IPv4 drops a packet whose source is one of the host's own addresses, unless accept_local is set on the device that it
// comes in by (or on all); and when the address is on another device, rp_filter=1 there (the larger of all and the
// device counts) drops it as well: 2 does not (net/ipv4/fib_frontend.c, __fib_validate_source). IPv6 has neither. The
// device is the one that packets to the real server leave by, since the DIP is chosen by that route.
//
// What is missing is set when a check first needs it, looked at again with every change of links, addresses and routes
// and at every resync, and put back by replies_restore only.
#ifndef BRASS_DIRECTOR_REPLIES_H
#define BRASS_DIRECTOR_REPLIES_H

#include "director/path.h"
#include "shared/err.h"
#include "shared/inet.h"
#include "shared/out.h"

#include <stdbool.h>

struct replies;

// path must outlive it. may_set: settings that are missing are set, not only asked for. is_vip tells the addresses that
// a check may not come from.
int replies_new(struct path *path, bool may_set, bool (*is_vip)(void *ctx, const struct inet_addr *addr), void *ctx,
	struct replies **ret, struct err *err);
void replies_free(struct replies *replies);

// Makes sure that answers of this real server from the VIP will be taken, and says which address a check has to come
// from. 0 or -errno with a sentence that says what to do.
int replies_prepare(struct replies *replies, const struct inet_addr *vip, const struct inet_addr *rip,
	struct inet_addr *ret_source, int *ret_ifindex, struct err *err);

// Has any answer from a VIP of this family come in by the device since the start? If not, perhaps this host drops them:
// a firewall that lets in what belongs to its own connections drops them, since IPVS takes the check's packets away
// from connection tracking (net/netfilter/ipvs/ip_vs_xmit.c, ip_vs_send_or_cont).
bool replies_was_heard(const struct replies *replies, int ifindex, int family);
void replies_heard(struct replies *replies, int ifindex, int family);

// Looks again at what was set: somebody may have changed it. A log line for each.
void replies_verify(struct replies *replies);
// Puts back what this process has set, unless somebody else changed it since.
void replies_restore(struct replies *replies);

// {"eth0": {"accept_local": 1, "rp_filter": 2}}: devices that checks use, with what was set there. A value into out.
void replies_write(const struct replies *replies, struct out *out);

#endif
