// SPDX-License-Identifier: Apache-2.0
#include "agent/doctor_run.h"

#include "shared/clock.h"
#include "shared/out.h"
#include "shared/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define WORDS_MAX 4096 // of what it complains

static bool find(const char *name, char *path, size_t size)
{
	static const char *const places[] = { "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin",
		"/bin" };

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(path, size, "%s/%s", places[i], name);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

static int start(const char *path, const char *const argv[], int out, int complaints, pid_t *ret)
{
	static char *const environment[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", (char *)"LC_ALL=C", NULL };
	posix_spawn_file_actions_t actions;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	posix_spawn_file_actions_adddup2(&actions, complaints, 2);
	int rc = -posix_spawn(ret, path, &actions, NULL, (char *const *)(uintptr_t)argv, environment);

	posix_spawn_file_actions_destroy(&actions);
	return rc;
}

// One descriptor's share of a poll; false: it is at its end.
static bool take(int fd, short events, struct out *to, size_t max)
{
	char part[16384];

	if (!events)
		return true;
	ssize_t n = read(fd, part, sizeof(part));
	if (n <= 0)
		return n < 0 && errno == EINTR;
	if (to->len < max) // one read more than that shows that it was too much
		out_bytes(to, part, (size_t)n);
	return true;
}

static int listen_to(int out_fd, int words_fd, struct out *out, struct out *words)
{
	const msec_t end_ms = clock_now_ms() + DOCTOR_RUN_MS_MAX;
	struct pollfd fds[] = { { out_fd, POLLIN, 0 }, { words_fd, POLLIN, 0 } };

	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		const msec_t left = end_ms - clock_now_ms();

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(fds, ARRAY_SIZE(fds), (int)left) < 0)
			continue;
		if (fds[0].fd >= 0 && !take(fds[0].fd, fds[0].revents, out, DOCTOR_RUN_BYTES_MAX))
			fds[0].fd = -1;
		if (fds[1].fd >= 0 && !take(fds[1].fd, fds[1].revents, words, WORDS_MAX))
			fds[1].fd = -1;
		if (out->len >= DOCTOR_RUN_BYTES_MAX)
			return -EMSGSIZE;
	}
	return out->failed ? -ENOMEM : 0;
}

// How it ended, as a sentence.
static int verdict(const char *name, int rc, int status, const struct out *words, struct err *err)
{
	const char *said = words->text ? words->text : "";

	if (rc == -ETIMEDOUT)
		return err_set(err, rc, NULL, "%s gave no answer within %d s", name, DOCTOR_RUN_MS_MAX / 1000);
	if (rc == -EMSGSIZE)
		return err_set(err, rc, NULL, "%s prints more than %u MiB", name, DOCTOR_RUN_BYTES_MAX >> 20);
	if (rc)
		return err_set(err, rc, NULL, "%s: %s", name, strerror(-rc));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return err_set(err, -EIO, NULL, "%s failed%s%.*s", name, *said ? ": " : "", (int)strcspn(said, "\n"), said);
}

int doctor_run(const char *const argv[], char **ret_text, size_t *ret_len, struct err *err)
{
	_cleanup_out_ struct out out = { 0 }, words = { 0 };
	int out_pipe[2] = { -1, -1 }, words_pipe[2] = { -1, -1 }, status = 0;
	char path[256];
	pid_t pid = 0;

	if (!find(argv[0], path, sizeof(path)))
		return err_set(err, -ENOENT, NULL, "%s is not installed", argv[0]);
	int rc = pipe2(out_pipe, O_CLOEXEC) || pipe2(words_pipe, O_CLOEXEC) ? -errno : 0;
	if (!rc)
		rc = start(path, argv, out_pipe[1], words_pipe[1], &pid);
	for (int i = 1; i >= 0; i--) { // the writing ends first: then its end is ours
		if (i == 0 && !rc)
			rc = listen_to(out_pipe[0], words_pipe[0], &out, &words);
		close(out_pipe[i]);
		close(words_pipe[i]);
	}
	if (pid) {
		if (rc)
			kill(pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	out_text(&out, ""); // so that there is a text
	rc = verdict(argv[0], rc, status, &words, err);
	if (rc)
		return rc;
	*ret_text = out_steal(&out, ret_len);
	return *ret_text ? 0 : err_set(err, -ENOMEM, NULL, "out of memory");
}
