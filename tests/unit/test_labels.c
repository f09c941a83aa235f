// SPDX-License-Identifier: Apache-2.0
// Labels from the agent's configuration to what the director reads.
#include "shared/labels.h"

#include "agent/config.h"
#include "shared/protocol.h"

#include <errno.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct labels labels_of(const char *text)
{
	struct labels labels = { 0 };
	json_t *json = json_loads(text, 0, NULL);

	assert_int_equal(labels_parse(json, &labels, NULL), 0);
	json_decref(json);
	return labels;
}

static void test_merge(void **state)
{
	const struct labels own = labels_of("{\"zone\": \"b\", \"version\": \"2\"}"),
			    common = labels_of("{\"zone\": \"a\", \"rack\": \"7\"}"),
			    many = labels_of("{\"1\": \"x\", \"2\": \"x\", \"3\": \"x\", \"4\": \"x\", \"5\": \"x\", "
					     "\"6\": \"x\", \"7\": \"x\"}");
	struct labels both = { 0 };
	struct err err = { 0 };

	(void)state;
	assert_int_equal(labels_merge(&own, &common, &both, &err), 0);
	assert_int_equal(both.count, 3);
	assert_string_equal(labels_find(&both, "zone"), "b");
	assert_string_equal(labels_find(&both, "rack"), "7");
	assert_string_equal(labels_find(&both, "version"), "2");
	assert_null(labels_find(&both, "x"));
	assert_null(labels_find(NULL, "zone"));
	for (uint32_t i = 1; i < both.count; i++) // equal ones print alike
		assert_true(strcmp(both.items[i - 1].name, both.items[i].name) < 0);
	assert_int_equal(labels_merge(&own, &many, &both, &err), -EINVAL);
	assert_string_equal(err.text, "found 9 labels, allowed are at most 8");
}

// --- the protocol ---

static int read_report(const char *backend, struct protocol_report *ret, struct err *err)
{
	char text[512];

	snprintf(text, sizeof(text),
		"{\"address\": \"10.0.0.1\", \"boot\": \"b\", \"backends\": {\"a\": {}, \"web\": %s}}", backend);
	json_t *json = json_loads(text, 0, NULL);
	assert_non_null(json);
	int rc = protocol_report_from_json(json, ret, err);
	json_decref(json);
	return rc;
}

static void test_protocol(void **state)
{
	struct protocol_report report, again;
	struct err err = { 0 };

	(void)state;
	assert_int_equal(read_report("{\"labels\": {\"zone\": \"a\", \"v\": \"1\"}}", &report, &err), 0);
	assert_null(report.backends[0].labels);
	assert_string_equal(labels_find(report.backends[1].labels, "zone"), "a");
	json_t *json = protocol_report_to_json(&report);
	assert_int_equal(protocol_report_from_json(json, &again, &err), 0);
	assert_string_equal(labels_find(again.backends[1].labels, "v"), "1");
	json_t *second = protocol_report_to_json(&again);
	assert_true(json_equal(json, second));
	json_decref(json);
	json_decref(second);
	protocol_report_clear(&report);
	protocol_report_clear(&again);
	// without labels nothing is said, and a director that does not know them is content
	assert_int_equal(read_report("{\"labels\": {}}", &report, &err), 0);
	json = protocol_report_to_json(&report);
	assert_null(json_object_get(json_object_get(json_object_get(json, "backends"), "web"), "labels"));
	json_decref(json);
	protocol_report_clear(&report);
	// a mistake after them
	assert_int_equal(read_report("{\"labels\": {\"zone\": \"a\"}, \"weight\": -1}", &report, &err), -EINVAL);
	err = (struct err) { 0 };
	assert_int_equal(read_report("{\"labels\": {\"zone\": 1}}", &report, &err), -EINVAL);
	assert_string_equal(err.field, "backends.web.labels.zone");
}

// --- the configuration ---

static int read_config(const char *text, struct config *ret, char message[CONFILE_MESSAGE_MAX])
{
	char name[] = "/tmp/brass-labels-XXXXXX";
	int fd = mkstemp(name);
	json_t *options = json_object();

	assert_true(fd >= 0 && dprintf(fd, "node: web-1\ndirectors: http://127.0.0.1:4672\n%s", text) > 0);
	close(fd);
	int rc = config_read(name, options, ret, message);
	json_decref(options);
	unlink(name);
	return rc;
}

static void test_config(void **state)
{
	char message[CONFILE_MESSAGE_MAX];
	struct config config;

	(void)state;
	assert_int_equal(read_config("labels: {zone: a, rack: '7'}\nbackends:\n  api:\n  web: {labels: {zone: b}}\n",
				 &config, message),
		0);
	assert_string_equal(labels_find(&config.backends.items[0].labels, "zone"), "a");
	assert_string_equal(labels_find(&config.backends.items[1].labels, "zone"), "b");
	assert_string_equal(labels_find(&config.backends.items[1].labels, "rack"), "7");
	config_clear(&config);
	assert_int_equal(read_config("backends:\n  web:\n", &config, message), 0);
	assert_int_equal(config.backends.items[0].labels.count, 0);
	config_clear(&config);
	assert_int_equal(read_config("labels: {zone: a/b}\nbackends:\n  web:\n", &config, message), -EINVAL);
	assert_non_null(strstr(message, "line 3: labels.zone: found \"a/b\""));
	assert_int_equal(read_config("labels: {a: x, b: x, c: x, d: x, e: x}\n"
				     "backends:\n  web: {labels: {f: x, g: x, h: x, i: x}}\n",
				 &config, message),
		-EINVAL);
	assert_non_null(strstr(message, "backends.web.labels: found 9 labels"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_merge), cmocka_unit_test(test_protocol),
		cmocka_unit_test(test_config) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
