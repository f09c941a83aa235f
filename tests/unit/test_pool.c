// SPDX-License-Identifier: Apache-2.0
#include "director/judge.h"
#include "director/pool.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define MEMBERS 12

// A member as a word: fitness W, S (sick) or O (out), then weight, then l for local, y for sorry.
static size_t read_members(const char *text, struct pool_member *members)
{
	size_t count = 0;

	for (; *text; count++) {
		struct pool_member *m = &members[count];

		*m = (struct pool_member) { .version = -1 };
		m->fitness = *text == 'W' ? POOL_WELL : *text == 'S' ? POOL_SICK : POOL_OUT;
		m->weight = m->now = (uint32_t)strtoul(text + 1, (char **)(uintptr_t)&text, 10);
		for (; *text && *text != ' '; text++) {
			m->local |= *text == 'l';
			m->sorry |= *text == 'y';
		}
		while (*text == ' ')
			text++;
	}
	return count;
}

static const char *weigh(const struct pool_rules *rules, const char *text, struct pool_state *state)
{
	static char said[256];
	struct pool_member members[MEMBERS];
	size_t count = read_members(text, members), n = 0;

	assert_int_equal(pool_weights(rules, NULL, 0, members, count, state), 0);
	for (size_t i = 0; i < count; i++)
		n += (size_t)snprintf(said + n, sizeof(said) - n, "%s%u", i ? " " : "", members[i].result);
	return said;
}

static void test_plain(void **state)
{
	const struct pool_rules none = { 0 };
	struct pool_state s = { 0 };

	(void)state;
	assert_string_equal(weigh(&none, "W10 S10 O10 W0 W5l", &s), "10 0 0 0 5");
	assert_int_equal(s.well, 2);
	assert_int_equal(s.quorum, POOL_QUORUM_UNKNOWN);
	assert_string_equal(weigh(&none, "W10 W5y", &s), "10 0");
}

static void test_quorum_and_sorry(void **state)
{
	const struct pool_rules rules = { .quorum_up = 3, .quorum_down = 2 };
	struct pool_state s = { 0 };

	(void)state;
	assert_string_equal(weigh(&rules, "W9 W9 W9 W1y", &s), "9 9 9 0");
	assert_int_equal(s.quorum, POOL_QUORUM_THERE);
	assert_string_equal(weigh(&rules, "W9 W9 S9 W1y", &s), "9 9 0 0"); // 2 are enough
	assert_string_equal(weigh(&rules, "W9 S9 S9 W1y", &s), "0 0 0 1");
	assert_int_equal(s.quorum, POOL_QUORUM_LOST);
	assert_true(s.sorry);
	assert_string_equal(weigh(&rules, "W9 W9 S9 W1y", &s), "0 0 0 1"); // 2 are not enough to come back
	assert_string_equal(weigh(&rules, "W9 W9 S9 S1y", &s), "9 9 0 0"); // a sick sorry server is of no use
	assert_false(s.sorry);
	assert_int_equal(s.quorum, POOL_QUORUM_LOST);
	assert_string_equal(weigh(&rules, "W9 W9 W9 W1y", &s), "9 9 9 0");
	assert_int_equal(s.quorum, POOL_QUORUM_THERE);
	// a weight of 0 is not somebody who serves
	assert_string_equal(weigh(&rules, "W9 W0 W0 W1y", &s), "0 0 0 1");
}

static void test_panic(void **state)
{
	const struct pool_rules rules = { .panic = 50 }, both = { .quorum_up = 1, .quorum_down = 1, .panic = 50 };
	struct pool_state s = { 0 };

	(void)state;
	assert_string_equal(weigh(&rules, "W10 W10 S10 S10", &s), "10 10 0 0");
	assert_false(s.panic);
	assert_string_equal(weigh(&rules, "W10 S10 S10 S10", &s), "10 10 10 10");
	assert_true(s.panic);
	assert_string_equal(weigh(&rules, "W10 S11", &s), "10 11"); // weight counts, not number
	assert_string_equal(weigh(&rules, "W10 S5 S5", &s), "10 0 0");
	assert_string_equal(weigh(&rules, "W10 O90 S5", &s), "10 0 0"); // who drains is not missed
	assert_string_equal(weigh(&rules, "W1 O90 S5", &s), "1 0 5");   // and not called back
	assert_string_equal(weigh(&both, "S10 S10 W1y", &s), "0 0 1");  // sorry servers go first
	assert_string_equal(weigh(&both, "S10 S10 S1y", &s), "10 10 0");
}

