// SPDX-License-Identifier: Apache-2.0
#include "agent/journal.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_TRIES 100 // who holds it makes a new file each time

static int write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

// A file belongs to whom its folder belongs to: the agent's user must be able to read what root wrote by hand.
static int give_to_owner(int fd, int dir)
{
	struct stat folder;

	if (geteuid() != 0)
		return 0;
	return fstat(dir, &folder) || (folder.st_uid != 0 && fchown(fd, folder.st_uid, folder.st_gid)) ? -errno : 0;
}

int journal_write_file(const char *path, const json_t *json, struct err *err)
{
	char temporary[544], folder[512];
	_cleanup_free_ char *text = json_dumps(json, JSON_INDENT(1));
	_cleanup_close_ int fd = -1, dir = -1;

	if (!text)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	snprintf(folder, sizeof(folder), "%s", path);
	dir = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = dir < 0 ? -1 : open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc = fd < 0 ? -errno : give_to_owner(fd, dir);
	if (!rc)
		rc = write_all(fd, text, strlen(text));
	if (!rc && (fsync(fd) || rename(temporary, path) || fsync(dir)))
		rc = -errno;
	return rc ? err_set(err, rc, NULL, "cannot write %s: %s", path, strerror(-rc)) : 0;
}

static int read_list(const json_t *json, struct resource_list *list)
{
	const json_t *items = json_object_get(json, "resources");
	size_t i;
	json_t *item;
	int rc = json_is_array(items) ? 0 : -EINVAL;

	json_array_foreach ((json_t *)(uintptr_t)items, i, item) {
		struct resource r;

		rc = resource_from_json(item, &r);
		if (!rc)
			rc = resource_list_add(list, &r);
		if (rc)
			break;
	}
	return rc;
}

// --- lock ---

static void lock_path(const struct journal *journal, char buf[544])
{
	char folder[512];

	snprintf(folder, sizeof(folder), "%s", journal->path);
	snprintf(buf, 544, "%s/lock", dirname(folder));
}

// The file goes with the lock, so one that was opened may be another's than the one of that name by the time it is
// locked: -ESTALE. -EWOULDBLOCK: somebody holds it.
static int lock(int fd, const char *path, int dir)
{
	struct stat ours, there;

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB))
		return -errno;
	if (fstat(fd, &ours) || stat(path, &there) || ours.st_ino != there.st_ino || ours.st_dev != there.st_dev)
		return -ESTALE;
	return give_to_owner(fd, dir);
}

static int take_lock(struct journal *journal, const char *run_dir, struct err *err)
{
	_cleanup_close_ int dir = open(run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char path[544];
	int rc = dir < 0 ? -errno : -ESTALE;

	lock_path(journal, path);
	for (int i = 0; i < LOCK_TRIES && rc == -ESTALE; i++) {
		journal->lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		rc = lock(journal->lock, path, dir);
		if (rc && journal->lock >= 0)
			close(journal->lock);
	}
	journal->locked = !rc;
	if (rc == -EWOULDBLOCK)
		return err_set(err, -EBUSY, NULL,
			"another brass-agent is running, or gives this host back just now: it holds %s", path);
	return rc ? err_set(err, rc, "run_dir", "cannot lock %s: %s", path, strerror(-rc)) : 0;
}

static void let_go(struct journal *journal)
{
	char path[544];

	if (!journal->locked)
		return;
	lock_path(journal, path);
	unlink(path); // before others may hold it
	close(journal->lock);
	journal->locked = false;
}

// --- reading ---

// Without a file the list is empty.
static int read_file(struct journal *journal, struct err *err)
{
	json_error_t why;

	if (access(journal->path, F_OK))
		return 0;
	if (access(journal->path, R_OK))
		return err_set(err, -errno, NULL, "cannot read %s: %s", journal->path, strerror(errno));
	json_t *json = json_load_file(journal->path, 0, &why);
	int rc = json ? read_list(json, &journal->list) : -EINVAL;

	json_decref(json);
	if (rc)
		resource_list_clear(&journal->list);
	return rc
		? err_set(err, -EINVAL, NULL, "%s makes no sense: what an earlier run made is not known", journal->path)
		: 0;
}

int journal_peek(const char *run_dir, struct journal *ret, struct err *err)
{
	struct journal journal = { 0 };

	snprintf(journal.path, sizeof(journal.path), "%s/journal.json", run_dir);
	int rc = read_file(&journal, err);
	if (!rc)
		*ret = journal;
	return rc;
}

int journal_open(const char *run_dir, struct journal *ret, struct err *err)
{
	struct journal journal = { 0 };

	if (mkdir(run_dir, 0755) && errno != EEXIST)
		return err_set(err, -errno, "run_dir", "cannot make %s: %s", run_dir, strerror(errno));
	if (access(run_dir, W_OK))
		return err_set(err, -errno, "run_dir", "cannot write to %s: %s", run_dir, strerror(errno));
	snprintf(journal.path, sizeof(journal.path), "%s/journal.json", run_dir);
	int rc = take_lock(&journal, run_dir, err);
	if (!rc)
		rc = read_file(&journal, err);
	if (rc == -EINVAL && journal.locked) {
		char bad[544];

		snprintf(bad, sizeof(bad), "%s.bad", journal.path);
		rename(journal.path, bad);
		log_warning("%s cannot be read, put aside as %s: what an earlier run made is left as it is",
			journal.path, bad);
		rc = 0;
	}
	if (rc)
		let_go(&journal);
	else
		*ret = journal;
	return rc;
}

int journal_save(const struct journal *journal, struct err *err)
{
	json_t *items = json_array(), *json = json_pack("{s:i, s:o}", "version", 1, "resources", items);

	for (size_t i = 0; i < journal->list.count; i++)
		json_array_append_new(items, resource_to_json(&journal->list.items[i]));
	int rc = json ? journal_write_file(journal->path, json, err) : err_set(err, -ENOMEM, NULL, "out of memory");

	json_decref(json);
	return rc;
}

void journal_close(struct journal *journal)
{
	resource_list_clear(&journal->list);
	let_go(journal);
}
