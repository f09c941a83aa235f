// SPDX-License-Identifier: Apache-2.0
// Staging of the changes that the API asks for.
#include "director/state_internal.h"

#include "director/sysctl.h"
#include "shared/clock.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

// --- rows ---

int state_poison(struct state *state, const struct err *why)
{
	if (!state->poisoned) {
		state->poisoned = -EIO;
		state->poison = *why;
	}
	return -EIO;
}

static int no_memory(struct state *state)
{
	struct err why = { 0 };

	err_set(&why, 0, NULL, "out of memory");
	return state_poison(state, &why);
}

int state_row(struct state *state, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err)
{
	struct err why = { 0 };
	int rc = text ? store_put(state->store, kind, owner, name, text, &why)
		      : store_delete(state->store, kind, owner, name, &why);

	if (!rc)
		return 0;
	if (err)
		*err = why;
	return state_poison(state, &why);
}

// Only what was given is stored: a default that a later version improves is not held fast.
static int options_row(struct state *state, enum store_kind kind, const char *owner, const char *name,
	const struct field_table *table, const void *options, bool is_new, struct err *err)
{
	_cleanup_out_ struct out out = { 0 };
	struct err why = { 0 };

	field_write(table, options, FIELD_GIVEN, &out);
	if (out.failed)
		return no_memory(state);
	if (!is_new)
		return state_row(state, kind, owner, name, out.text, err);
	if (store_add(state->store, kind, owner, name, out.text, &why) == 0)
		return 0;
	if (err)
		*err = why;
	return state_poison(state, &why);
}

int state_service_row(struct state *state, const char *name, const struct service_options *options, struct err *err)
{
	struct ipvs_key key;
	char text[IPVS_KEY_MAX], addr[INET_ADDR_MAX];

	model_key(options, &key);
	int rc = options_row(
		state, STORE_SERVICE, "", name, &service_fields, options, !model_service(&state->model, name), err);
	if (!rc)
		rc = state_row(state, STORE_OWNED_SERVICE, "", ipvs_key_format(&key, text), name, err);
	if (!rc && inet_addr_is_set(&options->host) && vip_is_managed(state->vip))
		rc = state_row(state, STORE_OWNED_ADDRESS, "", inet_addr_format(&options->host, addr), "", err);
	return rc;
}

int state_backend_row(struct state *state, const char *service, const char *name, const struct backend_options *options,
	struct err *err)
{
	const struct service *there = model_service(&state->model, service);

	return options_row(state, STORE_BACKEND, service, name, &backend_fields, options,
		!there || !model_backend(there, name), err);
}

// --- the model, with what hangs on it ---

void state_touch_service(struct state *state, struct service *service)
{
	reconcile_touch(state->reconcile, &service->key);
	if (!model_is_pool(service) && !service->silent) {
		service->serving = (struct pool_state)POOL_STATE_NEW;
		return;
	}
	if (service->pool_due)
		return;
	service->pool_due = true;
	LL_PREPEND2(state->pool_services, service, pool_next);
}

void state_touch_backend(struct state *state, struct backend *backend)
{
	state_note_status(state, backend, NULL);
	if (model_is_pool(backend->service))
		state_touch_service(state, backend->service);
	else
		reconcile_touch_dest(state->reconcile, &backend->service->key, &backend->place.at);
}

struct service *state_add_service(struct state *state, const char *name, const struct service_options *options)
{
	struct service *service = model_add_service(&state->model, name, options);

	if (!service || (inet_addr_is_set(&options->host) && vip_want(state->vip, &options->host))) {
		no_memory(state);
		return service;
	}
	state_bind_agents(state, service);
	state_touch_service(state, service);
	state_touch_agents_of(state, name);
	return service;
}

// Its key, and with it its VIP, are no longer used, as far as this service goes.
static void leave_key(struct state *state, const struct service *service)
{
	reconcile_touch(state->reconcile, &service->key);
	state_note_stale_key(state, &service->key);
	if (inet_addr_is_set(&service->options.host))
		vip_unwant(state->vip, &service->options.host);
}

