// SPDX-License-Identifier: Apache-2.0
// The neighbour table over rtnetlink: which MAC this host has for which address. Only read. Floor 2.
//
// Source: net/core/neighbour.c (neigh_fill_info). Entries without a MAC (incomplete, failed) are left out.
#ifndef BRASS_SHARED_NEIGH_H
#define BRASS_SHARED_NEIGH_H

#include "shared/err.h"
#include "shared/inet.h"
#include "shared/netsock.h"

#include <stddef.h>
#include <stdint.h>

struct neigh {
	int ifindex;
	struct inet_addr addr;
	uint8_t mac[6];
};

// All of both families in a new array.
int neigh_dump(struct netsock *ns, struct neigh **ret, size_t *ret_count, struct err *err);

#endif
