// SPDX-License-Identifier: Apache-2.0
#include "agent/resource_list.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void resource_list_clear(struct resource_list *list)
{
	free(list->items);
	*list = (struct resource_list) { 0 };
}

// Where r is, or where it belongs.
static size_t position(const struct resource_list *list, const struct resource *r, bool *ret_found)
{
	size_t low = 0, high = list->count;

	while (low < high) {
		size_t mid = (low + high) / 2;
		int order = resource_cmp(&list->items[mid], r);

		if (order == 0) {
			*ret_found = true;
			return mid;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_found = false;
	return low;
}

int resource_list_add(struct resource_list *list, const struct resource *r)
{
	bool found;
	size_t at = position(list, r, &found);

	if (found)
		return 0;
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 16;
		struct resource *items = reallocarray(list->items, room, sizeof(*items));

		if (!items)
			return -ENOMEM;
		list->items = items;
		list->room = room;
	}
	memmove(&list->items[at + 1], &list->items[at], (list->count - at) * sizeof(*list->items));
	list->items[at] = *r;
	list->count++;
	return 0;
}

int resource_list_find(const struct resource_list *list, const struct resource *r)
{
	bool found;
	size_t at = position(list, r, &found);

	return found ? (int)at : -1;
}

void resource_list_remove(struct resource_list *list, const struct resource *r)
{
	int at = resource_list_find(list, r);

	if (at < 0)
		return;
	list->count--;
	memmove(&list->items[at], &list->items[at + 1], (list->count - (size_t)at) * sizeof(*list->items));
}
