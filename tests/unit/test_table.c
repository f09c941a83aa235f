// SPDX-License-Identifier: Apache-2.0
// The tables of the operator's command, and what is never printed in them.
#include "director/cli/show.h"
#include "director/cli/table.h"
#include "director/cli/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

// What print writes, as a string to free.
static char *printed(const struct table *table)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	assert_int_equal(table_print(table, out), 0);
	fclose(out);
	return text;
}

static void assert_table(const struct table *table, const char *expected)
{
	_cleanup_free_ char *text = printed(table);

	assert_string_equal(text, expected);
}

static struct table *two_columns(void)
{
	struct table *table = table_new();

	assert_non_null(table);
	table_column(table, "NAME", false);
	table_column(table, "CONNS", true);
	return table;
}

static void test_only_titles(void **state)
{
	_cleanup_(table_free_cleanup) struct table *table = two_columns();

	(void)state;
	assert_table(table, "NAME  CONNS\n");
}

static void test_aligned(void **state)
{
	_cleanup_(table_free_cleanup) struct table *table = two_columns();

	(void)state;
	table_cell(table, "database");
	table_cell(table, "7");
	table_cell(table, "b\xc3\xbc");
	table_cell(table, "1234567");
	assert_table(table,
		"NAME        CONNS\n"
		"database        7\n"
		"b\xc3\xbc        1234567\n");
}

static void test_last_column_is_not_padded(void **state)
{
	_cleanup_(table_free_cleanup) struct table *table = table_new();

	(void)state;
	table_column(table, "N", true);
	table_column(table, "REASON", false);
	table_cell(table, "10");
	table_cell(table, "no");
	table_cell(table, "1");
	table_cell(table, "connection refused");
	assert_table(table,
		" N  REASON\n"
		"10  no\n"
		" 1  connection refused\n");
}

static void test_empty_cells(void **state)
{
	_cleanup_(table_free_cleanup) struct table *table = two_columns();

	(void)state;
	table_cell(table, NULL);
	table_cell(table, "");
	table_cell(table, "half");
	assert_table(table,
		"NAME  CONNS\n"
		"-         -\n"
		"half      -\n");
}

static void test_many_rows(void **state)
{
	_cleanup_(table_free_cleanup) struct table *table = two_columns();
	_cleanup_free_ char *text = NULL;
	size_t lines = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		table_cell(table, "web");
		table_cell(table, "1");
	}
	text = printed(table);
	for (const char *p = text; *p; p++)
		lines += *p == '\n';
	assert_int_equal(lines, 1001);
}

static void test_control_characters(void **state)
{
	_cleanup_(table_free_cleanup) struct table *table = two_columns();

	(void)state;
	table_cell(table, "a\033[2J\nb\t\177");
	table_cell(table, "1\xc2\x9b");
	assert_table(table,
		"NAME       CONNS\n"
		"a?[2J?b??     1?\n");
}

static void test_clean(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{ "", "" }, { "plain", "plain" },
		{ "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
			"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80" },
		{ "\xc2\x80\xc2\x9f\xc2\xa0", "??\xc2\xa0" },
		{ "a\xe2\x80\xae"
		  "b",
			"a?b" },                // right to left
		{ "\xff\xc3", "??" },           // no UTF-8, cut short
		{ "\xc0\x9b", "??" },           // overlong
		{ "\xed\xa0\x80", "???" },      // surrogate
		{ "\xf4\x90\x80\x80", "????" }, // too large
		{ "\xe2\x82\033", "???" },      // the escape is not swallowed
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *text = text_clean(cases[i].text);

		assert_string_equal(text, cases[i].expected);
	}
}

