// SPDX-License-Identifier: Apache-2.0
// The turn: one commit and one batch for all that was staged, and the way back when one of them is refused.
#include "director/state_internal.h"

#include "shared/footprint.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <utlist.h>

// --- what is no longer ours ---

// A row of one of the two lists, of something that this turn has stopped using. It goes with a later turn, since by
// then the kernel has let go, or when the turn has been taken back; until then, or when we die first, the next start
// finds it.
struct stale_row {
	struct stale_row *next;
	bool is_vip;
	struct ipvs_key key;
	struct inet_addr vip;
};

static void note_row(struct stale_row **list, const struct stale_row *row)
{
	struct stale_row *copy = malloc(sizeof(*copy));

	if (!copy)
		return;
	*copy = *row;
	LL_PREPEND(*list, copy);
}

void state_note_stale_key(struct state *state, const struct ipvs_key *key)
{
	note_row(&state->stale_next, &(struct stale_row) { .key = *key });
}

static void drop_stale(struct state *state)
{
	char text[IPVS_KEY_MAX];

	for (struct stale_row *row = STEAL(state->stale), *next; row; row = next) {
		next = row->next;
		if (row->is_vip && !vip_is_wanted(state->vip, &row->vip))
			store_delete(state->store, STORE_OWNED_ADDRESS, "", inet_addr_format(&row->vip, text), NULL);
		const bool unwanted = !row->is_vip && !model_service_by_key(&state->model, &row->key);

		if (unwanted && reconcile_owns(state->reconcile, &row->key)) {
			LL_PREPEND(state->stale_next, row); // the kernel would not delete it
			continue;
		}
		if (unwanted)
			store_delete(state->store, STORE_OWNED_SERVICE, "", ipvs_key_format(&row->key, text), NULL);
		free(row);
	}
}

static void free_stale(struct stale_row **list)
{
	for (struct stale_row *row = STEAL(*list), *next; row; row = next) {
		next = row->next;
		free(row);
	}
}

void state_free_stale(struct state *state)
{
	free_stale(&state->stale);
	free_stale(&state->stale_next);
	free_stale(&state->strange);
}

// When it is clear whether the turn stands: a row that is changed before that would begin another turn of the store.
static void drop_strange(struct state *state)
{
	char text[INET_ADDR_MAX];

	for (const struct stale_row *row = state->strange; row; row = row->next)
		store_delete(state->store, STORE_OWNED_ADDRESS, "", inet_addr_format(&row->vip, text), NULL);
	free_stale(&state->strange);
	store_end(state->store, NULL);
}

// --- the programs of quorums ---

// Of a service: what its quorum was before this turn, and what it last came to. A program is run when it is clear that
// the turn stands, and only if it is something else then: a service may go and come again in one turn.
struct turned_quorum {
	UT_hash_handle hh; // in state->quorums
	enum pool_quorum was;
	uint32_t up, needed;
	char service[MODEL_NAME_MAX + 1];
};

void state_note_quorum(struct state *state, const struct service *service, enum pool_quorum was)
{
	struct turned_quorum *turned = NULL;

	HASH_FIND_STR(state->quorums, service->name, turned);
	if (!turned) {
		turned = calloc(1, sizeof(*turned));
		if (!turned) {
			log_error("service %s: out of memory: the program of its quorum is not run", service->name);
			return;
		}
		turned->was = was;
		snprintf(turned->service, sizeof(turned->service), "%s", service->name);
		HASH_ADD_STR(state->quorums, service, turned);
	}
	turned->up = service->serving.well;
	turned->needed = desired_quorum(service);
}

void state_forget_quorums(struct state *state)
{
	struct turned_quorum *turned, *next;

	HASH_ITER (hh, state->quorums, turned, next) {
		HASH_DEL(state->quorums, turned);
		free(turned);
	}
}

static void tell_quorums(struct state *state)
{
	for (const struct turned_quorum *turned = state->quorums; turned; turned = turned->hh.next) {
		const struct service *service = model_service(&state->model, turned->service);
		const bool was = turned->was == POOL_QUORUM_THERE;
		const enum pool_quorum gone = was ? POOL_QUORUM_LOST : turned->was,
				       now = service ? service->serving.quorum : gone;

		if (now != turned->was && now != POOL_QUORUM_UNKNOWN && state->quorum_changed)
			state->quorum_changed(
				state->ctx, turned->service, now == POOL_QUORUM_THERE, turned->up, turned->needed);
	}
	state_forget_quorums(state);
}

// --- services whose backends depend on each other ---

// Versions of a split come and go with the health of their backends; who gets their share is said once.
static void say_silent_versions(struct service *service)
{
	_cleanup_out_ struct out out = { 0 };

	desired_silent(service, &out);
	if (out.failed || strcmp(out.text ? out.text : "", service->silent ? service->silent : "") == 0)
		return;
	if (out.len)
		log_warning("service %s: no healthy backend of %s %s: the share goes to the others", service->name,
			service->split->label, out.text);
	else
		log_info("service %s: every version has a healthy backend again", service->name);
	free(service->silent);
	service->silent = out.len ? out_steal(&out, NULL) : NULL;
}

