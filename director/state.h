// SPDX-License-Identifier: Apache-2.0
// The director's state and the only way to change it. Floor 3.
//
// Changes are staged: a function here validates one change, writes its rows into the store's open turn, changes the
// model and notes what that touches in the kernel. state_settle ends the turn: commit (one fsync for all that came in
// one turn of the loop), VIPs, one batch to the kernel. When the store or the kernel refuses, all that was staged is
// taken back, in model, store and kernel, and whoever asked is told why; the edge then tries the changes of that turn
// one by one (api.c). A crash in between is repaired by the next start: the store says what should be and what is ours.
//
// What nobody asked for (verdicts of health, leases that run out, drains that end) takes the same way, but is never
// taken back: what the kernel refuses is logged, and the next resync tries again.
//
// Errors, for the HTTP layer: -EINVAL bad input · -ENOENT no such object · -EEXIST is there already and differs, or the
// place is taken · -EREMOTEIO the kernel refused (its words in err) · -EIO the store failed.
#ifndef BRASS_DIRECTOR_STATE_H
#define BRASS_DIRECTOR_STATE_H

#include "director/events.h"
#include "director/health.h"
#include "director/lease.h"
#include "director/model.h"
#include "director/path.h"
#include "director/reconcile.h"
#include "director/replies.h"
#include "director/store.h"
#include "director/sync.h"
#include "director/vip.h"

struct kept_verdict;
struct turned_quorum;
struct stale_row;
struct found_mark;

struct state {
	struct model model;
	// owned by whoever made the state, outlive it
	struct store *store;
	struct events *events;
	struct reconcile *reconcile;
	struct vip *vip;
	struct health *health;
	struct path *path;
	struct replies *replies;
	struct state_marks {
		uint32_t first, last;     // of checks along the path of traffic; 0: there are none
		uint32_t next;            // to be tried
		struct found_mark *found; // in the kernel, at the start
		bool exhausted;           // and that was said
		size_t stuck;             // paths with a problem
	} marks;
	msec_t reap_after_ms;
	uint32_t first_revision; // agents' revisions start here, so that they differ from those of an earlier run
	const struct check_folders *folders; // of the programs that checks may run
	bool take_all;                       // services in the kernel that we do not know are removed, not left alone
	// an agent should hear of something: wake its held request
	void (*agent_changed)(void *ctx, struct agent *agent);
	// an agent is about to go
	void (*agent_gone)(void *ctx, struct agent *agent);
	// a backend's verdict came or went without a check: it was restored, or its pulse has ended
	void (*verdict_changed)(void *ctx, struct backend *backend);
	// a backend with trouble is about to go
	void (*backend_gone)(void *ctx, struct backend *backend);
	// does IPVS leave packets alone at present, since this host is the others' backup?
	bool (*is_standby)(void *ctx);
	// there is a new deadline at due_ms (monotonic); the others have not come nearer
	void (*lease_due)(void *ctx, msec_t due_ms);
	// there is something for state_tick
	void (*tick_due)(void *ctx);
	// the quorum of a service is there, or lost, also since the service is gone; the turn that it comes of stands
	void (*quorum_changed)(void *ctx, const char *service, bool there, uint32_t up, uint32_t needed);
	// there are new events
	void (*happened)(void *ctx);
	void *ctx;
	// --- of the turn under way ---
	bool staged;  // something was asked for
	bool trim;    // it took much memory, which is the system's again afterwards
	int poisoned; // -errno: a change could not be staged wholly; the turn must be taken back
	struct err poison;
	int refused; // -errno of the first refusal of something that was asked for
	char refused_service[MODEL_NAME_MAX + 1];
	struct err why;
	struct agent *touched_agents;
	struct service *pool_services;        // whose weights are to be worked out
	struct stale_row *stale, *stale_next; // rows of the two lists of what is ours that may go now, after this turn
	struct stale_row *strange;     // and those of VIPs that this turn has found on the device: they are not ours
	struct turned_quorum *quorums; // that were something else before this turn
	struct kept_verdict *verdicts; // of backends that went in this turn: they may come back by another name
	bool restoring;                // rows are read: what they name was there before
};

// --- the turn ---

// Ends a turn. 0 also when there was nothing to do. On an error nothing of what was staged is left.
int state_settle(struct state *state, struct err *err);
// Ends a turn of things that nobody asked for.
void state_settle_facts(struct state *state);

// --- life around it: state_load.c ---

// Reads the store into the (empty) model, then makes the kernel equal to it, adopting what is there: only differences
// are written. What the store says is ours but is no longer wanted is removed. Objects that the kernel refuses are
// logged and kept.
int state_load(struct state *state, struct err *err);
// Would state_load take this row? For store_recover; what only other rows can tell is not looked at.
bool state_accepts_row(void *ctx, enum store_kind kind, const char *owner, const char *name, const char *text);
// Looks at the kernel again and repairs what differs, in slices, so that nobody waits: the first call of a verification
// reads the list of services, each call some of them. Returns the number of messages that it took, or -errno;
// *ret_done says that all were seen.
int state_verify(struct state *state, bool *ret_done, struct err *err);
// Takes services and VIPs out of the kernel; store and model stay.
void state_flush_kernel(struct state *state);
void state_clear(struct state *state);

// --- staging: state.c ---

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

// --- leaving gently: state_drain.c ---

