// SPDX-License-Identifier: Apache-2.0
// A sorted list of resources, each once. Floor 1.
#ifndef BRASS_AGENT_RESOURCE_LIST_H
#define BRASS_AGENT_RESOURCE_LIST_H

#include "agent/resource.h"

#include <stddef.h>

struct resource_list {
	struct resource *items; // sorted by resource_cmp, each once
	size_t count, room;
};

void resource_list_clear(struct resource_list *list);
// Keeps the order; the same thing twice is kept once. 0 or -ENOMEM.
int resource_list_add(struct resource_list *list, const struct resource *r);
// Index, or -1.
int resource_list_find(const struct resource_list *list, const struct resource *r);
void resource_list_remove(struct resource_list *list, const struct resource *r);

#endif