int state_change_service(struct state *state, struct service *service, const struct service_options *options)
{
	struct ipvs_key key;

	model_key(options, &key);
	const bool moved = ipvs_key_cmp(&key, &service->key) != 0, ops = options->ops != service->options.ops;
	if (moved) {
		leave_key(state, service);
		if (inet_addr_is_set(&options->host) && vip_want(state->vip, &options->host))
			return no_memory(state);
	}
	if (model_set_service(service, options))
		return no_memory(state);
	if (moved || ops)
		state_bind_agents(state, service); // ports may follow the service's; nat is not for ops
	for (struct backend *b = service->backends; b; b = b->next) {
		if (!state_is_watched(service))
			model_clear_suspect(b);
		state_watch(state, b, false);
		state_note_status(state, b, NULL);
	}
	state_touch_service(state, service);
	state_touch_agents_of(state, service->name);
	return 0;
}

void state_drop_service(struct state *state, struct service *service)
{
	char name[MODEL_NAME_MAX + 1];

	snprintf(name, sizeof(name), "%s", service->name);
	leave_key(state, service);
	if (service->pool_due)
		LL_DELETE2(state->pool_services, service, pool_next);
	if (service->serving.quorum != POOL_QUORUM_UNKNOWN) {
		const enum pool_quorum was = service->serving.quorum;

		service->serving.quorum = POOL_QUORUM_LOST;
		state_note_quorum(state, service, was);
	}
	for (struct backend *b = service->backends; b; b = b->next) {
		state_touch_host_of(state, b);
		state_unwatch(state, b);
	}
	model_remove_service(service);
	state_touch_agents_of(state, name);
}

// Agents that wait for a service are bound as soon as it is there. What is declared, or was, comes first.
static void make_way(
	struct state *state, const struct service *service, const char *name, const struct inet_endpoint *at)
{
	struct backend *bound = model_backend(service, name);

	if (bound && bound->agent)
		state_drop_backend(state, bound);
	bound = model_backend_at(service, at);
	if (bound && bound->agent)
		state_drop_backend(state, bound);
}

struct backend *state_add_backend(
	struct state *state, struct service *service, const char *name, const struct backend_options *options)
{
	make_way(state, service, name, &(struct inet_endpoint) { options->host, options->port });
	struct backend *backend = model_add_backend(service, name, options, NULL);

	if (!backend) {
		no_memory(state);
		return NULL;
	}
	state_watch(state, backend, true);
	state_begin_status(backend);
	state_touch_backend(state, backend);
	return backend;
}

int state_change_backend(struct state *state, struct backend *backend, const struct backend_options *options)
{
	state_touch_backend(state, backend); // where it was
	if (model_set_backend(backend, options))
		return no_memory(state);
	state_watch(state, backend, false);
	state_touch_backend(state, backend);
	return 0;
}

void state_drop_backend(struct state *state, struct backend *backend)
{
	struct service *service = backend->service;

	reconcile_touch_dest(state->reconcile, &service->key, &backend->place.at);
	state_touch_host_of(state, backend);
	state_unwatch(state, backend);
	model_remove_backend(backend);
	if (model_is_pool(service))
		state_touch_service(state, service);
}

int state_delete_backend_rows(struct state *state, const struct backend *backend, struct err *err)
{
	const char *owner = backend->service->name;
	int rc = state_row(state, STORE_DOWN, owner, backend->name, NULL, err);

	return rc ? rc : state_row(state, STORE_DRAIN, owner, backend->name, NULL, err);
}

void state_warn_of_forwarding(const struct backend *backend)
{
	int family = backend->options.host.family;

	if (backend->options.method == FORWARD_NAT && !sysctl_forwards(family))
		log_warning("%s/%s: method nat needs this host to forward packets: sysctl -w %s=1",
			backend->service->name, backend->name,
			family == AF_INET6 ? "net/ipv6/conf/all/forwarding" : "net/ipv4/ip_forward");
}

