// SPDX-License-Identifier: Apache-2.0
// The status of backends follows from facts that change in many places: health, leases, drains, agents' words. Here is
// what a change of it entails.
#include "director/state_internal.h"

#include "director/desired.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

// --- verdicts that outlive their backend for a turn ---

// A backend that gets another name, moves with its service or is put back is still the same program on the same host.
struct kept_verdict {
	UT_hash_handle hh; // in state->verdicts
	struct inet_endpoint at;
	struct backend_health health;
};

static_assert(sizeof(struct inet_endpoint) == sizeof(struct inet_addr) + sizeof(uint16_t), "no padding: it is a key");

void state_unwatch(struct state *state, struct backend *backend)
{
	struct kept_verdict *kept = NULL;

	if (backend->trouble && state->backend_gone)
		state->backend_gone(state->ctx, backend);
	health_forget(backend);
	state_path_put(state, STEAL(backend->path));
	if (!backend->health || model_verdict(backend) == JUDGE_UNKNOWN)
		return;
	HASH_FIND(hh, state->verdicts, &backend->place.at, sizeof(kept->at), kept);
	if (!kept) {
		kept = malloc(sizeof(*kept));
		if (!kept)
			return; // it will be checked anew
		kept->at = backend->place.at;
		HASH_ADD(hh, state->verdicts, at, sizeof(kept->at), kept);
	}
	kept->health = *backend->health;
}

void state_forget_verdicts(struct state *state)
{
	struct kept_verdict *kept, *next;

	HASH_ITER (hh, state->verdicts, kept, next) {
		HASH_DEL(state->verdicts, kept);
		free(kept);
	}
}

// The verdict goes into the store under the name that the backend has.
static void store_verdict(struct state *state, const struct backend *backend)
{
	const char *service = backend->service->name;
	struct err err = { 0 };

	if (state_row(state, STORE_DOWN, service, backend->name,
		    model_verdict(backend) == JUDGE_DOWN ? backend->health->reason : NULL, &err))
		log_error("%s/%s: the verdict cannot be stored: %s", service, backend->name, err.text);
}

// Can it be well and have weight 0 all the same? Sorry servers, other zones and versions without a share do.
static bool may_rest(const struct service *service)
{
	const struct pool_options *pool = service->pool;

	return service->split || (pool && (pool->zones.prefer.count || pool->sorry.count));
}

// What a backend is taken for that has just been given a pulse, and of whose last verdict nothing is known. A row says
// when it is down, and one that got nothing when the last run ended may not have been checked yet; one that may rest is
// up, or every restart would take its service's quorum for lost: it is checked at once. Who serves without a pulse is
// not taken out.
static void presume(struct state *state, struct backend *backend, bool is_new)
{
	const struct service *service = backend->service;
	struct judge *judge = &backend->health->judge;

	if (state->restoring && reconcile_serves(state->reconcile, &service->key, &backend->place.at))
		judge_set(judge, JUDGE_UP, 0);
	else if (state->restoring ? may_rest(service) : !is_new)
		judge_set(judge, JUDGE_UP, clock_now_ms());
}

void state_watch(struct state *state, struct backend *backend, bool is_new)
{
	const bool had_pulse = backend->health, restoring = state->restoring;
	struct kept_verdict *kept = NULL;
	struct probe_path *old = backend->path;
	struct probe_way way;

	HASH_FIND(hh, state->verdicts, &backend->place.at, sizeof(kept->at), kept);
	if (!had_pulse && model_pulse(backend) && model_health(backend)) {
		if (is_new && kept)
			*backend->health = kept->health;
		else
			presume(state, backend, is_new);
	}
	backend->path = model_probe_way(backend, &way) ? state_path_get(state, &way) : NULL;
	if (health_watch(state->health, backend))
		log_error("%s/%s: out of memory: it is not checked", backend->service->name, backend->name);
	state_path_put(state, old); // its check has ended
	const bool has_pulse = backend->health;
	// no row outlives its pulse, or a restart would take the verdict for one of the pulse that came after it
	if (!restoring && (is_new ? has_pulse && kept : has_pulse != had_pulse))
		store_verdict(state, backend);
	const bool is_down = model_verdict(backend) == JUDGE_DOWN;
	if (is_down && !had_pulse && backend->path)
		backend->path->counts = true;
	if (((is_down && !had_pulse) || (!is_down && backend->trouble)) && state->verdict_changed)
		state->verdict_changed(state->ctx, backend);
}

