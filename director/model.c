// SPDX-License-Identifier: Apache-2.0
#include "director/model.h"

#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

// --- what is kept beside the objects ---

static void check_release(struct model *model, struct shared_check *check)
{
	if (!check || --check->users)
		return;
	HASH_DEL(model->checks, check);
	free(check);
}

// The one check of the model that is like this; NULL for one that says nothing. hint: one that it may well be, or NULL.
// 0 or -ENOMEM.
static int check_share(struct model *model, const struct check_spec *spec, bool given, struct shared_check *hint,
	struct shared_check **ret)
{
	struct shared_check *check = NULL;

	*ret = NULL;
	if (spec->kind == CHECK_NONE && !given)
		return 0;
	if (hint && memcmp(&hint->spec, spec, sizeof(*spec)) == 0)
		check = hint;
	else
		HASH_FIND(hh, model->checks, spec, sizeof(*spec), check);
	if (!check) {
		check = calloc(1, sizeof(*check));
		if (!check)
			return -ENOMEM;
		memcpy(&check->spec, spec, sizeof(*spec)); // padding, too: it is the key
		HASH_ADD(hh, model->checks, spec, sizeof(check->spec), check);
	}
	check->users++;
	*ret = check;
	return 0;
}

// The first `size` bytes of what is large and used as far as its count. 0 or -ENOMEM.
static int keep(const void *from, size_t size, bool used, void *ret)
{
	void *copy = used ? malloc(size) : NULL;

	if (used && !copy)
		return -ENOMEM;
	if (copy)
		memcpy(copy, from, size);
	memcpy(ret, &copy, sizeof(copy));
	return 0;
}

static bool pool_is_used(const struct pool_options *pool)
{
	return pool->quorum.set || pool->zones.set || pool->sorry.count || pool->panic;
}

static size_t split_size(const struct split_options *split)
{
	return offsetof(struct split_options, shares) + split->count * sizeof(split->shares[0]);
}

// --- lookup ---

void model_key(const struct service_options *options, struct ipvs_key *ret)
{
	*ret = (struct ipvs_key) { 0 };
	if (options->fwmark) {
		ret->fwmark = options->fwmark;
		ret->vip.addr.family = (sa_family_t)options->family;
		return;
	}
	ret->vip.addr = options->host;
	ret->vip.port = options->port;
	ret->protocol = options->protocol;
}

struct service *model_service(const struct model *model, const char *name)
{
	struct service *service = NULL;

	HASH_FIND_STR(model->services, name, service);
	return service;
}

struct service *model_service_by_key(const struct model *model, const struct ipvs_key *key)
{
	struct service *service = NULL;

	HASH_FIND(hh_key, model->by_key, key, sizeof(*key), service);
	return service;
}

static_assert(
	offsetof(struct backend, name) == offsetof(struct backend, service) + sizeof(struct service *), "one key");

#define NAME_KEY_SIZE(name) (sizeof(struct service *) + strlen(name))
#define PLACE_KEY_SIZE (sizeof(struct service *) + sizeof(struct inet_endpoint))

struct backend *model_backend(const struct service *service, const char *name)
{
	struct {
		const struct service *service;
		char name[MODEL_NAME_MAX + 1];
	} key = { .service = service };
	struct backend *backend = NULL;

	snprintf(key.name, sizeof(key.name), "%s", name);
	HASH_FIND(hh, service->model->by_name, &key, NAME_KEY_SIZE(key.name), backend);
	return backend;
}

struct backend *model_backend_at(const struct service *service, const struct inet_endpoint *at)
{
	const struct {
		const struct service *service;
		struct inet_endpoint at;
	} key = { service, *at };
	struct backend *backend = NULL;

	HASH_FIND(hh_place, service->model->by_place, &key, PLACE_KEY_SIZE, backend);
	return backend;
}

struct agent *model_agent(const struct model *model, const char *node)
{
	struct agent *agent = NULL;

	HASH_FIND_STR(model->agents, node, agent);
	return agent;
}

struct agent *model_agent_at(const struct model *model, const struct inet_addr *address)
{
	struct agent *agent = NULL;

	HASH_FIND(hh_address, model->agents_by_address, address, sizeof(*address), agent);
	return agent;
}

// --- services ---

int model_set_service(struct service *service, const struct service_options *options)
{
	const bool pulse_given = field_is_set(&service_fields, options, "pulse");
	struct model *model = service->model;
	struct split_options *split = NULL;
	struct judge_rules *judge = NULL;
	struct pool_options *pool = NULL;
	struct shared_check *pulse = NULL;
	struct ipvs_key key;

	if (check_share(model, &options->pulse, pulse_given, service->pulse, &pulse))
		return -ENOMEM;
	if (keep(&options->split, split_size(&options->split), *options->split.label, &split) ||
		keep(&options->judge, sizeof(options->judge), options->judge.set, &judge) ||
		keep(&options->pool, sizeof(options->pool), pool_is_used(&options->pool), &pool)) {
		check_release(model, pulse);
		free(split);
		free(judge);
		return -ENOMEM;
	}
	check_release(model, service->pulse);
	free(service->split);
	free(service->judge);
	free(service->pool);
	service->judge = judge;
	service->pool = pool;
	service->pulse = pulse;
	service->split = split;
	service->options = options->core;
	model_key(options, &key);
	if (ipvs_key_cmp(&key, &service->key) != 0) {
		if (service->hh_key.tbl)
			HASH_DELETE(hh_key, model->by_key, service);
		service->key = key;
		HASH_ADD(hh_key, model->by_key, key, sizeof(service->key), service);
	}
	return 0;
}

