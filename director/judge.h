// SPDX-License-Identifier: Apache-2.0
// The judgement of one backend: results of its checks become a verdict, and the verdict says when the next check is
// due. Pure: times are handed in, nothing is kept but struct judge. Floor 1.
//
// Checks start on a grid: a backend's phase, made from names, says where in the interval it is. So 10,000 backends
// that are added, restarted or lost at one instant are spread evenly over the interval, and stay so; no check has to be
// moved at random to get there.
#ifndef BRASS_DIRECTOR_JUDGE_H
#define BRASS_DIRECTOR_JUDGE_H

#include "shared/clock.h"

#include <stdbool.h>
#include <stdint.h>

// Of a service, for all of its backends ("judge" in model_fields.c).
struct judge_rules {
	uint64_t set;
	uint32_t rise, fall;         // results in a row that turn the verdict
	bool fast;                   // the check after a first failure runs at once
	msec_t down_interval_ms;     // between checks while it is down; 0: the pulse's own
	msec_t down_interval_max_ms; // doubled with each failure up to this; 0: not doubled
	msec_t damping_ms;           // who goes down within this after coming up must pass longer; 0: off
	bool passive;                // connections that nobody answers count, see passive.h
};

#define JUDGE_DEFAULTS .rise = 1, .fall = 1
#define JUDGE_RESULTS_MAX 100 // of rise and fall

//              first result: passed
//   unknown ---------------------------> up <-.
//      |                                 |     \  `rise` passes in a row,
//      |  first result: failed  `fall`   |      | more of them when it flaps
//      |                      failures   |     /
//      |                      in a row   v    /
//      '-------------------------------> down
//
// Unknown is not down: nobody has looked yet. A backend whose verdict is known from before (a restart of the director,
// another name, another service) begins where it was.
enum judge_verdict { JUDGE_UNKNOWN, JUDGE_UP, JUDGE_DOWN };

struct judge {
	uint8_t verdict;  // enum judge_verdict
	uint8_t failures; // in a row, while it is down; for the back-off
	uint8_t flaps;    // times in a row that it went down soon after it had come up
	uint16_t against; // results in a row that speak against the verdict
	msec_t since_ms;  // of the verdict, monotonic; 0: known from before, or unknown
};

// One result. Returns whether the verdict has changed.
bool judge_result(struct judge *judge, const struct judge_rules *rules, msec_t interval_ms, bool passed, msec_t now_ms);
// The same verdict from elsewhere than a check.
void judge_set(struct judge *judge, enum judge_verdict verdict, msec_t now_ms);

// Passes in a row that a backend which is down needs to come up.
uint32_t judge_passes_needed(const struct judge *judge, const struct judge_rules *rules, msec_t interval_ms);

// Where on the grid the backend is; a whole turn is 2^32.
uint32_t judge_phase(const char *service, const char *backend);
// When the next check is to start; the last one started at started_ms (and is over at now_ms).
msec_t judge_due(const struct judge *judge, const struct judge_rules *rules, msec_t interval_ms, uint32_t phase,
	msec_t started_ms, msec_t now_ms);

// The part of its weight, in thousandths, that a backend gets elapsed_ms after it came back, when it comes back within
// total_ms: linear, in steps of a second or more, 20 at most. 1000: all of it.
#define JUDGE_WHOLE 1000u
uint32_t judge_slow_part(msec_t elapsed_ms, msec_t total_ms);
// The part that it gets by its record instead, as GORB does it: the share of its last `filled` checks that passed, in
// 20 steps. Without a record all of it.
uint32_t judge_accumulated_part(uint32_t passed, uint32_t filled);

#endif
