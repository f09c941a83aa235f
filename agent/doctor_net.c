// SPDX-License-Identifier: Apache-2.0
// Which way packets come in and go out, as the kernel itself answers, and how large they may be.
#include "agent/doctor_checks.h"

#include "shared/out.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>

// The kernel resolves by ports for these only (net/ipv4/ipmr_base.c, rtm_getroute_parse_ip_proto).
static uint8_t protocol_of(const struct doctor_case *c)
{
	return c->service->protocol == IPPROTO_TCP || c->service->protocol == IPPROTO_UDP
		? (uint8_t)c->service->protocol
		: 0;
}

// --- in ---

// Packets of IPv4 from one address to another that come in by a device: does the kernel take them?
static void judge_way_in(
	struct doctor *d, const char *what, const struct route_packet *packet, const struct iflink *link)
{
	const int32_t all = d->seen.all[IPV4_DEVCONF_RP_FILTER], own = link->conf[IPV4_DEVCONF_RP_FILTER];
	char from[INET_ADDR_MAX], to[INET_ADDR_MAX];
	struct route_way way;
	struct err err = { 0 };
	int rc = route_lookup_packet(d->sock, packet, &way, &err);

	inet_addr_format(&packet->from, from);
	inet_addr_format(&packet->to, to);
	if (rc == -EXDEV) {
		doctor_say(&d->report, DOCTOR_WRONG,
			"%s from %s that come in by %s are dropped: rp_filter is %d (all %d, its own %d), and replies "
			"do not leave by %s",
			what, from, link->name, all > own ? all : own, all, own, link->name);
		// the larger of both counts: 2 on the device is enough
		if (all < 2 && own < 2)
			doctor_mend(&d->report, "sysctl -w net/ipv4/conf/%s/rp_filter=2", link->name);
	} else if (rc) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s from %s that come in by %s are dropped: %s", what, from,
			link->name,
			rc == -EINVAL ? "the source is one that cannot come from outside (martian)" : err.text);
	} else if (way.type != RTN_LOCAL) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s to %s that come in by %s are not for this host", what, to,
			link->name);
	} else {
		doctor_say(&d->report, DOCTOR_OK, "%s from %s come in by %s", what, from, link->name);
	}
}

void doctor_check_way_in(struct doctor *d, const struct doctor_case *c)
{
	const struct inet_addr *rip = &d->answers.address, *director = &c->director;
	const struct iflink *link = c->is_tunnel ? c->link : c->underlay;
	const bool is_nat = c->service->method == FORWARD_NAT;

	// the director's tunnel packets, and then what is in them
	if (c->is_tunnel && c->underlay && rip->family == AF_INET && director->family == AF_INET &&
		!inet_addr_is_loopback(director))
		judge_way_in(d, "tunnel packets",
			&(const struct route_packet) { .to = *rip, .from = *director, .came_by = c->underlay->index },
			c->underlay);
	if (c->service->vip.family != AF_INET)
		return;
	if (!link || (!is_nat && !c->has_vip)) {
		doctor_say(&d->report, DOCTOR_UNSEEN, "while there is no %s",
			link ? "VIP" : "device that packets come in by");
		return;
	}
	const struct route_packet packet = {
		.to = is_nat ? *rip : c->service->vip,
		.from = c->client_at,
		.came_by = link->index,
		.ip_protocol = protocol_of(c),
		.dport = protocol_of(c) ? c->service->port : 0,
	};
	judge_way_in(d, "clients' packets", &packet, link);
}

// --- out ---

static struct route_packet reply_of(const struct doctor *d, const struct doctor_case *c)
{
	return (struct route_packet) {
		.to = c->client_at,
		.from = c->service->method == FORWARD_NAT ? d->answers.address : c->service->vip,
		.ip_protocol = protocol_of(c),
		.sport = protocol_of(c) ? c->service->port : 0,
	};
}

static bool is_director(const struct doctor *d, const struct inet_addr *addr)
{
	for (size_t i = 0; i < d->answers.count; i++)
		if (inet_addr_is_set(addr) && inet_addr_cmp(&d->answers.clients[i].peer, addr) == 0)
			return true;
	return false;
}

