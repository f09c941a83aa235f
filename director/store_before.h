// SPDX-License-Identifier: Apache-2.0
// The rows of a turn as they were before it changed them, so that it can be taken back. Pure. Floor 2.
//
// All of it stands in two pieces of memory: a turn may change 100,000 rows between as many objects that stay, and
// small pieces between those would stay as holes.
#ifndef BRASS_DIRECTOR_STORE_BEFORE_H
#define BRASS_DIRECTOR_STORE_BEFORE_H

#include "shared/out.h"

#include <stddef.h>

struct store_befores {
	struct store_before_note *notes;
	size_t count, room;
	struct out texts;
};

struct store_before {
	int kind; // enum store_kind
	const char *owner, *name;
	const char *text; // NULL: it was not there
};

void store_befores_clear(struct store_befores *befores);
// In the order of the changes. text NULL: it was not there. 0 or -ENOMEM.
int store_befores_note(struct store_befores *befores, int kind, const char *owner, const char *name, const char *text);
// Each changed row once, by kind, owner and name, as it was before its first change. The array is the caller's to free;
// its strings live as long as befores. 0 or -ENOMEM.
int store_befores_rows(const struct store_befores *befores, struct store_before **ret, size_t *ret_count);

#endif
