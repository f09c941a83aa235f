// SPDX-License-Identifier: Apache-2.0
// /agent: registration, lease and report in one idempotent PUT, which may be held until something changes for the node.
#include "director/api.h"

#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// A held request: one an agent at most. Lives until its timer is closed.
struct waiter {
	struct api *api;
	struct agent *agent; // NULL once it is over
	struct http_exchange *exchange;
	uv_timer_t timer;
};

static void waiter_closed(uv_handle_t *handle)
{
	free(handle->data);
}

// Takes the waiter off its agent; returns the exchange that still wants an answer.
static struct http_exchange *waiter_end(struct waiter *waiter)
{
	struct http_exchange *exchange = waiter->exchange;

	waiter->agent->waiter = NULL;
	waiter->agent = NULL;
	waiter->exchange = NULL;
	uv_close((uv_handle_t *)&waiter->timer, waiter_closed);
	return exchange;
}

static void answer(struct api *api, struct agent *agent, struct http_exchange *exchange)
{
	struct protocol_answer out;
	struct err err = { 0 };
	int rc = state_answer(api->state, agent, API_STATS_AGE_MS, &out, &err);

	if (rc) {
		api_fail(exchange, rc, &err);
		return;
	}
	http_answer(exchange, 200, protocol_answer_to_json(&out));
	protocol_answer_clear(&out);
}

void api_agent_changed(struct api *api, struct agent *agent)
{
	if (agent->waiter)
		answer(api, agent, waiter_end(agent->waiter));
}

void api_agent_gone(struct api *api, struct agent *agent)
{
	if (agent->waiter)
		api_not_found(api, waiter_end(agent->waiter), "agent", agent->node);
}

void api_close(struct api *api)
{
	struct err err = { 0 };

	api->closing = true;
	if (api->diagnose)
		diagnose_close(api->diagnose);
	err_set(&err, 0, NULL, "the director is stopping");
	for (struct agent *agent = api->state->model.agents; agent; agent = agent->hh.next)
		if (agent->waiter)
			http_answer_error(waiter_end(agent->waiter), 503, &err);
}

static void on_wait_over(uv_timer_t *timer)
{
	struct waiter *waiter = timer->data;

	api_agent_changed(waiter->api, waiter->agent);
}

static void on_client_gone(void *hold_ctx)
{
	struct waiter *waiter = hold_ctx;

	if (waiter->agent)
		waiter_end(waiter);
}

static int hold(struct api *api, struct agent *agent, struct http_exchange *exchange, long wait_ms)
{
	struct waiter *waiter = calloc(1, sizeof(*waiter));

	if (!waiter)
		return -ENOMEM;
	waiter->api = api;
	waiter->agent = agent;
	waiter->exchange = exchange;
	agent->waiter = waiter;
	uv_timer_init(api->loop, &waiter->timer);
	waiter->timer.data = waiter;
	uv_timer_start(&waiter->timer, on_wait_over, (uint64_t)wait_ms, 0);
	http_hold(exchange, on_client_gone, waiter);
	return 0;
}

static int read_number(const struct http_exchange *exchange, const char *name, long max, long *ret, struct err *err)
{
	const char *text = http_query(exchange, name);
	char *end;

	*ret = -1;
	if (!text)
		return 0;
	errno = 0;
	long n = strtol(text, &end, 10);
	if (errno || end == text || *end || n < 0 || n > max)
		return err_set(
			err, -EINVAL, name, "found \"%.40s\", allowed is a whole number from 0 to %ld", text, max);
	*ret = n;
	return 0;
}

static int read_wait(const struct http_exchange *exchange, long *ret_wait_ms, long *ret_revision, struct err *err)
{
	int rc = read_number(exchange, "wait", PROTOCOL_WAIT_MAX_MS, ret_wait_ms, err);

	return rc ? rc : read_number(exchange, "revision", UINT32_MAX, ret_revision, err);
}

