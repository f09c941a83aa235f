// SPDX-License-Identifier: Apache-2.0
#include "agent/desired.h"

#include "agent/lockdown.h"
#include "shared/tunnel.h"
#include "shared/util.h"

#include <string.h>

// Method, outer family (of the RIP) and inner family (of the VIP) decide the device. What comes by GUE goes on to the
// device that would take it without UDP.
static const struct tunnel_kind {
	int method, outer, inner;
	const char *kind, *device;
} tunnels[] = {
	{ FORWARD_IPIP, AF_INET, AF_INET, "ipip", SPEC_DEVICE_IPIP },
	{ FORWARD_IPIP, AF_INET, AF_INET6, "sit", SPEC_DEVICE_SIT },
	{ FORWARD_IPIP, AF_INET6, AF_INET, "ip6tnl", SPEC_DEVICE_IP6 },
	{ FORWARD_IPIP, AF_INET6, AF_INET6, "ip6tnl", SPEC_DEVICE_IP6 },
	{ FORWARD_GRE, AF_INET, AF_INET, "gre", SPEC_DEVICE_GRE },
	{ FORWARD_GRE, AF_INET, AF_INET6, "gre", SPEC_DEVICE_GRE },
	{ FORWARD_GRE, AF_INET6, AF_INET, "ip6gre", SPEC_DEVICE_GRE6 },
	{ FORWARD_GRE, AF_INET6, AF_INET6, "ip6gre", SPEC_DEVICE_GRE6 },
};

static const struct tunnel_kind *tunnel_of(const struct spec *spec, const struct spec_service *service)
{
	const int method = service->method == FORWARD_GUE ? FORWARD_IPIP : service->method;

	for (size_t i = 0; i < ARRAY_SIZE(tunnels); i++)
		if (tunnels[i].method == method && tunnels[i].outer == spec->address.family &&
			tunnels[i].inner == service->vip.family)
			return &tunnels[i];
	return NULL;
}

const char *desired_device(const struct spec *spec, const struct spec_service *service)
{
	const struct tunnel_kind *tunnel = tunnel_of(spec, service);

	if (service->method == FORWARD_DR)
		return *service->device ? service->device : "lo";
	return tunnel ? tunnel->device : "";
}

static void set_text(char *to, size_t size, const char *from)
{
	memcpy(to, from, strnlen(from, size - 1));
}

static struct resource conf_of(const char *dev, int conf, int32_t value)
{
	struct resource r = { .kind = RESOURCE_CONF, .conf = conf, .value = value };

	set_text(r.dev, sizeof(r.dev), dev);
	return r;
}

static bool is_managed(const struct spec *spec, const char *name)
{
	if (!spec->devices || !spec->devices->count)
		return true;
	for (size_t i = 0; i < spec->devices->count; i++)
		if (strcmp(spec->devices->names[i], name) == 0)
			return true;
	return false;
}

// ARP is answered by the device that hears the request, so the setting belongs on each that could (lab.md, "DR and
// ARP"). IPv6 needs nothing: neighbour discovery answers only for addresses of the receiving device.
static int add_no_arp(const struct spec *spec, const struct iflink *links, size_t count, struct resource_list *list)
{
	const struct resource all_ignore = conf_of(RESOURCE_DEV_ALL, IPV4_DEVCONF_ARP_IGNORE, 1);
	const struct resource all_announce = conf_of(RESOURCE_DEV_ALL, IPV4_DEVCONF_ARP_ANNOUNCE, 2);
	int rc = 0;

	if (spec->manage_all)
		rc = resource_list_add(list, &all_ignore);
	if (spec->manage_all && !rc)
		rc = resource_list_add(list, &all_announce);
	for (size_t i = 0; i < count && !rc; i++) {
		if (!iflink_does_arp(&links[i]) || !is_managed(spec, links[i].name))
			continue;
		const struct resource ignore = conf_of(links[i].name, IPV4_DEVCONF_ARP_IGNORE, 1);
		const struct resource announce = conf_of(links[i].name, IPV4_DEVCONF_ARP_ANNOUNCE, 2);

		rc = resource_list_add(list, &ignore);
		if (!rc)
			rc = resource_list_add(list, &announce);
	}
	return rc;
}

static int add_vip(const struct spec_service *service, const char *dev, struct resource_list *list)
{
	struct resource r = { .kind = RESOURCE_VIP, .addr = service->vip };

	set_text(r.dev, sizeof(r.dev), dev);
	return resource_list_add(list, &r);
}

static int add_dr(const struct spec_service *service, struct resource_list *list)
{
	struct resource dummy = { .kind = RESOURCE_DEVICE, .device_kind = "dummy" };

	if (!*service->device)
		return add_vip(service, "lo", list);
	memcpy(dummy.dev, service->device, sizeof(dummy.dev));
	int rc = resource_list_add(list, &dummy);

	return rc ? rc : add_vip(service, service->device, list);
}

