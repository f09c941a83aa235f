// SPDX-License-Identifier: Apache-2.0
#include "agent/journal.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

int journal_write_file(const char *path, const json_t *json, struct err *err)
{
	char temporary[544], folder[512];
	_cleanup_free_ char *text = json_dumps(json, JSON_INDENT(1));
	_cleanup_close_ int fd = -1, dir = -1;

	if (!text)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	snprintf(temporary, sizeof(temporary), "%s.new", path);
	snprintf(folder, sizeof(folder), "%s", path);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc = fd < 0 ? -errno : write_all(fd, text, strlen(text));
	if (!rc && (fsync(fd) || rename(temporary, path)))
		rc = -errno;
	dir = rc ? -1 : open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!rc && (dir < 0 || fsync(dir)))
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
	int rc = read_file(&journal, err);
	if (rc == -EINVAL) {
		char bad[544];

		snprintf(bad, sizeof(bad), "%s.bad", journal.path);
		rename(journal.path, bad);
		log_warning("%s cannot be read, put aside as %s: what an earlier run made is left as it is",
			journal.path, bad);
		rc = 0;
	}
	if (!rc)
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
}
