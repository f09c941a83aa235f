// SPDX-License-Identifier: Apache-2.0
#include "shared/check.h"
#include "shared/loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h> // cmocka.h needs these four
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

// The fields as they stand in a file, and what came of them.
struct run {
	uv_loop_t loop;
	int calls;
	enum check_outcome outcome;
	char reason[512];
};

static void on_done(void *ctx, const struct check_result *result)
{
	struct run *run = ctx;

	run->calls++;
	run->outcome = result->outcome;
	snprintf(run->reason, sizeof(run->reason), "%s", result->reason);
}

static int parse(const char *text, struct check_spec *spec, struct err *err)
{
	json_t *json = json_loads(text, 0, NULL);
	int rc = field_parse(&check_fields, json, spec, err);

	assert_non_null(json);
	json_decref(json);
	return rc ? rc : check_complete(spec, err);
}

static int start(struct run *run, const char *text, struct check **ret)
{
	struct check_spec spec;
	struct err err = { 0 };
	const struct check_env env = { .loop = &run->loop };
	struct check_about about = { .service = "web", .protocol = IPPROTO_UDP };
	struct check_target to = { .to.port = 53, .about = &about };

	*run = (struct run) { 0 };
	uv_loop_init(&run->loop);
	inet_addr_parse("10.0.0.100", &to.to.addr);
	about.vip = to.to.addr;
	if (parse(text, &spec, &err))
		fail_msg("%s: %s", text, err.text);
	int rc = check_start(&env, &spec, &to, on_done, run, ret);

	assert_int_equal(run->calls, 0);
	return rc;
}

// Returns how long it took, in milliseconds.
static msec_t finish(struct run *run)
{
	msec_t begin = clock_now_ms();

	uv_run(&run->loop, UV_RUN_DEFAULT); // until the program is reaped and every handle closed
	assert_int_equal(uv_loop_close(&run->loop), 0);
	return clock_now_ms() - begin;
}

static void assert_outcome(const char *text, enum check_outcome outcome, const char *reason)
{
	struct check *check;
	struct run run;

	assert_int_equal(start(&run, text, &check), 0);
	finish(&run);
	assert_int_equal(run.calls, 1);
	assert_int_equal(run.outcome, outcome);
	assert_string_equal(run.reason, reason);
}

#define SH(script) \
	"{\"type\": \"exec\", \"timeout\": \"10s\", \"args\": {\"command\": [\"/bin/sh\", \"-c\", \"" script "\"]}}"

static void test_exit_codes(void **state)
{
	(void)state;
	assert_outcome(SH("exit 0"), CHECK_PASS, "/bin/sh: exit code 0");
	assert_outcome(SH("exit 3"), CHECK_WRONG, "/bin/sh: exit code 3");
	assert_outcome(SH("kill -TERM $$"), CHECK_WRONG, "/bin/sh: ended by signal 15 (Terminated)");
}

static void test_the_first_line_is_the_reason(void **state)
{
	(void)state;
	assert_outcome(SH("echo the queue is full; echo more; exit 1"), CHECK_WRONG,
		"/bin/sh: exit code 1: the queue is full");
	assert_outcome(SH("echo to stderr >&2; exit 1"), CHECK_WRONG, "/bin/sh: exit code 1: to stderr");
	assert_outcome(SH("printf 'a\\\\033[1m\\\\tb'; exit 1"), CHECK_WRONG, "/bin/sh: exit code 1: a?[1m?b");
}

static void test_much_output_is_read_and_cut(void **state)
{
	struct check *check;
	struct run run;

	(void)state;
	// more than a pipe holds: a program whose output nobody reads would hang
	assert_int_equal(start(&run, SH("head -c 1000000 /dev/zero | tr '\\\\0' x; exit 1"), &check), 0);
	finish(&run);
	assert_int_equal(run.outcome, CHECK_WRONG);
	assert_true(strlen(run.reason) < 300 && strstr(run.reason, "exit code 1: xxxx"));
}

