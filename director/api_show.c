// SPDX-License-Identifier: Apache-2.0
// How services and backends are shown: GORB's shapes with additions. Many of them are written piece by piece.
#include "director/api.h"

#include "shared/clock.h"
#include "shared/util.h"

#include <netinet/ip.h>
#include <stdlib.h>
#include <string.h>

// --- printing ---

static void write_stats(struct out *out, const struct ipvs_stats *s)
{
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{ "connections", s->connections },
		{ "in_packets", s->in_packets },
		{ "out_packets", s->out_packets },
		{ "in_bytes", s->in_bytes },
		{ "out_bytes", s->out_bytes },
		{ "connections_rate", s->connections_rate },
		{ "in_packets_rate", s->in_packets_rate },
		{ "out_packets_rate", s->out_packets_rate },
		{ "in_bytes_rate", s->in_bytes_rate },
		{ "out_bytes_rate", s->out_bytes_rate },
	};

	out_open(out, '{');
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		out_key(out, rows[i].name);
		out_uint(out, rows[i].value);
	}
	out_close(out, '{');
}

static void write_options(struct out *out, const struct backend *backend)
{
	struct backend_options options;

	model_backend_options(backend, &options);
	if (backend->agent && backend->service->pulse)
		options.pulse = backend->service->pulse->spec;
	else if (backend->agent)
		options.pulse = ((const struct service_options *)service_fields.defaults)->pulse;
	out_key(out, "options");
	field_write(&backend_fields, &options, FIELD_ALL, out);
}

static void write_metrics(struct out *out, const struct backend *backend, enum backend_status status)
{
	msec_t since_ms = backend->health ? backend->health->judge.since_ms : 0;

	out_key(out, "metrics"); // GORB's
	out_open(out, '{');
	out_key(out, "status");
	out_string(out, status == STATUS_UP ? "Up" : "Down");
	out_key(out, "health");
	out_real(out, health_ratio(backend->health));
	out_key(out, "uptime");
	out_int(out, status == STATUS_UP && since_ms ? (clock_now_ms() - since_ms) / 1000 : 0);
	out_close(out, '{');
}

static void write_drain(struct out *out, const struct drain *drain)
{
	msec_t left = drain->deadline_ms - clock_now_ms();
	char text[CLOCK_DURATION_MAX];

	out_key(out, "drain");
	out_open(out, '{');
	out_key(out, "active");
	out_uint(out, drain->active);
	out_key(out, "left");
	out_string(out, clock_format_duration(left < 0 ? 0 : (left + 999) / 1000 * 1000, text));
	out_close(out, '{');
}

// The largest packet of a client that goes to the backend uncut; nothing where there is no way to it.
static void write_max_packet(struct api *api, struct out *out, const struct backend *backend)
{
	const struct backend_core *options = &backend->options;
	const uint32_t overhead = tunnel_overhead(options->method, &options->tunnel, options->host.family);
	uint32_t mtu = 0;

	if (path_mtu(api->state->path, &backend->options.host, clock_now_ms(), &mtu, NULL) || mtu <= overhead)
		return;
	out_key(out, "max_packet");
	out_uint(out, (mtu > IP_MAXPACKET ? IP_MAXPACKET : mtu) - overhead);
}

// Which way its checks take at present.
static void write_via(struct out *out, const struct backend *backend, const struct state *state)
{
	const struct probe_path *path = backend->path;

	if (!model_pulse(backend))
		return;
	out_key(out, "via");
	out_string(out, path && state_path_works(state, path) ? "vip" : "rip");
	if (!path || !path->problem)
		return;
	out_key(out, "via_problem");
	out_string(out, path->problem);
}

// Why they cannot be made at present.
static void write_check_problem(struct out *out, const struct backend *backend)
{
	const char *problem = health_problem(backend);

	if (!problem)
		return;
	out_key(out, "check_problem");
	out_string(out, problem);
}

// Of the certificate that its pulse was shown.
static void write_expiry(struct out *out, const struct backend *backend)
{
	char text[CLOCK_DATE_MAX];

	if (!backend->health || !backend->health->expires_s)
		return;
	out_key(out, "certificate_expires");
	out_string(out, clock_format_date(backend->health->expires_s, text));
}

static void write_counters(struct out *out, const struct ipvs_counted *found)
{
	static const struct ipvs_counted none;

	if (!found)
		found = &none;
	out_key(out, "active");
	out_uint(out, found->active);
	out_key(out, "inactive");
	out_uint(out, found->inactive);
	out_key(out, "stats");
	write_stats(out, &found->stats);
}

