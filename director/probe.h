// SPDX-License-Identifier: Apache-2.0
// Runs of checks, shared: checks that are equal (kind, arguments, time limit, place and path) are one probe, however
// many backends need it, and run once for all of them. Floor 2.
//
// Every user keeps its own times, but those of equal intervals are due together. Who asks for a run while one is under
// way gets its result; who asks when the last result is young enough gets that; so between all users of a probe there
// is about one run an interval.
#ifndef BRASS_DIRECTOR_PROBE_H
#define BRASS_DIRECTOR_PROBE_H

#include "director/model.h"
#include "shared/check.h"

#include <stdbool.h>

struct probes;
struct probe;

// What the owner knows of paths.
struct probe_hooks {
	// says where a run goes now: to, or the VIP to, along the path; straight: to the real server's own address all
	// the same. -EINPROGRESS: the path is not ready yet (-EAGAIN is what fork(2) says, too)
	int (*aim)(void *ctx, const struct inet_endpoint *to, struct probe_path *path, bool straight,
		struct check_target *ret);
	// what became of a run along a path. False: that says nothing of the real server, which is to be asked
	// straight.
	bool (*heard)(void *ctx, const struct check_spec *spec, struct probe_path *path, enum check_outcome outcome);
	// what became of asking it straight after that
	void (*asked)(void *ctx, struct probe_path *path, enum check_outcome outcome);
	void *ctx;
};

// A user that waits for a result; the user's own, zeroed when it begins.
struct probe_wait {
	struct probe_wait *prev, *next;
	check_done_fn done; // NULL: it does not wait
	void *ctx;
	uint32_t run; // whose result it gets
};

// env must outlive it.
int probes_new(const struct check_env *env, const struct probe_hooks *hooks, struct probes **ret, struct err *err);
void probes_free(struct probes *probes); // no probe is joined any more

// One more user of this probe, one less. The backend's path must stay until the last user has gone; a program is told
// of the backend, and is therefore not shared. 0 or -ENOMEM.
int probe_join(struct probes *probes, const struct check_spec *spec, const struct inet_endpoint *to,
	const struct backend *backend, struct probe **ret);
void probe_leave(struct probe *probe, struct probe_wait *wait); // without its callback
// Where in their interval its users ask for runs (judge.h).
uint32_t probe_phase(const struct probe *probe);

// Is it the probe of all this?
bool probe_is(const struct probe *probe, const struct check_spec *spec, const struct inet_endpoint *to,
	const struct backend *backend);

// The last rejection by ICMP that is not older than this, unless a run has passed since. Hosts send one such message a
// second or so, and let the other connections time out. False: there is none.
bool probe_was_rejected(const struct probe *probe, msec_t max_age_ms, enum check_outcome *ret);

// Asks for a result that is at most max_age_ms old. done is called once, at once or later. 0 or -errno; then done is
// not called; -EINPROGRESS: the path is not ready yet.
int probe_run(struct probe *probe, msec_t max_age_ms, struct probe_wait *wait, check_done_fn done, void *ctx);

#endif
