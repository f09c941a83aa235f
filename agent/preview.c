// SPDX-License-Identifier: Apache-2.0
#include "agent/preview.h"

#include "agent/client.h"
#include "agent/host.h"
#include "agent/remember.h"
#include "agent/services.h"
#include "shared/http_client.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ASK_TIMEOUT_MS 3000
#define ANSWER_MAX (4u << 20)
#define ROUTE_MAX 512

// One director, asked for one service after the other.
struct asking {
	struct preview *preview;
	struct client *client;
	struct http_call *call;
	struct protocol_answer answer; // as far as it has come
};

struct preview {
	const struct config *config;
	uv_loop_t loop;
	struct http_client *http;
	struct client *clients;
	struct asking *askings;
	struct inet_addr address;
	bool incomplete; // something is not known, or cannot be done
};

// --- what the services are ---

static void ask_next(struct asking *asking);

static void give_up(struct asking *asking, const char *why)
{
	struct client *client = asking->client;

	printf("# %s: %s; %s\n", client->url, why,
		client->has_answer ? "this is what it said last" : "and it has said nothing before");
	asking->preview->incomplete |= !client->has_answer;
}

static void take_all(struct asking *asking)
{
	struct client *client = asking->client;

	protocol_answer_clear(&client->answer);
	client->answer = asking->answer;
	asking->answer = (struct protocol_answer) { 0 };
	client->has_answer = client->fresh = true;
	printf("# %s: asked\n", client->url);
}

// {"options": {"host": ..., "port": ..., "protocol": ...}, ...}; without a host (a firewall mark alone) there is no
// VIP.
static int take_service(const char *body, size_t len, struct protocol_service *service)
{
	json_t *json = json_loadb(body, len, 0, NULL);
	const json_t *options = json_object_get(json, "options");
	const char *host = json_string_value(json_object_get(options, "host"));
	const char *protocol = json_string_value(json_object_get(options, "protocol"));
	int64_t number = 0;
	int rc = json_is_object(options) ? 0 : -EINVAL;

	if (!rc && host && *host)
		rc = inet_addr_parse(host, &service->host);
	if (!rc && protocol)
		rc = field_choice_value(transport_choices, protocol, &number);
	service->known = !rc;
	service->protocol = (int)number;
	service->port = (uint16_t)json_integer_value(json_object_get(options, "port"));
	json_decref(json);
	return rc;
}

static void on_answer(void *ctx, const struct http_answer *answer)
{
	struct asking *asking = ctx;
	struct client *client = asking->client;
	struct protocol_service *service = &asking->answer.services[asking->answer.count];
	char why[64];

	asking->call = NULL;
	snprintf(why, sizeof(why), "it answered %ld", answer->status);
	if (answer->error) {
		give_up(asking, answer->text);
		return;
	}
	if (answer->status != 404 && (answer->status != 200 || take_service(answer->body, answer->len, service))) {
		give_up(asking, answer->status == 200 ? "its answer makes no sense" : why);
		return;
	}
	if (!service->known) {
		printf("# %s: it has no service %s\n", client->url, service->service);
		asking->preview->incomplete = true;
	}
	if (inet_addr_is_set(&answer->local)) {
		client->local = answer->local;
		client->peer = answer->peer;
	}
	asking->answer.count++;
	ask_next(asking);
}

static void ask_next(struct asking *asking)
{
	const struct config_backends *backends = &asking->preview->config->backends;
	char url[CLIENT_URL_MAX + PROTOCOL_NAME_MAX + 16];
	struct err err = { 0 };

	if (asking->answer.count == backends->count) {
		take_all(asking);
		return;
	}
	struct protocol_service *service = &asking->answer.services[asking->answer.count];
	memcpy(service->service, backends->items[asking->answer.count].service, sizeof(service->service));
	snprintf(url, sizeof(url), "%s/service/%s", asking->client->url, service->service);
	const struct http_request request = {
		.method = "GET",
		.url = url,
		.connect_timeout_ms = ASK_TIMEOUT_MS,
		.timeout_ms = ASK_TIMEOUT_MS,
		.answer_max = ANSWER_MAX,
	};
	if (http_client_start(asking->preview->http, &request, on_answer, asking, &asking->call, &err))
		give_up(asking, err.text);
}