// What was found when it was last looked at.
static void write_diagnosis(struct out *out, const struct backend *backend)
{
	if (!diagnose_is_known(backend))
		return;
	out_key(out, "diagnosis");
	diagnose_write(backend, out);
}

// Without counters when nobody looked: the kernel is not asked for its counters only to answer a change.
static void write_backend(struct api *api, struct out *out, const struct backend *backend,
	const struct ipvs_counted *counted, size_t count, bool counters)
{
	const enum backend_status status = desired_status(backend);
	const char *reason = desired_reason(backend);

	out_open(out, '{');
	write_options(out, backend);
	out_key(out, "origin");
	out_string(out, backend->agent ? "agent" : "api");
	out_key(out, "effective_weight");
	out_uint(out, desired_weight(backend));
	out_key(out, "status");
	out_string(out, field_choice_name(backend_status_choices, status));
	write_metrics(out, backend, status);
	if (counters)
		write_counters(out, reconcile_find(counted, count, backend));
	write_max_packet(api, out, backend);
	write_via(out, backend, api->state);
	write_check_problem(out, backend);
	write_expiry(out, backend);
	if (backend->drain)
		write_drain(out, backend->drain);
	if (backend->agent) {
		out_key(out, "node");
		out_string(out, backend->agent->node);
	}
	if (*reason) {
		out_key(out, "reason");
		out_string(out, reason);
	}
	state_write_suspect(backend, out);
	write_diagnosis(out, backend);
	out_close(out, '{');
}

static double service_health(const struct service *service)
{
	double health = 0;

	for (const struct backend *b = service->backends; b; b = b->next)
		health += desired_status(b) == STATUS_UP ? health_ratio(b->health) : 0;
	// as GORB has it: a service without backends is healthy, albeit of no use
	return service->backends ? health / service->backend_count : 1.0;
}

// What each version of a split has now: its share as declared, the weights of its backends together, and how many of
// them take connections.
static void write_split(struct out *out, const struct service *service)
{
	const struct split_options *split = service->split;

	out_key(out, "split");
	out_open(out, '{');
	for (uint32_t i = 0; split && i < split->count; i++) {
		uint64_t weight = 0, up = 0;

		for (const struct backend *b = service->backends; b; b = b->next) {
			const char *value = model_label(b, split->label);

			if (!value || strcmp(value, split->shares[i].value) != 0)
				continue;
			weight += desired_weight(b);
			up += desired_weight(b) > 0;
		}
		out_key(out, split->shares[i].value);
		out_open(out, '{');
		out_key(out, "share");
		out_uint(out, split->shares[i].share);
		out_key(out, "weight");
		out_uint(out, weight);
		out_key(out, "up");
		out_uint(out, up);
		if (!up && split->shares[i].share) {
			out_key(out, "reason");
			out_string(out, "no healthy backend: its share goes to the others");
		}
		out_close(out, '{');
	}
	out_close(out, '{');
}

// How the backends serve together, see pool.h.
static void write_serving(struct out *out, const struct service *service)
{
	const struct pool_state *serving = &service->serving;
	const uint32_t needs = desired_quorum(service);

	out_key(out, "serving");
	out_open(out, '{');
	out_key(out, "up");
	out_uint(out, serving->well);
	if (needs) {
		out_key(out, "needs");
		out_uint(out, needs);
		out_key(out, "quorum");
		out_bool(out, serving->quorum == POOL_QUORUM_THERE);
	}
	out_key(out, "sorry");
	out_bool(out, serving->sorry);
	out_key(out, "panic");
	out_bool(out, serving->panic);
	if (service->pool->zones.prefer.count) {
		out_key(out, "local");
		out_uint(out, serving->local);
	}
	out_close(out, '{');
}

static void open_service(struct out *out, const struct service *service)
{
	struct service_options options;

	model_service_options(service, &options);
	out_open(out, '{');
	out_key(out, "options");
	field_write(&service_fields, &options, FIELD_ALL, out);
	out_key(out, "health");
	out_real(out, service_health(service));
	if (service->leaving) {
		out_key(out, "leaving");
		out_bool(out, true);
	}
	if (service->split)
		write_split(out, service);
	if (service->pool)
		write_serving(out, service);
	out_key(out, "backends");
}

