// SPDX-License-Identifier: Apache-2.0
#include "director/state.h"

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

// --- helpers: texts for the store, kernel errors for people ---

static int put_json(
	struct store *store, enum store_kind kind, const char *owner, const char *name, json_t *json, struct err *err)
{
	_cleanup_free_ char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;

	json_decref(json);
	if (!text)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	return store_put(store, kind, owner, name, text, err);
}

static int kernel_refused(const struct service *service, int error, struct err *err)
{
	const char *scheduler = service->options.scheduler;

	// IPVS says ENOENT for a scheduler that it neither has nor can load (ip_vs_ctl.c, ip_vs_add_service)
	if (error == -ENOENT)
		return err_set(err, -EINVAL, "method",
			"found \"%s\", a scheduler that this kernel neither has nor can load (module ip_vs_%s)",
			scheduler, scheduler);
	err_context(err, "the kernel refused: ");
	return -EREMOTEIO;
}

static int reconcile_one(struct state *state, const struct service *service, struct err *err)
{
	int rc = reconcile_service(state->reconcile, service, err);

	return rc ? kernel_refused(service, rc, err) : 0;
}

// For changes that have no caller to tell (health, leases): the next resync tries again.
static void reconcile_or_log(struct state *state, const struct service *service)
{
	struct err err = { 0 };

	if (reconcile_one(state, service, &err))
		log_error("service %s: %s; the next resync tries again", service->name, err.text);
}

// Not refused: the setting may come later. But nothing else would say why no reply arrives.
static void warn_of_forwarding(const struct backend *backend)
{
	int family = backend->options.host.family;

	if (backend->options.method == FORWARD_NAT && !ipvs_host_forwards(family))
		log_warning("%s/%s: method nat needs this host to forward packets: sysctl -w %s=1",
			backend->service->name, backend->name,
			family == AF_INET6 ? "net/ipv6/conf/all/forwarding" : "net/ipv4/ip_forward");
}

static void touch_agent(struct state *state, struct agent *agent)
{
	agent->revision++;
	if (state->agent_changed)
		state->agent_changed(state->ctx, agent);
}

// --- agents' backends: a function of (report, services) ---

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

