// SPDX-License-Identifier: Apache-2.0
// What an operator asks of the running agent: drain and undrain, with their progress. Floor 5.
//
// Requests and documents are those of control.h:
//   {"word": "drain", "service": "web", "limit_ms": 30000, "wait": true}   service: all without one
//   {"word": "undrain", "service": "web"}
//   -> {"service": "web", "state": "waiting", "text": "12 connections, 18 s left"}, state: see drain_control_progress
#ifndef BRASS_AGENT_DRAIN_CONTROL_H
#define BRASS_AGENT_DRAIN_CONTROL_H

#include "agent/drain.h"
#include "agent/services.h"

#include <jansson.h>
#include <uv.h>

struct drain_control {
	const struct config *config;
	const struct services *services;
	struct client *clients; // those of services; asked more often while something waits
	struct drains drains;
	uv_timer_t timer;           // until all is over
	void (*changed)(void *ctx); // what is drained, or how far
	void *ctx;
};

// Reads what an earlier run was asked. The timer is on the loop in any case, also after an error.
int drain_control_open(struct drain_control *dc, uv_loop_t *loop, const struct config *config,
	const struct services *services, struct client *clients, void (*changed)(void *ctx), void *ctx,
	struct err *err);
// The agent stops and waits for everything itself.
void drain_control_pause(struct drain_control *dc);
void drain_control_close(struct drain_control *dc);

int drain_control_drain(struct drain_control *dc, const json_t *request, struct err *err);
int drain_control_undrain(struct drain_control *dc, const json_t *request, struct err *err);
// State "waiting", "drained", "late" (the time is over), or "active" (not drained). *ret_more: there will be more to
// say.
json_t *drain_control_progress(const struct drain_control *dc, const json_t *request, bool *ret_more);

#endif
