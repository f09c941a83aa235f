// SPDX-License-Identifier: Apache-2.0
#include "director/sync.h"

#include <errno.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int parse(const char *text, struct sync_wanted *ret, struct err *err)
{
	json_t *json = json_loads(text, 0, NULL);
	int rc;

	*err = (struct err) { 0 };
	assert_non_null(json);
	rc = field_parse(&sync_fields, json, ret, err);
	json_decref(json);
	return rc ? rc : sync_check(ret, err);
}

static struct sync_wanted want(const char *text)
{
	struct sync_wanted wanted;
	struct err err;

	if (parse(text, &wanted, &err))
		fail_msg("%s: %s: %s", text, err.field, err.text);
	return wanted;
}

static void test_what_is_left_out(void **state)
{
	struct sync_wanted w = want("{\"master\": {\"interface\": \"eth0.7\"}}");
	char group[INET_ADDR_MAX];

	(void)state;
	assert_int_equal(w.set, 1 << IPVS_MASTER);
	assert_string_equal(w.roles[IPVS_MASTER].interface, "eth0.7");
	assert_string_equal(inet_addr_format(&w.roles[IPVS_MASTER].group, group), "224.0.0.81");
	assert_int_equal(w.roles[IPVS_MASTER].id, 0);
	assert_int_equal(w.roles[IPVS_MASTER].port, 8848);
	assert_int_equal(w.roles[IPVS_MASTER].ttl, 1);
	assert_int_equal(w.roles[IPVS_MASTER].max_length, 1472);
	w = want("{\"backup\": {\"interface\": \"eth0\", \"group\": \"ff02::81\"}}");
	assert_int_equal(w.set, 1 << IPVS_BACKUP);
	assert_int_equal(w.roles[IPVS_BACKUP].max_length, 1452);
	assert_int_equal(want("{}").set, 0);
}

static void test_bad_values(void **state)
{
	static const struct {
		const char *text, *field, *words;
	} rows[] = {
		{ "{\"master\": {}}", "master.interface", "missing" },
		{ "{\"slave\": {}}", "slave", "unknown field of a set of sync daemons, allowed are master, backup" },
		{ "{\"master\": null}", "master", "found null, allowed is an object" },
		{ "{\"master\": {\"interface\": \"a-name-that-is-too-long\"}}", "master.interface", "1 to 15 letters" },
		{ "{\"master\": {\"interface\": \"eth0\", \"id\": 256}}", "master.id", "from 0 to 255" },
		{ "{\"master\": {\"interface\": \"eth0\", \"ttl\": 0}}", "master.ttl", "from 1 to 255" },
		{ "{\"master\": {\"interface\": \"eth0\", \"port\": 0}}", "master.port", "from 1 to 65535" },
		{ "{\"master\": {\"interface\": \"eth0\", \"group\": \"10.0.0.1\"}}", "master.group",
			"found 10.0.0.1, allowed is an IPv4 or IPv6 multicast address" },
		{ "{\"master\": {\"interface\": \"eth0\", \"group\": \"fe80::1\"}}", "master.group", "multicast" },
		{ "{\"master\": {\"interface\": \"eth0\", \"group\": 7}}", "master.group", "found a whole number" },
		{ "{\"backup\": {\"interface\": \"eth0\", \"max_length\": 1000}}", "backup.max_length",
			"found 1000, allowed is a whole number from 1024 to 65507" },
		{ "{\"master\": {\"interface\": \"eth0\", \"max_length\": 65500, \"group\": \"ff02::1\"}}",
			"master.max_length", "to 65487" },
		{ "{\"master\": {\"interface\": \"eth0\", \"max_length\": 0}}", "master.max_length", "from 1 to" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sync_wanted wanted;
		struct err err;

		if (parse(rows[i].text, &wanted, &err) != -EINVAL || strcmp(err.field, rows[i].field) != 0 ||
			!strstr(err.text, rows[i].words))
			fail_msg("%s: %s: %s", rows[i].text, err.field, err.text);
	}
}

static struct ipvs_daemons running_on(const char *interface)
{
	struct ipvs_daemons running = { .running = { [IPVS_MASTER] = true } };
	struct ipvs_daemon *d = &running.daemons[IPVS_MASTER];

	*d = (struct ipvs_daemon) { .port = 8848, .ttl = 1, .max_length = 1472 };
	strcpy(d->interface, interface);
	inet_addr_parse("224.0.0.81", &d->group);
	return running;
}

static void test_plan(void **state)
{
	const struct sync_wanted none = { 0 }, w = want("{\"master\": {\"interface\": \"eth0\"}}");
	const struct ipvs_daemons nothing = { 0 }, same = running_on("eth0"), other = running_on("eth1");

	(void)state;
	assert_int_equal(sync_plan(&none, &nothing, IPVS_MASTER, 0, 0), SYNC_LEAVE);
	assert_int_equal(sync_plan(&none, &same, IPVS_MASTER, 2, 2), SYNC_STOP);
	assert_int_equal(sync_plan(&w, &nothing, IPVS_MASTER, 0, 2), SYNC_START);
	assert_int_equal(sync_plan(&w, &nothing, IPVS_MASTER, 0, 0), SYNC_LEAVE);
	assert_int_equal(sync_plan(&w, &nothing, IPVS_BACKUP, 0, 2), SYNC_LEAVE);
	assert_int_equal(sync_plan(&w, &same, IPVS_MASTER, 0, 2), SYNC_LEAVE); // adopted
	assert_int_equal(sync_plan(&w, &same, IPVS_MASTER, 2, 2), SYNC_LEAVE);
	assert_int_equal(sync_plan(&w, &same, IPVS_MASTER, 2, 3), SYNC_RESTART);
	assert_int_equal(sync_plan(&w, &same, IPVS_MASTER, 2, 0), SYNC_LEAVE);
	assert_int_equal(sync_plan(&w, &other, IPVS_MASTER, 0, 2), SYNC_RESTART);
	assert_int_equal(sync_plan(&w, &other, IPVS_MASTER, 0, 0), SYNC_LEAVE);
}

static void test_differences_are_named(void **state)
{
	const struct sync_wanted w = want("{\"master\": {\"interface\": \"eth0\"}}");
	struct ipvs_daemons running = running_on("eth0");
	struct ipvs_daemon *d = &running.daemons[IPVS_MASTER];
	char names[80];

	(void)state;
	assert_false(sync_differs(&w.roles[IPVS_MASTER], d, names, sizeof(names)));
	d->id = 3;
	assert_true(sync_differs(&w.roles[IPVS_MASTER], d, names, sizeof(names)));
	assert_string_equal(names, "id");
	strcpy(d->interface, "eth1");
	inet_addr_parse("224.0.0.82", &d->group);
	d->port = d->ttl = 7;
	d->max_length = 1;
	assert_true(sync_differs(&w.roles[IPVS_MASTER], d, names, sizeof(names)));
	assert_string_equal(names, "interface, id, group, port, ttl, max_length");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_left_out),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_differences_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
