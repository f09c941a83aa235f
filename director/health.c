// SPDX-License-Identifier: Apache-2.0
// A pulse is a backend's own times on a probe that it may share with others.
#include "director/health.h"

#include "shared/clock.h"
#include "shared/http_client.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_READY_MS 10 // until a path is asked for again
// Backends that nobody knows yet are checked at once, but not all at the same moment.
#define AT_ONCE_PER_MS 4
#define SAY_MS 1000 // between two warnings of checks that cannot be carried out: mostly it is all of them

struct health {
	struct check_env env;
	struct check_lingering lingering;
	struct health_hooks hooks;
	struct probes *probes;
	msec_t slot_ms; // the last moment that was given to one that nobody knows
	unsigned int in_slot;
	msec_t said_ms;      // the last warning; 0: there was none
	unsigned int unsaid; // problems since then
};

// Lives until its timer is closed, which may be after its backend has gone.
struct pulse {
	struct health *health;
	struct backend *backend;
	msec_t interval_ms;
	int kind; // enum check_kind
	struct probe *probe;
	struct probe_wait wait;
	msec_t started_ms; // the last check
	msec_t heard_ms;   // its result; 0: there is none yet
	uint32_t phase;    // on the grid of its interval, see judge.h
	char *problem;     // why the last one could not be carried out; NULL: it could
	bool said;         // the problem
	uv_timer_t timer;
};

int health_new(uv_loop_t *loop, const struct health_hooks *hooks, struct health **ret, struct err *err)
{
	struct health *health = calloc(1, sizeof(*health));

	if (!health)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	health->env.loop = loop;
	health->hooks = *hooks;
	health->env.folders = hooks->folders;
	health->env.lingering = &health->lingering;
	health->env.ask_agent = hooks->ask_agent;
	health->env.ctx = hooks->probe.ctx;
	int rc = probes_new(&health->env, &hooks->probe, &health->probes, err);
	if (!rc)
		rc = http_client_new(loop, &health->env.http, err);
	if (rc) {
		probes_free(health->probes);
		free(health);
		return rc;
	}
	*ret = health;
	return 0;
}

void health_free(struct health *health)
{
	if (!health)
		return;
	check_forget_lingering(&health->lingering);
	http_client_free(health->env.http);
	probes_free(health->probes);
	free(health);
}

const struct check_env *health_env(const struct health *health)
{
	return &health->env;
}

double health_ratio(const struct backend_health *health)
{
	return health && health->filled ? (double)health->passed / health->filled : 1.0;
}

bool health_record(struct backend_health *health, const struct judge_rules *rules, msec_t interval_ms, bool passed,
	const char *reason, msec_t now_ms)
{
	if (health->filled == MODEL_HEALTH_RING)
		health->passed = (uint8_t)(health->passed - health->results[health->next]);
	else
		health->filled++;
	health->results[health->next] = passed;
	health->passed = (uint8_t)(health->passed + passed);
	health->next = (uint8_t)((health->next + 1) % MODEL_HEALTH_RING);
	if (!passed)
		snprintf(health->reason, sizeof(health->reason), "%s", reason);
	return judge_result(&health->judge, rules, interval_ms, passed, now_ms);
}

static void on_due(uv_timer_t *timer);

static void sleep_until(struct pulse *pulse, msec_t due_ms)
{
	uv_update_time(pulse->health->env.loop);
	const msec_t now = clock_now_ms();

	uv_timer_start(&pulse->timer, on_due, due_ms > now ? (uint64_t)(due_ms - now) : 0, 0);
}

static void sleep_until_due(struct pulse *pulse)
{
	const struct backend *backend = pulse->backend;
	struct judge judge = backend->health->judge;

	// the second look after a failure is at once, but one that cannot be had would be tried without a pause
	if (pulse->problem)
		judge.against = 0;
	sleep_until(pulse,
		judge_due(&judge, model_judge(backend), pulse->interval_ms, pulse->phase, pulse->started_ms,
			clock_now_ms()));
}

static void say_problem(struct pulse *pulse)
{
	static const char *const verdicts[] = {
		[JUDGE_UNKNOWN] = "unknown",
		[JUDGE_UP] = "up",
		[JUDGE_DOWN] = "down",
	};
	struct health *health = pulse->health;
	const struct backend *backend = pulse->backend;
	const msec_t now = clock_now_ms();
	char others[40] = "";

	if (health->said_ms && now - health->said_ms < SAY_MS) {
		health->unsaid++;
		return;
	}
	if (health->unsaid)
		snprintf(others, sizeof(others), " (%u others before)", health->unsaid);
	log_warning("%s/%s: cannot be checked, and stays %s: %s%s", backend->service->name, backend->name,
		verdicts[backend->health->judge.verdict], pulse->problem, others);
	health->said_ms = now;
	health->unsaid = 0;
	pulse->said = true;
}

static void set_problem(struct pulse *pulse, const char *problem)
{
	const struct backend *backend = pulse->backend;
	const bool had = pulse->problem;

	if (!had && !problem)
		return;
	free(pulse->problem);
	pulse->problem = problem ? strdup(problem) : NULL;
	if (pulse->problem && !had)
		say_problem(pulse);
	if (problem)
		return;
	if (pulse->said)
		log_info("%s/%s: can be checked again", backend->service->name, backend->name);
	pulse->said = false;
}

