// SPDX-License-Identifier: Apache-2.0
// For people the important lines only: what is fine is one line a group, unless they want to see it all.
#include "agent/doctor_report.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *word, *json;
} statuses[] = {
	[DOCTOR_OK] = { "ok", "ok" },
	[DOCTOR_UNSEEN] = { "not seen", "unseen" },
	[DOCTOR_WARNING] = { "warning", "warning" },
	[DOCTOR_WRONG] = { "wrong", "wrong" },
};

// --- adding ---

void doctor_begin(struct doctor_report *report, const char *name, const char *title_fmt, ...)
{
	va_list args;

	if (report->group_count == report->group_room) {
		size_t room = report->group_room ? 2 * report->group_room : 8;
		struct doctor_group *groups = reallocarray(report->groups, room, sizeof(*groups));

		report->failed |= !groups;
		if (!groups)
			return;
		report->groups = groups;
		report->group_room = room;
	}
	struct doctor_group *group = &report->groups[report->group_count];

	report->group = report->group_count++;

	snprintf(group->name, sizeof(group->name), "%s", name);
	va_start(args, title_fmt);
	vsnprintf(group->title, sizeof(group->title), title_fmt, args);
	va_end(args);
}

void doctor_return_to_host(struct doctor_report *report)
{
	report->group = 0;
}

static bool is_known(const struct doctor_report *report, const struct doctor_finding *finding)
{
	for (size_t i = 0; i < report->count; i++) {
		const struct doctor_finding *f = &report->findings[i];

		if (f->group == finding->group && f->check == finding->check &&
			strcmp(f->evidence, finding->evidence) == 0)
			return true;
	}
	return false;
}

void doctor_say(struct doctor_report *report, enum doctor_status status, const char *fmt, ...)
{
	struct doctor_finding finding = { .group = report->group, .check = report->check, .status = status };
	va_list args;

	va_start(args, fmt);
	vsnprintf(finding.evidence, sizeof(finding.evidence), fmt, args);
	va_end(args);
	report->last = NULL;
	if (is_known(report, &finding))
		return;
	if (report->count == report->room) {
		size_t room = report->room ? 2 * report->room : 64;
		struct doctor_finding *findings = reallocarray(report->findings, room, sizeof(*findings));

		report->failed |= !findings;
		if (!findings)
			return;
		report->findings = findings;
		report->room = room;
	}
	report->last = &report->findings[report->count++];
	*report->last = finding;
}

void doctor_mend(struct doctor_report *report, const char *fmt, ...)
{
	va_list args;

	if (!report->last)
		return;
	va_start(args, fmt);
	vsnprintf(report->last->mend, sizeof(report->last->mend), fmt, args);
	va_end(args);
}

void doctor_mend_at(struct doctor_report *report, const char *where, const char *fmt, ...)
{
	va_list args;

	if (!report->last)
		return;
	snprintf(report->last->where, sizeof(report->last->where), "%s", where);
	va_start(args, fmt);
	vsnprintf(report->last->mend, sizeof(report->last->mend), fmt, args);
	va_end(args);
}

void doctor_report_clear(struct doctor_report *report)
{
	free(report->findings);
	free(report->groups);
	*report = (struct doctor_report) { 0 };
}

// --- telling ---

static size_t count_of(const struct doctor_report *report, enum doctor_status status)
{
	size_t n = 0;

	for (size_t i = 0; i < report->count; i++)
		n += report->findings[i].status == status;
	return n;
}

enum doctor_status doctor_worst(const struct doctor_report *report)
{
	enum doctor_status worst = report->failed ? DOCTOR_UNSEEN : DOCTOR_OK;

	for (size_t i = 0; i < report->count; i++)
		worst = report->findings[i].status > worst ? report->findings[i].status : worst;
	return worst;
}

// The same command was printed for an earlier one, of another service perhaps.
static bool is_printed(const struct doctor_report *report, const struct doctor_finding *finding)
{
	for (const struct doctor_finding *f = report->findings; f < finding; f++)
		if (strcmp(f->mend, finding->mend) == 0 && strcmp(f->where, finding->where) == 0)
			return true;
	return false;
}

static void print_finding(const struct doctor_report *report, const struct doctor_finding *f)
{
	printf("  %-8s  %-10s  %s\n", statuses[f->status].word, f->check, f->evidence);
	if (*f->mend && is_printed(report, f))
		printf("  %-8s  %-10s  mend: as above\n", "", "");
	else if (*f->mend)
		printf("  %-8s  %-10s  mend%s%s: %s\n", "", "", *f->where ? " on " : "", f->where, f->mend);
}

// Has this check nothing to complain of in this group?
static bool is_fine(const struct doctor_report *report, const struct doctor_finding *finding)
{
	for (size_t i = 0; i < report->count; i++) {
		const struct doctor_finding *f = &report->findings[i];

		if (f->group == finding->group && f->check == finding->check && f->status != DOCTOR_OK)
			return false;
	}
	return true;
}

static void print_fine(const struct doctor_report *report, size_t group)
{
	const char *before = NULL;

	for (size_t i = 0; i < report->count; i++) {
		const struct doctor_finding *f = &report->findings[i];

		if (f->group != group || f->check == before || !is_fine(report, f))
			continue;
		printf("%s%s", before ? ", " : "  ok        ", f->check);
		before = f->check;
	}
	if (before)
		putchar('\n');
}

void doctor_print(const struct doctor_report *report, bool verbose)
{
	for (size_t g = 0; g < report->group_count; g++) {
		printf("%s\n", report->groups[g].title);
		for (int status = DOCTOR_WRONG; status >= (verbose ? DOCTOR_OK : DOCTOR_UNSEEN); status--)
			for (size_t i = 0; i < report->count; i++)
				if (report->findings[i].group == g && (int)report->findings[i].status == status)
					print_finding(report, &report->findings[i]);
		if (!verbose)
			print_fine(report, g);
	}
	if (report->failed)
		printf("out of memory: not everything was looked at\n");
	printf("%zu wrong, %zu warnings, %zu not looked at, %zu ok\n", count_of(report, DOCTOR_WRONG),
		count_of(report, DOCTOR_WARNING), count_of(report, DOCTOR_UNSEEN), count_of(report, DOCTOR_OK));
}

void doctor_print_json(const struct doctor_report *report)
{
	json_t *findings = json_array();

	for (size_t i = 0; i < report->count; i++) {
		const struct doctor_finding *f = &report->findings[i];
		const char *service = report->group_count ? report->groups[f->group].name : "";

		json_array_append_new(findings,
			json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "service", service, "check", f->check, "status",
				statuses[f->status].json, "evidence", f->evidence, "mend", f->mend, "where", f->where));
	}
	json_t *json = json_pack("{s:s, s:b, s:o}", "status", statuses[doctor_worst(report)].json, "complete",
		!report->failed, "findings", findings);

	json_dumpf(json, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(json);
}
