// SPDX-License-Identifier: Apache-2.0
// Which schedulers and persistence engines this kernel has, or can load. Floor 3.
//
// Found out by a service of a firewall mark that nobody uses, made and deleted within one datagram, once for each pair:
// a change that needs what the kernel lacks is refused before it is stored.
#ifndef BRASS_DIRECTOR_PROVEN_H
#define BRASS_DIRECTOR_PROVEN_H

#include "director/ipvs.h"

#define PROVEN_MAX 32 // pairs; more are found out anew

struct proven {
	struct {
		char scheduler[16], engine[16];
	} pairs[PROVEN_MAX];
	size_t count, next;
};

bool proven_has(const struct proven *proven, const char *scheduler, const char *engine);
void proven_add(struct proven *proven, const struct ipvs_service *service); // the kernel holds it

// 0: the kernel has both, or it could not be found out; -ENOENT: it has not, and could not load it. Refusals of the
// IPVS socket go to somebody else afterwards (ipvs_on_refused). *ret_left: the service could not be deleted, or it is
// not known whether it was; its key is in *ret_key.
int proven_check(struct proven *proven, struct ipvs *ipvs, const char *scheduler, const char *engine, bool *ret_left,
	struct ipvs_key *ret_key);

#endif
