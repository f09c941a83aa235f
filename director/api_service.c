// SPDX-License-Identifier: Apache-2.0
// /service and /service/<vs> and /service/<vs>/<rs>: GORB's routes, shapes and codes.
#include "director/api.h"

#include "shared/clock.h"
#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static json_t *stats_json(const struct ipvs_stats *s)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "connections",
		(json_int_t)s->connections, "in_packets", (json_int_t)s->in_packets, "out_packets",
		(json_int_t)s->out_packets, "in_bytes", (json_int_t)s->in_bytes, "out_bytes", (json_int_t)s->out_bytes,
		"connections_rate", (json_int_t)s->connections_rate, "in_packets_rate", (json_int_t)s->in_packets_rate,
		"out_packets_rate", (json_int_t)s->out_packets_rate, "in_bytes_rate", (json_int_t)s->in_bytes_rate,
		"out_bytes_rate", (json_int_t)s->out_bytes_rate);
}

// What the kernel counts for one service, read once for all of its backends.
struct counters {
	const struct ipvs_dest *dests; // sorted
	size_t count;
};

static struct counters read_counters(struct api *api, const struct service *service)
{
	struct counters counters = { 0 };
	struct ipvs_key key;

	desired_key(&service->options, &key);
	// without an answer of the kernel the rest is still worth showing
	reconcile_stats(api->state->reconcile, &key, 0, &counters.dests, &counters.count, NULL);
	return counters;
}

static json_t *backend_json(const struct backend *backend, struct counters counters)
{
	enum backend_status status = desired_status(backend);
	const char *reason = desired_reason(backend);
	struct ipvs_dest want, none = { 0 };
	const struct ipvs_dest *dest = desired_find_dest(counters.dests, counters.count, backend);
	msec_t uptime_ms = 0;

	desired_dest(backend, &want);
	if (!dest)
		dest = &none;
	if (status == STATUS_UP && backend->health.since_ms)
		uptime_ms = clock_now_ms() - backend->health.since_ms;
	json_t *options = field_print(&backend_fields, &backend->options);

	if (backend->agent && options)
		json_object_set_new(options, "pulse", field_print(&check_fields, &backend->service->options.pulse));
	json_t *json = json_pack("{s:o, s:s, s:I, s:s, s:{s:s, s:f, s:I}, s:I, s:I, s:o}", "options", options, "origin",
		backend->agent ? "agent" : "api", "effective_weight", (json_int_t)want.weight, "status",
		field_choice_name(backend_status_choices, status), "metrics", "status",
		status == STATUS_UP ? "Up" : "Down", "health", health_ratio(&backend->health), "uptime",
		(json_int_t)(uptime_ms / 1000), "active", (json_int_t)dest->active, "inactive",
		(json_int_t)dest->inactive, "stats", stats_json(&dest->stats));

	if (json && backend->agent)
		json_object_set_new(json, "node", json_string(backend->agent->node));
	if (json && *reason)
		json_object_set_new(json, "reason", json_string(reason));
	return json;
}

static json_t *service_json(struct api *api, const struct service *service, bool expand)
{
	struct ipvs_stats stats = { 0 };
	struct ipvs_key key;
	double health = 0;
	json_t *backends = expand ? json_object() : json_array();
	struct counters counters = expand ? read_counters(api, service) : (struct counters) { 0 };

	for (const struct backend *b = service->backends; b; b = b->hh.next) {
		health += desired_status(b) == STATUS_UP ? health_ratio(&b->health) : 0;
		if (expand)
			json_object_set_new(backends, b->name, backend_json(b, counters));
		else
			json_array_append_new(backends, json_string(b->name));
	}
	// as GORB has it: a service without backends is healthy, albeit of no use
	health = service->backends ? health / HASH_COUNT(service->backends) : 1.0;
	desired_key(&service->options, &key);
	reconcile_service_stats(api->state->reconcile, &key, &stats);
	return json_pack("{s:o, s:f, s:o, s:o}", "options", field_print(&service_fields, &service->options), "health",
		health, "backends", backends, "stats", stats_json(&stats));
}

static bool wants_expand(const struct http_exchange *exchange)
{
	const char *value = http_query(exchange, "expand");

	return value && strcmp(value, "0") != 0;
}

void api_service_list(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	bool expand = wants_expand(exchange);
	json_t *json = expand ? json_object() : json_array();

	for (const struct service *s = api->state->model.services; s; s = s->hh.next) {
		if (expand)
			json_object_set_new(json, s->name, service_json(api, s, true));
		else
			json_array_append_new(json, json_string(s->name));
	}
	http_answer(exchange, 200, json);
}

