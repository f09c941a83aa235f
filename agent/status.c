// SPDX-License-Identifier: Apache-2.0
#include "agent/status.h"

#include "agent/lockdown.h"
#include "agent/nft.h"
#include "shared/util.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static json_t *director_status(const struct client *client)
{
	msec_t now = clock_now_ms();
	char since[CLOCK_DURATION_MAX], retry[CLOCK_DURATION_MAX];

	json_t *json = json_pack("{s:s, s:s, s:s}", "url", client->url, "state",
		field_choice_name(client_state_choices, client->state), "since",
		clock_format_duration((now - client->state_since_ms) / 1000 * 1000, since));
	if (json && *client->error) {
		json_object_set_new(json, "error", json_string(client->error));
		json_object_set_new(json, "retry_in",
			json_string(clock_format_duration(client->retry_ms > now ? client->retry_ms - now : 0, retry)));
	}
	return json;
}

// Whose tunnel packets are taken. NULL: there is no tunnel.
static json_t *lockdown_status(const struct spec *spec, const struct host *host)
{
	char text[PROTOCOL_REASON_MAX];
	uint64_t dropped;
	bool tunnels = false;

	for (size_t i = 0; i < spec->count; i++)
		tunnels |= forward_is_tunnel(spec->services[i].method);
	if (!tunnels)
		return NULL;
	lockdown_text(spec, host->seen.links, host->seen.link_count, text, sizeof(text));
	json_t *json = json_pack("{s:s}", "state", text);

	if (json && host->seen.nft.is_there && nft_read_dropped(host->nft, &dropped, NULL) == 0)
		json_object_set_new(json, "dropped", json_integer((json_int_t)dropped));
	return json;
}

json_t *status_make(const struct status_of *of)
{
	const struct services *services = of->services;
	const struct config *config = services->config;
	const struct inet_addr *address = &services->spec.address;
	char text[INET_ADDR_MAX], drain[DRAIN_TEXT_MAX];
	json_t *directors = json_array(), *items = json_array(), *resources = json_array(), *problems = json_array();
	json_t *statics = json_array();

	for (size_t c = 0; c < services->clients->count; c++) {
		json_array_append_new(directors, director_status(services->clients->items[c]));
		for (size_t b = 0; b < config->backends.count; b++)
			json_array_append_new(items,
				services_status(services, services->clients->items[c], &config->backends.items[b],
					of->stopping));
	}
	for (size_t i = 0; i < config->statics.count; i++)
		json_array_append_new(statics, services_static_status(services, &config->statics.items[i]));
	for (size_t i = 0; i < of->host->journal.list.count; i++) {
		char command[RESOURCE_COMMAND_MAX];

		json_array_append_new(
			resources, json_string(resource_command(&of->host->journal.list.items[i], true, command)));
	}
	for (size_t i = 0; i < of->host->left.count; i++)
		if (*of->host->left.ops[i].why)
			json_array_append_new(problems, json_string(of->host->left.ops[i].why));
	json_t *status = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:o}", "version",
		BRASS_VERSION, "node", config->node, "address",
		inet_addr_is_set(address) ? inet_addr_format(address, text) : "", "boot", of->boot, "state", of->phase,
		"directors", directors, "services", items, "static", statics, "resources", resources, "problems",
		problems, "repairs", (json_int_t)of->host->repairs.total, "repaired",
		repairs_to_json(&of->host->repairs));
	json_t *lockdown = lockdown_status(&services->spec, of->host);
	if (status && lockdown)
		json_object_set_new(status, "lockdown", lockdown);
	if (status && of->stopping)
		json_object_set_new(status, "drain", json_string(drain_describe(of->stopping, drain)));
	return status;
}

static json_t *without_times(const json_t *status)
{
	json_t *copy = json_deep_copy(status), *director;
	size_t i;

	json_array_foreach (json_object_get(copy, "directors"), i, director) {
		json_object_del(director, "since");
		json_object_del(director, "retry_in");
	}
	return copy;
}

bool status_same(const json_t *a, const json_t *b)
{
	json_t *left = without_times(a), *right = without_times(b);
	const bool same = json_equal(left, right);

	json_decref(left);
	json_decref(right);
	return same;
}

