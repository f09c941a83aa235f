// SPDX-License-Identifier: Apache-2.0
// What must survive a restart, in one SQLite file: services, backends, agents, and what we made in the kernel. Floor 2.
//
// Objects are stored as the JSON text that their field tables print, so that a new field needs no new column. A change
// is one transaction (store_begin ... store_commit), on the disk when store_commit returns (journal_mode=WAL,
// synchronous=FULL). Two lists say what in the kernel is ours: keys of services and addresses of VIPs; a row is written
// before the kernel is changed and removed after the kernel has let go.
#ifndef BRASS_DIRECTOR_STORE_H
#define BRASS_DIRECTOR_STORE_H

#include "shared/err.h"
#include "shared/util.h"

#include <stdbool.h>

struct store;

// Opens or creates the file. -EINVAL: not a database, damaged, or written by a newer version; other -errno from the
// disk.
int store_open(const char *path, struct store **ret, struct err *err);
void store_free(struct store *store);
DEFINE_CLEANUP(struct store *, store_free)

int store_begin(struct store *store, struct err *err);
int store_commit(struct store *store, struct err *err);
void store_rollback(struct store *store);

// The kinds of rows. A row is (owner, name) -> text; owner is "" but for backends, where it is the service.
// STORE_DOWN holds the reason for each backend that its pulse has taken out, so that a restart does not put it back in.
enum store_kind { STORE_SERVICE, STORE_BACKEND, STORE_AGENT, STORE_OWNED_SERVICE, STORE_OWNED_ADDRESS, STORE_DOWN };

// Inside a transaction. Putting replaces; deleting what is not there is fine.
int store_put(struct store *store, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err);
int store_delete(struct store *store, enum store_kind kind, const char *owner, const char *name, struct err *err);
// All rows of one owner.
int store_delete_all(struct store *store, enum store_kind kind, const char *owner, struct err *err);

// A whole transaction for one row: put, or delete when text is NULL.
int store_change(struct store *store, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err);

// Calls each for every row of a kind, in order of owner and name; non-zero ends it and is returned.
int store_each(struct store *store, enum store_kind kind,
	int (*each)(void *ctx, const char *owner, const char *name, const char *text, struct err *err), void *ctx,
	struct err *err);

#endif
