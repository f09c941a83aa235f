// SPDX-License-Identifier: Apache-2.0
// Looks at what the kernel counts for real servers, to find those that answer nothing (passive.h). Floor 3.
//
// A round goes over all TCP services: the counters of the service, and those of its destinations if it has traffic or a
// suspect. Rounds begin every five seconds, unless that were too much: it is a slice of a millisecond at a time, and
// after each it rests so long that rounds take 1 % of the time at most. A round of a large table lasts accordingly. At
// the end the table of connections is read, once for all suspects, and only if there are any: 8,192 connections and
// 50 ms at most.
#ifndef BRASS_DIRECTOR_TRAFFIC_H
#define BRASS_DIRECTOR_TRAFFIC_H

#include "director/state.h"

#include <uv.h>

struct traffic;

int traffic_new(uv_loop_t *loop, struct state *state, struct traffic **ret, struct err *err);
void traffic_free(
	struct traffic *traffic); // before the state is cleared; its memory goes when the loop has run once more

#endif
