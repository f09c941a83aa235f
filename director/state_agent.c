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
#include <utlist.h>

void state_touch_agent(struct state *state, struct agent *agent)
{
	agent->revision++;
	if (agent->touched)
		return;
	agent->touched = true;
	LL_PREPEND2(state->touched_agents, agent, touched_next);
}

void state_untouch_agent(struct state *state, struct agent *agent)
{
	if (agent->touched)
		LL_DELETE2(state->touched_agents, agent, touched_next);
	agent->touched = false;
}

static void say_lease(
	struct state *state, const struct agent *agent, const char *old, const char *now, const char *why, bool bad)
{
	events_add(state->events,
		&(struct event) {
			.agent = agent->node, .what = "lease", .old = old, .now = now, .reason = why, .bad = bad });
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
	*ret = *(const struct backend_options *)backend_fields.defaults;
	ret->host = agent->report.address;
	ret->port = reported->port;
	ret->weight = reported->weight;
	ret->method = reported->method;
	ret->tunnel = reported->tunnel;
	if (reported->labels)
		memcpy(&ret->labels, reported->labels, labels_size(reported->labels));
	if (service->options.fwmark)
		return err_set(err, -EINVAL, NULL,
			"service %s goes by firewall mark: it has no VIP that an agent could set up", service->name);
	return model_check_backend(&service->options, ret, NULL, err);
}

// Why this agent's backend cannot stand in the service: 0 when it can.
static int agent_place(const struct service *service, const struct agent *agent, const struct backend_options *options,
	struct err *err)
{
	const struct backend *same_name = model_backend(service, agent->node);

	if (same_name && same_name->agent != agent)
		return err_set(err, -EEXIST, NULL, "a backend named %s was made through the API", agent->node);
	return state_check_place(service, same_name, options, err);
}

// Out of the model, with its stored verdict.
static void drop_backend(struct state *state, struct backend *backend)
{
	struct err err = { 0 };

	if (state_delete_backend_rows(state, backend, &err))
		log_error("%s/%s: %s", backend->service->name, backend->name, err.text);
	state_drop_backend(state, backend);
}

// An agent that has set up another VIP than the service has now (it was changed meanwhile) is not ready yet.
static enum protocol_state agent_state(const struct service *service, const struct protocol_backend *reported)
{
	if (reported->state == PROTOCOL_UP && inet_addr_is_set(&reported->vip) &&
		inet_addr_cmp(&reported->vip, &service->options.host) != 0)
		return PROTOCOL_SETUP;
	return (enum protocol_state)reported->state;
}

// Makes the agent's backend in this service what its report says.
static void bind_one(
	struct state *state, struct service *service, struct agent *agent, const struct protocol_backend *reported)
{
	struct backend *backend = model_backend(service, agent->node);
	const enum protocol_state said = agent_state(service, reported);
	struct backend_options options, old;
	struct err err = { 0 };
	char names[128];

	if (backend && backend->agent != agent)
		return;
	if (agent_options(service, agent, reported, &options, &err) || agent_place(service, agent, &options, &err)) {
		if (backend)
			drop_backend(state, backend);
		return;
	}
	if (!backend) {
		backend = model_add_backend(service, agent->node, &options, agent);
		if (!backend)
			return; // its next report tries again
		if (state_stay(state, service, &err))
			log_error("service %s: %s", service->name, err.text);
		state_warn_of_forwarding(backend);
		backend->agent_state = (uint8_t)said;
		state_watch(state, backend, true);
		state_begin_status(backend);
	} else {
		model_backend_options(backend, &old);
		if (field_diff(&backend_fields, &options, &old, names, sizeof(names)))
			state_change_backend(state, backend, &options);
		if (backend->agent_state != said)
			log_info("%s/%s: agent says %s%s%s", service->name, agent->node,
				field_choice_name(protocol_state_choices, said), *reported->reason ? ": " : "",
				reported->reason);
	}
	backend->agent_state = (uint8_t)said;
	model_set_agent_reason(backend, reported->reason);
	state_watch(state, backend, false);
	state_touch_backend(state, backend);
}

