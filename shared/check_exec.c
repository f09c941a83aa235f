// SPDX-License-Identifier: Apache-2.0
// Passes when a program of this host ends with exit code 0 in time; the first line that it printed is the reason.
//
// No shell: the arguments are the program's as they stand. It runs in a session, and so in a process group, of its own,
// so that the time limit ends what it has started, too. libuv reaps it; nothing waits.
#include "shared/check.h"

#include "shared/util.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#define OUTPUT_KEPT 200                   // bytes; what comes after is read and thrown away
#define WORDS_MAX (CHECK_COMMAND_MAX / 2) // each has a letter and a zero, or nothing and a zero: see parse

// What the program is told of: the environment is made anew, of nothing else.
struct surroundings {
	char lines[6][160];
	char *list[8];
	size_t count;
};

struct exec_check {
	struct check base;
	struct exec_check *prev, *next;  // in among->programs, see check.h
	struct check_lingering *among;   // NULL: nobody looks
	bool lingers, timed_out;         // why it was killed
	char command[CHECK_COMMAND_MAX]; // who it is
	struct surroundings around;      // and for whom
	char user[sizeof(((struct check_args *)NULL)->user)];
	uv_process_t process;
	uv_pipe_t output;
	uv_timer_t timer;
	int open_handles;
	bool over;   // done has been called, or never will be
	bool exited; // and is reaped
	char text[OUTPUT_KEPT + 1];
	size_t len;
	char scratch[512]; // where output is read to
};

// --- the command in its field ---

int check_parse_command(const json_t *json, void *member, struct err *err)
{
	char *command = member;
	size_t len = 0;

	memset(command, 0, CHECK_COMMAND_MAX);
	for (size_t i = 0; i < json_array_size(json); i++) {
		const char *word = json_string_value(json_array_get(json, i));

		if (!word)
			return err_set(err, -EINVAL, NULL, "found %s among the words, allowed are strings",
				field_json_kind(json_array_get(json, i)));
		if (i == 0 && *word != '/')
			return err_set(err, -EINVAL, NULL,
				"found \"%.80s\" first, allowed is a program by its absolute path: there is no shell "
				"that would look for it",
				word);
		if (i && !*word)
			return err_set(
				err, -EINVAL, NULL, "found an empty word, allowed are words of a letter or more");
		// the second zero behind the last word ends the list
		if (len + strlen(word) + 2 > CHECK_COMMAND_MAX)
			return err_set(
				err, -EINVAL, NULL, "is too long, allowed are %d bytes in all", CHECK_COMMAND_MAX - 2);
		memcpy(command + len, word, strlen(word) + 1);
		len += strlen(word) + 1;
	}
	return len ? 0
		   : err_set(err, -EINVAL, NULL, "found %s, allowed is a list: the program, then its arguments",
			     json_is_array(json) ? "an empty list" : field_json_kind(json));
}

bool check_print_command(const void *member, struct out *out)
{
	const char *word = member;

	if (!*word)
		return false;
	out_open(out, '[');
	for (; *word; word += strlen(word) + 1)
		out_string(out, word);
	out_close(out, '[');
	return true;
}

int check_find_user(const char *name, struct check_user *ret, struct err *err)
{
	*ret = (struct check_user) { 0 };
	if (!*name)
		return 0;
	errno = 0;
	const struct passwd *user = getpwnam(name);

	if (!user)
		return err_set(err, -EINVAL, "args.user", "found \"%s\", which is no user here%s%s", name,
			errno ? ": " : "", errno ? strerror(errno) : "");
	*ret = (struct check_user) { user->pw_uid, user->pw_gid };
	return 0;
}

bool check_is_exec(const struct check_spec *spec)
{
	return spec->kind == CHECK_EXEC || strstr(spec->args.parts, "\"type\":\"exec\"");
}

