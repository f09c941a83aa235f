// SPDX-License-Identifier: Apache-2.0
// One walk over two sorted lists: what is only wanted, what is only there, what is in both. Pure. Floor 0.
#ifndef BRASS_SHARED_DIFF_H
#define BRASS_SHARED_DIFF_H

#include <stddef.h>

struct diff_list {
	const void *items;
	size_t count, size; // number of items, bytes of one
};

// Both lists are sorted by compare, without repetitions. visit is called once a key, in order: with want only (to add),
// have only (to remove), or both (to keep or change). A visit that returns non-zero ends the walk with that value.
int diff_sorted(struct diff_list want, struct diff_list have, int (*compare)(const void *want, const void *have),
	int (*visit)(void *ctx, const void *want, const void *have), void *ctx);

#endif
