// SPDX-License-Identifier: Apache-2.0
// What becomes of backends that answer none of the connections that they get: a warning, and where the service's judge
// says so they are taken out for a while.
#include "director/state_internal.h"

#include "director/desired.h"
#include "shared/clock.h"
#include "shared/log.h"

#include <inttypes.h>
#include <stdio.h>

// --- what is counted ---

// Ways of a service's connections that can be told: the table has no states worth the name for others than TCP, and no
// connections at all with one-packet scheduling.
bool state_is_watched(const struct service *service)
{
	const struct service_core *options = &service->options;

	return service->backend_count && !options->ops && (options->fwmark || options->protocol == IPPROTO_TCP);
}

static void say(struct state *state, const struct suspect *suspect, bool answered, const char *why)
{
	events_add(state->events,
		&(struct event) { .service = suspect->backend->service->name,
			.backend = suspect->backend->name,
			.what = "traffic",
			.old = answered ? "unanswered" : "answered",
			.now = answered ? "answered" : "unanswered",
			.reason = why,
			.bad = !answered });
}

static void end_warning(struct state *state, struct suspect *suspect, const char *why)
{
	if (suspect->passive.since_ms)
		say(state, suspect, true, why);
	suspect->kept = false;
	passive_over(&suspect->passive);
}

void state_counted(struct state *state, struct backend *backend, const struct ipvs_counted *counted, msec_t now_ms)
{
	const struct ipvs_stats *stats = &counted->stats;
	const struct passive_counted rates = { stats->connections_rate, stats->in_packets_rate, stats->in_bytes_rate,
		counted->active },
				     sums = { stats->connections, stats->in_packets, stats->in_bytes, counted->active };
	const int family = backend->service->options.family;
	struct suspect *suspect = backend->suspect;

	if (!suspect && passive_is_worth(&rates, family))
		suspect = model_suspect(backend);
	if (!suspect)
		return;
	switch (passive_count(&suspect->passive, &sums, family, now_ms)) {
	case PASSIVE_GOES_ON:
		return;
	case PASSIVE_LOOK:
		suspect->asked = true;
		return;
	case PASSIVE_NOTHING:
		end_warning(state, suspect, "no connections come any more");
		break;
	case PASSIVE_CLEAR:
		break;
	}
	if (passive_may_go(&suspect->passive, now_ms))
		model_clear_suspect(backend);
}

// --- what was found in the table ---

// Those of a service that serve, or would.
static uint32_t serving(const struct service *service)
{
	uint32_t count = 0;

	for (const struct backend *b = service->backends; b; b = b->next)
		if (!(service->pool && model_has_name(&service->pool->sorry, b->name)))
			count += desired_status(b) == STATUS_UP || (b->suspect && b->suspect->passive.out_ms);
	return count;
}

static void take_out(struct state *state, struct suspect *suspect, msec_t now_ms)
{
	struct backend *backend = suspect->backend;
	const struct service *service = backend->service;

	if (service->passive_out >= passive_out_max(serving(service))) {
		if (!suspect->kept)
			log_warning("%s/%s: %s; it stays in: no more than half of a service's backends are taken out "
				    "for that",
				service->name, backend->name, suspect->reason);
		suspect->kept = true;
		return;
	}
	suspect->kept = false;
	model_suspect_out(suspect, now_ms);
	state_touch_backend(state, backend);
	if (backend->agent)
		state_touch_agent(state, backend->agent);
	if (state->tick_due)
		state->tick_due(state->ctx);
}

void state_looked(struct state *state, struct suspect *suspect, size_t places, msec_t now_ms)
{
	struct backend *backend = suspect->backend;
	const bool was_warned = suspect->passive.since_ms;
	char text[PASSIVE_TEXT_MAX];

	suspect->asked = false;
	switch (passive_concluded(&suspect->passive, places, now_ms)) {
	case PASSIVE_UNKNOWN:
		return;
	case PASSIVE_ANSWERED:
		end_warning(state, suspect, "connections are answered");
		return;
	case PASSIVE_UNANSWERED:
		break;
	}
	snprintf(suspect->reason, sizeof(suspect->reason), "passive: %s", passive_text(&suspect->passive, text));
	if (!was_warned)
		say(state, suspect, false, text);
	if (desired_status(backend) == STATUS_UP && passive_wants_out(&suspect->passive, model_judge(backend)))
		take_out(state, suspect, now_ms);
}

// --- back again ---

bool state_suspect_tick(struct state *state)
{
	const msec_t now = clock_now_ms();
	bool some = false;

	for (struct suspect *s = state->model.suspects; s; s = s->next) {
		struct backend *backend = s->backend;

		if (!s->passive.out_ms)
			continue;
		if (now < s->passive.out_ms && model_judge(backend)->passive) {
			some = true;
			continue;
		}
		model_suspect_back(s, now);
		state_note_status(state, backend, "passive: it is tried again");
		state_touch_backend(state, backend);
		if (backend->agent)
			state_touch_agent(state, backend->agent);
	}
	return some;
}

void state_write_suspect(const struct backend *backend, struct out *out)
{
	const struct suspect *suspect = backend->suspect;
	const msec_t now = clock_now_ms();
	char text[CLOCK_DURATION_MAX];

	if (!suspect || !suspect->passive.since_ms)
		return;
	out_key(out, "unanswered");
	out_open(out, '{');
	out_key(out, "connections");
	out_uint(out, suspect->passive.connections);
	out_key(out, "window");
	out_string(out, clock_format_duration(suspect->passive.window_ms / 1000 * 1000, text));
	out_key(out, "times");
	out_uint(out, suspect->passive.failures);
	out_key(out, "since");
	out_string(out, clock_format_duration((now - suspect->passive.since_ms) / 1000 * 1000, text));
	if (suspect->passive.out_ms) {
		const msec_t left = suspect->passive.out_ms - now;

		out_key(out, "out");
		out_string(out, clock_format_duration(left < 0 ? 0 : (left + 999) / 1000 * 1000, text));
	}
	out_close(out, '{');
}
