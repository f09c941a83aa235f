// SPDX-License-Identifier: Apache-2.0
// The kernel's sync daemons: a master tells its connections to a multicast group, backups take them over, so that
// another director can go on with them. Started, compared, watched. Floor 2.
//
// Source: net/netfilter/ipvs/ip_vs_sync.c. A namespace has one daemon of each role at most, and both may run at once. A
// daemon holds on to the index of its interface: when the interface goes and comes back under its name, the daemon runs
// on and reaches nobody. So interfaces are watched (RTNLGRP_LINK), and a daemon is started anew on a new index.
#ifndef BRASS_DIRECTOR_SYNC_H
#define BRASS_DIRECTOR_SYNC_H

#include "director/ipvs_control.h"
#include "shared/err.h"
#include "shared/field.h"
#include "shared/util.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define SYNC_WATCH_MS 2000

struct sync_role {
	uint64_t set;
	char interface[IFNAMSIZ];
	uint32_t id;
	struct inet_addr group;
	uint16_t port;
	uint32_t ttl;
	uint32_t max_length; // bytes; not set: what fits into a packet of 1500
};

// What shall run. A role that was not given shall not.
struct sync_wanted {
	uint64_t set; // bit: enum ipvs_role
	struct sync_role roles[IPVS_ROLES];
};

extern const struct field_table sync_role_fields;
extern const struct field_table sync_fields;

// What a field table cannot say; fills max_length in. -EINVAL with the field.
int sync_check(struct sync_wanted *wanted, struct err *err);

struct sync;

// control must outlive it. Does nothing yet.
int sync_new(uv_loop_t *loop, struct ipvs_control *control, struct sync **ret, struct err *err);
// The daemons go on. The memory goes when the loop has run once more.
void sync_free(struct sync *sync);

// From now on these daemons are ours, and what differs is started, stopped, restarted, and watched. What cannot be
// started (its interface is missing, say) starts when it can; until then sync_problem has the reason.
void sync_start(struct sync *sync, const struct sync_wanted *wanted);
// The same on somebody's request: -EEXIST when the kernel refuses a daemon beside the backends that there are; then
// what ran before runs again.
int sync_set(struct sync *sync, const struct sync_wanted *wanted, struct err *err);
// They go on, but are none of our business from now on.
void sync_release(struct sync *sync);
// Stops those that are wanted, and forgets them.
void sync_stop(struct sync *sync);

const struct sync_wanted *sync_wanted(const struct sync *sync);
bool sync_is_wanted(const struct sync *sync); // is any?
bool sync_running(const struct sync *sync, enum ipvs_role role);
// Why a wanted daemon does not run, "" when it does.
const char *sync_problem(const struct sync *sync, enum ipvs_role role);

// --- pure parts, for the tests ---

enum sync_step { SYNC_LEAVE, SYNC_START, SYNC_STOP, SYNC_RESTART };

// What to do about one role. had_index and index are those of the interface when the daemon was started or adopted, and
// now; 0: there is none.
enum sync_step sync_plan(const struct sync_wanted *wanted, const struct ipvs_daemons *running, enum ipvs_role role,
	unsigned int had_index, unsigned int index);
// The names of what differs, comma separated. Returns whether anything does.
bool sync_differs(const struct sync_role *want, const struct ipvs_daemon *running, char *buf, size_t size);

#endif