void state_bind_agents(struct state *state, struct service *service)
{
	for (struct agent *agent = state->model.agents; agent; agent = agent->hh.next)
		for (size_t i = 0; i < agent->report.count; i++)
			if (strcmp(agent->report.backends[i].service, service->name) == 0)
				bind_one(state, service, agent, &agent->report.backends[i]);
}

static void bind_waiting(struct state *state, struct service *service, struct agent *agent)
{
	if (!agent || model_backend(service, agent->node))
		return;
	for (size_t i = 0; i < agent->report.count; i++)
		if (strcmp(agent->report.backends[i].service, service->name) == 0)
			bind_one(state, service, agent, &agent->report.backends[i]);
}

void state_make_room(struct state *state, struct backend *backend)
{
	struct service *service = backend->service;
	const struct inet_addr addr = backend->options.host;
	char name[MODEL_NAME_MAX + 1];

	snprintf(name, sizeof(name), "%s", backend->name);
	state_drop_backend(state, backend);
	bind_waiting(state, service, model_agent(&state->model, name));
	bind_waiting(state, service, model_agent_at(&state->model, &addr));
}

void state_touch_agents_of(struct state *state, const char *service)
{
	for (struct agent *agent = state->model.agents; agent; agent = agent->hh.next)
		if (names_service(agent, service))
			state_touch_agent(state, agent);
}

// "web.old", "web.old2", ... are where "web" was (state_move_service).
static const struct protocol_backend *moved_from(const struct agent *agent, const char *old)
{
	const char *end = NULL;

	for (const char *dot = strstr(old, ".old"); dot; dot = strstr(dot + 1, ".old"))
		end = dot;
	const size_t len = end ? (size_t)(end - old) : 0;

	for (size_t i = 0; i < agent->report.count && len; i++) {
		const char *name = agent->report.backends[i].service;

		// long names were cut
		if (strncmp(name, old, len) == 0 && (!name[len] || len == MODEL_NAME_MAX - 6))
			return &agent->report.backends[i];
	}
	return NULL;
}

static const struct agent *agent_of_copy(const struct state *state, const struct backend *backend)
{
	const struct agent *agent =
		backend->agent || !backend->drain ? NULL : model_agent(&state->model, backend->name);

	return agent && inet_addr_cmp(&agent->report.address, &backend->options.host) == 0 &&
			moved_from(agent, backend->service->name)
		? agent
		: NULL;
}

bool state_host_has_moved(const struct state *state, const struct backend *backend)
{
	return agent_of_copy(state, backend);
}

void state_touch_host_of(struct state *state, const struct backend *backend)
{
	if (agent_of_copy(state, backend))
		state_touch_agent(state, model_agent(&state->model, backend->name));
}

static int store_agent(
	struct state *state, const char *node, const struct protocol_report *report, bool lost, struct err *err)
{
	json_t *json = protocol_report_to_json(report);

	if (json)
		json_object_set_new(json, "lost", json_boolean(lost));
	_cleanup_free_ char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	if (!text)
		return err_set(err, -EIO, NULL, "out of memory");
	return state_row(state, STORE_AGENT, "", node, text, err);
}

static int parse_agent(const char *text, struct protocol_report *ret, bool *ret_lost, struct err *err)
{
	json_t *json = json_loads(text, 0, NULL);

	*ret_lost = json_is_true(json_object_get(json, "lost"));
	json_object_del(json, "lost");
	int rc = json ? protocol_report_from_json(json, ret, err) : err_set(err, -EINVAL, NULL, "a row is not JSON");

	json_decref(json);
	return rc;
}

bool state_agent_row_ok(const char *text)
{
	struct protocol_report report = { 0 };
	bool lost;
	int rc = parse_agent(text, &report, &lost, NULL);

	protocol_report_clear(&report);
	return rc == 0;
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
		next = backend->agent_next;
		if (!names_service(agent, backend->service->name))
			drop_backend(state, backend);
	}
	for (size_t i = 0; i < agent->report.count; i++) {
		const struct protocol_backend *reported = &agent->report.backends[i];
		struct service *service = model_service(&state->model, reported->service);

		if (service)
			bind_one(state, service, agent, reported);
	}
}

