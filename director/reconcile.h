// SPDX-License-Identifier: Apache-2.0
// Makes the kernel's table equal to the desired one, and remembers what the kernel holds. The only caller of IPVS
// changes. Floor 3.
//
// Whoever changes the model says what he touched; reconcile_settle then sends the difference in one batch. What the
// kernel holds is kept in memory and trusted between verifications: a change costs its own messages, no dump, and no
// work that grows with the table. A refusal makes us look again: the service is dumped, and what was refused because
// our picture was wrong is tried once more.
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

// The same in slices, so that nobody waits for a large table: start reads the list of services, each next reads the
// destinations of one of them and tells its key. next returns 1, 0 when all were seen, or -errno.
int reconcile_verify_start(struct reconcile *r, struct err *err);
int reconcile_verify_next(struct reconcile *r, struct ipvs_key *ret, struct err *err);
bool reconcile_verifying(const struct reconcile *r);

// Something about this service, or about one destination of it, has changed in the model, or it has gone. Without
// memory the next settle fails.
void reconcile_touch(struct reconcile *r, const struct ipvs_key *key);
void reconcile_touch_dest(struct reconcile *r, const struct ipvs_key *key, const struct inet_endpoint *to);

// Has the kernel this scheduler and this persistence engine ("": none), or can it load them? 0: yes, or nobody knows;
// -ENOENT: no. A message or two for each pair, once. *ret_left: the service that it took to find out may be left behind
// in the kernel; it is ours, and goes with a settle.
int reconcile_prove(
	struct reconcile *r, const char *scheduler, const char *engine, bool *ret_left, struct ipvs_key *ret_key);

// What the kernel would not take: a service (to is NULL) or one of its destinations.
typedef void (*reconcile_refused_fn)(
	void *ctx, const struct ipvs_key *key, const struct inet_endpoint *to, int error, const struct err *why);

// Makes what was touched as the model has it, its paths of checks included; keys that the model does not have are
// removed, if they are ours. Refusals
// are told one by one; what the kernel accepted is known. 0, or -errno when the kernel could not be spoken to: then the
// rest stays touched.
int reconcile_settle(
	struct reconcile *r, const struct model *model, reconcile_refused_fn refused, void *ctx, struct err *err);

// The turn is over: what it took over from somebody else is ours. Before that, what the model no longer has at such a
// place becomes again as it was.
void reconcile_stands(struct reconcile *r);

// A service in the kernel is ours to remove, though the model does not have it: what we made, or take over by a settle,
// is so by itself.
void reconcile_claim(struct reconcile *r, const struct ipvs_key *key);

// Does the kernel hold this service (as far as we know)?
bool reconcile_knows(const struct reconcile *r, const struct ipvs_key *key);
// Does it send anything new to this destination (as far as we know)?
bool reconcile_serves(const struct reconcile *r, const struct ipvs_key *key, const struct inet_endpoint *to);
// Is it ours, and still there as far as we know?
bool reconcile_owns(const struct reconcile *r, const struct ipvs_key *key);

// Counters and connections of a service's destinations, at most max_age_ms old (0: read now). The array is sorted by
// ipvs_dest_cmp and valid until the next call.
int reconcile_stats(struct reconcile *r, const struct ipvs_key *key, msec_t max_age_ms, const struct ipvs_counted **ret,
	size_t *ret_count, struct err *err);
// The same, read now, in an array that is the caller's to free.
int reconcile_read_stats(
	struct reconcile *r, const struct ipvs_key *key, struct ipvs_counted **ret, size_t *ret_count, struct err *err);
// The one of this backend in such an array, NULL when it is not there.
const struct ipvs_counted *reconcile_find(
	const struct ipvs_counted *counted, size_t count, const struct backend *backend);
// The service's own counters, as they are now; zeros when the kernel does not have it.
void reconcile_service_stats(struct reconcile *r, const struct ipvs_key *key, struct ipvs_stats *ret);

// The destination of a service that has only one, as far as we know; NULL: it is not there, or has another number.
const struct ipvs_dest *reconcile_only_dest(const struct reconcile *r, const struct ipvs_key *key);

// Walks what the kernel holds: each(ctx, key, number of destinations).
void reconcile_each(
	const struct reconcile *r, void (*each)(void *ctx, const struct ipvs_key *key, size_t dests), void *ctx);

// Messages sent to the kernel since the start.
size_t reconcile_messages(const struct reconcile *r);

#endif
