// SPDX-License-Identifier: Apache-2.0
// What a service needs to be there: the RIP, modules, the tunnel, the VIP, and silence about the VIP.
#include "agent/doctor_checks.h"

#include "shared/out.h"
#include "shared/util.h"

#include <string.h>

#define ARP_LISTED_MAX 3 // devices that are named one by one

static bool is_there(const struct doctor *d, const struct resource *r, enum presence *ret, struct resource *ret_found)
{
	*ret = observe_resource(&d->seen, r, ret_found);
	return *ret == PRESENCE_THERE;
}

void doctor_check_address(struct doctor *d)
{
	const struct inet_addr *rip = &d->answers.address;
	const struct iflink *link = doctor_device_of(d, rip);
	char text[INET_ADDR_MAX];

	if (!inet_addr_is_set(rip)) {
		doctor_say(&d->report, DOCTOR_WRONG,
			"this host's address is not known: no director answers, and none was remembered; \"address\" "
			"in the file says it");
		return;
	}
	inet_addr_format(rip, text);
	if (!link) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s, to which the directors send, is on no device of this host",
			text);
	} else if (!(link->flags & IFF_UP)) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s is on %s, which is down", text, link->name);
		doctor_mend(&d->report, "ip link set %s up", link->name);
	} else if (!(link->flags & IFF_RUNNING)) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s is on %s, which has no carrier", text, link->name);
	} else {
		doctor_say(&d->report, DOCTOR_OK, "%s is on %s", text, link->name);
	}
}

// The device that the service wants, NULL: none but lo.
static const struct resource *device_of(const struct doctor *d, const struct doctor_case *c)
{
	for (size_t i = 0; i < d->want.count; i++)
		if (d->want.items[i].kind == RESOURCE_DEVICE && strcmp(d->want.items[i].dev, c->device) == 0)
			return &d->want.items[i];
	return NULL;
}

static const char *module_of(const char *kind)
{
	static const struct {
		const char *kind, *module;
	} modules[] = { { "ip6tnl", "ip6_tunnel" }, { "gre", "ip_gre" }, { "ip6gre", "ip6_gre" } };

	for (size_t i = 0; i < ARRAY_SIZE(modules); i++)
		if (strcmp(modules[i].kind, kind) == 0)
			return modules[i].module;
	return kind;
}

static void judge_module(struct doctor *d, const char *name)
{
	switch (doctor_module(name)) {
	case DOCTOR_MODULE_LOADED:
		doctor_say(&d->report, DOCTOR_OK, "%s is loaded", name);
		break;
	case DOCTOR_MODULE_MISSING:
		doctor_say(&d->report, DOCTOR_WRONG, "this kernel has no module %s", name);
		break;
	case DOCTOR_MODULE_THERE:
	case DOCTOR_MODULE_UNKNOWN:
		doctor_say(&d->report, DOCTOR_WARNING, "the module %s is not loaded", name);
		doctor_mend(&d->report, "modprobe %s", name);
		break;
	}
}

void doctor_check_module(struct doctor *d, const struct doctor_case *c)
{
	const struct resource *device = device_of(d, c);

	if (device && c->link && strcmp(c->link->kind, device->device_kind) == 0)
		doctor_say(&d->report, DOCTOR_OK, "%s is there: %s is of its kind", module_of(device->device_kind),
			c->link->name);
	else if (device)
		judge_module(d, module_of(device->device_kind));
	if (c->service->method == FORWARD_GUE)
		judge_module(d, "fou"); // fou6 only sends
}

// --- tunnel ---

// Everything that stands on the device goes with it: the command that makes it anew makes that, too.
static void mend_device(struct doctor *d, const struct resource *device, const char *first)
{
	_cleanup_out_ struct out out = { 0 };
	char command[RESOURCE_COMMAND_MAX];

	if (first)
		out_format(&out, "%s && ", first);
	out_text(&out, resource_command(device, true, command));
	for (size_t i = 0; i < d->want.count; i++) {
		const struct resource *r = &d->want.items[i];

		if (r->kind != RESOURCE_DEVICE && strcmp(r->dev, device->dev) == 0)
			out_format(&out, " && %s", resource_command(r, true, command));
	}
	doctor_mend(&d->report, "%s", out.text ? out.text : "");
}

static void describe_link(const struct iflink *link, char *buf, size_t size)
{
	char local[INET_ADDR_MAX], remote[INET_ADDR_MAX];

	snprintf(buf, size, "%s is %s, local %s, remote %s%s", link->name, *link->kind ? link->kind : "no tunnel",
		inet_addr_is_set(&link->local) ? inet_addr_format(&link->local, local) : "any",
		inet_addr_is_set(&link->remote) ? inet_addr_format(&link->remote, remote) : "any",
		link->checksum ? ", with checksums" : "");
}

