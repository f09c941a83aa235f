// SPDX-License-Identifier: Apache-2.0
#include "agent/observe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// arp_ignore: 1 and 2 answer only for addresses of the receiving device, 8 for none; 3 still answers for global ones
static bool arp_ignore_is_quiet(int32_t value)
{
	return value == 1 || value == 2 || value == 8;
}

static bool conf_is_right(int conf, int32_t effective, int32_t want)
{
	switch (conf) {
	case IPV4_DEVCONF_ARP_IGNORE:
		return arp_ignore_is_quiet(effective);
	case IPV4_DEVCONF_RP_FILTER:
		return effective != 1; // 0 is off and 2 is loose: both let tunnelled packets in
	default:
		return effective == want;
	}
}

static int read_all(const char *name, int32_t *ret)
{
	char path[80], text[16];
	_cleanup_close_ int fd = -1;

	snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/all/%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return fd < 0 || n < 0 ? -errno : -EIO;
	text[n] = '\0';
	*ret = atoi(text);
	return 0;
}

int observe(struct netsock *ns, const struct observe_more *more, struct observed *ret, struct err *err)
{
	static const int used[] = { IPV4_DEVCONF_ARP_IGNORE, IPV4_DEVCONF_ARP_ANNOUNCE, IPV4_DEVCONF_RP_FILTER };
	struct observed o = { 0 };
	int rc = iflink_dump(ns, &o.links, &o.link_count, err);

	if (!rc)
		rc = ifaddr_dump(ns, &o.addrs, &o.addr_count, err);
	if (!rc && more->rules)
		rc = route_dump_rules(ns, &o.rules, &o.rule_count, err);
	if (!rc && more->table)
		rc = route_dump_defaults(ns, more->table, &o.routes, &o.route_count, err);
	if (!rc && more->fous)
		rc = fou_dump(&o.fous, &o.fou_count, err);
	if (!rc && more->nft)
		rc = nft_read(more->nft, &o.nft, err);
	for (size_t i = 0; i < ARRAY_SIZE(used) && !rc; i++) {
		const char *name = resource_conf_name(used[i]);

		rc = read_all(name, &o.all[used[i]]);
		if (rc)
			err_set(err, rc, NULL, "cannot read net/ipv4/conf/all/%s: %s", name, strerror(-rc));
	}
	if (rc) {
		observed_clear(&o);
		return rc;
	}
	*ret = o;
	return 0;
}

void observed_clear(struct observed *o)
{
	free(o->links);
	free(o->addrs);
	free(o->rules);
	free(o->routes);
	free(o->fous);
	nft_table_clear(&o->nft);
	for (size_t i = 0; i < ARRAY_SIZE(o->mirrors); i++)
		route_mirror_clear(&o->mirrors[i]);
	*o = (struct observed) { 0 };
}

static struct route_mirror *mirror_of(struct observed *o, int family)
{
	return &o->mirrors[family == AF_INET6];
}

int observe_mirror(struct netsock *ns, const struct resource *mirror, struct observed *o, struct err *err)
{
	struct route_mirror *m = mirror_of(o, mirror->addr.family);

	route_mirror_clear(m);
	return route_mirror_read(ns, mirror->addr.family, mirror->table, (uint32_t)mirror->value, m, err);
}

int32_t observe_effective(const struct observed *o, const struct iflink *link, int conf)
{
	return o->all[conf] > link->conf[conf] ? o->all[conf] : link->conf[conf];
}

static const char *device_name(const struct observed *o, int ifindex)
{
	for (size_t i = 0; i < o->link_count; i++)
		if (o->links[i].index == ifindex)
			return o->links[i].name;
	return "?";
}

