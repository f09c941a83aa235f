// SPDX-License-Identifier: Apache-2.0
// Rows are read forwards until the damage, then backwards until the damage from the other side.
#include "director/store.h"

#include "shared/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct recovery {
	struct store *to;
	bool (*accept)(void *ctx, enum store_kind kind, const char *owner, const char *name, const char *text);
	void *ctx;
	size_t lost;
};

static int rename_with_logs(const char *from, const char *to)
{
	static const char *const ends[] = { "", "-wal", "-shm" };
	char a[600], b[600];

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		snprintf(a, sizeof(a), "%s%s", from, ends[i]);
		snprintf(b, sizeof(b), "%s%s", to, ends[i]);
		if (rename(a, b) && !(i && errno == ENOENT))
			return -errno;
	}
	return 0;
}

static int free_name(const char *path, char *ret, size_t size)
{
	for (int i = 1; i < 100; i++) {
		snprintf(ret, size, i == 1 ? "%s.damaged" : "%s.damaged%d", path, i);
		if (access(ret, F_OK) != 0)
			return 0;
	}
	return -EEXIST;
}

// Returns whether the end was reached, which is to say that nothing in between was damaged.
static int read_rows(struct recovery *r, sqlite3 *from, const char *query, bool *ret_whole, struct err *err)
{
	sqlite3_stmt *s = NULL;
	int code = sqlite3_prepare_v2(from, query, -1, &s, NULL), rc = 0;

	while (code == SQLITE_OK || code == SQLITE_ROW) {
		code = sqlite3_step(s);
		if (code != SQLITE_ROW)
			break;
		const enum store_kind kind = (enum store_kind)sqlite3_column_int(s, 0);
		const char *owner = (const char *)sqlite3_column_text(s, 1);
		const char *name = (const char *)sqlite3_column_text(s, 2);
		const char *text = (const char *)sqlite3_column_text(s, 3);

		if (!owner || !name || !text || !r->accept(r->ctx, kind, owner, name, text)) {
			r->lost++;
			continue;
		}
		rc = store_put(r->to, kind, owner, name, text, err);
		if (rc)
			break;
	}
	sqlite3_finalize(s);
	*ret_whole = code == SQLITE_DONE;
	return rc;
}

// The new file belongs to whom the old one did: root recovers it for the director's user.
static int make_alike(const char *path, const char *old)
{
	struct stat stat_old;
	_cleanup_close_ int fd = -1;

	if (stat(old, &stat_old))
		return -errno;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, stat_old.st_mode & 0777);
	if (fd < 0)
		return -errno;
	return geteuid() == 0 && fchown(fd, stat_old.st_uid, stat_old.st_gid) ? -errno : 0;
}

int store_recover(const char *path,
	bool (*accept)(void *ctx, enum store_kind kind, const char *owner, const char *name, const char *text),
	void *ctx, char ret_kept[], size_t kept_size, size_t *ret_saved, size_t *ret_lost, struct err *err)
{
	_cleanup_(store_free_cleanup) struct store *to = NULL;
	sqlite3 *from = NULL;
	bool whole = false;
	int rc = access(path, F_OK) ? -errno : free_name(path, ret_kept, kept_size);

	if (!rc)
		rc = rename_with_logs(path, ret_kept);
	if (!rc) {
		rc = make_alike(path, ret_kept);
		if (rc)
			rename_with_logs(ret_kept, path);
	}
	if (rc)
		return err_set(err, rc, "store", "%s: cannot be put aside: %s", path, strerror(-rc));
	rc = store_open(path, &to, err);
	struct recovery r = { .to = to, .accept = accept, .ctx = ctx };
	if (!rc && sqlite3_open_v2(ret_kept, &from, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK) {
		rc = read_rows(
			&r, from, "SELECT kind, owner, name, text FROM item ORDER BY kind, owner, name", &whole, err);
		if (!rc && !whole)
			rc = read_rows(&r, from,
				"SELECT kind, owner, name, text FROM item ORDER BY kind DESC, owner DESC, name DESC",
				&whole, err);
	}
	sqlite3_close(from);
	if (!rc)
		rc = store_drop_orphans(to, &r.lost, err);
	if (!rc)
		rc = store_end(to, err);
	if (rc) {
		store_free(to);
		to = NULL;
		rename_with_logs(ret_kept, path);
		return rc;
	}
	*ret_lost = r.lost;
	*ret_saved = store_count(to);
	return 0;
}
