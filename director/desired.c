// SPDX-License-Identifier: Apache-2.0
#include "director/desired.h"

#include "shared/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ip_vs.h>
#include <stdlib.h>
#include <string.h>

const struct field_choice backend_status_choices[] = {
	{ "lost", STATUS_LOST },
	{ "setup", STATUS_SETUP },
	{ "drain", STATUS_DRAIN },
	{ "down", STATUS_DOWN },
	{ "unknown", STATUS_UNKNOWN },
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
	if (backend->drain)
		return STATUS_DRAIN;
	switch (model_verdict(backend)) {
	case JUDGE_DOWN:
		return STATUS_DOWN;
	case JUDGE_UNKNOWN:
		return STATUS_UNKNOWN;
	case JUDGE_UP:
		break;
	}
	if (backend->suspect && backend->suspect->passive.out_ms)
		return STATUS_DOWN;
	return STATUS_UP;
}

static bool says_down(const struct backend *backend)
{
	return backend->agent && backend->agent_state == PROTOCOL_DOWN;
}

const char *desired_reason(const struct backend *backend)
{
	const char *said = backend->agent_reason ? backend->agent_reason : "";

	switch (desired_status(backend)) {
	case STATUS_LOST:
		return "the agent is silent";
	case STATUS_SETUP:
		return said;
	case STATUS_DRAIN:
		return backend->drain ? "it is leaving" : said;
	case STATUS_DOWN:
		if (model_verdict(backend) == JUDGE_DOWN)
			return backend->health->reason;
		// what the agent says of its own host comes first
		return backend->suspect && backend->suspect->passive.out_ms && !says_down(backend)
			? backend->suspect->reason
			: said;
	case STATUS_UNKNOWN:
		return "no check is over yet";
	case STATUS_UP:
		break;
	}
	return "";
}

// In thousandths.
static uint32_t part_of(const struct backend *backend)
{
	const struct backend_health *health = backend->health;

	if (backend->service->options.slow_start_ms == SLOW_ACCUMULATED)
		return health ? judge_accumulated_part(health->passed, health->filled) : JUDGE_WHOLE;
	return backend->comeback ? backend->comeback->part : JUDGE_WHOLE;
}

uint32_t desired_own_weight(const struct backend *backend)
{
	const uint32_t weight = backend->options.weight, now = weight * part_of(backend) / JUDGE_WHOLE;

	return now || !weight ? now : 1; // 0 would keep it out
}

uint32_t desired_weight(const struct backend *backend)
{
	if (model_is_pool(backend->service))
		return backend->pool_weight;
	return desired_status(backend) == STATUS_UP ? desired_own_weight(backend) : 0;
}

// The kernel's form of a prefix length: a mask in network order for IPv4, the length itself for IPv6.
static uint32_t netmask(int family, uint32_t prefix)
{
	if (family == AF_INET6)
		return prefix ? prefix : 128;
	return prefix ? htonl(UINT32_MAX << (32 - prefix)) : UINT32_MAX;
}

void desired_service(const struct service *service, struct ipvs_service *ret)
{
	const struct service_core *options = &service->options;

	*ret = (struct ipvs_service) {
		.key = service->key,
		.flags = model_flags(options),
		.timeout_s = options->persistent_s,
		.netmask = netmask(options->family, options->prefix),
	};
	memcpy(ret->scheduler, options->scheduler, sizeof(ret->scheduler));
	memcpy(ret->engine, options->engine, sizeof(ret->engine));
	if (options->persistent_s)
		ret->flags |= IP_VS_SVC_F_PERSISTENT;
	if (options->ops)
		ret->flags |= IP_VS_SVC_F_ONEPACKET;
}

// How the kernel is to forward.
static void forwarding(int method, const struct tunnel_options *tunnel, struct ipvs_dest *ret)
{
	static const struct {
		uint16_t forward;
		uint8_t tunnel;
	} methods[] = {
		[FORWARD_DR] = { IP_VS_CONN_F_DROUTE, 0 },
		[FORWARD_NAT] = { IP_VS_CONN_F_MASQ, 0 },
		[FORWARD_IPIP] = { IP_VS_CONN_F_TUNNEL, IP_VS_CONN_F_TUNNEL_TYPE_IPIP },
		[FORWARD_GUE] = { IP_VS_CONN_F_TUNNEL, IP_VS_CONN_F_TUNNEL_TYPE_GUE },
		[FORWARD_GRE] = { IP_VS_CONN_F_TUNNEL, IP_VS_CONN_F_TUNNEL_TYPE_GRE },
	};
	static const uint16_t checksums[] = {
		[CHECKSUM_OFF] = IP_VS_TUNNEL_ENCAP_FLAG_NOCSUM,
		[CHECKSUM_ON] = IP_VS_TUNNEL_ENCAP_FLAG_CSUM,
		[CHECKSUM_REMOTE] = IP_VS_TUNNEL_ENCAP_FLAG_REMCSUM,
	};

	ret->forward = methods[method].forward;
	ret->tunnel_type = methods[method].tunnel;
	ret->tunnel_port = tunnel->port;
	ret->tunnel_flags = checksums[tunnel->checksum];
}

void desired_dest(const struct backend *backend, struct ipvs_dest *ret)
{
	const struct backend_core *options = &backend->options;

	*ret = (struct ipvs_dest) {
		.to = backend->place.at,
		.weight = desired_weight(backend),
		.upper = options->upper,
		.lower = options->lower,
	};
	forwarding(options->method, &options->tunnel, ret);
}

void desired_path(const struct probe_path *path, struct ipvs_service *ret, struct ipvs_dest *ret_dest)
{
	*ret = (struct ipvs_service) { .key = path->key, .scheduler = "rr", .netmask = netmask(path->way.family, 0) };
	*ret_dest = (struct ipvs_dest) { .to = path->way.to, .weight = 1 };
	forwarding(path->way.method, &path->way.tunnel, ret_dest);
	// or each UDP check would leave a connection behind for five minutes; TCP does not care
	if (path->way.method != FORWARD_NAT)
		ret->flags = IP_VS_SVC_F_ONEPACKET;
}

static int by_endpoint(const void *a, const void *b)
{
	return ipvs_dest_cmp(a, b);
}

int desired_dests(const struct service *service, struct ipvs_dest **ret, size_t *ret_count)
{
	size_t count = service->backend_count, i = 0;
	struct ipvs_dest *dests = calloc(count ? count : 1, sizeof(*dests));

	if (!dests)
		return -ENOMEM;
	for (const struct backend *b = service->backends; b; b = b->next)
		desired_dest(b, &dests[i++]);
	sort_items(dests, count, sizeof(*dests), by_endpoint);
	*ret = dests;
	*ret_count = count;
	return 0;
}
