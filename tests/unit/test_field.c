// SPDX-License-Identifier: Apache-2.0
#include "director/model.h"
#include "shared/field.h"
#include "shared/util.h"

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
		{ "{\"host\": \"10.0.0.1\", \"port\": 70000}", "port",
			"found 70000, allowed is a whole number from 0 to 65535" },
		{ "{\"host\": \"10.0.0.1\", \"port\": \"80\"}", "port",
			"found \"80\", allowed is a whole number from 0 to 65535" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 1.5}", "port",
			"found a fraction, allowed is a whole number from 0 to 65535" },
		{ "{\"host\": \"224.0.0.1\", \"port\": 80}", "host",
			"found \"224.0.0.1\", allowed is a unicast IPv4 or IPv6 address" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 80, \"protocol\": \"icmp\"}", "protocol",
			"found \"icmp\", allowed is one of tcp, udp, sctp" },
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
	assert_string_equal(err.text,
		"unknown field of a backend, allowed are host, port, weight, method, tunnel, upper, lower, labels, "
		"pulse");
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

static void test_null_puts_a_default_back(void **state)
{
	struct backend_options b;
	struct err err = { 0 };
	json_t *json = json_pack("{s:n, s:n}", "weight", "pulse");

	(void)state;
	assert_int_equal(parse(&backend_fields,
				 "{\"host\": \"10.0.0.1\", \"weight\": 7, \"pulse\": {\"type\": \"none\"}}", &b, &err),
		0);
	assert_true(field_is_set(&backend_fields, &b, "weight"));
	assert_int_equal(field_patch(&backend_fields, json, &b, &err), 0);
	assert_int_equal(b.weight, 100);
	assert_int_equal(b.pulse.kind, CHECK_TCP);
	assert_false(field_is_set(&backend_fields, &b, "weight"));
	json_decref(json);
	json = json_pack("{s:n}", "host");
	assert_int_equal(field_patch(&backend_fields, json, &b, &err), -EINVAL);
	assert_string_equal(err.field, "host");
	json_decref(json);
}

// A table's ready-made defaults are what its rows say.
static void test_ready_made_defaults(void **state)
{
	static const struct field_table *const tables[] = { &service_fields, &backend_fields, &check_fields };
	static union {
		struct service_options s;
		struct backend_options b;
		struct check_spec c;
	} ready, read;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct field_table slow = *tables[i];
		json_t *json = i < 2 ? json_pack("{s:s}", "host", "10.0.0.1") : json_object();
		char names[200];

		slow.defaults = NULL;
		assert_int_equal(field_parse(tables[i], json, &ready, NULL), 0);
		assert_int_equal(field_parse(&slow, json, &read, NULL), 0);
		field_diff(tables[i], &ready, &read, names, sizeof(names));
		assert_string_equal(names, "");
		assert_memory_equal(&ready, &read, tables[i]->size);
		json_decref(json);
	}
}

static void test_what_was_given(void **state)
{
	static const char *const texts[] = {
		"{\"host\":\"10.0.0.1\",\"port\":80}",
		"{\"host\":\"10.0.0.1\",\"port\":80,\"method\":\"mh\",\"flags\":\"mh-fallback|mh-port\",\"persistent\":"
		"\"90s\","
		"\"netmask\":24,\"split\":{\"label\":\"version\",\"shares\":{\"a\":99,\"b\":1}}}",
		"{\"fwmark\":4294967295,\"family\":\"ipv6\"}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		_cleanup_out_ struct out out = { 0 };
		static struct service_options s;
		struct err err = { 0 };

		if (parse(&service_fields, texts[i], &s, &err))
			fail_msg("%s: %s", err.field, err.text);
		field_write(&service_fields, &s, FIELD_GIVEN, &out);
		assert_string_equal(out.text, texts[i]);
	}
}

static void note_mistake(void *ctx, const struct err *err)
{
	size_t n = strlen(ctx);

	snprintf((char *)ctx + n, 400 - n, "%s;", err->field);
}

static void test_every_mistake(void **state)
{
	json_t *json =
		json_pack("{s:i, s:s, s:i, s:{s:s}}", "weight", -1, "method", "x", "upper", 3, "pulse", "type", "y");
	char fields[400] = "";
	struct backend_options b;

	(void)state;
	field_mistakes(&backend_fields, json, &b, note_mistake, fields);
	assert_string_equal(fields, "weight;method;pulse.type;host;");
	json_decref(json);
}

static void test_netmasks(void **state)
{
	static const struct {
		const char *json;
		uint32_t prefix; // 0: refused
	} rows[] = { { "24", 24 }, { "\"24\"", 24 }, { "\"/24\"", 24 }, { "\"255.255.255.0\"", 24 },
		{ "\"255.255.255.255\"", 32 }, { "\"128.0.0.0\"", 1 }, { "\"/128\"", 128 }, { "\"255.0.255.0\"", 0 },
		{ "0", 0 }, { "129", 0 }, { "\"\"", 0 }, { "\"x\"", 0 }, { "\"0.0.0.0\"", 0 }, { "true", 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *json = json_object();
		struct service_options s;
		struct err err = { 0 };

		json_object_set_new(json, "netmask", json_loads(rows[i].json, JSON_DECODE_ANY, NULL));
		int rc = field_parse(&service_fields, json, &s, &err);
		if ((rc == 0) != (rows[i].prefix != 0) || (!rc && s.prefix != rows[i].prefix))
			fail_msg("%s: %d, %u", rows[i].json, rc, s.prefix);
		json_decref(json);
	}
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
		cmocka_unit_test(test_patch_of_an_object_inside), cmocka_unit_test(test_names),
		cmocka_unit_test(test_null_puts_a_default_back), cmocka_unit_test(test_ready_made_defaults),
		cmocka_unit_test(test_what_was_given), cmocka_unit_test(test_every_mistake),
		cmocka_unit_test(test_netmasks) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
