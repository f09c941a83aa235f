// SPDX-License-Identifier: Apache-2.0
#include "agent/lockdown.h"

#include "shared/tunnel.h"
#include "shared/util.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define PROTOCOL_MPLS 137 // in IPv6: an ip6tnl of mode any takes it as well

// What each kind of device takes.
static const struct taking {
	const char *kind;
	int family;
	uint8_t protocols[4]; // ends with 0
} takings[] = {
	{ "ipip", AF_INET, { IPPROTO_IPIP } },
	{ "sit", AF_INET, { IPPROTO_IPV6 } },
	{ "gre", AF_INET, { IPPROTO_GRE } },
	{ "ip6tnl", AF_INET6, { IPPROTO_IPIP, IPPROTO_IPV6, PROTOCOL_MPLS } },
	{ "ip6gre", AF_INET6, { IPPROTO_GRE } },
};

static const struct taking *taking_of(const char *kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(takings); i++)
		if (strcmp(takings[i].kind, kind) == 0)
			return &takings[i];
	return NULL;
}

bool lockdown_refuses(const struct spec *spec)
{
	return spec->lockdown.wanted && spec->lockdown.must && (!spec->lockdown.possible || !spec->lockdown.count);
}

static bool is_on(const struct spec *spec)
{
	return spec->lockdown.wanted && spec->lockdown.possible && spec->lockdown.count;
}

// A device of somebody else's that is up and takes packets to the RIP by a protocol of this family.
static bool is_foreign(const struct spec *spec, const struct iflink *link)
{
	const struct taking *taking = taking_of(link->kind);

	return taking && taking->family == spec->address.family && link->flags & IFF_UP &&
		!spec_is_our_tunnel(link->name) &&
		(!inet_addr_is_set(&link->local) || inet_addr_cmp(&link->local, &spec->address) == 0);
}

// Its packets go there, and not to ours, only with an end here where the kernel looks for our end before theirs.
static bool has_own_way(const struct iflink *link)
{
	return inet_addr_is_set(&link->remote) && (strcmp(link->kind, "ip6tnl") != 0 || inet_addr_is_set(&link->local));
}

// A device that takes this protocol from anybody, NULL: there is none that counts.
static const struct iflink *open_to_all(
	const struct spec *spec, uint8_t protocol, const struct iflink *links, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (inet_addr_is_set(&links[i].remote) || !is_foreign(spec, &links[i]) ||
			!memchr(taking_of(links[i].kind)->protocols, protocol, 4))
			continue;
		// one with our very end is in the place of ours; one without any is less close than ours
		if (inet_addr_is_set(&links[i].local) || !spec->lockdown.must)
			return &links[i];
	}
	return NULL;
}

static int add_rule(struct resource_list *list, enum resource_kind kind, const struct inet_addr *addr, int32_t bits,
	uint8_t protocol, uint16_t port)
{
	const struct resource r = {
		.kind = kind, .addr = *addr, .value = bits, .ip_protocol = protocol, .sport = port
	};

	return resource_list_add(list, &r);
}

static int add_lock(
	const struct spec *spec, uint8_t protocol, const struct iflink *links, size_t count, struct resource_list *list)
{
	int rc = 0;

	if (open_to_all(spec, protocol, links, count))
		return 0;
	for (size_t i = 0; i < count && !rc; i++)
		if (is_foreign(spec, &links[i]) && has_own_way(&links[i]) &&
			memchr(taking_of(links[i].kind)->protocols, protocol, 4))
			rc = add_rule(list, RESOURCE_ALLOW, &links[i].remote,
				(int32_t)inet_addr_len(links[i].remote.family) * 8, protocol, 0);
	return rc ? rc : add_rule(list, RESOURCE_LOCK, &spec->address, 0, protocol, 0);
}

int lockdown_add(const struct spec *spec, const char *kind, uint16_t port, const struct iflink *links, size_t count,
	struct resource_list *list)
{
	const struct spec_lockdown *lockdown = &spec->lockdown;
	const struct taking *taking = taking_of(kind);
	const struct resource table = { .kind = RESOURCE_TABLE };
	int rc = 0;

	if (!is_on(spec) || !taking)
		return 0;
	rc = resource_list_add(list, &table);
	for (size_t i = 0; i < lockdown->count && !rc; i++)
		rc = add_rule(list, RESOURCE_ALLOW, &lockdown->allowed[i].addr, lockdown->allowed[i].len, 0, 0);
	for (const uint8_t *p = taking->protocols; *p && !rc; p++)
		rc = add_lock(spec, *p, links, count, list);
	if (!rc && taking->family == AF_INET6)
		rc = add_rule(list, RESOURCE_LOCK, &spec->address, 0, IPPROTO_FRAGMENT, 0);
	if (!rc && port)
		rc = add_rule(list, RESOURCE_LOCK, &spec->address, 0, IPPROTO_UDP, port);
	return rc;
}

void lockdown_text(const struct spec *spec, const struct iflink *links, size_t count, char *buf, size_t size)
{
	const struct spec_lockdown *lockdown = &spec->lockdown;

	if (!lockdown->wanted)
		snprintf(buf, size, "off");
	else if (!lockdown->possible)
		snprintf(buf, size, "%s: this kernel has no nftables", lockdown->must ? "lockdown" : "off");
	else if (!lockdown->count)
		snprintf(buf, size,
			"%s: no director's address is known; name those that may send: lockdown: [10.0.0.10]",
			lockdown->must ? "lockdown" : "off");
	else
		snprintf(buf, size, "on");
	for (size_t i = 0; is_on(spec) && i < count; i++) {
		const struct taking *taking = is_foreign(spec, &links[i]) ? taking_of(links[i].kind) : NULL;

		if (taking && open_to_all(spec, taking->protocols[0], &links[i], 1))
			snprintf(buf, size, "off for what device %s takes from anybody (%s)", links[i].name,
				links[i].kind);
	}
}
