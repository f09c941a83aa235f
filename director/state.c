// SPDX-License-Identifier: Apache-2.0
// The turn, and the staging of changes that the API asks for.
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

static int poison(struct state *state, const struct err *why)
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
	return poison(state, &why);
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
	return poison(state, &why);
}

// Only what was given is stored: a default that a later version improves is not held fast.
static int options_row(struct state *state, enum store_kind kind, const char *owner, const char *name,
	const struct field_table *table, const void *options, struct err *err)
{
	_cleanup_out_ struct out out = { 0 };

	field_write(table, options, FIELD_GIVEN, &out);
	return out.failed ? no_memory(state) : state_row(state, kind, owner, name, out.text, err);
}

int state_service_row(struct state *state, const char *name, const struct service_options *options, struct err *err)
{
	struct ipvs_key key;
	char text[IPVS_KEY_MAX], addr[INET_ADDR_MAX];

	model_key(options, &key);
	int rc = options_row(state, STORE_SERVICE, "", name, &service_fields, options, err);
	if (!rc)
		rc = state_row(state, STORE_OWNED_SERVICE, "", ipvs_key_format(&key, text), name, err);
	if (!rc && inet_addr_is_set(&options->host))
		rc = state_row(state, STORE_OWNED_ADDRESS, "", inet_addr_format(&options->host, addr), "", err);
	return rc;
}

int state_backend_row(struct state *state, const char *service, const char *name, const struct backend_options *options,
	struct err *err)
{
	return options_row(state, STORE_BACKEND, service, name, &backend_fields, options, err);
}

// --- what is no longer ours ---

// A row of one of the two lists, of something that this turn has stopped using. It goes with a later turn, since by
// then the kernel has let go; until then, or when we die first, the next start finds it.
struct stale_row {
	struct stale_row *next;
	bool is_vip;
	struct ipvs_key key;
	struct inet_addr vip;
};

static void note_stale(struct state *state, const struct stale_row *row)
{
	struct stale_row *copy = malloc(sizeof(*copy));

	if (!copy)
		return;
	*copy = *row;
	LL_PREPEND(state->stale_next, copy);
}

static void note_stale_key(struct state *state, const struct ipvs_key *key)
{
	note_stale(state, &(struct stale_row) { .key = *key });
}

