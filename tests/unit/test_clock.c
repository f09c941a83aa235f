// SPDX-License-Identifier: Apache-2.0
#include "shared/clock.h"

#include <errno.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void test_parse(void **state)
{
	static const struct {
		const char *text;
		int rc;
		msec_t ms;
	} rows[] = { { "500ms", 0, 500 }, { "30s", 0, 30000 }, { "5m", 0, 300000 }, { "2h", 0, 7200000 },
		{ "1d", 0, 86400000 }, { "0s", 0, 0 }, { "365d", 0, (msec_t)365 * 86400000 }, { "366d", -ERANGE, 0 },
		{ "99999999999999999999s", -ERANGE, 0 }, { "", -EINVAL, 0 }, { "5", -EINVAL, 0 }, { "s", -EINVAL, 0 },
		{ "-5s", -EINVAL, 0 }, { "5 s", -EINVAL, 0 }, { "5sec", -EINVAL, 0 }, { " 5s", -EINVAL, 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		msec_t ms = -1;

		assert_int_equal(clock_parse_duration(rows[i].text, &ms), rows[i].rc);
		assert_int_equal(ms, rows[i].rc ? -1 : rows[i].ms);
	}
}

static void test_format(void **state)
{
	char buf[CLOCK_DURATION_MAX];

	(void)state;
	assert_string_equal(clock_format_duration(60000, buf), "1m");
	assert_string_equal(clock_format_duration(90000, buf), "90s");
	assert_string_equal(clock_format_duration(1500, buf), "1500ms");
	assert_string_equal(clock_format_duration(0, buf), "0s");
	assert_string_equal(clock_format_duration(86400000, buf), "1d");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_parse), cmocka_unit_test(test_format) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
