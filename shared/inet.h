// SPDX-License-Identifier: Apache-2.0
// Addresses, prefixes and endpoints of IPv4 and IPv6: parse, print, compare. Floor 0.
//
// All are plain values: copy them, compare them with the functions here (padding is not compared). An address whose
// family is AF_UNSPEC is "not set". Texts are numeric; nothing here asks DNS.
#ifndef BRASS_SHARED_INET_H
#define BRASS_SHARED_INET_H

#include <assert.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct inet_addr {
	sa_family_t family; // AF_INET, AF_INET6, or AF_UNSPEC for "not set"
	uint8_t bytes[16];  // network order; IPv4 uses the first four, the rest is zero
};

static_assert(sizeof(struct inet_addr) == sizeof(sa_family_t) + 16, "no padding: it is a hash key as it stands");

struct inet_endpoint {
	struct inet_addr addr;
	uint16_t port; // host order
};

struct inet_prefix {
	struct inet_addr addr; // as written: host bits are kept
	uint8_t len;           // bits
};

#define INET_ADDR_MAX INET6_ADDRSTRLEN
#define INET_ENDPOINT_MAX (INET6_ADDRSTRLEN + 8)
#define INET_PREFIX_MAX (INET6_ADDRSTRLEN + 4)

// "192.0.2.1", "2001:db8::1". Returns 0 or -EINVAL.
int inet_addr_parse(const char *text, struct inet_addr *ret);
const char *inet_addr_format(const struct inet_addr *addr, char buf[INET_ADDR_MAX]);
// memcmp order: family first. 0 when equal.
int inet_addr_cmp(const struct inet_addr *a, const struct inet_addr *b);
// Bytes of an address of this family: 4, 16, or 0.
unsigned int inet_addr_len(int family);
// From the raw bytes of a netlink attribute. Returns 0 or -EINVAL when len does not fit family.
int inet_addr_from_bytes(int family, const void *bytes, unsigned int len, struct inet_addr *ret);
bool inet_addr_is_set(const struct inet_addr *addr);
// A host can hold it: not 0.0.0.0/::, not multicast, not limited broadcast, not an IPv4-mapped IPv6 address.
bool inet_addr_is_unicast(const struct inet_addr *addr);
bool inet_addr_is_loopback(const struct inet_addr *addr);

// "192.0.2.1:80", "[2001:db8::1]:80"; default_port < 0 means that a port must be written.
// Returns 0, -EINVAL, or -ERANGE for a port outside 0..65535.
int inet_endpoint_parse(const char *text, int default_port, struct inet_endpoint *ret);
const char *inet_endpoint_format(const struct inet_endpoint *ep, char buf[INET_ENDPOINT_MAX]);
int inet_endpoint_cmp(const struct inet_endpoint *a, const struct inet_endpoint *b);
// Returns the length to give to bind(2) or connect(2).
socklen_t inet_endpoint_to_sockaddr(const struct inet_endpoint *ep, struct sockaddr_storage *ret);
// Returns 0 or -EAFNOSUPPORT. An IPv4-mapped IPv6 address comes out as IPv4.
int inet_endpoint_from_sockaddr(const struct sockaddr *sa, struct inet_endpoint *ret);

// "10.0.0.0/8"; without a length the whole address counts. Returns 0, -EINVAL, or -ERANGE for the length.
int inet_prefix_parse(const char *text, struct inet_prefix *ret);
const char *inet_prefix_format(const struct inet_prefix *p, char buf[INET_PREFIX_MAX]);
bool inet_prefix_contains(const struct inet_prefix *p, const struct inet_addr *addr);

#endif
