// SPDX-License-Identifier: Apache-2.0
// What the kernel's IPVS table is known to hold, service by service, and how that is found out. Floor 3.
//
// Kept by reconcile.c, which also learns here what its own messages have made of it.
#ifndef BRASS_DIRECTOR_KNOWN_H
#define BRASS_DIRECTOR_KNOWN_H

#include "director/ipvs.h"

#include <uthash.h>

// One service.
struct known {
	UT_hash_handle hh;
	struct ipvs_key key;
	struct ipvs_service service;
	struct ipvs_dest *dests; // sorted by ipvs_dest_cmp
	size_t count, room;
	bool ours; // made, or taken over, by us: may be removed when the model no longer has it
	bool seen; // by the verification that begins
};

struct known_table {
	struct ipvs *ipvs;
	struct known *services;
	struct ipvs_key *unseen; // of the verification under way; NULL: none is
	size_t unseen_count;
};

struct known *known_find(const struct known_table *table, const struct ipvs_key *key);
struct known *known_add(struct known_table *table, const struct ipvs_service *service); // NULL without memory
void known_forget(struct known_table *table, struct known *known);
void known_clear(struct known_table *table);

// The destination with this place, NULL when there is none.
const struct ipvs_dest *known_dest(const struct known *known, const struct inet_endpoint *to);
// The kernel has taken this change. 0 or -ENOMEM.
int known_learn(struct known *known, enum ipvs_verb verb, const struct ipvs_dest *dest);
// The service holds exactly these, sorted; the array is taken over.
void known_take(struct known *known, struct ipvs_dest *dests, size_t count);

// Looks at one service again.
int known_observe(struct known_table *table, const struct ipvs_key *key, struct err *err);
// At all of them: start reads the list of services, each next the destinations of one, whose key it tells. next returns
// 1, 0 when all were seen, or -errno.
int known_verify_start(struct known_table *table, struct err *err);
int known_verify_next(struct known_table *table, struct ipvs_key *ret, struct err *err);

// Makes room for one more item of an array. 0 or -ENOMEM.
int known_grow(void *array, size_t count, size_t *room, size_t size);

#endif