static void test_no_shell_and_a_new_environment(void **state)
{
	(void)state;
	setenv("BRASS_SECRET", "of the daemon", 1);
	// env prints one variable a line: all of them in one
	assert_outcome(SH("/usr/bin/env | grep -v ^PWD= | grep -v ^_= | grep -v ^OLDPWD= | grep -v ^SHLVL= | sort | tr "
			  "'\\\\n' ' '; exit 1"),
		CHECK_WRONG,
		"/bin/sh: exit code 1: BRASS_PORT=53 BRASS_PROTOCOL=udp BRASS_SERVICE=web BRASS_VIP=10.0.0.100 "
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ");
	assert_outcome("{\"type\": \"exec\", \"args\": {\"command\": [\"/bin/echo\", \"$HOME;\", \"*\"]}}", CHECK_PASS,
		"/bin/echo: exit code 0: $HOME; *");
}

static void test_descriptors_are_not_inherited(void **state)
{
	int ends[2], copy;

	(void)state;
	assert_int_equal(pipe(ends), 0); // without O_CLOEXEC
	copy = dup2(ends[0], 77);
	assert_outcome(SH("test ! -e /proc/self/fd/77"), CHECK_PASS, "/bin/sh: exit code 0");
	close(ends[0]);
	close(ends[1]);
	close(copy);
}

// A program that has a child: both are gone afterwards. The child tells its number by a file.
static void assert_group_ends(bool cancel)
{
	char path[] = "/tmp/check_exec_XXXXXX", text[400];
	int fd = mkstemp(path), child = 0;
	struct check *check;
	struct run run;

	assert_true(fd >= 0);
	snprintf(text, sizeof(text),
		"{\"type\": \"exec\", \"timeout\": \"300ms\", \"args\": {\"command\": [\"/bin/sh\", \"-c\", "
		"\"trap '' TERM; sleep 600 & echo $! > %s; echo busy; wait\"]}}",
		path);
	assert_int_equal(start(&run, text, &check), 0);
	if (cancel) {
		while (lseek(fd, 0, SEEK_END) < 2)
			uv_run(&run.loop, UV_RUN_NOWAIT);
		check_cancel(check);
	}
	finish(&run);
	FILE *file = fdopen(fd, "r");

	rewind(file);
	assert_int_equal(fscanf(file, "%d", &child), 1);
	fclose(file);
	unlink(path);
	// killed, and reaped by whoever has taken it over: this may take a moment
	for (int i = 0; i < 500 && kill(child, 0) == 0; i++) {
		char stat[64], line[200] = "";

		snprintf(stat, sizeof(stat), "/proc/%d/stat", child);
		FILE *proc = fopen(stat, "r");
		if (proc) {
			if (fgets(line, sizeof(line), proc) && strstr(line, ") Z "))
				i = 500; // nobody reaps it here, but it is dead
			fclose(proc);
		}
		if (i == 499)
			fail_msg("the program's child %d still runs", child);
		usleep(10000);
	}
	assert_int_equal(run.calls, cancel ? 0 : 1);
	if (!cancel) {
		assert_int_equal(run.outcome, CHECK_TIMEOUT);
		assert_string_equal(run.reason, "/bin/sh: did not end in time: busy");
	}
}

static void test_the_time_limit_ends_all_of_it(void **state)
{
	(void)state;
	assert_group_ends(false);
}

static void test_cancelled(void **state)
{
	(void)state;
	assert_group_ends(true);
}

static bool may_not_kill;
static pid_t last_group; // that was to be killed

// As for a program of another user, without CAP_KILL.
int kill(pid_t pid, int signal)
{
	if (pid < 0)
		last_group = pid;
	if (may_not_kill && pid < 0) {
		errno = EPERM;
		return -1;
	}
	return (int)syscall(SYS_kill, pid, signal);
}

struct several {
	struct run run;
	struct check_lingering lingering;
	struct check_env env;
	struct check *check;
};

static void start_one(struct several *s, const char *text)
{
	const struct check_target to = { .to.port = 53 };
	struct check_spec spec;
	struct err err = { 0 };

	assert_int_equal(parse(text, &spec, &err), 0);
	s->run.calls = 0;
	assert_int_equal(check_start(&s->env, &spec, &to, on_done, &s->run, &s->check), 0);
	assert_int_equal(s->run.calls, 0);
}

static void ask(struct several *s, const char *text, enum check_outcome outcome, const char *reason)
{
	start_one(s, text);
	while (!s->run.calls)
		uv_run(&s->run.loop, UV_RUN_ONCE);
	assert_string_equal(s->run.reason, reason);
	assert_int_equal(s->run.outcome, outcome);
}

#define SLEEP(time) \
	"{\"type\": \"exec\", \"timeout\": \"" time "\", \"args\": {\"command\": [\"/bin/sleep\", \"600\"]}}"

static void test_one_that_cannot_be_ended(void **state)
{
	struct several s = { 0 };

	(void)state;
	uv_loop_init(&s.run.loop);
	s.env = (struct check_env) { .loop = &s.run.loop, .lingering = &s.lingering };
	may_not_kill = true;
	ask(&s, SLEEP("100ms"), CHECK_TIMEOUT,
		"/bin/sleep: did not end in time, and cannot be killed (Operation not permitted)");
	const pid_t first = last_group;
	// there is one of them at most, and others are others
	ask(&s, SLEEP("100ms"), CHECK_TIMEOUT, "/bin/sleep: the last one was killed and has not ended yet");
	assert_int_equal(last_group, first);
	start_one(&s, SLEEP("100ms"));
	check_cancel(s.check);
	ask(&s, SH("exit 0"), CHECK_PASS, "/bin/sh: exit code 0");
	assert_false(loop_finish(&s.run.loop, 10)); // an end does not wait for it
	may_not_kill = false;
	kill(first, SIGKILL);
	while (s.lingering.programs)
		uv_run(&s.run.loop, UV_RUN_ONCE);
	ask(&s, SLEEP("100ms"), CHECK_TIMEOUT, "/bin/sleep: did not end in time");
	assert_true(loop_finish(&s.run.loop, 10000));
	assert_null(s.lingering.programs);
}

// One whose check was ended says nothing of the real server, and its list may go before it.
static void test_one_that_is_not_wanted(void **state)
{
	struct several s = { 0 };

	(void)state;
	uv_loop_init(&s.run.loop);
	s.env = (struct check_env) { .loop = &s.run.loop, .lingering = &s.lingering };
	may_not_kill = true;
	start_one(&s, SLEEP("10s"));
	check_cancel(s.check);
	ask(&s, SLEEP("10s"), CHECK_BROKEN, "/bin/sleep: the last one was killed and has not ended yet");
	check_forget_lingering(&s.lingering);
	memset(&s.lingering, 0xee, sizeof(s.lingering));
	may_not_kill = false;
	kill(last_group, SIGKILL);
	assert_true(loop_finish(&s.run.loop, 10000));
}

static void test_what_is_left_behind_holds_nothing_up(void **state)
{
	struct check *check;
	struct run run;

	(void)state;
	// the child keeps the pipe open for 20 s
	assert_int_equal(start(&run, SH("echo done; sleep 20 & exit 0"), &check), 0);
	assert_true(finish(&run) < 10000);
	assert_int_equal(run.outcome, CHECK_PASS);
	assert_string_equal(run.reason, "/bin/sh: exit code 0: done");
}

static void test_what_cannot_be_run(void **state)
{
	char path[] = "/tmp/check_exec_XXXXXX", text[200];
	int fd = mkstemp(path);
	struct check *check;
	struct run run;

	(void)state;
	assert_int_equal(
		start(&run, "{\"type\": \"exec\", \"args\": {\"command\": [\"/nonexistent\"]}}", &check), -ENOENT);
	finish(&run);
	assert_int_equal(run.calls, 0);
	assert_int_equal(fchmod(fd, 0600), 0);
	snprintf(text, sizeof(text), "{\"type\": \"exec\", \"args\": {\"command\": [\"%s\"]}}", path);
	assert_int_equal(start(&run, text, &check), -EACCES);
	finish(&run);
	close(fd);
	unlink(path);
}

static void test_user(void **state)
{
	struct check_spec spec;
	struct err err = { 0 };
	const char *text = "{\"type\": \"exec\", \"args\": {\"command\": [\"/bin/sh\", \"-c\", \"id -un; exit 1\"], "
			   "\"user\": \"nobody\"}}";
	struct check_user user;

	(void)state;
	assert_int_equal(parse(text, &spec, &err), 0);
	assert_int_equal(check_find_user(spec.args.user, &user, &err), 0);
	assert_int_not_equal(user.uid, 0);
	strcpy(spec.args.user, "nobody-of-that-name");
	assert_int_equal(check_find_user(spec.args.user, &user, &err), -EINVAL);
	assert_string_equal(err.text, "found \"nobody-of-that-name\", which is no user here");
	if (getuid() != 0)
		skip(); // only root can be somebody else
	struct run run = { 0 };
	struct check *check;
	const struct check_env env = { .loop = &run.loop };
	const struct check_target to = { 0 };

	uv_loop_init(&run.loop);
	strcpy(spec.args.user, "nobody");
	assert_int_equal(check_find_user(spec.args.user, &user, &err), 0);
	assert_int_equal(check_start(&env, &spec, &to, on_done, &run, &check), 0);
	finish(&run);
	assert_string_equal(run.reason, "/bin/sh: exit code 1: nobody");
}

static void test_mistakes(void **state)
{
	static const struct {
		const char *text, *field, *sentence;
	} mistakes[] = {
		{ "{\"type\": \"exec\"}", "args.command", "missing; a check of type exec needs it" },
		{ "{\"type\": \"http\", \"args\": {\"command\": [\"/bin/true\"]}}", "args.command",
			"found with type http; it is for exec" },
		{ "{\"type\": \"tcp\", \"args\": {\"user\": \"nobody\"}}", "args.user",
			"found with type tcp; it is for exec" },
		{ "{\"type\": \"exec\", \"args\": {\"command\": \"/bin/true\"}}", "args.command",
			"found a string, allowed is a list: the program, then its arguments" },
		{ "{\"type\": \"exec\", \"args\": {\"command\": []}}", "args.command",
			"found an empty list, allowed is a list: the program, then its arguments" },
		{ "{\"type\": \"exec\", \"args\": {\"command\": [\"/bin/true\", 80]}}", "args.command",
			"found a whole number among the words, allowed are strings" },
		{ "{\"type\": \"exec\", \"args\": {\"command\": [\"true\"]}}", "args.command",
			"found \"true\" first, allowed is a program by its absolute path: there is no shell that would "
			"look "
			"for it" },
		{ "{\"type\": \"exec\", \"args\": {\"command\": [\"/bin/true\", \"\"]}}", "args.command",
			"found an empty word, allowed are words of a letter or more" },
	};
	struct check_spec spec;

	(void)state;
	for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
		struct err err = { 0 };

		assert_int_equal(parse(mistakes[i].text, &spec, &err), -EINVAL);
		assert_string_equal(err.field, mistakes[i].field);
		assert_string_equal(err.text, mistakes[i].sentence);
	}
	char text[600];
	struct err err = { 0 };

	snprintf(text, sizeof(text), "{\"type\": \"exec\", \"args\": {\"command\": [\"/bin/true\", \"%0300d\"]}}", 7);
	assert_int_equal(parse(text, &spec, &err), -EINVAL);
	assert_string_equal(err.text, "is too long, allowed are 254 bytes in all");
}

