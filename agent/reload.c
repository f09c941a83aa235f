// SPDX-License-Identifier: Apache-2.0
#include "agent/reload.h"

#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int reload_check(const struct config *old, struct config *next, struct err *err)
{
	if (!field_is_set(&config_fields, old, "node") && !field_is_set(&config_fields, next, "node"))
		memcpy(next->node, old->node, sizeof(next->node));
	if (strcmp(old->node, next->node) != 0)
		return err_set(err, -EINVAL, "node",
			"found %s; a running agent keeps its name, %s: restart it for another one", next->node,
			old->node);
	if (strcmp(old->run_dir, next->run_dir) != 0)
		return err_set(err, -EINVAL, "run_dir",
			"found %s; a running agent keeps its own, %s: restart it for another one", next->run_dir,
			old->run_dir);
	return 0;
}

static int by_service(const void *a, const void *b)
{
	return strcmp(((const struct config_backend *)a)->service, ((const struct config_backend *)b)->service);
}

static bool has(const struct config_backends *backends, const struct config_backend *backend)
{
	return backends->count &&
		bsearch(backend, backends->items, backends->count, sizeof(*backends->items), by_service);
}

int reload_keep_leaving(const struct config *old, struct config *next)
{
	struct config_backends *backends = &next->backends;
	const size_t own = backends->count;
	struct config_backend *items =
		reallocarray(backends->items, own + old->backends.count + 1, sizeof(*backends->items));

	if (!items)
		return -ENOMEM;
	backends->items = items;
	for (size_t i = 0; i < old->backends.count; i++) {
		struct config_backend *leaving = &items[backends->count];
		const struct config_backends known = { items, own };

		if (has(&known, &old->backends.items[i]))
			continue;
		*leaving = old->backends.items[i];
		leaving->leaving = true;
		backends->count++;
	}
	sort_items(items, backends->count, sizeof(*items), by_service);
	return 0;
}

struct client *reload_find(const struct client_list *clients, const char *url)
{
	char name[CLIENT_URL_MAX];

	client_url(url, name);
	for (size_t c = 0; c < clients->count; c++)
		if (strcmp(clients->items[c]->url, name) == 0)
			return clients->items[c];
	return NULL;
}
