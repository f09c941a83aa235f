// SPDX-License-Identifier: Apache-2.0
// Three steps: gather (reconcile_gather.c: desired against known becomes a list of operations, queued in a batch),
// send, and learn (what was accepted becomes known). A service of which an operation was refused is read again instead
// of guessed at.
#include "director/reconcile_internal.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ATTEMPTS 3       // when answers were lost, or the table was changed by someone else
#define BATCH_KEPT 1024u // operations whose memory is worth keeping for the next batch

// --- what the kernel holds ---

int reconcile_observe(struct reconcile *r, struct err *err)
{
	struct ipvs_key key;
	int rc = known_verify_start(&r->table, err);

	if (rc)
		return rc;
	do
		rc = known_verify_next(&r->table, &key, err);
	while (rc > 0);
	return rc;
}

int reconcile_verify_start(struct reconcile *r, struct err *err)
{
	return known_verify_start(&r->table, err);
}

int reconcile_verify_next(struct reconcile *r, struct ipvs_key *ret, struct err *err)
{
	return known_verify_next(&r->table, ret, err);
}

bool reconcile_verifying(const struct reconcile *r)
{
	return r->table.unseen != NULL;
}

void reconcile_claim(struct reconcile *r, const struct ipvs_key *key)
{
	struct known *known = known_find(&r->table, key);

	if (known)
		known->ours = true;
}

bool reconcile_knows(const struct reconcile *r, const struct ipvs_key *key)
{
	return known_find(&r->table, key) != NULL;
}

bool reconcile_serves(const struct reconcile *r, const struct ipvs_key *key, const struct inet_endpoint *to)
{
	const struct known *known = known_find(&r->table, key);
	const struct ipvs_dest *dest = known ? known_dest(known, to) : NULL;

	return dest && dest->weight;
}

bool reconcile_owns(const struct reconcile *r, const struct ipvs_key *key)
{
	const struct known *known = known_find(&r->table, key);

	return known && known->ours;
}

void reconcile_each(
	const struct reconcile *r, void (*each)(void *ctx, const struct ipvs_key *key, size_t dests), void *ctx)
{
	for (const struct known *known = r->table.services; known; known = known->hh.next)
		each(ctx, &known->key, known->count);
}

// --- life cycle ---

static void on_refused(void *ctx, void *cookie, int error, const struct err *why)
{
	struct reconcile *r = ctx;
	struct op *op = &r->ops[(uintptr_t)cookie - 1];

	op->error = error;
	op->why = malloc(sizeof(*why));
	if (op->why)
		*op->why = *why;
}

int reconcile_new(struct ipvs *ipvs, struct reconcile **ret, struct err *err)
{
	struct reconcile *r = calloc(1, sizeof(*r));

	if (!r)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	r->ipvs = r->table.ipvs = ipvs;
	ipvs_on_refused(ipvs, on_refused, r);
	*ret = r;
	return 0;
}

static void batch_clear(struct reconcile *r)
{
	for (size_t i = 0; i < r->op_count; i++)
		free(r->ops[i].why);
	for (size_t i = 0; i < r->work_count; i++)
		free(r->works[i].dests);
	r->op_count = r->work_count = 0;
	if (r->op_room <= BATCH_KEPT && r->work_room <= BATCH_KEPT)
		return;
	free(STEAL(r->ops));
	free(STEAL(r->works));
	r->op_room = r->work_room = 0;
}

void reconcile_free(struct reconcile *r)
{
	if (!r)
		return;
	known_clear(&r->table);
	taken_clear(&r->taken);
	batch_clear(r);
	free(r->ops);
	free(r->works);
	free(r->touched);
	free(r->stats);
	free(r);
}

const struct ipvs_dest *reconcile_only_dest(const struct reconcile *r, const struct ipvs_key *key)
{
	const struct known *known = known_find(&r->table, key);

	return known && known->count == 1 ? known->dests : NULL;
}

size_t reconcile_messages(const struct reconcile *r)
{
	return ipvs_messages(r->ipvs);
}

// --- touching ---

static void touch(struct reconcile *r, const struct touched *item)
{
	const struct touched *last = r->touched_count ? &r->touched[r->touched_count - 1] : NULL;

	// a new service is followed by all of its destinations
	if (last && last->whole && ipvs_key_cmp(&last->key, &item->key) == 0)
		return;
	if (known_grow(&r->touched, r->touched_count, &r->touched_room, sizeof(*item)))
		r->no_memory = true;
	else
		r->touched[r->touched_count++] = *item;
}

void reconcile_touch(struct reconcile *r, const struct ipvs_key *key)
{
	touch(r, &(struct touched) { .key = *key, .whole = true });
}

void reconcile_touch_dest(struct reconcile *r, const struct ipvs_key *key, const struct inet_endpoint *to)
{
	touch(r, &(struct touched) { .key = *key, .to = *to });
}

// --- learning ---

