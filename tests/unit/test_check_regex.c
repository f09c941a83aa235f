// SPDX-License-Identifier: Apache-2.0
#include "shared/check_regex.h"

#include <errno.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_what_is_found(void **state)
{
	static const struct {
		const char *pattern, *text;
		int found;
	} rows[] = {
		{ "^load: [0-4]$", "load: 3", 1 },
		{ "^load: [0-4]$", "load: 3\n", 1 },
		{ "^load: [0-4]$", "load: 7", 0 },
		{ "ok|fine", "all is fine", 1 },
		{ "\"db\".*\"up\"", "{\"db\":\n \"up\"}", 1 }, // over lines
		{ "[[:digit:]]{3}", "abc123", 1 },
		{ "\\xe4", "\xe4", 1 }, // no UTF-8
		{ "", "", 1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(check_regex_find(rows[i].pattern, rows[i].text, strlen(rows[i].text)), rows[i].found);
	assert_int_equal(check_regex_find("b", "a\0b", 3), 1);
	assert_int_equal(check_regex_find("b", "ab", 1), 0);
}

static void test_what_is_none(void **state)
{
	struct err err = { 0 };

	(void)state;
	assert_int_equal(check_regex_valid("(a|b)+", &err), 0);
	assert_int_equal(check_regex_valid("(", &err), -EINVAL);
	assert_string_equal(err.text, "found \"(\": missing closing parenthesis");
	assert_int_equal(check_regex_valid("((a{99}){99}){99}", &err), -EINVAL);
	assert_non_null(strstr(err.text, "too large"));
}

// Without an end to it each of these would take minutes, or for ever: the test's time limit says so.
static void test_long_searches_end(void **state)
{
	static const char *const patterns[] = { "(a|x)*x(a|x){99}[YZ]", "(a*)*[YZ]", "(a|x|ax|xa)*[YZ]",
		"x.*a.*x.*a.*[YZ]", "(?=.*[YZ])a", "(?>[ax]*)[YZ]", "(?:[ax]*){50}[YZ]" };
	char text[65536];
	unsigned int next = 1;

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++) {
		next = next * 1103515245 + 12345;
		text[i] = next >> 16 & 1 ? 'a' : 'x';
	}
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
		assert_int_equal(check_regex_find(patterns[i], text, sizeof(text)), -ETIME);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_found),
		cmocka_unit_test(test_what_is_none),
		cmocka_unit_test(test_long_searches_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
