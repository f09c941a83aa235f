// SPDX-License-Identifier: Apache-2.0
// Directors are asked side by side, and each one question after the other: first for this host, then for every service.
#include "agent/ask.h"

#include "agent/remember.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_MS 3000
#define ANSWER_MS 3000
#define ANSWER_MAX (32u << 20) // a service with the names of its backends

struct asking {
	const struct config *config;
	struct http_client *http;
	struct client *client;
	struct ask_director *director;
	struct protocol_answer answer;                            // as far as it has come
	enum { ABOUT_AGENT, ABOUT_SERVICE, ABOUT_BACKEND } about; // the question
	size_t backend;                                           // of the configuration
};

static void ask_next(struct asking *a);

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

// The service as an agent would have been told it.
static int take_options(const json_t *options, struct protocol_service *ret)
{
	int64_t protocol;

	if (field_choice_value(transport_choices, text_of(options, "protocol"), &protocol))
		return -EINVAL;
	ret->known = true;
	ret->protocol = (int)protocol;
	ret->port = (uint16_t)json_integer_value(json_object_get(options, "port"));
	inet_addr_parse(text_of(options, "host"), &ret->host); // a firewall mark has none
	return 0;
}

// The backend of this host's name, if an agent of this name made it.
static void take_backend(struct asking *a, const json_t *backend)
{
	struct ask_backend *ret = &a->director->backends[a->backend];
	struct protocol_service *service = &a->answer.services[a->answer.count - 1];

	if (strcmp(text_of(backend, "node"), a->config->node) != 0)
		return;
	ret->there = true;
	snprintf(ret->state, sizeof(ret->state), "%s", text_of(backend, "status"));
	snprintf(ret->reason, sizeof(ret->reason), "%s", text_of(backend, "reason"));
	ret->effective_weight = (uint32_t)json_integer_value(json_object_get(backend, "effective_weight"));
	ret->max_packet = (uint32_t)json_integer_value(json_object_get(backend, "max_packet"));
	memcpy(service->status, ret->state, sizeof(service->status));
	service->effective_weight = ret->effective_weight;
}

// Returns whether it is there.
static bool take_service(struct asking *a, long status, const json_t *json)
{
	const struct config_backend *backend = &a->config->backends.items[a->backend];
	struct protocol_service *service = &a->answer.services[a->answer.count++];

	memcpy(service->service, backend->service, sizeof(service->service));
	a->director->backends[a->backend].status = status;
	return status == 200 && !take_options(json_object_get(json, "options"), service);
}

// All of it has come: what was remembered of this director is worth nothing now, but for where its tunnel packets come
// from if it does not say (one of an earlier version, or one that has not heard of this host yet).
static void finish(struct asking *a)
{
	if (inet_addr_parse(text_of(a->director->agent, "source"), &a->answer.source))
		a->answer.source = a->client->answer.source;
	protocol_answer_clear(&a->client->answer);
	a->client->answer = a->answer;
	a->client->has_answer = a->client->fresh = true;
	a->answer = (struct protocol_answer) { 0 };
}

// One answer; the next question.
static void take(struct asking *a, const struct http_answer *http, const json_t *json)
{
	switch (a->about) {
	case ABOUT_AGENT:
		a->director->agent = http->status == 200 ? json_incref((json_t *)(uintptr_t)json) : NULL;
		a->director->date_ms = http->date_ms;
		a->director->wall_ms = clock_wall_ms();
		a->client->local = http->local;
		a->client->peer = http->peer;
		a->about = ABOUT_SERVICE;
		return;
	case ABOUT_SERVICE:
		if (take_service(a, http->status, json)) {
			a->about = ABOUT_BACKEND;
			return;
		}
		break;
	case ABOUT_BACKEND:
		if (http->status == 200)
			take_backend(a, json);
		a->about = ABOUT_SERVICE;
		break;
	}
	a->backend++;
}

static void on_answer(void *ctx, const struct http_answer *http)
{
	struct asking *a = ctx;
	json_t *json = http->error ? NULL : json_loadb(http->body, http->len, 0, NULL);
	const char *words = text_of(json, "error");
	char *error = a->director->error;
	const size_t size = sizeof(a->director->error);

	if (http->error)
		snprintf(error, size, "%.250s", http->text);
	else if (!json || (http->status != 200 && http->status != 404))
		snprintf(error, size, "it answers %ld%s%.200s", http->status, *words ? ": " : " and makes no sense",
			words);
	else
		take(a, http, json);
	json_decref(json);
	if (*error)
		return;
	if (a->backend < a->config->backends.count)
		ask_next(a);
	else
		finish(a);
}