struct service *model_add_service(struct model *model, const char *name, const struct service_options *options)
{
	struct service *service = calloc(1, sizeof(*service));

	if (!service)
		return NULL;
	snprintf(service->name, sizeof(service->name), "%s", name);
	service->model = model;
	service->serving = (struct pool_state)POOL_STATE_NEW;
	if (model_set_service(service, options)) {
		free(service);
		return NULL;
	}
	HASH_ADD_STR(model->services, name, service);
	return service;
}

void model_service_options(const struct service *service, struct service_options *ret)
{
	const struct service_options *defaults = service_fields.defaults;

	ret->core = service->options;
	ret->pulse = service->pulse ? service->pulse->spec : defaults->pulse;
	ret->judge = service->judge ? *service->judge : defaults->judge;
	ret->pool = service->pool ? *service->pool : defaults->pool;
	*ret->split.label = '\0';
	ret->split.count = 0;
	if (service->split)
		memcpy(&ret->split, service->split, split_size(service->split));
}

void model_remove_service(struct service *service)
{
	struct model *model = service->model;
	struct model_cursor *cursor;

	while (service->backends)
		model_remove_backend(service->backends);
	DL_FOREACH(model->cursors, cursor)
	if (cursor->service == service)
		model_cursor_advance(cursor);
	HASH_DEL(model->services, service);
	HASH_DELETE(hh_key, model->by_key, service);
	check_release(model, service->pulse);
	free(service->split);
	free(service->judge);
	free(service->pool);
	free(service->silent);
	free(service);
}

// --- backends ---

int model_set_backend(struct backend *backend, const struct backend_options *options)
{
	struct model *model = backend->service->model;
	const struct inet_endpoint at = { options->host, options->port };
	struct shared_check *pulse = NULL;
	struct labels *labels = NULL;

	// most backends of a service are checked alike
	if (check_share(model, &options->pulse, !backend->agent, backend->prev->pulse, &pulse))
		return -ENOMEM;
	if (keep(&options->labels, labels_size(&options->labels), options->labels.count, &labels)) {
		check_release(model, pulse);
		return -ENOMEM;
	}
	check_release(model, backend->pulse);
	free(backend->labels);
	backend->pulse = pulse;
	backend->labels = labels;
	backend->options = options->core;
	if (!backend->hh_place.tbl || inet_endpoint_cmp(&backend->place.at, &at) != 0) {
		model_clear_suspect(backend); // that was another
		if (backend->hh_place.tbl)
			HASH_DELETE(hh_place, model->by_place, backend);
		backend->place.service = backend->service;
		backend->place.at = at;
		HASH_ADD(hh_place, model->by_place, place, PLACE_KEY_SIZE, backend);
	}
	return 0;
}

struct backend *model_add_backend(
	struct service *service, const char *name, const struct backend_options *options, struct agent *agent)
{
	struct backend *backend = calloc(1, sizeof(*backend) + strlen(name) + 1);
	struct model *model = service->model;

	if (!backend)
		return NULL;
	backend->service = service;
	strcpy(backend->name, name);
	DL_APPEND(service->backends, backend);
	backend->agent = agent;
	if (model_set_backend(backend, options)) {
		DL_DELETE(service->backends, backend);
		free(backend);
		return NULL;
	}
	service->backend_count++;
	if (agent) {
		backend->agent_next = agent->backends;
		agent->backends = backend;
	}
	HASH_ADD(hh, model->by_name, service, NAME_KEY_SIZE(name), backend);
	return backend;
}

void model_backend_options(const struct backend *backend, struct backend_options *ret)
{
	const struct backend_options *defaults = backend_fields.defaults;

	ret->core = backend->options;
	ret->pulse = backend->pulse ? backend->pulse->spec : defaults->pulse;
	ret->labels.count = 0;
	if (backend->labels)
		memcpy(&ret->labels, backend->labels, labels_size(backend->labels));
}

void model_remove_backend(struct backend *backend)
{
	struct service *service = backend->service;
	struct model *model = service->model;
	struct model_cursor *cursor;

	if (backend->agent) {
		struct backend **link = &backend->agent->backends;

		while (*link != backend)
			link = &(*link)->agent_next;
		*link = backend->agent_next;
	}
	DL_FOREACH(model->cursors, cursor)
	if (cursor->backend == backend)
		cursor->backend = backend->next;
	model_undrain(backend);
	model_is_back(backend);
	model_clear_suspect(backend);
	HASH_DELETE(hh, model->by_name, backend);
	HASH_DELETE(hh_place, model->by_place, backend);
	DL_DELETE(service->backends, backend);
	service->backend_count--;
	check_release(model, backend->pulse);
	free(backend->labels);
	free(backend->health);
	free(backend->agent_reason);
	free(backend);
}

