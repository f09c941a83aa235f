// SPDX-License-Identifier: Apache-2.0
#include "director/traffic.h"

#include "director/conns.h"
#include "shared/clock.h"
#include "shared/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define ROUND_MS 5000
#define SLICE_NS 1000000
#define REST_FACTOR 99 // so much longer than it works it rests: 1 % of the time
#define LOOK_REST_MS 3 // between two slices of a look, which is to see one moment
#define LOOK_LINES_MAX 8192
#define LOOK_NS_MAX 50000000
#define LOOKS_MAX 256 // suspects of one look; the others wait for the next

enum stage { STAGE_SERVICES, STAGE_DESTS, STAGE_TABLE };

struct traffic {
	struct state *state;
	struct ipvs *ipvs; // of its own: others ask the kernel while it walks
	uv_timer_t timer;
	enum stage stage;
	struct model_cursor cursor;
	bool walking;                     // the cursor is in use
	char service[MODEL_NAME_MAX + 1]; // whose destinations are read
	msec_t began_ms;
	uint64_t table_ns; // work on the table of connections in this round
	struct conns *conns;
	size_t lines;
	bool blind; // the table cannot be read, and that was said
};

static void on_timer(uv_timer_t *timer);

static void sleep_for(struct traffic *t, uint64_t ms)
{
	uv_timer_start(&t->timer, on_timer, ms ? ms : 1, 0);
}

// --- counters ---

static void on_dest(void *ctx, const struct ipvs_counted *counted)
{
	struct traffic *t = ctx;
	const struct service *service = model_service(&t->state->model, t->service);
	struct backend *backend = service ? model_backend_at(service, &counted->dest.to) : NULL;

	if (backend)
		state_counted(t->state, backend, counted, clock_now_ms());
}

// The next service. False: that was the last one.
static bool next_service(struct traffic *t)
{
	const struct service *service = t->cursor.service;
	struct ipvs_service found;
	struct ipvs_stats stats;

	if (!service)
		return false;
	model_cursor_advance(&t->cursor);
	if (!state_is_watched(service) || ipvs_get_service(t->ipvs, &service->key, &found, &stats, NULL))
		return true;
	if (!stats.in_bytes_rate && !service->suspects)
		return true;
	memcpy(t->service, service->name, sizeof(t->service));
	if (ipvs_walk_start(t->ipvs, &service->key, NULL) == 0)
		t->stage = STAGE_DESTS;
	return true;
}

// --- the table of connections ---

static bool is_of(const struct conn *conn, const struct backend *backend)
{
	const struct service_core *service = &backend->service->options;
	const struct inet_endpoint *at = &backend->place.at;

	return inet_addr_cmp(&conn->dest.addr, &at->addr) == 0 && (!at->port || at->port == conn->dest.port) &&
		(service->fwmark ||
			(inet_addr_cmp(&conn->vip.addr, &service->host) == 0 &&
				(!service->port || service->port == conn->vip.port)));
}

static void on_connection(void *ctx, const struct conn *conn)
{
	struct traffic *t = ctx;
	const size_t place = t->lines++;
	for (struct suspect *s = t->state->model.suspects; s; s = s->next) {
		if (!s->looking || !is_of(conn, s->backend))
			continue;
		// a check of ours along the path stands there as well, and is no client
		const struct probe_path *path = s->backend->path;
		if (!path || inet_addr_cmp(&path->source, &conn->client) != 0)
			passive_connection(&s->passive, conn->id, place, conn->waiting);
	}
}

// Those behind them come first the next time.
static void move_to_end(struct suspect **suspects, size_t count)
{
	for (; count; count--) {
		struct suspect *first = *suspects;

		DL_DELETE(*suspects, first);
		DL_APPEND(*suspects, first);
	}
}

// Whether there is something to look for.
static bool begin_look(struct traffic *t)
{
	size_t count = 0, walked = 0;
	struct suspect *s;

	for (s = t->state->model.suspects; s && count < LOOKS_MAX; s = s->next, walked++) {
		s->looking = s->asked;
		if (s->looking)
			passive_look(&s->passive);
		count += s->looking;
	}
	if (s)
		move_to_end(&t->state->model.suspects, walked);
	t->lines = 0;
	t->table_ns = 0;
	if (!count)
		return false;
	int rc = conns_open(&t->conns);
	if (rc && !t->blind)
		log_warning("/proc/net/ip_vs_conn: %s; real servers that answer no connection are not noticed",
			strerror(-rc));
	t->blind = rc;
	return !rc;
}

