// SPDX-License-Identifier: Apache-2.0
#include "director/hook.h"

#include "shared/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#define SERVICE_MAX 64

struct fact {
	bool there;
	uint32_t up, needed;
};

// One service: what is to be told of it, and the program that tells it.
struct job {
	UT_hash_handle hh; // in hook->jobs
	struct job *prev, *next;
	struct hook *hook;
	bool running, again; // again: the fact has changed since
	struct fact fact, told;
	uv_process_t process;
	uv_timer_t timer;
	int handles; // that are not yet closed
	char service[SERVICE_MAX + 1];
};

struct hook {
	uv_loop_t *loop;
	struct hook_program up, down;
	struct job *jobs;    // by name
	struct job *waiting; // a list, the oldest first
	unsigned int running;
};

// --- the field ---

int hook_parse_program(const json_t *json, void *member, struct err *err)
{
	struct hook_program *program = member;
	const size_t count = json_array_size(json);

	memset(program, 0, sizeof(*program));
	if (!count || count > HOOK_WORDS_MAX)
		return err_set(err, -EINVAL, NULL,
			"found %s, allowed is a list of 1 to %d words: the path of a program and its arguments",
			json_is_array(json) ? "another number of words" : "something else", HOOK_WORDS_MAX);
	for (; program->count < count; program->count++) {
		const char *word = json_string_value(json_array_get(json, program->count));

		if (!word || strlen(word) > HOOK_WORD_MAX)
			return err_set(err, -EINVAL, NULL, "word %u: allowed is a string of at most %d bytes",
				program->count + 1, HOOK_WORD_MAX);
		snprintf(program->words[program->count], sizeof(program->words[0]), "%s", word);
	}
	if (*program->words[0] != '/' || access(program->words[0], X_OK) != 0)
		return err_set(err, -EINVAL, NULL, "found %.160s, allowed is the whole path of a program: %s",
			program->words[0], *program->words[0] == '/' ? strerror(errno) : "it begins with /");
	return 0;
}

bool hook_print_program(const void *member, struct out *out)
{
	const struct hook_program *program = member;

	if (!program->count)
		return false;
	out_open(out, '[');
	for (uint32_t i = 0; i < program->count; i++)
		out_string(out, program->words[i]);
	out_close(out, '[');
	return true;
}

// --- running ---

static void start_waiting(struct hook *hook);

static void job_free(struct job *job)
{
	HASH_DEL(job->hook->jobs, job);
	free(job);
}

static void on_closed(uv_handle_t *handle)
{
	struct job *job = handle->data;
	struct hook *hook = job->hook;

	if (--job->handles)
		return;
	if (!hook->loop) { // the director stops
		job_free(job);
		if (!hook->jobs)
			free(hook);
		return;
	}
	hook->running--;
	job->running = false;
	if (job->again && job->fact.there != job->told.there)
		DL_APPEND(hook->waiting, job);
	else
		job_free(job);
	start_waiting(hook);
}

static void close_handles(struct job *job)
{
	job->handles = 2;
	uv_close((uv_handle_t *)&job->process, on_closed);
	uv_close((uv_handle_t *)&job->timer, on_closed);
}

static void on_exit_of(uv_process_t *process, int64_t status, int signal)
{
	struct job *job = process->data;

	if (signal)
		log_warning("service %s: the program of its quorum was ended by signal %d", job->service, signal);
	else if (status)
		log_warning("service %s: the program of its quorum ended with exit code %lld", job->service,
			(long long)status);
	kill(-process->pid, SIGKILL); // what it left behind
	close_handles(job);
}

static void on_late(uv_timer_t *timer)
{
	struct job *job = timer->data;

	log_warning("service %s: the program of its quorum still runs after %d s: killed", job->service,
		HOOK_TIMEOUT_MS / 1000);
	kill(-job->process.pid, SIGKILL);
}

