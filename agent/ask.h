// SPDX-License-Identifier: Apache-2.0
// What the directors say of this host's services, asked by GET: nothing is registered, no lease is renewed. Floor 5.
//
// A director that does not answer all of it is replaced by what the agent remembered of it (remember.h), and the caller
// can tell: clients[i].fresh is false then.
#ifndef BRASS_AGENT_ASK_H
#define BRASS_AGENT_ASK_H

#include "agent/client.h"
#include "agent/config.h"
#include "shared/clock.h"

#include <jansson.h>

// What a director makes of this host as a backend of one service.
struct ask_backend {
	long status;    // of the service; 200, 404, ...
	bool there;     // the service has this host as a backend
	char state[16]; // "up", "down", "lost", ...
	char reason[PROTOCOL_REASON_MAX + 1];
	uint32_t effective_weight, max_packet; // max_packet 0: not told
};

struct ask_director {
	char error[256];              // why it gave no answer; "": it did
	json_t *agent;                // GET /agent/<node>; NULL: it does not know this host
	msec_t date_ms, wall_ms;      // its clock, and ours at that moment; date 0: not told
	struct ask_backend *backends; // one for each of the configuration's
};

struct ask_answers {
	struct client *clients;  // one for each director of the configuration, with answers; none of them runs
	struct client_list list; // of them
	struct ask_director *directors;
	size_t count;
	struct inet_addr address; // RIP: configured, or of the connection, or remembered; not set: not known
};

// Asks all of them, each within a few seconds. 0 or -ENOMEM and the like; a silent director is no error.
int ask_directors(const struct config *config, uv_loop_t *loop, struct http_client *http, struct ask_answers *ret,
	struct err *err);
void ask_answers_clear(struct ask_answers *answers);

#endif
