// SPDX-License-Identifier: Apache-2.0
// VIPs on the director: each as /32 or /128 on one device, announced to the neighbours. Floor 3.
//
// A VIP is counted by the services that use it: it comes with the first and goes with the last. One that was there
// before (put there by a person, or by an earlier run of ours that owned_before tells of) is used; only what is ours is
// removed. IPv6 VIPs get no duplicate detection and preferred lifetime 0, so that the host never takes one as its own
// source.
//
// Announcing: gratuitous ARP (RFC 5227 section 3, RFC 826) and unsolicited neighbour advertisements (RFC 4861 section
// 7.2.6) from every Ethernet device that is up, at once and again after 1 s and 3 s: Linux neighbours ignore an update
// for 1 s after the last one (locktime).
#ifndef BRASS_DIRECTOR_VIP_H
#define BRASS_DIRECTOR_VIP_H

#include "shared/err.h"
#include "shared/inet.h"
#include "shared/util.h"

#include <stdbool.h>
#include <uv.h>

struct vip;

// device: the name of the device that gets the VIPs, created as a dummy device when it does not exist; "none": VIPs are
// someone else's business, nothing is added and nothing announced.
int vip_new(uv_loop_t *loop, const char *device, struct vip **ret, struct err *err);
void vip_free(struct vip *vip); // addresses stay
DEFINE_CLEANUP(struct vip *, vip_free)

// One more service uses the address. owned_before: the store says that we made it in an earlier run.
// *ret_owned: it is ours to remove.
int vip_hold(struct vip *vip, const struct inet_addr *addr, bool owned_before, bool *ret_owned, struct err *err);
// One less. When it was the last and the address is ours it is removed; *ret_gone says that nobody uses it any more.
int vip_drop(struct vip *vip, const struct inet_addr *addr, bool *ret_gone, struct err *err);
// Removes an address that an earlier run of ours made and nobody uses.
int vip_remove_stale(struct vip *vip, const struct inet_addr *addr, struct err *err);
// Puts back what someone else took away. Returns the number of addresses added again, or -errno.
int vip_verify(struct vip *vip, struct err *err);

#endif
