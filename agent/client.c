// SPDX-License-Identifier: Apache-2.0
#include "agent/client.h"

#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BACKOFF_FIRST_MS 200
#define BACKOFF_LAST_MS 10000
#define POLL_MS 200
#define CONNECT_TIMEOUT_MS 3000
#define ANSWER_TIMEOUT_MS 5000 // beyond the time that the director may hold the request
#define LEAVE_TIMEOUT_MS 3000
#define ANSWER_MAX (4u << 20) // bytes

const struct field_choice client_state_choices[] = {
	{ "asking", CLIENT_ASKING },
	{ "waiting", CLIENT_WAITING },
	{ "registered", CLIENT_REGISTERED },
	{ "leaving", CLIENT_LEAVING },
	{ "gone", CLIENT_GONE },
	{ NULL, 0 },
};

static void set_state(struct client *client, enum client_state state, const char *why)
{
	if (client->state == state)
		return;
	log_write(state == CLIENT_WAITING ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "director %s: %s -> %s: %s",
		client->url, field_choice_name(client_state_choices, client->state),
		field_choice_name(client_state_choices, state), why);
	client->state = state;
	client->state_since_ms = clock_now_ms();
}

const char *client_url(const char *url, char buf[CLIENT_URL_MAX])
{
	snprintf(buf, CLIENT_URL_MAX, "%s", url);
	size_t len = strlen(buf);
	while (len && buf[len - 1] == '/')
		buf[--len] = '\0';
	return buf;
}

int client_new(uv_loop_t *loop, struct http_client *http, const char *url, const char *node, msec_t ttl_ms,
	const struct client_events *events, struct client **ret)
{
	struct client *client = calloc(1, sizeof(*client));

	if (!client)
		return -ENOMEM;
	*client = (struct client) { .loop = loop, .http = http, .events = *events, .ttl_ms = ttl_ms };
	client_url(url, client->url);
	snprintf(client->node, sizeof(client->node), "%s", node);
	client->state_since_ms = clock_now_ms();
	client->timer.data = client;
	uv_timer_init(loop, &client->timer);
	*ret = client;
	return 0;
}

static void ask(struct client *client);

static void on_timer(uv_timer_t *timer)
{
	struct client *client = timer->data;

	if (!client->call && client->state != CLIENT_GONE)
		ask(client);
}

static void ask_in(struct client *client, msec_t delay_ms)
{
	client->retry_ms = clock_now_ms() + delay_ms;
	uv_update_time(client->loop);
	uv_timer_start(&client->timer, on_timer, (uint64_t)delay_ms, 0);
}

// Doubling from 0.2 s to 10 s, each between half and all of it, so that a thousand agents do not come back together.
static msec_t backoff_ms(unsigned int failures)
{
	msec_t base = BACKOFF_FIRST_MS;
	uint32_t random = 0;

	for (unsigned int i = 1; i < failures && base < BACKOFF_LAST_MS; i++)
		base *= 2;
	if (base > BACKOFF_LAST_MS)
		base = BACKOFF_LAST_MS;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)clock_now_ms();
	return base / 2 + (msec_t)(random % (uint32_t)(base / 2 + 1));
}

static void fail(struct client *client, const char *why)
{
	client->failures++;
	snprintf(client->error, sizeof(client->error), "%s", why);
	if (client->state == CLIENT_LEAVING)
		return;
	set_state(client, CLIENT_WAITING, why);
	ask_in(client, backoff_ms(client->failures));
	client->events.failed(client->events.ctx, client);
}

// The sentence of {"error": ...}, or the bare status.
static void refused(struct client *client, const struct http_answer *answer)
{
	json_t *json = json_loadb(answer->body, answer->len, 0, NULL);
	const char *error = json_string_value(json_object_get(json, "error"));
	const char *field = json_string_value(json_object_get(json, "field"));
	char why[256];

	snprintf(why, sizeof(why), "the director answered %ld: %s%s%s", answer->status, field ? field : "",
		field ? ": " : "", error ? error : "");
	json_decref(json);
	fail(client, why);
}

static bool same_as_sent(struct client *client)
{
	json_t *now = client->events.report(client->events.ctx, client);
	bool same = now && client->sent && json_equal(now, client->sent);

	json_decref(now);
	return same;
}

// When the next request goes out after a good answer.
static void go_on(struct client *client, bool changed)
{
	msec_t took = clock_now_ms() - client->started_ms;

	if (client->state == CLIENT_LEAVING || client->state == CLIENT_GONE || client->call)
		return;
	if (client->poll)
		ask_in(client, same_as_sent(client) ? POLL_MS : 0);
	else if (changed || took >= POLL_MS || !same_as_sent(client))
		ask(client);
	else
		ask_in(client, POLL_MS); // a director that does not hold requests is not to be run over
}

