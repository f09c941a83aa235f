// SPDX-License-Identifier: Apache-2.0
// Who answers for an address? Sends one ARP probe (RFC 5227, 2.1.1: the sender's address is 0.0.0.0, so nobody's cache
// learns from it) or one IPv6 neighbour solicitation (RFC 4861, 4.3), listens for the whole time and prints the MAC of
// every host that answered, one a line. Exit code 1: nobody did.
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/in.h>
#include <netinet/ip6.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ANSWERS_MAX 256

struct probe {
	int fd, index;
	uint8_t mac[6];
	int family;
	struct in_addr four;
	struct in6_addr six;
};

static void die(const char *what)
{
	fprintf(stderr, "lab-arp: %s: %s\n", what, strerror(errno));
	exit(2);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void open_device(struct probe *probe, const char *device)
{
	const uint16_t protocol = htons(probe->family == AF_INET ? ETHERTYPE_ARP : ETHERTYPE_IPV6);
	struct ifreq request = { 0 };

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
	probe->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); // deaf until it is bound
	if (probe->fd < 0)
		die("packet socket");
	if (ioctl(probe->fd, SIOCGIFINDEX, &request))
		die(device);
	probe->index = request.ifr_ifindex;
	if (ioctl(probe->fd, SIOCGIFHWADDR, &request) || request.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
		fprintf(stderr, "lab-arp: %s is not an Ethernet device\n", device);
		exit(2);
	}
	memcpy(probe->mac, request.ifr_hwaddr.sa_data, 6);
	const struct sockaddr_ll here = {
		.sll_family = AF_PACKET, .sll_protocol = protocol, .sll_ifindex = probe->index
	};
	if (bind(probe->fd, (const struct sockaddr *)&here, sizeof(here)))
		die("bind");
}

// --- questions ---

static size_t arp_question(const struct probe *probe, uint8_t *frame)
{
	struct ether_header eth = { .ether_type = htons(ETHERTYPE_ARP) };
	struct ether_arp arp = {
		.ea_hdr = { htons(ARPHRD_ETHER), htons(ETHERTYPE_IP), 6, 4, htons(ARPOP_REQUEST) },
	};

	memset(eth.ether_dhost, 0xff, 6);
	memcpy(eth.ether_shost, probe->mac, 6);
	memcpy(arp.arp_sha, probe->mac, 6);
	memcpy(arp.arp_tpa, &probe->four, 4);
	memcpy(frame, &eth, sizeof(eth));
	memcpy(frame + sizeof(eth), &arp, sizeof(arp));
	return sizeof(eth) + sizeof(arp);
}

// The device's link-local address, so that answers come to us alone; "::" without one.
static struct in6_addr own_address(const char *device)
{
	struct in6_addr ret = in6addr_any;
	struct ifaddrs *all = NULL;

	if (getifaddrs(&all))
		return ret;
	for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
		struct sockaddr_in6 sa;

		if (!a->ifa_addr || a->ifa_addr->sa_family != AF_INET6 || strcmp(a->ifa_name, device) != 0)
			continue;
		memcpy(&sa, a->ifa_addr, sizeof(sa));
		if (IN6_IS_ADDR_LINKLOCAL(&sa.sin6_addr))
			ret = sa.sin6_addr;
	}
	freeifaddrs(all);
	return ret;
}

static uint32_t sum(uint32_t start, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i + 1 < len; i += 2)
		start += (uint32_t)(p[i] << 8 | p[i + 1]);
	return start;
}

static size_t solicitation(const struct probe *probe, const struct in6_addr *source, uint8_t *frame)
{
	struct {
		struct nd_neighbor_solicit ns;
		struct nd_opt_hdr option;
		uint8_t mac[6];
	} __attribute__((packed)) body = { 0 };
	// without an address of our own there must be no option (RFC 4861, 4.3)
	const size_t len = IN6_IS_ADDR_UNSPECIFIED(source) ? sizeof(body.ns) : sizeof(body);
	struct ether_header eth = { .ether_type = htons(ETHERTYPE_IPV6) };
	struct ip6_hdr ip = { 0 };
	struct in6_addr to = { .s6_addr = { 0xff, 0x02, [11] = 1, [12] = 0xff } };

	memcpy(&to.s6_addr[13], &probe->six.s6_addr[13], 3);
	eth.ether_dhost[0] = eth.ether_dhost[1] = 0x33;
	memcpy(&eth.ether_dhost[2], &to.s6_addr[12], 4);
	memcpy(eth.ether_shost, probe->mac, 6);
	ip.ip6_flow = htonl(6u << 28);
	ip.ip6_plen = htons((uint16_t)len);
	ip.ip6_nxt = IPPROTO_ICMPV6;
	ip.ip6_hlim = 255;
	ip.ip6_src = *source;
	ip.ip6_dst = to;
	body.ns.nd_ns_type = ND_NEIGHBOR_SOLICIT;
	body.ns.nd_ns_target = probe->six;
	body.option.nd_opt_type = ND_OPT_SOURCE_LINKADDR;
	body.option.nd_opt_len = 1;
	memcpy(body.mac, probe->mac, 6);
	uint32_t check = sum((uint32_t)len + IPPROTO_ICMPV6, source, 16);
	check = sum(sum(check, &to, 16), &body, len);
	while (check >> 16)
		check = (check & 0xffff) + (check >> 16);
	body.ns.nd_ns_cksum = htons((uint16_t)~check);
	memcpy(frame, &eth, sizeof(eth));
	memcpy(frame + sizeof(eth), &ip, sizeof(ip));
	memcpy(frame + sizeof(eth) + sizeof(ip), &body, len);
	return sizeof(eth) + sizeof(ip) + len;
}

