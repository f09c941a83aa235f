// SPDX-License-Identifier: Apache-2.0
// What reconcile.c and reconcile_gather.c share and nobody else needs. Floor 3.
#ifndef BRASS_DIRECTOR_RECONCILE_INTERNAL_H
#define BRASS_DIRECTOR_RECONCILE_INTERNAL_H

#include "director/reconcile.h"

#include "director/known.h"
#include "director/proven.h"
#include "director/reconcile_taken.h"
#include "shared/clock.h"

struct touched {
	struct ipvs_key key;
	struct inet_endpoint to; // of one destination
	bool whole;              // the service and all of its destinations
};

// One message of the batch under way.
struct op {
	enum ipvs_verb verb;
	bool is_service;
	int error;
	size_t service; // index into works
	struct ipvs_dest dest;
	struct err *why; // owned; NULL when it was taken
};

// One service of the batch under way.
struct work {
	struct ipvs_key key;
	bool wanted;                   // else it shall go
	const struct service *service; // that it is; NULL: a path of checks, say
	bool whole, refused;
	bool wrong, own; // refused: since our picture was wrong; the service itself, for another reason
	bool adds, kept; // the service is new in the kernel; it was not refused itself
	bool first;      // taken over: its destinations come when the service itself was taken
	bool restores;   // to go, and somebody else's was there before this turn: that comes back
	struct ipvs_service want;
	struct ipvs_dest *dests; // whole: what was asked for, owned
	size_t count;
};

struct reconcile {
	struct ipvs *ipvs;
	struct known_table table;
	struct proven proven;
	struct taken *taken;
	struct touched *touched;
	size_t touched_count, touched_room;
	bool no_memory; // to note what was touched
	bool blind;     // what the kernel holds is not known
	struct work *works;
	size_t work_count, work_room;
	struct op *ops;
	size_t op_count, op_room;
	// the last statistics that were asked for
	struct ipvs_key stats_key;
	struct ipvs_counted *stats;
	size_t stats_count;
	msec_t stats_ms; // 0: none
};

// What was touched becomes works and operations, queued in the IPVS socket's batch. items are put in order. 0 or
// -ENOMEM.
int reconcile_gather(struct reconcile *r, const struct model *model, struct touched *items, size_t count);

#endif
