// SPDX-License-Identifier: Apache-2.0
// What has happened: every transition of a backend, a service or an agent, once, with its reason. The last EVENTS_MAX
// are kept, here and in the store. Floor 2.
//
// An event is one JSON object, made when it is added: {"id", "time", "type", "service", "backend" or "agent", "what",
// "old", "new", "reason"}, and one line of the log. Ids grow; after a restart they go on with a gap, since events that
// were not yet saved may have been seen.
//
// What is added counts from events_stand on; until then events_undo takes it back, as a refused turn is. Nothing is
// written here by itself: events_save goes with a turn of the store, so that there is no fsync for them but one a
// second at most.
#ifndef BRASS_DIRECTOR_EVENTS_H
#define BRASS_DIRECTOR_EVENTS_H

#include "director/store.h"
#include "shared/clock.h"
#include "shared/err.h"
#include "shared/util.h"

#include <stdbool.h>
#include <stdint.h>

#define EVENTS_MAX 10000

struct events;

// Reads what the store has.
int events_new(struct store *store, struct events **ret, struct err *err);
void events_free(struct events *events);

struct event {
	const char *service, *backend; // backend NULL: the service itself
	const char *agent;             // instead of a service
	const char *what;              // "status", "quorum", ...
	const char *old, *now;         // old NULL: it was not there
	const char *reason;            // "" or NULL: none
	bool bad;                      // a warning in the log
};

// events NULL: only the log.
void events_add(struct events *events, const struct event *event);

// What was added counts. Returns whether there was something.
bool events_stand(struct events *events);
// What was added since goes.
void events_undo(struct events *events);

// Are there events that count and are not saved?
bool events_unsaved(const struct events *events);
// Writes them into the store's turn, and takes out those that are too old. A failure is logged; they stay unsaved.
void events_save(struct events *events, struct store *store);

// The event that counts with the lowest id above `after`, as JSON; NULL: none. Valid until the next call of another
// function. ret_id may be NULL.
const char *events_next(const struct events *events, uint64_t after, uint64_t *ret_id);
// Ids of the oldest event that is kept and of the newest that counts; 0: none.
uint64_t events_oldest(const struct events *events);
uint64_t events_newest(const struct events *events);

#endif
