// SPDX-License-Identifier: Apache-2.0
// Does a real server answer the connections that it is given? Told by what the kernel counts and by its table of
// connections; nobody has to ask the server. Pure: times are handed in. Floor 1.
//
// What the kernel shows (net/netfilter/ipvs/ip_vs_proto_tcp.c; seen in dr, tunnels and nat alike): a connection that no
// server answers stays SYN_RECV for 60 s after its last SYN and counts as active meanwhile; of its packets the director
// sees SYNs only. One that was answered is ESTABLISHED as soon as the client's ACK comes, then FIN_WAIT or TIME_WAIT,
// and counts as inactive. A refused one looks like one without an answer, but for nat, which sees the reset.
//
// Counters raise the suspicion, since they cost next to nothing: over a window connections have come, as many are
// active, there are few packets to each, and their mean size is at most a SYN's. That may still be a healthy server
// (clients that connect and close, beside many that stay), so the table has the word: nothing that came between two
// looks has got past SYN_RECV. Old connections of a host that has just died linger for a quarter of an hour, and do not
// count: only what was not there before does. A look may miss some of them (conns.h), so "before" is two looks.
#ifndef BRASS_DIRECTOR_PASSIVE_H
#define BRASS_DIRECTOR_PASSIVE_H

#include "director/judge.h"
#include "shared/clock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PASSIVE_CONNECTIONS_MIN 5 // fewer say nothing
#define PASSIVE_WINDOW_MAX_MS 60000
#define PASSIVE_OUT_MS 30000 // who is taken out is tried again after this, doubled each time
#define PASSIVE_OUT_MAX_MS 300000
#define PASSIVE_TEXT_MAX 80

struct passive_counted {
	uint64_t connections, packets, bytes; // so far, from clients
	uint32_t active;                      // now
};

// The same as rates, per second: what the kernel's estimator says. Is it worth a window?
bool passive_is_worth(const struct passive_counted *rates, int family);

// Connections past SYN_RECV, sorted; owned.
struct passive_seen {
	uint64_t *ids;
	size_t count;
};

//            counters suspicious            table: nothing answered           `fall` windows in a row
//  watched ----------------------> looked at -----------------------> warned -------------------------> out
//     ^                               |                               | ^                                |
//     '------------ answered ---------'                               | '---------- the time is over ----'
//     ^                                                               |
//     '----------------- answered, or nothing comes any more ---------'
struct passive {
	struct passive_counted from, at; // begin and end of the window
	msec_t from_ms;                  // 0: it begins with what is counted next
	struct passive_seen seen[2];     // the last look, and the one before it
	bool based;                      // there was one
	size_t reach;                    // what stands farther in the table may have been there, unseen
	// the look under way
	struct passive_seen past;
	size_t past_room;
	uint32_t waiting; // in SYN_RECV
	bool is_new;      // one past SYN_RECV was not there before
	bool lossy;       // without memory for all of them
	// what came of it
	uint8_t misses;      // looks in a row that found a healthy server
	msec_t look_from_ms; // not before
	uint32_t failures;   // windows in a row without an answer
	uint64_t connections;
	msec_t window_ms; // of the last of them
	msec_t since_ms;  // warned since; 0: it is not
	msec_t out_ms;    // out until; 0: it is not
	msec_t back_ms;   // when it was tried again; 0: never
	uint8_t outs;     // times that it was taken out, one soon after the other
};

enum passive_next {
	PASSIVE_GOES_ON,
	PASSIVE_LOOK,   // at the table of connections
	PASSIVE_CLEAR,  // the counters are those of a server that answers
	PASSIVE_NOTHING // no connection has come for a whole window
};

// What is counted now.
enum passive_next passive_count(struct passive *p, const struct passive_counted *counted, int family, msec_t now_ms);

enum passive_found { PASSIVE_UNKNOWN, PASSIVE_ANSWERED, PASSIVE_UNANSWERED };

#define PASSIVE_WHOLE SIZE_MAX // the table was read to its end

// A look: begin, each connection of the server, end. id: the same for one connection in every look; place: how many of
// the table stand before it; places: how many were read of it.
void passive_look(struct passive *p);
void passive_connection(struct passive *p, uint64_t id, size_t place, bool waiting);
enum passive_found passive_concluded(struct passive *p, size_t places, msec_t now_ms);

// It is to be taken out now, as far as its own signals go.
bool passive_wants_out(const struct passive *p, const struct judge_rules *rules);
// It is, and is back.
void passive_out(struct passive *p, msec_t now_ms);
void passive_back(struct passive *p, msec_t now_ms);
// How many of a service may be out at the same time.
uint32_t passive_out_max(uint32_t backends);

// The warning is over.
void passive_over(struct passive *p);
// Nothing has to be remembered.
bool passive_may_go(const struct passive *p, msec_t now_ms);
void passive_clear(struct passive *p);

// "23 connections in 10 s, none was answered"
const char *passive_text(const struct passive *p, char ret[PASSIVE_TEXT_MAX]);

#endif