static void close_loop(struct preview *preview)
{
	http_client_free(preview->http);
	uv_run(&preview->loop, UV_RUN_DEFAULT);
	uv_loop_close(&preview->loop);
}

static int ask_directors(struct preview *preview, struct err *err)
{
	const struct config *config = preview->config;

	remember_load(config->run_dir, &preview->address, preview->clients, config->directors.count);
	uv_loop_init(&preview->loop);
	int rc = config->directors.count ? http_client_new(&preview->loop, &preview->http, err) : 0;
	for (size_t i = 0; i < config->directors.count && !rc; i++) {
		struct asking *asking = &preview->askings[i];

		asking->preview = preview;
		asking->client = &preview->clients[i];
		asking->answer.services = calloc(config->backends.count + 1, sizeof(*asking->answer.services));
		if (asking->answer.services)
			ask_next(asking);
		else
			rc = err_set(err, -ENOMEM, NULL, "out of memory");
	}
	while (!rc && uv_run(&preview->loop, UV_RUN_ONCE)) {
		bool busy = false;

		for (size_t i = 0; i < config->directors.count; i++)
			busy |= preview->askings[i].call != NULL;
		if (!busy)
			break;
	}
	close_loop(preview);
	for (size_t i = 0; i < config->directors.count; i++)
		protocol_answer_clear(&preview->askings[i].answer);
	return rc;
}

// As the agent would find it: configured, or that of a connection to a director; else of an earlier run, or of the
// default route.
static void find_address(struct preview *preview, const struct host *host)
{
	const struct config *config = preview->config;
	char text[INET_ADDR_MAX];

	if (inet_addr_is_set(&config->address))
		return;
	for (size_t i = config->directors.count; i-- > 0;)
		if (preview->clients[i].fresh && inet_addr_is_set(&preview->clients[i].local))
			preview->address = preview->clients[i].local;
	if (!inet_addr_is_set(&preview->address) && config->statics.count)
		host_address(host, &preview->address);
	if (inet_addr_is_set(&preview->address))
		printf("# address: %s\n", inet_addr_format(&preview->address, text));
	else
		printf("# address: not known\n");
	preview->incomplete |= !inet_addr_is_set(&preview->address);
}

// --- what would be done ---

static void print_routes(const struct route_mirror *mirror, struct route_copy *const *copies, size_t count, bool add)
{
	const char *family = mirror->family == AF_INET6 ? "-6" : "-4";

	for (size_t i = 0; i < count; i++) {
		char words[ROUTE_MAX];

		if (route_mirror_words(mirror, copies[i], words, sizeof(words)) == 0)
			printf("%c ip %s route %s %s\n", add ? '+' : '-', family, add ? "append" : "del", words);
		else
			printf("# a route of the main table is copied into table %u as it is, with MSS %u\n",
				mirror->table, mirror->advmss);
	}
}

// Would it change anything? What somebody else has set since is not given back.
static bool is_idle(const struct host *host, const struct plan_op *op)
{
	const struct resource *r = &op->resource;
	const struct iflink *link;

	if (op->verb != PLAN_REMOVE || r->kind != RESOURCE_CONF)
		return false;
	link = iflink_find(host->seen.links, host->seen.link_count, r->dev);
	return !link || link->conf[r->conf] != r->value;
}

static bool is_vip4(const struct resource *r)
{
	return r->kind == RESOURCE_VIP && r->addr.family == AF_INET;
}

