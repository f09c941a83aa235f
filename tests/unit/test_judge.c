// SPDX-License-Identifier: Apache-2.0
#include "director/judge.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SECOND 1000

// Feeds results ("+": passed, "-": failed), one a second from `from` on, and says what the verdict is after each:
// "u" up, "d" down.
static const char *after(struct judge *judge, const struct judge_rules *rules, const char *results, msec_t from)
{
	static char said[256];
	size_t i = 0;

	for (; results[i]; i++) {
		judge_result(judge, rules, SECOND, results[i] == '+', from + (msec_t)i * SECOND);
		said[i] = judge->verdict == JUDGE_UP ? 'u' : 'd';
	}
	said[i] = '\0';
	return said;
}

static void test_rise_and_fall(void **state)
{
	const struct judge_rules one = { JUDGE_DEFAULTS }, rules = { .rise = 2, .fall = 3 };
	struct judge judge = { 0 };

	(void)state;
	assert_string_equal(after(&judge, &one, "+-+-", 1), "udud");
	judge = (struct judge) { 0 };
	// the first result decides; then three failures, two passes, in a row
	assert_string_equal(after(&judge, &rules, "+--+---+-++", 1), "uuuuuuddddu");
	judge = (struct judge) { 0 };
	assert_string_equal(after(&judge, &rules, "-++", 1), "ddu");
	// known from before
	judge = (struct judge) { 0 };
	judge_set(&judge, JUDGE_UP, 0);
	assert_string_equal(after(&judge, &rules, "---", 1), "uud");
}

static void test_flaps_are_damped(void **state)
{
	const struct judge_rules rules = { .rise = 1, .fall = 1, .damping_ms = 10 * SECOND };
	struct judge judge = { 0 };

	(void)state;
	// down soon after it came up: 2 passes, then 4, then 8, never more than the time has
	assert_string_equal(after(&judge, &rules, "+-++-++++-++++++++-++++++++++", 1), "udduddddudddddddduddddddddddu");
	assert_int_equal(judge.flaps, 4);
	// it stays up for longer than that: all is forgotten
	assert_string_equal(after(&judge, &rules, "+", 60 * SECOND), "u");
	assert_string_equal(after(&judge, &rules, "-+", 61 * SECOND), "du");
	assert_int_equal(judge.flaps, 0);
}

static void test_due(void **state)
{
	const struct judge_rules plain = { JUDGE_DEFAULTS }, fast = { .rise = 1, .fall = 3, .fast = true },
				 slower = {
					 .rise = 2, .fall = 1, .down_interval_ms = 2000, .down_interval_max_ms = 9000
				 };
	struct judge judge = { 0 };

	(void)state;
	// a quarter of the interval behind the whole seconds
	judge_set(&judge, JUDGE_UP, 1);
	assert_int_equal(judge_due(&judge, &plain, SECOND, 1u << 30, 5250, 5253), 6250);
	assert_int_equal(judge_due(&judge, &plain, SECOND, 1u << 30, 5249, 5249), 6250); // a moment early
	assert_int_equal(judge_due(&judge, &plain, SECOND, 1u << 30, 5250, 7900), 8250); // it took long
	assert_int_equal(judge_due(&judge, &plain, SECOND, 0, 5000, 5003), 6000);
	// a check that failed by waiting into the next one's place makes way for it at once, while there is doubt
	// just after the machine has started
	assert_int_equal(judge_due(&judge, &plain, 60 * SECOND, 1u << 31, -50000, 2000), 30000);
	const struct judge doubted = { .verdict = JUDGE_UP, .against = 1 }, fine = { .verdict = JUDGE_UP };
	assert_int_equal(judge_due(&doubted, &plain, SECOND, 1u << 30, 5250, 6251), 6251);
	assert_int_equal(judge_due(&doubted, &plain, SECOND, 1u << 30, 5250, 6000), 6250);
	assert_int_equal(judge_due(&fine, &plain, SECOND, 1u << 30, 5250, 6251), 7250);
	// the first failure is looked at again at once, the second when it is due
	judge_result(&judge, &fast, SECOND, false, 5300);
	assert_int_equal(judge_due(&judge, &fast, SECOND, 1u << 30, 5250, 5300), 5300);
	judge_result(&judge, &fast, SECOND, false, 5310);
	assert_int_equal(judge_due(&judge, &fast, SECOND, 1u << 30, 5300, 5310), 6250);
	// down: 2 s, 4 s, 8 s, 9 s at most, always on the grid of that interval; 1 s once it passes
	judge = (struct judge) { 0 };
	judge_result(&judge, &slower, SECOND, false, 0);
	assert_int_equal(judge_due(&judge, &slower, SECOND, 0, 10000, 10001), 12000);
	judge_result(&judge, &slower, SECOND, false, 0);
	assert_int_equal(judge_due(&judge, &slower, SECOND, 0, 12000, 12001), 16000);
	judge_result(&judge, &slower, SECOND, false, 0);
	assert_int_equal(judge_due(&judge, &slower, SECOND, 0, 16000, 16001), 24000);
	for (int i = 0; i < 400; i++)
		judge_result(&judge, &slower, SECOND, false, 0);
	assert_int_equal(judge_due(&judge, &slower, SECOND, 0, 24000, 24001), 36000);
	assert_int_equal(judge_due(&judge, &slower, SECOND, 0, 36000, 36001), 45000);
	judge_result(&judge, &slower, SECOND, true, 0);
	assert_int_equal(judge_due(&judge, &slower, SECOND, 0, 45000, 45001), 46000);
}