static void ask_next(struct asking *a)
{
	const char *url = a->client->url, *node = a->config->node;
	char path[CLIENT_URL_MAX + 2 * PROTOCOL_NAME_MAX + 32];
	struct http_call *call;
	struct err err = { 0 };

	switch (a->about) {
	case ABOUT_AGENT:
		snprintf(path, sizeof(path), "%s/agent/%s", url, node);
		break;
	case ABOUT_SERVICE:
		snprintf(path, sizeof(path), "%s/service/%s", url, a->config->backends.items[a->backend].service);
		break;
	case ABOUT_BACKEND:
		snprintf(path, sizeof(path), "%s/service/%s/%s", url, a->config->backends.items[a->backend].service,
			node);
		break;
	}
	const struct http_request request = {
		.method = "GET",
		.url = path,
		.connect_timeout_ms = CONNECT_MS,
		.timeout_ms = ANSWER_MS,
		.answer_max = ANSWER_MAX,
	};

	if (http_client_start(a->http, &request, on_answer, a, &call, &err))
		snprintf(a->director->error, sizeof(a->director->error), "%.250s", err.text);
}

static void take_address(const struct config *config, struct ask_answers *answers)
{
	if (inet_addr_is_set(&config->address))
		answers->address = config->address;
	for (size_t i = 0; i < answers->count && !inet_addr_is_set(&config->address); i++)
		if (answers->clients[i].fresh && inet_addr_is_set(&answers->clients[i].local)) {
			answers->address = answers->clients[i].local;
			return;
		}
}

static int make_room(const struct config *config, struct asking *asking, struct ask_answers *answers)
{
	for (size_t i = 0; i < answers->count; i++) {
		struct ask_director *director = &answers->directors[i];

		client_url(config->directors.urls[i], answers->clients[i].url);
		answers->list.items[answers->list.count++] = &answers->clients[i];
		director->backends = calloc(config->backends.count + 1, sizeof(*director->backends));
		asking[i].answer.services = calloc(config->backends.count + 1, sizeof(*asking[i].answer.services));
		if (!director->backends || !asking[i].answer.services)
			return -ENOMEM;
	}
	return 0;
}

int ask_directors(const struct config *config, uv_loop_t *loop, struct http_client *http, struct ask_answers *ret,
	struct err *err)
{
	const size_t count = config->directors.count;
	_cleanup_free_ struct asking *asking = calloc(count + 1, sizeof(*asking));
	struct ask_answers answers = {
		.clients = calloc(count + 1, sizeof(*answers.clients)),
		.directors = calloc(count + 1, sizeof(*answers.directors)),
		.count = count,
	};
	int rc = asking && answers.clients && answers.directors ? make_room(config, asking, &answers) : -ENOMEM;

	if (!rc)
		remember_load(config->run_dir, &answers.address, &answers.list);
	for (size_t i = 0; i < count && !rc; i++) {
		asking[i].config = config;
		asking[i].http = http;
		asking[i].client = &answers.clients[i];
		asking[i].director = &answers.directors[i];
		ask_next(&asking[i]);
	}
	if (!rc)
		uv_run(loop, UV_RUN_DEFAULT);
	for (size_t i = 0; asking && i < count; i++)
		protocol_answer_clear(&asking[i].answer);
	if (rc) {
		ask_answers_clear(&answers);
		return err_set(err, rc, NULL, "out of memory");
	}
	take_address(config, &answers);
	*ret = answers;
	return 0;
}

void ask_answers_clear(struct ask_answers *answers)
{
	for (size_t i = 0; i < answers->count; i++) {
		if (answers->clients)
			protocol_answer_clear(&answers->clients[i].answer);
		if (answers->directors) {
			json_decref(answers->directors[i].agent);
			free(answers->directors[i].backends);
		}
	}
	free(answers->clients);
	free(answers->directors);
	*answers = (struct ask_answers) { 0 };
}