// What the agent would have made for the way back and is not there.
static void mend_return_path(struct doctor *d, const struct doctor_case *c)
{
	_cleanup_out_ struct out out = { 0 };
	char command[RESOURCE_COMMAND_MAX];
	struct resource found;

	for (size_t i = 0; i < d->want.count; i++) {
		const struct resource *r = &d->want.items[i];
		const bool is_route = r->kind == RESOURCE_ROUTE && inet_addr_cmp(&r->addr, &c->service->gateway) == 0;
		const bool is_rule = r->kind == RESOURCE_RULE && r->sport == c->service->port &&
			r->ip_protocol == c->service->protocol && r->addr.family == c->service->gateway.family;

		if ((!is_route && !is_rule) || observe_resource(&d->seen, r, &found) == PRESENCE_THERE)
			continue;
		out_format(&out, "%s%s", out.len ? " && " : "", resource_command(r, true, command));
	}
	if (out.text)
		doctor_mend(&d->report, "%s", out.text);
}

static void judge_way_out(struct doctor *d, const struct doctor_case *c, const struct route_way *way)
{
	const struct iflink *link = doctor_link(d, way->ifindex);
	const struct route_packet packet = reply_of(d, c);
	const bool is_nat = c->service->method == FORWARD_NAT;
	char to[INET_ADDR_MAX], via[INET_ADDR_MAX] = "", from[INET_ADDR_MAX], words[200];

	if (inet_addr_is_set(&way->gateway))
		inet_addr_format(&way->gateway, via);
	snprintf(words, sizeof(words), "replies from %s to %s leave by %s%s%s", inet_addr_format(&packet.from, from),
		inet_addr_format(&packet.to, to), link ? link->name : "?", *via ? " via " : "", via);
	if (is_nat && inet_addr_cmp(&way->gateway, &c->service->gateway) != 0) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s, not through the director, %s: the client will not know them",
			words, inet_addr_format(&c->service->gateway, to));
		mend_return_path(d, c);
	} else if (!is_nat && is_director(d, &way->gateway)) {
		doctor_say(&d->report, DOCTOR_WRONG,
			"%s, which is a director: it has %s itself and drops what comes from it; another router is "
			"needed",
			words, from);
	} else if (way->type != RTN_UNICAST || (link && (link->flags & IFF_LOOPBACK || link == c->link))) {
		doctor_say(&d->report, DOCTOR_WRONG, "%s, which leads to no client", words);
	} else {
		doctor_say(&d->report, DOCTOR_OK, "%s", words);
	}
}

void doctor_check_way_out(struct doctor *d, const struct doctor_case *c)
{
	const struct route_packet packet = reply_of(d, c);
	char to[INET_ADDR_MAX];
	struct route_way way;
	struct err err = { 0 };

	if (c->service->method == FORWARD_NAT && !inet_addr_is_set(&c->service->gateway)) {
		doctor_say(&d->report, DOCTOR_WRONG,
			"no gateway for the replies: name the director's address as \"gateway\" in the file");
		return;
	}
	if (*c->device && !c->has_vip) {
		doctor_say(&d->report, DOCTOR_UNSEEN, "while there is no VIP");
		return;
	}
	int rc = route_lookup_packet(d->sock, &packet, &way, &err);
	if (!rc) {
		judge_way_out(d, c, &way);
		return;
	}
	inet_addr_format(&packet.to, to);
	doctor_say(&d->report, d->client_given ? DOCTOR_WRONG : DOCTOR_WARNING, "no way for replies to %s%s: %s", to,
		d->client_given ? "" : " (a client anywhere; --client ADDRESS for one of yours)", err.text);
}

// --- size ---

// What the agent would advertise. 0: no tunnel limits it.
static uint32_t mss_that_fits(const struct doctor *d, const struct doctor_case *c)
{
	for (size_t i = 0; c->is_tunnel && i < d->want.count; i++)
		if (d->want.items[i].kind == RESOURCE_MIRROR && d->want.items[i].addr.family == c->service->vip.family)
			return (uint32_t)d->want.items[i].value;
	return 0;
}

static void mend_mss(struct doctor *d, const struct doctor_case *c)
{
	char mirror[RESOURCE_COMMAND_MAX] = "", rule[RESOURCE_COMMAND_MAX] = "";

	for (size_t i = 0; i < d->want.count; i++) {
		const struct resource *r = &d->want.items[i];
		struct resource found;

		if (r->kind == RESOURCE_MIRROR && r->addr.family == c->service->vip.family)
			resource_command(r, true, mirror);
		else if (r->kind == RESOURCE_RULE && inet_addr_cmp(&r->addr, &c->service->vip) == 0 &&
			observe_resource(&d->seen, r, &found) != PRESENCE_THERE)
			resource_command(r, true, rule);
	}
	doctor_mend(&d->report, "%s%s%s", mirror, *rule ? "; " : "", rule);
}

