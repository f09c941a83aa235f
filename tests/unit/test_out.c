// SPDX-License-Identifier: Apache-2.0
#include "shared/out.h"

#include "shared/err.h"
#include "shared/utf8.h"
#include "shared/util.h"

#include <jansson.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void write_sample(struct out *out)
{
	out_open(out, '{');
	out_key(out, "name");
	out_string(out, "a\"b\\c\n\x01 \xc3\xa4");
	out_key(out, "numbers");
	out_open(out, '[');
	out_int(out, INT64_MIN);
	out_uint(out, UINT64_MAX);
	out_real(out, 1);
	out_real(out, 0.25);
	out_close(out, '[');
	const struct out_mark mark = out_mark(out);
	out_key(out, "dropped");
	out_open(out, '{');
	out_close(out, '{');
	out_rewind(out, mark);
	out_key(out, "empty");
	out_open(out, '{');
	out_close(out, '{');
	out_key(out, "yes");
	out_bool(out, true);
	out_close(out, '{');
}

static void test_compact(void **state)
{
	_cleanup_out_ struct out out = { 0 };

	(void)state;
	write_sample(&out);
	assert_false(out.failed);
	assert_string_equal(out.text,
		"{\"name\":\"a\\\"b\\\\c\\u000a\\u0001 \xc3\xa4\",\"numbers\":[-9223372036854775808,"
		"18446744073709551615,1.0,0.25],\"empty\":{},\"yes\":true}");
}

// What a real server said may be anything.
static void test_bytes_that_are_no_text(void **state)
{
	static const struct {
		const char *given, *written;
	} rows[] = {
		{ "M\xfcnchen", "\"M\\ufffdnchen\"" },
		{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa7", "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa7\"" },
		{ "cut \xe2\x82", "\"cut \\ufffd\\ufffd\"" },
		{ "\xc0\xaf", "\"\\ufffd\\ufffd\"" },            // overlong
		{ "\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"" }, // half of a pair
		{ "\xf5\x80\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"" },
		{ "\xff\"\x7f", "\"\\ufffd\\\"\x7f\"" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		_cleanup_out_ struct out out = { 0 };

		out_string(&out, rows[i].given);
		assert_string_equal(out.text, rows[i].written);
		json_t *json = json_loads(out.text, JSON_DECODE_ANY, NULL);
		assert_non_null(json);
		json_decref(json);
	}
}

static void test_mended(void **state)
{
	struct err err = { 0 };
	char text[] = "a\xff\xc3\xa4 \xe2\x82";

	(void)state;
	utf8_mend(text);
	assert_string_equal(text, "a?\xc3\xa4 ??");
	err_set(&err, -1, NULL, "found \"%.2s\"", "a\xc3\xa4");
	assert_string_equal(err.text, "found \"a?\"");
}

static void test_indented(void **state)
{
	_cleanup_out_ struct out tall = { .indented = true };

	(void)state;
	write_sample(&tall);
	assert_non_null(strstr(tall.text, "{\n  \"name\": "));
	assert_non_null(strstr(tall.text, "\n    0.25\n  ],\n  \"empty\": {},\n  \"yes\": true\n}"));
}

static void test_grows(void **state)
{
	_cleanup_out_ struct out out = { 0 };
	size_t len;

	(void)state;
	out_open(&out, '[');
	for (uint64_t i = 0; i < 100000; i++)
		out_uint(&out, i);
	out_close(&out, '[');
	json_t *json = json_loadb(out.text, out.len, 0, NULL);
	assert_int_equal(json_array_size(json), 100000);
	assert_int_equal(json_integer_value(json_array_get(json, 99999)), 99999);
	json_decref(json);
	free(out_steal(&out, &len));
	assert_true(len > 500000);
	assert_null(out.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_compact), cmocka_unit_test(test_indented),
		cmocka_unit_test(test_grows), cmocka_unit_test(test_bytes_that_are_no_text),
		cmocka_unit_test(test_mended) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
