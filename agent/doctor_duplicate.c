// SPDX-License-Identifier: Apache-2.0
// Who in this host's segment answers for the VIP. The director may; another real server must not.
#include "agent/doctor_checks.h"

#include <string.h>

struct asked {
	struct doctor *d;
	const struct doctor_case *c;
};

static const char *format_mac(const uint8_t mac[6], char buf[18])
{
	snprintf(buf, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	return buf;
}

// The address that this host knows for a MAC, other than the VIP itself.
static const struct neigh *neighbour(const struct asked *a, const uint8_t mac[6])
{
	for (size_t i = 0; i < a->d->neigh_count; i++) {
		const struct neigh *n = &a->d->neighs[i];

		if (n->ifindex == a->c->underlay->index && memcmp(n->mac, mac, 6) == 0 &&
			inet_addr_cmp(&n->addr, &a->c->service->vip) != 0)
			return n;
	}
	return NULL;
}

static bool has_address_of_a_director(const struct asked *a, const uint8_t mac[6])
{
	for (size_t i = 0; i < a->d->neigh_count; i++)
		for (size_t k = 0; k < a->d->answers.count; k++)
			if (memcmp(a->d->neighs[i].mac, mac, 6) == 0 &&
				inet_addr_cmp(&a->d->neighs[i].addr, &a->d->answers.clients[k].peer) == 0)
				return true;
	return false;
}

// Directors that take turns may answer with a MAC of VRRP's (RFC 5798, 7.3).
static bool is_director(const struct asked *a, const uint8_t mac[6])
{
	static const uint8_t vrrp[2][5] = { { 0, 0, 0x5e, 0, 1 }, { 0, 0, 0x5e, 0, 2 } };

	return has_address_of_a_director(a, mac) || memcmp(mac, vrrp[0], 5) == 0 || memcmp(mac, vrrp[1], 5) == 0;
}

// Is a director in this segment, so that its answer could be told from others?
static bool director_is_near(const struct asked *a)
{
	for (size_t i = 0; i < a->d->neigh_count; i++)
		if (a->d->neighs[i].ifindex == a->c->underlay->index &&
			has_address_of_a_director(a, a->d->neighs[i].mac))
			return true;
	return false;
}

static const struct iflink *own_device(const struct asked *a, const uint8_t mac[6])
{
	for (size_t i = 0; i < a->d->seen.link_count; i++)
		if (a->d->seen.links[i].mac_len && memcmp(a->d->seen.links[i].mac, mac, 6) == 0)
			return &a->d->seen.links[i];
	return NULL;
}

static void judge_answer(const struct asked *a, const uint8_t mac[6], bool alone)
{
	struct doctor_report *report = &a->d->report;
	const struct iflink *own = own_device(a, mac);
	const struct neigh *known = neighbour(a, mac);
	const bool v4 = a->c->service->vip.family == AF_INET;
	char vip[INET_ADDR_MAX], addr[INET_ADDR_MAX] = "", text[18], where[160];

	inet_addr_format(&a->c->service->vip, vip);
	format_mac(mac, text);
	if (known)
		inet_addr_format(&known->addr, addr);
	if (is_director(a, mac)) {
		doctor_say(report, DOCTOR_OK, "%s, a director, answers for %s", text, vip);
	} else if (own) {
		doctor_say(report, DOCTOR_WRONG, "this host's own %s (%s) answers for %s in the segment of %s",
			own->name, text, vip, a->c->underlay->name);
		if (v4)
			doctor_mend(report, "sysctl -w net/ipv4/conf/%s/arp_ignore=1", own->name);
	} else if (alone && !director_is_near(a)) {
		// no director is here to compare with: it may be the balancer
		doctor_say(report, DOCTOR_OK, "%s%s%s%s alone answers for %s", text, *addr ? " (" : "", addr,
			*addr ? ")" : "", vip);
	} else {
		snprintf(where, sizeof(where), "%s%s%s%s", text, *addr ? " (" : "", addr, *addr ? ")" : "");
		doctor_say(report, DOCTOR_WRONG,
			"%s, which is no director, answers for %s: what it gets the director does not balance", where,
			vip);
		if (v4)
			doctor_mend_at(report, where,
				"sysctl -w net/ipv4/conf/all/arp_ignore=1 net/ipv4/conf/all/arp_announce=2");
		else
			doctor_mend_at(report, where, "ip addr del %s/128 dev eth0", vip);
	}
}

void doctor_check_duplicate(struct doctor *d, const struct doctor_case *c)
{
	struct asked a = { .d = d, .c = c };
	const struct doctor_question *q = NULL;
	char vip[INET_ADDR_MAX];

	for (size_t i = 0; i < d->question_count; i++)
		if (inet_addr_cmp(&d->questions[i].addr, &c->service->vip) == 0)
			q = &d->questions[i];
	inet_addr_format(&c->service->vip, vip);
	if (q && *d->segment_unseen)
		doctor_say(&d->report, DOCTOR_UNSEEN, "who answers for %s: %s", vip, d->segment_unseen);
	else if (!q && d->question_count == DOCTOR_VIPS_MAX)
		doctor_say(&d->report, DOCTOR_UNSEEN,
			"who answers for %s: there are more than %d VIPs; name the service", vip, DOCTOR_VIPS_MAX);
	if (!q || *d->segment_unseen)
		return;
	for (size_t i = 0; i < q->count; i++)
		judge_answer(&a, q->macs[i], q->count == 1);
	if (!q->count)
		doctor_say(&d->report, DOCTOR_OK, "nobody in the segment of %s answers for %s", c->underlay->name, vip);
}
