// SPDX-License-Identifier: Apache-2.0
#include "director/health.h"

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct judge_rules rules = { JUDGE_DEFAULTS };

static bool record(struct backend_health *h, bool passed, const char *reason, msec_t now_ms)
{
	return health_record(h, &rules, 1000, passed, reason, now_ms);
}

static void test_ring(void **state)
{
	struct backend_health h = { 0 };

	(void)state;
	assert_true(health_ratio(&h) == 1.0);
	assert_true(record(&h, true, "ok", 10)); // unknown -> up
	assert_int_equal(h.judge.since_ms, 10);
	assert_true(record(&h, false, "refused", 20));
	assert_int_equal(h.judge.verdict, JUDGE_DOWN);
	assert_string_equal(h.reason, "refused");
	assert_int_equal(h.judge.since_ms, 20);
	assert_false(record(&h, false, "still", 30));
	assert_string_equal(h.reason, "still");
	assert_int_equal(h.judge.since_ms, 20);
	assert_true(record(&h, true, "ok", 40));
	assert_string_equal(h.reason, "still"); // why it was down
	assert_true(health_ratio(&h) == 0.5);
	// the first four leave the ring after 100 more
	for (int i = 0; i < MODEL_HEALTH_RING - 1; i++)
		record(&h, true, "ok", 50);
	assert_int_equal(h.filled, MODEL_HEALTH_RING);
	assert_int_equal(h.passed, MODEL_HEALTH_RING);
	record(&h, false, "x", 60);
	assert_true(health_ratio(&h) == 0.99);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ring) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
