// SPDX-License-Identifier: Apache-2.0
// Desired against known, of what was touched and nothing else.
#include "director/reconcile_internal.h"

#include "shared/diff.h"
#include "shared/util.h"

#include <errno.h>
#include <linux/ip_vs.h>
#include <stdlib.h>
#include <string.h>

#define MH_STAGED_FROM 3u // destinations

// By service; the whole service first.
static int by_touched(const void *a, const void *b)
{
	const struct touched *left = a, *right = b;
	int c = ipvs_key_cmp(&left->key, &right->key);

	if (!c)
		c = right->whole - left->whole;
	return c ? c : inet_endpoint_cmp(&left->to, &right->to);
}

struct gather {
	struct reconcile *r;
	size_t service; // index into r->works
	const struct ipvs_key *key;
	bool first; // the service only, see struct work
};

static int queue_op(
	struct gather *g, enum ipvs_verb verb, const struct ipvs_service *service, const struct ipvs_dest *dest)
{
	struct reconcile *r = g->r;

	if (known_grow(&r->ops, r->op_count, &r->op_room, sizeof(*r->ops)))
		return -ENOMEM;
	struct op *op = &r->ops[r->op_count++];
	*op = (struct op) { .verb = verb, .is_service = service, .service = g->service };
	if (dest)
		op->dest = *dest;
	void *cookie = (void *)(uintptr_t)r->op_count;

	return service ? ipvs_service_change(r->ipvs, verb, service, cookie)
		       : ipvs_dest_change(r->ipvs, verb, g->key, dest, cookie);
}

static int gather_dest(void *ctx, const void *want_item, const void *have_item)
{
	const struct ipvs_dest *want = want_item, *have = have_item;

	if (want && have && ipvs_dest_same(want, have))
		return 0;
	enum ipvs_verb verb = !have ? IPVS_ADD : want ? IPVS_SET : IPVS_DEL;

	return queue_op(ctx, verb, NULL, want ? want : have);
}

static int by_endpoint(const void *a, const void *b)
{
	return ipvs_dest_cmp(a, b);
}

// A new service with scheduler mh gets its destinations under rr, since mh builds its whole table at each of them.
static bool is_staged(const struct ipvs_service *want, size_t count)
{
	return strcmp(want->scheduler, "mh") == 0 && count >= MH_STAGED_FROM;
}

// dests are the work's.
static int gather_whole(struct gather *g, const struct ipvs_service *want, const struct known *known,
	const struct ipvs_dest *dests, size_t count)
{
	int rc = 0;
	const bool staged = !known && is_staged(want, count);
	struct ipvs_service first = *want;

	if (g->first)
		return queue_op(g, IPVS_SET, want, NULL);
	if (staged) {
		memset(first.scheduler, 0, sizeof(first.scheduler));
		memcpy(first.scheduler, "rr", 2);
		first.flags &= ~(uint32_t)(IP_VS_SVC_F_SCHED1 | IP_VS_SVC_F_SCHED2 | IP_VS_SVC_F_SCHED3);
	}
	if (!known || !ipvs_service_same(want, &known->service))
		rc = queue_op(g, known ? IPVS_SET : IPVS_ADD, &first, NULL);
	if (!rc)
		rc = diff_sorted((struct diff_list) { dests, count, sizeof(*dests) },
			(struct diff_list) { known ? known->dests : NULL, known ? known->count : 0, sizeof(*dests) },
			by_endpoint, gather_dest, g);
	if (!rc && staged)
		rc = queue_op(g, IPVS_SET, want, NULL);
	return rc;
}

// A path is one service with one destination. 0 or -ENOMEM.
static int want_path(struct work *work, const struct probe_path *path)
{
	work->dests = malloc(sizeof(*work->dests));
	if (!work->dests)
		return -ENOMEM;
	work->count = 1;
	desired_path(path, &work->want, work->dests);
	return 0;
}

