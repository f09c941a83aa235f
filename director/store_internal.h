// SPDX-License-Identifier: Apache-2.0
// What the store*.c files share and nobody else needs. Floor 2.
#ifndef BRASS_DIRECTOR_STORE_INTERNAL_H
#define BRASS_DIRECTOR_STORE_INTERNAL_H

#include "director/store.h"
#include "director/store_before.h"

#include <sqlite3.h>

enum store_statement {
	STORE_PUT,
	STORE_ADD,
	STORE_GET,
	STORE_DELETE,
	STORE_EACH,
	STORE_EACH_OF,
	STORE_BEGIN,
	STORE_COMMIT,
	STORE_ROLLBACK,
	STORE_EVENT_ADD,
	STORE_EVENT_DROP,
	STORE_EVENT_EACH,
	STORE_STATEMENTS,
};

struct store {
	sqlite3 *db;
	sqlite3_stmt *statements[STORE_STATEMENTS];
	bool open;                    // a turn's transaction
	struct store_befores befores; // of the turn
	char path[];
};

// The error of a call of SQLite, with its words.
int store_refuse(const struct store *store, int code, struct err *err);
// A statement that has no rows, with what is bound to it.
int store_run(struct store *store, enum store_statement which, struct err *err);
// A turn, if there is none.
int store_begin(struct store *store, struct err *err);

#endif