int check_may_exec(const struct check_spec *spec, const struct check_folders *folders, struct err *err)
{
	struct check_spec parts[CHECK_PARTS_MAX];
	const int count = spec->kind == CHECK_ALL || spec->kind == CHECK_ANY ? check_parts(&spec->args, parts) : 0;
	const char *program = spec->args.command;

	for (int i = 0; i < count; i++) {
		int rc = check_may_exec(&parts[i], folders, err);

		if (rc)
			return rc;
	}
	if (spec->kind != CHECK_EXEC || !folders)
		return 0;
	for (uint32_t i = 0; i < folders->count && !strstr(program, "/../"); i++) {
		const size_t len = strlen(folders->items[i]);

		if (strncmp(program, folders->items[i], len) == 0 && program[len] == '/')
			return 0;
	}
	return folders->count
		? err_set(err, -EACCES, "args.command",
			  "found %.80s, allowed are programs in the folders that check_programs names", program)
		: err_set(err, -EACCES, "args.command",
			  "found %.80s, but check_programs names no folder whose programs may be run", program);
}

// --- a run ---

static void on_closed(uv_handle_t *handle)
{
	struct exec_check *check = handle->data;

	if (--check->open_handles == 0)
		free(check);
}

static void close_handles(struct exec_check *check)
{
	uv_handle_t *const handles[] = { (uv_handle_t *)&check->process, (uv_handle_t *)&check->output,
		(uv_handle_t *)&check->timer };

	for (size_t i = 0; i < ARRAY_SIZE(handles); i++)
		uv_close(handles[i], on_closed);
}

// Its process group has its number. Not after it was reaped: the number may be another's by then. 0 or -errno: a
// program of another user takes CAP_KILL.
static int kill_group(struct exec_check *check)
{
	if (check->exited)
		return 0;
	if (check->among && !check->lingers) {
		DL_APPEND(check->among->programs, check);
		check->lingers = true;
	}
	return kill(-check->process.pid, SIGKILL) && errno != ESRCH ? -errno : 0;
}

void check_forget_lingering(struct check_lingering *lingering)
{
	struct exec_check *check, *next;

	DL_FOREACH_SAFE(lingering->programs, check, next)
	check->lingers = false;
	lingering->programs = NULL;
}

static void keep_output(struct exec_check *check, const char *data, size_t len)
{
	size_t take = len < OUTPUT_KEPT - check->len ? len : OUTPUT_KEPT - check->len;

	memcpy(check->text + check->len, data, take);
	check->len += take;
}

// The first line, fit to be shown anywhere.
static const char *first_line(struct exec_check *check)
{
	check->text[check->len] = '\0';
	check->text[strcspn(check->text, "\r\n")] = '\0';
	for (char *c = check->text; *c; c++)
		*c = isprint((unsigned char)*c) ? *c : '?';
	return check->text;
}

static void finish(struct exec_check *check, enum check_outcome outcome, const char *why)
{
	char reason[sizeof(check->base.what) + OUTPUT_KEPT + 80];
	const char *line = first_line(check);

	if (check->over)
		return;
	check->over = true;
	uv_timer_stop(&check->timer);
	snprintf(reason, sizeof(reason), "%s: %s%s%s", check->base.what, why, *line ? ": " : "", line);
	check->base.done(check->base.ctx, &(struct check_result) { outcome, reason, 0 });
}

static void on_exit_of(uv_process_t *process, int64_t code, int signal)
{
	struct exec_check *check = process->data;
	char why[48];
	ssize_t n;

	check->exited = true;
	if (check->lingers)
		DL_DELETE(check->among->programs, check);
	check->lingers = false;
	// what it printed last may still be in the pipe; a child that it left behind may hold the other end for ever
	uv_os_fd_t fd;
	while (check->len < OUTPUT_KEPT && uv_fileno((uv_handle_t *)&check->output, &fd) == 0 &&
		(n = read(fd, check->scratch, sizeof(check->scratch))) > 0)
		keep_output(check, check->scratch, (size_t)n);
	if (signal)
		snprintf(why, sizeof(why), "ended by signal %d (%s)", signal, strsignal(signal));
	else
		snprintf(why, sizeof(why), "exit code %d", (int)code);
	finish(check, signal || code ? CHECK_WRONG : CHECK_PASS, why);
	close_handles(check);
}