static void finish_put(void *ctx, struct http_exchange *exchange, int code, const struct err *err)
{
	struct api *api = ctx;
	struct agent *agent = model_agent(&api->state->model, exchange->segments[1]);
	long wait_ms = -1, revision = -1;

	if (code) {
		api_fail(exchange, code, err);
		return;
	}
	if (!agent) {
		// another request of this turn was its goodbye: it was registered, and has nothing to set up
		const struct protocol_answer nothing = { .ttl_ms = PROTOCOL_TTL_MIN_MS };

		http_answer(exchange, 200, protocol_answer_to_json(&nothing));
		return;
	}
	// an older request of the same node is over: its answer would not be read
	api_agent_changed(api, agent);
	read_wait(exchange, &wait_ms, &revision, NULL);
	if (wait_ms > 0 && revision == (long)agent->revision && hold(api, agent, exchange, wait_ms) == 0)
		return;
	answer(api, agent, exchange);
}

void api_agent_put(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	const char *node = api_name(exchange, 1);
	json_t *body = node ? api_body(exchange) : NULL;
	struct protocol_report report = { 0 };
	struct agent *agent = NULL;
	struct err err = { 0 };
	long wait_ms, revision;

	if (!body)
		return;
	int rc = read_wait(exchange, &wait_ms, &revision, &err);
	if (!rc)
		rc = protocol_report_from_json(body, &report, &err);
	json_decref(body);
	if (!rc)
		rc = state_report(api->state, node, &report, &agent, &err);
	protocol_report_clear(&report);
	api_staged(api, exchange, rc, &err, finish_put);
}

static json_t *agent_json(const struct agent *agent)
{
	json_t *json = protocol_report_to_json(&agent->report);
	msec_t left = agent->deadline_ms - clock_now_ms();
	char text[CLOCK_DURATION_MAX], source[INET_ADDR_MAX];

	if (!json)
		return NULL;
	if (inet_addr_is_set(&agent->source))
		json_object_set_new(json, "source", json_string(inet_addr_format(&agent->source, source)));
	json_object_set_new(json, "lost", json_boolean(agent->lost));
	json_object_set_new(json, "expires_in",
		json_string(clock_format_duration(agent->lost || left < 0 ? 0 : left / 1000 * 1000, text)));
	json_object_set_new(json, "revision", json_integer(agent->revision));
	return json;
}

void api_agent_list(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	json_t *json = json_object();

	for (const struct agent *agent = api->state->model.agents; agent; agent = agent->hh.next)
		json_object_set_new(json, agent->node, agent_json(agent));
	http_answer(exchange, 200, json);
}

static struct agent *find_agent(struct api *api, struct http_exchange *exchange)
{
	const char *node = api_name(exchange, 1);
	struct agent *agent = node ? model_agent(&api->state->model, node) : NULL;

	if (node && !agent)
		api_not_found(api, exchange, "agent", node);
	return agent;
}

void api_agent_get(void *ctx, struct http_exchange *exchange)
{
	struct agent *agent = find_agent(ctx, exchange);

	if (agent)
		http_answer(exchange, 200, agent_json(agent));
}

static void finish_delete(void *ctx, struct http_exchange *exchange, int code, const struct err *err)
{
	(void)ctx;
	if (code)
		api_fail(exchange, code, err);
	else
		http_answer(exchange, 200, json_object());
}

void api_agent_delete(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	struct agent *agent = find_agent(api, exchange);
	const char *boot = http_query(exchange, "boot");
	struct err err = { 0 };

	if (!agent)
		return;
	if (boot && strcmp(boot, agent->boot) != 0) {
		// a late goodbye of an earlier start must not take the new one's place away
		err_set(&err, -EEXIST, "boot", "the agent was started again since");
		api_fail(exchange, -EEXIST, &err);
		return;
	}
	int rc = state_leave(api->state, agent, &err);
	api_staged(api, exchange, rc, &err, finish_delete);
}
