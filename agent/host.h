// SPDX-License-Identifier: Apache-2.0
// The host as the agent keeps it: observe, plan, journal, apply, look again, until nothing is left to do. Floor 3.
#ifndef BRASS_AGENT_HOST_H
#define BRASS_AGENT_HOST_H

#include "agent/journal.h"
#include "agent/plan.h"
#include "agent/repairs.h"
#include "agent/spec.h"
#include "shared/netsock.h"

struct host {
	struct netsock *sock;
	struct netsock *nft; // NULL: not asked for yet, or the kernel has no nftables
	bool no_nft;         // it has none, and that was said
	msec_t nft_again_ms; // then: when it is asked again
	struct journal journal;
	struct observed seen;     // in the last round
	struct plan left;         // after the last round: what could not be done
	size_t operations;        // done since the start
	struct evidence evidence; // from the monitor
	struct repairs repairs;
	msec_t look_again_ms; // in so many milliseconds; -1: at the next event or check
	bool follows_main;    // the main routing table matters
	bool said_too_many;
	bool journal_changed; // and is not on disk yet
	bool keeps_all; // set by the owner: not all that is wanted is known, so what was set up stays, and is kept so
};

// -EPERM without the right to change the network.
int host_may_change(struct err *err);

int host_open(const char *run_dir, struct host *ret, struct err *err);
// Only to look: nothing is made, moved or written, and only host_preview and host_address may follow.
int host_peek(const char *run_dir, struct host *ret, struct err *err);
// What was set up stays.
void host_close(struct host *host);

// Makes the host what spec says; fills in spec->mtu and spec->lockdown.possible. 0 also when conflicts are left
// (host->left says which); -errno when the kernel cannot be read or the journal not be written: then nothing more is
// changed.
int host_reconcile(struct host *host, struct spec *spec, struct err *err);

// Undoes everything, in reverse order, and removes the journal. On an error the journal says what is left.
int host_give_back(struct host *host, struct err *err);

// This host's own address on the way to its default gateway; -ENETUNREACH without one.
int host_address(const struct host *host, struct inet_addr *ret);

// What host_reconcile would do first, in ret; host->seen is what it is based on.
int host_preview(struct host *host, struct spec *spec, struct plan *ret, struct err *err);

// What keeps this service from being right, "" when nothing does. Valid after host_reconcile with the same spec.
void host_problem(
	struct host *host, const struct spec *spec, const struct spec_service *service, char *buf, size_t size);

#endif
