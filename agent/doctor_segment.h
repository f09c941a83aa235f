// SPDX-License-Identifier: Apache-2.0
// Who in a segment says that it has an address? Asks so that nobody's cache learns from it. Floor 5.
//
// IPv4: an ARP probe (RFC 5227, 2.1.1: the sender's address is 0.0.0.0). IPv6: a neighbour solicitation as duplicate
// detection sends it (RFC 4862, 5.4.2: from ::), whose answers go to all nodes. Everybody who answers within the time
// is listed; this host's own answers on the same device are not heard.
#ifndef BRASS_AGENT_DOCTOR_SEGMENT_H
#define BRASS_AGENT_DOCTOR_SEGMENT_H

#include "shared/clock.h"
#include "shared/err.h"
#include "shared/iflink.h"
#include "shared/inet.h"

#include <stddef.h>
#include <stdint.h>

#define DOCTOR_SEGMENT_ANSWERS_MAX 16

struct doctor_question {
	struct inet_addr addr;
	size_t count; // out
	uint8_t macs[DOCTOR_SEGMENT_ANSWERS_MAX][6];
};

// Asks twice and listens for wait_ms in all. 0, or -errno: -EPERM without CAP_NET_RAW.
int doctor_segment_ask(
	const struct iflink *device, struct doctor_question *questions, size_t count, msec_t wait_ms, struct err *err);

#endif
