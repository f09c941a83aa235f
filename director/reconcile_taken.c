// SPDX-License-Identifier: Apache-2.0
#include "director/reconcile_taken.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct taken *taken_find(struct taken *list, const struct ipvs_key *key)
{
	struct taken *taken = NULL;

	HASH_FIND(hh, list, key, sizeof(*key), taken);
	return taken;
}

int taken_note(struct taken **list, const struct known *known)
{
	if (taken_find(*list, &known->key))
		return 0;
	struct taken *taken = calloc(1, sizeof(*taken));
	if (!taken)
		return -ENOMEM;
	taken->dests = calloc(known->count ? known->count : 1, sizeof(*taken->dests));
	if (!taken->dests) {
		free(taken);
		return -ENOMEM;
	}
	taken->key = known->key;
	taken->service = known->service;
	taken->count = known->count;
	if (known->count)
		memcpy(taken->dests, known->dests, known->count * sizeof(*taken->dests));
	HASH_ADD(hh, *list, key, sizeof(taken->key), taken);
	return 0;
}

void taken_forget(struct taken **list, struct taken *taken)
{
	HASH_DEL(*list, taken);
	free(taken->dests);
	free(taken);
}

void taken_clear(struct taken **list)
{
	while (*list)
		taken_forget(list, *list);
}
