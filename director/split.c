// SPDX-License-Identifier: Apache-2.0
// First the sum of each group, then its division among the members; both are the same problem, `apportion`. All
// arithmetic is in whole numbers. With shares up to a million, 200,000 members and weights up to 65,535 no product
// comes near 2^64.
#include "director/split.h"

#include <stdlib.h>

#define ERROR_DIVISOR 20u // 1/20: 5 %

// What a scheduler bears. A cycle is the sum of the weights: of all multiples of the shares the smallest is taken, so
// the weights have no common divisor.
struct bounds {
	uint64_t weight; // the largest
	uint64_t exact;  // longest cycle for the sake of exact proportions inside the groups
	uint64_t near;   // for proportions that are 5 % off at most
	uint64_t sum;    // of all weights, at most
};

// ip_vs_wrr.c and those that compare connections by weight.
static const struct bounds plain = { SPLIT_WEIGHT_MAX, 2000, 10000, UINT64_MAX };
// ip_vs_mh.c. A table is filled by rounds of weights, so the last round is cut short by up to one cycle: with ten
// rounds nobody gets more than a tenth too much.
static const struct bounds maglev = { SPLIT_MH_TURNS, SPLIT_MH_SLOTS / 10, SPLIT_MH_SLOTS / 10, SPLIT_MH_SLOTS };

// Somebody who gets a part of a total.
struct claim {
	size_t at;      // index of the group or member, for order
	uint64_t base;  // in proportion to this
	uint64_t least; // but at least this
	uint64_t part;  // out
	uint64_t lack;  // what rounding down took away
};

// What is known of a group while weights are sought.
struct sums {
	uint64_t share;   // reduced; 0: nobody is usable
	uint64_t base;    // sum of its members' own weights
	uint64_t divisor; // common to them
	uint64_t most;    // the largest of them
	uint64_t room;    // largest sum that can be divided in proportion
	struct claim *claims;
	size_t count;
};

static bool is_usable(const struct split_group *groups, const struct split_member *member)
{
	return member->group >= 0 && member->base && groups[member->group].share;
}

