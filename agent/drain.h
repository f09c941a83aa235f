// SPDX-License-Identifier: Apache-2.0
// Taking a service away without losing a connection: what is still open, when waiting is over, and what an operator
// wants to stay drained. Floor 4.
//
//   waiting --(nothing is open, or nothing here for longer)--> quiet, stale
//      \--(its time is over)--> late --(the same)--> quiet, stale
//
// The directors are told (weight 0); then waiting is over when they count no active connection and this host has no
// open socket of the service, some looks in a row; or when this host, which has the programs, has had none for longer,
// whatever the directors count (in dr and tunnels they never see the server's FIN); or when the time is over.
//
// What an operator asked for is on disk before it is done (RUN_DIR/drain.json), and stays after a crash, a restart or
// the end of waiting, until it is asked to end. Counters are those of the last look, times are those of clock_now_ms.
#ifndef BRASS_AGENT_DRAIN_H
#define BRASS_AGENT_DRAIN_H

#include "agent/client.h"
#include "agent/spec.h"
#include "shared/clock.h"
#include "shared/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define DRAIN_LOOK_MS 100       // between two looks
#define DRAIN_LATE_LOOK_MS 1000 // when nobody waits any more

enum drain_state {
	DRAIN_WAITING,
	DRAIN_QUIET, // nothing is open anywhere
	DRAIN_STALE, // nothing is open here; what directors still count are connections that are no more
	DRAIN_LATE,  // the time is over
};

struct drain_count {
	size_t at_directors, here; // open connections
	bool quiet;                // every director that was looked at has heard of it and sends no new ones
	bool known;                // this host sees the program of each service, so that it knows all its connections
};

struct drain {
	char service[PROTOCOL_NAME_MAX + 1]; // "": all of this host
	enum drain_state state;
	msec_t end_ms;
	struct drain_count count;
	int quiet_looks, silent_looks; // in a row
};

struct drain drain_begin(const char *service, msec_t limit_ms);
// Pure: what one look means.
void drain_judge(struct drain *drain, const struct drain_count *count, msec_t now_ms);
// Looks and judges. stopping: the agent ends. Then a director that cannot be reached is passed over, since the lease
// ends as well; and VIPs without a director count. Else it may still send, and they are nobody's to drain.
void drain_look(struct drain *drain, const struct spec *spec, const struct client_list *clients, bool stopping);
// "12 connections, 18 s left", "no connection is open", "the time is over: 3 at the directors, 3 here".
#define DRAIN_TEXT_MAX 120
const char *drain_describe(const struct drain *drain, char buf[DRAIN_TEXT_MAX]);

// What an operator asked to be drained.
struct drains {
	char path[512];
	struct drain *items;
	size_t count;
};

// Reads what an earlier run was asked; limit_ms: how long to wait for it again. An unreadable file is an error: nobody
// can say any more which services are to get no connections.
int drains_open(const char *run_dir, msec_t limit_ms, struct drains *ret, struct err *err);
void drains_close(struct drains *drains);
// The one that covers a service: its own, or that of all. NULL: none.
const struct drain *drains_of(const struct drains *drains, const char *service);
// Begins (or begins anew), ends. 0 or -errno: then nothing has changed. Ending what is not drained is no mistake.
int drains_add(struct drains *drains, const char *service, msec_t limit_ms, struct err *err);
int drains_remove(struct drains *drains, const char *service, struct err *err);
// One look at all that are not over. When the next is due, in ms; 0: all are over.
msec_t drains_look(struct drains *drains, const struct spec *spec, const struct client_list *clients);

#endif
