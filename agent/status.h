// SPDX-License-Identifier: Apache-2.0
// What the agent says about itself: one JSON object, and the same as lines for people. Floor 5.
#ifndef BRASS_AGENT_STATUS_H
#define BRASS_AGENT_STATUS_H

#include "agent/host.h"
#include "agent/services.h"

#include <jansson.h>
#include <stdbool.h>

// Where it looks; all belongs to the caller.
struct status_of {
	const struct services *services; // with configuration and clients
	const struct host *host;
	const char *boot, *phase;
	const struct drain *stopping; // NULL: it does not
};

// New reference, NULL without memory.
json_t *status_make(const struct status_of *of);
// The same but for how long it has been so.
bool status_same(const json_t *a, const json_t *b);
void status_print(const json_t *status);

#endif
