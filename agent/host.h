// SPDX-License-Identifier: Apache-2.0
// The host as the agent keeps it: observe, plan, journal, apply, look again, until nothing is left to do. Floor 3.
#ifndef BRASS_AGENT_HOST_H
#define BRASS_AGENT_HOST_H

#include "agent/journal.h"
#include "agent/plan.h"
#include "agent/spec.h"
#include "shared/netsock.h"

struct host {
	struct netsock *sock;
	struct netsock *nft; // NULL: not asked for yet, or the kernel has no nftables
	bool no_nft;         // it has none, and that was said
	struct journal journal;
	struct observed seen; // in the last round
	struct plan left;     // after the last round: what could not be done
	size_t repairs;       // things of ours that were gone or changed, and were put back
	size_t operations;    // done since the start
	bool follows_main;    // the main routing table matters
	bool said_too_many;
};

int host_open(const char *run_dir, struct host *ret, struct err *err);
// What was set up stays.
void host_close(struct host *host);

// Makes the host what spec says; fills in spec->mtu and spec->lockdown.possible. 0 also when conflicts are left
// (host->left says which); -errno when the kernel cannot be read or the journal not be written: then nothing more is
// changed.
int host_reconcile(struct host *host, struct spec *spec, struct err *err);

// What keeps this service from being right, "" when nothing does. Valid after host_reconcile with the same spec.
void host_problem(
	struct host *host, const struct spec *spec, const struct spec_service *service, char *buf, size_t size);

#endif
