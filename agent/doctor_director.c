// SPDX-License-Identifier: Apache-2.0
// What the directors say: do they answer, do they know this host, do they send it connections, what time is it there.
#include "agent/doctor_checks.h"

#include "shared/clock.h"

#include <string.h>

#define CLOCK_TOLERATED_MS 5000 // a Date has whole seconds, and takes a while to come

static const char *url_of(const struct doctor *d, size_t i)
{
	return d->answers.clients[i].url;
}

void doctor_check_director(struct doctor *d)
{
	size_t silent = 0;

	for (size_t i = 0; i < d->answers.count; i++)
		silent += *d->answers.directors[i].error != 0;
	for (size_t i = 0; i < d->answers.count; i++) {
		const char *error = d->answers.directors[i].error;

		if (!*error) {
			doctor_say(&d->report, DOCTOR_OK, "%s answers", url_of(d, i));
			continue;
		}
		doctor_say(&d->report, silent == d->answers.count ? DOCTOR_WRONG : DOCTOR_WARNING, "%s: %s%s",
			url_of(d, i), error,
			d->answers.clients[i].has_answer ? "; what it said last is used here" : "");
		doctor_mend_at(&d->report, "the director", "systemctl restart brass-director");
	}
}

static void judge_lease(struct doctor *d, size_t i)
{
	const json_t *agent = d->answers.directors[i].agent;
	const char *address = json_string_value(json_object_get(agent, "address"));
	const char *left = json_string_value(json_object_get(agent, "expires_in"));
	const char *ttl = json_string_value(json_object_get(agent, "ttl"));
	char here[INET_ADDR_MAX];

	inet_addr_format(&d->answers.address, here);
	if (!agent) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s does not know %s: no agent reports to it from here",
			url_of(d, i), d->config->node);
		doctor_mend(&d->report, "systemctl restart brass-agent");
	} else if (json_is_true(json_object_get(agent, "lost"))) {
		doctor_say(&d->report, DOCTOR_WRONG,
			"the lease of %s at %s has run out: the agent has been silent for longer than %s",
			d->config->node, url_of(d, i), ttl ? ttl : "its ttl");
		doctor_mend(&d->report, "systemctl restart brass-agent");
	} else if (address && strcmp(address, here) != 0) {
		doctor_say(&d->report, DOCTOR_WRONG,
			"%s is registered at %s from %s, and this host is %s: do two have one name?", d->config->node,
			url_of(d, i), address, here);
	} else {
		doctor_say(&d->report, DOCTOR_OK, "%s is registered at %s for another %s", d->config->node,
			url_of(d, i), left ? left : "?");
	}
}

void doctor_check_lease(struct doctor *d)
{
	for (size_t i = 0; i < d->answers.count; i++)
		if (!*d->answers.directors[i].error)
			judge_lease(d, i);
}

// The clock that people and certificates go by, and whether it runs evenly.
void doctor_check_clock(struct doctor *d)
{
	char text[CLOCK_DURATION_MAX];
	// how much further wall time got than monotonic time since the start
	const msec_t jump = clock_wall_ms() - d->begin_wall_ms - (clock_now_ms() - d->begin_mono_ms);
	bool told = false;

	if (jump > 1000 || jump < -1000) {
		doctor_say(&d->report, DOCTOR_WARNING, "this host's clock was set %s by %s while the doctor looked",
			jump < 0 ? "back" : "forward",
			clock_format_duration(((jump < 0 ? -jump : jump) + 500) / 1000 * 1000, text));
		doctor_mend(&d->report, "timedatectl set-ntp true");
	}
	for (size_t i = 0; i < d->answers.count; i++) {
		const struct ask_director *director = &d->answers.directors[i];
		const msec_t ahead = director->wall_ms - director->date_ms;

		if (!director->date_ms)
			continue;
		told = true;
		if (ahead > -CLOCK_TOLERATED_MS && ahead < CLOCK_TOLERATED_MS + 1000) {
			doctor_say(&d->report, DOCTOR_OK, "the same as that of %s", url_of(d, i));
			continue;
		}
		doctor_say(&d->report, DOCTOR_WARNING,
			"this host's clock is %s %s that of %s: their logs do not fit together, certificates may not "
			"be valid",
			clock_format_duration((ahead < 0 ? -ahead : ahead) / 1000 * 1000, text),
			ahead < 0 ? "behind" : "ahead of", url_of(d, i));
		doctor_mend(&d->report, "timedatectl set-ntp true");
	}
	if (!told && d->answers.count)
		doctor_say(&d->report, DOCTOR_UNSEEN, "no director says what time it is there");
}

void doctor_check_backend(struct doctor *d, const struct doctor_case *c)
{
	const struct ask_backend *b = c->backend;

	if (!c->client)
		return;
	if (!b) {
		doctor_say(&d->report, DOCTOR_UNSEEN, "%s does not say what it makes of this host", c->client->url);
	} else if (!b->there) {
		doctor_say(&d->report, DOCTOR_WRONG, "this host is no backend of %s at %s", c->service->name,
			c->client->url);
		doctor_mend(&d->report, "systemctl restart brass-agent");
	} else if (strcmp(b->state, "up") == 0 && b->effective_weight) {
		doctor_say(&d->report, DOCTOR_OK, "%s: up, weight %u", c->client->url, b->effective_weight);
	} else if (strcmp(b->state, "up") == 0 || strcmp(b->state, "drain") == 0) {
		doctor_say(&d->report, DOCTOR_WARNING, "%s sends no new connections: %s, weight %u", c->client->url,
			b->state, b->effective_weight);
	} else {
		doctor_say(&d->report, DOCTOR_WRONG, "%s sends no connections: %s%s%s", c->client->url, b->state,
			*b->reason ? ": " : "", b->reason);
	}
}
