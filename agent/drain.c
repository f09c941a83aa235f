// SPDX-License-Identifier: Apache-2.0
#include "agent/drain.h"

#include "agent/journal.h"
#include "agent/sockets.h"
#include "shared/field.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define QUIET_LOOKS 3   // without an open connection, here and at the directors
#define SILENT_LOOKS 20 // without one here, whatever directors count

// --- one ---

struct drain drain_begin(const char *service, msec_t limit_ms)
{
	struct drain drain = { .end_ms = clock_now_ms() + limit_ms };

	snprintf(drain.service, sizeof(drain.service), "%s", service);
	return drain;
}

void drain_judge(struct drain *drain, const struct drain_count *count, msec_t now_ms)
{
	drain->count = *count;
	drain->quiet_looks = count->quiet && !count->at_directors && !count->here ? drain->quiet_looks + 1 : 0;
	// A director takes a handshake that its client gave up for an open connection, for a minute; in dr and ipip it
	// also never sees the server's FIN. Where the program listens here, its sockets are the truth.
	drain->silent_looks = count->quiet && count->known && !count->here ? drain->silent_looks + 1 : 0;
	if (drain->quiet_looks >= QUIET_LOOKS)
		drain->state = DRAIN_QUIET;
	else if (drain->silent_looks >= SILENT_LOOKS)
		drain->state = DRAIN_STALE;
	else if (now_ms >= drain->end_ms)
		drain->state = DRAIN_LATE;
}

static bool is_meant(const struct drain *drain, const char *service)
{
	return !*drain->service || strcmp(drain->service, service) == 0;
}

// This host's own connections. When they cannot be read the directors' numbers have to do.
static void count_here(const struct drain *drain, const struct spec *spec, bool stopping, struct drain_count *count)
{
	_cleanup_free_ struct inet_endpoint *local = calloc(spec->count + 1, sizeof(*local));
	struct sockets sockets = { 0 };
	size_t meant = 0, tcp = 0;

	for (size_t i = 0; local && i < spec->count; i++) {
		const struct spec_service *s = &spec->services[i];

		if (!is_meant(drain, s->name) || (s->fixed && !stopping))
			continue;
		meant++;
		if (s->protocol == IPPROTO_TCP)
			local[tcp++] =
				(struct inet_endpoint) { s->method == FORWARD_NAT ? spec->address : s->vip, s->port };
	}
	if (!tcp || sockets_count(local, tcp, &sockets, NULL))
		return;
	count->here = sockets.open;
	count->known = tcp == meant && sockets.listening == tcp;
}

void drain_look(struct drain *drain, const struct spec *spec, const struct client_list *clients, bool stopping)
{
	struct drain_count count = { .quiet = true };

	for (size_t c = 0; c < clients->count; c++) {
		const struct protocol_answer *answer = &clients->items[c]->answer;

		if (clients->items[c]->state != CLIENT_REGISTERED) {
			count.quiet &= stopping && !client_may_be_sent_to(clients->items[c]);
			continue;
		}
		for (size_t i = 0; i < answer->count; i++) {
			const struct protocol_service *s = &answer->services[i];

			if (!is_meant(drain, *s->of ? s->of : s->service))
				continue;
			count.at_directors += s->active;
			count.quiet &= !s->effective_weight && clients->items[c]->told;
		}
	}
	count_here(drain, spec, stopping, &count);
	drain_judge(drain, &count, clock_now_ms());
}

const char *drain_describe(const struct drain *drain, char buf[DRAIN_TEXT_MAX])
{
	const struct drain_count *count = &drain->count;
	const size_t open = count->at_directors > count->here ? count->at_directors : count->here;
	const msec_t left = (drain->end_ms - clock_now_ms() + 999) / 1000;

	switch (drain->state) {
	case DRAIN_WAITING:
		snprintf(buf, DRAIN_TEXT_MAX, "%zu connection%s, %lld s left%s", open, open == 1 ? "" : "s",
			(long long)(left > 0 ? left : 0),
			count->quiet ? "" : "; not every director has stopped sending");
		break;
	case DRAIN_QUIET:
		snprintf(buf, DRAIN_TEXT_MAX, "no connection is open");
		break;
	case DRAIN_STALE:
		snprintf(buf, DRAIN_TEXT_MAX, "no connection is open here");
		break;
	case DRAIN_LATE:
		snprintf(buf, DRAIN_TEXT_MAX, "the time is over: %zu at the directors, %zu here%s", count->at_directors,
			count->here, count->quiet ? "" : "; not every director has stopped sending");
		break;
	}
	return buf;
}