// Another device whose ends fit a director's packets better than ours would get them (net/ipv4/ip_tunnel.c,
// ip_tunnel_lookup: both ends, then one, then none).
static const struct iflink *taker(const struct doctor *d, const struct doctor_case *c, const struct resource *device)
{
	for (size_t i = 0; i < d->seen.link_count; i++) {
		const struct iflink *link = &d->seen.links[i];

		if (strcmp(link->kind, device->device_kind) == 0 && strcmp(link->name, device->dev) != 0 &&
			link->flags & IFF_UP && inet_addr_is_set(&link->remote) &&
			inet_addr_cmp(&link->remote, &c->director) == 0 &&
			(!inet_addr_is_set(&link->local) || inet_addr_cmp(&link->local, &device->addr) == 0))
			return link;
	}
	return NULL;
}

static void judge_device(struct doctor *d, const struct doctor_case *c, const struct resource *device)
{
	const struct iflink *other = taker(d, c, device);
	struct resource found = { 0 };
	enum presence presence;
	char is[200], remove[64], wanted[RESOURCE_COMMAND_MAX];

	if (other) {
		describe_link(other, is, sizeof(is));
		doctor_say(&d->report, DOCTOR_WRONG, "%s: it takes the director's packets before %s does", is,
			device->dev);
		doctor_mend(&d->report, "ip link del %s", other->name);
	}
	if (is_there(d, device, &presence, &found)) {
		describe_link(c->link, is, sizeof(is));
		doctor_say(&d->report, DOCTOR_OK, "%s", is);
	} else if (presence == PRESENCE_MISSING) {
		doctor_say(&d->report, DOCTOR_WRONG, "there is no device %s", device->dev);
		mend_device(d, device, NULL);
	} else if (presence == PRESENCE_DOWN) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s is down", device->dev);
		doctor_mend(&d->report, "ip link set %s up", device->dev);
	} else { // this name is something else, or this tunnel has another name
		describe_link(iflink_find(d->seen.links, d->seen.link_count, found.dev), is, sizeof(is));
		doctor_say(&d->report, DOCTOR_WRONG, "%s; needed is: %s", is, resource_command(device, true, wanted));
		snprintf(remove, sizeof(remove), "ip link del %s", found.dev);
		mend_device(d, device, remove);
	}
}

static void judge_port(struct doctor *d, const struct resource *port)
{
	struct resource found = { 0 };
	enum presence presence;
	char command[RESOURCE_COMMAND_MAX];

	if (is_there(d, port, &presence, &found)) {
		doctor_say(&d->report, DOCTOR_OK, "UDP port %u takes packets out of GUE", port->sport);
	} else if (presence == PRESENCE_OTHER) {
		doctor_say(&d->report, DOCTOR_WRONG,
			"UDP port %u has another encapsulation or another address (ip fou show)", port->sport);
		doctor_mend(&d->report, "ip fou del port %u%s && %s", port->sport,
			port->addr.family == AF_INET6 ? " -6" : "", resource_command(port, true, command));
	} else {
		doctor_say(&d->report, DOCTOR_WRONG, "nothing takes packets out of GUE on UDP port %u", port->sport);
		doctor_mend(&d->report, "%s", resource_command(port, true, command));
	}
}

void doctor_check_tunnel(struct doctor *d, const struct doctor_case *c)
{
	const struct resource *device = device_of(d, c);

	if (c->is_tunnel && !*c->device) {
		doctor_say(&d->report, DOCTOR_WRONG, "no tunnel has this host's address outside and the VIP inside");
		return;
	}
	if (device)
		judge_device(d, c, device);
	for (size_t i = 0; i < d->want.count; i++)
		if (d->want.items[i].kind == RESOURCE_FOU && c->service->method == FORWARD_GUE &&
			d->want.items[i].sport == c->service->tunnel.port)
			judge_port(d, &d->want.items[i]);
}

// --- VIP ---

static void judge_entry(struct doctor *d, const struct doctor_case *c, const struct ifaddress *entry)
{
	const unsigned int bits = inet_addr_len(c->service->vip.family) * 8;
	const struct iflink *link = doctor_link(d, entry->ifindex);
	const char *name = link ? link->name : "?";
	char text[INET_PREFIX_MAX], vip[INET_ADDR_MAX];

	inet_prefix_format(&entry->prefix, text);
	inet_addr_format(&c->service->vip, vip);
	if (strcmp(name, c->device) != 0) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s is on %s%s", text, name,
			link && iflink_does_arp(link) ? ", where this host answers for it" : "");
		doctor_mend(&d->report, "ip addr del %s dev %s", text, name);
	} else if (entry->prefix.len != bits) {
		doctor_say(&d->report, DOCTOR_WRONG,
			"%s on %s is more than one address: all of it belongs to this host", text, name);
		doctor_mend(
			&d->report, "ip addr del %s dev %s && ip addr add %s/%u dev %s", text, name, vip, bits, name);
	} else if (entry->flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s on %s is not usable: duplicate detection %s", text, name,
			entry->flags & IFA_F_DADFAILED ? "found another host with it" : "is under way");
		doctor_mend(&d->report, "ip addr del %s dev %s && ip addr add %s dev %s nodad preferred_lft 0", text,
			name, text, name);
	} else if (c->service->vip.family == AF_INET6 && !(entry->flags & IFA_F_DEPRECATED)) {
		doctor_say(&d->report, DOCTOR_WARNING, "%s on %s may become the source of this host's own connections",
			text, name);
		doctor_mend(&d->report, "ip addr change %s dev %s preferred_lft 0", text, name);
	} else if (link && !(link->flags & IFF_UP)) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s is on %s, which is down", text, name);
		doctor_mend(&d->report, "ip link set %s up", name);
	} else {
		doctor_say(&d->report, DOCTOR_OK, "%s is on %s", text, name);
	}
}