// No new connections; the backend is deleted when it has no active one left, at the latest after wait_ms. One that is
// on its way already gets the new time.
int state_drain_backend(struct state *state, struct backend *backend, msec_t wait_ms, struct err *err);
// The same for all backends of a service, which goes with the last one, unless another backend joins it meanwhile.
int state_drain_service(struct state *state, struct service *service, msec_t wait_ms, struct err *err);
// They stay after all.
int state_undrain_backend(struct state *state, struct backend *backend, struct err *err);
int state_undrain_service(struct state *state, struct service *service, struct err *err);
// Another address, port, protocol or family: the new one is made, and the old one drains beside it under a name of its
// own (NAME.old, NAME.old2, ...).
int state_move_service(struct state *state, struct service *service, const struct service_options *options,
	msec_t wait_ms, struct err *err);
int state_move_backend(struct state *state, struct backend *backend, const struct backend_options *options,
	msec_t wait_ms, struct err *err);

// --- the whole at once: state_document.c ---

// One line of a plan. action: "add", "change" or "delete"; backend is NULL for a service; fields names what changes;
// connections are those that the kernel has now and that would end.
struct state_step {
	const char *action, *service, *backend, *fields;
	uint64_t connections;
};

struct state_document {
	json_t *services; // {"web": {..., "backends": {...}}}; taken apart on the way; NULL: next gives them
	// The next service, one at a time since all of them may be large: 1 with a name and a new reference, 0 at the
	// end, or -errno, which ends it.
	int (*next)(void *ctx, char ret_name[MODEL_NAME_MAX + 2], json_t **ret);
	bool dry_run;                                           // only tell
	void (*step)(void *ctx, const struct state_step *step); // may be NULL
	void (*mistake)(void *ctx, const struct err *err);      // every one, with its path
	void *ctx;
};

// Replaces all services and backends that agents did not make and that are not on their way out. Validated as a whole:
// -EINVAL when there was a mistake, and nothing was changed. Otherwise staged, as a minimal difference.
int state_put_document(struct state *state, const struct state_document *document, struct err *err);

// --- sync daemons: state_sync.c ---

// Keeps what was asked for, as a part of the turn; text NULL: nothing any more. 0 or -EIO.
int state_keep_sync(struct state *state, const char *text, struct err *err);
// What was kept last; none: nothing is wanted. 0 or -errno.
int state_kept_sync(struct store *store, struct sync_wanted *ret, struct err *err);

// --- agents: state_agent.c ---

// A report of an agent, whose lists are taken over (and left empty) on success.
// For checks of type agent, see check.h: is the agent of this address alive, and does it say of nothing that it serves
// at this port that it is not well?
enum check_outcome state_ask_agent(void *state, const struct inet_endpoint *real, const char **ret_why);

int state_report(
	struct state *state, const char *node, struct protocol_report *report, struct agent **ret, struct err *err);
// The agent leaves: its backends go at once.
int state_leave(struct state *state, struct agent *agent, struct err *err);
// What the agent is answered; the lists are the caller's. Connections are at most max_age_ms old.
int state_answer(struct state *state, const struct agent *agent, msec_t max_age_ms, struct protocol_answer *ret,
	struct err *err);
// The way to some hosts may be another one now.
void state_paths_changed(struct state *state);
// Leases that are due.
void state_expire(struct state *state);

// What is to be looked at every second: drains, backends that come back, events to be saved. Returns true while there
// is something.
bool state_tick(struct state *state);

// --- checks along the path of traffic: state_path.c ---

// Where a check goes now, and what became of it: struct probe_hooks, whose ctx is the state. ret->full_size is always
// filled in.
int state_aim(
	void *state, const struct inet_endpoint *to, struct probe_path *path, bool straight, struct check_target *ret);
bool state_heard(void *state, const struct check_spec *spec, struct probe_path *path, enum check_outcome outcome);
void state_asked(void *state, struct probe_path *path, enum check_outcome outcome);
// The path of traffic to a backend, for one more check of it, whatever its pulse does; it is in the kernel after the
// next settle. NULL: there is none.
struct probe_path *state_path_get(struct state *state, const struct probe_way *way);
void state_path_put(struct state *state, struct probe_path *path);
// Can checks go along it now? Otherwise they go to the real server's own address, and path->problem says why.
bool state_path_works(const struct state *state, const struct probe_path *path);
bool state_is_mark(const struct state *state, const struct ipvs_key *key); // is it out of our range?

// --- backends that answer none of their connections: state_passive.c ---

// Can it be told of this service's?
bool state_is_watched(const struct service *service);
// What the kernel counts for the backend, looked at again and again: it may ask (suspect->asked) for a look at the
// table of connections, which ends with state_looked (places: passive.h).
void state_counted(struct state *state, struct backend *backend, const struct ipvs_counted *counted, msec_t now_ms);
void state_looked(struct state *state, struct suspect *suspect, size_t places, msec_t now_ms);
// The member "unanswered" of a backend that is warned of.
void state_write_suspect(const struct backend *backend, struct out *out);

// --- what a backend's status becomes: state_status.c ---

// A pulse's verdict changed; why is what its last check said.
void state_health_changed(struct state *state, struct backend *backend, const char *why);
// Its record has become better or worse.
void state_health_recorded(struct state *state, struct backend *backend);

#endif
