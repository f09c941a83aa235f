// SPDX-License-Identifier: Apache-2.0
// Leaving gently: weight 0, wait for the connections, delete. A move is a new object and an old one that leaves.
#include "director/state_internal.h"

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

// The kernel has surely seen the weight of 0, and connections that were being scheduled are counted, after this long.
#define DRAIN_AT_LEAST_MS 1000

static int begin(struct state *state, struct backend *backend, msec_t wait_ms, struct err *err)
{
	const msec_t now = clock_now_ms();
	char text[24];

	snprintf(text, sizeof(text), "%lld", (long long)(clock_wall_ms() + wait_ms));
	int rc = state_row(state, STORE_DRAIN, backend->service->name, backend->name, text, err);
	if (!rc && model_drain(backend, now, now + wait_ms))
		rc = err_set(err, -EIO, NULL, "out of memory");
	if (rc)
		return rc;
	state_touch_backend(state, backend);
	if (state->tick_due)
		state->tick_due(state->ctx);
	return 0;
}

static int refuse_agents(const struct backend *backend, struct err *err)
{
	return err_set(err, -EEXIST, NULL, "backend %s belongs to an agent: drain it on its host", backend->name);
}

int state_drain_backend(struct state *state, struct backend *backend, msec_t wait_ms, struct err *err)
{
	if (backend->agent)
		return refuse_agents(backend, err);
	state->staged = true;
	int rc = begin(state, backend, wait_ms, err);
	if (!rc)
		log_info("backend %s/%s: leaves, within %lld ms", backend->service->name, backend->name,
			(long long)wait_ms);
	return rc;
}

int state_drain_service(struct state *state, struct service *service, msec_t wait_ms, struct err *err)
{
	for (const struct backend *b = service->backends; b; b = b->next)
		if (b->agent)
			return refuse_agents(b, err);
	if (!service->backends)
		return state_delete_service(state, service, err);
	state->staged = true;
	int rc = state_row(state, STORE_LEAVING, "", service->name, "", err);
	for (struct backend *b = service->backends; b && !rc; b = b->next)
		rc = begin(state, b, wait_ms, err);
	if (rc)
		return rc;
	service->leaving = true;
	log_info("service %s: leaves, within %lld ms", service->name, (long long)wait_ms);
	return 0;
}

int state_stay(struct state *state, struct service *service, struct err *err)
{
	int rc = service->leaving ? state_row(state, STORE_LEAVING, "", service->name, NULL, err) : 0;

	if (!rc && service->leaving)
		log_info("service %s: stays", service->name);
	service->leaving &= rc != 0;
	return rc;
}

static int refuse_undrain(const struct state *state, const struct backend *backend, struct err *err)
{
	if (!state_host_has_moved(state, backend))
		return 0;
	return err_set(err, -EEXIST, NULL, "agent %s serves this service where it has moved to: move it back instead",
		backend->name);
}

int state_undrain_backend(struct state *state, struct backend *backend, struct err *err)
{
	struct service *service = backend->service;

	int rc = refuse_undrain(state, backend, err);

	if (rc || !backend->drain)
		return rc;
	state->staged = true;
	rc = state_row(state, STORE_DRAIN, service->name, backend->name, NULL, err);
	if (!rc)
		rc = state_stay(state, service, err);
	if (rc)
		return rc;
	model_undrain(backend);
	state_touch_backend(state, backend);
	log_info("backend %s/%s: stays", service->name, backend->name);
	return 0;
}

int state_undrain_service(struct state *state, struct service *service, struct err *err)
{
	int rc = 0;

	for (const struct backend *b = service->backends; b && !rc; b = b->next)
		rc = refuse_undrain(state, b, err);
	for (struct backend *b = service->backends; b && !rc; b = b->next)
		rc = state_undrain_backend(state, b, err);
	return rc;
}

// --- moving ---

