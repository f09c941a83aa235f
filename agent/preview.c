// SPDX-License-Identifier: Apache-2.0
#include "agent/preview.h"

#include "agent/ask.h"
#include "agent/host.h"
#include "agent/services.h"
#include "shared/http_client.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ROUTE_MAX 512

struct preview {
	const struct config *config;
	uv_loop_t loop;
	struct http_client *http;
	struct ask_answers answers;
	bool incomplete; // something is not known, or cannot be done
};

// --- what the services are ---

static void print_director(struct preview *preview, size_t i)
{
	const struct client *client = &preview->answers.clients[i];
	const struct ask_director *director = &preview->answers.directors[i];

	if (client->fresh)
		printf("# %s: asked\n", client->url);
	else
		printf("# %s: %s; %s\n", client->url, director->error,
			client->has_answer ? "this is what it said last" : "and it has said nothing before");
	preview->incomplete |= !client->has_answer;
	for (size_t b = 0; client->fresh && b < client->answer.count; b++) {
		if (client->answer.services[b].known)
			continue;
		printf("# %s: it has no service %s\n", client->url, client->answer.services[b].service);
		preview->incomplete = true;
	}
}

static int ask(struct preview *preview, struct err *err)
{
	int rc = uv_loop_init(&preview->loop);

	if (rc)
		return err_set(err, rc, NULL, "cannot start: %s", uv_strerror(rc));
	rc = http_client_new(&preview->loop, &preview->http, err);
	if (!rc)
		rc = ask_directors(preview->config, &preview->loop, preview->http, &preview->answers, err);
	http_client_free(preview->http);
	uv_run(&preview->loop, UV_RUN_DEFAULT);
	uv_loop_close(&preview->loop);
	for (size_t i = 0; i < preview->answers.count; i++)
		print_director(preview, i);
	return rc;
}

// As the agent would find it: configured, or that of a connection to a director; else of an earlier run, or of the
// default route.
static void find_address(struct preview *preview, const struct host *host)
{
	struct inet_addr *address = &preview->answers.address;
	char text[INET_ADDR_MAX];

	if (inet_addr_is_set(&preview->config->address))
		return;
	if (!inet_addr_is_set(address) && preview->config->statics.count)
		host_address(host, address);
	printf("# address: %s\n", inet_addr_is_set(address) ? inet_addr_format(address, text) : "not known");
	preview->incomplete |= !inet_addr_is_set(address);
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
	for (size_t i = 0; i < preview->answers.count; i++)
		if (preview->answers.clients[i].has_answer)
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
	if (services_init(&services, config, &preview->answers.list) ||
		services_build(&services, &preview->answers.address))
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
	struct preview preview = { .config = call->config };
	struct err err = { 0 };

	log_set_level(LOG_LEVEL_WARNING);
	int rc = ask(&preview, &err);
	if (!rc)
		rc = look_at_host(&preview, &err);
	ask_answers_clear(&preview.answers);
	if (rc)
		fprintf(stderr, "brass-agent: %s\n", err.text);
	if (rc == -EPERM || rc == -EACCES)
		return EXIT_PERMISSION;
	return rc || preview.incomplete ? EXIT_FAILED : EXIT_FINE;
}