static void touch_backends(struct state *state, struct agent *agent)
{
	for (struct backend *b = agent->backends; b; b = b->agent_next)
		state_touch_backend(state, b);
}

enum check_outcome state_ask_agent(void *ctx, const struct inet_endpoint *real, const char **ret_why)
{
	struct state *state = ctx;
	const struct agent *agent = model_agent_at(&state->model, &real->addr);

	*ret_why = "has not registered";
	if (!agent)
		return CHECK_WRONG;
	*ret_why = "is lost: its lease ran out";
	if (agent->lost)
		return CHECK_TIMEOUT;
	*ret_why = "well";
	for (size_t i = 0; i < agent->report.count; i++) {
		const struct protocol_backend *said = &agent->report.backends[i];
		const struct service *service = model_service(&state->model, said->service);
		const uint16_t port = said->port ? said->port : service ? service->options.port : 0;

		if (port != real->port || said->state == PROTOCOL_UP)
			continue;
		*ret_why = *said->reason ? said->reason : "not ready";
		return CHECK_WRONG;
	}
	return CHECK_PASS;
}

// The report becomes the agent's, whose old one is freed.
static void take_report(struct model *model, struct agent *agent, struct protocol_report *report)
{
	protocol_report_clear(&agent->report);
	agent->report = *report;
	*report = (struct protocol_report) { 0 };
	model_set_agent_address(model, agent, &agent->report.address);
	agent->ttl_ms = agent->report.ttl_ms;
	snprintf(agent->boot, sizeof(agent->boot), "%s", agent->report.boot);
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
		state->staged = true;
		int rc = store_agent(state, node, report, false, err);
		if (rc)
			return rc;
	}
	take_report(&state->model, agent, report);
	bool was_lost = lease_renew(agent, clock_now_ms(), state->reap_after_ms);
	if (is_new || was_lost) {
		char addr[INET_ADDR_MAX], why[INET_ADDR_MAX + 8];

		snprintf(why, sizeof(why), "from %s", inet_addr_format(&agent->address, addr));
		say_lease(state, agent, was_lost ? "lost" : NULL, was_lost ? "held" : "registered", why, false);
	}
	if (changed) {
		bind_agent(state, agent);
		if (was_lost)
			touch_backends(state, agent);
		state_touch_agent(state, agent);
	}
	state_look_at_source(state, agent);
	if (state->lease_due)
		state->lease_due(state->ctx, agent->deadline_ms);
	*ret = agent;
	return 0;
}

// Out of the model, its backends first.
static void forget_agent(struct state *state, struct agent *agent)
{
	while (agent->backends)
		drop_backend(state, agent->backends);
	state_untouch_agent(state, agent);
	if (state->agent_gone)
		state->agent_gone(state->ctx, agent);
	model_remove_agent(&state->model, agent);
}

static int leave(struct state *state, struct agent *agent, struct err *err)
{
	int rc = state_row(state, STORE_AGENT, "", agent->node, NULL, err);

	if (rc)
		return rc;
	forget_agent(state, agent);
	return 0;
}

int state_leave(struct state *state, struct agent *agent, struct err *err)
{
	state->staged = true;
	say_lease(state, agent, agent->lost ? "lost" : "held", "gone", "it has left", false);
	return leave(state, agent, err);
}

