// SPDX-License-Identifier: Apache-2.0
#include "agent/repairs.h"

#include "shared/log.h"
#include "shared/util.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define QUOTA_LINES 30 // in the log, within a window; the rest is counted
#define TEXT_MAX 128

void repairs_clear(struct repairs *repairs)
{
	free(repairs->things);
	*repairs = (struct repairs) { 0 };
}

static struct repairs_thing *find(const struct repairs *repairs, const struct resource *what)
{
	for (size_t i = 0; i < repairs->count; i++)
		if (resource_cmp(&repairs->things[i].what, what) == 0)
			return &repairs->things[i];
	return NULL;
}

// NULL without memory: then it is put back as often as it goes.
static struct repairs_thing *find_or_add(struct repairs *repairs, const struct resource *what, msec_t now_ms)
{
	struct repairs_thing *thing = find(repairs, what);

	if (!thing && repairs->count == repairs->room) {
		size_t room = repairs->room ? 2 * repairs->room : 16;

		thing = reallocarray(repairs->things, room, sizeof(*thing));
		if (!thing)
			return NULL;
		repairs->things = thing;
		repairs->room = room;
		thing = NULL;
	}
	if (!thing) {
		thing = &repairs->things[repairs->count++];
		*thing = (struct repairs_thing) { .what = *what, .begin_ms = now_ms };
	}
	return thing;
}

static msec_t may_again_ms(const struct repairs_thing *thing)
{
	return thing->last_ms + thing->pause_ms;
}

// A host that answers ARP for a VIP harms others, and a tunnel without its lock takes packets of anybody; behind a lock
// without its rules nothing of the directors gets through.
static bool may_not_wait(const struct resource *what)
{
	return resource_keeps_arp_quiet(what) || what->kind == RESOURCE_TABLE || what->kind == RESOURCE_ALLOW ||
		what->kind == RESOURCE_LOCK;
}

bool repairs_may(const struct repairs *repairs, const struct resource *what, msec_t now_ms)
{
	const struct repairs_thing *thing = find(repairs, what);

	if (!thing || may_not_wait(what))
		return true;
	return thing->last_ms != now_ms && now_ms >= may_again_ms(thing);
}

// "VIP 10.0.0.100 on lo" would need words for every kind; the command is what status shows.
static const char *text_of(const struct resource *what, char buf[TEXT_MAX])
{
	char command[RESOURCE_COMMAND_MAX];

	snprintf(buf, TEXT_MAX, "%.100s", resource_command(what, true, command));
	return buf;
}

static void tell(struct repairs *repairs, const struct resource *what, const char *who, msec_t now_ms)
{
	char command[RESOURCE_COMMAND_MAX];

	if (now_ms - repairs->quota_begin_ms > REPAIRS_WINDOW_MS) {
		repairs->quota_begin_ms = now_ms;
		repairs->quota_used = 0;
	}
	if (++repairs->quota_used < QUOTA_LINES)
		log_warning("put back what was gone or changed, by %s: %s", who, resource_command(what, true, command));
	else if (repairs->quota_used == QUOTA_LINES)
		log_warning("more is put back than is logged; \"brass-agent status\" counts it");
}

// Counts towards a war, and begins or prolongs it.
static void escalate(struct repairs_thing *thing, const char *who, msec_t now_ms)
{
	char text[TEXT_MAX];

	if (!thing->pause_ms && now_ms - thing->begin_ms > REPAIRS_WINDOW_MS) {
		thing->begin_ms = now_ms;
		thing->count = 0;
	}
	thing->count++;
	thing->last_ms = now_ms;
	snprintf(thing->who, sizeof(thing->who), "%s", who);
	if (thing->pause_ms) {
		thing->pause_ms =
			2 * thing->pause_ms < REPAIRS_PAUSE_MAX_MS ? 2 * thing->pause_ms : REPAIRS_PAUSE_MAX_MS;
	} else if (thing->count >= REPAIRS_FREE) {
		thing->pause_ms = REPAIRS_PAUSE_FIRST_MS;
		log_warning("%s: undone %zu times within %d s, the last time by %s; from now on it is put back after "
			    "pauses of up to %d s",
			text_of(&thing->what, text), thing->count, REPAIRS_WINDOW_MS / 1000, who,
			REPAIRS_PAUSE_MAX_MS / 1000);
	}
}