static void test_zones(void **state)
{
	const struct pool_rules rules = { .zones = true, .spill = 70 },
				panic = { .zones = true, .spill = 70, .panic = 90 };
	struct pool_state s = { 0 };

	(void)state;
	assert_string_equal(weigh(&rules, "W10l W10l W10 W10", &s), "10 10 0 0");
	assert_int_equal(s.local, 100);
	assert_string_equal(weigh(&rules, "W40l W30l S30l W10 W10", &s), "40 30 0 0 0"); // 70 % are enough
	// half of what is needed is there, so half stays: 35 of 100, needed are 70
	assert_string_equal(weigh(&rules, "W35l S65l W10 W25", &s), "7 0 2 5");
	assert_int_equal(s.local, 50);
	assert_string_equal(weigh(&rules, "W35l O65l W10", &s), "1 0 1"); // who drains is missed
	assert_string_equal(weigh(&rules, "S10l S10l W10 W5", &s), "0 0 10 5");
	assert_int_equal(s.local, 0);
	assert_string_equal(weigh(&rules, "W1l S10l S10 S5", &s), "1 0 0 0"); // nobody is left elsewhere
	assert_string_equal(weigh(&rules, "W10 W5", &s), "10 5");
	assert_string_equal(weigh(&panic, "W10l S90l W10", &s), "10 90 0"); // all of them are as good as ever
}

// 1 : 3 between the versions, whatever zones say; inside each the local ones get what they may.
static void test_split_with_zones(void **state)
{
	const struct pool_rules rules = { .zones = true, .spill = 50 };
	struct pool_member members[MEMBERS];
	struct pool_state s = { 0 };
	struct split_group groups[] = { { .share = 1 }, { .share = 3 } };

	(void)state;
	// 10 of 80 are left, 40 are needed: a quarter stays, of what would be 1 to 2 by the weights alone
	size_t count = read_members("W5l S35l W5l S35l W10 W10", members);
	const int versions[] = { 0, 0, 1, 1, 0, 1 };
	for (size_t i = 0; i < count; i++)
		members[i].version = versions[i];
	assert_int_equal(pool_weights(&rules, groups, 2, members, count, &s), 0);
	assert_int_equal(s.local, 25);
	assert_int_equal(members[1].result + members[3].result, 0);
	assert_int_equal(3 * members[0].result, members[4].result);
	assert_int_equal(3 * members[2].result, members[5].result);
	assert_int_equal(members[2].result, 3 * members[0].result);
	assert_true(members[0].result > 0);
}

// --- a service in the course of time, against a model that thinks of each member alone ---

#define STEPS 150000

struct server {
	struct judge judge;
	msec_t back_ms; // when it came back, -1: it is whole
	unsigned int health;
	bool out, sorry, local;
	int version;
	uint32_t weight;
	// the model's: results since the verdict, as two counts, and the verdict
	char verdict;
	unsigned int passes, failures; // in a row
};

struct world {
	struct server servers[MEMBERS];
	size_t count;
	struct judge_rules judge;
	struct pool_rules rules;
	uint32_t shares[2]; // {0, 0}: no split
	msec_t slow_ms, now;
	struct pool_state state;
	char quorum; // the model's: '?', 't', 'l'
	unsigned int seed, first;
	int step;
	unsigned int seen[4]; // panics, sorry times, spills, lost quorums: or the run has shown nothing
};

static uint32_t dice(struct world *w, uint32_t sides)
{
	return (uint32_t)rand_r(&w->seed) % sides;
}

static void configure(struct world *w)
{
	const uint32_t up = dice(w, 6);

	w->judge = (struct judge_rules) { .rise = 1 + dice(w, 3), .fall = 1 + dice(w, 3) };
	w->rules = (struct pool_rules) { .quorum_up = up,
		.quorum_down = up ? 1 + dice(w, up) : 0,
		.panic = dice(w, 2) ? dice(w, 101) : 0,
		.zones = dice(w, 2),
		.spill = dice(w, 101) };
	w->slow_ms = dice(w, 3) * 10000;
	w->shares[0] = dice(w, 2) * (1 + dice(w, 9));
	w->shares[1] = w->shares[0] ? 1 + dice(w, 9) : 0;
}

