// SPDX-License-Identifier: Apache-2.0
#include "shared/tunnel.h"

#include "shared/util.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

const struct field_choice forward_method_choices[] = {
	{ "dr", FORWARD_DR },
	{ "ipip", FORWARD_IPIP },
	{ "tunnel", FORWARD_IPIP },
	{ "gue", FORWARD_GUE },
	{ "gre", FORWARD_GRE },
	{ "nat", FORWARD_NAT },
	{ NULL, 0 },
};

bool forward_is_tunnel(int method)
{
	return method == FORWARD_IPIP || method == FORWARD_GUE || method == FORWARD_GRE;
}

#define MEMBER(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)NULL)->member)

static const struct field_choice checksum_choices[] = {
	{ "none", CHECKSUM_OFF },
	{ "on", CHECKSUM_ON },
	{ "remote", CHECKSUM_REMOTE },
	{ NULL, 0 },
};

static const struct field tunnel_rows[] = {
	{ "port", FIELD_UINT, MEMBER(struct tunnel_options, port), .max = 65535, .def = "0",
		.help = "gue: UDP port of the real server" },
	{ "checksum", FIELD_CHOICE, MEMBER(struct tunnel_options, checksum), .choices = checksum_choices,
		.def = "\"none\"", .help = "gue: none, on or remote; gre: none or on" },
};

static const struct tunnel_options tunnel_defaults = { .port = 0 };

const struct field_table tunnel_fields = {
	.what = "tunnel",
	.rows = tunnel_rows,
	.count = ARRAY_SIZE(tunnel_rows),
	.size = sizeof(struct tunnel_options),
	.set_offset = -1,
	.defaults = &tunnel_defaults,
};

int tunnel_check(int method, const struct tunnel_options *tunnel, struct err *err)
{
	const char *name = field_choice_name(forward_method_choices, method);

	if (method == FORWARD_GUE && !tunnel->port)
		return err_set(err, -EINVAL, "tunnel.port", "missing; method gue needs the real server's UDP port");
	if (method != FORWARD_GUE && tunnel->port)
		return err_set(err, -EINVAL, "tunnel.port", "found %u with method %s; only gue has a port",
			tunnel->port, name);
	if (method != FORWARD_GUE && tunnel->checksum == CHECKSUM_REMOTE)
		return err_set(err, -EINVAL, "tunnel.checksum", "found remote with method %s; only gue has it", name);
	if (method != FORWARD_GUE && method != FORWARD_GRE && tunnel->checksum)
		return err_set(err, -EINVAL, "tunnel.checksum", "found on with method %s; gue and gre have one", name);
	return 0;
}

uint32_t tunnel_overhead(int method, const struct tunnel_options *tunnel, int outer_family)
{
	const uint32_t outer = outer_family == AF_INET6 ? 40 : 20;

	switch ((enum forward_method)method) {
	case FORWARD_DR:
	case FORWARD_NAT:
		break;
	case FORWARD_IPIP:
		return outer;
	case FORWARD_GUE: // UDP, GUE, and with remote checksums its private field
		return outer + 8 + 4 + (tunnel->checksum == CHECKSUM_REMOTE ? 8 : 0);
	case FORWARD_GRE:
		return outer + 4 + (tunnel->checksum == CHECKSUM_ON ? 4 : 0);
	}
	return 0;
}
