// SPDX-License-Identifier: Apache-2.0
// One packet socket a family: frames out, frames in, whatever addresses this host has.
#include "agent/doctor_segment.h"

#include "shared/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <string.h>

#define ROUNDS 2 // a probe may be lost

static const int families[] = { AF_INET, AF_INET6 };

static uint16_t ethertype(int family)
{
	return family == AF_INET ? ETHERTYPE_ARP : ETHERTYPE_IPV6;
}

static int open_socket(const struct iflink *device, int family, struct err *err)
{
	const struct sockaddr_ll here = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ethertype(family)), .sll_ifindex = device->index
	};
	// deaf until it is bound, so that nothing of other devices comes in
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc = fd < 0 || bind(fd, (const struct sockaddr *)&here, sizeof(here)) ? -errno : fd;

	if (rc < 0 && fd >= 0)
		close(fd);
	return rc < 0 ? err_set(err, rc, NULL, "no packet socket on %s: %s", device->name, strerror(-rc)) : rc;
}

// --- questions ---

struct arp_frame {
	struct ether_header eth;
	struct ether_arp arp;
} __attribute__((packed));

struct nd_frame {
	struct ether_header eth;
	struct ip6_hdr ip;
	struct nd_neighbor_solicit ns;
} __attribute__((packed));

static void make_arp(const struct iflink *device, const struct inet_addr *addr, struct arp_frame *ret)
{
	*ret = (struct arp_frame) {
		.eth.ether_type = htons(ETHERTYPE_ARP),
		.arp.ea_hdr = { htons(ARPHRD_ETHER), htons(ETHERTYPE_IP), 6, 4, htons(ARPOP_REQUEST) },
	};
	memset(ret->eth.ether_dhost, 0xff, sizeof(ret->eth.ether_dhost));
	memcpy(ret->eth.ether_shost, device->mac, sizeof(device->mac));
	memcpy(ret->arp.arp_sha, device->mac, sizeof(device->mac));
	memcpy(ret->arp.arp_tpa, addr->bytes, sizeof(ret->arp.arp_tpa));
}

static uint32_t add_up(uint32_t sum, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
	return sum;
}

// RFC 4443, 2.3: with the pseudo header of RFC 8200, 8.1.
static uint16_t checksum(const struct nd_frame *frame)
{
	uint32_t sum = add_up(sizeof(frame->ns) + IPPROTO_ICMPV6, &frame->ip.ip6_src, 2 * sizeof(frame->ip.ip6_src));

	sum = add_up(sum, &frame->ns, sizeof(frame->ns));
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void make_nd(const struct iflink *device, const struct inet_addr *addr, struct nd_frame *ret)
{
	// the solicited-node multicast address (RFC 4291, 2.7.1) ends with the last 24 bits of the one that is asked
	// for
	static const uint8_t group[13] = { 0xff, 0x02, [11] = 1, [12] = 0xff };

	*ret = (struct nd_frame) {
		.eth.ether_type = htons(ETHERTYPE_IPV6),
		.eth.ether_dhost = { 0x33, 0x33, 0xff, addr->bytes[13], addr->bytes[14], addr->bytes[15] },
		.ip.ip6_flow = htonl(6u << 28),
		.ip.ip6_plen = htons(sizeof(ret->ns)),
		.ip.ip6_nxt = IPPROTO_ICMPV6,
		.ip.ip6_hlim = 255,
		.ns.nd_ns_type = ND_NEIGHBOR_SOLICIT,
	};
	memcpy(ret->eth.ether_shost, device->mac, sizeof(device->mac));
	memcpy(&ret->ip.ip6_dst, group, sizeof(group));
	memcpy((uint8_t *)&ret->ip.ip6_dst + sizeof(group), &addr->bytes[13], 3);
	memcpy(&ret->ns.nd_ns_target, addr->bytes, 16);
	ret->ns.nd_ns_cksum = checksum(ret);
}

static int ask(int fd, const struct iflink *device, const struct inet_addr *addr)
{
	union {
		struct arp_frame arp;
		struct nd_frame nd;
	} frame;
	const struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = device->index, .sll_halen = 6 };
	const size_t len = addr->family == AF_INET ? sizeof(frame.arp) : sizeof(frame.nd);

	if (addr->family == AF_INET)
		make_arp(device, addr, &frame.arp);
	else
		make_nd(device, addr, &frame.nd);
	return sendto(fd, &frame, len, 0, (const struct sockaddr *)&to, sizeof(to)) < 0 ? -errno : 0;
}

