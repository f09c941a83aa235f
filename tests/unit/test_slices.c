// SPDX-License-Identifier: Apache-2.0
#include "shared/slices.h"

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_members(void **state)
{
	static const char text[] =
		" {\"services\" : { \"a\": {\"x\": [1, \"}\\\"]\", {}]} ,\n\"b,{\":12, \"c\": null,\"d\":\"e\" } } \n";
	struct slices s;
	struct slice key, value;
	char got[200] = "";

	(void)state;
	assert_true(slices_open(text, sizeof(text) - 1, "services", &s));
	while (slices_next(&s, &key, &value)) {
		size_t n = strlen(got);

		snprintf(got + n, sizeof(got) - n, "%.*s=%.*s;", (int)key.len, key.text, (int)value.len, value.text);
	}
	assert_string_equal(got, "\"a\"={\"x\": [1, \"}\\\"]\", {}]};\"b,{\"=12;\"c\"=null;\"d\"=\"e\";");
}

static void test_empty(void **state)
{
	struct slices s;
	struct slice key, value;

	(void)state;
	assert_true(slices_open("{\"services\":{}}", 15, "services", &s));
	assert_false(slices_next(&s, &key, &value));
}

// Not for us: a real parser says what is wrong with them, or that nothing is.
static void test_left_to_the_parser(void **state)
{
	static const char *const texts[] = { "", "{", "{}", "[]", "null", "{\"services\": []}", "{\"services\": 1}",
		"{\"other\": {}}", "{\"services\": {}, \"more\": 1}", "{\"services\": {\"a\": {]}}",
		"{\"services\": {\"a\": {}}", "{\"services\": {\"a\" 1}}", "{\"services\": {\"a\": }}",
		"{\"services\": {\"a\": 1,}}", "{\"services\": {a: 1}}", "{\"services\": {\"a\": \"x}}",
		"{\"services\": {}} x", "{\"services\": {\"a\": 1 \"b\": 2}}" };

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct slices s;

		if (slices_open(texts[i], strlen(texts[i]), "services", &s))
			fail_msg("taken: %s", texts[i]);
	}
}

// Cut anywhere it is refused, and nothing beyond it is read.
static void test_cut_anywhere(void **state)
{
	static const char text[] = "{\"services\": {\"a\": {\"b\": [1, \"c\\\"d\"]}, \"e\": -1.5}}";
	char copy[sizeof(text)];
	struct slices s;

	(void)state;
	for (size_t n = 0; n < sizeof(text) - 1; n++) {
		memset(copy, '"', sizeof(copy));
		memcpy(copy, text, n);
		assert_false(slices_open(copy, n, "services", &s));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_members), cmocka_unit_test(test_empty),
		cmocka_unit_test(test_left_to_the_parser), cmocka_unit_test(test_cut_anywhere) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
