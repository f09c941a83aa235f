// SPDX-License-Identifier: Apache-2.0
#include "director/conns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_NAME "/proc/net/ip_vs_conn"
#define LINE_MAX_LEN 512 // bytes; persistence engines add to a line

struct conns {
	int fd;
	size_t len; // of what is left of a line
	char buffer[16384];
};

// --- a line: "TCP 0A000002 9284 0A010064 0050 0A010066 0050 FIN_WAIT        119" ---

static const char *word(const char **rest, size_t *ret_len)
{
	const char *begin = *rest + strspn(*rest, " ");

	*ret_len = strcspn(begin, " \n");
	*rest = begin + *ret_len;
	return begin;
}

// IPv4 as one number, IPv6 in groups with colons and all of their zeros.
static int read_addr(const char **rest, struct inet_addr *ret)
{
	size_t len;
	const char *text = word(rest, &len);
	char copy[INET_ADDR_MAX], *end;

	if (len >= sizeof(copy))
		return -EINVAL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (len != 8 || memchr(copy, ':', len))
		return inet_addr_parse(copy, ret);
	const uint32_t number = htonl((uint32_t)strtoul(copy, &end, 16));
	return *end ? -EINVAL : inet_addr_from_bytes(AF_INET, &number, sizeof(number), ret);
}

static int read_port(const char **rest, uint16_t *ret)
{
	size_t len;
	const char *text = word(rest, &len);
	char *end;
	const unsigned long port = strtoul(text, &end, 16);

	if (!len || end != text + len || port > UINT16_MAX)
		return -EINVAL;
	*ret = (uint16_t)port;
	return 0;
}

static uint64_t hash(uint64_t hash, const char *begin, const char *end)
{
	for (const char *p = begin; p < end; p++)
		hash = (hash ^ (uint8_t)*p) * 1099511628211u; // FNV-1a
	return hash;
}

int conns_parse(const char *line, struct conn *ret)
{
	const char *rest = line;
	uint16_t client_port;
	size_t len;
	struct conn conn = { 0 };

	const char *protocol = word(&rest, &len);
	if (len != 3 || memcmp(protocol, "TCP", 3) != 0)
		return -ENOENT;
	const char *key = rest;
	if (read_addr(&rest, &conn.client) || read_port(&rest, &client_port) || read_addr(&rest, &conn.vip.addr) ||
		read_port(&rest, &conn.vip.port))
		return -EINVAL;
	conn.id = hash(14695981039346656037u, key, rest);
	if (read_addr(&rest, &conn.dest.addr) || read_port(&rest, &conn.dest.port))
		return -EINVAL;
	const char *state = word(&rest, &len);
	if (!len)
		return -EINVAL;
	if (!client_port)
		return -ENOENT;
	conn.waiting = len == strlen("SYN_RECV") && memcmp(state, "SYN_RECV", len) == 0;
	*ret = conn;
	return 0;
}

// --- the file ---

int conns_open(struct conns **ret)
{
	struct conns *conns = malloc(sizeof(*conns));

	if (!conns)
		return -ENOMEM;
	conns->len = 0;
	conns->fd = open(FILE_NAME, O_RDONLY | O_CLOEXEC);
	if (conns->fd < 0) {
		const int rc = -errno;

		free(conns);
		return rc;
	}
	*ret = conns;
	return 0;
}

int conns_next(struct conns *conns, void (*each)(void *ctx, const struct conn *conn), void *ctx)
{
	char *const buffer = conns->buffer;
	ssize_t n;

	do
		n = read(conns->fd, buffer + conns->len, sizeof(conns->buffer) - 1 - conns->len);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n ? -errno : 0;
	conns->len += (size_t)n;
	buffer[conns->len] = '\0';
	char *line = buffer;
	for (char *end; (end = strchr(line, '\n')); line = end + 1) {
		struct conn conn;

		*end = '\0';
		if (conns_parse(line, &conn) == 0)
			each(ctx, &conn);
	}
	conns->len -= (size_t)(line - buffer);
	if (conns->len > LINE_MAX_LEN)
		return -EBADMSG;
	memmove(buffer, line, conns->len);
	return 1;
}

void conns_close(struct conns *conns)
{
	if (!conns)
		return;
	close(conns->fd);
	free(conns);
}