static int spawn(struct job *job, const struct hook_program *program)
{
	const char *path = getenv("PATH");
	char env[5][512], *environment[6] = { 0 }, *words[HOOK_WORDS_MAX + 1] = { 0 };
	uv_stdio_container_t stdio[3] = { { .flags = UV_IGNORE }, { .flags = UV_IGNORE },
		{ .flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO } };

	snprintf(env[0], sizeof(env[0]), "PATH=%s", path ? path : "/usr/sbin:/usr/bin:/sbin:/bin");
	snprintf(env[1], sizeof(env[1]), "BRASS_SERVICE=%s", job->service);
	snprintf(env[2], sizeof(env[2]), "BRASS_QUORUM=%s", job->told.there ? "up" : "down");
	snprintf(env[3], sizeof(env[3]), "BRASS_BACKENDS_UP=%u", job->told.up);
	snprintf(env[4], sizeof(env[4]), "BRASS_BACKENDS_NEEDED=%u", job->told.needed);
	for (size_t i = 0; i < ARRAY_SIZE(env); i++)
		environment[i] = env[i];
	for (uint32_t i = 0; i < program->count; i++)
		words[i] = (char *)(uintptr_t)program->words[i];
	const uv_process_options_t options = {
		.exit_cb = on_exit_of,
		.file = words[0],
		.args = words,
		.env = environment,
		.cwd = "/",
		.flags = UV_PROCESS_DETACHED, // a session, and so a process group, of its own
		.stdio_count = ARRAY_SIZE(stdio),
		.stdio = stdio,
	};

	return uv_spawn(job->hook->loop, &job->process, &options);
}

static void start(struct job *job)
{
	struct hook *hook = job->hook;
	const struct hook_program *program = job->fact.there ? &hook->up : &hook->down;

	job->told = job->fact;
	job->again = false;
	job->running = true;
	hook->running++;
	uv_timer_init(hook->loop, &job->timer);
	job->timer.data = job->process.data = job;
	int rc = spawn(job, program);
	if (rc) {
		log_error("service %s: cannot run %s: %s", job->service, program->words[0], uv_strerror(rc));
		close_handles(job);
		return;
	}
	uv_timer_start(&job->timer, on_late, HOOK_TIMEOUT_MS, 0);
}

static void start_waiting(struct hook *hook)
{
	while (hook->waiting && hook->running < HOOK_AT_ONCE) {
		struct job *job = hook->waiting;

		DL_DELETE(hook->waiting, job);
		if ((job->fact.there ? &hook->up : &hook->down)->count)
			start(job);
		else
			job_free(job);
	}
}

void hook_quorum(struct hook *hook, const char *service, bool there, uint32_t up, uint32_t needed)
{
	const struct fact fact = { there, up, needed };
	struct job *job = NULL;

	HASH_FIND_STR(hook->jobs, service, job);
	if (!job && !(there ? &hook->up : &hook->down)->count)
		return;
	if (job) {
		job->fact = fact;
		job->again = true;
		return;
	}
	job = calloc(1, sizeof(*job));
	if (!job) {
		log_error("service %s: out of memory: the program of its quorum is not run", service);
		return;
	}
	job->hook = hook;
	job->fact = fact;
	snprintf(job->service, sizeof(job->service), "%s", service);
	HASH_ADD_STR(hook->jobs, service, job);
	DL_APPEND(hook->waiting, job);
	start_waiting(hook);
}

// --- life ---

int hook_new(uv_loop_t *loop, struct hook **ret, struct err *err)
{
	struct hook *hook = calloc(1, sizeof(*hook));

	if (!hook)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	hook->loop = loop;
	*ret = hook;
	return 0;
}

void hook_set(struct hook *hook, const struct hook_program *up, const struct hook_program *down)
{
	hook->up = *up;
	hook->down = *down;
}

void hook_free(struct hook *hook)
{
	struct job *job, *next;

	if (!hook)
		return;
	HASH_ITER (hh, hook->jobs, job, next)
		if (!job->running)
			job_free(job);
	hook->waiting = NULL;
	hook->loop = NULL;
	if (!hook->jobs) {
		free(hook);
		return;
	}
	HASH_ITER (hh, hook->jobs, job, next)
		if (!job->handles)
			close_handles(job);
}
