// SPDX-License-Identifier: Apache-2.0
// The whole state as one document: read into a model of its own, checked there, and compared with the one that stands.
#include "director/state_internal.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

struct reading {
	struct state *state; // the one that stands
	const struct state_document *document;
	struct model next;
	size_t mistakes;
	const char *service, *backend; // where we are; NULL: nowhere
};

static void mistake(void *ctx, const struct err *err)
{
	struct reading *reading = ctx;
	struct err full = *err;

	if (reading->backend) {
		err_prefix(&full, reading->backend);
		err_prefix(&full, "backends");
	}
	if (reading->service)
		err_prefix(&full, reading->service);
	err_prefix(&full, "services");
	reading->mistakes++;
	reading->document->mistake(reading->document->ctx, &full);
}

static bool is_name(struct reading *reading, const char *name)
{
	struct err err = { 0 };

	if (field_name_ok(name, MODEL_NAME_MAX))
		return true;
	err_set(&err, -EINVAL, NULL,
		"\"%.80s\" is no name, allowed are 1 to %d letters, digits and . _ - : @ that begin with a letter or "
		"digit",
		name, MODEL_NAME_MAX);
	mistake(reading, &err);
	return false;
}

// What is there and not for a document to take: agents' backends, and those on their way out.
static int check_others(const struct reading *reading, const struct backend_options *options, struct err *err)
{
	const struct service *service = model_service(&reading->state->model, reading->service);
	const struct backend *same = service ? model_backend(service, reading->backend) : NULL;
	const struct inet_endpoint at = { options->host, options->port };
	const struct backend *there = service ? model_backend_at(service, &at) : NULL;

	if (same && same->agent)
		return err_set(err, -EEXIST, NULL, "it was registered by the agent of that name");
	if (there && there->agent)
		return err_set(err, -EEXIST, "host", "address and port are taken by the agent of %s", there->name);
	if (there && there->drain && there != same)
		return err_set(err, -EEXIST, "host", "address and port are taken by backend %s, which is leaving",
			there->name);
	return 0;
}

static void read_backend(struct reading *reading, struct service *service, const json_t *json)
{
	struct backend_options options;
	struct err err = { 0 };

	if (field_parse(&backend_fields, json, &options, &err)) {
		field_mistakes(&backend_fields, json, &options, mistake, reading);
		return;
	}
	int rc = model_check_backend(&service->options, &options, reading->state->folders, &err);
	if (!rc)
		rc = state_check_place(service, NULL, &options, &err);
	if (!rc)
		rc = check_others(reading, &options, &err);
	if (!rc && service->backend_count >= MODEL_BACKENDS_MAX)
		rc = err_set(&err, -EINVAL, NULL, "a service has at most %d backends", MODEL_BACKENDS_MAX);
	if (!rc && !model_add_backend(service, reading->backend, &options, NULL))
		rc = err_set(&err, -ENOMEM, NULL, "out of memory");
	if (rc)
		mistake(reading, &err);
}

static void read_backends(struct reading *reading, struct service *service, json_t *backends)
{
	struct err err = { 0 };
	const char *name;
	json_t *json;

	if (backends && !json_is_object(backends)) {
		err_set(&err, -EINVAL, "backends", "found %s, allowed is an object of backends by name",
			field_json_kind(backends));
		mistake(reading, &err);
		return;
	}
	json_object_foreach (backends, name, json) {
		if (!is_name(reading, name))
			continue;
		reading->backend = name;
		read_backend(reading, service, json);
		reading->backend = NULL;
	}
}

static int check_next_key(const struct reading *reading, const struct service_options *options, struct err *err)
{
	struct ipvs_key key;

	model_key(options, &key);
	const struct service *other = model_service_by_key(&reading->next, &key);
	const struct service *leaving = model_service_by_key(&reading->state->model, &key);
	if (other)
		return err_set(err, -EEXIST, options->fwmark ? "fwmark" : "host",
			"service %s of this document has the same", other->name);
	if (leaving && leaving->leaving && strcmp(leaving->name, reading->service) != 0)
		return err_set(err, -EEXIST, options->fwmark ? "fwmark" : "host",
			"taken by service %s, which is leaving", leaving->name);
	return 0;
}

static void read_service(struct reading *reading, json_t *json)
{
	json_t *backends = json_incref(json_object_get(json, "backends"));
	struct service *service = NULL;
	struct service_options options;
	struct err err = { 0 };

	if (backends)
		json_object_del(json, "backends");
	if (field_parse(&service_fields, json, &options, &err)) {
		field_mistakes(&service_fields, json, &options, mistake, reading);
	} else {
		int rc = model_check_service(&options, reading->state->folders, &err);

		if (!rc)
			rc = state_check_mark(reading->state, &options, &err);
		if (!rc)
			rc = check_next_key(reading, &options, &err);
		if (!rc && !reading->document->dry_run) // which leaves the kernel alone
			rc = state_check_kernel(reading->state, model_service(&reading->state->model, reading->service),
				&options, &err);
		if (!rc) {
			service = model_add_service(&reading->next, reading->service, &options);
			if (!service)
				rc = err_set(&err, -ENOMEM, NULL, "out of memory");
		}
		if (rc)
			mistake(reading, &err);
	}
	if (service)
		read_backends(reading, service, backends);
	json_decref(backends);
}

