// SPDX-License-Identifier: Apache-2.0
#include "director/split.h"

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GROUPS 150
#define MEMBERS 2000

static struct split_group groups[GROUPS];
static struct split_member members[MEMBERS];

static uint64_t sum_of(size_t group, size_t count)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < count; i++)
		sum += members[i].group == (int)group ? members[i].weight : 0;
	return sum;
}

static void assert_exact(size_t group_count, size_t member_count)
{
	for (size_t a = 0; a < group_count; a++) {
		assert_int_equal(groups[a].total, sum_of(a, member_count));
		for (size_t b = 0; b < a; b++)
			if (groups[a].usable && groups[b].usable)
				assert_int_equal(groups[a].total * groups[b].share, groups[b].total * groups[a].share);
	}
}

static void assert_members(size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct split_member *m = &members[i];
		bool usable = m->group >= 0 && m->base && groups[m->group].share;

		assert_true(m->weight <= SPLIT_WEIGHT_MAX);
		assert_int_equal(m->weight > 0, usable);
	}
}

static void test_canary(void **state)
{
	(void)state;
	groups[0] = (struct split_group) { .share = 99 };
	groups[1] = (struct split_group) { .share = 1 };
	for (int i = 0; i < 13; i++)
		members[i] = (struct split_member) { .group = i >= 10, .base = 100 };
	assert_true(split_weights(groups, 2, members, 13, 0));
	assert_exact(2, 13);
	assert_members(13);
	assert_int_equal(groups[1].usable, 3);
	// members of one group are at most one apart, and nobody is more than 5 % off
	for (int i = 0; i < 10; i++)
		assert_true(members[i].weight * 200 >= groups[0].total * 19 &&
			members[i].weight * 200 <= groups[0].total * 21);
	assert_int_equal(members[10].weight, members[12].weight);
	assert_true(groups[0].total + groups[1].total <= 10000);
}

static void test_small_weights_where_that_is_exact(void **state)
{
	(void)state;
	groups[0] = (struct split_group) { .share = 50 };
	groups[1] = (struct split_group) { .share = 50 };
	for (int i = 0; i < 5; i++)
		members[i] = (struct split_member) { .group = i >= 3, .base = 100 };
	assert_true(split_weights(groups, 2, members, 5, 0));
	for (int i = 0; i < 5; i++)
		assert_int_equal(members[i].weight, i < 3 ? 2 : 3);
}

static void test_empty_groups_give_their_share(void **state)
{
	(void)state;
	for (int g = 0; g < 3; g++)
		groups[g] = (struct split_group) { .share = 10u * (uint32_t)(g + 1) };
	members[0] = (struct split_member) { .group = 0, .base = 100 };
	members[1] = (struct split_member) { .group = 1, .base = 0 }; // down
	members[2] = (struct split_member) { .group = 2, .base = 100 };
	members[3] = (struct split_member) { .group = -1, .base = 100 };
	assert_true(split_weights(groups, 3, members, 4, 0));
	assert_int_equal(groups[1].usable, 0);
	assert_int_equal(members[0].weight, 1);
	assert_int_equal(members[1].weight, 0);
	assert_int_equal(members[2].weight, 3);
	assert_int_equal(members[3].weight, 0);
	members[0].base = members[2].base = 0;
	assert_true(split_weights(groups, 3, members, 4, 0));
	for (int i = 0; i < 4; i++)
		assert_int_equal(members[i].weight, 0);
}

static void make_members(size_t from, size_t count, int group, uint32_t base)
{
	for (size_t i = from; i < from + count; i++)
		members[i] = (struct split_member) { .group = group, .base = base };
}

// The kernel's table (ip_vs_sh.c): bucket by bucket, each destination as many as it has weight, but at least one.
static void fill_sh(size_t count, uint64_t *got)
{
	size_t at = 0;
	uint32_t filled = 0;

	memset(got, 0, GROUPS * sizeof(*got));
	for (uint32_t bucket = 0; bucket < SPLIT_SH_BUCKETS; bucket++) {
		if (members[at].weight && members[at].group >= 0)
			got[members[at].group]++;
		if (++filled >= members[at].weight) {
			at = (at + 1) % count;
			filled = 0;
		}
	}
}

static void test_sh_has_256_buckets(void **state)
{
	static uint64_t got[GROUPS];

	(void)state;
	groups[0] = (struct split_group) { .share = 99 };
	groups[1] = (struct split_group) { .share = 1 };
	make_members(0, 10, 0, 100);
	make_members(10, 3, 1, 100);
	assert_false(split_weights(groups, 2, members, 13, SPLIT_SH_BUCKETS));
	assert_int_equal(groups[0].total + groups[1].total, 256);
	assert_int_equal(groups[1].total, 3); // one each; 2.56 is its due
	assert_members(13);
	// down: each of them fills a bucket all the same
	for (int i = 0; i < 5; i++)
		members[i].base = 0;
	assert_false(split_weights(groups, 2, members, 13, SPLIT_SH_BUCKETS));
	assert_int_equal(groups[0].total + groups[1].total, 251);
	fill_sh(13, got);
	assert_int_equal(got[0], groups[0].total);
	assert_int_equal(got[1], groups[1].total);
	// a sum that the shares divide is exact
	groups[1].share = groups[0].share = 1;
	members[0].base = 100;
	assert_true(split_weights(groups, 2, members, 13, SPLIT_SH_BUCKETS));
	assert_exact(2, 13);
}

