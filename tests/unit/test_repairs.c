// SPDX-License-Identifier: Apache-2.0
#include "agent/repairs.h"

#include "shared/log.h"

#include <linux/ip.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct resource vip(const char *text)
{
	struct resource r = { .kind = RESOURCE_VIP, .dev = "lo" };

	assert_int_equal(inet_addr_parse(text, &r.addr), 0);
	return r;
}

// Somebody takes it away every `every_ms`, for `for_ms`. Returns how often it was put back.
static size_t undo(struct repairs *repairs, const struct resource *what, msec_t *now_ms, msec_t every_ms, msec_t for_ms)
{
	size_t before = repairs->total;

	for (msec_t end_ms = *now_ms + for_ms; *now_ms < end_ms; *now_ms += every_ms) {
		if (repairs_may(repairs, what, *now_ms))
			repairs_note(repairs, what, "dhclient (pid 7)", *now_ms);
		repairs_settle(repairs, *now_ms);
	}
	return repairs->total - before;
}

static void test_at_once_while_it_is_seldom(void **state)
{
	const struct resource what = vip("10.0.0.100");
	struct repairs repairs = { 0 };
	msec_t now_ms = 1000;

	(void)state;
	// each 1.2 s is not ten within ten seconds
	assert_int_equal(undo(&repairs, &what, &now_ms, 1200, 60000), 50);
	json_t *json = repairs_to_json(&repairs);

	assert_int_equal(json_array_size(json_object_get(json, "wars")), 0);
	json_decref(json);
	repairs_clear(&repairs);
}

static void test_a_war(void **state)
{
	const struct resource what = vip("10.0.0.100"), other = vip("10.0.0.101");
	struct repairs repairs = { 0 };
	msec_t now_ms = 1000;
	char why[160];

	(void)state;
	// ten at once, then pauses of 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, ... s
	assert_int_equal(undo(&repairs, &what, &now_ms, 10, 100), 10);
	assert_false(repairs_may(&repairs, &what, now_ms));
	assert_int_equal(undo(&repairs, &what, &now_ms, 10, 6300), 5);
	assert_int_equal(undo(&repairs, &what, &now_ms, 10, 60000), 12);
	// others are not concerned
	assert_true(repairs_may(&repairs, &other, now_ms));
	json_t *json = repairs_to_json(&repairs), *war = json_array_get(json_object_get(json, "wars"), 0);

	assert_string_equal(json_string_value(json_object_get(war, "who")), "dhclient (pid 7)");
	assert_int_equal(json_integer_value(json_object_get(war, "repairs")), 27);
	json_decref(json);
	// back, but not to be relied on before it has stayed for a second
	const msec_t last_ms = repairs.things[0].last_ms;

	assert_true(repairs_problem(&repairs, &what, last_ms + REPAIRS_STAY_MS - 1, why, sizeof(why)));
	assert_string_equal(why, "ip addr add 10.0.0.100/32 dev lo: undone again and again, by dhclient (pid 7)");
	assert_false(repairs_problem(&repairs, &what, last_ms + REPAIRS_STAY_MS, why, sizeof(why)));
	assert_int_equal(repairs_settle(&repairs, last_ms), REPAIRS_STAY_MS);
	assert_int_equal(repairs_settle(&repairs, last_ms + REPAIRS_STAY_MS), REPAIRS_PAUSE_MAX_MS - REPAIRS_STAY_MS);
	// peace: it is over after 10 s in which nobody touched it, and the next time is the first again
	const msec_t over_ms = last_ms + REPAIRS_PAUSE_MAX_MS + REPAIRS_WINDOW_MS;

	assert_int_equal(repairs_settle(&repairs, over_ms), 1);
	assert_int_equal(repairs.count, 1);
	assert_int_equal(repairs_settle(&repairs, over_ms + 1), -1);
	assert_int_equal(repairs.count, 0);
	now_ms = over_ms + 2;
	assert_int_equal(undo(&repairs, &what, &now_ms, 10, 100), 10);
	repairs_clear(&repairs);
}

static void test_settings_against_arp_do_not_wait(void **state)
{
	struct resource what = { .kind = RESOURCE_CONF, .dev = "eth0", .conf = IPV4_DEVCONF_ARP_IGNORE, .value = 1 };
	struct repairs repairs = { 0 };
	msec_t now_ms = 1000;

	(void)state;
	assert_int_equal(undo(&repairs, &what, &now_ms, 10, 1000), 100);
	what.conf = IPV4_DEVCONF_RP_FILTER;
	assert_int_equal(undo(&repairs, &what, &now_ms, 10, 100), 10);
	assert_false(repairs_may(&repairs, &what, now_ms));
	repairs_clear(&repairs);
}

static void test_what_shuts_tunnels_does_not_wait(void **state)
{
	static const enum resource_kind kinds[] = { RESOURCE_TABLE, RESOURCE_ALLOW, RESOURCE_LOCK };
	struct repairs repairs = { 0 };
	msec_t now_ms = 1000;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		const struct resource what = { .kind = kinds[i], .addr = vip("10.0.0.100").addr };

		assert_int_equal(undo(&repairs, &what, &now_ms, 10, 1000), 100);
	}
	repairs_clear(&repairs);
}

static void test_what_is_shown(void **state)
{
	struct repairs repairs = { 0 };
	struct resource what = vip("10.0.0.1");

	(void)state;
	for (uint8_t i = 1; i <= 12; i++) {
		what.addr.bytes[3] = i;
		repairs_note(&repairs, &what, i == 12 ? NULL : "ip (pid 7)", 1000);
	}
	json_t *json = repairs_to_json(&repairs), *last = json_object_get(json, "last");

	assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "by_kind"), "vip")), 12);
	assert_int_equal(json_array_size(last), REPAIRS_SHOWN);
	assert_string_equal(
		json_string_value(json_object_get(json_array_get(last, 0), "what")), "ip addr add 10.0.0.5/32 dev lo");
	assert_string_equal(json_string_value(json_object_get(json_array_get(last, 7), "who")), EVIDENCE_NOBODY);
	json_decref(json);
	repairs_clear(&repairs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_at_once_while_it_is_seldom),
		cmocka_unit_test(test_a_war),
		cmocka_unit_test(test_settings_against_arp_do_not_wait),
		cmocka_unit_test(test_what_shuts_tunnels_does_not_wait),
		cmocka_unit_test(test_what_is_shown),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