static void say_change(struct state *state, const struct service *service, const char *what, const char *old,
	const char *now, const char *why, bool bad)
{
	events_add(state->events,
		&(struct event) {
			.service = service->name, .what = what, .old = old, .now = now, .reason = why, .bad = bad });
}

static const char *quorum_name(enum pool_quorum quorum)
{
	static const char *const names[] = {
		[POOL_QUORUM_UNKNOWN] = "unknown", [POOL_QUORUM_THERE] = "there", [POOL_QUORUM_LOST] = "lost"
	};

	return names[quorum];
}

static void say_quorum(struct state *state, struct service *service, enum pool_quorum was)
{
	const enum pool_quorum now = service->serving.quorum;
	char why[120];

	if (now == was || now == POOL_QUORUM_UNKNOWN)
		return;
	snprintf(why, sizeof(why), "%u backends are up, it needs %u%s", service->serving.well, desired_quorum(service),
		service->serving.sorry ? "; the sorry servers serve" : "");
	say_change(state, service, "quorum", quorum_name(was), quorum_name(now), why, now == POOL_QUORUM_LOST);
	state_note_quorum(state, service, was);
}

// How the backends of a service serve together has changed.
static void say_serving(struct state *state, struct service *service, const struct pool_state *was)
{
	const struct pool_state *now = &service->serving;
	char why[120];

	say_quorum(state, service, was->quorum);
	if (now->panic != was->panic) {
		snprintf(why, sizeof(why), "%u backends are up%s", now->well,
			now->panic ? "; those that are down are used as well" : "");
		say_change(
			state, service, "panic", was->panic ? "on" : "off", now->panic ? "on" : "off", why, now->panic);
	}
	if ((now->local == 100) != (was->local == 100) && service->pool && service->pool->zones.prefer.count) {
		snprintf(why, sizeof(why), "%u percent of new connections stay in the preferred ones", now->local);
		say_change(state, service, "zones", now->local < 100 ? "local" : "spilling",
			now->local < 100 ? "spilling" : "local", why, now->local < 100);
	}
}

static void work_out_pools(struct state *state)
{
	while (state->pool_services) {
		struct service *service = state->pool_services;
		const struct pool_state was = service->serving;

		LL_DELETE2(state->pool_services, service, pool_next);
		service->pool_due = false;
		if (desired_pool(service))
			log_error("service %s: out of memory: the weights stay as they were", service->name);
		say_silent_versions(service);
		say_serving(state, service, &was);
	}
}

// --- refusals ---

static const struct backend *backend_of(const struct service *service, const struct inet_endpoint *to)
{
	return service && to ? model_backend_at(service, to) : NULL;
}

// IPVS says ENOENT for a scheduler or a persistence engine that it neither has nor can load (ip_vs_ctl.c).
static int explain_missing(const struct service_core *options, struct err *err)
{
	const char *scheduler = options->scheduler, *engine = options->engine;
	char path[80];

	// a scheduler that is there is a module or built in; the engine is then what is missing
	snprintf(path, sizeof(path), "/sys/module/ip_vs_%s", scheduler);
	if (*engine && access(path, F_OK) != 0)
		return err_set(err, -EINVAL, "pe",
			"this kernel neither has nor can load scheduler \"%s\" (module ip_vs_%s) or persistence engine "
			"\"%s\" "
			"(module ip_vs_pe_%s)",
			scheduler, scheduler, engine, engine);
	if (*engine)
		return err_set(err, -EINVAL, "pe",
			"found \"%s\", a persistence engine that this kernel neither has nor can load (module "
			"ip_vs_pe_%s)",
			engine, engine);
	return err_set(err, -EINVAL, "method",
		"found \"%s\", a scheduler that this kernel neither has nor can load (module ip_vs_%s)", scheduler,
		scheduler);
}

int state_check_kernel(
	struct state *state, const struct service *old, const struct service_options *options, struct err *err)
{
	char text[IPVS_KEY_MAX];
	struct ipvs_key key;
	bool left;

	if (old && strcmp(old->options.scheduler, options->scheduler) == 0 &&
		strcmp(old->options.engine, options->engine) == 0)
		return 0;
	int rc = reconcile_prove(state->reconcile, options->scheduler, options->engine, &left, &key);
	if (left) { // until it is gone; should we die before, the next start removes it
		store_put(state->store, STORE_OWNED_SERVICE, "", ipvs_key_format(&key, text), "", NULL);
		state_note_stale_key(state, &key);
	}
	if (!rc)
		return 0;
	return explain_missing(&options->core, err);
}

