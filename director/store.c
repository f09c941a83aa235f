// SPDX-License-Identifier: Apache-2.0
#include "director/store.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_VERSION 1

static const char schema[] = "CREATE TABLE item ("
			     "kind INTEGER NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,"
			     "PRIMARY KEY (kind, owner, name)) WITHOUT ROWID;"
			     "PRAGMA user_version = 1;";

enum statement { PUT, DELETE, DELETE_ALL, EACH, BEGIN, COMMIT, ROLLBACK, STATEMENTS };

static const char *const sql[STATEMENTS] = {
	[PUT] = "INSERT OR REPLACE INTO item (kind, owner, name, text) VALUES (?1, ?2, ?3, ?4)",
	[DELETE] = "DELETE FROM item WHERE kind = ?1 AND owner = ?2 AND name = ?3",
	[DELETE_ALL] = "DELETE FROM item WHERE kind = ?1 AND owner = ?2",
	[EACH] = "SELECT owner, name, text FROM item WHERE kind = ?1 ORDER BY owner, name",
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
};

struct store {
	sqlite3 *db;
	sqlite3_stmt *statements[STATEMENTS];
	char path[];
};

static int error_of(int code)
{
	switch (code & 0xff) {
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
	case SQLITE_SCHEMA:
		return -EINVAL;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_READONLY:
		return -EROFS;
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
		return -EACCES;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOMEM:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

static int refuse(const struct store *store, int code, struct err *err)
{
	const char *why = store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(code);

	if ((code & 0xff) == SQLITE_BUSY)
		why = "another process is using it";
	return err_set(err, error_of(code), "store", "%s: %s", store->path, why);
}

static int run(struct store *store, enum statement which, struct err *err)
{
	sqlite3_stmt *s = store->statements[which];
	int code = sqlite3_step(s);

	sqlite3_reset(s);
	return code == SQLITE_DONE ? 0 : refuse(store, code, err);
}

static sqlite3_stmt *bind(struct store *store, enum statement which, enum store_kind kind, const char *owner,
	const char *name, const char *text)
{
	sqlite3_stmt *s = store->statements[which];

	sqlite3_bind_int(s, 1, (int)kind);
	if (owner)
		sqlite3_bind_text(s, 2, owner, -1, SQLITE_STATIC);
	if (name)
		sqlite3_bind_text(s, 3, name, -1, SQLITE_STATIC);
	if (text)
		sqlite3_bind_text(s, 4, text, -1, SQLITE_STATIC);
	return s;
}

static int one_word(struct store *store, const char *query, char *buf, size_t size, struct err *err)
{
	sqlite3_stmt *s = NULL;
	int code = sqlite3_prepare_v2(store->db, query, -1, &s, NULL);

	if (code == SQLITE_OK)
		code = sqlite3_step(s);
	if (code == SQLITE_ROW)
		snprintf(buf, size, "%s", (const char *)sqlite3_column_text(s, 0));
	int rc = code == SQLITE_ROW ? 0 : refuse(store, code, err);

	sqlite3_finalize(s);
	return rc;
}

static int prepare_file(struct store *store, struct err *err)
{
	char word[256];
	int rc = one_word(store, "PRAGMA quick_check(1)", word, sizeof(word), err);

	if (rc)
		return rc;
	if (strcmp(word, "ok") != 0)
		return err_set(err, -EINVAL, "store", "%s: damaged: %s", store->path, word);
	rc = one_word(store, "PRAGMA user_version", word, sizeof(word), err);
	if (rc)
		return rc;
	int version = atoi(word);
	if (version > SCHEMA_VERSION)
		return err_set(err, -EINVAL, "store",
			"%s: written by a newer brass-director (schema %d, this one knows %d)", store->path, version,
			SCHEMA_VERSION);
	// one director a file: a second is refused, and no lock is taken and given back at each commit
	rc = one_word(store, "PRAGMA locking_mode = EXCLUSIVE", word, sizeof(word), err);
	if (rc)
		return rc;
	rc = one_word(store, "PRAGMA journal_mode = WAL", word, sizeof(word), err);
	if (rc)
		return rc;
	int code = sqlite3_exec(store->db, "PRAGMA synchronous = FULL", NULL, NULL, NULL);
	if (code == SQLITE_OK && version == 0)
		code = sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	if (code == SQLITE_OK && version == 0)
		code = sqlite3_exec(store->db, schema, NULL, NULL, NULL);
	if (code == SQLITE_OK && version == 0)
		code = sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
	// takes the write lock once, so that a read-only file is found now and not at the first change
	if (code == SQLITE_OK)
		code = sqlite3_exec(store->db, "BEGIN IMMEDIATE; PRAGMA user_version = 1; COMMIT", NULL, NULL, NULL);
	return code == SQLITE_OK ? 0 : refuse(store, code, err);
}

int store_open(const char *path, struct store **ret, struct err *err)
{
	_cleanup_(store_free_cleanup) struct store *store = calloc(1, sizeof(*store) + strlen(path) + 1);

	if (!store)
		return err_set(err, -ENOMEM, "store", "out of memory");
	strcpy(store->path, path);
	int code = sqlite3_open_v2(
		path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (code != SQLITE_OK)
		return refuse(store, code, err);
	int rc = prepare_file(store, err);
	if (rc)
		return rc;
	for (int i = 0; i < STATEMENTS; i++) {
		code = sqlite3_prepare_v3(
			store->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &store->statements[i], NULL);
		if (code != SQLITE_OK)
			return refuse(store, code, err);
	}
	*ret = STEAL(store);
	return 0;
}

void store_free(struct store *store)
{
	if (!store)
		return;
	for (int i = 0; i < STATEMENTS; i++)
		sqlite3_finalize(store->statements[i]);
	sqlite3_close(store->db);
	free(store);
}

int store_begin(struct store *store, struct err *err)
{
	return run(store, BEGIN, err);
}

int store_commit(struct store *store, struct err *err)
{
	int rc = run(store, COMMIT, err);

	if (rc)
		store_rollback(store);
	return rc;
}

void store_rollback(struct store *store)
{
	// a failed COMMIT may already have rolled back
	if (!sqlite3_get_autocommit(store->db))
		run(store, ROLLBACK, NULL);
}

int store_put(struct store *store, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err)
{
	bind(store, PUT, kind, owner, name, text);
	return run(store, PUT, err);
}

int store_delete(struct store *store, enum store_kind kind, const char *owner, const char *name, struct err *err)
{
	bind(store, DELETE, kind, owner, name, NULL);
	return run(store, DELETE, err);
}

int store_delete_all(struct store *store, enum store_kind kind, const char *owner, struct err *err)
{
	bind(store, DELETE_ALL, kind, owner, NULL, NULL);
	return run(store, DELETE_ALL, err);
}

int store_change(struct store *store, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err)
{
	int rc = store_begin(store, err);

	if (rc)
		return rc;
	rc = text ? store_put(store, kind, owner, name, text, err) : store_delete(store, kind, owner, name, err);
	if (!rc)
		return store_commit(store, err);
	store_rollback(store);
	return rc;
}

int store_each(struct store *store, enum store_kind kind,
	int (*each)(void *ctx, const char *owner, const char *name, const char *text, struct err *err), void *ctx,
	struct err *err)
{
	sqlite3_stmt *s = bind(store, EACH, kind, NULL, NULL, NULL);
	int code, rc = 0;

	while (!rc && (code = sqlite3_step(s)) == SQLITE_ROW)
		rc = each(ctx, (const char *)sqlite3_column_text(s, 0), (const char *)sqlite3_column_text(s, 1),
			(const char *)sqlite3_column_text(s, 2), err);
	if (!rc && code != SQLITE_DONE)
		rc = refuse(store, code, err);
	sqlite3_reset(s);
	return rc;
}
