// SPDX-License-Identifier: Apache-2.0
#include "director/ipvs_key.h"

#include <stdio.h>

int ipvs_key_cmp(const struct ipvs_key *a, const struct ipvs_key *b)
{
	if (a->fwmark != b->fwmark)
		return a->fwmark < b->fwmark ? -1 : 1;
	if (a->protocol != b->protocol)
		return a->protocol < b->protocol ? -1 : 1;
	return inet_endpoint_cmp(&a->vip, &b->vip);
}

static const char *protocol_name(int protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return "tcp";
	case IPPROTO_UDP:
		return "udp";
	case IPPROTO_SCTP:
		return "sctp";
	default:
		return "other";
	}
}

const char *ipvs_key_format(const struct ipvs_key *key, char buf[IPVS_KEY_MAX])
{
	char vip[INET_ENDPOINT_MAX];

	if (key->fwmark)
		snprintf(buf, IPVS_KEY_MAX, "fwmark%s %u", key->vip.addr.family == AF_INET6 ? "6" : "", key->fwmark);
	else
		snprintf(
			buf, IPVS_KEY_MAX, "%s %s", protocol_name(key->protocol), inet_endpoint_format(&key->vip, vip));
	return buf;
}