static uint64_t gcd(uint64_t a, uint64_t b)
{
	while (b) {
		uint64_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static uint64_t at_least(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t at_most(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t divide_up(uint64_t a, uint64_t b)
{
	return (a + b - 1) / b;
}

// Who needs the larger total to have his least comes first.
static int by_need(const void *a, const void *b)
{
	const struct claim *left = a, *right = b;
	uint64_t l = left->base * right->least, r = right->base * left->least;

	if (l != r)
		return l < r ? -1 : 1;
	return left->at < right->at ? -1 : 1;
}

static int by_lack(const void *a, const void *b)
{
	const struct claim *left = a, *right = b;

	if (left->lack != right->lack)
		return left->lack > right->lack ? -1 : 1;
	return left->at < right->at ? -1 : 1; // the first of equals
}

// Divides a total in proportion to the bases, by largest remainder. Those whose due is below their least get the least,
// and the others share what is left: the due of all others becomes smaller by that, so one walk from the neediest on
// finds them all. The leasts must add up to no more than the total.
static void apportion(struct claim *claims, size_t count, uint64_t total)
{
	uint64_t base = 0, left;
	size_t first = 0;

	if (!count)
		return;
	for (size_t i = 0; i < count; i++)
		base += claims[i].base;
	qsort(claims, count, sizeof(*claims), by_need);
	for (; first < count && total * claims[first].base < claims[first].least * base; first++) {
		claims[first].part = claims[first].least;
		total -= claims[first].least;
		base -= claims[first].base;
	}
	if (first == count)
		return;
	left = total;
	for (size_t i = first; i < count; i++) {
		claims[i].part = total * claims[i].base / base;
		claims[i].lack = total * claims[i].base % base;
		left -= claims[i].part;
	}
	qsort(claims + first, count - first, sizeof(*claims), by_lack);
	for (size_t i = first; left; i++, left--)
		claims[i].part++;
}

// Would the division of this total leave everybody within 5 % of his due, whichever way it is rounded?
static bool is_near(const struct sums *sums, uint64_t total)
{
	uint64_t last = 0;

	for (size_t i = 0; i < sums->count; i++) {
		uint64_t base = sums->claims[i].base, due = total * base, rest = due % sums->base;

		if (due >= ERROR_DIVISOR * sums->base)
			return true; // off by less than 1 of 20 or more, and so is everybody after him
		if (base == last)
			continue;
		last = base;
		if (rest && (ERROR_DIVISOR * rest > due || ERROR_DIVISOR * (sums->base - rest) > due))
			return false;
	}
	return true;
}

static bool all_near(const struct sums *sums, size_t count, uint64_t multiple)
{
	for (size_t g = 0; g < count; g++)
		if (sums[g].share && !is_near(&sums[g], multiple * sums[g].share))
			return false;
	return true;
}

// The multiple of the shares that the groups' sums are to be, 0: there is none.
static uint64_t find_multiple(const struct sums *sums, size_t count, uint64_t shares, const struct bounds *bounds)
{
	uint64_t least = 1, most = bounds->sum / shares, exact = 1, due = 1;

	for (size_t g = 0; g < count; g++) {
		const struct sums *s = &sums[g];

		if (!s->share)
			continue;
		least = at_least(least, divide_up(s->count, s->share)); // 1 for everybody
		most = at_most(most, s->room / s->share);
		due = at_least(due, divide_up(s->base, s->share * s->claims[0].base)); // and nobody more than he is due
		if (exact * shares <= bounds->exact) {
			uint64_t step = s->base / s->divisor; // smallest sum without remainders

			step /= gcd(step, s->share);
			exact *= step / gcd(step, exact);
		}
	}
	if (least > most)
		return 0;
	if (exact * shares <= bounds->exact && exact <= most)
		return exact;
	for (uint64_t m = least; m <= most && m * shares <= bounds->near; m++)
		if (all_near(sums, count, m))
			return m;
	// proportions inside the groups are as near as the cycle permits; the groups themselves stay exact
	return at_most(at_most(due, most), at_least(least, bounds->near / shares));
}

// A sum for all groups together, by largest remainder. Everybody gets 1 if there is enough of it; else every group.
static void divide_sum(
	struct split_group *groups, const struct sums *sums, size_t count, struct claim *claims, uint64_t sum)
{
	uint64_t members = 0;
	size_t n = 0;

	for (size_t g = 0; g < count; g++) {
		if (!sums[g].share)
			continue;
		members += sums[g].count;
		claims[n++] = (struct claim) { .at = g, .base = sums[g].share, .least = sums[g].count };
	}
	for (size_t i = 0; members > sum && i < n; i++)
		claims[i].least = n <= sum;
	apportion(claims, n, sum);
	for (size_t i = 0; i < n; i++)
		groups[claims[i].at].total = claims[i].part;
}

// Sums on the largest scale that the weights permit, each rounded to the nearest, and at least 1 for every member.
static uint64_t nearest_totals(struct split_group *groups, const struct sums *sums, size_t count)
{
	const struct sums *bound = NULL; // whose room ends the scale
	uint64_t sum = 0;

	for (size_t g = 0; g < count; g++)
		if (sums[g].share && (!bound || sums[g].room * bound->share < bound->room * sums[g].share))
			bound = &sums[g];
	for (size_t g = 0; g < count; g++) {
		if (!sums[g].share)
			continue;
		uint64_t due = (sums[g].share * bound->room + bound->share / 2) / bound->share;

		groups[g].total = at_least(at_most(due, sums[g].room), sums[g].count);
		sum += groups[g].total;
	}
	return sum;
}

// Members sorted into their groups, each group by base. claims: room for all members.
static void gather(const struct split_group *groups, size_t group_count, const struct split_member *members,
	size_t member_count, struct sums *sums, struct claim *claims, uint64_t weight_max)
{
	for (size_t g = 0; g < group_count; g++) {
		sums[g].claims = claims;
		claims += groups[g].usable;
	}
	for (size_t i = 0; i < member_count; i++) {
		const struct split_member *m = &members[i];

		if (!is_usable(groups, m))
			continue;
		struct sums *s = &sums[m->group];

		s->base += m->base;
		s->divisor = gcd(s->divisor, m->base);
		s->most = at_least(s->most, m->base);
		s->claims[s->count++] = (struct claim) { .at = i, .base = m->base, .least = 1 };
	}
	for (size_t g = 0; g < group_count; g++) {
		if (!sums[g].count)
			continue;
		qsort(sums[g].claims, sums[g].count, sizeof(*claims), by_need);
		for (size_t i = 0; i < sums[g].count; i++)
			sums[g].room += at_least(1, weight_max * sums[g].claims[i].base / sums[g].most);
	}
}

static void find_totals(struct split_group *groups, const struct sums *sums, size_t count, uint64_t shares,
	struct claim *claims, const struct bounds *bounds)
{
	uint64_t multiple = find_multiple(sums, count, shares, bounds);

	for (size_t g = 0; g < count; g++)
		groups[g].total = multiple * sums[g].share;
	if (!multiple && nearest_totals(groups, sums, count) > bounds->sum)
		divide_sum(groups, sums, count, claims, bounds->sum);
}

static void divide_groups(
	const struct split_group *groups, const struct sums *sums, size_t count, struct split_member *members)
{
	for (size_t g = 0; g < count; g++) {
		struct claim *claims = sums[g].claims;

		for (size_t i = 0; groups[g].total < sums[g].count && i < sums[g].count; i++)
			claims[i].least = 0; // more members than buckets
		apportion(claims, sums[g].count, groups[g].total);
		for (size_t i = 0; i < sums[g].count; i++)
			members[claims[i].at].weight = (uint32_t)claims[i].part;
	}
}

static bool are_exact(const struct split_group *groups, const struct sums *sums, size_t count)
{
	const struct split_group *first = NULL;

	for (size_t g = 0; g < count; g++) {
		if (!sums[g].share)
			continue;
		if (!first)
			first = &groups[g];
		if (groups[g].total * first->share != first->total * groups[g].share)
			return false;
	}
	return true;
}

bool split_weights(struct split_group *groups, size_t group_count, struct split_member *members, size_t member_count,
	uint32_t buckets)
{
	const struct bounds *bounds = buckets == SPLIT_MH_SLOTS ? &maglev : &plain;
	struct sums *sums = calloc(group_count + 1, sizeof(*sums));
	struct claim *claims = calloc(member_count + 1, sizeof(*claims)),
		     *of_groups = calloc(group_count + 1, sizeof(*claims));
	uint64_t divisor = 0, shares = 0, usable = 0;
	bool exact = false;

	for (size_t g = 0; g < group_count; g++)
		groups[g].usable = 0, groups[g].total = 0;
	for (size_t i = 0; i < member_count; i++) {
		members[i].weight = 0;
		if (is_usable(groups, &members[i]))
			groups[members[i].group].usable++, usable++;
	}
	if (!sums || !claims || !of_groups) // nobody gets connections until there is memory again
		goto out;
	gather(groups, group_count, members, member_count, sums, claims, bounds->weight);
	for (size_t g = 0; g < group_count; g++)
		if (groups[g].usable)
			divisor = gcd(divisor, groups[g].share);
	for (size_t g = 0; g < group_count; g++) {
		sums[g].share = groups[g].usable ? groups[g].share / divisor : 0;
		shares += sums[g].share;
	}
	if (shares && buckets == SPLIT_SH_BUCKETS) {
		// ip_vs_sh_reassign: a destination without weight fills a bucket, too
		bool is_room = member_count <= SPLIT_SH_BUCKETS;

		divide_sum(groups, sums, group_count, of_groups,
			is_room ? SPLIT_SH_BUCKETS - (member_count - usable) : SPLIT_SH_BUCKETS);
	} else if (shares) {
		find_totals(groups, sums, group_count, shares, of_groups, bounds);
	}
	divide_groups(groups, sums, group_count, members);
	exact = are_exact(groups, sums, group_count);
out:
	free(of_groups);
	free(claims);
	free(sums);
	return exact;
}