static void replace(struct world *w, struct server *s)
{
	*s = (struct server) { .back_ms = -1,
		.health = dice(w, 101),
		.sorry = !dice(w, 5),
		.local = dice(w, 2),
		.version = (int)dice(w, 3) - 1,
		.weight = dice(w, 8) ? 1 + dice(w, 200) : 0,
		.verdict = '?' };
}

static void one_check(struct world *w, struct server *s)
{
	const bool passed = dice(w, 100) < s->health;
	const char was = s->verdict;

	s->passes = passed ? s->passes + 1 : 0;
	s->failures = passed ? 0 : s->failures + 1;
	if (s->verdict == '?')
		s->verdict = passed ? 'u' : 'd';
	else if (s->verdict == 'u' && s->failures >= w->judge.fall)
		s->verdict = 'd';
	else if (s->verdict == 'd' && s->passes >= w->judge.rise)
		s->verdict = 'u';
	if (s->verdict != was)
		s->passes = s->failures = 0;
	const bool changed = judge_result(&s->judge, &w->judge, 1000, passed, w->now);
	if (changed != (s->verdict != was) || "?ud"[s->judge.verdict] != s->verdict)
		fail_msg("SEED=%u step %d: verdict", w->first, w->step);
	if (changed)
		s->back_ms = s->verdict == 'u' && w->slow_ms ? w->now : -1;
}

static void change_something(struct world *w)
{
	struct server *s = &w->servers[dice(w, (uint32_t)w->count)];

	switch (dice(w, 40)) {
	case 0:
		configure(w);
		break;
	case 1:
		w->count = 1 + dice(w, MEMBERS);
		break;
	case 2:
		replace(w, s);
		break;
	case 3:
	case 4:
		s->out = !s->out;
		break;
	case 5: // a whole zone fails, or comes back
		for (size_t i = 0; i < w->count; i++)
			if (w->servers[i].local)
				w->servers[i].health = w->step % 2 ? 100 : 0;
		break;
	case 6:
	case 7:
	case 8:
		s->health = dice(w, 3) * 50;
		break;
	default:
		w->now += dice(w, 2000);
		one_check(w, s);
	}
}

static uint32_t now_of(const struct world *w, const struct server *s)
{
	const uint32_t part = s->back_ms < 0 ? JUDGE_WHOLE : judge_slow_part(w->now - s->back_ms, w->slow_ms);
	const uint32_t now = s->weight * part / JUDGE_WHOLE;

	return now || !s->weight ? now : 1;
}

// What each server would get if no shares had to be kept; 0: it is not used. Fills in what the service as a whole does.
static void model_bases(struct world *w, uint32_t bases[MEMBERS], bool *ret_sorry, bool *ret_panic, double *ret_stays)
{
	uint32_t well = 0, sorry_well = 0;
	double all = 0, fine = 0, capacity = 0, local = 0, others = 0;

	for (size_t i = 0; i < w->count; i++) {
		const struct server *s = &w->servers[i];
		const bool is_well = !s->out && s->verdict == 'u' && s->weight;

		well += is_well && !s->sorry;
		sorry_well += is_well && s->sorry;
		all += s->sorry || s->out ? 0 : s->weight;
		fine += is_well && !s->sorry ? s->weight : 0;
		capacity += s->local && !s->sorry ? s->weight : 0;
	}
	if (!w->rules.quorum_up)
		w->quorum = '?';
	else if (w->quorum == 'l')
		w->quorum = well >= w->rules.quorum_up ? 't' : 'l';
	else
		w->quorum = well >= w->rules.quorum_down ? 't' : 'l';
	*ret_sorry = w->quorum == 'l' && sorry_well;
	*ret_panic = !*ret_sorry && all > 0 && fine / all < w->rules.panic / 100.0 - 1e-9;
	for (size_t i = 0; i < w->count; i++) {
		const struct server *s = &w->servers[i];

		bases[i] = 0;
		if (!s->out && s->sorry == *ret_sorry)
			bases[i] = s->verdict == 'u' ? now_of(w, s) : *ret_panic ? s->weight : 0;
		*(s->local ? &local : &others) += bases[i];
	}
	*ret_stays = 1;
	if (!w->rules.zones || *ret_sorry)
		return;
	if (local == 0 && others > 0)
		*ret_stays = 0;
	else if (others > 0 && local / capacity < w->rules.spill / 100.0 - 1e-9)
		*ret_stays = local / capacity / (w->rules.spill / 100.0);
	for (size_t i = 0; i < w->count; i++)
		if (w->servers[i].local ? *ret_stays == 0 : *ret_stays == 1)
			bases[i] = 0;
}

