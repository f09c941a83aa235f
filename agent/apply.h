// SPDX-License-Identifier: Apache-2.0
// Runs a plan: the only writer to the kernel. Floor 3.
#ifndef BRASS_AGENT_APPLY_H
#define BRASS_AGENT_APPLY_H

#include "agent/plan.h"
#include "shared/netsock.h"

// Runs every operation in order; each op's error and why say how it went. No IPv4 VIP is added when a setting that
// keeps the host from answering ARP is missing, and no tunnel is opened when its lock is. nft may be NULL when nothing
// of nftables is in the plan, or all of it is gone. Returns how many failed.
size_t apply_plan(struct netsock *ns, struct netsock *nft, struct plan *plan, const struct observed *observed);

#endif
