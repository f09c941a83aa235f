// SPDX-License-Identifier: Apache-2.0
#include "director/store_internal.h"

#include "director/store_before.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// migrations[n] makes a file of version n one of version n + 1.
static const char *const migrations[] = {
	"CREATE TABLE item ("
	"kind INTEGER NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, text TEXT NOT NULL,"
	"PRIMARY KEY (kind, owner, name)) WITHOUT ROWID",
	// rows hold what was given and not every default, and there are kinds that version 1 does not know: nothing to
	// convert, but an older director must not read it
	"",
	"CREATE TABLE event (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
};
#define SCHEMA_VERSION ((int)ARRAY_SIZE(migrations))

static const char *const sql[STORE_STATEMENTS] = {
	[STORE_PUT] = "INSERT OR REPLACE INTO item (kind, owner, name, text) VALUES (?1, ?2, ?3, ?4)",
	[STORE_ADD] = "INSERT INTO item (kind, owner, name, text) VALUES (?1, ?2, ?3, ?4)",
	[STORE_GET] = "SELECT text FROM item WHERE kind = ?1 AND owner = ?2 AND name = ?3",
	[STORE_DELETE] = "DELETE FROM item WHERE kind = ?1 AND owner = ?2 AND name = ?3",
	[STORE_EACH] = "SELECT owner, name, text FROM item WHERE kind = ?1 ORDER BY owner, name",
	[STORE_EACH_OF] = "SELECT owner, name, text FROM item WHERE kind = ?1 AND owner = ?2 ORDER BY name",
	[STORE_BEGIN] = "BEGIN IMMEDIATE",
	[STORE_COMMIT] = "COMMIT",
	[STORE_ROLLBACK] = "ROLLBACK",
	[STORE_EVENT_ADD] = "INSERT OR REPLACE INTO event (id, text) VALUES (?1, ?2)",
	[STORE_EVENT_DROP] = "DELETE FROM event WHERE id < ?1",
	[STORE_EVENT_EACH] = "SELECT id, text FROM event ORDER BY id",
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

int store_refuse(const struct store *store, int code, struct err *err)
{
	const char *why = store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(code);

	if ((code & 0xff) == SQLITE_BUSY)
		why = "another process is using it";
	if (error_of(code) == -EINVAL)
		return err_set(
			err, -EINVAL, "store", "%s: %s; --store-recover saves what can be read", store->path, why);
	return err_set(err, error_of(code), "store", "%s: %s", store->path, why);
}

int store_run(struct store *store, enum store_statement which, struct err *err)
{
	sqlite3_stmt *s = store->statements[which];
	int code = sqlite3_step(s);

	sqlite3_reset(s);
	return code == SQLITE_DONE ? 0 : store_refuse(store, code, err);
}

static sqlite3_stmt *bind(struct store *store, enum store_statement which, enum store_kind kind, const char *owner,
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
	int rc = code == SQLITE_ROW ? 0 : store_refuse(store, code, err);

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
		return err_set(err, -EINVAL, "store", "%s: damaged: %s; --store-recover saves what can be read",
			store->path, word);
	rc = one_word(store, "PRAGMA user_version", word, sizeof(word), err);
	if (rc)
		return rc;
	int version = atoi(word);
	if (version > SCHEMA_VERSION)
		return err_set(err, -EINVAL, "store",
			"%s: written by a newer brass-director (schema %d, this one knows %d); --store-recover saves "
			"what "
			"this one understands",
			store->path, version, SCHEMA_VERSION);
	// one director a file: a second is refused, and no lock is taken and given back at each commit
	rc = one_word(store, "PRAGMA locking_mode = EXCLUSIVE", word, sizeof(word), err);
	if (!rc)
		rc = one_word(store, "PRAGMA journal_mode = WAL", word, sizeof(word), err);
	if (rc)
		return rc;
	int code = sqlite3_exec(
		store->db, "PRAGMA synchronous = FULL; PRAGMA cache_size = -512; BEGIN IMMEDIATE", NULL, NULL, NULL);
	for (int v = version; v < SCHEMA_VERSION && code == SQLITE_OK; v++)
		code = sqlite3_exec(store->db, migrations[v], NULL, NULL, NULL);
	// also takes the write lock once, so that a read-only file is found now and not at the first change
	snprintf(word, sizeof(word), "PRAGMA user_version = %d; COMMIT", SCHEMA_VERSION);
	if (code == SQLITE_OK)
		code = sqlite3_exec(store->db, word, NULL, NULL, NULL);
	return code == SQLITE_OK ? 0 : store_refuse(store, code, err);
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
		return store_refuse(store, code, err);
	int rc = prepare_file(store, err);
	if (rc)
		return rc;
	for (int i = 0; i < STORE_STATEMENTS; i++) {
		code = sqlite3_prepare_v3(
			store->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &store->statements[i], NULL);
		if (code != SQLITE_OK)
			return store_refuse(store, code, err);
	}
	*ret = STEAL(store);
	return 0;
}

void store_free(struct store *store)
{
	if (!store)
		return;
	for (int i = 0; i < STORE_STATEMENTS; i++)
		sqlite3_finalize(store->statements[i]);
	sqlite3_close(store->db);
	store_befores_clear(&store->befores);
	free(store);
}

int store_begin(struct store *store, struct err *err)
{
	if (store->open)
		return 0;
	int rc = store_run(store, STORE_BEGIN, err);

	if (rc)
		return rc;
	store_befores_clear(&store->befores);
	store->open = true;
	return 0;
}

static void rollback(struct store *store)
{
	// a failed statement may already have rolled back
	if (!sqlite3_get_autocommit(store->db))
		store_run(store, STORE_ROLLBACK, NULL);
	store->open = false;
}

bool store_is_open(const struct store *store)
{
	return store->open;
}

int store_end(struct store *store, struct err *err)
{
	if (!store->open)
		return 0;
	int rc = store_run(store, STORE_COMMIT, err);

	if (rc)
		rollback(store);
	store->open = false;
	return rc;
}

void store_stands(struct store *store)
{
	if (!store->open)
		store_befores_clear(&store->befores);
}

static bool is_undoable(enum store_kind kind)
{
	return kind != STORE_OWNED_SERVICE && kind != STORE_OWNED_ADDRESS;
}

static int remember(struct store *store, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err)
{
	if (!is_undoable(kind) || store_befores_note(&store->befores, (int)kind, owner, name, text) == 0)
		return 0;
	return err_set(err, -ENOMEM, "store", "out of memory");
}

// The row's text in a new string, NULL when there is none. 0 or -errno.
static int get(
	struct store *store, enum store_kind kind, const char *owner, const char *name, char **ret, struct err *err)
{
	sqlite3_stmt *s = bind(store, STORE_GET, kind, owner, name, NULL);
	int code = sqlite3_step(s), rc = 0;

	*ret = NULL;
	if (code == SQLITE_ROW) {
		*ret = strdup((const char *)sqlite3_column_text(s, 0));
		if (!*ret)
			rc = err_set(err, -ENOMEM, "store", "out of memory");
	} else if (code != SQLITE_DONE) {
		rc = store_refuse(store, code, err);
	}
	sqlite3_reset(s);
	return rc;
}

// text NULL: away with it.
static int change(struct store *store, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err)
{
	_cleanup_free_ char *old = NULL;
	int rc = store_begin(store, err);

	if (!rc)
		rc = get(store, kind, owner, name, &old, err);
	if (rc)
		return rc;
	if ((!old && !text) || (old && text && strcmp(old, text) == 0))
		return 0;
	rc = remember(store, kind, owner, name, old, err);
	if (rc)
		return rc;
	bind(store, text ? STORE_PUT : STORE_DELETE, kind, owner, name, text);
	return store_run(store, text ? STORE_PUT : STORE_DELETE, err);
}

int store_put(struct store *store, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err)
{
	return change(store, kind, owner, name, text, err);
}

int store_add(struct store *store, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err)
{
	int rc = store_begin(store, err);

	if (rc)
		return rc;
	bind(store, STORE_ADD, kind, owner, name, text);
	int code = sqlite3_step(store->statements[STORE_ADD]);
	sqlite3_reset(store->statements[STORE_ADD]);
	if ((code & 0xff) == SQLITE_CONSTRAINT) // it was there after all
		return change(store, kind, owner, name, text, err);
	if (code != SQLITE_DONE)
		return store_refuse(store, code, err);
	return remember(store, kind, owner, name, NULL, err);
}

int store_delete(struct store *store, enum store_kind kind, const char *owner, const char *name, struct err *err)
{
	return change(store, kind, owner, name, NULL, err);
}

static int each_row(struct store *store, sqlite3_stmt *s, store_each_fn each, void *ctx, struct err *err)
{
	int code, rc = 0;

	while (!rc && (code = sqlite3_step(s)) == SQLITE_ROW)
		rc = each(ctx, (const char *)sqlite3_column_text(s, 0), (const char *)sqlite3_column_text(s, 1),
			(const char *)sqlite3_column_text(s, 2), err);
	if (!rc && code != SQLITE_DONE)
		rc = store_refuse(store, code, err);
	sqlite3_reset(s);
	return rc;
}

// The names of an owner's rows, gathered first: a table is not changed while it is read.
struct names {
	char **items;
	size_t count, room;
};

static int add_name(void *ctx, const char *owner, const char *name, const char *text, struct err *err)
{
	struct names *names = ctx;

	(void)owner, (void)text;
	if (names->count == names->room) {
		size_t room = names->room ? 2 * names->room : 64;
		char **items = reallocarray(names->items, room, sizeof(*items));

		if (!items)
			return err_set(err, -ENOMEM, "store", "out of memory");
		names->items = items;
		names->room = room;
	}
	names->items[names->count] = strdup(name);
	return names->items[names->count++] ? 0 : err_set(err, -ENOMEM, "store", "out of memory");
}

int store_delete_all(struct store *store, enum store_kind kind, const char *owner, struct err *err)
{
	struct names names = { 0 };
	int rc = each_row(store, bind(store, STORE_EACH_OF, kind, owner, NULL, NULL), add_name, &names, err);

	for (size_t i = 0; i < names.count; i++) {
		if (!rc)
			rc = change(store, kind, owner, names.items[i], NULL, err);
		free(names.items[i]);
	}
	free(names.items);
	return rc;
}

// What goes, from backends to services, then what comes, from services to backends: so that a row always finds what it
// rests on as it was.
static void tell_undone(const struct store_before *rows, size_t count, store_undone_fn each, void *ctx)
{
	for (size_t i = count; i-- > 0;)
		if (!rows[i].text)
			each(ctx, (enum store_kind)rows[i].kind, rows[i].owner, rows[i].name, NULL);
	for (size_t i = 0; i < count; i++)
		if (rows[i].text)
			each(ctx, (enum store_kind)rows[i].kind, rows[i].owner, rows[i].name, rows[i].text);
}

// Of a turn that was committed.
static int put_back(struct store *store, const struct store_before *rows, size_t count, struct err *err)
{
	int rc = store_run(store, STORE_BEGIN, err);

	for (size_t i = 0; i < count && !rc; i++) {
		enum store_statement which = rows[i].text ? STORE_PUT : STORE_DELETE;

		bind(store, which, (enum store_kind)rows[i].kind, rows[i].owner, rows[i].name, rows[i].text);
		rc = store_run(store, which, err);
	}
	if (!rc)
		rc = store_run(store, STORE_COMMIT, err);
	if (rc)
		rollback(store);
	return rc;
}

int store_undo(struct store *store, store_undone_fn each, void *ctx, struct err *err)
{
	_cleanup_free_ struct store_before *rows = NULL;
	size_t count = 0;
	int rc = store_befores_rows(&store->befores, &rows, &count);

	if (rc)
		return err_set(err, rc, "store", "out of memory");
	// whoever is told may begin the next turn
	struct store_befores befores = store->befores;
	store->befores = (struct store_befores) { 0 };
	if (store->open)
		rollback(store);
	else if (count)
		rc = put_back(store, rows, count, err);
	tell_undone(rows, count, each, ctx);
	store_befores_clear(&befores);
	return rc;
}

int store_each(struct store *store, enum store_kind kind, store_each_fn each, void *ctx, struct err *err)
{
	return each_row(store, bind(store, STORE_EACH, kind, NULL, NULL, NULL), each, ctx, err);
}

size_t store_count(struct store *store)
{
	char word[32] = "0";

	one_word(store, "SELECT count(*) FROM item", word, sizeof(word), NULL);
	return strtoul(word, NULL, 10);
}

int store_drop_orphans(struct store *store, size_t *count, struct err *err)
{
	char query[200];
	int rc = store_begin(store, err);

	if (rc)
		return rc;
	snprintf(query, sizeof(query),
		"DELETE FROM item WHERE kind IN (%d, %d, %d) AND owner NOT IN (SELECT name FROM item WHERE kind = %d)",
		STORE_BACKEND, STORE_DOWN, STORE_DRAIN, STORE_SERVICE);
	int code = sqlite3_exec(store->db, query, NULL, NULL, NULL);
	if (code != SQLITE_OK)
		return store_refuse(store, code, err);
	*count += (size_t)sqlite3_changes(store->db);
	return 0;
}
