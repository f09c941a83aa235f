// SPDX-License-Identifier: Apache-2.0
// Agents: their backends are a function of (stored reports, services), so that a service that is made later finds those
// that wait for it, and one that is deleted leaves none.
#include "director/state_internal.h"

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void state_touch_agent(struct state *state, struct agent *agent)
{
	agent->revision++;
	if (state->agent_changed)
		state->agent_changed(state->ctx, agent);
}

static bool names_service(const struct agent *agent, const char *service)
{
	for (size_t i = 0; i < agent->report.count; i++)
		if (strcmp(agent->report.backends[i].service, service) == 0)
			return true;
	return false;
}

static int agent_options(const struct service *service, const struct agent *agent,
	const struct protocol_backend *reported, struct backend_options *ret, struct err *err)
{
	*ret = (struct backend_options) {
		.host = agent->report.address,
		.port = reported->port,
		.weight = reported->weight,
		.method = reported->method,
	};
	return model_check_backend(service, ret, err);
}

// Why this agent's backend cannot stand in the service: 0 when it can.
static int agent_place(const struct service *service, const struct agent *agent, const struct backend_options *options,
	struct err *err)
{
	const struct backend *same_name = model_backend(service, agent->node);
	const struct backend *same_place = model_backend_at(service, &options->host, options->port);

	if (same_name && same_name->agent != agent)
		return err_set(err, -EEXIST, NULL, "a backend named %s was made through the API", agent->node);
	if (same_place && same_place->agent != agent)
		return err_set(err, -EEXIST, NULL, "address and port are taken by backend %s", same_place->name);
	return 0;
}

void state_drop_backend(struct state *state, struct backend *backend)
{
	struct err err = { 0 };

	if (backend->health.down &&
		store_change(state->store, STORE_DOWN, backend->service->name, backend->name, NULL, &err))
		log_error("%s/%s: %s", backend->service->name, backend->name, err.text);
	health_forget(backend);
	model_remove_backend(backend);
}

// An agent that has set up another VIP than the service has now (it was changed meanwhile) is not ready yet.
static enum protocol_state agent_state(const struct service *service, const struct protocol_backend *reported)
{
	if (reported->state == PROTOCOL_UP && inet_addr_is_set(&reported->vip) &&
		inet_addr_cmp(&reported->vip, &service->options.host) != 0)
		return PROTOCOL_SETUP;
	return (enum protocol_state)reported->state;
}

// Makes the agent's backend in this service what its report says. Returns true when something changed.
static bool bind_one(
	struct state *state, struct service *service, struct agent *agent, const struct protocol_backend *reported)
{
	struct backend *backend = model_backend(service, agent->node);
	const enum protocol_state said = agent_state(service, reported);
	struct backend_options options;
	struct err err = { 0 };
	char names[128];

	if (backend && backend->agent != agent)
		return false;
	if (agent_options(service, agent, reported, &options, &err) || agent_place(service, agent, &options, &err)) {
		if (!backend)
			return false;
		state_drop_backend(state, backend);
		return true;
	}
	bool is_new = !backend;
	bool changed = is_new || backend->agent_state != (int)said ||
		field_diff(&backend_fields, &options, &backend->options, names, sizeof(names));

	if (is_new)
		backend = model_add_backend(service, agent->node, &options, agent);
	if (!backend)
		return false;
	backend->options = options;
	if (is_new)
		state_warn_of_forwarding(backend);
	if (!is_new && backend->agent_state != (int)said)
		log_info("%s/%s: agent says %s%s%s", service->name, agent->node,
			field_choice_name(protocol_state_choices, said), *reported->reason ? ": " : "",
			reported->reason);
	backend->agent_state = (int)said;
	snprintf(backend->agent_reason, sizeof(backend->agent_reason), "%s", reported->reason);
	health_watch(state->health, backend);
	return changed;
}

void state_bind_agents(struct state *state, struct service *service)
{
	for (struct agent *agent = state->model.agents; agent; agent = agent->hh.next)
		for (size_t i = 0; i < agent->report.count; i++)
			if (strcmp(agent->report.backends[i].service, service->name) == 0)
				bind_one(state, service, agent, &agent->report.backends[i]);
}