static void read_named(struct reading *reading, const char *name, json_t *json)
{
	struct err err = { 0 };

	if (!is_name(reading, name))
		return;
	reading->service = name;
	if (!model_service(&reading->next, name)) {
		read_service(reading, json);
	} else {
		err_set(&err, -EEXIST, NULL, "it is there twice");
		mistake(reading, &err);
	}
	reading->service = NULL;
}

static int read_each(struct reading *reading)
{
	char name[MODEL_NAME_MAX + 2];
	struct err err = { 0 };
	json_t *json;
	int rc;

	while ((rc = reading->document->next(reading->document->ctx, name, &json)) > 0) {
		if (HASH_COUNT(reading->next.services) < MODEL_SERVICES_MAX) {
			read_named(reading, name, json);
		} else {
			err_set(&err, -EINVAL, NULL, "there are more than %d services", MODEL_SERVICES_MAX);
			mistake(reading, &err);
			rc = 0;
		}
		json_decref(json);
		if (!rc)
			break;
	}
	return rc;
}

static void read_services(struct reading *reading)
{
	json_t *services = reading->document->services, *json;
	struct err err = { 0 };
	const char *name;

	if (!json_is_object(services)) {
		err_set(&err, -EINVAL, NULL, "found %s, allowed is an object of services by name",
			services ? field_json_kind(services) : "nothing");
		mistake(reading, &err);
		return;
	}
	if (json_object_size(services) > MODEL_SERVICES_MAX) {
		err_set(&err, -EINVAL, NULL, "found %zu services, allowed are at most %d", json_object_size(services),
			MODEL_SERVICES_MAX);
		mistake(reading, &err);
		return;
	}
	void *after;
	json_object_foreach_safe(services, after, name, json)
	{
		char copy[MODEL_NAME_MAX + 1];

		snprintf(copy, sizeof(copy), "%s", name);
		read_named(reading, name, json);
		if (strcmp(copy, name) == 0)
			json_object_del(services, copy); // read: 100,000 backends are a large tree
	}
}

// --- the difference, told or staged ---

struct difference {
	struct state *state;
	const struct state_document *document;
	struct err *err;
};

static void tell(const struct difference *d, const char *action, const char *service, const char *backend,
	const char *fields, uint64_t connections)
{
	if (d->document->step)
		d->document->step(
			d->document->ctx, &(struct state_step) { action, service, backend, fields, connections });
}

// Connections that the kernel has to this backend, or (NULL) to all of the service. Counted for plans only.
static uint64_t connections(const struct difference *d, const struct service *service, const struct backend *backend)
{
	const struct ipvs_counted *counted;
	uint64_t sum = 0;
	size_t count;

	if (!d->document->dry_run || reconcile_stats(d->state->reconcile, &service->key, 1000, &counted, &count, NULL))
		return 0;
	const struct ipvs_counted *one = backend ? reconcile_find(counted, count, backend) : NULL;
	if (backend)
		return one ? (uint64_t)one->active + one->inactive : 0;
	for (size_t i = 0; i < count; i++)
		sum += (uint64_t)counted[i].active + counted[i].inactive;
	return sum;
}

static int add_backend(
	const struct difference *d, struct service *service, const char *owner, const struct backend *next)
{
	struct backend_options options;

	tell(d, "add", owner, next->name, "", 0);
	if (d->document->dry_run)
		return 0;
	model_backend_options(next, &options);
	int rc = state_backend_row(d->state, owner, next->name, &options, d->err);
	if (!rc && !state_add_backend(d->state, service, next->name, &options))
		rc = err_set(d->err, -EIO, NULL, "out of memory");
	return rc;
}

static int change_backend(const struct difference *d, struct backend *backend, const struct backend *next)
{
	const struct service *service = backend->service;
	struct backend_options options, old;
	char names[256];

	if (model_same_backend(backend, next))
		return 0;
	model_backend_options(next, &options);
	model_backend_options(backend, &old);
	const char *moved = model_moved_backend(backend, &options);
	if (field_diff(&backend_fields, &options, &old, names, sizeof(names)))
		tell(d, "change", service->name, backend->name, names, moved ? connections(d, service, backend) : 0);
	if (d->document->dry_run)
		return 0;
	int rc = state_backend_row(d->state, service->name, backend->name, &options, d->err);
	return rc ? rc : state_change_backend(d->state, backend, &options);
}

