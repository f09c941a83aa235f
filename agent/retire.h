// SPDX-License-Identifier: Apache-2.0
// What leaves while the agent goes on: a service, or a director, that is no longer in the configuration. Floor 5.
//
// The directors are told (weight 0); when their open connections are gone, or the time for it is over, the agent hears
// of it and lets go. Of a director only its own count says when: this host's sockets may be another director's.
#ifndef BRASS_AGENT_RETIRE_H
#define BRASS_AGENT_RETIRE_H

#include "agent/client.h"
#include "agent/drain.h"
#include "agent/services.h"

#include <stddef.h>
#include <uv.h>

struct retire_item {
	struct client *client; // NULL: the service
	struct drain drain;    // with its name
};

struct retire {
	const struct services *services;
	uv_timer_t timer;
	struct retire_item *items; // owned
	size_t count, room;
	void (*over)(void *ctx, const struct retire_item *item);
	void *ctx;
};

void retire_init(struct retire *retire, uv_loop_t *loop, const struct services *services,
	void (*over)(void *ctx, const struct retire_item *item), void *ctx);
void retire_close(struct retire *retire); // the timer closes with the loop

// Room for so many more: adding them cannot fail then. 0 or -ENOMEM.
int retire_reserve(struct retire *retire, size_t count);
// Begins; what is leaving already goes on as it is.
void retire_service(struct retire *retire, const char *service, msec_t limit_ms);
void retire_client(struct retire *retire, struct client *client, msec_t limit_ms);
// It is wanted again, or gone otherwise.
void retire_forget(struct retire *retire, const struct client *client, const char *service);
// The agent stops and waits for everything itself.
void retire_pause(struct retire *retire);

#endif