void state_touch_agents_of(struct state *state, const char *service)
{
	for (struct agent *agent = state->model.agents; agent; agent = agent->hh.next)
		if (names_service(agent, service))
			state_touch_agent(state, agent);
}

static int store_agent(struct state *state, const struct agent *agent, struct err *err)
{
	json_t *json = protocol_report_to_json(&agent->report);

	if (json)
		json_object_set_new(json, "lost", json_boolean(agent->lost));
	_cleanup_free_ char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	if (!text)
		return err_set(err, -EIO, NULL, "out of memory");
	return store_change(state->store, STORE_AGENT, "", agent->node, text, err) ? -EIO : 0;
}

static bool same_report(const struct protocol_report *a, const struct protocol_report *b)
{
	json_t *left = protocol_report_to_json(a), *right = protocol_report_to_json(b);
	bool same = left && right && json_equal(left, right);

	json_decref(left);
	json_decref(right);
	return same;
}

// Makes the backends of this agent what its report says, in every service.
static void bind_agent(struct state *state, struct agent *agent)
{
	struct backend *backend, *next;

	for (backend = agent->backends; backend; backend = next) {
		struct service *service = backend->service;

		next = backend->agent_next;
		if (names_service(agent, service->name))
			continue;
		state_drop_backend(state, backend);
		state_reconcile_or_log(state, service);
	}
	for (size_t i = 0; i < agent->report.count; i++) {
		const struct protocol_backend *reported = &agent->report.backends[i];
		struct service *service = model_service(&state->model, reported->service);

		if (service && bind_one(state, service, agent, reported))
			state_reconcile_or_log(state, service);
	}
}

int state_report(
	struct state *state, const char *node, struct protocol_report *report, struct agent **ret, struct err *err)
{
	struct agent *agent = model_agent(&state->model, node);
	bool is_new = !agent;

	// hosts made from one image have one name: taking turns, they would take each other's place forever
	if (!is_new && !agent->lost && strcmp(report->boot, agent->boot) != 0 &&
		inet_addr_cmp(&report->address, &agent->address) != 0) {
		char addr[INET_ADDR_MAX];

		return err_set(err, -EEXIST, NULL,
			"node %s is registered from %s: give one of the two hosts another \"node\", or wait until that "
			"lease is over",
			node, inet_addr_format(&agent->address, addr));
	}
	if (is_new && HASH_COUNT(state->model.agents) >= MODEL_AGENTS_MAX)
		return err_set(err, -EINVAL, NULL, "there are %d agents; more are not taken", MODEL_AGENTS_MAX);
	if (is_new) {
		agent = model_add_agent(&state->model, node);
		if (!agent)
			return err_set(err, -EIO, NULL, "out of memory");
		agent->revision = state->first_revision;
	}
	bool changed = is_new || agent->lost || !same_report(report, &agent->report);
	if (changed) {
		struct protocol_report old = agent->report;
		const bool was_lost = agent->lost;

		agent->report = *report;
		agent->lost = false;
		int rc = store_agent(state, agent, err);
		if (rc) {
			agent->report = old;
			agent->lost = was_lost;
			if (is_new)
				model_remove_agent(&state->model, agent);
			return rc;
		}
		agent->lost = was_lost;
		protocol_report_clear(&old);
	} else {
		protocol_report_clear(report);
	}
	*report = (struct protocol_report) { 0 };
	agent->address = agent->report.address;
	agent->ttl_ms = agent->report.ttl_ms;
	snprintf(agent->boot, sizeof(agent->boot), "%s", agent->report.boot);
	bool was_lost = lease_renew(agent, clock_now_ms(), state->reap_after_ms);
	if (is_new || was_lost) {
		char addr[INET_ADDR_MAX];

		log_info("agent %s: %s from %s", node, was_lost ? "lost -> back" : "registered",
			inet_addr_format(&agent->address, addr));
	}
	if (changed) {
		bind_agent(state, agent);
		if (was_lost)
			for (struct backend *b = agent->backends; b; b = b->agent_next)
				state_reconcile_or_log(state, b->service);
		state_touch_agent(state, agent);
	}
	if (state->lease_due)
		state->lease_due(state->ctx, agent->deadline_ms);
	*ret = agent;
	return 0;
}

