// SPDX-License-Identifier: Apache-2.0
#include "shared/confile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *text, struct confile **ret, struct err *err)
{
	return confile_parse("file.yaml", text, strlen(text), ret, err);
}

static void test_scalars(void **state)
{
	struct confile *file = NULL;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(
		parse("a: 80\nb: \"80\"\nc: yes\nd: true\ne: 5s\nf: ~\ng: 10.0.0.1\nh: 1.5\ni: [1, x]\n", &file, &err),
		0);
	assert_int_equal(json_integer_value(json_object_get(file->root, "a")), 80);
	assert_string_equal(json_string_value(json_object_get(file->root, "b")), "80");
	assert_string_equal(json_string_value(json_object_get(file->root, "c")), "yes");
	assert_true(json_is_true(json_object_get(file->root, "d")));
	assert_string_equal(json_string_value(json_object_get(file->root, "e")), "5s");
	assert_true(json_is_null(json_object_get(file->root, "f")));
	assert_string_equal(json_string_value(json_object_get(file->root, "g")), "10.0.0.1");
	assert_true(json_is_real(json_object_get(file->root, "h")));
	assert_int_equal(json_array_size(json_object_get(file->root, "i")), 2);
	confile_free(file);
}

static void test_lines(void **state)
{
	struct confile *file = NULL;
	struct err err = { 0 };
	char message[300];

	(void)state;
	assert_int_equal(parse("a: 1\nb:\n  web:\n    port: 70000\nlist:\n- x\n- y\n", &file, &err), 0);
	assert_int_equal(confile_line(file, "b.web.port"), 4);
	assert_int_equal(confile_line(file, "b.web.missing"), 3);
	assert_int_equal(confile_line(file, "list[1]"), 7);
	assert_int_equal(confile_line(file, "nowhere"), 0);
	err_set(&err, -1, "b.web.port", "found 70000");
	assert_string_equal(
		confile_error(file, &err, message, sizeof(message)), "file.yaml, line 4: b.web.port: found 70000");
	confile_free(file);
}

#define TEN "0123456789"

static void test_refused(void **state)
{
	static const struct {
		const char *text, *words;
	} rows[] = { { "a: 1\na: 2\n", "line 2: \"a\" is there twice" }, { "a: &x 1\n", "line 1: anchors" },
		{ "a: 1\nb: *x\n", "line 2: aliases" }, { "a: [1\nb: 2\n", "line 2" },
		{ "? [a]\n: 1\n", "line 1: a key" }, { "a: 1\n---\nb: 2\n", "line 2: a second document" },
		{ "a: \xff\n", "line" }, { "\ta: 1\n", "line 1" }, { "a: 1\nb: \"x\\0y\"\n", "line 2: a zero byte" },
		{ "? " TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN "\n: 1\n", "line 1: a key is too long" } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct confile *file = NULL;
		struct err err = { 0 };

		assert_int_equal(parse(rows[i].text, &file, &err), -EINVAL);
		if (!strstr(err.text, rows[i].words))
			fail_msg("\"%s\" lacks \"%s\"", err.text, rows[i].words);
	}
	char deep[CONFILE_DEPTH_MAX + 2];
	struct confile *file = NULL;
	struct err err = { 0 };

	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	assert_int_equal(parse(deep, &file, &err), -EINVAL);
	assert_non_null(strstr(err.text, "nested too deeply"));
}

static void test_empty_and_missing(void **state)
{
	struct confile *file = NULL;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(parse("# nothing\n", &file, &err), 0);
	assert_int_equal(json_object_size(file->root), 0);
	confile_free(file);
	file = NULL;
	assert_int_equal(confile_load("/nonexistent/x.yaml", &file, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/x.yaml"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_scalars), cmocka_unit_test(test_lines),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_empty_and_missing) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