int state_restore_agent(struct state *state, const char *node, const char *text, struct err *err)
{
	struct agent *agent = model_agent(&state->model, node);
	struct protocol_report report = { 0 };
	bool lost = false;

	if (!text) {
		if (agent)
			forget_agent(state, agent);
		return 0;
	}
	int rc = parse_agent(text, &report, &lost, err);
	if (!rc && !agent)
		agent = model_add_agent(&state->model, node);
	if (!agent) {
		protocol_report_clear(&report);
		return rc ? rc : err_set(err, -ENOMEM, NULL, "out of memory");
	}
	take_report(&state->model, agent, &report);
	if (!agent->revision)
		agent->revision = state->first_revision;
	// a full lease from now: while we were away nobody could renew it. A lost one stays lost until it reports.
	lease_renew(agent, clock_now_ms(), state->reap_after_ms);
	agent->lost = lost;
	bind_agent(state, agent);
	touch_backends(state, agent);
	state_touch_agent(state, agent);
	return 0;
}

static int answer_service(struct state *state, const struct agent *agent, const struct protocol_backend *reported,
	msec_t max_age_ms, struct protocol_service *ret, struct err *err)
{
	const struct service *service = model_service(&state->model, reported->service);
	const struct ipvs_counted *counted;
	struct backend_options options;
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
	int rc = reconcile_stats(state->reconcile, &service->key, max_age_ms, &counted, &count, err);
	const struct ipvs_counted *dest = rc ? NULL : reconcile_find(counted, count, backend);
	if (dest) {
		ret->active = dest->active;
		ret->inactive = dest->inactive;
	}
	return rc;
}

// Where the services of this agent were before they moved. Room for all that drains; returns how many.
static size_t answer_moved(struct state *state, const struct agent *agent, struct protocol_service *ret)
{
	size_t count = 0;

	for (const struct drain *drain = state->model.drains; drain; drain = drain->next) {
		const struct backend *backend = drain->backend;
		const struct service *service = backend->service;

		if (agent_of_copy(state, backend) != agent)
			continue;
		struct protocol_service *item = &ret[count++];

		memcpy(item->service, service->name, sizeof(item->service));
		snprintf(item->of, sizeof(item->of), "%s", moved_from(agent, service->name)->service);
		item->known = true;
		item->host = service->options.host;
		item->port = service->options.port;
		item->protocol = service->options.protocol;
		item->method = backend->options.method;
		item->active = drain->active;
		snprintf(item->status, sizeof(item->status), "%s",
			field_choice_name(backend_status_choices, desired_status(backend)));
	}
	return count;
}

int state_answer(
	struct state *state, const struct agent *agent, msec_t max_age_ms, struct protocol_answer *ret, struct err *err)
{
	size_t drains = 0;

	for (const struct drain *drain = state->model.drains; drain; drain = drain->next)
		drains++;
	struct protocol_answer answer = {
		.revision = agent->revision,
		.ttl_ms = agent->ttl_ms,
		.source = agent->source,
		.count = agent->report.count,
		.services = calloc(agent->report.count + drains + 1, sizeof(*answer.services)),
	};
	int rc = answer.services ? 0 : err_set(err, -EIO, NULL, "out of memory");

	for (size_t i = 0; i < answer.count && !rc; i++)
		rc = answer_service(state, agent, &agent->report.backends[i], max_age_ms, &answer.services[i], err);
	if (rc) {
		protocol_answer_clear(&answer);
		return -EREMOTEIO;
	}
	answer.count += answer_moved(state, agent, &answer.services[answer.count]);
	*ret = answer;
	return 0;
}

static void agent_lost(void *ctx, struct agent *agent)
{
	struct state *state = ctx;
	struct err err = { 0 };

	char why[64];

	snprintf(why, sizeof(why), "silent for more than %lld ms", (long long)agent->ttl_ms);
	say_lease(state, agent, "held", "lost", why, true);
	if (store_agent(state, agent->node, &agent->report, true, &err))
		log_error("agent %s: %s", agent->node, err.text);
	touch_backends(state, agent);
	state_touch_agent(state, agent);
}

static void agent_reaped(void *ctx, struct agent *agent)
{
	struct err err = { 0 };

	say_lease(ctx, agent, "lost", "gone", "never came back", true);
	if (leave(ctx, agent, &err))
		log_error("agent: %s", err.text);
}

void state_expire(struct state *state)
{
	lease_expire(&state->model, clock_now_ms(), agent_lost, agent_reaped, state);
}
