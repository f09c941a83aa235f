// SPDX-License-Identifier: Apache-2.0
#include "director/store.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static char folder[] = "/tmp/test_store.XXXXXX";
static char path[64];

static struct store *open_it(void)
{
	struct store *store = NULL;
	struct err err = { 0 };

	if (store_open(path, &store, &err))
		fail_msg("%s", err.text);
	return store;
}

static int collect(void *ctx, const char *owner, const char *name, const char *text, struct err *err)
{
	size_t n = strlen(ctx);

	(void)err;
	snprintf((char *)ctx + n, 200 - n, "%s/%s=%s;", owner, name, text);
	return 0;
}

static const char *all(struct store *store, enum store_kind kind, char buf[200])
{
	buf[0] = '\0';
	assert_int_equal(store_each(store, kind, collect, buf, NULL), 0);
	return buf;
}

static void test_rows_survive(void **state)
{
	char buf[200];
	struct store *store = open_it();

	(void)state;
	assert_false(store_is_open(store));
	assert_int_equal(store_put(store, STORE_SERVICE, "", "web", "1", NULL), 0);
	assert_true(store_is_open(store));
	assert_int_equal(store_put(store, STORE_BACKEND, "web", "b", "2", NULL), 0);
	assert_int_equal(store_put(store, STORE_BACKEND, "web", "a", "3", NULL), 0);
	assert_int_equal(store_put(store, STORE_BACKEND, "other", "a", "4", NULL), 0);
	assert_int_equal(store_end(store, NULL), 0);
	assert_int_equal(store_add(store, STORE_BACKEND, "web", "b", "5", NULL), 0); // was there after all
	assert_int_equal(store_end(store, NULL), 0);
	assert_int_equal(store_put(store, STORE_SERVICE, "", "gone", "x", NULL), 0);
	store_free(store); // a turn that never ended
	store = open_it();
	assert_string_equal(all(store, STORE_SERVICE, buf), "/web=1;");
	assert_string_equal(all(store, STORE_BACKEND, buf), "other/a=4;web/a=3;web/b=5;");
	assert_int_equal(store_delete_all(store, STORE_BACKEND, "web", NULL), 0);
	assert_int_equal(store_delete(store, STORE_SERVICE, "", "web", NULL), 0);
	assert_int_equal(store_delete(store, STORE_SERVICE, "", "never there", NULL), 0);
	assert_int_equal(store_end(store, NULL), 0);
	assert_string_equal(all(store, STORE_BACKEND, buf), "other/a=4;");
	assert_string_equal(all(store, STORE_SERVICE, buf), "");
	assert_int_equal(store_delete(store, STORE_BACKEND, "other", "a", NULL), 0);
	assert_int_equal(store_end(store, NULL), 0);
	store_free(store);
}

static void note_undone(void *ctx, enum store_kind kind, const char *owner, const char *name, const char *text)
{
	size_t n = strlen(ctx);

	snprintf((char *)ctx + n, 200 - n, "%d %s/%s=%s;", (int)kind, owner, name, text ? text : "-");
}

// The same for a turn that is still open and for one that is on the disk already.
static void test_a_turn_is_taken_back(void **state)
{
	(void)state;
	for (int committed = 0; committed < 2; committed++) {
		struct store *store = open_it();
		char undone[200] = "", buf[200];

		store_put(store, STORE_SERVICE, "", "kept", "1", NULL);
		store_put(store, STORE_BACKEND, "kept", "x", "2", NULL);
		assert_int_equal(store_end(store, NULL), 0);
		store_add(store, STORE_SERVICE, "", "new", "3", NULL);
		store_put(store, STORE_SERVICE, "", "kept", "changed", NULL);
		store_put(store, STORE_SERVICE, "", "kept", "changed", NULL); // the same again is no change
		store_put(store, STORE_OWNED_SERVICE, "", "key", "kept", NULL);
		store_delete_all(store, STORE_BACKEND, "kept", NULL);
		if (committed)
			assert_int_equal(store_end(store, NULL), 0);
		assert_int_equal(store_undo(store, note_undone, undone, NULL), 0);
		assert_string_equal(undone, "0 /new=-;0 /kept=1;1 kept/x=2;");
		store_free(store);
		store = open_it();
		assert_string_equal(all(store, STORE_SERVICE, buf), "/kept=1;");
		assert_string_equal(all(store, STORE_BACKEND, buf), "kept/x=2;");
		assert_string_equal(all(store, STORE_OWNED_SERVICE, buf), committed ? "/key=kept;" : "");
		store_delete(store, STORE_OWNED_SERVICE, "", "key", NULL);
		store_delete(store, STORE_SERVICE, "", "kept", NULL);
		store_delete(store, STORE_BACKEND, "kept", "x", NULL);
		assert_int_equal(store_end(store, NULL), 0);
		store_free(store);
	}
}

// A file as version 1 wrote it.
static void test_older_schema(void **state)
{
	char buf[200];
	sqlite3 *db;

	(void)state;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(
		sqlite3_exec(db,
			"DROP TABLE item; CREATE TABLE item (kind INTEGER NOT NULL, owner TEXT NOT NULL, name TEXT NOT "
			"NULL, text TEXT NOT NULL, PRIMARY KEY (kind, owner, name)) WITHOUT ROWID;"
			"INSERT INTO item VALUES (0, '', 'web', '{}'); DROP TABLE event; PRAGMA user_version = 1",
			NULL, NULL, NULL),
		SQLITE_OK);
	sqlite3_close(db);
	struct store *store = open_it();
	assert_string_equal(all(store, STORE_SERVICE, buf), "/web={};");
	store_free(store);
	unlink(path);
}

static void refused(int rc, const char *words)
{
	struct store *store = NULL;
	struct err err = { 0 };

	assert_int_equal(store_open(path, &store, &err), rc);
	assert_null(store);
	assert_string_equal(err.field, "store");
	if (!strstr(err.text, words))
		fail_msg("\"%s\" lacks \"%s\"", err.text, words);
}

static void test_a_second_director_is_refused(void **state)
{
	struct store *store = open_it();

	(void)state;
	refused(-EBUSY, "another process is using it");
	store_free(store);
}

static void test_newer_schema(void **state)
{
	sqlite3 *db;

	(void)state;
	store_free(open_it());
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL);
	sqlite3_close(db);
	refused(-EINVAL, "newer");
	unlink(path);
}

static void test_not_a_database(void **state)
{
	FILE *f = fopen(path, "w");

	(void)state;
	for (int i = 0; i < 1000; i++)
		fputs("this is no database\n", f);
	fclose(f);
	refused(-EINVAL, "not a database");
	unlink(path);
}

static int setup(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/x.db", folder);
	return 0;
}

static int teardown(void **state)
{
	char name[80];

	(void)state;
	for (int i = 0; i < 3; i++) {
		static const char *const ends[] = { "", "-wal", "-shm" };

		snprintf(name, sizeof(name), "%s%s", path, ends[i]);
		unlink(name);
	}
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows_survive),
		cmocka_unit_test(test_a_turn_is_taken_back), cmocka_unit_test(test_older_schema),
		cmocka_unit_test(test_a_second_director_is_refused), cmocka_unit_test(test_newer_schema),
		cmocka_unit_test(test_not_a_database) };

	return cmocka_run_group_tests(tests, setup, teardown);
}