// A verdict outlives a restart: a director that comes back must not send traffic to a backend that it had taken out.
void state_health_changed(struct state *state, struct backend *backend, const char *why)
{
	store_verdict(state, backend);
	state_note_status(state, backend, why);
	state_touch_backend(state, backend);
	if (backend->agent)
		state_touch_agent(state, backend->agent);
}

void state_health_recorded(struct state *state, struct backend *backend)
{
	if (backend->service->options.slow_start_ms == SLOW_ACCUMULATED && backend->status == STATUS_UP)
		state_touch_backend(state, backend);
}

// --- coming back ---

static void say(struct state *state, const struct backend *backend, const char *what, const char *old, const char *now,
	const char *why, bool bad)
{
	events_add(state->events,
		&(struct event) { .service = backend->service->name,
			.backend = backend->name,
			.what = what,
			.old = old,
			.now = now,
			.reason = why,
			.bad = bad });
}

static void begin_comeback(struct state *state, struct backend *backend)
{
	const msec_t total = backend->service->options.slow_start_ms;

	char text[CLOCK_DURATION_MAX], why[64];

	if (total <= 0 || model_come_back(backend, clock_now_ms(), judge_slow_part(0, total)))
		return;
	snprintf(why, sizeof(why), "its weight rises over %s", clock_format_duration(total, text));
	say(state, backend, "weight", "none", "rising", why, false);
	if (state->tick_due)
		state->tick_due(state->ctx);
}

bool state_comeback_tick(struct state *state)
{
	const msec_t now = clock_now_ms();
	struct comeback *c, *next;

	DL_FOREACH_SAFE(state->model.comebacks, c, next)
	{
		struct backend *backend = c->backend;
		const msec_t total = backend->service->options.slow_start_ms;
		const uint32_t part = judge_slow_part(now - c->started_ms, total);

		if (part == c->part)
			continue;
		c->part = part;
		if (part == JUDGE_WHOLE) {
			model_is_back(backend);
			say(state, backend, "weight", "rising", "whole", "", false);
		}
		state_touch_backend(state, backend);
	}
	return state->model.comebacks;
}

// --- the status ---

void state_begin_status(struct backend *backend)
{
	backend->status = (uint8_t)desired_status(backend);
}

// Someone who was kept out for a reason of his own is warm; the others come back gently.
static bool is_cold(enum backend_status was)
{
	return was != STATUS_DRAIN && was != STATUS_UP;
}

static const char *why_up(enum backend_status was)
{
	switch (was) {
	case STATUS_LOST:
		return "the agent reports again";
	case STATUS_SETUP:
		return "the agent says that its host is ready";
	case STATUS_DRAIN:
		return "it stays";
	case STATUS_DOWN:
	case STATUS_UNKNOWN:
		return "nothing says otherwise any more";
	case STATUS_UP:
		break;
	}
	return "";
}

static bool is_bad(enum backend_status status)
{
	return status == STATUS_LOST || status == STATUS_DOWN;
}

void state_note_status(struct state *state, struct backend *backend, const char *why)
{
	const enum backend_status was = backend->status, now = desired_status(backend);

	if (was == now)
		return;
	backend->status = (uint8_t)now;
	// what the store had is no news
	if (!state->restoring)
		say(state, backend, "status", field_choice_name(backend_status_choices, was),
			field_choice_name(backend_status_choices, now),
			now != STATUS_UP ? desired_reason(backend)
				: why    ? why
					 : why_up(was),
			is_bad(now));
	if (now != STATUS_UP)
		model_is_back(backend);
	else if (is_cold(was) && !state->restoring)
		begin_comeback(state, backend);
}

bool state_tick(struct state *state)
{
	const bool drains = state_drain_tick(state), comebacks = state_comeback_tick(state),
		   suspects = state_suspect_tick(state), unsaved = events_unsaved(state->events);

	events_save(state->events, state->store);
	return drains || comebacks || suspects || unsaved;
}
