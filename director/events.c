// SPDX-License-Identifier: Apache-2.0
#include "director/events.h"

#include "shared/log.h"
#include "shared/out.h"

#include <errno.h>
#include <string.h>
#include <time.h>

struct kept {
	uint64_t id;
	char *text;
};

struct events {
	struct kept ring[EVENTS_MAX];
	size_t first, count;
	uint64_t next_id;
	uint64_t stands; // the last that counts
	uint64_t saved;  // the last that is in the store
};

static const struct kept *at(const struct events *events, size_t index)
{
	return &events->ring[(events->first + index) % EVENTS_MAX];
}

// How many have an id of at most this one.
static size_t upto(const struct events *events, uint64_t id)
{
	size_t low = 0, high = events->count;

	while (low < high) {
		const size_t middle = (low + high) / 2;

		if (at(events, middle)->id <= id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

// Takes the text over.
static void keep(struct events *events, uint64_t id, char *text)
{
	if (events->count == EVENTS_MAX) {
		free(events->ring[events->first].text);
		events->first = (events->first + 1) % EVENTS_MAX;
		events->count--;
	}
	events->ring[(events->first + events->count++) % EVENTS_MAX] = (struct kept) { id, text };
	events->next_id = id + 1;
}

// --- adding ---

static const char *or_nothing(const char *text)
{
	return text ? text : "";
}

static void say(const struct event *e)
{
	const char *why = or_nothing(e->reason), *colon = *why ? ": " : "";
	const enum log_level level = e->bad ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO;
	// the status is what is talked about if nothing else is named
	const bool plain = strcmp(e->what, "status") == 0;
	const char *what = plain ? "" : e->what, *space = plain ? "" : " ";

	if (e->agent)
		log_write(level, "agent %s: %s%s%s%s%s", e->agent, or_nothing(e->old), e->old ? " -> " : "", e->now,
			colon, why);
	else if (e->backend)
		log_write(level, "%s/%s: %s%s%s -> %s%s%s", e->service, e->backend, what, space, or_nothing(e->old),
			e->now, colon, why);
	else if (e->old)
		log_write(level, "service %s: %s%s%s -> %s%s%s", e->service, what, space, e->old, e->now, colon, why);
	else
		log_write(level, "service %s: %s%s%s", e->service, e->now, colon, why);
}

static void write_time(struct out *out, msec_t wall_ms)
{
	char date[CLOCK_DATE_MAX], text[CLOCK_DATE_MAX + 8];

	clock_format_date(wall_ms / 1000, date);
	snprintf(text, sizeof(text), "%.*s.%03dZ", (int)strcspn(date, "Z"), date, (int)(wall_ms % 1000));
	out_string(out, text);
}

static char *print(const struct event *e, uint64_t id)
{
	const struct {
		const char *key, *value;
	} rows[] = {
		{ "type",
			e->agent             ? "agent"
				: e->backend ? "backend"
					     : "service" },
		{ "service", e->service },
		{ "backend", e->backend },
		{ "agent", e->agent },
		{ "what", e->what },
		{ "old", e->old },
		{ "new", e->now },
		{ "reason", e->reason && *e->reason ? e->reason : NULL },
	};
	struct out out = { 0 };

	out_open(&out, '{');
	out_key(&out, "id");
	out_uint(&out, id);
	out_key(&out, "time");
	write_time(&out, clock_wall_ms());
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!rows[i].value)
			continue;
		out_key(&out, rows[i].key);
		out_string(&out, rows[i].value);
	}
	out_close(&out, '{');
	char *text = out_steal(&out, NULL);
	char *exact = text ? realloc(text, strlen(text) + 1) : NULL;

	return exact ? exact : text;
}

void events_add(struct events *events, const struct event *event)
{
	say(event);
	char *text = events ? print(event, events->next_id) : NULL;

	if (text)
		keep(events, events->next_id, text);
}

bool events_stand(struct events *events)
{
	if (!events || events->stands == events->next_id - 1)
		return false;
	events->stands = events->next_id - 1;
	return true;
}

void events_undo(struct events *events)
{
	if (!events)
		return;
	for (size_t stays = upto(events, events->stands); events->count > stays; events->count--)
		free(at(events, events->count - 1)->text);
	events->next_id = events->stands + 1;
}

// --- the store ---

bool events_unsaved(const struct events *events)
{
	return events && events->saved < events->stands;
}

void events_save(struct events *events, struct store *store)
{
	struct err err = { 0 };
	int rc = 0;

	if (!events_unsaved(events))
		return;
	for (size_t i = upto(events, events->saved); i < events->count && at(events, i)->id <= events->stands && !rc;
		i++)
		rc = store_add_event(store, at(events, i)->id, at(events, i)->text, &err);
	if (!rc)
		rc = store_drop_events(store, events_oldest(events), &err);
	if (rc)
		log_error("events cannot be stored: %s", err.text);
	else
		events->saved = events->stands;
}

static int load(void *ctx, uint64_t id, const char *text, struct err *err)
{
	char *copy = strdup(text);

	if (!copy)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	keep(ctx, id, copy);
	return 0;
}

int events_new(struct store *store, struct events **ret, struct err *err)
{
	struct events *events = calloc(1, sizeof(*events));
	int rc = events ? 0 : err_set(err, -ENOMEM, NULL, "out of memory");

	if (rc)
		return rc;
	events->next_id = 1;
	rc = store_each_event(store, load, events, err);
	if (rc) {
		events_free(events);
		return rc;
	}
	// more than could have been told and not saved
	if (events->count)
		events->next_id += EVENTS_MAX;
	events->stands = events->saved = events->next_id - 1;
	*ret = events;
	return 0;
}

void events_free(struct events *events)
{
	if (!events)
		return;
	for (size_t i = 0; i < events->count; i++)
		free(at(events, i)->text);
	free(events);
}

// --- reading ---

const char *events_next(const struct events *events, uint64_t after, uint64_t *ret_id)
{
	const size_t index = upto(events, after);

	if (index == events->count || at(events, index)->id > events->stands)
		return NULL;
	if (ret_id)
		*ret_id = at(events, index)->id;
	return at(events, index)->text;
}

uint64_t events_oldest(const struct events *events)
{
	return events->count ? at(events, 0)->id : 0;
}

uint64_t events_newest(const struct events *events)
{
	const size_t index = upto(events, events->stands);

	return index ? at(events, index - 1)->id : 0;
}