// --- services ---

int state_check_key(
	const struct state *state, const struct service *self, const struct service_options *options, struct err *err)
{
	struct ipvs_key key;
	int rc = state_check_mark(state, options, err);

	if (rc)
		return rc;
	model_key(options, &key);
	const struct service *other = model_service_by_key(&state->model, &key);
	if (!other || other == self)
		return 0;
	return err_set(err, -EEXIST, options->fwmark ? "fwmark" : "host", "%s taken by service %s",
		options->fwmark ? "the mark is" : "address, port and protocol are", other->name);
}

int state_put_service(struct state *state, const char *name, const struct service_options *given, struct err *err)
{
	struct service *service = model_service(&state->model, name);
	struct service_options options = *given, old;
	char names[256];

	int rc = model_check_service(&options, state->folders, err);
	if (rc)
		return rc;
	if (service) {
		model_service_options(service, &old);
		if (!field_diff(&service_fields, &options, &old, names, sizeof(names)))
			return 0;
		return err_set(
			err, -EEXIST, NULL, "service %s exists and differs in: %s; PATCH changes it", name, names);
	}
	rc = state_check_key(state, NULL, &options, err);
	if (!rc)
		rc = state_check_kernel(state, NULL, &options, err);
	if (rc)
		return rc;
	if (HASH_COUNT(state->model.services) >= MODEL_SERVICES_MAX)
		return err_set(err, -EINVAL, NULL, "there are %d services; more are not taken", MODEL_SERVICES_MAX);
	state->staged = true;
	rc = state_service_row(state, name, &options, err);
	if (rc)
		return rc;
	service = state_add_service(state, name, &options);
	if (!service)
		return err_set(err, -EIO, NULL, "out of memory");
	char key[IPVS_KEY_MAX];
	if (reconcile_knows(state->reconcile, &service->key) && !reconcile_owns(state->reconcile, &service->key))
		log_warning("service %s: the kernel already has %s, made by someone else: taken over", name,
			ipvs_key_format(&service->key, key));
	events_add(state->events, &(struct event) { .service = name, .what = "status", .now = "made" });
	return 0;
}

int state_set_service(
	struct state *state, struct service *service, const struct service_options *given, struct err *err)
{
	struct service_options options = *given, old;
	char names[256];
	int rc = model_check_service(&options, state->folders, err);

	if (rc)
		return rc;
	const char *moved = model_moved_service(service, &options);
	if (moved)
		return err_set(err, -EINVAL, moved,
			"cannot be changed: it is the service's identity in the kernel; ?move=1 makes the new one and "
			"lets the old one drain");
	rc = model_check_service_fits(service, &options, err);
	model_service_options(service, &old);
	if (rc || (!field_diff(&service_fields, &options, &old, names, sizeof(names)) && options.set == old.set))
		return rc;
	rc = state_check_kernel(state, service, &options, err);
	if (rc)
		return rc;
	state->staged = true;
	rc = state_service_row(state, service->name, &options, err);
	if (!rc)
		rc = state_change_service(state, service, &options);
	if (!rc)
		log_info("service %s: changed: %s", service->name, names);
	return rc;
}

int state_delete_service(struct state *state, struct service *service, struct err *err)
{
	const char *name = service->name;

	state->staged = true;
	// rows of what hangs on it first: taking back goes the other way
	int rc = store_delete_all(state->store, STORE_DOWN, name, err);
	if (!rc)
		rc = store_delete_all(state->store, STORE_DRAIN, name, err);
	if (!rc)
		rc = store_delete_all(state->store, STORE_BACKEND, name, err);
	if (rc)
		return state_poison(state, err);
	rc = state_row(state, STORE_LEAVING, "", name, NULL, err);
	if (!rc)
		rc = state_row(state, STORE_SERVICE, "", name, NULL, err);
	if (rc)
		return rc;
	events_add(state->events, &(struct event) { .service = name, .what = "status", .now = "removed" });
	state_drop_service(state, service);
	return 0;
}

