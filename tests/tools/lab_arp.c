// SPDX-License-Identifier: Apache-2.0
/*
 * lab-arp: lists every host of the segment that answers for an address, by MAC, one a line.
 *
 * For IPv4 an ARP probe (RFC 5227: no sender address), for IPv6 a neighbour solicitation from the unspecified address
 * (RFC 4862, as in duplicate address detection): neither leaves a trace in anybody's neighbour table. Exit 0 if anybody
 * answered, 1 if nobody.
 */
#include "lab_net.h"
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MAX_ANSWERS = 64 };

struct probe {
	int fd, ifindex;
	int family;
	unsigned char mac[ETH_ALEN];
	struct in_addr v4;
	struct in6_addr v6;
	unsigned char seen[MAX_ANSWERS][ETH_ALEN];
	int answers;
};

struct arp_frame {
	struct ether_header eth;
	struct ether_arp arp;
} __attribute__((packed));

struct nd_frame {
	struct ether_header eth;
	struct ip6_hdr ip6;
	union {
		struct nd_neighbor_solicit ns;
		struct nd_neighbor_advert na;
	};
} __attribute__((packed));

static uint16_t icmp6_checksum(const struct nd_frame *f)
{
	struct {
		struct in6_addr src, dst;
		uint32_t len, next;
		struct nd_neighbor_solicit ns;
	} sum = { f->ip6.ip6_src, f->ip6.ip6_dst, htonl(sizeof(f->ns)), htonl(IPPROTO_ICMPV6), f->ns };
	const unsigned char *p = (const unsigned char *)&sum;
	uint32_t total = 0;

	for (size_t i = 0; i < sizeof(sum); i += 2)
		total += (uint32_t)(p[i] << 8 | p[i + 1]);
	while (total >> 16)
		total = (total & 0xffff) + (total >> 16);
	return htons((uint16_t)~total);
}

static bool send_frame(struct probe *p, const void *frame, size_t size)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = p->ifindex, .sll_halen = ETH_ALEN };

	return sendto(p->fd, frame, size, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)size;
}

static bool ask_arp(struct probe *p)
{
	struct arp_frame f = { .eth.ether_type = htons(ETHERTYPE_ARP) };

	memset(f.eth.ether_dhost, 0xff, ETH_ALEN);
	memcpy(f.eth.ether_shost, p->mac, ETH_ALEN);
	f.arp.ea_hdr = (struct arphdr) { htons(ARPHRD_ETHER), htons(ETHERTYPE_IP), ETH_ALEN, 4, htons(ARPOP_REQUEST) };
	memcpy(f.arp.arp_sha, p->mac, ETH_ALEN);
	memcpy(f.arp.arp_tpa, &p->v4, 4);
	return send_frame(p, &f, sizeof(f));
}

static bool ask_nd(struct probe *p)
{
	struct nd_frame f = { .eth.ether_type = htons(ETHERTYPE_IPV6) };
	struct in6_addr to = { .s6_addr = {
				       0xff, 2, [11] = 1, [12] = 0xff } }; // the solicited-node group of the target

	memcpy(&to.s6_addr[13], &p->v6.s6_addr[13], 3);
	memcpy(f.eth.ether_dhost, (unsigned char[]) { 0x33, 0x33 }, 2);
	memcpy(f.eth.ether_dhost + 2, &to.s6_addr[12], 4);
	memcpy(f.eth.ether_shost, p->mac, ETH_ALEN);
	f.ip6.ip6_flow = htonl(6u << 28);
	f.ip6.ip6_plen = htons(sizeof(f.ns));
	f.ip6.ip6_nxt = IPPROTO_ICMPV6;
	f.ip6.ip6_hlim = 255;
	f.ip6.ip6_dst = to;
	f.ns.nd_ns_type = ND_NEIGHBOR_SOLICIT;
	f.ns.nd_ns_target = p->v6;
	f.ns.nd_ns_cksum = icmp6_checksum(&f);
	return send_frame(p, &f, sizeof(f));
}

