// SPDX-License-Identifier: Apache-2.0
// The services of this host: what configuration and directors' answers make of them, and what came of each. Floor 5.
//
// A service stands here once for each director that knows it, a static one once; the host needs each thing once all the
// same.
// Configuration and clients belong to the caller and outlive this.
#ifndef BRASS_AGENT_SERVICES_H
#define BRASS_AGENT_SERVICES_H

#include "agent/client.h"
#include "agent/config.h"
#include "agent/drain.h"
#include "agent/spec.h"

#include <jansson.h>
#include <stdbool.h>

#define SERVICES_NOT_CHECKED "not checked yet" // a problem that is over soon

struct services {
	const struct config *config;
	const struct client *clients;
	size_t client_count;
	double load_share;           // of weights that depend on it
	const struct drains *drains; // NULL: nobody asked for any
	struct spec spec;
	size_t room; // of spec.services and outcomes
	struct services_outcome {
		const struct client *client;       // NULL: a static one
		const struct config_static *fixed; // NULL: a director's
		char answered[PROTOCOL_NAME_MAX +
			1]; // the director's name; another one for where it was before it moved
		char problem[PROTOCOL_REASON_MAX + 1]; // "": read back from the kernel, everything is right
	} * outcomes;                                  // one for each of spec.services
	char (*said)[PROTOCOL_REASON_MAX + 1];         // of each static one, in the log
};

// Returns 0 or -ENOMEM.
int services_init(
	struct services *services, const struct config *config, const struct client *clients, size_t client_count);
void services_clear(struct services *services);

// Builds spec anew; without an address (RIP) it has only what needs none. The outcomes' problems are for the caller to
// fill in. 0 or -ENOMEM: it stays as it was.
int services_build(struct services *services, const struct inet_addr *address);
// Where clients reach the program of spec.services[i], and who says whether it serves.
struct local_item services_item(const struct services *services, size_t i);
// Does spec say what this client's answer says?
bool services_are_current(const struct services *services, const struct client *client);

// What to tell a director, and what to show of one service. draining: the agent stops. New references, NULL without
// memory.
json_t *services_report(const struct services *services, const struct client *client, const char *boot, bool draining);
json_t *services_status(const struct services *services, const struct client *client,
	const struct config_backend *backend, bool draining);
json_t *services_static_status(const struct services *services, const struct config_static *item);
// Says in the log what has changed with the static ones, since no director does.
void services_log_statics(struct services *services);

#endif
