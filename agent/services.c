// SPDX-License-Identifier: Apache-2.0
#include "agent/services.h"

#include "agent/desired.h"
#include "agent/load.h"
#include "shared/log.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int make_room(struct services *services)
{
	size_t need = 1 + services->config->statics.count;

	for (size_t c = 0; c < services->clients->count; c++)
		need += services->clients->items[c]->has_answer ? services->clients->items[c]->answer.count : 0;
	if (need <= services->room)
		return 0;
	struct spec_service *items = reallocarray(services->spec.services, need, sizeof(*items));
	if (items)
		services->spec.services = items;
	struct services_outcome *outcomes = reallocarray(services->outcomes, need, sizeof(*outcomes));
	if (outcomes)
		services->outcomes = outcomes;
	if (!items || !outcomes)
		return -ENOMEM;
	services->room = need;
	return 0;
}

int services_init(struct services *services, const struct config *config, const struct client_list *clients)
{
	*services = (struct services) {
		.config = config,
		.clients = clients,
		.load_share = 1,
		.said = calloc(config->statics.count + 1, sizeof(*services->said)),
	};
	return services->said ? make_room(services) : -ENOMEM;
}

int services_reconfigure(struct services *services, const struct config *config)
{
	char(*said)[PROTOCOL_REASON_MAX + 1] = calloc(config->statics.count + 1, sizeof(*said));

	if (!said)
		return -ENOMEM;
	free(services->said);
	services->said = said;
	services->config = config;
	services->spec.count = 0;
	services->spec.devices = &config->devices;
	return 0;
}

void services_clear(struct services *services)
{
	free(services->spec.services);
	free(services->outcomes);
	free(services->said);
	*services = (struct services) { 0 };
}

// NULL unless the director has said something about this service.
static const struct protocol_service *answered(const struct client *client, const char *name)
{
	for (size_t i = 0; client->has_answer && i < client->answer.count; i++)
		if (strcmp(client->answer.services[i].service, name) == 0)
			return &client->answer.services[i];
	return NULL;
}

static bool has_vip(const struct protocol_service *answer)
{
	return answer && answer->known && inet_addr_is_set(&answer->host);
}

static struct spec_service wanted(const struct services *services, const struct client *client,
	const struct config_backend *backend, const struct protocol_service *answer)
{
	const struct inet_addr *gateway =
		inet_addr_is_set(&services->config->gateway) ? &services->config->gateway : &client->peer;
	struct spec_service service = {
		.vip = answer->host,
		.protocol = answer->protocol,
		.port = backend->port ? backend->port : answer->port,
		.method = backend->method,
		.tunnel = backend->tunnel,
	};

	memcpy(service.name, backend->service, sizeof(service.name));
	memcpy(service.device, backend->device, sizeof(service.device));
	if (gateway->family == answer->host.family && !inet_addr_is_loopback(gateway))
		service.gateway = *gateway;
	return service;
}

static bool needs_address(const struct config_static *item)
{
	return item->method != FORWARD_DR;
}

static void add_static(struct services *services, const struct config_static *item)
{
	const struct inet_addr *gateway =
		inet_addr_is_set(&item->gateway) ? &item->gateway : &services->config->gateway;
	struct spec_service *service = &services->spec.services[services->spec.count];

	*service = (struct spec_service) {
		.vip = item->host,
		.protocol = item->protocol,
		.port = item->port,
		.method = item->method,
		.tunnel = item->tunnel,
		.fixed = true,
	};
	inet_addr_format(&item->host, service->name);
	memcpy(service->device, item->device, sizeof(service->device));
	if (gateway->family == item->host.family)
		service->gateway = *gateway;
	services->outcomes[services->spec.count++] = (struct services_outcome) { .fixed = item };
}

static void allow(struct spec_lockdown *lockdown, const struct inet_prefix *from)
{
	for (size_t i = 0; i < lockdown->count; i++)
		if (lockdown->allowed[i].len == from->len &&
			inet_addr_cmp(&lockdown->allowed[i].addr, &from->addr) == 0)
			return;
	if (lockdown->count < SPEC_ALLOWED_MAX)
		lockdown->allowed[lockdown->count++] = *from;
}