// --- answers ---

// The address that a frame claims, and who does. False: it is no answer.
static bool read_answer(const uint8_t *bytes, size_t len, struct inet_addr *ret_addr, uint8_t ret_mac[6])
{
	struct arp_frame arp;
	struct nd_frame nd; // an advertisement has the same layout

	if (len < sizeof(struct ether_header))
		return false;
	memcpy(ret_mac, bytes + offsetof(struct ether_header, ether_shost), 6);
	if (len >= sizeof(arp)) {
		memcpy(&arp, bytes, sizeof(arp));
		if (arp.eth.ether_type == htons(ETHERTYPE_ARP) && arp.arp.ea_hdr.ar_op == htons(ARPOP_REPLY)) {
			memcpy(ret_mac, arp.arp.arp_sha, 6);
			return !inet_addr_from_bytes(AF_INET, arp.arp.arp_spa, 4, ret_addr);
		}
	}
	if (len < sizeof(nd))
		return false;
	memcpy(&nd, bytes, sizeof(nd));
	return nd.eth.ether_type == htons(ETHERTYPE_IPV6) && nd.ip.ip6_nxt == IPPROTO_ICMPV6 &&
		nd.ns.nd_ns_type == ND_NEIGHBOR_ADVERT &&
		!inet_addr_from_bytes(AF_INET6, &nd.ns.nd_ns_target, 16, ret_addr);
}

static void note(struct doctor_question *questions, size_t count, const struct inet_addr *addr, const uint8_t mac[6])
{
	for (size_t i = 0; i < count; i++) {
		struct doctor_question *q = &questions[i];
		bool known = inet_addr_cmp(&q->addr, addr) != 0 || q->count == DOCTOR_SEGMENT_ANSWERS_MAX;

		for (size_t k = 0; k < q->count && !known; k++)
			known = memcmp(q->macs[k], mac, 6) == 0;
		if (!known)
			memcpy(q->macs[q->count++], mac, 6);
	}
}

static void take(int fd, struct doctor_question *questions, size_t count)
{
	struct sockaddr_ll from = { 0 };
	socklen_t from_len = sizeof(from);
	struct inet_addr addr;
	uint8_t frame[256], mac[6];
	ssize_t len;

	while ((len = recvfrom(fd, frame, sizeof(frame), 0, (struct sockaddr *)&from, &from_len)) >= 0)
		if (from.sll_pkttype != PACKET_OUTGOING && read_answer(frame, (size_t)len, &addr, mac))
			note(questions, count, &addr, mac);
}

static void listen_for(const int fds[2], struct doctor_question *questions, size_t count, msec_t wait_ms)
{
	const msec_t end_ms = clock_now_ms() + wait_ms;
	struct pollfd wait[] = { { fds[0], POLLIN, 0 }, { fds[1], POLLIN, 0 } };

	for (msec_t left; (left = end_ms - clock_now_ms()) > 0;)
		if (poll(wait, ARRAY_SIZE(wait), (int)left) > 0)
			for (size_t i = 0; i < ARRAY_SIZE(wait); i++)
				if (wait[i].revents)
					take(fds[i], questions, count);
}

int doctor_segment_ask(
	const struct iflink *device, struct doctor_question *questions, size_t count, msec_t wait_ms, struct err *err)
{
	int fds[] = { -1, -1 }, rc = 0;

	for (size_t i = 0; i < count && !rc; i++) {
		int *fd = &fds[questions[i].addr.family == AF_INET6];

		questions[i].count = 0;
		if (*fd < 0)
			*fd = open_socket(device, families[fd - fds], err);
		rc = *fd < 0 ? *fd : 0;
	}
	for (int round = 0; round < ROUNDS && !rc; round++) {
		for (size_t i = 0; i < count && !rc; i++)
			rc = ask(fds[questions[i].addr.family == AF_INET6], device, &questions[i].addr);
		if (rc)
			err_set(err, rc, NULL, "cannot send on %s: %s", device->name, strerror(-rc));
		else
			listen_for(fds, questions, count, wait_ms / ROUNDS);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return rc;
}
