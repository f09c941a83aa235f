// SPDX-License-Identifier: Apache-2.0
// One pass over one service: desired against known, both sorted, becomes a list of operations; the batch carries them
// out; known becomes what was accepted.
#include "director/reconcile.h"

#include "shared/clock.h"
#include "shared/diff.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// What the kernel holds of one service.
struct known {
	UT_hash_handle hh;
	struct ipvs_key key; // zeroed padding: it is the hash key
	struct ipvs_service service;
	struct ipvs_dest *dests; // sorted by ipvs_dest_cmp
	size_t count;
	struct ipvs_dest *stats; // the last dump, sorted
	size_t stats_count;
	msec_t stats_ms; // 0: never
};

struct reconcile {
	struct ipvs *ipvs;
	struct known *known;
	// of the batch under way
	int refused;          // first -errno, 0 when all was taken
	bool refused_service; // it was the service itself, not one of its destinations
	struct err why;
};

static void copy_key(struct ipvs_key *to, const struct ipvs_key *from)
{
	memset(to, 0, sizeof(*to));
	to->vip.addr.family = from->vip.addr.family;
	memcpy(to->vip.addr.bytes, from->vip.addr.bytes, sizeof(to->vip.addr.bytes));
	to->vip.port = from->vip.port;
	to->protocol = from->protocol;
	to->fwmark = from->fwmark;
}

static struct known *find(const struct reconcile *r, const struct ipvs_key *key)
{
	struct ipvs_key clean;
	struct known *known = NULL;

	copy_key(&clean, key);
	HASH_FIND(hh, r->known, &clean, sizeof(clean), known);
	return known;
}

static struct known *add(struct reconcile *r, const struct ipvs_service *service)
{
	struct known *known = calloc(1, sizeof(*known));

	if (!known)
		return NULL;
	copy_key(&known->key, &service->key);
	known->service = *service;
	HASH_ADD(hh, r->known, key, sizeof(known->key), known);
	return known;
}

static void forget(struct reconcile *r, struct known *known)
{
	HASH_DEL(r->known, known);
	free(known->dests);
	free(known->stats);
	free(known);
}

static void forget_all(struct reconcile *r)
{
	while (r->known)
		forget(r, r->known);
}

static void on_refused(void *ctx, void *cookie, int error, const struct err *why)
{
	struct reconcile *r = ctx;

	if (r->refused)
		return;
	r->refused = error;
	r->refused_service = cookie != NULL;
	r->why = *why;
}

int reconcile_new(struct ipvs *ipvs, struct reconcile **ret, struct err *err)
{
	struct reconcile *r = calloc(1, sizeof(*r));

	if (!r)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	r->ipvs = ipvs;
	ipvs_on_refused(ipvs, on_refused, r);
	*ret = r;
	return 0;
}

void reconcile_free(struct reconcile *r)
{
	if (!r)
		return;
	forget_all(r);
	free(r);
}

static int by_endpoint(const void *a, const void *b)
{
	return ipvs_dest_cmp(a, b);
}

static int observe_dests(struct reconcile *r, struct known *known, struct err *err)
{
	struct ipvs_dest *dests = NULL;
	size_t count = 0;
	int rc = ipvs_dump_dests(r->ipvs, &known->key, &dests, &count, err);

	if (rc)
		return rc;
	sort_items(dests, count, sizeof(*dests), by_endpoint);
	free(known->dests);
	known->dests = dests;
	known->count = count;
	return 0;
}

// Looks at one service again.
static int observe_one(struct reconcile *r, const struct ipvs_key *key, struct err *err)
{
	struct ipvs_service service;
	int rc = ipvs_get_service(r->ipvs, key, &service, err);

	if (find(r, key))
		forget(r, find(r, key));
	if (rc)
		return rc == -ESRCH ? 0 : rc;
	struct known *known = add(r, &service);

	return known ? observe_dests(r, known, err) : err_set(err, -ENOMEM, NULL, "out of memory");
}

int reconcile_observe(struct reconcile *r, struct err *err)
{
	_cleanup_free_ struct ipvs_service *services = NULL;
	size_t count = 0;
	int rc = ipvs_dump_services(r->ipvs, &services, &count, err);

	if (rc)
		return rc;
	forget_all(r);
	for (size_t i = 0; i < count && !rc; i++) {
		struct known *known = add(r, &services[i]);

		rc = known ? observe_dests(r, known, err) : err_set(err, -ENOMEM, NULL, "out of memory");
	}
	return rc;
}

struct pass {
	struct reconcile *r;
	const struct ipvs_key *key;
	size_t changes;
};

static int change_dest(void *ctx, const void *want_item, const void *have_item)
{
	struct pass *pass = ctx;
	const struct ipvs_dest *want = want_item, *have = have_item;

	if (want && have && ipvs_dest_same(want, have))
		return 0;
	pass->changes++;
	return ipvs_dest_change(pass->r->ipvs,
		!have           ? IPVS_ADD
			: !want ? IPVS_DEL
				: IPVS_SET,
		pass->key, want ? want : have, NULL);
}