void doctor_check_mss(struct doctor *d, const struct doctor_case *c)
{
	const uint32_t headers = c->service->vip.family == AF_INET6 ? 60 : 40; // IP and TCP, without options
	const uint32_t fits = mss_that_fits(d, c);
	const struct route_packet packet = reply_of(d, c);
	const uint32_t path = c->backend ? c->backend->max_packet : 0;
	struct route_way way;

	// nat: the director has the routes of both directions
	if (c->service->protocol != IPPROTO_TCP || c->service->method == FORWARD_NAT || !c->has_vip ||
		route_lookup_packet(d->sock, &packet, &way, NULL))
		return;
	const struct iflink *link = doctor_link(d, way.ifindex);

	if (link && link->flags & IFF_LOOPBACK) // no way to a client, which is told elsewhere
		return;
	const uint32_t mtu = way.mtu ? way.mtu : link ? link->mtu : 0;
	const uint32_t from_mtu = mtu > headers ? mtu - headers : 0;
	const uint32_t told = way.advmss && way.advmss < from_mtu ? way.advmss : from_mtu;

	if (fits && told > fits) {
		doctor_say(&d->report, DOCTOR_WARNING,
			"replies ask clients for segments of %u bytes, and %u fit into the tunnel: large uploads hang "
			"where ICMP is lost",
			told, fits);
		mend_mss(d, c);
	} else if (path > headers && told > path - headers) {
		doctor_say(&d->report, DOCTOR_WARNING,
			"replies ask clients for segments of %u bytes, and the director's way here carries packets of "
			"%u: large uploads hang where ICMP is lost",
			told, path);
		if (c->underlay)
			doctor_mend(&d->report, "ip link set %s mtu %u", c->underlay->name,
				path + (c->is_tunnel ? d->services.spec.mtu - fits - headers : 0));
	} else {
		doctor_say(&d->report, DOCTOR_OK, "replies ask clients for segments of %u bytes", told);
	}
}

// --- checksums ---

// 1 on, 0 off, or -errno. What "ethtool -k" calls rx-checksumming (net/ethtool/ioctl.c).
static int rx_checksumming(const char *device)
{
	struct ethtool_value value = { .cmd = ETHTOOL_GRXCSUM };
	struct ifreq request = { .ifr_data = (void *)&value };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
	int rc = fd < 0 || ioctl(fd, SIOCETHTOOL, &request) ? -errno : value.data != 0;
	if (fd >= 0)
		close(fd);
	return rc;
}

// Segments that come out of a tunnel with a wrong checksum: a NIC made them, here or at the director.
void doctor_check_offload(struct doctor *d)
{
	const struct iflink *underlay = doctor_device_of(d, &d->answers.address);
	const struct doctor_counters now = doctor_counters();
	const uint64_t sum = now.tcp_checksum + now.udp_checksum;
	const uint64_t grown = sum - d->begin.tcp_checksum - d->begin.udp_checksum;
	bool tunnels = false;
	char rip[INET_ADDR_MAX];

	for (size_t i = 0; i < d->services.spec.count; i++)
		tunnels |= forward_is_tunnel(d->services.spec.services[i].method);
	if (!tunnels || !underlay)
		return;
	const int on = rx_checksumming(underlay->name);
	if (on < 0) {
		doctor_say(&d->report, DOCTOR_UNSEEN, "the offloads of %s: %s", underlay->name, strerror(-on));
	} else if (sum && on) {
		doctor_say(&d->report, DOCTOR_WARNING,
			"%llu packets were thrown away for a wrong checksum since the start, and %s leaves checksums "
			"to the hardware (rx-checksumming), which some NICs do wrongly in tunnels",
			(unsigned long long)sum, underlay->name);
		doctor_mend(&d->report, "ethtool -K %s rx off", underlay->name);
	} else if (grown) {
		doctor_say(&d->report, DOCTOR_WARNING,
			"%llu packets with a wrong checksum came while the doctor looked: the director's NIC may make "
			"them",
			(unsigned long long)grown);
		doctor_mend_at(&d->report, "the director",
			"ethtool -K $(ip -o route get %s | sed 's/.* dev \\([^ ]*\\).*/\\1/') tx off",
			inet_addr_format(&d->answers.address, rip));
	} else {
		doctor_say(&d->report, DOCTOR_OK,
			"%llu packets with a wrong checksum since the start; rx-checksumming of %s is %s",
			(unsigned long long)sum, underlay->name, on ? "on" : "off");
	}
}
