// SPDX-License-Identifier: Apache-2.0
// Says when the host may have changed: events of rtnetlink and nftables at once, and a periodic look for what sends
// none. Floor 3.
//
// Events are only wake-ups. Many in a row are one: the next look comes at once, but not within 20 ms of the last.
#ifndef BRASS_AGENT_MONITOR_H
#define BRASS_AGENT_MONITOR_H

#include "shared/clock.h"
#include "shared/err.h"

#include <stdbool.h>
#include <uv.h>

struct monitor;

// look is called from the loop when it is time to look at the host again.
int monitor_new(
	uv_loop_t *loop, msec_t interval_ms, void (*look)(void *ctx), void *ctx, struct monitor **ret, struct err *err);
// Something else than the kernel changed what is wanted.
void monitor_wake(struct monitor *monitor);
// Does a change of the main routing table matter? At first it does not.
void monitor_watch_main(struct monitor *monitor, bool matters);
// Our table of nftables matters from now on.
void monitor_watch_nft(struct monitor *monitor);
void monitor_free(struct monitor *monitor);

#endif
