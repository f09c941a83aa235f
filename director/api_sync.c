// SPDX-License-Identifier: Apache-2.0
// GET|PUT /sync: the sync daemons. The row in the store is a part of the turn; the daemons follow when it is on the
// disk.
#include "director/api.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <string.h>

static void answer(const struct api *api, struct http_exchange *exchange)
{
	const struct sync_wanted *wanted = sync_wanted(api->sync);
	struct out out = { .indented = true };

	out_open(&out, '{');
	for (size_t i = 0; i < IPVS_ROLES; i++) {
		const char *problem = sync_problem(api->sync, (enum ipvs_role)i);

		if (!(wanted->set >> i & 1))
			continue;
		out_key(&out, sync_fields.rows[i].name);
		out_open(&out, '{');
		field_write_members(&sync_role_fields, &wanted->roles[i], FIELD_ALL, &out);
		out_key(&out, "running");
		out_bool(&out, sync_running(api->sync, (enum ipvs_role)i));
		if (*problem) {
			out_key(&out, "error");
			out_string(&out, problem);
		}
		out_close(&out, '{');
	}
	out_close(&out, '{');
	http_answer_out(exchange, 200, &out);
}

void api_sync_get(void *ctx, struct http_exchange *exchange)
{
	answer(ctx, exchange);
}

static int parse(const json_t *json, struct sync_wanted *ret, struct err *err)
{
	int rc = field_parse(&sync_fields, json, ret, err);

	return rc ? rc : sync_check(ret, err);
}

// As the store has it; NULL when nothing is wanted, or without memory (then *ret_failed).
static char *as_text(const struct sync_wanted *wanted, bool *ret_failed)
{
	struct out out = { 0 };

	*ret_failed = false;
	if (!wanted->set)
		return NULL;
	out_open(&out, '{');
	for (size_t i = 0; i < IPVS_ROLES; i++) {
		if (!(wanted->set >> i & 1))
			continue;
		out_key(&out, sync_fields.rows[i].name);
		field_write(&sync_role_fields, &wanted->roles[i], FIELD_GIVEN, &out);
	}
	out_close(&out, '{');
	*ret_failed = out.failed;
	return out_steal(&out, NULL);
}

static int keep(struct api *api, const struct sync_wanted *wanted, struct err *err)
{
	bool failed;
	_cleanup_free_ char *text = as_text(wanted, &failed);

	return failed ? err_set(err, -ENOMEM, NULL, "out of memory") : state_keep_sync(api->state, text, err);
}

static void tune(struct api *api)
{
	struct err err = { 0 };
	char line[ERR_LINE_MAX];

	settings_with_sync(api->settings, sync_is_wanted(api->sync));
	if (settings_apply(api->settings, &err))
		log_error("%s", err_line(&err, line, sizeof(line)));
}

static void finish(void *ctx, struct http_exchange *exchange, int code, const struct err *err)
{
	struct api *api = ctx;
	const struct sync_wanted *wanted = exchange->data;
	struct err why = code ? *err : (struct err) { 0 };
	int rc = code ? code : sync_set(api->sync, wanted, &why);

	struct err lost = { 0 };

	// what is wanted now is what the next start shall find: the kernel may have refused this one, or an earlier one
	if (!code && (keep(api, sync_wanted(api->sync), &lost) || state_settle(api->state, &lost)))
		log_error("sync: the store has not what runs: %s", lost.text);
	if (rc) {
		api_fail(exchange, rc, &why);
		return;
	}
	tune(api);
	answer(api, exchange);
}

void api_sync_put(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct err err = { 0 };

	if (api->sync_declared) {
		err_set(&err, -EEXIST, NULL,
			"the configuration file has \"sync\": change it there and restart the director, or take it "
			"out");
		api_fail(exchange, -EEXIST, &err);
		return;
	}
	json_t *json = api_body(exchange);
	struct sync_wanted *wanted = json ? calloc(1, sizeof(*wanted)) : NULL;
	int rc = wanted ? parse(json, wanted, &err) : err_set(&err, -ENOMEM, NULL, "out of memory");

	if (!rc)
		rc = keep(api, wanted, &err);
	if (json && rc)
		api_fail(exchange, rc, &err);
	json_decref(json);
	if (rc) {
		free(wanted);
		return;
	}
	free(exchange->data);
	exchange->data = wanted;
	http_defer(exchange, finish);
}