static int explain(const struct service *service, const struct backend *backend, int error, struct err *err)
{
	if (error == -ENOENT && service && !backend)
		return explain_missing(&service->options, err);
	if (error == -EINVAL && backend && backend->options.host.family != service->options.family)
		err_context(err, "a real server of another address family and a sync daemon exclude each other: ");
	err_context(err, "the kernel refused: ");
	return -EREMOTEIO;
}

// An agent is not told here: its next answer says what is not as it should be.
static void on_refused(
	void *ctx, const struct ipvs_key *key, const struct inet_endpoint *to, int error, const struct err *why)
{
	struct state *state = ctx;
	struct probe_path *path = model_path_by_key(&state->model, key);
	const struct service *service = model_service_by_key(&state->model, key);
	const struct backend *backend = backend_of(service, to);
	char text[IPVS_KEY_MAX], at[INET_ENDPOINT_MAX];
	struct err err = *why;
	int rc = explain(service, backend, error, &err);

	if (path) { // nobody asked for it
		state_path_refused(state, path, &err);
		return;
	}
	if (state->staged && !(backend && backend->agent)) {
		if (!state->refused) {
			state->refused = rc;
			state->why = err;
			snprintf(state->refused_service, sizeof(state->refused_service), "%s",
				service ? service->name : "");
		}
		return;
	}
	log_error("%s%s%s: %s; the next resync tries again", ipvs_key_format(key, text), to ? " -> " : "",
		to ? inet_endpoint_format(to, at) : "", err.text);
}

// It was there before us: it is not ours to remove.
static void on_foreign_vip(void *ctx, const struct inet_addr *addr)
{
	note_row(&((struct state *)ctx)->strange, &(struct stale_row) { .is_vip = true, .vip = *addr });
}

static void on_vip_gone(void *ctx, const struct inet_addr *addr)
{
	note_row(&((struct state *)ctx)->stale_next, &(struct stale_row) { .is_vip = true, .vip = *addr });
}

// VIPs before destinations: IPVS keeps the route, and with it the source address, of a tunnel's outer packets.
static int settle_kernel(struct state *state, struct err *err)
{
	state->refused = 0;
	work_out_pools(state);
	if (vip_settle(state->vip, on_foreign_vip, state, err))
		return -EREMOTEIO;
	if (reconcile_settle(state->reconcile, &state->model, on_refused, state, err))
		return -EREMOTEIO;
	if (state->refused) {
		if (err)
			*err = state->why;
		return state->refused;
	}
	struct err why = { 0 };
	if (vip_release(state->vip, on_vip_gone, state, &why))
		log_error("VIP: %s; the next start tries again", why.text);
	return 0;
}

static void wake_agents(struct state *state)
{
	while (state->touched_agents) {
		struct agent *agent = state->touched_agents;

		LL_DELETE2(state->touched_agents, agent, touched_next);
		agent->touched = false;
		if (state->agent_changed)
			state->agent_changed(state->ctx, agent);
	}
}

static void take_back(struct state *state, const struct err *why)
{
	struct err err = { 0 };

	log_warning("refused and taken back: %s", why->text);
	state->staged = false; // what is refused now is only logged
	if (store_undo(state->store, state_restore_row, state, &err))
		log_error("the store cannot take back what was refused: %s", err.text);
	if (settle_kernel(state, &err))
		log_error("what was refused cannot be taken back: %s; the next resync tries again", err.text);
	// at once: the next start must not take for ours what somebody else makes in a place that we were refused
	LL_CONCAT(state->stale, state->stale_next);
	state->stale_next = NULL;
	drop_stale(state);
	drop_strange(state);
}

int state_settle(struct state *state, struct err *err)
{
	struct err why = { 0 };
	int rc = state->staged ? state->poisoned : 0;

	if (rc) {
		why = state->poison;
	} else {
		// not worth a commit of their own
		if (store_is_open(state->store)) {
			drop_stale(state);
			events_save(state->events, state->store);
		}
		if (store_end(state->store, &why))
			rc = -EIO;
	}
	// what nobody asked for is so whether it could be stored or not
	if (!rc || !state->staged) {
		int refused = settle_kernel(state, rc ? NULL : &why);

		rc = rc ? rc : refused;
	}
	if (rc && state->staged) {
		take_back(state, &why);
		events_undo(state->events);
	} else {
		drop_strange(state);
	}
	LL_CONCAT(state->stale, state->stale_next);
	state->stale_next = NULL;
	state->staged = false;
	state->poisoned = 0;
	store_stands(state->store);
	reconcile_stands(state->reconcile);
	state_forget_verdicts(state);
	tell_quorums(state);
	if (state->trim)
		footprint_shrink();
	state->trim = false;
	if (rc && err)
		*err = why;
	if (events_stand(state->events) && state->happened)
		state->happened(state->ctx);
	wake_agents(state);
	return rc;
}

void state_settle_facts(struct state *state)
{
	struct err err = { 0 };

	if (state_settle(state, &err))
		log_error("%s; the next resync tries again", err.text);
}
