// SPDX-License-Identifier: Apache-2.0
#include "director/passive.h"

#include "shared/util.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

// The largest SYN without data: both headers with 40 bytes of TCP options.
#define SYN_MAX_IPV4 80
#define SYN_MAX_IPV6 100
// Linux sends six SYNs within a minute, and gives up after the seventh.
#define SYNS_MAX 7
#define MISS_MS 5000
#define MISSES_MAX 4 // doubled as often: 80 s between two looks in vain
#define OUTS_MAX 10

static uint64_t syn_max(int family)
{
	return family == AF_INET6 ? SYN_MAX_IPV6 : SYN_MAX_IPV4;
}

// Rates are rounded to whole numbers, so one more of each is allowed.
bool passive_is_worth(const struct passive_counted *rates, int family)
{
	return rates->bytes && rates->bytes <= syn_max(family) * (rates->packets + 1) &&
		rates->packets <= SYNS_MAX * (rates->connections + 1) && rates->active >= PASSIVE_CONNECTIONS_MIN;
}

// --- windows ---

static void begin_window(struct passive *p, const struct passive_counted *counted, msec_t now_ms)
{
	p->from = *counted;
	p->from_ms = now_ms;
}

// Who counts a large table comes by seldom, and what has waited for a minute is gone: of a longer window only its last
// minute is still active, or half of that, since nothing comes evenly.
static uint64_t still_active(uint64_t connections, msec_t window_ms)
{
	return window_ms <= PASSIVE_WINDOW_MAX_MS ? connections
						  : connections * PASSIVE_WINDOW_MAX_MS / (uint64_t)window_ms / 2;
}

static bool is_suspicious(const struct passive_counted *delta, uint32_t active, msec_t window_ms, int family)
{
	return delta->bytes <= syn_max(family) * delta->packets && delta->packets <= SYNS_MAX * delta->connections &&
		active >= still_active(delta->connections, window_ms);
}

enum passive_next passive_count(struct passive *p, const struct passive_counted *counted, int family, msec_t now_ms)
{
	const struct passive_counted delta = {
		.connections = counted->connections - p->from.connections,
		.packets = counted->packets - p->from.packets,
		.bytes = counted->bytes - p->from.bytes,
	};
	const bool restarted = counted->connections < p->from.connections || counted->packets < p->from.packets;

	if (!p->from_ms || restarted || p->out_ms) {
		begin_window(p, counted, now_ms);
		return PASSIVE_GOES_ON;
	}
	if (delta.connections < PASSIVE_CONNECTIONS_MIN) {
		if (now_ms - p->from_ms < PASSIVE_WINDOW_MAX_MS)
			return PASSIVE_GOES_ON;
		begin_window(p, counted, now_ms);
		// a few are too few to end a warning
		return delta.connections && p->since_ms ? PASSIVE_GOES_ON : PASSIVE_NOTHING;
	}
	// once warned, what clients of old connections send again must not look like an answer
	if (!p->since_ms && !is_suspicious(&delta, counted->active, now_ms - p->from_ms, family)) {
		begin_window(p, counted, now_ms);
		return PASSIVE_CLEAR;
	}
	if (now_ms < p->look_from_ms) {
		begin_window(p, counted, now_ms);
		return PASSIVE_GOES_ON;
	}
	p->at = *counted;
	return PASSIVE_LOOK;
}

// --- looks ---

void passive_look(struct passive *p)
{
	p->past.count = 0;
	p->waiting = 0;
	p->is_new = p->lossy = false;
}

