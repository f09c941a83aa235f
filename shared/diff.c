// SPDX-License-Identifier: Apache-2.0
#include "shared/diff.h"

static const void *item(const struct diff_list *list, size_t i)
{
	return (const char *)list->items + i * list->size;
}

int diff_sorted(struct diff_list want, struct diff_list have, int (*compare)(const void *want, const void *have),
	int (*visit)(void *ctx, const void *want, const void *have), void *ctx)
{
	size_t w = 0, h = 0;
	int rc = 0;

	while (!rc && (w < want.count || h < have.count)) {
		int order = w == want.count ? 1 : h == have.count ? -1 : compare(item(&want, w), item(&have, h));

		if (order < 0)
			rc = visit(ctx, item(&want, w++), NULL);
		else if (order > 0)
			rc = visit(ctx, NULL, item(&have, h++));
		else
			rc = visit(ctx, item(&want, w++), item(&have, h++));
	}
	return rc;
}