static void ask(const struct probe *probe, const char *device)
{
	const struct in6_addr source = probe->family == AF_INET6 ? own_address(device) : in6addr_any;
	uint8_t frame[128];
	size_t len = probe->family == AF_INET ? arp_question(probe, frame) : solicitation(probe, &source, frame);
	const struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = probe->index, .sll_halen = 6 };

	if (sendto(probe->fd, frame, len, 0, (const struct sockaddr *)&to, sizeof(to)) != (ssize_t)len)
		die("cannot send");
}

// --- answers ---

// The MAC in a frame that answers for our address.
static bool read_answer(const struct probe *probe, const uint8_t *frame, size_t len, uint8_t mac[6])
{
	const uint8_t *rest = frame + sizeof(struct ether_header);
	struct ether_arp arp;
	struct ip6_hdr ip;
	struct nd_neighbor_advert na;

	if (probe->family == AF_INET) {
		if (len < sizeof(struct ether_header) + sizeof(arp))
			return false;
		memcpy(&arp, rest, sizeof(arp));
		memcpy(mac, arp.arp_sha, 6);
		return arp.ea_hdr.ar_op == htons(ARPOP_REPLY) && memcmp(arp.arp_spa, &probe->four, 4) == 0;
	}
	if (len < sizeof(struct ether_header) + sizeof(ip) + sizeof(na))
		return false;
	memcpy(&ip, rest, sizeof(ip));
	memcpy(&na, rest + sizeof(ip), sizeof(na));
	memcpy(mac, frame + 6, 6);
	return ip.ip6_nxt == IPPROTO_ICMPV6 && na.nd_na_type == ND_NEIGHBOR_ADVERT &&
		memcmp(&na.nd_na_target, &probe->six, 16) == 0;
}

static size_t listen_for(const struct probe *probe, int64_t wait_ms)
{
	const int64_t end = now_ms() + wait_ms;
	uint8_t seen[ANSWERS_MAX][6];
	size_t count = 0;

	for (;;) {
		struct pollfd poll_fd = { probe->fd, POLLIN, 0 };
		struct sockaddr_ll from = { 0 };
		socklen_t from_len = sizeof(from);
		uint8_t frame[2048], mac[6];
		int64_t left = end - now_ms();
		bool known = false;

		if (left <= 0 || poll(&poll_fd, 1, (int)left) <= 0)
			return count;
		ssize_t len = recvfrom(probe->fd, frame, sizeof(frame), 0, (struct sockaddr *)&from, &from_len);
		if (len < 0 || from.sll_pkttype == PACKET_OUTGOING || !read_answer(probe, frame, (size_t)len, mac))
			continue;
		for (size_t i = 0; i < count; i++)
			known = known || memcmp(seen[i], mac, 6) == 0;
		if (known || count == ANSWERS_MAX)
			continue;
		memcpy(seen[count++], mac, 6);
		printf("%02x:%02x:%02x:%02x:%02x:%02x\n", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
	}
}

int main(int argc, char **argv)
{
	struct probe probe = { 0 };
	long wait_ms = 200;
	int option;

	while ((option = getopt(argc, argv, "w:")) != -1) {
		if (option == 'w')
			wait_ms = strtol(optarg, NULL, 10);
		else
			optind = argc;
	}
	if (argc - optind != 2 || wait_ms < 1) {
		fprintf(stderr, "Usage: lab-arp DEV ADDR [-w MS]\n");
		return 2;
	}
	if (inet_pton(AF_INET, argv[optind + 1], &probe.four) == 1) {
		probe.family = AF_INET;
	} else if (inet_pton(AF_INET6, argv[optind + 1], &probe.six) == 1) {
		probe.family = AF_INET6;
	} else {
		fprintf(stderr, "lab-arp: %s is not an address\n", argv[optind + 1]);
		return 2;
	}
	open_device(&probe, argv[optind]);
	ask(&probe, argv[optind]);
	return listen_for(&probe, wait_ms) ? 0 : 1;
}
