// SPDX-License-Identifier: Apache-2.0
// Packets as they would come and go, put through the rules of the packet filter.
#include "agent/doctor_checks.h"
#include "agent/nft.h"

#include "shared/util.h"

#include <string.h>

// What is not read here is not said to be fine below.
void doctor_check_filter_seen(struct doctor *d)
{
	if (*d->filter_unseen)
		doctor_say(&d->report, DOCTOR_UNSEEN, "rules: %s", d->filter_unseen);
	else
		doctor_say(&d->report, DOCTOR_OK, "%zu chains of nftables and iptables were read", d->filter.count);
}

// One packet on its way through some hooks.
struct passing {
	struct doctor *d;
	struct filter_packet packet;
	const char *what, *why;            // for the evidence
	const struct filter_packet *plain; // drops that this one meets as well are told elsewhere; NULL: none
	bool of_tunnel;                    // the outer packet, which a lockdown may keep out
	size_t said;
	enum doctor_status status; // of a packet that is dropped for certain
	bool tracked;              // nobody said notrack
	bool wanted_dnat;
};

static const struct inet_addr anywhere;

static bool is_our_lockdown(const struct filter_chain *base)
{
	return base->tool == FILTER_NFT && strcmp(base->table, NFT_OUR_TABLE) == 0 &&
		strcmp(base->family_name, "inet") == 0;
}

// The command that mends is for every client. A director that the agent's own table keeps out gets the rule that the
// agent would make for it: the agent knows it again.
static const char *command_of(
	const struct passing *p, const struct filter_outcome *outcome, char buf[RESOURCE_COMMAND_MAX])
{
	const struct inet_addr *clients = p->d->clients, *from = &p->packet.from;
	struct filter_packet packet = p->packet;

	if (p->of_tunnel && inet_addr_is_set(from) && is_our_lockdown(outcome->base)) {
		const struct resource allow = {
			.kind = RESOURCE_ALLOW, .addr = *from, .value = (int32_t)inet_addr_len(from->family) * 8
		};

		return resource_command(&allow, true, buf);
	}
	for (size_t i = 0; i < 2; i++) {
		if (inet_addr_cmp(&packet.from, &clients[i]) == 0)
			packet.from = anywhere;
		if (inet_addr_cmp(&packet.to, &clients[i]) == 0)
			packet.to = anywhere;
	}
	return filter_pass_command(outcome->base, &packet, buf);
}

struct comparing {
	const struct filter_outcome *with;
	bool same;
};

static void on_compare(void *ctx, const struct filter_outcome *outcome)
{
	struct comparing *c = ctx;

	c->same |= outcome->base == c->with->base && outcome->rule == c->with->rule;
}

static void on_drop(void *ctx, const struct filter_outcome *outcome)
{
	struct passing *p = ctx;
	struct comparing comparing = { outcome, false };
	char rule[FILTER_COMMAND_MAX], command[RESOURCE_COMMAND_MAX];

	if (p->plain)
		filter_run(&p->d->filter, outcome->base->hook, p->plain, on_compare, &comparing);
	if (outcome->verdict != FILTER_DROP || comparing.same)
		return;
	// what the agent's rules ask of GRE is true of a director's packets
	const bool perhaps = outcome->perhaps && !(p->of_tunnel && is_our_lockdown(outcome->base));

	p->said++;
	doctor_say(&p->d->report, perhaps ? DOCTOR_WARNING : p->status, "%s %s dropped by %s%s%s", p->what,
		perhaps ? "are perhaps" : "are", filter_describe(outcome, rule), p->why ? ": " : "",
		p->why ? p->why : "");
	doctor_mend(&p->d->report, "%s", command_of(p, outcome, command));
}

static void on_notrack(void *ctx, const struct filter_outcome *outcome)
{
	struct passing *p = ctx;

	p->tracked &= outcome->verdict != FILTER_NOTRACK || outcome->perhaps;
}

