// SPDX-License-Identifier: Apache-2.0
// What the state*.c files share and nobody else needs. Floor 3.
#ifndef BRASS_DIRECTOR_STATE_INTERNAL_H
#define BRASS_DIRECTOR_STATE_INTERNAL_H

#include "director/state.h"

// A change of several steps has failed in the middle: the turn is to be taken back. -EIO.
int state_poison(struct state *state, const struct err *why);
// One row into the turn; text NULL: away with it. A failure poisons the turn. 0 or -EIO.
int state_row(struct state *state, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err);
int state_service_row(struct state *state, const char *name, const struct service_options *options, struct err *err);
int state_backend_row(struct state *state, const char *service, const char *name, const struct backend_options *options,
	struct err *err);

// The kernel must hear of the service and all of its backends, or of one backend.
void state_touch_service(struct state *state, struct service *service);
void state_touch_backend(struct state *state, struct backend *backend);

// Into the model, with what hangs on it: VIP, agents' backends, pulse. NULL (and a poisoned turn) without memory.
struct service *state_add_service(struct state *state, const char *name, const struct service_options *options);
struct backend *state_add_backend(
	struct state *state, struct service *service, const char *name, const struct backend_options *options);
// Other options, with what hangs on them; key and place may change. 0 or -EIO.
int state_change_service(struct state *state, struct service *service, const struct service_options *options);
int state_change_backend(struct state *state, struct backend *backend, const struct backend_options *options);
// Out of the model, with pulse and VIP; rows are the caller's business.
void state_drop_service(struct state *state, struct service *service);
void state_drop_backend(struct state *state, struct backend *backend);

// Rows of everything that a backend may have but its options, deleted.
int state_delete_backend_rows(struct state *state, const struct backend *backend, struct err *err);

// -- state_path.c
// Reads the marks that an earlier run has left in the kernel, so that paths find them again; then lets go of those that
// nobody asked for.
void state_find_marks(struct state *state);
void state_sweep_marks(struct state *state);
// The kernel has refused a path's service.
void state_path_refused(struct state *state, struct probe_path *path, const struct err *why);
// Firewall marks of checks are not for services. 0 or -EINVAL.
int state_check_mark(const struct state *state, const struct service_options *options, struct err *err);

// Is the place of a service, or of a backend, free (or its own)? 0 or -EEXIST.
// Has the kernel what these options ask for, and the service, if there is one, did not? -- state_turn.c
int state_check_kernel(
	struct state *state, const struct service *old, const struct service_options *options, struct err *err);
int state_check_key(
	const struct state *state, const struct service *self, const struct service_options *options, struct err *err);
int state_check_place(const struct service *service, const struct backend *self, const struct backend_options *options,
	struct err *err);

// Is this a copy of an agent's backend, in a service that has moved? Then its host keeps the old VIP while it drains.
bool state_host_has_moved(const struct state *state, const struct backend *backend); // -- state_agent.c
// A backend of a service that has moved is going: its host may let go of the VIP.
void state_touch_host_of(struct state *state, const struct backend *backend); // -- state_agent.c

// Not refused, because the setting may come later; but nothing else would say why no reply arrives.
void state_warn_of_forwarding(const struct backend *backend);

// A service that was leaving stays after all: somebody joins it, or one of its backends stays. -- state_drain.c
int state_stay(struct state *state, struct service *service, struct err *err);

// Puts the backends into this service that agents have reported for it, in the model only.
void state_bind_agents(struct state *state, struct service *service);
// Drops a backend that was made through the API. The agent that waited for its name or place gets it.
void state_make_room(struct state *state, struct backend *backend);

// The agent should hear of something, at the end of the turn.
void state_touch_agent(struct state *state, struct agent *agent);
// Hears of it when our tunnel packets to it have come to leave from another address.
void state_look_at_source(struct state *state, struct agent *agent);
void state_touch_agents_of(struct state *state, const char *service);
void state_untouch_agent(struct state *state, struct agent *agent);
// An agent's row into the model, or out of it (text NULL). 0 or -errno.
int state_restore_agent(struct state *state, const char *node, const char *text, struct err *err);

bool state_agent_row_ok(const char *text);

// The backend's pulse, as it is now: begun, begun anew or ended, with the path that it takes. is_new: the backend has
// just been made, and what is known of its real server from before counts; one that gets its first pulse later is up
// until the pulse says otherwise. -- state_status.c
void state_watch(struct state *state, struct backend *backend, bool is_new);
// It goes, before the backend does; its verdict is kept for the rest of the turn.
void state_unwatch(struct state *state, struct backend *backend);
void state_forget_verdicts(struct state *state);
// Has its status become another one? Whoever changes a fact that it follows from calls this. why: of a change for the
// better, or NULL.
void state_note_status(struct state *state, struct backend *backend, const char *why);
// It is new: what it is now is no change.
void state_begin_status(struct backend *backend);
// Parts of state_tick. They return true while there is something.
bool state_comeback_tick(struct state *state);
bool state_drain_tick(struct state *state);   // -- state_drain.c
bool state_suspect_tick(struct state *state); // -- state_passive.c

// Any row into the model, or out of it (text NULL): taking a turn back is loading the rows of before. -- state_load.c
void state_restore_row(void *state, enum store_kind kind, const char *owner, const char *name, const char *text);

// The quorum of a service has become another one, or goes with it. -- state_turn.c
void state_note_quorum(struct state *state, const struct service *service, enum pool_quorum was);
void state_forget_quorums(struct state *state);

// The service's key is no longer used: its row in the list of what is ours goes with a later turn. -- state_turn.c
void state_note_stale_key(struct state *state, const struct ipvs_key *key);
void state_free_stale(struct state *state);

#endif
