// SPDX-License-Identifier: Apache-2.0
// The side of the control socket that asks.
#include "agent/control.h"

#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define ANSWER_MAX (16u << 20)
#define ASK_TIMEOUT_S 5

// The first document comes at once, the next when something changes.
static void set_timeout(int fd, int seconds)
{
	const struct timeval limit = { .tv_sec = seconds };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

static int connect_to(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	set_timeout(fd, ASK_TIMEOUT_S);
	if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa))) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

static const char *path_of(const char *run_dir, char path[108])
{
	snprintf(path, 108, "%s/agent.sock", run_dir);
	return path;
}

bool control_is_there(const char *run_dir)
{
	char path[108];
	int fd = connect_to(path_of(run_dir, path));

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

struct reading {
	int fd;
	char *text;
	size_t len, room;
};

// Reads on until there is a whole line. Its length without the end; 0: the other side has ended; -errno.
static ssize_t read_line(struct reading *r)
{
	for (;;) {
		const char *end = r->len ? memchr(r->text, '\n', r->len) : NULL;

		if (end)
			return end - r->text;
		if (r->len == r->room) {
			const size_t room = r->room ? 2 * r->room : 4096;
			char *more = room > ANSWER_MAX ? NULL : realloc(r->text, room);

			if (!more)
				return -ENOMEM;
			r->text = more;
			r->room = room;
		}
		const ssize_t n = read(r->fd, r->text + r->len, r->room - r->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		r->len += (size_t)n;
	}
}

static int hear(struct reading *r, const char *path, bool (*each)(void *ctx, const json_t *document), void *ctx,
	struct err *err)
{
	ssize_t len;

	while ((len = read_line(r)) > 0) {
		json_t *document = json_loadb(r->text, (size_t)len, 0, NULL);
		const char *error = json_string_value(json_object_get(document, "error"));
		int rc = 0;

		r->len -= (size_t)len + 1;
		memmove(r->text, r->text + len + 1, r->len);
		if (!document)
			rc = err_set(err, -EPROTO, NULL, "the agent's answer on %s makes no sense", path);
		else if (error)
			rc = err_set(err, -EINVAL, NULL, "%s", error);
		const bool go_on = !rc && each(ctx, document);

		json_decref(document);
		if (!go_on)
			return rc;
		set_timeout(r->fd, 0);
	}
	return len < 0 ? err_set(err, (int)len, NULL, "no answer on %s: %s", path, strerror((int)-len)) : 0;
}

int control_talk(const char *run_dir, const json_t *request, bool (*each)(void *ctx, const json_t *document), void *ctx,
	struct err *err)
{
	char path[108];
	_cleanup_close_ int fd = connect_to(path_of(run_dir, path));
	_cleanup_free_ char *text = json_dumps(request, JSON_COMPACT), *line = NULL;

	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return err_set(err, fd, NULL, "no brass-agent is running here: nobody answers on %s", path);
	if (fd < 0)
		return err_set(err, fd, NULL, "cannot ask the agent on %s: %s", path, strerror(-fd));
	if (!text || asprintf(&line, "%s\n", text) < 0)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	if (send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
		return err_set(err, -errno, NULL, "cannot ask the agent on %s: %s", path, strerror(errno));
	struct reading reading = { .fd = fd };
	int rc = hear(&reading, path, each, ctx, err);

	free(reading.text);
	return rc;
}

static bool keep(void *ctx, const json_t *document)
{
	*(json_t **)ctx = json_incref((json_t *)(uintptr_t)document);
	return false;
}

int control_ask(const char *run_dir, json_t **ret, struct err *err)
{
	json_t *request = json_pack("{s:s}", "word", "status"), *status = NULL;
	int rc = control_talk(run_dir, request, keep, &status, err);

	json_decref(request);
	if (!rc && !status)
		rc = err_set(err, -EPIPE, NULL, "the agent went away");
	if (!rc)
		*ret = status;
	return rc;
}
