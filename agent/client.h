// SPDX-License-Identifier: Apache-2.0
// The conversation with one director: register, renew, hear of changes, leave. Floor 4.
//
//   asking --(answer)--> registered --(answer of the held request)--> registered
//     ^  \--(failure)--> waiting --(back-off over)--> asking
//   any --(client_leave)--> leaving --(answer or time-out)--> gone
//
// Exactly one request is under way in asking and registered; it is held by the director until something changes or a
// third of the lease is over, so that each request also renews the lease. client_push ends it and reports at once.
#ifndef BRASS_AGENT_CLIENT_H
#define BRASS_AGENT_CLIENT_H

#include "shared/clock.h"
#include "shared/http_client.h"
#include "shared/inet.h"
#include "shared/protocol.h"

#include <stdbool.h>
#include <uv.h>

#define CLIENT_URL_MAX 256
#define CLIENT_LIST_MAX 32 // the directors of a configuration, and as many that are being left

struct client;

enum client_state { CLIENT_ASKING, CLIENT_WAITING, CLIENT_REGISTERED, CLIENT_LEAVING, CLIENT_GONE };
extern const struct field_choice client_state_choices[];

struct client_events {
	// The report to send, new reference. NULL: there is no address yet, ask the director for one first.
	json_t *(*report)(void *ctx, struct client *client);
	// There is an answer in client->answer (fresh), or the director cannot be reached (client->error).
	void (*answered)(void *ctx, struct client *client);
	void (*failed)(void *ctx, struct client *client);
	void (*gone)(void *ctx, struct client *client);
	void *ctx;
};

struct client {
	char url[CLIENT_URL_MAX], node[PROTOCOL_NAME_MAX + 1];
	uv_loop_t *loop;
	struct http_client *http;
	struct client_events events;
	enum client_state state;
	msec_t ttl_ms, state_since_ms;
	bool retiring;                 // it is no longer in the configuration: no new connections from there
	struct inet_addr local, peer;  // of the last connection
	struct protocol_answer answer; // the last, perhaps from an earlier run
	bool has_answer, fresh;        // fresh: from this run
	bool told;                     // the answer is about a report that went out after client_tell
	char error[256];               // of the last attempt, "" when it went well
	// private
	struct http_call *call;
	uv_timer_t timer;
	unsigned int failures;
	msec_t started_ms;
	bool push_again, poll, probing;
	struct json_t *sent; // the report of the last request
	msec_t retry_ms;     // when the next attempt comes
};

// All of them, in the order of the configuration; those that are being left come last.
struct client_list {
	struct client *items[CLIENT_LIST_MAX];
	size_t count;
};

// What a director is called: its URL without slashes at the end. Returns buf.
const char *client_url(const char *url, char buf[CLIENT_URL_MAX]);

// Returns 0 or -errno.
int client_new(uv_loop_t *loop, struct http_client *http, const char *url, const char *node, msec_t ttl_ms,
	const struct client_events *events, struct client **ret);
void client_start(struct client *client);
// The report has changed: send it now.
void client_push(struct client *client);
// The same; until the answer comes `told` is false: what the last one says may be about another report.
void client_tell(struct client *client);
// It cannot be reached and may send here all the same: the lease that it gave us last may not be over.
bool client_may_be_sent_to(const struct client *client);
// As client_push, when the report differs from the one that was sent last.
void client_push_if_changed(struct client *client);
// On: answers are not held, the client asks again every 200 ms (while draining).
void client_poll(struct client *client, bool on);
// DELETE; events.gone is called at the end, whatever the director says.
void client_leave(struct client *client, const char *boot);
// Ends everything without a word; its memory goes when the loop has run once more. NULL is allowed.
void client_free(struct client *client);

#endif
