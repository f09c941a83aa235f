// SPDX-License-Identifier: Apache-2.0
#include "director/health.h"

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_ring(void **state)
{
	struct backend_health h = { 0 };

	(void)state;
	assert_true(health_ratio(&h) == 1.0);
	assert_false(health_record(&h, true, "ok", 10));
	assert_int_equal(h.since_ms, 10);
	assert_true(health_record(&h, false, "refused", 20)); // up -> down
	assert_true(h.down);
	assert_string_equal(h.reason, "refused");
	assert_int_equal(h.since_ms, 20);
	assert_false(health_record(&h, false, "still", 30));
	assert_int_equal(h.since_ms, 20);
	assert_true(health_record(&h, true, "ok", 40)); // down -> up
	assert_true(health_ratio(&h) == 0.5);
	// the first four leave the ring after 100 more
	for (int i = 0; i < MODEL_HEALTH_RING - 1; i++)
		health_record(&h, true, "ok", 50);
	assert_int_equal(h.filled, MODEL_HEALTH_RING);
	assert_int_equal(h.passed, MODEL_HEALTH_RING);
	health_record(&h, false, "x", 60);
	assert_true(health_ratio(&h) == 0.99);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ring) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