// The service of the path; answers and returns NULL when there is none.
static struct service *find_service(struct api *api, struct http_exchange *exchange)
{
	const char *name = api_name(exchange, 1);
	struct service *service = name ? model_service(&api->state->model, name) : NULL;

	if (name && !service)
		api_not_found(exchange, "service", name);
	return service;
}

static struct backend *find_backend(struct api *api, struct http_exchange *exchange)
{
	struct service *service = find_service(api, exchange);
	const char *name = service ? api_name(exchange, 2) : NULL;
	struct backend *backend = name ? model_backend(service, name) : NULL;

	if (name && !backend)
		api_not_found(exchange, "backend", name);
	return backend;
}

// The end of every change: the error, or the object as it is now. Always 200, as in GORB, whose own client takes 201
// for a failure.
static void answer_change(struct http_exchange *exchange, int code, const struct err *err, json_t *json)
{
	if (code)
		api_fail(exchange, code, err);
	else
		http_answer(exchange, 200, json);
}

// GORB's clients are Go programs that send every field of their struct: "" and null, and with them weight 0, stand for
// "not given" in a PUT.
static void drop_zero_values(json_t *body)
{
	const char *key;
	json_t *value;
	void *next;
	bool dropped = false;

	json_object_foreach_safe(body, next, key, value)
	{
		const char *text = json_string_value(value);

		if (!json_is_null(value) && (!text || *text))
			continue;
		json_object_del(body, key);
		dropped = true;
	}
	value = json_object_get(body, "weight");
	if (dropped && json_is_integer(value) && json_integer_value(value) == 0)
		json_object_del(body, "weight");
}

void api_service_get(void *ctx, struct http_exchange *exchange)
{
	struct service *service = find_service(ctx, exchange);

	if (service)
		http_answer(exchange, 200, service_json(ctx, service, wants_expand(exchange)));
}

void api_service_put(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	const char *name = api_name(exchange, 1);
	json_t *body = name ? api_body(exchange) : NULL;
	struct service_options options;
	struct err err = { 0 };

	if (!body)
		return;
	drop_zero_values(body);
	int rc = field_parse(&service_fields, body, &options, &err);
	json_decref(body);
	if (!rc)
		rc = state_put_service(api->state, name, &options, &err);
	answer_change(
		exchange, rc, &err, rc ? NULL : service_json(api, model_service(&api->state->model, name), false));
}

void api_service_patch(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct service *service = find_service(api, exchange);
	json_t *body = service ? api_body(exchange) : NULL;
	struct err err = { 0 };

	if (!body)
		return;
	struct service_options options = service->options;
	int rc = field_patch(&service_fields, body, &options, &err);
	json_decref(body);
	if (!rc)
		rc = state_set_service(api->state, service, &options, &err);
	answer_change(exchange, rc, &err, rc ? NULL : service_json(api, service, false));
}

void api_service_delete(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct service *service = find_service(api, exchange);
	struct err err = { 0 };

	if (!service)
		return;
	int rc = state_delete_service(api->state, service, &err);
	answer_change(exchange, rc, &err, json_object());
}

void api_backend_get(void *ctx, struct http_exchange *exchange)
{
	struct backend *backend = find_backend(ctx, exchange);

	if (backend)
		http_answer(exchange, 200, backend_json(backend, read_counters(ctx, backend->service)));
}

void api_backend_put(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct service *service = find_service(api, exchange);
	const char *name = service ? api_name(exchange, 2) : NULL;
	json_t *body = name ? api_body(exchange) : NULL;
	struct backend_options options;
	struct err err = { 0 };

	if (!body)
		return;
	drop_zero_values(body);
	int rc = field_parse(&backend_fields, body, &options, &err);
	json_decref(body);
	if (!rc)
		rc = state_put_backend(api->state, service, name, &options, &err);
	answer_change(
		exchange, rc, &err, rc ? NULL : backend_json(model_backend(service, name), (struct counters) { 0 }));
}

void api_backend_patch(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct backend *backend = find_backend(api, exchange);
	json_t *body = backend ? api_body(exchange) : NULL;
	struct err err = { 0 };

	if (!body)
		return;
	struct backend_options options = backend->options;
	int rc = field_patch(&backend_fields, body, &options, &err);
	json_decref(body);
	if (!rc)
		rc = state_set_backend(api->state, backend, &options, &err);
	answer_change(exchange, rc, &err, rc ? NULL : backend_json(backend, read_counters(api, backend->service)));
}

void api_backend_delete(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct backend *backend = find_backend(api, exchange);
	struct err err = { 0 };

	if (!backend)
		return;
	int rc = state_delete_backend(api->state, backend, &err);
	answer_change(exchange, rc, &err, json_object());
}