static void drop_stale(struct state *state)
{
	char text[IPVS_KEY_MAX];

	for (struct stale_row *row = STEAL(state->stale), *next; row; row = next) {
		next = row->next;
		if (row->is_vip && !vip_is_wanted(state->vip, &row->vip))
			store_delete(state->store, STORE_OWNED_ADDRESS, "", inet_addr_format(&row->vip, text), NULL);
		if (!row->is_vip && !model_service_by_key(&state->model, &row->key))
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
}

// --- the model, with what hangs on it ---

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

void state_touch_service(struct state *state, struct service *service)
{
	reconcile_touch(state->reconcile, &service->key);
	if ((!service->split && !service->silent) || service->split_due)
		return;
	service->split_due = true;
	LL_PREPEND2(state->split_services, service, split_next);
}

static void work_out_splits(struct state *state)
{
	while (state->split_services) {
		struct service *service = state->split_services;

		LL_DELETE2(state->split_services, service, split_next);
		service->split_due = false;
		if (desired_split(service))
			log_error(
				"service %s: out of memory: the weights of its split stay as they were", service->name);
		say_silent_versions(service);
	}
}

void state_touch_backend(struct state *state, struct backend *backend)
{
	// in a split each weight depends on all
	if (backend->service->split)
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
	note_stale_key(state, &service->key);
	if (inet_addr_is_set(&service->options.host))
		vip_unwant(state->vip, &service->options.host);
}

int state_change_service(struct state *state, struct service *service, const struct service_options *options)
{
	struct ipvs_key key;

	model_key(options, &key);
	const bool moved = ipvs_key_cmp(&key, &service->key) != 0;
	if (moved) {
		leave_key(state, service);
		if (inet_addr_is_set(&options->host) && vip_want(state->vip, &options->host))
			return no_memory(state);
	}
	if (model_set_service(service, options))
		return no_memory(state);
	if (moved)
		state_bind_agents(state, service); // ports may follow the service's
	for (struct backend *b = service->backends; b; b = b->next)
		health_watch(state->health, b);
	state_touch_service(state, service);
	state_touch_agents_of(state, service->name);
	return 0;
}

void state_drop_service(struct state *state, struct service *service)
{
	char name[MODEL_NAME_MAX + 1];

	snprintf(name, sizeof(name), "%s", service->name);
	leave_key(state, service);
	if (service->split_due)
		LL_DELETE2(state->split_services, service, split_next);
	for (struct backend *b = service->backends; b; b = b->next)
		health_forget(b);
	model_remove_service(service);
	state_touch_agents_of(state, name);
}

struct backend *state_add_backend(
	struct state *state, struct service *service, const char *name, const struct backend_options *options)
{
	struct backend *backend = model_add_backend(service, name, options, NULL);

	if (!backend) {
		no_memory(state);
		return NULL;
	}
	health_watch(state->health, backend);
	state_touch_backend(state, backend);
	return backend;
}

int state_change_backend(struct state *state, struct backend *backend, const struct backend_options *options)
{
	state_touch_backend(state, backend); // where it was
	if (model_set_backend(backend, options))
		return no_memory(state);
	health_watch(state->health, backend);
	state_touch_backend(state, backend);
	return 0;
}

void state_drop_backend(struct state *state, struct backend *backend)
{
	struct service *service = backend->service;

	reconcile_touch_dest(state->reconcile, &service->key, &backend->place.at);
	health_forget(backend);
	model_remove_backend(backend);
	if (service->split)
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

	int rc = model_check_service(&options, err);
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
	service->turn = state->turn;
	char key[IPVS_KEY_MAX];
	if (reconcile_knows(state->reconcile, &service->key))
		log_warning("service %s: the kernel already has %s, made by someone else: taken over", name,
			ipvs_key_format(&service->key, key));
	log_info("service %s: made", name);
	return 0;
}

int state_set_service(
	struct state *state, struct service *service, const struct service_options *given, struct err *err)
{
	struct service_options options = *given, old;
	char names[256];
	int rc = model_check_service(&options, err);

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
	state->staged = true;
	if (strcmp(options.scheduler, old.scheduler) != 0 || strcmp(options.engine, old.engine) != 0)
		service->turn = state->turn;
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
		return poison(state, err);
	rc = state_row(state, STORE_LEAVING, "", name, NULL, err);
	if (!rc)
		rc = state_row(state, STORE_SERVICE, "", name, NULL, err);
	if (rc)
		return rc;
	log_info("service %s: removed", name);
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

	int rc = model_check_backend(&service->options, &options, err);
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
	int rc = model_check_backend(&service->options, &options, err);
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
	const struct service *service = backend->service;

	if (backend->agent)
		return err_set(err, -EEXIST, NULL,
			"backend %s belongs to an agent: stop the agent, or DELETE /agent/%s", backend->name,
			backend->agent->node);
	state->staged = true;
	int rc = state_delete_backend_rows(state, backend, err);
	if (!rc)
		rc = state_row(state, STORE_BACKEND, service->name, backend->name, NULL, err);
	if (rc)
		return rc;
	log_info("backend %s/%s: removed", service->name, backend->name);
	state_drop_backend(state, backend);
	return 0;
}

// A verdict outlives a restart: a director that comes back must not send traffic to a backend that it had taken out.
void state_health_changed(struct state *state, struct backend *backend)
{
	const char *service = backend->service->name;
	struct err err = { 0 };

	if (state_row(state, STORE_DOWN, service, backend->name,
		    model_is_down(backend) ? backend->health->reason : NULL, &err))
		log_error("%s/%s: the verdict cannot be stored: %s", service, backend->name, err.text);
	state_touch_backend(state, backend);
	if (backend->agent)
		state_touch_agent(state, backend->agent);
}

// --- the turn ---

static const struct backend *backend_of(const struct service *service, const struct inet_endpoint *to)
{
	return service && to ? model_backend_at(service, to) : NULL;
}

// IPVS says ENOENT for a scheduler or a persistence engine that it neither has nor can load (ip_vs_ctl.c).
static int explain_missing(const struct service *service, struct err *err)
{
	const char *scheduler = service->options.scheduler, *engine = service->options.engine;
	char path[80];

	snprintf(path, sizeof(path), "/sys/module/ip_vs_%s", scheduler);
	if (*engine && access(path, F_OK) == 0)
		return err_set(err, -EINVAL, "pe",
			"found \"%s\", a persistence engine that this kernel neither has nor can load (module "
			"ip_vs_pe_%s)",
			engine, engine);
	return err_set(err, -EINVAL, "method",
		"found \"%s\", a scheduler that this kernel neither has nor can load (module ip_vs_%s)", scheduler,
		scheduler);
}

static int explain(const struct service *service, const struct backend *backend, int error, struct err *err)
{
	if (error == -ENOENT && service && !backend)
		return explain_missing(service, err);
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
	const struct service *service = model_service_by_key(&state->model, key);
	const struct backend *backend = backend_of(service, to);
	char text[IPVS_KEY_MAX], at[INET_ENDPOINT_MAX];
	struct err err = *why;
	int rc = explain(service, backend, error, &err);

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

static void on_foreign_vip(void *ctx, const struct inet_addr *addr)
{
	char text[INET_ADDR_MAX];

	// it was there before us: it is not ours to remove
	store_delete(((struct state *)ctx)->store, STORE_OWNED_ADDRESS, "", inet_addr_format(addr, text), NULL);
}

static void on_vip_gone(void *ctx, const struct inet_addr *addr)
{
	note_stale(ctx, &(struct stale_row) { .is_vip = true, .vip = *addr });
}

// VIPs before destinations: IPVS keeps the route, and with it the source address, of a tunnel's outer packets.
static int settle_kernel(struct state *state, struct err *err)
{
	state->refused = 0;
	work_out_splits(state);
	if (vip_settle(state->vip, on_foreign_vip, state, err))
		return -EREMOTEIO;
	if (reconcile_settle(state->reconcile, &state->model, on_refused, state, err))
		return -EREMOTEIO;
	if (state->refused) {
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
	store_end(state->store, NULL); // VIPs that turned out not to be ours
}

int state_settle(struct state *state, struct err *err)
{
	struct err why = { 0 };
	int rc = state->poisoned;

	if (rc) {
		why = state->poison;
	} else {
		// not worth a commit of their own
		if (store_is_open(state->store))
			drop_stale(state);
		if (store_end(state->store, &why))
			rc = -EIO;
	}
	if (!rc)
		rc = settle_kernel(state, &why);
	if (rc && state->staged)
		take_back(state, &why);
	else if (!rc)
		store_end(state->store, NULL);
	if (rc)
		free_stale(&state->stale_next);
	LL_CONCAT(state->stale, state->stale_next);
	state->stale_next = NULL;
	state->turn++;
	state->staged = false;
	state->poisoned = 0;
	if (rc && err)
		*err = why;
	wake_agents(state);
	return rc;
}

void state_settle_facts(struct state *state)
{
	struct err err = { 0 };

	if (state_settle(state, &err))
		log_error("%s; the next resync tries again", err.text);
}
