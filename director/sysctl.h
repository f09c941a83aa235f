// SPDX-License-Identifier: Apache-2.0
// The kernel settings that the director sets or depends on, through /proc/sys. Floor 2.
#ifndef BRASS_DIRECTOR_SYSCTL_H
#define BRASS_DIRECTOR_SYSCTL_H

#include "shared/err.h"

#include <stdbool.h>

// Sets the two kernel settings that taking servers out needs, per network namespace (net/netfilter/ipvs/ip_vs_ctl.c):
// expire_nodest_conn=1, or new connections from a port that a client used before go to a server that is no longer
// there, and are dropped; expire_quiescent_template=1, or persistent clients stay with a server of weight 0 for ever.
// Returns 0 or -errno of the first that could not be set.
int sysctl_tune_ipvs(struct err *err);

// Does this host forward packets of the family? Without it the replies of nat backends end here.
bool sysctl_forwards(int family);

#endif
