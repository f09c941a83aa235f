// SPDX-License-Identifier: Apache-2.0
#include "director/judge.h"

#define SLOW_STEP_MS 1000
#define SLOW_STEPS_MAX 20
#define FLAPS_MAX 10 // 1,024 times the passes; `damping` is the limit long before
#define DOUBLINGS_MAX 20

void judge_set(struct judge *judge, enum judge_verdict verdict, msec_t now_ms)
{
	judge->verdict = (uint8_t)verdict;
	judge->against = 0;
	judge->failures = verdict == JUDGE_DOWN;
	judge->since_ms = now_ms;
}

uint32_t judge_passes_needed(const struct judge *judge, const struct judge_rules *rules, msec_t interval_ms)
{
	const msec_t most = rules->damping_ms / interval_ms;
	const uint32_t needed = rules->rise << judge->flaps;

	if (!judge->flaps || most <= rules->rise)
		return rules->rise;
	return needed < most ? needed : (uint32_t)most;
}

static void count_flap(struct judge *judge, const struct judge_rules *rules, msec_t now_ms)
{
	const bool soon = judge->since_ms && now_ms - judge->since_ms < rules->damping_ms;

	if (!soon)
		judge->flaps = 0;
	else if (judge->flaps < FLAPS_MAX)
		judge->flaps++;
}

bool judge_result(struct judge *judge, const struct judge_rules *rules, msec_t interval_ms, bool passed, msec_t now_ms)
{
	switch ((enum judge_verdict)judge->verdict) {
	case JUDGE_UNKNOWN:
		judge_set(judge, passed ? JUDGE_UP : JUDGE_DOWN, now_ms);
		return true;
	case JUDGE_UP:
		if (!judge->since_ms)
			judge->since_ms = now_ms; // known from before: since when nobody knows
		judge->against = passed ? 0 : (uint16_t)(judge->against + 1);
		if (judge->against < rules->fall)
			return false;
		count_flap(judge, rules, now_ms);
		judge_set(judge, JUDGE_DOWN, now_ms);
		return true;
	case JUDGE_DOWN:
		if (!passed) {
			judge->against = 0;
			judge->failures = judge->failures < UINT8_MAX ? (uint8_t)(judge->failures + 1) : UINT8_MAX;
			return false;
		}
		judge->failures = 0;
		if (judge->against < UINT16_MAX)
			judge->against++;
		if (judge->against < judge_passes_needed(judge, rules, interval_ms))
			return false;
		judge_set(judge, JUDGE_UP, now_ms);
		return true;
	}
	return false;
}

uint32_t judge_phase(const char *service, const char *backend)
{
	uint32_t hash = 2166136261u; // FNV-1a

	for (const char *p = service; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	hash = (hash ^ '/') * 16777619u;
	for (const char *p = backend; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 16777619u;
	// names that differ in one digit must not be neighbours: the high bits are what counts
	hash = (hash ^ hash >> 16) * 0x85ebca6bu;
	hash = (hash ^ hash >> 13) * 0xc2b2ae35u;
	return hash ^ hash >> 16;
}

// While it passes again the pulse's own interval counts: it is on its way up.
static msec_t interval_now(const struct judge *judge, const struct judge_rules *rules, msec_t interval_ms)
{
	msec_t every = rules->down_interval_ms ? rules->down_interval_ms : interval_ms;

	if (judge->verdict != JUDGE_DOWN || judge->against)
		return interval_ms;
	for (int i = 1; i < judge->failures && i < DOUBLINGS_MAX && every < rules->down_interval_max_ms; i++)
		every = 2 * every < rules->down_interval_max_ms ? 2 * every : rules->down_interval_max_ms;
	return every;
}

// The first one that is not before.
static msec_t grid_point(msec_t from_ms, msec_t offset_ms, msec_t every_ms)
{
	// the clock may have begun only just now
	const msec_t past = ((from_ms - offset_ms) % every_ms + every_ms) % every_ms;

	return past ? from_ms + (every_ms - past) : from_ms;
}

msec_t judge_due(const struct judge *judge, const struct judge_rules *rules, msec_t interval_ms, uint32_t phase,
	msec_t started_ms, msec_t now_ms)
{
	const msec_t every = interval_now(judge, rules, interval_ms);
	const msec_t offset = (msec_t)((uint64_t)every * phase >> 32);

	if (rules->fast && judge->verdict == JUDGE_UP && judge->against == 1)
		return now_ms;
	// a timer that fired a moment early must not run the same point of the grid twice
	const msec_t due_ms = grid_point(started_ms + every / 2, offset, every);
	if (due_ms >= now_ms)
		return due_ms;
	// its turn passed while it waited for an answer: a server that may be dead is not given another interval for
	// that
	return judge->verdict == JUDGE_UP && judge->against ? now_ms : grid_point(now_ms, offset, every);
}

uint32_t judge_slow_part(msec_t elapsed_ms, msec_t total_ms)
{
	const msec_t wanted = total_ms / SLOW_STEP_MS,
		     steps = wanted < 1   ? 1
		: wanted > SLOW_STEPS_MAX ? SLOW_STEPS_MAX
					  : wanted;

	if (elapsed_ms >= total_ms)
		return JUDGE_WHOLE;
	if (elapsed_ms < 0)
		elapsed_ms = 0;
	return (uint32_t)((elapsed_ms * steps / total_ms + 1) * JUDGE_WHOLE / (steps + 1));
}

uint32_t judge_accumulated_part(uint32_t passed, uint32_t filled)
{
	return filled ? (passed * SLOW_STEPS_MAX + filled / 2) / filled * (JUDGE_WHOLE / SLOW_STEPS_MAX) : JUDGE_WHOLE;
}
