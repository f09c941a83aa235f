// SPDX-License-Identifier: Apache-2.0
// What an operator asks of the running agent: drain and undrain, with their progress. Floor 5.
//
// Requests and documents are those of control.h:
//   {"word": "drain", "service": "web", "limit_ms": 30000, "wait": true}   service: all without one
//   {"word": "undrain", "service": "web"}
//   -> {"service": "web", "state": "waiting", "text": "12 connections, 18 s left"}, state: see operator_progress
#ifndef BRASS_AGENT_OPERATOR_H
#define BRASS_AGENT_OPERATOR_H

#include "agent/drain.h"
#include "agent/services.h"

#include <jansson.h>
#include <uv.h>

struct operator_events {
	void (*wanted)(void *ctx);  // other services are drained than before
	void (*counted)(void *ctx); // one look further, while something waits
	void *ctx;
};

struct operator
{
	const struct config *config;
	const struct services *services;
	struct client *clients; // those of services; asked more often while something waits
	struct drains drains;
	uv_timer_t timer; // until all is over
	struct operator_events events;
};

// Reads what an earlier run was asked. The timer is on the loop in any case, also after an error.
int operator_open(struct operator* operator, uv_loop_t * loop, const struct config *config,
	const struct services *services, struct client *clients, const struct operator_events *events, struct err *err);
// The agent stops and waits for everything itself.
void operator_pause(struct operator* operator);
void operator_close(struct operator* operator);

int operator_drain(struct operator* operator, const json_t * request, struct err *err);
int operator_undrain(struct operator* operator, const json_t * request, struct err *err);
// State "waiting", "drained", "late" (the time is over), or "active" (not drained). *ret_more: there will be more to
// say.
json_t *operator_progress(const struct operator* operator, const json_t * request, bool *ret_more);

#endif