// NAME.old, NAME.old2, ...: the first that is free. 0 or -EEXIST.
static int old_name(const struct state *state, const struct service *service, const char *name,
	char ret[MODEL_NAME_MAX + 1], struct err *err)
{
	for (int i = 1; i < 100; i++) {
		// names are at most MODEL_NAME_MAX long: the last letters make room
		if (i == 1)
			snprintf(ret, MODEL_NAME_MAX + 1, "%.*s.old", MODEL_NAME_MAX - 6, name);
		else
			snprintf(ret, MODEL_NAME_MAX + 1, "%.*s.old%d", MODEL_NAME_MAX - 6, name, i % 100);
		if (service ? !model_backend(service, ret) : !model_service(&state->model, ret))
			return 0;
	}
	return err_set(err, -EEXIST, "name", "%s was moved too often: older ones still drain", name);
}

// What was checked before: an agent that waits for the name or the place must not come between.
static int put_moved(struct state *state, struct service *service, const char *name,
	const struct backend_options *options, struct err *err)
{
	int rc = state_backend_row(state, service->name, name, options, err);

	if (!rc && !state_add_backend(state, service, name, options))
		rc = err_set(err, -EIO, NULL, "out of memory");
	if (!rc)
		log_info("backend %s/%s: made", service->name, name);
	return rc;
}

int state_move_backend(struct state *state, struct backend *backend, const struct backend_options *given,
	msec_t wait_ms, struct err *err)
{
	struct service *service = backend->service;
	struct backend_options options = *given, old;
	char name[MODEL_NAME_MAX + 1], old_as[MODEL_NAME_MAX + 1];

	if (backend->agent)
		return state_set_backend(state, backend, given, err);
	int rc = model_check_backend(
		&service->options, &options, state->folders, err); // which says what port it is by default
	if (!rc && !model_moved_backend(backend, &options))
		return state_set_backend(state, backend, given, err);
	if (!rc)
		rc = state_check_place(service, NULL, &options, err);
	if (!rc)
		rc = old_name(state, service, backend->name, old_as, err);
	if (rc)
		return rc;
	model_backend_options(backend, &old);
	snprintf(name, sizeof(name), "%s", backend->name);
	rc = state_stay(state, service, err);
	// the old place keeps its destination in the kernel: only names change here
	if (!rc)
		rc = state_delete_backend(state, backend, err);
	if (!rc)
		rc = put_moved(state, service, old_as, &old, err);
	if (!rc)
		rc = begin(state, model_backend(service, old_as), wait_ms, err);
	if (!rc)
		rc = put_moved(state, service, name, &options, err);
	if (rc)
		state_poison(state, err);
	return rc;
}

// Backends at the service's port follow it. Would they suit the new place, and none be where another is?
static int check_moved(const struct service *service, const struct service_options *options, struct err *err)
{
	const uint16_t from = service->options.port, to = options->port;
	int rc = 0;

	for (const struct backend *b = service->backends; b && !rc; b = b->next) {
		struct backend_core core = b->options;

		core.port = core.port == from ? to : core.port;
		rc = b->drain ? 0 : model_check_fits(&options->core, &core, err);
		if (rc)
			err_context(err, "backend %s would not fit: ", b->name);
	}
	for (const struct backend *b = service->backends; b && !rc && from != to; b = b->next) {
		const struct inet_endpoint at = { b->options.host, to };
		const struct backend *other = b->options.port == from ? model_backend_at(service, &at) : NULL;

		if (other && !b->drain && !other->drain)
			rc = err_set(
				err, -EEXIST, "port", "backend %s would be where backend %s is", b->name, other->name);
	}
	return rc;
}

