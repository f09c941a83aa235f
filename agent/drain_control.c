// SPDX-License-Identifier: Apache-2.0
#include "agent/drain_control.h"

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

static int check_service(const struct drain_control *dc, const json_t *request, struct err *err)
{
	const json_t *given = json_object_get(request, "service");
	const char *service = service_of(request);
	const struct config_backends *backends = &dc->config->backends;
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

static void poll_clients(const struct drain_control *dc, bool on)
{
	for (size_t c = 0; c < dc->services->clients->count; c++)
		client_poll(dc->services->clients->items[c], on);
}

static void on_timer(uv_timer_t *timer);

static void look_in(struct drain_control *dc, msec_t delay_ms)
{
	poll_clients(dc, delay_ms == DRAIN_LOOK_MS);
	uv_update_time(dc->timer.loop);
	if (delay_ms)
		uv_timer_start(&dc->timer, on_timer, (uint64_t)delay_ms, 0);
}

static void look(struct drain_control *dc)
{
	const struct services *services = dc->services;

	look_in(dc, drains_look(&dc->drains, &services->spec, services->clients));
}

static void on_timer(uv_timer_t *timer)
{
	struct drain_control *dc = timer->data;

	look(dc);
	dc->changed(dc->ctx);
}

int drain_control_open(struct drain_control *dc, uv_loop_t *loop, const struct config *config,
	const struct services *services, void (*changed)(void *ctx), void *ctx, struct err *err)
{
	*dc = (struct drain_control) { .config = config, .services = services, .changed = changed, .ctx = ctx };
	uv_timer_init(loop, &dc->timer);
	dc->timer.data = dc;
	int rc = drains_open(config->run_dir, config->drain_ms, &dc->drains, err);
	if (!rc && dc->drains.count)
		look_in(dc, DRAIN_LOOK_MS);
	return rc;
}

void drain_control_pause(struct drain_control *dc)
{
	uv_timer_stop(&dc->timer);
}

void drain_control_close(struct drain_control *dc)
{
	drains_close(&dc->drains);
	uv_close((uv_handle_t *)&dc->timer, NULL);
}

int drain_control_drain(struct drain_control *dc, const json_t *request, struct err *err)
{
	const char *service = service_of(request);
	const json_t *limit = json_object_get(request, "limit_ms");
	const msec_t limit_ms = json_is_integer(limit) ? json_integer_value(limit) : dc->config->drain_ms;
	char text[CLOCK_DURATION_MAX];
	int rc = check_service(dc, request, err);

	if (!rc && (limit_ms < 0 || limit_ms > CONFIG_DRAIN_MAX_MS))
		rc = err_set(err, -EINVAL, NULL, "limit_ms: found %lld, allowed are 0 to %d", (long long)limit_ms,
			CONFIG_DRAIN_MAX_MS);
	if (!rc)
		rc = drains_add(&dc->drains, service, limit_ms, err);
	if (rc)
		return rc;
	log_info("drain of %s: an operator asked for it; waiting at most %s", called(service),
		clock_format_duration(limit_ms, text));
	// answers until now are about a host that was being set up, perhaps, and would have got connections then
	for (size_t c = 0; c < dc->services->clients->count; c++)
		client_tell(dc->services->clients->items[c]);
	dc->changed(dc->ctx);
	look(dc); // what is answered first has counts
	return 0;
}

// Of a host that is drained as a whole one service comes back: each of the others is drained from now on.
static int spread(struct drain_control *dc, const char *but, struct err *err)
{
	const struct config_backends *backends = &dc->config->backends;
	int rc = 0;

	for (size_t i = 0; i < backends->count && !rc; i++)
		if (strcmp(backends->items[i].service, but) != 0)
			rc = drains_add(&dc->drains, backends->items[i].service, dc->config->drain_ms, err);
	return rc;
}

int drain_control_undrain(struct drain_control *dc, const json_t *request, struct err *err)
{
	const char *service = service_of(request);
	struct drains *drains = &dc->drains;
	int rc = 0;

	// what is drained may have left the configuration
	if (json_object_get(request, "service") && (!*service || !drains_of(drains, service))) {
		rc = check_service(dc, request, err);
	} else if (*service) {
		if (drains_of(drains, ""))
			rc = spread(dc, service, err);
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
	dc->changed(dc->ctx);
	if (drains->count)
		look_in(dc, DRAIN_LOOK_MS); // of what was spread nothing is known yet
	return 0;
}

json_t *drain_control_progress(const struct drain_control *dc, const json_t *request, bool *ret_more)
{
	static const char *const states[] = { "waiting", "drained", "drained", "late" };
	const char *service = service_of(request);
	const struct drain *drain = drains_of(&dc->drains, service);
	char text[DRAIN_TEXT_MAX];

	*ret_more = drain && drain->state == DRAIN_WAITING && json_is_true(json_object_get(request, "wait"));
	return json_pack("{s:s, s:s, s:s}", "service", service, "state", drain ? states[drain->state] : "active",
		"text", drain ? drain_describe(drain, text) : "gets connections");
}
