// SPDX-License-Identifier: Apache-2.0
// VIPs on the director: each as /32 or /128 on one device, announced to the neighbours. Floor 3.
//
// A VIP is counted by the services that use it: it comes with the first and goes with the last. One that was there
// before (put there by a person, or by an earlier run of ours that vip_was_owned tells of) is used; only what is ours
// is removed. IPv6 VIPs get no duplicate detection and preferred lifetime 0, so that the host never takes one as its
// own source.
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

// One more service uses the address, one less. Only counted: vip_settle and vip_release carry it out.
int vip_want(struct vip *vip, const struct inet_addr *addr); // 0 or -ENOMEM
void vip_unwant(struct vip *vip, const struct inet_addr *addr);
bool vip_is_managed(const struct vip *vip); // device is not "none"
void vip_unwant_all(struct vip *vip);
bool vip_is_wanted(const struct vip *vip, const struct inet_addr *addr);
// The store says that we made this address in an earlier run; to be said before vip_settle.
void vip_was_owned(struct vip *vip, const struct inet_addr *addr);

// Adds what is wanted and not there. foreign is told of addresses that were there before us: they are not ours to
// remove. On an error the rest is still to be done.
int vip_settle(struct vip *vip, void (*foreign)(void *ctx, const struct inet_addr *addr), void *ctx, struct err *err);
// Removes what is ours and no longer wanted; gone is told of each address that is settled with.
int vip_release(struct vip *vip, void (*gone)(void *ctx, const struct inet_addr *addr), void *ctx, struct err *err);
// Removes an address that an earlier run of ours made and nobody uses.
int vip_remove_stale(struct vip *vip, const struct inet_addr *addr, struct err *err);
// Puts back what someone else took away. Returns the number of addresses added again, or -errno.
int vip_verify(struct vip *vip, struct err *err);

#endif