static const char *word(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "";
}

static int number(const json_t *json, const char *key)
{
	return (int)json_integer_value(json_object_get(json, key));
}

static void print_service(const json_t *service)
{
	const char *device = word(service, "device"), *status = word(service, "status"), *vip = word(service, "vip");

	printf("  %-15s %-5s  %s%s%s%s%s", word(service, "service"), word(service, "state"), word(service, "method"),
		*vip ? ", " : "", vip, *device ? " on " : "", device);
	if (strcmp(status, "unknown") != 0)
		printf("; director: %s, weight %d, %d connections", status, number(service, "effective_weight"),
			number(service, "active"));
	if (*word(service, "reason"))
		printf("\n  %-15s        %s", "", word(service, "reason"));
	putchar('\n');
}

// A director and what it and this host make of each service.
static void print_director(const json_t *director, const json_t *services)
{
	const char *url = word(director, "url");
	size_t i;
	json_t *item;

	printf("director  %s: %s for %s", url, word(director, "state"), word(director, "since"));
	if (*word(director, "error"))
		printf("; %s; next attempt in %s", word(director, "error"), word(director, "retry_in"));
	putchar('\n');
	json_array_foreach ((json_t *)(uintptr_t)services, i, item)
		if (strcmp(word(item, "director"), url) == 0)
			print_service(item);
}

static void print_static(const json_t *item)
{
	const char *device = word(item, "device");
	char port[24] = "";

	if (number(item, "port"))
		snprintf(port, sizeof(port), " %s/%d", word(item, "protocol"), number(item, "port"));
	printf("  %-15s %-5s  %s%s%s%s\n", word(item, "host"), word(item, "state"), word(item, "method"), port,
		*device ? " on " : "", device);
	if (*word(item, "reason"))
		printf("  %-15s        %s\n", "", word(item, "reason"));
}

static void print_lockdown(const json_t *lockdown)
{
	printf("lockdown  %s", word(lockdown, "state"));
	if (json_object_get(lockdown, "dropped"))
		printf("; %" JSON_INTEGER_FORMAT " packets dropped",
			json_integer_value(json_object_get(lockdown, "dropped")));
	putchar('\n');
}

static void print_repairs(const json_t *status)
{
	const json_t *repairs = json_object_get(status, "repaired");
	const char *kind, *between = ": ";
	json_t *item;
	size_t i;

	printf("repairs   %d", number(status, "repairs"));
	json_object_foreach (json_object_get(repairs, "by_kind"), kind, item) {
		printf("%s%d %s", between, (int)json_integer_value(item), kind);
		between = ", ";
	}
	putchar('\n');
	json_array_foreach (json_object_get(repairs, "last"), i, item)
		printf("  %s  %s; was undone by %s\n", word(item, "time"), word(item, "what"), word(item, "who"));
	json_array_foreach (json_object_get(repairs, "wars"), i, item)
		printf("war       %s; undone again and again, %d times, the last time by %s\n", word(item, "what"),
			number(item, "repairs"), word(item, "who"));
}

void status_print(const json_t *status)
{
	const json_t *services = json_object_get(status, "services");
	size_t i;
	json_t *item;

	printf("node      %s, address %s, %s%s%s\n", word(status, "node"),
		*word(status, "address") ? word(status, "address") : "not known yet", word(status, "state"),
		*word(status, "drain") ? ": " : "", word(status, "drain"));
	json_array_foreach (json_object_get(status, "directors"), i, item)
		print_director(item, services);
	if (json_array_size(json_object_get(status, "static")))
		printf("static\n");
	json_array_foreach (json_object_get(status, "static"), i, item)
		print_static(item);
	if (json_object_get(status, "lockdown"))
		print_lockdown(json_object_get(status, "lockdown"));
	json_array_foreach (json_object_get(status, "resources"), i, item)
		printf("set up    %s\n", json_string_value(item));
	json_array_foreach (json_object_get(status, "problems"), i, item)
		printf("problem   %s\n", json_string_value(item));
	print_repairs(status);
}