// Directors by the address that they are asked at, and by the one that they say they send from; only those of the
// family that our tunnels run over.
static void find_allowed(const struct services *services, int family, struct spec_lockdown *ret)
{
	const struct config_lockdown *config = &services->config->lockdown;

	*ret = (struct spec_lockdown) {
		.wanted = !config->off,
		.must = !config->off && field_is_set(&config_fields, services->config, "lockdown"),
		.possible = services->spec.lockdown.possible,
	};
	for (size_t i = 0; i < config->count; i++)
		if (config->allowed[i].addr.family == family)
			allow(ret, &config->allowed[i]);
	for (size_t c = 0; c < services->clients->count; c++) {
		const struct client *client = services->clients->items[c];
		const struct inet_addr *const own[] = { &client->peer, &client->answer.source };

		for (size_t i = 0; client->has_answer && i < ARRAY_SIZE(own); i++) {
			const struct inet_prefix whole = { *own[i], (uint8_t)(inet_addr_len(family) * 8) };

			if (own[i]->family == family && !inet_addr_is_loopback(own[i]))
				allow(ret, &whole);
		}
	}
}

static bool same_allowed(const struct spec_lockdown *a, const struct spec_lockdown *b)
{
	bool same = a->count == b->count;

	for (size_t i = 0; i < a->count && same; i++)
		same = a->allowed[i].len == b->allowed[i].len &&
			inet_addr_cmp(&a->allowed[i].addr, &b->allowed[i].addr) == 0;
	return same;
}

static int by_service(const void *key, const void *item)
{
	return strcmp(key, ((const struct config_backend *)item)->service);
}

// Which of our backends this is about, NULL: none, or there is no VIP yet.
static const struct config_backend *backend_of(const struct services *services, const struct protocol_service *answer)
{
	const struct config_backends *backends = &services->config->backends;

	if (!has_vip(answer) || !backends->count)
		return NULL;
	return bsearch(*answer->of ? answer->of : answer->service, backends->items, backends->count,
		sizeof(*backends->items), by_service);
}

int services_build(struct services *services, const struct inet_addr *address)
{
	const struct config *config = services->config;
	struct spec *spec = &services->spec;

	if (make_room(services))
		return -ENOMEM;
	spec->address = *address;
	spec->table = config->nat_table;
	spec->priority = config->nat_priority;
	spec->mss_table = config->mss_table;
	spec->mss_priority = config->mss_priority;
	spec->devices = &config->devices;
	spec->manage_all = config->manage_all;
	find_allowed(services, address->family, &spec->lockdown);
	spec->count = 0;
	for (size_t c = 0; c < services->clients->count && inet_addr_is_set(address); c++) {
		const struct client *client = services->clients->items[c];

		for (size_t i = 0; client->has_answer && i < client->answer.count; i++) {
			const struct protocol_service *answer = &client->answer.services[i];
			const struct config_backend *backend = backend_of(services, answer);

			if (!backend)
				continue;
			struct services_outcome *outcome = &services->outcomes[spec->count];

			spec->services[spec->count++] = wanted(services, client, backend, answer);
			*outcome = (struct services_outcome) { .client = client };
			memcpy(outcome->answered, answer->service, sizeof(outcome->answered));
		}
	}
	for (size_t i = 0; i < config->statics.count; i++)
		if (inet_addr_is_set(address) || !needs_address(&config->statics.items[i]))
			add_static(services, &config->statics.items[i]);
	return 0;
}

struct local_item services_item(const struct services *services, size_t i)
{
	static const struct local_check listen = { .kind = LOCAL_LISTEN }, nobody = { .kind = LOCAL_NONE };
	const struct spec_service *service = &services->spec.services[i];
	struct local_item item = {
		.at = { service->method == FORWARD_NAT ? services->spec.address : service->vip, service->port },
		.protocol = service->protocol,
	};

