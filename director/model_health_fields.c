// SPDX-License-Identifier: Apache-2.0
// The fields that say how health becomes weights: of one backend (judge), and of the whole service (quorum, zones).
#include "director/model.h"

#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MEMBER(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)NULL)->member)
#define JUDGE(member) MEMBER(struct judge_rules, member)
#define DAY_MS 86400000

static const struct field judge_rows[] = {
	{ "rise", FIELD_UINT, JUDGE(rise), .min = 1, .max = JUDGE_RESULTS_MAX, .def = "1",
		.help = "checks in a row that must pass until a backend that is down is up" },
	{ "fall", FIELD_UINT, JUDGE(fall), .min = 1, .max = JUDGE_RESULTS_MAX, .def = "1",
		.help = "checks in a row that must fail until one that is up is down" },
	{ "fast", FIELD_BOOL, JUDGE(fast), .def = "false",
		.help = "after a first failure the next check runs at once" },
	{ "down_interval", FIELD_DURATION, JUDGE(down_interval_ms), .max = DAY_MS, .def = "\"0s\"",
		.help = "time between two checks while it is down; 0s: the pulse's interval" },
	{ "down_interval_max", FIELD_DURATION, JUDGE(down_interval_max_ms), .max = DAY_MS, .def = "\"0s\"",
		.help = "each further failure doubles that time, up to this one; 0s: it stays the same" },
	{ "damping", FIELD_DURATION, JUDGE(damping_ms), .max = DAY_MS, .def = "\"0s\"",
		.help = "who goes down again within this time needs twice as many passes, then four times, ..., but "
			"no longer than this time; 0s: off" },
	{ "passive", FIELD_BOOL, JUDGE(passive), .def = "false",
		.help = "a backend that answers none of the connections that it gets is taken out, pulse or not, when "
			"that was seen `fall` times in a row; false: it is only warned of" },
};

static const struct judge_rules judge_defaults = { JUDGE_DEFAULTS };

const struct field_table judge_fields = {
	.what = "service's judge",
	.rows = judge_rows,
	.count = ARRAY_SIZE(judge_rows),
	.size = sizeof(struct judge_rules),
	.set_offset = offsetof(struct judge_rules, set),
	.defaults = &judge_defaults,
};

// --- lists of names ---

int model_parse_names(const json_t *json, void *member, struct err *err)
{
	struct names *names = member;
	const size_t count = json_array_size(json);

	memset(names, 0, sizeof(*names));
	if (!json_is_array(json) || count > MODEL_NAMES_MAX)
		return err_set(err, -EINVAL, NULL, "found %s, allowed is a list of at most %d names",
			json_is_array(json) ? "a longer list" : field_json_kind(json), MODEL_NAMES_MAX);
	for (; names->count < count; names->count++) {
		const json_t *item = json_array_get(json, names->count);
		const char *name = json_string_value(item);

		if (!name || !field_name_ok(name, MODEL_NAME_MAX))
			return err_set(err, -EINVAL, NULL,
				"found %.80s, allowed are names of 1 to %d letters, digits and . _ - : @ that begin "
				"with a letter or digit",
				name ? name : field_json_kind(item), MODEL_NAME_MAX);
		snprintf(names->items[names->count], sizeof(names->items[0]), "%s", name);
	}
	return 0;
}

bool model_print_names(const void *member, struct out *out)
{
	const struct names *names = member;

	if (!names->count)
		return false;
	out_open(out, '[');
	for (uint32_t i = 0; i < names->count; i++)
		out_string(out, names->items[i]);
	out_close(out, '[');
	return true;
}

bool model_has_name(const struct names *names, const char *name)
{
	for (uint32_t i = 0; name && i < names->count; i++)
		if (strcmp(names->items[i], name) == 0)
			return true;
	return false;
}

// --- coming back ---

#define SLOW_START_MAX_MS 3600000
static const char accumulated[] = "accumulated";

int model_parse_slow_start(const json_t *json, void *member, struct err *err)
{
	const char *text = json_string_value(json);
	msec_t ms = 0;

	if (text && strcmp(text, accumulated) == 0)
		ms = SLOW_ACCUMULATED;
	else if (!text || clock_parse_duration(text, &ms) || ms < 0 || ms > SLOW_START_MAX_MS)
		return err_set(err, -EINVAL, NULL,
			"found %.80s, allowed is a time from 0s to 1h, such as 500ms, 30s or 5m, or %s",
			text ? text : field_json_kind(json), accumulated);
	*(msec_t *)member = ms;
	return 0;
}

bool model_print_slow_start(const void *member, struct out *out)
{
	const msec_t ms = *(const msec_t *)member;
	char text[CLOCK_DURATION_MAX];

	out_string(out, ms == SLOW_ACCUMULATED ? accumulated : clock_format_duration(ms, text));
	return true;
}

// --- the whole service ---

static const struct field quorum_rows[] = {
	{ "up", FIELD_UINT, MEMBER(struct quorum_options, up), .max = MODEL_BACKENDS_MAX, .def = "0",
		.help = "the quorum is there again when this many backends are up; 0: no quorum" },
	{ "down", FIELD_UINT, MEMBER(struct quorum_options, down), .max = MODEL_BACKENDS_MAX, .def = "0",
		.help = "it is lost when fewer than this many are; 0: as many as up" },
};

const struct field_table quorum_fields = {
	.what = "service's quorum",
	.rows = quorum_rows,
	.count = ARRAY_SIZE(quorum_rows),
	.size = sizeof(struct quorum_options),
	.set_offset = offsetof(struct quorum_options, set),
};

static const struct field zones_rows[] = {
	{ "prefer", FIELD_CUSTOM, MEMBER(struct zones_options, prefer), .parse = model_parse_names,
		.print = model_print_names, .help = "values of the label zone; without any, all backends are alike" },
	{ "spill", FIELD_UINT, MEMBER(struct zones_options, spill), .max = 100, .def = "70", .unit = "percent",
		.help = "while less than this part of the preferred zones' weight is left, the others get what is "
			"missing" },
};

static const struct zones_options zones_defaults = { ZONES_DEFAULTS };

const struct field_table zones_fields = {
	.what = "service's zones",
	.rows = zones_rows,
	.count = ARRAY_SIZE(zones_rows),
	.size = sizeof(struct zones_options),
	.set_offset = offsetof(struct zones_options, set),
	.defaults = &zones_defaults,
};
