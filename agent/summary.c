// SPDX-License-Identifier: Apache-2.0
// A service counts once, by the worst that is known of it: what is wrong on this host, else what a director says.
#include "agent/summary.h"

#include "shared/util.h"

#include <assert.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum verdict { VERDICT_UP, VERDICT_SETUP, VERDICT_DRAIN, VERDICT_REFUSED, VERDICT_DOWN, VERDICT_COUNT };

static const char *word(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

static enum verdict judge(const json_t *status)
{
	const char *state = word(status, "state");

	if (strcmp(state, "down") == 0)
		return VERDICT_DOWN;
	if (strcmp(state, "drain") == 0)
		return VERDICT_DRAIN;
	if (strcmp(word(status, "status"), "refused") == 0)
		return VERDICT_REFUSED;
	return strcmp(state, "up") == 0 ? VERDICT_UP : VERDICT_SETUP;
}

struct tally {
	size_t counts[VERDICT_COUNT];
	char first[VERDICT_COUNT][PROTOCOL_NAME_MAX + PROTOCOL_REASON_MAX + 4]; // ": name: reason", of what is wrong
};

static void count(struct tally *tally, enum verdict verdict, const char *name, const char *reason)
{
	if (!tally->counts[verdict]++ && verdict >= VERDICT_REFUSED)
		snprintf(tally->first[verdict], sizeof(tally->first[verdict]), ": %s: %s", name, reason);
}

static void count_backend(struct tally *tally, const struct services *services, const struct config_backend *backend)
{
	char reason[PROTOCOL_REASON_MAX + 1] = "";
	enum verdict worst = VERDICT_UP;

	for (size_t c = 0; c < services->clients->count; c++) {
		const struct client *client = services->clients->items[c];
		json_t *status = client->retiring ? NULL : services_status(services, client, backend, false);
		const enum verdict verdict = status ? judge(status) : VERDICT_UP;

		if (verdict > worst) {
			worst = verdict;
			snprintf(reason, sizeof(reason), "%s", word(status, "reason"));
		}
		json_decref(status);
	}
	count(tally, worst, backend->service, reason);
}

static void count_static(struct tally *tally, const struct services *services, const struct config_static *item)
{
	json_t *status = services_static_status(services, item);

	if (status)
		count(tally, judge(status), word(status, "host"), word(status, "reason"));
	json_decref(status);
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
	static const char *const words[] = { "up", "being set up", "drained", "refused", "down" };
	const struct config *config = services->config;
	struct tally tally = { 0 };
	size_t registered = 0, directors = 0, len = 0;

	static_assert(ARRAY_SIZE(words) == VERDICT_COUNT, "a word for each");
	for (size_t b = 0; b < config->backends.count; b++)
		count_backend(&tally, services, &config->backends.items[b]);
	for (size_t i = 0; i < config->statics.count; i++)
		count_static(&tally, services, &config->statics.items[i]);
	for (size_t c = 0; c < services->clients->count; c++) {
		const struct client *client = services->clients->items[c];

		directors += !client->retiring;
		registered += !client->retiring && client->state == CLIENT_REGISTERED;
	}
	if (*note)
		len = add(buf, len, "%.150s; ", note);
	len = add(buf, len, "%zu service%s up", tally.counts[VERDICT_UP], tally.counts[VERDICT_UP] == 1 ? "" : "s");
	for (size_t v = VERDICT_UP + 1; v < VERDICT_COUNT; v++)
		if (tally.counts[v])
			len = add(buf, len, ", %zu %s%.120s", tally.counts[v], words[v], tally.first[v]);
	if (directors)
		add(buf, len, "; %zu of %zu directors", registered, directors);
	return buf;
}
