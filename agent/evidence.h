// SPDX-License-Identifier: Apache-2.0
// Who took away or changed what is ours: the last rtnetlink events, kept as evidence for log lines and the status.
// Floor 2.
//
// A notification carries the netlink port of the request that caused it in nlmsg_pid. The kernel gives a process's
// first socket the process's number (net/netlink/af_netlink.c, netlink_autobind), libnl the number with bits of its own
// above; further sockets get others, that say nothing. The name is read from /proc when the event comes, since tools
// live for milliseconds. Up to Linux 6.1 events of devices carry no port, and those of IPv6 addresses and of settings
// never do. So this is best effort: it is told to people, and nothing is decided by it.
#ifndef BRASS_AGENT_EVIDENCE_H
#define BRASS_AGENT_EVIDENCE_H

#include "agent/resource.h"

#include <linux/netlink.h>
#include <stdbool.h>
#include <stdint.h>

#define EVIDENCE_WHO_MAX 64
#define EVIDENCE_KEPT 128

struct evidence {
	uint32_t own; // number of this process, set by the caller: what it does itself is left out
	struct evidence_event {
		bool is_set;
		enum resource_kind kind;
		struct inet_addr addr; // VIP, RULE; ROUTE: family only
		uint32_t table;        // ROUTE, RULE
		char dev[IFNAMSIZ];    // DEVICE
		uint32_t port;         // of the sender
		char who[EVIDENCE_WHO_MAX];
	} events[EVIDENCE_KEPT]; // a ring
	size_t next;
};

// An event of rtnetlink; those of this process are left out.
void evidence_note(struct evidence *evidence, struct nlmsghdr *hdr);
// "ip (pid 1234)", "process 1234, gone by now"; NULL: no event was seen that tells who changed this. Of the latest one.
const char *evidence_find(const struct evidence *evidence, const struct resource *what);
// It has been told: the next change of this has its own event.
void evidence_forget(struct evidence *evidence, const struct resource *what);

// Words for the sender of a message, and for nobody known.
void evidence_name(uint32_t port, char who[EVIDENCE_WHO_MAX]);
#define EVIDENCE_NOBODY "somebody (the kernel does not say who)"

#endif
