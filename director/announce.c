// SPDX-License-Identifier: Apache-2.0
// Whole Ethernet frames through a packet socket: the same few lines serve both families and any device, and no address
// of the device's own gets into an ARP cache by the way.
#include "director/announce.h"

#include "shared/util.h"

#include <errno.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <netpacket/packet.h>
#include <string.h>
#include <sys/socket.h>

static size_t arp_frame(const uint8_t mac[6], const struct inet_addr *addr, uint8_t *buf)
{
	struct ether_header *eth = (struct ether_header *)(void *)buf;
	struct ether_arp arp = {
		.ea_hdr = { htons(ARPHRD_ETHER), htons(ETHERTYPE_IP), 6, 4, htons(ARPOP_REQUEST) },
	};

	// RFC 5227, 3: an ARP request with sender and target address equal
	memset(eth->ether_dhost, 0xff, 6);
	memcpy(eth->ether_shost, mac, 6);
	eth->ether_type = htons(ETHERTYPE_ARP);
	memcpy(arp.arp_sha, mac, 6);
	memcpy(arp.arp_spa, addr->bytes, 4);
	memcpy(arp.arp_tpa, addr->bytes, 4);
	memcpy(buf + sizeof(*eth), &arp, sizeof(arp));
	return sizeof(*eth) + sizeof(arp);
}

// RFC 1071 over 16-bit words in network order.
static uint32_t sum(uint32_t start, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i + 1 < len; i += 2)
		start += (uint32_t)(p[i] << 8 | p[i + 1]);
	return start;
}

static size_t advertisement_frame(const uint8_t mac[6], const struct inet_addr *addr, uint8_t *buf)
{
	static const uint8_t all_nodes[16] = { 0xff, 0x02, [15] = 0x01 };
	static const uint8_t all_nodes_mac[6] = { 0x33, 0x33, 0, 0, 0, 0x01 };
	struct {
		struct nd_neighbor_advert na;
		struct nd_opt_hdr option;
		uint8_t mac[6];
	} __attribute__((packed)) body = { 0 };
	struct ip6_hdr ip = { 0 };
	struct ether_header *eth = (struct ether_header *)(void *)buf;

	memcpy(eth->ether_dhost, all_nodes_mac, 6);
	memcpy(eth->ether_shost, mac, 6);
	eth->ether_type = htons(ETHERTYPE_IPV6);
	ip.ip6_flow = htonl(6u << 28);
	ip.ip6_plen = htons(sizeof(body));
	ip.ip6_nxt = IPPROTO_ICMPV6;
	ip.ip6_hlim = 255; // receivers drop anything less (RFC 4861, 7.1.2)
	memcpy(&ip.ip6_src, addr->bytes, 16);
	memcpy(&ip.ip6_dst, all_nodes, 16);
	body.na.nd_na_type = ND_NEIGHBOR_ADVERT;
	body.na.nd_na_flags_reserved = ND_NA_FLAG_OVERRIDE;
	memcpy(&body.na.nd_na_target, addr->bytes, 16);
	body.option.nd_opt_type = ND_OPT_TARGET_LINKADDR;
	body.option.nd_opt_len = 1;
	memcpy(body.mac, mac, 6);
	uint32_t check = sum(sizeof(body) + IPPROTO_ICMPV6, addr->bytes, 16);
	check = sum(check, all_nodes, 16);
	check = sum(check, &body, sizeof(body));
	while (check >> 16)
		check = (check & 0xffff) + (check >> 16);
	body.na.nd_na_cksum = htons((uint16_t)~check);
	memcpy(buf + sizeof(*eth), &ip, sizeof(ip));
	memcpy(buf + sizeof(*eth) + sizeof(ip), &body, sizeof(body));
	return sizeof(*eth) + sizeof(ip) + sizeof(body);
}

size_t announce_frame(const uint8_t mac[6], const struct inet_addr *addr, uint8_t buf[ANNOUNCE_FRAME_MAX])
{
	return addr->family == AF_INET6 ? advertisement_frame(mac, addr, buf) : arp_frame(mac, addr, buf);
}

int announce_send(const struct iflink *links, size_t count, const struct inet_addr *addr, struct err *err)
{
	_cleanup_close_ int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int sent = 0, failed = 0;

	if (fd < 0)
		return err_set(err, -errno, NULL, "cannot open a packet socket: %s", strerror(errno));
	for (size_t i = 0; i < count; i++) {
		const struct iflink *link = &links[i];
		uint8_t frame[ANNOUNCE_FRAME_MAX];

		// a dummy has no neighbours, a port speaks through its master
		if (!iflink_does_arp(link) || !(link->flags & IFF_UP) || !(link->flags & IFF_RUNNING) || link->master ||
			link->mac_len != 6)
			continue;
		size_t len = announce_frame(link->mac, addr, frame);
		const struct sockaddr_ll to = {
			.sll_family = AF_PACKET,
			.sll_protocol = htons(addr->family == AF_INET6 ? ETHERTYPE_IPV6 : ETHERTYPE_ARP),
			.sll_ifindex = link->index,
			.sll_halen = 6,
		};

		if (sendto(fd, frame, len, 0, (const struct sockaddr *)&to, sizeof(to)) == (ssize_t)len)
			sent++;
		else
			failed = errno;
	}
	if (!sent && failed)
		return err_set(err, -failed, NULL, "cannot send an announcement: %s", strerror(failed));
	return sent;
}
