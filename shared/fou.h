// SPDX-License-Identifier: Apache-2.0
// UDP ports on which the kernel takes tunnel packets out of GUE (foo-over-udp), over generic netlink. Floor 2.
//
// What was inside goes on as if it had come by IP protocol 4 or 41, to the ipip, sit or ip6tnl device of the same ends.
// Nothing says who made such a port, and no event tells of changes. Source: net/ipv4/fou.c (Linux 6.1).
#ifndef BRASS_SHARED_FOU_H
#define BRASS_SHARED_FOU_H

#include "shared/err.h"
#include "shared/inet.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fou_port {
	struct inet_addr local; // family AF_INET or AF_INET6; the address of all zeros: any
	uint16_t port;
	bool is_gue; // else bare foo-over-udp
};

// All of them in a new array. A kernel without fou has none.
int fou_dump(struct fou_port **ret, size_t *ret_count, struct err *err);

// For packets to one address, with GUE. -EOPNOTSUPP: the kernel has no fou; -EADDRINUSE: the port is taken.
int fou_add(const struct inet_addr *local, uint16_t port, struct err *err);
int fou_del(const struct inet_addr *local, uint16_t port, struct err *err);

#endif