int model_drain(struct backend *backend, msec_t now_ms, msec_t deadline_ms)
{
	if (!backend->drain) {
		backend->drain = calloc(1, sizeof(*backend->drain));
		if (!backend->drain)
			return -ENOMEM;
		backend->drain->backend = backend;
		DL_APPEND(backend->service->model->drains, backend->drain);
	}
	backend->drain->started_ms = now_ms;
	backend->drain->deadline_ms = deadline_ms;
	return 0;
}

void model_undrain(struct backend *backend)
{
	if (!backend->drain)
		return;
	DL_DELETE(backend->service->model->drains, backend->drain);
	free(backend->drain);
	backend->drain = NULL;
}

void model_set_agent_reason(struct backend *backend, const char *reason)
{
	if (strcmp(backend->agent_reason ? backend->agent_reason : "", reason) == 0)
		return;
	free(backend->agent_reason);
	backend->agent_reason = *reason ? strdup(reason) : NULL;
}

const struct check_spec *model_pulse(const struct backend *backend)
{
	const struct shared_check *check = backend->agent ? backend->service->pulse : backend->pulse;

	return check && check->spec.kind != CHECK_NONE ? &check->spec : NULL;
}

const char *model_label(const struct backend *backend, const char *name)
{
	return labels_find(backend->labels, name);
}

static bool same_check(const struct shared_check *a, const struct shared_check *b)
{
	return a == b || (a && b && memcmp(&a->spec, &b->spec, sizeof(a->spec)) == 0);
}

static bool same_kept(const void *a, size_t a_size, const void *b, size_t b_size)
{
	return a_size == b_size && (!a_size || memcmp(a, b, a_size) == 0);
}

bool model_same_service(const struct service *a, const struct service *b)
{
	return memcmp(&a->options, &b->options, sizeof(a->options)) == 0 && same_check(a->pulse, b->pulse) &&
		same_kept(a->judge, a->judge ? sizeof(*a->judge) : 0, b->judge, b->judge ? sizeof(*b->judge) : 0) &&
		same_kept(a->pool, a->pool ? sizeof(*a->pool) : 0, b->pool, b->pool ? sizeof(*b->pool) : 0) &&
		same_kept(a->split, a->split ? split_size(a->split) : 0, b->split, b->split ? split_size(b->split) : 0);
}

bool model_same_backend(const struct backend *a, const struct backend *b)
{
	return memcmp(&a->options, &b->options, sizeof(a->options)) == 0 && same_check(a->pulse, b->pulse) &&
		same_kept(a->labels, a->labels ? labels_size(a->labels) : 0, b->labels,
			b->labels ? labels_size(b->labels) : 0);
}

// --- agents, cursors, the whole ---

struct agent *model_add_agent(struct model *model, const char *node)
{
	struct agent *agent = calloc(1, sizeof(*agent));

	if (!agent)
		return NULL;
	snprintf(agent->node, sizeof(agent->node), "%s", node);
	HASH_ADD_STR(model->agents, node, agent);
	HASH_ADD(hh_address, model->agents_by_address, address, sizeof(agent->address), agent);
	return agent;
}

void model_set_agent_address(struct model *model, struct agent *agent, const struct inet_addr *address)
{
	if (memcmp(&agent->address, address, sizeof(*address)) == 0)
		return;
	HASH_DELETE(hh_address, model->agents_by_address, agent);
	memcpy(&agent->address, address, sizeof(*address)); // padding, too: it is a key
	HASH_ADD(hh_address, model->agents_by_address, address, sizeof(agent->address), agent);
}

void model_remove_agent(struct model *model, struct agent *agent)
{
	HASH_DEL(model->agents, agent);
	HASH_DELETE(hh_address, model->agents_by_address, agent);
	protocol_report_clear(&agent->report);
	free(agent);
}

void model_cursor_to(struct model_cursor *cursor, struct service *service)
{
	cursor->service = service;
	cursor->backend = service ? service->backends : NULL;
}

void model_cursor_start(struct model_cursor *cursor, struct model *model)
{
	DL_APPEND(model->cursors, cursor);
	model_cursor_to(cursor, model->services);
}

void model_cursor_advance(struct model_cursor *cursor)
{
	model_cursor_to(cursor, cursor->service ? cursor->service->hh.next : NULL);
}

void model_cursor_stop(struct model_cursor *cursor, struct model *model)
{
	DL_DELETE(model->cursors, cursor);
}

void model_clear(struct model *model)
{
	while (model->services)
		model_remove_service(model->services);
	while (model->agents)
		model_remove_agent(model, model->agents);
}
