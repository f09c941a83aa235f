// SPDX-License-Identifier: Apache-2.0
// What must survive a restart, in one SQLite file: services, backends, agents, and what we made in the kernel. Floor 2.
//
// Objects are stored as the JSON text that their field tables print, so that a new field needs no new column. Changes
// come in turns: all that one turn of the event loop brings is one transaction, on the disk when store_end returns
// (journal_mode=WAL, synchronous=FULL). Two lists say what in the kernel is ours: keys of services and addresses of
// VIPs; a row is written before the kernel is changed and removed after the kernel has let go.
#ifndef BRASS_DIRECTOR_STORE_H
#define BRASS_DIRECTOR_STORE_H

#include "shared/err.h"
#include "shared/util.h"

#include <stdbool.h>
#include <stdint.h>

struct store;

// Opens or creates the file; one of an older version is brought up to this one. -EINVAL: not a database, damaged, or
// written by a newer version; other -errno from the disk.
int store_open(const char *path, struct store **ret, struct err *err);
void store_free(struct store *store);
DEFINE_CLEANUP(struct store *, store_free)

// The kinds of rows. A row is (owner, name) -> text; owner is "" but for those of a backend, where it is the service.
enum store_kind {
	STORE_SERVICE,
	STORE_BACKEND,
	STORE_AGENT,
	STORE_OWNED_SERVICE, // the key of a service that we made in the kernel
	STORE_OWNED_ADDRESS, // a VIP that we put on our device
	STORE_DOWN,    // the reason for each backend that its pulse has taken out: a restart must not put it back in
	STORE_DRAIN,   // wall-clock time (ms) at which a backend that is leaving goes at the latest
	STORE_LEAVING, // a service that was moved elsewhere and goes with its last backend
	STORE_SYNC,    // the sync daemons that were asked for
};

// A turn: changes of rows, in a transaction that the first of them begins. store_end commits it. Until then, or until
// the next turn's first change, store_undo takes all of it back, committed or not, and calls each once for every row
// with the text that it has again (NULL: it is gone): first what goes, last kinds first, then what comes, first kinds
// first. The two lists of what is ours in the kernel are not taken back: they may name too much, never too little.
bool store_is_open(const struct store *store); // has this turn changed anything?
int store_end(struct store *store, struct err *err);
// The turn that ended will not be taken back: what was there before it is forgotten.
void store_stands(struct store *store);
typedef void (*store_undone_fn)(void *ctx, enum store_kind kind, const char *owner, const char *name, const char *text);
int store_undo(struct store *store, store_undone_fn each, void *ctx, struct err *err);

// Parts of a turn. Putting replaces; deleting what is not there is fine.
int store_put(struct store *store, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err);
// The same for a row that is not there, as far as the caller knows: it need not be looked for.
int store_add(struct store *store, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err);
int store_delete(struct store *store, enum store_kind kind, const char *owner, const char *name, struct err *err);
// All rows of one owner.
int store_delete_all(struct store *store, enum store_kind kind, const char *owner, struct err *err);

// Rows of all kinds.
size_t store_count(struct store *store);
// Part of a turn: deletes rows of backends whose service is not there, adding their number to *count. For recovery.
int store_drop_orphans(struct store *store, size_t *count, struct err *err);

// Saves what can be read of a file that store_open refuses: it is kept beside as PATH.damaged (or .damaged2, ...),
// whose name goes to ret_kept, and its rows go into a new file, those that accept says are fine. ret_saved and ret_lost
// count rows; how many could not even be found nobody knows. 0 or -errno; then the old file is where it was.
int store_recover(const char *path,
	bool (*accept)(void *ctx, enum store_kind kind, const char *owner, const char *name, const char *text),
	void *ctx, char ret_kept[], size_t kept_size, size_t *ret_saved, size_t *ret_lost, struct err *err);

// Events, by a number that grows. Part of a turn, but never taken back. -- store_event.c
int store_add_event(struct store *store, uint64_t id, const char *text, struct err *err);
int store_drop_events(struct store *store, uint64_t below, struct err *err);
int store_each_event(struct store *store, int (*each)(void *ctx, uint64_t id, const char *text, struct err *err),
	void *ctx, struct err *err);

// Calls each for every row of a kind, in order of owner and name; non-zero ends it and is returned.
typedef int (*store_each_fn)(void *ctx, const char *owner, const char *name, const char *text, struct err *err);
int store_each(struct store *store, enum store_kind kind, store_each_fn each, void *ctx, struct err *err);

#endif
