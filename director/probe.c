// SPDX-License-Identifier: Apache-2.0
#include "director/probe.h"

#include "shared/clock.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

// A description, once for all probes that have it: it is large.
struct probe_spec {
	UT_hash_handle hh; // in probes->specs
	unsigned int users;
	struct check_spec spec; // key, without what is each user's own
};

struct probes {
	const struct check_env *env;
	struct probe_hooks hooks;
	struct probe *all;
	struct probe_spec *specs;
};

struct probe {
	UT_hash_handle hh;
	struct probes *probes;
	unsigned int users;
	uint32_t phase;      // of the first of them: all are due at once, and none gets what another has heard long ago
	struct check *check; // running; NULL: none is
	bool straight;       // it does not go along the path
	bool again;          // it is asked straight, since it was silent along the path
	uint32_t runs;       // begun
	struct probe_wait *waiting;
	// the last result, kept while there are several users
	msec_t ended_ms;            // 0: there is none
	struct check_result result; // its reason is owned
	msec_t rejected_ms;         // 0: it was not, or has passed since
	enum check_outcome rejected;
	struct probe_key {
		struct probe_spec *spec;
		const struct probe_path *path;
		const struct backend *owner; // of a program; NULL: it is anybody's
		struct inet_endpoint to;
	} key;
	struct probe_path *path;
};

int probes_new(const struct check_env *env, const struct probe_hooks *hooks, struct probes **ret, struct err *err)
{
	struct probes *probes = calloc(1, sizeof(*probes));

	if (!probes)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	probes->env = env;
	probes->hooks = *hooks;
	*ret = probes;
	return 0;
}

void probes_free(struct probes *probes)
{
	free(probes);
}

static void strip(const struct check_spec *spec, bool along_path, struct check_spec *ret)
{
	memcpy(ret, spec, sizeof(*spec)); // padding, too: it is a hash key
	ret->set = 0;
	ret->interval_ms = 0;
	// the path says it, but how much is made of its silence
	ret->via = along_path && spec->via == CHECK_VIA_VIP ? CHECK_VIA_VIP : CHECK_VIA_AUTO;
}

static struct probe_spec *find_spec(const struct probes *probes, const struct check_spec *given, bool along_path)
{
	struct probe_spec *found = NULL;
	struct check_spec spec;

	strip(given, along_path, &spec);
	HASH_FIND(hh, probes->specs, &spec, sizeof(spec), found);
	return found;
}

// One more user. NULL without memory.
static struct probe_spec *take_spec(struct probes *probes, const struct check_spec *given, bool along_path)
{
	struct probe_spec *spec = find_spec(probes, given, along_path);

	if (!spec) {
		spec = calloc(1, sizeof(*spec));
		if (!spec)
			return NULL;
		strip(given, along_path, &spec->spec);
		HASH_ADD(hh, probes->specs, spec, sizeof(spec->spec), spec);
	}
	spec->users++;
	return spec;
}

static void leave_spec(struct probes *probes, struct probe_spec *spec)
{
	if (--spec->users)
		return;
	HASH_DEL(probes->specs, spec);
	free(spec);
}

static void make_key(
	struct probe_spec *spec, const struct inet_endpoint *to, const struct backend *backend, struct probe_key *ret)
{
	memset(ret, 0, sizeof(*ret)); // padding, too: it is a hash key
	ret->spec = spec;
	ret->to = *to;
	ret->path = backend->path;
	ret->owner = check_is_exec(&spec->spec) ? backend : NULL;
}

bool probe_is(const struct probe *probe, const struct check_spec *given, const struct inet_endpoint *to,
	const struct backend *backend)
{
	struct probe_spec *spec = find_spec(probe->probes, given, backend->path);
	struct probe_key key;

	if (!spec)
		return false;
	make_key(spec, to, backend, &key);
	return memcmp(&key, &probe->key, sizeof(key)) == 0;
}

int probe_join(struct probes *probes, const struct check_spec *given, const struct inet_endpoint *to,
	const struct backend *backend, struct probe **ret)
{
	struct probe_spec *spec = take_spec(probes, given, backend->path);
	struct probe *probe = NULL;
	struct probe_key key;

	if (!spec)
		return -ENOMEM;
	make_key(spec, to, backend, &key);
	HASH_FIND(hh, probes->all, &key, sizeof(key), probe);
	if (probe) {
		leave_spec(probes, spec); // it has it already
	} else {
		probe = calloc(1, sizeof(*probe));
		if (!probe) {
			leave_spec(probes, spec);
			return -ENOMEM;
		}
		probe->probes = probes;
		probe->path = backend->path;
		probe->phase = judge_phase(backend->service->name, backend->name);
		memcpy(&probe->key, &key, sizeof(key));
		HASH_ADD(hh, probes->all, key, sizeof(probe->key), probe);
	}
	probe->users++;
	*ret = probe;
	return 0;
}