static void close_service(struct api *api, struct out *out, const struct service *service)
{
	struct ipvs_stats stats;

	reconcile_service_stats(api->state->reconcile, &service->key, &stats);
	out_key(out, "stats");
	write_stats(out, &stats);
	out_close(out, '{');
}

static void write_names(struct out *out, const struct service *service)
{
	out_open(out, '[');
	for (const struct backend *b = service->backends; b; b = b->next)
		out_string(out, b->name);
	out_close(out, '[');
}

// --- walks: answers made piece by piece ---

struct walk {
	struct api *api;
	struct model_cursor cursor;
	bool expand, begun;
	bool single;                  // one service only, without its name
	const struct service *inside; // the service that is open in the text; NULL: none
	struct ipvs_counted *counted; // its
	size_t count;
};

static void leave_service(struct walk *walk)
{
	free(walk->counted);
	walk->counted = NULL;
	walk->count = 0;
	walk->inside = NULL;
}

static void walk_free(void *stream_ctx)
{
	struct walk *walk = stream_ctx;

	model_cursor_stop(&walk->cursor, &walk->api->state->model);
	leave_service(walk);
	free(walk);
}

static void enter_service(struct walk *walk, struct out *out)
{
	const struct service *service = walk->cursor.service;

	if (!walk->single)
		out_key(out, service->name);
	open_service(out, service);
	out_open(out, '{');
	// without an answer of the kernel the rest is still worth showing
	reconcile_read_stats(walk->api->state->reconcile, &service->key, &walk->counted, &walk->count, NULL);
	walk->inside = service;
}

static void step(struct walk *walk, struct out *out)
{
	struct backend *backend = walk->cursor.backend;

	if (!walk->expand) {
		out_string(out, walk->cursor.service->name);
		model_cursor_advance(&walk->cursor);
	} else if (!walk->inside) {
		enter_service(walk, out);
	} else if (backend) {
		out_key(out, backend->name);
		write_backend(walk->api, out, backend, walk->counted, walk->count, true);
		walk->cursor.backend = backend->next;
	} else {
		out_close(out, '{');
		close_service(walk->api, out, walk->inside);
		leave_service(walk);
		model_cursor_advance(&walk->cursor);
	}
}

static bool walk_next(void *stream_ctx, struct out *out)
{
	struct walk *walk = stream_ctx;
	const char bracket = walk->expand ? '{' : '[';

	if (!walk->begun && !walk->single)
		out_open(out, bracket);
	// the service that we were in was removed meanwhile, and the cursor has gone on
	if (walk->inside && walk->inside != walk->cursor.service) {
		out_close(out, '{');
		out_close(out, '{');
		leave_service(walk);
	}
	while (walk->cursor.service && out->len < HTTP_PIECE && !(walk->single && walk->begun && !walk->inside)) {
		step(walk, out);
		walk->begun = true;
	}
	if (walk->cursor.service && !(walk->single && !walk->inside))
		return true;
	if (!walk->single)
		out_close(out, bracket);
	out_bytes(out, "\n", 1);
	return false;
}

void api_answer_walk(struct api *api, struct http_exchange *exchange, struct service *only, bool expand)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	const struct err err = { .text = "out of memory" };

	if (!walk) {
		http_answer_error(exchange, 500, &err);
		return;
	}
	walk->api = api;
	walk->expand = expand;
	walk->single = only;
	model_cursor_start(&walk->cursor, &api->state->model);
	if (only)
		model_cursor_to(&walk->cursor, only);
	http_answer_stream(exchange, &(struct http_stream) { "application/json", walk_next, walk_free, walk, false });
}

void api_answer_service(struct api *api, struct http_exchange *exchange, const struct service *service)
{
	struct out out = { .indented = true };

	open_service(&out, service);
	write_names(&out, service);
	close_service(api, &out, service);
	http_answer_out(exchange, 200, &out);
}

void api_answer_backend(struct api *api, struct http_exchange *exchange, const struct backend *backend, bool counters)
{
	struct out out = { .indented = true };
	const struct ipvs_counted *counted = NULL;
	size_t count = 0;

	// without an answer of the kernel the rest is still worth showing
	if (counters)
		reconcile_stats(
			api->state->reconcile, &backend->service->key, API_STATS_AGE_MS, &counted, &count, NULL);
	write_backend(api, &out, backend, counted, count, counters);
	http_answer_out(exchange, 200, &out);
}
