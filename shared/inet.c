// SPDX-License-Identifier: Apache-2.0
#include "shared/inet.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Reads a decimal number without sign or blanks. Returns 0, -EINVAL or -ERANGE.
static int parse_number(const char *text, unsigned long max, unsigned long *ret)
{
	unsigned long n = 0;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	for (; isdigit((unsigned char)*text); text++) {
		n = n * 10 + (unsigned long)(*text - '0');
		if (n > max)
			return -ERANGE;
	}
	if (*text)
		return -EINVAL;
	*ret = n;
	return 0;
}

unsigned int inet_addr_len(int family)
{
	return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

int inet_addr_parse(const char *text, struct inet_addr *ret)
{
	struct inet_addr addr = { .family = strchr(text, ':') ? AF_INET6 : AF_INET };

	if (inet_pton(addr.family, text, addr.bytes) != 1)
		return -EINVAL;
	*ret = addr;
	return 0;
}

const char *inet_addr_format(const struct inet_addr *addr, char buf[INET_ADDR_MAX])
{
	if (!inet_ntop(addr->family, addr->bytes, buf, INET_ADDR_MAX))
		snprintf(buf, INET_ADDR_MAX, "none");
	return buf;
}

int inet_addr_cmp(const struct inet_addr *a, const struct inet_addr *b)
{
	if (a->family != b->family)
		return a->family < b->family ? -1 : 1;
	return memcmp(a->bytes, b->bytes, inet_addr_len(a->family));
}

int inet_addr_from_bytes(int family, const void *bytes, unsigned int len, struct inet_addr *ret)
{
	struct inet_addr addr = { .family = (sa_family_t)family };

	if (!len || len != inet_addr_len(family))
		return -EINVAL;
	memcpy(addr.bytes, bytes, len);
	*ret = addr;
	return 0;
}

bool inet_addr_is_set(const struct inet_addr *addr)
{
	return addr->family != AF_UNSPEC;
}

bool inet_addr_is_unicast(const struct inet_addr *addr)
{
	static const uint8_t zero[16];
	static const uint8_t ones[4] = { 255, 255, 255, 255 };
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	switch (addr->family) {
	case AF_INET:
		return addr->bytes[0] != 0 && (addr->bytes[0] & 0xf0) != 0xe0 && memcmp(addr->bytes, ones, 4) != 0;
	case AF_INET6:
		return addr->bytes[0] != 0xff && memcmp(addr->bytes, zero, 16) != 0 &&
			memcmp(addr->bytes, mapped, sizeof(mapped)) != 0;
	default:
		return false;
	}
}

bool inet_addr_is_loopback(const struct inet_addr *addr)
{
	if (addr->family == AF_INET)
		return addr->bytes[0] == 127;
	return addr->family == AF_INET6 && memcmp(addr->bytes, &in6addr_loopback, 16) == 0;
}

int inet_endpoint_parse(const char *text, int default_port, struct inet_endpoint *ret)
{
	struct inet_endpoint ep;
	char host[INET_ADDR_MAX];
	const char *begin = text, *end, *port = NULL;

	if (*text == '[') {
		begin = text + 1;
		end = strchr(begin, ']');
		if (!end || (end[1] && end[1] != ':'))
			return -EINVAL;
		port = end[1] ? end + 2 : NULL;
	} else {
		end = strchr(text, ':');
		if (end && strchr(end + 1, ':'))
			end = NULL; // a bare IPv6 address has no port
		port = end ? end + 1 : NULL;
		if (!end)
			end = text + strlen(text);
	}
	size_t len = (size_t)(end - begin);
	if (!len || len >= sizeof(host))
		return -EINVAL;
	memcpy(host, begin, len);
	host[len] = '\0';
	int rc = inet_addr_parse(host, &ep.addr);
	if (rc)
		return rc;
	if (*text == '[' && ep.addr.family != AF_INET6)
		return -EINVAL;
	if (!port) {
		if (default_port < 0)
			return -EINVAL;
		ep.port = (uint16_t)default_port;
	} else {
		unsigned long n = 0;

		rc = parse_number(port, 65535, &n);
		if (rc)
			return rc;
		ep.port = (uint16_t)n;
	}
	*ret = ep;
	return 0;
}

const char *inet_endpoint_format(const struct inet_endpoint *ep, char buf[INET_ENDPOINT_MAX])
{
	char addr[INET_ADDR_MAX];

	inet_addr_format(&ep->addr, addr);
	snprintf(buf, INET_ENDPOINT_MAX, ep->addr.family == AF_INET6 ? "[%s]:%u" : "%s:%u", addr, ep->port);
	return buf;
}

int inet_endpoint_cmp(const struct inet_endpoint *a, const struct inet_endpoint *b)
{
	int rc = inet_addr_cmp(&a->addr, &b->addr);

	return rc ? rc : (a->port > b->port) - (a->port < b->port);
}

socklen_t inet_endpoint_to_sockaddr(const struct inet_endpoint *ep, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (ep->addr.family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(ep->port);
		memcpy(&in6->sin6_addr, ep->addr.bytes, 16);
		return sizeof(*in6);
	}
	struct sockaddr_in *in = (struct sockaddr_in *)ret;

	in->sin_family = AF_INET;
	in->sin_port = htons(ep->port);
	memcpy(&in->sin_addr, ep->addr.bytes, 4);
	return sizeof(*in);
}

int inet_endpoint_from_sockaddr(const struct sockaddr *sa, struct inet_endpoint *ret)
{
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;

		ret->port = ntohs(in->sin_port);
		return inet_addr_from_bytes(AF_INET, &in->sin_addr, 4, &ret->addr);
	}
	if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;

		ret->port = ntohs(in6->sin6_port);
		if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
			return inet_addr_from_bytes(AF_INET, in6->sin6_addr.s6_addr + 12, 4, &ret->addr);
		return inet_addr_from_bytes(AF_INET6, &in6->sin6_addr, 16, &ret->addr);
	}
	return -EAFNOSUPPORT;
}

int inet_prefix_parse(const char *text, struct inet_prefix *ret)
{
	struct inet_prefix p;
	char host[INET_ADDR_MAX];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	unsigned long bits = 0;

	if (!len || len >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, len);
	host[len] = '\0';
	int rc = inet_addr_parse(host, &p.addr);
	if (rc)
		return rc;
	bits = inet_addr_len(p.addr.family) * 8;
	if (slash) {
		rc = parse_number(slash + 1, bits, &bits);
		if (rc)
			return rc;
	}
	p.len = (uint8_t)bits;
	*ret = p;
	return 0;
}

const char *inet_prefix_format(const struct inet_prefix *p, char buf[INET_PREFIX_MAX])
{
	char addr[INET_ADDR_MAX];

	snprintf(buf, INET_PREFIX_MAX, "%s/%u", inet_addr_format(&p->addr, addr), p->len);
	return buf;
}

bool inet_prefix_contains(const struct inet_prefix *p, const struct inet_addr *addr)
{
	unsigned int whole = p->len / 8, rest = p->len % 8;

	if (p->addr.family != addr->family || memcmp(p->addr.bytes, addr->bytes, whole) != 0)
		return false;
	if (!rest)
		return true;
	uint8_t mask = (uint8_t)(0xff << (8 - rest));

	return (p->addr.bytes[whole] & mask) == (addr->bytes[whole] & mask);
}