static void test_sh_starves_nobody_while_there_are_buckets(void **state)
{
	static uint64_t got[GROUPS];

	(void)state;
	groups[0] = (struct split_group) { .share = 99 };
	groups[1] = (struct split_group) { .share = 1 };
	make_members(0, 1, 0, 100);
	make_members(1, 200, 1, 100);
	split_weights(groups, 2, members, 201, SPLIT_SH_BUCKETS);
	assert_members(201);
	fill_sh(201, got);
	assert_int_equal(got[0], 56);
	assert_int_equal(got[1], 200);
	// with more members than buckets some go without, but no version does
	make_members(1, 600, 1, 100);
	split_weights(groups, 2, members, 601, SPLIT_SH_BUCKETS);
	fill_sh(601, got);
	assert_int_equal(got[0] + got[1], 256);
	assert_true(got[0] >= 253 && got[1] > 0);
}

static void test_more_than_a_weight_can_say(void **state)
{
	(void)state;
	groups[0] = (struct split_group) { .share = 999999 };
	groups[1] = (struct split_group) { .share = 1 };
	make_members(0, 1, 0, 1);
	make_members(1, 1, 1, 1);
	assert_false(split_weights(groups, 2, members, 2, 0));
	assert_int_equal(members[1].weight, 1);
	assert_true(members[0].weight > 65000 && members[0].weight <= SPLIT_WEIGHT_MAX);
	// a canary of many small machines does not turn the shares round
	groups[0].share = 1;
	groups[1].share = 1000000;
	make_members(0, 1000, 0, 1);
	make_members(1000, 20, 1, 65535);
	split_weights(groups, 2, members, 1020, 0);
	assert_members(1020);
	assert_int_equal(groups[0].total, 1000);
	assert_true(groups[1].total > 20 * 65000);
}

// 50 to 50, with machines of one and two parts: 1 and 2 say it all.
static void test_shortest_cycle(void **state)
{
	(void)state;
	groups[0] = groups[1] = (struct split_group) { .share = 50 };
	for (int g = 0; g < 2; g++) {
		make_members((size_t)g * 2, 1, g, 100);
		make_members((size_t)g * 2 + 1, 1, g, 200);
	}
	assert_true(split_weights(groups, 2, members, 4, 0));
	assert_exact(2, 4);
	for (int i = 0; i < 4; i++)
		assert_int_equal(members[i].weight, 1 + i % 2);
}

// The slots of ip_vs_mh.c: rounds of weights shifted below 64, in the order of the list, until all are filled.
static void fill_mh(size_t count, uint64_t *got)
{
	uint32_t most = 0, shift = 0;
	uint64_t slots = SPLIT_MH_SLOTS;

	memset(got, 0, GROUPS * sizeof(*got));
	for (size_t i = 0; i < count; i++)
		most = members[i].weight > most ? members[i].weight : most;
	while (most >> shift > SPLIT_MH_TURNS)
		shift++;
	while (slots) {
		for (size_t i = 0; i < count && slots; i++) {
			uint64_t turns = members[i].weight >> shift;

			turns = !turns && members[i].weight ? 1 : turns;
			turns = turns > slots ? slots : turns;
			slots -= turns;
			if (members[i].group >= 0)
				got[members[i].group] += turns;
		}
	}
}

// What 99 to 1 is of 4,093 slots: within one round of what it is due.
static void test_mh_shifts_no_weight_away(void **state)
{
	static uint64_t got[GROUPS];

	(void)state;
	groups[0] = (struct split_group) { .share = 99 };
	groups[1] = (struct split_group) { .share = 1 };
	for (size_t canaries = 1; canaries <= 3; canaries++) {
		make_members(0, 10, 0, 100);
		make_members(10, canaries, 1, 100);
		assert_true(split_weights(groups, 2, members, 10 + canaries, SPLIT_MH_SLOTS));
		assert_exact(2, 10 + canaries);
		assert_members(10 + canaries);
		for (size_t i = 0; i < 10 + canaries; i++)
			assert_true(members[i].weight <= SPLIT_MH_TURNS);
		fill_mh(10 + canaries, got);
		assert_true(got[1] >= 30 && got[1] <= 45);
	}
}

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

