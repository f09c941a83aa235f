// SPDX-License-Identifier: Apache-2.0
// What the doctor found, and how it is told. Floor 5.
#ifndef BRASS_AGENT_DOCTOR_REPORT_H
#define BRASS_AGENT_DOCTOR_REPORT_H

#include "shared/protocol.h"

#include <stdbool.h>
#include <stddef.h>

// In the order of gravity.
enum doctor_status {
	DOCTOR_OK,
	DOCTOR_UNSEEN, // could not be looked at
	DOCTOR_WARNING,
	DOCTOR_WRONG,
};

#define DOCTOR_TEXT_MAX 640

struct doctor_finding {
	size_t group;      // in groups
	const char *check; // the table's
	enum doctor_status status;
	char evidence[DOCTOR_TEXT_MAX];
	char mend[DOCTOR_TEXT_MAX]; // a command; "": there is none
	char where[160];            // on which other host it is typed; "": on this one
};

// The host, or one service.
struct doctor_group {
	char name[PROTOCOL_NAME_MAX + 1]; // "" for the host
	char title[256];
};

struct doctor_report {
	struct doctor_finding *findings;
	size_t count, room;
	struct doctor_group *groups;
	size_t group_count, group_room;
	size_t group;      // findings are about this one now
	const char *check; // the one that speaks now
	bool failed;       // out of memory: something is missing
	// private
	struct doctor_finding *last; // that a mend belongs to; NULL: it was said before
};

// Findings from here on are about this. name "": the host, which comes first.
void doctor_begin(struct doctor_report *report, const char *name, const char *title_fmt, ...)
	__attribute__((format(printf, 3, 4)));
void doctor_return_to_host(struct doctor_report *report);
// One finding, and what mends it. The same about the same is kept once.
void doctor_say(struct doctor_report *report, enum doctor_status status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void doctor_mend(struct doctor_report *report, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void doctor_mend_at(struct doctor_report *report, const char *where, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

enum doctor_status doctor_worst(const struct doctor_report *report);
void doctor_print(const struct doctor_report *report, bool verbose);
void doctor_print_json(const struct doctor_report *report);
void doctor_report_clear(struct doctor_report *report);

#endif
