// SPDX-License-Identifier: Apache-2.0
#include "agent/load.h"

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void assert_share(const struct load_state *s, double want)
{
	assert_true(s->share > want - 1e-6 && s->share < want + 1e-6);
}

static void test_falls_quickly_and_rises_slowly(void **state)
{
	struct load_state s = { 0 };

	(void)state;
	assert_false(load_judge(&s, 0, 7)); // what was counted before does not count
	assert_share(&s, 1);
	assert_true(load_judge(&s, 80, 7)); // 20 % is left, but not at once
	assert_share(&s, 0.75);
	for (int i = 0; i < 10; i++)
		load_judge(&s, 80, 7);
	assert_share(&s, 0.2);
	assert_true(load_judge(&s, 0, 7));
	assert_share(&s, 0.25);
	for (int i = 0; i < 15; i++)
		load_judge(&s, 0, 7);
	assert_share(&s, 1);
	assert_true(s.told > 1 - 1e-9); // all of it is told, however little was missing
}

static void test_small_changes_are_kept_to_itself(void **state)
{
	struct load_state s = { 0 };
	int told = 0;

	(void)state;
	load_judge(&s, 0, 0);
	for (int i = 0; i < 1000; i++)
		told += load_judge(&s, i % 2 ? 3 : 0, 0);
	assert_int_equal(told, 0);
	for (int i = 0; i < 1000; i++)
		told += load_judge(&s, 40 + i % 4, 0);
	assert_true(told <= 3); // on the way there
}

static void test_a_full_listen_queue_halves_the_weight(void **state)
{
	struct load_state s = { 0 };
	uint64_t overflows = 100;

	(void)state;
	load_judge(&s, -1, overflows);
	assert_true(load_judge(&s, -1, ++overflows));
	assert_share(&s, 0.75);
	load_judge(&s, -1, ++overflows);
	assert_share(&s, 0.5);
	load_judge(&s, -1, ++overflows);
	assert_share(&s, 0.25);
	load_judge(&s, -1, ++overflows);
	assert_share(&s, 0.125);
	assert_true(load_judge(&s, -1, overflows)); // over
	assert_share(&s, 0.175);
	load_judge(&s, -1, 0); // a counter that began anew is no overflow
	assert_share(&s, 0.225);
}

static void test_bounds(void **state)
{
	(void)state;
	assert_int_equal(load_weight(100, 20, 1), 100);
	assert_int_equal(load_weight(100, 20, 0.5), 50);
	assert_int_equal(load_weight(100, 20, 0.1), 20);
	assert_int_equal(load_weight(100, 20, 0), 20);
	assert_int_equal(load_weight(1, 1, 0), 1);
	assert_int_equal(load_weight(10, 20, 0), 10);
	assert_int_equal(load_weight(65535, 0, 0.999), 65469);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_falls_quickly_and_rises_slowly),
		cmocka_unit_test(test_small_changes_are_kept_to_itself),
		cmocka_unit_test(test_a_full_listen_queue_halves_the_weight), cmocka_unit_test(test_bounds) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
