// SPDX-License-Identifier: Apache-2.0
#include "director/known.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int known_grow(void *array, size_t count, size_t *room, size_t size)
{
	void *items;

	if (count < *room)
		return 0;
	size_t more = *room ? 2 * *room : 16;

	memcpy(&items, array, sizeof(items));
	items = reallocarray(items, more, size);
	if (!items)
		return -ENOMEM;
	memcpy(array, &items, sizeof(items));
	*room = more;
	return 0;
}

struct known *known_find(const struct known_table *table, const struct ipvs_key *key)
{
	struct known *known = NULL;

	HASH_FIND(hh, table->services, key, sizeof(*key), known);
	return known;
}

struct known *known_add(struct known_table *table, const struct ipvs_service *service)
{
	struct known *known = calloc(1, sizeof(*known));

	if (!known)
		return NULL;
	known->key = service->key;
	known->service = *service;
	HASH_ADD(hh, table->services, key, sizeof(known->key), known);
	return known;
}

void known_forget(struct known_table *table, struct known *known)
{
	HASH_DEL(table->services, known);
	free(known->dests);
	free(known);
}

// Where the destination stands in the list, or where it would: *ret_found says which.
static size_t position(const struct known *known, const struct inet_endpoint *to, bool *ret_found)
{
	const struct ipvs_dest key = { .to = *to };
	size_t low = 0, high = known->count;

	*ret_found = false;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int c = ipvs_dest_cmp(&known->dests[middle], &key);

		if (c == 0) {
			*ret_found = true;
			return middle;
		}
		if (c < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int known_learn(struct known *known, enum ipvs_verb verb, const struct ipvs_dest *dest)
{
	bool found;
	size_t at = position(known, &dest->to, &found);

	if (verb == IPVS_DEL) {
		if (found)
			memmove(&known->dests[at], &known->dests[at + 1],
				(--known->count - at) * sizeof(known->dests[0]));
		return 0;
	}
	if (!found) {
		if (known_grow(&known->dests, known->count, &known->room, sizeof(known->dests[0])))
			return -ENOMEM;
		memmove(&known->dests[at + 1], &known->dests[at], (known->count++ - at) * sizeof(known->dests[0]));
	}
	known->dests[at] = *dest;
	return 0;
}

static int observe_dests(const struct known_table *table, struct known *known, struct err *err)
{
	_cleanup_free_ struct ipvs_counted *counted = NULL;
	size_t count = 0;
	int rc = ipvs_dump_dests(table->ipvs, &known->key, &counted, &count, err);

	if (rc)
		return rc;
	struct ipvs_dest *dests = calloc(count ? count : 1, sizeof(*dests));
	if (!dests)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	for (size_t i = 0; i < count; i++)
		dests[i] = counted[i].dest;
	free(known->dests);
	known->dests = dests;
	known->count = known->room = count;
	return 0;
}

// Looks at one service again.
int known_observe(struct known_table *table, const struct ipvs_key *key, struct err *err)
{
	struct known *known = known_find(table, key);
	struct ipvs_service service;
	int rc = ipvs_get_service(table->ipvs, key, &service, NULL, err);

	if (rc == -ESRCH && known)
		known_forget(table, known);
	if (rc)
		return rc == -ESRCH ? 0 : rc;
	if (!known)
		known = known_add(table, &service);
	if (!known)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	known->service = service;
	return observe_dests(table, known, err);
}

int known_verify_start(struct known_table *table, struct err *err)
{
	_cleanup_free_ struct ipvs_service *services = NULL;
	size_t count = 0;
	int rc = ipvs_dump_services(table->ipvs, &services, &count, err);

	if (rc)
		return rc;
	struct ipvs_key *keys = calloc(count ? count : 1, sizeof(*keys));
	if (!keys)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	for (struct known *known = table->services; known; known = known->hh.next)
		known->seen = false;
	for (size_t i = 0; i < count; i++) {
		struct known *known = known_find(table, &services[i].key);

		if (!known)
			known = known_add(table, &services[i]);
		keys[i] = services[i].key;
		if (!known) {
			free(keys);
			return err_set(err, -ENOMEM, NULL, "out of memory");
		}
		known->service = services[i];
		known->seen = true;
	}
	for (struct known *known = table->services, *next; known; known = next) {
		next = known->hh.next;
		if (!known->seen)
			known_forget(table, known);
	}
	free(table->unseen);
	table->unseen = keys;
	table->unseen_count = count;
	return 0;
}

int known_verify_next(struct known_table *table, struct ipvs_key *ret, struct err *err)
{
	if (!table->unseen_count) {
		free(table->unseen);
		table->unseen = NULL;
		return 0;
	}
	*ret = table->unseen[--table->unseen_count];
	struct known *known = known_find(table, ret);
	int rc = known ? observe_dests(table, known, err) : 0;

	if (rc == -ESRCH) { // it went since
		known_forget(table, known);
		rc = 0;
	}
	return rc ? rc : 1;
}

void known_clear(struct known_table *table)
{
	while (table->services)
		known_forget(table, table->services);
	free(table->unseen);
	table->unseen = NULL;
}

const struct ipvs_dest *known_dest(const struct known *known, const struct inet_endpoint *to)
{
	bool found;
	size_t at = position(known, to, &found);

	return found ? &known->dests[at] : NULL;
}

void known_take(struct known *known, struct ipvs_dest *dests, size_t count)
{
	free(known->dests);
	known->dests = dests;
	known->count = known->room = count;
}
