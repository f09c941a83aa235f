// SPDX-License-Identifier: Apache-2.0
// Time as one typed integer: milliseconds. Floor 0.
#ifndef BRASS_SHARED_CLOCK_H
#define BRASS_SHARED_CLOCK_H

#include <stdint.h>

typedef int64_t msec_t;

// Monotonic time for deadlines; starts anywhere, never jumps (clock_gettime(2), CLOCK_MONOTONIC).
msec_t clock_now_ms(void);

// Wall-clock time since 1970 in milliseconds, for people and for files only.
msec_t clock_wall_ms(void);

// Parses "500ms", "30s", "5m", "2h", "1d". A number needs its unit. Returns 0, -EINVAL or -ERANGE (over 365 days).
int clock_parse_duration(const char *text, msec_t *ret_ms);

// Prints a duration in the largest unit that divides it: 90000 is "90s", 60000 is "1m". Returns buf.
#define CLOCK_DURATION_MAX 24
const char *clock_format_duration(msec_t ms, char buf[CLOCK_DURATION_MAX]);

// Prints a moment as RFC 3339 has it, in UTC: "2026-11-25T16:38:06Z". Returns buf.
#define CLOCK_DATE_MAX 32
const char *clock_format_date(int64_t seconds_since_1970, char buf[CLOCK_DATE_MAX]);

#endif
