// SPDX-License-Identifier: Apache-2.0
// The state's life around the changes: read from the store, adopt the kernel, verify it, flush it. Reading a row at the
// start and putting one back when a turn is taken back are the same thing.
#include "director/state_internal.h"

#include "shared/clock.h"
#include "shared/footprint.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define VERIFY_SLICE_MS 2 // a slice of a verification ends after this

// --- rows into the model ---

static int parse_row(const struct field_table *table, const char *text, void *options, struct err *err)
{
	json_t *json = json_loads(text, 0, NULL);
	int rc = json ? field_parse(table, json, options, err) : err_set(err, -EINVAL, NULL, "a row is not JSON");

	json_decref(json);
	return rc;
}

static int restore_service(struct state *state, const char *name, const char *text, struct err *err)
{
	struct service *service = model_service(&state->model, name);
	struct service_options options;

	if (!text) {
		if (service)
			state_drop_service(state, service);
		return 0;
	}
	int rc = parse_row(&service_fields, text, &options, err);
	if (!rc)
		rc = model_check_service(&options, NULL, err);
	if (!rc)
		rc = state_check_mark(state, &options, err);
	if (rc)
		return rc;
	if (service)
		return state_change_service(state, service, &options);
	return state_add_service(state, name, &options) ? 0 : -ENOMEM;
}

static int restore_backend(struct state *state, const char *owner, const char *name, const char *text, struct err *err)
{
	struct service *service = model_service(&state->model, owner);
	struct backend *backend = service ? model_backend(service, name) : NULL;
	struct backend_options options;

	if (backend && backend->agent) // has got the name meanwhile, and makes way again
		backend = NULL;
	if (!text) {
		if (backend)
			state_drop_backend(state, backend);
		return 0;
	}
	int rc = parse_row(&backend_fields, text, &options, err);
	if (!rc && !service)
		rc = err_set(err, -EINVAL, NULL, "its service is missing");
	if (!rc)
		rc = model_check_backend(&service->options, &options, NULL, err);
	if (rc)
		return rc;
	if (backend)
		return state_change_backend(state, backend, &options);
	return state_add_backend(state, service, name, &options) ? 0 : -ENOMEM;
}

static struct backend *find_backend(struct state *state, const char *owner, const char *name)
{
	struct service *service = model_service(&state->model, owner);

	return service ? model_backend(service, name) : NULL;
}

static int restore_verdict(struct state *state, struct backend *backend, const char *text)
{
	// without a pulse (it may have been changed) nobody would ever lift the verdict
	if (!backend || !text || !model_pulse(backend))
		return 0;
	if (!model_health(backend))
		return -ENOMEM;
	judge_set(&backend->health->judge, JUDGE_DOWN, clock_now_ms());
	snprintf(backend->health->reason, sizeof(backend->health->reason), "%s", text);
	state_touch_backend(state, backend);
	if (backend->path)
		backend->path->counts = true;
	if (state->verdict_changed)
		state->verdict_changed(state->ctx, backend);
	return 0;
}

static int restore_drain(struct state *state, struct backend *backend, const char *text)
{
	if (!backend)
		return 0;
	if (!text)
		model_undrain(backend);
	else if (model_drain(backend, clock_now_ms(), clock_now_ms() + strtoll(text, NULL, 10) - clock_wall_ms()))
		return -ENOMEM;
	state_touch_backend(state, backend);
	return 0;
}

static int restore_row(struct state *state, enum store_kind kind, const char *owner, const char *name, const char *text,
	struct err *err)
{
	struct service *service;

	switch (kind) {
	case STORE_SERVICE:
		return restore_service(state, name, text, err);
	case STORE_BACKEND:
		return restore_backend(state, owner, name, text, err);
	case STORE_AGENT:
		return state_restore_agent(state, name, text, err);
	case STORE_DOWN:
		return restore_verdict(state, find_backend(state, owner, name), text);
	case STORE_DRAIN:
		return restore_drain(state, find_backend(state, owner, name), text);
	case STORE_LEAVING:
		service = model_service(&state->model, name);
		if (service)
			service->leaving = text != NULL;
		return 0;
	case STORE_OWNED_SERVICE:
	case STORE_OWNED_ADDRESS:
	case STORE_SYNC: // not in the model: state_sync.c
		break;
	}
	return 0;
}

void state_restore_row(void *state, enum store_kind kind, const char *owner, const char *name, const char *text)
{
	struct err err = { 0 };
	struct state *s = state;

	s->restoring = true;
	if (restore_row(s, kind, owner, name, text, &err))
		log_error("%s%s%s cannot be put back: %s", owner, *owner ? "/" : "", name, err.text);
	s->restoring = false;
}

