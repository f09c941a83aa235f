// SPDX-License-Identifier: Apache-2.0
#include "director/settings.h"

#include <errno.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *text, struct settings_wanted *ret, struct err *err)
{
	json_t *json = json_loads(text, 0, NULL);
	int rc;

	*err = (struct err) { 0 };
	assert_non_null(json);
	rc = field_parse(&settings_fields, json, ret, err);
	json_decref(json);
	return rc;
}

static void test_given_and_not_given(void **state)
{
	struct settings_wanted wanted;
	struct err err;

	(void)state;
	assert_int_equal(parse("{}", &wanted, &err), 0);
	assert_int_equal(wanted.set, 0);
	assert_int_equal(wanted.timeouts.set, 0);
	assert_int_equal(parse("{\"conntrack\": 0, \"sync_threshold\": [3, 50], \"sync_refresh_period\": \"10s\","
			       "\"sync_ports\": 64, \"timeouts\": {\"tcp_fin\": \"2m\"}}",
				 &wanted, &err),
		0);
	assert_true(field_is_set(&settings_fields, &wanted, "conntrack"));
	assert_int_equal(wanted.conntrack, 0);
	assert_false(field_is_set(&settings_fields, &wanted, "sloppy_tcp"));
	assert_int_equal(wanted.sync_threshold.packets, 3);
	assert_int_equal(wanted.sync_threshold.period, 50);
	assert_int_equal(wanted.sync_refresh_period, 10000);
	assert_int_equal(wanted.sync_ports, 64);
	assert_true(field_is_set(&settings_timeout_fields, &wanted.timeouts, "tcp_fin"));
	assert_false(field_is_set(&settings_timeout_fields, &wanted.timeouts, "tcp"));
	assert_int_equal(wanted.timeouts.tcp_fin, 120000);
	// a period of 0: once, at the packet with this number
	assert_int_equal(parse("{\"sync_threshold\": [3, 0]}", &wanted, &err), 0);
}

static void test_bad_values(void **state)
{
	static const struct {
		const char *text, *field, *words;
	} rows[] = {
		{ "{\"conntrack\": 2}", "conntrack", "found 2, allowed is a whole number from 0 to 1" },
		{ "{\"conntrack\": true}", "conntrack", "found a boolean" },
		{ "{\"drop_entry\": 4}", "drop_entry", "from 0 to 3" },
		{ "{\"am_droprate\": -1}", "am_droprate", "from 0 to 2147483647" },
		{ "{\"conn_track\": 1}", "conn_track", "unknown field" },
		{ "{\"sync_threshold\": 3}", "sync_threshold", "found a whole number" },
		{ "{\"sync_threshold\": [3]}", "sync_threshold", "two whole numbers" },
		{ "{\"sync_threshold\": [50, 50]}", "sync_threshold", "smaller than the second" },
		{ "{\"sync_threshold\": [-1, 50]}", "sync_threshold", "two whole numbers" },
		{ "{\"sync_ports\": 3}", "sync_ports", "1, 2, 4, 8, 16, 32 or 64" },
		{ "{\"sync_ports\": 128}", "sync_ports", "1, 2, 4, 8, 16, 32 or 64" },
		{ "{\"sync_refresh_period\": 10}", "sync_refresh_period", "such as 500ms, 30s" },
		{ "{\"sync_refresh_period\": \"1500ms\"}", "sync_refresh_period", "whole seconds" },
		{ "{\"timeouts\": {\"tcp\": \"1500ms\"}}", "timeouts.tcp", "whole seconds" },
		{ "{\"timeouts\": {\"tcp\": \"0s\"}}", "timeouts.tcp", "from 1s to 24d" },
		{ "{\"timeouts\": {\"udp\": \"25d\"}}", "timeouts.udp", "from 1s to 24d" },
		{ "{\"timeouts\": {\"icmp\": \"1s\"}}", "timeouts.icmp", "unknown field" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct settings_wanted wanted;
		struct err err;

		if (parse(rows[i].text, &wanted, &err) != -EINVAL || strcmp(err.field, rows[i].field) != 0 ||
			!strstr(err.text, rows[i].words))
			fail_msg("%s: %s: %s", rows[i].text, err.field, err.text);
	}
}

static void test_text_of_a_file(void **state)
{
	int64_t n[2];

	(void)state;
	assert_int_equal(settings_read_text("1\n", n), 1);
	assert_true(n[0] == 1 && n[1] == 0);
	assert_int_equal(settings_read_text("3\t50\n", n), 2);
	assert_true(n[0] == 3 && n[1] == 50);
	assert_int_equal(settings_read_text("-1\n", n), 1);
	assert_true(n[0] == -1);
	assert_int_equal(settings_read_text("", n), -EINVAL);
	assert_int_equal(settings_read_text("1 2 3\n", n), -EINVAL);
	assert_int_equal(settings_read_text("on\n", n), -EINVAL);
	assert_int_equal(settings_read_text("99999999999999999999\n", n), -EINVAL);
}

static void test_what_the_kernel_changes_by_itself(void **state)
{
	const int64_t one[2] = { 1, 0 }, two[2] = { 2, 0 }, three[2] = { 3, 0 }, pair[2] = { 1, 10 };

	(void)state;
	assert_true(settings_same("secure_tcp", one, two));
	assert_true(settings_same("drop_entry", two, one));
	assert_true(settings_same("drop_packet", three, three));
	assert_false(settings_same("secure_tcp", one, three));
	assert_false(settings_same("conn_reuse_mode", one, two));
	assert_false(settings_same("sync_threshold", one, pair));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_given_and_not_given),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_text_of_a_file),
		cmocka_unit_test(test_what_the_kernel_changes_by_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
