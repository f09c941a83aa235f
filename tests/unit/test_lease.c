// SPDX-License-Identifier: Apache-2.0
#include "director/lease.h"

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int lost_count, reaped_count;

static void lost(void *ctx, struct agent *agent)
{
	(void)ctx;
	assert_true(agent->lost);
	lost_count++;
}

static void reap(void *ctx, struct agent *agent)
{
	reaped_count++;
	model_remove_agent(ctx, agent);
}

static void test_life(void **state)
{
	struct model model = { 0 };
	struct agent *a = model_add_agent(&model, "a"), *b = model_add_agent(&model, "b");

	(void)state;
	lost_count = reaped_count = 0;
	a->ttl_ms = 1000;
	b->ttl_ms = 5000;
	assert_false(lease_renew(a, 0, 60000));
	assert_false(lease_renew(b, 0, 60000));
	assert_int_equal(lease_next(&model), 1000);
	lease_expire(&model, 999, lost, reap, &model);
	assert_int_equal(lost_count, 0);
	lease_expire(&model, 1000, lost, reap, &model);
	assert_int_equal(lost_count, 1);
	lease_expire(&model, 1001, lost, reap, &model);
	assert_int_equal(lost_count, 1); // told once
	assert_int_equal(lease_next(&model), 5000);
	assert_true(lease_renew(a, 2000, 60000)); // back
	assert_false(a->lost);
	assert_int_equal(lease_next(&model), 3000);
	lease_expire(&model, 5000, lost, reap, &model);
	assert_int_equal(lost_count, 3);
	lease_expire(&model, 62999, lost, reap, &model);
	assert_int_equal(reaped_count, 0);
	lease_expire(&model, 65000, lost, reap, &model);
	assert_int_equal(reaped_count, 2);
	assert_int_equal(lease_next(&model), -1);
	model_clear(&model);
}

static void test_what_was_not_listened_to(void **state)
{
	struct model model = { 0 };
	struct agent *held = model_add_agent(&model, "held"), *gone = model_add_agent(&model, "gone");

	(void)state;
	lost_count = reaped_count = 0;
	held->ttl_ms = 5000;
	gone->ttl_ms = 1000;
	lease_renew(held, 0, 60000);
	lease_renew(gone, 0, 60000);
	lease_expire(&model, 1000, lost, reap, &model);
	assert_true(gone->lost);
	lease_stretch(&model, 7000); // from 1000 to 8000
	lease_expire(&model, 11999, lost, reap, &model);
	assert_int_equal(lost_count, 1);
	assert_int_equal(lease_next(&model), 12000);
	lease_expire(&model, 12000, lost, reap, &model);
	assert_int_equal(lost_count, 2);
	lease_expire(&model, 67999, lost, reap, &model);
	assert_int_equal(reaped_count, 0);
	lease_expire(&model, 72000, lost, reap, &model);
	assert_int_equal(reaped_count, 2);
	model_clear(&model);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_life),
		cmocka_unit_test(test_what_was_not_listened_to) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