void repairs_note(struct repairs *repairs, const struct resource *what, const char *who, msec_t now_ms)
{
	struct repairs_thing *thing = find_or_add(repairs, what, now_ms);
	struct repair *last = &repairs->last[repairs->total++ % REPAIRS_SHOWN];

	who = who ? who : EVIDENCE_NOBODY;
	repairs->by_kind[what->kind]++;
	*last = (struct repair) { .wall_ms = clock_wall_ms(), .what = *what };
	snprintf(last->who, sizeof(last->who), "%s", who);
	if (!thing || !thing->pause_ms)
		tell(repairs, what, who, now_ms);
	if (thing)
		escalate(thing, who, now_ms);
}

msec_t repairs_settle(struct repairs *repairs, msec_t now_ms)
{
	msec_t next_ms = -1;

	for (size_t i = 0; i < repairs->count; i++) {
		struct repairs_thing *thing = &repairs->things[i];
		char text[TEXT_MAX];

		if (now_ms - may_again_ms(thing) > REPAIRS_WINDOW_MS) {
			if (thing->pause_ms)
				log_info("%s: nobody undoes it any more, after %zu repairs",
					text_of(&thing->what, text), thing->count);
			*thing = repairs->things[--repairs->count];
			i--;
			continue;
		}
		if (!thing->pause_ms)
			continue;
		// when it may be put back, when it has stayed, when it is over
		const msec_t moments[] = { may_again_ms(thing), thing->last_ms + REPAIRS_STAY_MS,
			may_again_ms(thing) + REPAIRS_WINDOW_MS + 1 };
		for (size_t m = 0; m < ARRAY_SIZE(moments); m++)
			if (moments[m] > now_ms && (next_ms < 0 || moments[m] - now_ms < next_ms))
				next_ms = moments[m] - now_ms;
	}
	return next_ms;
}

void repairs_describe(const struct repairs *repairs, const struct resource *what, char *buf, size_t size)
{
	const struct repairs_thing *thing = find(repairs, what);
	char text[TEXT_MAX];

	snprintf(buf, size, "%.80s: undone again and again, by %.60s", text_of(what, text),
		thing ? thing->who : EVIDENCE_NOBODY);
}

bool repairs_problem(const struct repairs *repairs, const struct resource *what, msec_t now_ms, char *buf, size_t size)
{
	const struct repairs_thing *thing = find(repairs, what);

	if (!thing || !thing->pause_ms || now_ms >= thing->last_ms + REPAIRS_STAY_MS)
		return false;
	repairs_describe(repairs, what, buf, size);
	return true;
}

json_t *repairs_to_json(const struct repairs *repairs)
{
	json_t *by_kind = json_object(), *last = json_array(), *wars = json_array();
	const size_t shown = repairs->total < REPAIRS_SHOWN ? repairs->total : REPAIRS_SHOWN;
	char command[RESOURCE_COMMAND_MAX];

	for (size_t kind = 0; kind < RESOURCE_KINDS; kind++)
		if (repairs->by_kind[kind])
			json_object_set_new(by_kind, resource_kind_name((enum resource_kind)kind),
				json_integer((json_int_t)repairs->by_kind[kind]));
	for (size_t i = repairs->total - shown; i < repairs->total; i++) {
		const struct repair *repair = &repairs->last[i % REPAIRS_SHOWN];
		char time[CLOCK_DATE_MAX];

		clock_format_date(repair->wall_ms / 1000, time);
		json_array_append_new(last,
			json_pack("{s:s, s:s, s:s}", "time", time, "what",
				resource_command(&repair->what, true, command), "who", repair->who));
	}
	for (size_t i = 0; i < repairs->count; i++)
		if (repairs->things[i].pause_ms)
			json_array_append_new(wars,
				json_pack("{s:s, s:s, s:I}", "what",
					resource_command(&repairs->things[i].what, true, command), "who",
					repairs->things[i].who, "repairs", (json_int_t)repairs->things[i].count));
	return json_pack("{s:o, s:o, s:o}", "by_kind", by_kind, "last", last, "wars", wars);
}
