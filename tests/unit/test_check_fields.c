// SPDX-License-Identifier: Apache-2.0
#include "shared/check.h"

#include <errno.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *text, struct check_spec *spec, struct err *err)
{
	json_t *json = json_loads(text, 0, NULL);
	int rc = json ? field_parse(&check_fields, json, spec, err) : 1;

	assert_non_null(json);
	json_decref(json);
	return rc ? rc : check_complete(spec, err);
}

// What is written is read again as the same, and says no more than was said.
static void test_round_trip(void **state)
{
	static const struct {
		const char *given, *args; // args: as they are written; NULL: not compared
	} rows[] = {
		{ "{\"type\":\"tcp\"}", "{\"method\":\"GET\",\"port\":0,\"path\":\"/\",\"expect\":200}" },
		{ "{\"type\":\"tcp\",\"args\":{\"send\":\"PING\\r\\n\",\"answer\":\"+PONG\"}}", NULL },
		{ "{\"type\":\"tcp\",\"args\":{\"answer\":220}}", NULL },
		{ "{\"type\":\"http\",\"args\":{\"expect\":[200,\"300-399\"],\"headers\":{\"X-A\":\"b: "
		  "c\",\"Accept\":\"\"}}}",
			NULL },
		{ "{\"type\":\"http\",\"args\":{\"expect\":\"200-299\",\"body\":\"ok\",\"http_version\":2}}", NULL },
		{ "{\"type\":\"https\",\"args\":{\"body_regex\":\"^(ok|fine)$\",\"verify\":false,\"sni\":\"www.example."
		  "com\"}}",
			NULL },
		{ "{\"type\":\"https\",\"args\":{\"ca\":\"/a\",\"cert\":\"/b\",\"key\":\"/c\",\"http_version\":1.1}}",
			NULL },
		{ "{\"type\":\"udp\",\"args\":{\"send\":\"hex:00ff\",\"answer\":\"hex:0102\"}}", NULL },
		{ "{\"type\":\"dns\",\"args\":{\"name\":\"example.com\",\"record\":\"AAAA\",\"answer\":\"2001:db8::1\"}"
		  "}",
			NULL },
		{ "{\"type\":\"grpc\",\"args\":{\"name\":\"web\",\"tls\":true,\"verify\":false}}", NULL },
		{ "{\"type\":\"exec\",\"args\":{\"command\":[\"/bin/true\",\"-x\"],\"user\":\"nobody\"}}", NULL },
		{ "{\"type\":\"agent\"}", NULL },
		{ "{\"type\":\"all\",\"args\":{\"checks\":[{\"type\":\"tcp\"},{\"type\":\"http\",\"args\":{\"path\":\"/"
		  "x\"},\"timeout\":\"1s\"}]}}",
			NULL },
		{ "{\"type\":\"any\",\"args\":{\"checks\":[{\"type\":\"dns\",\"args\":{\"name\":\"a\"}}]}}", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		enum field_which which[] = { FIELD_GIVEN, FIELD_ALL };
		struct check_spec spec;
		struct err err = { 0 };

		if (parse(rows[i].given, &spec, &err))
			fail_msg("%s: %s: %s", rows[i].given, err.field, err.text);
		for (size_t w = 0; w < 2; w++) {
			_cleanup_out_ struct out out = { 0 };
			struct check_spec again;

			field_write(&check_fields, &spec, which[w], &out);
			if (parse(out.text, &again, &err))
				fail_msg("%s: %s: %s", out.text, err.field, err.text);
			again.set = spec.set; // the other one names all
			assert_memory_equal(&spec, &again, sizeof(spec));
			if (w && rows[i].args && !strstr(out.text, rows[i].args))
				fail_msg("%s: has no %s", out.text, rows[i].args);
		}
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *given, *field, *words;
	} rows[] = {
		{ "{\"type\":\"tcp\",\"args\":{\"body\":\"ok\"}}", "args.body",
			"found with type tcp; it is for http, https" },
		{ "{\"type\":\"tcp\",\"args\":{\"command\":[\"/bin/true\"]}}", "args.command", "it is for exec" },
		{ "{\"type\":\"tcp\",\"args\":{\"send\":\"x\"}}", "args.answer", "missing" },
		{ "{\"type\":\"udp\",\"args\":{\"send\":\"hex:0\"}}", "args.send", "pairs of hexadecimal digits" },
		{ "{\"type\":\"udp\",\"full_size\":true}", "full_size", "tcp, http, https" },
		{ "{\"type\":\"tcp\",\"full_size\":true,\"args\":{\"answer\":\"x\"}}", "full_size", "args.answer" },
		{ "{\"type\":\"exec\",\"via\":\"vip\",\"args\":{\"command\":[\"/bin/true\"]}}", "via",
			"no packets of ours" },
		{ "{\"type\":\"http\",\"args\":{\"expect\":\"2xx\"}}", "args.expect",
			"found 2xx, allowed are statuses from 100 to 599" },
		{ "{\"type\":\"http\",\"args\":{\"expect\":42}}", "args.expect", "found 42" },
		{ "{\"type\":\"http\",\"args\":{\"expect\":[]}}", "args.expect", "found a list" },
		{ "{\"type\":\"http\",\"args\":{\"expect\":[200,true]}}", "args.expect", "allowed" },
		{ "{\"type\":\"http\",\"args\":{\"body\":\"a\",\"body_regex\":\"b\"}}", "args.body_regex",
			"found together with body" },
		{ "{\"type\":\"http\",\"args\":{\"body_regex\":\"(\"}}", "args.body_regex", "found \"(\"" },
		{ "{\"type\":\"http\",\"args\":{\"body_regex\":\"((a{1,255}){1,255}){1,255}\"}}", "args.body_regex",
			"too large" },
		{ "{\"type\":\"all\",\"args\":{\"checks\":[{\"type\":\"tcp\",\"full_size\":true}]}}",
			"args.checks.0.full_size", "part" },
		{ "{\"type\":\"http\",\"args\":{\"headers\":{\"Host\":\"x\"}}}", "args.headers", "args.host" },
		{ "{\"type\":\"http\",\"args\":{\"headers\":{\"A b\":\"x\"}}}", "args.headers",
			"names of HTTP headers" },
		{ "{\"type\":\"http\",\"args\":{\"headers\":{\"A\":\"x\\r\\nB: y\"}}}", "args.headers",
			"control characters" },
		{ "{\"type\":\"http\",\"args\":{\"http_version\":3}}", "args.http_version", "1.1" },
		{ "{\"type\":\"http\",\"args\":{\"verify\":false}}", "args.verify", "https, grpc" },
		{ "{\"type\":\"https\",\"args\":{\"ca\":\"ca.pem\"}}", "args.ca", "absolute path" },
		{ "{\"type\":\"https\",\"args\":{\"key\":\"/k\"}}", "args.cert", "missing" },
		{ "{\"type\":\"dns\"}", "args.name", "missing" },
		{ "{\"type\":\"dns\",\"args\":{\"name\":\"a..b\"}}", "args.name", "domain name" },
		{ "{\"type\":\"dns\",\"args\":{\"name\":\"a\",\"record\":\"B\"}}", "args.record", "AAAA" },
		{ "{\"type\":\"exec\"}", "args.command", "missing" },
		{ "{\"type\":\"all\"}", "args.checks", "missing" },
		{ "{\"type\":\"all\",\"args\":{\"checks\":[]}}", "args.checks", "1 to 8" },
		{ "{\"type\":\"all\",\"args\":{\"checks\":[{\"type\":\"tcp\"},{\"type\":\"dns\"}]}}",
			"args.checks.1.args.name", "missing" },
		{ "{\"type\":\"all\",\"args\":{\"checks\":[{\"type\":\"any\",\"args\":{\"checks\":[{\"type\":\"tcp\"}]}"
		  "}]}}",
			"args.checks.0.type", "inside" },
		{ "{\"type\":\"all\",\"args\":{\"checks\":[{\"type\":\"tcp\",\"interval\":\"1s\"}]}}",
			"args.checks.0.interval", "whole check" },
		{ "{\"type\":\"all\",\"args\":{\"checks\":[{\"type\":\"tcp\",\"args\":{\"path2\":1}}]}}",
			"args.checks.0.args.path2", "unknown" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct check_spec spec;
		struct err err = { 0 };

		if (parse(rows[i].given, &spec, &err) != -EINVAL)
			fail_msg("%s was taken", rows[i].given);
		if (strcmp(err.field, rows[i].field) != 0 || !strstr(err.text, rows[i].words))
			fail_msg("%s: %s: %s", rows[i].given, err.field, err.text);
	}
}

// PATCH changes what it names, and null puts it back.
static void test_patch(void **state)
{
	struct check_spec spec;
	struct err err = { 0 };
	json_t *patch =
		json_loads("{\"args\":{\"body\":null,\"body_regex\":\"^a\",\"expect\":null,\"send\":null}}", 0, NULL);

	(void)state;
	assert_int_equal(
		parse("{\"type\":\"http\",\"args\":{\"body\":\"ok\",\"expect\":\"200-204\"}}", &spec, &err), 0);
	assert_int_equal(field_patch(&check_fields, patch, &spec, &err), 0);
	assert_true(spec.args.body.regex);
	assert_string_equal(spec.args.body.pattern, "^a");
	assert_string_equal(spec.args.expect, "200");
	json_decref(patch);
}

static void test_programs(void **state)
{
	static const struct check_folders folders = { .count = 1, .items = { "/usr/lib/checks" } }, none = { 0 };
	static const struct {
		const char *given;
		const struct check_folders *folders;
		int rc;
	} rows[] = {
		{ "{\"type\":\"tcp\"}", &none, 0 },
		{ "{\"type\":\"exec\",\"args\":{\"command\":[\"/bin/true\"]}}", NULL, 0 },
		{ "{\"type\":\"exec\",\"args\":{\"command\":[\"/bin/true\"]}}", &none, -EACCES },
		{ "{\"type\":\"exec\",\"args\":{\"command\":[\"/bin/true\"]}}", &folders, -EACCES },
		{ "{\"type\":\"exec\",\"args\":{\"command\":[\"/usr/lib/checks/a\",\"/../\"]}}", &folders, 0 },
		{ "{\"type\":\"exec\",\"args\":{\"command\":[\"/usr/lib/checks/sub/a\"]}}", &folders, 0 },
		{ "{\"type\":\"exec\",\"args\":{\"command\":[\"/usr/lib/checks\"]}}", &folders, -EACCES },
		{ "{\"type\":\"exec\",\"args\":{\"command\":[\"/usr/lib/checks2/a\"]}}", &folders, -EACCES },
		{ "{\"type\":\"exec\",\"args\":{\"command\":[\"/usr/lib/checks/../sh\"]}}", &folders, -EACCES },
		{ "{\"type\":\"any\",\"args\":{\"checks\":[{\"type\":\"tcp\"},{\"type\":\"exec\",\"args\":{\"command\":"
		  "[\"/bin/true\"]}}]}}",
			&folders, -EACCES },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct check_spec spec;
		struct err err = { 0 };

		assert_int_equal(parse(rows[i].given, &spec, &err), 0);
		if (check_may_exec(&spec, rows[i].folders, &err) != rows[i].rc)
			fail_msg("%s: expected %d; %s", rows[i].given, rows[i].rc, err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_patch),
		cmocka_unit_test(test_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