// places: what was read of the table; 0: nothing.
static void end_look(struct traffic *t, size_t places)
{
	const msec_t now = clock_now_ms();

	conns_close(t->conns);
	t->conns = NULL;
	for (struct suspect *s = t->state->model.suspects; s; s = s->next) {
		if (s->looking && places)
			state_looked(t->state, s, places, now);
		s->looking = false;
	}
}

// --- rounds ---

static void end_round(struct traffic *t)
{
	const msec_t next_ms = t->began_ms + ROUND_MS, now_ms = clock_now_ms(),
		     owed_ms = (msec_t)(t->table_ns * REST_FACTOR / 1000000),
		     rest_ms = next_ms - now_ms > owed_ms ? next_ms - now_ms : owed_ms;

	model_cursor_stop(&t->cursor, &t->state->model);
	t->walking = false;
	sleep_for(t, rest_ms > 0 ? (uint64_t)rest_ms : 1);
}

static void begin_round(struct traffic *t)
{
	t->began_ms = clock_now_ms();
	t->stage = STAGE_SERVICES;
	model_cursor_start(&t->cursor, &t->state->model);
	t->walking = true;
}

// Returns false when the counters are all read.
static bool count_some(struct traffic *t, uint64_t until_ns)
{
	do {
		if (t->stage == STAGE_SERVICES && !next_service(t))
			return false;
		// what was interrupted by a change comes in the next round
		if (t->stage == STAGE_DESTS && ipvs_walk_next(t->ipvs, on_dest, t, NULL) <= 0)
			t->stage = STAGE_SERVICES;
	} while (uv_hrtime() < until_ns);
	return true;
}

// Returns 1 while there is more, 0 at the end, or -errno.
static int read_some(struct traffic *t, uint64_t until_ns)
{
	int rc;

	do
		rc = conns_next(t->conns, on_connection, t);
	while (rc > 0 && t->lines < LOOK_LINES_MAX && uv_hrtime() < until_ns);
	return rc;
}

// Goes on with the look. False: it is over.
static bool look_on(struct traffic *t)
{
	const uint64_t began_ns = uv_hrtime();
	const int rc = read_some(t, began_ns + SLICE_NS);

	t->table_ns += uv_hrtime() - began_ns;
	if (rc > 0 && t->lines < LOOK_LINES_MAX && t->table_ns < LOOK_NS_MAX)
		return true;
	end_look(t, rc < 0 ? 0 : rc ? t->lines : PASSIVE_WHOLE);
	return false;
}

static void on_timer(uv_timer_t *timer)
{
	struct traffic *t = timer->data;
	const uint64_t began_ns = uv_hrtime();

	if (!t->walking)
		begin_round(t);
	if (t->stage == STAGE_TABLE) {
		if (look_on(t))
			sleep_for(t, LOOK_REST_MS);
		else
			end_round(t);
		return;
	}
	if (count_some(t, began_ns + SLICE_NS)) {
		sleep_for(t, (uv_hrtime() - began_ns) * REST_FACTOR / 1000000);
		return;
	}
	if (begin_look(t)) {
		t->stage = STAGE_TABLE;
		sleep_for(t, 1);
		return;
	}
	end_look(t, 0);
	end_round(t);
}

// --- life cycle ---

int traffic_new(uv_loop_t *loop, struct state *state, struct traffic **ret, struct err *err)
{
	struct traffic *t = calloc(1, sizeof(*t));
	int rc = t ? ipvs_open(&t->ipvs, err) : err_set(err, -ENOMEM, NULL, "out of memory");

	if (rc) {
		free(t);
		return rc;
	}
	t->state = state;
	uv_timer_init(loop, &t->timer);
	t->timer.data = t;
	sleep_for(t, ROUND_MS);
	*ret = t;
	return 0;
}

static void closed(uv_handle_t *handle)
{
	free(handle->data);
}

void traffic_free(struct traffic *traffic)
{
	if (!traffic)
		return;
	if (traffic->walking)
		model_cursor_stop(&traffic->cursor, &traffic->state->model);
	conns_close(traffic->conns);
	ipvs_free(traffic->ipvs);
	uv_close((uv_handle_t *)&traffic->timer, closed);
}
