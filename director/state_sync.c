// SPDX-License-Identifier: Apache-2.0
// Which sync daemons somebody asked for outlives a restart: one row of the store. Nothing of it is in the model.
#include "director/state_internal.h"

#include <errno.h>

#define NAME "sync"

int state_keep_sync(struct state *state, const char *text, struct err *err)
{
	return state_row(state, STORE_SYNC, "", NAME, text, err);
}

static int read_row(void *ctx, const char *owner, const char *name, const char *text, struct err *err)
{
	json_t *json = json_loads(text, 0, NULL);
	int rc = json ? field_parse(&sync_fields, json, ctx, err) : err_set(err, -EINVAL, NULL, "a row is not JSON");

	(void)owner, (void)name;
	json_decref(json);
	if (!rc)
		rc = sync_check(ctx, err);
	if (rc)
		err_context(err, "sync daemons in the store: ");
	return rc;
}

int state_kept_sync(struct store *store, struct sync_wanted *ret, struct err *err)
{
	struct sync_wanted wanted = { 0 };
	int rc = store_each(store, STORE_SYNC, read_row, &wanted, err);

	if (!rc)
		*ret = wanted;
	return rc;
}
