// SPDX-License-Identifier: Apache-2.0
#include "agent/operator.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *service_of(const json_t *request)
{
	const char *service = json_string_value(json_object_get(request, "service"));

	return service ? service : "";
}

static const char *called(const char *service)
{
	return *service ? service : "all services";
}

// "web, mail", as far as it fits.
static void list_names(const struct config_backends *backends, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < backends->count && len + PROTOCOL_NAME_MAX + 3 < size; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s%s", i ? ", " : "", backends->items[i].service);
}

static int check_service(const struct operator* operator, const json_t * request, struct err *err)
{
	const json_t *given = json_object_get(request, "service");
	const char *service = service_of(request);
	const struct config_backends *backends = &operator->config->backends;
	char names[300];

	if (given && !*service)
		return err_set(err, -EINVAL, NULL, "service: found %s, allowed is a name", field_json_kind(given));
	if (!backends->count)
		return err_set(err, -EINVAL, NULL,
			"no director sends connections here: take them away where they are sent from");
	if (!*service)
		return 0;
	for (size_t i = 0; i < backends->count; i++)
		if (strcmp(backends->items[i].service, service) == 0)
			return 0;
	list_names(backends, names, sizeof(names));
	return err_set(
		err, -EINVAL, NULL, "service: found %.64s, allowed are those of the configuration: %s", service, names);
}

static void poll_clients(const struct operator* operator, bool on)
{
	for (size_t c = 0; c < operator->services->client_count; c++)
		client_poll(&operator->clients[c], on);
}

static void on_timer(uv_timer_t *timer);

static void look_in(struct operator* operator, msec_t delay_ms)
{
	poll_clients(operator, delay_ms == DRAIN_LOOK_MS);
	uv_update_time(operator->timer.loop);
	if (delay_ms)
		uv_timer_start(&operator->timer, on_timer, (uint64_t)delay_ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
	struct operator* operator= timer->data;
	const struct services *services = operator->services;

	look_in(operator, drains_look(&operator->drains, &services->spec, services->clients, services->client_count));
	operator->events.counted(operator->events.ctx);
}

int operator_open(struct operator* operator, uv_loop_t * loop, const struct config *config,
	const struct services *services, struct client *clients, const struct operator_events *events, struct err *err)
{
	*operator=(struct operator) { .config = config, .services = services, .clients = clients, .events = *events };
	uv_timer_init(loop, &operator->timer);
	operator->timer.data = operator;
	int rc = drains_open(config->run_dir, config->drain_ms, &operator->drains, err);
	if (!rc && operator->drains.count)
		look_in(operator, DRAIN_LOOK_MS);
	return rc;
}

void operator_pause(struct operator* operator)
{
	uv_timer_stop(&operator->timer);
}

void operator_close(struct operator* operator)
{
	drains_close(&operator->drains);
	uv_close((uv_handle_t *)&operator->timer, NULL);
}

int operator_drain(struct operator* operator, const json_t * request, struct err *err)
{
	const char *service = service_of(request);
	const json_t *limit = json_object_get(request, "limit_ms");
	const msec_t limit_ms = json_is_integer(limit) ? json_integer_value(limit) : operator->config->drain_ms;
	char text[CLOCK_DURATION_MAX];
	int rc = check_service(operator, request, err);

	if (!rc && (limit_ms < 0 || limit_ms > CONFIG_DRAIN_MAX_MS))
		rc = err_set(err, -EINVAL, NULL, "limit_ms: found %lld, allowed are 0 to %d", (long long)limit_ms,
			CONFIG_DRAIN_MAX_MS);
	if (!rc)
		rc = drains_add(&operator->drains, service, limit_ms, err);
	if (rc)
		return rc;
	log_info("drain of %s: an operator asked for it; waiting at most %s", called(service),
		clock_format_duration(limit_ms, text));
	operator->events.wanted(operator->events.ctx);
	look_in(operator, DRAIN_LOOK_MS);
	return 0;
}

// Of a host that is drained as a whole one service comes back: each of the others is drained from now on.
static int spread(struct operator* operator, const char * but, struct err *err)
{
	const struct config_backends *backends = &operator->config->backends;
	int rc = 0;

	for (size_t i = 0; i < backends->count && !rc; i++)
		if (strcmp(backends->items[i].service, but) != 0)
			rc = drains_add(&operator->drains, backends->items[i].service, operator->config->drain_ms, err);
	return rc;
}

int operator_undrain(struct operator* operator, const json_t * request, struct err *err)
{
	const char *service = service_of(request);
	struct drains *drains = &operator->drains;
	int rc = 0;

	// what is drained may have left the configuration
	if (json_object_get(request, "service") && (!*service || !drains_of(drains, service))) {
		rc = check_service(operator, request, err);
	} else if (*service) {
		if (drains_of(drains, ""))
			rc = spread(operator, service, err);
		if (!rc)
			rc = drains_remove(drains, "", err);
		if (!rc)
			rc = drains_remove(drains, service, err);
	}
	while (!rc && !*service && drains->count) {
		const struct drain last = drains->items[drains->count - 1];

		rc = drains_remove(drains, last.service, err);
	}
	if (rc)
		return rc;
	log_info("undrain of %s: an operator asked for it", called(service));
	operator->events.wanted(operator->events.ctx);
	if (drains->count)
		look_in(operator, DRAIN_LOOK_MS); // of what was spread nothing is known yet
	return 0;
}

json_t *operator_progress(const struct operator* operator, const json_t * request, bool *ret_more)
{
	static const char *const states[] = { "waiting", "drained", "drained", "late" };
	const char *service = service_of(request);
	const struct drain *drain = drains_of(&operator->drains, service);
	char text[DRAIN_TEXT_MAX];

	*ret_more = drain && drain->state == DRAIN_WAITING && json_is_true(json_object_get(request, "wait"));
	return json_pack("{s:s, s:s, s:s}", "service", service, "state", drain ? states[drain->state] : "active",
		"text", drain ? drain_describe(drain, text) : "gets connections");
}
