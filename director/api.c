// SPDX-License-Identifier: Apache-2.0
#include "director/api.h"

#include "shared/clock.h"
#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void api_fail(struct http_exchange *exchange, int code, const struct err *err)
{
	static const struct {
		int code;
		unsigned int status;
	} rows[] = {
		{ -EINVAL, 400 }, { -E2BIG, 400 }, { -ENOENT, 404 }, { -EEXIST, 409 },
		{ -EREMOTEIO, 500 }, // the kernel refused
		{ -EIO, 503 },       // the store failed
	};
	unsigned int status = 500;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].code == code)
			status = rows[i].status;
	http_answer_error(exchange, status, err);
}

const char *api_name(struct http_exchange *exchange, size_t segment)
{
	const char *name = exchange->segments[segment];
	struct err err = { 0 };

	if (field_name_ok(name, MODEL_NAME_MAX))
		return name;
	err_set(&err, -EINVAL, "name",
		"the name in the path must be 1 to %d letters, digits and . _ - : @ and begin with a letter or digit",
		MODEL_NAME_MAX);
	api_fail(exchange, -EINVAL, &err);
	return NULL;
}

json_t *api_body(struct http_exchange *exchange)
{
	json_error_t why;
	struct err err = { 0 };
	json_t *json = exchange->body_len ? json_loadb(exchange->body, exchange->body_len, JSON_REJECT_DUPLICATES, &why)
					  : NULL;

	if (json_is_object(json))
		return json;
	if (json)
		err_set(&err, -EINVAL, "body", "found %s, allowed is a JSON object", field_json_kind(json));
	else if (!exchange->body_len)
		err_set(&err, -EINVAL, "body", "it is empty, allowed is a JSON object");
	else
		err_set(&err, -EINVAL, "body", "not JSON: line %d, column %d: %.120s", why.line, why.column, why.text);
	json_decref(json);
	// jansson quotes what it found, which may be no UTF-8
	for (char *p = err.text; *p; p++)
		if ((unsigned char)*p >= 0x7f || (unsigned char)*p < 0x20)
			*p = '?';
	api_fail(exchange, -EINVAL, &err);
	return NULL;
}

// What nobody asked for is never taken back: it does not share a turn with requests.
void api_begin_turn(void *ctx)
{
	state_settle_facts(((struct api *)ctx)->state);
}

bool api_must_wait(void *ctx)
{
	return ((const struct api *)ctx)->state->staged;
}

struct late_mistake {
	int code;
	struct err err;
};

static void finish_mistake(void *ctx, struct http_exchange *exchange, int code, const struct err *err)
{
	const struct late_mistake *mistake = exchange->data;

	(void)ctx, (void)code, (void)err;
	api_fail(exchange, mistake->code, &mistake->err);
}

void api_staged(struct api *api, struct http_exchange *exchange, int code, const struct err *err,
	void (*finish)(void *ctx, struct http_exchange *exchange, int code, const struct err *err))
{
	struct late_mistake *mistake = code && api->state->staged ? malloc(sizeof(*mistake)) : NULL;

	if (!code) {
		http_defer(exchange, finish);
	} else if (mistake) {
		*mistake = (struct late_mistake) { code, *err };
		free(exchange->data);
		exchange->data = mistake;
		http_defer(exchange, finish_mistake);
	} else {
		api_fail(exchange, code, err);
	}
}

void api_not_found(struct api *api, struct http_exchange *exchange, const char *what, const char *name)
{
	struct err err = { 0 };

	err_set(&err, -ENOENT, NULL, "there is no %s named %s", what, name);
	api_staged(api, exchange, -ENOENT, &err, NULL);
}

void api_end_of_turn(void *ctx, struct http_exchange *const *deferred, size_t count)
{
	struct api *api = ctx;
	struct err err = { 0 };
	int rc = state_settle(api->state, &err);

	for (size_t i = 0; i < count; i++) {
		struct http_exchange *exchange = deferred[i];

		if (rc && count > 1) {
			err = (struct err) { 0 };
			exchange->finish = NULL;
			exchange->handler(api, exchange);
			if (!exchange->finish)
				continue; // answered
			exchange->finish(api, exchange, state_settle(api->state, &err), &err);
		} else {
			exchange->finish(api, exchange, rc, &err);
		}
	}
}

static void healthz(void *ctx, struct http_exchange *exchange)
{
	(void)ctx;
	http_answer(exchange, 200, json_pack("{s:s}", "status", "ok"));
}