static void expect(const struct world *w, bool right, const char *what)
{
	if (!right)
		fail_msg("SEED=%u step %d: %s", w->first, w->step, what);
}

static void compare(struct world *w, const struct pool_member *members, const uint32_t *bases, bool sorry, double stays)
{
	const bool split = w->shares[0] && !sorry, spills = stays > 0 && stays < 1;
	double local = 0, all = 0, version[2] = { 0 };

	for (size_t i = 0; i < w->count; i++) {
		const struct server *s = &w->servers[i];
		const uint32_t got = members[i].result;

		if (!split && !spills)
			expect(w, got == bases[i], "a weight");
		else if (split && s->version < 0)
			expect(w, got == 0, "a weight outside the split");
		else
			expect(w, (got > 0) == (bases[i] > 0), "who is used");
		local += s->local ? got : 0;
		all += got;
		if (s->version >= 0)
			version[s->version] += got;
	}
	if (split && version[0] > 0 && version[1] > 0)
		expect(w, version[0] * w->shares[1] == version[1] * w->shares[0], "the shares of the versions");
	// in whole percent, and never nothing
	if (!split && spills)
		expect(w, local / all > stays - 0.0101 && local / all < stays + 0.0101, "what stays in the zone");
}

static void test_against_a_model(void **state)
{
	const char *given = getenv("SEED");
	struct world w = { .count = 6, .quorum = '?' };

	(void)state;
	w.first = w.seed = given ? (unsigned int)atoi(given) : 20;
	configure(&w);
	for (size_t i = 0; i < MEMBERS; i++)
		replace(&w, &w.servers[i]);
	for (; w.step < STEPS; w.step++) {
		struct pool_member members[MEMBERS];
		uint32_t bases[MEMBERS];
		bool sorry, panic;
		double stays;

		change_something(&w);
		struct split_group groups[2] = { { .share = w.shares[0] }, { .share = w.shares[1] } };
		for (size_t i = 0; i < w.count; i++) {
			const struct server *s = &w.servers[i];

			members[i] = (struct pool_member) { .fitness = s->out ? POOL_OUT
					: s->judge.verdict == JUDGE_UP        ? POOL_WELL
									      : POOL_SICK,
				.sorry = s->sorry,
				.local = s->local,
				.version = s->version,
				.weight = s->weight,
				.now = now_of(&w, s) };
		}
		assert_int_equal(pool_weights(&w.rules, groups, w.shares[0] ? 2 : 0, members, w.count, &w.state), 0);
		model_bases(&w, bases, &sorry, &panic, &stays);
		expect(&w, "?tl"[w.state.quorum] == w.quorum, "quorum");
		expect(&w, w.state.sorry == sorry, "sorry");
		expect(&w, w.state.panic == panic, "panic");
		expect(&w, w.state.local > stays * 100 - 1.01 && w.state.local < stays * 100 + 1.01, "local");
		compare(&w, members, bases, sorry, stays);
		w.seen[0] += panic;
		w.seen[1] += sorry;
		w.seen[2] += stays > 0 && stays < 1;
		w.seen[3] += w.quorum == 'l';
	}
	print_message("seed %u: %d steps; %u in panic, %u with sorry servers, %u that spill, %u without quorum\n",
		w.first, STEPS, w.seen[0], w.seen[1], w.seen[2], w.seen[3]);
	for (size_t i = 0; i < 4; i++)
		assert_true(w.seen[i] > STEPS / 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_plain), cmocka_unit_test(test_quorum_and_sorry),
		cmocka_unit_test(test_panic), cmocka_unit_test(test_zones), cmocka_unit_test(test_split_with_zones),
		cmocka_unit_test(test_against_a_model) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
