// SPDX-License-Identifier: Apache-2.0
#include "agent/drain.h"

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct drain_count nothing = { .quiet = true, .known = true };

// How many equal looks it takes until it is no longer waiting; 0: a hundred are not enough.
static int looks_until_over(struct drain *drain, struct drain_count count)
{
	for (int i = 1; i <= 100; i++) {
		drain_judge(drain, &count, 0);
		if (drain->state != DRAIN_WAITING)
			return i;
	}
	return 0;
}

static void it_is_over_when_nothing_was_open_for_a_while(void **state)
{
	struct drain drain = { .end_ms = 1000 };

	(void)state;
	assert_int_equal(looks_until_over(&drain, nothing), 3);
	assert_int_equal(drain.state, DRAIN_QUIET);
}

static void each_open_connection_begins_the_count_anew(void **state)
{
	struct drain drain = { .end_ms = 1000 };
	const struct drain_count one = { .quiet = true, .known = true, .at_directors = 1, .here = 1 };

	(void)state;
	drain_judge(&drain, &nothing, 0);
	drain_judge(&drain, &nothing, 0);
	drain_judge(&drain, &one, 0);
	assert_int_equal(looks_until_over(&drain, nothing), 3);
}

static void what_directors_alone_count_is_stale_after_longer(void **state)
{
	struct drain drain = { .end_ms = 1000 };

	(void)state;
	assert_int_equal(
		looks_until_over(&drain, (struct drain_count) { .quiet = true, .known = true, .at_directors = 1 }), 20);
	assert_int_equal(drain.state, DRAIN_STALE);
	// unless the program may be in another network namespace
	drain = (struct drain) { .end_ms = 1000 };
	assert_int_equal(looks_until_over(&drain, (struct drain_count) { .quiet = true, .at_directors = 1 }), 0);
}

static void a_director_that_still_sends_holds_it_up(void **state)
{
	struct drain drain = { .end_ms = 1000 };

	(void)state;
	assert_int_equal(looks_until_over(&drain, (struct drain_count) { .known = true }), 0);
}

static void a_director_that_has_not_heard_of_it_may_yet_send(void **state)
{
	struct protocol_service web = { .service = "web", .known = true };
	struct client client = { .state = CLIENT_REGISTERED,
		.has_answer = true,
		.fresh = true,
		.answer = { .services = &web, .count = 1 } };
	const struct client_list clients = { .items = { &client }, .count = 1 };
	const struct spec spec = { 0 };
	struct drain drain = drain_begin("web", 100000);

	(void)state;
	for (int i = 0; i < 10; i++)
		drain_look(&drain, &spec, &clients, false);
	assert_int_equal(drain.state, DRAIN_WAITING);
	assert_false(drain.count.quiet);
	client.told = true;
	for (int i = 0; i < 3; i++)
		drain_look(&drain, &spec, &clients, false);
	assert_int_equal(drain.state, DRAIN_QUIET);
}

static void late_is_late_until_it_is_quiet(void **state)
{
	struct drain drain = { .end_ms = 1000 };
	const struct drain_count one = { .quiet = true, .here = 1 };
	char text[DRAIN_TEXT_MAX];

	(void)state;
	drain_judge(&drain, &one, 999);
	assert_int_equal(drain.state, DRAIN_WAITING);
	drain_judge(&drain, &one, 1000);
	assert_int_equal(drain.state, DRAIN_LATE);
	assert_string_equal(drain_describe(&drain, text), "the time is over: 0 at the directors, 1 here");
	drain_judge(&drain, &nothing, 1001);
	drain_judge(&drain, &nothing, 1002);
	assert_int_equal(drain.state, DRAIN_LATE);
	drain_judge(&drain, &nothing, 1003);
	assert_int_equal(drain.state, DRAIN_QUIET);
}

static void progress_is_said_in_connections_and_seconds(void **state)
{
	struct drain drain = drain_begin("web", 17500);
	char text[DRAIN_TEXT_MAX];

	(void)state;
	drain.count = (struct drain_count) { .at_directors = 1, .here = 12, .quiet = true };
	assert_string_equal(drain_describe(&drain, text), "12 connections, 18 s left");
	drain.count = (struct drain_count) { .at_directors = 1 };
	assert_string_equal(
		drain_describe(&drain, text), "1 connection, 18 s left; not every director has stopped sending");
}

// --- what an operator asked for ---

static void reopen(struct drains *drains, const char *dir)
{
	drains_close(drains);
	assert_int_equal(drains_open(dir, 1000, drains, NULL), 0);
}

static void what_was_asked_outlives_the_process(void **state)
{
	char dir[] = "/tmp/test_drain.XXXXXX";
	struct drains drains = { 0 };

	(void)state;
	assert_non_null(mkdtemp(dir));
	reopen(&drains, dir);
	assert_null(drains_of(&drains, "web"));
	assert_int_equal(drains_add(&drains, "web", 1000, NULL), 0);
	assert_int_equal(drains_add(&drains, "web", 1000, NULL), 0);
	reopen(&drains, dir);
	assert_int_equal(drains.count, 1);
	assert_non_null(drains_of(&drains, "web"));
	assert_null(drains_of(&drains, "api"));
	assert_int_equal(drains_add(&drains, "", 1000, NULL), 0);
	reopen(&drains, dir);
	assert_string_equal(drains_of(&drains, "web")->service, "web");
	assert_string_equal(drains_of(&drains, "api")->service, "");
	assert_int_equal(drains_remove(&drains, "web", NULL), 0);
	assert_int_equal(drains_remove(&drains, "web", NULL), 0);
	assert_int_equal(drains_remove(&drains, "", NULL), 0);
	assert_int_equal(access(drains.path, F_OK), -1);
	reopen(&drains, dir);
	assert_int_equal(drains.count, 0);
	drains_close(&drains);
	assert_int_equal(rmdir(dir), 0);
}

static void a_file_that_makes_no_sense_is_no_empty_one(void **state)
{
	static const char *const texts[] = { "", "{", "[]", "{\"drained\": 3}", "{\"drained\": [3]}",
		"{\"drained\": [\"a/b\"]}" };
	char dir[] = "/tmp/test_drain.XXXXXX", path[64];
	struct drains drains = { 0 };

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/drain.json", dir);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct err err = { 0 };
		FILE *file = fopen(path, "w");

		assert_non_null(file);
		fputs(texts[i], file);
		fclose(file);
		assert_true(drains_open(dir, 1000, &drains, &err) < 0);
		assert_non_null(strstr(err.text, path));
	}
	unlink(path);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_over_when_nothing_was_open_for_a_while),
		cmocka_unit_test(each_open_connection_begins_the_count_anew),
		cmocka_unit_test(what_directors_alone_count_is_stale_after_longer),
		cmocka_unit_test(a_director_that_still_sends_holds_it_up),
		cmocka_unit_test(a_director_that_has_not_heard_of_it_may_yet_send),
		cmocka_unit_test(late_is_late_until_it_is_quiet),
		cmocka_unit_test(progress_is_said_in_connections_and_seconds),
		cmocka_unit_test(what_was_asked_outlives_the_process),
		cmocka_unit_test(a_file_that_makes_no_sense_is_no_empty_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
