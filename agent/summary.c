// SPDX-License-Identifier: Apache-2.0
// A service counts once, by the worst that is known of it: what is wrong on this host, else what a director says.
#include "agent/summary.h"

#include "shared/util.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum verdict { VERDICT_UP, VERDICT_SETUP, VERDICT_REFUSED, VERDICT_DOWN, VERDICT_COUNT };

static const char *word(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

// reason: of what is worse than setup.
static enum verdict verdict_of(
	const struct services *services, const struct config_backend *backend, char *reason, size_t size)
{
	enum verdict worst = VERDICT_UP;

	for (size_t c = 0; c < services->client_count; c++) {
		json_t *json = services_status(services, &services->clients[c], backend, false);
		const char *state = word(json, "state"), *status = word(json, "status");
		const enum verdict verdict = strcmp(state, "down") == 0 ? VERDICT_DOWN
			: strcmp(status, "refused") == 0                ? VERDICT_REFUSED
			: strcmp(state, "up") == 0                      ? VERDICT_UP
									: VERDICT_SETUP;

		if (verdict > worst) {
			worst = verdict;
			snprintf(reason, size, "%s", word(json, "reason"));
		}
		json_decref(json);
	}
	return worst;
}

// Cuts what does not fit.
__attribute__((format(printf, 3, 4))) static size_t add(char buf[SUMMARY_MAX], size_t len, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	const int n = vsnprintf(buf + len, SUMMARY_MAX - len, format, args);
	va_end(args);
	const size_t all = len + (n > 0 ? (size_t)n : 0);
	return all < SUMMARY_MAX ? all : SUMMARY_MAX - 1;
}

const char *summary(const struct services *services, const char *note, char buf[SUMMARY_MAX])
{
	static const char *const words[] = { "up", "being set up", "refused", "down" };
	const struct config_backends *backends = &services->config->backends;
	char reasons[VERDICT_COUNT][PROTOCOL_NAME_MAX + PROTOCOL_REASON_MAX + 4] = { "" };
	size_t counts[VERDICT_COUNT] = { 0 }, registered = 0, len = 0;
	bool first = true;

	for (size_t b = 0; b < backends->count; b++) {
		char reason[PROTOCOL_REASON_MAX] = "";
		const enum verdict verdict = verdict_of(services, &backends->items[b], reason, sizeof(reason));

		if (!counts[verdict]++ && verdict >= VERDICT_REFUSED)
			snprintf(reasons[verdict], sizeof(reasons[verdict]), ": %s: %s", backends->items[b].service,
				reason);
	}
	for (size_t c = 0; c < services->client_count; c++)
		registered += services->clients[c].state == CLIENT_REGISTERED;
	if (*note)
		len = add(buf, len, "%.150s; ", note);
	for (size_t v = 0; v < VERDICT_COUNT; v++) {
		if (!counts[v] && v != VERDICT_UP)
			continue;
		len = add(buf, len, "%s%zu %s%s%.120s", first ? "" : ", ", counts[v],
			!first                   ? ""
				: counts[v] == 1 ? "service "
						 : "services ",
			words[v], reasons[v]);
		first = false;
	}
	add(buf, len, "; %zu of %zu directors", registered, services->client_count);
	return buf;
}