int state_move_service(struct state *state, struct service *service, const struct service_options *given,
	msec_t wait_ms, struct err *err)
{
	static const char *const of_agent[] = { "host", "port", "weight", "method", "tunnel", "labels", "pulse" };
	struct service_options options = *given, old;
	char name[MODEL_NAME_MAX + 1], old_as[MODEL_NAME_MAX + 1];

	int rc = model_check_service(&options, state->folders, err);
	if (rc)
		return rc;
	if (!model_moved_service(service, &options))
		return state_set_service(state, service, given, err);
	rc = state_check_key(state, NULL, &options, err);
	if (!rc)
		rc = state_check_kernel(state, service, &options, err);
	if (!rc)
		rc = old_name(state, NULL, service->name, old_as, err);
	if (rc)
		return rc;
	snprintf(name, sizeof(name), "%s", service->name);
	model_service_options(service, &old);
	const size_t count = service->backend_count;
	_cleanup_free_ struct backend_options *backends = calloc(count ? count : 1, sizeof(*backends));
	_cleanup_free_ char(*names)[MODEL_NAME_MAX + 1] = calloc(count ? count : 1, sizeof(*names));
	_cleanup_free_ bool *stays = calloc(count ? count : 1, sizeof(*stays));
	if (!backends || !names || !stays)
		return err_set(err, -EIO, NULL, "out of memory");
	size_t n = 0;
	for (const struct backend *b = service->backends; b; b = b->next, n++) {
		model_backend_options(b, &backends[n]);
		if (b->agent) {
			backends[n].pulse.kind = CHECK_NONE;
			field_set(&check_fields, &backends[n].pulse, "type");
		}
		for (size_t i = 0; b->agent && i < ARRAY_SIZE(of_agent); i++) // the copy's row must say it all
			field_set(&backend_fields, &backends[n], of_agent[i]);
		snprintf(names[n], sizeof(names[n]), "%s", b->name);
		stays[n] = !b->drain && !b->agent; // one that is leaving gets no connections at the new place, either
	}
	rc = check_moved(service, &options, err);
	if (rc)
		return rc;
	rc = state_delete_service(state, service, err);
	if (!rc)
		rc = state_put_service(state, old_as, &old, err);
	if (!rc)
		rc = state_put_service(state, name, &options, err);
	struct service *old_service = model_service(&state->model, old_as), *next = model_service(&state->model, name);
	for (size_t i = 0; i < count && !rc; i++) {
		const uint16_t port = backends[i].port;

		rc = put_moved(state, old_service, names[i], &backends[i], err);
		backends[i].port = port == old.port ? options.port : port;
		// agents serve the new one by its name; their hosts keep the old VIP as long as the copy drains
		if (!rc && stays[i])
			rc = put_moved(state, next, names[i], &backends[i], err);
	}
	if (!rc)
		rc = state_drain_service(state, old_service, wait_ms, err);
	if (rc)
		state_poison(state, err);
	return rc;
}

// --- the end ---

static bool is_done(struct state *state, struct drain *drain, msec_t now)
{
	const struct backend *backend = drain->backend;
	const struct ipvs_counted *counted = NULL;
	size_t count = 0;

	if (reconcile_stats(state->reconcile, &backend->service->key, DRAIN_AT_LEAST_MS / 2, &counted, &count, NULL))
		return now >= drain->deadline_ms;
	const struct ipvs_counted *dest = reconcile_find(counted, count, backend);
	drain->active = dest ? dest->active : 0;
	return now >= drain->deadline_ms || (!drain->active && now - drain->started_ms >= DRAIN_AT_LEAST_MS);
}

static void finish(struct state *state, struct backend *backend)
{
	struct err err = { 0 };

	log_info("backend %s/%s: has left, with %u connections open", backend->service->name, backend->name,
		backend->drain->active);
	int rc = state_delete_backend(state, backend, &err);
	state->staged = false; // nobody is waiting for this
	if (rc)
		log_error("%s", err.text);
}

bool state_drain_tick(struct state *state)
{
	const msec_t now = clock_now_ms();

	for (struct drain *drain = state->model.drains, *next; drain; drain = next) {
		next = drain->next;
		if (is_done(state, drain, now))
			finish(state, drain->backend);
	}
	return state->model.drains;
}