static void test_amount(void **state)
{
	static const struct {
		uint64_t n;
		const char *expected;
	} cases[] = {
		{ 0, "0" },
		{ 999, "999" },
		{ 1000, "1.0K" },
		{ 1249, "1.2K" },
		{ 1250, "1.3K" },
		{ 999949, "999.9K" },
		{ 999950, "1.0M" },
		{ 1200000, "1.2M" },
		{ 3456000000, "3.5G" },
		{ UINT64_MAX, "18.4E" },
	};
	char buf[TEXT_AMOUNT_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(text_amount(cases[i].n, buf), cases[i].expected);
}

static void test_json_stays_the_same(void **state)
{
	static const char json[] = "{\"a\":\r\n\t\"x\177\xc2\x9b\xe2\x80\xae\xc3\xbc\"}";
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	json_t *before, *after;

	(void)state;
	text_write_json(out, json, strlen(json));
	fclose(out);
	assert_string_equal(text, "{\"a\": \n\t\"x\\u007f\\u009b\\u202e\xc3\xbc\"}\n");
	before = json_loads(json, 0, NULL);
	after = json_loads(text, 0, NULL);
	assert_true(json_equal(before, after));
	json_decref(before);
	json_decref(after);
}

// The output of a command for an answer of the API.
static char *shown(const char *name, const char *argument, const char *answer)
{
	json_t *json = json_loads(answer, 0, NULL);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(json);
	for (size_t i = 0; i < command_count; i++)
		if (strcmp(commands[i].name, name) == 0)
			assert_int_equal(commands[i].show(json, argument, out), 0);
	fclose(out);
	json_decref(json);
	return text;
}

static void test_services(void **state)
{
	_cleanup_free_ char *text = shown("services", NULL,
		"{\"web-10\": {},"
		" \"web-2\": {\"options\": {\"host\": \"2001:db8::1\", \"port\": 80, \"protocol\": \"tcp\", "
		"\"method\": \"wrr\"},"
		"  \"backends\": {\"a\": {\"status\": \"up\", \"active\": 3}, \"b\": {\"status\": \"drain\", "
		"\"active\": 4}},"
		"  \"stats\": {\"connections\": 12345, \"in_bytes\": 1200000, \"out_bytes\": 17}}}");

	(void)state;
	assert_string_equal(text,
		"NAME    VIP               PROTO  SCHEDULER  BACKENDS  ACTIVE  CONNS    IN  OUT\n"
		"web-2   [2001:db8::1]:80  tcp    wrr             1/2       7  12345  1.2M   17\n"
		"web-10  -                 -      -                 -       -      -     -    -\n");
}

static void test_backends(void **state)
{
	_cleanup_free_ char *text = shown("backends", "web",
		"{\"backends\": {\"a\": {\"options\": {\"host\": \"10.0.0.1\", \"port\": 80, \"weight\": 100,"
		"  \"method\": \"dr\"}, \"effective_weight\": 0, \"status\": \"down\", \"active\": 1, \"inactive\": 2,"
		"  \"stats\": {\"connections\": 3, \"in_bytes\": 4}, \"origin\": \"api\", \"reason\": "
		"\"tcp:\\u001b[31m refused\"},"
		" \"b\": {\"options\": [], \"status\": 7, \"effective_weight\": 5}, \"c\": null}}");

	(void)state;
	assert_string_equal(text,
		"SERVICE  BACKEND  REAL-SERVER  METHOD  WEIGHT  STATUS  ACTIVE  INACTIVE  CONNS  IN  ORIGIN  REASON\n"
		"web      a        10.0.0.1:80  dr       0/100  down         1         2      3   4  api     tcp:?[31m "
		"refused\n"
		"web      b        -            -          5/-  7            -         -      -   -  -       -\n"
		"web      c        -            -            -  -            -         -      -   -  -       -\n");
}

static void test_agents(void **state)
{
	_cleanup_free_ char *text = shown("agents", NULL,
		"{\"n2\": {\"address\": \"10.0.0.2\", \"lost\": true, \"ttl\": \"10s\", \"expires_in\": \"0s\", "
		"\"backends\": {}},"
		" \"n1\": {\"address\": \"10.0.0.1\", \"lost\": false, \"ttl\": \"10s\", \"expires_in\": \"8s\","
		"  \"backends\": {\"web\": {\"state\": \"up\"}, \"dns\": {}}}}");

	(void)state;
	assert_string_equal(text,
		"NODE  ADDRESS   LEASE      SERVICES\n"
		"n1    10.0.0.1  8s of 10s  dns:-, web:up\n"
		"n2    10.0.0.2  lost       -\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_titles),
		cmocka_unit_test(test_aligned),
		cmocka_unit_test(test_last_column_is_not_padded),
		cmocka_unit_test(test_empty_cells),
		cmocka_unit_test(test_many_rows),
		cmocka_unit_test(test_control_characters),
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_amount),
		cmocka_unit_test(test_json_stays_the_same),
		cmocka_unit_test(test_services),
		cmocka_unit_test(test_backends),
		cmocka_unit_test(test_agents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