// 10,000 backends that all begin at one moment: in every hundredth of the interval about a hundred, and in the same
// one after a restart.
static void test_spread(void **state)
{
	const struct judge_rules rules = { JUDGE_DEFAULTS };
	const msec_t interval = 10 * SECOND;
	unsigned int slots[100] = { 0 };
	struct judge judge = { .verdict = JUDGE_UP };
	char service[16], backend[16];

	(void)state;
	for (int i = 0; i < 10000; i++) {
		snprintf(service, sizeof(service), "svc%d", i / 100);
		snprintf(backend, sizeof(backend), "b%d", i % 100);
		const uint32_t phase = judge_phase(service, backend);
		const msec_t due = judge_due(&judge, &rules, interval, phase, 77777, 77777),
			     later = judge_due(&judge, &rules, interval, phase, 123456789, 123456789);
		assert_true(due >= 77777 + interval / 2 && due < 77777 + 2 * interval);
		assert_int_equal(due % interval, later % interval);
		slots[due % interval / (interval / 100)]++;
	}
	for (size_t i = 0; i < 100; i++)
		assert_in_range(slots[i], 60, 145); // 10 is one sigma
}

static void test_slow_part(void **state)
{
	uint32_t before = 0;

	(void)state;
	assert_int_equal(judge_slow_part(0, 10 * SECOND), 90); // a part of 11
	assert_int_equal(judge_slow_part(999, 10 * SECOND), 90);
	assert_int_equal(judge_slow_part(1000, 10 * SECOND), 181);
	assert_int_equal(judge_slow_part(9999, 10 * SECOND), 909);
	assert_int_equal(judge_slow_part(10000, 10 * SECOND), JUDGE_WHOLE);
	assert_int_equal(judge_slow_part(0, 0), JUDGE_WHOLE);
	assert_int_equal(judge_slow_part(0, 500), 500);
	unsigned int steps = 0;
	for (msec_t t = 0; t <= 3600 * SECOND; t += 100) {
		uint32_t part = judge_slow_part(t, 3600 * SECOND);

		assert_true(part >= before);
		steps += part != before;
		before = part;
	}
	assert_int_equal(steps, 21); // that is all that the kernel hears in an hour
}

static void test_accumulated_part(void **state)
{
	unsigned int steps = 0;
	uint32_t before = 0;

	(void)state;
	assert_int_equal(judge_accumulated_part(0, 0), JUDGE_WHOLE); // no check yet, or no pulse
	assert_int_equal(judge_accumulated_part(1, 1), JUDGE_WHOLE);
	assert_int_equal(judge_accumulated_part(1, 2), 500);
	assert_int_equal(judge_accumulated_part(2, 100), 0);
	assert_int_equal(judge_accumulated_part(3, 100), 50);
	assert_int_equal(judge_accumulated_part(97, 100), 950);
	assert_int_equal(judge_accumulated_part(98, 100), JUDGE_WHOLE); // two failures in a hundred are nothing
	for (uint32_t passed = 0; passed <= 100; passed++) {
		const uint32_t part = judge_accumulated_part(passed, 100);

		assert_true(part >= before);
		steps += part != before;
		before = part;
	}
	assert_int_equal(steps, 20);
}

// --- against a model that remembers everything ---

