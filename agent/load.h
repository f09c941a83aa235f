// SPDX-License-Identifier: Apache-2.0
// How much of its weight this host can carry: CPU pressure and listen queues that overflow. Floor 4.
//
// /proc/pressure/cpu says which share of the last 10 s some task waited for a CPU (Documentation/accounting/psi.rst);
// /proc/net/netstat counts connections that a full listen queue turned away (TcpExt, ListenOverflows). The share that
// is left falls quickly and rises slowly, and small changes are kept to itself: each is a message to every director.
#ifndef BRASS_AGENT_LOAD_H
#define BRASS_AGENT_LOAD_H

#include "shared/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

// One look every 2 s.
struct load_state {
	double share; // 0 to 1: of its weight, this much
	double told;  // the share that counts outside
	uint64_t overflows;
	bool begun;
};

// pressure: percent of the time in which a task waited, below 0: not known; overflows: the counter. Returns whether
// `told` has changed. Pure.
bool load_judge(struct load_state *state, double pressure, uint64_t overflows);
// The weight between its bounds. Pure.
uint32_t load_weight(uint32_t base, uint32_t min, double share);

struct load;

int load_new(uv_loop_t *loop, void (*changed)(void *ctx), void *ctx, struct load **ret, struct err *err);
void load_free(struct load *load);          // its memory goes when the loop has run once more; NULL is allowed
double load_share(const struct load *load); // 1 without a load

#endif
