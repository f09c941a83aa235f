// SPDX-License-Identifier: Apache-2.0
#include "director/state_internal.h"

#include "director/sysctl.h"
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
void state_reconcile_or_log(struct state *state, const struct service *service)
{
	struct err err = { 0 };

	if (reconcile_one(state, service, &err))
		log_error("service %s: %s; the next resync tries again", service->name, err.text);
}

void state_warn_of_forwarding(const struct backend *backend)
{
	int family = backend->options.host.family;

	if (backend->options.method == FORWARD_NAT && !sysctl_forwards(family))
		log_warning("%s/%s: method nat needs this host to forward packets: sysctl -w %s=1",
			backend->service->name, backend->name,
			family == AF_INET6 ? "net/ipv6/conf/all/forwarding" : "net/ipv4/ip_forward");
}

// A pulse may have been changed or taken away: without one nobody would lift its last verdict.
static void watch(struct state *state, struct backend *backend)
{
	bool was_down = backend->health.down;

	health_watch(state->health, backend);
	if (was_down && !backend->health.down)
		state_health_changed(state, backend);
}

// --- services ---

static int hold_vip(struct state *state, const struct inet_addr *addr, bool owned_before, struct err *err)
{
	char name[INET_ADDR_MAX];
	bool owned = false;
	int rc = vip_hold(state->vip, addr, owned_before, &owned, err);

	if (rc)
		return -EREMOTEIO;
	// it was there before us: it is not ours to remove
	if (!owned && !owned_before &&
		store_change(state->store, STORE_OWNED_ADDRESS, "", inet_addr_format(addr, name), NULL, err))
		return -EIO;
	return 0;
}

static void drop_vip(struct state *state, const struct inet_addr *addr)
{
	char name[INET_ADDR_MAX];
	struct err err = { 0 };
	bool gone = false;
	int rc = vip_drop(state->vip, addr, &gone, &err);

	if (!rc && gone)
		rc = store_change(state->store, STORE_OWNED_ADDRESS, "", inet_addr_format(addr, name), NULL, &err);
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
	store_change(state->store, STORE_OWNED_SERVICE, "", key_text, NULL, NULL);
	if (holds_vip)
		drop_vip(state, &host);
	state_touch_agents_of(state, name);
	return 0;
}

int state_put_service(struct state *state, const char *name, const struct service_options *options, struct err *err)
{
	struct service *service = model_service(&state->model, name);
	char names[256];

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
	struct ipvs_key key;
	char key_text[IPVS_KEY_MAX];

	desired_key(options, &key);
	if (reconcile_knows(state->reconcile, &key))
		log_warning("service %s: the kernel already has %s, made by someone else: taken over", name,
			ipvs_key_format(&key, key_text));
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
	log_info("service %s: made", name);
	state_touch_agents_of(state, name);
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
		state_reconcile_or_log(state, service);
		return rc;
	}
	for (struct backend *b = service->backends; b; b = b->hh.next)
		watch(state, b);
	log_info("service %s: changed: %s", service->name, names);
	state_touch_agents_of(state, service->name);
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
	const struct backend_options *given, struct err *err)
{
	struct backend *backend = model_backend(service, name);
	struct backend_options options = *given;
	char names[256];

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
	log_info("backend %s/%s: made", service->name, name);
	state_warn_of_forwarding(backend);
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
		state_reconcile_or_log(state, service);
		return rc;
	}
	watch(state, backend);
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
	state_drop_backend(state, backend);
	log_info("backend %s/%s: removed", service->name, name);
	return reconcile_one(state, service, err);
}

// A verdict outlives a restart: a director that comes back must not send traffic to a backend that it had taken out.
static void store_verdict(struct state *state, const struct backend *backend)
{
	const char *service = backend->service->name, *reason = backend->health.reason;
	struct err err = { 0 };
	int rc = store_change(
		state->store, STORE_DOWN, service, backend->name, backend->health.down ? reason : NULL, &err);

	if (rc)
		log_error("%s/%s: the verdict cannot be stored: %s", service, backend->name, err.text);
}

void state_health_changed(struct state *state, struct backend *backend)
{
	store_verdict(state, backend);
	state_reconcile_or_log(state, backend->service);
	if (backend->agent)
		state_touch_agent(state, backend->agent);
}
