// SPDX-License-Identifier: Apache-2.0
// Leases of agents: renewed by every report, lost when silent for ttl, reaped when silent for long. Floor 2.
//
//   held --(ttl without a report)--> lost --(reap time)--> gone
//    ^-------------(report)-----------'
//
// Times are handed in, so that all of it can be tested without a clock.
#ifndef BRASS_DIRECTOR_LEASE_H
#define BRASS_DIRECTOR_LEASE_H

#include "director/model.h"

// A report came in: a lease held until now + ttl. Returns true when the agent had been lost.
bool lease_renew(struct agent *agent, msec_t now_ms, msec_t reap_after_ms);

// What has come due at now: lost is called for each agent that just became lost (its flag is already set), reap for
// each whose reap time is over; reap may remove the agent.
void lease_expire(struct model *model, msec_t now_ms, void (*lost)(void *ctx, struct agent *agent),
	void (*reap)(void *ctx, struct agent *agent), void *ctx);

// Nobody was listened to for so long: all leases are that much longer.
void lease_stretch(struct model *model, msec_t by_ms);

// The next time at which lease_expire has work, -1 when there is none.
msec_t lease_next(const struct model *model);

#endif
