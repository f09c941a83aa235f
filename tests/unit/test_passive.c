// SPDX-License-Identifier: Apache-2.0
#include "director/passive.h"

#include "director/conns.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SECOND 1000

// A real server whose counters grow, and the clock.
struct world {
	struct passive p;
	struct passive_counted c;
	msec_t now_ms;
};

static enum passive_next count(struct world *w)
{
	w->now_ms += 5 * SECOND;
	return passive_count(&w->p, &w->c, AF_INET, w->now_ms);
}

// So many connections that nobody answers: two SYNs each, and they stay active.
static void unanswered(struct world *w, uint32_t connections)
{
	w->c.connections += connections;
	w->c.packets += 2 * connections;
	w->c.bytes += 2 * 60 * (uint64_t)connections;
	w->c.active += connections;
}

// Clients that connect and close: four small packets each, mean size 54.
static void opened_and_closed(struct world *w, uint32_t connections)
{
	w->c.connections += connections;
	w->c.packets += 4 * connections;
	w->c.bytes += 4 * 54 * (uint64_t)connections;
}

// A look that finds these connections past SYN_RECV (0 ends the list) at the beginning of what is read of the table,
// and so many in it.
static enum passive_found look_at(struct world *w, size_t places, uint32_t waiting, const uint64_t *past)
{
	size_t place = 0;

	passive_look(&w->p);
	for (; past && *past; past++)
		passive_connection(&w->p, *past, place++, false);
	for (uint32_t i = 0; i < waiting; i++)
		passive_connection(&w->p, 1000000 + i, place++, true);
	return passive_concluded(&w->p, places, w->now_ms);
}

static enum passive_found look(struct world *w, uint32_t waiting, const uint64_t *past)
{
	return look_at(w, PASSIVE_WHOLE, waiting, past);
}

static void end(struct world *w)
{
	passive_clear(&w->p);
	*w = (struct world) { 0 };
}

