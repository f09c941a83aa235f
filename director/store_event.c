// SPDX-License-Identifier: Apache-2.0
// Events have a table of their own: they are never changed, and no turn takes them back.
#include "director/store_internal.h"

int store_add_event(struct store *store, uint64_t id, const char *text, struct err *err)
{
	int rc = store_begin(store, err);

	if (rc)
		return rc;
	sqlite3_bind_int64(store->statements[STORE_EVENT_ADD], 1, (sqlite3_int64)id);
	sqlite3_bind_text(store->statements[STORE_EVENT_ADD], 2, text, -1, SQLITE_STATIC);
	return store_run(store, STORE_EVENT_ADD, err);
}

int store_drop_events(struct store *store, uint64_t below, struct err *err)
{
	int rc = store_begin(store, err);

	if (rc)
		return rc;
	sqlite3_bind_int64(store->statements[STORE_EVENT_DROP], 1, (sqlite3_int64)below);
	return store_run(store, STORE_EVENT_DROP, err);
}

int store_each_event(struct store *store, int (*each)(void *ctx, uint64_t id, const char *text, struct err *err),
	void *ctx, struct err *err)
{
	sqlite3_stmt *s = store->statements[STORE_EVENT_EACH];
	int code = SQLITE_DONE, rc = 0;

	while (!rc && (code = sqlite3_step(s)) == SQLITE_ROW)
		rc = each(ctx, (uint64_t)sqlite3_column_int64(s, 0), (const char *)sqlite3_column_text(s, 1), err);
	if (!rc && code != SQLITE_DONE)
		rc = store_refuse(store, code, err);
	sqlite3_reset(s);
	return rc;
}
