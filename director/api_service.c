// SPDX-License-Identifier: Apache-2.0
// /service and /service/<vs> and /service/<vs>/<rs>: GORB's routes, shapes and codes, and what a change of them may ask
// for besides: ?move=1, ?drain=30s.
#include "director/api.h"

#include "shared/clock.h"
#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_DEFAULT_MS 30000 // of a move
#define WAIT_MAX_MS 86400000

static bool wants(const struct http_exchange *exchange, const char *name)
{
	const char *value = http_query(exchange, name);

	return value && strcmp(value, "0") != 0;
}

void api_service_list(void *ctx, struct http_exchange *exchange)
{
	api_answer_walk(ctx, exchange, NULL, wants(exchange, "expand"));
}

// --- one object ---

// The service of the path; answers and returns NULL when there is none.
static struct service *find_service(struct api *api, struct http_exchange *exchange)
{
	const char *name = api_name(exchange, 1);
	struct service *service = name ? model_service(&api->state->model, name) : NULL;

	if (name && !service)
		api_not_found(api, exchange, "service", name);
	return service;
}

static struct backend *find_backend(struct api *api, struct http_exchange *exchange)
{
	struct service *service = find_service(api, exchange);
	const char *name = service ? api_name(exchange, 2) : NULL;
	struct backend *backend = name ? model_backend(service, name) : NULL;

	if (name && !backend)
		api_not_found(api, exchange, "backend", name);
	return backend;
}

void api_service_get(void *ctx, struct http_exchange *exchange)
{
	struct service *service = find_service(ctx, exchange);

	if (service && wants(exchange, "expand"))
		api_answer_walk(ctx, exchange, service, true);
	else if (service)
		api_answer_service(ctx, exchange, service);
}

void api_backend_get(void *ctx, struct http_exchange *exchange)
{
	struct backend *backend = find_backend(ctx, exchange);

	if (backend && wants(exchange, "why"))
		api_answer_why(ctx, exchange, backend);
	else if (backend)
		api_answer_backend(ctx, exchange, backend, true);
}

// --- changes: staged here, answered when the turn has ended ---

// The end of every change: the error, or the object as it is now ({} when it is gone). Always 200, as in GORB, whose
// own client takes 201 for a failure.
static void finish(void *ctx, struct http_exchange *exchange, int code, const struct err *err)
{
	struct api *api = ctx;
	struct service *service = model_service(&api->state->model, exchange->segments[1]);
	struct backend *backend =
		service && exchange->segment_count > 2 ? model_backend(service, exchange->segments[2]) : NULL;

	if (code)
		api_fail(exchange, code, err);
	else if (backend)
		api_answer_backend(api, exchange, backend, false);
	else if (service && exchange->segment_count == 2)
		api_answer_service(api, exchange, service);
	else
		http_answer(exchange, 200, json_object());
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

#define WAIT_CANCEL (-2)

// ?drain=30s: how long connections may go on; *ret_ms is -1 when it was not asked for, WAIT_CANCEL for ?drain=cancel.
static int read_wait(const struct http_exchange *exchange, msec_t *ret_ms, struct err *err)
{
	const char *text = http_query(exchange, "drain");

	*ret_ms = -1;
	if (text && strcmp(text, "cancel") == 0)
		*ret_ms = WAIT_CANCEL;
	else if (text && (clock_parse_duration(text, ret_ms) || *ret_ms > WAIT_MAX_MS))
		return err_set(err, -EINVAL, "drain",
			"found \"%.40s\", allowed is a time up to 1d, such as 30s or 5m, or cancel", text);
	return 0;
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
	api_staged(api, exchange, rc, &err, finish);
}

void api_service_patch(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct service *service = find_service(api, exchange);
	json_t *body = service ? api_body(exchange) : NULL;
	struct service_options options;
	struct err err = { 0 };
	msec_t wait_ms;

	if (!body)
		return;
	model_service_options(service, &options);
	int rc = field_patch(&service_fields, body, &options, &err);
	json_decref(body);
	if (!rc)
		rc = read_wait(exchange, &wait_ms, &err);
	if (!rc && wants(exchange, "move"))
		rc = state_move_service(api->state, service, &options, wait_ms < 0 ? WAIT_DEFAULT_MS : wait_ms, &err);
	else if (!rc)
		rc = state_set_service(api->state, service, &options, &err);
	api_staged(api, exchange, rc, &err, finish);
}

void api_service_delete(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct service *service = find_service(api, exchange);
	struct err err = { 0 };
	msec_t wait_ms;

	if (!service)
		return;
	int rc = read_wait(exchange, &wait_ms, &err);
	if (!rc && wait_ms == WAIT_CANCEL)
		rc = state_undrain_service(api->state, service, &err);
	else if (!rc && wait_ms > 0)
		rc = state_drain_service(api->state, service, wait_ms, &err);
	else if (!rc)
		rc = state_delete_service(api->state, service, &err);
	api_staged(api, exchange, rc, &err, finish);
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
	api_staged(api, exchange, rc, &err, finish);
}

void api_backend_patch(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct backend *backend = find_backend(api, exchange);
	json_t *body = backend ? api_body(exchange) : NULL;
	struct backend_options options;
	struct err err = { 0 };
	msec_t wait_ms;

	if (!body)
		return;
	model_backend_options(backend, &options);
	int rc = field_patch(&backend_fields, body, &options, &err);
	json_decref(body);
	if (!rc)
		rc = read_wait(exchange, &wait_ms, &err);
	if (!rc && wants(exchange, "move"))
		rc = state_move_backend(api->state, backend, &options, wait_ms < 0 ? WAIT_DEFAULT_MS : wait_ms, &err);
	else if (!rc)
		rc = state_set_backend(api->state, backend, &options, &err);
	api_staged(api, exchange, rc, &err, finish);
}

void api_backend_delete(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct backend *backend = find_backend(api, exchange);
	struct err err = { 0 };
	msec_t wait_ms;

	if (!backend)
		return;
	int rc = read_wait(exchange, &wait_ms, &err);
	if (!rc && wait_ms == WAIT_CANCEL)
		rc = state_undrain_backend(api->state, backend, &err);
	else if (!rc && wait_ms > 0)
		rc = state_drain_backend(api->state, backend, wait_ms, &err);
	else if (!rc)
		rc = state_delete_backend(api->state, backend, &err);
	api_staged(api, exchange, rc, &err, finish);
}
