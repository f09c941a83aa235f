// SPDX-License-Identifier: Apache-2.0
// This host's own open TCP connections on given addresses, from the kernel's socket list (sock_diag(7)). Floor 2.
#ifndef BRASS_AGENT_SOCKETS_H
#define BRASS_AGENT_SOCKETS_H

#include "shared/err.h"
#include "shared/inet.h"

#include <stddef.h>

struct sockets {
	size_t open;      // connections that still have something to say: all states but CLOSE, TIME_WAIT and FIN_WAIT2
	size_t listening; // of the given endpoints, how many a socket of this network namespace listens on
};

// Looks at the sockets whose local end is one of these (a listener may also have the any-address).
int sockets_count(const struct inet_endpoint *local, size_t local_count, struct sockets *ret, struct err *err);

#endif
