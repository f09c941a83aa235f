// SPDX-License-Identifier: Apache-2.0
// The state's life around the changes: read from the store, adopt the kernel, verify it, flush it.
#include "director/state_internal.h"

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int parse_row(const struct field_table *table, const char *text, void *options, struct err *err)
{
	json_t *json = json_loads(text, 0, NULL);
	int rc = json ? field_parse(table, json, options, err) : err_set(err, -EINVAL, NULL, "a row is not JSON");

	json_decref(json);
	return rc;
}

static int load_service(void *ctx, const char *owner, const char *name, const char *text, struct err *err)
{
	struct state *state = ctx;
	struct service_options options;
	int rc = parse_row(&service_fields, text, &options, err);

	(void)owner;
	if (!rc && !model_add_service(&state->model, name, &options))
		rc = -ENOMEM;
	if (rc)
		err_context(err, "service %s in the store: ", name);
	return rc;
}

static int load_backend(void *ctx, const char *owner, const char *name, const char *text, struct err *err)
{
	struct state *state = ctx;
	struct service *service = model_service(&state->model, owner);
	struct backend_options options;
	int rc = parse_row(&backend_fields, text, &options, err);

	if (!rc && !service)
		rc = err_set(err, -EINVAL, NULL, "its service %s is missing", owner);
	if (!rc && !model_add_backend(service, name, &options, NULL))
		rc = -ENOMEM;
	if (rc)
		err_context(err, "backend %s/%s in the store: ", owner, name);
	return rc;
}

static int load_agent(void *ctx, const char *owner, const char *name, const char *text, struct err *err)
{
	struct state *state = ctx;
	json_t *json = json_loads(text, 0, NULL);
	bool lost = json_is_true(json_object_get(json, "lost"));
	struct protocol_report report = { 0 };

	(void)owner;
	json_object_del(json, "lost");
	int rc =
		json ? protocol_report_from_json(json, &report, err) : err_set(err, -EINVAL, NULL, "a row is not JSON");
	json_decref(json);
	struct agent *agent = rc ? NULL : model_add_agent(&state->model, name);
	if (!agent) {
		protocol_report_clear(&report);
		err_context(err, "agent %s in the store: ", name);
		return rc ? rc : -ENOMEM;
	}
	agent->report = report;
	agent->address = report.address;
	agent->ttl_ms = report.ttl_ms;
	agent->revision = state->first_revision;
	snprintf(agent->boot, sizeof(agent->boot), "%s", report.boot);
	// a full lease from now: while we were away nobody could renew it. A lost one stays lost until it reports.
	lease_renew(agent, clock_now_ms(), state->reap_after_ms);
	agent->lost = lost;
	return 0;
}

static int load_verdict(void *ctx, const char *owner, const char *name, const char *text, struct err *err)
{
	struct state *state = ctx;
	struct service *service = model_service(&state->model, owner);
	struct backend *backend = service ? model_backend(service, name) : NULL;

	(void)err;
	// without a pulse (it may have been changed) nobody would ever lift the verdict
	if (!backend || model_pulse(backend)->kind == CHECK_NONE)
		return 0;
	backend->health.down = true;
	snprintf(backend->health.reason, sizeof(backend->health.reason), "%s", text);
	return 0;
}

struct owned {
	struct owned *next;
	char name[IPVS_KEY_MAX];
};

static int load_owned(void *ctx, const char *owner, const char *name, const char *text, struct err *err)
{
	struct owned **list = ctx, *item = calloc(1, sizeof(*item));

	(void)owner, (void)text;
	if (!item)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	snprintf(item->name, sizeof(item->name), "%s", name);
	item->next = *list;
	*list = item;
	return 0;
}

static void owned_free(struct owned *list)
{
	while (list) {
		struct owned *next = list->next;

		free(list);
		list = next;
	}
}

static bool owned_has(const struct owned *list, const char *name)
{
	for (; list; list = list->next)
		if (strcmp(list->name, name) == 0)
			return true;
	return false;
}

struct stale {
	const struct state *state;
	const struct owned *owned;
	struct ipvs_key *keys;
	size_t count;
};

static void find_stale(void *ctx, const struct ipvs_key *key, size_t dests)
{
	struct stale *stale = ctx;
	const struct service_options options = {
		.host = key->vip.addr, .port = key->vip.port, .protocol = key->protocol
	};
	char text[IPVS_KEY_MAX];

	(void)dests;
	if (key->fwmark || model_service_by_key(&stale->state->model, &options) ||
		!owned_has(stale->owned, ipvs_key_format(key, text)))
		return;
	struct ipvs_key *keys = reallocarray(stale->keys, stale->count + 1, sizeof(*keys));
	if (!keys)
		return; // found again by the next start
	stale->keys = keys;
	stale->keys[stale->count++] = *key;
}

