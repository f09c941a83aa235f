// SPDX-License-Identifier: Apache-2.0
// Checks along the path of traffic: which mark leads to which real server, and whether a check can go that way now.
//
// Marks are not stored. All services by marks of our range are ours; at the start each is taken for what it does, so
// that a path finds the mark that it had before, and what is left over is removed. A check that cannot go along the
// path for a reason that lies with this host goes to the real server's own address, since the fault is not the real
// server's.
#include "director/state_internal.h"

#include "shared/clock.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <string.h>
#include <uthash.h>

// --- marks ---

struct found_mark {
	UT_hash_handle hh;
	struct found_key {
		struct ipvs_dest dest;
		sa_family_t family;
	} key;
	struct ipvs_key name; // in the kernel
};

static void found_key(const struct ipvs_dest *dest, int family, struct found_key *ret)
{
	memset(ret, 0, sizeof(*ret)); // padding, too: it is a hash key
	ret->family = (sa_family_t)family;
	ret->dest.to = dest->to;
	ret->dest.forward = dest->forward;
	ret->dest.tunnel_port = dest->tunnel_port;
	ret->dest.tunnel_flags = dest->tunnel_flags;
	ret->dest.tunnel_type = dest->tunnel_type;
}

bool state_is_mark(const struct state *state, const struct ipvs_key *key)
{
	return key->fwmark && key->fwmark >= state->marks.first && key->fwmark <= state->marks.last;
}

static void find_mark(void *ctx, const struct ipvs_key *key, size_t dests)
{
	struct state *state = ctx;
	const struct ipvs_dest *dest = reconcile_only_dest(state->reconcile, key);
	struct found_mark *found = NULL;
	struct found_key look;

	(void)dests;
	if (!state_is_mark(state, key))
		return;
	reconcile_claim(state->reconcile, key);
	if (!dest)
		return;
	found_key(dest, key->vip.addr.family, &look);
	HASH_FIND(hh, state->marks.found, &look, sizeof(look), found);
	if (found || !(found = calloc(1, sizeof(*found))))
		return;
	memcpy(&found->key, &look, sizeof(look));
	found->name = *key;
	HASH_ADD(hh, state->marks.found, key, sizeof(found->key), found);
}

void state_find_marks(struct state *state)
{
	state->marks.next = state->marks.first;
	reconcile_each(state->reconcile, find_mark, state);
}

static void touch_left_over(void *ctx, const struct ipvs_key *key, size_t dests)
{
	struct state *state = ctx;
	char text[IPVS_KEY_MAX];

	(void)dests;
	if (!state_is_mark(state, key) || model_path_by_key(&state->model, key))
		return;
	log_info("removing our old mark of checks, %s", ipvs_key_format(key, text));
	reconcile_touch(state->reconcile, key);
}

void state_sweep_marks(struct state *state)
{
	struct found_mark *found, *next;

	reconcile_each(state->reconcile, touch_left_over, state);
	HASH_ITER (hh, state->marks.found, found, next) {
		HASH_DEL(state->marks.found, found);
		free(found);
	}
}

// The mark that the kernel has for this way since an earlier run; 0: none.
static uint32_t mark_of_before(const struct state *state, const struct probe_way *way)
{
	struct probe_path like = { .way = *way };
	struct found_mark *found = NULL;
	struct ipvs_service service;
	struct found_key look;
	struct ipvs_dest dest;

	if (!state->marks.found)
		return 0;
	desired_path(&like, &service, &dest);
	found_key(&dest, way->family, &look);
	HASH_FIND(hh, state->marks.found, &look, sizeof(look), found);
	return found ? found->name.fwmark : 0;
}

// A mark is used for one family only, so that it tells the path by itself.
static bool is_free(const struct state *state, uint32_t mark)
{
	struct ipvs_key key = { .fwmark = mark };
	bool used = false;

	for (int i = 0; i < 2 && !used; i++) {
		key.vip.addr.family = i ? AF_INET6 : AF_INET;
		used = model_path_by_key(&state->model, &key) || reconcile_knows(state->reconcile, &key);
	}
	return !used;
}

// 0: none is left.
static uint32_t free_mark(struct state *state)
{
	struct state_marks *marks = &state->marks;

	for (uint64_t tries = 0; marks->first && tries <= marks->last - marks->first; tries++) {
		const uint32_t mark = marks->next;

		marks->next = mark == marks->last ? marks->first : mark + 1;
		if (is_free(state, mark)) {
			marks->exhausted = false;
			return mark;
		}
	}
	if (marks->first && !marks->exhausted)
		log_warning("probe_marks: all %u marks are in use; more checks go to the real servers' own addresses",
			marks->last - marks->first + 1);
	marks->exhausted = true;
	return 0;
}

int state_check_mark(const struct state *state, const struct service_options *options, struct err *err)
{
	const struct ipvs_key key = { .fwmark = options->fwmark };

	if (!state_is_mark(state, &key))
		return 0;
	return err_set(err, -EINVAL, "fwmark",
		"found %u, allowed are marks outside of %u to %u: those lead the director's own checks (probe_marks)",
		options->fwmark, state->marks.first, state->marks.last);
}

// --- paths ---