#define RANDOM_STEPS 200000

struct past {
	char results[RANDOM_STEPS]; // since the verdict
	int count;
	char verdict; // '?', 'u', 'd'
	msec_t since;
	int flaps;
};

static int run_at_the_end(const struct past *past, char result)
{
	int n = 0;

	while (n < past->count && past->results[past->count - 1 - n] == result)
		n++;
	return n;
}

static void turn(struct past *past, char verdict, msec_t now)
{
	past->verdict = verdict;
	past->count = 0;
	past->since = now;
}

static void remember(struct past *past, const struct judge_rules *rules, msec_t interval, bool passed, msec_t now)
{
	past->results[past->count++] = passed ? '+' : '-';
	if (past->verdict == '?') {
		turn(past, passed ? 'u' : 'd', now);
	} else if (past->verdict == 'u' && run_at_the_end(past, '-') >= (int)rules->fall) {
		past->flaps = now - past->since < rules->damping_ms ? past->flaps + 1 : 0;
		past->flaps = past->flaps > 10 ? 10 : past->flaps;
		turn(past, 'd', now);
	} else if (past->verdict == 'd') {
		msec_t needed = rules->rise, most = rules->damping_ms / interval;

		for (int i = 0; i < past->flaps; i++)
			needed *= 2;
		needed = needed > most ? most : needed;
		needed = needed < rules->rise ? rules->rise : needed;
		if (run_at_the_end(past, '+') >= needed)
			turn(past, 'u', now);
	}
}

static uint32_t dice(unsigned int *seed, uint32_t sides)
{
	return (uint32_t)rand_r(seed) % sides;
}

static void test_against_a_model(void **state)
{
	const char *given = getenv("SEED");
	unsigned int seed = given ? (unsigned int)atoi(given) : 20, first = seed;
	struct past *past = calloc(1, sizeof(*past));
	struct judge_rules rules = { JUDGE_DEFAULTS };
	struct judge judge = { 0 };
	msec_t now = 1, interval = SECOND;
	unsigned int health = 50, verdicts = 0;

	(void)state;
	past->verdict = '?';
	for (int step = 0; step < RANDOM_STEPS; step++) {
		if (!dice(&seed, 50)) // another mood of the server
			health = dice(&seed, 101);
		if (!dice(&seed, 200)) { // a change of the configuration
			rules = (struct judge_rules) { .rise = 1 + dice(&seed, 5),
				.fall = 1 + dice(&seed, 5),
				.fast = dice(&seed, 2),
				.down_interval_ms = dice(&seed, 3) * SECOND,
				.down_interval_max_ms = dice(&seed, 20) * SECOND,
				.damping_ms = dice(&seed, 4) * 30 * SECOND };
			interval = 100 * (1 + dice(&seed, 50));
		}
		if (!dice(&seed, 5000)) { // another backend
			judge = (struct judge) { 0 };
			*past = (struct past) { .verdict = '?' };
		}
		const bool passed = dice(&seed, 100) < health;
		const uint8_t was = judge.verdict;
		bool changed = judge_result(&judge, &rules, interval, passed, now);

		remember(past, &rules, interval, passed, now);
		verdicts += changed;
		if ("?ud"[judge.verdict] != past->verdict || changed != (judge.verdict != was))
			fail_msg("SEED=%u step %d: %c, the model says %c", first, step, "?ud"[judge.verdict],
				past -> verdict);
		const uint32_t phase = dice(&seed, 1u << 30) * 4;
		const msec_t due = judge_due(&judge, &rules, interval, phase, now - dice(&seed, 3000), now);
		const msec_t most = rules.down_interval_ms > interval ? rules.down_interval_ms : interval;
		if (due < now ||
			due > now + 2 * (most > rules.down_interval_max_ms ? most : rules.down_interval_max_ms))
			fail_msg("SEED=%u step %d: due in %lld ms", first, step, (long long)(due - now));
		now = due > now ? due : now + 1;
	}
	print_message("seed %u: %d results, %u verdicts\n", first, RANDOM_STEPS, verdicts);
	assert_true(verdicts > RANDOM_STEPS / 100);
	free(past);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rise_and_fall),
		cmocka_unit_test(test_flaps_are_damped), cmocka_unit_test(test_due), cmocka_unit_test(test_spread),
		cmocka_unit_test(test_slow_part), cmocka_unit_test(test_accumulated_part),
		cmocka_unit_test(test_against_a_model) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