// --- backends made through the API ---

int state_check_place(const struct service *service, const struct backend *self, const struct backend_options *options,
	struct err *err)
{
	const struct inet_endpoint at = { options->host, options->port };
	const struct backend *other = model_backend_at(service, &at);

	if (other && other != self)
		return err_set(err, -EEXIST, "host", "address and port are taken by backend %s", other->name);
	return 0;
}

int state_put_backend(struct state *state, struct service *service, const char *name,
	const struct backend_options *given, struct err *err)
{
	struct backend *backend = model_backend(service, name);
	struct backend_options options = *given, old;
	char names[256];

	int rc = model_check_backend(&service->options, &options, state->folders, err);
	if (rc)
		return rc;
	if (backend && backend->agent)
		return err_set(err, -EEXIST, NULL, "backend %s was registered by the agent of that name", name);
	if (backend) {
		model_backend_options(backend, &old);
		if (!field_diff(&backend_fields, &options, &old, names, sizeof(names)))
			return 0;
		return err_set(
			err, -EEXIST, NULL, "backend %s exists and differs in: %s; PATCH changes it", name, names);
	}
	rc = state_check_place(service, NULL, &options, err);
	if (rc)
		return rc;
	if (service->backend_count >= MODEL_BACKENDS_MAX)
		return err_set(err, -EINVAL, NULL, "there are %d backends; more are not taken", MODEL_BACKENDS_MAX);
	state->staged = true;
	rc = state_stay(state, service, err);
	if (!rc)
		rc = state_backend_row(state, service->name, name, &options, err);
	if (rc)
		return rc;
	backend = state_add_backend(state, service, name, &options);
	if (!backend)
		return err_set(err, -EIO, NULL, "out of memory");
	log_info("backend %s/%s: made", service->name, name);
	state_warn_of_forwarding(backend);
	return 0;
}

int state_set_backend(
	struct state *state, struct backend *backend, const struct backend_options *given, struct err *err)
{
	struct backend_options options = *given, old;
	struct service *service = backend->service;
	char names[256];

	if (backend->agent)
		return err_set(err, -EEXIST, NULL,
			"backend %s belongs to an agent: change it in the agent's configuration", backend->name);
	int rc = model_check_backend(&service->options, &options, state->folders, err);
	if (rc)
		return rc;
	const char *moved = model_moved_backend(backend, &options);
	if (moved)
		return err_set(err, -EINVAL, moved,
			"cannot be changed: it is the backend's identity in the kernel; ?move=1 makes the new one and "
			"lets the old one drain");
	model_backend_options(backend, &old);
	if (!field_diff(&backend_fields, &options, &old, names, sizeof(names)) && options.set == old.set)
		return 0;
	state->staged = true;
	rc = state_backend_row(state, service->name, backend->name, &options, err);
	if (!rc)
		rc = state_change_backend(state, backend, &options);
	if (!rc)
		log_info("backend %s/%s: changed: %s", service->name, backend->name, names);
	return rc;
}

int state_delete_backend(struct state *state, struct backend *backend, struct err *err)
{
	struct service *service = backend->service;

	if (backend->agent)
		return err_set(err, -EEXIST, NULL,
			"backend %s belongs to an agent: stop the agent, or DELETE /agent/%s", backend->name,
			backend->agent->node);
	if (service->leaving && service->backend_count == 1)
		return state_delete_service(state, service, err);
	state->staged = true;
	int rc = state_delete_backend_rows(state, backend, err);
	if (!rc)
		rc = state_row(state, STORE_BACKEND, service->name, backend->name, NULL, err);
	if (rc)
		return rc;
	log_info("backend %s/%s: removed", service->name, backend->name);
	state_make_room(state, backend);
	return 0;
}