void doctor_check_vip(struct doctor *d, const struct doctor_case *c)
{
	char vip[INET_ADDR_MAX], command[RESOURCE_COMMAND_MAX];
	struct resource want = { .kind = RESOURCE_VIP, .addr = c->service->vip };

	if (!*c->device)
		return;
	for (size_t i = 0; i < d->seen.addr_count; i++)
		if (inet_addr_cmp(&d->seen.addrs[i].prefix.addr, &c->service->vip) == 0)
			judge_entry(d, c, &d->seen.addrs[i]);
	if (c->has_vip)
		return;
	snprintf(want.dev, sizeof(want.dev), "%s", c->device);
	doctor_say(&d->report, DOCTOR_WRONG, "%s is not on %s", inet_addr_format(&c->service->vip, vip), c->device);
	doctor_mend(&d->report, "%s", resource_command(&want, true, command));
}

// --- ARP ---

struct setting {
	int conf;
	int32_t want;
	const char *harm;
};

static bool is_quiet(const struct doctor *d, const struct iflink *link, const struct setting *s)
{
	struct resource want = { .kind = RESOURCE_CONF, .conf = s->conf, .value = s->want }, found;
	enum presence presence;

	memcpy(want.dev, link->name, sizeof(want.dev));
	return is_there(d, &want, &presence, &found);
}

// A device that is down, or not ours to mind, does no harm yet.
static enum doctor_status weight_of(const struct doctor *d, const struct iflink *link)
{
	const struct spec_devices *named = &d->config->devices;
	bool ours = !named->count;

	for (size_t i = 0; i < named->count; i++)
		ours |= strcmp(named->names[i], link->name) == 0;
	return ours && link->flags & IFF_UP ? DOCTOR_WRONG : DOCTOR_WARNING;
}

static void say_device(
	struct doctor *d, const struct doctor_case *c, const struct iflink *link, const struct setting *s)
{
	const char *name = resource_conf_name(s->conf);
	const int32_t all = d->seen.all[s->conf], own = link->conf[s->conf];
	char vip[INET_ADDR_MAX];

	doctor_say(&d->report, weight_of(d, link), "%s%s %s %s: %s is %d (all %d, its own %d)", link->name,
		link->flags & IFF_UP ? "" : " (down)", s->harm, inet_addr_format(&c->service->vip, vip), name,
		observe_effective(&d->seen, link, s->conf), all, own);
	// the larger of both counts
	if (all > s->want)
		doctor_mend(&d->report, "sysctl -w net/ipv4/conf/all/%s=%d net/ipv4/conf/%s/%s=%d", name, s->want,
			link->name, name, s->want);
	else
		doctor_mend(&d->report, "sysctl -w net/ipv4/conf/%s/%s=%d", link->name, name, s->want);
}

void doctor_check_arp(struct doctor *d, const struct doctor_case *c)
{
	static const struct setting settings[] = {
		{ IPV4_DEVCONF_ARP_IGNORE, 1, "answers ARP for" },
		{ IPV4_DEVCONF_ARP_ANNOUNCE, 2, "may tell its neighbours that this host has" },
	};
	size_t quiet = 0;
	char vip[INET_ADDR_MAX];

	if (c->service->vip.family != AF_INET || c->service->method == FORWARD_NAT)
		return;
	inet_addr_format(&c->service->vip, vip);
	for (size_t s = 0; s < ARRAY_SIZE(settings); s++) {
		size_t loud = 0;

		for (size_t i = 0; i < d->seen.link_count; i++) {
			const struct iflink *link = &d->seen.links[i];

			if (!iflink_does_arp(link))
				continue;
			if (is_quiet(d, link, &settings[s]))
				quiet++;
			else if (loud++ < ARP_LISTED_MAX)
				say_device(d, c, link, &settings[s]);
		}
		if (loud > ARP_LISTED_MAX) {
			const char *name = resource_conf_name(settings[s].conf);

			doctor_say(&d->report, DOCTOR_WRONG, "%zu devices more %s %s: their %s is not %d",
				loud - ARP_LISTED_MAX, "do the same for", vip, name, settings[s].want);
			doctor_mend(&d->report, "sysctl -w net/ipv4/conf/all/%s=%d", name, settings[s].want);
		}
	}
	if (quiet)
		doctor_say(&d->report, DOCTOR_OK, "%zu settings keep %s out of ARP", quiet, vip);
}
