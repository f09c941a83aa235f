// SPDX-License-Identifier: Apache-2.0
// What is wrong with a real server, from what probes of it have seen and what its agent says. Pure. Floor 1.
//
// The probes are connections to the real server itself and along the path of traffic, to the service's port and to one
// where hardly anything listens: a reset from there says that the host is alive, or that it has the VIP. A table of
// patterns, the first that fits from the top, gives the fault and a sentence.
#ifndef BRASS_DIRECTOR_FAULT_H
#define BRASS_DIRECTOR_FAULT_H

#include "shared/check.h"
#include "shared/field.h"
#include "shared/inet.h"
#include "shared/tunnel.h"

#include <stdbool.h>
#include <stdint.h>

enum fault_probe {
	FAULT_RIP,       // the real server's own address
	FAULT_RIP_OTHER, // the same, another port
	FAULT_VIP,       // along the path of traffic
	FAULT_VIP_OTHER, // the same, another port
	FAULT_FULL,      // along the path, with packets as large as it should carry
	FAULT_PROBES,
};

// An outcome beside those of enum check_outcome.
#define FAULT_NOT_RUN 31

enum fault_agent {
	FAULT_AGENT_NONE,
	FAULT_AGENT_LOST,
	FAULT_AGENT_UP,  // it has read back VIP, tunnel and settings as right
	FAULT_AGENT_BAD, // it says what is not right
};

struct fault_seen {
	int outcome[FAULT_PROBES]; // enum check_outcome, or FAULT_NOT_RUN
	int method;                // enum forward_method
	struct tunnel_options tunnel;
	enum fault_agent agent;
	bool check_fails;
	// for the sentence
	struct inet_addr vip, rip; // vip is not set for a firewall mark
	uint16_t port;
	uint32_t full_size;       // bytes
	const char *agent_reason; // "": none
	const char *check_reason;
};

enum fault {
	FAULT_NONE,
	FAULT_HOST_DOWN,
	FAULT_PROGRAM_DOWN,
	FAULT_PROGRAM_WRONG,
	FAULT_BOUND_TO_RIP,
	FAULT_NOT_DECAPSULATED,
	FAULT_VIP_MISSING,
	FAULT_TUNNEL_DROPS,
	FAULT_MTU,
	FAULT_FIREWALL,
	FAULT_AGENT,
	FAULT_UNKNOWN,
};
extern const struct field_choice fault_choices[];

#define FAULT_TEXT_MAX 640
enum fault fault_find(const struct fault_seen *seen, char ret_text[FAULT_TEXT_MAX]);

#endif
