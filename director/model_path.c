// SPDX-License-Identifier: Apache-2.0
// Ways that checks take, and who shares them.
#include "director/model.h"

#include "shared/util.h"

#include <stdlib.h>
#include <string.h>

bool model_traffic_way(const struct backend *backend, uint16_t port, struct probe_way *ret)
{
	const struct service_core *service = &backend->service->options;
	const struct backend_core *options = &backend->options;

	if (service->fwmark || !(port ? port : service->port))
		return false;
	memset(ret, 0, sizeof(*ret)); // padding, too: it is a key
	ret->to.addr = options->host;
	// nat rewrites the service's port; a port of the check's own stays as it is
	ret->to.port = options->method == FORWARD_NAT && !port ? options->port : 0;
	ret->family = service->host.family;
	ret->method = options->method;
	ret->tunnel.port = options->tunnel.port;
	ret->tunnel.checksum = options->tunnel.checksum;
	return true;
}

bool model_probe_way(const struct backend *backend, struct probe_way *ret)
{
	const struct check_spec *spec = model_pulse(backend);
	const uint16_t port = spec ? (uint16_t)spec->args.port : 0;

	if (!spec || spec->kind == CHECK_EXEC || spec->kind == CHECK_AGENT) // these send no packets of ours
		return false;
	switch ((enum check_via)spec->via) {
	case CHECK_VIA_RIP:
		return false;
	case CHECK_VIA_AUTO:
		// a port of its own may be one for checks, which listens on the RIP only
		if (backend->options.method == FORWARD_NAT || (port && port != backend->options.port))
			return false;
		break;
	case CHECK_VIA_VIP:
		break;
	}
	return model_traffic_way(backend, port, ret);
}

struct inet_endpoint model_probe_to(const struct backend *backend, bool along_path)
{
	const struct service_core *service = &backend->service->options;

	return along_path ? (struct inet_endpoint) { service->host, service->port }
			  : (struct inet_endpoint) { backend->options.host, backend->options.port };
}

struct probe_path *model_path(const struct model *model, const struct probe_way *way)
{
	struct probe_path *path = NULL;

	HASH_FIND(hh, model->paths, way, sizeof(*way), path);
	return path;
}

struct probe_path *model_path_by_key(const struct model *model, const struct ipvs_key *key)
{
	struct probe_path *path = NULL;

	HASH_FIND(hh_key, model->paths_by_key, key, sizeof(*key), path);
	return path;
}

struct probe_path *model_add_path(struct model *model, const struct probe_way *way, uint32_t mark)
{
	struct probe_path *path = calloc(1, sizeof(*path));

	if (!path)
		return NULL;
	memcpy(&path->way, way, sizeof(*way));
	path->key.fwmark = mark;
	path->key.vip.addr.family = way->family;
	HASH_ADD(hh, model->paths, way, sizeof(path->way), path);
	HASH_ADD(hh_key, model->paths_by_key, key, sizeof(path->key), path);
	return path;
}

void model_remove_path(struct model *model, struct probe_path *path)
{
	HASH_DEL(model->paths, path);
	HASH_DELETE(hh_key, model->paths_by_key, path);
	free(path->problem);
	free(path);
}
