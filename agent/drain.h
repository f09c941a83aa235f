// SPDX-License-Identifier: Apache-2.0
// Leaving without losing a connection: what is still open, and when waiting is over. Floor 5.
//
// The directors have been told (weight 0); then it is over when they count no active connection and this host has no
// open socket of the services, some looks in a row; or when this host, which has the programs, has had none for longer,
// whatever the directors count; or when the time is over. In dr and tunnels a director never sees the server's FIN, so
// its count alone lags behind.
#ifndef BRASS_AGENT_DRAIN_H
#define BRASS_AGENT_DRAIN_H

#include "agent/services.h"
#include "shared/clock.h"

#include <stddef.h>

#define DRAIN_LOOK_MS 100 // between two looks

struct drain {
	msec_t end_ms;             // by clock_now_ms
	size_t at_directors, here; // open in the last look
	// private
	int quiet_looks, silent_looks;
};

void drain_begin(struct drain *drain, msec_t limit_ms);
// One look. Why it is over; NULL: it is not.
const char *drain_look(struct drain *drain, const struct services *services);

#endif
