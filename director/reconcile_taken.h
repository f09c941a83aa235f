// SPDX-License-Identifier: Apache-2.0
// What somebody else had in the kernel at the places that the turn under way takes over. Floor 3.
//
// A turn that is refused is taken back, and what was there before it is put back with its real servers.
#ifndef BRASS_DIRECTOR_RECONCILE_TAKEN_H
#define BRASS_DIRECTOR_RECONCILE_TAKEN_H

#include "director/known.h"

struct taken {
	UT_hash_handle hh;
	struct ipvs_key key;
	struct ipvs_service service;
	struct ipvs_dest *dests; // sorted by ipvs_dest_cmp; owned
	size_t count;
};

struct taken *taken_find(struct taken *list, const struct ipvs_key *key);
// It is about to be taken over; what was noted before stays. 0 or -ENOMEM.
int taken_note(struct taken **list, const struct known *known);
void taken_forget(struct taken **list, struct taken *taken);
void taken_clear(struct taken **list);

#endif
