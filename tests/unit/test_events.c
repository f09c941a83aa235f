// SPDX-License-Identifier: Apache-2.0
#include "director/events.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static char path[80];

static struct store *open_store(void)
{
	struct store *store = NULL;
	struct err err = { 0 };

	if (store_open(path, &store, &err))
		fail_msg("%s", err.text);
	return store;
}

static struct events *open_events(struct store *store)
{
	struct events *events = NULL;

	assert_int_equal(events_new(store, &events, NULL), 0);
	return events;
}

static void add(struct events *events, const char *reason)
{
	events_add(events,
		&(struct event) { .service = "web",
			.backend = "b",
			.what = "status",
			.old = "up",
			.now = "down",
			.reason = reason });
}

// The reasons of all that count, after an id.
static const char *reasons(const struct events *events, uint64_t after)
{
	static char said[400];
	const char *text;
	size_t n = 0;

	*said = '\0';
	while ((text = events_next(events, after, &after))) {
		const char *reason = strstr(text, "\"reason\":");

		n += (size_t)snprintf(
			said + n, sizeof(said) - n, "%.*s ", (int)strcspn(reason + 10, "\""), reason + 10);
	}
	return said;
}

static void test_what_counts(void **state)
{
	struct store *store = open_store();
	struct events *events = open_events(store);

	(void)state;
	assert_false(events_stand(events));
	add(events, "a");
	assert_string_equal(reasons(events, 0), ""); // not yet
	assert_int_equal(events_newest(events), 0);
	assert_true(events_stand(events));
	assert_string_equal(reasons(events, 0), "a ");
	const char *text = events_next(events, 0, NULL);
	assert_non_null(strstr(text, "{\"id\":1,\"time\":\""));
	assert_non_null(strstr(text,
		"\"type\":\"backend\",\"service\":\"web\",\"backend\":\"b\",\"what\":\"status\",\"old\":\"up\","
		"\"new\":\"down\",\"reason\":\"a\"}"));
	add(events, "b");
	add(events, "c");
	events_undo(events);
	assert_false(events_stand(events));
	add(events, "d");
	assert_true(events_stand(events));
	assert_string_equal(reasons(events, 0), "a d ");
	assert_string_equal(reasons(events, 1), "d ");
	assert_string_equal(reasons(events, 2), "");
	events_free(events);
	store_free(store);
	unlink(path);
}

static void test_they_outlive_a_restart(void **state)
{
	struct store *store = open_store();
	struct events *events = open_events(store);

	(void)state;
	add(events, "a");
	add(events, "b");
	assert_false(events_unsaved(events)); // they may yet be taken back
	events_stand(events);
	assert_true(events_unsaved(events));
	events_save(events, store);
	assert_false(events_unsaved(events));
	assert_int_equal(store_end(store, NULL), 0);
	add(events, "lost");
	events_stand(events);
	events_free(events);
	store_free(store);

	store = open_store();
	events = open_events(store);
	assert_string_equal(reasons(events, 0), "a b ");
	add(events, "c");
	events_stand(events);
	assert_string_equal(reasons(events, 0), "a b c ");
	// somebody who had seen the one that was lost sees what comes now
	assert_string_equal(reasons(events, 3), "c ");
	events_free(events);
	store_free(store);
	unlink(path);
}

static int count(void *ctx, uint64_t id, const char *text, struct err *err)
{
	(void)id, (void)text, (void)err;
	++*(int *)ctx;
	return 0;
}

static void test_the_oldest_go(void **state)
{
	struct store *store = open_store();
	struct events *events = open_events(store);
	int rows = 0;

	(void)state;
	for (int i = 0; i < EVENTS_MAX + 500; i++) {
		add(events, "x");
		if (i % 1000 == 0) {
			events_stand(events);
			events_save(events, store);
		}
	}
	add(events, "last");
	events_stand(events);
	events_save(events, store);
	assert_int_equal(store_end(store, NULL), 0);
	assert_int_equal(events_oldest(events), 502);
	assert_int_equal(events_newest(events), EVENTS_MAX + 501);
	assert_string_equal(reasons(events, EVENTS_MAX + 500), "last ");
	assert_int_equal(store_each_event(store, count, &rows, NULL), 0);
	assert_int_equal(rows, EVENTS_MAX);
	events_free(events);
	store_free(store);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_what_counts),
		cmocka_unit_test(test_they_outlive_a_restart), cmocka_unit_test(test_the_oldest_go) };
	char dir[] = "/tmp/test_events.XXXXXX";

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/x.db", dir);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	rmdir(dir);
	return failed;
}