static int gather_one(
	struct gather *g, const struct service *service, const struct known *known, const struct inet_endpoint *to)
{
	const struct backend *backend = model_backend_at(service, to);
	struct ipvs_dest want;
	const struct ipvs_dest *have = known_dest(known, to);

	if (backend)
		desired_dest(backend, &want);
	return backend || have ? gather_dest(g, backend ? &want : NULL, have) : 0;
}

// Of what the turn took over from somebody else, everything is as it was; and his again, whatever comes of that.
static int gather_restored(struct gather *g, struct work *work, struct known *known, const struct taken *taken)
{
	work->restores = true;
	known->ours = false;
	return gather_whole(g, &taken->service, known, taken->dests, taken->count);
}

static int gather_unwanted(struct gather *g, struct work *work, struct known *known)
{
	const struct taken *taken = taken_find(g->r->taken, &work->key);

	if (known && taken)
		return gather_restored(g, work, known, taken);
	work->want.key = work->key;
	return known && known->ours ? queue_op(g, IPVS_DEL, &work->want, NULL) : 0;
}

// Somebody else's is looked at before it is taken over, since its owner may have changed it: what is left of it, NULL
// when it is gone, is noted, and is what a refused turn puts back.
static int look_before(struct reconcile *r, struct known **known)
{
	const struct ipvs_key key = (*known)->key;

	if ((*known)->ours || taken_find(r->taken, &key))
		return 0;
	int rc = known_observe(&r->table, &key, NULL);

	*known = known_find(&r->table, &key);
	return rc || !*known ? rc : taken_note(&r->taken, *known);
}

// All that was touched of one service: items[0..count), the whole service first.
static int gather_service(struct reconcile *r, const struct model *model, const struct touched *items, size_t count)
{
	struct known *known = known_find(&r->table, &items->key);
	const struct service *service = model_service_by_key(model, &items->key);
	const struct probe_path *path = service ? NULL : model_path_by_key(model, &items->key);
	int rc = known_grow(&r->works, r->work_count, &r->work_room, sizeof(*r->works));

	if (rc)
		return rc;
	struct work *work = &r->works[r->work_count++];
	struct gather g = { .r = r, .service = r->work_count - 1, .key = &items->key };

	*work = (struct work) { .key = items->key, .wanted = service || path, .service = service, .kept = true };
	if (!work->wanted)
		return gather_unwanted(&g, work, known);
	if (known)
		rc = look_before(r, &known);
	if (rc)
		return rc;
	work->whole = items->whole || !known || !known->ours || path; // taken over as a whole
	work->adds = !known;
	if (service)
		desired_service(service, &work->want);
	else
		rc = want_path(work, path);
	if (rc)
		return rc;
	// somebody else's, to be taken over: when it is refused it shall stay as it is
	g.first = work->first = known && !known->ours && !ipvs_service_same(&work->want, &known->service);
	work->whole |= work->first;
	if (service && work->whole)
		rc = desired_dests(service, &work->dests, &work->count);
	if (rc || work->whole)
		return rc ? rc : gather_whole(&g, &work->want, known, work->dests, work->count);
	for (size_t i = 0; i < count && !rc; i++)
		if (!i || inet_endpoint_cmp(&items[i].to, &items[i - 1].to) != 0)
			rc = gather_one(&g, service, known, &items[i].to);
	return rc;
}

static size_t same_service(const struct touched *items, size_t count)
{
	size_t n = 1;

	while (n < count && ipvs_key_cmp(&items[n].key, &items->key) == 0)
		n++;
	return n;
}

int reconcile_gather(struct reconcile *r, const struct model *model, struct touched *items, size_t count)
{
	int rc = 0;

	sort_items(items, count, sizeof(*items), by_touched);
	for (size_t i = 0, n; i < count && !rc; i += n) {
		n = same_service(items + i, count - i);
		rc = gather_service(r, model, items + i, n);
	}
	return rc;
}
