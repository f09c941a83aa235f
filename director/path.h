// SPDX-License-Identifier: Apache-2.0
// How large a packet may be on its way to a real server. Floor 2.
//
// The MTU is that of the route to the real server's address, as the kernel would choose it now: the route's own (a
// learnt path MTU included) or the output device's. The source address is the one that the kernel chooses for it. What
// is known is kept until a route, rule, address or link changes, and for 10 s at most, since a path MTU that is learnt
// from an ICMP message is announced to nobody.
#ifndef BRASS_DIRECTOR_PATH_H
#define BRASS_DIRECTOR_PATH_H

#include "shared/clock.h"
#include "shared/err.h"
#include "shared/inet.h"
#include "shared/util.h"

#include <stdint.h>
#include <uv.h>

struct path;

// changed is called some time after the ways may have changed; never so often that what it does takes the better part
// of the time.
int path_new(uv_loop_t *loop, void (*changed)(void *ctx), void *ctx, struct path **ret, struct err *err);
void path_free(struct path *path); // its memory goes when the loop has run once more
DEFINE_CLEANUP(struct path *, path_free)

// MTU of the way to an address, in bytes. 0 or -errno, -ENETUNREACH without a route.
int path_mtu(struct path *path, const struct inet_addr *to, msec_t now_ms, uint32_t *ret, struct err *err);

// The address that packets of our own to an address leave from, as above.
int path_source(struct path *path, const struct inet_addr *to, msec_t now_ms, struct inet_addr *ret, struct err *err);

#endif
