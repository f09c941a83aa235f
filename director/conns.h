// SPDX-License-Identifier: Apache-2.0
// The kernel's table of connections, read piece by piece. Floor 2.
//
// Source: /proc/net/ip_vs_conn (ip_vs_conn_seq_show in net/netfilter/ipvs/ip_vs_conn.c). The kernel gives one page of
// it to each read(2), and walks to the place from the beginning of the table each time: reading all of a large table
// costs with its square. So whoever reads takes as many pieces as it can afford; connections stand in the order of a
// hash, so that the first thousands are as good as any. The place is a number of connections: when one before it goes
// between two pieces, one of those that stay is not shown (measured: 36 of 1,080 readings of a table of 700 connections
// with 3 ms between pieces, of which 20 ended a second, missed one or more of 150 that stayed).
#ifndef BRASS_DIRECTOR_CONNS_H
#define BRASS_DIRECTOR_CONNS_H

#include "shared/inet.h"

#include <stdbool.h>
#include <stdint.h>

struct conn {
	uint64_t id; // of client and virtual address: the same as long as the connection is
	struct inet_addr client;
	struct inet_endpoint vip, dest;
	bool waiting; // SYN_RECV: no answer was seen
};

// One line. 0, -ENOENT: of no TCP connection (the head, UDP, a template of persistence), -EINVAL.
int conns_parse(const char *line, struct conn *ret);

struct conns;

int conns_open(struct conns **ret); // 0 or -errno
// Gives some connections to each. 1: there are more; 0: that was all; or -errno.
int conns_next(struct conns *conns, void (*each)(void *ctx, const struct conn *conn), void *ctx);
void conns_close(struct conns *conns);

#endif