	if (service->fixed)
		item.check = &listen;
	for (size_t b = 0; b < services->config->backends.count && !item.check; b++) {
		const struct config_backend *backend = &services->config->backends.items[b];

		if (strcmp(backend->service, service->name) != 0)
			continue;
		item.check = &backend->check;
		item.service = backend->service;
	}
	// of all ports nobody knows which ones a program should listen on
	if (item.check && item.check->kind == LOCAL_LISTEN && !service->port)
		item.check = &nobody;
	return item;
}

// Index in spec.services and outcomes, or -1.
static int find(const struct services *services, const struct client *client, const char *name)
{
	for (size_t i = 0; i < services->spec.count; i++)
		if (services->outcomes[i].client == client && strcmp(services->outcomes[i].answered, name) == 0)
			return (int)i;
	return -1;
}

static bool same_service(const struct spec_service *a, const struct spec_service *b)
{
	return inet_addr_cmp(&a->vip, &b->vip) == 0 && a->protocol == b->protocol && a->port == b->port &&
		a->method == b->method && inet_addr_cmp(&a->gateway, &b->gateway) == 0;
}

bool services_are_current(const struct services *services, const struct client *client)
{
	struct spec_lockdown lockdown;
	size_t left = 0;

	find_allowed(services, services->spec.address.family, &lockdown);
	if (!same_allowed(&lockdown, &services->spec.lockdown))
		return false;

	for (size_t i = 0; i < services->spec.count; i++)
		left += services->outcomes[i].client == client;
	for (size_t k = 0; client->has_answer && k < client->answer.count; k++) {
		const struct protocol_service *answer = &client->answer.services[k];
		const struct config_backend *backend = backend_of(services, answer);
		int i = backend ? find(services, client, answer->service) : -1;

		if (!backend)
			continue;
		if (i < 0)
			return false;
		const struct spec_service now = wanted(services, client, backend, answer);
		if (!same_service(&services->spec.services[i], &now))
			return false;
		left--;
	}
	return !left;
}

static const struct drain *drain_of(const struct services *services, const char *name)
{
	return services->drains ? drains_of(services->drains, name) : NULL;
}

static enum protocol_state state_of(const struct services *services, int i, const struct client *client,
	const struct config_backend *backend, bool draining, const char **ret_reason)
{
	const char *drains = draining                  ? "the agent stops"
		: backend->leaving                     ? "it is no longer in the agent's configuration"
		: client->retiring                     ? "this director is no longer in the agent's configuration"
		: drain_of(services, backend->service) ? "an operator asked for it"
						       : NULL;

	*ret_reason = drains ? drains : i < 0 ? "" : services->outcomes[i].problem;
	if (drains)
		return PROTOCOL_DRAIN;
	if (i < 0)
		return PROTOCOL_SETUP;
	return **ret_reason ? PROTOCOL_DOWN : PROTOCOL_UP;
}

// NULL: none, or without memory; the next report has them then.
static struct labels *copy_labels(const struct labels *labels)
{
	struct labels *copy = labels->count ? malloc(labels_size(labels)) : NULL;

	if (copy)
		memcpy(copy, labels, labels_size(labels));
	return copy;
}

json_t *services_report(const struct services *services, const struct client *client, const char *boot, bool draining)
{
	const struct config *config = services->config;
	struct protocol_report report = {
		.address = services->spec.address,
		.ttl_ms = config->ttl_ms,
		.count = config->backends.count,
		.backends = calloc(config->backends.count + 1, sizeof(*report.backends)),
	};

	if (!report.backends)
		return NULL;
	snprintf(report.boot, sizeof(report.boot), "%s", boot);
	for (size_t b = 0; b < report.count; b++) {
		const struct config_backend *from = &config->backends.items[b];
		struct protocol_backend *to = &report.backends[b];
		int i = find(services, client, from->service);
		const char *reason;

		memcpy(to->service, from->service, sizeof(to->service));
		to->port = from->port;
		to->method = from->method;
		to->tunnel = from->tunnel;
		to->weight = from->weight.by_pressure
			? load_weight(from->weight.base, from->weight.min, services->load_share)
			: from->weight.base;
		to->state = (int)state_of(services, i, client, from, draining, &reason);
		to->labels = copy_labels(&from->labels);
		if (i >= 0)
			to->vip = services->spec.services[i].vip;
		snprintf(to->reason, sizeof(to->reason), "%s", reason);
	}
	json_t *json = protocol_report_to_json(&report);

	protocol_report_clear(&report);
	return json;
}

