// SPDX-License-Identifier: Apache-2.0
#include "director/desired.h"

#include "director/split.h"
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
	return STATUS_UP;
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
		return model_verdict(backend) == JUDGE_DOWN ? backend->health->reason : said;
	case STATUS_UNKNOWN:
		return "no check is over yet";
	case STATUS_UP:
		break;
	}
	return "";
}

// The version of a backend: which of the split's shares it belongs to, -1: none.
static int version_of(const struct split_options *split, const struct backend *backend)
{
	const char *value = model_label(backend, split->label);

	for (uint32_t i = 0; value && i < split->count; i++)
		if (strcmp(split->shares[i].value, value) == 0)
			return (int)i;
	return -1;
}

// Schedulers that divide a table of fixed size by weight.
static uint32_t slots_of(const char *scheduler)
{
	if (strcmp(scheduler, "sh") == 0)
		return SPLIT_SH_BUCKETS;
	return strcmp(scheduler, "mh") == 0 ? SPLIT_MH_SLOTS : 0;
}

int desired_split(struct service *service)
{
	const struct split_options *split = service->split;
	size_t i = 0;

	if (!split)
		return 0;
	_cleanup_free_ struct split_group *groups = calloc(split->count, sizeof(*groups));
	_cleanup_free_ struct split_member *members = calloc(service->backend_count + 1, sizeof(*members));
	if (!groups || !members)
		return -ENOMEM;
	for (uint32_t g = 0; g < split->count; g++)
		groups[g].share = split->shares[g].share;
	for (const struct backend *b = service->backends; b; b = b->next)
		members[i++] = (struct split_member) {
			.group = version_of(split, b),
			.base = desired_status(b) == STATUS_UP ? desired_own_weight(b) : 0,
		};
	split_weights(groups, split->count, members, i, slots_of(service->options.scheduler));
	i = 0;
	for (struct backend *b = service->backends; b; b = b->next)
		b->split_weight = members[i++].weight;
	return 0;
}

void desired_silent(const struct service *service, struct out *out)
{
	const struct split_options *split = service->split;
	bool heard[MODEL_SHARES_MAX] = { false };

	if (!split)
		return;
	for (const struct backend *b = service->backends; b; b = b->next) {
		int version = version_of(split, b);

		if (version >= 0 && b->split_weight)
			heard[version] = true;
	}
	for (uint32_t i = 0; i < split->count; i++) {
		if (heard[i] || !split->shares[i].share)
			continue;
		if (out->len)
			out_text(out, ", ");
		out_text(out, split->shares[i].value);
	}
}

uint32_t desired_own_weight(const struct backend *backend)
{
	const uint32_t weight = backend->options.weight,
		       part = backend->comeback ? backend->comeback->part : JUDGE_WHOLE,
		       now = weight * part / JUDGE_WHOLE;

	return now || !weight ? now : 1; // 0 would keep it out
}

uint32_t desired_weight(const struct backend *backend)
{
	if (desired_status(backend) != STATUS_UP)
		return 0;
	return backend->service->split ? backend->split_weight : desired_own_weight(backend);
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

void desired_dest(const struct backend *backend, struct ipvs_dest *ret)
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
	const struct backend_core *options = &backend->options;

	*ret = (struct ipvs_dest) {
		.to = backend->place.at,
		.forward = methods[options->method].forward,
		.tunnel_type = methods[options->method].tunnel,
		.tunnel_port = options->tunnel.port,
		.tunnel_flags = checksums[options->tunnel.checksum],
		.weight = desired_weight(backend),
		.upper = options->upper,
		.lower = options->lower,
	};
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