static void on_result(void *ctx, const struct check_result *result)
{
	struct pulse *pulse = ctx;
	struct backend *backend = pulse->backend;
	struct backend_health *health = backend->health;
	const struct health_hooks *hooks = &pulse->health->hooks;
	const uint32_t part = judge_accumulated_part(health->passed, health->filled);

	// that is this host's fault, and no result
	set_problem(pulse, result->outcome == CHECK_BROKEN ? result->reason : NULL);
	if (result->outcome == CHECK_BROKEN) {
		sleep_until_due(pulse);
		return;
	}
	pulse->heard_ms = clock_now_ms();
	const bool changed = health_record(health, model_judge(backend), pulse->interval_ms,
		result->outcome == CHECK_PASS, result->reason, pulse->heard_ms);
	health->expires_s = result->expires_s;
	sleep_until_due(pulse);
	if (changed)
		hooks->changed(hooks->ctx, backend, result->reason);
	else if (judge_accumulated_part(health->passed, health->filled) != part)
		hooks->recorded(hooks->ctx, backend);
}

// How old another's result may be: half an interval, but younger than the last that was heard here, or a second look
// would be the first one again.
static msec_t oldest(const struct pulse *pulse, msec_t now_ms)
{
	const msec_t half = pulse->interval_ms / 2, since = now_ms - pulse->heard_ms - 1;

	return pulse->heard_ms && since < half ? since : half;
}

static void on_due(uv_timer_t *timer)
{
	struct pulse *pulse = timer->data;
	const msec_t now = clock_now_ms(), before = pulse->started_ms;

	pulse->started_ms = now;
	int rc = probe_run(pulse->probe, oldest(pulse, now), &pulse->wait, on_result, pulse);

	if (rc == -EINPROGRESS) {
		pulse->started_ms = before;
		sleep_until(pulse, now + NOT_READY_MS);
	} else if (rc) {
		char reason[120];

		snprintf(reason, sizeof(reason), "cannot start the check: %s", strerror(-rc));
		on_result(pulse, &(struct check_result) { check_outcome_of_start(pulse->kind, rc), reason, 0 });
	}
}

static msec_t next_slot(struct health *health)
{
	const msec_t now = clock_now_ms();

	if (health->slot_ms < now || health->in_slot == AT_ONCE_PER_MS) {
		health->slot_ms = health->slot_ms < now ? now : health->slot_ms + 1;
		health->in_slot = 0;
	}
	health->in_slot++;
	return health->slot_ms;
}

const struct probe *health_probe(const struct backend *backend)
{
	const struct pulse *pulse = backend->watch;

	return pulse ? pulse->probe : NULL;
}

const char *health_problem(const struct backend *backend)
{
	const struct pulse *pulse = backend->watch;

	return pulse ? pulse->problem : NULL;
}

static void pulse_closed(uv_handle_t *handle)
{
	struct pulse *pulse = handle->data;

	free(pulse->problem);
	free(pulse);
}

void health_forget(struct backend *backend)
{
	struct pulse *pulse = backend->watch;

	if (!pulse)
		return;
	backend->watch = NULL;
	probe_leave(pulse->probe, &pulse->wait);
	uv_close((uv_handle_t *)&pulse->timer, pulse_closed);
}

static bool goes_on(const struct pulse *pulse, const struct check_spec *spec, const struct inet_endpoint *to)
{
	return pulse && spec && pulse->interval_ms == spec->interval_ms &&
		probe_is(pulse->probe, spec, to, pulse->backend);
}

int health_watch(struct health *health, struct backend *backend)
{
	const struct check_spec *spec = model_pulse(backend);
	const struct inet_endpoint to = model_probe_to(backend, backend->path);
	struct pulse *old = backend->watch;

	if (goes_on(old, spec, &to)) {
		// what counts in its service may have changed
		if (!old->wait.done && backend->health->judge.verdict == JUDGE_DOWN)
			sleep_until_due(old);
		return 0;
	}
	health_forget(backend);
	if (!spec) {
		// without a pulse nobody would lift its last verdict
		free(backend->health);
		backend->health = NULL;
		return 0;
	}
	struct pulse *pulse = calloc(1, sizeof(*pulse));
	if (!pulse || !model_health(backend) || probe_join(health->probes, spec, &to, backend, &pulse->probe)) {
		free(pulse);
		return -ENOMEM;
	}
	pulse->health = health;
	pulse->backend = backend;
	pulse->kind = spec->kind;
	pulse->interval_ms = spec->interval_ms;
	backend->watch = pulse;
	uv_timer_init(health->env.loop, &pulse->timer);
	pulse->timer.data = pulse;
	pulse->phase = probe_phase(pulse->probe);
	pulse->started_ms = clock_now_ms() - spec->interval_ms;
	// after a restart the others wait for their place on the grid
	if (backend->health->judge.verdict == JUDGE_UP && !backend->health->judge.since_ms)
		sleep_until_due(pulse);
	else
		sleep_until(pulse, next_slot(health));
	return 0;
}
