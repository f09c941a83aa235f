// SPDX-License-Identifier: Apache-2.0
#include "agent/services.h"

#include "agent/desired.h"
#include "agent/load.h"
#include "shared/util.h"

#include <errno.h>
#include <string.h>

static int make_room(struct services *services)
{
	size_t need = 1;

	for (size_t c = 0; c < services->client_count; c++)
		need += services->clients[c].has_answer ? services->clients[c].answer.count : 0;
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

int services_init(
	struct services *services, const struct config *config, const struct client *clients, size_t client_count)
{
	*services = (struct services) {
		.config = config,
		.clients = clients,
		.client_count = client_count,
		.load_share = 1,
	};
	return make_room(services);
}

void services_clear(struct services *services)
{
	free(services->spec.services);
	free(services->outcomes);
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
	for (size_t c = 0; c < services->client_count; c++) {
		const struct client *client = &services->clients[c];
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
	find_allowed(services, address->family, &spec->lockdown);
	spec->count = 0;
	for (size_t c = 0; c < services->client_count && inet_addr_is_set(address); c++) {
		const struct client *client = &services->clients[c];

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
	return 0;
}

struct local_item services_item(const struct services *services, size_t i)
{
	const struct spec_service *service = &services->spec.services[i];
	struct local_item item = {
		.at = { service->method == FORWARD_NAT ? services->spec.address : service->vip, service->port },
		.protocol = service->protocol,
	};

	for (size_t b = 0; b < services->config->backends.count; b++)
		if (strcmp(services->config->backends.items[b].service, service->name) == 0)
			item.check = &services->config->backends.items[b].check;
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

static enum protocol_state state_of(const struct services *services, int i, bool draining, const char **ret_reason)
{
	*ret_reason = draining ? "the agent stops" : i < 0 ? "" : services->outcomes[i].problem;
	if (draining)
		return PROTOCOL_DRAIN;
	if (i < 0)
		return PROTOCOL_SETUP;
	return **ret_reason ? PROTOCOL_DOWN : PROTOCOL_UP;
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
		to->state = (int)state_of(services, i, draining, &reason);
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
	char vip[INET_ADDR_MAX];
	const char *reason;
	enum protocol_state state = state_of(services, i, draining, &reason);

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