struct loading {
	struct state *state;
	enum store_kind kind;
};

static int load_row(void *ctx, const char *owner, const char *name, const char *text, struct err *err)
{
	struct loading *loading = ctx;
	int rc = restore_row(loading->state, loading->kind, owner, name, text, err);

	if (rc)
		err_context(err, "%s%s%s in the store: ", owner, *owner ? "/" : "", name);
	return rc;
}

bool state_accepts_row(void *ctx, enum store_kind kind, const char *owner, const char *name, const char *text)
{
	struct service_options service;
	struct backend_options backend;

	(void)ctx, (void)owner;
	if (kind > STORE_SYNC ||
		((kind == STORE_SERVICE || kind == STORE_BACKEND) && !field_name_ok(name, MODEL_NAME_MAX)))
		return false;
	switch (kind) {
	case STORE_SERVICE:
		return parse_row(&service_fields, text, &service, NULL) == 0 &&
			model_check_service(&service, NULL, NULL) == 0;
	case STORE_BACKEND:
		return parse_row(&backend_fields, text, &backend, NULL) == 0;
	case STORE_AGENT:
		return state_agent_row_ok(text);
	case STORE_OWNED_SERVICE:
	case STORE_OWNED_ADDRESS:
	case STORE_DOWN:
	case STORE_DRAIN:
	case STORE_LEAVING:
	case STORE_SYNC:
		break;
	}
	return true;
}

// --- what the store says is ours ---

struct owned {
	UT_hash_handle hh;
	bool wanted;
	char name[IPVS_KEY_MAX];
};

static int load_owned(void *ctx, const char *owner, const char *name, const char *text, struct err *err)
{
	struct owned **list = ctx, *item = calloc(1, sizeof(*item));

	(void)owner, (void)text;
	if (!item)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	snprintf(item->name, sizeof(item->name), "%s", name);
	HASH_ADD_STR(*list, name, item);
	return 0;
}

static void owned_free(struct owned *list)
{
	while (list) {
		struct owned *item = list;

		HASH_DEL(list, item);
		free(item);
	}
}

struct stale {
	struct state *state;
	struct owned *owned;
};

static void claim_owned(void *ctx, const struct ipvs_key *key, size_t dests)
{
	struct stale *stale = ctx;
	struct owned *item;
	char text[IPVS_KEY_MAX];

	(void)dests;
	ipvs_key_format(key, text);
	HASH_FIND_STR(stale->owned, text, item);
	if (!item)
		return;
	reconcile_claim(stale->state->reconcile, key);
	if (model_service_by_key(&stale->state->model, key))
		return;
	log_info("removing our old service %s", text);
	reconcile_touch(stale->state->reconcile, key);
	state_note_stale_key(stale->state, key);
	item->wanted = true; // the row stays until the kernel has let it go
}

// Kernel services are ours by the store's word, whatever is refused of them now; those no longer wanted are of a delete
// that a crash cut short. The list then says what is wanted now; nothing is written when it does so already.
static int adopt_services(struct state *state, struct err *err)
{
	struct stale stale = { state, NULL };
	int rc = store_each(state->store, STORE_OWNED_SERVICE, load_owned, &stale.owned, err);

	if (!rc && stale.owned)
		reconcile_each(state->reconcile, claim_owned, &stale);
	for (const struct service *s = state->model.services; s && !rc; s = s->hh.next) {
		char text[IPVS_KEY_MAX];
		struct owned *item;

		ipvs_key_format(&s->key, text);
		HASH_FIND_STR(stale.owned, text, item);
		if (item)
			item->wanted = true;
		else
			rc = store_put(state->store, STORE_OWNED_SERVICE, "", text, s->name, err);
	}
	for (const struct owned *o = stale.owned; o && !rc; o = o->hh.next)
		if (!o->wanted)
			rc = store_delete(state->store, STORE_OWNED_SERVICE, "", o->name, err);
	owned_free(stale.owned);
	return rc;
}