json_t *services_status(const struct services *services, const struct client *client,
	const struct config_backend *backend, bool draining)
{
	const struct protocol_service *answer = answered(client, backend->service);
	const struct protocol_service *fresh = client->fresh ? answer : NULL;
	int i = find(services, client, backend->service);
	const struct spec_service *service = i < 0 ? NULL : &services->spec.services[i];
	const struct drain *drain = drain_of(services, backend->service);
	char vip[INET_ADDR_MAX], progress[DRAIN_TEXT_MAX], text[DRAIN_TEXT_MAX + 40];
	const char *reason;
	enum protocol_state state = state_of(services, i, client, backend, draining, &reason);

	if (drain && !draining && !backend->leaving && !client->retiring) {
		snprintf(text, sizeof(text), "%s: %s", reason, drain_describe(drain, progress));
		reason = text;
	}
	if (!answer && state == PROTOCOL_SETUP)
		reason = "the director has not said what it is";
	else if (answer && *answer->error && !*reason)
		reason = answer->error;
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:i}", "service", backend->service,
		"director", client->url, "state", field_choice_name(protocol_state_choices, state), "reason", reason,
		"vip", service ? inet_addr_format(&service->vip, vip) : "", "method",
		field_choice_name(forward_method_choices, backend->method), "device",
		service ? desired_device(&services->spec, service) : "", "status", fresh ? fresh->status : "unknown",
		"fresh", client->fresh, "effective_weight", fresh ? (int)fresh->effective_weight : 0, "active",
		fresh ? (int)fresh->active : 0);
}

// Why it does not serve, "" when it does.
static const char *static_problem(const struct services *services, const struct config_static *item, int *ret_i)
{
	*ret_i = -1;
	for (size_t i = 0; i < services->spec.count && *ret_i < 0; i++)
		if (services->outcomes[i].fixed == item)
			*ret_i = (int)i;
	if (*ret_i < 0)
		return "this host's own address is not known: there is no default route; name it as \"address\"";
	return services->outcomes[*ret_i].problem;
}

json_t *services_static_status(const struct services *services, const struct config_static *item)
{
	int i;
	const char *problem = static_problem(services, item, &i);
	char host[INET_ADDR_MAX];

	return json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:s}", "host", inet_addr_format(&item->host, host), "port",
		(int)item->port, "protocol", field_choice_name(transport_choices, item->protocol), "method",
		field_choice_name(forward_method_choices, item->method), "device",
		i < 0 ? "" : desired_device(&services->spec, &services->spec.services[i]), "state",
		field_choice_name(protocol_state_choices, *problem ? PROTOCOL_DOWN : PROTOCOL_UP), "reason", problem);
}

void services_log_statics(struct services *services)
{
	const struct config_statics *statics = &services->config->statics;

	for (size_t k = 0; k < statics->count; k++) {
		const struct config_static *item = &statics->items[k];
		const char *method = field_choice_name(forward_method_choices, item->method);
		char host[INET_ADDR_MAX], now[sizeof(services->said[k])];
		int i;
		const char *problem = static_problem(services, item, &i);

		snprintf(now, sizeof(now), "%.250s", *problem ? problem : "up");
		if (strcmp(now, services->said[k]) == 0 || strcmp(now, SERVICES_NOT_CHECKED) == 0)
			continue;
		memcpy(services->said[k], now, sizeof(now));
		log_write(*problem ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "static %s (%s): %s%s",
			inet_addr_format(&item->host, host), method, *problem ? "down: " : "", now);
	}
}