uint32_t probe_phase(const struct probe *probe)
{
	return probe->phase;
}

void probe_leave(struct probe *probe, struct probe_wait *wait)
{
	if (wait->done)
		DL_DELETE(probe->waiting, wait);
	wait->done = NULL;
	if (--probe->users)
		return;
	check_cancel(probe->check);
	HASH_DEL(probe->probes->all, probe);
	leave_spec(probe->probes, probe->key.spec);
	free((char *)(uintptr_t)probe->result.reason);
	free(probe);
}

static void tell(struct probe_wait *wait, const struct check_result *result)
{
	const check_done_fn done = wait->done;

	wait->done = NULL;
	done(wait->ctx, result);
}

// For the other users, as long as it is young.
static void keep(struct probe *probe, const struct check_result *result)
{
	char *reason = probe->users > 1 ? strdup(result->reason) : NULL;

	free((char *)(uintptr_t)probe->result.reason);
	probe->result = *result;
	probe->result.reason = reason;
	probe->ended_ms = reason ? clock_now_ms() : 0;
}

static void note_rejection(struct probe *probe, enum check_outcome outcome)
{
	if (outcome == CHECK_PASS)
		probe->rejected_ms = 0;
	if (outcome != CHECK_NO_PORT && outcome != CHECK_NO_PROTOCOL && outcome != CHECK_PROHIBITED)
		return;
	probe->rejected = outcome;
	probe->rejected_ms = clock_now_ms();
}

bool probe_was_rejected(const struct probe *probe, msec_t max_age_ms, enum check_outcome *ret)
{
	if (!probe->rejected_ms || clock_now_ms() - probe->rejected_ms > max_age_ms)
		return false;
	*ret = probe->rejected;
	return true;
}

static void on_result(void *ctx, const struct check_result *result);

// Starts a run. 0 or -errno.
static int begin(struct probe *probe, bool straight)
{
	const struct probes *probes = probe->probes;
	const struct check_spec *spec = &probe->key.spec->spec;
	const struct backend *owner = probe->key.owner;
	struct check_about about;
	struct check_target target;
	int rc = probes->hooks.aim(probes->hooks.ctx, &probe->key.to, probe->path, straight, &target);

	if (rc)
		return rc;
	if (!spec->full_size)
		target.full_size = 0;
	if (owner) {
		const struct service_core *service = &owner->service->options;

		about = (struct check_about) { owner->service->name, owner->name, service->host, service->protocol };
		target.about = &about;
	}
	probe->straight = !target.path.mark;
	return check_start(probes->env, spec, &target, on_result, probe, &probe->check);
}

// To all who wait for it.
static void conclude(struct probe *probe, const struct check_result *result)
{
	const uint32_t run = probe->runs;

	note_rejection(probe, result->outcome);
	keep(probe, result);
	// whoever is told may ask for another run, or leave, and the last one takes the probe along
	probe->users++;
	while (probe->waiting && probe->waiting->run == run) {
		struct probe_wait *wait = probe->waiting;

		DL_DELETE(probe->waiting, wait);
		tell(wait, result);
	}
	probe_leave(probe, &(struct probe_wait) { 0 });
}

// Silence along the path alone must not count, so it does not when this cannot be had.
static void ask_straight(struct probe *probe)
{
	const int rc = begin(probe, true);
	char reason[120];

	probe->again = !rc;
	if (!rc)
		return;
	snprintf(reason, sizeof(reason), "cannot start the check: %s", strerror(-rc));
	conclude(probe, &(struct check_result) { check_outcome_of_start(probe->key.spec->spec.kind, rc), reason, 0 });
}

static void on_result(void *ctx, const struct check_result *result)
{
	struct probe *probe = ctx;
	const struct probe_hooks *hooks = &probe->probes->hooks;
	const enum check_outcome outcome = result->outcome;

	probe->check = NULL;
	if (probe->again) {
		probe->again = false;
		hooks->asked(hooks->ctx, probe->path, outcome);
	} else if (!probe->straight && !hooks->heard(hooks->ctx, &probe->key.spec->spec, probe->path, outcome)) {
		ask_straight(probe);
		return;
	}
	conclude(probe, result);
}

int probe_run(struct probe *probe, msec_t max_age_ms, struct probe_wait *wait, check_done_fn done, void *ctx)
{
	if (wait->done)
		return 0; // it waits already
	*wait = (struct probe_wait) { .done = done, .ctx = ctx };
	if (probe->ended_ms && clock_now_ms() - probe->ended_ms <= max_age_ms) {
		tell(wait, &probe->result);
		return 0;
	}
	if (!probe->check) {
		int rc = begin(probe, false);

		if (rc) {
			wait->done = NULL;
			return rc;
		}
		probe->runs++;
	}
	wait->run = probe->runs;
	DL_APPEND(probe->waiting, wait);
	return 0;
}