// The same for VIPs. One that comes now, since vip_device was another before, is ours from now on.
static int adopt_vips(struct state *state, struct err *err)
{
	struct owned *owned = NULL;
	int rc = store_each(state->store, STORE_OWNED_ADDRESS, load_owned, &owned, err);

	for (const struct owned *o = owned; o && !rc; o = o->hh.next) {
		struct inet_addr addr;

		if (inet_addr_parse(o->name, &addr))
			continue;
		if (vip_is_wanted(state->vip, &addr)) {
			vip_was_owned(state->vip, &addr);
			continue;
		}
		rc = vip_remove_stale(state->vip, &addr, err);
		if (!rc)
			rc = store_delete(state->store, STORE_OWNED_ADDRESS, "", o->name, err);
	}
	for (const struct service *s = state->model.services; s && !rc && vip_is_managed(state->vip); s = s->hh.next) {
		char text[INET_ADDR_MAX];
		struct owned *item;

		if (!inet_addr_is_set(&s->options.host))
			continue;
		inet_addr_format(&s->options.host, text);
		HASH_FIND_STR(owned, text, item);
		if (!item)
			rc = store_put(state->store, STORE_OWNED_ADDRESS, "", text, "", err);
	}
	owned_free(owned);
	return rc;
}

// --- load, verify, flush ---

int state_load(struct state *state, struct err *err)
{
	static const enum store_kind kinds[] = { STORE_SERVICE, STORE_BACKEND, STORE_AGENT, STORE_LEAVING, STORE_DRAIN,
		STORE_DOWN };
	int rc = reconcile_observe(state->reconcile, err);

	if (!rc)
		state_find_marks(state);
	state->restoring = true;
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && !rc; i++)
		rc = store_each(state->store, kinds[i], load_row, &(struct loading) { state, kinds[i] }, err);
	state->restoring = false;
	if (!rc)
		rc = adopt_vips(state, err);
	if (!rc)
		rc = adopt_services(state, err);
	state_sweep_marks(state);
	if (rc)
		return rc;
	size_t before = reconcile_messages(state->reconcile);
	rc = state_settle(state, err);
	if (rc)
		return rc;
	footprint_shrink(); // what starting took is the system's again
	log_info("%u services and %u agents from the store; %zu changes made in the kernel's table",
		HASH_COUNT(state->model.services), HASH_COUNT(state->model.agents),
		reconcile_messages(state->reconcile) - before);
	return 0;
}

int state_verify(struct state *state, bool *ret_done, struct err *err)
{
	const size_t before = reconcile_messages(state->reconcile);
	const msec_t until = clock_now_ms() + VERIFY_SLICE_MS;
	int vips = 0, rc;

	*ret_done = true;
	if (!reconcile_verifying(state->reconcile)) {
		rc = reconcile_verify_start(state->reconcile, err);
		if (rc)
			return rc;
		// what the kernel lacks altogether
		for (const struct service *s = state->model.services; s; s = s->hh.next)
			if (!reconcile_knows(state->reconcile, &s->key))
				reconcile_touch(state->reconcile, &s->key);
		for (const struct probe_path *p = state->model.paths; p; p = p->hh.next)
			if (!reconcile_knows(state->reconcile, &p->key))
				reconcile_touch(state->reconcile, &p->key);
		vips = vip_verify(state->vip, err);
		if (vips < 0)
			return vips;
	}
	do {
		struct ipvs_key key;

		rc = reconcile_verify_next(state->reconcile, &key, err);
		if (rc > 0 && (state->take_all || state_is_mark(state, &key)))
			reconcile_claim(state->reconcile, &key);
		// ours but not wanted: the kernel refused to delete it
		if (rc > 0 && (reconcile_owns(state->reconcile, &key) || model_service_by_key(&state->model, &key)))
			reconcile_touch(state->reconcile, &key);
	} while (rc > 0 && clock_now_ms() < until);
	if (rc < 0)
		return rc;
	*ret_done = rc == 0;
	rc = state_settle(state, err);
	return rc ? rc : (int)(reconcile_messages(state->reconcile) - before) + vips;
}

void state_flush_kernel(struct state *state)
{
	struct err err = { 0 };

	// an empty model is what the kernel shall hold; the store stays
	for (struct service *s = state->model.services; s; s = s->hh.next)
		for (struct backend *b = s->backends; b; b = b->next)
			state_unwatch(state, b);
	for (struct service *s = state->model.services; s; s = s->hh.next)
		reconcile_touch(state->reconcile, &s->key);
	vip_unwant_all(state->vip);
	model_clear(&state->model);
	if (state_settle(state, &err))
		log_error("%s", err.text);
}

void state_clear(struct state *state)
{
	for (struct service *s = state->model.services; s; s = s->hh.next)
		for (struct backend *b = s->backends; b; b = b->next)
			state_unwatch(state, b);
	model_clear(&state->model);
	state_free_stale(state);
	state_forget_quorums(state);
	state_forget_verdicts(state);
}
