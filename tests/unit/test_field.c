// SPDX-License-Identifier: Apache-2.0
#include "director/model.h"
#include "shared/field.h"

#include <errno.h>
#include <linux/ip_vs.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int parse(const struct field_table *table, const char *text, void *obj, struct err *err)
{
	json_t *json = json_loads(text, 0, NULL);

	assert_non_null(json);
	int rc = field_parse(table, json, obj, err);
	json_decref(json);
	return rc;
}

static void test_defaults_and_set_bits(void **state)
{
	struct service_options s;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(parse(&service_fields, "{\"host\": \"10.0.0.1\", \"port\": 80}", &s, &err), 0);
	assert_string_equal(s.scheduler, "wrr");
	assert_int_equal(s.protocol, IPPROTO_TCP);
	assert_int_equal(s.persistent_s, 0);
	assert_int_equal(s.pulse.kind, CHECK_NONE);
	assert_true(field_is_set(&service_fields, &s, "port"));
	assert_false(field_is_set(&service_fields, &s, "protocol"));
}

static void test_sentences(void **state)
{
	static const struct {
		const char *json, *field, *text;
	} rows[] = {
		{ "{\"host\": \"10.0.0.1\", \"port\": 0}", "port",
			"found 0, allowed is a whole number from 1 to 65535" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 70000}", "port",
			"found 70000, allowed is a whole number from 1 to 65535" },
		{ "{\"host\": \"10.0.0.1\", \"port\": \"80\"}", "port",
			"found \"80\", allowed is a whole number from 1 to 65535" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 1.5}", "port",
			"found a fraction, allowed is a whole number from 1 to 65535" },
		{ "{\"host\": \"224.0.0.1\", \"port\": 80}", "host",
			"found \"224.0.0.1\", allowed is a unicast IPv4 or IPv6 address" },
		{ "{\"port\": 80}", "host", "missing; a service needs it" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 80, \"protocol\": \"sctp\"}", "protocol",
			"found \"sctp\", allowed is one of tcp, udp" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 80, \"ops\": 1}", "ops", "found 1, allowed is true or false" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 80, \"pulse\": {\"interval\": \"5\"}}", "pulse.interval",
			"found \"5\", allowed is a time from 100ms to 1d, such as 500ms, 30s or 5m" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 80, \"pulse\": []}", "pulse",
			"found a list, allowed is an object" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct service_options s;
		struct err err = { 0 };

		assert_int_equal(parse(&service_fields, rows[i].json, &s, &err), -EINVAL);
		assert_string_equal(err.field, rows[i].field);
		assert_string_equal(err.text, rows[i].text);
	}
}

static void test_unknown_field(void **state)
{
	struct backend_options b;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(parse(&backend_fields, "{\"host\": \"10.0.0.1\", \"wieght\": 1}", &b, &err), -EINVAL);
	assert_string_equal(err.field, "wieght");
	assert_string_equal(err.text, "unknown field of a backend, allowed are host, port, weight, method, pulse");
}

static void test_flags_aliases_and_round_trip(void **state)
{
	struct service_options a, b;
	struct err err = { 0 };
	char names[100];

	(void)state;
	assert_int_equal(parse(&service_fields,
				 "{\"host\": \"fd00::1\", \"port\": 80, \"flags\": \"sh-port|sh-fallback\", "
				 "\"persistent\": \"90s\"}",
				 &a, &err),
		0);
	assert_int_equal(a.flags, IP_VS_SVC_F_SCHED1 | IP_VS_SVC_F_SCHED2);
	assert_int_equal(a.persistent_s, 90);
	json_t *json = field_print(&service_fields, &a);
	assert_int_equal(field_parse(&service_fields, json, &b, &err), 0);
	json_decref(json);
	assert_int_equal(field_diff(&service_fields, &a, &b, names, sizeof(names)), 0);
	b.port = 81;
	b.persistent_s = 0;
	assert_int_equal(field_diff(&service_fields, &a, &b, names, sizeof(names)), 2);
	assert_string_equal(names, "port, persistent");

	struct backend_options be;
	assert_int_equal(parse(&backend_fields, "{\"host\": \"10.0.0.1\", \"method\": \"tunnel\"}", &be, &err), 0);
	assert_int_equal(be.method, FORWARD_IPIP);
}

static void test_patch_keeps_the_rest(void **state)
{
	struct backend_options b;
	struct err err = { 0 };
	json_t *json = json_pack("{s:i}", "weight", 7);

	(void)state;
	assert_int_equal(
		parse(&backend_fields, "{\"host\": \"10.0.0.1\", \"port\": 81, \"method\": \"nat\"}", &b, &err), 0);
	assert_int_equal(field_patch(&backend_fields, json, &b, &err), 0);
	json_decref(json);
	assert_int_equal(b.weight, 7);
	assert_int_equal(b.port, 81);
}

static void test_patch_of_an_object_inside(void **state)
{
	struct backend_options b;
	struct err err = { 0 };
	json_t *json = json_pack("{s:{s:s}}", "pulse", "interval", "2s");

	(void)state;
	assert_int_equal(
		parse(&backend_fields,
			"{\"host\": \"10.0.0.1\", \"pulse\": {\"type\": \"HTTP\", \"args\": {\"path\": \"/x\"}}}", &b,
			&err),
		0);
	assert_int_equal(b.pulse.kind, CHECK_HTTP);
	assert_int_equal(field_patch(&backend_fields, json, &b, &err), 0);
	json_decref(json);
	assert_int_equal(b.pulse.interval_ms, 2000);
	assert_int_equal(b.pulse.kind, CHECK_HTTP);
	assert_string_equal(b.pulse.args.path, "/x");
}

static void test_names(void **state)
{
	(void)state;
	assert_true(field_name_ok("web-1.a_b:c@d", 64));
	assert_false(field_name_ok("", 64));
	assert_false(field_name_ok("-a", 64));
	assert_false(field_name_ok("a b", 64));
	assert_false(field_name_ok("a/b", 64));
	assert_false(field_name_ok("aaaa", 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_defaults_and_set_bits),
		cmocka_unit_test(test_sentences), cmocka_unit_test(test_unknown_field),
		cmocka_unit_test(test_flags_aliases_and_round_trip), cmocka_unit_test(test_patch_keeps_the_rest),
		cmocka_unit_test(test_patch_of_an_object_inside), cmocka_unit_test(test_names) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