static void pass(struct passing *p, const enum filter_hook *hooks, size_t count, filter_outcome_fn each)
{
	for (size_t i = 0; i < count; i++)
		filter_run(&p->d->filter, hooks[i], &p->packet, each, p);
}

static const enum filter_hook in[] = { FILTER_INGRESS, FILTER_PREROUTING, FILTER_INPUT };
static const enum filter_hook out[] = { FILTER_OUTPUT, FILTER_POSTROUTING };

static const char *name_of(const struct iflink *link)
{
	return link ? link->name : NULL;
}

static int outer_protocol(const struct doctor_case *c)
{
	const bool six = c->service->vip.family == AF_INET6;

	switch ((enum forward_method)c->service->method) {
	case FORWARD_IPIP:
		return six ? IPPROTO_IPV6 : IPPROTO_IPIP;
	case FORWARD_GUE:
		return IPPROTO_UDP;
	case FORWARD_GRE:
		return IPPROTO_GRE;
	case FORWARD_DR:
	case FORWARD_NAT:
		break;
	}
	return 0;
}

// A client's packet as it comes out of the device that it comes in by.
static struct filter_packet client_packet(const struct doctor *d, const struct doctor_case *c, enum filter_state state)
{
	return (struct filter_packet) {
		.family = c->service->vip.family,
		.protocol = c->service->protocol,
		.from = c->client_at,
		.to = c->service->method == FORWARD_NAT ? d->answers.address : c->service->vip,
		.dport = c->service->port,
		.flags = state == FILTER_NEW ? FILTER_FLAG_SYN : FILTER_FLAG_ACK,
		.in = name_of(c->is_tunnel ? c->link : c->underlay),
		.state = state,
		.to_this_host = true,
	};
}

static struct filter_packet reply(const struct doctor *d, const struct doctor_case *c, enum filter_state state)
{
	struct filter_packet packet = client_packet(d, c, state);
	const struct route_packet way_of = { .to = packet.from, .from = packet.to };
	struct route_way way;

	packet.from = way_of.from;
	packet.to = way_of.to;
	packet.sport = packet.dport;
	packet.dport = 0;
	packet.in = NULL;
	packet.out = route_lookup_packet(d->sock, &way_of, &way, NULL) ? NULL : name_of(doctor_link(d, way.ifindex));
	packet.to_this_host = false;
	return packet;
}

static bool is_untracked(struct doctor *d, const struct filter_packet *packet, enum filter_hook hook)
{
	struct passing p = { .d = d, .packet = *packet, .tracked = true };

	pass(&p, &hook, 1, on_notrack);
	return !p.tracked;
}

static size_t count_drops(struct passing p, const enum filter_hook *hooks, size_t count)
{
	p.status = DOCTOR_WRONG;
	if (is_untracked(p.d, &p.packet, p.packet.out ? FILTER_OUTPUT : FILTER_PREROUTING))
		p.packet.state = FILTER_UNTRACKED;
	pass(&p, hooks, count, on_drop);
	return p.said;
}

static struct filter_packet tunnel_packet(const struct doctor *d, const struct doctor_case *c)
{
	const bool known = c->director.family == d->answers.address.family && !inet_addr_is_loopback(&c->director);

	return (struct filter_packet) {
		.family = d->answers.address.family,
		.protocol = outer_protocol(c),
		.from = known ? c->director : anywhere,
		.to = d->answers.address,
		.dport = c->service->method == FORWARD_GUE ? c->service->tunnel.port : 0,
		.in = name_of(c->underlay),
		.state = FILTER_NEW,
		.to_this_host = true,
	};
}