// First address entry of this address in the sorted list, NULL when there is none.
static const struct ifaddress *first_entry(const struct observed *o, const struct inet_addr *addr)
{
	size_t low = 0, high = o->addr_count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (inet_addr_cmp(&o->addrs[mid].prefix.addr, addr) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low < o->addr_count && inet_addr_cmp(&o->addrs[low].prefix.addr, addr) == 0 ? &o->addrs[low] : NULL;
}

static bool is_entry_of(const struct observed *o, const struct ifaddress *entry, const struct inet_addr *addr)
{
	return entry && entry < o->addrs + o->addr_count && inet_addr_cmp(&entry->prefix.addr, addr) == 0;
}

const char *observe_misplaced(const struct observed *o, const struct inet_addr *addr, const char *ours)
{
	for (const struct ifaddress *e = first_entry(o, addr); is_entry_of(o, e, addr); e++) {
		const char *name = device_name(o, e->ifindex);

		if (strcmp(name, ours) != 0)
			return name;
	}
	return NULL;
}

uint32_t observe_mtu(const struct observed *o, const struct inet_addr *addr)
{
	const struct ifaddress *entry = first_entry(o, addr);

	for (size_t i = 0; entry && i < o->link_count; i++)
		if (o->links[i].index == entry->ifindex)
			return o->links[i].mtu;
	return 0;
}

static enum presence find_table(const struct observed *o)
{
	if (o->nft.is_other)
		return PRESENCE_OTHER;
	return o->nft.is_there ? PRESENCE_THERE : PRESENCE_MISSING;
}

static enum presence find_nft_rule(const struct observed *o, const struct resource *want)
{
	const struct nft_rule rule = resource_nft_rule(want);

	return nft_has(&o->nft, &rule, NULL) ? PRESENCE_THERE : PRESENCE_MISSING;
}

// A port of that number takes packets already, whoever made it; another end, or bare foo-over-udp, will not do.
static enum presence find_fou(const struct observed *o, const struct resource *want, struct resource *ret_found)
{
	for (size_t i = 0; i < o->fou_count; i++) {
		const struct fou_port *port = &o->fous[i];

		if (port->port != want->sport || port->local.family != want->addr.family)
			continue;
		if (port->is_gue && inet_addr_cmp(&port->local, &want->addr) == 0)
			return PRESENCE_THERE;
		*ret_found = (struct resource) { .kind = RESOURCE_FOU, .addr = port->local, .sport = port->port };
		return PRESENCE_OTHER;
	}
	return PRESENCE_MISSING;
}

// Has it all but the name?
static bool is_device(const struct iflink *link, const struct resource *want)
{
	return strcmp(link->kind, want->device_kind) == 0 && inet_addr_cmp(&link->local, &want->addr) == 0 &&
		!inet_addr_is_set(&link->remote) && link->checksum == want->value;
}

static enum presence find_device(const struct observed *o, const struct resource *want, struct resource *ret_found)
{
	const struct iflink *link = iflink_find(o->links, o->link_count, want->dev);

	if (link && is_device(link, want))
		return link->flags & IFF_UP ? PRESENCE_THERE : PRESENCE_DOWN;
	// the kernel refuses the same tunnel under another name (net/ipv4/ip_tunnel.c, ip_tunnel_newlink)
	for (size_t i = 0; !link && inet_addr_is_set(&want->addr) && i < o->link_count; i++)
		if (is_device(&o->links[i], want))
			link = &o->links[i];
	if (!link)
		return PRESENCE_MISSING;
	*ret_found = (struct resource) { .kind = RESOURCE_DEVICE, .addr = link->local };
	memcpy(ret_found->dev, link->name, sizeof(ret_found->dev));
	memcpy(ret_found->device_kind, link->kind, sizeof(ret_found->device_kind));
	return PRESENCE_OTHER;
}

static enum presence find_conf(const struct observed *o, const struct resource *want, struct resource *ret_found)
{
	const struct iflink *link = iflink_find(o->links, o->link_count, want->dev);

	if (!link || !link->has_conf)
		return PRESENCE_MISSING;
	if (conf_is_right(want->conf, observe_effective(o, link, want->conf), want->value))
		return PRESENCE_THERE;
	*ret_found = *want;
	ret_found->value = link->conf[want->conf];
	return PRESENCE_OTHER;
}

static enum presence find_vip(const struct observed *o, const struct resource *want)
{
	for (const struct ifaddress *e = first_entry(o, &want->addr); is_entry_of(o, e, &want->addr); e++)
		if (strcmp(device_name(o, e->ifindex), want->dev) == 0)
			return PRESENCE_THERE;
	return PRESENCE_MISSING;
}

static enum presence find_route(const struct observed *o, const struct resource *want, struct resource *ret_found)
{
	for (size_t i = 0; i < o->route_count; i++) {
		const struct route_default *route = &o->routes[i];

		if (route->table != want->table || route->gateway.family != want->addr.family)
			continue;
		if (inet_addr_cmp(&route->gateway, &want->addr) == 0)
			return PRESENCE_THERE;
		*ret_found = *want;
		ret_found->addr = route->gateway;
		return PRESENCE_OTHER;
	}
	return PRESENCE_MISSING;
}

static enum presence find_rule(const struct observed *o, const struct resource *want)
{
	const struct route_rule rule = resource_rule(want);

	for (size_t i = 0; i < o->rule_count; i++)
		if (route_rule_same(&o->rules[i], &rule))
			return PRESENCE_THERE;
	return PRESENCE_MISSING;
}

static enum presence find_mirror(const struct observed *o, const struct resource *want)
{
	const struct route_mirror *m = &o->mirrors[want->addr.family == AF_INET6];

	return m->family && !m->missing_count && !m->extra_count ? PRESENCE_THERE : PRESENCE_MISSING;
}

enum presence observe_resource(const struct observed *o, const struct resource *want, struct resource *ret_found)
{
	switch (want->kind) {
	case RESOURCE_TABLE:
		return find_table(o);
	case RESOURCE_ALLOW:
	case RESOURCE_LOCK:
		return find_nft_rule(o, want);
	case RESOURCE_FOU:
		return find_fou(o, want, ret_found);
	case RESOURCE_MIRROR:
		return find_mirror(o, want);
	case RESOURCE_DEVICE:
		return find_device(o, want, ret_found);
	case RESOURCE_CONF:
		return find_conf(o, want, ret_found);
	case RESOURCE_VIP:
		return find_vip(o, want);
	case RESOURCE_ROUTE:
		return find_route(o, want, ret_found);
	case RESOURCE_RULE:
		return find_rule(o, want);
	}
	return PRESENCE_MISSING;
}