static void test_printed_and_read_again(void **state)
{
	const char *text = "{\"type\": \"exec\", \"args\": {\"command\": [\"/bin/sh\", \"-c\", \"exit 0\"], \"user\": "
			   "\"nobody\"}}";
	struct check_spec spec, again;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(parse(text, &spec, &err), 0);
	json_t *json = field_print(&check_fields, &spec);
	char names[80];

	assert_string_equal(
		json_string_value(json_array_get(json_object_get(json_object_get(json, "args"), "command"), 1)), "-c");
	assert_int_equal(field_parse(&check_fields, json, &again, &err), 0);
	assert_int_equal(field_diff(&check_fields, &spec, &again, names, sizeof(names)), 0);
	json_decref(json);
}

// A part that cannot even be started might have passed, or failed.
static void test_a_part_that_cannot_start(void **state)
{
	static const char parts[] =
		"{\"type\": \"%s\", \"args\": {\"checks\": [{\"type\": \"exec\", \"args\": {\"command\": "
		"[\"/no/such/program\"]}}, {\"type\": \"exec\", \"args\": {\"command\": [\"/bin/%s\"]}}]}}";
	static const char
		broken[] = "cannot start the check of type exec: No such file or directory",
		both[] = "cannot start the check of type exec: No such file or directory; /bin/false: exit code 1";
	static const struct {
		const char *type, *other;
		enum check_outcome outcome;
		const char *reason;
	} rows[] = {
		{ "all", "true", CHECK_BROKEN, broken },
		{ "all", "false", CHECK_WRONG, both },
		{ "any", "true", CHECK_PASS, "/bin/true: exit code 0" },
		{ "any", "false", CHECK_BROKEN, both },
	};
	char text[400];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(text, sizeof(text), parts, rows[i].type, rows[i].other);
		assert_outcome(text, rows[i].outcome, rows[i].reason);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exit_codes),
		cmocka_unit_test(test_the_first_line_is_the_reason),
		cmocka_unit_test(test_much_output_is_read_and_cut),
		cmocka_unit_test(test_no_shell_and_a_new_environment),
		cmocka_unit_test(test_descriptors_are_not_inherited),
		cmocka_unit_test(test_the_time_limit_ends_all_of_it),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_what_is_left_behind_holds_nothing_up),
		cmocka_unit_test(test_one_that_cannot_be_ended),
		cmocka_unit_test(test_one_that_is_not_wanted),
		cmocka_unit_test(test_what_cannot_be_run),
		cmocka_unit_test(test_user),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_a_part_that_cannot_start),
		cmocka_unit_test(test_printed_and_read_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