static bool harmless(const struct op *op)
{
	return op->verb == IPVS_DEL && (op->error == -ESRCH || op->error == -ENOENT);
}

// Refusals that say that our picture of the kernel was wrong. ENOENT for a service means its scheduler (ip_vs_ctl.c).
static bool picture_was_wrong(const struct op *op)
{
	return op->error == -EEXIST || op->error == -ESRCH || (op->error == -ENOENT && !op->is_service);
}

static void learn_restored(struct reconcile *r, struct known *known)
{
	struct taken *taken = known ? taken_find(r->taken, &known->key) : NULL;

	if (!taken)
		return;
	known->service = taken->service;
	known_take(known, STEAL(taken->dests), taken->count);
	taken_forget(&r->taken, taken);
}

// What one service's operations have made of the kernel, all of them taken.
static int learn_service(struct reconcile *r, struct work *work)
{
	struct known *known = known_find(&r->table, &work->key);

	if (work->restores)
		learn_restored(r, known);
	if (!work->wanted) {
		if (known && known->ours)
			known_forget(&r->table, known);
		return 0;
	}
	if (!work->whole)
		return 0; // by its operations
	if (!known)
		known = known_add(&r->table, &work->want);
	if (!known)
		return -ENOMEM;
	known->ours = true;
	known->service = work->want;
	if (work->first) {
		reconcile_touch(r, &work->key);
		return 0;
	}
	known_take(known, STEAL(work->dests), work->count);
	return 0;
}

// May be there, and is ours then: or nobody would remove it. The look at the whole table that comes first of all now
// keeps what it finds, and forgets what it does not.
static void claim_unseen(struct reconcile *r, const struct ipvs_key *key)
{
	r->blind = true;
	if (!known_find(&r->table, key))
		known_add(&r->table, &(struct ipvs_service) { .key = *key });
	reconcile_claim(r, key);
}

// What is there now that was not there before we added it is ours, whether we can look or not; and what we have taken
// over, whatever is refused of its destinations.
static int observe_work(struct reconcile *r, const struct work *work, struct err *err)
{
	const bool ours = work->kept && work->wanted && !work->first;
	int rc = known_observe(&r->table, &work->key, err);

	if (ours && rc)
		claim_unseen(r, &work->key);
	else if (ours)
		reconcile_claim(r, &work->key);
	r->blind |= rc != 0;
	return rc;
}

// All of them, or those that have come before answers were lost.
static void hear_refusals(struct reconcile *r)
{
	for (size_t i = 0; i < r->op_count; i++) {
		const struct op *op = &r->ops[i];
		struct work *work = &r->works[op->service];

		if (!op->error || harmless(op))
			continue;
		work->refused = true;
		work->kept &= !op->is_service;
		work->wrong |= picture_was_wrong(op);
		work->own |= op->is_service && !picture_was_wrong(op);
	}
}

// One service that cannot be looked at does not keep us from learning that the others are ours.
static int learn(struct reconcile *r, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < r->op_count && !rc; i++) {
		const struct op *op = &r->ops[i];
		const struct work *work = &r->works[op->service];

		if (!work->refused && !work->whole && work->wanted)
			rc = known_learn(known_find(&r->table, &work->key), op->verb, &op->dest);
	}
	for (size_t i = 0; i < r->work_count; i++) {
		struct work *work = &r->works[i];
		int one = work->refused ? observe_work(r, work, rc ? NULL : err) : learn_service(r, work);

		rc = rc ? rc : one;
	}
	return rc == -ENOMEM ? err_set(err, rc, NULL, "out of memory") : rc;
}

// --- settling ---

// Services whose picture was wrong, and was corrected, get another try; a service that is itself refused takes its
// destinations with it.
static void note_again(struct reconcile *r)
{
	char text[IPVS_KEY_MAX];

	for (size_t i = 0; i < r->work_count; i++) {
		if (!r->works[i].wrong || r->works[i].own)
			continue;
		log_warning("%s: the kernel's table was changed by someone else, looking again",
			ipvs_key_format(&r->works[i].key, text));
		reconcile_touch(r, &r->works[i].key);
	}
}

// again: those of services that get another try are not told yet.
static void tell_refusals(struct reconcile *r, bool again, reconcile_refused_fn refused, void *ctx)
{
	static const struct err no_words = { .text = "out of memory" };

	for (size_t i = 0; i < r->op_count; i++) {
		const struct op *op = &r->ops[i];
		const struct work *work = &r->works[op->service];

		if (op->error && !harmless(op) && !(again && work->wrong && !work->own))
			refused(ctx, &work->key, op->is_service ? NULL : &op->dest.to, op->error,
				op->why ? op->why : &no_words);
	}
}

// What was taken is not known, so all that was under way is looked at again. Without a look we are blind.
static void look_again(struct reconcile *r)
{
	for (size_t i = 0; i < r->work_count; i++)
		observe_work(r, &r->works[i], NULL);
}

