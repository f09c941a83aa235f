// SPDX-License-Identifier: Apache-2.0
#include "agent/desired.h"

#include "shared/util.h"

#include <string.h>

// Outer family (of the RIP) and inner family (of the VIP) decide the tunnel.
static const struct tunnel_kind {
	int outer, inner;
	const char *kind, *device;
} tunnels[] = {
	{ AF_INET, AF_INET, "ipip", SPEC_DEVICE_IPIP },
	{ AF_INET, AF_INET6, "sit", SPEC_DEVICE_SIT },
	{ AF_INET6, AF_INET, "ip6tnl", SPEC_DEVICE_IP6 },
	{ AF_INET6, AF_INET6, "ip6tnl", SPEC_DEVICE_IP6 },
};

static const struct tunnel_kind *tunnel_of(const struct spec *spec, const struct spec_service *service)
{
	for (size_t i = 0; i < ARRAY_SIZE(tunnels); i++)
		if (tunnels[i].outer == spec->address.family && tunnels[i].inner == service->vip.family)
			return &tunnels[i];
	return NULL;
}

const char *desired_device(const struct spec *spec, const struct spec_service *service)
{
	const struct tunnel_kind *tunnel = tunnel_of(spec, service);

	switch ((enum forward_method)service->method) {
	case FORWARD_DR:
		return "lo";
	case FORWARD_IPIP:
		return tunnel ? tunnel->device : "";
	case FORWARD_NAT:
	case FORWARD_GUE:
	case FORWARD_GRE:
		break;
	}
	return "";
}

static struct resource conf_of(const char *dev, int conf, int32_t value)
{
	struct resource r = { .kind = RESOURCE_CONF, .conf = conf, .value = value };

	memcpy(r.dev, dev, strnlen(dev, sizeof(r.dev) - 1));
	return r;
}

// ARP is answered by the device that hears the request, so the setting belongs on each that could (lab.md, "DR and
// ARP"). IPv6 needs nothing: neighbour discovery answers only for addresses of the receiving device.
static int add_no_arp(const struct iflink *links, size_t count, struct resource_list *list)
{
	int rc = 0;

	for (size_t i = 0; i < count && !rc; i++) {
		if (!iflink_does_arp(&links[i]))
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

	memcpy(r.dev, dev, strnlen(dev, sizeof(r.dev) - 1));
	return resource_list_add(list, &r);
}

static int add_tunnel(const struct spec *spec, const struct spec_service *service, struct resource_list *list)
{
	const struct tunnel_kind *tunnel = tunnel_of(spec, service);
	struct resource r = { .kind = RESOURCE_TUNNEL, .addr = spec->address };

	if (!tunnel)
		return 0;
	memcpy(r.dev, tunnel->device, strlen(tunnel->device));
	memcpy(r.tunnel_kind, tunnel->kind, strlen(tunnel->kind));
	int rc = resource_list_add(list, &r);
	// a client's address never routes back through the tunnel: strict reverse path filtering would drop all of it
	const struct resource loose = conf_of(tunnel->device, IPV4_DEVCONF_RP_FILTER, 2);

	if (!rc && service->vip.family == AF_INET)
		rc = resource_list_add(list, &loose);
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

	if (!inet_addr_is_set(&service->gateway))
		return 0;
	int rc = resource_list_add(list, &route);

	return rc ? rc : resource_list_add(list, &rule);
}

int desired_of_service(const struct spec *spec, const struct spec_service *service, const struct iflink *links,
	size_t link_count, struct resource_list *list)
{
	int rc = 0;

	if (service->method != FORWARD_NAT && service->vip.family == AF_INET)
		rc = add_no_arp(links, link_count, list);
	if (rc)
		return rc;
	switch ((enum forward_method)service->method) {
	case FORWARD_DR:
		return add_vip(service, "lo", list);
	case FORWARD_IPIP:
		return add_tunnel(spec, service, list);
	case FORWARD_NAT:
		return add_return_path(spec, service, list);
	case FORWARD_GUE: // not among the choices of an agent
	case FORWARD_GRE:
		break;
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
