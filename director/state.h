// SPDX-License-Identifier: Apache-2.0
// The director's state and the only way to change it: each function here takes one change through validation, store,
// model and kernel, and undoes all of it when one of them refuses. Floor 3.
//
// Order of a change: validate; commit it to the store (with what it will make in the kernel); change the model;
// reconcile the kernel. A crash in between is repaired by the next start: the store says what should be and what is
// ours. If the kernel refuses, model and store go back to what they were.
//
// Errors, for the HTTP layer: -EINVAL bad input · -ENOENT no such object · -EEXIST is there already and differs, or the
// place is taken · -EREMOTEIO the kernel refused (its words in err) · -EIO the store failed.
#ifndef BRASS_DIRECTOR_STATE_H
#define BRASS_DIRECTOR_STATE_H

#include "director/health.h"
#include "director/lease.h"
#include "director/model.h"
#include "director/reconcile.h"
#include "director/store.h"
#include "director/vip.h"

struct state {
	struct model model;
	// owned by whoever made the state, outlive it
	struct store *store;
	struct reconcile *reconcile;
	struct vip *vip;
	struct health *health;
	msec_t reap_after_ms;
	uint32_t first_revision; // agents' revisions start here, so that they differ from those of an earlier run
	// an agent should hear of something: wake its held request
	void (*agent_changed)(void *ctx, struct agent *agent);
	// an agent is about to go
	void (*agent_gone)(void *ctx, struct agent *agent);
	// there is a new deadline at due_ms (monotonic); the others have not come nearer
	void (*lease_due)(void *ctx, msec_t due_ms);
	void *ctx;
};

// Reads the store into the (empty) model, then makes the kernel equal to it, adopting what is there: only differences
// are written. What the store says is ours but is no longer wanted is removed. Objects that the kernel refuses are
// logged and kept.
int state_load(struct state *state, struct err *err);
// Looks at the kernel again and repairs what differs. Returns the number of messages that it took, or -errno.
int state_resync(struct state *state, struct err *err);
// Takes services and VIPs out of the kernel; store and model stay.
void state_flush_kernel(struct state *state);
void state_clear(struct state *state);

// An object that is there and equal is fine, and nothing is changed.
int state_put_service(struct state *state, const char *name, const struct service_options *options, struct err *err);
int state_set_service(
	struct state *state, struct service *service, const struct service_options *options, struct err *err);
int state_delete_service(struct state *state, struct service *service, struct err *err);

int state_put_backend(struct state *state, struct service *service, const char *name,
	const struct backend_options *options, struct err *err);
int state_set_backend(
	struct state *state, struct backend *backend, const struct backend_options *options, struct err *err);
int state_delete_backend(struct state *state, struct backend *backend, struct err *err);

// A report of an agent, whose lists are taken over (and left empty) on success.
int state_report(
	struct state *state, const char *node, struct protocol_report *report, struct agent **ret, struct err *err);
// The agent leaves: its backends go at once.
int state_leave(struct state *state, struct agent *agent, struct err *err);
// What the agent is answered; the lists are the caller's. Connections are at most max_age_ms old.
int state_answer(struct state *state, const struct agent *agent, msec_t max_age_ms, struct protocol_answer *ret,
	struct err *err);
// Leases that are due.
void state_expire(struct state *state);

// A pulse's verdict changed.
void state_health_changed(struct state *state, struct backend *backend);

#endif