// --- what an operator asked for ---

static int place_of(const struct drains *drains, const char *service)
{
	for (size_t i = 0; i < drains->count; i++)
		if (strcmp(drains->items[i].service, service) == 0)
			return (int)i;
	return -1;
}

static int append(struct drains *drains, const struct drain *drain)
{
	struct drain *items = reallocarray(drains->items, drains->count + 1, sizeof(*items));

	if (!items)
		return -ENOMEM;
	drains->items = items;
	items[drains->count++] = *drain;
	return 0;
}

static int save(const struct drains *drains, struct err *err)
{
	json_t *names = json_array(), *json = json_pack("{s:o}", "drained", names);

	if (!drains->count) {
		json_decref(json);
		return unlink(drains->path) && errno != ENOENT
			? err_set(err, -errno, NULL, "cannot remove %s: %s", drains->path, strerror(errno))
			: 0;
	}
	for (size_t i = 0; i < drains->count; i++)
		json_array_append_new(names, json_string(drains->items[i].service));
	int rc = json ? journal_write_file(drains->path, json, err) : err_set(err, -ENOMEM, NULL, "out of memory");

	json_decref(json);
	return rc;
}

static int load(struct drains *drains, msec_t limit_ms)
{
	json_t *json = json_load_file(drains->path, 0, NULL), *names = json_object_get(json, "drained"), *item;
	int rc = json_is_array(names) && json_array_size(names) <= PROTOCOL_BACKENDS_MAX ? 0 : -EINVAL;
	size_t i;

	json_array_foreach (names, i, item) {
		const char *name = json_string_value(item);

		if (rc || !name || (*name && !field_name_ok(name, PROTOCOL_NAME_MAX))) {
			rc = -EINVAL;
			break;
		}
		const struct drain drain = drain_begin(name, limit_ms);

		rc = append(drains, &drain);
		if (!rc)
			log_info("%s: drained, as an operator asked an earlier run", *name ? name : "all services");
	}
	json_decref(json);
	return rc;
}

int drains_open(const char *run_dir, msec_t limit_ms, struct drains *ret, struct err *err)
{
	struct drains drains = { 0 };

	snprintf(drains.path, sizeof(drains.path), "%s/drain.json", run_dir);
	int rc = access(drains.path, F_OK) == 0 ? load(&drains, limit_ms) : 0;
	if (rc) {
		drains_close(&drains);
		return err_set(err, rc, NULL,
			"%s cannot be read: which services are drained is not known; remove it to drain none",
			drains.path);
	}
	*ret = drains;
	return 0;
}

void drains_close(struct drains *drains)
{
	free(drains->items);
	drains->items = NULL;
	drains->count = 0;
}

const struct drain *drains_of(const struct drains *drains, const char *service)
{
	int i = place_of(drains, service);

	if (i < 0)
		i = place_of(drains, "");
	return i < 0 ? NULL : &drains->items[i];
}

int drains_add(struct drains *drains, const char *service, msec_t limit_ms, struct err *err)
{
	const struct drain drain = drain_begin(service, limit_ms);
	int i = place_of(drains, service);

	if (i >= 0) {
		drains->items[i] = drain;
		return 0;
	}
	if (append(drains, &drain))
		return err_set(err, -ENOMEM, NULL, "out of memory");
	int rc = save(drains, err);
	if (rc)
		drains->count--;
	return rc;
}

int drains_remove(struct drains *drains, const char *service, struct err *err)
{
	int i = place_of(drains, service);

	if (i < 0)
		return 0;
	const struct drain gone = drains->items[i];
	drains->items[i] = drains->items[--drains->count];
	int rc = save(drains, err);
	if (rc)
		drains->items[drains->count++] = gone;
	return rc;
}

msec_t drains_look(struct drains *drains, const struct spec *spec, const struct client_list *clients)
{
	msec_t next = 0;

	for (size_t i = 0; i < drains->count; i++) {
		struct drain *drain = &drains->items[i];
		const enum drain_state before = drain->state;
		char text[DRAIN_TEXT_MAX];

		if (before == DRAIN_QUIET || before == DRAIN_STALE)
			continue;
		drain_look(drain, spec, clients, false);
		if (drain->state != before)
			log_write(drain->state == DRAIN_LATE ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "drain of %s: %s",
				*drain->service ? drain->service : "all services", drain_describe(drain, text));
		if (drain->state == DRAIN_WAITING)
			next = DRAIN_LOOK_MS;
		else if (drain->state == DRAIN_LATE && !next)
			next = DRAIN_LATE_LOOK_MS;
	}
	return next;
}