// Whatever the shares and members: told the truth about exactness, everybody gets something, the larger share never the
// smaller sum (but for groups that are held up by the number of their members), and no table is overfilled.
static void test_any_shares_and_members(void **state)
{
	static const uint32_t tables[] = { 0, SPLIT_SH_BUCKETS, SPLIT_MH_SLOTS };
	uint32_t seed = 7;
	int inexact = 0;

	(void)state;
	for (int round = 0; round < 6000; round++) {
		size_t group_count = 1 + next_random(&seed) % (round % 10 ? 6 : 142), member_count = 0;
		uint32_t slots = tables[round % 3], most = round % 7 ? 300 : 65535;
		uint64_t sum = 0;

		for (size_t g = 0; g < group_count; g++) {
			groups[g] = (struct split_group) { .share = next_random(&seed) % (round % 5 ? 100 : 1000001) };
			for (uint32_t i = next_random(&seed) % 12; i > 0; i--)
				members[member_count++] = (struct split_member) { (int)g,
					next_random(&seed) % 5 ? 100 : next_random(&seed) % (most + 1), 0 };
		}
		bool exact = split_weights(groups, group_count, members, member_count, slots);

		if (exact)
			assert_exact(group_count, member_count);
		inexact += !exact;
		if (slots != SPLIT_SH_BUCKETS || member_count <= SPLIT_SH_BUCKETS)
			assert_members(member_count);
		for (size_t a = 0; a < group_count; a++) {
			sum += groups[a].total;
			for (size_t b = 0; b < group_count; b++)
				if (groups[a].usable && groups[b].usable && groups[a].share > groups[b].share &&
					groups[b].total > groups[b].usable)
					assert_true(groups[a].total + 1 >= groups[b].total);
		}
		if (slots)
			assert_true(sum <= slots);
	}
	assert_true(inexact > 100 && inexact < 5000); // both ways were taken
}

// The kernel's weighted round robin (ip_vs_wrr.c): from the largest weight down in steps of the common divisor.
struct wrr {
	size_t at;
	int64_t current, most, step;
};

static uint64_t divisor_of(uint64_t a, uint64_t b)
{
	return b ? divisor_of(b, a % b) : a;
}

static struct wrr wrr_start(size_t count)
{
	struct wrr wrr = { 0 };
	uint64_t step = 0;

	for (size_t i = 0; i < count; i++) {
		if ((int64_t)members[i].weight > wrr.most)
			wrr.most = members[i].weight;
		if (members[i].weight)
			step = divisor_of(step, members[i].weight);
	}
	wrr.step = (int64_t)step;
	wrr.current = wrr.most;
	return wrr;
}

static size_t wrr_pick(struct wrr *wrr, size_t count)
{
	for (;;) {
		if (wrr->at == count) {
			wrr->at = 0;
			wrr->current -= wrr->step;
			if (wrr->current <= 0)
				wrr->current = wrr->most;
		}
		if ((int64_t)members[wrr->at++].weight >= wrr->current)
			return wrr->at - 1;
	}
}

// 142 versions, 10,000 connections: each within four standard deviations of a fair draw, and a whole cycle exact.
static void test_what_the_kernel_makes_of_it(void **state)
{
	static uint64_t got[GROUPS];
	size_t count = 0;
	uint64_t shares = 0, cycle = 0;

	(void)state;
	memset(got, 0, sizeof(got));
	for (size_t g = 0; g < 142; g++) {
		groups[g] = (struct split_group) { .share = 1 + (uint32_t)g % 5 };
		shares += groups[g].share;
		for (size_t i = 0; i < 1 + g % 3; i++)
			members[count++] = (struct split_member) { .group = (int)g, .base = 100 };
	}
	assert_true(split_weights(groups, 142, members, count, 0));
	assert_exact(142, count);
	struct wrr wrr = wrr_start(count);
	for (int i = 0; i < 10000; i++)
		got[members[wrr_pick(&wrr, count)].group]++;
	for (size_t g = 0; g < 142; g++) {
		double p = (double)groups[g].share / (double)shares, mean = 10000 * p, variance = mean * (1 - p);
		double off = (double)got[g] - mean;

		if (off * off > 16 * variance)
			fail_msg("version %zu: %lu of 10000, its share is %.1f", g, (unsigned long)got[g], mean);
	}
	for (size_t g = 0; g < 142; g++)
		cycle += groups[g].total;
	cycle /= (uint64_t)wrr.step;
	memset(got, 0, sizeof(got));
	wrr = wrr_start(count);
	for (uint64_t i = 0; i < cycle; i++)
		got[members[wrr_pick(&wrr, count)].group]++;
	for (size_t g = 0; g < 142; g++)
		assert_int_equal(got[g] * shares, cycle * groups[g].share);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_canary),
		cmocka_unit_test(test_small_weights_where_that_is_exact),
		cmocka_unit_test(test_empty_groups_give_their_share), cmocka_unit_test(test_sh_has_256_buckets),
		cmocka_unit_test(test_sh_starves_nobody_while_there_are_buckets), cmocka_unit_test(test_shortest_cycle),
		cmocka_unit_test(test_mh_shifts_no_weight_away), cmocka_unit_test(test_more_than_a_weight_can_say),
		cmocka_unit_test(test_any_shares_and_members), cmocka_unit_test(test_what_the_kernel_makes_of_it) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
