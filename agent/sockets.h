// SPDX-License-Identifier: Apache-2.0
// This host's own open TCP connections on given addresses, from the kernel's socket list (sock_diag(7)). Floor 2.
#ifndef BRASS_AGENT_SOCKETS_H
#define BRASS_AGENT_SOCKETS_H

#include "shared/err.h"
#include "shared/inet.h"

#include <stddef.h>

// Counts connections whose local end is one of these and that still have something to say: all states but LISTEN,
// CLOSE, TIME_WAIT and FIN_WAIT2.
int sockets_count(const struct inet_endpoint *local, size_t local_count, size_t *ret, struct err *err);

#endif