static void drop_backend(struct backend *backend)
{
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
		drop_backend(backend);
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
		warn_of_forwarding(backend);
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

static void touch_agents_of(struct state *state, const char *service)
{
	for (struct agent *agent = state->model.agents; agent; agent = agent->hh.next)
		if (names_service(agent, service))
			touch_agent(state, agent);
}

// --- services ---

static int hold_vip(struct state *state, const struct inet_addr *addr, bool owned_before, struct err *err)
{
	char name[INET_ADDR_MAX];
	bool owned = false;
	int rc = vip_hold(state->vip, addr, owned_before, &owned, err);

	if (rc)
		return -EREMOTEIO;
	if (!owned && !owned_before && !store_begin(state->store, err)) {
		// it was there before us: it is not ours to remove
		store_delete(state->store, STORE_OWNED_ADDRESS, "", inet_addr_format(addr, name), err);
		return store_commit(state->store, err) ? -EIO : 0;
	}
	return 0;
}

static void drop_vip(struct state *state, const struct inet_addr *addr)
{
	char name[INET_ADDR_MAX];
	struct err err = { 0 };
	bool gone = false;
	int rc = vip_drop(state->vip, addr, &gone, &err);

	if (!rc && gone) {
		rc = store_begin(state->store, &err);
		if (!rc)
			rc = store_delete(state->store, STORE_OWNED_ADDRESS, "", inet_addr_format(addr, name), &err);
		if (!rc)
			rc = store_commit(state->store, &err);
	}
	if (rc)
		log_error("VIP %s: %s; the next start tries again", inet_addr_format(addr, name), err.text);
}

static int store_service(struct state *state, const char *name, const struct service_options *options, struct err *err)
{
	struct ipvs_key key;
	char key_text[IPVS_KEY_MAX], addr[INET_ADDR_MAX];
	int rc = store_begin(state->store, err);

	if (rc)
		return -EIO;
	desired_key(options, &key);
	rc = put_json(state->store, STORE_SERVICE, "", name, field_print(&service_fields, options), err);
	if (!rc)
		rc = store_put(state->store, STORE_OWNED_SERVICE, "", ipvs_key_format(&key, key_text), name, err);
	if (!rc)
		rc = store_put(state->store, STORE_OWNED_ADDRESS, "", inet_addr_format(&options->host, addr), "", err);
	if (!rc)
		rc = store_commit(state->store, err);
	if (rc)
		store_rollback(state->store);
	return rc ? -EIO : 0;
}

// Takes a service out of everything; the kernel may already have lost it. Model and store always follow.
static int remove_service(struct state *state, struct service *service, bool holds_vip, struct err *err)
{
	char name[MODEL_NAME_MAX + 1], key_text[IPVS_KEY_MAX];
	const struct inet_addr host = service->options.host;
	struct ipvs_key key;

	snprintf(name, sizeof(name), "%s", service->name);
	desired_key(&service->options, &key);
	ipvs_key_format(&key, key_text);
	int rc = store_begin(state->store, err);
	if (!rc)
		rc = store_delete(state->store, STORE_SERVICE, "", name, err);
	if (!rc)
		rc = store_delete_all(state->store, STORE_BACKEND, name, err);
	if (!rc)
		rc = store_delete_all(state->store, STORE_DOWN, name, err);
	if (!rc)
		rc = store_commit(state->store, err);
	if (rc) {
		store_rollback(state->store);
		return -EIO;
	}
	for (struct backend *b = service->backends; b; b = b->hh.next)
		health_forget(b);
	model_remove_service(&state->model, service);
	rc = reconcile_remove(state->reconcile, &key, err);
	if (rc) {
		// still listed as ours without being wanted: the next start removes it
		err_context(err, "the kernel refused: ");
		return -EREMOTEIO;
	}
	if (!store_begin(state->store, NULL)) {
		store_delete(state->store, STORE_OWNED_SERVICE, "", key_text, NULL);
		store_commit(state->store, NULL);
	}
	if (holds_vip)
		drop_vip(state, &host);
	touch_agents_of(state, name);
	return 0;
}

int state_put_service(struct state *state, const char *name, const struct service_options *options, bool *ret_created,
	struct err *err)
{
	struct service *service = model_service(&state->model, name);
	char names[256];

	if (ret_created)
		*ret_created = false;
	int rc = model_check_service(options, err);
	if (rc)
		return rc;
	if (service) {
		if (!field_diff(&service_fields, options, &service->options, names, sizeof(names)))
			return 0;
		return err_set(
			err, -EEXIST, NULL, "service %s exists and differs in: %s; PATCH changes it", name, names);
	}
	const struct service *other = model_service_by_key(&state->model, options);
	if (other)
		return err_set(err, -EEXIST, "host", "address, port and protocol are taken by service %s", other->name);
	if (HASH_COUNT(state->model.services) >= MODEL_SERVICES_MAX)
		return err_set(err, -EINVAL, NULL, "there are %d services; more are not taken", MODEL_SERVICES_MAX);
	rc = store_service(state, name, options, err);
	if (rc)
		return rc;
	service = model_add_service(&state->model, name, options);
	if (!service)
		return err_set(err, -EIO, NULL, "out of memory");
	rc = hold_vip(state, &options->host, false, err);
	bool holds_vip = rc == 0;
	if (!rc) {
		state_bind_agents(state, service);
		rc = reconcile_one(state, service, err);
	}
	if (rc) {
		remove_service(state, service, holds_vip, NULL);
		return rc;
	}
	if (ret_created)
		*ret_created = true;
	log_info("service %s: made", name);
	touch_agents_of(state, name);
	return 0;
}

int state_set_service(
	struct state *state, struct service *service, const struct service_options *options, struct err *err)
{
	const struct service_options old = service->options;
	char names[256];
	int rc = model_check_service_change(service, options, err);

	if (rc || !field_diff(&service_fields, options, &old, names, sizeof(names)))
		return rc;
	rc = store_service(state, service->name, options, err);
	if (rc)
		return rc;
	model_set_service(service, options);
	rc = reconcile_one(state, service, err);
	if (rc) {
		model_set_service(service, &old);
		store_service(state, service->name, &old, NULL);
		reconcile_or_log(state, service);
		return rc;
	}
	for (struct backend *b = service->backends; b; b = b->hh.next)
		health_watch(state->health, b);
	log_info("service %s: changed: %s", service->name, names);
	touch_agents_of(state, service->name);
	return 0;
}

int state_delete_service(struct state *state, struct service *service, struct err *err)
{
	char name[MODEL_NAME_MAX + 1];

	snprintf(name, sizeof(name), "%s", service->name);
	int rc = remove_service(state, service, true, err);
	if (!rc)
		log_info("service %s: removed", name);
	return rc;
}

// --- backends made through the API ---

static int store_backend(struct state *state, const char *service, const char *name,
	const struct backend_options *options, struct err *err)
{
	int rc = store_begin(state->store, err);

	if (rc)
		return -EIO;
	if (options)
		rc = put_json(state->store, STORE_BACKEND, service, name, field_print(&backend_fields, options), err);
	else
		rc = store_delete(state->store, STORE_BACKEND, service, name, err);
	if (!rc && !options)
		rc = store_delete(state->store, STORE_DOWN, service, name, err);
	if (!rc)
		rc = store_commit(state->store, err);
	if (rc)
		store_rollback(state->store);
	return rc ? -EIO : 0;
}

static int check_place(const struct service *service, const struct backend *self, const struct backend_options *options,
	struct err *err)
{
	const struct backend *other = model_backend_at(service, &options->host, options->port);

	if (other && other != self)
		return err_set(err, -EEXIST, "host", "address and port are taken by backend %s", other->name);
	return 0;
}

int state_put_backend(struct state *state, struct service *service, const char *name,
	const struct backend_options *given, bool *ret_created, struct err *err)
{
	struct backend *backend = model_backend(service, name);
	struct backend_options options = *given;
	char names[256];

	if (ret_created)
		*ret_created = false;
	int rc = model_check_backend(service, &options, err);
	if (rc)
		return rc;
	if (backend && backend->agent)
		return err_set(err, -EEXIST, NULL, "backend %s was registered by the agent of that name", name);
	if (backend) {
		if (!field_diff(&backend_fields, &options, &backend->options, names, sizeof(names)))
			return 0;
		return err_set(
			err, -EEXIST, NULL, "backend %s exists and differs in: %s; PATCH changes it", name, names);
	}
	rc = check_place(service, NULL, &options, err);
	if (rc)
		return rc;
	if (HASH_COUNT(service->backends) >= MODEL_BACKENDS_MAX)
		return err_set(err, -EINVAL, NULL, "there are %d backends; more are not taken", MODEL_BACKENDS_MAX);
	rc = store_backend(state, service->name, name, &options, err);
	if (rc)
		return rc;
	backend = model_add_backend(service, name, &options, NULL);
	if (!backend)
		return err_set(err, -EIO, NULL, "out of memory");
	rc = reconcile_one(state, service, err);
	if (rc) {
		model_remove_backend(backend);
		store_backend(state, service->name, name, NULL, NULL);
		return rc;
	}
	health_watch(state->health, backend);
	if (ret_created)
		*ret_created = true;
	log_info("backend %s/%s: made", service->name, name);
	warn_of_forwarding(backend);
	return 0;
}

int state_set_backend(
	struct state *state, struct backend *backend, const struct backend_options *given, struct err *err)
{
	const struct backend_options old = backend->options;
	struct backend_options options = *given;
	struct service *service = backend->service;
	char names[256];

	if (backend->agent)
		return err_set(err, -EEXIST, NULL,
			"backend %s belongs to an agent: change it in the agent's configuration", backend->name);
	if (inet_addr_cmp(&options.host, &old.host) || options.port != old.port)
		return err_set(err, -EINVAL, inet_addr_cmp(&options.host, &old.host) ? "host" : "port",
			"cannot be changed: it is the backend's identity in the kernel; make a new backend");
	int rc = model_check_backend(service, &options, err);
	if (rc || !field_diff(&backend_fields, &options, &old, names, sizeof(names)))
		return rc;
	rc = store_backend(state, service->name, backend->name, &options, err);
	if (rc)
		return rc;
	backend->options = options;
	rc = reconcile_one(state, service, err);
	if (rc) {
		backend->options = old;
		store_backend(state, service->name, backend->name, &old, NULL);
		reconcile_or_log(state, service);
		return rc;
	}
	health_watch(state->health, backend);
	log_info("backend %s/%s: changed: %s", service->name, backend->name, names);
	return 0;
}

int state_delete_backend(struct state *state, struct backend *backend, struct err *err)
{
	struct service *service = backend->service;
	char name[MODEL_NAME_MAX + 1];

	if (backend->agent)
		return err_set(err, -EEXIST, NULL,
			"backend %s belongs to an agent: stop the agent, or DELETE /agent/%s", backend->name,
			backend->agent->node);
	snprintf(name, sizeof(name), "%s", backend->name);
	int rc = store_backend(state, service->name, name, NULL, err);
	if (rc)
		return rc;
	drop_backend(backend);
	log_info("backend %s/%s: removed", service->name, name);
	return reconcile_one(state, service, err);
}

// --- agents ---

static int store_agent(struct state *state, const struct agent *agent, struct err *err)
{
	json_t *json = protocol_report_to_json(&agent->report);
	int rc = store_begin(state->store, err);

	if (rc) {
		json_decref(json);
		return -EIO;
	}
	if (json)
		json_object_set_new(json, "lost", json_boolean(agent->lost));
	rc = put_json(state->store, STORE_AGENT, "", agent->node, json, err);
	if (!rc)
		rc = store_commit(state->store, err);
	if (rc)
		store_rollback(state->store);
	return rc ? -EIO : 0;
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
		drop_backend(backend);
		reconcile_or_log(state, service);
	}
	for (size_t i = 0; i < agent->report.count; i++) {
		const struct protocol_backend *reported = &agent->report.backends[i];
		struct service *service = model_service(&state->model, reported->service);

		if (service && bind_one(state, service, agent, reported))
			reconcile_or_log(state, service);
	}
}