struct foreign {
	const struct state *state;
	json_t *list;
};

static void add_foreign(void *ctx, const struct ipvs_key *key, size_t dests)
{
	struct foreign *foreign = ctx;
	char text[IPVS_KEY_MAX];

	if (model_service_by_key(&foreign->state->model, key) || state_is_mark(foreign->state, key))
		return;
	json_array_append_new(foreign->list,
		json_pack("{s:s, s:I}", "service", ipvs_key_format(key, text), "backends", (json_int_t)dests));
}

// "ipvs", as a value.
static json_t *ipvs_status(const struct api *api)
{
	_cleanup_out_ struct out out = { 0 };
	json_t *json;

	settings_write(api->settings, &out);
	json = out.failed ? NULL : json_loadb(out.text, out.len, 0, NULL);
	return json ? json : json_object();
}

#define PROBLEMS_MAX 8u // different ones

// "probes": the ways of checks, as a value.
static json_t *probes_status(const struct api *api)
{
	const struct state *state = api->state;
	_cleanup_out_ struct out out = { 0 };
	const char *told[PROBLEMS_MAX];
	size_t count = 0;

	out_open(&out, '{');
	out_key(&out, "marks");
	out_uint(&out, HASH_COUNT(state->model.paths));
	out_key(&out, "stuck");
	out_uint(&out, state->marks.stuck);
	out_key(&out, "devices");
	replies_write(state->replies, &out);
	out_key(&out, "problems");
	out_open(&out, '[');
	for (const struct probe_path *p = state->model.paths; p && count < PROBLEMS_MAX; p = p->hh.next) {
		size_t i = 0;

		while (p->problem && i < count && strcmp(told[i], p->problem) != 0)
			i++;
		if (!p->problem || i < count)
			continue;
		told[count++] = p->problem;
		out_string(&out, p->problem);
	}
	out_close(&out, '[');
	out_close(&out, '{');
	json_t *json = out.failed ? NULL : json_loadb(out.text, out.len, 0, NULL);
	return json ? json : json_object();
}

static void status(void *ctx, struct http_exchange *exchange)
{
	const struct api *api = ctx;
	const struct model *model = &api->state->model;
	struct foreign foreign = { api->state, json_array() };
	json_int_t backends = 0, lost = 0;
	char uptime[CLOCK_DURATION_MAX];

	for (const struct service *s = model->services; s; s = s->hh.next)
		backends += s->backend_count;
	for (const struct agent *a = model->agents; a; a = a->hh.next)
		lost += a->lost;
	reconcile_each(api->state->reconcile, add_foreign, &foreign);
	http_answer(exchange, 200,
		json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "version", BRASS_VERSION, "uptime",
			clock_format_duration((clock_now_ms() - api->started_ms) / 1000 * 1000, uptime), "services",
			(json_int_t)HASH_COUNT(model->services), "backends", backends, "agents",
			(json_int_t)HASH_COUNT(model->agents), "agents_lost", lost, "kernel_messages",
			(json_int_t)reconcile_messages(api->state->reconcile), "foreign_services", foreign.list, "ipvs",
			ipvs_status(api), "probes", probes_status(api)));
}

const struct http_route api_routes[] = {
	{ "GET", "/service", api_service_list, false },
	{ "GET", "/service/*", api_service_get, false },
	{ "PUT", "/service/*", api_service_put, false },
	{ "PATCH", "/service/*", api_service_patch, false },
	{ "DELETE", "/service/*", api_service_delete, false },
	{ "GET", "/service/*/*", api_backend_get, false },
	{ "PUT", "/service/*/*", api_backend_put, false },
	{ "PATCH", "/service/*/*", api_backend_patch, false },
	{ "DELETE", "/service/*/*", api_backend_delete, false },
	{ "GET", "/agent", api_agent_list, false },
	{ "GET", "/agent/*", api_agent_get, false },
	{ "PUT", "/agent/*", api_agent_put, false },
	{ "DELETE", "/agent/*", api_agent_delete, false },
	{ "GET", "/config", api_config_get, false },
	{ "PUT", "/config", api_config_put, true },
	{ "GET", "/sync", api_sync_get, false },
	{ "PUT", "/sync", api_sync_put, false },
	{ "GET", "/events", api_events_get, false },
	{ "GET", "/metrics", api_metrics, false },
	{ "GET", "/status", status, false },
	{ "GET", "/healthz", healthz, false },
};
const size_t api_route_count = ARRAY_SIZE(api_routes);
