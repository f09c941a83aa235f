// SPDX-License-Identifier: Apache-2.0
#include "director/health.h"

#include "shared/clock.h"
#include "shared/http_client.h"
#include "shared/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOT_READY_MS 10 // until a path is asked for again

struct health {
	struct check_env env;
	struct health_hooks hooks;
	struct probes *probes;
};

// Lives until its timer is closed, which may be after its backend has gone.
struct pulse {
	struct health *health;
	struct backend *backend;
	msec_t interval_ms;
	struct probe *probe;
	struct probe_wait wait;
	uv_timer_t timer;
};

int health_new(uv_loop_t *loop, const struct health_hooks *hooks, struct health **ret, struct err *err)
{
	struct health *health = calloc(1, sizeof(*health));

	if (!health)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	health->env.loop = loop;
	health->hooks = *hooks;
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

bool health_record(struct backend_health *health, bool passed, const char *reason, msec_t now_ms)
{
	bool was_down = health->down, first = !health->since_ms;

	if (health->filled == MODEL_HEALTH_RING)
		health->passed = (uint8_t)(health->passed - health->results[health->next]);
	else
		health->filled++;
	health->results[health->next] = passed;
	health->passed = (uint8_t)(health->passed + passed);
	health->next = (uint8_t)((health->next + 1) % MODEL_HEALTH_RING);
	health->down = !passed;
	snprintf(health->reason, sizeof(health->reason), "%s", reason);
	if (first || health->down != was_down)
		health->since_ms = now_ms;
	return health->down != was_down;
}

static void on_result(void *ctx, enum check_outcome outcome, const char *reason)
{
	struct pulse *pulse = ctx;
	struct backend *backend = pulse->backend;

	if (!health_record(backend->health, outcome == CHECK_PASS, reason, clock_now_ms()))
		return;
	log_write(outcome == CHECK_PASS ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "%s/%s: %s: %s", backend->service->name,
		backend->name, outcome == CHECK_PASS ? "down -> up" : "up -> down", reason);
	pulse->health->hooks.changed(pulse->health->hooks.ctx, backend);
}

static void on_interval(uv_timer_t *timer)
{
	struct pulse *pulse = timer->data;
	// does nothing while the last one still runs: a timeout longer than the interval
	int rc = probe_run(pulse->probe, pulse->interval_ms / 2, &pulse->wait, on_result, pulse);

	if (rc == -EAGAIN) {
		uv_timer_start(timer, on_interval, NOT_READY_MS, (uint64_t)pulse->interval_ms);
	} else if (rc) {
		char reason[120];

		snprintf(reason, sizeof(reason), "cannot start the check: %s", strerror(-rc));
		on_result(pulse, check_outcome_of(rc), reason);
	}
}

const struct probe *health_probe(const struct backend *backend)
{
	const struct pulse *pulse = backend->watch;

	return pulse ? pulse->probe : NULL;
}

static void pulse_closed(uv_handle_t *handle)
{
	free(handle->data);
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

int health_watch(struct health *health, struct backend *backend)
{
	const struct check_spec *spec = model_pulse(backend);
	const struct inet_endpoint to = model_probe_to(backend, backend->path);
	struct pulse *old = backend->watch;

	if (old && spec && old->interval_ms == spec->interval_ms && probe_is(old->probe, spec, &to, backend->path))
		return 0;
	health_forget(backend);
	if (!spec) {
		// without a pulse nobody would lift its last verdict
		free(backend->health);
		backend->health = NULL;
		return 0;
	}
	struct pulse *pulse = calloc(1, sizeof(*pulse));
	if (!pulse || !model_health(backend) || probe_join(health->probes, spec, &to, backend->path, &pulse->probe)) {
		free(pulse);
		return -ENOMEM;
	}
	pulse->health = health;
	pulse->backend = backend;
	pulse->interval_ms = spec->interval_ms;
	backend->watch = pulse;
	uv_timer_init(health->env.loop, &pulse->timer);
	pulse->timer.data = pulse;
	uv_timer_start(&pulse->timer, on_interval, 0, (uint64_t)spec->interval_ms);
	return 0;
}
