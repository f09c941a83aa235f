// SPDX-License-Identifier: Apache-2.0
#include "director/desired.h"

#include "shared/util.h"

#include <errno.h>
#include <linux/ip_vs.h>
#include <stdlib.h>
#include <string.h>

const struct field_choice backend_status_choices[] = {
	{ "lost", STATUS_LOST },
	{ "setup", STATUS_SETUP },
	{ "drain", STATUS_DRAIN },
	{ "down", STATUS_DOWN },
	{ "up", STATUS_UP },
	{ NULL, 0 },
};

enum backend_status desired_status(const struct backend *backend)
{
	if (backend->agent) {
		if (backend->agent->lost)
			return STATUS_LOST;
		switch ((enum protocol_state)backend->agent_state) {
		case PROTOCOL_SETUP:
			return STATUS_SETUP;
		case PROTOCOL_DRAIN:
			return STATUS_DRAIN;
		case PROTOCOL_DOWN:
			return STATUS_DOWN;
		case PROTOCOL_UP:
			break;
		}
	}
	return backend->health.down ? STATUS_DOWN : STATUS_UP;
}

const char *desired_reason(const struct backend *backend)
{
	switch (desired_status(backend)) {
	case STATUS_LOST:
		return "the agent is silent";
	case STATUS_SETUP:
	case STATUS_DRAIN:
		return backend->agent_reason;
	case STATUS_DOWN:
		return backend->health.down ? backend->health.reason : backend->agent_reason;
	case STATUS_UP:
		break;
	}
	return "";
}

uint32_t desired_weight(const struct backend *backend)
{
	return desired_status(backend) == STATUS_UP ? backend->options.weight : 0;
}

void desired_key(const struct service_options *options, struct ipvs_key *ret)
{
	*ret = (struct ipvs_key) { .vip = { options->host, options->port }, .protocol = options->protocol };
}

void desired_service(const struct service *service, struct ipvs_service *ret)
{
	const struct service_options *options = &service->options;

	*ret = (struct ipvs_service) {
		.flags = options->flags,
		.timeout_s = options->persistent_s,
		.netmask = options->host.family == AF_INET6 ? 128 : UINT32_MAX,
	};
	desired_key(options, &ret->key);
	memcpy(ret->scheduler, options->scheduler, sizeof(ret->scheduler));
	if (options->persistent_s)
		ret->flags |= IP_VS_SVC_F_PERSISTENT;
	if (options->ops)
		ret->flags |= IP_VS_SVC_F_ONEPACKET;
}

void desired_dest(const struct backend *backend, struct ipvs_dest *ret)
{
	static const uint32_t forwards[] = {
		[FORWARD_DR] = IP_VS_CONN_F_DROUTE,
		[FORWARD_IPIP] = IP_VS_CONN_F_TUNNEL,
		[FORWARD_NAT] = IP_VS_CONN_F_MASQ,
	};

	*ret = (struct ipvs_dest) {
		.to = { backend->options.host, backend->options.port },
		.forward = forwards[backend->options.method],
		.weight = desired_weight(backend),
	};
}

static int by_endpoint(const void *a, const void *b)
{
	return ipvs_dest_cmp(a, b);
}

int desired_dests(const struct service *service, struct ipvs_dest **ret, size_t *ret_count)
{
	size_t count = HASH_COUNT(service->backends), i = 0;
	struct ipvs_dest *dests = calloc(count ? count : 1, sizeof(*dests));

	if (!dests)
		return -ENOMEM;
	for (const struct backend *b = service->backends; b; b = b->hh.next)
		desired_dest(b, &dests[i++]);
	sort_items(dests, count, sizeof(*dests), by_endpoint);
	*ret = dests;
	*ret_count = count;
	return 0;
}

const struct ipvs_dest *desired_find_dest(const struct ipvs_dest *dests, size_t count, const struct backend *backend)
{
	struct ipvs_dest want;

	desired_dest(backend, &want);
	return count ? bsearch(&want, dests, count, sizeof(*dests), by_endpoint) : NULL;
}
