// SPDX-License-Identifier: Apache-2.0
// Pulses: each backend's check runs at its interval; a changed verdict is told to the owner. Never writes IPVS.
// Floor 2.
#ifndef BRASS_DIRECTOR_HEALTH_H
#define BRASS_DIRECTOR_HEALTH_H

#include "director/model.h"
#include "director/probe.h"

struct health;

// changed is called when a backend's verdict has just changed; why is what the check said. recorded: it has not, but
// the part of the weight that its record stands for has (judge_accumulated_part).
struct health_hooks {
	const struct check_folders *folders; // see check.h
	enum check_outcome (*ask_agent)(void *ctx, const struct inet_endpoint *real, const char **ret_why);
	void (*changed)(void *ctx, struct backend *backend, const char *why);
	void (*recorded)(void *ctx, struct backend *backend);
	void *ctx;
	struct probe_hooks probe;
};
int health_new(uv_loop_t *loop, const struct health_hooks *hooks, struct health **ret, struct err *err);
void health_free(struct health *health);
// What checks run on.
const struct check_env *health_env(const struct health *health);

// Starts the backend's pulse; goes on with it, or starts it anew when its description, its place or its path
// (backend->path) changed. The first check runs at once (a few thousand a second at most), but for a backend that was
// up before this director started: that has time until it is due.
int health_watch(struct health *health, struct backend *backend);
// The probe that the backend's pulse asks, NULL without a pulse.
const struct probe *health_probe(const struct backend *backend);
// Why its last check could not be carried out, for people; NULL: it could. That is this host's fault (no descriptors, a
// file that cannot be read), and its verdict stays as it was.
const char *health_problem(const struct backend *backend);
// Ends it; to be called before the backend goes.
void health_forget(struct backend *backend);

// One result into the ring and to the judge; returns true when the verdict changed.
bool health_record(struct backend_health *health, const struct judge_rules *rules, msec_t interval_ms, bool passed,
	const char *reason, msec_t now_ms);
// Share of passed checks among the last 100, 1.0 when there was none (as GORB counts).
double health_ratio(const struct backend_health *health);

#endif