static void print_op(struct preview *preview, const struct host *host, const struct plan_op *op, bool would_answer_arp)
{
	const struct resource *r = &op->resource;
	const bool add = op->verb != PLAN_REMOVE;
	char command[RESOURCE_COMMAND_MAX];

	if (op->verb == PLAN_CONFLICT) {
		printf("! %s: %s\n", resource_command(r, true, command), op->why);
		preview->incomplete = true;
	} else if (would_answer_arp && add && is_vip4(r)) {
		printf("! %s: not added, because this host would answer ARP for it\n",
			resource_command(r, true, command));
		preview->incomplete = true;
	} else if (r->kind == RESOURCE_MIRROR && add) {
		const struct route_mirror *mirror = &host->seen.mirrors[r->addr.family == AF_INET6];

		print_routes(mirror, mirror->extra, mirror->extra_count, false);
		print_routes(mirror, mirror->missing, mirror->missing_count, true);
	} else if (!is_idle(host, op)) {
		printf("%c %s\n", add ? '+' : '-', resource_command(r, add, command));
	}
}

static void print_plan(struct preview *preview, const struct host *host, const struct plan *plan)
{
	bool would_answer_arp = false;

	if (!plan->count)
		printf("# nothing to do: the host is as it should be\n");
	for (size_t i = 0; i < plan->count; i++) {
		const struct plan_op *op = &plan->ops[i];

		would_answer_arp |= op->verb == PLAN_CONFLICT && resource_keeps_arp_quiet(&op->resource);
		print_op(preview, host, op, would_answer_arp);
	}
}

static void print_problems(struct preview *preview, struct host *host, const struct services *services)
{
	for (size_t i = 0; i < services->spec.count; i++) {
		char problem[PROTOCOL_REASON_MAX + 1];

		host_problem(host, &services->spec, &services->spec.services[i], problem, sizeof(problem));
		if (*problem)
			printf("# %s: %s\n", services->spec.services[i].name, problem);
		preview->incomplete |= *problem != '\0';
	}
}

static bool is_known(const struct preview *preview)
{
	for (size_t i = 0; i < preview->config->directors.count; i++)
		if (preview->clients[i].has_answer)
			return true;
	return !preview->config->backends.count;
}

static int look_at_host(struct preview *preview, struct err *err)
{
	const struct config *config = preview->config;
	struct services services = { 0 };
	struct plan plan = { 0 };
	struct host host;
	int rc = host_peek(config->run_dir, &host, err);

	if (rc)
		return rc;
	find_address(preview, &host);
	if (services_init(&services, config, preview->clients, config->directors.count) ||
		services_build(&services, &preview->address))
		rc = err_set(err, -ENOMEM, NULL, "out of memory");
	host.keeps_all = !is_known(preview);
	if (!rc)
		rc = host_preview(&host, &services.spec, &plan, err);
	if (!rc) {
		print_plan(preview, &host, &plan);
		print_problems(preview, &host, &services);
	}
	plan_clear(&plan);
	services_clear(&services);
	host_close(&host);
	return rc;
}

int preview_word(const struct words_call *call)
{
	const struct config *config = call->config;
	struct preview preview = { .config = config, .address = config->address };
	struct err err = { 0 };

	log_set_level(LOG_LEVEL_WARNING);
	preview.clients = calloc(config->directors.count + 1, sizeof(*preview.clients));
	preview.askings = calloc(config->directors.count + 1, sizeof(*preview.askings));
	int rc = preview.clients && preview.askings ? 0 : err_set(&err, -ENOMEM, NULL, "out of memory");
	for (size_t i = 0; i < config->directors.count && !rc; i++)
		client_set_url(&preview.clients[i], config->directors.urls[i]);
	if (!rc)
		rc = ask_directors(&preview, &err);
	if (!rc)
		rc = look_at_host(&preview, &err);
	for (size_t i = 0; i < config->directors.count && preview.clients; i++)
		protocol_answer_clear(&preview.clients[i].answer);
	free(preview.clients);
	free(preview.askings);
	if (rc)
		fprintf(stderr, "brass-agent: %s\n", err.text);
	if (rc == -EPERM || rc == -EACCES)
		return EXIT_PERMISSION;
	return rc || preview.incomplete ? EXIT_FAILED : EXIT_FINE;
}
