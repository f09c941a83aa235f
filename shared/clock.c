// SPDX-License-Identifier: Apache-2.0
#include "shared/clock.h"

#include "shared/util.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct {
	const char *name;
	msec_t ms;
} units[] = { { "d", 86400000 }, { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 } };

#define DURATION_LIMIT_MS ((msec_t)365 * 86400000)

static msec_t read_clock(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (msec_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

msec_t clock_now_ms(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

msec_t clock_wall_ms(void)
{
	return read_clock(CLOCK_REALTIME);
}

int clock_parse_duration(const char *text, msec_t *ret_ms)
{
	const char *p = text;
	msec_t n = 0;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++) {
		n = n * 10 + (*p - '0');
		if (n > DURATION_LIMIT_MS)
			return -ERANGE;
	}
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (strcmp(p, units[i].name) != 0)
			continue;
		if (n > DURATION_LIMIT_MS / units[i].ms)
			return -ERANGE;
		*ret_ms = n * units[i].ms;
		return 0;
	}
	return -EINVAL;
}

const char *clock_format_duration(msec_t ms, char buf[CLOCK_DURATION_MAX])
{
	size_t i = 0;

	while (units[i].ms > 1 && (ms == 0 || ms % units[i].ms != 0))
		i++;
	if (ms == 0)
		i = 3; // "0s" reads better than "0ms"
	snprintf(buf, CLOCK_DURATION_MAX, "%" PRId64 "%s", ms / units[i].ms, units[i].name);
	return buf;
}

const char *clock_format_date(int64_t seconds_since_1970, char buf[CLOCK_DATE_MAX])
{
	const time_t when = (time_t)seconds_since_1970;
	struct tm tm;

	if (!gmtime_r(&when, &tm) || !strftime(buf, CLOCK_DATE_MAX, "%Y-%m-%dT%H:%M:%SZ", &tm))
		buf[0] = '\0';
	return buf;
}
