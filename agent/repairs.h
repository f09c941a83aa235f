// SPDX-License-Identifier: Apache-2.0
// What was put back, how often, and who had taken it away; and the brake for when somebody does so again and again.
// Floor 3.
//
// A thing of ours that is gone is put back at once. After REPAIRS_FREE times within 10 s it is a war, with another
// manager that wants it otherwise: from then on there are pauses before it is put back, doubling from 0.2 s to 5 s, one
// line in the log instead of one each, and who needs the thing is told so until it has stayed for a second. The war is
// over when nobody has touched it for 10 s. Times are clock_now_ms, given by the caller.
#ifndef BRASS_AGENT_REPAIRS_H
#define BRASS_AGENT_REPAIRS_H

#include "agent/evidence.h"
#include "agent/resource_list.h"
#include "shared/clock.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define REPAIRS_FREE 10
#define REPAIRS_WINDOW_MS 10000
#define REPAIRS_PAUSE_FIRST_MS 200
#define REPAIRS_PAUSE_MAX_MS 5000
#define REPAIRS_STAY_MS 1000
#define REPAIRS_SHOWN 8 // the last ones, in the status

struct repairs {
	size_t total, by_kind[RESOURCE_KINDS];
	struct repair {
		msec_t wall_ms;
		struct resource what;
		char who[EVIDENCE_WHO_MAX];
	} last[REPAIRS_SHOWN]; // a ring: total says where
	struct repairs_thing {
		struct resource what;
		msec_t begin_ms, last_ms; // of this count, of the last repair
		size_t count;
		msec_t pause_ms; // 0: no war
		char who[EVIDENCE_WHO_MAX];
	} * things; // that were put back lately
	size_t count, room;
	msec_t quota_begin_ms; // of log lines
	size_t quota_used;
};

void repairs_clear(struct repairs *repairs);

// May it be put back now? Not twice in one look: the event of its going brings about the next one.
bool repairs_may(const struct repairs *repairs, const struct resource *what, msec_t now_ms);
// It was put back; who, NULL for nobody known, took it away. Logs.
void repairs_note(struct repairs *repairs, const struct resource *what, const char *who, msec_t now_ms);
// Ends what is over. Returns in how many milliseconds to look again, -1: there is nothing to wait for.
msec_t repairs_settle(struct repairs *repairs, msec_t now_ms);
// There is a war over this, and it is back too shortly to count on: a sentence that says so. False: nothing is written.
bool repairs_problem(const struct repairs *repairs, const struct resource *what, msec_t now_ms, char *buf, size_t size);
// The same sentence, whether it is back or not.
void repairs_describe(const struct repairs *repairs, const struct resource *what, char *buf, size_t size);

// {"by_kind": {"vip": 3}, "last": [{"time": ..., "what": ..., "who": ...}], "wars": [...]}. New reference.
json_t *repairs_to_json(const struct repairs *repairs);

#endif