static void on_answer(void *ctx, const struct http_answer *answer)
{
	struct client *client = ctx;
	struct protocol_answer parsed = { 0 };
	struct err err = { 0 };

	client->call = NULL;
	if (inet_addr_is_set(&answer->local)) {
		client->local = answer->local;
		client->peer = answer->peer;
	}
	if (answer->error || answer->status != 200) {
		if (answer->error)
			fail(client, answer->text);
		else
			refused(client, answer);
		return;
	}
	client->failures = 0;
	client->error[0] = '\0';
	if (client->probing) {
		client->probing = false;
		client->events.answered(client->events.ctx, client);
		ask(client);
		return;
	}
	json_t *json = json_loadb(answer->body, answer->len, 0, NULL);
	int rc = json ? protocol_answer_from_json(json, &parsed, &err) : -EINVAL;
	json_decref(json);
	if (rc) {
		char why[256];

		snprintf(why, sizeof(why), "the director's answer makes no sense: %.80s %.120s", err.field, err.text);
		fail(client, why);
		return;
	}
	bool changed = !client->fresh || parsed.revision != client->answer.revision;

	protocol_answer_clear(&client->answer);
	client->answer = parsed;
	client->has_answer = client->fresh = client->told = true; // client_tell ended what was under way
	if (client->state != CLIENT_LEAVING)
		set_state(client, CLIENT_REGISTERED, "the director took the report");
	client->events.answered(client->events.ctx, client);
	go_on(client, changed);
}

static void start(struct client *client, const char *method, const char *url, const json_t *body, msec_t timeout_ms,
	http_done_fn done)
{
	_cleanup_free_ char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	const struct http_request request = {
		.method = method,
		.url = url,
		.body = text,
		.body_len = text ? strlen(text) : 0,
		.connect_timeout_ms = CONNECT_TIMEOUT_MS,
		.timeout_ms = timeout_ms,
		.answer_max = ANSWER_MAX,
	};
	struct err err = { 0 };

	client->started_ms = clock_now_ms();
	client->call = NULL;
	if (http_client_start(client->http, &request, done, client, &client->call, &err))
		fail(client, err.text);
}

static void ask(struct client *client)
{
	json_t *report = client->events.report(client->events.ctx, client);
	char url[CLIENT_URL_MAX + 160];
	// after a failure the answer shall come at once: until then nobody knows that it can
	msec_t wait_ms = client->fresh && !client->poll && !client->failures ? client->ttl_ms / 3 : 0;

	uv_timer_stop(&client->timer);
	client->probing = !report;
	if (!report) {
		snprintf(url, sizeof(url), "%s/healthz", client->url);
		start(client, "GET", url, NULL, ANSWER_TIMEOUT_MS, on_answer);
		return;
	}
	if (wait_ms > PROTOCOL_WAIT_MAX_MS)
		wait_ms = PROTOCOL_WAIT_MAX_MS;
	snprintf(url, sizeof(url), "%s/agent/%s?wait=%lld&revision=%u", client->url, client->node, (long long)wait_ms,
		client->fresh ? client->answer.revision : 0);
	json_decref(client->sent);
	client->sent = report;
	start(client, "PUT", url, report, wait_ms + ANSWER_TIMEOUT_MS, on_answer);
}

void client_start(struct client *client)
{
	ask(client);
}

void client_push(struct client *client)
{
	if (client->state == CLIENT_LEAVING || client->state == CLIENT_GONE)
		return;
	if (client->state == CLIENT_WAITING && !client->call)
		return; // the next attempt says it
	http_call_cancel(STEAL(client->call));
	ask_in(client, 0);
}

bool client_may_be_sent_to(const struct client *client)
{
	return client->has_answer && client->state != CLIENT_REGISTERED && client->state != CLIENT_LEAVING &&
		client->state != CLIENT_GONE && clock_now_ms() - client->state_since_ms < client->ttl_ms;
}

void client_tell(struct client *client)
{
	client->told = false;
	client_push(client);
}

void client_push_if_changed(struct client *client)
{
	// outside these a request with the present report goes out anyway
	if (client->call && client->sent && !client->probing && !same_as_sent(client))
		client_push(client);
}

void client_poll(struct client *client, bool on)
{
	if (on && !client->poll)
		client_push(client);
	client->poll = on;
}

static void end(struct client *client, const char *why)
{
	set_state(client, CLIENT_GONE, why);
	client->events.gone(client->events.ctx, client);
}

static void on_left(void *ctx, const struct http_answer *answer)
{
	struct client *client = ctx;

	client->call = NULL;
	end(client, answer->error ? answer->text : "left");
}

void client_leave(struct client *client, const char *boot)
{
	char url[CLIENT_URL_MAX + 160];

	if (client->state == CLIENT_LEAVING || client->state == CLIENT_GONE)
		return;
	uv_timer_stop(&client->timer);
	http_call_cancel(STEAL(client->call));
	bool reachable = client->state != CLIENT_WAITING;
	set_state(
		client, CLIENT_LEAVING, client->retiring ? "it is no longer in the configuration" : "the agent stops");
	snprintf(url, sizeof(url), "%s/agent/%s?boot=%s", client->url, client->node, boot);
	start(client, "DELETE", url, NULL, reachable ? LEAVE_TIMEOUT_MS : LEAVE_TIMEOUT_MS / 3, on_left);
	if (!client->call)
		end(client, client->error);
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void client_free(struct client *client)
{
	if (!client)
		return;
	http_call_cancel(STEAL(client->call));
	json_decref(client->sent);
	protocol_answer_clear(&client->answer);
	uv_close((uv_handle_t *)&client->timer, on_closed);
}
