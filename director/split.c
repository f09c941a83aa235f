// SPDX-License-Identifier: Apache-2.0
// First the sum of each group, then its division among the members by largest remainder. All but the last resort is
// integer arithmetic.
#include "director/split.h"

#include <stdlib.h>
#include <string.h>

#define CYCLE_MAX 10000u  // sum of weights up to which nearer proportions inside a group are worth a longer cycle
#define ERROR_DIVISOR 20u // 1/20: 5 %

// What is known of a group while weights are sought.
struct sums {
	uint64_t base; // sum of its usable members' own weights
	uint32_t least, most;
	uint64_t share; // reduced
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

// Who is to get one more, and how much he lacks.
struct claim {
	struct split_member *member;
	uint64_t lack;
};

static int by_lack(const void *a, const void *b)
{
	const struct claim *left = a, *right = b;

	if (left->lack != right->lack)
		return left->lack > right->lack ? -1 : 1;
	return left->member < right->member ? -1 : 1; // the first of equals
}

// Divides a group's total among its members as their bases are: floors first, then one more each for the largest
// remainders. With at least as much to give as there are members, nobody gets nothing. claims: room for all members.
static void divide(const struct split_group *groups, int group, const struct sums *sums, struct split_member *members,
	size_t count, struct claim *claims)
{
	const uint64_t total = groups[group].total;
	uint64_t left = total;
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		struct split_member *m = &members[i];

		if (m->group != group || !is_usable(groups, m))
			continue;
		m->weight = (uint32_t)(total * m->base / sums->base);
		left -= m->weight;
		// who has nothing comes first
		claims[n++] = (struct claim) { m, total * m->base % sums->base + (m->weight ? 0 : sums->base) };
	}
	if (n)
		qsort(claims, n, sizeof(*claims), by_lack);
	for (size_t i = 0; i < n && left; i++, left--)
		claims[i].member->weight++;
}

// Can a total be divided so that nobody is more than 5 % off? Floors and ceilings are what members get.
static bool is_near(const struct sums *sums, uint32_t usable, uint64_t total)
{
	if (sums->least == sums->most && total % usable == 0)
		return true;
	// off by less than 1, which is at most 5 % of 20 or more
	return total * sums->least >= (uint64_t)ERROR_DIVISOR * sums->base;
}

static uint64_t smallest_multiple(const struct split_group *groups, const struct sums *sums, size_t count)
{
	uint64_t most = 1;

	for (size_t g = 0; g < count; g++) {
		if (!groups[g].usable)
			continue;
		// every member's due is at least 1
		uint64_t due = sums[g].share * sums[g].least, need = (sums[g].base + due - 1) / due;

		if (need > most)
			most = need;
	}
	return most;
}

static uint64_t find_multiple(const struct split_group *groups, const struct sums *sums, size_t count, uint64_t shares)
{
	const uint64_t least = smallest_multiple(groups, sums, count);

	for (uint64_t multiple = least; multiple * shares <= CYCLE_MAX; multiple++) {
		bool near = true;

		for (size_t g = 0; g < count && near; g++)
			near = !groups[g].usable || is_near(&sums[g], groups[g].usable, multiple * sums[g].share);
		if (near)
			return multiple;
	}
	return least;
}

// Totals in proportion to the shares that add up to `sum`, each at least the number of members. Not exact.
static void nearest_totals(
	struct split_group *groups, const struct sums *sums, size_t count, uint64_t shares, uint64_t sum)
{
	uint64_t given = 0;

	for (size_t g = 0; g < count; g++) {
		if (!groups[g].usable)
			continue;
		groups[g].total = sum * sums[g].share / shares;
		if (groups[g].total < groups[g].usable)
			groups[g].total = groups[g].usable;
		given += groups[g].total;
	}
	while (given != sum) {
		struct split_group *best = NULL;
		int64_t most = INT64_MIN;

		// give to who has least of its due, take from who has most and can spare it
		for (size_t g = 0; g < count; g++) {
			if (!groups[g].usable || (given > sum && groups[g].total <= groups[g].usable))
				continue;
			int64_t lack = (int64_t)(sum * sums[g].share) - (int64_t)(groups[g].total * shares);
			int64_t merit = given < sum ? lack : -lack;

			if (merit > most) {
				most = merit;
				best = &groups[g];
			}
		}
		if (!best)
			return; // more members than buckets
		best->total += given < sum ? 1 : (uint64_t)-1;
		given += given < sum ? 1 : (uint64_t)-1;
	}
}

// The largest sum of weights whose largest weight the kernel still takes.
static uint64_t largest_sum(const struct split_group *groups, const struct sums *sums, size_t count, uint64_t shares)
{
	double least = 1e18;

	for (size_t g = 0; g < count; g++) {
		if (!groups[g].usable)
			continue;
		double sum = (double)(SPLIT_WEIGHT_MAX - 1) * (double)sums[g].base / sums[g].most * (double)shares /
			(double)sums[g].share;

		if (sum < least)
			least = sum;
	}
	return (uint64_t)least;
}

static bool fits(const struct split_group *groups, const struct sums *sums, size_t count, uint64_t multiple)
{
	for (size_t g = 0; g < count; g++)
		if (groups[g].usable &&
			multiple * sums[g].share * sums[g].most > (uint64_t)(SPLIT_WEIGHT_MAX - 1) * sums[g].base)
			return false;
	return true;
}

static void add_up(const struct split_group *groups, const struct split_member *members, size_t count,
	struct sums *sums, struct split_group *ret)
{
	for (size_t i = 0; i < count; i++) {
		const struct split_member *m = &members[i];

		if (!is_usable(groups, m))
			continue;
		struct sums *s = &sums[m->group];

		s->base += m->base;
		s->least = !ret[m->group].usable || m->base < s->least ? m->base : s->least;
		s->most = m->base > s->most ? m->base : s->most;
		ret[m->group].usable++;
	}
}

bool split_weights(struct split_group *groups, size_t group_count, struct split_member *members, size_t member_count,
	uint32_t buckets)
{
	struct sums *sums = calloc(group_count ? group_count : 1, sizeof(*sums));
	struct claim *claims = calloc(member_count ? member_count : 1, sizeof(*claims));
	uint64_t divisor = 0, shares = 0;
	bool exact = true;

	for (size_t g = 0; g < group_count; g++)
		groups[g].usable = 0, groups[g].total = 0;
	for (size_t i = 0; i < member_count; i++)
		members[i].weight = 0;
	if (!sums || !claims) { // nobody gets connections until there is memory again
		free(sums);
		free(claims);
		return false;
	}
	add_up(groups, members, member_count, sums, groups);
	for (size_t g = 0; g < group_count; g++)
		if (groups[g].usable)
			divisor = gcd(divisor, groups[g].share);
	for (size_t g = 0; g < group_count; g++) {
		sums[g].share = groups[g].usable ? groups[g].share / divisor : 0;
		shares += sums[g].share;
	}
	if (shares) {
		uint64_t multiple = find_multiple(groups, sums, group_count, shares);

		exact = !buckets && fits(groups, sums, group_count, multiple);
		if (!exact)
			nearest_totals(groups, sums, group_count, shares,
				buckets ? buckets : largest_sum(groups, sums, group_count, shares));
		for (size_t g = 0; g < group_count; g++) {
			if (exact && groups[g].usable)
				groups[g].total = multiple * sums[g].share;
			if (groups[g].usable)
				divide(groups, (int)g, &sums[g], members, member_count, claims);
		}
	}
	free(sums);
	free(claims);
	return exact;
}