static int settle_once(struct reconcile *r, const struct model *model, bool last, reconcile_refused_fn refused,
	void *ctx, struct err *err)
{
	struct touched *items = STEAL(r->touched);
	size_t count = r->touched_count;

	r->touched_count = r->touched_room = 0;
	int rc = reconcile_gather(r, model, items, count);
	int sent = ipvs_flush(r->ipvs);

	if (!rc)
		rc = sent;
	hear_refusals(r);
	if (rc) {
		err_set(err, rc, NULL, "%s", strerror(-rc));
		look_again(r);
	} else {
		rc = learn(r, err);
		r->blind |= rc != 0;
	}
	if (!rc && !last)
		note_again(r);
	if (!rc)
		tell_refusals(r, !last, refused, ctx);
	for (size_t i = 0; rc && i < count; i++)
		touch(r, &items[i]);
	free(items);
	batch_clear(r);
	return rc;
}

int reconcile_settle(
	struct reconcile *r, const struct model *model, reconcile_refused_fn refused, void *ctx, struct err *err)
{
	int rc = 0;

	if (r->no_memory) {
		r->no_memory = false;
		return err_set(err, -ENOMEM, NULL, "out of memory");
	}
	if (r->touched_count)
		r->stats_ms = 0;
	for (int i = 1; i <= ATTEMPTS && r->touched_count; i++) {
		rc = r->blind ? reconcile_observe(r, err) : 0;
		if (rc)
			break;
		r->blind = false;
		rc = settle_once(r, model, i == ATTEMPTS, refused, ctx, err);
		if (rc == -ENOBUFS)
			log_warning("answers of the kernel were lost, looking at the services again");
		else if (rc)
			break;
	}
	if (rc)
		err_context(err, "cannot speak to the kernel: ");
	return rc;
}

int reconcile_prove(
	struct reconcile *r, const char *scheduler, const char *engine, bool *ret_left, struct ipvs_key *ret_key)
{
	*ret_left = false;
	if (proven_has(&r->proven, scheduler, engine))
		return 0;
	for (const struct known *known = r->table.services; known; known = known->hh.next) {
		if (strcmp(known->service.scheduler, scheduler) == 0 && strcmp(known->service.engine, engine) == 0) {
			proven_add(&r->proven, &known->service);
			return 0;
		}
	}
	int rc = proven_check(&r->proven, r->ipvs, scheduler, engine, ret_left, ret_key);

	ipvs_on_refused(r->ipvs, on_refused, r);
	if (*ret_left && known_observe(&r->table, ret_key, NULL))
		claim_unseen(r, ret_key);
	if (*ret_left) { // the next settle deletes it
		reconcile_claim(r, ret_key);
		reconcile_touch(r, ret_key);
	}
	return rc;
}

void reconcile_stands(struct reconcile *r)
{
	if (!r->touched_count) // else what was to be put back may still have to be
		taken_clear(&r->taken);
}

// --- counters ---

int reconcile_stats(struct reconcile *r, const struct ipvs_key *key, msec_t max_age_ms, const struct ipvs_counted **ret,
	size_t *ret_count, struct err *err)
{
	msec_t now = clock_now_ms();

	*ret = NULL;
	*ret_count = 0;
	if (!known_find(&r->table, key))
		return 0;
	if (!r->stats_ms || now - r->stats_ms >= max_age_ms || ipvs_key_cmp(key, &r->stats_key) != 0) {
		struct ipvs_counted *stats = NULL;
		size_t count = 0;
		int rc = ipvs_dump_dests(r->ipvs, key, &stats, &count, err);

		if (rc)
			return rc;
		free(r->stats);
		r->stats = stats;
		r->stats_count = count;
		r->stats_key = *key;
		r->stats_ms = now;
	}
	*ret = r->stats;
	*ret_count = r->stats_count;
	return 0;
}

int reconcile_read_stats(
	struct reconcile *r, const struct ipvs_key *key, struct ipvs_counted **ret, size_t *ret_count, struct err *err)
{
	*ret = NULL;
	*ret_count = 0;
	return known_find(&r->table, key) ? ipvs_dump_dests(r->ipvs, key, ret, ret_count, err) : 0;
}

static int by_counted(const void *a, const void *b)
{
	return ipvs_dest_cmp(&((const struct ipvs_counted *)a)->dest, &((const struct ipvs_counted *)b)->dest);
}

const struct ipvs_counted *reconcile_find(
	const struct ipvs_counted *counted, size_t count, const struct backend *backend)
{
	const struct ipvs_counted want = { .dest.to = backend->place.at };

	return count ? bsearch(&want, counted, count, sizeof(*counted), by_counted) : NULL;
}

void reconcile_service_stats(struct reconcile *r, const struct ipvs_key *key, struct ipvs_stats *ret)
{
	struct ipvs_service service;

	*ret = (struct ipvs_stats) { 0 };
	ipvs_get_service(r->ipvs, key, &service, ret, NULL);
}