// One pass: queue the difference and send it. *ret_refused says whether the kernel took all of it.
static int run_pass(struct reconcile *r, const struct service *service, int *ret_refused, struct err *err)
{
	_cleanup_free_ struct ipvs_dest *dests = NULL;
	struct ipvs_service want;
	size_t count = 0;
	int rc = desired_dests(service, &dests, &count);

	desired_service(service, &want);
	struct known *known = find(r, &want.key);
	struct pass pass = { r, &want.key, 0 };

	r->refused = 0;
	if (!rc && (!known || !ipvs_service_same(&want, &known->service))) {
		pass.changes++;
		rc = ipvs_service_change(r->ipvs, known ? IPVS_SET : IPVS_ADD, &want, &want);
	}
	if (!rc)
		rc = diff_sorted((struct diff_list) { dests, count, sizeof(*dests) },
			(struct diff_list) { known ? known->dests : NULL, known ? known->count : 0, sizeof(*dests) },
			by_endpoint, change_dest, &pass);
	if (!rc && pass.changes)
		rc = ipvs_flush(r->ipvs);
	if (rc)
		return err_set(err, rc, NULL, "cannot speak to the kernel: %s", strerror(-rc));
	*ret_refused = r->refused;
	if (r->refused || !pass.changes)
		return 0;
	if (!known)
		known = add(r, &want);
	if (!known)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	known->service = want;
	free(known->dests);
	known->dests = STEAL(dests);
	known->count = count;
	known->stats_ms = 0;
	return 0;
}

// Refusals that say that our picture of the kernel was wrong. ENOENT for a service means its scheduler (ip_vs_ctl.c).
static bool picture_was_wrong(const struct reconcile *r)
{
	return r->refused == -EEXIST || r->refused == -ESRCH || (r->refused == -ENOENT && !r->refused_service);
}

int reconcile_service(struct reconcile *r, const struct service *service, struct err *err)
{
	struct ipvs_key key;
	int refused = 0;

	desired_key(&service->options, &key);
	int rc = run_pass(r, service, &refused, err);
	if (rc || !refused)
		return rc;
	const struct err why = r->why;
	rc = observe_one(r, &key, err);
	if (!rc && picture_was_wrong(r)) {
		char text[IPVS_KEY_MAX];

		log_warning("%s: the kernel's table was changed by someone else, looking again",
			ipvs_key_format(&key, text));
		rc = run_pass(r, service, &refused, err);
		if (!rc && !refused)
			return 0;
		if (!rc)
			observe_one(r, &key, NULL);
	}
	if (rc)
		return rc;
	if (err)
		*err = why;
	return refused;
}

int reconcile_remove(struct reconcile *r, const struct ipvs_key *key, struct err *err)
{
	const struct ipvs_service service = { .key = *key };
	struct known *known = find(r, key);

	if (!known)
		return 0;
	r->refused = 0;
	int rc = ipvs_service_change(r->ipvs, IPVS_DEL, &service, NULL);
	if (!rc)
		rc = ipvs_flush(r->ipvs);
	if (rc)
		return err_set(err, rc, NULL, "cannot speak to the kernel: %s", strerror(-rc));
	if (r->refused && r->refused != -ESRCH) {
		if (err)
			*err = r->why;
		return r->refused;
	}
	forget(r, known);
	return 0;
}

bool reconcile_knows(const struct reconcile *r, const struct ipvs_key *key)
{
	return find(r, key) != NULL;
}

int reconcile_stats(struct reconcile *r, const struct ipvs_key *key, msec_t max_age_ms, const struct ipvs_dest **ret,
	size_t *ret_count, struct err *err)
{
	struct known *known = find(r, key);
	msec_t now = clock_now_ms();

	*ret = NULL;
	*ret_count = 0;
	if (!known)
		return 0;
	if (!known->stats_ms || now - known->stats_ms > max_age_ms) {
		struct ipvs_dest *stats = NULL;
		size_t count = 0;
		int rc = ipvs_dump_dests(r->ipvs, key, &stats, &count, err);

		if (rc)
			return rc;
		sort_items(stats, count, sizeof(*stats), by_endpoint);
		free(known->stats);
		known->stats = stats;
		known->stats_count = count;
		known->stats_ms = now;
	}
	*ret = known->stats;
	*ret_count = known->stats_count;
	return 0;
}

void reconcile_service_stats(struct reconcile *r, const struct ipvs_key *key, struct ipvs_stats *ret)
{
	struct ipvs_service service = { 0 };

	ipvs_get_service(r->ipvs, key, &service, NULL);
	*ret = service.stats;
}

void reconcile_each(
	const struct reconcile *r, void (*each)(void *ctx, const struct ipvs_key *key, size_t dests), void *ctx)
{
	for (const struct known *known = r->known; known; known = known->hh.next)
		each(ctx, &known->key, known->count);
}

size_t reconcile_messages(const struct reconcile *r)
{
	return ipvs_messages(r->ipvs);
}