// Kernel services that are ours by the store's word, but no longer wanted: a delete that a crash cut short.
static void remove_stale_services(struct state *state)
{
	struct stale stale = { .state = state };
	struct owned *owned = NULL;
	struct err err = { 0 };

	if (store_each(state->store, STORE_OWNED_SERVICE, load_owned, &owned, &err) == 0) {
		stale.owned = owned;
		reconcile_each(state->reconcile, find_stale, &stale);
	}
	for (size_t i = 0; i < stale.count; i++) {
		char text[IPVS_KEY_MAX];

		ipvs_key_format(&stale.keys[i], text);
		if (reconcile_remove(state->reconcile, &stale.keys[i], &err))
			log_error("cannot remove our old service %s: %s", text, err.text);
		else
			log_info("removed our old service %s", text);
	}
	// the list starts anew: what is wanted now
	if (store_begin(state->store, &err) == 0) {
		store_delete_all(state->store, STORE_OWNED_SERVICE, "", &err);
		for (const struct service *s = state->model.services; s; s = s->hh.next) {
			struct ipvs_key key;
			char text[IPVS_KEY_MAX];

			desired_key(&s->options, &key);
			store_put(state->store, STORE_OWNED_SERVICE, "", ipvs_key_format(&key, text), s->name, &err);
		}
		store_commit(state->store, &err);
	}
	free(stale.keys);
	owned_free(owned);
}

// VIPs before destinations: IPVS keeps the route, and with it the source address, of a tunnel's outer packets.
static int adopt_vips(struct state *state, struct err *err)
{
	struct owned *owned = NULL;
	char name[INET_ADDR_MAX];
	int rc = store_each(state->store, STORE_OWNED_ADDRESS, load_owned, &owned, err);

	for (const struct service *s = state->model.services; s && !rc; s = s->hh.next) {
		bool ours = false;

		inet_addr_format(&s->options.host, name);
		rc = vip_hold(state->vip, &s->options.host, owned_has(owned, name), &ours, err);
	}
	for (const struct owned *o = owned; o && !rc; o = o->next) {
		struct inet_addr addr;
		bool wanted = false;

		if (inet_addr_parse(o->name, &addr))
			continue;
		for (const struct service *s = state->model.services; s && !wanted; s = s->hh.next)
			wanted = inet_addr_cmp(&s->options.host, &addr) == 0;
		if (wanted)
			continue;
		rc = vip_remove_stale(state->vip, &addr, err);
		if (!rc)
			rc = store_change(state->store, STORE_OWNED_ADDRESS, "", o->name, NULL, err);
	}
	owned_free(owned);
	return rc;
}

static void reconcile_all(struct state *state)
{
	for (const struct service *s = state->model.services; s; s = s->hh.next) {
		struct err err = { 0 };

		if (reconcile_service(state->reconcile, s, &err))
			log_error("service %s: the kernel refused: %s; the next resync tries again", s->name, err.text);
	}
}

int state_load(struct state *state, struct err *err)
{
	int rc = store_each(state->store, STORE_SERVICE, load_service, state, err);

	if (!rc)
		rc = store_each(state->store, STORE_BACKEND, load_backend, state, err);
	if (!rc)
		rc = store_each(state->store, STORE_AGENT, load_agent, state, err);
	if (rc)
		return rc;
	rc = reconcile_observe(state->reconcile, err);
	if (!rc)
		rc = adopt_vips(state, err);
	if (rc)
		return rc;
	for (struct service *s = state->model.services; s; s = s->hh.next)
		state_bind_agents(state, s);
	rc = store_each(state->store, STORE_DOWN, load_verdict, state, err);
	if (rc)
		return rc;
	remove_stale_services(state);
	size_t before = reconcile_messages(state->reconcile);
	reconcile_all(state);
	for (struct service *s = state->model.services; s; s = s->hh.next)
		for (struct backend *b = s->backends; b; b = b->hh.next)
			health_watch(state->health, b);
	log_info("%u services and %u agents from the store; %zu changes made in the kernel's table",
		HASH_COUNT(state->model.services), HASH_COUNT(state->model.agents),
		reconcile_messages(state->reconcile) - before);
	return 0;
}

int state_resync(struct state *state, struct err *err)
{
	int rc = reconcile_observe(state->reconcile, err);

	if (rc)
		return rc;
	int vips = vip_verify(state->vip, err);
	if (vips < 0)
		return vips;
	size_t before = reconcile_messages(state->reconcile);
	reconcile_all(state);
	return (int)(reconcile_messages(state->reconcile) - before) + vips;
}

void state_flush_kernel(struct state *state)
{
	struct err err = { 0 };

	for (const struct service *s = state->model.services; s; s = s->hh.next) {
		struct ipvs_key key;
		bool gone;

		desired_key(&s->options, &key);
		if (reconcile_remove(state->reconcile, &key, &err) ||
			vip_drop(state->vip, &s->options.host, &gone, &err))
			log_error("service %s: %s", s->name, err.text);
	}
}

void state_clear(struct state *state)
{
	for (struct service *s = state->model.services; s; s = s->hh.next)
		for (struct backend *b = s->backends; b; b = b->hh.next)
			health_forget(b);
	model_clear(&state->model);
}