// The MAC of the host that this frame says has the address; NULL if it is about something else.
static const unsigned char *answer_in(const struct probe *p, const void *frame, size_t size)
{
	const struct arp_frame *a = frame;
	const struct nd_frame *n = frame;

	if (p->family == AF_INET)
		return size >= sizeof(*a) && a->arp.arp_op == htons(ARPOP_REPLY) && !memcmp(a->arp.arp_spa, &p->v4, 4)
			? a->arp.arp_sha
			: NULL;
	return size >= sizeof(*n) && n->ip6.ip6_nxt == IPPROTO_ICMPV6 && n->na.nd_na_type == ND_NEIGHBOR_ADVERT &&
			!memcmp(&n->na.nd_na_target, &p->v6, sizeof(p->v6))
		? n->eth.ether_shost
		: NULL;
}

static void listen_until(struct probe *p, int64_t deadline)
{
	int64_t left;

	while ((left = deadline - now_ns()) > 0) {
		struct pollfd pollfd = { p->fd, POLLIN, 0 };
		const unsigned char *mac;
		struct sockaddr_ll from;
		socklen_t from_len = sizeof(from);
		char frame[2048];
		ssize_t size;
		int i;

		if (poll(&pollfd, 1, (int)(left / MSEC) + 1) <= 0)
			continue;
		size = recvfrom(p->fd, frame, sizeof(frame), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
		if (size < 0 || from.sll_pkttype == PACKET_OUTGOING)
			continue;
		mac = answer_in(p, frame, (size_t)size);
		if (!mac)
			continue;
		for (i = 0; i < p->answers && memcmp(p->seen[i], mac, ETH_ALEN); i++)
			;
		if (i < p->answers || p->answers == MAX_ANSWERS)
			continue;
		memcpy(p->seen[p->answers++], mac, ETH_ALEN);
		printf("%02x:%02x:%02x:%02x:%02x:%02x\n", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	}
}

static void open_on(struct probe *p, const char *device)
{
	struct sockaddr_ll bound = { .sll_family = AF_PACKET };
	struct ifreq request = { 0 };

	p->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
	if (p->fd < 0 || ioctl(p->fd, SIOCGIFINDEX, &request)) {
		fprintf(stderr, "lab-arp: %s: %s\n", device, strerror(errno));
		exit(2);
	}
	p->ifindex = request.ifr_ifindex;
	ioctl(p->fd, SIOCGIFHWADDR, &request);
	memcpy(p->mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
	bound.sll_ifindex = p->ifindex;
	bound.sll_protocol = htons(p->family == AF_INET ? ETH_P_ARP : ETH_P_IPV6);
	if (bind(p->fd, (struct sockaddr *)&bound, sizeof(bound))) {
		perror("lab-arp: bind");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	int64_t wait_ms = 300;
	struct probe p = { 0 };
	int option;

	while ((option = getopt(argc, argv, "w:")) != -1) {
		if (option == 'w')
			wait_ms = number("-w", optarg, 1, 60000);
		else
			optind = argc;
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: lab-arp [-w MS] DEVICE ADDRESS\n");
		return 2;
	}
	if (inet_pton(AF_INET, argv[optind + 1], &p.v4) == 1) {
		p.family = AF_INET;
	} else if (inet_pton(AF_INET6, argv[optind + 1], &p.v6) == 1) {
		p.family = AF_INET6;
	} else {
		fprintf(stderr, "lab-arp: %s is not an address\n", argv[optind + 1]);
		return 2;
	}
	open_on(&p, argv[optind]);
	if (!(p.family == AF_INET ? ask_arp(&p) : ask_nd(&p))) {
		perror("lab-arp: send");
		return 2;
	}
	listen_until(&p, now_ns() + wait_ms * MSEC);
	return p.answers ? 0 : 1;
}
