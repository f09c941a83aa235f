// SPDX-License-Identifier: Apache-2.0
#include "agent/words.h"

#include "agent/control.h"
#include "agent/host.h"
#include "agent/status.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int complain(const struct err *err)
{
	fprintf(stderr, "brass-agent: %s\n", err->text);
	return EXIT_FAILED;
}

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

// --- status ---

struct showing {
	bool as_json, watch, on_terminal;
	bool shown;
};

static void print_time(void)
{
	char text[16];
	const time_t now = time(NULL);
	struct tm tm;

	strftime(text, sizeof(text), "%H:%M:%S", localtime_r(&now, &tm));
	printf("\033[H\033[Jat %s\n", text);
}

static bool show(void *ctx, const json_t *status)
{
	struct showing *showing = ctx;

	if (showing->as_json) {
		json_dumpf(status, stdout, showing->watch ? JSON_COMPACT : JSON_INDENT(2));
		putchar('\n');
	} else {
		if (showing->watch && showing->on_terminal)
			print_time();
		else if (showing->shown)
			putchar('\n');
		status_print(status);
	}
	showing->shown = true;
	return fflush(stdout) == 0 && showing->watch;
}

int words_status(const struct words_call *call)
{
	struct showing showing = {
		.as_json = json_object_get(call->given, "json"),
		.watch = json_object_get(call->given, "watch"),
		.on_terminal = isatty(STDOUT_FILENO),
	};
	json_t *request = json_pack("{s:s, s:b}", "word", "status", "watch", showing.watch);
	struct err err = { 0 };
	int rc = control_talk(call->config->run_dir, request, show, &showing, &err);

	json_decref(request);
	if (!rc && showing.watch && !ferror(stdout)) // who watches wants to know that it is over
		rc = err_set(&err, -EPIPE, NULL, "the agent has stopped");
	return rc ? complain(&err) : EXIT_FINE;
}

// --- drain and undrain ---

struct waiting {
	bool on_terminal, wait;
	char state[16], text[160];
};

static bool show_progress(void *ctx, const json_t *document)
{
	struct waiting *waiting = ctx;

	snprintf(waiting->state, sizeof(waiting->state), "%s", text_of(document, "state"));
	snprintf(waiting->text, sizeof(waiting->text), "%s", text_of(document, "text"));
	if (strcmp(waiting->state, "waiting") != 0)
		return false;
	if (waiting->wait && waiting->on_terminal)
		printf("\rdraining: %s\033[K", waiting->text);
	else
		printf("draining: %s\n", waiting->text);
	return fflush(stdout) == 0 && waiting->wait;
}

// How a drain ended, in words and as an exit code.
static int print_end(const struct waiting *waiting)
{
	const bool is_waiting = strcmp(waiting->state, "waiting") == 0,
		   drained = strcmp(waiting->state, "drained") == 0;

	if (waiting->wait && waiting->on_terminal)
		printf("\r\033[K");
	if (drained)
		printf("drained: %s\n", waiting->text);
	else if (strcmp(waiting->state, "late") == 0)
		fprintf(stderr, "brass-agent: not drained: %s; new connections do not come\n", waiting->text);
	else if (strcmp(waiting->state, "active") == 0)
		fprintf(stderr, "brass-agent: not drained: somebody has ended it\n");
	else if (waiting->wait)
		fprintf(stderr, "brass-agent: not known whether it is drained: the agent has stopped\n");
	return drained || (is_waiting && !waiting->wait) ? EXIT_FINE : EXIT_FAILED;
}

static json_t *request_of(const struct words_call *call, const char *word)
{
	json_t *request = json_pack("{s:s}", "word", word);
	json_t *service = json_object_get(call->given, "service");

	if (service)
		json_object_set(request, "service", service);
	return request;
}

int words_drain(const struct words_call *call)
{
	struct waiting waiting = {
		.on_terminal = isatty(STDOUT_FILENO),
		.wait = !json_object_get(call->given, "no-wait"),
	};
	const char *timeout = json_string_value(json_object_get(call->given, "timeout"));
	struct err err = { 0 };
	msec_t limit_ms;

	if (timeout && clock_parse_duration(timeout, &limit_ms)) {
		fprintf(stderr, "brass-agent: timeout: found %s, allowed is a time such as 500ms, 30s, 5m\n", timeout);
		return EXIT_USAGE;
	}
	json_t *request = request_of(call, "drain");
	json_object_set_new(request, "wait", json_boolean(waiting.wait));
	if (timeout)
		json_object_set_new(request, "limit_ms", json_integer(limit_ms));
	int rc = control_talk(call->config->run_dir, request, show_progress, &waiting, &err);

	json_decref(request);
	return rc ? complain(&err) : print_end(&waiting);
}

static bool hear(void *ctx, const json_t *document)
{
	*(bool *)ctx = strcmp(text_of(document, "state"), "active") == 0;
	return false;
}

int words_undrain(const struct words_call *call)
{
	json_t *request = request_of(call, "undrain");
	struct err err = { 0 };
	bool active = false;
	int rc = control_talk(call->config->run_dir, request, hear, &active, &err);

	json_decref(request);
	if (!rc && !active)
		rc = err_set(&err, -EPIPE, NULL, "the agent has stopped");
	return rc ? complain(&err) : EXIT_FINE;
}

// --- reload ---

static bool take_answer(void *ctx, const json_t *document)
{
	(void)ctx, (void)document;
	return false;
}

int words_reload(const struct words_call *call)
{
	json_t *request = json_pack("{s:s}", "word", "reload");
	struct err err = { 0 };
	int rc = control_talk(call->config->run_dir, request, take_answer, NULL, &err);

	json_decref(request);
	return rc ? complain(&err) : EXIT_FINE;
}

// --- restore ---

// What a killed agent left in RUN_DIR beside the journal.
static void forget(const char *run_dir)
{
	static const char *const files[] = { "state.json", "drain.json", "agent.sock" };
	char path[512];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", run_dir, files[i]);
		if (unlink(path) == 0)
			log_info("removed %s", path);
	}
}

static int fail(int rc, const struct err *err)
{
	complain(err);
	return rc == -EPERM || rc == -EACCES ? EXIT_PERMISSION : EXIT_FAILED;
}

// One that makes no sense is for a person to look at, and is not put aside here.
static int check_journal(const char *run_dir, struct err *err)
{
	struct journal journal = { 0 };
	int rc = journal_peek(run_dir, &journal, err);

	journal_close(&journal);
	return rc;
}

int words_restore(const struct words_call *call)
{
	const char *run_dir = call->config->run_dir;
	struct err err = { 0 };
	struct host host;

	if (control_is_there(run_dir)) {
		err_set(&err, -EBUSY, NULL,
			"a brass-agent is running here: stop it, and it gives the host back itself");
		return complain(&err);
	}
	int rc = host_may_change(&err);
	if (!rc)
		rc = check_journal(run_dir, &err);
	if (!rc && access(run_dir, F_OK)) {
		printf("nothing to do: there is no %s\n", run_dir);
		return EXIT_FINE;
	}
	if (!rc)
		rc = host_open(run_dir, &host, &err);
	if (rc)
		return fail(rc, &err);
	const size_t count = host.journal.list.count;

	log_set_level((enum log_level)call->config->log_level);
	rc = host_give_back(&host, &err);
	if (!rc)
		forget(run_dir);
	host_close(&host); // an agent may start from here on
	if (rc)
		return fail(rc, &err);
	puts(count ? "the host is as it was found" : "nothing to do: no agent has left anything here");
	return EXIT_FINE;
}