static void on_timeout(uv_timer_t *timer)
{
	struct exec_check *check = timer->data;

	char why[100] = "did not end in time";

	check->timed_out = true;
	const int rc = kill_group(check);
	if (rc)
		snprintf(why, sizeof(why), "did not end in time, and cannot be killed (%s)", strerror(-rc));
	finish(check, CHECK_TIMEOUT, why); // the handles stay until it is reaped
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct exec_check *check = handle->data;

	(void)suggested;
	*buf = uv_buf_init(check->scratch, sizeof(check->scratch));
}

static void on_output(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	if (n > 0)
		keep_output(stream->data, buf->base, (size_t)n);
	else if (n < 0)
		uv_read_stop(stream);
}

static void exec_cancel(struct check *base)
{
	struct exec_check *check = container_of(base, struct exec_check, base);

	check->over = true;
	uv_timer_stop(&check->timer);
	kill_group(check);
}

static void __attribute__((format(printf, 2, 3))) tell(struct surroundings *s, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(s->lines[s->count], sizeof(s->lines[0]), fmt, args);
	va_end(args);
	s->list[s->count] = s->lines[s->count];
	s->list[++s->count] = NULL;
}

static void surround(const struct check_target *target, struct surroundings *s)
{
	static const struct check_about nobody = { .service = "" };
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	const struct check_about *about = target->about ? target->about : &nobody;
	const struct inet_endpoint *real = check_target_real(target);
	const char *protocol = about->protocol == IPPROTO_TCP ? "tcp" : about->protocol == IPPROTO_UDP ? "udp" : "";
	char address[INET_ADDR_MAX];

	s->count = 0;
	tell(s, "BRASS_SERVICE=%s", about->service);
	tell(s, "BRASS_PORT=%u", real->port);
	tell(s, "BRASS_PROTOCOL=%s", protocol);
	if (inet_addr_is_set(&about->vip))
		tell(s, "BRASS_VIP=%s", inet_addr_format(&about->vip, address));
	if (about->backend) {
		tell(s, "BRASS_BACKEND=%s", about->backend);
		tell(s, "BRASS_RIP=%s", inet_addr_format(&real->addr, address));
	}
	s->list[s->count] = path;
	s->list[s->count + 1] = NULL;
}

static int spawn(struct exec_check *check, const struct check_env *env, const struct check_spec *spec,
	const struct check_user *user, int out)
{
	const struct check_args *args = &spec->args;
	char *words[WORDS_MAX + 1];
	size_t count = 0;

	for (const char *word = args->command; *word && count < WORDS_MAX; word += strlen(word) + 1)
		words[count++] = (char *)(uintptr_t)word;
	words[count] = NULL;
	uv_stdio_container_t stdio[] = {
		{ .flags = UV_IGNORE },
		{ .flags = UV_INHERIT_FD, .data.fd = out },
		{ .flags = UV_INHERIT_FD, .data.fd = out },
	};
	const uv_process_options_t options = {
		.exit_cb = on_exit_of,
		.file = words[0],
		.args = words,
		.env = check->around.list,
		.cwd = "/",
		.flags = UV_PROCESS_DETACHED | (*args->user ? UV_PROCESS_SETUID | UV_PROCESS_SETGID : 0),
		.stdio_count = ARRAY_SIZE(stdio),
		.stdio = stdio,
		.uid = user->uid,
		.gid = user->gid,
	};

	// libraries open descriptors as they like: none of them is the program's business
	close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
	return uv_spawn(env->loop, &check->process, &options);
}

// --- one that runs on ---

