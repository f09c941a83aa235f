// SPDX-License-Identifier: Apache-2.0
// A service as a whole: what pool.h makes of its backends.
#include "director/desired.h"

#include "director/pool.h"
#include "shared/util.h"

#include <errno.h>
#include <string.h>

// The version of a backend: which of the split's shares it belongs to, -1: none.
static int version_of(const struct split_options *split, const struct backend *backend)
{
	const char *value = split ? model_label(backend, split->label) : NULL;

	for (uint32_t i = 0; value && i < split->count; i++)
		if (strcmp(split->shares[i].value, value) == 0)
			return (int)i;
	return -1;
}

// Schedulers that divide a table of fixed size by weight.
static uint32_t slots_of(const char *scheduler)
{
	if (strcmp(scheduler, "sh") == 0)
		return SPLIT_SH_BUCKETS;
	return strcmp(scheduler, "mh") == 0 ? SPLIT_MH_SLOTS : 0;
}

static enum pool_fitness fitness_of(const struct backend *backend)
{
	switch (desired_status(backend)) {
	case STATUS_SETUP: // its host would not know what to do with a packet
	case STATUS_DRAIN:
		return POOL_OUT;
	case STATUS_LOST:
	case STATUS_DOWN:
	case STATUS_UNKNOWN:
		return POOL_SICK;
	case STATUS_UP:
		break;
	}
	return POOL_WELL;
}

static struct pool_rules rules_of(const struct service *service)
{
	const struct pool_options *pool = service->pool;
	struct pool_rules rules = { .buckets = slots_of(service->options.scheduler) };

	if (!pool)
		return rules;
	// sorry servers serve when nobody else does, if nothing else is said
	rules.quorum_up = pool->quorum.up ? pool->quorum.up : pool->sorry.count > 0;
	rules.quorum_down = pool->quorum.down ? pool->quorum.down : rules.quorum_up;
	rules.panic = pool->panic;
	rules.zones = pool->zones.prefer.count;
	rules.spill = pool->zones.spill;
	return rules;
}

static struct pool_member member_of(const struct service *service, const struct backend *backend)
{
	const struct pool_options *pool = service->pool;

	return (struct pool_member) {
		.fitness = fitness_of(backend),
		.sorry = pool && model_has_name(&pool->sorry, backend->name),
		.local = pool && model_has_name(&pool->zones.prefer, model_label(backend, ZONE_LABEL)),
		.version = version_of(service->split, backend),
		.weight = backend->options.weight,
		.now = desired_own_weight(backend),
	};
}

int desired_pool(struct service *service)
{
	const struct split_options *split = service->split;
	const uint32_t group_count = split ? split->count : 0;
	const struct pool_rules rules = rules_of(service);
	size_t i = 0;

	if (!model_is_pool(service))
		return 0;
	_cleanup_free_ struct split_group *groups = calloc(group_count + 1, sizeof(*groups));
	_cleanup_free_ struct pool_member *members = calloc(service->backend_count + 1, sizeof(*members));
	if (!groups || !members)
		return -ENOMEM;
	for (uint32_t g = 0; g < group_count; g++)
		groups[g].share = split->shares[g].share;
	for (const struct backend *b = service->backends; b; b = b->next)
		members[i++] = member_of(service, b);
	int rc = pool_weights(&rules, groups, group_count, members, i, &service->serving);
	i = 0;
	for (struct backend *b = service->backends; b && !rc; b = b->next)
		b->pool_weight = members[i++].result;
	return rc;
}

uint32_t desired_quorum(const struct service *service)
{
	const struct pool_rules rules = rules_of(service);

	return service->serving.quorum == POOL_QUORUM_LOST ? rules.quorum_up : rules.quorum_down;
}

void desired_silent(const struct service *service, struct out *out)
{
	const struct split_options *split = service->split;
	bool heard[MODEL_SHARES_MAX] = { false };

	if (!split || service->serving.sorry)
		return;
	for (const struct backend *b = service->backends; b; b = b->next) {
		int version = version_of(split, b);

		if (version >= 0 && b->pool_weight)
			heard[version] = true;
	}
	for (uint32_t i = 0; i < split->count; i++) {
		if (heard[i] || !split->shares[i].share)
			continue;
		if (out->len)
			out_text(out, ", ");
		out_text(out, split->shares[i].value);
	}
}