static int by_id(const void *a, const void *b)
{
	const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static bool was_there(const struct passive *p, uint64_t id)
{
	for (size_t i = 0; i < sizeof(p->seen) / sizeof(p->seen[0]); i++)
		if (p->seen[i].count && bsearch(&id, p->seen[i].ids, p->seen[i].count, sizeof(*p->seen[i].ids), by_id))
			return true;
	return false;
}

void passive_connection(struct passive *p, uint64_t id, size_t place, bool waiting)
{
	if (waiting) {
		p->waiting++;
		return;
	}
	if (!p->based || (place < p->reach && !was_there(p, id)))
		p->is_new = true;
	if (p->past.count == p->past_room) {
		const size_t room = p->past_room ? 2 * p->past_room : 16;
		uint64_t *ids = reallocarray(p->past.ids, room, sizeof(*ids));

		if (!ids) {
			p->lossy = true;
			return;
		}
		p->past.ids = ids;
		p->past_room = room;
	}
	p->past.ids[p->past.count++] = id;
}

static void keep_look(struct passive *p, size_t places)
{
	free(p->seen[1].ids);
	p->seen[1] = p->seen[0];
	p->seen[0] = (struct passive_seen) { STEAL(p->past.ids), p->past.count };
	p->past.count = p->past_room = 0;
	// how many stand before a place changes from look to look, as connections come and go
	p->reach = places == PASSIVE_WHOLE ? places : places - places / 10;
	p->based = true;
}

static void forget_looks(struct passive *p)
{
	for (size_t i = 0; i < sizeof(p->seen) / sizeof(p->seen[0]); i++) {
		free(p->seen[i].ids);
		p->seen[i] = (struct passive_seen) { 0 };
	}
	free(p->past.ids);
	p->past = (struct passive_seen) { 0 };
	p->past_room = 0;
	p->based = false;
}

enum passive_found passive_concluded(struct passive *p, size_t places, msec_t now_ms)
{
	const uint64_t connections = p->at.connections - p->from.connections;
	const msec_t window_ms = now_ms - p->from_ms;

	sort_items(p->past.ids, p->past.count, sizeof(*p->past.ids), by_id);
	begin_window(p, &p->at, now_ms);
	if (p->based && p->is_new) {
		forget_looks(p);
		p->failures = 0;
		p->look_from_ms = now_ms + (MISS_MS << p->misses);
		p->misses = p->misses < MISSES_MAX ? (uint8_t)(p->misses + 1) : MISSES_MAX;
		return PASSIVE_ANSWERED;
	}
	const bool sure = !p->is_new && !p->lossy && p->waiting >= PASSIVE_CONNECTIONS_MIN;

	if (p->lossy)
		forget_looks(p);
	else
		keep_look(p, places);
	if (!sure)
		return PASSIVE_UNKNOWN;
	p->misses = 0;
	p->failures++;
	p->connections = connections;
	p->window_ms = window_ms;
	if (!p->since_ms)
		p->since_ms = now_ms;
	return PASSIVE_UNANSWERED;
}

// --- out and back ---

bool passive_wants_out(const struct passive *p, const struct judge_rules *rules)
{
	return rules->passive && !p->out_ms && p->failures >= rules->fall;
}

void passive_out(struct passive *p, msec_t now_ms)
{
	msec_t time_ms = PASSIVE_OUT_MS;

	if (p->back_ms && now_ms - p->back_ms >= PASSIVE_OUT_MAX_MS)
		p->outs = 0;
	for (int i = 0; i < p->outs && time_ms < PASSIVE_OUT_MAX_MS; i++)
		time_ms = 2 * time_ms < PASSIVE_OUT_MAX_MS ? 2 * time_ms : PASSIVE_OUT_MAX_MS;
	p->out_ms = now_ms + time_ms;
	p->outs = p->outs < OUTS_MAX ? (uint8_t)(p->outs + 1) : OUTS_MAX;
}

// On trial: its failures stay, so that the first window without an answer takes it out again.
void passive_back(struct passive *p, msec_t now_ms)
{
	p->out_ms = 0;
	p->back_ms = now_ms;
	p->from_ms = 0;
	forget_looks(p);
}

uint32_t passive_out_max(uint32_t backends)
{
	return backends / 2;
}

void passive_over(struct passive *p)
{
	p->since_ms = 0;
	p->failures = 0;
	forget_looks(p);
}

bool passive_may_go(const struct passive *p, msec_t now_ms)
{
	return !p->since_ms && !p->out_ms && now_ms >= p->look_from_ms &&
		(!p->back_ms || now_ms - p->back_ms >= PASSIVE_OUT_MAX_MS);
}

void passive_clear(struct passive *p)
{
	forget_looks(p);
}

const char *passive_text(const struct passive *p, char ret[PASSIVE_TEXT_MAX])
{
	const msec_t seconds = (p->window_ms + 500) / 1000;

	snprintf(ret, PASSIVE_TEXT_MAX, "%" PRIu64 " connections in %" PRId64 " s, none was answered", p->connections,
		(int64_t)(seconds ? seconds : 1));
	return ret;
}