// The largest segment that a client may send: what fits into the tunnels of this family, whichever is the tightest.
// 0: there is none, or it is not known.
static uint32_t mss_of(const struct spec *spec, int family)
{
	const uint32_t headers = family == AF_INET6 ? 60 : 40; // IP and TCP, without options
	uint32_t most = 0;

	for (size_t i = 0; i < spec->count; i++) {
		const struct spec_service *s = &spec->services[i];

		if (!tunnel_of(spec, s) || s->vip.family != family)
			continue;
		const uint32_t overhead = tunnel_overhead(s->method, &s->tunnel, spec->address.family);

		most = overhead > most ? overhead : most;
	}
	return most && spec->mtu > most + headers ? spec->mtu - most - headers : 0;
}

// Replies from the VIP tell clients to send segments that fit into the tunnel: then no path loses what does not fit.
static int add_mss(const struct spec *spec, const struct spec_service *service, struct resource_list *list)
{
	const int family = service->vip.family;
	const struct resource mirror = {
		.kind = RESOURCE_MIRROR,
		.addr.family = (sa_family_t)family,
		.table = spec->mss_table,
		.value = (int32_t)mss_of(spec, family),
	};
	const struct resource rule = {
		.kind = RESOURCE_RULE, .addr = service->vip, .table = spec->mss_table, .priority = spec->mss_priority
	};

	if (service->protocol != IPPROTO_TCP || !mirror.value)
		return 0;
	int rc = resource_list_add(list, &mirror);

	return rc ? rc : resource_list_add(list, &rule);
}

static int add_tunnel(const struct spec *spec, const struct spec_service *service, const struct iflink *links,
	size_t link_count, struct resource_list *list)
{
	const struct tunnel_kind *tunnel = tunnel_of(spec, service);
	struct resource r = { .kind = RESOURCE_DEVICE, .addr = spec->address };
	const struct resource port = { .kind = RESOURCE_FOU, .addr = spec->address, .sport = service->tunnel.port };

	if (!tunnel || lockdown_refuses(spec))
		return 0;
	int rc = lockdown_add(
		spec, tunnel->kind, service->method == FORWARD_GUE ? service->tunnel.port : 0, links, link_count, list);
	set_text(r.dev, sizeof(r.dev), tunnel->device);
	set_text(r.device_kind, sizeof(r.device_kind), tunnel->kind);
	r.value = service->method == FORWARD_GRE && service->tunnel.checksum == CHECKSUM_ON;
	if (!rc && service->method == FORWARD_GUE)
		rc = resource_list_add(list, &port);
	if (!rc)
		rc = resource_list_add(list, &r);
	// a client's address never routes back through the tunnel: strict reverse path filtering would drop all of it
	const struct resource loose = conf_of(tunnel->device, IPV4_DEVCONF_RP_FILTER, 2);

	if (!rc && service->vip.family == AF_INET)
		rc = resource_list_add(list, &loose);
	if (!rc)
		rc = add_mss(spec, service, list);
	return rc ? rc : add_vip(service, tunnel->device, list);
}

// Replies of this service, and nothing else of this host, go back through the director.
static int add_return_path(const struct spec *spec, const struct spec_service *service, struct resource_list *list)
{
	const struct resource route = { .kind = RESOURCE_ROUTE, .addr = service->gateway, .table = spec->table };
	const struct resource rule = {
		.kind = RESOURCE_RULE,
		.addr = spec->address,
		.ip_protocol = (uint8_t)service->protocol,
		.sport = service->port,
		.table = spec->table,
		.priority = spec->priority,
	};

	// without a port the rule would be for all that this host sends, ssh's answers as well
	if (!inet_addr_is_set(&service->gateway) || !service->port)
		return 0;
	int rc = resource_list_add(list, &route);

	return rc ? rc : resource_list_add(list, &rule);
}

int desired_of_service(const struct spec *spec, const struct spec_service *service, const struct iflink *links,
	size_t link_count, struct resource_list *list)
{
	int rc = 0;

	if (service->method != FORWARD_NAT && service->vip.family == AF_INET)
		rc = add_no_arp(spec, links, link_count, list);
	if (rc)
		return rc;
	switch ((enum forward_method)service->method) {
	case FORWARD_DR:
		return add_dr(service, list);
	case FORWARD_IPIP:
	case FORWARD_GUE:
	case FORWARD_GRE:
		return add_tunnel(spec, service, links, link_count, list);
	case FORWARD_NAT:
		return add_return_path(spec, service, list);
	}
	return 0;
}

int desired(const struct spec *spec, const struct iflink *links, size_t link_count, struct resource_list *ret)
{
	struct resource_list list = { 0 };
	int rc = 0;

	for (size_t i = 0; i < spec->count && !rc; i++)
		rc = desired_of_service(spec, &spec->services[i], links, link_count, &list);
	if (rc) {
		resource_list_clear(&list);
		return rc;
	}
	*ret = list;
	return 0;
}