static const struct exec_check *find_lingering(const struct check_lingering *lingering, const struct exec_check *like)
{
	const struct exec_check *check;

	DL_FOREACH(lingering->programs, check)
	{
		size_t i = 0;

		if (memcmp(check->command, like->command, sizeof(like->command)) != 0 ||
			strcmp(check->user, like->user) != 0 || check->around.count != like->around.count)
			continue;
		while (i < like->around.count && strcmp(check->around.lines[i], like->around.lines[i]) == 0)
			i++;
		if (i == like->around.count)
			return check;
	}
	return NULL;
}

struct late_check {
	struct check base;
	uv_timer_t turn;
	enum check_outcome outcome;
};

static void on_late_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void late_cancel(struct check *base)
{
	uv_close((uv_handle_t *)&container_of(base, struct late_check, base)->turn, on_late_closed);
}

static void on_turn(uv_timer_t *timer)
{
	struct late_check *late = timer->data;
	char reason[sizeof(late->base.what) + 80];

	snprintf(reason, sizeof(reason), "%s: the last one was killed and has not ended yet", late->base.what);
	late_cancel(&late->base);
	late->base.done(late->base.ctx, &(struct check_result) { late->outcome, reason, 0 });
}

static const struct check_type exec_late = { "exec", NULL, late_cancel };

// Instead of another one. That the last one's time was over is a result for this one, too; if only its check had ended
// (the pulse was changed, say) nobody knows yet.
static int start_late(
	const struct check_env *env, const struct check_spec *spec, const struct exec_check *last, struct check **ret)
{
	struct late_check *late = calloc(1, sizeof(*late));

	if (!late)
		return -ENOMEM;
	late->base.type = &exec_late;
	late->outcome = last->timed_out ? CHECK_TIMEOUT : CHECK_BROKEN;
	snprintf(late->base.what, sizeof(late->base.what), "%.80s", spec->args.command);
	uv_timer_init(env->loop, &late->turn);
	late->turn.data = late;
	uv_timer_start(&late->turn, on_turn, 0, 0); // never from inside of the call
	*ret = &late->base;
	return 0;
}

// --- starting ---

static int exec_start(const struct check_env *env, const struct check_spec *spec, const struct check_target *target,
	struct check **ret)
{
	struct check_user user;
	int ends[2], rc = check_may_exec(spec, env->folders, NULL);

	if (!rc)
		rc = check_find_user(spec->args.user, &user, NULL);
	if (rc)
		return rc;
	struct exec_check *check = calloc(1, sizeof(*check));
	if (!check)
		return -ENOMEM;
	memcpy(check->command, spec->args.command, sizeof(check->command));
	memcpy(check->user, spec->args.user, sizeof(check->user));
	surround(target, &check->around);
	check->among = env->lingering;
	const struct exec_check *last = check->among ? find_lingering(check->among, check) : NULL;

	if (last || pipe2(ends, O_CLOEXEC)) {
		rc = last ? start_late(env, spec, last, ret) : -errno;
		free(check);
		return rc;
	}
	snprintf(check->base.what, sizeof(check->base.what), "%.80s", spec->args.command);
	fcntl(ends[0], F_SETFL, O_NONBLOCK); // the program's end must be like any other
	uv_pipe_init(env->loop, &check->output, 0);
	uv_timer_init(env->loop, &check->timer);
	check->output.data = check->process.data = check->timer.data = check;
	check->open_handles = 3;
	rc = spawn(check, env, spec, &user, ends[1]);

	close(ends[1]);
	if (uv_pipe_open(&check->output, ends[0]))
		close(ends[0]); // what it prints is lost then
	if (rc) {
		check->over = true;
		close_handles(check);
		return rc;
	}
	uv_read_start((uv_stream_t *)&check->output, on_room, on_output);
	uv_timer_start(&check->timer, on_timeout, (uint64_t)spec->timeout_ms, 0);
	*ret = &check->base;
	return 0;
}

const struct check_type check_exec = { "exec", exec_start, exec_cancel };
