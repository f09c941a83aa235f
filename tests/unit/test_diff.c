// SPDX-License-Identifier: Apache-2.0
#include "shared/diff.h"

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct walk {
	char seen[64];
	int stop_at; // a key, 0: never
};

static int compare(const void *want, const void *have)
{
	return *(const int *)want - *(const int *)have;
}

// "+3" only wanted, "-3" only there, "=3" both
static int visit(void *ctx, const void *want, const void *have)
{
	struct walk *walk = ctx;
	const int key = *(const int *)(want ? want : have);
	size_t len = strlen(walk->seen);

	snprintf(walk->seen + len, sizeof(walk->seen) - len, "%c%d", want && have ? '=' : want ? '+' : '-', key);
	return key == walk->stop_at ? -7 : 0;
}

static int walk_over(struct walk *walk, const int *want, size_t want_count, const int *have, size_t have_count)
{
	return diff_sorted((struct diff_list) { want, want_count, sizeof(int) },
		(struct diff_list) { have, have_count, sizeof(int) }, compare, visit, walk);
}

static void each_key_is_visited_once_in_order(void **state)
{
	static const int want[] = { 1, 3, 4, 9 }, have[] = { 2, 3, 5, 9 };
	struct walk walk = { 0 };

	(void)state;
	assert_int_equal(walk_over(&walk, want, 4, have, 4), 0);
	assert_string_equal(walk.seen, "+1-2=3+4-5=9");
}

static void either_list_may_be_empty(void **state)
{
	static const int keys[] = { 1, 2 };
	struct walk none = { 0 }, add = { 0 }, remove = { 0 };

	(void)state;
	assert_int_equal(walk_over(&none, NULL, 0, NULL, 0), 0);
	assert_string_equal(none.seen, "");
	assert_int_equal(walk_over(&add, keys, 2, NULL, 0), 0);
	assert_string_equal(add.seen, "+1+2");
	assert_int_equal(walk_over(&remove, NULL, 0, keys, 2), 0);
	assert_string_equal(remove.seen, "-1-2");
}

static void a_visit_ends_the_walk(void **state)
{
	static const int want[] = { 1, 2, 3 }, have[] = { 2 };
	struct walk walk = { .stop_at = 2 };

	(void)state;
	assert_int_equal(walk_over(&walk, want, 3, have, 1), -7);
	assert_string_equal(walk.seen, "+1=2");
}

// Applying what the walk says turns "have" into "want", whatever they are.
static void the_difference_leads_from_one_to_the_other(void **state)
{
	enum { KEYS = 12, ROUNDS = 2000 };
	uint32_t random = 1;

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		int want[KEYS], have[KEYS];
		size_t want_count = 0, have_count = 0;
		char expected[64] = "";

		for (int key = 1; key <= KEYS; key++) {
			random = random * 1664525 + 1013904223;
			bool in_want = random >> 30 & 1, in_have = random >> 31;

			if (in_want)
				want[want_count++] = key;
			if (in_have)
				have[have_count++] = key;
			size_t len = strlen(expected);
			if (in_want || in_have)
				snprintf(expected + len, sizeof(expected) - len, "%c%d",
					in_want && in_have ? '='
						: in_want  ? '+'
							   : '-',
					key);
		}
		struct walk walk = { 0 };
		assert_int_equal(walk_over(&walk, want, want_count, have, have_count), 0);
		assert_string_equal(walk.seen, expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_key_is_visited_once_in_order),
		cmocka_unit_test(either_list_may_be_empty),
		cmocka_unit_test(a_visit_ends_the_walk),
		cmocka_unit_test(the_difference_leads_from_one_to_the_other),
	};

	return cmocka_run_group_tests_name("diff", tests, NULL, NULL);
}
