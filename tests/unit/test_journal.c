// SPDX-License-Identifier: Apache-2.0
#include "agent/journal.h"

#include "shared/util.h"

#include <errno.h>
#include <linux/ip.h>
#include <netinet/in.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct scene {
	char dir[64];
	struct journal journal;
};

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));
	struct err err = { 0 };

	strcpy(s->dir, "/tmp/test_journal.XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	assert_int_equal(journal_open(s->dir, &s->journal, &err), 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	static const char *const files[] = { "journal.json", "journal.json.new", "journal.json.bad" };
	struct scene *s = *state;

	journal_close(&s->journal);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/%s", s->dir, files[i]);
		unlink(path);
	}
	rmdir(s->dir);
	free(s);
	return 0;
}

static struct inet_addr address(const char *text)
{
	struct inet_addr addr;

	assert_int_equal(inet_addr_parse(text, &addr), 0);
	return addr;
}

static void reopen(struct scene *s)
{
	struct err err = { 0 };

	journal_close(&s->journal);
	assert_int_equal(journal_open(s->dir, &s->journal, &err), 0);
}

static void write_text(const char *path, const char *text)
{
	_cleanup_fclose_ FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
}

static void one_has_it_at_a_time(void **state)
{
	struct scene *s = *state;
	struct journal other = { 0 };
	struct err err = { 0 };
	char path[128];

	snprintf(path, sizeof(path), "%s/lock", s->dir);
	assert_int_equal(journal_open(s->dir, &other, &err), -EBUSY);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(journal_peek(s->dir, &other, &err), 0); // to look is free
	journal_close(&other);
	assert_int_equal(access(path, F_OK), 0); // and takes nothing away
	journal_close(&s->journal);
	assert_int_equal(access(path, F_OK), -1);
	// one that a killed agent left is nobody's
	write_text(path, "");
	assert_int_equal(journal_open(s->dir, &s->journal, &err), 0);
	assert_int_equal(journal_open(s->dir, &other, &err), -EBUSY);
}

static void without_a_file_it_is_empty(void **state)
{
	struct scene *s = *state;

	assert_int_equal(s->journal.list.count, 0);
}

static void every_kind_comes_back_as_it_was(void **state)
{
	struct scene *s = *state;
	const struct resource items[] = {
		{ .kind = RESOURCE_FOU, .addr = address("10.1.0.11"), .sport = 6080 },
		{ .kind = RESOURCE_DEVICE, .dev = "brass-ip6", .device_kind = "ip6tnl", .addr = address("fd00::1") },
		{ .kind = RESOURCE_CONF, .dev = "eth0", .conf = IPV4_DEVCONF_ARP_IGNORE, .value = 1, .original = 3 },
		{ .kind = RESOURCE_MIRROR, .addr.family = AF_INET, .table = 4673, .value = 1440 },
		{ .kind = RESOURCE_MIRROR, .addr.family = AF_INET6, .table = 4673, .value = 1400 },
		{ .kind = RESOURCE_ROUTE, .addr = address("10.1.0.1"), .table = 4294967295u },
		{ .kind = RESOURCE_RULE,
			.addr = address("10.1.0.11"),
			.ip_protocol = IPPROTO_UDP,
			.sport = 65535,
			.table = 5000,
			.priority = 32000 },
		{ .kind = RESOURCE_VIP, .dev = "lo", .addr = address("192.0.2.10") },
	};
	struct err err = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(items); i++)
		assert_int_equal(resource_list_add(&s->journal.list, &items[i]), 0);
	assert_int_equal(journal_save(&s->journal, &err), 0);
	reopen(s);
	assert_int_equal(s->journal.list.count, ARRAY_SIZE(items));
	for (size_t i = 0; i < ARRAY_SIZE(items); i++) {
		const struct resource *r = &s->journal.list.items[i];

		assert_true(resource_same(r, &items[i]));
		assert_int_equal(r->original, items[i].original);
	}
}

static void a_damaged_file_is_put_aside(void **state)
{
	static const char *const texts[] = { "", "{", "[]", "{\"version\":1}", "{\"version\":1,\"resources\":[{}]}",
		"{\"version\":1,\"resources\":[7]}", "\xff\xfe" };
	struct scene *s = *state;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		char bad[600];

		write_text(s->journal.path, texts[i]);
		reopen(s);
		assert_int_equal(s->journal.list.count, 0);
		assert_int_equal(access(s->journal.path, F_OK), -1);
		snprintf(bad, sizeof(bad), "%s.bad", s->journal.path);
		assert_int_equal(unlink(bad), 0);
	}
}

static void a_bad_entry_is_refused(void **state)
{
	static const struct {
		const char *field, *value;
	} cases[] = { { "kind", "planet" }, { "addr", "192.0.2.300" }, { "conf", "arp_whatever" }, { "value", "1" } };
	const struct resource good = { .kind = RESOURCE_CONF, .dev = "eth0", .conf = IPV4_DEVCONF_ARP_IGNORE };
	struct resource r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *json = resource_to_json(&good);

		assert_int_equal(resource_from_json(json, &r), 0);
		json_object_set_new(json, cases[i].field, json_string(cases[i].value));
		assert_int_equal(resource_from_json(json, &r), -EINVAL);
		json_decref(json);
	}
}

static void what_cannot_be_written_is_said(void **state)
{
	struct scene *s = *state;
	struct err err = { 0 };
	char path[128];

	snprintf(path, sizeof(path), "%s/lock", s->dir);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(s->dir), 0);
	assert_int_equal(journal_save(&s->journal, &err), -ENOENT);
	assert_non_null(strstr(err.text, s->journal.path));
	assert_int_equal(mkdir(s->dir, 0700), 0);
}

static void an_older_file_stays_until_the_new_one_is_whole(void **state)
{
	struct scene *s = *state;
	const struct resource r = { .kind = RESOURCE_VIP, .dev = "lo", .addr = address("192.0.2.10") };
	char temporary[600];
	struct err err = { 0 };

	assert_int_equal(resource_list_add(&s->journal.list, &r), 0);
	assert_int_equal(journal_save(&s->journal, &err), 0);
	// a crash while writing leaves a part of the next one behind
	snprintf(temporary, sizeof(temporary), "%s.new", s->journal.path);
	write_text(temporary, "{\"resources\":[");
	reopen(s);
	assert_int_equal(s->journal.list.count, 1);
	assert_int_equal(journal_save(&s->journal, &err), 0);
	reopen(s);
	assert_int_equal(s->journal.list.count, 1);
	assert_int_equal(access(temporary, F_OK), -1);
}

static void what_root_writes_belongs_to_the_owner_of_the_folder(void **state)
{
	struct scene *s = *state;
	struct err err = { 0 };
	struct stat written;

	if (geteuid() != 0)
		skip();
	assert_int_equal(chown(s->dir, 4321, 4322), 0);
	assert_int_equal(journal_save(&s->journal, &err), 0);
	assert_int_equal(stat(s->journal.path, &written), 0);
	assert_int_equal(written.st_uid, 4321);
	assert_int_equal(written.st_gid, 4322);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(one_has_it_at_a_time),
		TEST(without_a_file_it_is_empty),
		TEST(every_kind_comes_back_as_it_was),
		TEST(a_damaged_file_is_put_aside),
		TEST(a_bad_entry_is_refused),
		TEST(what_cannot_be_written_is_said),
		TEST(an_older_file_stays_until_the_new_one_is_whole),
		TEST(what_root_writes_belongs_to_the_owner_of_the_folder),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