static int delete_backend(const struct difference *d, struct backend *backend)
{
	const char *owner = backend->service->name;

	tell(d, "delete", owner, backend->name, "", connections(d, backend->service, backend));
	if (d->document->dry_run)
		return 0;
	int rc = state_delete_backend_rows(d->state, backend, d->err);
	if (!rc)
		rc = state_row(d->state, STORE_BACKEND, owner, backend->name, NULL, d->err);
	if (!rc)
		state_make_room(d->state, backend);
	return rc;
}

// Is it for a document to change?
static bool is_declared(const struct backend *backend)
{
	return !backend->agent && !backend->drain;
}

// Can one that is leaving do so in the service as it is to be? Where the service moves its connections end anyway.
static bool can_drain(const struct backend *backend, const struct service *next)
{
	return ipvs_key_cmp(&backend->service->key, &next->key) == 0 &&
		model_check_fits(&next->options, &backend->options, NULL) == 0;
}

static int delete_undeclared(const struct difference *d, struct service *service, const struct service *next)
{
	struct backend *b, *after;
	int rc = 0;

	for (b = service->backends; b && !rc; b = after) {
		after = b->next;
		if (!model_backend(next, b->name) && (is_declared(b) || (b->drain && !can_drain(b, next))))
			rc = delete_backend(d, b);
	}
	return rc;
}

static int compare_backends(const struct difference *d, struct service *service, const struct service *next)
{
	struct backend *b;
	int rc = 0;

	for (const struct backend *n = next->backends; n && !rc; n = n->next) {
		b = model_backend(service, n->name);
		// one that was leaving and is declared again stays
		if (b && b->drain && !d->document->dry_run)
			rc = state_undrain_backend(d->state, b, d->err);
		if (!rc)
			rc = b ? change_backend(d, b, n) : add_backend(d, service, service->name, n);
	}
	return rc;
}

static int add_service(const struct difference *d, const struct service *next)
{
	struct service_options options;
	struct service *service = NULL;
	int rc = 0;

	tell(d, "add", next->name, NULL, "", 0);
	if (!d->document->dry_run) {
		model_service_options(next, &options);
		rc = state_service_row(d->state, next->name, &options, d->err);
		if (!rc)
			service = state_add_service(d->state, next->name, &options);
		if (!rc && !service)
			rc = err_set(d->err, -EIO, NULL, "out of memory");
		if (!rc)
			events_add(d->state->events,
				&(struct event) { .service = next->name, .what = "status", .now = "made" });
	}
	for (const struct backend *n = next->backends; n && !rc; n = n->next)
		rc = add_backend(d, service, next->name, n);
	return rc;
}

static int change_service(const struct difference *d, struct service *service, const struct service *next)
{
	struct service_options options, old;
	char names[256];
	int rc = delete_undeclared(d, service, next);

	if (!rc && !model_same_service(service, next)) {
		model_service_options(next, &options);
		model_service_options(service, &old);
		const char *moved = model_moved_service(service, &options);
		if (field_diff(&service_fields, &options, &old, names, sizeof(names)))
			tell(d, "change", service->name, NULL, names, moved ? connections(d, service, NULL) : 0);
		if (!d->document->dry_run) {
			rc = state_service_row(d->state, service->name, &options, d->err);
			if (!rc)
				rc = state_change_service(d->state, service, &options);
		}
	}
	// one that was leaving and is declared again stays
	if (!rc && !d->document->dry_run)
		rc = state_stay(d->state, service, d->err);
	return rc ? rc : compare_backends(d, service, next);
}

static int delete_service(const struct difference *d, struct service *service)
{
	tell(d, "delete", service->name, NULL, "", connections(d, service, NULL));
	return d->document->dry_run ? 0 : state_delete_service(d->state, service, d->err);
}

// Takes next apart on the way: two models of 100,000 backends are large.
static int compare(const struct difference *d, struct model *next)
{
	struct service *s, *after, *n;
	int rc = 0;

	for (s = d->state->model.services; s && !rc; s = after) {
		after = s->hh.next;
		if (!s->leaving && !model_service(next, s->name))
			rc = delete_service(d, s);
	}
	while (next->services && !rc) {
		n = next->services;
		s = model_service(&d->state->model, n->name);
		rc = s ? change_service(d, s, n) : add_service(d, n);
		model_remove_service(n);
	}
	return rc;
}

int state_put_document(struct state *state, const struct state_document *document, struct err *err)
{
	struct reading reading = { .state = state, .document = document };
	const struct difference difference = { state, document, err };
	int rc = 0;

	if (document->services)
		read_services(&reading);
	else
		rc = read_each(&reading);
	if (rc) {
		err_set(err, rc, NULL, "the document cannot be read");
	} else if (reading.mistakes) {
		rc = err_set(err, -EINVAL, NULL, "%zu mistake%s; nothing was changed", reading.mistakes,
			reading.mistakes > 1 ? "s" : "");
	} else {
		state->staged |= !document->dry_run;
		rc = compare(&difference, &reading.next);
		if (rc && !document->dry_run)
			state_poison(state, err);
	}
	model_clear(&reading.next);
	malloc_trim(0);
	state->trim = true; // once more, when the kernel has it
	return rc;
}