// Mostly all paths have it, or none: the first is told, and when there is none any more.
static void set_problem(struct state *state, struct probe_path *path, const char *problem)
{
	const bool had = path->problem, same = strcmp(had ? path->problem : "", problem ? problem : "") == 0;

	if (same)
		return;
	free(path->problem);
	path->problem = problem ? strdup(problem) : NULL;
	const size_t before = state->marks.stuck;
	state->marks.stuck = before + (path->problem != NULL) - had;
	if (!before && state->marks.stuck)
		log_warning(
			"checks cannot go the way of traffic, and go to the real servers' own addresses: %s", problem);
	else if (before && !state->marks.stuck)
		log_info("all checks go the way of traffic again");
}

struct probe_path *state_path_get(struct state *state, const struct probe_way *way)
{
	struct probe_path *path = model_path(&state->model, way);

	if (!path) {
		uint32_t mark = mark_of_before(state, way);

		if (!mark)
			mark = free_mark(state);
		path = mark ? model_add_path(&state->model, way, mark) : NULL;
		if (!path)
			return NULL;
		reconcile_touch(state->reconcile, &path->key);
	}
	path->users++;
	return path;
}

void state_path_put(struct state *state, struct probe_path *path)
{
	if (!path || --path->users)
		return;
	set_problem(state, path, NULL);
	reconcile_touch(state->reconcile, &path->key);
	model_remove_path(&state->model, path);
}

// --- where checks go ---

void state_path_refused(struct state *state, struct probe_path *path, const struct err *why)
{
	path->refused = true;
	set_problem(state, path, why->text);
}

bool state_path_works(const struct state *state, const struct probe_path *path)
{
	return !path->problem && reconcile_owns(state->reconcile, &path->key);
}

// The largest packet of a client that the path should carry; 0: nobody knows.
static uint32_t largest_packet(const struct state *state, const struct probe_way *way)
{
	const uint32_t overhead = tunnel_overhead(way->method, &way->tunnel, way->to.addr.family);
	uint32_t mtu = 0;

	return path_mtu(state->path, &way->to.addr, clock_now_ms(), &mtu, NULL) || mtu <= overhead ? 0 : mtu - overhead;
}

// Makes ready what a check along the path needs of this host.
static int prepare(struct state *state, const struct inet_addr *vip, struct probe_path *path,
	struct inet_addr *ret_source, struct err *err)
{
	if (state->is_standby && state->is_standby(state->ctx))
		return err_set(err, -EBUSY, NULL,
			"this host runs a backup sync daemon and net/ipv4/vs/backup_only is 1: it does not balance");
	int rc = replies_prepare(state->replies, vip, &path->way.to.addr, ret_source, &path->ifindex, err);

	if (!rc)
		path->source = *ret_source;
	return rc;
}

int state_aim(
	void *ctx, const struct inet_endpoint *to, struct probe_path *path, bool straight, struct check_target *ret)
{
	struct state *state = ctx;
	struct inet_addr source;
	struct route_way way;
	struct err err = { 0 };

	*ret = (struct check_target) { .to = *to };
	if (!path)
		return 0;
	const struct inet_endpoint real = { path->way.to.addr, path->way.to.port ? path->way.to.port : to->port };
	const bool owned = reconcile_owns(state->reconcile, &path->key);
	if (!owned && !path->refused)
		return -EINPROGRESS;
	ret->to = real;
	// without a way to it the check shall say so, and nothing else
	if (straight || !owned || path_way(state->path, &real.addr, clock_now_ms(), &way, NULL))
		return 0;
	path->refused = false;
	if (prepare(state, &to->addr, path, &source, &err)) {
		set_problem(state, path, err.text);
		return 0;
	}
	if (!path->unheard)
		set_problem(state, path, NULL);
	*ret = (struct check_target) {
		.to = *to,
		.real = real,
		.path = { .mark = path->key.fwmark, .source = source, .explain = true },
		.full_size = largest_packet(state, &path->way),
	};
	return 0;
}

static const char nobody_heard[] =
	"nobody has answered from a VIP since the start: perhaps a firewall of this host drops packets from its own "
	"VIPs, "
	"which are no replies for connection tracking; via: vip takes silence for the real server's";

// Silence counts when the answer of anybody was heard before, then it is not this host that drops them; and from a real
// server that it has taken out before (state_load.c), or a restart would put it back in.
bool state_heard(void *ctx, const struct check_spec *spec, struct probe_path *path, enum check_outcome outcome)
{
	struct state *state = ctx;
	const int family = path->way.family;

	path->counts |= spec->via == CHECK_VIA_VIP || replies_was_heard(state->replies, path->ifindex, family);
	if (!replies_was_heard(state->replies, path->ifindex, family) && check_heard(spec, outcome, path->way.to.port))
		replies_heard(state->replies, path->ifindex, family);
	if (outcome == CHECK_TIMEOUT && !path->counts)
		return false;
	path->unheard = false;
	return true;
}

// A real server that does not answer at all says nothing about this host.
void state_asked(void *state, struct probe_path *path, enum check_outcome outcome)
{
	path->unheard = outcome == CHECK_PASS;
	if (path->unheard)
		set_problem(state, path, nobody_heard);
}
