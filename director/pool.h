// SPDX-License-Identifier: Apache-2.0
// The weights of a whole service, where that of one backend depends on the others: quorum, sorry servers, panic, zones,
// shares. Pure: facts in, weights out. Floor 1.
//
// In this order:
// 1. Quorum. It is lost when fewer than `quorum_down` members are well, and there again when `quorum_up` are.
// 2. Sorry servers take part only while the quorum is lost, and then alone. If none of them is well they are of no use,
//    and it goes on as if there were none.
// 3. Panic. When the well members have less than `panic` percent of the weight, those that are sick are used as if they
//    were well: too few servers would only be overrun, and most of them failing at once is more likely a fault of the
//    checks.
// 4. Zones. As long as the preferred zones have `spill` percent of their weight, only they are used. Below that, what
//    they lack is given to the others, no more: with spill 70 and 35 percent left, half of the connections stay.
// 5. Split (split.h): shares of the versions; what zones ask for then counts inside each version.
#ifndef BRASS_DIRECTOR_POOL_H
#define BRASS_DIRECTOR_POOL_H

#include "director/split.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool_rules {
	uint32_t quorum_up, quorum_down; // members, 0: no quorum
	uint32_t panic;                  // percent, 0: off
	bool zones;                      // members are local or not
	uint32_t spill;                  // percent
	uint32_t buckets;                // of the scheduler, see split_weights
};

enum pool_fitness {
	POOL_OUT,  // not to be used, whatever happens: it drains, or is not set up
	POOL_SICK, // or not known to be well
	POOL_WELL,
};

struct pool_member {
	enum pool_fitness fitness;
	bool sorry;
	bool local;      // in a preferred zone
	int version;     // of the split, -1: none
	uint32_t weight; // its own; 0: it is not wanted
	uint32_t now;    // the part of it that it has while it comes back; weight otherwise
	uint32_t result; // out
};

//               well >= quorum_down               well < quorum_down
//   unknown --------------------------> there -----------------------> lost
//      |                                  ^                             | ^
//      |                                  '------ well >= quorum_up ----' |
//      '------------------------ well < quorum_down ----------------------'
//
// Unknown is a service that has just been made or read from the store.
enum pool_quorum { POOL_QUORUM_UNKNOWN, POOL_QUORUM_THERE, POOL_QUORUM_LOST };

struct pool_state {
	enum pool_quorum quorum; // in and out: it has a memory
	uint32_t well;           // members that are well and wanted, without sorry servers
	bool sorry;              // sorry servers serve
	bool panic;
	uint8_t local; // percent of the new connections that stay in the preferred zones; 100 without zones
};

#define POOL_STATE_NEW       \
	{                    \
		.local = 100 \
	}

// split: its groups, NULL and 0 when there are none; totals are filled in. 0 or -ENOMEM, then nothing was changed.
int pool_weights(const struct pool_rules *rules, struct split_group *split, size_t split_count,
	struct pool_member *members, size_t count, struct pool_state *state);

#endif
