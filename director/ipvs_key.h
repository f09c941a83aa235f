// SPDX-License-Identifier: Apache-2.0
// The name that a virtual service has in the kernel. Floor 1.
#ifndef BRASS_DIRECTOR_IPVS_KEY_H
#define BRASS_DIRECTOR_IPVS_KEY_H

#include "shared/inet.h"

#include <assert.h>
#include <stdint.h>

// Protocol, address and port, or a firewall mark of one address family. Without padding: it is a hash key as it stands.
struct ipvs_key {
	struct inet_endpoint vip; // for firewall marks only vip.addr.family is set
	int protocol;             // 0 for firewall marks
	uint32_t fwmark;          // 0: not by mark
};
static_assert(sizeof(struct ipvs_key) == sizeof(struct inet_endpoint) + sizeof(int) + sizeof(uint32_t), "no padding");
static_assert(sizeof(struct inet_endpoint) == sizeof(sa_family_t) + 16 + sizeof(uint16_t), "no padding");

int ipvs_key_cmp(const struct ipvs_key *a, const struct ipvs_key *b);

// "tcp 10.0.0.1:80", "fwmark 7", "fwmark6 7". Returns buf.
#define IPVS_KEY_MAX (INET_ENDPOINT_MAX + 16)
const char *ipvs_key_format(const struct ipvs_key *key, char buf[IPVS_KEY_MAX]);

#endif