int state_report(
	struct state *state, const char *node, struct protocol_report *report, struct agent **ret, struct err *err)
{
	struct agent *agent = model_agent(&state->model, node);
	bool is_new = !agent;

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
				reconcile_or_log(state, b->service);
		touch_agent(state, agent);
	}
	if (state->lease_due)
		state->lease_due(state->ctx, agent->deadline_ms);
	*ret = agent;
	return 0;
}

int state_leave(struct state *state, struct agent *agent, struct err *err)
{
	int rc = store_begin(state->store, err);

	if (!rc)
		rc = store_delete(state->store, STORE_AGENT, "", agent->node, err);
	if (!rc)
		rc = store_commit(state->store, err);
	if (rc) {
		store_rollback(state->store);
		return -EIO;
	}
	while (agent->backends) {
		struct service *service = agent->backends->service;

		drop_backend(agent->backends);
		reconcile_or_log(state, service);
	}
	log_info("agent %s: gone", agent->node);
	if (state->agent_gone)
		state->agent_gone(state->ctx, agent);
	model_remove_agent(&state->model, agent);
	return 0;
}

static const struct ipvs_dest *find_dest(const struct ipvs_dest *dests, size_t count, const struct backend *backend)
{
	struct ipvs_dest want;

	desired_dest(backend, &want);
	return count ? bsearch(&want, dests, count, sizeof(*dests),
			       (int (*)(const void *, const void *))(void (*)(void))ipvs_dest_cmp)
		     : NULL;
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
	const struct ipvs_dest *dest = rc ? NULL : find_dest(dests, count, backend);
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
		reconcile_or_log(state, b->service);
	touch_agent(state, agent);
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

// A verdict outlives a restart: a director that comes back must not send traffic to a backend that it had taken out.
static void store_verdict(struct state *state, const struct backend *backend)
{
	const char *service = backend->service->name, *reason = backend->health.reason;
	struct err err = { 0 };
	int rc = store_begin(state->store, &err);

	if (!rc)
		rc = backend->health.down ? store_put(state->store, STORE_DOWN, service, backend->name, reason, &err)
					  : store_delete(state->store, STORE_DOWN, service, backend->name, &err);
	if (!rc)
		rc = store_commit(state->store, &err);
	else
		store_rollback(state->store);
	if (rc)
		log_error("%s/%s: the verdict cannot be stored: %s", service, backend->name, err.text);
}

void state_health_changed(struct state *state, struct backend *backend)
{
	store_verdict(state, backend);
	reconcile_or_log(state, backend->service);
	if (backend->agent)
		touch_agent(state, backend->agent);
}
