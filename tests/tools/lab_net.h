// SPDX-License-Identifier: Apache-2.0
#ifndef LAB_NET_H
#define LAB_NET_H
/*
 * The few lines that the lab's tools share. They stand on nothing of Brass: a test's instrument must not have the bugs
 * of what it measures.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define MSEC INT64_C(1000000) // of the nanoseconds that all times here are

struct endpoint {
	struct sockaddr_storage addr;
	socklen_t len;
};

// The address (IPv4 or IPv6, numbers only) and port as a socket address.
static inline bool endpoint_parse(struct endpoint *e, const char *host, unsigned port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&e->addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&e->addr;

	memset(e, 0, sizeof(*e));
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		e->len = sizeof(*v4);
		return true;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		e->len = sizeof(*v6);
		return true;
	}
	return false;
}

// A number from the command line; the program ends with a sentence when it is none or out of range.
static inline int64_t number(const char *what, const char *text, int64_t min, int64_t max)
{
	char *end;
	long long value = strtoll(text, &end, 10);

	if (end == text || *end || value < min || value > max) {
		fprintf(stderr, "%s: \"%s\" is not a number from %lld to %lld\n", what, text, (long long)min,
			(long long)max);
		exit(2);
	}
	return value;
}

static inline int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

// The value of a header field in a NUL-terminated head of a message; NULL if it is not there.
static inline const char *header_value(const char *head, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (!strncasecmp(line, name, len) && line[len] == ':')
			return line + len + 1 + strspn(line + len + 1, " ");
	}
	return NULL;
}

#endif
