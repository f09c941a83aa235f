// SPDX-License-Identifier: Apache-2.0
// Finds out why a backend does not serve: probes of the real server itself and along the path of traffic, small and
// full-size, compared with what its agent says (fault.h). Floor 3.
//
// Runs for every backend that its pulse takes out, again every minute while it is down, 64 at a time; and at once when
// somebody asks. What was found is kept with the backend until it is up again.
#ifndef BRASS_DIRECTOR_DIAGNOSE_H
#define BRASS_DIRECTOR_DIAGNOSE_H

#include "director/state.h"

#include <uv.h>

#define DIAGNOSE_AT_ONCE 64
#define DIAGNOSE_AGAIN_MS 60000
#define DIAGNOSE_TIMEOUT_MS 2000 // of each probe; there are two rounds, seldom three

struct diagnose;

// Somebody who waits for a result; his own.
struct diagnose_wait {
	struct diagnose_wait *prev, *next;
	struct trouble *trouble;                          // NULL: it is over
	void (*done)(void *ctx, struct backend *backend); // NULL: the backend has gone
	void *ctx;
};

int diagnose_new(uv_loop_t *loop, struct state *state, struct diagnose **ret, struct err *err);
// No backend has trouble any more (diagnose_forget). The memory goes when the loop has run once more.
void diagnose_free(struct diagnose *d);

// The backend's verdict has changed.
void diagnose_changed(struct diagnose *d, struct backend *backend);
// It is about to go, or to become another.
void diagnose_forget(struct backend *backend);

// Looks now, or joins a look that is under way; done is called once, later. 0 or -ENOMEM.
int diagnose_ask(struct diagnose *d, struct backend *backend, struct diagnose_wait *wait,
	void (*done)(void *ctx, struct backend *backend), void *ctx);
void diagnose_leave(struct diagnose_wait *wait); // without its callback
// Tells all who wait that nothing will be found.
void diagnose_close(struct diagnose *d);

// Was anything found? Then an object into out.
bool diagnose_is_known(const struct backend *backend);
void diagnose_write(const struct backend *backend, struct out *out);

#endif