int state_leave(struct state *state, struct agent *agent, struct err *err)
{
	if (store_change(state->store, STORE_AGENT, "", agent->node, NULL, err))
		return -EIO;
	while (agent->backends) {
		struct service *service = agent->backends->service;

		state_drop_backend(state, agent->backends);
		state_reconcile_or_log(state, service);
	}
	log_info("agent %s: gone", agent->node);
	if (state->agent_gone)
		state->agent_gone(state->ctx, agent);
	model_remove_agent(&state->model, agent);
	return 0;
}

static int answer_service(struct state *state, const struct agent *agent, const struct protocol_backend *reported,
	msec_t max_age_ms, struct protocol_service *ret, struct err *err)
{
	const struct service *service = model_service(&state->model, reported->service);
	const struct ipvs_dest *dests;
	struct backend_options options;
	struct ipvs_key key;
	struct err why = { 0 };
	size_t count;

	memcpy(ret->service, reported->service, sizeof(ret->service));
	ret->method = reported->method;
	if (!service) {
		snprintf(ret->error, sizeof(ret->error), "no such service yet");
		snprintf(ret->status, sizeof(ret->status), "unknown");
		ret->protocol = IPPROTO_TCP;
		return 0;
	}
	ret->known = true;
	ret->host = service->options.host;
	ret->port = service->options.port;
	ret->protocol = service->options.protocol;
	const struct backend *backend = model_backend(service, agent->node);
	if (!backend || backend->agent != agent) {
		if (!agent_options(service, agent, reported, &options, &why))
			agent_place(service, agent, &options, &why);
		err_line(&why, ret->error, sizeof(ret->error));
		snprintf(ret->status, sizeof(ret->status), "refused");
		return 0;
	}
	ret->effective_weight = desired_weight(backend);
	snprintf(ret->status, sizeof(ret->status), "%s",
		field_choice_name(backend_status_choices, desired_status(backend)));
	desired_key(&service->options, &key);
	int rc = reconcile_stats(state->reconcile, &key, max_age_ms, &dests, &count, err);
	const struct ipvs_dest *dest = rc ? NULL : desired_find_dest(dests, count, backend);
	if (dest) {
		ret->active = dest->active;
		ret->inactive = dest->inactive;
	}
	return rc;
}

int state_answer(
	struct state *state, const struct agent *agent, msec_t max_age_ms, struct protocol_answer *ret, struct err *err)
{
	struct protocol_answer answer = {
		.revision = agent->revision,
		.ttl_ms = agent->ttl_ms,
		.count = agent->report.count,
		.services = calloc(agent->report.count ? agent->report.count : 1, sizeof(*answer.services)),
	};
	int rc = answer.services ? 0 : err_set(err, -EIO, NULL, "out of memory");

	for (size_t i = 0; i < answer.count && !rc; i++)
		rc = answer_service(state, agent, &agent->report.backends[i], max_age_ms, &answer.services[i], err);
	if (rc) {
		protocol_answer_clear(&answer);
		return -EREMOTEIO;
	}
	*ret = answer;
	return 0;
}

static void agent_lost(void *ctx, struct agent *agent)
{
	struct state *state = ctx;
	struct err err = { 0 };

	log_warning("agent %s: held -> lost: silent for more than %lld ms", agent->node, (long long)agent->ttl_ms);
	if (store_agent(state, agent, &err))
		log_error("agent %s: %s", agent->node, err.text);
	for (struct backend *b = agent->backends; b; b = b->agent_next)
		state_reconcile_or_log(state, b->service);
	state_touch_agent(state, agent);
}

static void agent_reaped(void *ctx, struct agent *agent)
{
	struct err err = { 0 };

	log_warning("agent %s: lost -> gone: never came back", agent->node);
	if (state_leave(ctx, agent, &err))
		log_error("agent: %s", err.text);
}

void state_expire(struct state *state)
{
	lease_expire(&state->model, clock_now_ms(), agent_lost, agent_reaped, state);
}
