// SPDX-License-Identifier: Apache-2.0
// The ordered list of what has to be done: desired against what we made (the journal) against what is there. Pure, and
// printable before it is run. Floor 3.
//
// Things that are no longer wanted go first, in the reverse order of setting up; then what is missing comes, in the
// order of setting up. Only what the journal says is ours is removed or changed; a foreign thing in the way is a
// conflict. While this host would answer ARP for them, whatever the settings planned, our IPv4 VIPs go.
#ifndef BRASS_AGENT_PLAN_H
#define BRASS_AGENT_PLAN_H

#include "agent/desired.h"
#include "agent/observe.h"
#include "agent/resource.h"

enum plan_verb {
	PLAN_ADD,      // make it, and remember that it is ours
	PLAN_REPAIR,   // it is ours, but gone or changed: make it again
	PLAN_REMOVE,   // take it away, or give back the original value
	PLAN_CONFLICT, // cannot be done; why says so
};

struct plan_op {
	enum plan_verb verb;
	struct resource resource; // a CONF carries its original
	char why[160];            // of a conflict, or of a failure in apply
	int error;                // set by apply: 0 done, else -errno
};

struct plan {
	struct plan_op *ops;
	size_t count, room;
};

int plan_make(const struct resource_list *desired, const struct resource_list *journal, const struct observed *observed,
	struct plan *ret);
// This repair is not for now; nor is what stands on it.
void plan_hold(struct plan *plan, size_t op, const char *why);
// What is made for another end or value goes now, and comes by the next plan, when the journal knows that it went: a
// journal that has the new one while the old one stands would not know whose that is.
void plan_put_off(struct plan *plan);
void plan_clear(struct plan *plan);
// Operations that change something (all but conflicts).
size_t plan_changes(const struct plan *plan);

#endif