static void test_what_the_rates_say(void **state)
{
	// connections, packets, bytes a second; active
	static const struct {
		struct passive_counted rates;
		bool worth;
	} rows[] = {
		{ { 0, 0, 0, 100 }, false },            // at rest
		{ { 10, 20, 1200, 100 }, true },        // SYNs of Linux
		{ { 10, 20, 20 * 52, 100 }, true },     // of Windows
		{ { 0, 0, 24, 5 }, true },              // two in five seconds, rounded down
		{ { 10, 20, 1200, 4 }, false },         // none of them stay
		{ { 10, 50, 50 * 90, 100 }, false },    // requests
		{ { 2, 5000, 5000 * 52, 100 }, false }, // downloads: acknowledgements
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(passive_is_worth(&rows[i].rates, AF_INET), rows[i].worth);
	// a SYN over IPv6 is larger
	assert_false(passive_is_worth(&(struct passive_counted) { 10, 20, 21 * 100, 100 }, AF_INET));
	assert_true(passive_is_worth(&(struct passive_counted) { 10, 20, 21 * 100, 100 }, AF_INET6));
}

static void test_none_is_answered(void **state)
{
	const struct judge_rules rules = { .rise = 1, .fall = 2, .passive = true };
	struct world w = { .now_ms = SECOND };
	char text[PASSIVE_TEXT_MAX];

	(void)state;
	assert_int_equal(count(&w), PASSIVE_GOES_ON); // a window begins
	unanswered(&w, 4);
	assert_int_equal(count(&w), PASSIVE_GOES_ON); // too few: it goes on
	unanswered(&w, 19);
	assert_int_equal(count(&w), PASSIVE_LOOK);
	assert_int_equal(look(&w, 23, NULL), PASSIVE_UNANSWERED);
	assert_string_equal(passive_text(&w.p, text), "23 connections in 10 s, none was answered");
	assert_int_equal(w.p.since_ms, w.now_ms);
	assert_false(passive_wants_out(&w.p, &rules));
	unanswered(&w, 5);
	assert_int_equal(count(&w), PASSIVE_LOOK);
	assert_int_equal(look(&w, 28, NULL), PASSIVE_UNANSWERED);
	assert_true(passive_wants_out(&w.p, &rules));
	assert_false(passive_wants_out(&w.p, &(struct judge_rules) { JUDGE_DEFAULTS })); // a warning only
	end(&w);
}

static void test_healthy_servers(void **state)
{
	struct world w = { .now_ms = SECOND };

	(void)state;
	count(&w);
	// nothing of it stays active
	opened_and_closed(&w, 1000);
	assert_int_equal(count(&w), PASSIVE_CLEAR);
	// others stay: the table has to say, and the second look does
	w.c.active = 5000;
	opened_and_closed(&w, 100);
	assert_int_equal(count(&w), PASSIVE_LOOK);
	assert_int_equal(look(&w, 7, (uint64_t[]) { 1, 2, 3, 0 }), PASSIVE_UNKNOWN);
	opened_and_closed(&w, 100);
	assert_int_equal(count(&w), PASSIVE_LOOK);
	assert_int_equal(look(&w, 7, (uint64_t[]) { 3, 2, 4, 0 }), PASSIVE_ANSWERED);
	assert_int_equal(w.p.since_ms, 0);
	// looks in vain become rare
	msec_t last = w.now_ms, longest = 0;
	for (int i = 0; i < 1000; i++) {
		opened_and_closed(&w, 100);
		if (count(&w) != PASSIVE_LOOK)
			continue;
		look(&w, 7, (uint64_t[]) { 10 + (uint64_t)i, 0 });
		longest = w.now_ms - last > longest ? w.now_ms - last : longest;
		last = w.now_ms;
	}
	assert_in_range(longest, 80 * SECOND, 90 * SECOND);
	end(&w);
}

static void test_old_connections_linger(void **state)
{
	struct world w = { .now_ms = SECOND };

	(void)state;
	count(&w);
	unanswered(&w, 10);
	assert_int_equal(count(&w), PASSIVE_LOOK);
	// what was established before it died says nothing; one look cannot tell
	assert_int_equal(look(&w, 10, (uint64_t[]) { 8, 5, 9, 0 }), PASSIVE_UNKNOWN);
	unanswered(&w, 10);
	assert_int_equal(count(&w), PASSIVE_LOOK);
	assert_int_equal(look(&w, 20, (uint64_t[]) { 5, 8, 0 }), PASSIVE_UNANSWERED);
	// their clients send data again: no reason to end the warning
	w.c.packets += 1000;
	w.c.bytes += 1500000;
	unanswered(&w, 10);
	assert_int_equal(count(&w), PASSIVE_LOOK);
	assert_int_equal(look(&w, 30, (uint64_t[]) { 5, 0 }), PASSIVE_UNANSWERED);
	assert_int_equal(w.p.failures, 2);
	// few connections of a table of which only a part was read: nothing is known
	unanswered(&w, 10);
	assert_int_equal(count(&w), PASSIVE_LOOK);
	assert_int_equal(look(&w, 2, NULL), PASSIVE_UNKNOWN);
	assert_int_equal(w.p.failures, 2);
	// one that was answered ends it
	opened_and_closed(&w, 10);
	assert_int_equal(count(&w), PASSIVE_LOOK);
	assert_int_equal(look(&w, 30, (uint64_t[]) { 77, 0 }), PASSIVE_ANSWERED);
	assert_int_equal(w.p.failures, 0);
	end(&w);
}

// Until the next look.
static void look_again(struct world *w)
{
	unanswered(w, 10);
	assert_int_equal(count(w), PASSIVE_LOOK);
}

static void test_what_a_look_misses(void **state)
{
	struct world w = { .now_ms = SECOND };

	(void)state;
	count(&w);
	look_again(&w);
	assert_int_equal(look(&w, 10, (uint64_t[]) { 3, 5, 0 }), PASSIVE_UNKNOWN);
	// one is missed, and is there again: it has not just been answered
	look_again(&w);
	assert_int_equal(look(&w, 20, (uint64_t[]) { 5, 0 }), PASSIVE_UNANSWERED);
	look_again(&w);
	assert_int_equal(look(&w, 30, (uint64_t[]) { 3, 5, 0 }), PASSIVE_UNANSWERED);
	// twice is too often to be the same
	look_again(&w);
	assert_int_equal(look(&w, 30, (uint64_t[]) { 5, 0 }), PASSIVE_UNANSWERED);
	look_again(&w);
	assert_int_equal(look(&w, 30, (uint64_t[]) { 5, 0 }), PASSIVE_UNANSWERED);
	look_again(&w);
	assert_int_equal(look(&w, 30, (uint64_t[]) { 3, 5, 0 }), PASSIVE_ANSWERED);
	end(&w);
	// of a large table only the beginning is read, and its end is not the same each time
	w.now_ms = SECOND;
	count(&w);
	look_again(&w);
	assert_int_equal(look_at(&w, 20, 18, (uint64_t[]) { 3, 5, 0 }), PASSIVE_UNKNOWN);
	passive_look(&w.p);
	for (size_t place = 0; place < 22; place++)
		passive_connection(
			&w.p, place < 2 || place >= 18 ? 3 + 2 * place : 1000 + place, place, place >= 2 && place < 18);
	look_again(&w);
	assert_int_equal(passive_concluded(&w.p, 22, w.now_ms), PASSIVE_UNANSWERED);
	// but before its last tenth what is new is new
	passive_look(&w.p);
	for (size_t place = 0; place < 22; place++)
		passive_connection(&w.p, 2000 + place, place, place != 18);
	look_again(&w);
	assert_int_equal(passive_concluded(&w.p, 22, w.now_ms), PASSIVE_ANSWERED);
	end(&w);
}

// Until the next look finds them, from `now_ms` on.
static void fail_once(struct world *w)
{
	enum passive_next next = PASSIVE_GOES_ON;

	for (int i = 0; i < 4 && next != PASSIVE_LOOK; i++) {
		unanswered(w, 10);
		next = count(w);
	}
	assert_int_equal(next, PASSIVE_LOOK);
	assert_int_equal(look(w, 30, NULL), PASSIVE_UNANSWERED);
}

static void test_out_for_longer_each_time(void **state)
{
	static const int seconds[] = { 30, 60, 120, 240, 300, 300 };
	const struct judge_rules rules = { .rise = 1, .fall = 3, .passive = true };
	struct world w = { .now_ms = SECOND };

	(void)state;
	for (int i = 0; i < 3; i++)
		fail_once(&w);
	for (size_t i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++) {
		assert_true(passive_wants_out(&w.p, &rules));
		passive_out(&w.p, w.now_ms);
		assert_int_equal(w.p.out_ms - w.now_ms, seconds[i] * SECOND);
		assert_false(passive_wants_out(&w.p, &rules));
		assert_int_equal(count(&w), PASSIVE_GOES_ON); // nothing comes: that is no sign
		w.now_ms = w.p.out_ms;
		passive_back(&w.p, w.now_ms);
		fail_once(&w); // on trial one window is enough
	}
	// it is answered again, and that lasts: forgotten after five minutes
	opened_and_closed(&w, 10);
	count(&w);
	look(&w, 30, (uint64_t[]) { 77, 0 });
	passive_over(&w.p);
	assert_false(passive_may_go(&w.p, w.now_ms));
	w.now_ms += 301 * SECOND;
	assert_true(passive_may_go(&w.p, w.now_ms));
	for (int i = 0; i < 3; i++)
		fail_once(&w);
	passive_out(&w.p, w.now_ms);
	assert_int_equal(w.p.out_ms - w.now_ms, 30 * SECOND);
	end(&w);
	assert_int_equal(passive_out_max(1), 0);
	assert_int_equal(passive_out_max(2), 1);
	assert_int_equal(passive_out_max(3), 1);
	assert_int_equal(passive_out_max(10), 5);
}

// A table so large that it is counted every five minutes only: what waits for longer than one is not active any more.
static void test_seldom_counted(void **state)
{
	struct world w = { .now_ms = SECOND };

	(void)state;
	count(&w);
	unanswered(&w, 300);
	w.c.active = 55;
	w.now_ms += 295 * SECOND;
	assert_int_equal(count(&w), PASSIVE_LOOK);
	assert_int_equal(look(&w, 55, NULL), PASSIVE_UNANSWERED);
	end(&w);
	w.now_ms = SECOND;
	count(&w);
	unanswered(&w, 300);
	w.c.active = 20;
	w.now_ms += 295 * SECOND;
	assert_int_equal(count(&w), PASSIVE_CLEAR);
	end(&w);
}

static void test_traffic_ends(void **state)
{
	struct world w = { .now_ms = SECOND };

	(void)state;
	count(&w);
	fail_once(&w);
	unanswered(&w, 2);
	for (int i = 0; i < 12; i++)
		assert_int_equal(count(&w), PASSIVE_GOES_ON); // too few to end it
	for (int i = 0; i < 11; i++)
		assert_int_equal(count(&w), PASSIVE_GOES_ON);
	assert_int_equal(count(&w), PASSIVE_NOTHING);
	// a destination that was made anew counts from zero
	w.c = (struct passive_counted) { 0 };
	assert_int_equal(count(&w), PASSIVE_GOES_ON);
	end(&w);
}

static void test_lines_of_the_table(void **state)
{
	struct conn a, b, c;
	char text[INET_ENDPOINT_MAX];

	(void)state;
	assert_int_equal(
		conns_parse("Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName", &a), -ENOENT);
	assert_int_equal(conns_parse("TCP 0A000002 9284 0A010064 0050 0A010066 1F90 SYN_RECV         59", &a), 0);
	assert_true(a.waiting);
	assert_string_equal(inet_addr_format(&a.client, text), "10.0.0.2");
	assert_string_equal(inet_endpoint_format(&a.vip, text), "10.1.0.100:80");
	assert_string_equal(inet_endpoint_format(&a.dest, text), "10.1.0.102:8080");
	// the same connection later; another one
	assert_int_equal(conns_parse("TCP 0A000002 9284 0A010064 0050 0A010066 1F90 ESTABLISHED     899", &b), 0);
	assert_int_equal(conns_parse("TCP 0A000002 9285 0A010064 0050 0A010066 1F90 ESTABLISHED     899", &c), 0);
	assert_false(b.waiting);
	assert_true(a.id == b.id && a.id != c.id);
	assert_int_equal(conns_parse("TCP fd00:0000:0000:0000:0000:0000:0000:0002 9284 "
				     "fd00:0001:0000:0000:0000:0000:0000:0100 0050 "
				     "fd00:0001:0000:0000:0000:0000:0000:0101 0050 SYN_RECV         60",
				 &a),
		0);
	assert_string_equal(inet_endpoint_format(&a.dest, text), "[fd00:1::101]:80");
	// templates of persistence, UDP, what is no line
	assert_int_equal(conns_parse("TCP 0A000002 0000 0A010064 0050 0A010066 0050 NONE            299", &a), -ENOENT);
	assert_int_equal(conns_parse("UDP 0A000002 9284 0A010064 0050 0A010066 0050 UDP             299", &a), -ENOENT);
	assert_int_equal(conns_parse("TCP 0A000002 9284 0A010064 0050 0A01006", &a), -EINVAL);
	assert_int_equal(conns_parse("TCP 0A00000x 9284 0A010064 0050 0A010066 0050 NONE 1", &a), -EINVAL);
	assert_int_equal(conns_parse("TCP 0A000002 19284 0A010064 0050 0A010066 0050 NONE 1", &a), -EINVAL);
	assert_int_equal(conns_parse("TCP", &a), -EINVAL);
	assert_int_equal(conns_parse("", &a), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_the_rates_say),
		cmocka_unit_test(test_none_is_answered),
		cmocka_unit_test(test_healthy_servers),
		cmocka_unit_test(test_old_connections_linger),
		cmocka_unit_test(test_what_a_look_misses),
		cmocka_unit_test(test_out_for_longer_each_time),
		cmocka_unit_test(test_seldom_counted),
		cmocka_unit_test(test_traffic_ends),
		cmocka_unit_test(test_lines_of_the_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
