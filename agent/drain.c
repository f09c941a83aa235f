// SPDX-License-Identifier: Apache-2.0
#include "agent/drain.h"

#include "agent/sockets.h"
#include "shared/log.h"

#include <netinet/in.h>
#include <stdlib.h>

#define QUIET_LOOKS 3   // in a row without an open connection, here and at the directors
#define SILENT_LOOKS 20 // in a row without one here, whatever directors count

void drain_begin(struct drain *drain, msec_t limit_ms)
{
	*drain = (struct drain) { .end_ms = clock_now_ms() + limit_ms };
}

// This host's own connections of all services. *ret_known: it has the program of each (TCP) service, so that it knows
// them all; with one in another network namespace, or gone, it does not.
static size_t open_sockets(const struct spec *spec, bool *ret_known)
{
	struct inet_endpoint *local = calloc(spec->count + 1, sizeof(*local));
	struct sockets sockets = { 0 };
	size_t count = 0;

	*ret_known = false;
	for (size_t i = 0; local && i < spec->count; i++) {
		const struct spec_service *s = &spec->services[i];

		if (s->protocol == IPPROTO_TCP)
			local[count++] =
				(struct inet_endpoint) { s->method == FORWARD_NAT ? spec->address : s->vip, s->port };
	}
	// when they cannot be read the directors' numbers have to do
	if (count && sockets_count(local, count, &sockets, NULL) == 0)
		*ret_known = count == spec->count && sockets.listening == count;
	free(local);
	return sockets.open;
}

// What the reachable directors still count, and whether each of them has stopped sending new connections.
static size_t open_at_directors(const struct services *services, bool *ret_all_quiet)
{
	size_t open = 0;

	*ret_all_quiet = true;
	for (size_t c = 0; c < services->client_count; c++) {
		const struct client *client = &services->clients[c];

		if (client->state != CLIENT_REGISTERED)
			continue;
		for (size_t i = 0; i < client->answer.count; i++) {
			open += client->answer.services[i].active;
			if (client->answer.services[i].effective_weight)
				*ret_all_quiet = false;
		}
	}
	return open;
}

const char *drain_look(struct drain *drain, const struct services *services)
{
	bool all_quiet, known;

	drain->at_directors = open_at_directors(services, &all_quiet);
	drain->here = open_sockets(&services->spec, &known);
	drain->quiet_looks = all_quiet && !drain->at_directors && !drain->here ? drain->quiet_looks + 1 : 0;
	// A director takes a handshake that its client gave up for an open connection, for a minute; in dr and ipip it
	// also never sees the server's FIN. Where the program listens here, its sockets are the truth.
	drain->silent_looks = all_quiet && known && !drain->here ? drain->silent_looks + 1 : 0;
	if (drain->quiet_looks >= QUIET_LOOKS)
		return "no connection is open";
	if (drain->silent_looks >= SILENT_LOOKS) {
		log_info("drain: %zu connections at the directors are stale: this host has none", drain->at_directors);
		return "no connection is open here";
	}
	if (clock_now_ms() >= drain->end_ms) {
		log_warning("drain: %zu connections at the directors and %zu here are cut off", drain->at_directors,
			drain->here);
		return "the drain time is over";
	}
	return NULL;
}
