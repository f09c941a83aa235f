// SPDX-License-Identifier: Apache-2.0
// Makes the kernel's table equal to the desired one, and remembers what the kernel holds. The only caller of IPVS
// changes. Floor 3.
//
// What the kernel holds is kept in memory and trusted between verifications: a change costs its own messages and no
// dump. A refusal makes us look again: the service is dumped, and what was refused because our picture was wrong is
// tried once more.
#ifndef BRASS_DIRECTOR_RECONCILE_H
#define BRASS_DIRECTOR_RECONCILE_H

#include "director/desired.h"
#include "director/ipvs.h"
#include "director/model.h"

struct reconcile;

int reconcile_new(struct ipvs *ipvs, struct reconcile **ret, struct err *err);
void reconcile_free(struct reconcile *r);

// Reads the kernel's whole table. To be called first, and whenever it may have changed behind our back.
int reconcile_observe(struct reconcile *r, struct err *err);

// Makes one service and its destinations as desired, in one batch. 0, or the kernel's -errno with its words; then the
// kernel holds what it accepted, and what it holds is known.
int reconcile_service(struct reconcile *r, const struct service *service, struct err *err);

// Takes a service out of the kernel. 0 also when it was not there.
int reconcile_remove(struct reconcile *r, const struct ipvs_key *key, struct err *err);

// Does the kernel hold this service (as far as we know)?
bool reconcile_knows(const struct reconcile *r, const struct ipvs_key *key);

// Counters and connections of a service's destinations, at most max_age_ms old. The array is sorted by ipvs_dest_cmp
// and valid until the next call for this service.
int reconcile_stats(struct reconcile *r, const struct ipvs_key *key, msec_t max_age_ms, const struct ipvs_dest **ret,
	size_t *ret_count, struct err *err);
// The service's own counters, as they are now; zeros when the kernel does not have it.
void reconcile_service_stats(struct reconcile *r, const struct ipvs_key *key, struct ipvs_stats *ret);

// Walks what the kernel holds: each(ctx, key, number of destinations).
void reconcile_each(
	const struct reconcile *r, void (*each)(void *ctx, const struct ipvs_key *key, size_t dests), void *ctx);

// Messages sent to the kernel since the start.
size_t reconcile_messages(const struct reconcile *r);

#endif
