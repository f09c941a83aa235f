// SPDX-License-Identifier: Apache-2.0
// First who is used, with which base; then, where shares are asked for, split_weights makes weights of the bases.
#include "director/pool.h"

#include "shared/util.h"

#include <errno.h>

#define RATIO_MAX (UINT64_C(1) << 20) // of a ratio's two sides, so that products fit

static bool is_well(const struct pool_member *m)
{
	return m->fitness == POOL_WELL && m->weight;
}

static void judge_quorum(const struct pool_rules *rules, struct pool_state *state)
{
	const uint32_t least = state->quorum == POOL_QUORUM_LOST ? rules->quorum_up : rules->quorum_down;

	if (!rules->quorum_up)
		state->quorum = POOL_QUORUM_UNKNOWN;
	else
		state->quorum = state->well < least ? POOL_QUORUM_LOST : POOL_QUORUM_THERE;
}

static bool is_panic(const struct pool_rules *rules, const struct pool_member *members, size_t count)
{
	uint64_t well = 0, all = 0;

	for (size_t i = 0; i < count; i++) {
		const struct pool_member *m = &members[i];

		if (m->sorry || m->fitness == POOL_OUT)
			continue;
		all += m->weight;
		well += is_well(m) ? m->weight : 0;
	}
	return well * 100 < all * rules->panic;
}

// The base of each member: what it has if nobody asks for shares; in result.
static void choose(struct pool_member *members, size_t count, const struct pool_state *state)
{
	for (size_t i = 0; i < count; i++) {
		struct pool_member *m = &members[i];

		m->result = 0;
		if (m->sorry != state->sorry)
			continue;
		if (m->fitness == POOL_WELL)
			m->result = m->now;
		else if (m->fitness == POOL_SICK && state->panic)
			m->result = m->weight;
	}
}

// What is left in the preferred zones and beside them, and what the preferred ones must have to keep all.
struct zones {
	uint64_t local, others; // bases
	uint64_t stays, goes;   // connections, as a ratio; goes 0: all stay
};

static struct zones weigh_zones(
	const struct pool_rules *rules, const struct pool_member *members, size_t count, const struct pool_state *state)
{
	struct zones zones = { .stays = 1 };
	uint64_t capacity = 0;

	if (!rules->zones || state->sorry)
		return zones;
	for (size_t i = 0; i < count; i++) {
		*(members[i].local ? &zones.local : &zones.others) += members[i].result;
		// one that drains is missed like any other
		capacity += members[i].local && !members[i].sorry ? members[i].weight : 0;
	}
	const uint64_t needed = capacity * rules->spill, left = zones.local * 100;

	if (!zones.local && zones.others) {
		zones.stays = 0;
		zones.goes = 1;
	} else if (left < needed && zones.others) {
		zones.stays = left;
		zones.goes = needed - left;
	}
	return zones;
}

static void shorten(uint64_t *a, uint64_t *b)
{
	while (*a >= RATIO_MAX || *b >= RATIO_MAX) {
		*a = *a > 1 ? *a / 2 : *a;
		*b = *b > 1 ? *b / 2 : *b;
	}
}

// Bases such that local and others are to each other as asked for, whichever shares come on top.
static void scale_bases(struct pool_member *members, size_t count, struct zones zones)
{
	uint64_t most = 1;

	shorten(&zones.local, &zones.others);
	shorten(&zones.stays, &zones.goes);
	const uint64_t here = zones.stays * zones.others, there = zones.goes * zones.local;

	for (size_t i = 0; i < count; i++) {
		const uint64_t base = members[i].result * (members[i].local ? here : there);

		most = base > most ? base : most;
	}
	const uint64_t divisor = (most + SPLIT_WEIGHT_MAX - 1) / SPLIT_WEIGHT_MAX;

	for (size_t i = 0; i < count; i++) {
		const uint64_t base = members[i].result * (members[i].local ? here : there) / divisor;

		if (members[i].result)
			members[i].result = base ? (uint32_t)base : 1;
	}
}

static int divide(const struct pool_rules *rules, struct split_group *groups, size_t group_count,
	struct pool_member *members, size_t count, bool by_zone)
{
	_cleanup_free_ struct split_member *parts = calloc(count + 1, sizeof(*parts));

	if (!parts)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		parts[i] = (struct split_member) { .group = by_zone ? members[i].local : members[i].version,
			.base = members[i].result };
	split_weights(groups, group_count, parts, count, rules->buckets);
	for (size_t i = 0; i < count; i++)
		members[i].result = parts[i].weight;
	return 0;
}

static uint8_t percent(const struct zones *zones)
{
	const uint64_t all = zones->stays + zones->goes, part = (zones->stays * 100 + all / 2) / all;

	// what is left of either side is not nothing
	if (zones->stays && zones->goes)
		return (uint8_t)(part < 1 ? 1 : part > 99 ? 99 : part);
	return (uint8_t)part;
}

int pool_weights(const struct pool_rules *rules, struct split_group *split, size_t split_count,
	struct pool_member *members, size_t count, struct pool_state *state)
{
	struct pool_state next = { .quorum = state->quorum };
	bool sorry_well = false;

	for (size_t i = 0; i < count; i++) {
		next.well += !members[i].sorry && is_well(&members[i]);
		sorry_well |= members[i].sorry && is_well(&members[i]);
	}
	judge_quorum(rules, &next);
	next.sorry = next.quorum == POOL_QUORUM_LOST && sorry_well;
	next.panic = !next.sorry && is_panic(rules, members, count);
	choose(members, count, &next);
	const struct zones zones = weigh_zones(rules, members, count, &next);

	next.local = percent(&zones);
	for (size_t i = 0; i < count; i++)
		if (rules->zones && !next.sorry && (members[i].local ? !zones.stays : !zones.goes))
			members[i].result = 0;
	const bool spills = !next.sorry && zones.stays && zones.goes;
	struct split_group sides[] = { { .share = 100u - next.local }, { .share = next.local } };
	int rc = 0;

	if (split_count && spills)
		scale_bases(members, count, zones);
	if (split_count && !next.sorry)
		rc = divide(rules, split, split_count, members, count, false);
	else if (spills)
		rc = divide(rules, sides, ARRAY_SIZE(sides), members, count, true);
	if (!rc)
		*state = next;
	return rc;
}