void doctor_check_filter(struct doctor *d, const struct doctor_case *c)
{
	struct passing outer = {
		.d = d, .what = "the director's tunnel packets", .packet = tunnel_packet(d, c), .of_tunnel = true
	};
	const struct passing first = {
		.d = d, .what = "clients' first packets", .packet = client_packet(d, c, FILTER_NEW)
	};
	const struct passing back = { .d = d, .what = "replies", .packet = reply(d, c, FILTER_ESTABLISHED) };
	char sender[INET_ADDR_MAX], why[INET_ADDR_MAX + 24];

	if (inet_addr_is_set(&outer.packet.from)) {
		snprintf(why, sizeof(why), "they come from %s", inet_addr_format(&outer.packet.from, sender));
		outer.why = why;
	}
	size_t said = c->is_tunnel ? count_drops(outer, in, ARRAY_SIZE(in)) : 0;

	// without a port there is no telling which rules are meant
	if (c->service->port)
		said += count_drops(first, in, ARRAY_SIZE(in)) + count_drops(back, out, ARRAY_SIZE(out));
	if (!said && !*d->filter_unseen)
		doctor_say(&d->report, DOCTOR_OK, "no rule drops what comes and goes");
}

// A segment of a connection that conntrack saw half of, or saw too late, is "invalid" to it.
void doctor_check_conntrack(struct doctor *d, const struct doctor_case *c)
{
	struct passing p = { .d = d };
	const struct filter_packet first = client_packet(d, c, FILTER_NEW), back = reply(d, c, FILTER_ESTABLISHED);
	char why[200];

	if (c->service->protocol != IPPROTO_TCP || !c->service->port || !d->tracks)
		return;
	if (is_untracked(d, &first, FILTER_PREROUTING)) {
		doctor_say(&d->report, DOCTOR_OK, "clients' packets are not tracked");
		return;
	}
	const bool half_seen = is_untracked(d, &back, FILTER_OUTPUT);

	// with both of these what it saw both halves of is never invalid for long
	if (!half_seen && d->tcp_loose && d->tcp_be_liberal) {
		doctor_say(&d->report, DOCTOR_OK, "nf_conntrack_tcp_loose and nf_conntrack_tcp_be_liberal are on");
		return;
	}
	snprintf(why, sizeof(why),
		half_seen ? "replies are not tracked (notrack), and all after a client's first packet is"
			  : "those are of a connection that it saw late or in part (nf_conntrack_tcp_loose is %d, "
			    "nf_conntrack_tcp_be_liberal %d)",
		d->tcp_loose, d->tcp_be_liberal);
	p.what = "packets that conntrack calls invalid";
	p.why = why;
	p.plain = &first;
	p.status = half_seen ? DOCTOR_WRONG : DOCTOR_WARNING;
	p.packet = client_packet(d, c, FILTER_INVALID);
	pass(&p, in, ARRAY_SIZE(in), on_drop);
	if (!p.said && !*d->filter_unseen)
		doctor_say(&d->report, DOCTOR_OK, "no rule drops what conntrack calls invalid");
}

static void on_dnat(void *ctx, const struct filter_outcome *outcome)
{
	struct passing *p = ctx;
	char rule[FILTER_COMMAND_MAX], command[RESOURCE_COMMAND_MAX];

	if (outcome->verdict != FILTER_DNAT)
		return;
	p->said++;
	doctor_say(&p->d->report, p->wanted_dnat ? DOCTOR_OK : DOCTOR_WARNING,
		"clients' packets%s get another destination (a published port of a container?) by %s",
		outcome->perhaps ? " perhaps" : "", filter_describe(outcome, rule));
	if (!p->wanted_dnat)
		doctor_mend(&p->d->report, "%s", command_of(p, outcome, command));
}

void doctor_check_dnat(struct doctor *d, const struct doctor_case *c)
{
	const enum filter_hook hook = FILTER_PREROUTING;
	struct passing p = { .d = d, .packet = client_packet(d, c, FILTER_NEW) };

	if (!c->service->port)
		return;
	// who says that nobody is to look for a program has it elsewhere
	p.wanted_dnat = c->check->kind == LOCAL_NONE;
	pass(&p, &hook, 1, on_dnat);
	if (!p.said && !*d->filter_unseen)
		doctor_say(&d->report, DOCTOR_OK, "no rule gives clients' packets another destination");
}
